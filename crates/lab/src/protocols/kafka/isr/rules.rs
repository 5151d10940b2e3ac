//! The rules, checked from outside: by what consumers could read, what producers were told, and what is in the logs.

use std::collections::BTreeMap;

use super::Isr;
use super::process::{Message, Output};
use crate::process::{Effect, NodeId};
use crate::protocol::{Seen, Stepped, Verdict};
use crate::protocols::kafka::lineage::Lineage;
use crate::protocols::kafka::{Epoch, Log, Record};
use crate::words::count;

/// What was ever seen.
#[derive(Debug)]
pub(super) struct Memory {
    n: usize,
    min_insync: usize,
    leaders: BTreeMap<Epoch, NodeId>,
    /// What consumers could read at each offset.
    committed: BTreeMap<u64, Record>,
    /// What producers were told, and the epoch of the leader that told them.
    acknowledged: BTreeMap<u64, (Record, Epoch)>,
    /// The highest offset that leaders of an epoch have told to be the latest.
    latest: BTreeMap<Epoch, u64>,
    lineage: Lineage,
}

impl Memory {
    pub(super) fn new(n: usize, min_insync: usize) -> Self {
        Self {
            n,
            min_insync,
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            latest: BTreeMap::new(),
            lineage: Lineage::default(),
        }
    }

    pub(super) fn check(&mut self, seen: &Seen<'_, Isr>, verdict: &mut Verdict) {
        let Some(step) = seen.stepped else { return };
        for (from, _, message) in seen.sent() {
            if let Message::Fetched { epoch, .. } | Message::EpochEndOffset { current: epoch, .. } =
                message
            {
                let first = *self.leaders.entry(*epoch).or_insert(from);
                verdict.require("one-leader-an-epoch", first == from, || {
                    format!("{from} leads epoch {epoch}, which {first} has led")
                });
            }
        }
        if step.node.0 < self.n {
            let differs = self.lineage.differs(log(seen, step.node));
            verdict.require("one-lineage", differs.is_none(), || {
                let logs: Vec<_> = NodeId::all(self.n).map(|it| (it, log(seen, it))).collect();
                differs.map_or_else(String::new, |parting| parting.says(&logs))
            });
        }
        for (node, output) in seen.decided() {
            if let Output::Readable { offset, record } = output {
                self.readable(node, *offset, *record, verdict);
            }
        }
        self.replies(seen, step, verdict);
        self.isr_has_committed(seen, verdict);
        self.leader_has_acknowledged(seen, step.node, verdict);
    }

    fn readable(&mut self, node: NodeId, offset: u64, record: Record, verdict: &mut Verdict) {
        let first = *self.committed.entry(offset).or_insert(record);
        verdict.require("committed-once", first == record, || {
            let (this, first) = (record.at(offset), first.at(offset));
            format!("at {node} {this} can be read, and {first} could be read before")
        });
    }

    fn replies(&mut self, seen: &Seen<'_, Isr>, step: Stepped<'_, Isr>, verdict: &mut Verdict) {
        let broker = seen.process(step.node).and_then(super::Server::broker);
        for effect in step.effects {
            match effect {
                Effect::Reply { output: Output::Acknowledged { offset, record }, .. } => {
                    let epoch = broker.and_then(super::Broker::leads).unwrap_or(record.epoch);
                    self.acknowledged.insert(*offset, (*record, epoch));
                    let has = |id: &NodeId| log(seen, *id).get(*offset) == Some(*record);
                    let holders = NodeId::all(self.n).filter(has).count();
                    verdict.require("min-insync", holders >= self.min_insync, || {
                        let (what, most) = (record.at(*offset), self.min_insync);
                        let on = count(holders, "replica", "replicas");
                        format!("{what} is acknowledged, and it is on {on}, fewer than {most}")
                    });
                }
                Effect::Reply { output: Output::Latest { offset, epoch }, .. } => {
                    let before = self.latest.range(..=*epoch).map(|(_, &told)| told).max();
                    verdict.require("watermark-forward", before <= Some(*offset), || {
                        let before = before.unwrap_or_default();
                        format!(
                            "{} tells a client that the latest offset is {offset}, and a client \
                             was told before that it is {before}",
                            step.node
                        )
                    });
                    let told = self.latest.entry(*epoch).or_insert(*offset);
                    *told = (*told).max(*offset);
                }
                _ => {}
            }
        }
    }

    fn isr_has_committed(&self, seen: &Seen<'_, Isr>, verdict: &mut Verdict) {
        for &member in &seen.nodes[self.n].disk.partition.isr {
            let log = log(seen, member);
            let lacks = self.committed.iter().find(|&(&at, &it)| log.get(at) != Some(it));
            verdict.require("isr-has-committed", lacks.is_none(), || {
                let what = lacks.map_or_else(String::new, |(at, it)| it.at(*at));
                format!("{member} is in the ISR, and has not got {what}, which could be read")
            });
        }
    }

    fn leader_has_acknowledged(&self, seen: &Seen<'_, Isr>, node: NodeId, verdict: &mut Verdict) {
        let broker = seen.process(node).and_then(super::Server::broker);
        let Some((broker, leads)) = broker.and_then(|it| Some((it, it.leads()?))) else { return };
        for (&offset, &(record, epoch)) in &self.acknowledged {
            let has = broker.log().get(offset) == Some(record) || epoch > leads;
            verdict.require("acknowledged-survives", has, || {
                let what = record.at(offset);
                format!("{node} leads epoch {leads} without {what}, which was acknowledged")
            });
        }
    }
}

/// What a broker has: while it is down, what is on its disk.
fn log<'a>(seen: &Seen<'a, Isr>, node: NodeId) -> &'a Log {
    let broker = seen.process(node).and_then(super::Server::broker);
    broker.map_or(&seen.nodes[node.0].disk.log, super::Broker::log)
}

/// All are in sync, and all can be read.
pub(super) fn at_end(n: usize, seen: &Seen<'_, Isr>, verdict: &mut Verdict) {
    let partition = &seen.nodes[n].disk.partition;
    verdict.require(
        "ends-when-calm",
        partition.isr.len() == n && partition.leader.is_some(),
        || format!("in the end {partition}; all {n} should be in it"),
    );
    for node in NodeId::all(n) {
        let Some(broker) = seen.process(node).and_then(super::Server::broker) else { continue };
        let (readable, end) = (broker.high_watermark(), broker.log().end());
        verdict.require("ends-when-calm", readable == end, || {
            let records = count(usize::try_from(end).unwrap_or(usize::MAX), "record", "records");
            format!("at {node} {readable} of {records} can be read")
        });
    }
}
