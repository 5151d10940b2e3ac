//! The same watches on a real etcd and on the hub.
//!
//! Runs only with `QUORATE_PEERS=1`; then a missing etcd is a failure. `QUORATE_PEERS_PATH` is a
//! list of directories like `PATH`; the first one with an `etcd` counts.
//!
//! The real one is asked through its JSON gateway, which takes all requests of a stream at once;
//! what happens afterwards is written through other connections. Answers are compared whole, per
//! watch, in their order. Two headers differ on purpose and are left out: that of a creation in
//! the past, and those of catching up in several answers.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use etcd::Request;
use etcd::watch::{Config, Hub, Limits};
use prost::Message as _;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::mvccpb;
use serde_json::{Value, json};
use support::Solo;

const PORT: u16 = 12_412;

/// How long anything may take to come.
const WAIT: Duration = Duration::from_secs(20);

/// How long nothing more may come before it counts as nothing.
const SILENCE: Duration = Duration::from_millis(400);

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let index = usize::try_from(word >> (18 - 6 * digit) & 63).unwrap();
            text.push(if digit <= group.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

struct Etcd {
    child: Child,
    _data: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Option<Self> {
        if std::env::var("QUORATE_PEERS").as_deref() != Ok("1") {
            eprintln!("QUORATE_PEERS is not 1: not comparing with real etcd");
            return None;
        }
        let variable = |name| std::env::var_os(name);
        let path = variable("QUORATE_PEERS_PATH").or_else(|| variable("PATH")).unwrap();
        let programs: Vec<PathBuf> =
            std::env::split_paths(&path).map(|directory| directory.join("etcd")).collect();
        let program = programs.iter().find(|program| program.is_file());
        let program = program.expect("QUORATE_PEERS=1, but there is no etcd");
        let data = tempfile::tempdir().unwrap();
        let (client, peer) = (format!("http://127.0.0.1:{PORT}"), "http://127.0.0.1:12413");
        let mut child = Command::new(program)
            .args(["--name", "m1", "--data-dir", data.path().to_str().unwrap()])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", &format!("m1={peer}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (ready, served) = mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains("serving insecure client requests")
                    || line.contains("serving client traffic insecurely")
                {
                    let _ = ready.send(());
                }
            }
        });
        let etcd = Self { child, _data: data };
        served.recv_timeout(WAIT).expect("etcd serves");
        Some(etcd)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], PORT))).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    stream
}

fn post(path: &str, body: &Value) -> Value {
    let mut answer = String::new();
    connect(path, &body.to_string()).read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{path}: {answer}");
    serde_json::from_str(body).unwrap()
}

/// Something that changes the keys.
#[derive(Clone)]
enum Change {
    Put(&'static str, &'static str),
    Delete(&'static str, &'static str),
    /// All in one transaction.
    PutAll(Vec<(&'static str, String)>),
    Compact(i64),
}

impl Change {
    fn to_etcd(&self) {
        match self {
            Change::Put(key, value) => {
                let body =
                    json!({"key": base64(key.as_bytes()), "value": base64(value.as_bytes())});
                post("/v3/kv/put", &body);
            }
            Change::Delete(key, end) => {
                let (key, end) = (base64(key.as_bytes()), base64(end.as_bytes()));
                post("/v3/kv/deleterange", &json!({"key": key, "range_end": end}));
            }
            Change::PutAll(puts) => {
                let put = |(key, value): &(&str, String)| {
                    let (key, value) = (base64(key.as_bytes()), base64(value.as_bytes()));
                    json!({"request_put": {"key": key, "value": value}})
                };
                let puts: Vec<_> = puts.iter().map(put).collect();
                post("/v3/kv/txn", &json!({ "success": puts }));
            }
            Change::Compact(revision) => {
                post("/v3/kv/compaction", &json!({ "revision": revision.to_string() }));
            }
        }
    }

    fn to_machine(&self) -> Request {
        let put = |key: &str, value: &str| pb::PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Default::default()
        };
        match self {
            Change::Put(key, value) => Request::Put(put(key, value)),
            Change::Delete(key, end) => Request::DeleteRange(pb::DeleteRangeRequest {
                key: (*key).into(),
                range_end: (*end).into(),
                prev_kv: false,
            }),
            Change::PutAll(puts) => {
                let op = |(key, value): &(&str, String)| pb::RequestOp {
                    request: Some(Op::RequestPut(put(key, value))),
                };
                let success = puts.iter().map(op).collect();
                Request::Txn(pb::TxnRequest { success, ..Default::default() })
            }
            Change::Compact(revision) => {
                Request::Compact(pb::CompactionRequest { revision: *revision, physical: true })
            }
        }
    }
}

fn to_json(request: &RequestUnion) -> Value {
    match request {
        RequestUnion::CreateRequest(create) => json!({"create_request": {
            "key": base64(&create.key),
            "range_end": base64(&create.range_end),
            "start_revision": create.start_revision.to_string(),
            "progress_notify": create.progress_notify,
            "filters": create.filters,
            "prev_kv": create.prev_kv,
            "watch_id": create.watch_id.to_string(),
            "fragment": create.fragment,
        }}),
        RequestUnion::CancelRequest(cancel) => {
            json!({"cancel_request": {"watch_id": cancel.watch_id.to_string()}})
        }
        RequestUnion::ProgressRequest(_) => json!({"progress_request": {}}),
    }
}

/// Large values by their beginning and length: enough to tell them apart, and readable.
fn short(text: String) -> String {
    if text.len() < 100 { text } else { format!("{}.. {}", &text[..8], text.len()) }
}

type Version = Option<(String, String, i64, i64, i64)>;

/// An answer in a form both sides have.
#[derive(Debug, PartialEq)]
struct Answer {
    created: bool,
    canceled: bool,
    compact_revision: i64,
    reason: String,
    fragment: bool,
    revision: i64,
    events: Vec<(bool, Version, Version)>,
}

fn int(value: &Value) -> i64 {
    value.as_str().map_or(0, |text| text.parse().unwrap())
}

fn version(value: &Value) -> Version {
    let text = |name: &str| value[name].as_str().unwrap_or("").to_owned();
    let number = |name: &str| int(&value[name]);
    value.as_object()?;
    let numbers = (number("create_revision"), number("mod_revision"), number("version"));
    Some((text("key"), short(text("value")), numbers.0, numbers.1, numbers.2))
}

fn from_json(line: &str) -> (i64, Answer) {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    let result = &value["result"];
    let flag = |name: &str| result[name].as_bool().unwrap_or(false);
    let events = result["events"].as_array().map_or(&[][..], Vec::as_slice);
    let event = |event: &Value| {
        (event["type"] == "DELETE", version(&event["kv"]), version(&event["prev_kv"]))
    };
    let answer = Answer {
        created: flag("created"),
        canceled: flag("canceled"),
        compact_revision: int(&result["compact_revision"]),
        reason: result["cancel_reason"].as_str().unwrap_or("").to_owned(),
        fragment: flag("fragment"),
        revision: int(&result["header"]["revision"]),
        events: events.iter().map(event).collect(),
    };
    (int(&result["watch_id"]), answer)
}

fn from_hub(bytes: Bytes) -> (i64, Answer) {
    let answer = pb::WatchResponse::decode(bytes).unwrap();
    let version = |kv: &mvccpb::KeyValue| {
        let text = |bytes: &[u8]| if bytes.is_empty() { String::new() } else { base64(bytes) };
        let numbers = (kv.create_revision, kv.mod_revision, kv.version);
        (text(&kv.key), short(text(&kv.value)), numbers.0, numbers.1, numbers.2)
    };
    let event = |event: &mvccpb::Event| {
        (event.r#type == 1, event.kv.as_ref().map(version), event.prev_kv.as_ref().map(version))
    };
    let same = Answer {
        created: answer.created,
        canceled: answer.canceled,
        compact_revision: answer.compact_revision,
        reason: answer.cancel_reason,
        fragment: answer.fragment,
        revision: answer.header.unwrap().revision,
        events: answer.events.iter().map(event).collect(),
    };
    (answer.watch_id, same)
}

/// Answers per watch, in their order.
type Answers = BTreeMap<i64, Vec<Answer>>;

fn gather(answers: impl IntoIterator<Item = (i64, Answer)>) -> Answers {
    let mut all = Answers::new();
    for (id, answer) in answers {
        all.entry(id).or_default().push(answer);
    }
    all
}

/// A stream of the real one.
struct Stream {
    lines: mpsc::Receiver<String>,
}

impl Stream {
    fn open(requests: &[RequestUnion]) -> Self {
        let body: Vec<_> = requests.iter().map(|request| to_json(request).to_string()).collect();
        let stream = connect("/v3/watch", &body.join("\n"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stream).lines().map_while(Result::ok);
            for line in lines.skip_while(|line| !line.is_empty()).skip(1) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines }
    }

    /// The next `count` answers, and whatever comes right behind them.
    fn take(&self, count: usize) -> Answers {
        let mut lines = Vec::new();
        while let Ok(line) =
            self.lines.recv_timeout(if lines.len() < count { WAIT } else { SILENCE })
        {
            lines.push(line);
        }
        gather(lines.iter().map(|line| from_json(line)))
    }
}

struct Scenario {
    name: &'static str,
    before: Vec<Change>,
    requests: Vec<RequestUnion>,
    after: Vec<Change>,
}

/// What the hub answers: first to the requests, then to what happens after.
fn ours(scenario: &Scenario) -> (Answers, Answers, i64) {
    let mut solo = Solo::new();
    for change in &scenario.before {
        solo.ask(change.to_machine()).unwrap();
    }
    let view = solo.machine.view();
    let start = view.revision();
    let config = Config { cluster_id: 1, member_id: 2, limits: Limits::default(), seed: 1 };
    let mut hub = Hub::new(config, start, 1);
    let stream = hub.open(Duration::ZERO);
    for request in &scenario.requests {
        let request = pb::WatchRequest { request_union: Some(request.clone()) };
        hub.request(stream, request).unwrap();
    }
    hub.catch_up(&view, 10_000).unwrap();
    let take = |hub: &mut Hub| {
        std::iter::from_fn(|| Some(from_hub(hub.take(stream)?.to_bytes()))).collect::<Vec<_>>()
    };
    let first = take(&mut hub);
    let mut then = Vec::new();
    for change in &scenario.after {
        solo.ask(change.to_machine()).unwrap();
        let view = solo.machine.view();
        for commit in view.events(hub.revision().next()..=view.revision()).unwrap() {
            hub.publish(&commit.unwrap(), &view).unwrap();
        }
        then.extend(take(&mut hub));
    }
    (gather(first), gather(then), start.0)
}

fn count(answers: &Answers) -> usize {
    answers.values().map(Vec::len).sum()
}

fn create(key: &'static str, end: &'static str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.into(), range_end: end.into(), ..Default::default() }
}

fn from(start_revision: i64, request: pb::WatchCreateRequest) -> RequestUnion {
    RequestUnion::CreateRequest(pb::WatchCreateRequest { start_revision, ..request })
}

/// Twelve revisions: 2 to 13.
fn history() -> Vec<Change> {
    use Change::{Delete, Put, PutAll};
    let both = vec![("a", "6".to_owned()), ("ab", "7".to_owned())];
    vec![
        Put("a", "1"),
        Put("b", "2"),
        Put("a", "3"),
        Delete("a", ""),
        Put("a", "4"),
        Put("ab", "5"),
        PutAll(both),
        Delete("a", "b"),
        Put("\u{7f}", "last"),
        Put("a", "8"),
        Put("c", ""),
        Put("a", "9"),
    ]
}

fn scenarios() -> Vec<Scenario> {
    use Change::{Compact, Delete, Put, PutAll};
    let previous = |request| pb::WatchCreateRequest { prev_kv: true, ..request };
    let filtered =
        |kinds: &[i32], request| pb::WatchCreateRequest { filters: kinds.to_vec(), ..request };
    let named = |watch_id, request| pb::WatchCreateRequest { watch_id, ..request };
    let cancel = |watch_id| RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id });
    let mut compacted = history();
    compacted.push(Compact(8));
    let large = |digit: &str| vec![("a", digit.repeat(700_000)), ("b", digit.repeat(700_000))];
    let fragment = pb::WatchCreateRequest { fragment: true, ..previous(create("a", "c")) };
    let more =
        vec![Put("a", "x"), Delete("a", "\0"), Put("a", "y"), Put("zz", "z"), Delete("a", "")];
    let all = [
        create("a", ""),
        create("a", "b"),
        create("b", "\0"),
        create("", "\0"),
        create("", ""),
        create("", "b"),
        previous(create("a", "")),
        previous(create("", "\0")),
        filtered(&[0], create("", "\0")),
        filtered(&[1], create("", "\0")),
        filtered(&[0, 1], create("", "\0")),
    ];
    let starting = |start| all.iter().cloned().map(|request| from(start, request)).collect();
    let scenario = |name, before: &[Change], requests, after: &[Change]| Scenario {
        name,
        before: before.to_vec(),
        requests,
        after: after.to_vec(),
    };
    vec![
        scenario("from now on", &history(), starting(0), &more),
        scenario("from the first revision", &history(), starting(1), &more),
        scenario("from the past", &history(), starting(7), &more),
        scenario("from the newest revision", &history(), starting(13), &more),
        scenario("from the next revision", &history(), starting(14), &more),
        scenario("from the future", &history(), starting(16), &more),
        scenario("from below the compacted revision", &compacted, starting(7), &more),
        scenario("from the compacted revision", &compacted, starting(8), &more),
        scenario("from above the compacted revision", &compacted, starting(9), &more),
        scenario(
            "ids, ranges and ends",
            &history(),
            vec![
                from(0, named(3, create("a", ""))),
                from(0, named(3, create("b", ""))),
                from(0, create("b", "a")),
                from(0, create("a", "a")),
                from(0, create("c", "")),
                from(0, named(1, create("c", ""))),
                from(0, create("c", "")),
                from(0, named(-7, create("c", ""))),
                cancel(0),
                cancel(0),
                cancel(99),
                from(0, create("c", "")),
                RequestUnion::ProgressRequest(pb::WatchProgressRequest {}),
            ],
            &[Put("c", "1"), Put("a", "1")],
        ),
        scenario(
            "fragments",
            &[PutAll(large("1"))],
            vec![from(0, fragment), from(0, previous(create("a", "c")))],
            &[PutAll(large("2")), Put("a", "small")],
        ),
    ]
}

#[test]
fn the_hub_answers_as_etcd_does() {
    for scenario in scenarios() {
        let Some(_etcd) = Etcd::start() else { return };
        let (mut first, then, start) = ours(&scenario);
        scenario.before.iter().for_each(Change::to_etcd);
        let stream = Stream::open(&scenario.requests);
        let mut theirs = stream.take(count(&first));
        for (id, answers) in first.iter_mut().chain(&mut theirs) {
            for answer in answers.iter_mut().filter(|answer| answer.created && !answer.canceled) {
                assert!(answer.revision <= start, "watch {id}");
                answer.revision = 0;
            }
        }
        assert_eq!(first, theirs, "{}: at first", scenario.name);
        scenario.after.iter().for_each(Change::to_etcd);
        assert_eq!(then, stream.take(count(&then)), "{}: then", scenario.name);
    }
}
