//! Fan-out: many watchers of one key, a writer, and how long an event takes to reach them.
//!
//! Each value carries the moment it was sent, in nanoseconds since the run began, so that every
//! delivery of every event is one sample. Watchers share streams, as they do in the clients that
//! matter (kube-apiserver, etcd's own): one gRPC stream carries many watches.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use client::grpc::{Requests, Responses};
use client::{Client, Config, Put};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_request::RequestUnion;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::BenchError;
use crate::load::Until;
use crate::progress::bar;
use crate::report::{Report, Tally, process_cpu};

/// Longest wait for the last events after the last write.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A fan-out measurement.
#[derive(Debug, Clone)]
pub struct WatchConfig {
    /// Where the cluster is.
    pub client: Config,
    /// The watched key.
    pub key: Bytes,
    /// Bytes of a value; at least the eight of its moment.
    pub value_bytes: usize,
    /// Watchers of the key.
    pub watchers: usize,
    /// Streams that carry them.
    pub streams: usize,
    /// Connections that carry the streams.
    pub connections: usize,
    /// Writers, each with one write in flight.
    pub writers: usize,
    /// Writes a second of all writers together; `None`: as fast as they are answered.
    pub rate: Option<f64>,
    /// When to stop writing.
    pub until: Until,
    /// Whether to show a progress bar.
    pub progress: bool,
}

/// What all tasks of the one thread share.
struct Shared {
    epoch: Instant,
    tally: RefCell<Tally>,
    delivered: Cell<u64>,
    written: Cell<u64>,
}

/// Measures, on one thread. Blocks.
///
/// # Errors
/// [`BenchError`] if the watches cannot be made. Events that do not come are counted as errors.
pub fn run(title: &str, config: &WatchConfig) -> Result<Report, BenchError> {
    if [config.watchers, config.streams, config.connections, config.writers].contains(&0) {
        return Err(BenchError::Config(
            "watchers, streams, connections and writers must not be 0".into(),
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(measure(title, config)))
}

async fn measure(title: &str, config: &WatchConfig) -> Result<Report, BenchError> {
    let shared = Rc::new(Shared {
        epoch: Instant::now(),
        tally: RefCell::default(),
        delivered: Cell::new(0),
        written: Cell::new(0),
    });
    let connections: Vec<Client> = (0..config.connections)
        .map(|index| {
            let mut own = config.client.clone();
            let endpoints = own.endpoints.len();
            own.endpoints.rotate_left(index % endpoints);
            Client::new(own)
        })
        .collect();
    let streams = config.streams.min(config.watchers);
    let mut readers = Vec::with_capacity(streams);
    for stream in 0..streams {
        let watchers = (stream..config.watchers).step_by(streams).count();
        let client = &connections[stream % connections.len()];
        let (requests, responses) = open(client, &config.key, watchers).await?;
        readers.push(tokio::task::spawn_local(read(requests, responses, Rc::clone(&shared))));
    }
    let cpu = process_cpu();
    let start = Instant::now();
    write_all(config, &connections, &shared).await;
    let expected = shared.written.get() * config.watchers as u64;
    let drain_until = Instant::now() + DRAIN_TIMEOUT;
    let mut last = Instant::now();
    while shared.delivered.get() < expected && Instant::now() < drain_until {
        tokio::time::sleep(Duration::from_millis(1)).await;
        last = Instant::now();
    }
    let client_cpu = process_cpu().saturating_sub(cpu);
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    let missing = expected.saturating_sub(shared.delivered.get());
    let mut tally = shared.tally.borrow().clone();
    if missing > 0 {
        tally.errors.insert("event that did not come".into(), missing);
    }
    let title = format!("{title}, {} writes", shared.written.get());
    Ok(Report { title, tally, elapsed: last - start, client_cpu })
}

/// A stream with its watchers, all of them confirmed.
async fn open(
    client: &Client,
    key: &Bytes,
    watchers: usize,
) -> Result<(Requests<pb::WatchRequest>, Responses<pb::WatchResponse>), BenchError> {
    let create = pb::WatchCreateRequest { key: key.clone(), ..Default::default() };
    let (requests, mut responses) = client.watch_stream(create.clone()).await?;
    let (mut asked, mut created) = (1, 0);
    while created < watchers {
        // Sending and receiving alternate, so that neither side's queue can fill up for good.
        if asked < watchers {
            let union = RequestUnion::CreateRequest(create.clone());
            requests.send(&pb::WatchRequest { request_union: Some(union) }).await;
            asked += 1;
        }
        let answer = responses.message().await.map_err(lost)?;
        created += usize::from(answer.is_some_and(|answer| answer.created));
    }
    Ok((requests, responses))
}

fn lost(failure: client::error::Failure) -> BenchError {
    BenchError::Client(client::Error::Unavailable { attempts: 1, last: failure })
}

async fn read(
    _open: Requests<pb::WatchRequest>,
    mut responses: Responses<pb::WatchResponse>,
    shared: Rc<Shared>,
) {
    while let Ok(Some(response)) = responses.message().await {
        let now = shared.epoch.elapsed();
        let mut tally = shared.tally.borrow_mut();
        for kv in response.events.iter().filter_map(|event| event.kv.as_ref()) {
            if let Some(moment) = kv.value.first_chunk::<8>() {
                let sent = Duration::from_nanos(u64::from_be_bytes(*moment));
                tally.record(now.saturating_sub(sent));
                shared.delivered.set(shared.delivered.get() + 1);
            }
        }
    }
}

/// Writes until it is time to stop; gives back when every write is answered.
async fn write_all(config: &WatchConfig, connections: &[Client], shared: &Rc<Shared>) {
    let length = match config.until {
        Until::Requests(writes) => Some(writes),
        Until::Elapsed(_) => None,
    };
    let bar = bar(config.progress, length, "writes");
    let start = Instant::now();
    let begun = Rc::new(Cell::new(0));
    let writers: Vec<_> = (0..config.writers)
        .map(|index| {
            let client = connections[index % connections.len()].clone();
            let (config, shared, begun, bar) =
                (config.clone(), Rc::clone(shared), Rc::clone(&begun), bar.clone());
            tokio::task::spawn_local(async move {
                let interval = config.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
                loop {
                    let turn: u32 = begun.replace(begun.get() + 1);
                    if let Some(interval) = interval {
                        tokio::time::sleep_until(start + interval * turn).await;
                    }
                    let over = match config.until {
                        Until::Requests(writes) => u64::from(turn) >= writes,
                        Until::Elapsed(duration) => start.elapsed() >= duration,
                    };
                    if over {
                        return;
                    }
                    write_one(&client, &config, &shared).await;
                    bar.inc(1);
                }
            })
        })
        .collect();
    for writer in writers {
        let _only_if_it_panicked = writer.await;
    }
    bar.finish_and_clear();
}

async fn write_one(client: &Client, config: &WatchConfig, shared: &Shared) {
    let mut value = vec![0; config.value_bytes.max(8)];
    let moment = u64::try_from(shared.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
    value[..8].copy_from_slice(&moment.to_be_bytes());
    match client.put(Put::new(config.key.clone(), value)).await {
        Ok(_) => shared.written.set(shared.written.get() + 1),
        Err(error) => {
            *shared.tally.borrow_mut().errors.entry(error.to_string()).or_default() += 1;
        }
    }
}
