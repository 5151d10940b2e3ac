//! What is to be written to the socket.
//!
//! Frames are written one behind the other into a buffer. A large piece of data is not copied:
//! the buffer is closed, the piece stands behind it, and a new buffer begins; one vectored write
//! takes them all.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes};

/// Bytes of the buffer that may have gone before what is left of it is moved to its front, if that
/// is less.
const GONE_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Closed buffers and large pieces.
    pieces: VecDeque<Bytes>,
    /// The buffer that is written to.
    tail: Vec<u8>,
    /// Bytes of `tail` that have gone.
    gone: usize,
    /// Bytes in `pieces`.
    pieces_len: usize,
}

impl Output {
    /// Bytes to be written.
    pub(crate) fn len(&self) -> usize {
        self.pieces_len + self.tail.len() - self.gone
    }

    /// The buffer, to append to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends a piece without copying it.
    pub(crate) fn share(&mut self, piece: Bytes) {
        if self.tail.len() > self.gone {
            let mut closed = Bytes::from(std::mem::take(&mut self.tail));
            closed.advance(self.gone);
            self.pieces_len += closed.len();
            self.pieces.push_back(closed);
        }
        self.tail.clear();
        self.gone = 0;
        self.pieces_len += piece.len();
        self.pieces.push_back(piece);
    }

    /// What is to be written, as far as `slices` has room; returns how many it filled.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = &self.tail[self.gone..];
        let pieces = self.pieces.iter().map(|piece| &piece[..]);
        let all = pieces.chain((!tail.is_empty()).then_some(tail));
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(all) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    /// The first `count` bytes have been written.
    pub(crate) fn wrote(&mut self, mut count: usize) {
        assert!(count <= self.len(), "no more is written than there is");
        while let Some(first) = self.pieces.front_mut() {
            let part = count.min(first.len());
            first.advance(part);
            self.pieces_len -= part;
            count -= part;
            if !first.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.gone += count;
        if self.gone == self.tail.len() {
            self.tail.clear();
            self.gone = 0;
        } else if self.gone >= GONE_BYTES_MAX && self.gone > self.tail.len() / 2 {
            // Whoever reads a little less than we write would have us keep all that ever went.
            self.tail.drain(..self.gone);
            self.gone = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_in_order_however_they_are_taken() {
        for step in 1..40 {
            let mut output = Output::default();
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            for number in 0..60_u8 {
                let bytes = vec![number; usize::from(number % 7)];
                expected.extend_from_slice(&bytes);
                if number % 3 == 0 {
                    output.share(bytes.into());
                } else {
                    output.tail().extend_from_slice(&bytes);
                }
                if number % 5 == 0 {
                    take(&mut output, step, &mut found);
                }
            }
            while output.len() > 0 {
                take(&mut output, step, &mut found);
            }
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_reader_that_never_catches_up_does_not_make_the_buffer_grow() {
        let mut output = Output::default();
        output.tail().extend_from_slice(&[0; 50_000]);
        for turn in 0..2_000 {
            let number = |turn: usize| u8::try_from(turn % 251).unwrap();
            output.tail().extend(std::iter::repeat_n(number(turn), 1_000));
            let mut found = Vec::new();
            take(&mut output, 1_000, &mut found);
            let expected = turn.checked_sub(50).map_or(0, number);
            assert!(found.iter().all(|byte| *byte == expected), "turn {turn}");
        }
        assert_eq!(output.len(), 50_000);
        assert!(output.tail.capacity() < 400_000, "{}", output.tail.capacity());
    }

    fn take(output: &mut Output, bytes: usize, found: &mut Vec<u8>) {
        let mut slices = [IoSlice::new(&[]); 3];
        let count = output.slices(&mut slices);
        let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        let part = bytes.min(all.len());
        found.extend_from_slice(&all[..part]);
        output.wrote(part);
    }
}
