//! Hash slots.

/// How many there are.
pub const SLOTS: u16 = 16_384;

/// CRC-16/XMODEM: polynomial 0x1021, begun with 0.
const fn crc16(bytes: &[u8]) -> u16 {
    let mut crc: u16 = 0;
    let mut at = 0;
    while at < bytes.len() {
        crc ^= (bytes[at] as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        at += 1;
    }
    crc
}

/// The slot of a key. If the key has a `{tag}` that is not empty, only the first such tag counts, so that keys can be kept
/// together.
#[must_use]
pub fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(0x31c3, crc16(b"123456789"), "the check value of the standard");
        assert_eq!((12_182, 5_061, 866), (slot_of("foo"), slot_of("bar"), slot_of("hello")));
        assert_eq!(slot_of("user1000"), slot_of("{user1000}.following"));
        assert_eq!(slot_of("{user1000}.followers"), slot_of("{user1000}.following"));
        assert_ne!(slot_of("foo{}{bar}"), slot_of("bar"), "an empty tag is none");
        assert_eq!(slot_of("foo{{bar}}zap"), slot_of("{bar"));
    }
}
