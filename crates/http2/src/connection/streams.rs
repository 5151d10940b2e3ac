//! The open streams of a connection.
//!
//! They lie in a slab and are found by a map from their number to their place; a frame is
//! nearly always for the stream of the frame before, which is remembered.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use bytes::Bytes;

use super::{Fields, StreamId, Tag};

/// Numbers of streams that are remembered after their end, to tell a late frame from a wrong one.
const CLOSED_LEN: usize = 1024;

/// A stream, from the request's head until both sides have ended.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) tag: Option<Tag>,
    /// The client has sent all it will send.
    pub(super) remote_ended: bool,
    /// Bytes the client may still send.
    pub(super) recv_window: i64,
    /// Bytes received that the caller has not released.
    pub(super) unreleased: u32,
    /// Bytes released that the client has not been told of.
    pub(super) untold: u32,
    /// Bytes of the request that are still to come, if it said how many there are.
    pub(super) expected: Option<u64>,
    /// Our headers have been sent.
    pub(super) answered: bool,
    /// Bytes we may send.
    pub(super) send_window: i64,
    pub(super) queue: VecDeque<Bytes>,
    pub(super) queued: usize,
    /// What comes behind the queue.
    pub(super) end: Option<End>,
    /// It is in the line of those that have something to send.
    pub(super) in_line: bool,
    /// Its sender waits for room.
    pub(super) is_awaited: bool,
}

/// How our side of a stream ends.
#[derive(Debug)]
pub(super) enum End {
    /// With the last data.
    Data,
    Trailers(Fields),
}

#[derive(Debug, Default)]
pub(super) struct Streams {
    slab: Vec<Stream>,
    free: Vec<usize>,
    places: HashMap<u32, usize, BuildHasherDefault<NumberHasher>>,
    last: Option<(u32, usize)>,
    /// Numbers of the streams that ended last, and whether it was we who reset them.
    closed: VecDeque<(u32, bool)>,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Where the stream is, if it is open.
    pub(super) fn find(&mut self, id: u32) -> Option<usize> {
        if let Some((last, place)) = self.last
            && last == id
        {
            return Some(place);
        }
        let place = *self.places.get(&id)?;
        self.last = Some((id, place));
        Some(place)
    }

    pub(super) fn get(&mut self, id: StreamId) -> Option<(usize, &mut Stream)> {
        let place = self.find(id.0)?;
        Some((place, &mut self.slab[place]))
    }

    pub(super) fn at(&mut self, place: usize) -> &mut Stream {
        &mut self.slab[place]
    }

    pub(super) fn insert(&mut self, id: u32, recv_window: i64, send_window: i64) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slab.push(Stream::default());
            self.slab.len() - 1
        });
        let stream = &mut self.slab[place];
        assert!(stream.id == 0, "a free place is free");
        stream.id = id;
        stream.recv_window = recv_window;
        stream.send_window = send_window;
        let before = self.places.insert(id, place);
        assert!(before.is_none(), "a stream is opened once");
        self.last = Some((id, place));
        place
    }

    /// Takes a stream out. Its place is not used again while it stands in the line of senders.
    pub(super) fn remove(&mut self, place: usize, was_reset: bool) -> Removed {
        let stream = &mut self.slab[place];
        let (id, in_line) = (stream.id, stream.in_line);
        let removed = Removed { unreleased: stream.unreleased, queued: stream.queued };
        let mut queue = std::mem::take(&mut stream.queue);
        queue.clear();
        *stream = Stream { queue, in_line, ..Stream::default() };
        if !in_line {
            self.free.push(place);
        }
        self.places.remove(&id);
        if self.last.is_some_and(|(last, _)| last == id) {
            self.last = None;
        }
        if self.closed.len() == CLOSED_LEN {
            self.closed.pop_front();
        }
        self.closed.push_back((id, was_reset));
        removed
    }

    /// The stream at the head of the line leaves it; `None` if it has ended meanwhile.
    pub(super) fn leave_line(&mut self, place: usize) -> Option<&mut Stream> {
        let stream = &mut self.slab[place];
        stream.in_line = false;
        if stream.id == 0 {
            self.free.push(place);
            return None;
        }
        Some(stream)
    }

    /// Remembers a stream that never was opened as ended.
    pub(super) fn refused(&mut self, id: u32) {
        if self.closed.len() == CLOSED_LEN {
            self.closed.pop_front();
        }
        self.closed.push_back((id, true));
    }

    /// Whether the stream has ended a short while ago, and if so whether we reset it.
    pub(super) fn ended(&self, id: u32) -> Option<bool> {
        self.closed.iter().find(|(closed, _)| *closed == id).map(|(_, was_reset)| *was_reset)
    }

    /// The places of all open streams, in the order of the slab.
    pub(super) fn places(&self) -> Vec<usize> {
        (0..self.slab.len()).filter(|place| self.slab[*place].id != 0).collect()
    }
}

/// What has to be settled when a stream is gone.
pub(super) struct Removed {
    pub(super) unreleased: u32,
    pub(super) queued: usize,
}

/// Spreads numbers that a client chooses. Fixed: nothing depends on the order, and a client that
/// makes them collide slows its own connection.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        let product = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}
