//! The endpoints, who is asked first, and the retry loop.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use proto::etcdserverpb as pb;
use tokio::time::Instant;

use crate::config::{Config, Endpoint, Prefer};
use crate::error::{Error, Failure, Judgement, judge};
use crate::grpc::{CallOptions, Connection, Method, Outgoing, Requests, Responses};

/// Whether a call may change the store, which decides what may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// Changes nothing: retried freely.
    Read,
    /// May change something: retried only when nothing was applied.
    Write,
}

/// A handle to a cluster: cheap to clone, safe to share. See the crate's essay for its promises.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    range: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    slots: Vec<Slot>,
    /// The slot asked first.
    preferred: AtomicUsize,
    /// Whether the leader is to be looked for before the next request.
    search: AtomicBool,
}

/// An endpoint and its connection, once there has been reason to make one.
#[derive(Debug)]
struct Slot {
    endpoint: Endpoint,
    open: Mutex<Option<Connection>>,
    /// Held while dialing, so that a hundred waiting calls make one connection.
    dialing: tokio::sync::Mutex<()>,
}

impl Slot {
    fn existing(&self) -> Option<Connection> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().filter(|connection| !connection.is_closed()).cloned()
    }

    async fn connection(&self, config: &Config) -> Result<Connection, Failure> {
        if let Some(connection) = self.existing() {
            return Ok(connection);
        }
        let _dialing = self.dialing.lock().await;
        if let Some(connection) = self.existing() {
            return Ok(connection);
        }
        let connection = Connection::open(&self.endpoint, config).await?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = Some(connection.clone());
        Ok(connection)
    }
}

impl Client {
    /// A client of this cluster. Nothing is sent until the first call.
    pub fn new(config: Config) -> Self {
        let slots = config
            .endpoints
            .iter()
            .map(|endpoint| Slot {
                endpoint: endpoint.clone(),
                open: Mutex::new(None),
                dialing: tokio::sync::Mutex::new(()),
            })
            .collect::<Vec<_>>();
        assert!(!slots.is_empty(), "Config::new refuses an empty list of endpoints");
        let search = config.prefer == Prefer::Leader && slots.len() > 1;
        let shared = Shared {
            config,
            slots,
            preferred: AtomicUsize::new(0),
            search: AtomicBool::new(search),
        };
        Self { shared: Arc::new(shared), range: None }
    }

    /// What this client was told.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// A client of one of the endpoints alone, sharing nothing with this one; for questions to
    /// that very member.
    pub fn only(&self, endpoint: &Endpoint) -> Self {
        let mut config = self.shared.config.clone();
        config.endpoints = vec![endpoint.clone()];
        Self::new(config)
    }

    /// The same client, over the same connections, for a range that a cluster of Quorate was founded
    /// with beside the one that holds all its keys. Such a range has keys, leases and revisions of
    /// its own, and cannot be watched.
    #[must_use]
    pub fn in_range(&self, range: u64) -> Self {
        Self { shared: Arc::clone(&self.shared), range: Some(range) }
    }

    /// The endpoint that would be asked first now.
    pub fn preferred(&self) -> &Endpoint {
        &self.shared.slots[self.preferred_slot()].endpoint
    }

    fn preferred_slot(&self) -> usize {
        self.shared.preferred.load(Ordering::Relaxed) % self.shared.slots.len()
    }

    /// Asks every endpoint for its status, all at once, and prefers the leader from now on; if no
    /// leader answers, the first member that knows one, or else the first that answers at all.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no endpoint answers within the connect timeout.
    pub async fn find_leader(&self) -> crate::Result<Endpoint> {
        let (answers, mut results) = tokio::sync::mpsc::channel(self.shared.slots.len());
        for slot in 0..self.shared.slots.len() {
            let (client, answers) = (self.clone(), answers.clone());
            tokio::spawn(async move {
                let standing = client.standing(slot).await;
                let _receiver_gone = answers.send((slot, standing)).await;
            });
        }
        drop(answers);
        let mut best: Option<(Standing, usize)> = None;
        let mut last = Failure::NotSent("no endpoint".into());
        while let Some((slot, standing)) = results.recv().await {
            match standing {
                Ok(standing) => {
                    let better = best.is_none_or(|(s, at)| (standing, slot) < (s, at));
                    best = if better { Some((standing, slot)) } else { best };
                    if standing == Standing::Leader {
                        break;
                    }
                }
                Err(failure) => last = failure,
            }
        }
        let Some((_, slot)) = best else {
            return Err(Error::Unavailable { attempts: 1, last });
        };
        self.shared.preferred.store(slot, Ordering::Relaxed);
        Ok(self.shared.slots[slot].endpoint.clone())
    }

    async fn standing(&self, slot: usize) -> Result<Standing, Failure> {
        let timeout = self.shared.config.connect_timeout;
        let method = Method(proto::method::maintenance::STATUS);
        let request = pb::StatusRequest {};
        let status: pb::StatusResponse = self.attempt(slot, method, &request, timeout).await?;
        let member = status.header.map_or(0, |header| header.member_id);
        Ok(match status.leader {
            0 => Standing::Leaderless,
            leader if leader == member => Standing::Leader,
            _ => Standing::Follower,
        })
    }

    /// One attempt on one endpoint.
    async fn attempt<Q: Message, R: Message + Default>(
        &self,
        slot: usize,
        method: Method,
        request: &Q,
        timeout: Duration,
    ) -> Result<R, Failure> {
        let config = &self.shared.config;
        let connection = self.shared.slots[slot].connection(config).await?;
        let options = CallOptions {
            timeout: Some(timeout),
            require_leader: config.require_leader,
            range: self.range,
        };
        tokio::time::timeout(timeout, connection.unary(method, request, options))
            .await
            .unwrap_or(Err(Failure::TimedOut))
    }

    /// A unary call, retried as far as `safety` allows.
    ///
    /// # Errors
    /// [`Error`]: rejected, unavailable, or (writes only) unknown.
    pub async fn call<Q: Message, R: Message + Default>(
        &self,
        safety: Safety,
        path: &'static str,
        request: &Q,
    ) -> crate::Result<R> {
        self.call_within(safety, path, request, self.shared.config.request_timeout).await
    }

    /// [`Client::call`] with a time limit of its own, for calls that are slow by nature.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_within<Q: Message, R: Message + Default>(
        &self,
        safety: Safety,
        path: &'static str,
        request: &Q,
        limit: Duration,
    ) -> crate::Result<R> {
        let config = &self.shared.config;
        let method = Method(path);
        let deadline = Instant::now() + limit;
        if self.shared.search.swap(false, Ordering::Relaxed) {
            // Without an answer the endpoints are simply tried in turn.
            let _leader = self.find_leader().await;
        }
        let mut slot = self.preferred_slot();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = match safety {
                Safety::Read if self.shared.slots.len() > 1 => {
                    left.min(config.read_attempt_timeout.max(limit / 4))
                }
                _ => left,
            };
            let failure = match self.attempt(slot, method, request, timeout).await {
                Ok(response) => {
                    self.shared.preferred.store(slot, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            let retry = match (judge(&failure), safety) {
                (Judgement::NotApplied, _) | (Judgement::Ambiguous, Safety::Read) => true,
                (Judgement::Ambiguous | Judgement::AmbiguousFinal, _) | (Judgement::Final, _) => {
                    false
                }
            };
            if !retry {
                self.look_again(&failure);
                return Err(given_up(failure, safety));
            }
            let wait = self.wait_before(attempts);
            if attempts >= config.attempts_max || Instant::now() + wait >= deadline {
                return Err(Error::Unavailable { attempts, last: failure });
            }
            tokio::time::sleep(wait).await;
            slot = (slot + 1) % self.shared.slots.len();
        }
    }

    /// No wait while there are endpoints not yet tried, then the backoff.
    fn wait_before(&self, attempts: u32) -> Duration {
        let endpoints = u32::try_from(self.shared.slots.len()).unwrap_or(u32::MAX);
        let rounds = attempts / endpoints;
        if rounds == 0 { Duration::ZERO } else { self.shared.config.backoff(rounds) }
    }

    /// After trouble, the next call looks for the leader again and does not start with the
    /// endpoint that failed.
    fn look_again(&self, failure: &Failure) {
        if judge(failure) != Judgement::Final && self.shared.slots.len() > 1 {
            self.shared.preferred.fetch_add(1, Ordering::Relaxed);
            let leader = self.shared.config.prefer == Prefer::Leader;
            self.shared.search.store(leader, Ordering::Relaxed);
        }
    }

    /// Opens a bidirectional stream on the preferred endpoint with its first request, trying the
    /// others in turn once; what to do when it ends is the caller's.
    ///
    /// # Errors
    /// The last endpoint's [`Failure`].
    pub(crate) async fn open_stream<Q: Message, R: Message + Default>(
        &self,
        path: &'static str,
        first: &Q,
    ) -> Result<(Requests<Q>, Responses<R>), Failure> {
        let config = &self.shared.config;
        let options = CallOptions { timeout: None, require_leader: true, range: self.range };
        let start = self.preferred_slot();
        let mut last = Failure::NotSent("no endpoint".into());
        for offset in 0..self.shared.slots.len() {
            let slot = (start + offset) % self.shared.slots.len();
            let opened = async {
                let connection = self.shared.slots[slot].connection(config).await?;
                let (requests, outgoing) = Outgoing::many(config.stream_queue_max);
                requests.send(first).await;
                let responses = tokio::time::timeout(
                    config.read_attempt_timeout,
                    connection.streaming(Method(path), outgoing, options),
                )
                .await
                .unwrap_or(Err(Failure::TimedOut))?;
                Ok((requests, responses))
            };
            match opened.await {
                Ok(stream) => {
                    self.shared.preferred.store(slot, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Opens a stream of answers to one request, on the preferred endpoint or the first other
    /// that can be reached.
    ///
    /// # Errors
    /// [`Error`] of the last attempt.
    pub(crate) async fn server_stream<Q: Message, R: Message + Default>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> crate::Result<Responses<R>> {
        let config = &self.shared.config;
        let start = self.preferred_slot();
        let mut attempts = 0;
        loop {
            let slot = (start + attempts as usize) % self.shared.slots.len();
            attempts += 1;
            let opened = async {
                let connection = self.shared.slots[slot].connection(config).await?;
                let outgoing = Outgoing::one(request);
                connection
                    .streaming(
                        Method(path),
                        outgoing,
                        CallOptions { range: self.range, ..CallOptions::default() },
                    )
                    .await
            };
            match opened.await {
                Ok(responses) => return Ok(responses),
                Err(failure) => {
                    let passing =
                        matches!(judge(&failure), Judgement::NotApplied | Judgement::Ambiguous);
                    if !passing {
                        return Err(given_up(failure, Safety::Read));
                    }
                    if attempts as usize >= self.shared.slots.len() {
                        return Err(Error::Unavailable { attempts, last: failure });
                    }
                }
            }
        }
    }
}

/// The error of a call that is not tried again.
pub(crate) fn given_up(failure: Failure, safety: Safety) -> Error {
    match (judge(&failure), failure, safety) {
        (Judgement::Final, Failure::Status(status), _)
        | (_, Failure::Status(status), Safety::Read) => Error::Rejected(status),
        (_, Failure::Malformed(text), Safety::Read) => Error::Malformed(text),
        (_, failure, _) => Error::Unknown(failure),
    }
}

/// What a member says of itself, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Leader,
    Follower,
    Leaderless,
}
