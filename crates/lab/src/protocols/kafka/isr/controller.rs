//! The controller: one reliable process that stands for ZooKeeper, or for KRaft's quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::process::{Disk, Message, Partition, Server, Settings, Timer};
use crate::process::{Input, InputOf, NodeId, Now, Out};
use crate::protocols::kafka::Epoch;
use crate::view::View;

/// What the controller knows of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    /// The latest life that it has heard of.
    broker_epoch: u64,
    /// When it last heard of it.
    heard: Duration,
    /// It has not been heard of for too long.
    fenced: bool,
}

/// The controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Controller {
    settings: Rc<Settings>,
    /// In memory what is on the disk.
    partition: Partition,
    sessions: BTreeMap<NodeId, Session>,
}

impl Controller {
    pub(super) fn new(settings: Rc<Settings>, disk: &Disk) -> Self {
        let session = Session { broker_epoch: 1, heard: Duration::ZERO, fenced: false };
        let sessions = NodeId::all(settings.n).map(|id| (id, session.clone())).collect();
        Self { settings, partition: disk.partition.clone(), sessions }
    }

    pub(super) fn step(&mut self, now: Now, input: InputOf<Server>, out: &mut Out<'_, Server>) {
        match input {
            Input::Start | Input::Restart => {
                for session in self.sessions.values_mut() {
                    session.heard = now.local;
                }
                out.set(Timer::Sessions, self.settings.session / 3);
            }
            Input::Timer(Timer::Sessions) => {
                self.expire(now.local, out);
                out.set(Timer::Sessions, self.settings.session / 3);
            }
            Input::Message { from, message } => match message {
                Message::Heartbeat { broker_epoch, partition_epoch } => {
                    self.on_heartbeat(from, broker_epoch, partition_epoch, now.local, out);
                }
                Message::AlterPartition { leader_epoch, partition_epoch, isr } => {
                    self.on_alter(from, leader_epoch, partition_epoch, isr, out);
                }
                _ => {} // Meant for brokers.
            },
            Input::Timer(_) | Input::Request { .. } => {}
        }
    }

    fn on_heartbeat(
        &mut self,
        from: NodeId,
        broker_epoch: u64,
        known: Option<u64>,
        now: Duration,
        out: &mut Out<'_, Server>,
    ) {
        let Some(session) = self.sessions.get_mut(&from) else { return };
        if broker_epoch < session.broker_epoch {
            return; // Of an earlier life.
        }
        let restarted = broker_epoch > session.broker_epoch;
        *session = Session { broker_epoch, heard: now, fenced: false };
        if self.partition.leader.is_none() || restarted && self.partition.leader == Some(from) {
            // A leader that came again has forgotten what it led: its successor has an epoch of its own.
            self.elect(Some(from), out);
        }
        if known != Some(self.partition.partition_epoch) {
            self.tell(from, out);
        }
    }

    /// Fences brokers that were not heard of.
    fn expire(&mut self, now: Duration, out: &mut Out<'_, Server>) {
        let session = self.settings.session;
        let late = |it: &&mut Session| !it.fenced && now.saturating_sub(it.heard) > session;
        let mut late: Vec<NodeId> = {
            let sessions = self.sessions.iter_mut();
            sessions.filter_map(|(&id, it)| late(&it).then(|| (id, it.fenced = true).0)).collect()
        };
        // The leader last: then its successor is one that is alive.
        late.sort_by_key(|id| self.partition.leader == Some(*id));
        for id in late {
            self.fence(id, out);
        }
    }

    fn fence(&mut self, id: NodeId, out: &mut Out<'_, Server>) {
        out.note(|| format!("{id} is gone"));
        let led = self.partition.leader == Some(id);
        // The last one in sync stays: only it has all that is committed.
        let leaves = self.partition.isr.len() > 1 && self.partition.isr.remove(&id);
        if led {
            self.elect(None, out);
        } else if leaves {
            self.changed(out);
        }
    }

    /// A leader from the ISR: the first that is alive, and another than the one before if there is one.
    fn elect(&mut self, before: Option<NodeId>, out: &mut Out<'_, Server>) {
        let alive = |id: &NodeId| self.sessions.get(id).is_some_and(|it| !it.fenced);
        let mut clean: Vec<NodeId> = self.partition.isr.iter().copied().filter(alive).collect();
        clean.sort_by_key(|&id| before == Some(id));
        let mut chosen = clean.first().copied();
        if chosen.is_none() && self.settings.unclean_election {
            chosen = self.sessions.keys().copied().find(alive);
            self.partition.isr.extend(chosen);
            self.partition.isr.retain(|&id| chosen.is_none_or(|chosen| chosen == id));
        }
        if chosen.is_none() && self.partition.leader.is_none() {
            return; // Offline as before.
        }
        self.partition.leader = chosen;
        if !self.settings.epoch_not_raised {
            self.partition.leader_epoch = self.partition.leader_epoch.next();
        }
        out.note(|| format!("elects: {}", self.partition));
        self.changed(out);
    }

    /// Compare and set.
    fn on_alter(
        &mut self,
        from: NodeId,
        leader_epoch: Epoch,
        partition_epoch: u64,
        isr: BTreeSet<NodeId>,
        out: &mut Out<'_, Server>,
    ) {
        let leads =
            (self.partition.leader, self.partition.leader_epoch) == (Some(from), leader_epoch);
        let newest = partition_epoch == self.partition.partition_epoch;
        if leads && (newest || self.settings.any_partition_epoch) && isr.contains(&from) {
            self.partition.isr = isr;
            self.changed(out);
        } else {
            out.note(|| format!("refuses: it is at {}", self.partition));
            self.tell(from, out);
        }
    }

    fn changed(&mut self, out: &mut Out<'_, Server>) {
        self.partition.partition_epoch += 1;
        let partition = self.partition.clone();
        out.persist(|disk| disk.partition = partition);
        for to in NodeId::all(self.settings.n) {
            self.tell(to, out);
        }
    }

    fn tell(&self, to: NodeId, out: &mut Out<'_, Server>) {
        let Some(session) = self.sessions.get(&to) else { return };
        let (broker_epoch, partition) = (session.broker_epoch, self.partition.clone());
        out.send(to, Message::LeaderAndIsr { broker_epoch, partition });
    }

    pub(super) fn view(&self) -> View {
        let fenced = self.sessions.iter().filter(|(_, it)| it.fenced).map(|(&id, _)| id).collect();
        View { role: "controller".to_owned(), ..View::default() }
            .with("fenced", super::process::names(&fenced))
    }
}
