//! Changes as events on the wire.
//!
//! An event in a `WatchResponse` is `0x5a`, its length, and the encoded `mvccpb.Event`. Encoded
//! events may be put one behind the other and behind the other fields of the answer, so they are
//! kept in that form from the start: whoever is told the same shares the same bytes.

use bytes::{BufMut, Bytes, BytesMut};
use mvcc::{Change, Commit, ReadError, Revision, View};
use prost::Message as _;
use proto::mvccpb::KeyValue;
use proto::mvccpb::event::EventType;
use proto::wire::Event;

use super::mutant::{self, Mutant};

/// Field 11, a message.
const TAG_EVENTS: u8 = 0x5a;

/// What of a change a watcher wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wants {
    pub(super) puts: bool,
    pub(super) deletions: bool,
    /// The version before, too.
    pub(super) previous: bool,
}

impl Wants {
    pub(super) fn sees(self, change: &Change) -> bool {
        let wanted = if change.record.is_some() { self.puts } else { self.deletions };
        wanted || mutant::on(Mutant::ForgetFilter)
    }
}

/// The events of one commit, each encoded at most once in each form.
pub(super) struct Encoder<'a> {
    commit: &'a Commit,
    view: &'a View,
    done: Vec<Done>,
}

#[derive(Clone, Default)]
struct Done {
    plain: Option<Bytes>,
    with_previous: Option<Bytes>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(commit: &'a Commit, view: &'a View) -> Self {
        Self { commit, view, done: vec![Done::default(); commit.changes.len()] }
    }

    /// The event of one change.
    pub(super) fn event(&mut self, at: usize, wants: Wants) -> Result<Bytes, ReadError> {
        let change = &self.commit.changes[at];
        let done = &mut self.done[at];
        if !wants.previous || is_creation(change) {
            let plain =
                done.plain.get_or_insert_with(|| encode(change, self.commit.revision, None));
            return Ok(plain.clone());
        }
        if let Some(event) = &done.with_previous {
            return Ok(event.clone());
        }
        let too_new = i64::from(mutant::on(Mutant::PreviousTooNew));
        let before = Revision(self.commit.revision.0 + too_new);
        let previous = self.view.previous(&change.key, before)?;
        let previous = previous.map(|record| record.encoded);
        let event = encode(change, self.commit.revision, previous);
        done.with_previous = Some(event.clone());
        Ok(event)
    }

    /// The events of several changes. With a single one, its bytes are shared with all others
    /// who want it.
    pub(super) fn events(&mut self, which: &[usize], wants: Wants) -> Result<Bytes, ReadError> {
        if let [only] = which {
            return self.event(*only, wants);
        }
        let mut all = BytesMut::new();
        for at in which {
            all.extend_from_slice(&self.event(*at, wants)?);
        }
        Ok(all.freeze())
    }
}

/// A key that did not exist before has no version before.
fn is_creation(change: &Change) -> bool {
    change.record.as_ref().is_some_and(|record| record.create_revision == record.mod_revision)
}

fn encode(change: &Change, revision: Revision, previous: Option<Bytes>) -> Bytes {
    let (kind, kv) = match &change.record {
        Some(record) => (EventType::Put, record.encoded.clone()),
        None => {
            let key = change.key.clone();
            let gone = KeyValue { key, mod_revision: revision.0, ..KeyValue::default() };
            (EventType::Delete, gone.encode_to_vec().into())
        }
    };
    let event = Event { r#type: kind.into(), kv: Some(kv), prev_kv: previous };
    let length = event.encoded_len();
    let mut bytes = BytesMut::with_capacity(1 + prost::length_delimiter_len(length) + length);
    bytes.put_u8(TAG_EVENTS);
    event.encode_length_delimited(&mut bytes).expect("the buffer has the size asked for");
    bytes.freeze()
}

/// Takes encoded events apart again: the length of each, tag included.
pub(super) fn lengths(mut events: &[u8]) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let (tag, rest) = events.split_first()?;
        assert_eq!(*tag, TAG_EVENTS, "events were encoded here");
        let length = prost::decode_length_delimiter(rest).expect("events were encoded here");
        let whole = 1 + prost::length_delimiter_len(length) + length;
        events = &events[whole..];
        Some(whole)
    })
}
