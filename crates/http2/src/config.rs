//! The settings of a connection: each is a bound to what a client can make us hold or do.

use std::time::Duration;

/// How often something may happen: `burst` times at once, and so often a second after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Times at once.
    pub burst: u32,
    /// Times a second.
    pub per_second: u32,
}

/// How a connection is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes a client may send ahead on a stream.
    pub stream_window_bytes: u32,
    /// Bytes a client may send ahead on all streams together; below 65,535 it counts as that.
    pub connection_window_bytes: u32,
    /// Bytes of the largest frame that is accepted: 16,384 to 16,777,215.
    pub frame_bytes_max: u32,
    /// Streams open at once; those above are refused.
    pub streams_max: u32,
    /// Bytes of the table in which a client keeps its headers.
    pub header_table_bytes: u32,
    /// Bytes of a request's headers, decoded; a request with more is answered with 431.
    pub header_list_bytes_max: u32,
    /// Bytes of a request's headers, encoded; more ends the connection.
    pub header_block_bytes_max: usize,
    /// CONTINUATION frames of one request; more end the connection.
    pub continuations_max: u32,
    /// How long a client may take for its preface and first settings, and for a header block
    /// that it has begun.
    pub header_timeout: Duration,
    /// Streams that the client resets, or that fail by its fault, before the connection ends.
    pub resets: Budget,
    /// Frames that move nothing (settings, priorities, empty data, unknown ones, those for
    /// streams that are closed), before the connection ends.
    pub idle_frames: Budget,
    /// The shortest time between two PINGs of a client, unless something was sent to it in
    /// between. (grpc-go: `MinTime`.)
    pub ping_interval_min: Duration,
    /// The same while no stream is open.
    pub idle_ping_interval_min: Duration,
    /// PINGs that may come too early before the connection ends.
    pub ping_strikes_max: u32,
    /// A connection that is silent for this long is asked whether it lives.
    pub keepalive_interval: Duration,
    /// And ends if it does not say so within this.
    pub keepalive_timeout: Duration,
    /// Bytes queued in a stream above which its sender has to wait.
    pub stream_send_bytes: usize,
    /// Bytes queued in all streams together above which new streams are refused.
    pub held_bytes_max: usize,
    /// Bytes ready to be written at which streams wait for their turn; at twice as many, nothing
    /// more is read.
    pub output_bytes_max: usize,
    /// Pieces of data of at least this many bytes are written from where they lie; smaller ones
    /// are copied together.
    pub share_bytes_min: usize,
    /// Names of headers that the caller finds by their place here, at most [`WORDS_MAX`]. Other
    /// headers are kept as pairs if [`Config::keep_others`] says so.
    pub words: &'static [&'static str],
    /// Whether headers that are not in `words` are kept.
    pub keep_others: bool,
    /// Headers and trailers of answers that are worth a place in the client's table.
    pub repeated: &'static [(&'static str, &'static str)],
}

/// The most names that a caller can find by place.
pub const WORDS_MAX: usize = 12;

impl Default for Config {
    fn default() -> Config {
        Config {
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 1 << 20,
            frame_bytes_max: 16_384,
            streams_max: u32::MAX,
            header_table_bytes: 4096,
            header_list_bytes_max: 64 << 10,
            header_block_bytes_max: 64 << 10,
            continuations_max: 16,
            header_timeout: Duration::from_secs(30),
            resets: Budget { burst: 10_000, per_second: 1_000 },
            idle_frames: Budget { burst: 1_000, per_second: 100 },
            ping_interval_min: Duration::from_secs(5),
            idle_ping_interval_min: Duration::from_secs(2 * 60 * 60),
            ping_strikes_max: 2,
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            stream_send_bytes: 1 << 20,
            held_bytes_max: 64 << 20,
            output_bytes_max: 128 << 10,
            share_bytes_min: 4096,
            words: &[],
            keep_others: true,
            repeated: &[],
        }
    }
}

/// What is left of a budget.
#[derive(Debug)]
pub(crate) struct Meter {
    budget: Budget,
    left: u32,
    /// Up to where time has been turned into more.
    filled: Duration,
}

impl Meter {
    pub(crate) fn new(now: Duration, budget: Budget) -> Meter {
        Meter { budget, left: budget.burst, filled: now }
    }

    /// Takes one; false if there is none left.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        if self.left == 0 {
            let elapsed = now.saturating_sub(self.filled);
            let more = elapsed.as_millis() * u128::from(self.budget.per_second) / 1000;
            self.left = u32::try_from(more).unwrap_or(u32::MAX).min(self.budget.burst);
            if self.left == 0 {
                return false;
            }
            self.filled = now;
        }
        self.left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_burst_and_then_a_rate() {
        let mut meter = Meter::new(Duration::ZERO, Budget { burst: 5, per_second: 10 });
        let taken = |meter: &mut Meter, ms| {
            (0..100).filter(|_| meter.take(Duration::from_millis(ms))).count()
        };
        assert_eq!(taken(&mut meter, 0), 5);
        assert_eq!(taken(&mut meter, 99), 0);
        assert_eq!(taken(&mut meter, 100), 1);
        assert_eq!(taken(&mut meter, 400), 3);
        assert_eq!(taken(&mut meter, 10_000), 5, "never more than the burst");
    }
}
