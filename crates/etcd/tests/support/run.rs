//! A leader and two followers under random requests, beside the model.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd::{Evaluated, Limits, Machine, Request};
use mvcc::State;
use mvcc::engine::mem::MemEngine;

use super::machine;
use super::model::{Model, Said};
use super::random::{self, Random};

/// How a seed treats its proposals.
pub struct Habits {
    /// Proposals that may be in flight.
    pub depth: usize,
    /// Some are taken back, and leadership is lost now and then.
    pub unlucky: bool,
}

pub struct Run {
    leader: Machine<MemEngine>,
    followers: Vec<Machine<MemEngine>>,
    model: Model,
    /// Effects in flight, and the model before each.
    flight: VecDeque<(Bytes, Model)>,
    /// Term and effects of every entry; those of a term's first are empty.
    log: Vec<(u64, Bytes)>,
    index: u64,
    term: u64,
    /// What is in flight took long to evaluate: nothing else is evaluated until it is applied.
    is_alone: bool,
    pub counts: Counts,
}

#[derive(Default, Debug)]
pub struct Counts {
    pub answered: usize,
    pub failed: usize,
    pub proposed: usize,
    pub long: usize,
    pub retracted: usize,
    pub lost: usize,
    pub compacted: usize,
    pub checkpoints: usize,
    pub collections: usize,
    pub restarts: usize,
}

impl Run {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        // The model knows no time: a new leader's promise is exactly the TTL.
        let limits = Limits { lease_extension: Duration::ZERO, ..limits };
        let followers = (0..2).map(|_| machine(limits.clone())).collect();
        let mut run = Self {
            leader: machine(limits),
            followers,
            model: Model::new(),
            flight: VecDeque::new(),
            log: Vec::new(),
            index: 0,
            term: 0,
            is_alone: false,
            counts: Counts::default(),
        };
        run.lead();
        run
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Machine<MemEngine>> {
        std::iter::once(&mut self.leader).chain(&mut self.followers)
    }

    fn lead(&mut self) {
        self.term += 1;
        self.append(Bytes::new());
        let term = self.term;
        self.leader.lead(Duration::ZERO, term).unwrap();
    }

    fn ask(&mut self, request: Request, seed: u64) {
        let before = self.model.clone();
        let expected = self.model.ask(&request);
        let is_compaction = matches!(request, Request::Compact(_));
        let said = format!("{request:?}");
        let long_before = self.counts.long;
        if self.is_alone {
            self.apply_one();
        }
        let evaluated = match self.leader.evaluate(Duration::ZERO, request) {
            Evaluated::Long(long) => {
                self.counts.long += 1;
                while !self.flight.is_empty() {
                    self.apply_one();
                }
                let done = self.leader.begin_long(Duration::ZERO, long).run();
                self.leader.end_long(Duration::ZERO, done)
            }
            other => other,
        };
        let outcome = match evaluated {
            Evaluated::Long(_) => panic!("it leads"),
            Evaluated::Refused(error) => Err(error),
            Evaluated::Read(outcome) => *outcome,
            Evaluated::Propose { effects, outcome } => {
                self.counts.proposed += 1;
                self.flight.push_back((effects, before));
                self.is_alone = self.counts.long > long_before;
                *outcome
            }
            Evaluated::Membership { .. } => panic!("nobody asked for that"),
        };
        self.counts.answered += usize::from(outcome.is_ok());
        self.counts.failed += usize::from(outcome.is_err());
        self.counts.compacted += usize::from(outcome.is_ok() && is_compaction);
        assert_eq!(outcome.map(Said::from), expected, "seed {seed}: {said}");
    }

    fn apply_one(&mut self) {
        let Some((effects, _)) = self.flight.pop_front() else { return };
        self.is_alone = false;
        self.append(effects);
    }

    fn append(&mut self, effects: Bytes) {
        self.index += 1;
        let (index, term) = (self.index, self.term);
        for machine in self.all() {
            super::apply(machine, Duration::ZERO, (index, term), &effects);
        }
        self.log.push((term, effects));
    }

    /// One member writes to its engine what it has applied, or removes what was compacted.
    fn keep_house(&mut self, random: &mut Random) {
        let member = random.below(3);
        let state = self.all().nth(member).unwrap().state_mut();
        let (mut checkpoints, mut collections) = (0, 0);
        if let Some(job) = state.freeze() {
            let done = job.run().unwrap();
            drop(state.finish(done));
            checkpoints += 1;
        }
        while let Some(job) = state.collect() {
            let done = job.run().unwrap();
            drop(state.finish(done));
            collections += 1;
        }
        self.counts.checkpoints += checkpoints;
        self.counts.collections += collections;
    }

    /// A follower starts again from what its engine holds, and applies the log from there.
    fn restart(&mut self, random: &mut Random) {
        let member = random.below(2);
        let engine = Arc::clone(self.followers[member].state().engine());
        let config = self.followers[member].config().clone();
        let mut machine = Machine::open(State::open(engine).unwrap(), config);
        let from = usize::try_from(machine.applied().index).unwrap();
        for (offset, (term, effects)) in self.log[from..].iter().enumerate() {
            let index = u64::try_from(from + offset).unwrap() + 1;
            machine.apply(Duration::ZERO, index, *term, effects).unwrap();
        }
        self.followers[member] = machine;
        self.counts.restarts += 1;
    }

    fn retract(&mut self, count: usize) {
        self.counts.retracted += count;
        for _ in 0..count {
            self.model = self.flight.pop_back().unwrap().1;
        }
        self.leader.retract(count);
        self.is_alone = false;
    }

    fn lose(&mut self) {
        self.counts.lost += 1;
        self.leader.follow();
        self.is_alone = false;
        let lost = std::mem::take(&mut self.flight);
        if let Some((_, before)) = lost.front() {
            self.model = before.clone();
        }
        self.lead();
        // Some of it comes again, by mistake, in the new term: it must do nothing.
        for (effects, _) in lost.into_iter().take(2) {
            self.append(effects);
        }
    }

    fn agree(&mut self, seed: u64) {
        let hashes: Vec<u32> = self.all().map(|machine| machine.view().hash().unwrap()).collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {hashes:?}");
    }

    pub fn go(&mut self, seed: u64, requests: usize, habits: &Habits) {
        let mut random = Random(seed);
        for _ in 0..requests {
            let request = random::request(&mut random, self.model.revision());
            self.ask(request, seed);
            while self.flight.len() > habits.depth || (!self.flight.is_empty() && random.one_in(3))
            {
                self.apply_one();
            }
            if habits.unlucky && !self.flight.is_empty() && random.one_in(10) {
                let count = 1 + random.below(self.flight.len());
                self.retract(count);
            }
            if habits.unlucky && random.one_in(60) {
                self.lose();
            }
            if random.one_in(20) {
                self.keep_house(&mut random);
            }
            if habits.unlucky && random.one_in(50) {
                self.restart(&mut random);
                self.agree(seed);
            }
        }
        while !self.flight.is_empty() {
            self.apply_one();
        }
        assert_eq!(self.leader.in_flight(), 0);
        let live = u64::try_from(self.model.live()).unwrap();
        assert!(self.all().all(|machine| machine.state().live_keys() == live), "seed {seed}");
        self.agree(seed);
    }
}
