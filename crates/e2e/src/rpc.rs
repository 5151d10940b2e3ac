//! gRPC by path and bytes.
//!
//! The suites send what no well-behaved client would, malformed messages included, and want to see codes and
//! texts as they are. So there is no generated client here, and no retry.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use proto::etcdserverpb as pb;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// No single answer may take longer.
pub const ANSWER_SECONDS_MAX: u64 = 30;
/// Answers may be large: a list of everything, a snapshot's chunk.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// What etcd refuses with: the code and the exact text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// gRPC code.
    pub code: Code,
    /// `grpc-message`.
    pub message: String,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self { code: status.code(), message: status.message().to_owned() }
    }
}

/// A connection to one endpoint.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects lazily: the first call does it, and later calls again after a loss.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(endpoint: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))?
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(ANSWER_SECONDS_MAX));
        Ok(Self { channel: endpoint.connect_lazy() })
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// One unary call with raw bytes.
    ///
    /// # Errors
    /// Whatever the server, or the way there, refuses with.
    pub async fn raw(&self, path: &'static str, request: Bytes) -> Result<Bytes, Refused> {
        let mut grpc = self.grpc();
        grpc.ready()
            .await
            .map_err(|error| Refused { code: Code::Unavailable, message: error.to_string() })?;
        let path = http::uri::PathAndQuery::from_static(path);
        let response = grpc.unary(Request::new(request), path, RawCodec).await?;
        Ok(response.into_inner())
    }

    /// One unary call.
    ///
    /// # Errors
    /// As [`Client::raw`]; an answer that is not of the type is [`Code::DataLoss`].
    pub async fn call<Q: Message, A: Message + Default>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Result<A, Refused> {
        let answer = self.raw(path, Bytes::from(request.encode_to_vec())).await?;
        A::decode(answer)
            .map_err(|error| Refused { code: Code::DataLoss, message: error.to_string() })
    }

    /// A two-way stream of raw bytes.
    ///
    /// # Errors
    /// As [`Client::raw`].
    pub async fn stream(
        &self,
        path: &'static str,
        requests: tokio::sync::mpsc::Receiver<Bytes>,
    ) -> Result<Streaming<Bytes>, Refused> {
        let mut grpc = self.grpc();
        grpc.ready()
            .await
            .map_err(|error| Refused { code: Code::Unavailable, message: error.to_string() })?;
        let path = http::uri::PathAndQuery::from_static(path);
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        Ok(grpc.streaming(Request::new(requests), path, RawCodec).await?.into_inner())
    }

    /// A stream of answers to one request.
    ///
    /// # Errors
    /// As [`Client::raw`].
    pub async fn server_stream<Q: Message>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Result<Streaming<Bytes>, Refused> {
        let mut grpc = self.grpc();
        grpc.ready()
            .await
            .map_err(|error| Refused { code: Code::Unavailable, message: error.to_string() })?;
        let path = http::uri::PathAndQuery::from_static(path);
        let request = Request::new(Bytes::from(request.encode_to_vec()));
        Ok(grpc.server_streaming(request, path, RawCodec).await?.into_inner())
    }

    /// One message to a keep-alive stream, and the answer to it.
    ///
    /// # Errors
    /// As [`Client::raw`].
    pub async fn keep_alive(
        &self,
        request: &pb::LeaseKeepAliveRequest,
    ) -> Result<pb::LeaseKeepAliveResponse, Refused> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        sender.send(Bytes::from(request.encode_to_vec())).await.map_err(|_| closed())?;
        let mut answers = self.stream(proto_path::KEEP_ALIVE, receiver).await?;
        let answer = answers.message().await?.ok_or_else(closed)?;
        pb::LeaseKeepAliveResponse::decode(answer)
            .map_err(|error| Refused { code: Code::DataLoss, message: error.to_string() })
    }
}

fn closed() -> Refused {
    Refused { code: Code::Unavailable, message: "the stream ended without an answer".to_owned() }
}

mod proto_path {
    pub(super) use proto::method::lease::KEEP_ALIVE;
}

/// Runs one future on a runtime of its own.
///
/// # Errors
/// When there is no runtime to be had.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("a runtime")?
        .block_on(future)
}

/// Messages as the bytes they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
