//! Keys, values, transactions and events.

use std::fmt::Write as _;

use proto::etcdserverpb::response_op::Response;
use proto::{etcdserverpb as pb, mvccpb};

use super::json::{self, Json, Object};
use super::{Show, Style, text};

/// The header's lines; an absent header reads as zeros.
pub(super) fn fields_header(header: Option<&pb::ResponseHeader>, out: &mut String) {
    let header = header.copied().unwrap_or_default();
    let _infallible = writeln!(
        out,
        "\"ClusterID\" : {}\n\"MemberID\" : {}\n\"Revision\" : {}\n\"RaftTerm\" : {}",
        header.cluster_id, header.member_id, header.revision, header.raft_term
    );
}

fn fields_kv(prefix: &str, kv: &mvccpb::KeyValue, out: &mut String) {
    let _infallible = writeln!(
        out,
        "\"{prefix}Key\" : {}\n\"{prefix}CreateRevision\" : {}\n\"{prefix}ModRevision\" : {}\n\
         \"{prefix}Version\" : {}\n\"{prefix}Value\" : {}\n\"{prefix}Lease\" : {}",
        text::quoted(&kv.key),
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        text::quoted(&kv.value),
        kv.lease
    );
}

/// Bytes go to a terminal as they are, as far as they are text.
fn raw(bytes: &[u8], style: Style) -> String {
    if style.hex { text::hex(bytes) } else { String::from_utf8_lossy(bytes).into_owned() }
}

fn simple_kv(kv: &mvccpb::KeyValue, style: Style, out: &mut String) {
    if !style.value_only {
        out.push_str(&raw(&kv.key, style));
        out.push('\n');
    }
    out.push_str(&raw(&kv.value, style));
    out.push('\n');
}

impl Show for pb::RangeResponse {
    fn simple(&self, style: Style, out: &mut String) {
        self.kvs.iter().for_each(|kv| simple_kv(kv, style, out));
    }

    fn fields(&self, out: &mut String) {
        fields_header(self.header.as_ref(), out);
        self.kvs.iter().for_each(|kv| fields_kv("", kv, out));
        let _infallible = writeln!(out, "\"More\" : {}\n\"Count\" : {}", self.more, self.count);
    }

    fn json(&self, _style: Style) -> Json {
        self.into()
    }
}

impl Show for pb::PutResponse {
    fn simple(&self, style: Style, out: &mut String) {
        out.push_str("OK\n");
        self.prev_kv.iter().for_each(|kv| simple_kv(kv, style, out));
    }

    fn fields(&self, out: &mut String) {
        fields_header(self.header.as_ref(), out);
        self.prev_kv.iter().for_each(|kv| fields_kv("Prev", kv, out));
    }

    fn json(&self, _style: Style) -> Json {
        self.into()
    }
}

impl Show for pb::DeleteRangeResponse {
    fn simple(&self, style: Style, out: &mut String) {
        let _infallible = writeln!(out, "{}", self.deleted);
        self.prev_kvs.iter().for_each(|kv| simple_kv(kv, style, out));
    }

    fn fields(&self, out: &mut String) {
        fields_header(self.header.as_ref(), out);
        let _infallible = writeln!(out, "\"Deleted\" : {}", self.deleted);
        self.prev_kvs.iter().for_each(|kv| fields_kv("Prev", kv, out));
    }

    fn json(&self, _style: Style) -> Json {
        self.into()
    }
}

impl Show for pb::TxnResponse {
    fn simple(&self, style: Style, out: &mut String) {
        out.push_str(if self.succeeded { "SUCCESS\n" } else { "FAILURE\n" });
        for op in &self.responses {
            out.push('\n');
            match &op.response {
                Some(Response::ResponseRange(range)) => range.simple(style, out),
                Some(Response::ResponsePut(put)) => put.simple(style, out),
                Some(Response::ResponseDeleteRange(delete)) => delete.simple(style, out),
                Some(Response::ResponseTxn(txn)) => txn.simple(style, out),
                None => {}
            }
        }
    }

    fn fields(&self, out: &mut String) {
        fields_header(self.header.as_ref(), out);
        let _infallible = writeln!(out, "\"Succeeded\" : {}", self.succeeded);
        for op in &self.responses {
            match &op.response {
                Some(Response::ResponseRange(range)) => range.fields(out),
                Some(Response::ResponsePut(put)) => put.fields(out),
                Some(Response::ResponseDeleteRange(delete)) => delete.fields(out),
                Some(Response::ResponseTxn(txn)) => txn.fields(out),
                None => {}
            }
        }
    }

    fn json(&self, _style: Style) -> Json {
        self.into()
    }
}

/// A batch of events, or the end of a watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    pub(crate) header: pb::ResponseHeader,
    pub(crate) events: Vec<mvccpb::Event>,
    pub(crate) compact_revision: i64,
    pub(crate) canceled: bool,
}

impl Show for Watched {
    fn simple(&self, style: Style, out: &mut String) {
        for event in &self.events {
            let _infallible = writeln!(out, "{}", event_type(event));
            event.prev_kv.iter().for_each(|kv| simple_kv(kv, style, out));
            event.kv.iter().for_each(|kv| simple_kv(kv, style, out));
        }
    }

    fn fields(&self, out: &mut String) {
        fields_header(Some(&self.header), out);
        for event in &self.events {
            let _infallible = writeln!(out, "\"Type\" : {}", event_type(event));
            event.prev_kv.iter().for_each(|kv| fields_kv("Prev", kv, out));
            event.kv.iter().for_each(|kv| fields_kv("", kv, out));
        }
    }

    fn json(&self, _style: Style) -> Json {
        Object::default()
            .with("Header", Json::from(&self.header))
            .with("Events", json::list(&self.events))
            .with("CompactRevision", self.compact_revision)
            .with("Canceled", self.canceled)
            .with("Created", false)
            .into()
    }
}

fn event_type(event: &mvccpb::Event) -> &'static str {
    match event.r#type() {
        mvccpb::event::EventType::Put => "PUT",
        mvccpb::event::EventType::Delete => "DELETE",
    }
}
