//! The first exchange on a peer connection: who is calling, whom, and for what.

use std::io;

use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::frame;
use crate::NodeId;

/// Version of the peer protocol; a peer of another major version is refused.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Purpose {
    /// The stream of consensus messages and forwarded requests.
    Messages = 0,
    /// One snapshot, beside the stream of messages.
    Snapshot = 1,
    /// A newcomer that asks who is in the cluster.
    Describe = 2,
}

/// Sent by the side that dialed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(fixed64, tag = "1")]
    pub(crate) cluster_id: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) from: u64,
    #[prost(fixed64, tag = "3")]
    pub(crate) to: u64,
    #[prost(enumeration = "Purpose", tag = "4")]
    pub(crate) purpose: i32,
    #[prost(uint32, tag = "5")]
    pub(crate) version: u32,
    /// Drawn at each start of a process: tells two processes that use one identity apart.
    #[prost(fixed64, tag = "6")]
    pub(crate) instance: u64,
}

/// The answer. An empty `refusal` is a yes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Welcome {
    #[prost(string, tag = "1")]
    pub(crate) refusal: String,
    #[prost(fixed64, tag = "2")]
    pub(crate) cluster_id: u64,
    #[prost(message, repeated, tag = "3")]
    pub(crate) members: Vec<DescribedMember>,
    /// The refusal is for good: the one who called was removed from the cluster.
    #[prost(bool, tag = "4")]
    pub(crate) removed: bool,
}

/// A member, as told to a newcomer.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DescribedMember {
    #[prost(fixed64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) peer_urls: Vec<String>,
    #[prost(bool, tag = "4")]
    pub(crate) is_learner: bool,
    /// It has served clients: it told the cluster where.
    #[prost(bool, tag = "5")]
    pub(crate) started: bool,
}

/// Why a peer did not let us in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("refused by the peer: {0}")]
    Refused(String),
    #[error("this member was removed from the cluster")]
    Removed,
}

pub(crate) const MAGIC: &[u8; 8] = b"quorate1";

/// Sends `hello` and waits for a welcome.
pub(crate) async fn call(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    hello: &Hello,
) -> Result<Welcome, HelloError> {
    stream.write_all(MAGIC).await?;
    frame::write(stream, &hello.encode_to_vec()).await?;
    stream.flush().await?;
    let answer =
        frame::read(stream).await?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let welcome = Welcome::decode(answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if welcome.removed {
        return Err(HelloError::Removed);
    }
    if !welcome.refusal.is_empty() {
        return Err(HelloError::Refused(welcome.refusal));
    }
    Ok(welcome)
}

/// Reads the hello of a connection that was accepted.
pub(crate) async fn accept(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Hello> {
    use tokio::io::AsyncReadExt;
    let mut magic = [0; 8];
    stream.read_exact(&mut magic).await?;
    if &magic != MAGIC {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a Quorate peer (is a client using the peer port?)",
        ));
    }
    let bytes =
        frame::read(stream).await?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    Hello::decode(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Answers a hello.
pub(crate) async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    welcome: &Welcome,
) -> io::Result<()> {
    frame::write(stream, &welcome.encode_to_vec()).await?;
    stream.flush().await
}

/// What a member says to a hello that is meant for it: `None` is a yes.
pub(crate) fn refusal(hello: &Hello, cluster_id: u64, node: NodeId) -> Option<String> {
    if hello.version != PROTOCOL_VERSION {
        return Some(format!("peer protocol version {} is not {PROTOCOL_VERSION}", hello.version));
    }
    if hello.purpose == Purpose::Describe as i32 {
        return None;
    }
    if hello.cluster_id != cluster_id {
        return Some(format!(
            "cluster {:x} is not ours ({cluster_id:x}): check --initial-cluster, \
             --initial-cluster-token and --experimental-ranges, or remove a data directory that belongs to another cluster",
            hello.cluster_id
        ));
    }
    if hello.to != node.0 {
        return Some(format!(
            "member {:x} was called, but {:x} answers here: check the peer URLs",
            hello.to, node.0
        ));
    }
    None
}
