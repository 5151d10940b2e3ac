//! What an answer consists of: nothing, one message and its trailers, or a stream of messages.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::Status;
use super::status::code_header;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");

/// The body of an answer.
pub(crate) enum Body {
    /// Nothing, or nothing more.
    Empty,
    /// Some bytes without trailers: plain HTTP.
    Plain(Bytes),
    /// One message, then a good end.
    Message(Bytes),
    /// Nothing but the trailers is left.
    End(Box<HeaderMap>),
    /// What a task sends.
    Stream(mpsc::Receiver<Item>),
}

/// A piece of a stream.
pub(crate) enum Item {
    /// An encoded message, with its prefix.
    Message(Bytes),
    /// The end. A stream without one was broken off by a fault of ours.
    End(Result<(), Status>),
}

/// Where a task puts the messages of its stream. A full one waits for the client.
#[derive(Clone)]
pub(crate) struct Outlet(mpsc::Sender<Item>);

/// The client is gone, nobody will read what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Outlet {
    /// Sends a message when there is room.
    pub(crate) async fn send(&self, message: Bytes) -> Result<(), Gone> {
        self.0.send(Item::Message(message)).await.map_err(|_| Gone)
    }

    /// The same, from a thread that may block.
    pub(crate) fn blocking_send(&self, message: Bytes) -> Result<(), Gone> {
        self.0.blocking_send(Item::Message(message)).map_err(|_| Gone)
    }

    /// Ends the stream.
    pub(crate) async fn end(&self, outcome: Result<(), Status>) {
        // If the client is gone there is nobody to tell.
        let _ = self.0.send(Item::End(outcome)).await;
    }

    /// Whether the client is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits until the client is gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A stream of at most `capacity` messages that wait for the client.
pub(crate) fn stream(capacity: usize) -> (Outlet, Body) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Outlet(sender), Body::Stream(receiver))
}

/// The answer of a call.
pub(crate) fn answer(outcome: Result<Body, Status>) -> Response<Body> {
    let (body, failed) = match outcome {
        Ok(body) => (body, None),
        Err(status) => (Body::Empty, Some(status)),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC_CONTENT);
    if let Some(status) = failed {
        put_status(headers, &Err(status));
    }
    response
}

fn put_status(headers: &mut HeaderMap, outcome: &Result<(), Status>) {
    match outcome {
        Ok(()) => {
            headers.insert(GRPC_STATUS, code_header(None));
        }
        Err(status) => {
            headers.insert(GRPC_STATUS, code_header(Some(status.code)));
            headers.insert(GRPC_MESSAGE, status.message_header());
        }
    }
}

fn trailers(outcome: &Result<(), Status>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    put_status(&mut headers, outcome);
    headers
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let frame = match std::mem::replace(this, Body::Empty) {
            Body::Empty => return Poll::Ready(None),
            Body::Plain(bytes) => Frame::data(bytes),
            Body::Message(bytes) => {
                *this = Body::End(Box::new(trailers(&Ok(()))));
                Frame::data(bytes)
            }
            Body::End(trailers) => Frame::trailers(*trailers),
            Body::Stream(mut receiver) => match receiver.poll_recv(context) {
                Poll::Pending => {
                    *this = Body::Stream(receiver);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Item::Message(bytes))) => {
                    *this = Body::Stream(receiver);
                    Frame::data(bytes)
                }
                Poll::Ready(Some(Item::End(outcome))) => Frame::trailers(trailers(&outcome)),
                Poll::Ready(None) => {
                    let fault = Status::internal("the stream was broken off by a fault");
                    Frame::trailers(trailers(&Err(fault)))
                }
            },
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Plain(bytes) => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
