//! The rules, checked from outside: by what was granted, read, written and told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Lock;
use super::process::{Done, FILE_SERVER, File, Message, SERVICE, Token};
use crate::process::{Effect, Input, NodeId};
use crate::protocol::{Seen, Verdict};
use crate::words::count;

/// Clocks run fast by a quarter at most in generated runs.
const FAST_BY_ONE_IN: u32 = 4;

/// A write: the version that it was computed from, and the new sum.
type Written = (u64, u64);

/// What was ever seen.
#[derive(Debug)]
pub(super) struct Memory {
    lease: Duration,
    /// The highest token granted.
    granted: Token,
    /// Wishes that were granted, and under what.
    grants: BTreeSet<(u64, Token)>,
    /// Who has the lock and has not given it back, and since when.
    held: Option<(Token, NodeId, Duration)>,
    /// The highest token under which the file was read or written.
    used: Token,
    /// What clients last asked to write under each token, and what was written.
    asked: BTreeMap<Token, Written>,
    written: BTreeMap<Token, Written>,
    file: File,
}

impl Memory {
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            lease,
            granted: Token(0),
            grants: BTreeSet::new(),
            held: None,
            used: Token(0),
            asked: BTreeMap::new(),
            written: BTreeMap::new(),
            file: File::default(),
        }
    }

    pub(super) fn check(&mut self, seen: &Seen<'_, Lock>, verdict: &mut Verdict) {
        let Some(step) = seen.stepped else { return };
        if let (SERVICE, Input::Message { message: Message::Release(token), .. }) =
            (step.node, step.input)
        {
            self.held.take_if(|(held, ..)| held == token);
        }
        for (from, to, message) in seen.sent() {
            match *message {
                Message::Granted { wish, token } if from == SERVICE => {
                    self.grants((wish, token), to, seen.now, verdict);
                }
                Message::Write { token, base, sum } => {
                    self.asked.insert(token, (base, sum));
                }
                Message::Contents { token, .. } if from == FILE_SERVER => self.uses(token, verdict),
                Message::Written { token, file } if file.version > self.file.version => {
                    self.writes(step.input, token, file, verdict);
                }
                _ => {}
            }
        }
        for effect in step.effects {
            if let Effect::Reply { id, output: Done(token) } = effect {
                let (asked, written) = (self.asked.get(token), self.written.get(token));
                verdict.require("told-is-done", asked.is_some() && asked == written, || {
                    format!(
                        "a client is told that its request {id} is done under token {token}, and \
                         what was asked for under it is not what was written"
                    )
                });
            }
        }
    }

    fn grants(
        &mut self,
        (wish, token): (u64, Token),
        to: NodeId,
        now: Duration,
        verdict: &mut Verdict,
    ) {
        // A repeated answer is no grant.
        if !self.grants.insert((wish, token)) {
            return;
        }
        verdict.require("tokens-rise", token > self.granted, || {
            format!("token {token} is granted to {to} after token {}", self.granted)
        });
        let runs = self.held.filter(|&(_, holder, since)| {
            let passed = now.saturating_sub(since);
            holder != to && passed + passed / FAST_BY_ONE_IN < self.lease
        });
        verdict.require("one-holder", runs.is_none(), || {
            let held = runs.map_or_else(String::new, |(held, who, _)| {
                format!("the lease of {who}, with token {held}, still runs")
            });
            format!("token {token} is granted to {to} while {held}")
        });
        self.granted = self.granted.max(token);
        self.held = Some((token, to, now));
    }

    fn uses(&mut self, token: Token, verdict: &mut Verdict) {
        verdict.require("stale-is-refused", token >= self.used, || {
            format!("the file server serves token {token} after token {}", self.used)
        });
        self.used = self.used.max(token);
    }

    fn writes(
        &mut self,
        input: &Input<Message, super::Timer, super::Update>,
        token: Token,
        file: File,
        verdict: &mut Verdict,
    ) {
        self.uses(token, verdict);
        if let Input::Message { message: Message::Write { base, sum, .. }, .. } = *input {
            verdict.require("no-lost-update", base == self.file.version, || {
                let now = self.file.version;
                format!(
                    "what was computed from version {base} is written over version {now}, under \
                     token {token}"
                )
            });
            self.written.insert(token, (base, sum));
        }
        self.file = file;
    }
}

/// All clients are done.
pub(super) fn at_end(seen: &Seen<'_, Lock>, verdict: &mut Verdict) {
    for (place, node) in seen.nodes.iter().enumerate() {
        let wants = node.process.as_ref().map_or(0, super::Party::wants);
        verdict.require("ends-when-calm", wants == 0, || {
            format!("n{place} still wants {}", count(wants, "update", "updates"))
        });
    }
}
