//! Watch.Watch: requests to the door's hub, its answers to the client.
//!
//! Both directions run side by side: a client that does not read for a while can still cancel.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{BufMut as _, Bytes, BytesMut};
use etcd::Error;
use etcd::watch::{Kind, Message};
use proto::etcdserverpb::WatchRequest;

use crate::backend::Backend;
use crate::grpc::{Messages, Status};
use crate::link::Outlet;
use crate::metrics::Metrics;
use crate::route::Context;
use crate::watch::{Broken, Stream, Watches};

/// Events of at least this many bytes go to the socket as they are, shared with other watchers;
/// below, a copy costs less than a frame of their own.
const SHARED_BYTES_MIN: usize = 4096;

/// Bytes before each message.
const PREFIX_BYTES: usize = 5;

impl From<Broken> for Status {
    fn from(_: Broken) -> Status {
        Error::Storage("watches cannot be read".to_owned()).into()
    }
}

pub(crate) async fn run<B: Backend>(
    context: Rc<Context<B>>,
    outlet: Rc<Outlet>,
    messages: Messages,
) -> Result<(), Status> {
    let stream = Watches::open(&context.door);
    tokio::select! {
        biased;
        outcome = send(&context, &stream, &outlet) => outcome,
        outcome = receive(&context, &stream, messages) => outcome,
    }
}

async fn receive<B: Backend>(
    context: &Context<B>,
    stream: &Stream<B>,
    mut messages: Messages,
) -> Result<(), Status> {
    loop {
        stream.accepts().await?;
        match context.next::<WatchRequest>(&mut messages).await? {
            Some(request) => stream.request(request)?,
            // The client has nothing more to ask, but still listens.
            None => std::future::pending().await,
        }
    }
}

/// The watchers of one stream in the gauge of all.
struct Watchers<'a> {
    metrics: &'a Metrics,
    count: Cell<i64>,
}

impl Watchers<'_> {
    fn add(&self, difference: i64) {
        self.count.set(self.count.get() + difference);
        self.metrics.watchers.inc_by(difference);
    }
}

impl Drop for Watchers<'_> {
    fn drop(&mut self) {
        self.metrics.watchers.dec_by(self.count.get());
    }
}

async fn send<B: Backend>(
    context: &Context<B>,
    stream: &Stream<B>,
    outlet: &Outlet,
) -> Result<(), Status> {
    let watchers = Watchers { metrics: &context.door.metrics, count: Cell::new(0) };
    loop {
        let message = stream.next().await?;
        match message.kind() {
            Kind::Created => watchers.add(1),
            Kind::Canceled | Kind::Compacted { .. } => watchers.add(-1),
            Kind::Refused { .. } | Kind::Events { .. } | Kind::Progress => {}
        }
        outlet.room().await;
        let length = message.encoded_len();
        let prefix = u32::try_from(length)
            .map_err(|_| Status::internal("an answer larger than gRPC can say"))?;
        context.door.metrics.sent(context.call, PREFIX_BYTES + length);
        if length < SHARED_BYTES_MIN
            && outlet
                .write_through(PREFIX_BYTES + length, |out| {
                    out.put_u8(0);
                    out.put_u32(prefix);
                    message.encode(out);
                })
                .is_some()
        {
            continue;
        }
        let (first, second) = pieces(message, prefix);
        outlet.put(first, second);
    }
}

/// A message with its prefix, in one piece or two.
fn pieces(message: Message, prefix: u32) -> (Bytes, Option<Bytes>) {
    let (head, events) = message.into_parts();
    let is_shared = events.len() >= SHARED_BYTES_MIN;
    let tail = if is_shared { 0 } else { events.len() };
    let mut first = BytesMut::with_capacity(PREFIX_BYTES + head.len() + tail);
    first.put_u8(0);
    first.put_u32(prefix);
    first.put_slice(&head);
    if is_shared {
        return (first.freeze(), Some(events));
    }
    first.put_slice(&events);
    (first.freeze(), None)
}
