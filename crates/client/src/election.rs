//! An election: the lock of [`crate::lock`], whose holder has something to say.
//!
//! Candidates line up as for a lock, each with a value; the oldest key's value is what the leader
//! proclaims. Compatible with etcd's `clientv3/concurrency` elections.

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::mvccpb::KeyValue;

use crate::kv::{Delete, Get, Put, Txn};
use crate::lock::{Held, LockError};
use crate::pool::Client;
use crate::watch::{Watch, WatchError, Watcher};

impl Client {
    /// Waits to become the leader of `name` under `lease`, with `value` to proclaim.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn campaign(
        &self,
        name: &str,
        lease: i64,
        value: impl Into<Bytes>,
    ) -> Result<Held, LockError> {
        self.enter(name, lease, value.into()).await
    }

    /// Replaces what the leader says.
    ///
    /// # Errors
    /// [`LockError::LeaseEnded`] if it is not the leader any more.
    pub async fn proclaim(
        &self,
        held: &Held,
        lease: i64,
        value: impl Into<Bytes>,
    ) -> Result<pb::TxnResponse, LockError> {
        let put = Put::new(held.key.clone(), value.into()).lease(lease);
        let answer = self.txn(Txn::new().when([held.is_held()]).then([put])).await?;
        if answer.succeeded { Ok(answer) } else { Err(LockError::LeaseEnded) }
    }

    /// Steps down.
    ///
    /// # Errors
    /// [`crate::Error`]; resigning again is harmless.
    pub async fn resign(&self, held: &Held) -> crate::Result<pb::TxnResponse> {
        let delete = Delete::key(held.key.clone());
        self.txn(Txn::new().when([held.is_held()]).then([delete])).await
    }

    /// The leader's key and value, if there is a leader.
    ///
    /// # Errors
    /// As any read.
    pub async fn leader(&self, name: &str) -> crate::Result<Option<KeyValue>> {
        Ok(self.look_at_leader(name).await?.1)
    }

    async fn look_at_leader(
        &self,
        name: &str,
    ) -> crate::Result<(pb::ResponseHeader, Option<KeyValue>)> {
        let first =
            Get::prefix(format!("{name}/")).sorted(SortTarget::Create, SortOrder::Ascend).limit(1);
        let found = self.get(first).await?;
        Ok((found.header.unwrap_or_default(), found.kvs.into_iter().next()))
    }

    /// Every leader of `name` and everything they proclaim, from now on.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn observe(&self, name: &str) -> Result<Observer, LockError> {
        let watcher = self.watch(Watch::prefix(format!("{name}/"))).await?;
        Ok(Observer { client: self.clone(), name: name.to_owned(), watcher, told: None })
    }
}

/// Follows an election. Changes that are over before they are looked at are left out.
#[derive(Debug)]
pub struct Observer {
    client: Client,
    name: String,
    watcher: Watcher,
    told: Option<KeyValue>,
}

impl Observer {
    /// The leader's key and value, once it is another than the last given, with the header of the
    /// read that found it.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn next(&mut self) -> Result<(pb::ResponseHeader, KeyValue), LockError> {
        loop {
            let (header, leader) = self.client.look_at_leader(&self.name).await?;
            if let Some(leader) = leader
                && self.told.as_ref() != Some(&leader)
            {
                self.told = Some(leader.clone());
                return Ok((header, leader));
            }
            match self.watcher.next().await {
                Ok(_) => {}
                Err(WatchError::Compacted { .. }) => {
                    let watch = Watch::prefix(format!("{}/", self.name));
                    self.watcher = self.client.watch(watch).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
