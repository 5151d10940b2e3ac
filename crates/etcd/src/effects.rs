//! What goes into the log: not the request, but what it does.
//!
//! Every member decodes the same bytes and does the same thing; nobody evaluates anything but
//! the leader that proposed. The encoding is protobuf (derived, no `.proto` file: no other
//! program reads it), so that later versions can add to it.
//!
//! ```text
//! 1 term       the term of the leader that evaluated; an entry of another term does nothing
//! 2 revision   the revision it takes; absent if no key changes
//! 3 changes    in order: 1 the encoded version, or 2 the key deleted
//! 4 rows       of the meta table: 1 key, 2 value; absent if the row is removed
//! 5 compact    the compact revision it sets
//! ```

use std::sync::Arc;

use bytes::Bytes;
use mvcc::{Batch, Change, Commit, Record, Revision};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

/// Why an entry cannot be applied. It was proposed by something else than this crate, or
/// damaged on its way: the member must stop, and no retry helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedEffects {
    /// It is not an encoding of effects.
    #[error("effects: {0}")]
    Encoding(String),
    /// A later version of this program wrote them.
    #[error(
        "effects: format {found}, and {known} is the newest known: this member is to be upgraded"
    )]
    Newer {
        /// The format found.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// A change is neither a version nor a key, or of another revision than the entry's.
    #[error("effects: a change that is none")]
    Change,
    /// The revision is not the one after the newest.
    #[error("effects: revision {found} after {newest}")]
    Revision {
        /// The newest revision applied.
        newest: Revision,
        /// The one in the entry.
        found: Revision,
    },
    /// It compacts what has not happened.
    #[error("effects: compaction at {found}, the newest revision is {newest}")]
    Compaction {
        /// The newest revision applied.
        newest: Revision,
        /// The one in the entry.
        found: Revision,
    },
}

#[derive(Clone, PartialEq, Message)]
struct ChangeMessage {
    #[prost(bytes = "bytes", tag = "1")]
    version: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    deleted: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RowMessage {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    value: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct EffectsMessage {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(int64, optional, tag = "2")]
    revision: Option<i64>,
    #[prost(message, repeated, tag = "3")]
    changes: Vec<ChangeMessage>,
    #[prost(message, repeated, tag = "4")]
    rows: Vec<RowMessage>,
    #[prost(int64, optional, tag = "5")]
    compact: Option<i64>,
    /// What it takes to understand them; see [`FORMAT`].
    #[prost(uint32, tag = "6")]
    format: u32,
}

/// The format of effects. Who adds something to them that must not be left out raises it, and has effects that hold
/// it say so: a member of an earlier version stops there, and does not apply a part.
const FORMAT: u32 = 0;

/// What effects take beside their changes and rows, at most: three numbers.
pub(crate) const NUMBERS_BYTES: usize = 3 * 11;

/// What a change takes: `bytes` is the length of the version, or of the key deleted.
pub(crate) fn change_bytes(bytes: usize) -> usize {
    field_bytes(field_bytes(bytes))
}

/// What a row takes, at most.
pub(crate) fn row_bytes(key: &[u8], value: Option<&[u8]>) -> usize {
    field_bytes(field_bytes(key.len()) + value.map_or(0, |value| field_bytes(value.len())))
}

/// A tag, a length, and so many bytes.
fn field_bytes(bytes: usize) -> usize {
    1 + prost::length_delimiter_len(bytes) + bytes
}

/// Whether effects hold more than so many changes and rows. Looks at no more of them than that; of
/// what is malformed it says anything.
pub(crate) fn is_longer(effects: &Bytes, changes: usize) -> bool {
    // A change takes a tag, a length, and at least a tag and a length within.
    let mut rest = &effects[..];
    if rest.len() / 4 <= changes {
        return false;
    }
    let mut found = 0;
    while !rest.is_empty() && found <= changes {
        let Ok((tag, wire)) = decode_key(&mut rest) else { return false };
        found += usize::from(wire == WireType::LengthDelimited);
        if skip_field(wire, tag, &mut rest, DecodeContext::default()).is_err() {
            return false;
        }
    }
    found > changes
}

/// The effects of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) term: u64,
    pub(crate) commit: Option<Commit>,
    pub(crate) rows: Vec<(Bytes, Option<Bytes>)>,
    pub(crate) compact: Option<Revision>,
}

impl Effects {
    pub(crate) fn encode(self) -> Bytes {
        let revision = self.commit.as_ref().map(|commit| commit.revision.0);
        let changes = self.commit.into_iter().flat_map(|commit| commit.changes);
        let message = EffectsMessage {
            term: self.term,
            revision,
            changes: changes.map(ChangeMessage::from).collect(),
            rows: self.rows.into_iter().map(|(key, value)| RowMessage { key, value }).collect(),
            compact: self.compact.map(|revision| revision.0),
            format: FORMAT,
        };
        message.encode_to_vec().into()
    }

    /// Reads effects; keys and versions share the buffer.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, MalformedEffects> {
        let message = EffectsMessage::decode(bytes.clone())
            .map_err(|error| MalformedEffects::Encoding(error.to_string()))?;
        if message.format > FORMAT {
            return Err(MalformedEffects::Newer { found: message.format, known: FORMAT });
        }
        let mut changes = Vec::with_capacity(message.changes.len());
        for change in message.changes {
            changes.push(Change::try_from(change)?);
        }
        let commit = message.revision.map(|revision| Commit {
            revision: Revision(revision),
            changes: std::mem::take(&mut changes),
        });
        if !changes.is_empty() {
            return Err(MalformedEffects::Change);
        }
        Ok(Self {
            term: message.term,
            commit,
            rows: message.rows.into_iter().map(|row| (row.key, row.value)).collect(),
            compact: message.compact.map(Revision),
        })
    }

    /// Whether they fit on a state at `newest`.
    pub(crate) fn check(&self, newest: Revision) -> Result<(), MalformedEffects> {
        let mut reached = newest;
        if let Some(commit) = &self.commit {
            reached = commit.revision;
            if reached != newest.next() {
                return Err(MalformedEffects::Revision { newest, found: reached });
            }
            let mut records = commit.changes.iter().filter_map(|change| change.record.as_ref());
            if records.any(|record| record.mod_revision != reached) {
                return Err(MalformedEffects::Change);
            }
        }
        match self.compact {
            Some(found) if found > reached => Err(MalformedEffects::Compaction { newest, found }),
            _ => Ok(()),
        }
    }

    /// The batch of the entry at `index`.
    pub(crate) fn into_batch(self, index: u64, term: u64) -> Batch {
        Batch {
            index,
            term,
            commit: self.commit.map(Arc::new),
            meta: self.rows,
            compact: self.compact,
        }
    }
}

impl From<Change> for ChangeMessage {
    fn from(change: Change) -> Self {
        match change.record {
            Some(record) => Self { version: record.encoded, deleted: Bytes::new() },
            None => Self { version: Bytes::new(), deleted: change.key },
        }
    }
}

impl TryFrom<ChangeMessage> for Change {
    type Error = MalformedEffects;

    fn try_from(change: ChangeMessage) -> Result<Self, MalformedEffects> {
        match (change.version.is_empty(), change.deleted.is_empty()) {
            (false, true) => {
                let record =
                    Record::decode(change.version).map_err(|_| MalformedEffects::Change)?;
                Ok(Self { key: record.key(), record: Some(record) })
            }
            (true, false) => Ok(Self { key: change.deleted, record: None }),
            _ => Err(MalformedEffects::Change),
        }
    }
}

#[cfg(test)]
mod tests {
    use mvcc::LeaseId;

    use super::*;

    fn effects() -> Effects {
        let record = Record::new(b"a", Revision(5), Revision(7), 3, b"value", Some(LeaseId(-1)));
        let changes = vec![
            Change { key: Bytes::from_static(b"a"), record: Some(record) },
            Change { key: Bytes::from_static(b"b"), record: None },
        ];
        Effects {
            term: 9,
            commit: Some(Commit { revision: Revision(7), changes }),
            rows: vec![
                (Bytes::from_static(b"x"), None),
                (Bytes::from_static(b"y"), Some(Bytes::new())),
            ],
            compact: Some(Revision(0)),
        }
    }

    #[test]
    fn what_is_proposed_is_what_is_applied() {
        let effects = effects();
        assert_eq!(Effects::decode(&effects.clone().encode()).unwrap(), effects);
        let nothing = Effects { term: 0, commit: None, rows: vec![], compact: None };
        assert_eq!(Effects::decode(&nothing.clone().encode()).unwrap(), nothing);
        let empty =
            Effects { commit: Some(Commit { revision: Revision(2), changes: vec![] }), ..nothing };
        assert_eq!(Effects::decode(&empty.clone().encode()).unwrap(), empty);
    }

    #[test]
    fn effects_of_a_later_format_are_not_applied_in_part() {
        let bytes = effects().encode();
        let mut message = EffectsMessage::decode(bytes).unwrap();
        message.format = FORMAT + 1;
        let found = Effects::decode(&message.encode_to_vec().into());
        assert_eq!(found, Err(MalformedEffects::Newer { found: FORMAT + 1, known: FORMAT }));
    }

    #[test]
    fn damage_is_told_not_applied() {
        let bytes = effects().encode();
        for end in 0..bytes.len() {
            if let Ok(cut) = Effects::decode(&bytes.slice(..end)) {
                assert_ne!(cut, effects());
            }
        }
        let neither = EffectsMessage {
            revision: Some(2),
            changes: vec![ChangeMessage::default()],
            ..Default::default()
        };
        let neither = Bytes::from(neither.encode_to_vec());
        assert_eq!(Effects::decode(&neither), Err(MalformedEffects::Change));
        let homeless = EffectsMessage {
            changes: vec![ChangeMessage { deleted: "k".into(), ..Default::default() }],
            ..Default::default()
        };
        let homeless = Bytes::from(homeless.encode_to_vec());
        assert_eq!(Effects::decode(&homeless), Err(MalformedEffects::Change));
    }

    #[test]
    fn no_byte_makes_it_panic() {
        let whole = effects().encode();
        let mut refused = 0;
        for position in 0..whole.len() {
            for value in 0..=u8::MAX {
                let mut bytes = whole.to_vec();
                bytes[position] = value;
                let decoded = Effects::decode(&bytes.into());
                refused +=
                    usize::from(decoded.and_then(|effects| effects.check(Revision(6))).is_err());
            }
        }
        assert!(refused > whole.len() * 100, "{refused}");
    }

    #[test]
    fn effects_fit_one_place_only() {
        let newest = |revision| effects().check(Revision(revision));
        assert_eq!(newest(6), Ok(()));
        assert!(matches!(newest(5), Err(MalformedEffects::Revision { .. })));
        assert!(matches!(newest(7), Err(MalformedEffects::Revision { .. })));
        let early = Effects { compact: Some(Revision(8)), ..effects() };
        assert!(matches!(early.check(Revision(6)), Err(MalformedEffects::Compaction { .. })));
    }
}
