//! The time that the core is given: monotonic, and going on while the machine sleeps.

use std::time::Duration;

#[cfg(any(target_os = "linux", target_os = "android"))]
fn monotonic() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) else {
        return Duration::ZERO;
    };
    Duration::new(seconds, nanos)
}

/// The standard library's monotonic clock goes on in sleep on Windows, and not on macOS, where reads ask a quorum by
/// default.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn monotonic() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

/// Time since it was started.
///
/// A lease rests on it: its holder must not believe that less time has passed than for those who support it. A clock
/// that stands still in suspend would (`CLOCK_MONOTONIC` of Linux does, and with it [`std::time::Instant`]).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: monotonic() }
    }

    pub(crate) fn now(self) -> Duration {
        monotonic().saturating_sub(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on() {
        let clock = Clock::start();
        let first = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.now() >= first + Duration::from_millis(2));
        assert!(clock.now() < Duration::from_secs(3600), "it counts from its start");
    }
}
