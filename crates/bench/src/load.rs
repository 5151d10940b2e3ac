//! The loops: M clients over N connections on T threads, closed or at a fixed rate.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Config, Put};
use indicatif::ProgressBar;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

use crate::BenchError;
use crate::progress::bar;
use crate::report::{Report, Tally, thread_cpu};
use crate::workload::{Keys, Operation, User, range_of, value_pool};

/// Writes in flight while the key space is filled.
const FILL_CLIENTS: u64 = 64;

/// Requests between two updates of the progress bar by one client.
const PROGRESS_EVERY: u64 = 64;

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After so many requests of all clients together, those of the warm-up not counted.
    Requests(u64),
    /// After so long.
    Elapsed(Duration),
}

/// A measurement.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// Where the cluster is, and its limits. Connections are spread over the endpoints.
    pub client: Config,
    /// What to do.
    pub operation: Operation,
    /// On which keys.
    pub keys: Keys,
    /// Over how many ranges they are spread, beside the one that holds all keys; 0 is that one.
    pub ranges: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// HTTP/2 connections; at least one a thread.
    pub connections: usize,
    /// Clients, each with one request in flight.
    pub clients: usize,
    /// Threads, each with a runtime of its own.
    pub threads: usize,
    /// When to stop.
    pub until: Until,
    /// Time at the start that does not count.
    pub warm_up: Duration,
    /// Requests a second of all clients together; `None` is a closed loop.
    pub rate: Option<f64>,
    /// Whether to write every key once before measuring.
    pub fill: bool,
    /// Seed of keys and values.
    pub seed: u64,
    /// Whether to show a progress bar.
    pub progress: bool,
}

/// What all threads share.
struct Shared {
    config: LoadConfig,
    pool: Bytes,
    /// Requests begun, to number them.
    begun: AtomicU64,
    /// Those of them that count, to stop.
    counted: AtomicU64,
    bar: ProgressBar,
}

/// Fills the key space if asked to, then measures. Blocks; makes its own threads.
///
/// # Errors
/// [`BenchError`] if the configuration makes no sense, the filling fails, or no thread can be
/// made. Requests that fail while measuring are counted in the report.
pub fn run(title: &str, config: LoadConfig) -> Result<Report, BenchError> {
    if config.clients == 0 || config.threads == 0 || config.connections == 0 {
        return Err(BenchError::Config("clients, connections and threads must not be 0".into()));
    }
    if config.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err(BenchError::Config("the rate must be above 0".into()));
    }
    let pool = value_pool(config.value_bytes, config.seed);
    if config.fill {
        fill(&config, &pool)?;
    }
    let length = match config.until {
        Until::Requests(requests) => Some(requests),
        Until::Elapsed(_) => None,
    };
    let bar = bar(config.progress, length, title);
    let threads = config.threads.min(config.clients);
    let shared = Arc::new(Shared {
        config,
        pool,
        begun: AtomicU64::new(0),
        counted: AtomicU64::new(0),
        bar,
    });
    let warm_up = shared.config.warm_up;
    let start = Instant::now() + warm_up;
    let handles: Vec<_> = (0..threads)
        .map(|thread| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || one_thread(&shared, thread, threads, start))
        })
        .collect();
    let mut tally = Tally::default();
    // Threads that are gone take their CPU time with them, so each says what it used.
    let mut cpu_of_threads = Duration::ZERO;
    for handle in handles {
        let joined = handle.join().map_err(|_| std::io::Error::other("a load thread panicked"))?;
        let (thread_tally, cpu) = joined?;
        tally.merge(&thread_tally);
        cpu_of_threads += cpu;
    }
    let elapsed = start.elapsed();
    shared.bar.finish_and_clear();
    Ok(Report { title: title.to_owned(), tally, elapsed, client_cpu: cpu_of_threads })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Runs this thread's share of the clients to the end.
fn one_thread(
    shared: &Arc<Shared>,
    thread: usize,
    threads: usize,
    start: Instant,
) -> std::io::Result<(Tally, Duration)> {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let cpu_at_start = Rc::new(RefCell::new(Duration::ZERO));
    let config = &shared.config;
    let connections: Vec<Client> = (thread..config.connections.max(threads))
        .step_by(threads)
        .map(|index| connection(config, index))
        .collect();
    let local = LocalSet::new();
    let cpu = Rc::clone(&cpu_at_start);
    local.spawn_local(async move {
        sleep_until(start).await;
        cpu.replace(thread_cpu());
    });
    let users: Vec<_> = (thread..config.clients)
        .step_by(threads)
        .enumerate()
        .map(|(at, index)| {
            let client = connections[at % connections.len()].clone();
            let seed =
                config.seed.wrapping_add(1 + index as u64).wrapping_mul(0x2545_f491_4f6c_dd1d);
            let (keys, pool) = (config.keys.clone(), shared.pool.clone());
            let user = User::new(client, config.ranges, keys, pool, config.value_bytes, seed);
            local.spawn_local(one_user(Arc::clone(shared), user, index, start, Rc::clone(&tally)))
        })
        .collect();
    runtime()?.block_on(local.run_until(async {
        for user in users {
            user.await.map_err(std::io::Error::other)?;
        }
        Ok::<(), std::io::Error>(())
    }))?;
    let cpu = thread_cpu().saturating_sub(*cpu_at_start.borrow());
    let tally = tally.borrow().clone();
    Ok((tally, cpu))
}

/// A client with a connection of its own, whose first endpoint is the `index`th.
fn connection(config: &LoadConfig, index: usize) -> Client {
    let mut own = config.client.clone();
    let endpoints = own.endpoints.len();
    own.endpoints.rotate_left(index % endpoints);
    Client::new(own)
}

/// One client's loop.
async fn one_user(
    shared: Arc<Shared>,
    mut user: User,
    index: usize,
    start: Instant,
    tally: Rc<RefCell<Tally>>,
) {
    let config = &shared.config;
    let mut schedule = Schedule::new(config, index, start);
    let mut since_progress = 0;
    loop {
        let turn = shared.begun.fetch_add(1, Ordering::Relaxed);
        let begin = schedule.next().await;
        let over = match config.until {
            Until::Requests(requests) => {
                begin >= start && shared.counted.fetch_add(1, Ordering::Relaxed) >= requests
            }
            Until::Elapsed(duration) => begin >= start + duration,
        };
        if over {
            shared.bar.inc(since_progress);
            return;
        }
        let result = user.act(config.operation, turn).await;
        since_progress += 1;
        if since_progress == PROGRESS_EVERY {
            shared.bar.inc(std::mem::take(&mut since_progress));
        }
        if begin < start {
            continue;
        }
        let mut tally = tally.borrow_mut();
        match result {
            Ok(done) => {
                tally.record(begin.elapsed());
                tally.keys += done.keys;
                tally.bytes += done.bytes;
                tally.conflicts += u64::from(done.conflict);
            }
            Err(error) => *tally.errors.entry(error.to_string()).or_default() += 1,
        }
    }
}

/// When a client's requests begin.
enum Schedule {
    Closed,
    Open { next: Instant, interval: Duration },
}

impl Schedule {
    fn new(config: &LoadConfig, index: usize, start: Instant) -> Self {
        let Some(rate) = config.rate else {
            return Self::Closed;
        };
        let between_all = Duration::from_secs_f64(1.0 / rate);
        let offset = between_all * u32::try_from(index).unwrap_or(u32::MAX);
        let interval = between_all * u32::try_from(config.clients).unwrap_or(u32::MAX);
        Self::Open { next: start - config.warm_up + offset, interval }
    }

    /// Waits for the next request's time, and gives the moment from which its latency counts: now,
    /// or when it should have begun if that is in the past.
    async fn next(&mut self) -> Instant {
        match self {
            Self::Closed => Instant::now(),
            Self::Open { next, interval } => {
                let due = *next;
                *next += *interval;
                if due <= Instant::now() {
                    return due;
                }
                sleep_until(due).await;
                Instant::now()
            }
        }
    }
}

/// Writes every key once.
fn fill(config: &LoadConfig, pool: &Bytes) -> Result<(), BenchError> {
    let count = config.keys.count();
    let bar = bar(config.progress, Some(count), "fill");
    let next = Arc::new(AtomicU64::new(0));
    let client = connection(config, 0);
    let filled = runtime()?.block_on(async {
        let writers: Vec<_> = (0..FILL_CLIENTS.min(count))
            .map(|_| {
                let (next, client, bar) = (Arc::clone(&next), client.clone(), bar.clone());
                let (keys, pool) = (config.keys.clone(), pool.clone());
                let (value_bytes, ranges) = (config.value_bytes, config.ranges);
                tokio::spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok::<(), BenchError>(());
                        }
                        let room = (pool.len() - value_bytes) as u64 + 1;
                        let from = usize::try_from(number % room).unwrap_or(0);
                        let value = pool.slice(from..from + value_bytes);
                        let client = match range_of(number, ranges) {
                            Some(range) => client.in_range(range),
                            None => client.clone(),
                        };
                        fill_one(&client, Put::new(keys.key(number), value)).await?;
                        bar.inc(1);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.map_err(|e| BenchError::Io(std::io::Error::other(e)))??;
        }
        Ok(())
    });
    bar.finish_and_clear();
    filled
}

/// Filling twice does no harm, so an unknown outcome is tried again, once.
async fn fill_one(client: &Client, put: Put) -> Result<(), BenchError> {
    match client.put(put.clone()).await {
        Err(client::Error::Unknown(_)) => client.put(put).await?,
        other => other?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Distribution;

    fn config() -> LoadConfig {
        LoadConfig {
            client: Config::new(["127.0.0.1:1"]).unwrap(),
            operation: Operation::Put,
            keys: Keys::new("k", 4, 10, Distribution::Uniform),
            ranges: 0,
            value_bytes: 8,
            connections: 1,
            clients: 4,
            threads: 2,
            until: Until::Requests(8),
            warm_up: Duration::ZERO,
            rate: None,
            fill: false,
            seed: 1,
            progress: false,
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for broken in [
            LoadConfig { clients: 0, ..config() },
            LoadConfig { threads: 0, ..config() },
            LoadConfig { connections: 0, ..config() },
            LoadConfig { rate: Some(0.0), ..config() },
            LoadConfig { rate: Some(f64::NAN), ..config() },
        ] {
            assert!(matches!(run("x", broken), Err(BenchError::Config(_))));
        }
    }

    #[test]
    fn requests_that_fail_are_counted_and_the_run_ends() {
        let mut config = config();
        config.client.request_timeout = Duration::from_millis(50);
        let report = run("x", config).unwrap();
        assert_eq!((report.operations(), report.failures()), (0, 8));
    }

    #[test]
    fn the_warm_up_takes_nothing_from_the_number_of_requests() {
        let mut config = LoadConfig { warm_up: Duration::from_millis(30), ..config() };
        config.client.request_timeout = Duration::from_millis(1);
        let report = run("x", config).unwrap();
        assert_eq!((report.operations(), report.failures()), (0, 8));
    }

    #[test]
    fn filling_an_absent_server_is_an_error() {
        let mut config = LoadConfig { fill: true, ..config() };
        config.client.request_timeout = Duration::from_millis(50);
        assert!(matches!(run("x", config), Err(BenchError::Client(_))));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_open_loop_counts_from_when_a_request_was_due() {
        let config = LoadConfig { rate: Some(1000.0), ..config() };
        let start = Instant::now() - Duration::from_millis(100);
        let mut schedule = Schedule::new(&config, 1, start);
        // Four clients share 1,000 a second: every 4 ms, the second one 1 ms after the first.
        assert_eq!(schedule.next().await, start + Duration::from_millis(1));
        assert_eq!(schedule.next().await, start + Duration::from_millis(5));
    }
}
