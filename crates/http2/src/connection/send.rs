//! What is sent: heads, data, trailers.
//!
//! What fits goes straight into the output. What does not (a window is used up, or the output is
//! full because the client does not read) waits in its stream, and streams take turns, a frame
//! each: a list of a hundred megabytes delays a small answer by one frame.

use bytes::{Buf as _, Bytes};

use super::streams::{End, Stream};
use super::{Connection, Phase, StreamId};
use crate::error::Code;
use crate::frame;
use crate::mutant::{self, Mutant};

/// Headers or trailers of an answer.
#[derive(Clone, Debug)]
pub enum Fields {
    /// Known in advance.
    Fixed(&'static [(&'static str, &'static str)]),
    /// Made for this answer. Names are small letters; values have no line breaks.
    Made(Vec<(&'static str, Bytes)>),
}

impl Connection {
    /// Sends the head of an answer; `end`: there is nothing behind it. Does nothing if the stream
    /// is gone.
    ///
    /// # Panics
    /// If the stream's head has been sent already.
    pub fn send_head(&mut self, stream: StreamId, status: u16, fields: &Fields, end: bool) {
        let Some((place, open)) = self.streams.get(stream) else { return };
        assert!(!open.answered, "an answer has one head");
        open.answered = true;
        self.write_block(stream.0, Some(status), fields, end);
        if end {
            self.end_local(place);
        }
    }

    /// Sends a piece of an answer; `end`: the last, without trailers. Does nothing if the stream
    /// is gone.
    ///
    /// # Panics
    /// If the stream's head has not been sent, or its end has.
    pub fn send_data(&mut self, stream: StreamId, bytes: Bytes, end: bool) {
        let Some((place, open)) = self.streams.get(stream) else { return };
        assert!(open.answered && open.end.is_none(), "data is between head and end");
        if end {
            open.end = Some(End::Data);
        }
        if open.queue.is_empty() && self.fits(place, bytes.len()) {
            self.write_data(place, bytes, end);
            if end {
                self.end_local(place);
            }
            return;
        }
        let open = self.streams.at(place);
        open.queued += bytes.len();
        self.held += bytes.len();
        open.queue.push_back(bytes);
        self.line_up(place);
    }

    /// Sends a piece of an answer without making a [`Bytes`] of it first: `write` has to append
    /// exactly `len` bytes. `None` if the piece cannot go at once; then it has to be made, and
    /// given to [`Connection::send_data`].
    ///
    /// # Panics
    /// If `write` appends another number of bytes, or as [`Connection::send_data`].
    pub fn write_through(
        &mut self,
        stream: StreamId,
        len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<()> {
        let (place, open) = self.streams.get(stream)?;
        assert!(open.answered && open.end.is_none(), "data is between head and end");
        if !open.queue.is_empty() || len > self.peer.frame_bytes_max || !self.fits(place, len) {
            return None;
        }
        self.charge(place, len);
        let tail = self.output.tail();
        frame::head(tail, len, frame::DATA, 0, stream.0);
        let before = tail.len();
        write(tail);
        assert!(tail.len() - before == len, "a frame is as long as its head says");
        Some(())
    }

    /// Ends an answer with trailers. Does nothing if the stream is gone.
    ///
    /// # Panics
    /// If the stream's head has not been sent, or its end has.
    pub fn send_trailers(&mut self, stream: StreamId, fields: Fields) {
        let Some((place, open)) = self.streams.get(stream) else { return };
        assert!(open.answered && open.end.is_none(), "trailers are behind the head");
        if open.queue.is_empty() || mutant::on(Mutant::EndEarly) {
            open.end = Some(End::Data);
            self.write_block(stream.0, None, &fields, true);
            self.end_local(place);
        } else {
            open.end = Some(End::Trailers(fields));
        }
    }

    /// Ends a stream before its time. Does nothing if it is gone.
    pub fn reset(&mut self, stream: StreamId, code: Code) {
        if let Some(place) = self.streams.find(stream.0) {
            frame::rst_stream(self.output.tail(), stream.0, code);
            self.forget(place, true);
        }
    }

    /// Whether the stream's sender should send more. If not, [`Connection::next_roomy`] names the
    /// stream's tag when it should. A stream that is gone has room.
    pub fn has_room(&mut self, stream: StreamId) -> bool {
        let max = self.config.stream_send_bytes;
        match self.streams.get(stream) {
            Some((_, open)) if open.queued >= max => {
                open.is_awaited = true;
                false
            }
            _ => true,
        }
    }

    /// Gives received bytes back: the client may send as many more.
    pub fn release(&mut self, stream: StreamId, bytes: usize) {
        // What a stream had not released when it went was released then.
        let Some((_, open)) = self.streams.get(stream) else { return };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(open.unreleased);
        open.unreleased -= bytes;
        if !open.remote_ended {
            open.untold += bytes;
            if open.untold >= self.config.stream_window_bytes / 2 {
                let more = std::mem::take(&mut open.untold);
                open.recv_window += i64::from(more);
                frame::window_update(self.output.tail(), stream.0, more);
            }
        }
        self.release_connection(bytes);
    }

    /// Bytes received on an open stream and not given back.
    #[cfg(test)]
    pub(crate) fn unreleased(&mut self, stream: StreamId) -> Option<u32> {
        self.streams.get(stream).map(|(_, stream)| stream.unreleased)
    }

    pub(super) fn release_connection(&mut self, bytes: u32) {
        if mutant::on(Mutant::ForgetRelease) {
            return;
        }
        self.untold += bytes;
        if self.untold >= self.config.connection_window_bytes.max(super::WINDOW_BEFORE) / 2 {
            let more = std::mem::take(&mut self.untold);
            self.recv_window += i64::from(more);
            frame::window_update(self.output.tail(), 0, more);
        }
    }

    /// Moves what waits in streams into the output, a frame of each in turn, while there is room.
    pub fn pump(&mut self) {
        while self.output.len() < self.config.output_bytes_max
            && (self.send_window > 0 || mutant::on(Mutant::IgnoreConnectionWindow))
        {
            let Some(place) = self.line.pop_front() else { return };
            let frame_bytes_max = self.peer.frame_bytes_max;
            let Some(stream) = self.streams.leave_line(place) else { continue };
            if stream.send_window <= 0 && stream.queued > 0 {
                // The client has made the window smaller meanwhile; when it opens, the stream
                // lines up again.
                continue;
            }
            let part = next_part(stream, frame_bytes_max, self.send_window);
            self.held -= part.len();
            let is_last = stream.queue.is_empty();
            let ends_with_data = is_last && matches!(stream.end, Some(End::Data));
            let half = self.config.stream_send_bytes / 2;
            if stream.is_awaited && stream.queued <= half {
                stream.is_awaited = false;
                self.roomy.extend(stream.tag);
            }
            self.write_data(place, part, ends_with_data);
            if !is_last {
                self.line_up(place);
            } else if ends_with_data {
                self.end_local(place);
            } else if let Some(End::Trailers(fields)) = self.streams.at(place).end.take() {
                let id = self.streams.at(place).id;
                self.write_block(id, None, &fields, true);
                self.end_local(place);
            }
        }
    }

    /// The stream takes its place in the line if it can send.
    pub(super) fn line_up(&mut self, place: usize) {
        let stream = self.streams.at(place);
        let is_allowed = stream.send_window > 0 || stream.queued == 0;
        if is_allowed && !stream.in_line && !stream.queue.is_empty() {
            stream.in_line = true;
            if mutant::on(Mutant::Unfair) {
                self.line.push_front(place);
            } else {
                self.line.push_back(place);
            }
        }
    }

    /// Whether a piece of data can go at once, whole.
    fn fits(&mut self, place: usize, len: usize) -> bool {
        let window = self.streams.at(place).send_window.min(self.send_window);
        let is_allowed = i64::try_from(len).is_ok_and(|len| len <= window);
        is_allowed && self.output.len() + len <= self.config.output_bytes_max
    }

    fn charge(&mut self, place: usize, len: usize) {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        let stream = self.streams.at(place);
        stream.send_window -= len;
        self.send_window -= len;
        assert!(
            (stream.send_window >= 0 && self.send_window >= 0) || len == 0 || mutant::any(),
            "windows are kept"
        );
        self.pings.sent_something();
    }

    /// Writes data, which the windows allow, in as many frames as it needs.
    fn write_data(&mut self, place: usize, mut bytes: Bytes, end: bool) {
        self.charge(place, bytes.len());
        let id = self.streams.at(place).id;
        loop {
            let len = bytes.len().min(self.peer.frame_bytes_max);
            let is_last = len == bytes.len();
            let flags = if end && is_last { frame::END_STREAM } else { 0 };
            let tail = self.output.tail();
            frame::head(tail, len, frame::DATA, flags, id);
            if len >= self.config.share_bytes_min {
                self.output.share(bytes.split_to(len));
            } else {
                tail.extend_from_slice(&bytes[..len]);
                bytes.advance(len);
            }
            if is_last {
                return;
            }
        }
    }

    /// Writes headers or trailers, in as many frames as they need.
    fn write_block(&mut self, id: u32, status: Option<u16>, fields: &Fields, end: bool) {
        let mut block = std::mem::take(&mut self.scratch);
        block.clear();
        self.encoder.begin(&mut block);
        if let Some(status) = status {
            self.encoder.status(&mut block, status);
        }
        match fields {
            Fields::Fixed(fields) => {
                for (name, value) in *fields {
                    self.encoder.field(&mut block, name.as_bytes(), value.as_bytes());
                }
            }
            Fields::Made(fields) => {
                for (name, value) in fields {
                    self.encoder.field(&mut block, name.as_bytes(), value);
                }
            }
        }
        let tail = self.output.tail();
        let mut kind = frame::HEADERS;
        let mut flags = if end { frame::END_STREAM } else { 0 };
        let mut rest = &block[..];
        loop {
            let (part, behind) = rest.split_at(rest.len().min(self.peer.frame_bytes_max));
            rest = behind;
            if rest.is_empty() {
                flags |= frame::END_HEADERS;
            }
            frame::head(tail, part.len(), kind, flags, id);
            tail.extend_from_slice(part);
            if rest.is_empty() {
                break;
            }
            (kind, flags) = (frame::CONTINUATION, 0);
        }
        self.scratch = block;
        self.pings.sent_something();
    }

    /// Our side of a stream has ended. If the client's has not, it is told that nothing more is
    /// wanted (RFC 9113 §8.1).
    fn end_local(&mut self, place: usize) {
        let stream = self.streams.at(place);
        let (id, remote_ended) = (stream.id, stream.remote_ended);
        if !remote_ended {
            frame::rst_stream(self.output.tail(), id, Code::NO_ERROR);
        }
        self.forget(place, !remote_ended);
    }

    /// Takes a stream out of all books.
    pub(super) fn forget(&mut self, place: usize, was_reset: bool) {
        let removed = self.streams.remove(place, was_reset);
        self.held -= removed.queued;
        if self.phase != Phase::Failed {
            self.release_connection(removed.unreleased);
        }
    }
}

/// Takes from the stream's queue what goes into its next frame.
fn next_part(stream: &mut Stream, frame_bytes_max: usize, connection_window: i64) -> Bytes {
    let window = stream.send_window.min(connection_window);
    let mut max = frame_bytes_max.min(usize::try_from(window).unwrap_or(0));
    if mutant::on(Mutant::IgnoreStreamWindow) || mutant::on(Mutant::IgnoreConnectionWindow) {
        max = frame_bytes_max;
    }
    let Some(first) = stream.queue.front_mut() else { return Bytes::new() };
    let part = if first.len() <= max {
        stream.queue.pop_front().unwrap_or_default()
    } else {
        first.split_to(max)
    };
    stream.queued -= part.len();
    part
}
