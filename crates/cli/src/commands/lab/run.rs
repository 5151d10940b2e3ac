//! One run, many runs, the smallest run, and the adversary's.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lab::check::{Beyond, Found, Report, Search};
use lab::facade::{Outcome, Run, RunError, Subject, Tell};
use lab::flp::{self, Bounds, Ending};
use lab::protocol::Setup;
use lab::script::{End, Script, Weather};
use lab::story::Tells;
use lab::{shrink, story};

use super::{SetupArgs, bad, json_line, put, wrapped};
use crate::exit::{Exit, Result};

/// Runs that a counterexample is cut down by.
const SHRINK_RUNS_MAX: u64 = 5_000;
/// Seeds between two words on how far it is.
const SEEDS_AT_ONCE: u64 = 500;
/// Configurations that the adversary looks at for one stage.
const CONFIGURATIONS_MAX: usize = 20_000;

/// One run.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  quorate lab run raft --seed 7
  quorate lab run raft --lesson figure-8 --broken commit-old-term
  quorate lab run paxos --faults none --set leader=1
  quorate lab shrink paxos --broken forget-promise -w json > smallest.json
  quorate lab run paxos --faults smallest.json        run it again, byte for byte

Exit status: 0 every rule holds, 1 a rule broke, 3 or 6 the file cannot be
read, 128 the arguments do not fit.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    setup: SetupArgs,
    /// Where everything that is drawn comes from; 1 if it is not said
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What breaks: seed (drawn from the seed), none, or a file with a run or a script as JSON
    ///
    /// A script takes --n, --seed and --set. A whole run brings its own, and they are refused with it; --broken
    /// breaks it in one way more, --rule takes the place of the rules that it ends with.
    #[arg(long, value_name = "seed|none|FILE", default_value = "seed")]
    faults: String,
    /// One of the protocol's lessons instead
    #[arg(long, value_name = "NAME", conflicts_with_all = ["faults", "n", "seed", "set"])]
    lesson: Option<String>,
    /// Tell the idle events, too: pings and heartbeats of which nothing came
    #[arg(long)]
    idle: bool,
}

impl RunArgs {
    pub(super) fn run(self, json: bool) -> Result<()> {
        let subject = self.setup.subject()?;
        let run = self.described(subject)?;
        let outcome = subject.run(&run, Tell::All).map_err(bad)?;
        if json {
            json_line(&outcome)?;
        } else {
            tell(&outcome, if self.idle { Tells::Everything } else { Tells::Changes })?;
        }
        match outcome.broken {
            None => Ok(()),
            Some(broken) => Err(Exit::failed(format!("a rule broke: {broken}"))),
        }
    }

    fn described(&self, subject: &dyn Subject) -> Result<Run> {
        let setup = self.setup.setup(self.seed.unwrap_or(1))?;
        if let Some(name) = &self.lesson {
            return lesson(subject, name, setup);
        }
        match self.faults.as_str() {
            "seed" => subject.generate(&setup).map_err(bad),
            "none" => {
                let end = End { events: 100_000, at_us: 1_000_000 };
                let script = Script {
                    weather: Weather::calm(),
                    acts: Vec::new(),
                    end,
                    calm_from_us: Some(0),
                };
                Ok(Run { protocol: self.setup.protocol.clone(), setup, script })
            }
            file => self.recorded(&PathBuf::from(file), setup),
        }
    }

    /// What `shrink -w json` writes, a run, or a script alone.
    fn recorded(&self, path: &Path, setup: Setup) -> Result<Run> {
        let file = path.display();
        let text =
            std::fs::read_to_string(path).map_err(|error| Exit::io(format!("{file}: {error}")))?;
        let found = serde_json::from_str::<Found>(&text).map(|found| found.run);
        let Ok(mut run) = found.or_else(|_| serde_json::from_str::<Run>(&text)) else {
            let script = serde_json::from_str::<Script>(&text).map_err(|error| {
                Exit::invalid_input(format!("{file} is no run and no script: {error}"))
            })?;
            return Ok(Run { protocol: self.setup.protocol.clone(), setup, script });
        };
        if run.protocol != self.setup.protocol {
            return Err(Exit::bad_args(format!("{file} is a run of {}", run.protocol)));
        }
        let given = [
            ("--n", self.setup.n > 0),
            ("--seed", self.seed.is_some()),
            ("--set", !self.setup.set.is_empty()),
        ];
        if let Some((option, _)) = given.into_iter().find(|&(_, given)| given) {
            return Err(Exit::bad_args(format!(
                "{option} does not go with {file}, which is a whole run and brings its own; \
                 a script alone takes it"
            )));
        }
        run.setup.variants.extend(self.setup.broken.iter().cloned());
        if !setup.watched.is_empty() {
            run.setup.watched = setup.watched;
        }
        Ok(run)
    }
}

fn lesson(subject: &dyn Subject, name: &str, setup: Setup) -> Result<Run> {
    let lessons = subject.about().lessons;
    let known = lessons.iter().find(|known| known.name == name).ok_or_else(|| {
        bad(RunError::unknown("lesson", name, lessons.iter().map(|known| known.name)))
    })?;
    let mut run = (known.run)();
    run.setup.variants.extend(setup.variants);
    run.setup.watched.extend(setup.watched);
    Ok(run)
}

fn tell(outcome: &Outcome, tells: Tells) -> Result<()> {
    put(&story::of(outcome, tells))?;
    let verdict = if outcome.broken.is_some() { "BROKEN" } else { "every rule holds" };
    put(&format!(
        "{} events, {} messages, {} ms, digest {}: {verdict}\n",
        outcome.events,
        outcome.tally.sent,
        outcome.at_us / 1000,
        outcome.digest
    ))
}

/// Many runs.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
A rule is a promise to whoever uses the protocol, or says how it works (a
mechanism). After the first seed that breaks a mechanism, the search goes on for
a broken promise, for 10,000 seeds and 10,000,000 events at most, and says so if
it finds none. With --rule it looks for that rule alone.

Exit status: check 0 if every rule holds and 1 if one broke, shrink 0 if one
broke and 1 if none did; 128 the arguments do not fit.

Examples:
  quorate lab check raft --seeds 10000
  quorate lab check raft --broken forget-vote
  quorate lab shrink paxos --broken forget-promise")]
pub(super) struct CheckArgs {
    #[command(flatten)]
    setup: SetupArgs,
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// No word on how far it is
    #[arg(long)]
    quiet: bool,
}

impl CheckArgs {
    pub(super) fn check(self, json: bool) -> Result<()> {
        let begun = Instant::now();
        let report = self.report()?;
        if json {
            json_line(&report)?;
        } else {
            let (seeds, events) = (report.seeds, report.events);
            let beyond = match seeds.checked_sub(self.seeds) {
                Some(more @ 1..) => format!(" ({more} more, for what comes of a mistake)"),
                _ => String::new(),
            };
            put(&format!("{seeds} seeds{beyond}, {events} events, {:.1?}\n", begun.elapsed()))?;
        }
        match report.found {
            None if json => Ok(()),
            None => put("every rule holds in all of them\n"),
            Some(found) => Err(Exit::failed(format!(
                "seed {} breaks a rule in event {}: {}{}",
                found.run.setup.seed,
                found.events,
                found.broken,
                beyond(&found)
            ))),
        }
    }

    pub(super) fn shrink(self, json: bool) -> Result<()> {
        let subject = self.setup.subject()?;
        let report = self.report()?;
        let Some(found) = report.found else {
            return Err(Exit::failed(format!("no rule broke in {} seeds", report.seeds)));
        };
        let smallest = shrink::shrink(subject, &found, SHRINK_RUNS_MAX).map_err(bad)?;
        if json {
            return json_line(&smallest);
        }
        let outcome = subject.run(&smallest.run, Tell::All).map_err(bad)?;
        tell(&outcome, Tells::Changes)?;
        put(&format!(
            "seed {} with {} acts and {} events, cut down to {} acts and {} events{}\n",
            found.run.setup.seed,
            found.run.script.acts.len(),
            found.events,
            smallest.run.script.acts.len(),
            smallest.events,
            beyond(&smallest)
        ))
    }

    /// In pieces, so that there is something to see.
    fn report(&self) -> Result<Report> {
        let subject = self.setup.subject()?;
        let shown = !self.quiet && std::io::stderr().is_terminal();
        let mut search = Search::new(self.setup.setup(self.first)?, self.seeds);
        while !search.over {
            search.go_on(subject, SEEDS_AT_ONCE).map_err(bad)?;
            match &search.beyond {
                _ if !shown => {}
                Some(Beyond { mechanism, seed, seeds, .. }) => eprint!(
                    "\r\x1b[Kseed {seed} breaks {mechanism}; what comes of it? {seeds} seeds"
                ),
                None => eprint!("\r\x1b[K{} of {} seeds", search.report.seeds, self.seeds),
            }
        }
        if shown {
            eprint!("\r\x1b[K");
        }
        Ok(search.report)
    }
}

/// How the search went on past a broken mechanism, in words.
fn beyond(found: &Found) -> String {
    match &found.beyond {
        Some(beyond) if found.fell_back() => format!(
            "\n(a mechanism; no promise broke in {} seeds and {} events)",
            beyond.seeds, beyond.events
        ),
        Some(beyond) => {
            format!("\n(the mechanism {} broke first, in seed {})", beyond.mechanism, beyond.seed)
        }
        None => String::new(),
    }
}

/// The adversary.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct FlpArgs {
    /// The protocol: one of those that can be attacked
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(flp::TARGETS))]
    protocol: String,
    /// Stages: in each one more process has had its turn, and nothing is decided
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    stages: u64,
    /// Tell the whole schedule
    #[arg(long)]
    story: bool,
}

impl FlpArgs {
    pub(super) fn run(self, json: bool) -> Result<()> {
        let stages = usize::try_from(self.stages).unwrap_or(usize::MAX);
        let bounds = Bounds { stages, configurations: CONFIGURATIONS_MAX };
        let attack = flp::attack(&self.protocol, bounds).map_err(bad)?;
        if json {
            return json_line(&attack);
        }
        if self.story {
            put(&story::tell(&attack.trace, &[], Tells::Everything))?;
        }
        let text = match (&attack.ending, &attack.verified) {
            (Ending::Undecided, Some(verified)) => format!(
                "{} stages, {} steps ({} of each process, the first of each included), {} \
                 messages sent, {} of them not delivered yet. Every message sent before stage {} \
                 was delivered, nobody crashed, and nothing is decided; both decisions are still \
                 possible. The schedule and its witnesses were replayed by an independent check: \
                 digest {}. This is a finite prefix of a run that never decides, never a proof.",
                verified.stages,
                verified.steps,
                steps_of_each(&verified.steps_of_each),
                verified.sent,
                verified.undelivered,
                verified.delivered_up_to_stage,
                verified.digest
            ),
            (Ending::BlocksAfterCrash(node), _) => format!(
                "{node} crashes, and the others never decide: the protocol blocks after one \
                 crash. It does not do what the theorem would keep it from."
            ),
            (Ending::NotBivalent, _) => {
                "The first configuration was not found to be bivalent.".to_owned()
            }
            (Ending::Exhausted { stage, looked_at }, _) => format!(
                "The search was exhausted in stage {stage}, after {looked_at} configurations. That \
                 says nothing about the protocol."
            ),
            (Ending::Undecided, None) => {
                return Err(Exit::failed("the schedule does not stand the independent check"));
            }
        };
        put(&wrapped("", 0, &text))
    }
}

fn steps_of_each(steps: &[u64]) -> String {
    steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
