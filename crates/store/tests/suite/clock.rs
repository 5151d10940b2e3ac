//! A store's monotonic clock: it starts anywhere and runs a little wrong.

use std::time::Duration;

use crate::dice::Dice;

/// Local time is `offset + true time x (1 + ppm / 10^6)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    offset: Duration,
    ppm: i64,
}

const MILLION: i128 = 1_000_000;

impl Clock {
    /// A clock of one life of a machine: as wrong as it may be, more often than not.
    pub(crate) fn draw(dice: &mut Dice, ppm_max: u64) -> Clock {
        let max = i64::try_from(ppm_max).expect("a small drift");
        let ppm = match dice.below(5) {
            0 | 1 => max,
            2 | 3 => -max,
            _ => i64::try_from(dice.below(2 * ppm_max + 1)).expect("small") - max,
        };
        Clock { offset: Duration::from_millis(dice.below(1_000_000)), ppm }
    }

    pub(crate) fn local(&self, at: Duration) -> Duration {
        self.offset + scale(at, MILLION + i128::from(self.ppm), MILLION, false)
    }

    /// The earliest true time at which the clock shows `local` or more.
    pub(crate) fn when(&self, local: Duration) -> Duration {
        let since = local.saturating_sub(self.offset);
        scale(since, MILLION, MILLION + i128::from(self.ppm), true)
    }
}

fn scale(time: Duration, by: i128, per: i128, up: bool) -> Duration {
    let nanos = i128::try_from(time.as_nanos()).expect("short");
    let scaled = (nanos * by + if up { per - 1 } else { 0 }) / per;
    Duration::from_nanos(u64::try_from(scaled).expect("short"))
}

#[test]
fn a_deadline_is_met_and_not_a_moment_late() {
    let mut dice = Dice::new(7);
    for _ in 0..1_000 {
        let clock = Clock::draw(&mut dice, 60_000);
        let local = clock.offset + Duration::from_nanos(dice.below(1 << 31) * 1_001);
        let at = clock.when(local);
        assert!(clock.local(at) >= local, "{clock:?} {local:?}");
        let before = at.saturating_sub(Duration::from_nanos(1));
        assert!(at.is_zero() || clock.local(before) < local, "{clock:?} {local:?}");
    }
}
