//! Where everything is: the index of the log in memory.
//!
//! For every group the place of each retained entry (16 bytes each), the terms as runs, and where
//! its newest state record lies; for every segment how many bytes of it are still needed. The
//! writer changes it after the bytes are written, readers look places up in it.

use std::collections::{BTreeMap, VecDeque};

use raft::{GroupId, HardState, LogIndex, LogPosition, Term};

use super::format::Position;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub at: Position,
    /// Padding included.
    pub bytes: u32,
}

/// What the log holds of one group.
///
/// INVARIANT: `places[i]` is entry `truncated.index + 1 + i`. `terms` are ascending in both
/// parts, begin at `truncated.index + 1`, and are empty exactly if `places` is.
#[derive(Debug)]
pub(super) struct Group {
    pub hard_state: HardState,
    pub truncated: LogPosition,
    /// The newest state record; `None` before the first.
    pub state: Option<Place>,
    pub terms: VecDeque<(LogIndex, Term)>,
    pub places: VecDeque<Place>,
    /// No entry lies in an older segment. Spares the cleaner a look at every entry of the log.
    oldest_segment_bound: u64,
}

impl Group {
    pub(super) fn new() -> Self {
        Self {
            oldest_segment_bound: u64::MAX,
            hard_state: HardState::default(),
            truncated: LogPosition::ORIGIN,
            state: None,
            terms: VecDeque::new(),
            places: VecDeque::new(),
        }
    }

    pub(super) fn last_index(&self) -> LogIndex {
        self.truncated.index.plus(self.places.len() as u64)
    }

    /// The term of the entry at `index`, or of the position before the first.
    pub(super) fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        if index < self.truncated.index || index > self.last_index() {
            return None;
        }
        let after = self.terms.partition_point(|(first, _)| *first <= index);
        Some(self.terms[after - 1].1)
    }

    /// The oldest segment that an entry lies in.
    pub(super) fn oldest_segment(&mut self) -> Option<u64> {
        let places = self.places.iter().map(|place| place.at.segment);
        self.oldest_segment_bound = places.min().unwrap_or(u64::MAX);
        (!self.places.is_empty()).then_some(self.oldest_segment_bound)
    }

    /// Whether an entry may lie in `segment`, or older; exact if it says no.
    pub(super) fn may_reach_back_to(&self, segment: u64) -> bool {
        self.oldest_segment_bound <= segment
    }

    fn cut_suffix(&mut self, from: LogIndex, live: &mut Live) {
        assert!(from > self.truncated.index, "what is truncated is committed");
        while self.terms.back().is_some_and(|(first, _)| *first >= from) {
            self.terms.pop_back();
        }
        let kept = usize::try_from(from.0 - self.truncated.index.0 - 1).expect("in memory");
        for place in self.places.drain(kept..) {
            live.lose(place);
        }
    }

    pub(super) fn place(&self, index: LogIndex) -> Option<Place> {
        let nth = index.0.checked_sub(self.truncated.index.0 + 1)?;
        self.places.get(usize::try_from(nth).ok()?).copied()
    }
}

/// How many bytes of each segment are still needed.
#[derive(Debug, Default)]
struct Live {
    /// Of `bytes[0]`.
    first: u64,
    /// Consecutive segments; neither the first nor the last is 0.
    bytes: VecDeque<u64>,
}

impl Live {
    fn gain(&mut self, place: Place) {
        let segment = place.at.segment;
        if self.bytes.is_empty() {
            self.first = segment;
        }
        while segment < self.first {
            self.bytes.push_front(0);
            self.first -= 1;
        }
        let nth = usize::try_from(segment - self.first).expect("segments fit in memory");
        if nth >= self.bytes.len() {
            self.bytes.resize(nth + 1, 0);
        }
        self.bytes[nth] += u64::from(place.bytes);
    }

    fn lose(&mut self, place: Place) {
        let nth =
            place.at.segment.checked_sub(self.first).and_then(|nth| usize::try_from(nth).ok());
        let live = nth.and_then(|nth| self.bytes.get_mut(nth)).expect("what is lost was gained");
        *live = live.checked_sub(u64::from(place.bytes)).expect("and not twice");
        while self.bytes.front() == Some(&0) {
            self.bytes.pop_front();
            self.first += 1;
        }
        while self.bytes.back() == Some(&0) {
            self.bytes.pop_back();
        }
    }

    fn of(&self, segment: u64) -> u64 {
        let nth = segment.checked_sub(self.first).and_then(|nth| usize::try_from(nth).ok());
        nth.and_then(|nth| self.bytes.get(nth)).copied().unwrap_or(0)
    }
}

/// Groups and segments.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Boxed: the map's nodes have room for about twice what they hold.
    pub groups: BTreeMap<GroupId, Box<Group>>,
    live: Live,
}

impl Index {
    pub(super) fn live_bytes_of(&self, segment: u64) -> u64 {
        self.live.of(segment)
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live.bytes.iter().sum()
    }

    /// The oldest segment of which something is needed.
    pub(super) fn oldest_live_segment(&self) -> Option<u64> {
        (!self.live.bytes.is_empty()).then_some(self.live.first)
    }

    /// The group, made if need be.
    pub(super) fn group(&mut self, id: GroupId) -> &mut Group {
        self.groups.entry(id).or_insert_with(|| Box::new(Group::new()))
    }

    /// Appends an entry, after dropping whatever its group holds from its index on.
    ///
    /// # Panics
    /// If a gap would arise.
    pub(super) fn put_entry(&mut self, id: GroupId, position: LogPosition, place: Place) {
        self.live.gain(place);
        let group = self.groups.entry(id).or_insert_with(|| Box::new(Group::new()));
        if group.last_index() >= position.index {
            group.cut_suffix(position.index, &mut self.live);
        }
        assert_eq!(group.last_index().next(), position.index, "entries are consecutive");
        let before = group.terms.back().map_or(group.truncated.term, |(_, term)| *term);
        assert!(before <= position.term, "terms never fall along a log");
        if group.terms.is_empty() || before < position.term {
            push_tight(&mut group.terms, (position.index, position.term));
        }
        group.oldest_segment_bound = group.oldest_segment_bound.min(place.at.segment);
        push_tight(&mut group.places, place);
    }

    /// Sets hard state and truncation, as a record at `place` says.
    ///
    /// # Panics
    /// If the group is truncated beyond its last entry.
    pub(super) fn put_state(
        &mut self,
        id: GroupId,
        hard_state: HardState,
        truncated: LogPosition,
        place: Place,
    ) {
        self.live.gain(place);
        let group = self.groups.entry(id).or_insert_with(|| Box::new(Group::new()));
        group.hard_state = hard_state;
        if let Some(old) = group.state.replace(place) {
            self.live.lose(old);
        }
        let count = truncated.index.0.saturating_sub(group.truncated.index.0);
        assert!(count <= group.places.len() as u64, "only what is there is truncated");
        if count == 0 {
            return;
        }
        for place in group.places.drain(..usize::try_from(count).expect("in memory")) {
            self.live.lose(place);
        }
        let first = truncated.index.next();
        while group.terms.get(1).is_some_and(|(next, _)| *next <= first) {
            group.terms.pop_front();
        }
        if group.places.is_empty() {
            group.terms.clear();
        } else if let Some(run) = group.terms.front_mut() {
            run.0 = run.0.max(first);
        }
        group.truncated = truncated;
    }

    /// Drops all entries and sets hard state and the position before the next entry.
    pub(super) fn reset(
        &mut self,
        id: GroupId,
        hard_state: HardState,
        truncated: LogPosition,
        place: Place,
    ) {
        self.forget(id);
        self.live.gain(place);
        let group = self.group(id);
        group.hard_state = hard_state;
        group.truncated = truncated;
        group.state = Some(place);
    }

    /// Drops the group.
    pub(super) fn forget(&mut self, id: GroupId) {
        if let Some(group) = self.groups.remove(&id) {
            for place in group.places.into_iter().chain(group.state) {
                self.live.lose(place);
            }
        }
    }

    /// Notes that an entry, or (with `None`) the state record, was written again further on.
    pub(super) fn carry(&mut self, id: GroupId, index: Option<LogIndex>, place: Place) {
        self.live.gain(place);
        let group = self.group(id);
        let old = match index {
            None => group.state.replace(place),
            Some(index) => {
                let nth = index.0 - group.truncated.index.0 - 1;
                let slot = group.places.get_mut(usize::try_from(nth).expect("in memory"));
                slot.map(|slot| std::mem::replace(slot, place))
            }
        };
        self.live.lose(old.expect("only what is there is carried"));
    }
}

/// Most of very many groups hold one entry, with which their term began: room for no more than that.
fn push_tight<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.capacity() == 0 {
        queue.reserve_exact(1);
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(1);

    fn place(segment: u64) -> Place {
        Place { at: Position::start_of(segment), bytes: 8 }
    }

    fn index_with(entries: &[(u64, u64)]) -> Index {
        let mut index = Index::default();
        for &(nth, term) in entries {
            index.put_entry(GROUP, LogPosition::new(nth, term), place(nth));
        }
        index
    }

    fn runs(index: &Index) -> Vec<(u64, u64)> {
        index.groups[&GROUP].terms.iter().map(|(index, term)| (index.0, term.0)).collect()
    }

    #[test]
    fn terms_are_kept_as_runs_through_overwriting_and_truncation() {
        let mut index = index_with(&[(1, 1), (2, 1), (3, 2), (4, 2), (5, 4)]);
        assert_eq!(runs(&index), [(1, 1), (3, 2), (5, 4)]);
        index.put_entry(GROUP, LogPosition::new(4, 5), place(6));
        assert_eq!(runs(&index), [(1, 1), (3, 2), (4, 5)]);
        assert_eq!(index.groups[&GROUP].last_index(), LogIndex(4));
        index.put_state(GROUP, HardState::default(), LogPosition::new(1, 1), place(6));
        assert_eq!(runs(&index), [(2, 1), (3, 2), (4, 5)]);
        index.put_state(GROUP, HardState::default(), LogPosition::new(3, 2), place(7));
        assert_eq!(runs(&index), [(4, 5)]);
        assert_eq!(index.groups[&GROUP].term(LogIndex(3)), Some(Term(2)));
        assert_eq!(index.groups[&GROUP].term(LogIndex(4)), Some(Term(5)));
        assert_eq!(index.groups[&GROUP].term(LogIndex(5)), None);
        index.put_state(GROUP, HardState::default(), LogPosition::new(4, 5), place(7));
        assert_eq!(runs(&index), []);
    }

    #[test]
    fn live_bytes_are_what_is_reachable() {
        let mut index = index_with(&[(1, 1), (2, 1), (3, 1)]);
        assert_eq!(index.live_bytes(), 24);
        assert_eq!(index.oldest_live_segment(), Some(1));
        index.put_state(GROUP, HardState::default(), LogPosition::new(1, 1), place(4));
        assert_eq!((index.live_bytes(), index.oldest_live_segment()), (24, Some(2)));
        index.carry(GROUP, Some(LogIndex(2)), place(5));
        index.carry(GROUP, None, place(5));
        assert_eq!((index.live_bytes(), index.oldest_live_segment()), (24, Some(3)));
        assert_eq!(index.live_bytes_of(5), 16);
        index.reset(GROUP, HardState::default(), LogPosition::new(9, 3), place(6));
        assert_eq!((index.live_bytes(), index.oldest_live_segment()), (8, Some(6)));
        index.forget(GROUP);
        assert_eq!((index.live_bytes(), index.oldest_live_segment()), (0, None));
    }

    #[test]
    #[should_panic(expected = "entries are consecutive")]
    fn a_gap_is_a_bug() {
        index_with(&[(1, 1), (3, 1)]);
    }
}
