//! Connections that peers made to us.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncRead;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutReader;

use super::hello::{self, DescribedMember, Hello, Purpose, Welcome};
use super::{Identity, Inbound, SILENCE_MAX, frame};
use crate::NodeId;

const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// A member that has just started goes through its log before it says who the members are. Less than whoever asks
/// waits.
const DESCRIBE_PATIENCE: Duration = Duration::from_millis(1_500);
const DESCRIBE_POLL: Duration = Duration::from_millis(10);
/// How long a full core is given before a frame is offered to it again.
const FULL_PAUSE: Duration = Duration::from_millis(1);

pub(super) struct Door {
    identity: Identity,
    inbound: Arc<dyn Inbound>,
    /// The process that speaks for a member now, and its number of open connections: a second
    /// process with the same identity is turned away.
    instances: Mutex<BTreeMap<NodeId, (u64, usize)>>,
}

impl Door {
    pub(super) fn new(identity: Identity, inbound: Arc<dyn Inbound>) -> Door {
        Door { identity, inbound, instances: Mutex::default() }
    }

    pub(super) async fn listen(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let door = Arc::clone(&self);
                    tokio::spawn(async move {
                        if let Err(error) = door.serve(stream).await {
                            tracing::debug!(%address, %error, "peer connection ended");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: give others time to close.
                    tracing::warn!(%error, "cannot accept peer connections");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let hello = timeout(HELLO_TIMEOUT, hello::accept(&mut stream)).await??;
        let from = NodeId(hello.from);
        let mut welcome = Welcome { cluster_id: self.identity.cluster_id, ..Default::default() };
        if let Some(refusal) = hello::refusal(&hello, self.identity.cluster_id, self.identity.node)
        {
            tracing::warn!(peer = format_args!("{:x}", from.0), refusal, "refused a peer");
            welcome.refusal = refusal;
            return hello::answer(&mut stream, &welcome).await;
        }
        if hello.purpose == Purpose::Describe as i32 {
            welcome.members = self.describe().await;
            return hello::answer(&mut stream, &welcome).await;
        }
        if self.inbound.was_removed(from) {
            welcome.removed = true;
            return hello::answer(&mut stream, &welcome).await;
        }
        let Some(_registered) = self.register(&hello) else {
            welcome.refusal = format!(
                "another process already speaks as member {:x}: two members must not share a \
                 name and URLs, nor a copied data directory",
                from.0
            );
            tracing::error!(peer = format_args!("{:x}", from.0), "{}", welcome.refusal);
            return hello::answer(&mut stream, &welcome).await;
        };
        hello::answer(&mut stream, &welcome).await?;
        if hello.purpose == Purpose::Snapshot as i32 {
            self.inbound.snapshot(from, stream);
            return Ok(());
        }
        self.receive(from, stream).await
    }

    /// The members; none if this member, just started, does not know in time.
    async fn describe(&self) -> Vec<DescribedMember> {
        let deadline = Instant::now() + DESCRIBE_PATIENCE;
        loop {
            match self.inbound.describe() {
                Some(members) => return members,
                None if Instant::now() >= deadline => return Vec::new(),
                None => sleep(DESCRIBE_POLL).await,
            }
        }
    }

    async fn receive(&self, from: NodeId, stream: TcpStream) -> io::Result<()> {
        // A long entry on a slow link is not silence.
        let stream = patient(stream, SILENCE_MAX);
        let mut stream = tokio::io::BufReader::with_capacity(64 << 10, stream);
        while let Some(mut payload) = frame::read(&mut stream).await? {
            if payload.is_empty() {
                continue;
            }
            while let Err(back) = self.inbound.deliver(from, payload) {
                payload = back;
                sleep(FULL_PAUSE).await;
            }
        }
        Ok(())
    }

    fn register(&self, hello: &Hello) -> Option<Registered<'_>> {
        let node = NodeId(hello.from);
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = instances.entry(node).or_insert((hello.instance, 0));
        if entry.0 != hello.instance && entry.1 > 0 {
            return None;
        }
        *entry = (hello.instance, entry.1 + 1);
        Some(Registered { door: self, node })
    }
}

/// One open connection of a peer's process.
struct Registered<'a> {
    door: &'a Door,
    node: NodeId,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut instances = self.door.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = instances.get_mut(&self.node) {
            entry.1 -= 1;
        }
    }
}

/// Fails with `TimedOut` once nothing has come for so long. What comes slowly is waited for.
fn patient<R: AsyncRead>(input: R, silence_max: Duration) -> Pin<Box<TimeoutReader<R>>> {
    let mut reader = TimeoutReader::new(input);
    reader.set_timeout(Some(silence_max));
    Box::pin(reader)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// An entry may have 16 MiB, and is one frame: on a slow link it takes longer than silence may last.
    #[tokio::test]
    async fn a_frame_that_takes_long_and_does_not_stand_still_arrives() {
        const SILENCE_MAX: Duration = Duration::from_millis(500);
        let (mut out, input) = tokio::io::duplex(1 << 10);
        let mut input = patient(input, SILENCE_MAX);
        let payload = vec![7; 1 << 10];
        let sends = async {
            out.write_all(&frame::header(&payload).unwrap()).await.unwrap();
            for piece in payload.chunks(64) {
                sleep(SILENCE_MAX / 10).await;
                out.write_all(piece).await.unwrap();
            }
        };
        let (read, ()) = tokio::join!(frame::read(&mut input), sends);
        assert_eq!(read.unwrap().unwrap(), payload);
        let error = frame::read(&mut input).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "now nothing comes");
    }
}
