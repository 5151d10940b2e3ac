//! Read points for many reads at once.
//!
//! A read point costs a wake-up of the member's core and, on a follower, a message to the leader
//! and one back. It serves every read that was there before it was asked for. So a read does not
//! ask for itself: it joins those that wait, and as long as any do, one question after the other
//! is asked for all of them together (etcd has the same loop, `linearizableReadLoop`). With one
//! client that is one question a read; with hundreds it is one for hundreds, and a linearizable
//! read costs little more than a serializable one.
//!
//! Caveat: a read that comes just after a question was asked waits for that one and for the
//! next, nearly twice as long as it must. More questions at a time would make the batches smaller.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use etcd::Error;
use mvcc::View;
use tokio::sync::oneshot;

use crate::backend::Backend;
use crate::door::Door;
use crate::grpc::Status;

/// The reads of one door that wait for a read point.
#[derive(Default)]
pub(crate) struct ReadPoints {
    waiting: RefCell<Vec<oneshot::Sender<Result<(), Error>>>>,
    is_asking: Cell<bool>,
}

/// A view that contains everything acknowledged, by any member, before this was called.
pub(crate) async fn read_point<B: Backend>(door: &Rc<Door<B>>) -> Result<View, Status> {
    let points = &door.read_points;
    let (sender, receiver) = oneshot::channel();
    points.waiting.borrow_mut().push(sender);
    if !points.is_asking.replace(true) {
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
    points.is_asking.set(false);
}
