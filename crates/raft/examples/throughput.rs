//! Committed proposals for each CPU second of three replicas in one thread, without disk and
//! network: what the core itself costs.
//!
//! `cargo run --release -p quorate-raft --example throughput [proposals in a batch]`

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raft::{Config, Input, Membership, Message, Payload, Raft, ReplicaId, Restored};

const PAYLOAD_BYTES: usize = 256;
const NOW: Duration = Duration::ZERO;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let batch: usize = std::env::args().nth(1).map_or(Ok(64), |text| text.parse())?;
    let total = if batch < 8 { 500_000 } else { 4_000_000 };
    let ids: Vec<ReplicaId> = (1..=3).filter_map(ReplicaId::new).collect();
    let founders = Restored::founding(Membership::of_voters(ids.clone()));
    let mut replicas = BTreeMap::new();
    for &id in &ids {
        let raft = Raft::new(NOW, Config::new(id, id.get()), founders.clone())?;
        replicas.insert(id, (raft, 0usize));
    }
    let leader = ids[0];
    let mut network = VecDeque::new();
    replicas.get_mut(&leader).ok_or("seated")?.0.step(NOW, Input::Campaign)?;
    settle(&mut replicas, &mut network)?;

    let start = cpu_seconds()?;
    let mut proposed = 0;
    while proposed < total {
        let fresh = |_| Payload::Data(Bytes::from(vec![7; PAYLOAD_BYTES]));
        let payloads = (0..batch).map(fresh).collect();
        replicas.get_mut(&leader).ok_or("seated")?.0.propose(NOW, payloads)?;
        settle(&mut replicas, &mut network)?;
        proposed += batch;
    }
    let took = cpu_seconds()? - start;
    assert!(replicas.values().all(|&(_, applied)| applied == proposed));
    let tenths = |value: f64| (value * 10.0).round() / 10.0;
    let rate = f64::from(u32::try_from(proposed)?) / took;
    println!("batches of {batch}: {} thousand proposals a CPU second", tenths(rate / 1e3));
    Ok(())
}

/// Lets everything happen that can.
fn settle(
    replicas: &mut BTreeMap<ReplicaId, (Raft, usize)>,
    network: &mut VecDeque<Message>,
) -> Result<(), raft::Stopped> {
    loop {
        for (raft, applied) in replicas.values_mut() {
            work(raft, applied, network)?;
        }
        if network.is_empty() {
            return Ok(());
        }
        while let Some(message) = network.pop_front() {
            if let Some((raft, _)) = replicas.get_mut(&message.to) {
                raft.step(NOW, Input::Receive(message))?;
            }
        }
    }
}

fn work(
    raft: &mut Raft,
    applied: &mut usize,
    network: &mut VecDeque<Message>,
) -> Result<(), raft::Stopped> {
    while let Some(ready) = raft.ready() {
        network.extend(ready.messages);
        if let Some(persist) = ready.persist {
            network.extend(persist.then);
            raft.step(NOW, Input::LogWritten(persist.token))?;
        }
        if let Some(last) = ready.committed.last().map(|entry| entry.index) {
            let data = |entry: &&raft::Entry| matches!(entry.payload, Payload::Data(_));
            *applied += ready.committed.iter().filter(data).count();
            raft.step(NOW, Input::Applied(last))?;
        }
    }
    Ok(())
}

/// CPU time of this thread (Linux).
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = stat.split_whitespace().next().ok_or("empty schedstat")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}
