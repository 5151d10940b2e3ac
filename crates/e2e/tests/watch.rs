//! Watch streams over gRPC: the same requests and writes to a real etcd and to the server under test, and every
//! response in order compared whole.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use e2e::cluster::Cluster;
use e2e::ctl::both;
use e2e::rpc::{Client, block_on};
use e2e::tools::{Program, oracle, subject};
use prost::Message;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::method;
use tokio::sync::mpsc::Sender;
use tonic::codec::Streaming;

/// A response must come within this.
const SOON: Duration = Duration::from_secs(5);
/// No response comes in this: what is not sent is part of the contract.
const SILENCE: Duration = Duration::from_millis(400);

/// The watch that opens a stream.
const OPENER: i64 = 1 << 40;

struct Script {
    client: Client,
    requests: Sender<Bytes>,
    responses: Streaming<Bytes>,
    seen: Vec<String>,
    /// Where the store is, as the last write said.
    newest: i64,
    /// The start of the watch that was just asked for, if that is in the past.
    past: Option<i64>,
    is_etcd: bool,
}

impl Script {
    async fn start(endpoint: &str, is_etcd: bool) -> Result<Self> {
        let client = Client::new(endpoint)?;
        let (requests, receiver) = tokio::sync::mpsc::channel(64);
        // The first message goes ahead of the answer's headers, which some servers send only with
        // the first answer. Every server answers a watch that begins; it is ended again below.
        let opener = pb::WatchCreateRequest { watch_id: OPENER, ..create("opener", "") };
        let first = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(opener)) };
        requests.send(Bytes::from(first.encode_to_vec())).await?;
        let stream =
            tokio::time::timeout(SOON, client.stream(method::watch::WATCH, receiver)).await?;
        let responses = stream.map_err(|error| anyhow::anyhow!("watch: {error:?}"))?;
        let (seen, newest, past) = (Vec::new(), 1, None);
        let mut script = Self { client, requests, responses, seen, newest, past, is_etcd };
        script.drain().await?;
        script.cancel(OPENER).await?;
        script.seen.clear();
        Ok(script)
    }

    async fn send(&mut self, union: RequestUnion) -> Result<()> {
        self.seen.push(format!("> {union:?}"));
        let request = pb::WatchRequest { request_union: Some(union) };
        self.requests.send(Bytes::from(request.encode_to_vec())).await?;
        Ok(())
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) -> Result<()> {
        let start = create.start_revision;
        self.past = (1..=self.newest).contains(&start).then_some(start);
        self.send(RequestUnion::CreateRequest(create)).await?;
        self.drain().await?;
        self.past = None;
        Ok(())
    }

    async fn cancel(&mut self, watch_id: i64) -> Result<()> {
        self.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })).await?;
        self.drain().await
    }

    async fn progress(&mut self) -> Result<()> {
        self.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await?;
        self.drain().await
    }

    /// Takes responses until none comes any more. Responses of different watches may come in any order, so what
    /// comes at once is sorted by watch; the order within a watch stays. How events are cut into responses is
    /// chance when a watch catches up, so consecutive responses of one watch are told event by event.
    async fn drain(&mut self) -> Result<()> {
        let mut lines: Vec<(i64, String)> = Vec::new();
        while let Ok(message) = tokio::time::timeout(SILENCE, self.responses.message()).await {
            let Some(message) = message? else {
                lines.push((i64::MAX, "end of the stream".to_owned()));
                break;
            };
            let mut response = pb::WatchResponse::decode(message)?;
            let header = response.header.take().context("a response without a header")?;
            ensure!(
                header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0,
                "{header:?}"
            );
            let newest = response
                .events
                .iter()
                .filter_map(|event| event.kv.as_ref())
                .map(|kv| kv.mod_revision)
                .max();
            ensure!(
                newest.unwrap_or(0) <= header.revision,
                "the header is behind its events: {header:?}"
            );
            let events = std::mem::take(&mut response.events);
            let id = response.watch_id;
            if let (true, false, Some(start)) = (response.created, response.canceled, self.past) {
                // A real etcd puts its newest revision there even if the watch begins in the past. Ours never says
                // more than was delivered, because clients resume after it.
                ensure!(
                    self.is_etcd || header.revision < start,
                    "{header:?} for a start at {start}"
                );
                lines.push((id, format!("{response:?}")));
            } else if events.is_empty() {
                lines.push((id, format!("revision {}: {response:?}", header.revision)));
            }
            lines.extend(events.into_iter().map(|event| (id, format!("watch {id}: {event:?}"))));
        }
        lines.sort_by_key(|(id, _)| *id);
        self.seen.extend(lines.into_iter().map(|(_, line)| line));
        Ok(())
    }

    async fn put(&mut self, key: &str, value: &str) -> Result<()> {
        let request = pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() };
        let answer: pb::PutResponse = self.call(method::kv::PUT, &request).await?;
        self.newest = answer.header.context("a put's answer without a header")?.revision;
        self.seen.push(format!("put {key}: {}", self.newest));
        Ok(())
    }

    async fn delete(&mut self, key: &str, end: &str) -> Result<()> {
        let request =
            pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() };
        let answer: pb::DeleteRangeResponse = self.call(method::kv::DELETE_RANGE, &request).await?;
        self.newest = answer.header.context("a delete's answer without a header")?.revision;
        self.seen.push(format!("delete {key}: {} at {}", answer.deleted, self.newest));
        Ok(())
    }

    async fn compact(&mut self, revision: i64) -> Result<()> {
        let request = pb::CompactionRequest { revision, physical: true };
        let _answer: pb::CompactionResponse = self.call(method::kv::COMPACT, &request).await?;
        Ok(())
    }

    async fn call<Q: Message, A: Message + Default>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Result<A> {
        self.client.call(path, request).await.map_err(|error| anyhow::anyhow!("{path}: {error:?}"))
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn create(key: &str, end: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

/// Plays a script on one member of a program; what was seen.
fn play(
    program: &Program,
    script: &impl AsyncFn(&mut Script) -> Result<()>,
) -> Result<Vec<String>> {
    let mut cluster = Cluster::start(program, 1)?;
    let endpoint = cluster.endpoints();
    let seen = block_on(async {
        let mut running = Script::start(&endpoint, program.is_etcd()).await?;
        script(&mut running).await?;
        Ok(running.seen)
    })?;
    cluster.check_alive()?;
    Ok(seen)
}

/// Plays a script on both and compares what was seen.
fn check(script: impl AsyncFn(&mut Script) -> Result<()> + Sync) {
    let (oracle, subject) =
        (oracle().expect("etcd 3.7"), subject().expect("the server under test"));
    let (expected, found) = both(|| play(&oracle, &script), || play(&subject, &script))
        .unwrap_or_else(|error| panic!("{error:#}"));
    for (at, (expected, found)) in expected.iter().zip(&found).enumerate() {
        assert_eq!(expected, found, "line {at} (left: etcd)");
    }
    assert_eq!(expected, found, "one saw more (left: etcd)");
    assert!(
        expected.iter().any(|line| line.contains("watch") || line.contains("canceled")),
        "{expected:?}"
    );
}

/// Two streams that differ in one option, or in one event, are told apart; two that do not are not.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn the_test_itself() {
    let seen = |prev_kv: bool, puts: usize| {
        let program = oracle().expect("etcd 3.7");
        let script = async move |s: &mut Script| {
            s.create(pb::WatchCreateRequest { prev_kv, ..create("a", "") }).await?;
            // What was asked is not what is compared here.
            s.seen.clear();
            for _ in 0..puts {
                s.put("a", "1").await?;
            }
            s.drain().await
        };
        let mut lines = play(&program, &script).expect("on a real etcd");
        lines.retain(|line| line.starts_with("watch"));
        lines
    };
    let plain = seen(false, 2);
    assert_eq!(plain.len(), 2);
    assert_eq!(plain, seen(false, 2));
    assert_ne!(plain, seen(true, 2));
    assert_ne!(plain, seen(false, 3));
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn live_events() {
    check(async |s| {
        s.create(create("a", "")).await?;
        s.create(pb::WatchCreateRequest { prev_kv: true, ..create("a", "b") }).await?;
        s.create(create("\0", "\0")).await?;
        s.create(create("", "")).await?;
        for _ in 0..2 {
            s.put("a", "1").await?;
            s.put("a", "2").await?;
            s.put("a/x", "3").await?;
            s.put("b", "4").await?;
            s.delete("a", "b").await?;
            s.delete("a", "b").await?;
            s.drain().await?;
        }
        Ok(())
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn from_a_revision() {
    check(async |s| {
        for round in 0..4 {
            s.put("a", &round.to_string()).await?;
            s.put("b", &round.to_string()).await?;
            s.delete("a", "").await?;
        }
        for start_revision in [1, 2, 5, 13, 14, 20] {
            s.create(pb::WatchCreateRequest { start_revision, prev_kv: true, ..create("a", "c") })
                .await?;
        }
        // Up to, and past, the future start.
        for round in 0..10 {
            s.put("a", &round.to_string()).await?;
            s.drain().await?;
        }
        Ok(())
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn compacted_starts() {
    check(async |s| {
        for round in 0..10 {
            s.put("a", &round.to_string()).await?;
        }
        s.compact(6).await?;
        for start_revision in [-1, i64::MIN, 1, 5, 6, 7] {
            s.create(pb::WatchCreateRequest { start_revision, ..create("a", "") }).await?;
        }
        s.put("a", "end").await?;
        s.drain().await
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn ids_and_cancelling() {
    check(async |s| {
        s.create(pb::WatchCreateRequest { watch_id: 7, ..create("a", "") }).await?;
        s.create(pb::WatchCreateRequest { watch_id: 7, ..create("b", "") }).await?;
        s.create(create("c", "")).await?;
        s.create(create("c", "")).await?;
        s.create(pb::WatchCreateRequest { watch_id: -5, ..create("d", "") }).await?;
        s.put("a", "1").await?;
        s.put("c", "1").await?;
        s.put("d", "1").await?;
        s.drain().await?;
        s.cancel(7).await?;
        s.cancel(7).await?;
        s.cancel(1_000).await?;
        s.put("a", "2").await?;
        s.drain().await?;
        s.create(pb::WatchCreateRequest { watch_id: 7, ..create("a", "") }).await?;
        s.put("a", "3").await?;
        s.drain().await
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn filters_and_odd_spans() {
    check(async |s| {
        s.create(pb::WatchCreateRequest { filters: vec![0], ..create("a", "z") }).await?;
        s.create(pb::WatchCreateRequest { filters: vec![1], ..create("a", "z") }).await?;
        s.create(pb::WatchCreateRequest { filters: vec![0, 1], ..create("a", "z") }).await?;
        s.create(pb::WatchCreateRequest {
            filters: vec![0],
            start_revision: 1,
            ..create("a", "z")
        })
        .await?;
        s.create(create("b", "a")).await?;
        s.create(create("b", "b")).await?;
        s.create(create("m", "\0")).await?;
        s.create(create("", "b")).await?;
        for key in ["a", "b", "n"] {
            s.put(key, "1").await?;
            s.delete(key, "").await?;
        }
        s.drain().await
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn progress_requests() {
    check(async |s| {
        s.put("a", "0").await?;
        s.create(create("a", "")).await?;
        s.progress().await?;
        s.put("other", "1").await?;
        s.drain().await?;
        s.progress().await?;
        s.put("a", "1").await?;
        s.drain().await?;
        s.progress().await?;
        // No answer while a watcher waits for the future, and again when none does.
        s.create(pb::WatchCreateRequest { watch_id: 9, start_revision: 12, ..create("b", "") })
            .await?;
        s.progress().await?;
        s.put("a", "2").await?;
        s.drain().await?;
        s.progress().await?;
        s.cancel(9).await?;
        s.progress().await?;
        s.create(pb::WatchCreateRequest { start_revision: 9, ..create("b", "") }).await?;
        s.progress().await?;
        for _ in 0..4 {
            s.put("other", "2").await?;
        }
        s.drain().await?;
        s.progress().await
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn one_revision_of_many_events() {
    check(async |s| {
        for number in 0..60 {
            s.put(&format!("a/{number:02}"), "x").await?;
        }
        s.create(pb::WatchCreateRequest { prev_kv: true, ..create("a/", "a0") }).await?;
        s.create(pb::WatchCreateRequest { start_revision: 1, ..create("a/", "a0") }).await?;
        s.delete("a/", "a0").await?;
        s.drain().await
    });
}
