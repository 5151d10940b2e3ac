//! A lease that lives as long as a command, for lock and elect.

use std::future::Future;

use client::Client;
use client::lease::KeepAlive;

use crate::exit::{Exit, Result};

/// A granted lease being kept alive.
pub(crate) struct Session {
    client: Client,
    lease: KeepAlive,
}

impl Session {
    /// Grants a lease of `ttl` seconds and keeps it alive.
    ///
    /// # Errors
    /// If it cannot be granted or renewed.
    pub(crate) async fn start(client: &Client, ttl: i64) -> Result<Self> {
        let id = client.grant(ttl, None).await?.id;
        let lease = client.keep_alive(id).await?;
        let lease = lease.ok_or_else(|| Exit::bad_connection("the lease ended at once"))?;
        Ok(Self { client: client.clone(), lease })
    }

    /// The lease's id.
    pub(crate) fn id(&self) -> i64 {
        self.lease.id()
    }

    /// Waits for `work`, but not longer than until a signal or the end of the lease.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Outcome<T> {
        tokio::select! {
            done = work => Outcome::Done(done),
            () = stop_signal() => Outcome::Stopped,
            () = self.lease.lost() => Outcome::Lost,
        }
    }

    /// Ends the lease, and with it its keys.
    ///
    /// # Errors
    /// If the server cannot be told; the lease then runs out.
    pub(crate) async fn end(self) -> Result<()> {
        self.client.revoke(self.lease.id()).await?;
        Ok(())
    }
}

/// How a wait under a session ended.
pub(crate) enum Outcome<T> {
    /// The work is done.
    Done(T),
    /// The user asked to stop.
    Stopped,
    /// The lease may have ended.
    Lost,
}

impl<T> Outcome<T> {
    /// What was done, or how the command ends if it was not; `Ok(None)` if stopped.
    ///
    /// # Errors
    /// If the lease was lost.
    pub(crate) fn finished(self) -> Result<Option<T>> {
        match self {
            Self::Done(done) => Ok(Some(done)),
            Self::Stopped => Ok(None),
            Self::Lost => Err(Exit::interrupted("session expired")),
        }
    }
}

/// Waits for SIGINT or SIGTERM.
pub(crate) async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind| match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        // Then the signal simply ends the process.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
    }
}
