//! The watches of a door: one hub for all its streams, and the task that drives it.
//!
//! The hub says which streams have something, and each stream's task takes it from there at the
//! speed of its client. What has to happen in between (reading history for those who are behind,
//! telling progress when it is time) is done by [`drive`], a bounded step at a time, so that
//! calls get their turn.
//!
//! Caveat: history is read on the door's thread, a window at a time. A window from a slow disk
//! holds up the door's other clients for as long as it takes to read.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use etcd::watch::{Hub, Message, RequestError, StreamId};
use mvcc::{Commit, ReadError, Revision};
use proto::etcdserverpb::WatchRequest;
use tokio::sync::Notify;

use crate::backend::Backend;
use crate::door::Door;

/// What one stream's call waits for. A bell that was rung stays rung until it is heard.
#[derive(Default)]
struct Bell {
    /// The stream has something to send.
    ready: Ring,
    /// The stream may have room for a request again.
    room: Ring,
}

#[derive(Default)]
struct Ring {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Ring {
    fn ring(&self) {
        self.rung.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn heard(&self) {
        poll_fn(|context| {
            if self.rung.take() {
                return Poll::Ready(());
            }
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// The hub, and who waits for it.
pub(crate) struct Watches {
    hub: RefCell<Hub>,
    config: etcd::watch::Config,
    bells: RefCell<BTreeMap<StreamId, Rc<Bell>>>,
    /// Rises when the hub had to be dropped: streams of before are gone.
    generation: Cell<u64>,
    /// The driver has something to do.
    wake: Notify,
    began: Instant,
}

/// The state could not be read, and the stream is gone with the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl Watches {
    pub(crate) fn new(config: etcd::watch::Config, revision: Revision, term: u64) -> Watches {
        Watches {
            hub: RefCell::new(Hub::new(config, revision, term)),
            config,
            bells: RefCell::default(),
            generation: Cell::new(0),
            wake: Notify::new(),
            began: Instant::now(),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A new stream, closed when what is returned is dropped.
    pub(crate) fn open<B: Backend>(door: &Rc<Door<B>>) -> Stream<B> {
        let watches = &door.watches;
        let id = watches.hub.borrow_mut().open(watches.now());
        let bell = Rc::new(Bell::default());
        watches.bells.borrow_mut().insert(id, Rc::clone(&bell));
        door.metrics.watch_streams.inc();
        watches.wake.notify_one();
        Stream { door: Rc::clone(door), id, bell, generation: watches.generation.get() }
    }

    /// Tells everybody of a commit that `door`'s member has applied.
    pub(crate) fn publish<B: Backend>(door: &Door<B>, commit: &Arc<Commit>) {
        let view = door.backend.view();
        let watches = &door.watches;
        let told = watches.hub.borrow_mut().publish(commit, &view);
        watches.settle(door, told);
    }

    /// Commits up to the view of this moment may have been missed.
    pub(crate) fn missed<B: Backend>(door: &Door<B>) {
        let revision = door.backend.view().revision();
        let watches = &door.watches;
        watches.hub.borrow_mut().jump(revision);
        watches.settle(door, Ok(()));
    }

    /// Rings for those who have something now; starts over if the state could not be read.
    fn settle<B: Backend, T>(&self, door: &Door<B>, outcome: Result<T, ReadError>) {
        let term = door.backend.standing().term;
        if let Err(error) = outcome {
            tracing::error!(%error, "watches end because the state cannot be read");
            let revision = door.backend.view().revision();
            *self.hub.borrow_mut() = Hub::new(self.config, revision, term);
            self.generation.set(self.generation.get() + 1);
            for bell in std::mem::take(&mut *self.bells.borrow_mut()).into_values() {
                bell.ready.ring();
                bell.room.ring();
            }
        }
        let mut hub = self.hub.borrow_mut();
        hub.set_term(term);
        self.ring(&mut hub);
    }

    fn ring(&self, hub: &mut RefMut<'_, Hub>) {
        let bells = self.bells.borrow();
        while let Some(stream) = hub.next_ready() {
            if let Some(bell) = bells.get(&stream) {
                bell.ready.ring();
            }
        }
        if hub.is_behind() {
            self.wake.notify_one();
        }
    }
}

/// Does for the hub of `door` what is due, for as long as the door is there.
pub(crate) async fn drive<B: Backend>(door: Rc<Door<B>>) {
    let watches = &door.watches;
    loop {
        let (deadline, behind) = {
            let hub = watches.hub.borrow();
            (hub.next_deadline(), hub.is_behind())
        };
        let due = deadline.is_some_and(|deadline| deadline <= watches.now());
        if due {
            watches.hub.borrow_mut().tick(watches.now());
            watches.settle(&door, Ok(()));
        }
        let read = if behind {
            let view = door.backend.view();
            let commits = watches.config.limits.window_commits_max;
            let read = watches.hub.borrow_mut().catch_up(&view, commits);
            let done = *read.as_ref().unwrap_or(&0);
            watches.settle(&door, read);
            done
        } else {
            0
        };
        if read > 0 || due {
            tokio::task::yield_now().await;
            continue;
        }
        let deadline = watches.hub.borrow().next_deadline();
        let time = async {
            match deadline {
                Some(deadline) => {
                    tokio::time::sleep(deadline.saturating_sub(watches.now())).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = watches.wake.notified() => {}
            () = time => {}
        }
    }
}

/// A stream of the hub.
pub(crate) struct Stream<B: Backend> {
    door: Rc<Door<B>>,
    id: StreamId,
    bell: Rc<Bell>,
    generation: u64,
}

impl<B: Backend> Stream<B> {
    fn check(&self) -> Result<(), Broken> {
        if self.generation == self.door.watches.generation.get() { Ok(()) } else { Err(Broken) }
    }

    /// Waits until the stream can take a request.
    pub(crate) async fn accepts(&self) -> Result<(), Broken> {
        loop {
            self.check()?;
            if self.door.watches.hub.borrow().accepts(self.id) {
                return Ok(());
            }
            self.bell.room.heard().await;
        }
    }

    /// Hands a request to the hub; it must have room.
    pub(crate) fn request(&self, request: WatchRequest) -> Result<(), Broken> {
        self.check()?;
        let watches = &self.door.watches;
        let mut hub = watches.hub.borrow_mut();
        // Terms pass without commits, too.
        hub.set_term(self.door.backend.standing().term);
        let taken = hub.request(self.id, request);
        watches.ring(&mut hub);
        match taken {
            Ok(()) => Ok(()),
            Err(RequestError::Full | RequestError::UnknownStream) => Err(Broken),
        }
    }

    /// The next answer, when there is one.
    pub(crate) async fn next(&self) -> Result<Message, Broken> {
        loop {
            self.check()?;
            let message = {
                let mut hub = self.door.watches.hub.borrow_mut();
                let message = hub.take(self.id);
                // Room in the stream may let its watchers catch up again.
                if message.is_some() && hub.is_behind() {
                    self.door.watches.wake.notify_one();
                }
                message
            };
            match message {
                Some(message) => {
                    self.bell.room.ring();
                    return Ok(message);
                }
                None => self.bell.ready.heard().await,
            }
        }
    }
}

impl<B: Backend> Drop for Stream<B> {
    fn drop(&mut self) {
        let watches = &self.door.watches;
        if self.check().is_ok() {
            watches.hub.borrow_mut().close(self.id);
            watches.bells.borrow_mut().remove(&self.id);
        }
        self.door.metrics.watch_streams.dec();
    }
}
