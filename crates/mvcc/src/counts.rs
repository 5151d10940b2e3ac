//! Counts that are known already.
//!
//! A page of a list says how many keys the whole list has, and the client comes back for the
//! next page with the same revision and the same end: as many keys as before, less the page.
//! What a span holds at one revision never changes, so a count once known is exact for as long
//! as the revision can be read, in whatever view.
//!
//! A few counts are kept, the oldest makes room. Whoever finds the place occupied goes without:
//! a reader never waits here.

use std::collections::VecDeque;
use std::sync::{Mutex, TryLockError};

use crate::mutant::{self, Mutant};
use crate::types::{KeySpan, Revision};

/// How many counts are kept: lists that may be under way page by page at one time.
const KEPT_MAX: usize = 256;

struct Known {
    at: Revision,
    span: KeySpan,
    count: u64,
}

#[derive(Default)]
pub(crate) struct Counts {
    known: Mutex<VecDeque<Known>>,
}

impl Counts {
    pub(crate) fn get(&self, span: &KeySpan, at: Revision) -> Option<u64> {
        self.with(|known| {
            let any_revision = mutant::on(Mutant::CountAtAnyRevision);
            let same = |known: &&Known| (known.at == at || any_revision) && known.span == *span;
            known.iter().rev().find(same).map(|known| known.count)
        })
        .flatten()
    }

    pub(crate) fn put(&self, span: KeySpan, at: Revision, count: u64) {
        self.with(|known| {
            if known.len() == KEPT_MAX {
                known.pop_front();
            }
            known.push_back(Known { at, span, count });
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut VecDeque<Known>) -> T) -> Option<T> {
        match self.known.try_lock() {
            Ok(mut known) => Some(work(&mut known)),
            Err(TryLockError::Poisoned(poisoned)) => Some(work(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}
