//! What happens goes to the watchers that are synced.

use mvcc::{Commit, ReadError, Revision, View};

use super::encode::Encoder;
use super::hub::{Hub, Place, TopicKey};
use super::mutant::{self, Mutant};

impl Hub {
    /// Tells synced watchers of a commit. Commits come in the order of their revisions; one that
    /// was published before is ignored, and if some were left out, all watchers read them from a
    /// view later. `view` contains the commit; versions before it are looked up there.
    ///
    /// # Errors
    /// The engine's. What was told and what not is then unclear: drop the hub.
    pub fn publish(&mut self, commit: &Commit, view: &View) -> Result<(), ReadError> {
        if commit.revision <= self.revision {
            return Ok(());
        }
        if commit.revision > self.revision.next() {
            self.jump(commit.revision);
            return Ok(());
        }
        let mut encoder = Encoder::new(commit, view);
        for (topic, changes) in self.concerned(commit) {
            let wants = self.topics[topic].wants;
            let events = encoder.events(&changes, wants)?;
            let mut slot = 0;
            // A watcher whose stream is full leaves the list; the last one takes its slot.
            while let Some(watcher) = self.topics[topic].synced.get(slot).copied() {
                let Place::Synced { from, .. } = self.watchers[watcher].place else {
                    panic!("only synced watchers are on the list");
                };
                let waits = from > commit.revision && !mutant::on(Mutant::IgnoreStart);
                if waits || self.tell(watcher, commit.revision, &events) {
                    slot += 1;
                } else {
                    self.unsettle(watcher);
                    let too_far = i64::from(mutant::on(Mutant::StallTooFar));
                    self.stall(watcher, Revision(commit.revision.0 + too_far));
                }
            }
        }
        self.revision = commit.revision;
        Ok(())
    }

    /// The topics with synced watchers that want some of the commit, and what they want of it.
    fn concerned(&self, commit: &Commit) -> Vec<(TopicKey, Vec<usize>)> {
        let mut pairs = Vec::new();
        for (at, change) in commit.changes.iter().enumerate() {
            self.index.containing(&change.key, |key| {
                let topic = &self.topics[key];
                if topic.wants.sees(change) && !topic.synced.is_empty() {
                    pairs.push((key, at));
                }
            });
        }
        pairs.sort_unstable();
        let mut concerned: Vec<(TopicKey, Vec<usize>)> = Vec::new();
        for (topic, at) in pairs {
            match concerned.last_mut() {
                Some((last, changes)) if *last == topic => changes.push(at),
                _ => concerned.push((topic, vec![at])),
            }
        }
        concerned
    }

    /// Goes to `revision` without having seen the commits up to it, as after a snapshot was
    /// taken over: every watcher that should have been told of them is behind now. Ignored if
    /// the hub is there or beyond.
    pub fn jump(&mut self, revision: Revision) {
        if revision <= self.revision {
            return;
        }
        let missed = self.revision.next();
        self.revision = revision;
        if mutant::on(Mutant::ForgetJump) {
            return;
        }
        let watchers: Vec<_> = self.watchers.iter().map(|(key, _)| key).collect();
        for key in watchers {
            if let Place::Synced { from, .. } = self.watchers[key].place
                && from <= revision
            {
                self.unsettle(key);
                self.settle(key, from.max(missed));
            }
        }
    }
}
