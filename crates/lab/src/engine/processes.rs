//! What belongs to a process and is not its own: timers, clocks, what waits for it, and the messages that leave it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lies::Tongue;
use super::network::Flying;
use super::{Due, Key, Lost, Message, Occurred, Request, Timer, World};
use crate::dice::Dice;
use crate::process::{Input, InputOf, NodeId, Now, Process, RequestId};
use crate::protocol::Protocol;

/// What waits for a paused process.
#[derive(Debug)]
pub(super) enum Waiting<P: Protocol> {
    Message(u64),
    Timer { timer: Timer<P>, depth: u64 },
    Request { id: RequestId, request: Request<P> },
}

/// What belongs to a process and is not its own.
#[derive(Debug)]
pub(super) struct Body<P: Protocol> {
    pub(super) dice: Dice,
    pub(super) timers: BTreeMap<Timer<P>, Key>,
    pub(super) waiting: Vec<Waiting<P>>,
    pub(super) tongue: Tongue<P>,
    clock: Clock,
}

/// A clock that runs too fast or too slow, and one on the wall that may be set wrong.
#[derive(Debug)]
struct Clock {
    since_us: u64,
    local_us: u64,
    drift_ppm: i64,
    offset_us: i64,
}

const MILLION: i128 = 1_000_000;

impl Clock {
    fn local_us(&self, now_us: u64) -> u64 {
        let passed = i128::from(now_us - self.since_us);
        let passed = passed * (MILLION + i128::from(self.drift_ppm)) / MILLION;
        self.local_us.saturating_add(u64::try_from(passed).unwrap_or(0))
    }

    /// How long it takes in truth until so much has passed on this clock.
    fn true_us(&self, local_us: u64) -> u64 {
        let rate = (MILLION + i128::from(self.drift_ppm)).max(1);
        let exact = i128::from(local_us) * MILLION;
        // Upwards: a timer never fires before its time.
        u64::try_from((exact + rate - 1) / rate).unwrap_or(u64::MAX)
    }
}

impl<P: Protocol> Body<P> {
    pub(super) fn new(seed: u64, id: NodeId) -> Self {
        Self {
            dice: Dice::stream(seed, &[2, id.0 as u64]),
            timers: BTreeMap::new(),
            waiting: Vec::new(),
            clock: Clock { since_us: 0, local_us: 0, drift_ppm: 0, offset_us: 0 },
            tongue: Tongue::new(Dice::stream(seed, &[3, id.0 as u64])),
        }
    }

    pub(super) fn now(&self, now_us: u64) -> Now {
        let local_us = self.clock.local_us(now_us);
        let wall_us = local_us.saturating_add_signed(self.clock.offset_us);
        Now { local: Duration::from_micros(local_us), wall: Duration::from_micros(wall_us) }
    }

    pub(super) fn set_clock(&mut self, now_us: u64, offset_us: i64, drift_ppm: i64) {
        let local_us = self.clock.local_us(now_us);
        self.clock = Clock { since_us: now_us, local_us, drift_ppm, offset_us };
    }
}

impl<P: Protocol> World<P> {
    /// A process begins or begins again: a fresh one, with what is on the disk.
    pub(super) fn begin(&mut self, id: NodeId, input: InputOf<P::Process>) {
        let node = &mut self.nodes[id.0];
        assert!(node.process.is_none(), "it is down when it begins");
        node.process = Some(self.protocol.process(id, &node.disk));
        if self.happened.is_none() {
            self.open_event(Occurred::Began, Some(id));
        }
        self.feed(id, input, 0);
    }

    /// The process is gone, and with it its timers and what waited for it.
    pub(super) fn crash(&mut self, id: NodeId) {
        self.nodes[id.0].process = None;
        self.nodes[id.0].paused = false;
        let body = &mut self.bodies[id.0];
        for key in std::mem::take(&mut body.timers).into_values() {
            self.queue.remove(&key);
        }
        for waiting in std::mem::take(&mut body.waiting) {
            if let Waiting::Message(message) = waiting {
                self.lose(message, Lost::Down);
            }
        }
        // A start that has not come yet will not.
        self.queue.retain(|_, due| !matches!(due, Due::Start(start) if *start == id));
    }

    /// It goes on; what waited comes at once, in the order in which it came.
    pub(super) fn resume(&mut self, id: NodeId) {
        self.nodes[id.0].paused = false;
        for waiting in std::mem::take(&mut self.bodies[id.0].waiting) {
            match waiting {
                Waiting::Message(message) => self.deliver_now(message),
                Waiting::Timer { timer, depth } => {
                    let key = self.enqueue(self.now_us, Due::Timer { node: id, timer, depth });
                    self.bodies[id.0].timers.insert(timer, key);
                }
                Waiting::Request { id: request_id, request } => {
                    let due = Due::Request { node: id, id: request_id, request };
                    self.enqueue(self.now_us, due);
                }
            }
        }
    }

    /// A request reaches a process, waits, or finds nobody.
    pub(super) fn ask(&mut self, node: NodeId, id: RequestId, request: Request<P>) {
        let fresh = self.happened.is_none();
        if self.nodes[node.0].process.is_none() {
            if fresh {
                self.open_event(Occurred::Missed, Some(node));
            }
        } else if self.nodes[node.0].paused {
            self.bodies[node.0].waiting.push(Waiting::Request { id, request });
            if fresh {
                self.open_event(Occurred::Waits, Some(node));
            }
        } else {
            if fresh {
                self.open_event(Occurred::Asked(id), Some(node));
            }
            self.feed(node, Input::Request { id, request }, 0);
        }
    }

    pub(super) fn set(&mut self, node: NodeId, timer: Timer<P>, after: Duration, depth: u64) {
        self.cancel(node, timer);
        let after_us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let after_us = self.bodies[node.0].clock.true_us(after_us);
        let at_us = self.now_us.saturating_add(after_us);
        let key = self.enqueue(at_us, Due::Timer { node, timer, depth });
        self.bodies[node.0].timers.insert(timer, key);
    }

    pub(super) fn cancel(&mut self, node: NodeId, timer: Timer<P>) {
        if let Some(key) = self.bodies[node.0].timers.remove(&timer) {
            self.queue.remove(&key);
        }
    }

    pub(super) fn post(
        &mut self,
        from: NodeId,
        to: NodeId,
        message: Message<P>,
        depth: u64,
        lie: bool,
    ) {
        let id = self.network.number();
        self.note_sent(id, lie);
        let flying = |message| Flying { from, to, message, depth: depth + 1, arrival: None };
        if from == to {
            self.launch(id, flying(message), self.now_us);
            return;
        }
        self.tally.sent(P::Process::kind(&message));
        let fate = self.network.fate(from, to, self.now_us);
        let cut = self.network.is_cut(from, to);
        if cut || fate.lost {
            let lost = if cut { Lost::Cut } else { Lost::Chance };
            self.note_lost(id, lost);
            // Kept for a moment, so that whoever writes the event down sees what it was.
            self.network.fly(id, flying(message));
            return;
        }
        if let Some(again_us) = fate.again_us {
            let copy = self.network.number();
            self.note_sent(copy, lie);
            self.tally.duplicated += 1;
            self.launch(copy, flying(message.clone()), again_us);
        }
        self.launch(id, flying(message), fate.arrives_us);
    }

    fn launch(&mut self, id: u64, flying: Flying<Message<P>>, arrives_us: u64) {
        let key = self.enqueue(arrives_us, Due::Arrive(id));
        self.network.fly(id, Flying { arrival: Some(key), ..flying });
    }

    /// A message that is on its way or held arrives at once.
    pub(super) fn deliver_now(&mut self, id: u64) {
        let now_us = self.now_us;
        let Some(flying) = self.network.get_mut(id) else { return };
        if let Some(key) = flying.arrival.take() {
            self.queue.remove(&key);
        }
        let key = self.enqueue(now_us, Due::Arrive(id));
        if let Some(flying) = self.network.get_mut(id) {
            flying.arrival = Some(key);
        }
    }

    /// A message is held until an act delivers or loses it.
    pub(super) fn hold(&mut self, id: u64) {
        if let Some(key) = self.network.get_mut(id).and_then(|flying| flying.arrival.take()) {
            self.queue.remove(&key);
        }
    }

    /// A message on its way is lost.
    pub(super) fn lose(&mut self, id: u64, why: Lost) {
        if self.network.get_mut(id).is_some() {
            self.hold(id);
            self.note_lost(id, why);
        }
    }

    fn note_sent(&mut self, id: u64, lie: bool) {
        if let Some(happened) = &mut self.happened {
            happened.sent.push(id);
            happened.lies.extend(lie.then_some(id));
        }
    }

    fn note_lost(&mut self, id: u64, why: Lost) {
        self.tally.lost += 1;
        if let Some(happened) = &mut self.happened {
            happened.lost.push((id, why));
        }
    }

    /// What was lost in the event before is gone from the network.
    pub(super) fn sweep(&mut self) {
        if let Some(happened) = self.happened.take() {
            for (id, _) in happened.lost {
                self.network.forget(id);
            }
        }
    }
}
