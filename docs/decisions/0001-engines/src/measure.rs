//! One run: an engine, a workload, and every figure of the table.
//!
//! The phases, all through [`mvcc::State`], as a member drives it:
//!
//! 1. `load`: the keys in order, as the import of a foreign history writes them ([`mvcc::Load`]).
//! 2. `over`: checkpoints of [`Plan::batch`] overwrites of random keys.
//! 3. `read`: gets and lists of [`LIST_KEYS`] at random places.
//! 4. `hot`: [`HOT_ROUNDS`] checkpoints that each overwrite the same [`HOT_KEYS`] neighbours; then gets and
//!    lists among them.
//! 5. `collect`: all superseded versions are compacted away, while another thread lists at random.
//! 6. `clean`: everything is closed and opened again.
//! 7. `serve`: another process goes on with the checkpoints of the product's defaults; its memory.
//! 8. `kill`: processes that do the same are killed at random moments. See [`crate::crash`].
//!
//! # What is charged to whom
//!
//! CPU is that of the process, less that of the thread which makes records, applies them and drops the
//! memtables, as its own clock says. What remains is the engine with its threads, and the little that the
//! state does to make rows of a memtable; the floor of that is the row of `mem`. After `load`, `over` and
//! `hot` the engine's background work is waited for and charged too. Reads are charged by the clock of the
//! thread that reads.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mvcc::{CheckpointJob, Limits, Load, Reader, State, version_place};

use crate::candidates::{Candidate, Kind, Task};
use crate::crash;
use crate::gauges::{self, Written};
use crate::workload::{Random, Shape, entry, revision_of};

/// Keys that a list returns.
const LIST_KEYS: u64 = 500;
/// Lists and gets of one measurement, after as many that only warm up.
const LISTS: u64 = 500;
const GETS: u64 = 20_000;
/// Keys that are overwritten again and again, and how often.
const HOT_KEYS: u64 = 2_000;
const HOT_ROUNDS: u32 = 100;
/// Records made at once while loading.
const LOAD_CHUNK: u64 = 2_000;
/// How often a busy engine is looked at, how often it must then be idle, and how long it is waited for.
const IDLE_PAUSE: Duration = Duration::from_millis(100);
const IDLE_LOOKS: u32 = 5;
const IDLE_MAX: Duration = Duration::from_secs(180);

/// What a run is to do.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Plan {
    /// The engine.
    #[arg(long)]
    pub(crate) engine: Kind,
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Where; emptied first and removed afterwards.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// The engine's cache. The default is the product's.
    #[arg(long, default_value_t = 128)]
    pub(crate) cache_mib: usize,
    /// Random overwrites in a checkpoint.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) batch: u64,
    /// Such checkpoints.
    #[arg(long, default_value_t = 5)]
    pub(crate) checkpoints: u32,
    /// Processes to kill.
    #[arg(long, default_value_t = 5)]
    pub(crate) kills: u32,
    /// The collection is left off after this.
    #[arg(long, default_value_t = 40)]
    pub(crate) collect_seconds: u64,
}

impl Plan {
    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache_mib << 20
    }
}

/// One figure, for whoever reads our output. Fails when nobody does any more.
pub(crate) fn report(metric: &str, value: f64) -> Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{metric}\t{value:.4}").context("nobody listens")
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Everything from an empty directory to an empty directory.
impl Task for Plan {
    fn run<E: Candidate>(&self) -> Result<()> {
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir)?;
        }
        std::fs::create_dir_all(&self.dir)?;
        let mut bench = Bench::<E>::load(self)?;
        bench.overwrite()?;
        bench.reads("read", 0, self.shape.keys)?;
        bench.overwrite_neighbours()?;
        let middle = self.shape.keys / 2;
        bench.reads("hot", middle, HOT_KEYS)?;
        bench.collect()?;
        bench.reads("after", middle, HOT_KEYS)?;
        bench.report_memory("end")?;
        if E::PERSISTS {
            let (index, versions) = bench.close()?;
            crash::run::<E>(self, index, versions)?;
        }
        std::fs::remove_dir_all(&self.dir)?;
        Ok(())
    }
}

/// Runs a job of the checkpoint kind and hands it back to the state.
pub(crate) fn checkpoint<E: Candidate>(state: &mut State<E>) -> Result<(Duration, mvcc::Retired)> {
    let job: CheckpointJob<E> = state.freeze().context("nothing to write")?;
    let began = Instant::now();
    let done = job.run()?;
    let took = began.elapsed();
    Ok((took, state.finish(done)))
}

struct Bench<'a, E: Candidate> {
    plan: &'a Plan,
    state: State<E>,
    /// How often each key was written.
    versions: Vec<u32>,
    index: u64,
}

/// What a phase takes from its beginning on.
struct Meter {
    began: Instant,
    cpu: Duration,
    written: Written,
    /// Of the CPU, what made the load.
    generator: Duration,
    worst: Duration,
    puts: u64,
}

impl Meter {
    fn start() -> Result<Self> {
        Ok(Self {
            began: Instant::now(),
            cpu: gauges::process_cpu(),
            written: gauges::written()?,
            generator: Duration::ZERO,
            worst: Duration::ZERO,
            puts: 0,
        })
    }

    /// Does what is not the engine's.
    fn generate<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = gauges::thread_cpu();
        let made = work();
        self.generator += gauges::thread_cpu() - before;
        made
    }

    fn report(self, phase: &str, shape: &Shape) -> Result<()> {
        let wall = self.began.elapsed();
        let cpu = (gauges::process_cpu() - self.cpu).saturating_sub(self.generator);
        let written = gauges::written()? - self.written;
        let puts = float(self.puts);
        let logical = puts * float(shape.put_bytes());
        report(&format!("{phase}.puts"), puts)?;
        report(&format!("{phase}.seconds"), wall.as_secs_f64())?;
        report(&format!("{phase}.cpu_us"), micros(cpu) / puts)?;
        report(&format!("{phase}.generator_us"), micros(self.generator) / puts)?;
        report(&format!("{phase}.written_calls"), float(written.calls) / logical)?;
        report(&format!("{phase}.written_pages"), float(written.pages) / logical)?;
        report(&format!("{phase}.worst_s"), self.worst.as_secs_f64())
    }
}

impl<'a, E: Candidate> Bench<'a, E> {
    fn load(plan: &'a Plan) -> Result<Self> {
        let shape = plan.shape;
        let engine = Arc::new(E::open(&plan.dir, plan.cache_bytes())?);
        let mut meter = Meter::start()?;
        let last = revision_of(shape.keys);
        let mut load = Load::begin(engine, Limits::default(), last, last)?;
        load.commit(last, vec![(shape.key(shape.keys - 1), false)])?;
        let mut first = 0;
        while first < shape.keys {
            let end = shape.keys.min(first + LOAD_CHUNK);
            let records = meter.generate(|| {
                let record = |id| shape.record(id, 1, id + 1);
                let placed = |record: mvcc::Record| {
                    (version_place(&record.key(), record.mod_revision), record.encoded)
                };
                (first..end).map(record).map(placed).collect::<Vec<_>>()
            });
            for (place, encoded) in records {
                load.version(place, Some(encoded))?;
            }
            first = end;
        }
        meter.puts = shape.keys;
        let state = load.finish(mvcc::AppliedMark { index: shape.keys, term: 1 })?;
        let keys = usize::try_from(shape.keys)?;
        let bench = Self { plan, state, versions: vec![1; keys], index: shape.keys };
        bench.settle()?;
        meter.report("load", &shape)?;
        bench.report_size("load")?;
        Ok(bench)
    }

    /// Waits until the engine does nothing more of its own.
    fn settle(&self) -> Result<()> {
        let began = Instant::now();
        let mut idle = 0;
        while E::PERSISTS && idle < IDLE_LOOKS {
            ensure!(began.elapsed() < IDLE_MAX, "the engine is still busy");
            idle = if self.state.engine().is_busy() { 0 } else { idle + 1 };
            std::thread::sleep(IDLE_PAUSE);
        }
        Ok(())
    }

    fn put(&mut self, id: u64) {
        self.index += 1;
        let version = &mut self.versions[usize::try_from(id).expect("keys are counted in memory")];
        *version += 1;
        self.state.apply(entry(self.index, self.plan.shape.record(id, *version, self.index)));
    }

    /// Applies puts and writes them.
    fn checkpoint(&mut self, meter: &mut Meter, ids: impl Iterator<Item = u64>) -> Result<()> {
        let before = self.index;
        meter.generate(|| ids.for_each(|id| self.put(id)));
        meter.puts += self.index - before;
        let (took, retired) = checkpoint(&mut self.state)?;
        meter.worst = meter.worst.max(took);
        meter.generate(|| drop(retired));
        Ok(())
    }

    fn overwrite(&mut self) -> Result<()> {
        let plan = self.plan;
        let mut meter = Meter::start()?;
        for _ in 0..plan.checkpoints {
            let first = self.index + 1;
            let ids = (first..first + plan.batch).map(|index| plan.shape.id_of(index));
            self.checkpoint(&mut meter, ids)?;
        }
        self.settle()?;
        meter.report("over", &plan.shape)?;
        self.report_size("over")?;
        self.report_memory("over")
    }

    fn overwrite_neighbours(&mut self) -> Result<()> {
        let middle = self.plan.shape.keys / 2;
        let mut meter = Meter::start()?;
        for _ in 0..HOT_ROUNDS {
            self.checkpoint(&mut meter, middle..middle + HOT_KEYS)?;
        }
        // Not settled: readers come while the overwriting goes on.
        meter.report("hot", &self.plan.shape)
    }

    /// Gets and lists among `keys` keys from `first` on; the second pass counts.
    fn reads(&self, phase: &str, first: u64, keys: u64) -> Result<()> {
        let reader = self.state.reader();
        let mut random = Random::new(self.plan.shape.seed ^ keys);
        let (mut get, mut list) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..2 {
            let before = gauges::thread_cpu();
            for _ in 0..GETS {
                let key = self.plan.shape.key(first + random.below(keys));
                let view = reader.view();
                ensure!(view.get(&key, view.revision())?.is_some(), "a key is gone");
            }
            get = gauges::thread_cpu() - before;
            let before = gauges::thread_cpu();
            for _ in 0..LISTS {
                read_list(&reader, &self.plan.shape, first + random.below(keys - LIST_KEYS))?;
            }
            list = gauges::thread_cpu() - before;
        }
        report(&format!("{phase}.get_us"), micros(get) / float(GETS))?;
        report(&format!("{phase}.list_us"), micros(list) / float(LISTS))
    }

    fn collect(&mut self) -> Result<()> {
        let shape = self.plan.shape;
        // The compaction comes with an entry of the log, and counts once the engine has it.
        self.put(0);
        self.index += 1;
        let compact = Some(self.state.revision());
        self.versions[0] += 1;
        let record = shape.record(0, self.versions[0], self.index);
        self.state.apply(mvcc::Batch { compact, ..entry(self.index, record) });
        drop(checkpoint(&mut self.state)?);
        let all =
            float(u64::try_from((self.state.compacted().0 - self.state.collected().0).max(0))?);

        let over = AtomicBool::new(false);
        let reader = self.state.reader();
        let first = self.state.collected();
        let meter = Meter::start()?;
        let lists = std::thread::scope(|scope| {
            let lists = scope.spawn(|| lists_until(&over, &reader, &shape));
            let limit = Instant::now() + Duration::from_secs(self.plan.collect_seconds);
            let collected = self.collect_until(limit);
            over.store(true, Ordering::Release);
            let lists = lists.join().expect("the reader does not panic");
            collected.and(lists)
        })?;
        let cpu = (gauges::process_cpu() - meter.cpu).saturating_sub(lists.cpu);
        let changes = float(u64::try_from(self.state.collected().0 - first.0)?);
        report("collect.changes", changes)?;
        report("collect.of_all", changes / all)?;
        report("collect.seconds", meter.began.elapsed().as_secs_f64())?;
        report("collect.cpu_us", micros(cpu) / changes)?;
        report("collect.list_us", micros(lists.cpu) / float(lists.count))?;
        report("collect.list_p99_ms", lists.p99.as_secs_f64() * 1e3)?;
        self.report_size("collect")
    }

    fn collect_until(&mut self, limit: Instant) -> Result<()> {
        while Instant::now() < limit
            && let Some(job) = self.state.collect()
        {
            drop(self.state.finish(job.run()?));
        }
        Ok(())
    }

    fn report_size(&self, phase: &str) -> Result<()> {
        if !E::PERSISTS {
            return Ok(());
        }
        let bytes = float(gauges::disk_bytes(&self.plan.dir)?);
        report(&format!("{phase}.file_mib"), bytes / f64::from(1 << 20))?;
        report(&format!("{phase}.file_ratio"), bytes / float(self.plan.shape.live_bytes()))
    }

    /// Less what the harness itself holds.
    fn report_memory(&self, phase: &str) -> Result<()> {
        let memory = gauges::memory()?;
        let ours = (self.versions.len() * size_of::<u32>()) as u64;
        let own = float(memory.anonymous.saturating_sub(ours));
        report(&format!("{phase}.anon_mib"), own / f64::from(1 << 20))?;
        report(&format!("{phase}.mapped_mib"), float(memory.file) / f64::from(1 << 20))
    }

    /// Closes and opens again.
    fn close(self) -> Result<(u64, Vec<u32>)> {
        let Self { plan, mut state, versions, index } = self;
        if state.durable() != state.applied() {
            drop(checkpoint(&mut state)?);
        }
        let began = Instant::now();
        drop(state);
        report("clean.close_s", began.elapsed().as_secs_f64())?;
        let (state, took) = crash::reopen::<E>(plan)?;
        report("clean.open_s", took.as_secs_f64())?;
        ensure!(state.applied().index == index, "a clean close lost entries");
        Ok((index, versions))
    }
}

/// One list, checked for its length.
pub(crate) fn read_list(reader: &Reader, shape: &Shape, first: u64) -> Result<()> {
    let view = reader.view();
    let span = shape.span(first, LIST_KEYS);
    let (mut keys, mut bytes) = (0, 0);
    for record in view.scan(&span, view.revision())? {
        keys += 1;
        bytes += record?.encoded.len();
    }
    ensure!(keys == LIST_KEYS && bytes > 0, "a list of {keys} keys");
    Ok(())
}

/// What lists took.
struct Lists {
    count: u64,
    cpu: Duration,
    p99: Duration,
}

fn lists_until(over: &AtomicBool, reader: &Reader, shape: &Shape) -> Result<Lists> {
    let mut random = Random::new(shape.seed ^ 2);
    let before = gauges::thread_cpu();
    let mut walls = Vec::new();
    let mut list = || {
        let began = Instant::now();
        let listed = read_list(reader, shape, random.below(shape.keys - LIST_KEYS));
        walls.push(began.elapsed());
        match listed {
            Ok(()) if over.load(Ordering::Acquire) => ControlFlow::Break(Ok(())),
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Err(error)),
        }
    };
    loop {
        if let ControlFlow::Break(listed) = list() {
            listed?;
            break;
        }
    }
    let cpu = gauges::thread_cpu() - before;
    walls.sort_unstable();
    let p99 = walls[(walls.len() - 1) * 99 / 100];
    Ok(Lists { count: walls.len() as u64, cpu, p99 })
}
