//! Leases, and the task that keeps one alive.
//!
//! A holder must stop before the server lets another one start. The server counts a lease's time
//! from when it *receives* a renewal; the holder cannot see that moment, but it can see an
//! earlier one: when it *sent* the renewal. So [`KeepAlive`] takes the lease as alive until
//! (moment the last acknowledged renewal was sent) + TTL and not an instant longer, which holds
//! whatever the network did, if both clocks run at the same rate. It renews every third of the
//! TTL, over another member if one does not answer.

use std::time::Duration;

use proto::etcdserverpb as pb;
use proto::method::lease as method;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, Failure, Judgement, judge};
use crate::grpc::{Requests, Responses};
use crate::pool::{Client, Safety, given_up};

/// Renewals in the time of one TTL.
const RENEWALS_PER_TTL: u32 = 3;

impl Client {
    /// Grants a lease of `ttl` seconds with this id, or one of the server's choice.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Unknown`] if there may now be a lease whose id nobody knows, which
    /// ends by itself.
    pub async fn grant(&self, ttl: i64, id: Option<i64>) -> crate::Result<pb::LeaseGrantResponse> {
        let request = pb::LeaseGrantRequest { ttl, id: id.unwrap_or(0) };
        self.call(Safety::Write, method::GRANT, &request).await
    }

    /// Ends a lease, and with it every key attached to it.
    ///
    /// # Errors
    /// As any write.
    pub async fn revoke(&self, id: i64) -> crate::Result<pb::LeaseRevokeResponse> {
        self.call(Safety::Write, method::REVOKE, &pb::LeaseRevokeRequest { id }).await
    }

    /// What is left of a lease (TTL -1: there is none), and its keys if asked for.
    ///
    /// # Errors
    /// As any read.
    pub async fn time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> crate::Result<pb::LeaseTimeToLiveResponse> {
        let request = pb::LeaseTimeToLiveRequest { id, keys };
        self.call(Safety::Read, method::TIME_TO_LIVE, &request).await
    }

    /// Every lease there is.
    ///
    /// # Errors
    /// As any read.
    pub async fn leases(&self) -> crate::Result<pb::LeaseLeasesResponse> {
        self.call(Safety::Read, method::LEASES, &pb::LeaseLeasesRequest {}).await
    }

    /// Renews a lease once. A TTL of 0 in the answer: there is no such lease.
    ///
    /// # Errors
    /// As any read: renewing twice does no harm.
    pub async fn keep_alive_once(&self, id: i64) -> crate::Result<pb::LeaseKeepAliveResponse> {
        let deadline = Instant::now() + self.config().request_timeout;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let failure = match Renewals::open(self, id).await {
                Ok((_, response)) => return Ok(response),
                Err(failure) => failure,
            };
            if matches!(judge(&failure), Judgement::Final | Judgement::AmbiguousFinal) {
                return Err(given_up(failure, Safety::Read));
            }
            let wait = self.config().backoff(attempts);
            if attempts >= self.config().attempts_max || Instant::now() + wait >= deadline {
                return Err(Error::Unavailable { attempts, last: failure });
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Renews a lease once, and then keeps it alive by a task of the current runtime until the
    /// handle is dropped or the lease is lost.
    ///
    /// # Errors
    /// Those of the first renewal; `None` if there is no such lease.
    pub async fn keep_alive(&self, id: i64) -> crate::Result<Option<KeepAlive>> {
        let sent = Instant::now();
        let first = self.keep_alive_once(id).await?;
        let Some(alive) = Alive::acknowledged(&first, sent, 1) else {
            return Ok(None);
        };
        let (state, watched) = watch::channel(Some(alive));
        let task = tokio::spawn(run(self.clone(), id, alive, state));
        Ok(Some(KeepAlive { id, watched, task }))
    }
}

/// A lease that is known to be alive until a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alive {
    /// The time to live that the server granted with the last renewal.
    pub ttl: Duration,
    /// Until when it is alive at least.
    pub deadline: Instant,
    /// Renewals acknowledged so far.
    pub renewals: u64,
}

impl Alive {
    fn acknowledged(
        response: &pb::LeaseKeepAliveResponse,
        sent: Instant,
        renewals: u64,
    ) -> Option<Self> {
        let seconds = u64::try_from(response.ttl).ok().filter(|seconds| *seconds > 0)?;
        let ttl = Duration::from_secs(seconds);
        Some(Self { ttl, deadline: sent + ttl, renewals })
    }

    fn renew_at(&self) -> Instant {
        self.deadline - self.ttl + self.ttl / RENEWALS_PER_TTL
    }
}

/// A lease being kept alive. Dropping it stops the renewals; the lease then runs out by itself.
#[derive(Debug)]
pub struct KeepAlive {
    id: i64,
    watched: watch::Receiver<Option<Alive>>,
    task: tokio::task::JoinHandle<()>,
}

impl KeepAlive {
    /// The lease.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The lease's state now; `None` once it may have ended. What is done in the lease's name
    /// must end before the deadline.
    pub fn alive(&self) -> Option<Alive> {
        let alive = *self.watched.borrow();
        alive.filter(|alive| Instant::now() < alive.deadline)
    }

    /// Waits for the next renewal, or gives `None` when the lease may have ended.
    pub async fn renewed(&mut self) -> Option<Alive> {
        match self.watched.changed().await {
            Ok(()) => *self.watched.borrow_and_update(),
            Err(_) => None,
        }
    }

    /// Waits until the lease may have ended.
    pub async fn lost(&mut self) {
        while self.renewed().await.is_some() {}
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A stream of renewals of one lease.
struct Renewals {
    requests: Requests<pb::LeaseKeepAliveRequest>,
    responses: Responses<pb::LeaseKeepAliveResponse>,
    limit: Duration,
}

impl Renewals {
    /// Opens a stream and renews by it for the first time.
    async fn open(client: &Client, id: i64) -> Result<(Self, pb::LeaseKeepAliveResponse), Failure> {
        let request = pb::LeaseKeepAliveRequest { id };
        let (requests, responses) = client.open_stream(method::KEEP_ALIVE, &request).await?;
        let limit = client.config().read_attempt_timeout;
        let mut this = Self { requests, responses, limit };
        let response = this.receive().await?;
        Ok((this, response))
    }

    async fn renew(&mut self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Failure> {
        if !self.requests.send(&pb::LeaseKeepAliveRequest { id }).await {
            return Err(Failure::Lost("the stream ended".into()));
        }
        self.receive().await
    }

    async fn receive(&mut self) -> Result<pb::LeaseKeepAliveResponse, Failure> {
        tokio::time::timeout(self.limit, self.responses.message())
            .await
            .unwrap_or(Err(Failure::TimedOut))?
            .ok_or_else(|| Failure::Lost("the stream ended".into()))
    }
}

/// Renews until the lease is lost, and then says so.
async fn run(client: Client, id: i64, first: Alive, state: watch::Sender<Option<Alive>>) {
    let mut alive = first;
    let mut stream: Option<Renewals> = None;
    let mut failures = 0;
    tokio::time::sleep_until(alive.renew_at()).await;
    while Instant::now() < alive.deadline {
        let sent = Instant::now();
        let renewal = async {
            match stream.take() {
                Some(mut open) => open.renew(id).await.map(|response| (open, response)),
                None => Renewals::open(&client, id).await,
            }
        };
        match tokio::time::timeout_at(alive.deadline, renewal).await {
            Err(_) => break,
            Ok(Ok((open, response))) => {
                let Some(renewed) = Alive::acknowledged(&response, sent, alive.renewals + 1) else {
                    break;
                };
                (alive, stream, failures) = (renewed, Some(open), 0);
                state.send_replace(Some(alive));
                tokio::time::sleep_until(alive.renew_at()).await;
            }
            Ok(Err(_)) => {
                failures += 1;
                tokio::time::sleep(client.config().backoff(failures)).await;
            }
        }
    }
    state.send_replace(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_alive_from_when_its_renewal_was_sent() {
        let sent = Instant::now();
        let response = pb::LeaseKeepAliveResponse { ttl: 9, id: 1, header: None };
        let alive = Alive::acknowledged(&response, sent, 1).unwrap();
        assert_eq!(alive.deadline, sent + Duration::from_secs(9));
        assert_eq!(alive.renew_at(), sent + Duration::from_secs(3));
    }

    #[test]
    fn a_time_to_live_of_nothing_is_no_lease() {
        for ttl in [0, -1] {
            let response = pb::LeaseKeepAliveResponse { ttl, id: 1, header: None };
            assert_eq!(Alive::acknowledged(&response, Instant::now(), 1), None);
        }
    }
}
