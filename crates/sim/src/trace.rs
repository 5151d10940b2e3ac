//! One number that stands for everything that happened, and the story of it in words.

use std::fmt;
use std::time::Duration;

/// What is remembered of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    tell: Tell,
    lines: Vec<String>,
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
}

impl Trace {
    pub(crate) fn new(tell: Tell) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, tell, lines: Vec::new() }
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

    fn line(&mut self, from: Tell, at: Duration, line: fmt::Arguments<'_>) {
        if self.tell >= from {
            self.lines.push(format!("{:>10.6}  {line}", at.as_secs_f64()));
        }
    }
}
