//! One number that stands for everything that happened, the story of it in words, and all of it as
//! data.
//!
//! # The file of a trace
//!
//! `quorate-sim trace` writes one JSON object: `format` (1), the `plan`, the rule that was `broken`
//! (or null), and `events`, a list of [`Happened`] by time: each has `at_us`, a `kind` (that of
//! [`Seen`], in snake case) and the fields of its kind. A page needs no more to show members,
//! their roles, terms and logs, the messages between them, and what befell whom.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What is remembered of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    tell: Tell,
    lines: Vec<String>,
    seen: Vec<Happened>,
}

/// Something that happened, for those who show it. In a file of `quorate-sim trace` these are the
/// `events`, in the order of their times; fields that a kind has not are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// When, in microseconds of true time.
    pub at_us: u64,
    /// What.
    #[serde(flatten)]
    pub seen: Seen,
}

/// What can be seen to happen. `kind` names it in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Seen {
    /// A line of the story: faults, starts and ends, requests and answers.
    Told {
        /// The line.
        words: String,
    },
    /// A member stands elsewhere than before.
    Stands {
        /// Which.
        node: u64,
        /// `leader`, `candidate` and so on, as Raft has it.
        role: String,
        /// Its term.
        term: u64,
        /// Whom it has voted for in it.
        vote: Option<u64>,
        /// Up to where it knows its log to be committed.
        commit: u64,
        /// The last entry of its log.
        last: u64,
    },
    /// A member gives a message to the network.
    Message {
        /// Who.
        from: u64,
        /// To whom.
        to: u64,
        /// The sender's term.
        term: u64,
        /// What, shortened.
        says: String,
    },
}

/// How much is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tell {
    /// Nothing: only the hash.
    #[default]
    Nothing,
    /// Who did what: faults, elections, requests and answers.
    Story,
    /// Every message and write as well.
    Everything,
    /// The story and all messages, as data.
    Data,
}

impl Trace {
    pub(crate) fn new(tell: Tell) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, tell, lines: Vec::new(), seen: Vec::new() }
    }

    /// Stirs numbers into the hash.
    pub(crate) fn mix(&mut self, words: &[u64]) {
        for word in words {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
    }

    /// Stirs bytes into the hash.
    pub(crate) fn mix_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(&[u64::from_le_bytes(word)]);
        }
        self.mix(&[bytes.len() as u64]);
    }

    /// The number that stands for everything up to now.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The story, a line an event.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(crate) fn tell(&mut self, at: Duration, line: fmt::Arguments<'_>) {
        self.line(Tell::Story, at, line);
    }

    pub(crate) fn detail(&mut self, at: Duration, line: fmt::Arguments<'_>) {
        self.line(Tell::Everything, at, line);
    }

    /// What is written down as data.
    #[must_use]
    pub fn seen(&self) -> Vec<Happened> {
        self.seen.clone()
    }

    pub(crate) fn record(&mut self, at: Duration, seen: impl FnOnce() -> Seen) {
        if self.tell == Tell::Data {
            let at_us = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
            self.seen.push(Happened { at_us, seen: seen() });
        }
    }

    fn line(&mut self, from: Tell, at: Duration, line: fmt::Arguments<'_>) {
        if self.tell == Tell::Data && from == Tell::Story {
            return self.record(at, || Seen::Told { words: line.to_string() });
        }
        if self.tell >= from && self.tell != Tell::Data {
            self.lines.push(format!("{:>10.6}  {line}", at.as_secs_f64()));
        }
    }
}
