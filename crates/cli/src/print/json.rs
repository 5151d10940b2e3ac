//! JSON exactly as Go prints it, which is what scripts around etcdctl read.
//!
//! `encoding/json` on Go's generated structs has habits that a generic serializer does not share:
//! fields keep their declared order, zero fields are left out, bytes are base64, 64-bit integers
//! are bare numbers, and `<`, `>`, `&`, U+2028 and U+2029 are escaped inside strings.

use std::fmt::Write as _;

use proto::{etcdserverpb as pb, mvccpb};

/// A JSON value with its fields in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    /// `null`, as Go prints a nil slice that is not left out.
    Null,
    Bool(bool),
    /// Any 64-bit integer, signed or not.
    Number(i128),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// An object under construction.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Object(Vec<(&'static str, Json)>);

impl Object {
    /// Adds a field whatever its value.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Json>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// Adds a field unless its value is Go's zero for its type.
    pub(crate) fn or_omit(self, name: &'static str, value: impl Into<Json>) -> Self {
        let value = value.into();
        if value.is_zero() { self } else { self.with(name, value) }
    }
}

impl Json {
    fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(value) => !value,
            Self::Number(number) => *number == 0,
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.is_empty(),
            // A pointer to an empty message is printed.
            Self::Object(_) => false,
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => {
                let _infallible = write!(out, "{number}");
            }
            Self::Text(text) => write_text(text, out),
            Self::List(list) => {
                out.push('[');
                for (at, item) in list.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(Object(fields)) => {
                out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    write_text(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Base64 with padding, as JSON has bytes.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| usize::from(*group.get(index).unwrap_or(&0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let present = digit <= group.len();
            let value = (bits >> (18 - 6 * digit)) & 63;
            out.push(if present { char::from(DIGITS[value]) } else { '=' });
        }
    }
    out
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Json {
            fn from(number: $kind) -> Self {
                Self::Number(number.into())
            }
        }
    )*};
}
numbers!(i32, u32, i64, u64);

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&bytes::Bytes> for Json {
    fn from(bytes: &bytes::Bytes) -> Self {
        Self::Text(base64(bytes))
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl<T> From<Option<T>> for Json
where
    Json: From<T>,
{
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::from)
    }
}

/// A list of anything that has a JSON shape.
pub(crate) fn list<T>(items: impl IntoIterator<Item = T>) -> Json
where
    Json: From<T>,
{
    Json::List(items.into_iter().map(Json::from).collect())
}

/// Defines how a message looks: fields that are left out when zero, in declared order.
macro_rules! shapes {
    ($($kind:ty { $($name:literal = |$this:ident| $value:expr),* $(,)? })*) => {$(
        impl From<&$kind> for Json {
            fn from(message: &$kind) -> Self {
                let object = Object::default();
                $(let object = { let $this = message; object.or_omit($name, $value) };)*
                Self::Object(object)
            }
        }
    )*};
}

shapes! {
    pb::ResponseHeader {
        "cluster_id" = |m| m.cluster_id,
        "member_id" = |m| m.member_id,
        "revision" = |m| m.revision,
        "raft_term" = |m| m.raft_term,
    }
    mvccpb::KeyValue {
        "key" = |m| &m.key,
        "create_revision" = |m| m.create_revision,
        "mod_revision" = |m| m.mod_revision,
        "version" = |m| m.version,
        "value" = |m| &m.value,
        "lease" = |m| m.lease,
    }
    mvccpb::Event {
        "type" = |m| m.r#type,
        "kv" = |m| m.kv.as_ref(),
        "prev_kv" = |m| m.prev_kv.as_ref(),
    }
    pb::RangeResponse {
        "header" = |m| m.header.as_ref(),
        "kvs" = |m| list(&m.kvs),
        "more" = |m| m.more,
        "count" = |m| m.count,
    }
    pb::PutResponse {
        "header" = |m| m.header.as_ref(),
        "prev_kv" = |m| m.prev_kv.as_ref(),
    }
    pb::DeleteRangeResponse {
        "header" = |m| m.header.as_ref(),
        "deleted" = |m| m.deleted,
        "prev_kvs" = |m| list(&m.prev_kvs),
    }
    pb::TxnResponse {
        "header" = |m| m.header.as_ref(),
        "succeeded" = |m| m.succeeded,
        "responses" = |m| list(&m.responses),
    }
    pb::LeaseRevokeResponse { "header" = |m| m.header.as_ref() }
    pb::Member {
        "ID" = |m| m.id,
        "name" = |m| m.name.as_str(),
        "peerURLs" = |m| list(m.peer_urls.iter().map(String::as_str)),
        "clientURLs" = |m| list(m.client_urls.iter().map(String::as_str)),
        "isLearner" = |m| m.is_learner,
    }
    pb::MemberListResponse {
        "header" = |m| m.header.as_ref(),
        "members" = |m| list(&m.members),
    }
    pb::MemberAddResponse {
        "header" = |m| m.header.as_ref(),
        "member" = |m| m.member.as_ref(),
        "members" = |m| list(&m.members),
    }
    pb::MemberRemoveResponse {
        "header" = |m| m.header.as_ref(),
        "members" = |m| list(&m.members),
    }
    pb::MemberUpdateResponse {
        "header" = |m| m.header.as_ref(),
        "members" = |m| list(&m.members),
    }
    pb::MemberPromoteResponse {
        "header" = |m| m.header.as_ref(),
        "members" = |m| list(&m.members),
    }
    pb::StatusResponse {
        "header" = |m| m.header.as_ref(),
        "version" = |m| m.version.as_str(),
        "dbSize" = |m| m.db_size,
        "leader" = |m| m.leader,
        "raftIndex" = |m| m.raft_index,
        "raftTerm" = |m| m.raft_term,
        "raftAppliedIndex" = |m| m.raft_applied_index,
        "errors" = |m| list(m.errors.iter().map(String::as_str)),
        "dbSizeInUse" = |m| m.db_size_in_use,
        "isLearner" = |m| m.is_learner,
    }
    pb::HashKvResponse {
        "header" = |m| m.header.as_ref(),
        "hash" = |m| m.hash,
        "compact_revision" = |m| m.compact_revision,
    }
    pb::AlarmMember {
        "memberID" = |m| m.member_id,
        "alarm" = |m| m.alarm,
    }
    pb::AlarmResponse {
        "header" = |m| m.header.as_ref(),
        "alarms" = |m| list(&m.alarms),
    }
    pb::MoveLeaderResponse { "header" = |m| m.header.as_ref() }
}

impl From<&pb::ResponseOp> for Json {
    fn from(op: &pb::ResponseOp) -> Self {
        use pb::response_op::Response;
        let (name, value) = match &op.response {
            Some(Response::ResponseRange(range)) => ("response_range", Self::from(range)),
            Some(Response::ResponsePut(put)) => ("response_put", Self::from(put)),
            Some(Response::ResponseDeleteRange(delete)) => {
                ("response_delete_range", Self::from(delete))
            }
            Some(Response::ResponseTxn(txn)) => ("response_txn", Self::from(txn)),
            None => return Object::default().with("Response", Self::Null).into(),
        };
        Object::default().with("Response", Object::default().with(name, value)).into()
    }
}

/// The header's fields inside the object that etcdctl makes of a lease's answer.
pub(crate) fn embedded_header(header: Option<&pb::ResponseHeader>) -> Object {
    match header.map(Json::from) {
        Some(Json::Object(fields)) => fields,
        _ => Object::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_every_remainder() {
        let cases: [(&[u8], &str); 6] = [
            (b"", ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xff\xfe\xfd\xfc", "//79/A=="),
            (b"foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn text_is_escaped_as_go_escapes_it() {
        let json = Json::from("a\"\\\n<b>&\u{1}\u{2028}é");
        assert_eq!(json.to_string(), r#""a\"\\\n\u003cb\u003e\u0026\u0001\u2028é""#);
    }

    #[test]
    fn zero_fields_are_left_out_and_empty_messages_kept() {
        let response =
            pb::PutResponse { header: Some(pb::ResponseHeader::default()), prev_kv: None };
        assert_eq!(Json::from(&response).to_string(), r#"{"header":{}}"#);
        let status = pb::StatusResponse { leader: u64::MAX, ..Default::default() };
        assert_eq!(Json::from(&status).to_string(), r#"{"leader":18446744073709551615}"#);
    }

    #[test]
    fn txn_answers_carry_gos_wrapper() {
        let put = pb::response_op::Response::ResponsePut(pb::PutResponse::default());
        let txn = pb::TxnResponse {
            succeeded: true,
            responses: vec![pb::ResponseOp { response: Some(put) }],
            ..Default::default()
        };
        let expected = r#"{"succeeded":true,"responses":[{"Response":{"response_put":{}}}]}"#;
        assert_eq!(Json::from(&txn).to_string(), expected);
    }
}
