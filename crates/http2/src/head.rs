//! The head of a request, and the rules for it (RFC 9113 §8.3).
//!
//! `:authority` is taken as it comes, whatever it is: clients of etcd 3.4 put a whole URL there,
//! and nothing here is decided by it.

use bytes::Bytes;

use crate::config::WORDS_MAX;
use crate::hpack::{Meaning, Text};

/// A request's method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// Another.
    Other(Bytes),
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct Head {
    /// What is to be done.
    pub method: Method,
    /// With what: path and query.
    pub path: Bytes,
    /// The host, in whatever form the client writes it.
    pub authority: Option<Bytes>,
    /// The headers that the caller wants to find by place.
    words: [Option<Bytes>; WORDS_MAX],
    /// All other headers, in their order, if they are kept.
    pub others: Vec<(Bytes, Bytes)>,
}

impl Head {
    /// The value of the header with this place in the setting `words`. If a request has it more
    /// than once, the first.
    #[must_use]
    pub fn word(&self, place: usize) -> Option<&Bytes> {
        self.words.get(place)?.as_ref()
    }

    /// The value of a header that is not in the setting `words`.
    #[must_use]
    pub fn other(&self, name: &[u8]) -> Option<&Bytes> {
        self.others.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }
}

/// A head while it is decoded.
#[derive(Debug)]
pub(crate) struct Draft {
    method: Option<Method>,
    path: Option<Bytes>,
    authority: Option<Bytes>,
    has_scheme: bool,
    words: [Option<Bytes>; WORDS_MAX],
    others: Vec<(Bytes, Bytes)>,
    content_length: Option<u64>,
    /// A field that is not a pseudo-header has come.
    in_fields: bool,
    is_malformed: bool,
    keep_others: bool,
    bytes: usize,
    bytes_max: usize,
}

/// What came of a draft.
pub(crate) enum Outcome {
    Request {
        head: Box<Head>,
        content_length: Option<u64>,
    },
    /// The request breaks the rules.
    Malformed,
    /// The request has more headers than is allowed.
    TooLarge,
}

impl Draft {
    pub(crate) fn new(bytes_max: usize, keep_others: bool) -> Draft {
        Draft {
            method: None,
            path: None,
            authority: None,
            has_scheme: false,
            words: [const { None }; WORDS_MAX],
            others: Vec::new(),
            content_length: None,
            in_fields: false,
            is_malformed: false,
            keep_others,
            bytes: 0,
            bytes_max,
        }
    }

    /// Takes a field of the block.
    pub(crate) fn field(
        &mut self,
        meaning: Meaning,
        valid: bool,
        size: usize,
        name: Text<'_>,
        value: Text<'_>,
    ) {
        self.bytes += size;
        if self.bytes > self.bytes_max {
            return;
        }
        let is_pseudo = matches!(
            meaning,
            Meaning::Method
                | Meaning::Scheme
                | Meaning::Authority
                | Meaning::Path
                | Meaning::Foreign
        );
        self.is_malformed |= !valid || (is_pseudo && self.in_fields);
        self.in_fields |= !is_pseudo;
        match meaning {
            Meaning::Method => {
                let method = match &value[..] {
                    b"POST" => Method::Post,
                    b"GET" => Method::Get,
                    _ => Method::Other(value.into_bytes()),
                };
                self.is_malformed |= self.method.replace(method).is_some();
            }
            Meaning::Path => {
                self.is_malformed |=
                    value.is_empty() || self.path.replace(value.into_bytes()).is_some();
            }
            Meaning::Scheme => self.is_malformed |= std::mem::replace(&mut self.has_scheme, true),
            Meaning::Authority => {
                self.is_malformed |= self.authority.replace(value.into_bytes()).is_some();
            }
            Meaning::Foreign | Meaning::Forbidden => self.is_malformed = true,
            Meaning::Te => self.is_malformed |= &value[..] != b"trailers",
            Meaning::ContentLength => {
                let is_number = value.iter().all(u8::is_ascii_digit);
                let text = std::str::from_utf8(&value).ok().filter(|_| is_number);
                let length = text.and_then(|text| text.parse().ok());
                self.is_malformed |= length.is_none()
                    || self.content_length.is_some_and(|before| Some(before) != length);
                self.content_length = length;
            }
            Meaning::Word(place) => {
                let word = &mut self.words[usize::from(place)];
                if word.is_none() {
                    *word = Some(value.into_bytes());
                }
            }
            Meaning::Other => {
                if self.keep_others {
                    self.others.push((name.into_bytes(), value.into_bytes()));
                }
            }
        }
    }

    /// The head, once the block has ended.
    pub(crate) fn finish(self) -> Outcome {
        if self.bytes > self.bytes_max {
            return Outcome::TooLarge;
        }
        let (Some(method), Some(path), true, false) =
            (self.method, self.path, self.has_scheme, self.is_malformed)
        else {
            return Outcome::Malformed;
        };
        let Draft { authority, words, others, content_length, .. } = self;
        let head = Box::new(Head { method, path, authority, words, others });
        Outcome::Request { head, content_length }
    }

    /// Whether these can be trailers: they have no pseudo-headers.
    pub(crate) fn is_trailers(&self) -> bool {
        let has_pseudo = self.method.is_some()
            || self.path.is_some()
            || self.authority.is_some()
            || self.has_scheme;
        !has_pseudo && !self.is_malformed
    }
}
