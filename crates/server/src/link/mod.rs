//! A connection of HTTP/2: its task, its calls, and what they share.
//!
//! One task has the socket, the protocol ([`http2`]) and all calls of a connection. It reads,
//! starts a call for each request and polls it at once, and writes the answers of everything that
//! happened in a turn with one system call. A call that does not have to wait costs no task, no
//! channel and no wake-up; one that waits is a future in the task's own set.
//!
//! - [`Link`]: the protocol's state, to which calls write
//! - [`Inbound`]: what a client sends on a stream, when it does not come in one piece
//! - [`Outlet`]: where a call puts the messages of its stream
//! - `calls`: the futures; `driver`: the task
//!
//! `INVARIANT:` the protocol is borrowed for the length of one function here, and never while a
//! call is polled.

mod calls;
mod driver;
mod inbound;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use etcd::Error;
use http2::{Connection, Fields, StreamId};
use tokio::sync::mpsc;

use crate::grpc::Status;
use crate::grpc::status::code_bytes;
use crate::service::ask::blocking;

pub(crate) use driver::Driver;
pub(crate) use inbound::{Inbound, Incoming};

/// The head of an answer of gRPC.
const GRPC_HEAD: Fields = Fields::Fixed(&[("content-type", "application/grpc")]);
/// Trailers of a call that went well.
const GRPC_OK: Fields = Fields::Fixed(&[("grpc-status", "0")]);
/// What answers repeat.
pub(crate) const REPEATED: &[(&str, &str)] =
    &[("content-type", "application/grpc"), ("grpc-status", "0")];

/// A connection, as its calls see it.
pub(crate) struct Link {
    connection: RefCell<Connection>,
    /// The server is to stop.
    drains: Cell<bool>,
    /// How often there was no leader for too long.
    leaderless: Cell<u64>,
    /// Of the connection's task.
    waker: RefCell<Option<Waker>>,
}

impl Link {
    pub(crate) fn new(connection: Connection) -> Rc<Link> {
        Rc::new(Link {
            connection: RefCell::new(connection),
            drains: Cell::new(false),
            leaderless: Cell::new(0),
            waker: RefCell::default(),
        })
    }

    /// Ends the streams, and the connection when its calls are done.
    pub(crate) fn drain(&self) {
        self.drains.set(true);
        self.wake();
    }

    /// Ends the streams that require a leader.
    pub(crate) fn lost_leader(&self) {
        self.leaderless.set(self.leaderless.get() + 1);
        self.wake();
    }

    /// The connection's task has this waker.
    fn woken_by(&self, waker: &Waker) {
        let mut own = self.waker.borrow_mut();
        if !own.as_ref().is_some_and(|own| own.will_wake(waker)) {
            *own = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Waits until a call that may take for ever has to end. The connection's task polls all
    /// calls when that is so.
    pub(crate) async fn interrupted(&self, require_leader: bool) -> Status {
        let before = self.leaderless.get();
        poll_fn(|_| {
            if self.drains.get() {
                return Poll::Ready(Error::Stopped.into());
            }
            if require_leader && self.leaderless.get() != before {
                return Poll::Ready(Error::NoLeader.into());
            }
            Poll::Pending
        })
        .await
    }

    /// The answer of a call with one message.
    pub(crate) fn answer(&self, stream: StreamId, outcome: Result<Bytes, &Status>) {
        let mut connection = self.connection.borrow_mut();
        match outcome {
            Ok(message) => {
                connection.send_head(stream, 200, &GRPC_HEAD, false);
                connection.send_data(stream, message, false);
                connection.send_trailers(stream, GRPC_OK);
            }
            Err(status) => {
                let mut fields = vec![("content-type", Bytes::from_static(b"application/grpc"))];
                fields.extend(status_fields(status));
                connection.send_head(stream, 200, &Fields::Made(fields), true);
            }
        }
    }

    /// A page.
    pub(crate) fn page(&self, stream: StreamId, response: &http::Response<Bytes>) {
        let mut fields = Vec::new();
        for (name, value) in response.headers() {
            // Only these are put there.
            let name = match name.as_str() {
                "content-type" => "content-type",
                "x-content-type-options" => "x-content-type-options",
                "allow" => "allow",
                _ => continue,
            };
            fields.push((name, Bytes::copy_from_slice(value.as_bytes())));
        }
        let body = response.body().clone();
        fields.push(("content-length", body.len().to_string().into()));
        let mut connection = self.connection.borrow_mut();
        let is_empty = body.is_empty();
        connection.send_head(stream, response.status().as_u16(), &Fields::Made(fields), is_empty);
        if !is_empty {
            connection.send_data(stream, body, true);
        }
    }

    fn release(&self, stream: StreamId, bytes: usize) {
        self.connection.borrow_mut().release(stream, bytes);
    }
}

fn status_fields(status: &Status) -> [(&'static str, Bytes); 2] {
    [("grpc-status", code_bytes(status.code)), ("grpc-message", status.message_header())]
}

/// Where a call puts the messages of its stream.
pub(crate) struct Outlet {
    link: Rc<Link>,
    stream: StreamId,
}

impl Outlet {
    /// Begins the answer.
    pub(crate) fn open(link: &Rc<Link>, stream: StreamId) -> Outlet {
        link.connection.borrow_mut().send_head(stream, 200, &GRPC_HEAD, false);
        Outlet { link: Rc::clone(link), stream }
    }

    /// Waits until the client has taken enough of what was sent before.
    pub(crate) async fn room(&self) {
        // The connection's task polls the call when there is room.
        poll_fn(|_| match self.link.connection.borrow_mut().has_room(self.stream) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Sends a message, with its prefix, when there is room.
    pub(crate) async fn send(&self, message: Bytes) {
        self.room().await;
        self.link.connection.borrow_mut().send_data(self.stream, message, false);
    }

    /// Sends a message in two pieces, which are not copied together if they are large.
    pub(crate) fn put(&self, first: Bytes, second: Option<Bytes>) {
        let mut connection = self.link.connection.borrow_mut();
        connection.send_data(self.stream, first, false);
        if let Some(second) = second {
            connection.send_data(self.stream, second, false);
        }
    }

    /// Writes a message of `len` bytes to where it goes out, if it can go out at once.
    pub(crate) fn write_through(&self, len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Option<()> {
        self.link.connection.borrow_mut().write_through(self.stream, len, write)
    }

    /// Ends the stream.
    pub(crate) fn end(&self, outcome: &Result<(), Status>) {
        let trailers = match outcome {
            Ok(()) => GRPC_OK,
            Err(status) => Fields::Made(status_fields(status).into()),
        };
        self.link.connection.borrow_mut().send_trailers(self.stream, trailers);
    }

    /// Sends what `work` makes, on a thread that may block; at most `queue_len` messages wait
    /// between there and here.
    pub(crate) async fn feed<T: Send + 'static>(
        &self,
        queue_len: usize,
        work: impl FnOnce(Feeder) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let (sender, mut receiver) = mpsc::channel(queue_len);
        let working = blocking(move || work(Feeder(sender)));
        let sending = async {
            while let Some(message) = receiver.recv().await {
                self.send(message).await;
            }
        };
        let (outcome, ()) = tokio::join!(working, sending);
        outcome?
    }
}

/// Where a thread puts the messages of a stream.
pub(crate) struct Feeder(mpsc::Sender<Bytes>);

/// The client is gone, nobody will read what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Feeder {
    /// Whether the client is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends a message when there is room. Blocks.
    pub(crate) fn send(&self, message: Bytes) -> Result<(), Gone> {
        self.0.blocking_send(message).map_err(|_| Gone)
    }
}
