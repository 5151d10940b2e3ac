//! A disk that is full: writes are refused with etcd's error, nothing else is, nothing acknowledged is lost, and with
//! room again writes go on. The disk is a tmpfs of the suite's own: mounting it takes root.
//!
//! A real etcd in place of the server under test passes the first test by its quota, which it needs to be given: without
//! one it ends its process on a full disk. The second is more than etcd can do.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use e2e::cluster::Cluster;
use e2e::differential::generate::Dice;
use e2e::disk::SmallDisk;
use e2e::rpc::{Client, Refused, block_on};
use e2e::server::{POLL, Server};
use e2e::tools::subject;
use proto::etcdserverpb as pb;
use proto::method;
use tonic::Code;

const VALUE_BYTES: usize = 1 << 20;
const SOON: Duration = Duration::from_secs(60);
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// Values that do not compress, each one's own.
fn value(number: usize) -> Bytes {
    let mut dice = Dice::new(number as u64, 1);
    (0..VALUE_BYTES / 8).flat_map(|_| dice.roll().to_le_bytes()).collect()
}

fn key(number: usize) -> Bytes {
    Bytes::from(format!("full/{number:06}"))
}

async fn put(client: &Client, number: usize) -> Result<i64, Refused> {
    let request = pb::PutRequest { key: key(number), value: value(number), ..Default::default() };
    let answer: pb::PutResponse = client.call(method::kv::PUT, &request).await?;
    Ok(answer.header.map_or(0, |header| header.revision))
}

async fn call<A: prost::Message + Default>(
    client: &Client,
    path: &'static str,
    request: &impl prost::Message,
) -> Result<A> {
    client.call(path, request).await.map_err(|refused| anyhow::anyhow!("{path}: {refused:?}"))
}

async fn get(client: &Client, number: usize, serializable: bool) -> Result<Option<Bytes>> {
    let request = pb::RangeRequest { key: key(number), serializable, ..Default::default() };
    let answer: pb::RangeResponse = call(client, method::kv::RANGE, &request).await?;
    Ok(answer.kvs.into_iter().next().map(|kv| kv.value))
}

async fn count(client: &Client, serializable: bool) -> Result<i64> {
    let request = pb::RangeRequest {
        key: Bytes::from_static(b"full/"),
        range_end: Bytes::from_static(b"full0"),
        count_only: true,
        serializable,
        ..Default::default()
    };
    let answer: pb::RangeResponse = call(client, method::kv::RANGE, &request).await?;
    Ok(answer.count)
}

/// The keys up to `numbers` are there, and no other ones.
async fn all_there(client: &Client, numbers: usize) -> Result<()> {
    let found = count(client, false).await?;
    ensure!(found.unsigned_abs() == numbers as u64, "{found} keys, not {numbers}");
    for number in 0..numbers {
        let found = get(client, number, false).await?;
        ensure!(found == Some(value(number)), "key {number} of {numbers} is not what was put");
    }
    Ok(())
}

fn is_no_space(refused: &Refused) -> bool {
    refused.code == Code::ResourceExhausted && refused.message == NO_SPACE
}

/// Puts key after key until one is refused for want of room; how many there are then.
async fn fill(client: &Client, from: usize, bound: usize) -> Result<usize> {
    for number in from..from + bound {
        match put(client, number).await {
            Ok(_) => {}
            Err(refused) if is_no_space(&refused) => return Ok(number),
            Err(refused) => bail!("put {number}: {refused:?}"),
        }
    }
    bail!("{bound} MiB, and none refused")
}

/// Puts one key again and again until it is taken; all refusals are for want of room.
async fn until_taken(client: &Client, number: usize) -> Result<()> {
    let end = Instant::now() + SOON;
    while let Err(refused) = put(client, number).await {
        ensure!(is_no_space(&refused), "put {number}: {refused:?}");
        ensure!(Instant::now() < end, "no put is taken although there is room: {refused:?}");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Deletes, compacts and defragments; disarms the alarm if there is one, as an operator of etcd does.
async fn make_room(client: &Client, kept: usize) -> Result<()> {
    let (first, range_end) = (key(kept), Bytes::from_static(b"full0"));
    let delete = pb::DeleteRangeRequest { key: first, range_end, ..Default::default() };
    let deleted: pb::DeleteRangeResponse = call(client, method::kv::DELETE_RANGE, &delete).await?;
    let revision = deleted.header.context("a header")?.revision;
    let compact = pb::CompactionRequest { revision, physical: true };
    let _: pb::CompactionResponse = call(client, method::kv::COMPACT, &compact).await?;
    let defragment = pb::DefragmentRequest {};
    let _: pb::DefragmentResponse =
        call(client, method::maintenance::DEFRAGMENT, &defragment).await?;
    let list = pb::AlarmRequest::default();
    let raised: pb::AlarmResponse = call(client, method::maintenance::ALARM, &list).await?;
    for alarm in raised.alarms {
        println!("disarmed: {alarm:?}");
        let action = pb::alarm_request::AlarmAction::Deactivate as i32;
        let disarm = pb::AlarmRequest { action, member_id: alarm.member_id, alarm: alarm.alarm };
        let _: pb::AlarmResponse = call(client, method::maintenance::ALARM, &disarm).await?;
    }
    Ok(())
}

fn one_member() -> Result<()> {
    let mut program = subject()?;
    if program.is_etcd() {
        program = program.with(&["--quota-backend-bytes", "67108864"]);
    }
    let disk = SmallDisk::mount(300)?;
    let mut cluster = Cluster::spawn_with(&program, 1, |settings| {
        disk.path().clone_into(&mut settings.data_dir);
    })?;
    cluster.wait_ready()?;
    let result = block_on(until_full_and_back(&mut cluster.servers[0], &disk));
    result.with_context(|| cluster.servers[0].log_end())
}

async fn until_full_and_back(server: &mut Server, disk: &SmallDisk) -> Result<()> {
    let client = Client::new(&server.settings.endpoint())?;
    let began = Instant::now();
    let full = fill(&client, 0, 400).await?;
    let left_mib = disk.free_bytes()? >> 20;
    println!("{full} MiB taken, then refused; {left_mib} MiB left; {:?}", began.elapsed());
    ensure!(full > 30, "refused after {full} MiB already");
    all_there(&client, full).await.context("while full")?;

    server.kill()?;
    server.restart()?;
    let client = Client::new(&server.settings.endpoint())?;
    let end = Instant::now() + SOON;
    while let Err(error) = count(&client, false).await {
        ensure!(Instant::now() < end, "no read after a restart on a full disk: {error:#}");
        if let Some(status) = server.exited()? {
            bail!("the restart on a full disk ended with {status}");
        }
        tokio::time::sleep(POLL).await;
    }
    // What was taken after the restart before the disk was looked at counts as well.
    let full = match put(&client, full).await {
        Ok(_) => fill(&client, full + 1, 100).await?,
        Err(refused) => {
            ensure!(is_no_space(&refused), "a put after the restart: {refused:?}");
            full
        }
    };
    all_there(&client, full).await.context("after the restart")?;

    make_room(&client, 10).await?;
    until_taken(&client, 10).await?;
    println!("room again: {} MiB left; {:?}", disk.free_bytes()? >> 20, began.elapsed());
    for number in 11..40 {
        put(&client, number).await.map_err(|refused| anyhow::anyhow!("{number}: {refused:?}"))?;
    }
    all_there(&client, 40).await.context("with room again")
}

fn three_members() -> Result<()> {
    let program = subject()?;
    let disk = SmallDisk::mount(300)?;
    let mut cluster = Cluster::spawn_with(&program, 3, |settings| {
        if settings.name == "m3" {
            disk.path().clone_into(&mut settings.data_dir);
        }
    })?;
    cluster.wait_ready()?;
    let result = block_on(one_of_three(&cluster, &disk));
    let logs: Vec<String> = cluster.servers.iter().map(Server::log_end).collect();
    result.with_context(|| logs.join("\n--\n"))
}

async fn status(client: &Client) -> Result<pb::StatusResponse> {
    call(client, method::maintenance::STATUS, &pb::StatusRequest {}).await
}

async fn wait_for_leader(client: &Client, wanted: impl Fn(u64) -> bool) -> Result<()> {
    let end = Instant::now() + SOON;
    loop {
        let leader = status(client).await?.leader;
        if wanted(leader) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{leader:x} leads, and should not");
        tokio::time::sleep(POLL).await;
    }
}

/// Puts until the member on the full disk cannot take any more and is behind; how many keys there are then. How much
/// still goes into the files that its log has already differs.
async fn until_behind(others: &Client, full: &Client, from: usize) -> Result<usize> {
    for number in from..from + 180 {
        put(others, number)
            .await
            .map_err(|refused| anyhow::anyhow!("put {number} on the others: {refused:?}"))?;
        if count(full, true).await?.unsigned_abs() + 8 < number as u64 {
            return Ok(number + 1);
        }
    }
    bail!("a full disk of 300 MiB takes anything")
}

/// The member with the small disk leads when its disk fills: the others go on without it.
async fn one_of_three(cluster: &Cluster, disk: &SmallDisk) -> Result<()> {
    let clients: Vec<Client> = cluster
        .servers
        .iter()
        .map(|server| Client::new(&server.settings.endpoint()))
        .collect::<Result<_>>()?;
    let small = status(&clients[2]).await?;
    let small_id = small.header.context("a header")?.member_id;
    for client in &clients {
        let status = status(client).await?;
        if status.leader == status.header.context("a header")?.member_id
            && status.leader != small_id
        {
            let request = pb::MoveLeaderRequest { target_id: small_id };
            let _: pb::MoveLeaderResponse =
                call(client, method::maintenance::MOVE_LEADER, &request).await?;
        }
    }
    wait_for_leader(&clients[2], |leader| leader == small_id).await?;
    for number in 0..20 {
        until_taken(&clients[0], number).await?;
    }
    // The state is on disk then, and nothing is being written that another's file could cut off: a member
    // that loses its room in the middle of a write of the state ends, and begins again from its log.
    let _: pb::DefragmentResponse =
        call(&clients[2], method::maintenance::DEFRAGMENT, &pb::DefragmentRequest {}).await?;
    disk.fill(4 << 20)?;
    let began = Instant::now();
    wait_for_leader(&clients[0], |leader| leader != small_id && leader != 0).await?;
    until_taken(&clients[0], 20).await?;
    println!("others go on after {:?}", began.elapsed());
    let total = until_behind(&clients[0], &clients[2], 21).await?;
    all_there(&clients[1], total).await.context("the others")?;
    // It serves what it has.
    ensure!(get(&clients[2], 3, true).await? == Some(value(3)), "a read on the full disk");

    disk.relieve()?;
    let end = Instant::now() + SOON;
    while count(&clients[2], true).await?.unsigned_abs() != total as u64 {
        ensure!(Instant::now() < end, "it does not catch up: {:?}", status(&clients[2]).await?);
        tokio::time::sleep(POLL).await;
    }
    let mut hashes = Vec::new();
    for client in &clients {
        let revision = status(&clients[0]).await?.header.context("a header")?.revision;
        let request = pb::HashKvRequest { revision };
        let answer: pb::HashKvResponse =
            call(client, method::maintenance::HASH_KV, &request).await?;
        hashes.push(answer.hash);
    }
    ensure!(hashes.iter().all(|hash| *hash == hashes[0]), "hashes differ: {hashes:?}");
    Ok(())
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real processes: QUORATE_PEERS=1")]
fn full_and_back() {
    one_member().unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real processes: QUORATE_PEERS=1")]
fn one_full_of_three() {
    three_members().unwrap_or_else(|error| panic!("{error:#}"));
}

/// The disk of these tests is as small as it says, and gone when it is dropped, also by a panic.
#[test]
#[cfg_attr(not(peers), ignore = "needs real processes: QUORATE_PEERS=1")]
fn the_test_itself() {
    let mounted = |path: &str| std::fs::read_to_string("/proc/mounts").unwrap().contains(path);
    let disk = SmallDisk::mount(8).expect("a tmpfs");
    let at = disk.path().to_string_lossy().into_owned();
    assert!(mounted(&at) && disk.free_bytes().unwrap() <= 8 << 20);
    disk.fill(1 << 20).unwrap();
    assert!(disk.free_bytes().unwrap() <= 1 << 20);
    let more = std::fs::write(disk.path().join("more"), vec![0; 2 << 20]);
    assert_eq!(more.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    std::fs::remove_file(disk.path().join("more")).unwrap();
    disk.relieve().unwrap();
    assert!(disk.free_bytes().unwrap() > 6 << 20);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _held = disk;
        panic!("as a failing test does");
    }));
    assert!(panicked.is_err() && !mounted(&at), "still mounted: {at}");
}
