//! What the log promises, checked against a model that keeps everything in maps.

mod behaviour;
mod crash;
mod damage;
mod mutants;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use bytes::Bytes;
use env::{SimDisk, SplitMix64};
use raft::{
    Binding, Entry, Epoch, GroupId, HardState, LogIndex, LogPosition, MembershipChange,
    MembershipStep, Payload, ReplicaId, Term,
};

use super::{GroupWrite, Log, OpenError, Options, Recovered};

const DIR: &str = "/log";

/// Segments so small that a few entries fill one.
fn small() -> Options {
    Options {
        log_id: 0xfeed,
        segment_bytes: 4096,
        headroom_bytes: 1024,
        segments_min: 3,
        spares_max: 1,
        step_bytes: 1024,
    }
}

fn open(disk: &SimDisk) -> Result<(Log<SimDisk>, Recovered), OpenError> {
    Log::open(disk.clone(), Path::new(DIR), small())
}

fn data(index: u64, term: u64, bytes: usize) -> Entry {
    let fill = u8::try_from((index * 31 + term * 7) % 251).unwrap();
    let payload = Payload::Data(Bytes::from(vec![fill; bytes]));
    Entry { index: LogIndex(index), term: Term(term), payload }
}

fn write(group: u64, entries: Vec<Entry>) -> GroupWrite {
    GroupWrite { entries, ..GroupWrite::new(GroupId(group)) }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    // Every third is bound, so that both sizes are written, cleaned and recovered.
    let leader = ReplicaId::new(vote).filter(|_| term.is_multiple_of(3));
    let binding = leader.map(|leader| Binding { leader, epoch: Epoch(commit) });
    HardState { term: Term(term), vote: ReplicaId::new(vote), commit: LogIndex(commit), binding }
}

/// What the log should hold of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ModelGroup {
    hard_state: HardState,
    truncated: LogPosition,
    entries: Vec<Entry>,
}

impl ModelGroup {
    fn last(&self) -> LogPosition {
        self.entries.last().map_or(self.truncated, Entry::position)
    }

    fn position(&self, index: LogIndex) -> LogPosition {
        let of_entry = self.entries.iter().find(|entry| entry.index == index);
        of_entry.map_or(self.truncated, Entry::position)
    }
}

/// What the log should hold.
#[derive(Clone, Default, PartialEq, Eq)]
struct Model(BTreeMap<GroupId, ModelGroup>);

/// Without payloads, which would fill pages.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, group) in &self.0 {
            let HardState { term, vote, commit, binding } = group.hard_state;
            write!(
                f,
                "[{} state ({term} {vote:?} {commit} {binding:?}) after {}:",
                id.0, group.truncated
            )?;
            for entry in &group.entries {
                write!(f, " {}", entry.position())?;
            }
            write!(f, "]")?;
        }
        Ok(())
    }
}

impl Model {
    fn apply(&mut self, writes: &[GroupWrite]) {
        for write in writes {
            if write.forget {
                self.0.remove(&write.group);
            }
            let something = write.reset.is_some()
                || !write.entries.is_empty()
                || write.hard_state.is_some()
                || write.truncate_to.is_some_and(|to| to != LogPosition::ORIGIN);
            if !something {
                continue;
            }
            let group = self.0.entry(write.group).or_default();
            if let Some(position) = write.reset {
                group.truncated = position;
                group.entries.clear();
            }
            if let Some(first) = write.entries.first() {
                group.entries.retain(|entry| entry.index < first.index);
                group.entries.extend(write.entries.iter().cloned());
            }
            if let Some(hard_state) = write.hard_state {
                group.hard_state = hard_state;
            }
            if let Some(to) = write.truncate_to.filter(|to| to.index > group.truncated.index) {
                group.entries.retain(|entry| entry.index > to.index);
                group.truncated = to;
            }
        }
    }
}

/// What the log says it holds, entries read one way, states another.
fn observe(log: &Log<SimDisk>) -> Model {
    let reader = log.reader();
    let groups = log.recovered_groups().into_iter().map(|(id, group)| {
        let first = group.truncated.index.next();
        let entries = if group.last_index < first {
            Vec::new()
        } else {
            reader.entries(id, first, group.last_index, usize::MAX).unwrap()
        };
        let mut runs: Vec<(LogIndex, Term)> = Vec::new();
        for entry in &entries {
            if runs.last().is_none_or(|(_, term)| *term < entry.term) {
                runs.push((entry.index, entry.term));
            }
        }
        assert_eq!(runs, group.terms, "the terms are those of the entries");
        let hard_state = group.hard_state;
        (id, ModelGroup { hard_state, truncated: group.truncated, entries })
    });
    Model(groups.collect())
}

/// Draws writes that make sense after what the model holds.
fn draw(random: &mut SplitMix64, model: &Model) -> Vec<GroupWrite> {
    let mut model = model.clone();
    let mut writes = Vec::new();
    for _ in 0..=random.below(3) {
        let id = GroupId(1 + random.below(4));
        let group = model.0.get(&id).cloned().unwrap_or_default();
        let write = draw_one(random, id, &group);
        model.apply(std::slice::from_ref(&write));
        writes.push(write);
    }
    writes
}

fn draw_one(random: &mut SplitMix64, id: GroupId, group: &ModelGroup) -> GroupWrite {
    let mut write = GroupWrite::new(id);
    let last = group.last();
    match random.below(20) {
        0 => write.forget = true,
        1 => write.reset = Some(LogPosition::new(last.index.0 + 5, last.term.0 + 1)),
        2..=5 => {
            let index = LogIndex(last.index.0 - random.below(1 + group.entries.len() as u64));
            write.truncate_to = Some(group.position(index));
        }
        _ => {}
    }
    if write.forget || random.chance(1, 6) {
        return write;
    }
    let start = write.reset.unwrap_or(last);
    let kept = write.truncate_to.unwrap_or(start).index.0.max(group.truncated.index.0);
    let (mut next, mut term) = (start.index.0 + 1, start.term.0.max(1));
    if random.chance(1, 4) && start.index.0 > kept {
        next -= 1 + random.below((start.index.0 - kept).min(4));
        term += 1;
    }
    for _ in 0..random.below(5) {
        term += u64::from(random.chance(1, 8));
        let bytes = usize::try_from(random.below(400)).unwrap();
        let mut entry = data(next, term, bytes);
        if random.chance(1, 16) {
            entry.payload = Payload::Empty;
        } else if random.chance(1, 16) {
            let step = MembershipStep::AddVoter(ReplicaId::new(next).unwrap());
            entry.payload = Payload::membership(MembershipChange::of([step]));
        }
        write.entries.push(entry);
        next += 1;
    }
    if random.chance(1, 3) {
        write.hard_state = Some(hard_state(term, random.below(4), start.index.0));
    }
    write
}
