//! Twins of the answers that carry keys and values, for the side that sends them.
//!
//! Where the message has a `mvccpb.KeyValue`, its twin has the encoding of one. On the wire a
//! message inside a message is a length and its bytes, exactly as a `bytes` field is, so both
//! encode to the same bytes (a test holds them together). Encoding a twin copies each encoded
//! version once, into the buffer that goes to the socket.
//!
//! The type does not check that the bytes are a `KeyValue`: whoever fills a twin answers for it.

use bytes::Bytes;

use crate::etcdserverpb::ResponseHeader;
use crate::mvccpb::event::EventType;

/// An encoded `mvccpb.KeyValue`.
pub type EncodedKeyValue = Bytes;

/// Twin of [`crate::etcdserverpb::RangeResponse`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeResponse {
    /// Who answered, and as of when.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The keys, each an encoded `KeyValue`, in the order asked for.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub kvs: Vec<EncodedKeyValue>,
    /// The limit cut something off.
    #[prost(bool, tag = "3")]
    pub more: bool,
    /// Keys in the span, whatever the limit and the filters.
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// Twin of [`crate::etcdserverpb::RangeStreamResponse`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeStreamResponse {
    /// Some keys; header, more and count come with the last part only.
    #[prost(message, optional, tag = "1")]
    pub range_response: Option<RangeResponse>,
}

/// Twin of [`crate::etcdserverpb::PutResponse`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct PutResponse {
    /// Who answered, and as of when.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The version before, if asked for and if there was one.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub prev_kv: Option<EncodedKeyValue>,
}

/// Twin of [`crate::etcdserverpb::DeleteRangeResponse`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteRangeResponse {
    /// Who answered, and as of when.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// How many keys there were.
    #[prost(int64, tag = "2")]
    pub deleted: i64,
    /// What they were, if asked for.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub prev_kvs: Vec<EncodedKeyValue>,
}

/// Twin of [`crate::etcdserverpb::TxnResponse`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct TxnResponse {
    /// Who answered, and as of when.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// All conditions held.
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    /// The answers to the operations done, in their order.
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<ResponseOp>,
}

/// Twin of [`crate::etcdserverpb::ResponseOp`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResponseOp {
    /// The answer, of the kind of the operation.
    #[prost(oneof = "Response", tags = "1, 2, 3, 4")]
    pub response: Option<Response>,
}

/// Twin of [`crate::etcdserverpb::response_op::Response`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Response {
    /// To a read.
    #[prost(message, tag = "1")]
    ResponseRange(RangeResponse),
    /// To a write.
    #[prost(message, tag = "2")]
    ResponsePut(PutResponse),
    /// To a deletion.
    #[prost(message, tag = "3")]
    ResponseDeleteRange(DeleteRangeResponse),
    /// To a transaction inside.
    #[prost(message, tag = "4")]
    ResponseTxn(TxnResponse),
}

/// Twin of [`crate::mvccpb::Event`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// What happened.
    #[prost(enumeration = "EventType", tag = "1")]
    pub r#type: i32,
    /// The version written; for a deletion the key and the revision of the deletion alone.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub kv: Option<EncodedKeyValue>,
    /// The version before, if asked for and not compacted.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub prev_kv: Option<EncodedKeyValue>,
}

/// Twin of [`crate::etcdserverpb::WatchResponse`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchResponse {
    /// Who answered; the revision is how far the watch has come.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Which watch; -1 for the whole stream.
    #[prost(int64, tag = "2")]
    pub watch_id: i64,
    /// The watch has begun.
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// The watch has ended, nothing more comes.
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    /// If it ended because what it asked for was compacted: the oldest revision there is.
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    /// Why it ended.
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    /// More of this revision follows.
    #[prost(bool, tag = "7")]
    pub fragment: bool,
    /// The events in the order of their revisions.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}

/// Twin of [`crate::v3electionpb::LeaderResponse`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaderResponse {
    /// Who answered, and as of when.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The key of the leadership, with what the leader has to say.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub kv: Option<EncodedKeyValue>,
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::{etcdserverpb as pb, mvccpb, v3electionpb};

    fn header() -> Option<ResponseHeader> {
        Some(ResponseHeader { cluster_id: u64::MAX, member_id: 7, revision: 300, raft_term: 3 })
    }

    fn version(key: &'static str, lease: i64) -> mvccpb::KeyValue {
        mvccpb::KeyValue {
            key: key.into(),
            create_revision: 2,
            mod_revision: 300,
            version: 4,
            value: vec![b'v'; 200].into(),
            lease,
        }
    }

    fn raw(kv: &mvccpb::KeyValue) -> Bytes {
        kv.encode_to_vec().into()
    }

    #[test]
    fn twins_encode_to_the_same_bytes() {
        let (a, b) = (version("a", 0), version("b", i64::MAX));
        let range = pb::RangeResponse {
            header: header(),
            kvs: vec![a.clone(), b.clone()],
            more: true,
            count: 9,
        };
        let put = pb::PutResponse { header: header(), prev_kv: Some(a.clone()) };
        let delete = pb::DeleteRangeResponse {
            header: header(),
            deleted: 2,
            prev_kvs: vec![b.clone(), a.clone()],
        };
        let range_twin =
            RangeResponse { header: header(), kvs: vec![raw(&a), raw(&b)], more: true, count: 9 };
        let put_twin = PutResponse { header: header(), prev_kv: Some(raw(&a)) };
        let delete_twin =
            DeleteRangeResponse { header: header(), deleted: 2, prev_kvs: vec![raw(&b), raw(&a)] };
        assert_eq!(range.encode_to_vec(), range_twin.encode_to_vec());
        assert_eq!(put.encode_to_vec(), put_twin.encode_to_vec());
        assert_eq!(delete.encode_to_vec(), delete_twin.encode_to_vec());

        use pb::response_op::Response as Message;
        let inner = pb::TxnResponse { header: None, succeeded: true, responses: vec![] };
        let inner_twin = TxnResponse { header: None, succeeded: true, responses: vec![] };
        let txn = pb::TxnResponse {
            header: header(),
            succeeded: false,
            responses: [
                Message::ResponseRange(range),
                Message::ResponsePut(put),
                Message::ResponseDeleteRange(delete),
                Message::ResponseTxn(inner),
            ]
            .into_iter()
            .map(|response| pb::ResponseOp { response: Some(response) })
            .collect(),
        };
        let txn_twin = TxnResponse {
            header: header(),
            succeeded: false,
            responses: [
                Response::ResponseRange(range_twin),
                Response::ResponsePut(put_twin),
                Response::ResponseDeleteRange(delete_twin),
                Response::ResponseTxn(inner_twin),
            ]
            .into_iter()
            .map(|response| ResponseOp { response: Some(response) })
            .collect(),
        };
        assert_eq!(txn.encode_to_vec(), txn_twin.encode_to_vec());
        assert_eq!(TxnResponse::decode(&txn.encode_to_vec()[..]).unwrap(), txn_twin);
    }

    #[test]
    fn streamed_twins_encode_to_the_same_bytes() {
        let (a, b) = (version("a", 0), version("b", 5));
        let watch = pb::WatchResponse {
            header: header(),
            watch_id: -1,
            created: true,
            canceled: true,
            compact_revision: 17,
            cancel_reason: "why".into(),
            fragment: true,
            events: vec![mvccpb::Event {
                r#type: 1,
                kv: Some(a.clone()),
                prev_kv: Some(b.clone()),
            }],
        };
        let twin = WatchResponse {
            header: header(),
            watch_id: -1,
            created: true,
            canceled: true,
            compact_revision: 17,
            cancel_reason: "why".into(),
            fragment: true,
            events: vec![Event { r#type: 1, kv: Some(raw(&a)), prev_kv: Some(raw(&b)) }],
        };
        assert_eq!(watch.encode_to_vec(), twin.encode_to_vec());

        let leader = v3electionpb::LeaderResponse { header: header(), kv: Some(a.clone()) };
        let twin = LeaderResponse { header: header(), kv: Some(raw(&a)) };
        assert_eq!(leader.encode_to_vec(), twin.encode_to_vec());

        let range = pb::RangeResponse { kvs: vec![a.clone()], ..Default::default() };
        let part = pb::RangeStreamResponse { range_response: Some(range) };
        let range = RangeResponse { kvs: vec![raw(&a)], ..Default::default() };
        let twin = RangeStreamResponse { range_response: Some(range) };
        assert_eq!(part.encode_to_vec(), twin.encode_to_vec());
    }
}
