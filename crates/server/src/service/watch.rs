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
use crate::grpc::{Messages, Outlet, PREFIX_BYTES, Status};
use crate::metrics::Metrics;
use crate::route::Context;
use crate::watch::{Broken, Stream, Watches};

/// Events of at least this many bytes go to the socket as they are, shared with other watchers;
/// below, a copy costs less than a frame of their own.
const SHARED_BYTES_MIN: usize = 4096;

/// Answers that are there together leave together, in pieces of about this size: a thousand
/// watchers of one stream cost a few frames, not a thousand.
const PIECE_BYTES: usize = 16 * 1024;

impl From<Broken> for Status {
    fn from(_: Broken) -> Status {
        Error::Storage("watches cannot be read".to_owned()).into()
    }
}

pub(crate) async fn run<B: Backend>(
    context: Rc<Context<B>>,
    outlet: Outlet,
    messages: Messages,
) -> Result<(), Status> {
    let stream = Watches::open(&context.door);
    tokio::select! {
        outcome = receive(&context, &stream, messages) => outcome,
        outcome = send(&context, &stream, &outlet) => outcome,
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
    let count = |message: &Message| match message.kind() {
        Kind::Created => watchers.add(1),
        Kind::Canceled | Kind::Compacted { .. } => watchers.add(-1),
        Kind::Refused { .. } | Kind::Events { .. } | Kind::Progress => {}
    };
    let mut piece = BytesMut::new();
    loop {
        let mut next = Some(stream.next().await?);
        while let Some(message) = next {
            count(&message);
            let (bytes, shared) = put(&mut piece, message)?;
            context.door.metrics.sent(context.call, bytes);
            if (shared.is_some() || piece.len() >= PIECE_BYTES)
                && outlet.send(piece.split().freeze()).await.is_err()
            {
                return Ok(());
            }
            if let Some(events) = shared
                && outlet.send(events).await.is_err()
            {
                return Ok(());
            }
            next = stream.try_next()?;
        }
        if !piece.is_empty() && outlet.send(piece.split().freeze()).await.is_err() {
            return Ok(());
        }
    }
}

/// Appends a message with its prefix to `piece`, but for events that are shared: those follow
/// it. The number is that of all the bytes.
fn put(piece: &mut BytesMut, message: Message) -> Result<(usize, Option<Bytes>), Status> {
    let length = u32::try_from(message.encoded_len())
        .map_err(|_| Status::internal("an answer larger than gRPC can say"))?;
    let (head, events) = message.into_parts();
    let bytes = PREFIX_BYTES + head.len() + events.len();
    let is_shared = events.len() >= SHARED_BYTES_MIN;
    piece.reserve(if is_shared { PREFIX_BYTES + head.len() } else { bytes });
    piece.put_u8(0);
    piece.put_u32(length);
    piece.put_slice(&head);
    if is_shared {
        return Ok((bytes, Some(events)));
    }
    piece.put_slice(&events);
    Ok((bytes, None))
}
