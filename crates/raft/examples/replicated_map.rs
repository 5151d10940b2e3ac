//! A map replicated on five nodes in one process: what a driver of the core has to do.
//!
//! The "disk" is a vector that is durable at once and the "network" a queue that loses nothing,
//! so the whole driver is `Node::work`. Run with `cargo run -p quorate-raft --example replicated_map`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raft::{Config, Input, Membership, Message, Payload, Raft, ReplicaId, Restored};

struct Node {
    raft: Raft,
    map: BTreeMap<String, String>,
}

impl Node {
    /// Does everything that the core asks for.
    fn work(&mut self, now: Duration, network: &mut VecDeque<Message>) {
        while let Some(ready) = self.raft.ready() {
            network.extend(ready.messages);
            if let Some(persist) = ready.persist {
                // A real driver writes `persist.hard_state` and `persist.entries` and syncs.
                network.extend(persist.then);
                self.raft.step(now, Input::LogWritten(persist.token)).expect("safe");
            }
            for entry in ready.committed {
                if let Payload::Data(data) = entry.payload {
                    let text = String::from_utf8_lossy(&data);
                    let (key, value) = text.split_once('=').expect("proposed below");
                    self.map.insert(key.to_owned(), value.to_owned());
                }
                self.raft.step(now, Input::Applied(entry.index)).expect("safe");
            }
            for read in ready.reads {
                println!("read {} is good at index {}: {:?}", read.ctx, read.index, self.map);
            }
        }
    }
}

/// Lets everything happen that can happen at this time.
fn settle(now: Duration, nodes: &mut BTreeMap<ReplicaId, Node>) {
    let mut network = VecDeque::new();
    loop {
        nodes.values_mut().for_each(|node| node.work(now, &mut network));
        let Some(message) = network.pop_front() else { return };
        if let Some(node) = nodes.get_mut(&message.to) {
            node.raft.step(now, Input::Receive(message)).expect("safe");
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ids: Vec<ReplicaId> = (1..=5).filter_map(ReplicaId::new).collect();
    let founders = Restored::founding(Membership::of_voters(ids.clone()));
    let mut nodes = BTreeMap::new();
    for &id in &ids {
        let config = Config::new(id, id.get());
        let raft = Raft::new(Duration::ZERO, config, founders.clone())?;
        nodes.insert(id, Node { raft, map: BTreeMap::new() });
    }

    // Time passes until the first election timeout; whoever it is campaigns and wins.
    let now = nodes.values().filter_map(|node| node.raft.next_deadline()).min();
    let now = now.ok_or("nobody waits for anything")?;
    nodes.values_mut().try_for_each(|node| node.raft.step(now, Input::Timeout))?;
    settle(now, &mut nodes);
    let leader = nodes.values().find_map(|node| node.raft.leader()).ok_or("no leader")?;
    println!("{leader} leads");

    // Two of five may be lost.
    let lost: Vec<ReplicaId> = ids.into_iter().filter(|&id| id != leader).take(2).collect();
    nodes.retain(|id, _| !lost.contains(id));
    let node = nodes.get_mut(&leader).ok_or("the leader is still there")?;
    let data = |text: &'static str| Payload::Data(Bytes::from_static(text.as_bytes()));
    node.raft.propose(now, vec![data("colour=green"), data("shape=round"), data("colour=blue")])?;
    settle(now, &mut nodes);
    let node = nodes.get_mut(&leader).ok_or("the leader is still there")?;
    node.raft.step(now, Input::ReadIndex(7))?;
    settle(now, &mut nodes);
    for (id, node) in &nodes {
        println!("{id} has {:?}", node.map);
        assert_eq!(Some("blue"), node.map.get("colour").map(String::as_str));
    }
    Ok(())
}
