//! A gRPC client that does what it is told, also what no client library would do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::sync::mpsc;

/// The body of a request: what is put into the channel, until that is dropped.
pub(crate) struct Outgoing(mpsc::UnboundedReceiver<Bytes>);

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A connection.
pub(crate) struct Client(SendRequest<Outgoing>);

/// A call under way.
pub(crate) struct Call {
    outgoing: Option<mpsc::UnboundedSender<Bytes>>,
    headers: HeaderMap,
    body: Incoming,
    buffer: BytesMut,
    trailers: Option<HeaderMap>,
}

/// A code and a text.
pub(crate) type Failure = (u16, String);

pub(crate) fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        Client(sender)
    }

    /// Begins a call with these headers beside the usual ones, and goes on sending.
    pub(crate) async fn call(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        first: Bytes,
    ) -> Call {
        let (outgoing, receiver) = mpsc::unbounded_channel();
        outgoing.send(first).unwrap();
        let mut call = self.start(path, headers, receiver).await;
        call.outgoing = Some(outgoing);
        call
    }

    /// Begins a call that has one message to send.
    pub(crate) async fn stream(&self, path: &str, request: &impl Message) -> Call {
        let (outgoing, receiver) = mpsc::unbounded_channel();
        outgoing.send(framed(request)).unwrap();
        drop(outgoing);
        self.start(path, &[], receiver).await
    }

    async fn start(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        receiver: mpsc::UnboundedReceiver<Bytes>,
    ) -> Call {
        let mut request = Request::post(format!("http://door{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Outgoing(receiver)).unwrap();
        let response = self.0.clone().send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        assert_eq!(head.status, 200);
        Call {
            outgoing: None,
            headers: head.headers,
            body,
            buffer: BytesMut::new(),
            trailers: None,
        }
    }

    /// A call of one message, given as bytes.
    pub(crate) async fn raw<A: Message + Default>(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<A, Failure> {
        let (outgoing, receiver) = mpsc::unbounded_channel();
        if !body.is_empty() {
            outgoing.send(body).unwrap();
        }
        drop(outgoing);
        let mut call = self.start(path, headers, receiver).await;
        let answer = call.next().await;
        call.end().await?;
        Ok(answer.expect("a good end comes after an answer"))
    }

    pub(crate) async fn unary<A: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
    ) -> Result<A, Failure> {
        self.raw(path, &[], framed(request)).await
    }
}

impl Call {
    /// The next message; `None` at the end.
    pub(crate) async fn next<A: Message + Default>(&mut self) -> Option<A> {
        loop {
            if self.buffer.len() >= 5 {
                let length = u32::from_be_bytes(self.buffer[1..5].try_into().unwrap()) as usize;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Some(A::decode(self.buffer.split_to(length)).unwrap());
                }
            }
            let body = &mut self.body;
            let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
            match frame.await?.unwrap().into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    /// How the call ends, once all messages are read.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        while self.next::<()>().await.is_some() {}
        let place = if self.headers.contains_key("grpc-status") {
            &self.headers
        } else {
            self.trailers.as_ref().expect("a call ends with a status")
        };
        let code: u16 = place["grpc-status"].to_str().unwrap().parse().unwrap();
        let text = place.get("grpc-message").map_or("", |text| text.to_str().unwrap());
        if code == 0 { Ok(()) } else { Err((code, text.to_owned())) }
    }
}
