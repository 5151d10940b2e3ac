//! What happens, written down as data for those who show it. Nothing here has a say in what
//! happens: without [`Tell::Data`](crate::Tell::Data) it does nothing, and it draws nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raft::{LogIndex, LogPosition, Raft};
use store::NodeId;

use super::World;
use super::host::Host;
use super::net::{Fate, Link};
use crate::trace::{Seen, Stand, Status};

/// What was written down last: only what is otherwise is written down again.
#[derive(Default)]
pub(crate) struct Recorded {
    /// How many frames and snapshots were given to the network.
    frames: u64,
    /// Those of which something was written down.
    told: BTreeSet<u64>,
    stands: BTreeMap<NodeId, Stand>,
    statuses: BTreeMap<NodeId, Status>,
    cut: BTreeSet<Link>,
}

/// A member's name, as the story has it. Identifiers of members that were added have 64 bits, which
/// not every reader of JSON can hold as a number.
fn name(id: NodeId) -> String {
    format!("n{:x}", id.0)
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}

impl World {
    /// The number of the next frame.
    pub(super) fn next_frame(&mut self) -> u64 {
        self.recorded.frames += 1;
        self.recorded.frames
    }

    /// Where a member stands, if it stands elsewhere than before.
    pub(super) fn stands(&mut self, id: NodeId) {
        if !self.trace.wants_data() {
            return;
        }
        let host = &self.hosts[&id];
        let Some(raft) = host.raft() else { return };
        let stand = Stand {
            role: format!("{:?}", raft.role()).to_lowercase(),
            term: raft.term().0,
            vote: raft.vote().map(|vote| name(NodeId(vote.get()))),
            commit: raft.committed().0,
            durable: durable(host, raft),
            last: raft.last().index.0,
        };
        if self.recorded.stands.get(&id) != Some(&stand) {
            self.recorded.stands.insert(id, stand.clone());
            self.trace.record(self.now, || Seen::Stands { member: name(id), stand });
        }
    }

    /// Who is up, and who reaches whom, where it is otherwise than before.
    pub(super) fn look_around(&mut self) {
        if !self.trace.wants_data() {
            return;
        }
        for (&id, host) in &self.hosts {
            let status = status(host, self.now);
            if self.recorded.statuses.insert(id, status) != Some(status) {
                self.trace.record(self.now, || Seen::Status { member: name(id), status });
            }
        }
        if *self.net.blocked() != self.recorded.cut {
            self.recorded.cut = self.net.blocked().clone();
            let cut = self.recorded.cut.iter().map(|&(from, to)| (name(from), name(to)));
            self.trace.record(self.now, || Seen::Links { cut: cut.collect() });
        }
    }

    /// What one says to another in a frame, and what becomes of that if it is known by now.
    pub(super) fn said(
        &mut self,
        frame: u64,
        (from, to): Link,
        messages: &[raft::Message],
        fate: Option<&Fate>,
    ) {
        if self.trace.wants_data() && !messages.is_empty() {
            self.recorded.told.insert(frame);
        }
        let lost_us = fate.filter(|fate| fate.lost).map(|fate| micros(fate.due));
        for raft::Message { term, body, .. } in messages {
            self.trace.record(self.now, || Seen::Message {
                frame,
                from: name(from),
                to: name(to),
                term: term.0,
                says: format!("{body:?}").chars().take(300).collect(),
                lost_us,
            });
        }
    }

    /// A snapshot is on its way.
    pub(super) fn snapshot_leaves(&mut self, frame: u64, (from, to): Link, term: u64) {
        if self.trace.wants_data() {
            self.recorded.told.insert(frame);
        }
        self.trace.record(self.now, || Seen::Message {
            frame,
            from: name(from),
            to: name(to),
            term,
            says: "Snapshot".to_owned(),
            lost_us: None,
        });
    }

    /// A frame is over: taken in, or not.
    pub(super) fn frame_ends(&mut self, frame: u64, heard: bool) {
        if !self.recorded.told.contains(&frame) {
            return;
        }
        self.trace.record(self.now, || Seen::Arrives { frame, heard });
    }
}

/// Up to where what a member has in its log is on its disk, which may hold more that was replaced since.
fn durable(host: &Host, raft: &Raft) -> u64 {
    let indices = (raft.truncated().index.0..=raft.last().index.0).rev().map(LogIndex);
    let mut positions =
        indices.filter_map(|index| Some(LogPosition { index, term: raft.term_at(index)? }));
    positions.find(|position| host.mirror.holds(*position)).map_or(0, |position| position.index.0)
}

fn status(host: &Host, now: Duration) -> Status {
    match host.is_up() {
        true if host.paused_until > now => Status::Paused,
        true => Status::Up,
        false if host.removed => Status::Removed,
        false if host.damaged => Status::Lost,
        false => Status::Down,
    }
}
