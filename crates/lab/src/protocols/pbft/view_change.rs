//! View changes (§4.4): how a primary is replaced, and what its successor is bound to.

use std::collections::BTreeMap;

use super::message::{
    Assignment, Certificate, Message, NewView, Phase, Proof, Seq, ViewChange, ViewNumber, Vote,
};
use super::process::{Party, Settings, Timer};
use super::replica::Replica;
use crate::process::{NodeId, Out};

impl Replica {
    /// It is up again. What it had not said yet, nobody will miss; what got lost, it says again.
    pub(super) fn come_again(&mut self, out: &mut Out<'_, Party>) {
        self.say_again(out);
        self.await_new_view(out);
    }

    /// Leaves all views before this one: from now on it votes in none of them.
    pub(super) fn change_view(&mut self, view: ViewNumber, out: &mut Out<'_, Party>) {
        if view <= self.log.view || self.settings.no_view_change {
            return;
        }
        out.note(|| format!("leaves {} for {view}", self.log.view));
        self.log.view = view;
        self.log.active = false;
        self.attempts = self.attempts.saturating_add(1);
        self.awaits_new_view = false;
        self.watch_anew(out);
        let slots = self.log.slots.values();
        let mut prepared: Vec<Certificate> =
            slots.filter_map(|slot| slot.certificate.clone()).collect();
        if self.settings.forget_certificates {
            prepared.clear();
        }
        let own = ViewChange::signed(self.id, view, self.log.stable.clone(), prepared);
        self.log.view_changes.insert(self.id, own);
        self.say_again(out);
        self.await_new_view(out);
    }

    /// Says again what may have been lost, until it is in a view and has the state.
    pub(super) fn say_again(&mut self, out: &mut Out<'_, Party>) {
        if !self.log.active {
            if let Some(own) = self.log.view_changes.get(&self.id) {
                out.send_all(self.others(), &Message::ViewChange(own.clone()));
            }
            out.set(Timer::Again, self.settings.timeout);
        }
        self.repeat_checkpoints(out);
        if self.is_behind() {
            self.fetch(out);
        }
    }

    pub(super) fn on_view_change(&mut self, view_change: ViewChange, out: &mut Out<'_, Party>) {
        let from = view_change.signature.signer;
        if from == self.id || !view_change.is_genuine(&self.settings) {
            return;
        }
        if view_change.stable.seq < self.log.stable.seq {
            self.show_state(from, out);
        }
        self.learn_stable(view_change.stable.clone(), out);
        let view = view_change.view;
        if self.log.active && view <= self.log.view {
            // It did not hear that this view has begun.
            if let Some(new_view) = &self.log.new_view {
                out.send(from, Message::NewView(new_view.clone()));
            }
            return;
        }
        let known = self.log.view_changes.get(&from).map(|known| known.view);
        if known.is_none_or(|known| known < view) {
            self.log.view_changes.insert(from, view_change);
        }
        self.join(out);
        self.await_new_view(out);
    }

    /// If f+1 others want a later view, one of them is loyal: follows them to the first of those views, without
    /// waiting for its own timer (§4.5.2).
    fn join(&mut self, out: &mut Out<'_, Party>) {
        let all = self.log.view_changes.values().map(|it| it.view);
        let later: Vec<ViewNumber> = all.filter(|&view| view > self.log.view).collect();
        if let Some(&first) = later.iter().min().filter(|_| later.len() > self.settings.f) {
            self.change_view(first, out);
        }
    }

    /// With a quorum of view-changes, the new primary begins the view, and the others are impatient to see it.
    /// Who wants a later view by now wanted this one, too: its word for it may be lost.
    fn await_new_view(&mut self, out: &mut Out<'_, Party>) {
        let view = self.log.view;
        let all = self.log.view_changes.values();
        let exact = all.clone().filter(|it| it.view == view).take(self.settings.quorum);
        let view_changes: Vec<ViewChange> = exact.cloned().collect();
        let wanted = all.filter(|it| it.view >= view).count() >= self.settings.quorum;
        if self.log.active {
            return;
        }
        if self.is_primary() && view_changes.len() >= self.settings.quorum {
            let pre_prepare = |assignment| Vote::signed(self.id, Phase::PrePrepare, assignment);
            let follows = follows_from(&self.settings, view, &view_changes);
            let pre_prepares: Vec<Vote> = follows.into_iter().map(pre_prepare).collect();
            let new_view = NewView::signed(self.id, view, view_changes, pre_prepares);
            out.send_all(self.others(), &Message::NewView(new_view.clone()));
            self.enter(new_view, out);
        } else if wanted && !self.awaits_new_view {
            self.awaits_new_view = true;
            out.set(Timer::Patience, self.patience());
        }
    }

    pub(super) fn on_new_view(&mut self, new_view: NewView, out: &mut Out<'_, Party>) {
        let view = new_view.view;
        let known = view < self.log.view || view == self.log.view && self.log.active;
        let signer = new_view.signature.signer;
        if known || signer != self.settings.primary(view) || !new_view.is_genuine() {
            return;
        }
        if entitled(&self.settings, &new_view) {
            self.enter(new_view, out);
        } else {
            out.note(|| format!("the new-view of {signer} does not follow from its view-changes"));
        }
    }

    /// Is in the view. What it is bound to goes through the three phases again; what was executed is not
    /// executed again.
    fn enter(&mut self, new_view: NewView, out: &mut Out<'_, Party>) {
        self.log.view = new_view.view;
        self.log.active = false;
        self.awaits_new_view = false;
        self.watch_anew(out);
        let stable = last_stable(&new_view.view_changes);
        let seqs = new_view.pre_prepares.iter().map(|vote| vote.assignment.seq);
        self.log.assigned = seqs.chain([stable.seq]).max().unwrap_or_default();
        self.log.new_view = Some(new_view.clone());
        // Not in the view yet: nothing is assigned before what it is bound to.
        self.learn_stable(stable, out);
        self.repeat_checkpoints(out);
        self.log.active = true;
        for vote in new_view.pre_prepares {
            if vote.assignment.seq > self.log.stable.seq {
                self.accept(vote, out);
            }
        }
        self.take_early(out);
        self.assign(out);
    }
}

/// The last checkpoint that is stable by these view-changes: it ends at the paper's min-s.
fn last_stable(view_changes: &[ViewChange]) -> Proof {
    let proofs = view_changes.iter().map(|it| &it.stable);
    proofs.max_by_key(|proof| proof.seq).cloned().unwrap_or_default()
}

/// What the primary of a view is bound to by its view-changes, from min-s to max-s: for each sequence number the
/// request of the certificate of the highest view, and the null request if there is none.
pub(super) fn follows_from(
    settings: &Settings,
    view: ViewNumber,
    view_changes: &[ViewChange],
) -> Vec<Assignment> {
    let min_s = last_stable(view_changes).seq;
    let mut chosen: BTreeMap<Seq, Assignment> = BTreeMap::new();
    for certificate in view_changes.iter().flat_map(|it| &it.prepared) {
        let candidate = certificate.assignment;
        let best = chosen.entry(candidate.seq).or_insert(candidate);
        let better = if settings.lowest_view {
            candidate.view < best.view
        } else {
            candidate.view > best.view
        };
        if better {
            *best = candidate;
        }
    }
    let max_s = chosen.last_key_value().map_or(min_s, |(&seq, _)| seq);
    let assignment = |seq| {
        let request = chosen.get(&seq).and_then(|best| best.request);
        Assignment { view, seq, request }
    };
    min_s.up_to(max_s).map(assignment).collect()
}

/// Whether a new-view follows from a quorum of proper view-changes. Each backup does the sum itself: a lying
/// primary can leave out what it likes of a quorum too many, and can invent nothing.
fn entitled(settings: &Settings, new_view: &NewView) -> bool {
    let view = new_view.view;
    let signers: std::collections::BTreeSet<NodeId> =
        new_view.view_changes.iter().map(|it| it.signature.signer).collect();
    let proper = |it: &ViewChange| it.view == view && it.is_genuine(settings);
    let quorum = signers.len() == new_view.view_changes.len()
        && signers.len() >= settings.quorum
        && new_view.view_changes.iter().all(proper);
    let primary = settings.primary(view);
    let signed = |vote: &Vote| {
        vote.phase == Phase::PrePrepare
            && vote.assignment.view == view
            && vote.signature.signer == primary
            && vote.is_genuine()
    };
    let said: Vec<Assignment> = new_view.pre_prepares.iter().map(|vote| vote.assignment).collect();
    let follows = follows_from(settings, view, &new_view.view_changes);
    quorum && new_view.pre_prepares.iter().all(signed) && (said == follows || settings.unchecked_o)
}
