//! Where the cluster is, and how long and how often to try: every limit of the client by name.

use std::time::Duration;

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The list of endpoints is empty.
    #[error("no endpoint given")]
    NoEndpoint,
    /// An endpoint that is not `host:port` or `http://host:port`.
    #[error("endpoint {0:?} is not of the form http://host:port")]
    BadEndpoint(String),
    /// TLS is not spoken by this client.
    #[error("endpoint {0:?}: https is not supported by this client yet")]
    Tls(String),
}

/// One address of a member's client port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    given: String,
    authority: http::uri::Authority,
}

impl Endpoint {
    /// Reads `host:port` or `http://host:port`, as etcdctl does.
    ///
    /// # Errors
    /// [`ConfigError`] if it is neither, or if it asks for TLS.
    pub fn parse(given: &str) -> Result<Self, ConfigError> {
        let trimmed = given.trim();
        let bad = || ConfigError::BadEndpoint(trimmed.to_owned());
        let rest = match trimmed.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err(ConfigError::Tls(trimmed.to_owned())),
            Some(_) => return Err(bad()),
            None => trimmed,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority: http::uri::Authority = rest.parse().map_err(|_| bad())?;
        if authority.port_u16().is_none() || authority.host().is_empty() {
            return Err(bad());
        }
        Ok(Self { given: trimmed.to_owned(), authority })
    }

    /// The endpoint as it was written by the user.
    pub fn as_str(&self) -> &str {
        &self.given
    }

    /// `host:port`, for HTTP/2's `:authority` and for dialing.
    pub fn authority(&self) -> &http::uri::Authority {
        &self.authority
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.given)
    }
}

/// Which member is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefer {
    /// The first endpoint that answers, in the order given. Any member serves any request, so
    /// this is what a command that runs once wants.
    #[default]
    First,
    /// The leader, found by asking every endpoint for its status before the first request and
    /// again after a failure. Saves the hop from follower to leader for as long as it lasts.
    Leader,
}

/// Everything a [`Client`](crate::Client) can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The members' client addresses; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Who is asked first.
    pub prefer: Prefer,
    /// Longest wait for a TCP connection and HTTP/2 to stand.
    pub connect_timeout: Duration,
    /// Longest wait for a unary call, all attempts together.
    pub request_timeout: Duration,
    /// Longest wait for one attempt of a *read*, after which another endpoint is asked. A write
    /// waits for the whole of `request_timeout`: it could not be sent again anyway.
    pub read_attempt_timeout: Duration,
    /// Most attempts for one call, the first included.
    pub attempts_max: u32,
    /// Wait before the second attempt; doubled for each further one up to `backoff_max`.
    pub backoff_first: Duration,
    /// Longest wait between two attempts.
    pub backoff_max: Duration,
    /// A connection that carries calls is probed after this long without a frame. etcd ends
    /// connections that are probed more often than every 5 s.
    pub keep_alive_interval: Duration,
    /// A probe that stays unanswered for this long ends the connection.
    pub keep_alive_timeout: Duration,
    /// Largest message accepted from the server, in bytes (the Go client's default: 2 GiB - 1).
    pub response_bytes_max: usize,
    /// HTTP/2 flow-control window of a connection and of each of its streams, in bytes.
    pub window_bytes: u32,
    /// Messages that may wait to be sent on one streaming call.
    pub stream_queue_max: usize,
    /// Whether requests carry `hasleader: true`, so that a member without a leader refuses them
    /// and ends their streams (etcd's `WithRequireLeader`). Watches and keep-alives always do.
    pub require_leader: bool,
}

impl Config {
    /// The defaults for these endpoints, each `host:port` or `http://host:port`.
    ///
    /// # Errors
    /// [`ConfigError`] if the list is empty or one of them cannot be read.
    pub fn new<S: AsRef<str>>(endpoints: impl IntoIterator<Item = S>) -> Result<Self, ConfigError> {
        let endpoints = endpoints
            .into_iter()
            .map(|given| Endpoint::parse(given.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(ConfigError::NoEndpoint);
        }
        Ok(Self {
            endpoints,
            prefer: Prefer::default(),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            read_attempt_timeout: Duration::from_secs(2),
            attempts_max: 16,
            backoff_first: Duration::from_millis(20),
            backoff_max: Duration::from_millis(500),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            response_bytes_max: i32::MAX as usize,
            window_bytes: 1 << 20,
            stream_queue_max: 1024,
            require_leader: false,
        })
    }

    /// The wait before attempt `attempt` (the second attempt is 1).
    pub(crate) fn backoff(&self, attempt: u32) -> Duration {
        let doubled = self.backoff_first.saturating_mul(1 << attempt.saturating_sub(1).min(16));
        doubled.min(self.backoff_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_etcdctl_reads_them() {
        for good in ["127.0.0.1:2379", "http://localhost:2379", "http://[::1]:2379/", " h:1 "] {
            assert_eq!(Endpoint::parse(good).unwrap().as_str(), good.trim());
        }
        for bad in ["", "localhost", "http://", "http://:2379", "ftp://h:1", "h:1/path", "h:x"] {
            assert!(matches!(Endpoint::parse(bad), Err(ConfigError::BadEndpoint(_))), "{bad}");
        }
        assert!(matches!(Endpoint::parse("https://h:1"), Err(ConfigError::Tls(_))));
        assert_eq!(Config::new([""; 0]).unwrap_err(), ConfigError::NoEndpoint);
    }

    #[test]
    fn backoff_doubles_up_to_its_limit() {
        let config = Config::new(["h:1"]).unwrap();
        let waits: Vec<_> = (1..8).map(|n| config.backoff(n).as_millis()).collect();
        assert_eq!(waits, [20, 40, 80, 160, 320, 500, 500]);
        assert_eq!(config.backoff(u32::MAX).as_millis(), 500);
    }
}
