//! Random requests to the state machine and to a model of etcd that is as simple as can be:
//! every answer whole. Proposals are applied late, taken back and lost with the leadership,
//! followers apply what is left, write it to their engines at times of their own, and start
//! again from there: all must come out the same.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use etcd::Limits;
use support::Solo;
use support::random::{self, Random};
use support::run::{Counts, Habits, Run};

fn run(seeds: std::ops::Range<u64>, habits: &Habits) -> Counts {
    let mut total = Counts::default();
    for seed in seeds {
        // In some seeds nearly everything takes long.
        let rows_at_once = if seed % 3 == 0 { 2 } else { Limits::default().rows_at_once };
        let mut run = Run::with(Limits { rows_at_once, ..Limits::default() });
        run.go(seed, 250, habits);
        total.long += run.counts.long;
        total.answered += run.counts.answered;
        total.failed += run.counts.failed;
        total.proposed += run.counts.proposed;
        total.retracted += run.counts.retracted;
        total.lost += run.counts.lost;
        total.compacted += run.counts.compacted;
        total.checkpoints += run.counts.checkpoints;
        total.collections += run.counts.collections;
        total.restarts += run.counts.restarts;
    }
    assert!(total.answered > total.failed && total.failed > 1000, "{total:?}");
    assert!(total.proposed > 1000 && total.compacted > 100 && total.long > 500, "{total:?}");
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
    assert!(total.checkpoints > 500 && total.collections > 50, "{total:?}");
    assert!(total.restarts > 100, "{total:?}");
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
