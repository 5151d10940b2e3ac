//! Watchers that are behind read history, a window at a time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use mvcc::{ReadError, Revision, View};

use super::encode::Encoder;
use super::hub::{Hub, TopicKey, WatcherKey};
use super::index::Index;
use super::message::Kind;
use super::mutant::{self, Mutant};

/// What a window of history holds for the topics of a cohort.
struct Window {
    events: BTreeMap<TopicKey, BytesMut>,
    /// First revision that was not read.
    end: Revision,
    commits: usize,
}

impl Hub {
    /// Whether [`Hub::catch_up`] has something to do.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.cohorts.is_empty()
    }

    /// Reads about `commits` commits of history for watchers that are behind. Returns how many
    /// it read, at least one if any watcher was moved. A view older than the hub is no use and
    /// changes nothing.
    ///
    /// # Errors
    /// The engine's. What was told and what not is then unclear: drop the hub.
    pub fn catch_up(&mut self, view: &View, commits: usize) -> Result<usize, ReadError> {
        if view.revision() < self.revision {
            return Ok(0);
        }
        let mut read = 0;
        while read < commits {
            let from_cursor = self.cohorts.range(self.cursor..).next();
            let Some((next, _)) = from_cursor.or_else(|| self.cohorts.first_key_value()) else {
                break;
            };
            let next = *next;
            read += self.take_turn(view, next, commits - read)?.max(1);
        }
        Ok(read)
    }

    /// One window for the cohort at `next`.
    fn take_turn(
        &mut self,
        view: &View,
        next: Revision,
        commits: usize,
    ) -> Result<usize, ReadError> {
        let cohort = self.cohorts.remove(&next).expect("it was just found");
        assert!(!cohort.is_empty() && next <= self.revision, "a cohort is behind");
        if next < view.compacted() {
            if mutant::on(Mutant::SkipCompacted) {
                for key in cohort {
                    self.unsettle(key);
                    self.settle(key, view.compacted());
                }
                return Ok(0);
            }
            self.end_compacted(cohort, view.compacted());
            return Ok(0);
        }
        let mut members: BTreeMap<TopicKey, Vec<WatcherKey>> = BTreeMap::new();
        for key in cohort {
            let watcher = &self.watchers[key];
            if self.is_full(&self.streams[watcher.stream]) {
                self.unsettle(key);
                self.stall(key, next);
            } else {
                members.entry(watcher.topic).or_default().push(key);
            }
        }
        if members.is_empty() {
            return Ok(0);
        }
        let window = self.read(view, next, commits, members.keys().copied())?;
        assert!(window.end > next, "a window moves on");
        let Window { mut events, end, commits } = window;
        for (topic, watchers) in members {
            let events = events.remove(&topic).map_or(Bytes::new(), BytesMut::freeze);
            let told = end.previous();
            let told = if mutant::on(Mutant::HeaderTooFar) { self.revision } else { told };
            for key in watchers {
                self.unsettle(key);
                if events.is_empty() || self.tell(key, told, &events) {
                    let twice = end > next.next() && mutant::on(Mutant::ReadTwice);
                    self.settle(key, if twice { end.previous() } else { end });
                } else {
                    self.stall(key, next);
                }
            }
        }
        // The cohort at `end`, of which these are now part, has its turn in the next round.
        self.cursor = end.next();
        Ok(commits)
    }

    fn read(
        &self,
        view: &View,
        next: Revision,
        commits: usize,
        topics: impl Iterator<Item = TopicKey>,
    ) -> Result<Window, ReadError> {
        let limits = &self.config.limits;
        let mut index = Index::new(self.config.seed);
        for key in topics {
            index.insert(&self.topics[key].keys, key);
        }
        // Where another cohort stands, the two become one.
        let end = match self.cohorts.range(next..).next() {
            Some((other, _)) => *other,
            None => self.revision.next(),
        };
        let last = if mutant::on(Mutant::MeetTooLate) { end } else { end.previous() };
        let mut window = Window { events: BTreeMap::new(), end, commits: 0 };
        let commits_max = limits.window_commits_max.min(commits).max(1);
        let mut bytes = 0;
        for commit in view.events(next..=last)? {
            let commit = commit?;
            let mut encoder = Encoder::new(&commit, view);
            for (at, change) in commit.changes.iter().enumerate() {
                bytes += change.key.len();
                bytes += change.record.as_ref().map_or(0, |record| record.encoded.len());
                let mut outcome = Ok(());
                index.containing(&change.key, |key: TopicKey| {
                    let wants = self.topics[key].wants;
                    if outcome.is_ok() && wants.sees(change) {
                        outcome = encoder.event(at, wants).map(|event| {
                            bytes += event.len();
                            window.events.entry(key).or_default().extend_from_slice(&event);
                        });
                    }
                });
                outcome?;
                if bytes >= limits.window_bytes_max && mutant::on(Mutant::SplitCommit) {
                    break;
                }
            }
            window.commits += 1;
            if window.commits == commits_max || bytes >= limits.window_bytes_max {
                window.end = commit.revision.next();
                break;
            }
        }
        Ok(window)
    }

    fn end_compacted(&mut self, cohort: BTreeSet<WatcherKey>, compacted: Revision) {
        for key in cohort {
            let (stream, id) = (self.watchers[key].stream, self.watchers[key].id);
            self.remove(key);
            let kind = Kind::Compacted { compacted };
            // No revision: etcd sends none, and there is nothing to resume.
            self.send(stream, self.message(Revision(0), id, kind, Bytes::new()));
        }
    }
}
