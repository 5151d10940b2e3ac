//! Leases. etcdctl shows structs of its own here, so the fields have other names.

use std::fmt::Write as _;

use proto::etcdserverpb as pb;

use super::json::{self, Json, Object, embedded_header};
use super::kv::fields_header;
use super::{Show, Style};

fn fields_id_ttl(header: Option<&pb::ResponseHeader>, id: i64, ttl: i64, out: &mut String) {
    fields_header(header, out);
    let _infallible = writeln!(out, "\"ID\" : {id}\n\"TTL\" : {ttl}");
}

impl Show for pb::LeaseGrantResponse {
    fn simple(&self, _style: Style, out: &mut String) {
        let _infallible = writeln!(out, "lease {:016x} granted with TTL({}s)", self.id, self.ttl);
    }

    fn fields(&self, out: &mut String) {
        fields_id_ttl(self.header.as_ref(), self.id, self.ttl, out);
    }

    fn json(&self, _style: Style) -> Json {
        embedded_header(self.header.as_ref())
            .with("ID", self.id)
            .with("TTL", self.ttl)
            .with("Error", self.error.as_str())
            .into()
    }
}

impl Show for pb::LeaseKeepAliveResponse {
    fn simple(&self, _style: Style, out: &mut String) {
        let _infallible = writeln!(out, "lease {:016x} keepalived with TTL({})", self.id, self.ttl);
    }

    fn fields(&self, out: &mut String) {
        fields_id_ttl(self.header.as_ref(), self.id, self.ttl, out);
    }

    fn json(&self, _style: Style) -> Json {
        let object = embedded_header(self.header.as_ref());
        object.with("ID", self.id).with("TTL", self.ttl).into()
    }
}

/// The end of a lease; the answer itself does not name it.
#[derive(Debug)]
pub(crate) struct Revoked {
    pub(crate) id: i64,
    pub(crate) response: pb::LeaseRevokeResponse,
}

impl Show for Revoked {
    fn simple(&self, _style: Style, out: &mut String) {
        let _infallible = writeln!(out, "lease {:016x} revoked", self.id);
    }

    fn fields(&self, out: &mut String) {
        fields_header(self.response.header.as_ref(), out);
    }

    fn json(&self, _style: Style) -> Json {
        (&self.response).into()
    }
}

/// What is left of a lease, and whether its keys were asked for.
#[derive(Debug)]
pub(crate) struct TimeToLive {
    pub(crate) keys_asked: bool,
    pub(crate) response: pb::LeaseTimeToLiveResponse,
}

impl Show for TimeToLive {
    fn simple(&self, _style: Style, out: &mut String) {
        let pb::LeaseTimeToLiveResponse { id, ttl, granted_ttl, keys, .. } = &self.response;
        if *granted_ttl == 0 && *ttl == -1 {
            let _infallible = writeln!(out, "lease {id:016x} already expired");
            return;
        }
        let _infallible =
            write!(out, "lease {id:016x} granted with TTL({granted_ttl}s), remaining({ttl}s)");
        if self.keys_asked {
            let keys: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
            let _infallible = write!(out, ", attached keys([{}])", keys.join(" "));
        }
        out.push('\n');
    }

    fn fields(&self, out: &mut String) {
        let pb::LeaseTimeToLiveResponse { header, id, ttl, granted_ttl, keys } = &self.response;
        fields_id_ttl(header.as_ref(), *id, *ttl, out);
        let _infallible = writeln!(out, "\"GrantedTTL\" : {granted_ttl}");
        for key in keys {
            let _infallible = writeln!(out, "\"Key\" : {}", super::text::quoted(key));
        }
    }

    fn json(&self, _style: Style) -> Json {
        let response = &self.response;
        let keys = if response.keys.is_empty() { Json::Null } else { json::list(&response.keys) };
        embedded_header(response.header.as_ref())
            .with("id", response.id)
            .with("ttl", response.ttl)
            .with("granted-ttl", response.granted_ttl)
            .with("keys", keys)
            .into()
    }
}

impl Show for pb::LeaseLeasesResponse {
    fn simple(&self, _style: Style, out: &mut String) {
        let _infallible = writeln!(out, "found {} leases", self.leases.len());
        for lease in &self.leases {
            let _infallible = writeln!(out, "{:016x}", lease.id);
        }
    }

    fn fields(&self, out: &mut String) {
        fields_header(self.header.as_ref(), out);
        for lease in &self.leases {
            let _infallible = writeln!(out, "\"ID\" : {}", lease.id);
        }
    }

    fn json(&self, _style: Style) -> Json {
        let leases = self.leases.iter().map(|lease| Object::default().with("id", lease.id));
        embedded_header(self.header.as_ref()).with("leases", json::list(leases)).into()
    }
}
