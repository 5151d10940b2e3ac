//! What is answered to plain HTTP, on the same port: health, version, metrics.
//!
//! Paths, parameters, texts and codes are etcd's, because probes and dashboards are written for
//! them. All of it is GET, and none of it decides anything.

use std::fmt::Write as _;

use bytes::Bytes;
use etcd::{Error, Request as Ask, Response as Answer};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use proto::etcdserverpb as pb;

use crate::backend::Backend;
use crate::door::Door;
use crate::metrics::plain_text;
use crate::service::maintenance;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const METRICS_OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One thing that a probe looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    const LIVEZ: &[Check] = &[Check::SerializableRead];
    const READYZ: &[Check] = &[
        Check::DataCorruption,
        Check::SerializableRead,
        Check::LinearizableRead,
        Check::NonLearner,
    ];

    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// What is wrong, if anything.
    async fn run<B: Backend>(self, door: &Door<B>) -> Result<(), String> {
        match self {
            Check::DataCorruption => {
                let alarms = maintenance::alarms(door).map_err(|error| error.to_string())?;
                match alarms.iter().any(|alarm| alarm.alarm() == pb::AlarmType::Corrupt) {
                    true => Err("alarm activated: CORRUPT".to_owned()),
                    false => Ok(()),
                }
            }
            Check::SerializableRead => {
                read_one(door, true).await.map_err(|error| format!("range error: {error}"))
            }
            Check::LinearizableRead => {
                read_one(door, false).await.map_err(|error| format!("range error: {error}"))
            }
            Check::NonLearner => match door.backend.standing().is_learner {
                true => Err("not supported for learner".to_owned()),
                false => Ok(()),
            },
        }
    }
}

/// Reads a key, whether it is there or not.
async fn read_one<B: Backend>(door: &Door<B>, serializable: bool) -> Result<(), Error> {
    let view = if serializable { door.backend.view() } else { door.backend.read_point().await? };
    let range = pb::RangeRequest { key: Bytes::from_static(b"health"), ..Default::default() };
    match etcd::read(&view, &Ask::Range(range), &door.config.limits)? {
        Answer::Range(_) => Ok(()),
        _ => Err(Error::Storage("an answer of another kind".to_owned())),
    }
}

/// What is asked for.
pub(crate) struct Wanted {
    pub(crate) is_get: bool,
    /// Path and query.
    pub(crate) target: String,
    /// Metrics are wanted as OpenMetrics.
    pub(crate) open_metrics: bool,
}

impl Wanted {
    pub(crate) fn new(is_get: bool, target: &[u8], accept: Option<&[u8]>) -> Wanted {
        let accept = accept.map(String::from_utf8_lossy);
        let open_metrics =
            accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        Wanted { is_get, target: String::from_utf8_lossy(target).into_owned(), open_metrics }
    }
}

/// The answer where only gRPC is served.
pub(crate) fn elsewhere() -> Response<Bytes> {
    fault(StatusCode::NOT_FOUND, "only gRPC is served here: see --listen-client-http-urls")
}

/// The answer to a call of gRPC that is no POST.
pub(crate) fn not_allowed() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// Answers a request.
pub(crate) async fn serve<B: Backend>(door: &Door<B>, wanted: Wanted) -> Response<Bytes> {
    let (path, query) = wanted.target.split_once('?').unwrap_or((&wanted.target, ""));
    let probe = match path
        .split_once("z/")
        .map_or((path, None), |(_, name)| (&path[..path.len() - name.len() - 1], Some(name)))
    {
        ("/livez", name) => Some(("livez", Check::LIVEZ, name)),
        ("/readyz", name) => Some(("readyz", Check::READYZ, name)),
        _ => None,
    };
    let known = matches!(path, "/health" | "/version" | "/metrics" | "/debug/vars");
    if !known && probe.is_none() {
        return fault(StatusCode::NOT_FOUND, "404 page not found");
    }
    if !wanted.is_get {
        let mut response = fault(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let query = Query(query);
    match (probe, path) {
        (Some((kind, checks, name)), _) => probed(door, kind, checks, name, &query).await,
        (None, "/health") => health(door, &query).await,
        (None, "/version") => version(door),
        (None, "/debug/vars") => variables(door),
        (None, _) => metrics(door, wanted.open_metrics),
    }
}

/// `/health`: whether the member serves, in one word.
async fn health<B: Backend>(door: &Door<B>, query: &Query<'_>) -> Response<Bytes> {
    let reason = match unhealthy(door, query).await {
        None => {
            door.metrics.health_success.inc();
            return page(JSON, "{\"health\":\"true\",\"reason\":\"\"}");
        }
        Some(reason) => reason,
    };
    door.metrics.health_failures.inc();
    tracing::warn!(reason, "/health says no");
    let text = serde_json::json!({ "health": "false", "reason": reason }).to_string();
    fault(StatusCode::SERVICE_UNAVAILABLE, &text)
}

async fn unhealthy<B: Backend>(door: &Door<B>, query: &Query<'_>) -> Option<String> {
    let alarms = match maintenance::alarms(door) {
        Ok(alarms) => alarms,
        Err(error) => return Some(format!("RANGE ERROR:{error}")),
    };
    for alarm in alarms {
        let name = alarm.alarm().as_str_name();
        if !query.all("exclude").any(|excluded| excluded == name) {
            return Some(format!("ALARM {name}"));
        }
    }
    let serializable = query.all("serializable").next() == Some("true");
    if !serializable && door.backend.standing().leader.is_none() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let read = read_one(door, serializable).await;
    read.err().map(|error| format!("RANGE ERROR:{error}"))
}

/// `/livez` and `/readyz`, and below them each check alone.
async fn probed<B: Backend>(
    door: &Door<B>,
    kind: &'static str,
    checks: &[Check],
    name: Option<&str>,
    query: &Query<'_>,
) -> Response<Bytes> {
    let wanted: Vec<Check> = match name {
        Some(name) => checks.iter().copied().filter(|check| check.name() == name).collect(),
        None => {
            let excluded = |check: &Check| query.all("exclude").any(|name| name == check.name());
            checks.iter().copied().filter(|check| !excluded(check)).collect()
        }
    };
    if name.is_some() && wanted.is_empty() {
        return fault(StatusCode::NOT_FOUND, "404 page not found");
    }
    let (mut report, mut good) = (String::new(), true);
    for check in wanted {
        let result = check.run(door).await;
        door.metrics.checked(kind, check.name(), result.is_ok());
        // Writing to a string does not fail.
        let _ = match &result {
            Ok(()) => writeln!(report, "[+]{} ok", check.name()),
            Err(error) => writeln!(report, "[-]{} failed: {error}", check.name()),
        };
        good &= result.is_ok();
    }
    if !good {
        tracing::error!(kind, report, "health check failed");
        return fault(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    if !query.has("verbose") {
        report.clear();
    }
    report += "ok\n";
    let mut response = page(TEXT, report);
    response.headers_mut().insert(NOSNIFF.0, NOSNIFF.1);
    response
}

fn version<B: Backend>(door: &Door<B>) -> Response<Bytes> {
    let status = door.backend.status();
    let text = |version: Option<String>, none: &str| version.unwrap_or_else(|| none.to_owned());
    let versions = serde_json::json!({
        "etcdserver": status.version,
        "etcdcluster": text(status.cluster_version, "not_decided"),
        "storage": text(status.storage_version, "unknown"),
    });
    page(JSON, versions.to_string())
}

fn metrics<B: Backend>(door: &Door<B>, open: bool) -> Response<Bytes> {
    let view = door.backend.view();
    let revisions = (view.revision().0, view.compacted().0);
    let text = door.metrics.render(door.backend.standing(), &door.backend.status(), revisions);
    if open { page(METRICS_OPEN, text) } else { page(METRICS_TEXT, plain_text(&text)) }
}

/// What Go programs publish there, as far as it makes sense here.
fn variables<B: Backend>(door: &Door<B>) -> Response<Bytes> {
    let (standing, status) = (door.backend.standing(), door.backend.status());
    let leads = standing.leader == Some(standing.member_id);
    let arguments: Vec<String> = std::env::args().collect();
    let variables = serde_json::json!({
        "cmdline": arguments,
        "raft.status": {
            "id": format!("{:x}", standing.member_id),
            "term": standing.term,
            "lead": format!("{:x}", standing.leader.unwrap_or(0)),
            "raftState": match (leads, standing.is_learner) {
                (true, _) => "StateLeader",
                (false, true) => "StateLearner",
                (false, false) => "StateFollower",
            },
            "commit": status.committed,
            "applied": status.applied,
        },
        "file_descriptor_limit": crate::process::usage().max_fds,
    });
    page("application/json; charset=utf-8", variables.to_string())
}

const NOSNIFF: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));

fn page(content: &'static str, text: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    response
}

fn fault(status: StatusCode, text: &str) -> Response<Bytes> {
    let mut response = page(TEXT, format!("{text}\n"));
    *response.status_mut() = status;
    response.headers_mut().insert(NOSNIFF.0, NOSNIFF.1);
    response
}

/// The part of a URL behind the question mark. Names and values that matter here are plain
/// words, so nothing is unescaped.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    fn all(&self, wanted: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs().filter(move |(name, _)| *name == wanted).map(|(_, value)| value)
    }

    fn has(&self, wanted: &str) -> bool {
        self.pairs().any(|(name, _)| name == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let query = Query("exclude=NOSPACE&exclude=CORRUPT&verbose&serializable=true");
        assert_eq!(query.all("exclude").collect::<Vec<_>>(), ["NOSPACE", "CORRUPT"]);
        assert!(query.has("verbose"));
        assert!(!query.has("exclud"));
        assert_eq!(query.all("serializable").next(), Some("true"));
        assert!(!Query("").has(""));
    }
}
