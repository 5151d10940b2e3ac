//! The settings of a store. Every limit has a name here.

use std::time::Duration;

use crate::liveness;

/// The settings of a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// Store liveness; without it no replica is bound to a leader, and all goes by timers.
    pub liveness: Option<liveness::Config>,
    /// How many replicas are told of a store that came or went, and how many campaign, in one
    /// wave.
    pub campaigns_per_wave: usize,
    /// The time between two waves, give or take a quarter.
    pub wave_interval: Duration,
    /// How often a replica tries again that lost an election for a leader whose store is gone:
    /// others may not have withdrawn their support yet. After that it waits for its election
    /// timeout.
    pub campaign_retries: u8,
    /// The time between these.
    pub campaign_retry_interval: Duration,
    /// Break the store in this way, to see whether a check notices.
    #[cfg(feature = "mutants")]
    pub mutant: Option<crate::Mutant>,
}

impl Default for Config {
    /// Settings for 100,000 replicas: 25,600 campaigns a second, so that what two stores have to
    /// take over from a third, 17,000 each, has campaigned within 0.7 s.
    fn default() -> Config {
        Config {
            liveness: None,
            campaigns_per_wave: 256,
            wave_interval: Duration::from_millis(10),
            campaign_retries: 4,
            campaign_retry_interval: Duration::from_millis(100),
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
        if self.campaigns_per_wave == 0 {
            return Err("campaigns_per_wave is zero");
        }
        if self.wave_interval.is_zero() {
            return Err("wave_interval is zero");
        }
        self.liveness.as_ref().map_or(Ok(()), liveness::Config::check)
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn broken(&self, mutant: crate::Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    #[cfg(not(feature = "mutants"))]
    #[expect(clippy::unused_self, reason = "the same call with and without mutants")]
    pub(crate) const fn broken(&self, _: crate::mutants::Mutant) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        assert_eq!(Ok(()), Config::default().check());
        let waves = Config { campaigns_per_wave: 0, ..Config::default() };
        assert!(waves.check().is_err_and(|error| error.contains("campaigns_per_wave")));
        let interval = Config { wave_interval: Duration::ZERO, ..Config::default() };
        assert!(interval.check().is_err_and(|error| error.contains("wave_interval")));
    }
}
