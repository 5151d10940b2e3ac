//! One run, from the first start to the verdict.

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use history::record::{
    Call, Filters, Get, History, LeaseRevoke, Operation, Outcome, Put, Revision, Span,
};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::field::Field;
use super::judge::{self, Verdict};
use super::load::User;
use super::member::Syncs;
use super::record::SLOTS;
use super::schedule::{self, Kind};
use super::volume;
use super::watchers::Watcher;
use crate::tools::Program;

const CLIENTS: u32 = 14;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long watchers may take to be told the rest once nothing is wrong any more.
const WATCHERS_END: Duration = Duration::from_secs(30);
const PREFIX: &str = "quorate-blackbox-";
const LOCK: &str = "lock";

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// For everything that is chosen.
    pub seed: u64,
    /// How long.
    pub minutes: f64,
    /// How many.
    pub members: usize,
    /// Where the history and the logs of a run that failed are kept.
    pub out: PathBuf,
    /// Keep the history of a clean run too.
    pub keep: bool,
    /// What is done.
    pub kinds: Vec<Kind>,
    /// The disks lie about what they have synced: the run must fail. To test the test.
    pub lie: bool,
    /// Members are started with `--initial-corrupt-check`.
    pub compare: bool,
}

/// Runs, inside of the namespaces of [`super::host::enter`].
///
/// # Errors
/// With everything that was wrong.
pub async fn run(program: &Program, options: &Options) -> Result<()> {
    sweep()?;
    let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
    has_room(directory.path(), options.members)?;
    let lock = File::create(directory.path().join(LOCK))?;
    lock.try_lock().map_err(|error| anyhow::anyhow!("{error}"))?;
    let Options { seed, minutes, members, .. } = options;
    println!("blackbox: seed {seed}, {minutes} minutes, {members} members");
    let field = Field::build(program, directory.path(), *members, *seed).await;
    let mut field = field.with_context(|| logs_in(&directory))?;
    let outcome = tokio::select! {
        outcome = play(&mut field, options) => outcome,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    let verdict = conclude(&mut field, options, outcome);
    for member in &mut field.members {
        let _gone = member.kill();
        member.volume.remove()?;
    }
    drop(field);
    drop(lock);
    verdict
}

/// Whether the volumes of the members and the record of the clients have room, or the machine's full disk
/// would pass for one of a member.
fn has_room(directory: &Path, members: usize) -> Result<()> {
    let stat = rustix::fs::statvfs(directory)?;
    let free = (stat.f_bavail * stat.f_frsize) >> 20;
    let takes = volume::MEBIBYTES * (members as u64 + 2);
    let place = directory.parent().unwrap_or(directory).display();
    ensure!(
        free >= takes,
        "{place} has {free} MiB free, and {members} members take {takes}: make room, or set TMPDIR"
    );
    Ok(())
}

async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Removes what runs left behind that were killed: directories whose lock nobody holds.
fn sweep() -> Result<()> {
    for entry in std::fs::read_dir(std::env::temp_dir())?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) => std::fs::remove_dir_all(entry.path())?,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
    Ok(())
}

fn logs_in(directory: &TempDir) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(directory.path()).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let _to_a_string = write!(text, "-- {}\n{log}\n", entry.path().display());
        }
    }
    text
}

/// The clients of a run.
struct Crowd {
    users: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn start(field: &Field, seed: u64) -> Result<Self> {
        let stage = &field.stage;
        let collector = Watcher::collector(stage, 500)?;
        let mut watchers = vec![tokio::spawn(collector.work())];
        let none = Filters::default();
        let kinds = [
            (Span::all(), (true, true, none)),
            (Span::all(), (false, true, none)),
            (Span::prefix("g0"), (true, false, none)),
            (Span::prefix("g03."), (false, false, Filters { no_delete: true, ..none })),
            (Span::prefix("g04."), (true, false, Filters { no_put: true, ..none })),
            (Span::prefix("l/"), (true, false, none)),
            (Span::one("g01.0/1"), (false, true, none)),
        ];
        for (number, (span, options)) in (501..).zip(kinds) {
            watchers.push(tokio::spawn(Watcher::new(stage, number, span, options)?.work()));
        }
        let user = |id| Ok(tokio::spawn(User::new(stage, id, seed)?.work()));
        let users = (0..CLIENTS).map(user).collect::<Result<Vec<_>>>()?;
        Ok(Self { users, watchers })
    }

    /// The clients end with the call that each is at.
    async fn end_users(&mut self, field: &Field) -> Result<()> {
        field.record().clients_stop.store(true, Ordering::SeqCst);
        for user in self.users.drain(..) {
            user.await.context("a client")?;
        }
        Ok(())
    }

    /// The watchers end when they were told everything, or after [`WATCHERS_END`].
    async fn end_watchers(&mut self, field: &Field) -> Result<()> {
        let record = field.record();
        // A commit counts once it was collected, so the collector has the first moments for itself.
        let end = Instant::now() + WATCHERS_END;
        while record.collected.load(Ordering::SeqCst) < record.highest() && Instant::now() < end {
            sleep(Duration::from_millis(50)).await;
        }
        record.watchers_stop.store(true, Ordering::SeqCst);
        let end = Instant::now() + WATCHERS_END;
        while !self.watchers.iter().all(JoinHandle::is_finished) && Instant::now() < end {
            sleep(Duration::from_millis(50)).await;
        }
        record.watchers_leave.store(true, Ordering::SeqCst);
        for watcher in self.watchers.drain(..) {
            watcher.await.context("a watcher")?;
        }
        Ok(())
    }
}

async fn play(field: &mut Field, options: &Options) -> Result<()> {
    let mut crowd = Crowd::start(field, options.seed)?;
    field.recover().await.context("before any fault")?;
    if options.lie {
        field.syncs = Syncs::Lie;
        for member in &field.members {
            member.sync_as(field.syncs)?;
        }
    }
    let done = tokio::time::timeout(bound(options), steps(field, options)).await;
    let outcome = match done {
        Ok(outcome) => outcome,
        Err(_) => Err(anyhow::anyhow!("the steps took longer than {:?}", bound(options))),
    };
    if outcome.is_err() {
        // What was recorded so far is judged all the same, after the clients have put down their pens.
        crowd.end_users(field).await?;
        crowd.end_watchers(field).await?;
        return outcome;
    }
    finish(field, &mut crowd).await
}

fn bound(options: &Options) -> Duration {
    Duration::from_secs_f64(options.minutes * 180.0 + 180.0)
}

/// The steps that the schedule demands; then more, as long as there is time.
async fn steps(field: &mut Field, options: &Options) -> Result<()> {
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(options.minutes * 60.0);
    let demanded = schedule::demanded(options.seed, options.minutes, &options.kinds).len();
    let steps = schedule::demanded(options.seed, options.minutes * 3.0 + 10.0, &options.kinds);
    let progress = Progress::start(field, began);
    for (number, kind) in steps.into_iter().enumerate() {
        if number >= demanded && Instant::now() >= end {
            break;
        }
        let step = field.step(kind).await;
        step.with_context(|| format!("step {} of {demanded}: {kind}", number + 1))?;
        progress.steps.store(number as u64 + 1, Ordering::Relaxed);
        println!("blackbox: step {} of {demanded} survived: {kind}", number + 1);
    }
    Ok(())
}

/// Prints a line every few seconds, until it is dropped.
struct Progress {
    steps: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Progress {
    fn start(field: &Field, began: Instant) -> Self {
        let steps = Arc::new(AtomicU64::new(0));
        let (count, record) = (Arc::clone(&steps), Arc::clone(&field.stage.record));
        let task = tokio::spawn(async move {
            loop {
                sleep(PROGRESS).await;
                println!(
                    "blackbox: {:4} s, {} writes acknowledged, revision {}, {} steps survived",
                    began.elapsed().as_secs(),
                    record.acknowledged.load(Ordering::Relaxed),
                    record.collected.load(Ordering::Relaxed),
                    count.load(Ordering::Relaxed),
                );
            }
        });
        Self { steps, task }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Everything is healed: the last reads, the members' states, the last that watchers are told.
async fn finish(field: &mut Field, crowd: &mut Crowd) -> Result<()> {
    crowd.end_users(field).await?;
    for slot in field.slots() {
        field.member(slot).move_clock(0)?;
    }
    end_leases(field).await;
    // What a client gave up may still be on its way, and leases that were not revoked may still end.
    settle(field).await?;
    last_reads(field).await?;
    let put = Put { key: "end".into(), value: field.record().value().into(), ..Put::default() };
    ensure!(insist(field, Call::Put(put)).await, "the last put was not answered");
    let (revision, hash) = field.converge().await?;
    println!("blackbox: all members are at revision {revision} with hash {hash:08x}");
    crowd.end_watchers(field).await?;
    let collected = field.record().collected.load(Ordering::SeqCst);
    ensure!(
        collected <= revision,
        "verdict: BROKEN, commits up to {collected} were told, and all members are at {revision}"
    );
    ensure!(collected == revision, "the collector was told up to {collected}, not {revision}");
    let answered = last_told(&field.record().history()).map_or(0, |told| told.0);
    ensure!(
        answered <= revision,
        "verdict: BROKEN, an answer was of revision {answered}, and all members are at {revision}"
    );
    Ok(())
}

async fn insist(field: &mut Field, call: Call) -> bool {
    for attempt in 0..20 {
        let slot = 1 + attempt % field.members.len();
        if field.admin.ask(slot, call.clone(), Duration::from_secs(5)).await {
            return true;
        }
        // A value is put once.
        if matches!(call, Call::Put(_)) {
            return false;
        }
    }
    false
}

async fn end_leases(field: &mut Field) {
    let leases = field.stage.leases.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for id in leases {
        insist(field, Call::LeaseRevoke(LeaseRevoke { id })).await;
    }
}

/// Waits until the revision has not moved for longer than a lease lives that clients ask for.
async fn settle(field: &Field) -> Result<()> {
    const STILL: Duration = Duration::from_secs(8);
    let end = Instant::now() + STILL * 6;
    let mut last = (field.record().collected.load(Ordering::SeqCst), Instant::now());
    while last.1.elapsed() < STILL {
        ensure!(Instant::now() < end, "the revision still moves, and nobody writes");
        sleep(Duration::from_millis(100)).await;
        let collected = field.record().collected.load(Ordering::SeqCst);
        if collected != last.0 {
            last = (collected, Instant::now());
        }
    }
    Ok(())
}

/// Every key that was ever used is read once more.
async fn last_reads(field: &mut Field) -> Result<()> {
    for prefix in field.stage.keys.all_prefixes() {
        for slot in 0..SLOTS {
            let span = Span::one(format!("{prefix}{slot}"));
            let read = insist(field, Call::Get(Get { span, ..Get::default() })).await;
            ensure!(read, "{prefix}{slot} cannot be read when all is well again");
        }
    }
    Ok(())
}

/// The tables, the verdict, and what is kept of a run that failed.
fn conclude(field: &mut Field, options: &Options, outcome: Result<()>) -> Result<()> {
    let history = field.record().history();
    let judged = if collected_all(&history) {
        judge::judge(&history)
    } else {
        Err(anyhow::anyhow!("verdict: NONE, the collector of commits was not told everything"))
    };
    let complete = demanded_happened(field, options);
    print_tables(field);
    if let Ok(Verdict { replay, linear }) = &judged {
        println!("blackbox: checked {:?}", replay.seen);
        println!("blackbox: searched {linear:?}");
    }
    let failures: Vec<String> = [outcome, judged.map(drop), complete]
        .into_iter()
        .filter_map(|one| one.err().map(|error| format!("{error:#}")))
        .collect();
    let name = format!("blackbox-{}-{}", options.seed, std::process::id());
    if options.keep || !failures.is_empty() {
        std::fs::create_dir_all(&options.out)?;
        let path = options.out.join(format!("{name}.json"));
        judge::write(&history, &path)?;
        println!("blackbox: the history is in {}", path.display());
    }
    if failures.is_empty() {
        println!("blackbox: seed {}: CLEAN", options.seed);
        return Ok(());
    }
    for member in &field.members {
        member.keep_log(&options.out.join(format!("{name}-m{}.log", member.slot)))?;
    }
    println!("{}", field.logs());
    bail!("seed {}: {}", options.seed, failures.join("\n"))
}

/// Whether the list of commits goes as far as what anyone was told. (In a run that was broken off it may not.)
fn collected_all(history: &History) -> bool {
    last_told(history) <= Some(history.commits.last())
}

/// The highest revision of any answer.
fn last_told(history: &History) -> Option<Revision> {
    let told = |operation: &Operation| match operation.outcome {
        Outcome::Ok { revision, .. } => Some(revision),
        Outcome::Failed(_) | Outcome::Unknown => None,
    };
    history.operations.iter().filter_map(told).max()
}

fn demanded_happened(field: &Field, options: &Options) -> Result<()> {
    let demanded = schedule::demanded(options.seed, options.minutes, &options.kinds);
    let missing: Vec<String> = Kind::ALL
        .iter()
        .filter(|kind| demanded.contains(kind) && !field.happened.contains_key(kind))
        .map(ToString::to_string)
        .collect();
    ensure!(missing.is_empty(), "demanded, and did not happen: {}", missing.join(", "));
    Ok(())
}

fn print_tables(field: &Field) {
    println!("\n{:<18} {:>6}  evidence", "what happened", "times");
    for (kind, happened) in &field.happened {
        println!("{kind:<18} {:>6}  {} {}", happened.times, happened.evidence, kind.words().1);
    }
    let tally = field.record().tally();
    println!("\n{:<18} {:>8} {:>8} {:>8}", "call", "ok", "failed", "unknown");
    for (call, [ok, failed, unknown]) in &tally.outcomes {
        println!("{call:<18} {ok:>8} {failed:>8} {unknown:>8}");
    }
    let mut refusals: Vec<_> = tally.refusals.into_iter().collect();
    refusals.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    println!("\n{:>8}  refusal", "times");
    for (message, count) in refusals.iter().take(12) {
        println!("{count:>8}  {message}");
    }
    let (gap, at) = tally.outage_max_ns;
    let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f32();
    println!(
        "\nlongest time without an acknowledged write: {:.1} s, until {:.1} s\n",
        seconds(gap),
        seconds(at)
    );
}
