//! The settings of store liveness.

use std::time::Duration;

/// The settings of store liveness. The same on every store, or at least: no store's
/// `support_duration` above another's `promise_max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often a store asks every other for support.
    pub heartbeat_interval: Duration,
    /// For how long it asks. What is lost of it on the way, on two disks and to the drift margin
    /// has to be well above `heartbeat_interval`; how long it is decides how long a dead leader's
    /// ranges are without one.
    pub support_duration: Duration,
    /// How much earlier the supported store stops counting on support than the supporter may
    /// withdraw it. [`Config::drift_ppm_max`] says what difference between two clocks it covers.
    pub drift_margin: Duration,
    /// The longest promise this store gives: a request for a longer one is ignored.
    pub promise_max: Duration,
    /// Break the protocol in this way, to see whether a check notices.
    #[cfg(feature = "mutants")]
    pub mutant: Option<crate::Mutant>,
}

impl Default for Config {
    /// Settings for a local network: asked every 200 ms, for 1 s, with clocks that may differ by
    /// half a percent.
    fn default() -> Config {
        Config {
            heartbeat_interval: Duration::from_millis(200),
            support_duration: Duration::from_millis(1_000),
            drift_margin: Duration::from_millis(10),
            promise_max: Duration::from_secs(60),
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

impl Config {
    /// Checks that the settings can work.
    ///
    /// # Errors
    /// A sentence that names the setting that cannot.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.heartbeat_interval.is_zero() {
            return Err("heartbeat_interval is zero");
        }
        if self.support_duration > self.promise_max {
            return Err("support_duration is above promise_max");
        }
        if self.drift_ppm_max() < Self::DRIFT_PPM_MIN {
            return Err("drift_margin is below 2 x 500 ppm of support_duration");
        }
        if self.drift_margin + 2 * self.heartbeat_interval > self.support_duration {
            return Err("support_duration is not two heartbeat_intervals and the drift_margin");
        }
        Ok(())
    }

    /// What time protocols may slew a clock by, and so the least to be prepared for.
    pub const DRIFT_PPM_MIN: u64 = 500;

    /// The drift that the margin covers: no clock may run faster or slower than true time by more
    /// than this, in millionths. With drift r, a promise of D ends at the earliest after
    /// D / (1 + r) of true time, and is counted on for at most (D - margin) / (1 - r).
    #[must_use]
    pub fn drift_ppm_max(&self) -> u64 {
        let (margin, duration) = (self.drift_margin.as_nanos(), self.support_duration.as_nanos());
        if margin >= duration {
            return 0;
        }
        u64::try_from(margin * 1_000_000 / (2 * duration - margin)).unwrap_or(u64::MAX)
    }

    /// For how long after sending a request its answer is counted on.
    pub(super) fn counted(&self) -> Duration {
        if self.broken(crate::mutants::Mutant::NoDriftMargin) {
            return self.support_duration;
        }
        self.support_duration.saturating_sub(self.drift_margin)
    }

    #[cfg(feature = "mutants")]
    pub(super) fn broken(&self, mutant: crate::Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    #[cfg(not(feature = "mutants"))]
    #[expect(clippy::unused_self, reason = "the same call with and without mutants")]
    pub(super) const fn broken(&self, _: crate::mutants::Mutant) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_cover_half_a_percent() {
        let config = Config::default();
        assert_eq!(Ok(()), config.check());
        assert!((5_000..5_100).contains(&config.drift_ppm_max()), "{}", config.drift_ppm_max());
    }

    /// D / (1 + r) >= (D - margin) / (1 - r), and not for a drift a little larger.
    #[test]
    fn the_drift_covered_is_exact() {
        for (duration_ms, margin_ms) in [(1_000, 10), (3_000, 300), (900, 1), (2_000, 900)] {
            let config = Config {
                support_duration: Duration::from_millis(duration_ms),
                drift_margin: Duration::from_millis(margin_ms),
                ..Config::default()
            };
            let (d, m) = (u128::from(duration_ms), u128::from(margin_ms));
            let safe = |ppm: u128| d * (1_000_000 - ppm) >= (d - m) * (1_000_000 + ppm);
            let ppm = u128::from(config.drift_ppm_max());
            assert!(safe(ppm) && !safe(ppm + 1), "{duration_ms} {margin_ms} {ppm}");
        }
    }

    #[test]
    fn what_cannot_work_is_named() {
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().expect_err("it cannot work")
        };
        assert!(with(|c| c.heartbeat_interval = Duration::ZERO).contains("heartbeat_interval"));
        assert!(with(|c| c.drift_margin = Duration::ZERO).contains("drift_margin"));
        assert!(with(|c| c.drift_margin = Duration::from_secs(2)).contains("drift_margin"));
        assert!(with(|c| c.promise_max = Duration::ZERO).contains("promise_max"));
        assert!(with(|c| c.heartbeat_interval = Duration::from_millis(600)).contains("two"));
    }
}
