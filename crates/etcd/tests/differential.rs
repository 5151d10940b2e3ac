//! Random requests to the state machine and to a model of etcd that is as simple as can be:
//! every answer whole. Proposals are applied late, taken back and lost with the leadership,
//! and followers apply what is left: all must come out the same.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use etcd::{Evaluated, Limits, Machine, Request};
use mvcc::engine::mem::MemEngine;
use support::model::{Model, Said};
use support::random::{self, Random};
use support::{Solo, machine};

/// How a seed treats its proposals.
struct Habits {
    /// Proposals that may be in flight.
    depth: usize,
    /// Some are taken back, and leadership is lost now and then.
    unlucky: bool,
}

struct Run {
    leader: Machine<MemEngine>,
    followers: Vec<Machine<MemEngine>>,
    model: Model,
    /// Effects in flight, and the model before each.
    flight: VecDeque<(Bytes, Model)>,
    index: u64,
    term: u64,
    counts: Counts,
}

#[derive(Default, Debug)]
struct Counts {
    answered: usize,
    failed: usize,
    proposed: usize,
    retracted: usize,
    lost: usize,
    compacted: usize,
}

impl Run {
    fn new() -> Self {
        // The model knows no time: a new leader's promise is exactly the TTL.
        let limits = Limits { lease_extension: Duration::ZERO, ..Limits::default() };
        let followers = (0..2).map(|_| machine(limits.clone())).collect();
        let mut run = Self {
            leader: machine(limits),
            followers,
            model: Model::new(),
            flight: VecDeque::new(),
            index: 0,
            term: 0,
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
        self.index += 1;
        let (index, term) = (self.index, self.term);
        self.all().for_each(|machine| machine.skip(index, term));
        self.leader.lead(Duration::ZERO, term).unwrap();
    }

    fn ask(&mut self, request: Request, seed: u64) {
        let before = self.model.clone();
        let expected = self.model.ask(&request);
        let is_compaction = matches!(request, Request::Compact(_));
        let said = format!("{request:?}");
        let outcome = match self.leader.evaluate(Duration::ZERO, request) {
            Evaluated::Refused(error) => Err(error),
            Evaluated::Read(outcome) => *outcome,
            Evaluated::Propose { effects, outcome } => {
                self.counts.proposed += 1;
                self.flight.push_back((effects, before));
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
        self.index += 1;
        let (index, term) = (self.index, self.term);
        for machine in self.all() {
            machine.apply(Duration::ZERO, index, term, &effects).unwrap();
        }
    }

    fn retract(&mut self, count: usize) {
        self.counts.retracted += count;
        for _ in 0..count {
            self.model = self.flight.pop_back().unwrap().1;
        }
        self.leader.retract(count);
    }

    fn lose(&mut self) {
        self.counts.lost += 1;
        self.leader.follow();
        if let Some((_, before)) = self.flight.drain(..).next() {
            self.model = before;
        }
        self.lead();
    }

    fn agree(&mut self, seed: u64) {
        let hashes: Vec<u32> = self.all().map(|machine| machine.view().hash().unwrap()).collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {hashes:?}");
    }

    fn go(&mut self, seed: u64, requests: usize, habits: &Habits) {
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
        }
        while !self.flight.is_empty() {
            self.apply_one();
        }
        assert_eq!(self.leader.in_flight(), 0);
        self.agree(seed);
    }
}

fn run(seeds: std::ops::Range<u64>, habits: &Habits) -> Counts {
    let mut total = Counts::default();
    for seed in seeds {
        let mut run = Run::new();
        run.go(seed, 250, habits);
        total.answered += run.counts.answered;
        total.failed += run.counts.failed;
        total.proposed += run.counts.proposed;
        total.retracted += run.counts.retracted;
        total.lost += run.counts.lost;
        total.compacted += run.counts.compacted;
    }
    assert!(total.answered > total.failed && total.failed > 1000, "{total:?}");
    assert!(total.proposed > 1000 && total.compacted > 100, "{total:?}");
    total
}

#[test]
fn one_by_one() {
    run(0..150, &Habits { depth: 0, unlucky: false });
}

#[test]
fn with_proposals_in_flight() {
    run(1000..1150, &Habits { depth: 20, unlucky: false });
}

#[test]
fn with_proposals_taken_back_and_lost() {
    let total = run(2000..2150, &Habits { depth: 12, unlucky: true });
    assert!(total.retracted > 500 && total.lost > 100, "{total:?}");
}

/// Every answer of a read from a view is the leader's.
#[test]
fn any_thread_reads_what_the_leader_would_say() {
    let limits = Limits::default();
    for seed in 3000..3040 {
        let mut random = Random(seed);
        let mut solo = Solo::new();
        for _ in 0..200 {
            let request = random::request(&mut random, solo.revision());
            let by_view = etcd::read(&solo.machine.view(), &request, &limits);
            let by_leader = solo.ask(request.clone());
            if request.route() != etcd::Route::Leader {
                assert_eq!(by_view, by_leader, "seed {seed}: {request:?}");
            }
        }
    }
}
