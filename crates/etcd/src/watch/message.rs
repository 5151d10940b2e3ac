//! One answer, almost encoded.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use mvcc::Revision;
use prost::Message as _;
use proto::etcdserverpb::ResponseHeader;
use proto::wire::WatchResponse;

use super::encode;
use super::mutant::{self, Mutant};

/// The watch id of an answer that concerns the whole stream, or a watch that never came to be.
pub(super) const NO_WATCH: i64 = -1;

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The watch has begun.
    Created,
    /// The watch was asked for and is refused.
    Refused {
        /// For the client.
        reason: Cow<'static, str>,
    },
    /// The watch has ended because it was asked to.
    Canceled,
    /// The watch has ended because what it has to be told next was compacted.
    Compacted {
        /// The oldest revision there is.
        compacted: Revision,
    },
    /// Something happened.
    Events {
        /// More of the same answer follows.
        fragment: bool,
    },
    /// Nothing has happened up to the revision of the header that was not told.
    Progress,
}

/// An answer: a head of its own, and events that it may share with many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub(super) header: ResponseHeader,
    pub(super) watch_id: i64,
    pub(super) kind: Kind,
    pub(super) events: Bytes,
}

impl Message {
    /// Which watch it is for; -1 is the whole stream, or a watch that was refused.
    #[must_use]
    pub fn watch_id(&self) -> i64 {
        self.watch_id
    }

    /// What it says.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    fn head(&self) -> WatchResponse {
        let mut head = WatchResponse {
            header: Some(self.header),
            watch_id: self.watch_id,
            ..WatchResponse::default()
        };
        match &self.kind {
            Kind::Created => head.created = true,
            Kind::Refused { reason } => {
                (head.created, head.canceled) = (true, true);
                head.cancel_reason = reason.clone().into_owned();
            }
            Kind::Canceled => head.canceled = true,
            Kind::Compacted { compacted } => {
                (head.canceled, head.compact_revision) = (true, compacted.0);
            }
            Kind::Events { fragment } => head.fragment = *fragment,
            Kind::Progress => {}
        }
        head
    }

    /// Length of the encoded `etcdserverpb.WatchResponse` in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.head().encoded_len() + self.events.len()
    }

    /// Appends the encoded `etcdserverpb.WatchResponse`.
    ///
    /// # Panics
    /// If the buffer cannot hold [`Message::encoded_len`] bytes.
    pub fn encode(&self, buffer: &mut impl BufMut) {
        self.head().encode(buffer).expect("the buffer has room");
        buffer.put_slice(&self.events);
    }

    /// The same in two parts, one behind the other, so that nothing shared is copied: the head,
    /// and the events (often empty).
    #[must_use]
    pub fn into_parts(self) -> (Bytes, Bytes) {
        (self.head().encode_to_vec().into(), self.events)
    }

    /// The encoded `etcdserverpb.WatchResponse` in one piece.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut bytes);
        bytes.freeze()
    }

    /// Splits an answer of `limit` bytes or more into fragments below that, each of one event at
    /// least; only the last says that nothing follows.
    pub(super) fn fragments(self, limit: usize) -> Vec<Message> {
        let whole = self.encoded_len();
        if whole < limit {
            return vec![self];
        }
        // The flag is two bytes more.
        let head = whole - self.events.len() + 2;
        let (mut parts, mut start, mut end) = (Vec::new(), 0, 0);
        for length in encode::lengths(&self.events) {
            if end > start && head + (end + length - start) >= limit {
                parts.push(start..end);
                start = end;
            }
            end += length;
        }
        parts.push(start..end);
        let last = parts.len() - 1;
        let fragment = |(at, part)| Message {
            kind: Kind::Events {
                fragment: at < last && !(at > 0 && mutant::on(Mutant::FragmentEnds)),
            },
            events: self.events.slice(part),
            ..self.clone()
        };
        parts.into_iter().enumerate().map(fragment).collect()
    }
}
