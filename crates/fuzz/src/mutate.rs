//! Random changes of inputs, all of them from a seed.

use env::SplitMix64;

/// Numbers at which decoders break, in both byte orders and as varints.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX.cast_unsigned(),
    u64::MAX - 1,
    u64::MAX,
];

fn below(dice: &mut SplitMix64, end: usize) -> usize {
    usize::try_from(dice.below(end.max(1) as u64)).unwrap_or(0)
}

/// One of the seeds, changed one to six times, and no longer than `bytes_max`.
///
/// # Panics
/// If there are no seeds.
#[must_use]
pub fn mutated(dice: &mut SplitMix64, seeds: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
    let mut bytes = seeds[below(dice, seeds.len())].clone();
    for _ in 0..=below(dice, 6) {
        let other = &seeds[below(dice, seeds.len())];
        change(dice, &mut bytes, other);
    }
    bytes.truncate(bytes_max);
    bytes
}

fn change(dice: &mut SplitMix64, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = below(dice, bytes.len());
    match dice.below(9) {
        0 if !bytes.is_empty() => bytes[at] = dice.next_u64().to_le_bytes()[0],
        1 if !bytes.is_empty() => bytes[at] ^= 1 << below(dice, 8),
        2 if !bytes.is_empty() => {
            let step = if dice.below(2) == 0 { 1 } else { u8::MAX };
            bytes[at] = bytes[at].wrapping_add(step);
        }
        3 => bytes.truncate(at),
        4 => {
            let end = (at + 1 + below(dice, 16)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        5 => {
            let end = (at + 1 + below(dice, 16)).min(bytes.len());
            bytes.drain(at..end);
        }
        6 => {
            // A piece of another seed.
            let from = below(dice, other.len());
            let to = (from + 1 + below(dice, 64)).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        7 => {
            let edge = edge(dice);
            let end = if dice.below(2) == 0 { at } else { (at + edge.len()).min(bytes.len()) };
            bytes.splice(at..end, edge);
        }
        _ => {
            let more = below(dice, 12);
            bytes.extend((0..more).map(|_| dice.next_u64().to_le_bytes()[0]));
        }
    }
}

fn edge(dice: &mut SplitMix64) -> Vec<u8> {
    let number = EDGES[below(dice, EDGES.len())];
    let width = [1, 2, 4, 8][below(dice, 4)];
    match dice.below(3) {
        0 => number.to_le_bytes()[..width].to_vec(),
        1 => number.to_be_bytes()[8 - width..].to_vec(),
        _ => {
            let (mut varint, mut rest) = (Vec::new(), number);
            while rest >= 0x80 {
                varint.push(rest.to_le_bytes()[0] | 0x80);
                rest >>= 7;
            }
            varint.push(rest.to_le_bytes()[0]);
            varint
        }
    }
}
