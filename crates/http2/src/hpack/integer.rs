//! Integers that begin in the last bits of a byte (RFC 7541 §5.1).

/// The largest integer that is read; an index, a length and a table's size are all smaller.
const MAX: usize = 1 << 28;

/// Reads an integer whose first byte has `bits` bits of it, from the front of `input`.
///
/// `None` if it is cut off or too large.
pub(super) fn read(input: &mut &[u8], bits: u32) -> Option<usize> {
    let (first, mut rest) = input.split_first()?;
    let mask = (1_usize << bits) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            value += (usize::from(*byte) & 0x7f) << shift;
            if value > MAX || shift > 21 {
                return None;
            }
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *input = rest;
    Some(value)
}

/// Appends an integer, with `head` in the bits of its first byte that are not its own.
pub(super) fn write(out: &mut Vec<u8>, head: u8, bits: u32, value: usize) {
    let mask = (1_usize << bits) - 1;
    if value < mask {
        out.push(head | byte(value));
        return;
    }
    out.push(head | byte(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(0x80 | byte(rest & 0x7f));
        rest >>= 7;
    }
    out.push(byte(rest));
}

fn byte(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 appendix C.1.
    #[test]
    fn the_examples() {
        for (bits, value, wire) in
            [(5, 10, &[10][..]), (5, 1337, &[31, 154, 10]), (8, 42, &[42]), (7, 127, &[127, 0])]
        {
            let mut out = Vec::new();
            write(&mut out, 0, bits, value);
            assert_eq!(out, wire);
            let mut input = wire;
            assert_eq!((read(&mut input, bits), input), (Some(value), &[][..]));
        }
    }

    #[test]
    fn what_is_cut_or_endless_is_none() {
        for bad in [&[][..], &[31], &[31, 0x80], &[31, 255, 255, 255, 255, 255, 1]] {
            assert_eq!(read(&mut &bad[..], 5), None, "{bad:?}");
        }
        assert_eq!(read(&mut &[31, 0x80, 0x80, 0x80, 0x80, 0x80, 0][..], 5), None, "zeros");
    }
}
