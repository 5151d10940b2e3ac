//! Checkpoints: how the log is cut (§4.3), and how a replica that was left behind catches up (§4.4).

use super::message::{Checkpoint, Message, Proof, Seq, State};
use super::process::{Output, Party, Timer};
use super::replica::Replica;
use crate::process::{NodeId, Out};

impl Replica {
    /// Of the state as it is now.
    pub(super) fn take_checkpoint(&mut self, out: &mut Out<'_, Party>) {
        let seq = self.log.executed;
        if seq <= self.log.stable.seq {
            return;
        }
        let checkpoint = Checkpoint::signed(self.id, seq, self.log.state.digest());
        self.log.snapshots.insert(seq, self.log.state.clone());
        self.log.checkpoints.entry(seq).or_default().insert(self.id, checkpoint);
        out.send_all(self.others(), &Message::Checkpoint(checkpoint));
        self.count_checkpoints(seq, out);
    }

    /// Says again which checkpoints it has taken that are not stable.
    pub(super) fn repeat_checkpoints(&self, out: &mut Out<'_, Party>) {
        for own in self.log.checkpoints.values().filter_map(|all| all.get(&self.id)) {
            out.send_all(self.others(), &Message::Checkpoint(*own));
        }
    }

    pub(super) fn on_checkpoint(
        &mut self,
        from: NodeId,
        checkpoint: Checkpoint,
        out: &mut Out<'_, Party>,
    ) {
        let seq = checkpoint.seq;
        let signed = checkpoint.signature.signer == from && checkpoint.is_genuine();
        if !signed || !self.settings.is_replica(from) || seq <= self.log.stable.seq {
            return;
        }
        if seq > self.settings.high(self.settings.high(self.log.stable.seq)) {
            // Far ahead. If it tells the truth, it can prove something that is closer.
            return out.send(from, Message::Fetch(self.log.stable.clone()));
        }
        self.log.checkpoints.entry(seq).or_default().insert(from, checkpoint);
        self.count_checkpoints(seq, out);
    }

    /// Stable, when a quorum has the same state.
    fn count_checkpoints(&mut self, seq: Seq, out: &mut Out<'_, Party>) {
        let Some(all) = self.log.checkpoints.get(&seq) else { return };
        for state in all.values().map(|it| it.state) {
            let same = all.values().filter(|it| it.state == state);
            let signatures: Vec<_> = same.map(|it| it.signature).collect();
            if signatures.len() >= self.settings.quorum {
                return self.learn_stable(Proof { seq, state, signatures }, out);
            }
        }
    }

    /// A checkpoint is stable: what is before it is not needed any more. Whoever has not got that far needs the
    /// state, for the others will have dropped the messages too.
    pub(super) fn learn_stable(&mut self, proof: Proof, out: &mut Out<'_, Party>) {
        let seq = proof.seq;
        if seq <= self.log.stable.seq {
            return;
        }
        self.log.stable = proof;
        let log = &mut self.log;
        log.slots.retain(|&at, _| at > seq);
        log.checkpoints.retain(|&at, _| at > seq);
        log.snapshots.retain(|&at, _| at >= seq);
        log.assigned = log.assigned.max(seq);
        if log.executed < seq {
            self.fetch(out);
        }
        self.assign(out);
    }

    pub(super) fn is_behind(&self) -> bool {
        self.log.executed < self.log.stable.seq
    }

    pub(super) fn fetch(&self, out: &mut Out<'_, Party>) {
        out.send_all(self.others(), &Message::Fetch(self.log.stable.clone()));
        out.set(Timer::Again, self.settings.timeout);
    }

    /// Shows its last stable checkpoint.
    pub(super) fn show_state(&self, to: NodeId, out: &mut Out<'_, Party>) {
        if let Some(state) = self.log.snapshots.get(&self.log.stable.seq) {
            let (proof, state) = (self.log.stable.clone(), state.clone());
            out.send(to, Message::State { proof, state });
        }
    }

    pub(super) fn on_fetch(&mut self, from: NodeId, proof: &Proof, out: &mut Out<'_, Party>) {
        if proof.is_genuine(&self.settings) {
            self.learn_stable(proof.clone(), out);
            self.show_state(from, out);
        }
    }

    /// The state from one replica is as good as from all, if it has the digest that a quorum signed.
    pub(super) fn on_state(&mut self, proof: Proof, state: State, out: &mut Out<'_, Party>) {
        let seq = proof.seq;
        let proved = proof.is_genuine(&self.settings) && state.digest() == proof.state;
        if !(proved || self.settings.unproved_state) || seq < self.log.stable.seq {
            return;
        }
        if seq > self.log.executed {
            self.log.executed = seq;
            self.log.state = state.clone();
            self.log.snapshots.insert(seq, state);
            out.decide(Output::Installed { seq, state: self.log.state.digest() });
            self.forget_executed();
        }
        self.learn_stable(proof, out);
        self.execute(out);
    }
}
