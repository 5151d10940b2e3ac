//! The door seen by clients that write their own frames, and by those that speak HTTP/1.1.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "shared with other tests")]
#[path = "support/client.rs"]
mod client;
#[expect(dead_code, reason = "shared with other tests")]
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use client::{Client, framed};
use proto::etcdserverpb as pb;
use proto::method::{kv, watch};
use server::{Config, Server};
use support::Memory;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(10);

fn server() -> (Server, SocketAddr) {
    let config =
        Config { listen_client_urls: vec!["http://127.0.0.1:0".to_owned()], ..Config::default() };
    let server = Server::start(config, Memory::new()).unwrap();
    let address = server.client_addresses()[0];
    (server, address)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block with everything written out.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            bytes.push(u8::try_from(text.len()).unwrap());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

fn call(path: &str, authority: &str) -> Vec<u8> {
    block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ])
}

/// Reads until `wanted` of a kind and a payload has come; what came until then.
async fn read_until(
    socket: &mut TcpStream,
    mut wanted: impl FnMut(u8, u32, &[u8]) -> bool,
) -> Result<(), &'static str> {
    let mut bytes = Vec::new();
    loop {
        while bytes.len() >= 9 {
            let length =
                usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
            if bytes.len() < 9 + length {
                break;
            }
            let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
            if wanted(bytes[3], stream, &bytes[9..9 + length]) {
                return Ok(());
            }
            bytes.drain(..9 + length);
        }
        let read = tokio::time::timeout(PATIENCE, socket.read_buf(&mut bytes)).await;
        if read.map_err(|_| "nothing came")?.map_err(|_| "broken")? == 0 {
            return Err("closed");
        }
    }
}

fn range() -> Vec<u8> {
    let request =
        pb::RangeRequest { key: "k".into(), serializable: true, ..pb::RangeRequest::default() };
    framed(&request).to_vec()
}

/// etcdctl 3.4 does that; and the bytes of a call may come one by one.
#[tokio::test]
async fn a_call_with_a_url_as_authority_and_in_single_bytes_is_answered() {
    let (_server, address) = server();
    let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
    bytes.extend(frame(1, 4, 1, &call(kv::RANGE, "http://127.0.0.1:2379")));
    let message = range();
    let (first, second) = message.split_at(3);
    bytes.extend(frame(0, 0, 1, first));
    bytes.extend(frame(0, 1, 1, second));
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    for byte in bytes {
        socket.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut kinds = Vec::new();
    let ended = read_until(&mut socket, |kind, stream, _| {
        if stream == 1 {
            kinds.push(kind);
        }
        kinds.len() == 3
    });
    ended.await.unwrap();
    assert_eq!(kinds, [1, 0, 1], "head, message, trailers");
}

#[tokio::test]
async fn who_breaks_the_protocol_is_told_why_before_the_socket_closes() {
    let (_server, address) = server();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
    bytes.extend(frame(0, 0, 1, b"data of a stream that is not open"));
    // More is under way when the server closes.
    bytes.extend(vec![0; 50_000]);
    socket.write_all(&bytes).await.unwrap();
    let mut code = None;
    let ended = read_until(&mut socket, |kind, _, payload| {
        if kind == 7 {
            code = Some(payload[7]);
        }
        false
    });
    assert_eq!(ended.await, Err("closed"));
    assert_eq!(code, Some(1), "PROTOCOL_ERROR");
}

async fn http1(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn pages_are_the_same_in_both_protocols() {
    let (_server, address) = server();
    for (path, status, text) in [
        ("/health", "200", "{\"health\":\"true\",\"reason\":\"\"}"),
        ("/livez?verbose", "200", "[+]serializable_read ok\nok\n"),
        ("/nothing", "404", "404 page not found\n"),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = http1(address, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert_eq!(body, text);

        let fields = [(":method", "GET"), (":scheme", "http"), (":path", path)];
        let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
        bytes.extend(frame(1, 5, 1, &block(&fields)));
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        let found =
            read_until(&mut socket, |kind, _, payload| kind == 0 && payload == text.as_bytes());
        found.await.unwrap();
    }
    // Not all that begins with a P is a preface.
    let answer = http1(address, "POST /health HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

/// A client that leaves takes its calls with it, and they are counted.
#[tokio::test]
async fn a_call_that_is_cancelled_ends() {
    let (_server, address) = server();
    let client = Client::connect(address).await;
    let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    let union = pb::watch_request::RequestUnion::CreateRequest(create);
    let request = framed(&pb::WatchRequest { request_union: Some(union) });
    let mut reset = client.call(watch::WATCH, &[], request.clone()).await;
    assert!(reset.next::<pb::WatchResponse>().await.unwrap().created);
    drop(reset);
    let other = Client::connect(address).await;
    let mut broken = other.call(watch::WATCH, &[], request).await;
    assert!(broken.next::<pb::WatchResponse>().await.unwrap().created);
    drop((broken, other));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let canceled = "grpc_method=\"Watch\",grpc_code=\"Canceled\"} 2";
    loop {
        let page = http1(address, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let page = page.await;
        if page.contains(canceled) && page.contains("etcd_debugging_mvcc_watcher_total 0") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{page}");
        tokio::task::yield_now().await;
    }
}
