//! A request while it is being evaluated: three layers, looked at from above.
//!
//! ```text
//!     own writes      of this request, at the revision it will take
//!     overlay         proposals in flight, each at its revision        (leader only)
//!     view            the applied state
//! ```
//!
//! A read that needs no leader is a draft without an overlay that writes nothing. Inside a
//! transaction every operation sees what the ones before it did, as in etcd: after the first
//! write the draft's revision is the next one, and reads without a revision of their own look
//! there.
//!
//! A transaction may, in a few odd shapes (see [`crate::check`]), both put and delete a key.
//! The commit that comes out has the outcome, not the way to it: a key that was created and
//! deleted again is not in it, one deleted and created again is in it as both.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;
use mvcc::{Change, KeySpan, LeaseId, ReadError, Record, Revision, View};

use crate::effects::{NUMBERS_BYTES, change_bytes, row_bytes};
use crate::error::Error;
use crate::meta;
use crate::mutant::{self, Mutant};
use crate::overlay::Overlay;

/// A key's version in this request.
struct Own {
    /// The key was there before the request.
    existed: bool,
    record: Option<Record>,
}

/// See the module.
pub(crate) struct Draft<'a> {
    view: &'a View,
    overlay: Option<&'a Overlay>,
    /// The revision the request begins at.
    base: Revision,
    compacted: Revision,
    own: BTreeMap<Bytes, Own>,
    /// The keys changed, in order; those changed twice are here twice.
    order: Vec<Bytes>,
    rows: BTreeMap<Bytes, Option<Bytes>>,
    /// What its effects take, at most: what is written twice counts twice.
    bytes: usize,
    bytes_max: usize,
    patience: Option<&'a Patience>,
}

/// How many rows may be looked at where others wait meanwhile. Once it is over, whatever a draft
/// says is void.
#[derive(Debug)]
pub(crate) struct Patience {
    left: Cell<usize>,
    over: Cell<bool>,
}

impl Patience {
    pub(crate) fn new(rows: usize) -> Self {
        Self { left: Cell::new(rows), over: Cell::new(false) }
    }

    /// Whether there was more to look at.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    fn spend(&self, rows: usize) -> Result<(), Error> {
        match self.left.get().checked_sub(rows) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(self.end()),
        }
    }

    /// The error is for nobody to see.
    fn end(&self) -> Error {
        self.left.set(0);
        self.over.set(true);
        Error::RequestTooLarge
    }
}

/// What came out of a draft.
pub(crate) struct Written {
    /// The revision it takes, if it changes any key.
    pub(crate) revision: Option<Revision>,
    pub(crate) changes: Vec<Change>,
    pub(crate) versions: BTreeMap<Bytes, Option<Record>>,
    pub(crate) rows: BTreeMap<Bytes, Option<Bytes>>,
    /// What it takes as effects, at most.
    pub(crate) bytes: usize,
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Compacted { .. } => Self::Compacted,
            ReadError::Future { .. } => Self::FutureRev,
            ReadError::TooLong => Self::RequestTooLarge,
            ReadError::Engine(error) => Self::Storage(error.to_string()),
        }
    }
}

impl<'a> Draft<'a> {
    pub(crate) fn new(view: &'a View, overlay: Option<&'a Overlay>) -> Self {
        let in_flight = overlay.and_then(Overlay::revision);
        let compacting = overlay.and_then(Overlay::compacted);
        let base = in_flight.unwrap_or_else(|| view.revision());
        let compacted = compacting.unwrap_or(Revision(0)).max(view.compacted());
        assert!(base >= view.revision(), "what is applied has left the overlay");
        Self {
            view,
            overlay,
            base,
            compacted,
            own: BTreeMap::new(),
            order: Vec::new(),
            rows: BTreeMap::new(),
            bytes: NUMBERS_BYTES,
            bytes_max: usize::MAX,
            patience: None,
        }
    }

    /// The same, and it looks at no more rows than there is patience for.
    pub(crate) fn patient(self, patience: &'a Patience) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// The same, and its effects may take so many bytes.
    pub(crate) fn within(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// Bytes that its effects may still take.
    pub(crate) fn room(&self) -> Result<usize, Error> {
        if mutant::on(Mutant::EffectsUnbounded) {
            return Ok(usize::MAX);
        }
        self.bytes_max.checked_sub(self.bytes).ok_or(Error::RequestTooLarge)
    }

    /// The applied state.
    pub(crate) fn view(&self) -> &View {
        self.view
    }

    /// The revision before the request.
    pub(crate) fn base(&self) -> Revision {
        self.base
    }

    /// The revision that the request sees now: the next one once it has written.
    pub(crate) fn revision(&self) -> Revision {
        if self.order.is_empty() { self.base } else { self.base.next() }
    }

    /// The oldest revision that can be read; 0 if all can.
    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    /// The compact revision as etcd counts it: -1 before the first compaction, which may be
    /// one at 0.
    pub(crate) fn compact_mark(&self) -> Result<i64, Error> {
        if self.compacted.0 > 0 {
            return Ok(self.compacted.0);
        }
        Ok(if self.meta_get(meta::COMPACTED)?.is_some() { 0 } else { -1 })
    }

    /// The version of `key` at `at`, which is not compacted.
    pub(crate) fn get(&self, key: &[u8], at: Revision) -> Result<Option<Record>, Error> {
        if at > self.base
            && !mutant::on(Mutant::HideOwnWrites)
            && let Some(own) = self.own.get(key)
        {
            return Ok(own.record.clone());
        }
        if let Some(found) = self.overlay.and_then(|overlay| overlay.get(key, at))
            && !mutant::on(Mutant::IgnoreOverlay)
        {
            return Ok(found.cloned());
        }
        Ok(self.view.get(key, at.min(self.view.revision()))?)
    }

    /// The version of `key` as the request sees it now.
    pub(crate) fn latest(&self, key: &[u8]) -> Result<Option<Record>, Error> {
        self.get(key, self.revision())
    }

    /// The records of `span` at `at`, in key order.
    pub(crate) fn scan(&self, span: &KeySpan, at: Revision) -> Result<Scan<'_>, Error> {
        let mut lower = self.view.scan(span, at.min(self.view.revision()))?;
        if let Some(patience) = self.patience {
            // What has to be passed over to find what was there long ago is not known before.
            if at < self.view.revision() {
                return Err(patience.end());
            }
            lower.look_at(patience.left.get());
        }
        let upper = self.upper(span, at).peekable();
        Ok(Scan { lower, ahead: None, upper, patience: self.patience })
    }

    /// How many keys `span` has at `at`.
    pub(crate) fn count(&self, span: &KeySpan, at: Revision) -> Result<i64, Error> {
        if self.patience.is_some() && !mutant::on(Mutant::CountApplied) {
            return self.scan(span, at)?.try_fold(0, |count, record| record.map(|_| count + 1));
        }
        let applied = at.min(self.view.revision());
        let mut count = self.view.count(span, applied)?;
        for (key, record) in self.upper(span, at) {
            if mutant::on(Mutant::CountApplied) {
                break;
            }
            match (self.view.get(key, applied)?, record) {
                (None, Some(_)) => count += 1,
                (Some(_), None) => count -= 1,
                _ => {}
            }
        }
        i64::try_from(count).map_err(|_| Error::Storage("more keys than can be counted".into()))
    }

    /// Tells the view how many keys `span` has at `at`, if nothing lies above the view.
    pub(crate) fn remember_count(&self, span: KeySpan, at: Revision, count: u64) {
        if self.overlay.is_none() && self.own.is_empty() {
            self.view.remember_count(span, at, count);
        }
    }

    /// What lies above the view, in key order.
    fn upper<'s>(
        &'s self,
        span: &KeySpan,
        at: Revision,
    ) -> Box<dyn Iterator<Item = (&'s Bytes, Option<&'s Record>)> + 's> {
        if span.is_empty() {
            return Box::new(std::iter::empty());
        }
        let own = if at > self.base { Some(self.own_in(span)) } else { None };
        let own = own.into_iter().flatten().map(|(key, own)| (key, own.record.as_ref()));
        let overlay = self.overlay.map(|overlay| overlay.scan(span, at)).into_iter().flatten();
        Box::new(Merged { first: own.peekable(), second: overlay.peekable() })
    }

    fn own_in(&self, span: &KeySpan) -> btree_map::Range<'_, Bytes, Own> {
        let end = span.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.own.range::<[u8], _>((Bound::Included(&span.start[..]), end))
    }

    /// The value of a meta key.
    pub(crate) fn meta_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        if let Some(own) = self.rows.get(key) {
            return Ok(own.clone());
        }
        if let Some(found) = self.overlay.and_then(|overlay| overlay.meta_get(key)) {
            return Ok(found.cloned());
        }
        Ok(self.view.meta_get(key)?)
    }

    /// The meta rows whose key begins with `prefix`, in key order.
    pub(crate) fn meta_scan(&self, prefix: &[u8]) -> Result<BTreeMap<Bytes, Bytes>, Error> {
        self.meta_rows(prefix)?.collect()
    }

    /// The same, one by one.
    pub(crate) fn meta_rows(
        &self,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<(Bytes, Bytes), Error>>, Error> {
        let lower = Rows { rows: self.view.meta_scan(prefix)?, patience: self.patience };
        let mut lower = lower.peekable();
        let own = self.rows.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        let own = own.take_while(move |(key, _)| key.starts_with(prefix));
        let own = own.map(|(key, value)| (key, value.as_ref()));
        let overlay = self.overlay.into_iter().flat_map(move |overlay| overlay.meta_scan(prefix));
        let mut upper = Merged { first: own.peekable(), second: overlay.peekable() }.peekable();
        Ok(std::iter::from_fn(move || {
            loop {
                match (lower.peek(), upper.peek()) {
                    (Some(Ok((below, _))), Some((above, _))) if below == *above => {
                        lower.next();
                    }
                    (Some(Ok((below, _))), Some((above, _))) if below > *above => {}
                    (None, Some(_)) => {}
                    _ => return lower.next(),
                }
                if let Some((key, Some(value))) = upper.next() {
                    return Some(Ok((key.clone(), value.clone())));
                }
            }
        }))
    }

    /// Writes a version of `key`, whose version now is `previous`.
    pub(crate) fn put(
        &mut self,
        key: &Bytes,
        previous: Option<&Record>,
        value: &[u8],
        lease: Option<LeaseId>,
    ) {
        let revision = self.base.next();
        let create_revision = previous.map_or(revision, |previous| previous.create_revision);
        let version = previous.map_or(0, |previous| previous.version) + 1;
        let record = Record::new(key, create_revision, revision, version, value, lease);
        self.attach(key, previous.and_then(|previous| previous.lease), lease);
        self.change(key.clone(), previous.is_some(), Some(record));
    }

    /// What [`Draft::delete`] adds to the effects.
    pub(crate) fn deletion_bytes(key: &[u8], lease: Option<LeaseId>) -> usize {
        let detached = lease.map_or(0, |lease| row_bytes(&meta::attached(lease, key), None));
        change_bytes(key.len()) + detached
    }

    /// Deletes `record`, which is the version of its key now.
    pub(crate) fn delete(&mut self, record: &Record) {
        let key = record.key();
        if !mutant::on(Mutant::StayAttachedDeleted) {
            self.attach(&key, record.lease, None);
        }
        self.change(key, true, None);
    }

    fn change(&mut self, key: Bytes, existed: bool, record: Option<Record>) {
        let bytes = record.as_ref().map_or(key.len(), |record| record.encoded.len());
        self.bytes += change_bytes(bytes);
        self.order.push(key.clone());
        let existed = self.own.get(&key).map_or(existed, |own| own.existed);
        self.own.insert(key, Own { existed, record });
    }

    fn attach(&mut self, key: &[u8], from: Option<LeaseId>, to: Option<LeaseId>) {
        if from == to {
            return;
        }
        if let Some(lease) = from.filter(|_| to.is_none() || !mutant::on(Mutant::StayAttached)) {
            self.set(meta::attached(lease, key), None);
        }
        if let Some(lease) = to {
            self.set(meta::attached(lease, key), Some(Bytes::new()));
        }
    }

    /// Writes a meta row; `None` removes it.
    pub(crate) fn set(&mut self, key: Bytes, value: Option<Bytes>) {
        self.bytes += row_bytes(&key, value.as_deref());
        self.rows.insert(key, value);
    }

    /// Whether the request has written nothing.
    pub(crate) fn is_clean(&self) -> bool {
        self.order.is_empty() && self.rows.is_empty()
    }

    /// The outcome: every key once, at the place of its last change. Refused if its effects take
    /// more bytes than they may.
    pub(crate) fn finish(self) -> Result<Written, Error> {
        self.room()?;
        let changed = !self.order.is_empty() || mutant::on(Mutant::EmptyTakesRevision);
        let revision = changed.then(|| self.base.next());
        let mut changes = Vec::with_capacity(self.order.len());
        let mut seen = BTreeSet::new();
        for key in self.order.into_iter().rev() {
            if !seen.insert(key.clone()) {
                continue;
            }
            let own = &self.own[&key];
            match &own.record {
                None if !own.existed => {}
                record => {
                    let again = record.as_ref().is_some_and(|new| own.existed && new.version == 1);
                    changes.push(Change { key: key.clone(), record: record.clone() });
                    if again {
                        changes.push(Change { key, record: None });
                    }
                }
            }
        }
        changes.reverse();
        let versions = self.own.into_iter().map(|(key, own)| (key, own.record)).collect();
        Ok(Written { revision, changes, versions, rows: self.rows, bytes: self.bytes })
    }
}

/// Two sorted sequences as one; where both have a key, the first counts.
struct Merged<A: Iterator, B: Iterator> {
    first: Peekable<A>,
    second: Peekable<B>,
}

type Item<'a> = (&'a Bytes, Option<&'a Record>);

impl<'a, V: 'a, A, B> Iterator for Merged<A, B>
where
    A: Iterator<Item = (&'a Bytes, Option<&'a V>)>,
    B: Iterator<Item = (&'a Bytes, Option<&'a V>)>,
{
    type Item = (&'a Bytes, Option<&'a V>);

    fn next(&mut self) -> Option<Self::Item> {
        let Some((first, _)) = self.first.peek() else { return self.second.next() };
        match self.second.peek() {
            Some((second, _)) if second < first => self.second.next(),
            Some((second, _)) => {
                if first == second {
                    self.second.next();
                }
                self.first.next()
            }
            None => self.first.next(),
        }
    }
}

/// The meta rows of the view, as far as there is patience.
struct Rows<'a> {
    rows: mvcc::MetaScan<'a>,
    patience: Option<&'a Patience>,
}

impl Iterator for Rows<'_> {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(patience) = self.patience else {
            return self.rows.next().map(|row| row.map_err(Error::from));
        };
        self.rows.look_at(patience.left.get());
        let row = self.rows.next();
        patience.left.set(self.rows.left());
        if matches!(row, Some(Err(ReadError::TooLong))) {
            return Some(Err(patience.end()));
        }
        row.map(|row| row.map_err(Error::from))
    }
}

/// Records of a span in key order. See [`Draft::scan`].
pub(crate) struct Scan<'a> {
    lower: mvcc::Scan<'a>,
    /// A record of the view that was read and is still to come.
    ahead: Option<Record>,
    upper: Peekable<Box<dyn Iterator<Item = Item<'a>> + 'a>>,
    patience: Option<&'a Patience>,
}

impl Scan<'_> {
    /// The view's next record, as far as there is patience.
    fn next_lower(&mut self) -> Result<Option<Record>, Error> {
        let Some(patience) = self.patience else { return Ok(self.lower.next().transpose()?) };
        self.lower.look_at(patience.left.get());
        let record = self.lower.next().transpose();
        patience.left.set(self.lower.left());
        match record {
            Err(ReadError::TooLong) => Err(patience.end()),
            record => Ok(record?),
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Result<Record, Error>> {
        loop {
            let lower = match self.ahead.take() {
                Some(record) => Some(record),
                None => match self.next_lower() {
                    Ok(record) => record,
                    Err(error) => return Some(Err(error)),
                },
            };
            let Some((upper, _)) = self.upper.peek() else { return lower.map(Ok) };
            match lower {
                Some(lower) if lower.key() < *upper => return Some(Ok(lower)),
                Some(lower) if mutant::on(Mutant::ScanPastDeletion) && lower.key() == *upper => {
                    if let Some((_, None)) = self.upper.peek() {
                        self.upper.next();
                        return Some(Ok(lower));
                    }
                }
                Some(lower) if lower.key() > *upper => self.ahead = Some(lower),
                _ => {}
            }
            if let Some(Err(error)) = self.patience.map(|patience| patience.spend(1)) {
                return Some(Err(error));
            }
            if let Some((_, Some(record))) = self.upper.next() {
                return Some(Ok(record.clone()));
            }
        }
    }
}
