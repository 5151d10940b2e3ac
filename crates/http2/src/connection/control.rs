//! Frames about the connection: settings, windows, signs of life, the end.

use std::time::Duration;

use super::receive::{Step, calm, exactly, is_self};
use super::{Connection, Phase, SHUTDOWN_PING};
use crate::error::{Code, Fault, fault, protocol};
use crate::frame::{self, Head};
use crate::mutant::{self, Mutant};

/// The PINGs of a client, and whether they come too often.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// The client's preface has come. (A connection may be told to stop before.)
    pub(super) has_preface: bool,
    last: Option<Duration>,
    strikes: u32,
    /// Headers or data were sent since the last: a client that measures the way does so then.
    sent: bool,
}

impl Pings {
    pub(super) fn sent_something(&mut self) {
        self.sent = true;
    }
}

impl Connection {
    pub(super) fn settings(
        &mut self,
        now: Duration,
        head: Head,
        payload: &[u8],
    ) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(protocol("settings of a stream"));
        }
        if head.has(frame::ACK) {
            if !payload.is_empty() {
                return Err(fault(Code::FRAME_SIZE_ERROR, "an acknowledgement with settings"));
            }
            return self.moves_nothing(now);
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(fault(Code::FRAME_SIZE_ERROR, "settings that are cut off"));
        }
        for [n0, n1, value @ ..] in settings {
            self.setting(u16::from_be_bytes([*n0, *n1]), u32::from_be_bytes(*value))?;
        }
        frame::head(self.output.tail(), 0, frame::SETTINGS, frame::ACK, 0);
        if self.phase == Phase::Settings {
            self.phase = Phase::Open;
        } else {
            self.moves_nothing(now)?;
        }
        self.pump();
        Ok(())
    }

    fn setting(&mut self, name: u16, value: u32) -> Result<(), Fault> {
        match name {
            frame::SETTING_HEADER_TABLE_SIZE => {
                self.encoder.resize(usize::try_from(value).unwrap_or(usize::MAX));
            }
            frame::SETTING_ENABLE_PUSH if value > 1 => {
                return Err(protocol("ENABLE_PUSH is neither 0 nor 1"));
            }
            frame::SETTING_INITIAL_WINDOW_SIZE => {
                let window = i64::from(value);
                if window > frame::WINDOW_MAX {
                    return Err(fault(Code::FLOW_CONTROL_ERROR, "an initial window too large"));
                }
                self.initial_window(window)?;
            }
            frame::SETTING_MAX_FRAME_SIZE => {
                if !(1 << 14..1 << 24).contains(&value) {
                    return Err(protocol("a frame size out of its bounds"));
                }
                // Larger frames would only make others wait longer.
                self.peer.frame_bytes_max = 1 << 14;
            }
            // Unknown ones are ignored; the others do not concern a server.
            _ => {}
        }
        Ok(())
    }

    /// RFC 9113 §6.9.2: the windows of open streams change with the initial one.
    fn initial_window(&mut self, window: i64) -> Result<(), Fault> {
        let difference = window - std::mem::replace(&mut self.peer.initial_window, window);
        if difference == 0 || mutant::on(Mutant::KeepWindows) {
            return Ok(());
        }
        for place in self.streams.places() {
            let stream = self.streams.at(place);
            stream.send_window += difference;
            if stream.send_window > frame::WINDOW_MAX {
                return Err(fault(Code::FLOW_CONTROL_ERROR, "a stream's window overflows"));
            }
            self.line_up(place);
        }
        Ok(())
    }

    pub(super) fn window_update(
        &mut self,
        now: Duration,
        head: Head,
        payload: &[u8],
    ) -> Result<Step, Fault> {
        let more = i64::from(u32::from_be_bytes(*exactly(payload)?) & 0x7fff_ffff);
        if head.stream == 0 {
            if more == 0 {
                return Err(protocol("a window opens by nothing"));
            }
            self.send_window += more;
            if self.send_window > frame::WINDOW_MAX {
                return Err(fault(Code::FLOW_CONTROL_ERROR, "the window overflows"));
            }
            self.pump();
            return Ok(Step::Next);
        }
        let Some(place) = self.streams.find(head.stream) else {
            if self.is_idle(head.stream) {
                return Err(protocol("a window of a stream that was not opened"));
            }
            // It was under way when the stream ended.
            return Ok(Step::Next);
        };
        if more == 0 {
            return self.stream_fault(now, head.stream, Code::PROTOCOL_ERROR);
        }
        let stream = self.streams.at(place);
        stream.send_window += more;
        if stream.send_window > frame::WINDOW_MAX {
            return self.stream_fault(now, head.stream, Code::FLOW_CONTROL_ERROR);
        }
        if !mutant::on(Mutant::ForgetWaiting) {
            self.line_up(place);
        }
        self.pump();
        Ok(Step::Next)
    }

    pub(super) fn ping(&mut self, now: Duration, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(protocol("a ping of a stream"));
        }
        let payload: [u8; 8] = *exactly(payload)?;
        if head.has(frame::ACK) {
            if self.phase == Phase::Announced && payload == SHUTDOWN_PING {
                self.phase = Phase::Draining;
                let last = self.last_stream;
                frame::goaway(self.output.tail(), last, Code::NO_ERROR, "");
                return Ok(());
            }
            return self.moves_nothing(now);
        }
        frame::ping(self.output.tail(), frame::ACK, payload);
        self.strike(now)
    }

    /// The policy of grpc-go, which clients of etcd expect.
    fn strike(&mut self, now: Duration) -> Result<(), Fault> {
        let last = self.pings.last.replace(now);
        if std::mem::take(&mut self.pings.sent) {
            self.pings.strikes = 0;
            return Ok(());
        }
        let interval_min = if self.streams.len() == 0 {
            self.config.idle_ping_interval_min
        } else {
            self.config.ping_interval_min
        };
        if last.is_some_and(|last| now < last.saturating_add(interval_min)) {
            self.pings.strikes += 1;
            if self.pings.strikes > self.config.ping_strikes_max {
                return Err(calm("too_many_pings"));
            }
        }
        Ok(())
    }

    pub(super) fn goaway(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(protocol("a GOAWAY of a stream"));
        }
        if payload.len() < 8 {
            return Err(fault(Code::FRAME_SIZE_ERROR, "a GOAWAY that is cut off"));
        }
        self.peer_leaves = true;
        Ok(())
    }

    /// Priorities are ignored (RFC 9113 §5.3.2), malformed ones are not.
    pub(super) fn priority(
        &mut self,
        now: Duration,
        head: Head,
        payload: &[u8],
    ) -> Result<Step, Fault> {
        if head.stream == 0 {
            return Err(protocol("a priority of nothing"));
        }
        self.moves_nothing(now)?;
        let code = match payload.first_chunk::<5>() {
            Some(priority) if payload.len() == 5 => {
                if !is_self(priority, head.stream) {
                    return Ok(Step::Next);
                }
                Code::PROTOCOL_ERROR
            }
            _ => Code::FRAME_SIZE_ERROR,
        };
        if self.is_idle(head.stream) {
            return Err(fault(code, "a malformed priority"));
        }
        self.stream_fault(now, head.stream, code)
    }
}
