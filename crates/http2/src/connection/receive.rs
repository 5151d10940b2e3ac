//! What is received: preface, frames, header blocks, data.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};

use super::{Block, Connection, Event, Fields, Phase, StreamId};
use crate::error::{Code, Fault, fault, protocol};
use crate::frame::{self, Head};
use crate::head::{Draft, Outcome};
use crate::hpack;
use crate::mutant::{self, Mutant};

/// What came of a frame.
pub(super) enum Step {
    Event(Event),
    /// Nothing that the caller has to know.
    Next,
    /// The input ends before the frame does.
    Starved,
}

impl Connection {
    /// Reads from the front of `input` until something has happened; what is not a whole frame
    /// stays there. `None`: there is nothing more in it.
    ///
    /// Whoever calls stops while [`Connection::is_congested`], so that a client that does not
    /// read cannot have answers queued.
    pub fn next_event(&mut self, now: Duration, input: &mut BytesMut) -> Option<Event> {
        loop {
            if self.phase == Phase::Failed {
                input.clear();
                return None;
            }
            match self.step(now, input) {
                Ok(Step::Event(event)) => return Some(event),
                Ok(Step::Next) => {}
                Ok(Step::Starved) => return None,
                Err(fault) => {
                    self.fail(fault);
                    return Some(Event::Failed(fault));
                }
            }
        }
    }

    fn step(&mut self, now: Duration, input: &mut BytesMut) -> Result<Step, Fault> {
        if !self.pings.has_preface {
            let part = input.len().min(frame::PREFACE.len());
            if input[..part] != frame::PREFACE[..part] {
                return Err(protocol("the preface is not that of HTTP/2"));
            }
            if part < frame::PREFACE.len() {
                return Ok(Step::Starved);
            }
            input.advance(part);
            self.pings.has_preface = true;
            if self.phase == Phase::Preface {
                self.phase = Phase::Settings;
            }
        }
        let Some(head) = Head::read(input) else { return Ok(Step::Starved) };
        if head.length > self.config.frame_bytes_max as usize {
            return Err(fault(Code::FRAME_SIZE_ERROR, "a frame is larger than allowed"));
        }
        if self.phase == Phase::Settings && (head.kind != frame::SETTINGS || head.has(frame::ACK)) {
            return Err(protocol("the first frame is not SETTINGS"));
        }
        let total = frame::HEAD_BYTES + head.length;
        if input.len() < total {
            return Ok(Step::Starved);
        }
        self.last_received = now;
        self.alive_deadline = None;
        if let Some(block) = &self.block
            && (head.kind != frame::CONTINUATION || head.stream != block.stream)
        {
            return Err(protocol("a header block is interrupted"));
        }
        if head.kind == frame::DATA {
            input.advance(frame::HEAD_BYTES);
            let payload = input.split_to(head.length).freeze();
            return self.data(now, head, payload);
        }
        let outcome = self.frame(now, head, &input[frame::HEAD_BYTES..total]);
        input.advance(total);
        outcome
    }

    fn frame(&mut self, now: Duration, head: Head, payload: &[u8]) -> Result<Step, Fault> {
        match head.kind {
            frame::HEADERS => self.headers(now, head, payload),
            frame::CONTINUATION => self.continuation(now, head, payload),
            frame::RST_STREAM => self.rst_stream(now, head, payload),
            frame::WINDOW_UPDATE => self.window_update(now, head, payload),
            frame::SETTINGS => self.settings(now, head, payload).map(|()| Step::Next),
            frame::PING => self.ping(now, head, payload).map(|()| Step::Next),
            frame::GOAWAY => self.goaway(head, payload).map(|()| Step::Next),
            frame::PRIORITY => self.priority(now, head, payload),
            frame::PUSH_PROMISE => Err(protocol("a client cannot promise")),
            // RFC 9113 §4.1: what is not known is ignored.
            _ => self.moves_nothing(now).map(|()| Step::Next),
        }
    }

    fn data(&mut self, now: Duration, head: Head, mut payload: Bytes) -> Result<Step, Fault> {
        if head.stream == 0 {
            return Err(protocol("data without a stream"));
        }
        let counted = i64::try_from(payload.len()).unwrap_or(i64::MAX);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        if counted > self.recv_window && !mutant::on(Mutant::AcceptOverflow) {
            return Err(fault(Code::FLOW_CONTROL_ERROR, "more data than the window allows"));
        }
        self.recv_window -= counted;
        if head.has(frame::PADDED) {
            unpad(&mut payload)?;
        }
        let end = head.has(frame::END_STREAM);
        if payload.is_empty() && !end {
            self.moves_nothing(now)?;
        }
        let Some(place) = self.streams.find(head.stream) else {
            self.release_connection(length);
            return self.data_for_nobody(now, head.stream);
        };
        let stream = self.streams.at(place);
        if stream.remote_ended {
            self.release_connection(length);
            return self.stream_fault(now, head.stream, Code::STREAM_CLOSED);
        }
        if counted > stream.recv_window && !mutant::on(Mutant::AcceptOverflow) {
            self.release_connection(length);
            return self.stream_fault(now, head.stream, Code::FLOW_CONTROL_ERROR);
        }
        stream.recv_window -= counted;
        stream.unreleased += length;
        stream.remote_ended = end;
        let bytes = payload.len() as u64;
        let expected = stream.expected.map(|left| left.checked_sub(bytes));
        stream.expected = expected.flatten();
        if matches!(expected, Some(None)) || (end && matches!(expected, Some(Some(1..)))) {
            return self.stream_fault(now, head.stream, Code::PROTOCOL_ERROR);
        }
        let tag = stream.tag;
        let stream = StreamId(head.stream);
        let padding = length as usize - payload.len();
        if padding > 0 && !mutant::on(Mutant::ForgetPadding) {
            self.release(stream, padding);
        }
        Ok(Step::Event(Event::Data { stream, tag, bytes: payload, end }))
    }

    /// Data of a stream that is not open.
    fn data_for_nobody(&mut self, now: Duration, id: u32) -> Result<Step, Fault> {
        if self.is_idle(id) {
            return Err(protocol("data on a stream that was not opened"));
        }
        // What was under way when we ended the stream is nobody's fault, and the window bounds it.
        if self.streams.ended(id) != Some(true) {
            self.moves_nothing(now)?;
            frame::rst_stream(self.output.tail(), id, Code::STREAM_CLOSED);
        }
        Ok(Step::Next)
    }

    fn headers(&mut self, now: Duration, head: Head, mut payload: &[u8]) -> Result<Step, Fault> {
        if head.stream.is_multiple_of(2) {
            return Err(protocol("headers on a stream that is not a client's"));
        }
        if head.has(frame::PADDED) {
            let (padding, rest) = payload.split_first().ok_or_else(short)?;
            let length = rest.len().checked_sub(usize::from(*padding));
            payload = &rest[..length.ok_or_else(|| protocol("more padding than payload"))?];
        }
        if head.has(frame::PRIORITIZED) {
            let (priority, rest) = payload.split_first_chunk::<5>().ok_or_else(short)?;
            payload = rest;
            if is_self(priority, head.stream) {
                return Err(protocol("a stream that depends on itself"));
            }
        }
        if !head.has(frame::END_HEADERS) {
            if payload.len() > self.config.header_block_bytes_max {
                return Err(too_long());
            }
            self.block = Some(Block {
                stream: head.stream,
                flags: head.flags,
                bytes: BytesMut::from(payload),
                continuations: 0,
                deadline: now.saturating_add(self.config.header_timeout),
            });
            return Ok(Step::Next);
        }
        self.block_complete(now, head.stream, head.has(frame::END_STREAM), payload)
    }

    fn continuation(&mut self, now: Duration, head: Head, payload: &[u8]) -> Result<Step, Fault> {
        let Some(mut block) = self.block.take() else {
            return Err(protocol("a continuation of nothing"));
        };
        block.continuations += 1;
        if block.continuations > self.config.continuations_max
            || block.bytes.len() + payload.len() > self.config.header_block_bytes_max
        {
            return Err(too_long());
        }
        block.bytes.extend_from_slice(payload);
        if head.has(frame::END_HEADERS) {
            let end = block.flags & frame::END_STREAM != 0;
            return self.block_complete(now, block.stream, end, &block.bytes);
        }
        self.block = Some(block);
        Ok(Step::Next)
    }

    /// Every block goes through the decoder, whatever becomes of its stream: the tables must stay
    /// in step.
    fn block_complete(
        &mut self,
        now: Duration,
        id: u32,
        end: bool,
        block: &[u8],
    ) -> Result<Step, Fault> {
        let is_refused = self.streams.len() >= self.config.streams_max as usize;
        let mut draft =
            Draft::new(self.config.header_list_bytes_max as usize, self.config.keep_others);
        if !(is_refused && mutant::on(Mutant::SkipRefused)) {
            let mut sink = |field: hpack::Field<'_>| {
                let size = field.size();
                draft.field(field.meaning, field.valid, size, field.name, field.value);
            };
            self.decoder
                .decode(block, &mut sink)
                .map_err(|_| fault(Code::COMPRESSION_ERROR, "a header block is malformed"))?;
        }
        if let Some(place) = self.streams.find(id) {
            return self.trailers(now, id, place, end, &draft);
        }
        if !self.is_idle(id) {
            return match self.streams.ended(id) {
                Some(true) => self.moves_nothing(now).map(|()| Step::Next),
                Some(false) => Err(fault(Code::STREAM_CLOSED, "headers on a closed stream")),
                None => Err(protocol("a stream with a smaller number than one before")),
            };
        }
        if self.phase == Phase::Draining {
            // The client has not heard yet; it knows that nothing was done.
            return self.moves_nothing(now).map(|()| Step::Next);
        }
        self.last_stream = id;
        if is_refused || self.held >= self.config.held_bytes_max {
            self.streams.refused(id);
            frame::rst_stream(self.output.tail(), id, Code::REFUSED_STREAM);
            return self.count_reset(now).map(|()| Step::Next);
        }
        self.open(now, id, end, draft.finish())
    }

    fn open(&mut self, now: Duration, id: u32, end: bool, outcome: Outcome) -> Result<Step, Fault> {
        let (head, expected) = match outcome {
            Outcome::Request { head, content_length } => (head, content_length),
            Outcome::Malformed => {
                self.streams.refused(id);
                frame::rst_stream(self.output.tail(), id, Code::PROTOCOL_ERROR);
                return self.count_reset(now).map(|()| Step::Next);
            }
            Outcome::TooLarge => {
                let window = i64::from(self.config.stream_window_bytes);
                let place = self.streams.insert(id, window, self.peer.initial_window);
                self.streams.at(place).remote_ended = end;
                self.send_head(StreamId(id), 431, &Fields::Fixed(&[]), true);
                return self.count_reset(now).map(|()| Step::Next);
            }
        };
        if end && expected.is_some_and(|bytes| bytes > 0) {
            self.streams.refused(id);
            frame::rst_stream(self.output.tail(), id, Code::PROTOCOL_ERROR);
            return self.count_reset(now).map(|()| Step::Next);
        }
        let window = i64::from(self.config.stream_window_bytes);
        let place = self.streams.insert(id, window, self.peer.initial_window);
        let stream = self.streams.at(place);
        (stream.remote_ended, stream.expected) = (end, expected);
        Ok(Step::Event(Event::Request { stream: StreamId(id), head, end }))
    }

    /// Trailers of a request: they mean nothing, but end it.
    fn trailers(
        &mut self,
        now: Duration,
        id: u32,
        place: usize,
        end: bool,
        draft: &Draft,
    ) -> Result<Step, Fault> {
        let stream = self.streams.at(place);
        if stream.remote_ended {
            return self.stream_fault(now, id, Code::STREAM_CLOSED);
        }
        if !end || !draft.is_trailers() || matches!(stream.expected, Some(1..)) {
            return self.stream_fault(now, id, Code::PROTOCOL_ERROR);
        }
        stream.remote_ended = true;
        let tag = stream.tag;
        let bytes = Bytes::new();
        Ok(Step::Event(Event::Data { stream: StreamId(id), tag, bytes, end: true }))
    }

    fn rst_stream(&mut self, now: Duration, head: Head, payload: &[u8]) -> Result<Step, Fault> {
        let code = Code(u32::from_be_bytes(*exactly(payload)?));
        if self.is_idle(head.stream) {
            return Err(protocol("a reset of a stream that was not opened"));
        }
        self.count_reset(now)?;
        let Some(place) = self.streams.find(head.stream) else { return Ok(Step::Next) };
        let tag = self.streams.at(place).tag;
        self.forget(place, false);
        Ok(Step::Event(Event::Reset { stream: StreamId(head.stream), tag, code }))
    }

    /// Ends a stream by its client's fault.
    pub(super) fn stream_fault(
        &mut self,
        now: Duration,
        id: u32,
        code: Code,
    ) -> Result<Step, Fault> {
        frame::rst_stream(self.output.tail(), id, code);
        self.count_reset(now)?;
        let Some(place) = self.streams.find(id) else { return Ok(Step::Next) };
        let tag = self.streams.at(place).tag;
        self.forget(place, true);
        Ok(Step::Event(Event::Reset { stream: StreamId(id), tag, code }))
    }

    /// The stream has never been opened.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        id == 0 || id.is_multiple_of(2) || id > self.last_stream
    }

    fn count_reset(&mut self, now: Duration) -> Result<(), Fault> {
        let is_allowed = self.resets.take(now);
        if is_allowed { Ok(()) } else { Err(calm("too many streams were reset")) }
    }

    /// A frame that moves nothing was received.
    pub(super) fn moves_nothing(&mut self, now: Duration) -> Result<(), Fault> {
        let is_allowed = self.idle_frames.take(now);
        if is_allowed { Ok(()) } else { Err(calm("too many frames that move nothing")) }
    }
}

pub(super) fn calm(reason: &'static str) -> Fault {
    fault(Code::ENHANCE_YOUR_CALM, reason)
}

fn too_long() -> Fault {
    calm("a header block is too long")
}

fn short() -> Fault {
    fault(Code::FRAME_SIZE_ERROR, "a frame is too short")
}

/// A payload that has one size.
pub(super) fn exactly<const N: usize>(payload: &[u8]) -> Result<&[u8; N], Fault> {
    payload
        .try_into()
        .map_err(|_| fault(Code::FRAME_SIZE_ERROR, "a frame has not the size of its kind"))
}

/// Whether a priority makes a stream depend on itself.
pub(super) fn is_self(priority: &[u8; 5], id: u32) -> bool {
    let [a, b, c, d, _] = *priority;
    u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff == id
}

/// Takes the padding off.
fn unpad(payload: &mut Bytes) -> Result<(), Fault> {
    if payload.is_empty() {
        return Err(short());
    }
    let padding = usize::from(payload.get_u8());
    let length = payload.len().checked_sub(padding);
    payload.truncate(length.ok_or_else(|| protocol("more padding than payload"))?);
    Ok(())
}
