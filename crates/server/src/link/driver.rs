//! The task of a connection.
//!
//! A turn: read once, handle what was read, poll the calls that were woken, write. Turns repeat
//! while there is something to do, up to a bound, so that a busy connection does not keep the
//! door's others waiting.
//!
//! A call with one message is started when that has come: it then has all it needs, and is
//! usually done at once. What begins and does not end with the same read is started as well, and
//! waits by itself, so that its time runs.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http2::{Event, Head, StreamId, Tag};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::calls::Calls;
use super::{Inbound, Incoming, Link};
use crate::backend::Backend;
use crate::door::{Door, Purpose};
use crate::route;

/// Turns in a row before the other connections of the door have theirs.
const TURNS_MAX: u32 = 4;

/// Writes in one turn.
const WRITES_MAX: u32 = 8;

/// Pieces in one vectored write.
const SLICES: usize = 32;

/// Capacity for unfinished input that is kept between reads.
const INPUT_KEPT_BYTES: usize = 4096;

/// Requests of one read that may wait for their message before they are started without.
const OPENING_LEN: usize = 32;

/// Reads, handles, writes, until the connection ends.
pub(crate) struct Driver<B: Backend, I> {
    door: Rc<Door<B>>,
    peer: SocketAddr,
    purpose: Purpose,
    io: I,
    link: Rc<Link>,
    input: BytesMut,
    calls: Calls,
    /// The bodies that come in parts, by place of their call.
    bodies: Vec<Option<Rc<Inbound>>>,
    opening: VecDeque<(StreamId, Box<Head>)>,
    timer: Pin<Box<Sleep>>,
    drains: bool,
    leaderless: u64,
}

impl<B: Backend, I: AsyncRead + AsyncWrite + Unpin> Driver<B, I> {
    /// For a connection of which `input` has been read already.
    pub(crate) fn new(
        door: Rc<Door<B>>,
        peer: SocketAddr,
        purpose: Purpose,
        io: I,
        link: Rc<Link>,
        input: BytesMut,
    ) -> Self {
        let leaderless = link.leaderless.get();
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Driver {
            door,
            peer,
            purpose,
            io,
            link,
            input,
            calls: Calls::default(),
            bodies: Vec::new(),
            opening: VecDeque::new(),
            timer,
            drains: false,
            leaderless,
        }
    }

    /// Runs the connection; gives the socket back, so that it can be closed with care.
    ///
    /// # Errors
    /// If the socket fails.
    pub(crate) async fn run(mut self) -> io::Result<I> {
        // What was read already may be all there is for now.
        self.handle(self.door.now());
        std::future::poll_fn(|context| self.poll(context)).await?;
        Ok(self.io)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.woken_by(context.waker());
        for _ in 0..TURNS_MAX {
            self.look_around();
            let was_congested = self.link.connection.borrow().is_congested();
            let read = if was_congested { Poll::Pending } else { self.read(context)? };
            if matches!(read, Poll::Ready(0)) {
                // The client is gone, and with it all interest in its calls.
                self.calls.clear();
                return Poll::Ready(Ok(()));
            }
            if read.is_ready() {
                self.handle(self.door.now());
            }
            let has_woken = self.calls.has_woken(context.waker());
            if has_woken {
                self.turn();
            }
            let goes_on = self.write(context)? | has_woken | read.is_ready();
            let (is_done, is_congested) = {
                let connection = self.link.connection.borrow();
                (connection.is_done(), connection.is_congested())
            };
            if is_done {
                self.calls.clear();
                return Poll::Ready(Ok(()));
            }
            // What was not read for want of room can be read now.
            let goes_on = goes_on | (was_congested && !is_congested);
            if !goes_on && self.wait(context).is_pending() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Looks for what the door has to say.
    fn look_around(&mut self) {
        let leaderless = self.link.leaderless.get();
        if self.leaderless != leaderless {
            self.leaderless = leaderless;
            self.calls.rouse_all();
        }
        if self.link.drains.get() && !self.drains {
            self.drains = true;
            self.link.connection.borrow_mut().shutdown();
            self.calls.rouse_all();
        }
    }

    /// Reads once; how many bytes it were.
    fn read(&mut self, context: &mut Context<'_>) -> io::Result<Poll<usize>> {
        let mut buffer = self.door.read_buffer.borrow_mut();
        let mut buffer = ReadBuf::new(&mut buffer);
        match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) => {
                self.input.extend_from_slice(buffer.filled());
                Ok(Poll::Ready(buffer.filled().len()))
            }
        }
    }

    /// Handles what was read.
    fn handle(&mut self, now: Duration) {
        loop {
            let event = self.link.connection.borrow_mut().next_event(now, &mut self.input);
            match event {
                None => break,
                Some(Event::Request { stream, head, end: true }) => {
                    self.start(stream, &head, Incoming::Whole(None));
                }
                Some(Event::Request { stream, head, end: false }) => {
                    self.opening.push_back((stream, head));
                    if self.opening.len() > OPENING_LEN {
                        self.start_waiting();
                    }
                }
                Some(Event::Data { stream, tag, bytes, end }) => {
                    self.data(stream, tag, bytes, end);
                }
                Some(Event::Reset { stream, tag, .. }) => {
                    self.opening.retain(|(opening, _)| *opening != stream);
                    if let Some(tag) = tag {
                        self.end_body(tag);
                        self.calls.cancel(tag);
                    }
                }
                Some(Event::Failed(fault)) => {
                    let peer = self.peer;
                    tracing::debug!(%peer, %fault, "connection ended by a fault of the client");
                    self.opening.clear();
                    self.calls.clear();
                }
            }
        }
        while !self.opening.is_empty() {
            self.start_waiting();
        }
        if self.input.is_empty() && self.input.capacity() > INPUT_KEPT_BYTES {
            self.input = BytesMut::new();
        }
    }

    fn data(&mut self, stream: StreamId, tag: Option<Tag>, bytes: Bytes, end: bool) {
        if let Some(Tag(place)) = tag {
            match self.bodies.get(place as usize) {
                Some(Some(body)) => {
                    body.push(bytes, end);
                    self.calls.rouse(Tag(place));
                }
                _ => self.link.release(stream, bytes.len()),
            }
            return;
        }
        let Some(at) = self.opening.iter().position(|(opening, _)| *opening == stream) else {
            // The call has its answer already.
            self.link.release(stream, bytes.len());
            return;
        };
        let Some((_, head)) = self.opening.remove(at) else { return };
        if end {
            self.start(stream, &head, Incoming::Whole(Some(bytes)));
        } else {
            let inbound = Inbound::new(&self.link, stream);
            inbound.push(bytes, false);
            self.start(stream, &head, Incoming::Parts(inbound));
        }
    }

    /// Starts the oldest request that waits for its message without it.
    fn start_waiting(&mut self) {
        if let Some((stream, head)) = self.opening.pop_front() {
            let inbound = Inbound::new(&self.link, stream);
            self.start(stream, &head, Incoming::Parts(inbound));
        }
    }

    fn start(&mut self, stream: StreamId, head: &Head, incoming: Incoming) {
        let tag = self.calls.reserve(stream);
        if let Incoming::Parts(inbound) = &incoming {
            let place = tag.0 as usize;
            if self.bodies.len() <= place {
                self.bodies.resize(place + 1, None);
            }
            self.bodies[place] = Some(Rc::clone(inbound));
        }
        let asked = route::Asked { peer: self.peer, purpose: self.purpose, stream, head, incoming };
        let call = route::serve(&self.door, &self.link, asked);
        if self.calls.start(tag, call) {
            self.end_body(tag);
        } else {
            self.link.connection.borrow_mut().set_tag(stream, Some(tag));
        }
    }

    fn end_body(&mut self, tag: Tag) {
        if let Some(body) = self.bodies.get_mut(tag.0 as usize) {
            *body = None;
        }
    }

    /// Polls the calls that were woken.
    fn turn(&mut self) {
        let (link, bodies) = (&self.link, &mut self.bodies);
        self.calls.turn(|stream, Tag(place)| {
            // The stream may go on, to send what is queued; its call's place is free.
            link.connection.borrow_mut().set_tag(stream, None);
            if let Some(body) = bodies.get_mut(place as usize) {
                *body = None;
            }
        });
    }

    /// Writes what there is, as far as the socket takes it; whether there is more to do.
    fn write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut connection = self.link.connection.borrow_mut();
        let mut goes_on = true;
        for _ in 0..WRITES_MAX {
            connection.pump();
            if connection.output_len() == 0 {
                goes_on = false;
                break;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = connection.slices(&mut slices);
            let io = Pin::new(&mut self.io);
            let written = match &slices[..count] {
                [one] => io.poll_write(context, one),
                many => io.poll_write_vectored(context, many),
            };
            match written {
                Poll::Pending => {
                    goes_on = false;
                    break;
                }
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => connection.wrote(bytes),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        while let Some(tag) = connection.next_roomy() {
            self.calls.rouse(tag);
            goes_on = true;
        }
        Ok(goes_on)
    }

    /// Waits for the connection's next deadline; ready if something was due.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.link.connection.borrow().next_deadline();
        let at = self.door.instant(deadline);
        // A timer that is too early is cheaper than one that is set anew in every turn.
        if at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
        }
        ready!(self.timer.as_mut().poll(context));
        let now = self.door.now();
        let mut connection = self.link.connection.borrow_mut();
        if let Err(fault) = connection.tick(now) {
            let peer = self.peer;
            tracing::debug!(%peer, %fault, "connection ended");
        }
        let deadline = connection.next_deadline().max(now + Duration::from_millis(1));
        self.timer.as_mut().reset(self.door.instant(deadline));
        Poll::Ready(())
    }
}
