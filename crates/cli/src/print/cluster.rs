//! Members, what they say of themselves, alarms.

use std::fmt::Write as _;
use std::time::Duration;

use proto::etcdserverpb as pb;

use super::json::{self, Json, Object};
use super::kv::fields_header;
use super::{Show, Style, text};

fn member_row(member: &pb::Member) -> Vec<String> {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    vec![
        format!("{:x}", member.id),
        status.to_owned(),
        member.name.clone(),
        member.peer_urls.join(","),
        member.client_urls.join(","),
        member.is_learner.to_string(),
    ]
}

impl Show for pb::MemberListResponse {
    fn simple(&self, _style: Style, out: &mut String) {
        for member in &self.members {
            let _infallible = writeln!(out, "{}", member_row(member).join(", "));
        }
    }

    fn fields(&self, out: &mut String) {
        fields_header(self.header.as_ref(), out);
        for member in &self.members {
            let name = text::quoted(member.name.as_bytes());
            let _infallible = writeln!(out, "\"ID\" : {}\n\"Name\" : {name}", member.id);
            for url in &member.peer_urls {
                let _infallible = writeln!(out, "\"PeerURL\" : {}", text::quoted(url.as_bytes()));
            }
            for url in &member.client_urls {
                let _infallible = writeln!(out, "\"ClientURL\" : {}", text::quoted(url.as_bytes()));
            }
            let _infallible = writeln!(out, "\"IsLearner\" : {}\n", member.is_learner);
        }
    }

    fn json(&self, style: Style) -> Json {
        if style.hex { hex_members(self) } else { self.into() }
    }

    fn table(&self) -> Option<(&'static [&'static str], Vec<Vec<String>>)> {
        let headings: &[&str] =
            &["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
        Some((headings, self.members.iter().map(member_row).collect()))
    }
}

/// With `--hex` etcdctl writes the ids as hexadecimal strings (and spells one field
/// `clientURLS`).
fn hex_members(response: &pb::MemberListResponse) -> Json {
    let hex = |id: u64| format!("{id:x}");
    let urls = |urls: &[String]| json::list(urls.iter().map(String::as_str));
    let header = response.header.unwrap_or_default();
    let members = response.members.iter().map(|member| {
        Object::default()
            .with("ID", hex(member.id))
            .or_omit("name", member.name.as_str())
            .or_omit("peerURLs", urls(&member.peer_urls))
            .or_omit("clientURLS", urls(&member.client_urls))
            .or_omit("isLearner", member.is_learner)
    });
    let header = Object::default()
        .with("cluster_id", hex(header.cluster_id))
        .with("member_id", hex(header.member_id))
        .or_omit("raft_term", header.raft_term);
    Object::default().with("header", header).with("members", json::list(members)).into()
}

/// A change of the membership: what was done to which member, and the answer.
#[derive(Debug)]
pub(crate) struct MemberChange<R> {
    pub(crate) id: u64,
    /// `added to`, `removed from`, `updated in`, `promoted in`.
    pub(crate) done: &'static str,
    pub(crate) header: Option<pb::ResponseHeader>,
    pub(crate) response: R,
}

impl<R> Show for MemberChange<R>
where
    for<'a> Json: From<&'a R>,
{
    fn simple(&self, _style: Style, out: &mut String) {
        let cluster = self.header.map_or(0, |header| header.cluster_id);
        let _infallible =
            writeln!(out, "Member {:16x} {} cluster {cluster:16x}", self.id, self.done);
    }

    fn fields(&self, out: &mut String) {
        fields_header(self.header.as_ref(), out);
    }

    fn json(&self, _style: Style) -> Json {
        (&self.response).into()
    }
}

/// The status of each endpoint that answered.
#[derive(Debug, Default)]
pub(crate) struct Statuses(pub(crate) Vec<(String, pb::StatusResponse)>);

fn status_row((endpoint, status): &(String, pb::StatusResponse)) -> Vec<String> {
    let id = status.header.map_or(0, |header| header.member_id);
    vec![
        endpoint.clone(),
        format!("{id:x}"),
        status.version.clone(),
        text::size(u64::try_from(status.db_size).unwrap_or(0)),
        (status.leader == id).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
    ]
}

impl Show for Statuses {
    fn simple(&self, _style: Style, out: &mut String) {
        for status in &self.0 {
            let _infallible = writeln!(out, "{}", status_row(status).join(", "));
        }
    }

    fn fields(&self, out: &mut String) {
        for (endpoint, status) in &self.0 {
            fields_header(status.header.as_ref(), out);
            let errors: Vec<_> =
                status.errors.iter().map(|error| text::quoted(error.as_bytes())).collect();
            let _infallible = writeln!(
                out,
                "\"Version\" : {}\n\"DBSize\" : {}\n\"Leader\" : {}\n\"IsLearner\" : {}\n\
                 \"RaftIndex\" : {}\n\"RaftTerm\" : {}\n\"RaftAppliedIndex\" : {}\n\
                 \"Errors\" : [{}]\n\"Endpoint\" : {}\n",
                text::quoted(status.version.as_bytes()),
                status.db_size,
                status.leader,
                status.is_learner,
                status.raft_index,
                status.raft_term,
                status.raft_applied_index,
                errors.join(" "),
                text::quoted(endpoint.as_bytes()),
            );
        }
    }

    fn json(&self, _style: Style) -> Json {
        json::list(self.0.iter().map(|(endpoint, status)| {
            Object::default().with("Endpoint", endpoint.as_str()).with("Status", Json::from(status))
        }))
    }

    fn table(&self) -> Option<(&'static [&'static str], Vec<Vec<String>>)> {
        let headings: &[&str] = &[
            "ENDPOINT",
            "ID",
            "VERSION",
            "DB SIZE",
            "IS LEADER",
            "IS LEARNER",
            "RAFT TERM",
            "RAFT INDEX",
            "RAFT APPLIED INDEX",
            "ERRORS",
        ];
        Some((headings, self.0.iter().map(status_row).collect()))
    }
}

/// Whether each endpoint can have a proposal committed.
#[derive(Debug, Default)]
pub(crate) struct Healths(pub(crate) Vec<Health>);

/// The health of one endpoint.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) endpoint: String,
    pub(crate) took: Duration,
    /// Why it is not healthy.
    pub(crate) error: Option<String>,
}

impl Health {
    fn error(&self) -> &str {
        self.error.as_deref().unwrap_or("")
    }
}

impl Show for Healths {
    fn simple(&self, _style: Style, out: &mut String) {
        for health in &self.0 {
            let took = text::duration(health.took);
            let _infallible = match &health.error {
                None => writeln!(
                    out,
                    "{} is healthy: successfully committed proposal: took = {took}",
                    health.endpoint
                ),
                Some(error) => writeln!(
                    out,
                    "{} is unhealthy: failed to commit proposal: {error}",
                    health.endpoint
                ),
            };
        }
    }

    fn fields(&self, out: &mut String) {
        for health in &self.0 {
            let _infallible = writeln!(
                out,
                "\"Endpoint\" : {}\n\"Health\" : {}\n\"Took\" : {}\n\"Error\" : {}\n",
                text::quoted(health.endpoint.as_bytes()),
                health.error.is_none(),
                text::duration(health.took),
                health.error()
            );
        }
    }

    fn json(&self, _style: Style) -> Json {
        json::list(self.0.iter().map(|health| {
            Object::default()
                .with("endpoint", health.endpoint.as_str())
                .with("health", health.error.is_none())
                .with("took", text::duration(health.took))
                .or_omit("error", health.error())
        }))
    }

    fn table(&self) -> Option<(&'static [&'static str], Vec<Vec<String>>)> {
        let row = |health: &Health| {
            vec![
                health.endpoint.clone(),
                health.error.is_none().to_string(),
                text::duration(health.took),
                health.error().to_owned(),
            ]
        };
        Some((&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], self.0.iter().map(row).collect()))
    }
}

/// The hash of each endpoint's keys.
#[derive(Debug, Default)]
pub(crate) struct Hashes(pub(crate) Vec<(String, pb::HashKvResponse)>);

impl Show for Hashes {
    fn simple(&self, _style: Style, out: &mut String) {
        for (endpoint, hash) in &self.0 {
            let _infallible = writeln!(out, "{endpoint}, {}", hash.hash);
        }
    }

    fn fields(&self, out: &mut String) {
        for (endpoint, hash) in &self.0 {
            fields_header(hash.header.as_ref(), out);
            let endpoint = text::quoted(endpoint.as_bytes());
            let _infallible =
                writeln!(out, "\"Endpoint\" : {endpoint}\n\"Hash\" : {}\n", hash.hash);
        }
    }

    fn json(&self, _style: Style) -> Json {
        json::list(self.0.iter().map(|(endpoint, hash)| {
            Object::default().with("Endpoint", endpoint.as_str()).with("HashKV", Json::from(hash))
        }))
    }

    fn table(&self) -> Option<(&'static [&'static str], Vec<Vec<String>>)> {
        let row = |(endpoint, hash): &(String, pb::HashKvResponse)| {
            vec![endpoint.clone(), hash.hash.to_string()]
        };
        Some((&["ENDPOINT", "HASH"], self.0.iter().map(row).collect()))
    }
}

fn alarm_name(alarm: &pb::AlarmMember) -> &'static str {
    match alarm.alarm() {
        pb::AlarmType::None => "NONE",
        pb::AlarmType::Nospace => "NOSPACE",
        pb::AlarmType::Corrupt => "CORRUPT",
    }
}

impl Show for pb::AlarmResponse {
    fn simple(&self, _style: Style, out: &mut String) {
        for alarm in &self.alarms {
            let _infallible =
                writeln!(out, "memberID:{} alarm:{} ", alarm.member_id, alarm_name(alarm));
        }
    }

    fn fields(&self, out: &mut String) {
        fields_header(self.header.as_ref(), out);
        for alarm in &self.alarms {
            let _infallible = writeln!(
                out,
                "\"MemberID\" : {}\n\"AlarmType\" : {}\n",
                alarm.member_id,
                alarm_name(alarm)
            );
        }
    }

    fn json(&self, _style: Style) -> Json {
        self.into()
    }
}

/// A change of leadership.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) response: pb::MoveLeaderResponse,
}

impl Show for Moved {
    fn simple(&self, _style: Style, out: &mut String) {
        let _infallible =
            writeln!(out, "Leadership transferred from {:x} to {:x}", self.from, self.to);
    }

    fn fields(&self, out: &mut String) {
        fields_header(self.response.header.as_ref(), out);
    }

    fn json(&self, _style: Style) -> Json {
        (&self.response).into()
    }
}
