//! What no well-behaved client, operator or disk would do. Nothing may be lost, nothing may panic, and the error says
//! what is wrong: etcd's own where it has one.

use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use e2e::cluster::Cluster;
use e2e::rpc::{Client, block_on};
use e2e::server::Server;
use e2e::tools::{Program, oracle, subject};
use proto::etcdserverpb as pb;
use proto::method;

const SOON: Duration = Duration::from_secs(15);

fn the_subject() -> Program {
    subject().expect("the server under test")
}

fn no_panic(server: &Server) -> Result<()> {
    let log = server.log_end();
    ensure!(!log.contains("panicked at") && !log.contains("goroutine 1 ["), "a panic:\n{log}");
    Ok(())
}

async fn put(client: &Client, key: &str, value: &str) -> Result<i64> {
    let request = pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Default::default()
    };
    let answer: pb::PutResponse =
        client.call(method::kv::PUT, &request).await.map_err(|e| anyhow::anyhow!("put: {e:?}"))?;
    Ok(answer.header.context("a header")?.revision)
}

async fn everything(client: &Client) -> Result<Vec<(Bytes, Bytes, i64)>> {
    let request = pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..Default::default()
    };
    let answer: pb::RangeResponse = client
        .call(method::kv::RANGE, &request)
        .await
        .map_err(|e| anyhow::anyhow!("range: {e:?}"))?;
    Ok(answer.kvs.into_iter().map(|kv| (kv.key, kv.value, kv.mod_revision)).collect())
}

/// Every unary method of the API with bytes that are no message of it: the same code as etcd's.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn malformed_messages() {
    let codes = |program: &Program| -> Result<Vec<String>> {
        let mut cluster = Cluster::start(program, 1)?;
        let endpoint = cluster.endpoints();
        let found = block_on(async {
            let client = Client::new(&endpoint)?;
            let mut found = Vec::new();
            for path in [
                method::kv::RANGE,
                method::kv::PUT,
                method::kv::DELETE_RANGE,
                method::kv::TXN,
                method::kv::COMPACT,
                method::lease::GRANT,
                method::lease::REVOKE,
                method::lease::TIME_TO_LIVE,
                method::cluster::ADD,
                method::cluster::REMOVE,
                method::cluster::UPDATE,
                method::cluster::PROMOTE,
                method::maintenance::ALARM,
                method::maintenance::HASH_KV,
                method::maintenance::MOVE_LEADER,
                method::lock::LOCK,
                method::election::CAMPAIGN,
                "/etcdserverpb.KV/NoSuchMethod",
                "/no.such.Service/Method",
            ] {
                for bytes in
                    [&b"\xff"[..], b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05ab", &[0x0b; 100]]
                {
                    let answer = client.raw(path, Bytes::copy_from_slice(bytes)).await;
                    let code = answer
                        .map_or_else(|refused| format!("{:?}", refused.code), |_| "Ok".to_owned());
                    found.push(format!("{path} {bytes:x?}: {code}"));
                }
            }
            put(&client, "still", "serving").await?;
            Ok(found)
        })?;
        cluster.check_alive()?;
        no_panic(&cluster.servers[0])?;
        Ok(found)
    };
    let expected = codes(&oracle().expect("etcd 3.7")).expect("on a real etcd");
    let found = codes(&the_subject()).expect("on the server under test");
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected, found, "(left: etcd)");
    }
    assert_eq!(expected.len(), found.len());
}

/// Bytes that are not even HTTP, on both ports; connections that are opened and dropped.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn noise_on_both_ports() {
    let mut cluster = Cluster::start(&the_subject(), 1).expect("a member");
    let settings = cluster.servers[0].settings.clone();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noises: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\0".to_vec(),
        vec![0xff; 10_000],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"POST /etcdserverpb.KV/Put HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
        preface.to_vec(),
        [&preface[..], &[0xff; 100]].concat(),
        [&preface[..], b"\0\0\0\x04\0\0\0\0\0", &[0x00, 0xff, 0xff, 0x01, 0x25, 0, 0, 0, 1]]
            .concat(),
    ];
    for port in [settings.client_port, settings.peer_port] {
        for noise in &noises {
            for _ in 0..5 {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
                stream.set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
                // It may hang up at any point; that it goes on serving is what counts.
                let _hung_up = stream.write_all(noise);
                let _nothing_or_not = stream.read(&mut [0; 1024]);
            }
        }
    }
    cluster.servers[0].wait_ready().expect("ready after noise");
    block_on(async { put(&Client::new(&settings.endpoint())?, "a", "1").await })
        .expect("a put after noise");
    no_panic(&cluster.servers[0]).expect("no panic");
}

/// A port or a data directory that is in use: the second server does not serve, and the first does not mind.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn what_is_in_use() {
    let program = the_subject();
    let mut cluster = Cluster::start(&program, 1).expect("a member");
    let first = cluster.servers[0].settings.clone();
    let taken = [
        ("client port", {
            let mut s = cluster.joining("x").expect("x");
            s.client_port = first.client_port;
            s
        }),
        ("peer port", {
            let mut s = cluster.joining("y").expect("y");
            s.peer_port = first.peer_port;
            s
        }),
        ("data directory", {
            let mut s = cluster.joining("z").expect("z");
            s.data_dir.clone_from(&first.data_dir);
            s
        }),
    ];
    for (what, mut settings) in taken {
        settings.existing = false;
        settings.initial_cluster = format!("{}={}", settings.name, settings.peer_url());
        let log = settings.data_dir.with_extension("log");
        let own_port = settings.client_port;
        let mut second = Server::start(settings).expect("a process");
        if program.is_etcd() && what == "data directory" {
            // A real etcd waits for the directory; it must not serve meanwhile.
            assert!(second.wait_exit(Duration::from_secs(3)).is_err());
            assert!(!second.healthy());
            continue;
        }
        let status = second.wait_exit(SOON).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert!(!status.success(), "{what}: {status}");
        let text = std::fs::read_to_string(&log).expect("its log");
        let named = match what {
            "client port" => text.contains(&own_port.to_string()),
            "peer port" => text.contains(&first.peer_port.to_string()),
            _ => text.contains(&*first.data_dir.to_string_lossy()),
        };
        assert!(named, "{what}: the error does not name it:\n{text}");
        no_panic(&second).expect("no panic");
    }
    cluster.servers[0].wait_ready().expect("the first still serves");
    cluster.check_alive().expect("the first is there");
}

/// A member of one cluster that is given another's address does not get in, and disturbs nobody.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn a_foreign_member() {
    let program = the_subject();
    let mut cluster = Cluster::start(&program, 3).expect("a cluster");
    let endpoint = cluster.servers[0].settings.endpoint();
    let before = block_on(async {
        let client = Client::new(&endpoint)?;
        put(&client, "a", "1").await?;
        everything(&client).await
    })
    .expect("a put");
    // It claims to be m3, with another token, and so another cluster id.
    let mut settings = cluster.joining("m3").expect("ports");
    settings.data_dir = cluster.file("stranger");
    settings.existing = false;
    settings.token = "another".to_owned();
    let peers: Vec<String> = cluster.servers[..2]
        .iter()
        .map(|server| format!("{}={}", server.settings.name, server.settings.peer_url()))
        .collect();
    settings.initial_cluster = format!("{},m3={}", peers.join(","), settings.peer_url());
    let mut stranger = Server::start(settings).expect("a process");
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        assert!(!stranger.healthy(), "a stranger serves");
        let now = block_on(async { everything(&Client::new(&endpoint)?).await }).expect("a read");
        assert_eq!(now, before, "a stranger changed something");
    }
    no_panic(&stranger).expect("no panic");
    drop(stranger.kill());
    cluster.wait_ready().expect("all three still serve");
    for server in &cluster.servers {
        no_panic(server).expect("no panic");
    }
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if std::fs::metadata(&path)?.len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// The offset of the byte in the middle of what is not zero in a file.
fn middle(path: &Path) -> Result<u64> {
    let bytes = std::fs::read(path)?;
    let used: Vec<usize> =
        bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(i, _)| i).collect();
    Ok(used.get(used.len() / 2).copied().unwrap_or(0) as u64)
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Halve,
    Remove,
}

fn damage(path: &Path, how: Damage) -> Result<()> {
    match how {
        Damage::Flip => {
            let at = middle(path)?;
            let mut file = std::fs::File::options().read(true).write(true).open(path)?;
            let mut byte = [0];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut byte)?;
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&[byte[0] ^ 0x10])?;
        }
        Damage::Halve => {
            let at = middle(path)?;
            std::fs::File::options().write(true).open(path)?.set_len(at)?;
        }
        Damage::Remove => std::fs::remove_file(path)?,
    }
    Ok(())
}

/// Each file of a stopped member is damaged in turn. The member either says so and ends, or it serves all that was
/// acknowledged (the file did not matter); it never serves less, and never panics.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn damaged_files() {
    let program = the_subject();
    if program.is_etcd() {
        return; // etcd's files are not ours to judge: some damage makes it panic, some loses the tail.
    }
    let mut cluster = Cluster::start(&program, 1).expect("a member");
    let endpoint = cluster.endpoints();
    let all = block_on(async {
        let client = Client::new(&endpoint)?;
        for number in 0..2_000 {
            put(&client, &format!("key-{:04}", number % 500), &format!("{number:>200}")).await?;
        }
        everything(&client).await
    })
    .expect("puts");
    let server = &mut cluster.servers[0];
    server.kill().expect("kill");
    let data = server.settings.data_dir.clone();
    let kept = data.with_extension("kept");
    copy(&data, &kept).expect("a copy");
    let mut list = Vec::new();
    files(&data, &mut list).expect("files");
    assert!(!list.is_empty());
    let (mut refused, mut served) = (0, 0);
    for path in &list {
        for how in [Damage::Flip, Damage::Halve, Damage::Remove] {
            std::fs::remove_dir_all(&data).expect("remove");
            copy(&kept, &data).expect("restore");
            damage(path, how).expect("damage");
            server.restart().expect("a process");
            let what = format!("{how:?} of {}", path.display());
            match server.wait_ready() {
                Ok(()) => {
                    served += 1;
                    let now = block_on(async { everything(&Client::new(&endpoint)?).await });
                    assert_eq!(
                        now.unwrap_or_default(),
                        all,
                        "{what}: it serves less than was acknowledged"
                    );
                    server.kill().expect("kill");
                }
                Err(error) => {
                    refused += 1;
                    assert!(
                        server.exited().ok().flatten().is_some(),
                        "{what}: neither serves nor ends: {error:#}"
                    );
                    server.wait_exit(SOON).expect("ended");
                }
            }
            no_panic(server).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        }
    }
    println!("{} files: {refused} damages refused, {served} survived", list.len());
    assert!(refused > 0, "no damage was ever noticed");
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
