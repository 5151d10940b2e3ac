//! Processes that go on with the work, and are killed.
//!
//! A worker opens the directory, and puts and checkpoints as a member with default settings does: whenever
//! [`FRONT_BYTES`] wait in memory. Every third checkpoint is [`LARGE_FACTOR`] times as large, so that the
//! state writes it in pieces; every fourth carries a compaction, and is followed by the collection. It says
//! `begin INDEX` before each checkpoint and `durable INDEX` after it; what it has said stays in the pipe when
//! it dies. There is no log: a worker goes on from where the state stands.
//!
//! After each kill the state is opened, and must be one that was committed:
//!
//! 1. Its applied index is the last one said to be durable, or the one whose checkpoint was under way.
//! 2. Every version written since the last look, as far as the index, is there at its revision, to the byte;
//!    unless it was compacted.
//! 3. Every key that was to be written after the index has the version from before; and so have keys at
//!    random.
//! 4. At the end, the number of keys is what it was.
//!
//! Caveat. `kill -9` takes the process and not the machine: what was written and not synced survives in the
//! kernel. Power cuts are tested for ours alone, over the simulated disk, in the storage crate.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mvcc::{Batch, KeySpan, Revision, State, View};

use crate::candidates::{Candidate, Task};
use crate::gauges;
use crate::measure::{Plan, checkpoint, float, micros, read_list, report};
use crate::workload::{Random, Shape, entry, revision_of};

/// What waits in memory before a checkpoint: the product's default.
const FRONT_BYTES: usize = 32 << 20;
const LARGE_FACTOR: usize = 3;
const LARGE_EVERY: u64 = 3;
const _: () =
    assert!(LARGE_FACTOR * FRONT_BYTES > 64 << 20, "more than one write of a state takes");
const COMPACT_EVERY: u64 = 4;
/// Steps of the collection after a checkpoint.
const COLLECT_STEPS_MAX: u32 = 16;
/// What stays readable behind a compaction.
const KEPT_REVISIONS: i64 = 2_000;
/// Checkpoints of the worker that lives, and what it reads.
const SERVED_CHECKPOINTS: u64 = 8;
const SERVED_LISTS: u64 = 200;
const SERVED_GETS: u64 = 20_000;
/// A worker is killed at most this long after it has opened, or after it has begun a checkpoint.
const LIFE_MS_MAX: u64 = 3_000;
const CHECKPOINT_US_MAX: u64 = 500_000;
/// A worker that says nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Keys looked at besides those that were written.
const SAMPLE_KEYS: u64 = 20_000;

/// Opens the state, to the first answer.
pub(crate) fn reopen<E: Candidate>(plan: &Plan) -> Result<(State<E>, Duration)> {
    let began = Instant::now();
    let state = State::open(Arc::new(E::open(&plan.dir, plan.cache_bytes())?))?;
    let view = state.view();
    ensure!(view.get(&plan.shape.key(0), view.revision())?.is_some(), "the first key is gone");
    Ok((state, began.elapsed()))
}

/// The phases `serve` and `kill`: `versions` are those of all keys at `index`.
pub(crate) fn run<E: Candidate>(plan: &Plan, index: u64, versions: Vec<u32>) -> Result<()> {
    let mut known = Known { shape: plan.shape, index, versions };
    let mut worker = Worker::start(plan, Some(SERVED_CHECKPOINTS))?;
    let heard = worker.until_end()?;
    let (state, _) = reopen::<E>(plan)?;
    known.check(&state, &heard)?;
    drop(state);

    let mut random = Random::new(plan.shape.seed ^ 3);
    let mut worst = Duration::ZERO;
    let mut under_way = 0;
    for kill in 1..=plan.kills {
        let mut worker = Worker::start(plan, None)?;
        worker.until_open()?;
        if kill.is_multiple_of(2) {
            // Checkpoints may be short beside the filling of memory: half of the kills look for one.
            worker.until_begun()?;
            std::thread::sleep(Duration::from_micros(random.below(CHECKPOINT_US_MAX)));
        } else {
            std::thread::sleep(Duration::from_millis(random.below(LIFE_MS_MAX)));
        }
        let heard = worker.kill()?;
        under_way += u64::from(heard.begun.is_some());
        let (state, took) = reopen::<E>(plan)?;
        report(&format!("kill.open_s.{kill}"), took.as_secs_f64())?;
        worst = worst.max(took);
        known.check(&state, &heard).with_context(|| format!("after kill {kill}"))?;
        if kill == plan.kills {
            let view = state.view();
            let count = view.count(&KeySpan::all(), view.revision())?;
            ensure!(count == plan.shape.keys, "{count} keys");
        }
    }
    report("kill.open_worst_s", worst.as_secs_f64())?;
    report("kill.checkpoints_cut", float(under_way))?;
    report("kill.verified", f64::from(plan.kills))
}

/// What a worker has said.
#[derive(Debug, Default)]
struct Heard {
    /// The last index said to be durable.
    durable: u64,
    /// A later one whose checkpoint had begun.
    begun: Option<u64>,
}

impl Heard {
    /// `false` for what is said to the reader of figures.
    fn hear(&mut self, line: &str) -> Result<bool> {
        let Some((word, index)) = line.split_once(' ') else { return Ok(false) };
        let index = index.parse().with_context(|| line.to_owned())?;
        match word {
            "open" | "durable" => *self = Heard { durable: index, begun: None },
            "begin" => self.begun = Some(index),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Another process of this program.
struct Worker {
    process: std::process::Child,
    lines: Receiver<String>,
    heard: Heard,
}

impl Worker {
    fn start(plan: &Plan, checkpoints: Option<u64>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["work", "--engine", plan.engine.name()]);
        command.arg("--dir").arg(&plan.dir);
        for (name, number) in [
            ("--keys", plan.shape.keys),
            ("--value-bytes", plan.shape.value_bytes as u64),
            ("--seed", plan.shape.seed),
            ("--cache-mib", plan.cache_mib as u64),
        ] {
            command.arg(name).arg(number.to_string());
        }
        if let Some(checkpoints) = checkpoints {
            command.arg("--until").arg(checkpoints.to_string());
        }
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().context("a pipe was asked for")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Nobody listens to the end of a worker that was given up.
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, lines, heard: Heard::default() })
    }

    fn until_open(&mut self) -> Result<()> {
        let line = self.lines.recv_timeout(SILENCE_MAX).context("the worker did not open")?;
        ensure!(self.heard.hear(&line)?, "the worker began with {line}");
        Ok(())
    }

    fn until_begun(&mut self) -> Result<()> {
        while self.heard.begun.is_none() {
            let line = self.lines.recv_timeout(SILENCE_MAX).context("no checkpoint")?;
            self.heard.hear(&line)?;
        }
        Ok(())
    }

    /// Passes its figures on until it ends.
    fn until_end(&mut self) -> Result<Heard> {
        while let Ok(line) = self.lines.recv_timeout(SILENCE_MAX) {
            if !self.heard.hear(&line)? {
                println!("{line}");
            }
        }
        let status = self.process.wait()?;
        ensure!(status.success(), "the worker failed: {status}");
        Ok(std::mem::take(&mut self.heard))
    }

    fn kill(mut self) -> Result<Heard> {
        if let Some(status) = self.process.try_wait()? {
            bail!("the worker ended before it was killed: {status}");
        }
        self.process.kill()?;
        self.process.wait()?;
        for line in &self.lines {
            self.heard.hear(&line)?;
        }
        Ok(self.heard)
    }
}

/// What the state must hold.
struct Known {
    shape: Shape,
    index: u64,
    /// At `index`.
    versions: Vec<u32>,
}

impl Known {
    /// Checks a state that went on from here, and follows it.
    fn check<E: Candidate>(&mut self, state: &State<E>, heard: &Heard) -> Result<()> {
        let found = state.applied().index;
        let committed = found == heard.durable || Some(found) == heard.begun;
        ensure!(committed, "opened at {found}, after {heard:?}");
        ensure!(state.revision() == revision_of(found), "revision and applied index differ");
        let view = state.view();
        for index in self.index + 1..=found {
            let id = self.shape.id_of(index);
            let version = &mut self.versions[usize::try_from(id)?];
            *version += 1;
            if revision_of(index) >= view.compacted() {
                let read = view.get(&self.shape.key(id), revision_of(index))?;
                let expected = self.shape.record(id, *version, index);
                ensure!(read == Some(expected), "key {id} at {index} is not as written");
            }
        }
        let until = heard.begun.unwrap_or(found).max(found);
        for index in self.index + 1..=until {
            self.check_newest(&view, self.shape.id_of(index))?;
        }
        let mut random = Random::new(found);
        for _ in 0..SAMPLE_KEYS {
            self.check_newest(&view, random.below(self.shape.keys))?;
        }
        self.index = found;
        Ok(())
    }

    fn check_newest(&self, view: &View, id: u64) -> Result<()> {
        let read = view.get(&self.shape.key(id), view.revision())?.context("a key is gone")?;
        let index = u64::try_from(read.mod_revision.0)? - 1;
        let expected = self.shape.record(id, self.versions[usize::try_from(id)?], index);
        ensure!(read == expected, "key {id} is not as written last");
        Ok(())
    }
}

/// What a worker is told. See the [module](self).
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Work {
    #[command(flatten)]
    pub(crate) plan: Plan,
    /// Checkpoints to make, then figures; without it, work on until killed.
    #[arg(long)]
    until: Option<u64>,
}

/// The worker.
impl Task for Work {
    fn run<E: Candidate>(&self) -> Result<()> {
        let plan = &self.plan;
        let (mut state, _) = reopen::<E>(plan)?;
        say("open", state.applied().index)?;
        let (mut generator, mut puts) = (Duration::ZERO, 0);
        let (cpu, mut worst) = (gauges::process_cpu(), Duration::ZERO);
        for round in 1_u64.. {
            // What the figures are of keeps to the default; pieces are for those that are killed.
            let large = self.until.is_none() && round.is_multiple_of(LARGE_EVERY);
            let before = (gauges::thread_cpu(), state.applied().index);
            fill(
                &mut state,
                &plan.shape,
                if large { LARGE_FACTOR } else { 1 } * FRONT_BYTES,
                round,
            )?;
            generator += gauges::thread_cpu() - before.0;
            puts += state.applied().index - before.1;
            say("begin", state.applied().index)?;
            let (took, retired) = checkpoint(&mut state)?;
            worst = worst.max(took);
            say("durable", state.durable().index)?;
            let before = gauges::thread_cpu();
            drop(retired);
            generator += gauges::thread_cpu() - before;
            if self.until.is_none() {
                for _ in 0..COLLECT_STEPS_MAX {
                    let Some(job) = state.collect() else { break };
                    drop(state.finish(job.run()?));
                }
            }
            if self.until == Some(round) {
                break;
            }
        }
        let cpu = (gauges::process_cpu() - cpu).saturating_sub(generator);
        report("serve.puts", float(puts))?;
        report("serve.cpu_us", micros(cpu) / float(puts))?;
        report("serve.worst_s", worst.as_secs_f64())?;
        serve(&state, &plan.shape)
    }
}

/// Reads, and says what memory that takes.
fn serve<E: Candidate>(state: &State<E>, shape: &Shape) -> Result<()> {
    let reader = state.reader();
    let mut random = Random::new(shape.seed ^ 4);
    for _ in 0..SERVED_GETS {
        let view = reader.view();
        view.get(&shape.key(random.below(shape.keys)), view.revision())?;
    }
    for _ in 0..SERVED_LISTS {
        read_list(&reader, shape, random.below(shape.keys - 1_000))?;
    }
    let memory = gauges::memory()?;
    report("serve.anon_mib", float(memory.anonymous) / f64::from(1 << 20))?;
    report("serve.mapped_mib", float(memory.file) / f64::from(1 << 20))
}

/// Applies puts until enough waits in memory.
fn fill<E: Candidate>(state: &mut State<E>, shape: &Shape, bytes: usize, round: u64) -> Result<()> {
    while state.front_bytes() < bytes {
        put(state, shape, None)?;
    }
    if round.is_multiple_of(COMPACT_EVERY) {
        put(state, shape, Some(Revision(state.revision().0 - KEPT_REVISIONS)))?;
    }
    Ok(())
}

fn put<E: Candidate>(state: &mut State<E>, shape: &Shape, compact: Option<Revision>) -> Result<()> {
    let index = state.applied().index + 1;
    let id = shape.id_of(index);
    let view = state.view();
    let old = view.get(&shape.key(id), view.revision())?.context("a key is gone")?;
    let record = shape.record(id, u32::try_from(old.version)? + 1, index);
    state.apply(Batch { compact, ..entry(index, record) });
    Ok(())
}

fn say(word: &str, index: u64) -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    writeln!(out, "{word} {index}")?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use mvcc::engine::mem::MemEngine;

    use super::*;

    const SHAPE: Shape = Shape { keys: 50, value_bytes: 20, seed: 1 };
    const LAST: u64 = 200;

    fn known() -> Known {
        Known { shape: SHAPE, index: SHAPE.keys, versions: vec![1; 50] }
    }

    /// A state made by the log as far as [`LAST`], of which `entry_of` may change an entry.
    fn state(entry_of: impl Fn(u64, Batch) -> Batch) -> State<MemEngine> {
        let mut state = State::open(Arc::new(MemEngine::new())).unwrap();
        for id in 0..SHAPE.keys {
            state.apply(entry(id + 1, SHAPE.record(id, 1, id + 1)));
        }
        let mut versions = [1; 50];
        for index in SHAPE.keys + 1..=LAST {
            let id = SHAPE.id_of(index);
            let version = &mut versions[usize::try_from(id).unwrap()];
            *version += 1;
            state.apply(entry_of(index, entry(index, SHAPE.record(id, *version, index))));
        }
        state
    }

    fn durable(index: u64) -> Heard {
        Heard { durable: index, begun: None }
    }

    #[test]
    fn a_state_as_the_log_says_passes() {
        let state = state(|_, entry| entry);
        known().check(&state, &durable(LAST)).unwrap();
        known().check(&state, &Heard { durable: 60, begun: Some(LAST) }).unwrap();
        let cut = Heard { durable: LAST, begun: Some(LAST + 50) };
        known().check(&state, &cut).unwrap();
    }

    #[test]
    fn an_index_that_was_never_committed_is_noticed() {
        let state = state(|_, entry| entry);
        assert!(known().check(&state, &durable(LAST + 1)).is_err());
        assert!(known().check(&state, &durable(LAST - 1)).is_err());
        let begun = Heard { durable: 60, begun: Some(LAST + 1) };
        assert!(known().check(&state, &begun).is_err());
    }

    #[test]
    fn an_entry_that_is_not_there_is_noticed() {
        for lost in [SHAPE.keys + 1, 120, LAST] {
            let state = state(|index, entry| {
                let commit = entry.commit.filter(|_| index != lost);
                Batch { commit, ..entry }
            });
            assert!(known().check(&state, &durable(LAST)).is_err(), "{lost}");
        }
    }

    #[test]
    fn another_value_is_noticed() {
        for wrong in [SHAPE.keys + 1, 120, LAST] {
            let state = state(|index, as_written| {
                if index != wrong {
                    return as_written;
                }
                // What the version before had, under the right numbers.
                let id = SHAPE.id_of(index);
                let old = as_written.commit.unwrap().changes[0].record.clone().unwrap();
                let (create, at) = (old.create_revision, old.mod_revision);
                let key = SHAPE.key(id);
                entry(index, mvcc::Record::new(&key, create, at, old.version, &[0; 20], None))
            });
            assert!(known().check(&state, &durable(LAST)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_that_was_written_too_early_is_noticed() {
        // The state is further than it says: one key has a version of after the index.
        let state = state(|_, entry| entry);
        let mut known = known();
        known.check(&state, &durable(LAST)).unwrap();
        known.versions[usize::try_from(SHAPE.id_of(LAST + 1)).unwrap()] -= 1;
        let cut = Heard { durable: LAST, begun: Some(LAST + 1) };
        assert!(known.check(&state, &cut).is_err());
    }
}
