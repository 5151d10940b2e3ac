//! What is retried and what is not, against servers that misbehave on purpose.
//!
//! Each fake server answers its calls by a script, and counts them. The question is always the
//! same: how often did a request arrive anywhere, and what was the caller told?

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use client::{Client, Code, Config, Effect, Error, Get, Prefer, Put};
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use proto::etcdserverpb as pb;
use tokio::net::TcpListener;

/// What a fake server does with a call.
#[derive(Debug, Clone)]
enum Act {
    /// Answers with this message.
    Answer(Bytes),
    /// Answers with this status.
    Refuse(Code, &'static str),
    /// Takes the call and closes the connection.
    HangUp,
    /// Takes the call and never answers.
    Silence,
}

/// A server on a port of its own. After its script it answers as its last act says.
struct Fake {
    address: SocketAddr,
    /// Paths of the calls that came.
    calls: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let seen = Arc::clone(&calls);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                tokio::spawn(serve(stream, script, seen));
            }
        });
        Self { address, calls }
    }

    fn calls_of(&self, method: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|path| path.ends_with(method)).count()
    }
}

async fn serve(
    stream: tokio::net::TcpStream,
    script: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let hang_up = Arc::new(tokio::sync::Notify::new());
    let hanging_up = Arc::clone(&hang_up);
    let service = service_fn(move |request: http::Request<Incoming>| {
        seen.lock().unwrap().push(request.uri().path().to_owned());
        let mut script = script.lock().unwrap();
        let act = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
        let hang_up = Arc::clone(&hanging_up);
        async move {
            match act.unwrap() {
                Act::Answer(message) => Ok::<_, Infallible>(answer(&message)),
                Act::Refuse(code, message) => Ok(refusal(code, message)),
                Act::HangUp => {
                    hang_up.notify_one();
                    std::future::pending().await
                }
                Act::Silence => std::future::pending().await,
            }
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = connection => {}
        () = hang_up.notified() => {}
    }
}

type Body = Channel<Bytes, Infallible>;

fn headers() -> http::response::Builder {
    http::Response::builder().header("content-type", "application/grpc")
}

fn answer(message: &Bytes) -> http::Response<Body> {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(message);
    let (mut sender, body) = Channel::new(2);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    tokio::spawn(async move {
        sender.send_data(framed.freeze()).await.unwrap();
        sender.send_trailers(trailers).await.unwrap();
    });
    headers().body(body).unwrap()
}

fn refusal(code: Code, message: &str) -> http::Response<Body> {
    let (_, body) = Channel::new(1);
    headers()
        .header("grpc-status", (code as u32).to_string())
        .header("grpc-message", message.replace(' ', "%20"))
        .body(body)
        .unwrap()
}

fn put_answer() -> Act {
    Act::Answer(pb::PutResponse::default().encode_to_vec().into())
}

fn get_answer(count: i64) -> Act {
    Act::Answer(pb::RangeResponse { count, ..Default::default() }.encode_to_vec().into())
}

fn client_of(servers: &[&Fake]) -> Client {
    let mut config = Config::new(servers.iter().map(|server| server.address.to_string())).unwrap();
    config.request_timeout = Duration::from_secs(2);
    config.read_attempt_timeout = Duration::from_millis(200);
    Client::new(config)
}

/// An address at which nobody listens.
async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

const NO_LEADER: Act = Act::Refuse(Code::Unavailable, "etcdserver: no leader");
const TIMED_OUT: Act = Act::Refuse(Code::Unavailable, "etcdserver: request timed out");

#[tokio::test]
async fn a_write_goes_on_where_it_was_refused_before_proposing() {
    for refused in [
        NO_LEADER,
        Act::Refuse(Code::ResourceExhausted, "etcdserver: too many requests"),
        Act::Refuse(Code::Unavailable, "etcdserver: rpc not supported for learner"),
    ] {
        let (first, second) = (Fake::start([refused]).await, Fake::start([put_answer()]).await);
        client_of(&[&first, &second]).put(Put::new("k", "v")).await.unwrap();
        assert_eq!((first.calls_of("Put"), second.calls_of("Put")), (1, 1));
    }
}

#[tokio::test]
async fn a_write_that_may_have_been_applied_is_sent_once_and_called_unknown() {
    for ambiguous in [
        TIMED_OUT,
        Act::Refuse(Code::Unavailable, "etcdserver: leader changed"),
        Act::Refuse(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        Act::Refuse(Code::Internal, "who knows"),
        Act::HangUp,
    ] {
        let (first, second) =
            (Fake::start([ambiguous.clone()]).await, Fake::start([put_answer()]).await);
        let error = client_of(&[&first, &second]).put(Put::new("k", "v")).await.unwrap_err();
        assert!(matches!(error, Error::Unknown(_)), "{ambiguous:?}: {error}");
        assert_eq!(error.effect(), Effect::Unknown);
        assert_eq!((first.calls_of("Put"), second.calls_of("Put")), (1, 0), "{ambiguous:?}");
    }
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown_when_its_time_is_up() {
    let (first, second) = (Fake::start([Act::Silence]).await, Fake::start([put_answer()]).await);
    let started = tokio::time::Instant::now();
    let error = client_of(&[&first, &second]).put(Put::new("k", "v")).await.unwrap_err();
    assert_eq!(error, Error::Unknown(client::error::Failure::TimedOut));
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_eq!((first.calls_of("Put"), second.calls_of("Put")), (1, 0));
}

#[tokio::test]
async fn a_write_whose_connection_was_refused_goes_elsewhere() {
    let second = Fake::start([put_answer()]).await;
    let config = Config::new([nobody().await, second.address.to_string()]).unwrap();
    Client::new(config).put(Put::new("k", "v")).await.unwrap();
    assert_eq!(second.calls_of("Put"), 1);
}

#[tokio::test]
async fn a_write_that_nobody_could_take_is_known_not_to_be_applied() {
    let mut config = Config::new([nobody().await, nobody().await]).unwrap();
    config.request_timeout = Duration::from_millis(300);
    let error = Client::new(config).put(Put::new("k", "v")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { attempts: 2.., .. }), "{error}");
    assert_eq!((error.effect(), error.is_retryable()), (Effect::NotApplied, true));
}

#[tokio::test]
async fn a_read_is_retried_whatever_happened() {
    for trouble in [NO_LEADER, TIMED_OUT, Act::HangUp, Act::Silence] {
        let (first, second) =
            (Fake::start([trouble.clone()]).await, Fake::start([get_answer(7)]).await);
        let response = client_of(&[&first, &second]).get(Get::key("k")).await.unwrap();
        assert_eq!(response.count, 7, "{trouble:?}");
        assert_eq!((first.calls_of("Range"), second.calls_of("Range")), (1, 1));
    }
}

#[tokio::test]
async fn a_refusal_for_good_is_given_at_once() {
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let refused = Act::Refuse(Code::OutOfRange, compacted);
    let (first, second) = (Fake::start([refused]).await, Fake::start([get_answer(7)]).await);
    let error = client_of(&[&first, &second]).get(Get::key("k")).await.unwrap_err();
    assert_eq!(error.reason(), client::Reason::Compacted);
    assert_eq!(error.status().unwrap().message, compacted);
    assert_eq!((first.calls_of("Range"), second.calls_of("Range")), (1, 0));
}

#[tokio::test]
async fn one_endpoint_is_tried_again_after_a_pause() {
    let only = Fake::start([NO_LEADER, NO_LEADER, put_answer()]).await;
    client_of(&[&only]).put(Put::new("k", "v")).await.unwrap();
    assert_eq!(only.calls_of("Put"), 3);
}

#[tokio::test]
async fn attempts_are_bounded() {
    let only = Fake::start([NO_LEADER]).await;
    let mut config = Config::new([only.address.to_string()]).unwrap();
    config.attempts_max = 3;
    let error = Client::new(config).put(Put::new("k", "v")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { attempts: 3, .. }), "{error}");
    assert_eq!(only.calls_of("Put"), 3);
}

#[tokio::test]
async fn who_prefers_the_leader_finds_it() {
    let status = |own, leader| {
        let header = Some(pb::ResponseHeader { member_id: own, ..Default::default() });
        let status = pb::StatusResponse { header, leader, ..Default::default() };
        Act::Answer(status.encode_to_vec().into())
    };
    let follower = Fake::start([status(1, 2), put_answer()]).await;
    let leader = Fake::start([status(2, 2), put_answer()]).await;
    let mut config =
        Config::new([follower.address, leader.address].map(|a| a.to_string())).unwrap();
    config.prefer = Prefer::Leader;
    let client = Client::new(config);
    client.put(Put::new("k", "v")).await.unwrap();
    assert_eq!((follower.calls_of("Put"), leader.calls_of("Put")), (0, 1));
    assert_eq!(client.preferred().authority().as_str(), leader.address.to_string());
}

#[tokio::test]
async fn an_answer_that_breaks_the_protocol_is_not_taken_for_one() {
    let garbage = Act::Answer(Bytes::from_static(b"\xff\xff\xff"));
    let only = Fake::start([garbage]).await;
    let client = client_of(&[&only]);
    let error = client.get(Get::key("k")).await.unwrap_err();
    assert!(matches!(error, Error::Malformed(_)), "{error}");
    let error = client.put(Put::new("k", "v")).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
}
