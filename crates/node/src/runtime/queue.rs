//! A queue from many threads to one, which sleeps at once when there is nothing.
//!
//! The usual channels spin and yield for a while before they sleep, in the hope of the next item.
//! That is time taken from the other threads of a small machine, and with one client a member's
//! threads do nothing but wait for each other: the yielding was a sixth of all their CPU time.
//! Here a receiver takes all that waits in one go, works it off without touching the lock, and
//! sleeps when there is no more; a sender wakes it only if it sleeps.
//!
//! The queue has no capacity: whoever sends has a limit of his own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

struct State<T> {
    items: VecDeque<T>,
    senders: usize,
    is_received: bool,
    sleeps: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that sends.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The end that receives.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// Taken from the shared queue already.
    taken: VecDeque<T>,
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// Not in this time.
    Timeout,
    /// And never will be: all senders are gone.
    Disconnected,
}

/// A new queue.
pub(crate) fn queue<T>() -> (Sender<T>, Receiver<T>) {
    let state = State { items: VecDeque::new(), senders: 1, is_received: true, sleeps: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver { shared, taken: VecDeque::new() })
}

impl<T> Sender<T> {
    /// Puts `item` at the end; gives it back if nobody will take it.
    pub(crate) fn send(&self, item: T) -> Result<(), T> {
        let mut state = self.0.lock();
        if !state.is_received {
            return Err(item);
        }
        state.items.push_back(item);
        let wakes = std::mem::take(&mut state.sleeps);
        drop(state);
        if wakes {
            self.0.wake.notify_one();
        }
        Ok(())
    }

    /// Whether nobody will take what is sent.
    pub(crate) fn is_closed(&self) -> bool {
        !self.0.lock().is_received
    }

    /// How many items wait to be taken. Those that the receiver has taken and not yet worked off
    /// do not count.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().items.len()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.senders -= 1;
        if state.senders == 0 && std::mem::take(&mut state.sleeps) {
            self.0.wake.notify_one();
        }
    }
}

impl<T> Receiver<T> {
    /// The next item, if one is there.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        if self.taken.is_empty() {
            std::mem::swap(&mut self.shared.lock().items, &mut self.taken);
        }
        self.taken.pop_front()
    }

    /// The next item, waited for.
    pub(crate) fn recv(&mut self) -> Result<T, Nothing> {
        self.wait(None)
    }

    /// The next item, waited for no longer than this.
    pub(crate) fn recv_timeout(&mut self, timeout: Duration) -> Result<T, Nothing> {
        self.wait(Some(timeout))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<T, Nothing> {
        if let Some(item) = self.taken.pop_front() {
            return Ok(item);
        }
        let mut deadline = None;
        let mut state = self.shared.lock();
        while state.items.is_empty() {
            if state.senders == 0 {
                return Err(Nothing::Disconnected);
            }
            state.sleeps = true;
            let Some(timeout) = timeout else {
                state = self.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let now = Instant::now();
            let left = deadline.get_or_insert(now + timeout).saturating_duration_since(now);
            if left.is_zero() {
                state.sleeps = false;
                return Err(Nothing::Timeout);
            }
            let woken = self.shared.wake.wait_timeout(state, left);
            (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
        state.sleeps = false;
        std::mem::swap(&mut state.items, &mut self.taken);
        drop(state);
        self.taken.pop_front().ok_or(Nothing::Timeout)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_received = false;
        // What nobody will take is dropped outside of the lock: it may send.
        let items = std::mem::take(&mut state.items);
        drop(state);
        drop(items);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn items_come_in_the_order_of_each_sender() {
        const ITEMS: u32 = 20_000;
        let (sender, mut receiver) = queue();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let sender = sender.clone();
                thread::spawn(move || {
                    (0..ITEMS).for_each(|item| sender.send((thread, item)).unwrap());
                })
            })
            .collect();
        drop(sender);
        let mut next = [0; 4];
        while let Ok((thread, item)) = receiver.recv() {
            assert_eq!(item, next[thread]);
            next[thread] += 1;
        }
        assert_eq!(next, [ITEMS; 4]);
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(Nothing::Disconnected));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn a_sleeper_is_woken_by_an_item_and_by_the_last_sender() {
        let (sender, mut receiver) = queue();
        let (told, mut tell) = queue();
        let sleeper = thread::spawn(move || {
            while let Ok(item) = receiver.recv() {
                told.send(item).unwrap();
            }
        });
        for item in 0..1_000 {
            sender.send(item).unwrap();
            assert_eq!(tell.recv(), Ok(item));
        }
        drop(sender);
        sleeper.join().unwrap();
        assert_eq!(tell.recv(), Err(Nothing::Disconnected));
    }

    #[test]
    fn waiting_ends_in_time_and_nothing_taken_is_lost() {
        let (sender, mut receiver) = queue();
        assert_eq!(receiver.try_recv(), None);
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(Nothing::Timeout));
        (0..3).for_each(|item| sender.send(item).unwrap());
        assert_eq!(sender.len(), 3);
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(0));
        sender.send(3).unwrap();
        assert_eq!(sender.len(), 1);
        assert_eq!([receiver.try_recv(), receiver.try_recv()], [Some(1), Some(2)]);
        drop(receiver);
        assert_eq!(sender.send(4), Err(4));
    }

    #[test]
    fn what_is_never_taken_is_dropped() {
        let (sender, receiver) = queue();
        let item = Arc::new(());
        sender.send(Arc::clone(&item)).unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&item), 1);
    }
}
