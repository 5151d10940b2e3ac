//! Reading with patience for silence, not for slowness.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Fails with `TimedOut` once nothing has come for so long. What comes slowly is waited for.
pub(super) struct Patient<R> {
    input: R,
    silence_max: Duration,
    /// Runs while something is waited for.
    silence: Pin<Box<Sleep>>,
    waits: bool,
}

impl<R> Patient<R> {
    pub(super) fn new(input: R, silence_max: Duration) -> Self {
        Self { input, silence_max, silence: Box::pin(sleep(silence_max)), waits: false }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Patient<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(read) = Pin::new(&mut this.input).poll_read(context, buffer) {
            this.waits = false;
            return Poll::Ready(read);
        }
        if !this.waits {
            this.waits = true;
            this.silence.as_mut().reset(Instant::now() + this.silence_max);
        }
        ready!(this.silence.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::super::frame;
    use super::*;

    /// An entry may have 16 MiB, and is one frame: on a slow link it takes longer than silence may last.
    #[tokio::test]
    async fn a_frame_that_takes_long_and_does_not_stand_still_arrives() {
        const SILENCE_MAX: Duration = Duration::from_millis(500);
        let (mut out, input) = tokio::io::duplex(1 << 10);
        let mut input = Patient::new(input, SILENCE_MAX);
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
