//! Header blocks of ours.

use super::integer;
use super::table::{ENTRY_OVERHEAD, STATIC};

/// What a decoder's table has before the first settings.
const SIZE_BEFORE: usize = 4096;

/// Encodes the blocks of one connection, in their order.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The fields that enter the table when they are sent first.
    repeated: &'static [(&'static str, &'static str)],
    /// The number each of them got when it entered; the newest has the highest.
    numbers: Vec<Option<usize>>,
    inserted: usize,
    size_max: usize,
    /// The bound has changed since the last block.
    resized: bool,
    /// The table has room for all repeated fields.
    is_used: bool,
}

impl Encoder {
    pub(crate) fn new(repeated: &'static [(&'static str, &'static str)]) -> Encoder {
        let mut encoder = Encoder {
            repeated,
            numbers: vec![None; repeated.len()],
            inserted: 0,
            size_max: SIZE_BEFORE,
            resized: false,
            is_used: false,
        };
        encoder.settle();
        encoder
    }

    /// The client's table has this many bytes from now on.
    pub(crate) fn resize(&mut self, size_max: usize) {
        let size_max = size_max.min(SIZE_BEFORE);
        if size_max != self.size_max {
            self.size_max = size_max;
            self.resized = true;
            self.settle();
        }
    }

    /// Begins with an empty table.
    fn settle(&mut self) {
        let sizes = self.repeated.iter().map(|(name, value)| name.len() + value.len());
        let needed: usize = sizes.map(|size| size + ENTRY_OVERHEAD).sum();
        self.is_used = needed <= self.size_max;
        self.numbers.fill(None);
        self.inserted = 0;
    }

    /// Begins a block.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.resized) {
            // Emptied first: then it does not matter how often the bound has changed.
            integer::write(out, 0x20, 5, 0);
            integer::write(out, 0x20, 5, self.size_max);
        }
    }

    /// Appends the status, which comes first.
    pub(crate) fn status(&self, out: &mut Vec<u8>, status: u16) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                integer::write(out, 0, 4, 8);
                let digits = [status / 100 % 10, status / 10 % 10, status % 10];
                out.push(3);
                out.extend(digits.map(|digit| b'0' + u8::try_from(digit).unwrap_or(0)));
                return;
            }
        };
        integer::write(out, 0x80, 7, index);
    }

    /// Appends a field.
    pub(crate) fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let is_same = |(own, its): &(&str, &str)| {
            own.as_bytes() == name && its.as_bytes() == value && self.is_used
        };
        let Some(place) = self.repeated.iter().position(is_same) else {
            // Without indexing.
            out.push(0);
            text(out, name);
            text(out, value);
            return;
        };
        if let Some(number) = self.numbers[place] {
            integer::write(out, 0x80, 7, STATIC.len() + self.inserted - number);
            return;
        }
        out.push(0x40);
        text(out, name);
        text(out, value);
        self.numbers[place] = Some(self.inserted);
        self.inserted += 1;
    }
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    integer::write(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, decode::Field};
    use super::*;

    const REPEATED: &[(&str, &str)] = &[("content-type", "application/grpc"), ("grpc-status", "0")];

    fn block(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.status(&mut out, 200);
        for (name, value) in fields {
            encoder.field(&mut out, name.as_bytes(), value.as_bytes());
        }
        out
    }

    fn check(decoder: &mut Decoder, block: &[u8], fields: &[(&str, &str)]) {
        let mut found = Vec::new();
        decoder
            .decode(block, &mut |field: Field<'_>| {
                found.push((field.name.to_vec(), field.value.to_vec()));
            })
            .unwrap();
        let mut expected = vec![(b":status".to_vec(), b"200".to_vec())];
        expected.extend(
            fields
                .iter()
                .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())),
        );
        assert_eq!(found, expected);
    }

    #[test]
    fn what_repeats_is_a_byte_each() {
        let (mut encoder, mut decoder) = (Encoder::new(REPEATED), Decoder::new(4096, &[]));
        for round in 0..3 {
            for fields in [REPEATED, &REPEATED[1..], &REPEATED[..1], &[("grpc-status", "5")]] {
                let block = block(&mut encoder, fields);
                check(&mut decoder, &block, fields);
                if round > 0 && fields.len() == 2 {
                    assert_eq!(block, [0x88, 0xbf, 0xbe]);
                }
            }
        }
    }

    #[test]
    fn a_table_that_changes_stays_in_step() {
        let (mut encoder, mut decoder) = (Encoder::new(REPEATED), Decoder::new(4096, &[]));
        for sizes in [&[][..], &[0], &[], &[64], &[4096, 104], &[103, 1 << 20], &[0, 4096], &[]] {
            for size in sizes {
                encoder.resize(*size);
            }
            for _ in 0..2 {
                let block = block(&mut encoder, REPEATED);
                check(&mut decoder, &block, REPEATED);
            }
        }
    }

    #[test]
    fn any_status_can_be_said() {
        let encoder = Encoder::new(&[]);
        let mut out = Vec::new();
        encoder.status(&mut out, 431);
        assert_eq!(out, [8, 3, b'4', b'3', b'1']);
    }
}
