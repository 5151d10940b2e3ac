//! The door with a state machine behind it, seen by a client that may be rude.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/client.rs"]
mod client;
mod support;

use std::time::Duration;

use bytes::Bytes;
use client::{Call, Client, Failure, framed};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::method::{kv, lock, maintenance, watch};
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use server::{Config, Server};
use sha2::Digest as _;
use support::{CLUSTER, MEMBER, Memory};

const ELECTION_TIMEOUT: Duration = Duration::from_millis(50);

struct World {
    server: Server,
    memory: Memory,
    client: Client,
}

async fn world() -> World {
    world_with(Config::default()).await
}

async fn world_with(config: Config) -> World {
    let memory = Memory::new();
    let config = Config {
        listen_client_urls: vec!["http://127.0.0.1:0".to_owned()],
        election_timeout: ELECTION_TIMEOUT,
        limits: etcd::Limits { stream_chunk_bytes: 4096, ..etcd::Limits::default() },
        ..config
    };
    let server = Server::start(config, memory.clone()).unwrap();
    let client = Client::connect(server.client_addresses()[0]).await;
    World { server, memory, client }
}

async fn put(client: &Client, key: &str, value: &str) -> pb::PutResponse {
    let request = pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    client.unary(kv::PUT, &request).await.unwrap()
}

fn all() -> pb::RangeRequest {
    let zero = Bytes::from_static(b"\0");
    pb::RangeRequest { key: zero.clone(), range_end: zero, ..Default::default() }
}

async fn watch_all(client: &Client, headers: &[(&'static str, &str)], start: i64) -> Call {
    let create = pb::WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: start,
        ..Default::default()
    };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    client.call(watch::WATCH, headers, framed(&request)).await
}

async fn revisions(call: &mut Call, count: usize) -> Vec<i64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let answer: pb::WatchResponse = call.next().await.unwrap();
        seen.extend(answer.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
    }
    seen
}

#[tokio::test]
async fn what_is_put_is_read_and_headers_say_who_answers() {
    let world = world().await;
    let answer = put(&world.client, "k", "v").await;
    let header = answer.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id, header.revision), (CLUSTER, MEMBER, 2));
    let list: pb::RangeResponse = world.client.unary(kv::RANGE, &all()).await.unwrap();
    assert_eq!(list.header, Some(header));
    assert_eq!((list.count, &list.kvs[0].value[..]), (1, &b"v"[..]));
}

#[tokio::test]
async fn faults_of_the_protocol_have_grpcs_words() {
    let world = world().await;
    let raw = async |path: &str, body: &'static [u8]| -> Failure {
        let outcome = world.client.raw::<pb::PutResponse>(path, &[], Bytes::from_static(body));
        outcome.await.unwrap_err()
    };
    let (code, text) = raw(kv::PUT, b"").await;
    assert!(code == 13 && text.contains("no request message"), "{code} {text}");
    assert_eq!(raw(kv::PUT, b"\0\0\0\0\x09abc").await, (13, "unexpected EOF".into()));
    let (code, text) = raw(kv::PUT, b"\0\0\0\0\x03\x0a\xff\xff").await;
    assert!(code == 13 && text.contains("error unmarshalling request"), "{code} {text}");
    assert_eq!(
        raw("/etcdserverpb.KV/Frob", b"\0\0\0\0\0").await,
        (12, "unknown method Frob for service etcdserverpb.KV".into())
    );
    assert_eq!(raw("/no.Service/Call", b"").await, (12, "unknown service no.Service".into()));
    // The connection has survived all of it.
    put(&world.client, "k", "v").await;
}

#[tokio::test]
async fn too_large_is_etcds_error_and_far_too_large_is_grpcs() {
    let world = world().await;
    let request = |bytes: usize| pb::PutRequest {
        key: "k".into(),
        value: vec![0; bytes].into(),
        ..Default::default()
    };
    let refused = async |bytes: usize| -> Failure {
        world.client.unary::<pb::PutResponse>(kv::PUT, &request(bytes)).await.unwrap_err()
    };
    assert_eq!(refused(1_600_000).await, (3, "etcdserver: request is too large".into()));
    let (code, text) = refused(3_000_000).await;
    assert_eq!(code, 8);
    assert!(text.starts_with("grpc: received message larger than max (30000"), "{text}");
    assert!(text.ends_with("vs. 2097152)"), "{text}");
}

#[tokio::test]
async fn a_streamed_range_is_the_same_list_in_parts() {
    let world = world().await;
    for number in 0..600 {
        put(&world.client, &format!("k{number:04}"), &"v".repeat(40)).await;
    }
    for limit in [0, 1, 599, 600, 601] {
        let request = pb::RangeRequest { limit, ..all() };
        // More keys than are read on the door's own thread.
        let whole: pb::RangeResponse = world.client.unary(kv::RANGE, &request).await.unwrap();
        let mut call = world.client.stream(kv::RANGE_STREAM, &request).await;
        let (mut kvs, mut parts, mut last) = (Vec::new(), 0, pb::RangeResponse::default());
        while let Some(part) = call.next::<pb::RangeStreamResponse>().await {
            assert_eq!(last.header, None, "only the last part has a header");
            last = part.range_response.unwrap();
            kvs.append(&mut last.kvs);
            parts += 1;
        }
        call.end().await.unwrap();
        assert!(limit == 1 || parts > 5, "{parts} parts");
        assert_eq!(pb::RangeResponse { kvs, ..last }, whole, "limit {limit}");
    }
    let sorted = pb::RangeRequest { sort_order: 2, ..all() };
    let call = world.client.raw::<pb::RangeStreamResponse>(kv::RANGE_STREAM, &[], framed(&sorted));
    assert_eq!(call.await.unwrap_err().0, 12);
}

#[tokio::test]
async fn a_watch_sees_every_revision_once_even_when_its_feed_is_cut() {
    let world = world().await;
    put(&world.client, "a", "1").await;
    let mut call = watch_all(&world.client, &[], 1).await;
    let created: pb::WatchResponse = call.next().await.unwrap();
    assert!(created.created);
    for number in 0..200 {
        if number % 50 == 25 {
            world.memory.cut_feeds();
        }
        put(&world.client, "a", &number.to_string()).await;
    }
    assert_eq!(revisions(&mut call, 201).await, (2..=202).collect::<Vec<_>>());
    // Nothing comes twice afterwards either.
    put(&world.client, "a", "last").await;
    assert_eq!(revisions(&mut call, 1).await, [203]);
}

#[tokio::test]
async fn who_requires_a_leader_is_told_when_there_is_none() {
    let world = world().await;
    let requiring = [("hasleader", "true")];
    let mut strict = watch_all(&world.client, &requiring, 0).await;
    let mut patient = watch_all(&world.client, &[], 0).await;
    for call in [&mut strict, &mut patient] {
        assert!(call.next::<pb::WatchResponse>().await.unwrap().created);
    }
    world.memory.set_leader(false);
    assert_eq!(strict.end().await, Err((14, "etcdserver: no leader".into())));
    let serializable = framed(&pb::RangeRequest { serializable: true, ..all() });
    let refused =
        world.client.raw::<pb::RangeResponse>(kv::RANGE, &requiring, serializable.clone());
    assert_eq!(refused.await, Err((14, "etcdserver: no leader".into())));
    world.client.raw::<pb::RangeResponse>(kv::RANGE, &[], serializable).await.unwrap();
    world.memory.set_leader(true);
    put(&world.client, "a", "1").await;
    assert_eq!(revisions(&mut patient, 1).await, [2]);
}

#[tokio::test]
async fn learners_answer_what_is_serializable() {
    let world = world().await;
    world.memory.set_learner(true);
    let learner = Err((9, "etcdserver: rpc not supported for learner".into()));
    let read = world.client.unary::<pb::RangeResponse>(kv::RANGE, &all()).await;
    assert_eq!(read.map(|_| ()), learner);
    let request = pb::PutRequest { key: "k".into(), ..Default::default() };
    assert_eq!(world.client.unary::<pb::PutResponse>(kv::PUT, &request).await.map(|_| ()), learner);
    assert_eq!(watch_all(&world.client, &[], 0).await.end().await, learner);
    let request = pb::RangeRequest { serializable: true, ..all() };
    world.client.unary::<pb::RangeResponse>(kv::RANGE, &request).await.unwrap();
    let status: pb::StatusResponse =
        world.client.unary(maintenance::STATUS, &pb::StatusRequest {}).await.unwrap();
    assert!(status.is_learner);
}

#[tokio::test]
async fn a_lock_goes_to_the_next_in_line_and_not_to_who_has_left() {
    let world = world().await;
    let request = || framed(&LockRequest { name: "l".into(), lease: 0 });
    let first: LockResponse = world.client.raw(lock::LOCK, &[], request()).await.unwrap();
    // Leaves before it is its turn.
    let impatient = [("grpc-timeout", "200m")];
    let gone = world.client.raw::<LockResponse>(lock::LOCK, &impatient, request()).await;
    assert_eq!(gone.unwrap_err().0, 4);
    let waiting = world.client.raw::<LockResponse>(lock::LOCK, &[], request());
    let unlock = async {
        let request = UnlockRequest { key: first.key.clone() };
        world.client.unary::<UnlockResponse>(lock::UNLOCK, &request).await.unwrap();
    };
    let (second, ()) = tokio::join!(waiting, unlock);
    let list: pb::RangeResponse = world.client.unary(kv::RANGE, &all()).await.unwrap();
    assert_eq!(list.kvs.len(), 1, "the key of who left is gone");
    assert_eq!(list.kvs[0].key, second.unwrap().key);
}

#[tokio::test]
async fn a_snapshot_is_sectors_and_their_digest() {
    let world = world().await;
    for number in 0..300 {
        put(&world.client, &format!("k{number}"), "v").await;
    }
    let compact = pb::CompactionRequest { revision: 100, physical: false };
    world.client.unary::<pb::CompactionResponse>(kv::COMPACT, &compact).await.unwrap();
    let mut call = world.client.stream(maintenance::SNAPSHOT, &pb::SnapshotRequest {}).await;
    let (mut file, mut remaining) = (Vec::new(), u64::MAX);
    while let Some(part) = call.next::<pb::SnapshotResponse>().await {
        assert!(part.remaining_bytes <= remaining);
        remaining = part.remaining_bytes;
        file.extend_from_slice(&part.blob);
    }
    call.end().await.unwrap();
    assert_eq!((remaining, file.len() % 512), (0, 32));
    let (database, digest) = file.split_at(file.len() - 32);
    assert_eq!(digest, &sha2::Sha256::digest(database)[..]);
}

#[tokio::test]
async fn a_snapshot_leaves_room_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot_dir = dir.path().join("snapshots");
    std::fs::create_dir(&snapshot_dir).unwrap();
    std::fs::write(snapshot_dir.join("left behind"), b"by a crash").unwrap();
    let config = Config { snapshot_dir: snapshot_dir.clone(), ..Config::default() };
    let roomy = world_with(config.clone()).await;
    let files = || std::fs::read_dir(&snapshot_dir).unwrap().count();
    assert_eq!(files(), 0, "what a crash has left is removed");
    let mut call = roomy.client.stream(maintenance::SNAPSHOT, &pb::SnapshotRequest {}).await;
    assert!(call.next::<pb::SnapshotResponse>().await.is_some());
    assert_eq!(files(), 0, "the file has no name");

    let full = world_with(Config { snapshot_reserve_bytes: u64::MAX, ..config }).await;
    let mut call = full.client.stream(maintenance::SNAPSHOT, &pb::SnapshotRequest {}).await;
    assert!(call.next::<pb::SnapshotResponse>().await.is_none());
    let (code, text) = call.end().await.unwrap_err();
    assert_eq!(code, 8, "RESOURCE_EXHAUSTED");
    assert!(text.contains("no room for a snapshot"), "{text}");
}

/// The first line of the answer to a plain GET.
fn status_line(address: std::net::SocketAddr, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn plain_http_is_served_where_the_settings_say() {
    let both = world().await;
    let address = both.server.client_addresses()[0];
    let line = tokio::task::spawn_blocking(move || status_line(address, "/health")).await.unwrap();
    assert!(line.contains("200"), "{line}");
    let listen_http_urls = vec!["http://127.0.0.1:0".to_owned()];
    let apart = world_with(Config { listen_http_urls, ..Config::default() }).await;
    put(&apart.client, "k", "v").await;
    let (grpc, http) = (apart.server.client_addresses()[0], apart.server.http_addresses()[0]);
    let lines = tokio::task::spawn_blocking(move || {
        [grpc, http].map(|address| status_line(address, "/health"))
    });
    let [at_grpc, at_http] = lines.await.unwrap();
    assert!(at_grpc.contains("404") && at_http.contains("200"), "{at_grpc} {at_http}");
}

#[tokio::test]
async fn a_server_that_stops_ends_streams_with_a_status_and_frees_its_port() {
    let world = world().await;
    let mut call = watch_all(&world.client, &[], 0).await;
    assert!(call.next::<pb::WatchResponse>().await.unwrap().created);
    let address = world.server.client_addresses()[0];
    let stopping = tokio::task::spawn_blocking(move || world.server.shutdown());
    assert_eq!(call.end().await, Err((14, "etcdserver: server stopped".into())));
    stopping.await.unwrap();
    std::net::TcpListener::bind(address).unwrap();
}

/// The holder lets go while the door's feed of changes is cut (a snapshot was installed, or the
/// door did not keep up). Who waits must get the lock all the same.
#[tokio::test]
async fn a_lock_is_given_though_its_release_was_not_in_the_feed() {
    use server::Backend as _;
    let world = world().await;
    let request = || framed(&LockRequest { name: "l".into(), lease: 0 });
    let first: LockResponse = world.client.raw(lock::LOCK, &[], request()).await.unwrap();
    let waiting = world.client.raw::<LockResponse>(lock::LOCK, &[], request());
    let release = async {
        until_queue_is(&world.client, 2).await;
        world.memory.cut_feeds();
        let delete = pb::DeleteRangeRequest { key: first.key.clone(), ..Default::default() };
        world.memory.execute(etcd::Request::DeleteRange(delete)).await.unwrap();
        // The door follows again from here on, and commits come as ever.
        for number in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            put(&world.client, "other", &number.to_string()).await;
        }
    };
    let both = async { tokio::join!(waiting, release) };
    let (second, ()) = tokio::time::timeout(Duration::from_secs(10), both)
        .await
        .expect("the lock is free, and whoever waits for it does not get it");
    second.unwrap();
}

/// Whoever is told that he does not get the lock is in nobody's way (etcd's Mutex.Lock: "release lock key
/// if wait failed").
#[tokio::test]
async fn who_waits_for_a_lock_and_fails_leaves_the_queue() {
    let world = world().await;
    for (id, ttl) in [(1, 2), (2, 600)] {
        let grant = pb::LeaseGrantRequest { id, ttl };
        let method = proto::method::lease::GRANT;
        world.client.unary::<pb::LeaseGrantResponse>(method, &grant).await.unwrap();
    }
    let request = |lease| framed(&LockRequest { name: "l".into(), lease });
    world.client.raw::<LockResponse>(lock::LOCK, &[], request(1)).await.unwrap();
    let waiting = world.client.raw::<LockResponse>(lock::LOCK, &[], request(2));
    let no_leader = async {
        until_queue_is(&world.client, 2).await;
        // The first lease ends meanwhile; whoever waits looks, and there is no leader to confirm what it sees.
        world.memory.set_leader(false);
        while world.memory.reads_refused() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.memory.set_leader(true);
    };
    let both = async { tokio::join!(waiting, no_leader) };
    let (second, ()) = tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .expect("whoever waits looks again when the first lease has ended");
    assert_eq!(second.unwrap_err(), (14, "etcdserver: no leader".into()));
    // Told that it failed: then it does not hold the lock either.
    until_queue_is(&world.client, 0).await;
}

/// Waits until so many keys are there: those of who has a lock and of who waits for it.
async fn until_queue_is(client: &Client, keys: i64) {
    let request = pb::RangeRequest { serializable: true, count_only: true, ..all() };
    let queue = async {
        loop {
            let answer: pb::RangeResponse = client.unary(kv::RANGE, &request).await.unwrap();
            if answer.count == keys {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), queue).await.expect("the queue has that length");
}
