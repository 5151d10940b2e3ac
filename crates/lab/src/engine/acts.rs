//! What is done to a run, and when.

use std::collections::VecDeque;

use super::{Lost, Occurred, World};
use crate::process::{Input, NodeId, RequestId};
use crate::protocol::Protocol;
use crate::script::{Act, Conduct, What, When};

/// The acts that are still to come: by time and by events, each in order, equals as they stand in the script.
#[derive(Debug)]
pub(super) struct Acts {
    by_time: VecDeque<(u64, usize)>,
    by_events: VecDeque<(u64, usize)>,
}

impl Acts {
    pub(super) fn new(acts: &[Act]) -> Self {
        let mut by_time = Vec::new();
        let mut by_events = Vec::new();
        for (index, act) in acts.iter().enumerate() {
            match act.when {
                When::Us(at_us) => by_time.push((at_us, index)),
                When::Event(events) => by_events.push((events, index)),
            }
        }
        by_time.sort_unstable();
        by_events.sort_unstable();
        Self { by_time: by_time.into(), by_events: by_events.into() }
    }

    /// The act that is due: its place in the script, and its time if it has one. `next_us` is when something
    /// happens by itself; if nothing will any more, acts by events come as they stand.
    pub(super) fn due(&self, events: u64, next_us: Option<u64>) -> Option<(usize, Option<u64>)> {
        let timed = self.by_time.front().copied();
        let timed = timed.filter(|&(at_us, _)| next_us.is_none_or(|next_us| at_us <= next_us));
        let counted = self.by_events.front().copied();
        let counted = counted.filter(|&(after, _)| after <= events);
        let idle = next_us.is_none() && timed.is_none() && counted.is_none();
        let counted = if idle { self.by_events.front().copied() } else { counted };
        match (timed, counted) {
            (_, Some((_, index))) => Some((index, None)),
            (Some((at_us, index)), None) => Some((index, Some(at_us))),
            (None, None) => None,
        }
    }

    pub(super) fn done(&mut self, index: usize) {
        for acts in [&mut self.by_time, &mut self.by_events] {
            if acts.front().is_some_and(|&(_, first)| first == index) {
                acts.pop_front();
            }
        }
    }
}

impl<P: Protocol> World<P> {
    /// Does something to the run.
    pub(super) fn act(&mut self, what: What) {
        let node = match &what {
            What::Client { node, .. } | What::Clock { node, .. } | What::Traitor { node, .. } => {
                Some(*node)
            }
            What::Crash(node)
            | What::Restart(node)
            | What::RestartBlank(node)
            | What::Pause(node)
            | What::Resume(node)
            | What::Expire(node) => Some(*node),
            _ => None,
        };
        self.open_event(Occurred::Act(what.clone()), node);
        match what {
            What::Client { node, op, args } => self.client(node, &op, &args),
            What::Cut { from, to } => self.network.set_cut(from, to, true),
            What::Mend { from, to } => self.network.set_cut(from, to, false),
            What::Split(some) => self.split(&some),
            What::Heal => self.network.heal(),
            What::Crash(node) => self.crash(node),
            What::Restart(node) => self.restart(node, false),
            What::RestartBlank(node) => self.restart(node, true),
            What::Pause(node) => {
                let node = &mut self.nodes[node.0];
                node.paused = node.process.is_some();
            }
            What::Resume(node) => self.resume(node),
            What::Clock { node, offset_us, drift_ppm } => {
                self.bodies[node.0].set_clock(self.now_us, offset_us, drift_ppm);
            }
            What::Traitor { node, conduct } => {
                self.nodes[node.0].traitor |= conduct != Conduct::Loyal;
                self.bodies[node.0].tongue.set(conduct);
            }
            What::Weather(weather) => self.network.weather = weather,
            What::Expire(node) => self.expire(node),
            What::Deliver(id) => self.deliver_now(id),
            What::Lose(id) => self.lose(id, Lost::Act),
            What::Hold(id) => self.hold(id),
        }
    }

    fn client(&mut self, node: NodeId, op: &str, args: &[u64]) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.tally.asked(id, self.now_us);
        if let Some(request) = self.protocol.request(op, args) {
            self.requests.insert(id, request.clone());
            self.ask(node, id, request);
        }
    }

    fn split(&mut self, some: &[NodeId]) {
        let all = self.nodes.len();
        for from in NodeId::all(all) {
            for to in NodeId::all(all) {
                if some.contains(&from) != some.contains(&to) {
                    self.network.set_cut(from, to, true);
                }
            }
        }
    }

    /// It comes again. If it was up, this is the crash as well.
    fn restart(&mut self, node: NodeId, blank: bool) {
        self.crash(node);
        if blank {
            self.nodes[node.0].disk = self.protocol.disk(node);
        }
        self.begin(node, Input::Restart);
    }

    /// The next timer of a process that is up runs out at once.
    fn expire(&mut self, node: NodeId) {
        let next = self.bodies[node.0].timers.iter().min_by_key(|(_, key)| **key);
        let Some((&timer, &key)) = next else { return };
        if self.nodes[node.0].paused {
            return;
        }
        self.bodies[node.0].timers.remove(&timer);
        if let Some(super::Due::Timer { depth, .. }) = self.queue.remove(&key) {
            self.feed(node, Input::Timer(timer), depth);
        }
    }
}
