//! Many seeds: does a rule break?
//!
//! [`check`] ends with the first rule that breaks, whichever it is: that is how a protocol is held to its rules.
//! [`search`] is for whoever wants to see what a mistake does. A rule of the mechanism mostly says the mistake over
//! again; so it goes on, with the same run and with other seeds, until a promise breaks
//! ([`RuleKind::Promise`]), and falls back to the mechanism's if none does within its budget. Likewise, that nobody leads
//! in the end is mostly the least of what a mistake does: if the first promise to break is one that something happens in
//! the end ([`crate::protocol::Rule::eventual`]), it looks a little further for one that nothing bad does.

use serde::{Deserialize, Serialize};

use crate::facade::{Outcome, Run, RunError, Subject, Tell};
use crate::protocol::{About, Broken, RuleKind, Setup};

/// Seeds that [`search`] goes on for, after the first that breaks a rule of the mechanism...
pub const BEYOND_SEEDS_MAX: u64 = 10_000;
/// ...and events in them, whichever comes first.
pub const BEYOND_EVENTS_MAX: u64 = 10_000_000;
/// Seeds that [`search`] goes on for, after the first that breaks only what is promised to happen in the end...
pub const WORSE_SEEDS_MAX: u64 = 500;
/// ...and events in them, whichever comes first.
pub const WORSE_EVENTS_MAX: u64 = 1_000_000;

/// What came of many seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// How a search goes on, after a seed broke a promise that something happens in the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worse {
    /// What it has found, if there is nothing worse.
    pub found: Found,
    /// How many seeds were run since.
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
    for seed in (0..seeds).map_while(|nth| setup.seed.checked_add(nth)) {
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

/// As [`check`], but what it finds is the first run that breaks a promise: it goes on past rules
/// of the mechanism, for at most [`BEYOND_SEEDS_MAX`] seeds and [`BEYOND_EVENTS_MAX`] events after the first of
/// them, beyond the `seeds` if it must. If nothing comes of it within that, it gives back the run that broke the
/// mechanism's, and [`Found::fell_back`]. Rules that the setup names are searched for as they are.
///
/// # Errors
/// What is wrong with the setup.
pub fn search(subject: &dyn Subject, setup: &Setup, seeds: u64) -> Result<Report, RunError> {
    let mut search = Search::new(setup.clone(), seeds);
    while !search.over {
        search.go_on(subject, seeds.max(1))?;
    }
    Ok(search.report)
}

/// A [`search`] that is made in parts, so that whoever waits for it can see how far it is, and can stop it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// What is searched, from which seed on.
    pub setup: Setup,
    /// How many seeds are looked at while no rule breaks.
    pub seeds: u64,
    /// How far it is, and what it has found when it is over.
    #[serde(default)]
    pub report: Report,
    /// The rule of the mechanism that broke, and how long it has gone on since.
    #[serde(default)]
    pub beyond: Option<Beyond>,
    /// The promise that something happens in the end that broke, and how long it has gone on since.
    #[serde(default)]
    pub worse: Option<Worse>,
    /// There is nothing more to look at.
    #[serde(default)]
    pub over: bool,
}

impl Search {
    /// One that has not begun.
    #[must_use]
    pub fn new(setup: Setup, seeds: u64) -> Self {
        Self { setup, seeds, report: Report::default(), beyond: None, worse: None, over: false }
    }

    /// Goes on for so many seeds at most.
    ///
    /// # Errors
    /// What is wrong with the setup.
    pub fn go_on(&mut self, subject: &dyn Subject, seeds: u64) -> Result<(), RunError> {
        let named = !self.setup.watched.is_empty();
        let about = subject.about();
        let mut promises = self.setup.clone();
        if !named {
            promises.watched = about.promises().map(str::to_owned).collect();
        }
        for _ in 0..seeds {
            let seed = self.setup.seed.checked_add(self.report.seeds);
            let Some(seed) = seed.filter(|_| !self.is_enough()) else {
                return self.fall_back(subject);
            };
            let mut run = subject.generate(&Setup { seed, ..promises.clone() })?;
            let outcome = subject.run(&run, Tell::End)?;
            self.report.seeds += 1;
            self.report.events += outcome.events;
            if self.beyond.is_none() && !named {
                let mechanism = broken_mechanism(about, &outcome);
                self.beyond =
                    mechanism.map(|mechanism| Beyond { mechanism, seed, seeds: 0, events: 0 });
            }
            if let Some(beyond) = &mut self.beyond {
                beyond.seeds += 1;
                beyond.events += outcome.events;
            }
            if let Some(worse) = &mut self.worse {
                worse.seeds += 1;
                worse.events += outcome.events;
            }
            let wanted =
                |broken: &Broken| named || about.kind_of(&broken.rule) == Some(RuleKind::Promise);
            if let Some(broken) = outcome.broken.filter(wanted) {
                if !named {
                    // Whatever is changed in it, it goes on to what it was found for.
                    run.setup.watched = [broken.rule.clone()].into();
                }
                let worst = named || about.is_safety(&broken.rule);
                let (events, beyond) = (outcome.events, self.beyond.clone());
                let found = Found { run, broken, events, beyond };
                if worst {
                    self.report.found = Some(found);
                    self.over = true;
                    return Ok(());
                }
                self.worse.get_or_insert(Worse { found, seeds: 0, events: 0 });
            }
        }
        Ok(())
    }

    fn is_enough(&self) -> bool {
        if let Some(worse) = &self.worse {
            return worse.seeds >= WORSE_SEEDS_MAX || worse.events >= WORSE_EVENTS_MAX;
        }
        match &self.beyond {
            Some(beyond) => beyond.seeds >= BEYOND_SEEDS_MAX || beyond.events >= BEYOND_EVENTS_MAX,
            None => self.report.seeds >= self.seeds,
        }
    }

    /// Nothing worse came of it: what was found; or the seed of the mechanism's rule once more, up to that.
    fn fall_back(&mut self, subject: &dyn Subject) -> Result<(), RunError> {
        self.over = true;
        if let Some(worse) = self.worse.take() {
            self.report.found = Some(worse.found);
        } else if let Some(beyond) = &self.beyond {
            let again = check(subject, &Setup { seed: beyond.seed, ..self.setup.clone() }, 1)?;
            let beyond = Some(beyond.clone());
            self.report.found = again.found.map(|found| Found { beyond, ..found });
        }
        Ok(())
    }
}

/// The first rule that broke in a run, or the assertion that a process tripped over, unless it is a promise.
fn broken_mechanism(about: &About, outcome: &Outcome) -> Option<String> {
    let first = outcome.all_broken.first()?;
    let promise = about.kind_of(&first.broken.rule) == Some(RuleKind::Promise);
    (!promise).then(|| first.broken.rule.clone())
}

/// The setup in which a variant of a protocol shows, as the protocol says.
///
/// # Errors
/// If there is no such variant.
pub fn setup_of(subject: &dyn Subject, variant: &str) -> Result<Setup, RunError> {
    let variants = subject.about().variants;
    let known = variants.iter().find(|known| known.name == variant);
    let known = known.ok_or_else(|| {
        RunError::unknown("mistake", variant, variants.iter().map(|known| known.name))
    })?;
    let mut setup = Setup { n: known.n.unwrap_or(0), ..Setup::default() };
    setup.variants.insert(variant.to_owned());
    setup.knobs.extend(known.with.iter().map(|&(knob, value)| (knob.to_owned(), value)));
    subject.setup(&setup)
}
