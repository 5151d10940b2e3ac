//! gRPC on hyper: framing, statuses, one connection.
//!
//! A gRPC message on the wire is a flag byte (1 = compressed), its length as four bytes big
//! endian, and its protobuf encoding; a call ends with the trailers `grpc-status` and
//! `grpc-message` (percent-encoded), or has them in its headers when there is no message at all
//! (gRPC over HTTP/2, "Responses"). Compression is never asked for, so a compressed answer is an
//! error.
//!
//! Caveat: hyper queues requests for a connection without bound; the callers' own number of
//! requests in flight is the bound.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::sync::mpsc;

use crate::config::{Config, Endpoint};
use crate::error::{Code, Failure, Status};

/// Bytes before each message: the flag and the length.
const FRAME_HEADER_BYTES: usize = 5;

/// The path of a method, `/package.Service/Method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method(pub &'static str);

/// What is sent on a call: one message, or a stream of them.
#[derive(Debug)]
pub struct Outgoing(Messages);

#[derive(Debug)]
enum Messages {
    One(Option<Bytes>),
    Many(mpsc::Receiver<Bytes>),
}

impl Outgoing {
    /// A body of one framed message.
    pub fn one(message: &impl Message) -> Self {
        Self(Messages::One(Some(frame(message))))
    }

    /// A body that is what the [`Requests`] are given, at most `queue_max` of them waiting; it
    /// ends when they are dropped.
    pub fn many<Q: Message>(queue_max: usize) -> (Requests<Q>, Self) {
        let (sender, receiver) = mpsc::channel(queue_max);
        (Requests { sender, kind: PhantomData }, Self(Messages::Many(receiver)))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.0 {
            Messages::One(message) => Poll::Ready(message.take().map(|m| Ok(Frame::data(m)))),
            Messages::Many(receiver) => {
                receiver.poll_recv(cx).map(|message| message.map(|m| Ok(Frame::data(m))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Messages::One(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Messages::One(message) => {
                SizeHint::with_exact(message.as_ref().map_or(0, |m| m.len() as u64))
            }
            Messages::Many(_) => SizeHint::default(),
        }
    }
}

/// The sending half of a streaming call.
#[derive(Debug)]
pub struct Requests<Q> {
    sender: mpsc::Sender<Bytes>,
    kind: PhantomData<fn(Q)>,
}

impl<Q> Clone for Requests<Q> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), kind: PhantomData }
    }
}

impl<Q: Message> Requests<Q> {
    /// Sends, waiting while the queue is full. False if the call is over.
    pub async fn send(&self, message: &Q) -> bool {
        self.sender.send(frame(message)).await.is_ok()
    }
}

/// A message with its frame header.
fn frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(FRAME_HEADER_BYTES + len);
    out.put_u8(0);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    message.encode_raw(&mut out);
    debug_assert_eq!(out.len(), FRAME_HEADER_BYTES + len);
    out.freeze()
}

/// The length of the message at the front of `buffer`, once its header is there.
///
/// # Errors
/// [`Failure::Malformed`] if it is compressed or longer than `bytes_max`.
fn message_len(buffer: &impl Buf, bytes_max: usize) -> Result<Option<usize>, Failure> {
    if buffer.remaining() < FRAME_HEADER_BYTES {
        return Ok(None);
    }
    let mut header = [0; FRAME_HEADER_BYTES];
    let chunk = buffer.chunk();
    // The buffers used here are contiguous.
    header.copy_from_slice(&chunk[..FRAME_HEADER_BYTES]);
    if header[0] != 0 {
        return Err(Failure::Malformed("a compressed message that nobody asked for".into()));
    }
    let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if len > bytes_max {
        return Err(Failure::Malformed(format!(
            "a message of {len} bytes is larger than the limit of {bytes_max}"
        )));
    }
    Ok(Some(len))
}

fn decode<R: Message + Default>(message: Bytes) -> Result<R, Failure> {
    R::decode(message).map_err(|e| Failure::Malformed(e.to_string()))
}

/// One HTTP/2 connection to one endpoint. A handle; clones share the connection.
#[derive(Debug, Clone)]
pub struct Connection {
    sender: http2::SendRequest<Outgoing>,
    authority: http::uri::Authority,
    response_bytes_max: usize,
}

impl Connection {
    /// Dials. The connection is driven by a task of the current runtime until all handles and
    /// calls are gone.
    ///
    /// # Errors
    /// [`Failure::NotSent`]: whatever goes wrong here, no request has left.
    pub async fn open(endpoint: &Endpoint, config: &Config) -> Result<Self, Failure> {
        let dial = async {
            let port = endpoint.authority().port_u16().unwrap_or_default();
            let host = endpoint.authority().host();
            let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
            let stream = tokio::net::TcpStream::connect((host, port))
                .await
                .map_err(|e| Failure::NotSent(format!("{endpoint}: {e}")))?;
            // Without it each small request may wait for the acknowledgement of the one before.
            stream.set_nodelay(true).map_err(|e| Failure::NotSent(format!("{endpoint}: {e}")))?;
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(config.window_bytes)
                .initial_connection_window_size(config.window_bytes)
                .keep_alive_interval(config.keep_alive_interval)
                .keep_alive_timeout(config.keep_alive_timeout)
                .max_header_list_size(64 * 1024)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|e| Failure::NotSent(format!("{endpoint}: {}", chain(&e))))
        };
        let (sender, driver) = tokio::time::timeout(config.connect_timeout, dial)
            .await
            .map_err(|_| Failure::NotSent(format!("{endpoint}: no connection in time")))??;
        // How the connection ends is told to the calls that were on it.
        tokio::spawn(async move {
            let _ended = driver.await;
        });
        Ok(Self {
            sender,
            authority: endpoint.authority().clone(),
            response_bytes_max: config.response_bytes_max,
        })
    }

    /// Whether the connection is known to be over.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// One request, one answer.
    ///
    /// # Errors
    /// [`Failure`], which tells whether the request had left.
    pub async fn unary<Q: Message, R: Message + Default>(
        &self,
        method: Method,
        request: &Q,
        options: CallOptions,
    ) -> Result<R, Failure> {
        let response = self.send(method, Outgoing::one(request), options).await?;
        let (parts, mut body) = response.into_parts();
        check_head(parts.status, &parts.headers)?;
        let mut buffer = Gathered::Empty;
        while let Piece::Data(data) = next_piece(&mut body).await? {
            buffer.push(data, self.response_bytes_max)?;
        }
        let mut whole = buffer.into_bytes();
        let len = message_len(&whole, self.response_bytes_max)?
            .ok_or_else(|| Failure::Malformed("an answer without a message".into()))?;
        whole.advance(FRAME_HEADER_BYTES);
        if whole.len() != len {
            return Err(Failure::Malformed(format!(
                "{} bytes for a message of {len}",
                whole.len()
            )));
        }
        decode(whole)
    }

    /// A call whose answer is a stream.
    ///
    /// Resolves when the answer's headers are there. Servers may send them only with their first
    /// message, so a bidirectional call needs its first request queued before this is awaited.
    ///
    /// # Errors
    /// [`Failure`], which tells whether the request had left.
    pub async fn streaming<R: Message + Default>(
        &self,
        method: Method,
        outgoing: Outgoing,
        options: CallOptions,
    ) -> Result<Responses<R>, Failure> {
        let response = self.send(method, outgoing, options).await?;
        let (parts, body) = response.into_parts();
        check_head(parts.status, &parts.headers)?;
        Ok(Responses {
            body,
            buffer: BytesMut::new(),
            bytes_max: self.response_bytes_max,
            kind: PhantomData,
        })
    }

    async fn send(
        &self,
        method: Method,
        outgoing: Outgoing,
        options: CallOptions,
    ) -> Result<http::Response<Incoming>, Failure> {
        let uri = http::Uri::builder()
            .scheme(http::uri::Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(http::uri::PathAndQuery::from_static(method.0))
            .build()
            .map_err(|e| Failure::NotSent(e.to_string()))?;
        let mut request = http::Request::new(outgoing);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        *request.version_mut() = http::Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if let Some(timeout) = options.timeout {
            headers.insert("grpc-timeout", timeout_value(timeout));
        }
        if options.require_leader {
            headers.insert("hasleader", HeaderValue::from_static("true"));
        }
        if let Some(range) = options.range {
            headers.insert("quorate-range", HeaderValue::from(range));
        }
        let mut sender = self.sender.clone();
        sender.try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            let text = chain(error.error());
            if unsent { Failure::NotSent(text) } else { Failure::Lost(text) }
        })
    }
}

/// What goes along with a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallOptions {
    /// Announced to the server; enforcing it is the caller's.
    pub timeout: Option<Duration>,
    /// Whether a member without a leader should refuse.
    pub require_leader: bool,
    /// The range that is asked, if not the one that holds all of a cluster's keys.
    pub range: Option<u64>,
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout_value(timeout: Duration) -> HeaderValue {
    let micros = timeout.as_micros();
    let text = if micros < 100_000_000 {
        format!("{micros}u")
    } else {
        format!("{}m", timeout.as_millis().min(99_999_999))
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("1S"))
}

/// A body's data so far: no copy when all of it came in one piece, which is the rule.
enum Gathered {
    Empty,
    One(Bytes),
    Many(BytesMut),
}

impl Gathered {
    fn push(&mut self, data: Bytes, bytes_max: usize) -> Result<(), Failure> {
        match self {
            Self::Empty => *self = Self::One(data),
            Self::One(first) => {
                // The first piece holds the length of the whole: room is made once.
                let whole = message_len(first, bytes_max)?.unwrap_or(0) + FRAME_HEADER_BYTES;
                let mut all = BytesMut::with_capacity(whole.max(first.len() + data.len()));
                all.extend_from_slice(first);
                all.extend_from_slice(&data);
                *self = Self::Many(all);
            }
            Self::Many(all) => {
                if all.len() + data.len() > bytes_max.saturating_add(FRAME_HEADER_BYTES) {
                    return Err(Failure::Malformed(format!("an answer of over {bytes_max} bytes")));
                }
                all.extend_from_slice(&data);
            }
        }
        Ok(())
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::One(one) => one,
            Self::Many(many) => many.freeze(),
        }
    }
}

/// The receiving half of a streaming call.
#[derive(Debug)]
pub struct Responses<R> {
    body: Incoming,
    buffer: BytesMut,
    bytes_max: usize,
    kind: PhantomData<fn() -> R>,
}

impl<R: Message + Default> Responses<R> {
    /// The next message, or `None` when the server has ended the call in good order.
    ///
    /// Cancel safe: what has been received stays buffered.
    ///
    /// # Errors
    /// [`Failure`]; nothing more comes after one.
    pub async fn message(&mut self) -> Result<Option<R>, Failure> {
        loop {
            if let Some(len) = message_len(&self.buffer, self.bytes_max)? {
                let whole = FRAME_HEADER_BYTES + len;
                if self.buffer.len() >= whole {
                    self.buffer.advance(FRAME_HEADER_BYTES);
                    return decode(self.buffer.split_to(len).freeze()).map(Some);
                }
                self.buffer.reserve(whole - self.buffer.len());
            }
            match next_piece(&mut self.body).await? {
                Piece::Data(data) => self.buffer.extend_from_slice(&data),
                Piece::End if self.buffer.is_empty() => return Ok(None),
                Piece::End => {
                    return Err(Failure::Malformed("the stream ended inside a message".into()));
                }
            }
        }
    }
}

/// What comes next on a call.
enum Piece {
    Data(Bytes),
    /// Trailers that say that all went well.
    End,
}

/// # Errors
/// The failure in the trailers, or [`Failure::Lost`] if the call ends without trailers.
async fn next_piece(body: &mut Incoming) -> Result<Piece, Failure> {
    let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))
        .await
        .transpose()
        .map_err(|e| Failure::Lost(chain(&e)))?
        .ok_or_else(|| Failure::Lost("the call ended without a status".into()))?;
    match frame.into_data() {
        Ok(data) => Ok(Piece::Data(data)),
        Err(other) => {
            let trailers = other.into_trailers().unwrap_or_default();
            check_trailers(&trailers).map(|()| Piece::End)
        }
    }
}

fn check_head(status: http::StatusCode, headers: &HeaderMap) -> Result<(), Failure> {
    if headers.contains_key("grpc-status") {
        return check_trailers(headers);
    }
    if status != http::StatusCode::OK {
        return Err(Failure::Malformed(format!("HTTP status {status} where gRPC was expected")));
    }
    let grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if grpc { Ok(()) } else { Err(Failure::Malformed("the answer is not gRPC".into())) }
}

fn check_trailers(trailers: &HeaderMap) -> Result<(), Failure> {
    let number = trailers
        .get("grpc-status")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u32>().ok())
        .ok_or_else(|| Failure::Malformed("trailers without a grpc-status".into()))?;
    if number == 0 {
        return Ok(());
    }
    let message =
        trailers.get("grpc-message").map(|m| percent_decoded(m.as_bytes())).unwrap_or_default();
    Err(Failure::Status(Status { code: Code::from_number(number), message }))
}

fn percent_decoded(text: &[u8]) -> String {
    let digit = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escaped = (text[at] == b'%').then(|| Some((digit(at + 1)?, digit(at + 2)?))).flatten();
        if let Some((high, low)) = escaped {
            out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
            at += 3;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An error with its causes, since hyper's own text says little.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_flag_a_length_and_the_message() {
        let framed = frame(&String::from("abc"));
        assert_eq!(&framed[..], b"\0\0\0\0\x05\x0a\x03abc");
        assert_eq!(message_len(&framed, 100).unwrap(), Some(5));
        assert_eq!(message_len(&framed.slice(..4), 100).unwrap(), None);
        assert!(matches!(message_len(&framed, 4), Err(Failure::Malformed(_))));
        assert!(message_len(&Bytes::from_static(b"\x01\0\0\0\0"), 9).is_err());
    }

    #[test]
    fn messages_are_percent_decoded_and_bad_escapes_kept() {
        assert_eq!(percent_decoded(b"a%20b%C3%A9"), "a bé");
        assert_eq!(percent_decoded(b"100%"), "100%");
        assert_eq!(percent_decoded(b"%zz%4"), "%zz%4");
    }

    #[test]
    fn statuses_are_read_from_trailers() {
        let mut trailers = HeaderMap::new();
        assert!(matches!(check_trailers(&trailers), Err(Failure::Malformed(_))));
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        assert_eq!(check_trailers(&trailers), Ok(()));
        trailers.insert("grpc-status", HeaderValue::from_static("5"));
        trailers.insert("grpc-message", HeaderValue::from_static("no%20such"));
        let expected = Status { code: Code::NotFound, message: "no such".into() };
        assert_eq!(check_trailers(&trailers), Err(Failure::Status(expected)));
    }

    #[test]
    fn timeouts_fit_eight_digits() {
        assert_eq!(timeout_value(Duration::from_secs(5)), "5000000u");
        assert_eq!(timeout_value(Duration::from_secs(3600)), "3600000m");
        assert_eq!(timeout_value(Duration::MAX), "99999999m");
    }

    #[test]
    fn an_answer_in_pieces_is_put_together() {
        let framed = frame(&String::from("hello"));
        let mut gathered = Gathered::Empty;
        for piece in framed.chunks(3) {
            gathered.push(Bytes::copy_from_slice(piece), 100).unwrap();
        }
        assert_eq!(gathered.into_bytes(), framed);
        let mut gathered = Gathered::Empty;
        gathered.push(Bytes::from_static(b"\0\0\0\0\x02a"), 2).unwrap();
        gathered.push(Bytes::from_static(b"b"), 2).unwrap();
        assert!(gathered.push(Bytes::from_static(b"c"), 2).is_err());
    }
}
