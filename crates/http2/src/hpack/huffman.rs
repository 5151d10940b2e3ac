//! The Huffman code of RFC 7541, appendix B.
//!
//! The code is canonical: symbols in order of length, then of value, are numbered through. So the
//! lengths alone make it, and the tables below are computed from them by the compiler.
//!
//! Texts in headers consist nearly only of symbols with at most eight bits: those are looked up
//! by the next byte; the rest is found by its length. Encoding serves the tests: what we send is
//! short and mostly in the table.

/// Bits of each symbol. The end mark, symbol 256, has thirty, all of them ones.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11,
    10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26,
    28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// Bits of the longest symbols.
const BITS_MAX: usize = 30;

struct Code {
    /// The code of each symbol, in its lowest bits.
    #[cfg(any(test, feature = "fuzzing"))]
    codes: [u32; 256],
    /// Symbols in the order of their codes.
    ordered: [u8; 256],
    /// For each length: the first code behind those of this length, filled up to 32 bits.
    limits: [u64; BITS_MAX + 1],
    /// For each length: place in `ordered` of its first symbol, and that symbol's code.
    firsts: [(u16, u32); BITS_MAX + 1],
    /// For each byte that may come next: the symbol it begins with and that one's bits; no bits
    /// if it has more than eight.
    short: [(u8, u8); 256],
}

#[expect(clippy::cast_possible_truncation, reason = "indices of 256 symbols")]
const CODE: Code = {
    let mut code = Code {
        #[cfg(any(test, feature = "fuzzing"))]
        codes: [0; 256],
        ordered: [0; 256],
        limits: [0; BITS_MAX + 1],
        firsts: [(0, 0); BITS_MAX + 1],
        short: [(0, 0); 256],
    };
    let (mut next, mut place, mut bits) = (0_u32, 0, 1);
    while bits <= BITS_MAX {
        next <<= 1;
        code.firsts[bits] = (place as u16, next);
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == bits {
                #[cfg(any(test, feature = "fuzzing"))]
                {
                    code.codes[symbol] = next;
                }
                code.ordered[place] = symbol as u8;
                place += 1;
                if bits <= 8 {
                    let first = (next << (8 - bits)) as usize;
                    let mut at = first;
                    while at < first + (1 << (8 - bits)) {
                        code.short[at] = (symbol as u8, bits as u8);
                        at += 1;
                    }
                }
                next += 1;
            }
            symbol += 1;
        }
        code.limits[bits] = (next as u64) << (32 - bits);
        bits += 1;
    }
    code
};

static TABLES: Code = CODE;

/// The text is no Huffman code: it contains the end mark, or ends in the middle of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Appends the text to `out`.
///
/// # Errors
/// If it contains the end mark, or ends with other than less than eight ones.
pub(crate) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.reserve(text.len() * 8 / 5 + 1);
    let (mut window, mut held) = (0_u64, 0_u32);
    let mut bytes = text.iter();
    loop {
        while held <= 32 {
            let Some(byte) = bytes.next() else { break };
            window |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        if held == 0 {
            return Ok(());
        }
        let (symbol, bits) = match TABLES.short[(window >> 56) as usize] {
            (symbol, bits @ 1..) => (symbol, u32::from(bits)),
            _ => match long(window >> 32) {
                Some(found) => found,
                // The end mark is not a symbol, but its first bits are padding.
                None => return padding(window, held),
            },
        };
        if bits > held {
            return padding(window, held);
        }
        out.push(symbol);
        window <<= bits;
        held -= bits;
    }
}

/// A symbol of more than eight bits at the head of these 32.
fn long(head: u64) -> Option<(u8, u32)> {
    for bits in 9..=BITS_MAX {
        if head < TABLES.limits[bits] {
            let (place, first) = TABLES.firsts[bits];
            let offset = (head >> (32 - bits)) - u64::from(first);
            let symbol = TABLES.ordered[usize::from(place) + usize::try_from(offset).ok()?];
            return Some((symbol, u32::try_from(bits).ok()?));
        }
    }
    None
}

/// What is left must be less than a byte, and ones.
fn padding(window: u64, held: u32) -> Result<(), Malformed> {
    if held < 8 && window >> (64 - held) == (1 << held) - 1 { Ok(()) } else { Err(Malformed) }
}

/// The text as Huffman code.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn encode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut window, mut held) = (0_u64, 0_u32);
    for byte in text {
        let bits = u32::from(LENGTHS[usize::from(*byte)]);
        window = window << bits | u64::from(TABLES.codes[usize::from(*byte)]);
        held += bits;
        while held >= 8 {
            held -= 8;
            out.push((window >> held).to_le_bytes()[0]);
        }
    }
    if held > 0 {
        let padded = (window << (8 - held)) | ((1 << (8 - held)) - 1);
        out.push(padded.to_le_bytes()[0]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        decode(text, &mut out).map(|()| out)
    }

    #[test]
    fn every_pair_of_symbols_comes_back() {
        for first in 0..=255 {
            for second in 0..=255 {
                let text = [first, second, first];
                assert_eq!(decoded(&encode(&text)), Ok(text.to_vec()));
            }
        }
    }

    /// RFC 7541 §5.2: padding is less than a byte of ones, and there is no end mark.
    #[test]
    fn padding_is_strict() {
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        assert_eq!(decoded(&[0b0000_0110]), Err(Malformed), "not ones");
        assert_eq!(decoded(&[0b0000_0111, 0xff]), Err(Malformed), "a byte of padding");
        assert_eq!(decoded(&[0xff; 4]), Err(Malformed), "the end mark");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc]), Err(Malformed), "the end mark, cut");
        assert_eq!(decoded(&[]), Ok(Vec::new()));
    }

    /// RFC 7541 appendix B, a few of each length.
    #[test]
    fn codes_are_those_of_the_appendix() {
        for (symbol, code) in [
            (b'0', 0x0),
            (b' ', 0x14),
            (b'&', 0xf8),
            (b'!', 0x3f8),
            (b'#', 0xffa),
            (0, 0x1ff8),
            (b'\\', 0x7fff0),
            (1, 0x007f_ffd8),
            (9, 0x00ff_ffea),
            (255, 0x03ff_ffee),
            (249, 0x0fff_fffe),
            (22, 0x3fff_fffe),
        ] {
            assert_eq!(TABLES.codes[usize::from(symbol)], code, "{symbol}");
        }
    }
}
