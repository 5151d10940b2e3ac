//! The replica as a learner and a state machine: what is chosen, applied, discarded and caught up with.

use super::message::{Message, Output, Slot, State, Value};
use super::process::MultiPaxos;
use crate::process::{NodeId, Out};
use crate::protocols::paxos::Ballot;

impl MultiPaxos {
    /// The leader of this ballot says that every slot below `commit` is chosen. What was accepted *in this
    /// ballot* there is what was chosen: a ballot has one value in a slot. What was accepted in an earlier
    /// ballot need not be.
    pub(super) fn learn_below(&mut self, ballot: Ballot, commit: Slot, out: &mut Out<'_, Self>) {
        let first = self.state.next;
        if first < commit {
            let any = self.settings.commit_any_ballot;
            let accepted = self.accepted.range(first..commit);
            let chosen = accepted.filter(|(_, it)| any || it.ballot == ballot);
            self.learned.extend(chosen.map(|(&slot, it)| (slot, it.value)));
        }
        self.advance(out);
    }

    /// Applies what is chosen, slot by slot, up to the first that is not known to be.
    pub(super) fn advance(&mut self, out: &mut Out<'_, Self>) {
        while let Some((slot, value)) = self.next_to_apply() {
            self.state.next = slot;
            self.state.apply(value, !self.settings.apply_twice);
            out.decide(Output::Applied { slot, value });
            if let Value::Write(command) = value {
                let took_effect = self.state.slot_of(command.id).unwrap_or(slot);
                self.answer(command.id, took_effect, out);
            }
        }
        if self.state.next >= self.snapshot.next.plus(self.settings.snapshot_slots) {
            self.take_snapshot(out);
        }
    }

    fn next_to_apply(&self) -> Option<(Slot, Value)> {
        let (&slot, &value) = self.learned.range(self.state.next..).next()?;
        (slot == self.state.next || self.settings.apply_out_of_order).then_some((slot, value))
    }

    /// Keeps what came of the slots below the first that is not applied, and discards those.
    fn take_snapshot(&mut self, out: &mut Out<'_, Self>) {
        let mut snapshot = self.state.clone();
        if self.settings.snapshot_beyond
            && let Some((last, _)) = self.accepted.last_key_value()
        {
            snapshot.next = snapshot.next.max(last.next());
        }
        let next = snapshot.next;
        self.learned = self.learned.split_off(&next);
        self.accepted = self.accepted.split_off(&next);
        // In one write: with either alone, accepted values were lost, or kept for ever.
        out.persist(|disk| {
            disk.accepted = disk.accepted.split_off(&next);
            disk.snapshot = snapshot.clone();
        });
        out.note(|| format!("snapshot {snapshot}: discards those slots"));
        self.snapshot = snapshot;
    }

    // Catching up.

    /// Somebody lags. What was discarded is told as a snapshot.
    pub(super) fn on_ask(&self, from: NodeId, slot: Slot, out: &mut Out<'_, Self>) {
        if slot < self.snapshot.next {
            out.send(from, Message::Snapshot(self.snapshot.clone()));
        }
        let first = slot.max(self.snapshot.next);
        if first < self.state.next {
            let values: Vec<Value> = first
                .up_to(self.state.next)
                .map_while(|slot| self.learned.get(&slot).copied())
                .collect();
            out.send(from, Message::Chosen { from: first, values });
        }
    }

    pub(super) fn on_chosen(&mut self, first: Slot, values: Vec<Value>, out: &mut Out<'_, Self>) {
        if self.learns_from_acceptors_only() || first > self.state.next {
            return; // In the latter case the snapshot before it was lost: it will ask again.
        }
        let chosen = (first.0..).map(Slot).zip(values);
        self.learned.extend(chosen.filter(|&(slot, _)| slot >= self.state.next));
        self.advance(out);
    }

    /// Takes over a snapshot, if it is ahead of what is applied.
    pub(super) fn install(&mut self, state: State, out: &mut Out<'_, Self>) {
        if self.learns_from_acceptors_only() || state.next <= self.state.next {
            return;
        }
        out.decide(Output::Installed { next: state.next });
        self.state = state;
        self.take_snapshot(out);
        for (slot, command) in self.state.written.clone() {
            self.answer(command.id, slot, out);
        }
        self.advance(out);
    }

    /// A leader learns from its acceptors and from nobody else, so that "every slot below is chosen", said by
    /// the leader of ballot b, means for slots in which it proposed: chosen *in ballot b*. Otherwise:
    /// 1. it proposes v in ballot b, and some accept it; not many enough.
    /// 2. A later leader gets v' chosen there.
    /// 3. A late answer tells the former that the slot is chosen, and it tells those who accepted v in b.
    /// 4. They have promised nothing higher, and take v for chosen.
    fn learns_from_acceptors_only(&self) -> bool {
        self.leads()
    }
}
