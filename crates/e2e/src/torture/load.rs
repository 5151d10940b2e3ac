//! Clients that write, read and watch while the cluster is being hurt, and remember everything.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb as pb;
use proto::method;
use tokio::task::JoinHandle;

use super::check::{Event, FinalState, Recorded, StaleRead, Write};
use crate::differential::generate::Dice;
use crate::rpc::Client;

const WRITERS: u64 = 18;
/// Keys of one writer; few, so that they are overwritten.
const KEYS: u64 = 40;
/// After this long a writer stops waiting, and the outcome is unknown.
const PUT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than any pause, so that a request can sit in a stopped process and be answered when it wakes up.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// A stream that says nothing for so long, under load, is given up.
const WATCH_SILENCE: Duration = Duration::from_secs(2);
/// A pause after an error, so that a member that is away is not asked a thousand times a second.
const BACKOFF: Duration = Duration::from_millis(10);

/// What all clients share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Number of the next put.
    pub next_write: AtomicU64,
    /// Puts acknowledged.
    pub acknowledged: AtomicU64,
    /// The number of the newest put that was acknowledged.
    pub newest_acknowledged: AtomicU64,
    /// Reads answered.
    pub reads: AtomicU64,
    /// Times that the watcher connected again.
    pub watch_resumed: AtomicU64,
    /// The revision up to which the watcher has seen everything.
    pub watched_up_to: AtomicI64,
    /// The highest revision that any answer has confirmed.
    confirmed: AtomicI64,
    writers_stop: AtomicBool,
    all_stop: AtomicBool,
    writes: Mutex<Vec<Write>>,
    events: Mutex<Vec<Event>>,
    stale: Mutex<Vec<StaleRead>>,
    /// The revision of the newest acknowledged put of each key.
    newest: Mutex<BTreeMap<Vec<u8>, i64>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Everything that was seen.
    #[must_use]
    pub fn recorded(&self, finals: Vec<FinalState>) -> Recorded {
        Recorded {
            writes: locked(&self.writes).clone(),
            events: locked(&self.events).clone(),
            stale: locked(&self.stale).clone(),
            finals,
        }
    }
}

/// The running clients.
#[derive(Debug)]
pub struct Load {
    writers: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts them.
    #[must_use]
    pub fn start(shared: &Arc<Shared>, clients: &[Client], seed: u64) -> Self {
        let writers = (0..WRITERS)
            .map(|writer| tokio::spawn(write(Arc::clone(shared), clients.to_vec(), seed, writer)))
            .collect();
        let mut others = Vec::new();
        for (index, client) in clients.iter().enumerate() {
            others.push(tokio::spawn(read(Arc::clone(shared), client.clone(), index, seed)));
        }
        others.push(tokio::spawn(watch(Arc::clone(shared), clients.to_vec())));
        Self { writers, others }
    }

    /// Ends the writers; each finishes the put that it is at.
    pub async fn stop_writers(&self, shared: &Arc<Shared>) {
        shared.writers_stop.store(true, Ordering::SeqCst);
        while !self.writers.iter().all(JoinHandle::is_finished) {
            tokio::time::sleep(BACKOFF).await;
        }
    }

    /// Ends readers and watcher too.
    pub async fn stop(self, shared: &Arc<Shared>) {
        shared.all_stop.store(true, Ordering::SeqCst);
        for task in self.others {
            task.abort();
            let _cancelled = task.await;
        }
    }
}

async fn write(shared: Arc<Shared>, clients: Vec<Client>, seed: u64, writer: u64) {
    let mut dice = Dice::new(seed, 1_000 + writer);
    while !shared.writers_stop.load(Ordering::SeqCst) {
        let number = shared.next_write.fetch_add(1, Ordering::SeqCst) + 1;
        let key = format!("writer-{writer}/{}", dice.below(KEYS)).into_bytes();
        let value = format!("value-{number}").into_bytes();
        let request = pb::PutRequest {
            key: Bytes::from(key.clone()),
            value: Bytes::from(value.clone()),
            ..Default::default()
        };
        // Mostly to a member of its own, so that a member that stands still holds up only some writers.
        let own = usize::try_from(writer).unwrap_or_default() % clients.len();
        let client = if dice.one_in(10) { dice.pick(&clients) } else { clients[own].clone() };
        let call = client.call::<_, pb::PutResponse>(method::kv::PUT, &request);
        let answer = tokio::time::timeout(PUT_TIMEOUT, call).await;
        let acknowledged = match answer {
            Ok(Ok(response)) => response.header.map(|header| header.revision),
            Ok(Err(_)) | Err(_) => None,
        };
        if let Some(revision) = acknowledged {
            let mut newest = locked(&shared.newest);
            let newest = newest.entry(key.clone()).or_insert(revision);
            *newest = revision.max(*newest);
            shared.confirmed.fetch_max(revision, Ordering::SeqCst);
            shared.acknowledged.fetch_add(1, Ordering::SeqCst);
            shared.newest_acknowledged.fetch_max(number, Ordering::SeqCst);
        }
        locked(&shared.writes).push(Write { key, value, acknowledged });
        if acknowledged.is_none() {
            tokio::time::sleep(BACKOFF).await;
        }
    }
}

/// Reads linearizably from one member and compares with what was confirmed before the read began.
async fn read(shared: Arc<Shared>, client: Client, member: usize, seed: u64) {
    let mut dice = Dice::new(seed, 2_000 + member as u64);
    while !shared.all_stop.load(Ordering::SeqCst) {
        let key = format!("writer-{}/{}", dice.below(WRITERS), dice.below(KEYS)).into_bytes();
        let request = pb::RangeRequest { key: Bytes::from(key.clone()), ..Default::default() };
        let confirmed = shared.confirmed.load(Ordering::SeqCst);
        let newest = locked(&shared.newest).get(&key).copied().unwrap_or(0);
        let call = client.call::<_, pb::RangeResponse>(method::kv::RANGE, &request);
        let Ok(Ok(answer)) = tokio::time::timeout(READ_TIMEOUT, call).await else {
            tokio::time::sleep(BACKOFF).await;
            continue;
        };
        shared.reads.fetch_add(1, Ordering::Relaxed);
        let revision = answer.header.map_or(0, |header| header.revision);
        let seen = answer.kvs.first().map_or(0, |kv| kv.mod_revision);
        shared.confirmed.fetch_max(revision, Ordering::SeqCst);
        if revision < confirmed || seen < newest {
            locked(&shared.stale).push(StaleRead {
                member,
                key,
                confirmed,
                revision,
                newest,
                seen,
            });
        }
    }
}

/// Watches everything from revision 1 on, over reconnections, each to the next member. The first is
/// the leader: which member leads next is not chance, and the watcher must meet a leader's end.
async fn watch(shared: Arc<Shared>, clients: Vec<Client>) {
    let mut next_revision = 1;
    let first = super::leader(&clients).await.unwrap_or(0);
    for turn in 0_usize.. {
        if turn > 0 {
            shared.watch_resumed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(BACKOFF).await;
        }
        let client = &clients[(first + turn) % clients.len()];
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            start_revision: next_revision,
            ..Default::default()
        };
        let request = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        if sender.send(Bytes::from(request.encode_to_vec())).await.is_err() {
            continue;
        }
        let opened =
            tokio::time::timeout(WATCH_SILENCE, client.stream(method::watch::WATCH, receiver))
                .await;
        let Ok(Ok(mut stream)) = opened else { continue };
        while let Ok(Ok(Some(message))) =
            tokio::time::timeout(WATCH_SILENCE, stream.message()).await
        {
            let Ok(response) = pb::WatchResponse::decode(message) else { break };
            if response.canceled {
                break;
            }
            take(&shared, response, &mut next_revision);
        }
        drop(sender);
    }
}

/// One response; everything in it is kept, repeated or not, for the check to see.
fn take(shared: &Arc<Shared>, response: pb::WatchResponse, next_revision: &mut i64) {
    let mut events = locked(&shared.events);
    for event in response.events {
        let Some(kv) = event.kv else { continue };
        *next_revision = kv.mod_revision + 1;
        events.push(Event {
            revision: kv.mod_revision,
            key: kv.key.to_vec(),
            value: (event.r#type == 0).then(|| kv.value.to_vec()),
        });
    }
    shared.watched_up_to.store(*next_revision - 1, Ordering::SeqCst);
}
