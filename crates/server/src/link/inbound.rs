//! What a client sends on a stream.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http2::StreamId;

use super::Link;
use crate::grpc::Status;
use crate::grpc::frame::Source;

/// The body of a request.
pub(crate) enum Incoming {
    /// All of it.
    Whole(Option<Bytes>),
    /// What has come, and what will.
    Parts(Rc<Inbound>),
}

/// A body that comes in parts. The window of its stream bounds what waits in it.
pub(crate) struct Inbound {
    link: Rc<Link>,
    stream: StreamId,
    parts: RefCell<Parts>,
}

#[derive(Default)]
struct Parts {
    waiting: VecDeque<Bytes>,
    ended: bool,
}

impl Inbound {
    pub(super) fn new(link: &Rc<Link>, stream: StreamId) -> Rc<Inbound> {
        Rc::new(Inbound { link: Rc::clone(link), stream, parts: RefCell::default() })
    }

    /// A part has come. The call has to be roused.
    pub(super) fn push(&self, part: Bytes, end: bool) {
        let mut parts = self.parts.borrow_mut();
        if !part.is_empty() {
            parts.waiting.push_back(part);
        }
        parts.ended |= end;
    }
}

impl Source for Incoming {
    async fn chunk(&mut self) -> Option<Result<Bytes, Status>> {
        match self {
            Incoming::Whole(bytes) => bytes.take().map(Ok),
            // The connection's task polls the call when something comes.
            Incoming::Parts(inbound) => {
                let part = poll_fn(|_| {
                    let mut parts = inbound.parts.borrow_mut();
                    match parts.waiting.pop_front() {
                        Some(part) => Poll::Ready(Some(part)),
                        None if parts.ended => Poll::Ready(None),
                        None => Poll::Pending,
                    }
                });
                let part = part.await?;
                inbound.link.release(inbound.stream, part.len());
                Some(Ok(part))
            }
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Incoming::Whole(bytes) => bytes.is_none(),
            Incoming::Parts(inbound) => {
                let parts = inbound.parts.borrow();
                parts.ended && parts.waiting.is_empty()
            }
        }
    }
}
