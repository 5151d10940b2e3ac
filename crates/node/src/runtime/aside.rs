//! What takes long, in threads where neither the core nor another range waits for it: reads of many keys of a
//! range beside the dense one, and evaluations and entries that look at many keys, or change many.
//!
//! Reads, evaluations and entries have a few threads each. A range may have thousands of reads waiting: so ranges
//! take turns, and one that has much holds up another by one piece for each thread.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;
use store::RangeId;

use super::{Event, Inbox, guard};
use crate::core::{Scan, Work};

/// Pieces of a sort that are done at once: one on each core of the machine, within these bounds.
const THREADS: std::ops::RangeInclusive<usize> = 2..=8;

/// Something that is done aside.
pub(super) trait Aside: Send + 'static {
    /// What its threads are called.
    const NAME: &str;

    /// Whose it is.
    fn range(&self) -> RangeId;

    /// Does it, and says what comes of it.
    fn run(self) -> Event;
}

impl Aside for Scan {
    const NAME: &str = "scan";

    fn range(&self) -> RangeId {
        self.range()
    }

    fn run(self) -> Event {
        Event::Scanned(self.run())
    }
}

impl Aside for Work {
    const NAME: &str = "work";

    fn range(&self) -> RangeId {
        self.range()
    }

    fn run(self) -> Event {
        Event::Worked(self.run())
    }
}

/// What waits, by range; ranges in turn.
struct Turns<T> {
    waiting: BTreeMap<RangeId, VecDeque<T>>,
    /// Those with something waiting, once each.
    order: VecDeque<RangeId>,
}

impl<T> Turns<T> {
    fn new() -> Turns<T> {
        Turns { waiting: BTreeMap::new(), order: VecDeque::new() }
    }

    fn push(&mut self, range: RangeId, item: T) {
        let queue = self.waiting.entry(range).or_default();
        if queue.is_empty() {
            self.order.push_back(range);
        }
        queue.push_back(item);
    }

    fn pop(&mut self) -> Option<T> {
        let range = self.order.pop_front()?;
        let queue = self.waiting.get_mut(&range)?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&range);
        } else {
            self.order.push_back(range);
        }
        item
    }
}

/// Where it is handed in. What waits is bounded by the requests that a member takes in.
pub(super) struct Queue<T> {
    turns: Arc<Mutex<Turns<T>>>,
    /// One for each that waits.
    tickets: Sender<()>,
}

impl<T: Aside> Queue<T> {
    pub(super) fn send(&self, piece: T) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.push(piece.range(), piece);
        drop(turns);
        let _ = self.tickets.send(());
    }
}

/// Starts the threads of a sort, which end when what this returns is dropped.
pub(super) fn spawn<T: Aside>(
    inbox: &Inbox,
    threads: &mut Vec<JoinHandle<()>>,
) -> io::Result<Queue<T>> {
    let (tickets, taken) = crossbeam_channel::unbounded();
    let turns = Arc::new(Mutex::new(Turns::<T>::new()));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..cores.clamp(*THREADS.start(), *THREADS.end()) {
        let (inbox, taken, turns) = (inbox.clone(), taken.clone(), Arc::clone(&turns));
        threads.push(guard::spawn(T::NAME, inbox.clone(), move || {
            for () in taken {
                if inbox.is_closed() {
                    return;
                }
                let next = turns.lock().unwrap_or_else(PoisonError::into_inner).pop();
                if let Some(piece) = next {
                    inbox.send(piece.run());
                }
            }
        })?);
    }
    Ok(Queue { turns, tickets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_take_turns() {
        let mut turns = Turns::new();
        for item in 0..4 {
            turns.push(RangeId(7), (7, item));
        }
        assert_eq!(turns.pop(), Some((7, 0)));
        turns.push(RangeId(9), (9, 0));
        turns.push(RangeId(9), (9, 1));
        turns.push(RangeId(5), (5, 0));
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(rest, [(7, 1), (9, 0), (5, 0), (7, 2), (9, 1), (7, 3)]);
        assert!(turns.waiting.is_empty() && turns.order.is_empty());
    }
}
