//! Any protocol by its name: what the command line and the page drive.

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use crate::dice::Dice;
use crate::engine::{Ended, Tally, World};
use crate::process::NodeId;
use crate::protocol::{About, Broken, BrokenAt, Protocol, Setup};
use crate::script::{ACTS_MAX, EVENTS_MAX, Map, Script, Weather, What, When};
use crate::trace::{Recorder, Trace};

/// Events of a run that is written down.
pub const TOLD_EVENTS_MAX: u64 = 200_000;

/// What stands in the place of a rule if code that was broken on purpose trips over an assertion of its own.
pub const ASSERTION: &str = "assertion";

/// A run as data: equal runs have equal digests, on any machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The protocol, by its name.
    pub protocol: String,
    /// How it is set up.
    pub setup: Setup,
    /// What is done to it.
    pub script: Script,
}

impl Run {
    /// A run by hand, with the defaults of the protocol for what is not said: `n` of 0, knobs.
    #[must_use]
    pub fn by_hand(protocol: &str, n: usize, script: Script) -> Self {
        let setup = Setup { n, ..Setup::default() };
        Self { protocol: protocol.to_owned(), setup, script }
    }

    /// Broken in this way, too.
    #[must_use]
    pub fn broken(mut self, variant: &str) -> Self {
        self.setup.variants.insert(variant.to_owned());
        self
    }

    /// With a knob set.
    #[must_use]
    pub fn with(mut self, knob: &str, value: u64) -> Self {
        self.setup.knobs.insert(knob.to_owned(), value);
        self
    }

    /// Ending only when this rule breaks, or others named so.
    #[must_use]
    pub fn watching(mut self, rule: &str) -> Self {
        self.setup.watched.insert(rule.to_owned());
        self
    }

    /// From a seed.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.setup.seed = seed;
        self
    }
}

/// How much of a run is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// How it ended.
    End,
    /// Everything.
    All,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How many events there were.
    pub events: u64,
    /// How long it took, in simulated microseconds.
    pub at_us: u64,
    /// The digest of all events.
    pub digest: String,
    /// Why it ended.
    pub ended: Ended,
    /// The rule that broke, in the last event; or [`ASSERTION`], if the process itself noticed.
    pub broken: Option<Broken>,
    /// Where each rule first broke, watched or not: the state of the rules at any event.
    #[serde(default)]
    pub all_broken: Vec<BrokenAt>,
    /// What was counted.
    pub tally: Tally,
    /// Writes that clients were told are done and that are gone, or contradicted, in the end
    /// ([`Protocol::lost`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// The run, if it was to be written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

/// Why a run cannot be made. Nothing was run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The run is of another protocol than the one that was to run it.
    #[error("a run of {0:?} was given to another protocol")]
    OtherProtocol(String),
    /// The protocol does not run with so many processes.
    #[error("{n} processes are too {}; this protocol takes {min} to {max}", if .n < .min { "few" } else { "many" })]
    Nodes {
        /// How many.
        n: usize,
        /// At least.
        min: usize,
        /// At most.
        max: usize,
    },
    /// There is no such protocol; or it has no such variant, rule, knob or lesson.
    #[error("there is no {what} {name:?}; there {}", listed(.known))]
    Unknown {
        /// What was asked for: "protocol", "mistake", "rule"...
        what: &'static str,
        /// Its name.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// A knob is set to what it cannot be.
    #[error("{knob} is {value}; it can be {min} to {max}")]
    Knob {
        /// Which.
        knob: String,
        /// To what.
        value: u64,
        /// The least it can be.
        min: u64,
        /// The most it can be.
        max: u64,
    },
    /// An act names a process that does not exist, or a map has no place for one.
    #[error("act {0} names a process that does not exist")]
    NoNode(usize),
    /// An act asks for an operation that does not exist, or with arguments that make no sense.
    #[error("act {0} asks for what cannot be asked")]
    NoOperation(usize),
    /// The weather makes no sense.
    #[error("the weather makes no sense: {0}")]
    Weather(&'static str),
    /// There is too much of something.
    #[error("too much: {0}")]
    TooMuch(&'static str),
}

/// Names one after the other, as the end of a sentence.
fn listed(names: &[&'static str]) -> String {
    match names {
        [] => "is none".to_owned(),
        [one] => format!("is {one}"),
        many => format!("are {}", many.join(", ")),
    }
}

impl RunError {
    /// There is nothing of this name among these.
    #[must_use]
    pub fn unknown(
        what: &'static str,
        name: &str,
        known: impl Iterator<Item = &'static str>,
    ) -> Self {
        Self::Unknown { what, name: name.to_owned(), known: known.collect() }
    }
}

/// Names that must be among these.
fn all_known<'a>(
    what: &'static str,
    mut names: impl Iterator<Item = &'a String>,
    known: impl Iterator<Item = &'static str> + Clone,
) -> Result<(), RunError> {
    match names.find(|name| !known.clone().any(|one| one == name.as_str())) {
        Some(name) => Err(RunError::unknown(what, name, known)),
        None => Ok(()),
    }
}

/// A protocol, any of them.
pub trait Subject: Send + Sync {
    /// What it is, in words.
    fn about(&self) -> &'static About;

    /// A setup with what was not said filled in: the number of processes if it is 0, and every knob.
    ///
    /// # Errors
    /// What was said and cannot be.
    fn setup(&self, setup: &Setup) -> Result<Setup, RunError>;

    /// The run of a seed, with faults in swarm fashion.
    ///
    /// # Errors
    /// What is wrong with the setup.
    fn generate(&self, setup: &Setup) -> Result<Run, RunError>;

    /// Runs.
    ///
    /// # Errors
    /// Why it cannot be run.
    fn run(&self, run: &Run, tell: Tell) -> Result<Outcome, RunError>;
}

/// A [`Protocol`] as a [`Subject`].
#[derive(Debug)]
pub struct Of<P>(PhantomData<fn() -> P>);

impl<P> Of<P> {
    /// The one there is.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<P> Default for Of<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Protocol> Of<P> {
    /// A run that has not begun: for tests that want to look inside.
    ///
    /// # Errors
    /// Why it cannot be run.
    pub fn world(&self, run: &Run, telling: bool) -> Result<World<P>, RunError> {
        if run.protocol != P::ABOUT.name {
            return Err(RunError::OtherProtocol(run.protocol.clone()));
        }
        let setup = self.setup(&run.setup)?;
        check_script::<P>(&setup, &run.script)?;
        Ok(World::new(setup, run.script.clone(), telling))
    }
}

impl<P: Protocol> Subject for Of<P> {
    fn about(&self) -> &'static About {
        const { &P::ABOUT }
    }

    fn setup(&self, setup: &Setup) -> Result<Setup, RunError> {
        let about = self.about();
        let n = if setup.n == 0 { about.nodes.default } else { setup.n };
        let (min, max) = (about.nodes.min, about.nodes.max);
        if !(min..=max).contains(&n) {
            return Err(RunError::Nodes { n, min, max });
        }
        all_known("mistake", setup.variants.iter(), about.variants.iter().map(|one| one.name))?;
        all_known("setting", setup.knobs.keys(), about.knobs.iter().map(|one| one.name))?;
        all_known("rule", setup.watched.iter(), about.rules.iter().map(|one| one.name))?;
        let mut knobs: BTreeMap<String, u64> = BTreeMap::new();
        for knob in about.knobs {
            let value = setup.knobs.get(knob.name).copied().unwrap_or(knob.default);
            let (min, max) = (knob.min, knob.max);
            if !(min..=max).contains(&value) {
                return Err(RunError::Knob { knob: knob.name.to_owned(), value, min, max });
            }
            knobs.insert(knob.name.to_owned(), value);
        }
        Ok(Setup { n, knobs, ..setup.clone() })
    }

    fn generate(&self, setup: &Setup) -> Result<Run, RunError> {
        let setup = self.setup(setup)?;
        let mut script = P::script(&setup, &mut Dice::stream(setup.seed, &[0]));
        // In the order in which it happens, for whoever reads it.
        script.acts.sort_by_key(|act| match act.when {
            When::Us(us) => us,
            When::Event(_) => u64::MAX,
        });
        Ok(Run { protocol: P::ABOUT.name.to_owned(), setup, script })
    }

    fn run(&self, run: &Run, tell: Tell) -> Result<Outcome, RunError> {
        if tell == Tell::All && run.script.end.events > TOLD_EVENTS_MAX {
            return Err(RunError::TooMuch("events to be written down"));
        }
        let mut world = self.world(run, tell == Tell::All)?;
        let mut recorder = (tell == Tell::All).then(|| Recorder::new(&world));
        let mut tripped = None;
        let ended = loop {
            match catch_unwind(AssertUnwindSafe(|| world.step())) {
                Ok(Ok(())) => {
                    if let Some(recorder) = &mut recorder {
                        recorder.event(&world);
                    }
                }
                Ok(Err(ended)) => break world.finish(ended),
                Err(panic) => {
                    tripped = Some(Broken { rule: ASSERTION.to_owned(), what: said(&*panic) });
                    break Ended::Broken;
                }
            }
        };
        let mut all_broken = world.all_broken().to_vec();
        let tripped_at = |broken| BrokenAt { event: world.events(), broken, kind: None };
        all_broken.extend(tripped.clone().map(tripped_at));
        Ok(Outcome {
            events: world.events(),
            at_us: world.now_us(),
            digest: world.digest().to_string(),
            ended,
            broken: tripped.or_else(|| world.broken().cloned()),
            all_broken,
            tally: world.tally().clone(),
            lost: world.lost(),
            trace: recorder.map(Recorder::into_trace),
        })
    }
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
}

/// What comes from outside is checked once, here.
fn check_script<P: Protocol>(setup: &Setup, script: &Script) -> Result<(), RunError> {
    if script.acts.len() > ACTS_MAX {
        return Err(RunError::TooMuch("acts"));
    }
    if script.end.events > EVENTS_MAX {
        return Err(RunError::TooMuch("events"));
    }
    check_weather(&script.weather)?;
    let all = setup.n + P::besides(setup);
    let protocol = P::new(setup);
    for (place, act) in script.acts.iter().enumerate() {
        let named: &[NodeId] = match &act.what {
            What::Client { node, op, args } => {
                if protocol.request(op, args).is_none() {
                    return Err(RunError::NoOperation(place));
                }
                &[*node]
            }
            What::Cut { from, to } | What::Mend { from, to } => &[*from, *to],
            What::Split(some) => some,
            What::Crash(node)
            | What::Restart(node)
            | What::RestartBlank(node)
            | What::Pause(node)
            | What::Resume(node)
            | What::Clock { node, .. }
            | What::Traitor { node, .. }
            | What::Expire(node) => &[*node],
            What::Weather(weather) => {
                check_weather(weather)?;
                &[]
            }
            What::Heal | What::Deliver(_) | What::Lose(_) | What::Hold(_) => &[],
        };
        if named.iter().any(|node| node.0 >= all) {
            return Err(RunError::NoNode(place));
        }
        if let What::Clock { drift_ppm, .. } = act.what
            && drift_ppm.abs() > 900_000
        {
            return Err(RunError::TooMuch("drift"));
        }
    }
    Ok(())
}

fn check_weather(weather: &Weather) -> Result<(), RunError> {
    if weather.delay_us_min > weather.delay_us_max {
        return Err(RunError::Weather("the shortest delay is above the longest"));
    }
    let rates = [weather.slow_per_mille, weather.drop_per_mille, weather.duplicate_per_mille];
    if rates.iter().any(|&rate| rate > 1000) {
        return Err(RunError::Weather("more than a thousand of a thousand"));
    }
    if matches!(&weather.map, Map::RoundTripsMs(rows) if rows.is_empty() || rows.len() > 100) {
        return Err(RunError::Weather("a map without places, or with more than a hundred"));
    }
    Ok(())
}
