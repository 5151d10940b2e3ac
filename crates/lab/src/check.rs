//! Many seeds: does a rule break?
//!
//! [`check`] ends with the first rule that breaks, whichever it is: that is how a protocol is held to its rules.
//! [`search`] is for whoever wants to see what a mistake does. A rule of the mechanism mostly says the mistake over
//! again; so it goes on, with the same run and with other seeds, until a rule breaks that somebody relies on
//! ([`RuleKind::Consequence`]), and falls back to the mechanism's if none does within its budget.

use serde::{Deserialize, Serialize};

use crate::facade::{Outcome, Run, RunError, Subject, Tell};
use crate::protocol::{About, Broken, RuleKind, Setup};

/// Seeds that [`search`] goes on for, after the first that breaks a rule of the mechanism...
pub const BEYOND_SEEDS_MAX: u64 = 10_000;
/// ...and events in them, whichever comes first.
pub const BEYOND_EVENTS_MAX: u64 = 10_000_000;

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
    /// How the search went on past the rule of a mechanism, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond: Option<Beyond>,
}

/// How a search went on, after a seed broke a rule of the mechanism.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beyond {
    /// The rule of the mechanism that broke first.
    pub mechanism: String,
    /// In which seed.
    pub seed: u64,
    /// How many seeds were run for what comes of it, that one included.
    pub seeds: u64,
    /// Events in them.
    pub events: u64,
}

impl Found {
    /// Whether the search went on for what comes of a broken mechanism, and nothing did within its budget:
    /// [`Found::broken`] is the mechanism's rule.
    #[must_use]
    pub fn fell_back(&self) -> bool {
        self.beyond.as_ref().is_some_and(|beyond| beyond.mechanism == self.broken.rule)
    }
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
            report.found = Some(Found { run, broken, events: outcome.events, beyond: None });
            break;
        }
    }
    Ok(report)
}

/// As [`check`], but what it finds is the first run that breaks a rule that somebody relies on: it goes on past rules
/// of the mechanism, for at most [`BEYOND_SEEDS_MAX`] seeds and [`BEYOND_EVENTS_MAX`] events after the first of
/// them, beyond the `seeds` if it must. If nothing comes of it within that, it gives back the run that broke the
/// mechanism's, and [`Found::fell_back`]. Rules that the setup names are searched for as they are.
///
/// # Errors
/// What is wrong with the setup.
pub fn search(subject: &dyn Subject, setup: &Setup, seeds: u64) -> Result<Report, RunError> {
    if !setup.watched.is_empty() {
        return check(subject, setup, seeds);
    }
    let about = subject.about();
    let watched = about.consequences().map(str::to_owned).collect();
    let relied_on = Setup { watched, ..setup.clone() };
    let mut report = Report { seeds: 0, events: 0, found: None };
    let mut first: Option<(Setup, Beyond)> = None;
    for seed in setup.seed.. {
        let enough = match &first {
            Some((_, beyond)) => {
                beyond.seeds >= BEYOND_SEEDS_MAX || beyond.events >= BEYOND_EVENTS_MAX
            }
            None => report.seeds >= seeds,
        };
        if enough {
            break;
        }
        let mut run = subject.generate(&Setup { seed, ..relied_on.clone() })?;
        let outcome = subject.run(&run, Tell::End)?;
        report.seeds += 1;
        report.events += outcome.events;
        let mechanism = broken_mechanism(about, &outcome);
        if let Some(mechanism) = mechanism.filter(|_| first.is_none()) {
            let beyond = Beyond { mechanism, seed, seeds: 0, events: 0 };
            first = Some((Setup { watched: setup.watched.clone(), ..run.setup.clone() }, beyond));
        }
        if let Some((_, beyond)) = &mut first {
            beyond.seeds += 1;
            beyond.events += outcome.events;
        }
        let relied_on =
            |broken: &Broken| about.kind_of(&broken.rule) == Some(RuleKind::Consequence);
        if let Some(broken) = outcome.broken.filter(relied_on) {
            // Whatever is changed in it, it goes on to what it was found for.
            run.setup.watched = [broken.rule.clone()].into();
            let beyond = first.map(|(_, beyond)| beyond);
            report.found = Some(Found { run, broken, events: outcome.events, beyond });
            return Ok(report);
        }
    }
    if let Some((setup, beyond)) = first {
        // The seed once more, up to the rule that broke in it.
        let again = check(subject, &setup, 1)?;
        report.found = again.found.map(|found| Found { beyond: Some(beyond), ..found });
    }
    Ok(report)
}

/// The first rule that broke in a run, or the assertion that a process tripped over, unless it is one that somebody
/// relies on.
fn broken_mechanism(about: &About, outcome: &Outcome) -> Option<String> {
    let first = outcome.all_broken.first()?;
    let relied_on = about.kind_of(&first.broken.rule) == Some(RuleKind::Consequence);
    (!relied_on).then(|| first.broken.rule.clone())
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
