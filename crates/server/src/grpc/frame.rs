//! Messages in the body of a request, and messages for the body of an answer.
//!
//! A message is one byte that says whether it is compressed, four bytes of length (big-endian)
//! and the message. It may begin and end anywhere in HTTP/2's DATA frames. Nearly always a
//! frame is one whole message: then nothing is copied, the message shares the frame's buffer,
//! and what prost decodes from it shares it again.

use std::io::Read as _;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use etcd::Code;
use prost::Message;

use super::Status;
use crate::link::Incoming;

/// Bytes before each message.
pub(crate) const PREFIX_BYTES: usize = 5;

/// What grpc-go allows for an answer.
const SEND_BYTES_MAX: usize = i32::MAX as usize;

/// How the messages of a request are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
}

/// The messages of a request, one after the other.
pub(crate) struct Messages<S = Incoming> {
    body: S,
    /// Received and not yet taken.
    chunk: Bytes,
    ended: bool,
    encoding: Encoding,
    bytes_max: usize,
}

/// Where the bytes come from.
pub(crate) trait Source {
    /// The next bytes; `None` at the end.
    fn chunk(&mut self) -> impl Future<Output = Option<Result<Bytes, Status>>>;
    /// Nothing more will come.
    fn is_ended(&self) -> bool;
}

impl<S: Source> Messages<S> {
    /// The messages of `body`, none larger than `bytes_max` (also when uncompressed).
    pub(crate) fn new(body: S, encoding: Encoding, bytes_max: usize) -> Self {
        Self { body, chunk: Bytes::new(), ended: false, encoding, bytes_max }
    }

    /// The next message as it was encoded; `None` at the end.
    pub(crate) async fn next_bytes(&mut self) -> Result<Option<Bytes>, Status> {
        if !self.fill(PREFIX_BYTES).await? {
            if self.chunk.is_empty() {
                return Ok(None);
            }
            return Err(Status::internal("unexpected EOF"));
        }
        let compressed = match self.chunk[0] {
            0 => false,
            1 => true,
            other => {
                return Err(Status::internal(format!(
                    "grpc: received unexpected payload format {other}"
                )));
            }
        };
        let length =
            u32::from_be_bytes([self.chunk[1], self.chunk[2], self.chunk[3], self.chunk[4]])
                as usize;
        if length > self.bytes_max {
            return Err(self.too_large(length));
        }
        self.chunk.advance(PREFIX_BYTES);
        if !self.fill(length).await? {
            return Err(Status::internal("unexpected EOF"));
        }
        let message = self.chunk.split_to(length);
        if compressed { self.decompress(&message).map(Some) } else { Ok(Some(message)) }
    }

    /// The next message, decoded; `None` at the end.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        match self.next_bytes().await? {
            None => Ok(None),
            Some(bytes) => M::decode(bytes).map(Some).map_err(|error| {
                Status::internal(format!("grpc: error unmarshalling request: {error}"))
            }),
        }
    }

    /// The one message of a call that has one; its size comes with it.
    pub(crate) async fn only<M: Message + Default>(&mut self) -> Result<(M, usize), Status> {
        let none =
            "cardinality violation: received no request message from non-client-streaming RPC";
        let more = "cardinality violation: received multiple request messages for \
                    non-client-streaming RPC";
        let bytes = self.next_bytes().await?.ok_or_else(|| Status::internal(none))?;
        let size = bytes.len();
        let message = M::decode(bytes).map_err(|error| {
            Status::internal(format!("grpc: error unmarshalling request: {error}"))
        })?;
        if !(self.chunk.is_empty() && self.body.is_ended()) && self.fill(1).await? {
            return Err(Status::internal(more));
        }
        Ok((message, size))
    }

    /// Has at least `length` bytes in `chunk`; false if the body ends before.
    async fn fill(&mut self, length: usize) -> Result<bool, Status> {
        if self.chunk.len() >= length {
            return Ok(true);
        }
        while self.chunk.is_empty() && !self.ended {
            match self.body.chunk().await {
                Some(chunk) => self.chunk = chunk?,
                None => self.ended = true,
            }
        }
        if self.chunk.len() >= length || self.ended {
            return Ok(self.chunk.len() >= length);
        }
        // The message is spread over frames. Room is made as it arrives, not as it is promised.
        let mut buffer = BytesMut::from(self.chunk.split_off(0));
        while buffer.len() < length {
            match self.body.chunk().await {
                Some(chunk) => buffer.extend_from_slice(&chunk?),
                None => {
                    self.ended = true;
                    break;
                }
            }
        }
        self.chunk = buffer.freeze();
        Ok(self.chunk.len() >= length)
    }

    fn decompress(&self, message: &Bytes) -> Result<Bytes, Status> {
        if self.encoding == Encoding::Identity {
            return Err(Status::internal(
                "grpc: compressed flag set with identity or empty encoding",
            ));
        }
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(message.as_ref())
            .take(self.bytes_max as u64 + 1)
            .read_to_end(&mut plain)
            .map_err(|error| {
                Status::internal(format!("grpc: failed to decompress the message: {error}"))
            })?;
        if plain.len() > self.bytes_max {
            return Err(Status::new(
                Code::ResourceExhausted,
                format!(
                    "grpc: received message after decompression larger than max {}",
                    self.bytes_max
                ),
            ));
        }
        Ok(plain.into())
    }

    fn too_large(&self, length: usize) -> Status {
        Status::new(
            Code::ResourceExhausted,
            format!("grpc: received message larger than max ({length} vs. {})", self.bytes_max),
        )
    }
}

/// A message as it goes into an answer's body.
///
/// # Errors
/// If it is larger than gRPC can say.
pub(crate) fn encode(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let too_large = || {
        Status::new(
            Code::ResourceExhausted,
            format!("trying to send message larger than max ({length} vs. {SEND_BYTES_MAX})"),
        )
    };
    if length > SEND_BYTES_MAX {
        return Err(too_large());
    }
    let prefix = u32::try_from(length).map_err(|_| too_large())?;
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + length);
    buffer.put_u8(0);
    buffer.put_u32(prefix);
    message.encode_raw(&mut buffer);
    Ok(buffer.freeze())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Write as _;

    use proto::etcdserverpb::{PutRequest, WatchCancelRequest};

    use super::*;

    struct Chunks(VecDeque<Bytes>);

    impl Source for Chunks {
        async fn chunk(&mut self) -> Option<Result<Bytes, Status>> {
            self.0.pop_front().map(Ok)
        }

        fn is_ended(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn messages(bytes: &[u8], chunk: usize, encoding: Encoding) -> Messages<Chunks> {
        let chunks = bytes.chunks(chunk).map(Bytes::copy_from_slice).collect();
        Messages::new(Chunks(chunks), encoding, 1000)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn put(size: usize) -> PutRequest {
        PutRequest { key: "k".into(), value: vec![7; size].into(), ..Default::default() }
    }

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let sizes = [0, 1, 300, 5];
        let mut bytes = Vec::new();
        for size in sizes {
            bytes.extend_from_slice(&encode(&put(size)).unwrap());
        }
        for chunk in 1..=bytes.len() {
            let mut messages = messages(&bytes, chunk, Encoding::Identity);
            for size in sizes {
                let found: PutRequest = run(messages.next()).unwrap().unwrap();
                assert_eq!(found, put(size), "in chunks of {chunk}");
            }
            assert_eq!(run(messages.next::<PutRequest>()).unwrap(), None);
        }
    }

    #[test]
    fn a_cut_off_message_is_an_error_and_not_the_end() {
        let bytes = encode(&put(30)).unwrap();
        for end in 1..bytes.len() {
            let error = run(messages(&bytes[..end], 7, Encoding::Identity).next_bytes());
            assert_eq!(error, Err(Status::internal("unexpected EOF")), "cut at {end}");
        }
    }

    #[test]
    fn a_call_with_one_message_has_one() {
        let one = encode(&put(3)).unwrap();
        let two = [&one[..], &one[..]].concat();
        let mut good = messages(&one, 2, Encoding::Identity);
        assert_eq!(run(good.only::<PutRequest>()).unwrap(), (put(3), one.len() - 5));
        for chunk in [1, one.len(), two.len()] {
            let error = run(messages(&two, chunk, Encoding::Identity).only::<PutRequest>());
            assert!(error.unwrap_err().message.contains("multiple request messages"));
        }
        let error = run(messages(&[], 1, Encoding::Identity).only::<PutRequest>());
        assert!(error.unwrap_err().message.contains("no request message"));
    }

    #[test]
    fn what_is_too_large_is_refused_by_its_prefix() {
        let error = run(messages(&[0, 0, 0, 3, 233], 5, Encoding::Identity).next_bytes());
        let error = error.unwrap_err();
        assert_eq!(error.code, Code::ResourceExhausted);
        assert_eq!(error.message, "grpc: received message larger than max (1001 vs. 1000)");
    }

    #[test]
    fn nonsense_is_told_from_messages() {
        let error = run(messages(&[2, 0, 0, 0, 0], 5, Encoding::Identity).next_bytes());
        assert_eq!(error.unwrap_err().message, "grpc: received unexpected payload format 2");
        let bytes = [0, 0, 0, 0, 2, 0x0a, 200];
        let error = run(messages(&bytes, 7, Encoding::Identity).next::<WatchCancelRequest>());
        assert_eq!(error.unwrap_err().code, Code::Internal);
    }

    #[test]
    fn gzip_is_understood_and_bounded() {
        let frame = |plain: &[u8]| {
            let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            zip.write_all(plain).unwrap();
            let zipped = zip.finish().unwrap();
            let mut bytes = vec![1, 0, 0];
            bytes.extend_from_slice(&u16::try_from(zipped.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&zipped);
            bytes
        };
        let good = frame(&put(300).encode_to_vec());
        assert_eq!(run(messages(&good, 9, Encoding::Gzip).next()).unwrap(), Some(put(300)));
        let bomb = frame(&[0; 1_000_000]);
        let error = run(messages(&bomb, 9000, Encoding::Gzip).next_bytes()).unwrap_err();
        assert_eq!(error.code, Code::ResourceExhausted);
        let error = run(messages(&good, 9, Encoding::Identity).next_bytes()).unwrap_err();
        assert_eq!(error.code, Code::Internal);
        let error = run(messages(&[1, 0, 0, 0, 1, 9], 9, Encoding::Gzip).next_bytes());
        assert_eq!(error.unwrap_err().code, Code::Internal);
    }
}
