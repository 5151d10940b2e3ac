//! One number that stands for everything that happened, the story of it in words, and all of it as
//! data.
//!
//! # The file of a trace
//!
//! `quorate-sim trace` writes one JSON object, a [`File`]: what was run, what came of it, and
//! `events`, a list of [`Happened`] by time. Each has `at_us`, a `kind` (that of [`Seen`], in snake
//! case) and the fields of its kind. Members are named as in the story: `n1`, and those that were
//! added by their identifier of 64 bits, in hexadecimal. Members are there from their first
//! `status` on, and were not before. The lab's page shows such a file: `quorate lab --trace FILE`.
//!
//! A message is on its way from its `message` to the `arrives` of its `frame`: to none if it is
//! lost (then `lost_us` says when it would have arrived) or if the run ends before; to two if it
//! arrives twice. Frames between members that hold no message of Raft (requests that are passed on,
//! and what the stores tell each other of their liveness) are not written down.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::{Broken, Plan};

/// The number of the form that is described here.
pub const FORMAT: u32 = 2;

/// A trace, as it is written.
#[derive(Debug, Serialize)]
pub struct File<'a> {
    /// [`FORMAT`].
    pub format: u32,
    /// What was run.
    pub plan: &'a Plan,
    /// What was broken on purpose: `raft::VoteGivenTwice`.
    pub mutant: Option<&'a str>,
    /// The number that stands for everything that happened, in hexadecimal.
    pub hash: String,
    /// The rule that was broken, if one was; the run ended with that.
    pub broken: Option<Breach>,
    /// What happened.
    pub events: &'a [Happened],
}

/// A rule that was broken.
#[derive(Debug, Serialize)]
pub struct Breach {
    /// Which, in a few words.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
    /// When, in microseconds of true time.
    pub at_us: u64,
}

/// What is remembered of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    tell: Tell,
    lines: Vec<String>,
    seen: Vec<Happened>,
}

impl From<&Broken> for Breach {
    fn from(broken: &Broken) -> Self {
        let at_us = u64::try_from(broken.at.as_micros()).unwrap_or(u64::MAX);
        Self { rule: broken.rule, what: broken.what.clone(), at_us }
    }
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
        member: String,
        /// Where, in the same object.
        #[serde(flatten)]
        stand: Stand,
    },
    /// A member is something else than before.
    Status {
        /// Which.
        member: String,
        /// What it is now.
        status: Status,
    },
    /// Other links than before are cut.
    Links {
        /// All that are cut now, each from one member to another.
        cut: Vec<(String, String)>,
    },
    /// A member gives a message to the network.
    Message {
        /// In which frame; several may travel in one.
        frame: u64,
        /// Who.
        from: String,
        /// To whom.
        to: String,
        /// The sender's term.
        term: u64,
        /// What, shortened. It begins with the name of its kind: `Append`, or `Snapshot`, which has no more.
        says: String,
        /// It is lost, and would have arrived then, in microseconds of true time.
        #[serde(skip_serializing_if = "Option::is_none")]
        lost_us: Option<u64>,
    },
    /// A frame has come to the end of its way.
    Arrives {
        /// Which.
        frame: u64,
        /// Whether there was somebody who took it in.
        heard: bool,
    },
}

/// Where a member stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stand {
    /// `leader`, `candidate` and so on, as Raft has it.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// Whom it has voted for in it.
    pub vote: Option<String>,
    /// Up to where it knows its log to be committed.
    pub commit: u64,
    /// Up to where its log, as it is, is on its disk.
    pub durable: u64,
    /// The last entry of its log.
    pub last: u64,
}

/// Whether a member does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It does.
    Up,
    /// It stands still, and notices nothing.
    Paused,
    /// Its process is gone, and will be started again.
    Down,
    /// Its disk is gone or damaged: it never comes back.
    Lost,
    /// It is no member any more.
    Removed,
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

    /// Whether what happens is to be written down as data.
    pub(crate) fn wants_data(&self) -> bool {
        self.tell == Tell::Data
    }

    pub(crate) fn record(&mut self, at: Duration, seen: impl FnOnce() -> Seen) {
        if self.wants_data() {
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
