//! The static table (RFC 7541, appendix A), and the one that a client fills.

use std::collections::VecDeque;

use bytes::Bytes;

/// What an entry costs beside its texts (RFC 7541 §4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;

/// What every connection begins with.
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// What a field is to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Method,
    Scheme,
    Authority,
    Path,
    /// A pseudo-header that no request has.
    Foreign,
    /// A field about one HTTP/1 connection, or a name that is none.
    Forbidden,
    Te,
    ContentLength,
    /// The caller's name of this number.
    Word(u8),
    Other,
}

/// What the field `name` is, where the caller has names of its own.
pub(super) fn meaning(name: &[u8], words: &[&str]) -> Meaning {
    match name {
        b":method" => Meaning::Method,
        b":scheme" => Meaning::Scheme,
        b":authority" => Meaning::Authority,
        b":path" => Meaning::Path,
        [] | [b':', ..] => Meaning::Foreign,
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            Meaning::Forbidden
        }
        b"te" => Meaning::Te,
        b"content-length" => Meaning::ContentLength,
        name if !name.iter().all(|byte| is_token(*byte)) => Meaning::Forbidden,
        name => match words.iter().position(|word| word.as_bytes() == name) {
            Some(place) => u8::try_from(place).map_or(Meaning::Other, Meaning::Word),
            None => Meaning::Other,
        },
    }
}

/// Whether a name may contain it (RFC 9110 §5.6.2), which in HTTP/2 is never a capital.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a value may be that (RFC 9113 §8.2.1).
pub(super) fn is_value(value: &[u8]) -> bool {
    let has_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
        && !has_space(value.first())
        && !has_space(value.last())
}

/// An entry that the client made.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) meaning: Meaning,
    /// Name and value may be sent, and mean what they say.
    pub(super) valid: bool,
    pub(super) name: Bytes,
    pub(super) value: Bytes,
}

impl Entry {
    fn size(&self) -> usize {
        self.name.len() + self.value.len() + ENTRY_OVERHEAD
    }
}

/// The client's entries, the newest first.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

impl Table {
    pub(super) fn new(size_max: usize) -> Table {
        Table { entries: VecDeque::new(), size: 0, size_max }
    }

    /// The entry of an index behind the static table, 0 the newest.
    pub(super) fn get(&self, place: usize) -> Option<&Entry> {
        self.entries.get(place)
    }

    /// Makes an entry. One that is larger than the table empties it (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, entry: Entry) {
        let size = entry.size();
        self.evict(self.size_max.saturating_sub(size));
        if size <= self.size_max {
            self.size += size;
            self.entries.push_front(entry);
        }
        assert!(self.size <= self.size_max, "the table stays in its bound");
    }

    /// Sets the bound.
    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict(size_max);
    }

    fn evict(&mut self, size_max: usize) {
        while self.size > size_max {
            let Some(entry) = self.entries.pop_back() else { break };
            self.size -= entry.size();
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}
