//! A process: the leader of its own transactions, and a replica of the others'.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::process::{Input, InputOf, NodeId, Now, Out, Process, RequestId};
use crate::protocol::Setup;
use crate::view::View;

/// A leader sends again what was not answered after this.
const PATIENCE: Duration = Duration::from_millis(40);
/// What a clock can tell apart.
const TICK: Duration = Duration::from_micros(1);

/// A timestamp, by the clock on the wall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub Duration);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ms", self.0.as_secs_f64() * 1e3)
    }
}

/// A transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txn {
    /// Its leader.
    pub leader: NodeId,
    /// Which of the leader's.
    pub number: u64,
}

impl fmt::Display for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}.{}", self.leader.0, self.number)
    }
}

/// What processes say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// Keep this.
    Accept {
        /// The transaction.
        txn: Txn,
        /// Its timestamp.
        stamp: Stamp,
        /// What it writes.
        value: u64,
    },
    /// I have it.
    Accepted(Txn),
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept { txn, stamp, value } => write!(f, "Accept {txn}: {value} at {stamp}"),
            Self::Accepted(txn) => write!(f, "Accepted {txn}"),
        }
    }
}

/// What a leader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The timestamp of this transaction to pass.
    CommitWait(u64),
    /// To send again.
    Again,
}

/// A transaction that a client asks for: it writes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Write(pub u64);

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write({})", self.0)
    }
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Committed(pub Stamp);

impl fmt::Display for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "committed at {}", self.0)
    }
}

/// What survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    /// Transactions led so far.
    pub led: u64,
    /// The last timestamp given.
    pub last: Stamp,
    /// What it holds, by timestamp.
    pub log: BTreeMap<(Stamp, Txn), u64>,
}

/// How the processes of a run are set up, and how they are broken.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Settings {
    n: usize,
    /// What clocks are believed to be wrong by at most: half the width of the interval.
    epsilon: Duration,
    no_wait: bool,
    wait_to_latest: bool,
    stamp_of_the_wall: bool,
}

impl Settings {
    pub(super) fn of(setup: &Setup) -> Self {
        let epsilon = Duration::from_micros(setup.knob("epsilon_us"));
        let understated = setup.broken("understated");
        Self {
            n: setup.n,
            epsilon: if understated { epsilon / 4 } else { epsilon },
            no_wait: setup.broken("no-wait"),
            wait_to_latest: setup.broken("wait-to-latest"),
            stamp_of_the_wall: setup.broken("stamp-of-the-wall"),
        }
    }
}

/// A transaction under way, at its leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    request: RequestId,
    stamp: Stamp,
    value: u64,
    accepted: BTreeSet<NodeId>,
    /// Whether its timestamp has passed.
    passed: bool,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    settings: Rc<Settings>,
    me: NodeId,
    pending: BTreeMap<u64, Pending>,
}

impl Replica {
    pub(super) fn new(settings: Rc<Settings>, me: NodeId) -> Self {
        Self { settings, me, pending: BTreeMap::new() }
    }

    /// How many transactions it has not answered.
    #[must_use]
    pub fn waits(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn view(&self) -> View {
        let state = |(number, pending): (&u64, &Pending)| {
            let (have, of) = (pending.accepted.len(), self.settings.n);
            let wait =
                if pending.passed { "its time has passed" } else { "its time has not passed" };
            format!("transaction {number}: {have} of {of} have it, {wait}")
        };
        let waits: Vec<String> = self.pending.iter().map(state).collect();
        let role = if waits.is_empty() { String::new() } else { waits.join("; ") };
        View { role, ..View::default() }
    }

    fn begin(&mut self, now: Now, id: RequestId, value: u64, out: &mut Out<'_, Self>) {
        let settings = &self.settings;
        let latest = now.wall + settings.epsilon;
        let wanted = if settings.stamp_of_the_wall { now.wall } else { latest };
        let stamp = Stamp(wanted.max(out.disk().last.0 + TICK));
        let number = out.disk().led + 1;
        let txn = Txn { leader: self.me, number };
        out.persist(|disk| {
            disk.led = number;
            disk.last = stamp;
            disk.log.insert((stamp, txn), value);
        });
        let accepted = BTreeSet::from([self.me]);
        let pending = Pending { request: id, stamp, value, accepted, passed: settings.no_wait };
        self.pending.insert(number, pending);
        // `earliest` must have passed the timestamp.
        let more = if settings.wait_to_latest { Duration::ZERO } else { settings.epsilon };
        let wait = (stamp.0 + more + TICK).saturating_sub(now.wall);
        out.set(Timer::CommitWait(number), wait);
        self.ask(number, out);
        out.set(Timer::Again, PATIENCE);
        self.answer(number, out);
    }

    /// Asks those that have not answered.
    fn ask(&self, number: u64, out: &mut Out<'_, Self>) {
        let Some(Pending { stamp, value, accepted, .. }) = self.pending.get(&number) else {
            return;
        };
        let txn = Txn { leader: self.me, number };
        let message = Message::Accept { txn, stamp: *stamp, value: *value };
        out.send_all(NodeId::all(self.settings.n).filter(|to| !accepted.contains(to)), &message);
    }

    /// Tells the client, if a majority has it and its time has passed.
    fn answer(&mut self, number: u64, out: &mut Out<'_, Self>) {
        let majority = self.settings.n / 2 + 1;
        let done = |it: &Pending| it.accepted.len() >= majority && it.passed;
        if self.pending.get(&number).is_some_and(done)
            && let Some(pending) = self.pending.remove(&number)
        {
            out.reply(pending.request, Committed(pending.stamp));
        }
    }
}

impl Process for Replica {
    type Message = Message;
    type Timer = Timer;
    type Request = Write;
    type Output = Committed;
    type Disk = Disk;

    fn step(&mut self, now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match input {
            // What it led is forgotten, and its clients were told nothing.
            Input::Start | Input::Restart => {}
            Input::Request { id, request: Write(value) } => self.begin(now, id, value, out),
            Input::Message { from, message: Message::Accept { txn, stamp, value } } => {
                out.persist(|disk| {
                    disk.log.insert((stamp, txn), value);
                });
                out.send(from, Message::Accepted(txn));
            }
            Input::Message { from, message: Message::Accepted(txn) } => {
                if let Some(pending) = self.pending.get_mut(&txn.number) {
                    pending.accepted.insert(from);
                }
                self.answer(txn.number, out);
            }
            Input::Timer(Timer::CommitWait(number)) => {
                if let Some(pending) = self.pending.get_mut(&number) {
                    pending.passed = true;
                }
                self.answer(number, out);
            }
            Input::Timer(Timer::Again) => {
                for number in self.pending.keys().copied().collect::<Vec<_>>() {
                    self.ask(number, out);
                }
                if !self.pending.is_empty() {
                    out.set(Timer::Again, PATIENCE);
                }
            }
        }
    }

    fn timer(timer: &Timer) -> String {
        match timer {
            Timer::CommitWait(transaction) => format!("commit wait of transaction {transaction}"),
            Timer::Again => "time to send again".to_owned(),
        }
    }

    fn kind(message: &Message) -> &'static str {
        match message {
            Message::Accept { .. } => "Accept",
            Message::Accepted(_) => "Accepted",
        }
    }
}
