//! Many seeds: does a rule break?

use serde::{Deserialize, Serialize};

use crate::facade::{Run, RunError, Subject, Tell};
use crate::protocol::{Broken, Setup};

/// What came of many seeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many seeds were run.
    pub seeds: u64,
    /// Events in all of them.
    pub events: u64,
    /// The first in which a rule broke.
    pub found: Option<Found>,
}

/// A run in which a rule broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The run.
    pub run: Run,
    /// The rule.
    pub broken: Broken,
    /// How many events it took.
    pub events: u64,
}

/// Runs the seeds `setup.seed..setup.seed + seeds`, up to the first in which a rule breaks.
///
/// # Errors
/// What is wrong with the setup.
pub fn check(subject: &dyn Subject, setup: &Setup, seeds: u64) -> Result<Report, RunError> {
    let mut report = Report { seeds: 0, events: 0, found: None };
    for seed in setup.seed..setup.seed.saturating_add(seeds) {
        let run = subject.generate(&Setup { seed, ..setup.clone() })?;
        let outcome = subject.run(&run, Tell::End)?;
        report.seeds += 1;
        report.events += outcome.events;
        if let Some(broken) = outcome.broken {
            report.found = Some(Found { run, broken, events: outcome.events });
            break;
        }
    }
    Ok(report)
}

/// The setup in which a variant of a protocol shows, as the protocol says.
///
/// # Errors
/// If there is no such variant.
pub fn setup_of(subject: &dyn Subject, variant: &str) -> Result<Setup, RunError> {
    let known = subject.about().variants.iter().find(|known| known.name == variant);
    let known = known.ok_or_else(|| RunError::NoVariant(variant.to_owned()))?;
    let mut setup = Setup { n: known.n.unwrap_or(0), ..Setup::default() };
    setup.variants.insert(variant.to_owned());
    setup.knobs.extend(known.with.iter().map(|&(knob, value)| (knob.to_owned(), value)));
    subject.setup(&setup)
}
