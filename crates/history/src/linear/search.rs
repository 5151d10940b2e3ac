//! The search itself.
//!
//! The history is a doubly linked list of invocations and returns in the order of time. Linearizing an operation lifts
//! its two entries out; taking it back lets them in again. The walk goes from the list's head: an invocation may be
//! linearized next; a return of an operation that is not linearized is a dead end.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use super::{Bounds, Exhausted, Failure, Model, Op, Verdict};
use crate::record::Time;

/// Operations shown of a failure, at most, before those that are not explained.
const SHOWN_MAX: usize = 12;

/// A state that a history can end in, and the unknown operations that took no effect on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configuration<S> {
    /// The state.
    pub(super) state: S,
    /// Operations of unknown outcome that may still take effect: their places in what was given, rising.
    pub(super) waiting: Vec<usize>,
}

/// An entry of the list. Entry 0 is the head.
#[derive(Debug, Clone, Copy)]
struct Entry {
    previous: usize,
    next: usize,
    /// The operation, as a place in `members`.
    op: usize,
    /// For an invocation the entry of its return, or of itself for an operation without one.
    partner: Option<usize>,
    is_return: bool,
}

const HEAD: usize = 0;

/// Configurations that were tried, by their hash: what is linearized, and the state.
type Tried<S> = HashMap<u64, Vec<(Box<[u64]>, S)>, BuildHasherDefault<Mixer>>;

/// A fast hash for what nobody chooses to our harm: multiply and rotate, a word at a time.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        // The table looks at the upper bits and at the lower ones.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.write_u64(word.try_into().map_or(0, u64::from_le_bytes));
        }
        for byte in words.remainder() {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

struct Search<'a, M: Model> {
    model: &'a M,
    ops: &'a [Op<M::Input, M::Output>],
    /// The operations searched, as places in `ops`, by invocation.
    members: Vec<usize>,
    /// How many of them are answered in the prefix looked at.
    answered: usize,
    list: Vec<Entry>,
    /// Bit by place in `members`.
    done: Vec<u64>,
    tried: Tried<M::State>,
    tried_bytes: usize,
    /// The order so far: invocation entries and the state before each.
    path: Vec<(usize, M::State)>,
    /// The longest order.
    longest: Vec<usize>,
    /// The states after its last operations.
    longest_states: Vec<M::State>,
    /// The last entry at which the search had to turn back.
    furthest: usize,
    /// Whether to look for all configurations, not for one.
    all: bool,
    found: Vec<Configuration<M::State>>,
}

/// Checks the operations of one part, given by their places in `ops`, from the model's initial state. What is used up
/// of the bound on steps is taken from `bounds`.
///
/// # Panics
/// If an operation is answered before it was invoked.
pub fn check_part<M: Model>(
    model: &M,
    ops: &[Op<M::Input, M::Output>],
    members: &[usize],
    bounds: &mut Bounds,
) -> Verdict {
    let moments = moments(ops, members);
    let run = |prefix: usize, bounds: &mut Bounds| {
        let mut search = Search::new(model, ops, &moments[..prefix]);
        search.run(model.init(), bounds).map(|found| (!found).then_some(search))
    };
    let mut evidence = match run(moments.len(), bounds) {
        Ok(None) => return Verdict::Linearizable,
        Ok(Some(search)) => search,
        Err(why) => return Verdict::Unknown(why),
    };
    // The shortest prefix that fails: that of `passes` moments does not, that of `fails` does. Everything before the
    // furthest return that the search came to was explained, and more often than not this return is the culprit. (Not
    // always: it was explained together with answers that a prefix does not know yet.)
    let (mut passes, mut fails) = (evidence.furthest.saturating_sub(1), moments.len());
    let mut stride = 1;
    while passes + 1 < fails {
        let middle = (passes + stride).min(fails - 1);
        match run(middle, bounds) {
            Ok(None) => (passes, stride) = (middle, stride * 2),
            Ok(Some(search)) => {
                (fails, stride) = (middle, (middle - passes).div_ceil(2).max(1));
                evidence = search;
            }
            // The failure is certain; only its place is not.
            Err(_) => break,
        }
    }
    Verdict::NotLinearizable(evidence.failure(&moments[..fails]))
}

/// All configurations that a history can end in, from one of several states. None means that there is no order.
///
/// # Errors
/// If the bounds are not enough, also for the number of configurations.
pub(super) fn configurations<M: Model>(
    model: &M,
    ops: &[Op<M::Input, M::Output>],
    members: &[usize],
    start: M::State,
    bounds: &mut Bounds,
) -> Result<Vec<Configuration<M::State>>, Exhausted> {
    let moments = moments(ops, members);
    let mut search = Search::new(model, ops, &moments);
    search.all = true;
    search.run(start, bounds)?;
    Ok(search.found)
}

/// An invocation or a return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    at: Time,
    /// At one moment invocations come first: what touches is concurrent.
    is_return: bool,
    op: usize,
}

fn moments<I, O>(ops: &[Op<I, O>], members: &[usize]) -> Vec<Moment> {
    let mut moments = Vec::with_capacity(members.len() * 2);
    for op in members.iter().copied() {
        moments.push(Moment { at: ops[op].invoked, is_return: false, op });
        if let Some((at, _)) = &ops[op].answered {
            assert!(*at >= ops[op].invoked, "operation {op} is answered before it was invoked");
            moments.push(Moment { at: *at, is_return: true, op });
        }
    }
    moments.sort();
    moments
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, ops: &'a [Op<M::Input, M::Output>], moments: &[Moment]) -> Self {
        let mut members = Vec::new();
        let mut list = vec![Entry { previous: 0, next: 0, op: 0, partner: None, is_return: false }];
        let mut invocation: HashMap<usize, usize> = HashMap::new();
        let mut answered = 0;
        for moment in moments {
            let entry = list.len();
            let mut new = Entry {
                previous: entry - 1,
                next: HEAD,
                op: members.len(),
                partner: None,
                is_return: moment.is_return,
            };
            if moment.is_return {
                let begun = invocation[&moment.op];
                new.op = list[begun].op;
                list[begun].partner = Some(entry);
                answered += 1;
            } else {
                invocation.insert(moment.op, entry);
                members.push(moment.op);
            }
            list[entry - 1].next = entry;
            list.push(new);
        }
        let words = members.len().div_ceil(64);
        Self {
            model,
            ops,
            members,
            answered,
            list,
            done: vec![0; words],
            tried: HashMap::default(),
            tried_bytes: 0,
            path: Vec::new(),
            longest: Vec::new(),
            longest_states: Vec::new(),
            furthest: HEAD,
            all: false,
            found: Vec::new(),
        }
    }

    /// Whether there is an order. With `all`, `found` has what can come out of it.
    fn run(&mut self, start: M::State, bounds: &mut Bounds) -> Result<bool, Exhausted> {
        let steps_max = bounds.steps_max;
        let mut state = start;
        let mut answered = 0;
        let mut at = HEAD;
        if self.answered == 0 {
            return Ok(self.arrive(&state) || self.all);
        }
        loop {
            at = self.list[at].next;
            let entry = self.list[at];
            if at != HEAD && !entry.is_return {
                bounds.steps_max =
                    bounds.steps_max.checked_sub(1).ok_or(Exhausted::Steps(steps_max))?;
                let Some(next) = self.step(&state, entry) else { continue };
                if self.is_idle(&state, entry, &next) {
                    continue;
                }
                self.mark(entry.op, true);
                if !self.is_new(&next, bounds)? {
                    self.mark(entry.op, false);
                    continue;
                }
                self.lift(at);
                answered += usize::from(entry.partner.is_some());
                self.path.push((at, std::mem::replace(&mut state, next)));
                if answered < self.answered {
                    at = HEAD;
                    continue;
                }
                if self.arrive(&state) {
                    return Ok(true);
                }
                // What still waits can as well take effect in what follows.
            }
            // A return that nothing explains, or the end of the list: back.
            self.furthest = self.furthest.max(at);
            self.remember(&state);
            let Some((last, before)) = self.path.pop() else { return Ok(!self.found.is_empty()) };
            state = before;
            answered -= usize::from(self.list[last].partner.is_some());
            self.mark(self.list[last].op, false);
            self.unlift(last);
            at = last;
        }
    }

    /// Whether an operation of unknown outcome would be linearized for nothing. This one, if the state stays as it is.
    /// The one before it, if this one gives the same state without it, or if this one was answered and it could as
    /// well come after it. (Only what was answered: of two that wait each would be put off for the other.) Left
    /// waiting it can do all that it could, so the way without it leads to everything that this way leads to, and is
    /// tried too.
    fn is_idle(&self, state: &M::State, entry: Entry, next: &M::State) -> bool {
        if entry.partner.is_none() && next == state {
            return true;
        }
        let Some((last, before)) = self.path.last() else { return false };
        let last = self.list[*last];
        if last.partner.is_some() {
            return false;
        }
        let Some(without) = self.step(before, entry) else { return false };
        without == *next
            || (entry.partner.is_some() && self.step(&without, last).as_ref() == Some(next))
    }

    /// All that returned is linearized. Whether that is enough.
    fn arrive(&mut self, state: &M::State) -> bool {
        if !self.all {
            return true;
        }
        let waits = |place: &usize| self.done[place / 64] & (1 << (place % 64)) == 0;
        let waiting = (0..self.members.len()).filter(waits).map(|place| self.members[place]);
        let mut waiting: Vec<usize> = waiting.collect();
        waiting.sort_unstable();
        self.found.push(Configuration { state: state.clone(), waiting });
        false
    }

    fn step(&self, state: &M::State, entry: Entry) -> Option<M::State> {
        let op = &self.ops[self.members[entry.op]];
        // In a prefix, what has not returned yet is unknown.
        let output = match (&op.answered, entry.partner) {
            (Some((_, output)), Some(_)) => Some(output),
            _ => None,
        };
        self.model.step(state, &op.input, output)
    }

    fn mark(&mut self, place: usize, done: bool) {
        let bit = 1 << (place % 64);
        if done {
            self.done[place / 64] |= bit;
        } else {
            self.done[place / 64] &= !bit;
        }
    }

    /// Whether this configuration was not tried before; remembers it.
    fn is_new(&mut self, state: &M::State, bounds: &Bounds) -> Result<bool, Exhausted> {
        let hash = self.tried.hasher().hash_one((&self.done, state));
        let same = self.tried.entry(hash).or_default();
        if same.iter().any(|(done, old)| done[..] == self.done[..] && old == state) {
            return Ok(false);
        }
        same.push((self.done.clone().into(), state.clone()));
        self.tried_bytes += std::mem::size_of::<(u64, Vec<()>, Box<[u64]>, M::State)>()
            + self.done.len() * 8
            + self.model.heap_bytes(state);
        if self.tried_bytes > bounds.memory_bytes_max {
            return Err(Exhausted::Memory(bounds.memory_bytes_max));
        }
        Ok(true)
    }

    fn remember(&mut self, state: &M::State) {
        if self.all || self.path.len() <= self.longest.len() {
            return;
        }
        let order = self.path.iter().map(|(entry, _)| self.members[self.list[*entry].op]);
        self.longest = order.collect();
        let after = self.path.iter().skip(1).map(|(_, state)| state).chain([state]);
        let hidden = self.path.len().saturating_sub(SHOWN_MAX);
        self.longest_states = after.skip(hidden).cloned().collect();
    }

    fn lift(&mut self, entry: usize) {
        self.unlink(entry);
        if let Some(partner) = self.list[entry].partner {
            self.unlink(partner);
        }
    }

    fn unlift(&mut self, entry: usize) {
        if let Some(partner) = self.list[entry].partner {
            self.link(partner);
        }
        self.link(entry);
    }

    fn unlink(&mut self, entry: usize) {
        let Entry { previous, next, .. } = self.list[entry];
        self.list[previous].next = next;
        // The end of the list points to the head, whose `previous` nobody reads.
        self.list[next].previous = previous;
    }

    fn link(&mut self, entry: usize) {
        let Entry { previous, next, .. } = self.list[entry];
        self.list[previous].next = entry;
        self.list[next].previous = entry;
    }

    fn failure(&self, moments: &[Moment]) -> Failure {
        let words = |op: usize| {
            let Op { invoked, input, answered } = &self.ops[op];
            match answered {
                Some((at, output)) => format!("{invoked} .. {at}: {input:?} -> {output:?}"),
                None => format!("{invoked} .. : {input:?} -> unknown"),
            }
        };
        let shown = &self.longest[self.longest.len().saturating_sub(SHOWN_MAX)..];
        let explanation = shown
            .iter()
            .zip(&self.longest_states)
            .map(|(op, state)| (*op, format!("{}; then {state:?}", words(*op))))
            .collect();
        let explained: std::collections::BTreeSet<usize> = self.longest.iter().copied().collect();
        let open = self.members.iter().filter(|op| !explained.contains(op));
        Failure {
            part: String::new(),
            invoked: moments.iter().filter(|moment| !moment.is_return).count(),
            culprit: moments.last().map_or(0, |moment| moment.op),
            window: open.map(|op| (*op, words(*op))).collect(),
            explained: explanation,
        }
    }
}
