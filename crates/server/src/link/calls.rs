//! The calls of a connection that are under way: futures, polled by the connection's own task.
//!
//! Each has a waker of its own, so that a connection with thousands of watches polls those that
//! were woken. A waker puts its call's number on a list and wakes the connection, once for all
//! that are on the list: a commit that many wait for costs one wake-up of the task.
//!
//! A place is used again by later calls, with its waker. A waker that outlives its call wakes
//! the wrong one then, which costs a poll and does no harm.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use http2::{StreamId, Tag};

/// A call under way. It answers by itself.
pub(super) type Running = Pin<Box<dyn Future<Output = ()>>>;

/// Who has been woken, from whatever thread.
#[derive(Default)]
struct List {
    woken: Vec<u32>,
    connection: Option<Waker>,
}

#[derive(Default)]
struct Shared(Mutex<List>);

impl Shared {
    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waker of a place.
struct Bell {
    shared: Arc<Shared>,
    place: u32,
    is_listed: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let connection = {
            let mut list = self.shared.list();
            list.woken.push(self.place);
            // Whoever finds the waker wakes; it is there again when the list has been taken.
            list.connection.take()
        };
        if let Some(connection) = connection {
            connection.wake();
        }
    }
}

struct Place {
    call: Option<Running>,
    stream: Option<StreamId>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// The calls of a connection.
#[derive(Default)]
pub(super) struct Calls {
    places: Vec<Place>,
    free: Vec<u32>,
    shared: Arc<Shared>,
    /// Taken off the list, kept for its memory.
    turn: Vec<u32>,
}

impl Calls {
    /// A place for a call on `stream`.
    pub(super) fn reserve(&mut self, stream: StreamId) -> Tag {
        let place = self.free.pop().unwrap_or_else(|| {
            let place = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
            let shared = Arc::clone(&self.shared);
            let bell = Arc::new(Bell { shared, place, is_listed: AtomicBool::new(false) });
            let waker = Waker::from(Arc::clone(&bell));
            self.places.push(Place { call: None, stream: None, bell, waker });
            place
        });
        self.places[place as usize].stream = Some(stream);
        Tag(place)
    }

    /// Polls a call for the first time; it stays in its place if it has to wait. Whether it is
    /// done.
    pub(super) fn start(&mut self, tag: Tag, mut call: Running) -> bool {
        let place = &mut self.places[tag.0 as usize];
        assert!(place.call.is_none() && place.stream.is_some(), "the place is reserved");
        if call.as_mut().poll(&mut Context::from_waker(&place.waker)).is_ready() {
            place.stream = None;
            self.free.push(tag.0);
            return true;
        }
        place.call = Some(call);
        false
    }

    /// Ends a call, wherever it stands.
    pub(super) fn cancel(&mut self, tag: Tag) {
        let place = &mut self.places[tag.0 as usize];
        place.stream = None;
        if place.call.take().is_some() {
            self.free.push(tag.0);
        }
    }

    /// Ends all calls.
    pub(super) fn clear(&mut self) {
        for place in 0..self.places.len() {
            self.cancel(Tag(u32::try_from(place).unwrap_or(u32::MAX)));
        }
    }

    /// Has a call polled in the next turn.
    pub(super) fn rouse(&self, tag: Tag) {
        self.places[tag.0 as usize].bell.wake_by_ref();
    }

    /// Has all calls polled.
    pub(super) fn rouse_all(&self) {
        for place in self.places.iter().filter(|place| place.call.is_some()) {
            place.bell.wake_by_ref();
        }
    }

    /// Whether a call was woken since the last turn. If none was, `connection` is woken when one
    /// is.
    pub(super) fn has_woken(&self, connection: &Waker) -> bool {
        let mut list = self.shared.list();
        if !list.woken.is_empty() {
            return true;
        }
        if !list.connection.as_ref().is_some_and(|waker| waker.will_wake(connection)) {
            list.connection = Some(connection.clone());
        }
        false
    }

    /// Polls the calls that were woken; `done` is told of the streams whose calls have ended.
    pub(super) fn turn(&mut self, mut done: impl FnMut(StreamId, Tag)) {
        let mut turn = std::mem::take(&mut self.turn);
        std::mem::swap(&mut turn, &mut self.shared.list().woken);
        for number in turn.drain(..) {
            let place = &mut self.places[number as usize];
            // Before it is polled: what happens meanwhile wakes it again.
            place.bell.is_listed.store(false, Ordering::Release);
            let Some(call) = &mut place.call else { continue };
            if call.as_mut().poll(&mut Context::from_waker(&place.waker)).is_ready() {
                place.call = None;
                self.free.push(number);
                if let Some(stream) = place.stream.take() {
                    done(stream, Tag(number));
                }
            }
        }
        self.turn = turn;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn those_who_were_woken_are_polled_and_the_connection_is_woken_once() {
        let wakes = Arc::new(Wakes::default());
        let connection = Waker::from(Arc::clone(&wakes));
        let mut calls = Calls::default();
        let polled = Rc::new(Cell::new(0));
        let mut tags = Vec::new();
        for number in 0..5 {
            let tag = calls.reserve(StreamId(2 * number + 1));
            let (polled, mut left) = (Rc::clone(&polled), 2);
            let call = poll_fn(move |_| {
                polled.set(polled.get() + 1);
                left -= 1;
                if left == 0 { Poll::Ready(()) } else { Poll::Pending }
            });
            assert!(!calls.start(tag, Box::pin(call)));
            tags.push(tag);
        }
        assert!(!calls.has_woken(&connection));
        for tag in &tags[1..4] {
            calls.rouse(*tag);
            calls.rouse(*tag);
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(calls.has_woken(&connection));
        calls.cancel(tags[3]);
        let mut done = Vec::new();
        calls.turn(|stream, _| done.push(stream));
        assert_eq!((polled.get(), done), (7, vec![StreamId(3), StreamId(5)]));
        assert!(!calls.has_woken(&connection));
        // Places are used again.
        let again = calls.reserve(StreamId(101));
        assert!(tags[1..4].contains(&again));
        assert!(calls.start(again, Box::pin(async {})));
    }
}
