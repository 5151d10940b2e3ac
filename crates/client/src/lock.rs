//! A lock that any etcd client's `concurrency` recipe understands.
//!
//! Who wants the lock creates the key `name/LEASE` (the lease's id in hexadecimal) under the
//! lease. The owner of the oldest of these keys holds the lock; everyone else waits for the
//! deletion of the key just before theirs, so a release wakes one waiter, not all. Keys die with
//! their leases, so a holder that is gone releases by that. (The recipe of etcd's
//! `clientv3/concurrency`; the fencing advice is Kleppmann's "How to do distributed locking".)
//!
//! Caveat: a lease can end while its holder believes in the lock. What is done under the lock
//! should carry [`Held::is_held`] in its transaction, which then fails instead of harming.

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::response_op::Response;

use crate::error::Error;
use crate::kv::{Delete, Get, Put, Txn, create_revision};
use crate::pool::Client;
use crate::watch::{Watch, WatchError};

/// Why a lock or an election could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] Error),
    /// The watch on the key before ours ended.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Our own key is gone: the lease has ended, or somebody deleted it.
    #[error("the lease has ended")]
    LeaseEnded,
}

/// The right to go on: the oldest key of all that want it is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Our key.
    pub key: Bytes,
    /// The revision that created it, which orders holders: a fencing token.
    pub revision: i64,
    /// The header of the last answer that was read while waiting.
    pub header: pb::ResponseHeader,
}

impl Held {
    /// Holds only as long as the lock is held; for the `when` of a transaction done under it.
    pub fn is_held(&self) -> pb::Compare {
        create_revision(self.key.clone()).equals(self.revision)
    }
}

impl Client {
    /// Waits for the lock `name` under `lease`, which should be kept alive meanwhile.
    ///
    /// If the future is dropped, our key stays until the lease ends; see [`Client::leave`].
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn lock(&self, name: &str, lease: i64) -> Result<Held, LockError> {
        self.enter(name, lease, Bytes::new()).await
    }

    /// Deletes our key: the next in line goes on.
    ///
    /// # Errors
    /// [`Error`]; deleting again is harmless.
    pub async fn unlock(&self, held: &Held) -> crate::Result<pb::DeleteRangeResponse> {
        self.delete(Delete::key(held.key.clone())).await
    }

    /// Deletes the key that waiting for `name` under `lease` has made, whether or not it holds.
    ///
    /// # Errors
    /// [`Error`]; deleting again is harmless.
    pub async fn leave(&self, name: &str, lease: i64) -> crate::Result<pb::DeleteRangeResponse> {
        self.delete(Delete::key(own_key(name, lease))).await
    }

    /// Creates our key with `value` and waits until it is the oldest under `name/`.
    pub(crate) async fn enter(
        &self,
        name: &str,
        lease: i64,
        value: Bytes,
    ) -> Result<Held, LockError> {
        let key = own_key(name, lease);
        let enter = Txn::new()
            .when([create_revision(key.clone()).equals(0)])
            .then([Put::new(key.clone(), value.clone()).lease(lease)])
            .otherwise([Get::key(key.clone())]);
        let entered = loop {
            // Entering twice is entering once, so an unknown outcome may be tried again.
            match self.txn(enter.clone()).await {
                Err(Error::Unknown(_)) => {}
                other => break other?,
            }
        };
        let mut header = entered.header.unwrap_or_default();
        let ours = match entered.responses.into_iter().next().and_then(|op| op.response) {
            Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        };
        let revision = ours.as_ref().map_or(header.revision, |kv| kv.create_revision);
        if let Some(kv) = ours.filter(|kv| kv.value != value) {
            // A key from an earlier attempt of ours, with another value.
            let again = Txn::new()
                .when([create_revision(kv.key.clone()).equals(kv.create_revision)])
                .then([Put::new(kv.key, value).lease(lease)]);
            if !self.txn(again).await?.succeeded {
                return Err(LockError::LeaseEnded);
            }
        }
        let prefix = format!("{name}/");
        while let Some((before, at)) = self.just_before(&prefix, revision).await? {
            self.wait_for_deletion(before, at).await?;
        }
        let confirmed = self.get(Get::key(key.clone())).await?;
        header = confirmed.header.unwrap_or(header);
        if confirmed.kvs.first().is_none_or(|kv| kv.create_revision != revision) {
            return Err(LockError::LeaseEnded);
        }
        Ok(Held { key, revision, header })
    }

    /// The youngest key under `prefix` that is older than ours, and the revision of this look.
    async fn just_before(
        &self,
        prefix: &str,
        revision: i64,
    ) -> crate::Result<Option<(Bytes, i64)>> {
        let mut get =
            Get::prefix(prefix.to_owned()).sorted(SortTarget::Create, SortOrder::Descend).limit(1);
        get.0.max_create_revision = revision - 1;
        let found = self.get(get).await?;
        let at = found.header.map_or(0, |header| header.revision);
        Ok(found.kvs.into_iter().next().map(|kv| (kv.key, at)))
    }

    async fn wait_for_deletion(&self, key: Bytes, at: i64) -> Result<(), WatchError> {
        let watch = Watch::key(key).from_revision(at + 1).without_puts();
        let mut watcher = self.watch(watch).await?;
        while watcher.next().await?.events.is_empty() {}
        Ok(())
    }
}

/// `name/LEASE`, the lease in hexadecimal.
fn own_key(name: &str, lease: i64) -> Bytes {
    format!("{name}/{lease:x}").into()
}
