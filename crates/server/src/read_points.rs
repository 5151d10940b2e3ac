//! Read points for many reads at once.
//!
//! A read point costs a wake-up of the member's core and, on a follower, a message to the leader
//! and one back. It serves every read that was there before it was asked for. So a read does not
//! ask for itself: it joins those that wait, and as long as any do, a few askers ask for all of
//! them together. With one client that is one question a read; with hundreds it is one for
//! hundreds, and a linearizable read costs hardly more than a serializable one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use etcd::Error;
use mvcc::View;
use tokio::sync::oneshot;

use crate::backend::Backend;
use crate::door::Door;
use crate::grpc::Status;

/// Questions of one door that may be under way at once. With one alone, a read that comes just
/// after it was asked waits nearly twice as long as it must.
const ASKERS_MAX: usize = 2;

/// The reads of one door that wait for a read point.
#[derive(Default)]
pub(crate) struct ReadPoints {
    waiting: RefCell<Vec<oneshot::Sender<Result<(), Error>>>>,
    askers: Cell<usize>,
}

/// A view that contains everything acknowledged, by any member, before this was called.
pub(crate) async fn read_point<B: Backend>(door: &Rc<Door<B>>) -> Result<View, Status> {
    let points = &door.read_points;
    let (sender, receiver) = oneshot::channel();
    points.waiting.borrow_mut().push(sender);
    if points.askers.get() < ASKERS_MAX {
        points.askers.set(points.askers.get() + 1);
        tokio::task::spawn_local(ask(Rc::clone(door)));
    }
    receiver.await.unwrap_or(Err(Error::Stopped))?;
    Ok(door.backend.view())
}

/// Asks for those that wait until nobody does.
async fn ask<B: Backend>(door: Rc<Door<B>>) {
    let points = &door.read_points;
    loop {
        let waiting = points.waiting.take();
        if waiting.is_empty() {
            break;
        }
        let outcome = door.backend.read_point().await.map(drop);
        for sender in waiting {
            // Who has gone does not mind.
            let _ = sender.send(outcome.clone());
        }
    }
    points.askers.set(points.askers.get() - 1);
}
