//! Known ways to get it wrong, one test for each. The numbers are those of the list in the
//! project's verification page; 4 is in the crate `quorum`, the others are here.

use raft::{
    Body, Epoch, Event, Input, LogIndex, Membership, MembershipChange, MembershipStep, Mutant,
    Payload, Refused, Restored, RoleKind, Session, SnapshotMeta, SnapshotOutcome, Stopped, Term,
    Transition,
};

use crate::table::{Table, at, data, entry, id};

fn plain(config: &mut raft::Config) {
    config.pre_vote = false;
    config.check_quorum = false;
}

fn change(steps: impl IntoIterator<Item = MembershipStep>) -> Vec<Payload> {
    vec![Payload::membership(MembershipChange::of(steps))]
}

fn append(prev: (u64, u64), entries: Vec<raft::Entry>, commit: u64) -> Body {
    let session = Session(LogIndex(2));
    Body::Append { session, prev: at(prev.0, prev.1), entries, commit: LogIndex(commit) }
}

/// 1: commit of a prior-term entry by counting: figure 8 of the paper, (a) to (d).
#[test]
fn regression_1_figure_8() {
    // (c): S1 leads term 4; entry 3 of term 2 is on S1, S2, S3: a majority of five.
    let mut table = Table::with_logs(&[&[1, 2], &[1, 2], &[1], &[1], &[1, 3]], 3, plain);
    table.step(1, Input::Campaign);
    table.sync(1);
    for n in [2, 3] {
        table.deliver(1, n);
        table.sync(n);
        table.deliver(n, 1);
    }
    assert_eq!((RoleKind::Leader, Term(4)), (table.raft(1).role(), table.raft(1).term()));
    // S3 acknowledges the old entry alone: no commit.
    let session = Session(LogIndex(4));
    table.sync(1);
    for n in [2, 3] {
        table.tell(n, 1, 4, Body::AppendAccepted { session, matched: LogIndex(3) });
    }
    assert_eq!(LogIndex(1), table.raft(1).committed());
    // (d): S5 can still be elected, and overwrite it everywhere.
    table.network.clear();
    table.step(5, Input::Campaign);
    table.settle_among(&[2, 3, 4, 5]);
    table.step(5, Input::Campaign);
    table.settle_among(&[2, 3, 4, 5]);
    assert_eq!(RoleKind::Leader, table.raft(5).role());
    assert_eq!(table.terms(5), table.terms(2));
}

/// 2: term and vote are one record, and the vote survives a step-down within the term.
#[test]
fn regression_2_the_vote_survives_a_step_down() {
    let mut table = Table::with(3, plain);
    table.step(1, Input::Campaign);
    table.sync(1);
    // Another one leads the term: the candidate steps down, its vote stays its own.
    table.tell(2, 1, 2, append((1, 1), vec![], 1));
    assert_eq!((RoleKind::Follower, Some(id(1))), (table.raft(1).role(), table.raft(1).vote()));
    table.tell(3, 1, 2, Body::Vote { last: at(9, 1), transfer: false });
    table.sync(1);
    assert_eq!((Term(2), Some(id(1))), {
        let stored = table.seat_of(1).hard_state;
        (stored.term, stored.vote)
    });
    for persist in &table.seat_of(1).writes {
        let state = persist.hard_state.expect("only hard states were written");
        assert!(state.vote.is_some(), "a term without its vote");
    }
}

/// 2, second half: a follower that never voted does not vote for another after a restart in a
/// term whose leader it has followed.
#[test]
fn regression_2_following_closes_the_term() {
    let mut table = Table::with(3, plain);
    table.tell(2, 1, 5, append((1, 1), vec![entry(2, 5)], 1));
    table.sync(1);
    let restored = Restored {
        hard_state: table.seat_of(1).hard_state,
        membership: table.raft(1).membership().clone(),
        truncated: at(1, 1),
        terms: vec![(LogIndex(2), Term(5))],
        last_index: LogIndex(2),
        applied: LogIndex(1),
        entries: vec![],
    };
    table.seat(1, restored, plain);
    table.tell(3, 1, 5, Body::Vote { last: at(9, 5), transfer: false });
    table.sync(1);
    let answers = table.take(1, 3);
    let refused = matches!(
        answers[..],
        [raft::Message { body: Body::VoteResponse { granted: false, .. }, .. }]
    );
    assert!(refused, "{answers:?}");
}

/// 3: seeing a higher term is not granting a vote: the term is taken over, the vote is not given
/// to a log that is behind.
#[test]
fn regression_3_a_higher_term_is_no_reason_to_grant() {
    let mut table = Table::with_logs(&[&[1, 2], &[], &[]], 2, plain);
    table.tell(2, 1, 7, Body::Vote { last: at(9, 1), transfer: false });
    table.sync(1);
    let raft = table.raft(1);
    assert_eq!((Term(7), None), (raft.term(), raft.vote()));
    assert_eq!(
        (Term(7), None),
        (table.seat_of(1).hard_state.term, table.seat_of(1).hard_state.vote)
    );
}

/// 5: pre-votes and their answers never change a term; a refusal from a later term does, through
/// the one way there is.
#[test]
fn regression_5_the_term_changes_in_one_place() {
    let mut table = Table::of(3);
    table.tell(2, 1, 8, Body::PreVote { campaign_term: Term(9), last: at(9, 8) });
    assert_eq!((Term(1), None), (table.raft(1).term(), table.raft(1).vote()));
    table.step(1, Input::Campaign);
    let campaign_term = Term(2);
    table.tell(2, 1, 1, Body::PreVoteResponse { campaign_term, granted: true, commit: at(1, 1) });
    assert_eq!(Term(2), table.raft(1).term());
    let refusal = Body::PreVoteResponse { campaign_term, granted: false, commit: at(1, 1) };
    table.tell(3, 1, 6, refusal);
    assert_eq!((Term(6), RoleKind::Follower), (table.raft(1).term(), table.raft(1).role()));
    let events = &table.seat_of(1).events;
    let terms: Vec<Term> = events
        .iter()
        .filter_map(|event| match event {
            Event::Role { term, .. } => Some(*term),
            _ => None,
        })
        .collect();
    assert!(terms.is_sorted(), "every change is an event: {terms:?}");
}

/// 6: no membership change before an entry of the own term is committed (the 2015 bug of
/// single-server changes).
#[test]
fn regression_6_no_change_before_an_own_term_commit() {
    let mut table = Table::with(4, plain);
    table.step(1, Input::Campaign);
    table.sync(1);
    for n in [2, 3] {
        table.deliver(1, n);
        table.sync(n);
        table.deliver(n, 1);
    }
    assert_eq!(RoleKind::Leader, table.raft(1).role());
    let steps = [MembershipStep::AddVoter(id(5))];
    assert_eq!(Err(Refused::MembershipPending), table.propose(1, change(steps)));
    table.settle();
    assert!(table.propose(1, change(steps)).is_ok());
    // Nor while the change before it is uncommitted.
    assert_eq!(
        Err(Refused::MembershipPending),
        table.propose(1, change([MembershipStep::Remove(id(4))]))
    );
}

/// 7: no campaign while a membership change is known to be committed and not delivered.
#[test]
fn regression_7_no_campaign_with_undelivered_changes() {
    let configure = |config: &mut raft::Config| {
        plain(config);
        config.recent_bytes_max = 0;
    };
    let founders = Membership::of_voters((1..=3).map(id));
    let mut restored = Restored::founding(founders);
    restored.hard_state.commit = LogIndex(2);
    restored.hard_state.term = Term(2);
    restored.terms = vec![(LogIndex(2), Term(2))];
    restored.last_index = LogIndex(2);
    let mut table = Table::empty();
    table.seat(1, restored, configure);
    table.step(1, Input::Campaign);
    assert_eq!(RoleKind::Follower, table.raft(1).role(), "entry 2 may change the membership");
    let fetch = table.seat_of(1).fetches[0];
    let removal = MembershipChange::of([MembershipStep::Remove(id(1))]);
    let payload = Payload::membership(removal);
    let entries = vec![raft::Entry { index: LogIndex(2), term: Term(2), payload }];
    table.step(1, Input::Fetched { id: fetch.id, entries });
    table.step(1, Input::Campaign);
    assert_eq!(RoleKind::Follower, table.raft(1).role(), "it is no voter any more");
    assert_eq!(None, table.raft(1).next_deadline());
}

/// 7, the other side: the campaign that had to wait comes without another word, so that a sole
/// voter that starts again does not wait for its election timeout.
#[test]
fn regression_7_a_campaign_that_waited_comes() {
    let configure = |config: &mut raft::Config| config.recent_bytes_max = 0;
    let mut restored = Restored::founding(Membership::of_voters([id(1)]));
    restored.hard_state.commit = LogIndex(2);
    restored.hard_state.term = Term(2);
    restored.terms = vec![(LogIndex(2), Term(2))];
    restored.last_index = LogIndex(2);
    let mut table = Table::empty();
    table.seat(1, restored, configure);
    table.step(1, Input::Campaign);
    assert_eq!(RoleKind::Follower, table.raft(1).role(), "entry 2 may change the membership");
    let fetch = table.seat_of(1).fetches[0];
    let learner = MembershipChange::of([MembershipStep::AddLearner(id(2))]);
    let payload = Payload::membership(learner);
    let entries = vec![raft::Entry { index: LogIndex(2), term: Term(2), payload }];
    table.step(1, Input::Fetched { id: fetch.id, entries });
    table.settle();
    assert_eq!((RoleKind::Leader, Term(3)), (table.raft(1).role(), table.raft(1).term()));
}

/// 7, second: a joint configuration that is to be left is left by whoever leads then, and only
/// after it is committed.
#[test]
fn regression_7_a_joint_state_is_left_by_the_next_leader() {
    let mut table = Table::of(3);
    table.elect(1);
    let joint = MembershipChange {
        transition: Transition::JointImplicit,
        steps: vec![MembershipStep::AddLearner(id(4))],
        ..MembershipChange::default()
    };
    table.propose(1, vec![Payload::membership(joint)]).expect("it leads");
    for n in [2, 3] {
        table.deliver(1, n);
        table.sync(n);
    }
    assert!(!table.raft(1).membership().is_joint(), "not committed, so not in effect");
    assert_eq!(vec![2, 2], table.terms(1), "nor left");
    table.network.clear();
    // The leader is gone; 2 holds the change and wins.
    for _ in 0..3 {
        table.now += std::time::Duration::from_secs(3);
        table.step(2, Input::Campaign);
        table.settle_among(&[2, 3]);
    }
    assert_eq!(RoleKind::Leader, table.raft(2).role());
    let membership = table.raft(2).membership();
    assert_eq!("voters=(1 2 3) learners=(4)", membership.to_string());
}

/// 7, third: only one replica does not know that a change is committed, and it cannot win by the
/// old membership, because the others' logs are longer; they tell it.
#[test]
fn regression_7_the_last_to_know_is_told() {
    let mut table = Table::of(3);
    table.elect(1);
    // 1 makes itself and 2 learners; entries pile up behind that change at 1 and 2 only.
    let steps = vec![MembershipStep::AddLearner(id(1)), MembershipStep::Remove(id(2))];
    let joint =
        MembershipChange { transition: Transition::JointExplicit, steps, ..Default::default() };
    table.propose(1, vec![Payload::membership(joint)]).expect("it leads");
    table.settle();
    let leave = vec![Payload::membership(MembershipChange::leave_joint())];
    table.propose(1, leave).expect("it is joint");
    table.deliver(1, 3);
    table.sync(3);
    table.propose(1, vec![data("a"), data("b")]).expect("it leads");
    table.take(1, 3);
    table.deliver(1, 2);
    table.sync(2);
    table.deliver(2, 1);
    table.deliver(3, 1);
    assert_eq!(RoleKind::Follower, table.raft(1).role(), "it left the voters");
    table.network.clear();
    assert!(table.raft(3).membership().is_joint(), "3 does not know");
    for _ in 0..3 {
        table.now += std::time::Duration::from_secs(3);
        table.step(3, Input::Campaign);
        table.settle();
    }
    assert_eq!(RoleKind::Leader, table.raft(3).role());
    assert_eq!("voters=(3) learners=(1)", table.raft(3).membership().to_string());
}

/// 8: removed and added again in one term under one id: an acknowledgement of the earlier stay
/// must not count for the new one. Shown to matter with the guard taken out.
#[test]
fn regression_8_stale_acknowledgements_after_a_rejoin() {
    for (mutant, believed) in [(None, 0), (Some(Mutant::SessionIgnored), 3)] {
        assert_eq!(LogIndex(believed), matched_after_a_rejoin(mutant), "with {mutant:?}");
    }
}

/// What the leader takes the replica that is back to have, though it has nothing.
pub(crate) fn matched_after_a_rejoin(mutant: Option<Mutant>) -> LogIndex {
    let mut table = Table::with(3, |config| {
        plain(config);
        config.mutant = mutant;
    });
    table.elect(1);
    table.propose(1, vec![data("a")]).expect("it leads");
    table.deliver(1, 3);
    table.sync(3);
    let late = table.take(3, 1);
    table.settle_among(&[1, 2]);
    for step in [MembershipStep::Remove(id(3)), MembershipStep::AddVoter(id(3))] {
        table.propose(1, change([step])).expect("the one before is committed");
        table.settle_among(&[1, 2]);
    }
    for message in late {
        table.step(1, Input::Receive(message));
    }
    let peer = table.raft(1).peers().find(|peer| peer.id == id(3)).expect("it is back");
    peer.matched
}

/// 9: no read before an own-term commit, and a round is confirmed by answers to that round only.
#[test]
fn regression_9_reads_are_confirmed_by_their_own_round() {
    let mut table = Table::with(3, plain);
    table.elect(1);
    table.step(1, Input::ReadIndex(1));
    let first = table.take(1, 2);
    table.take(1, 3);
    table.settle_among(&[1]);
    assert!(table.seat_of(1).reads.is_empty());
    for message in first {
        table.step(2, Input::Receive(message));
    }
    let answer = table.take(2, 1);
    table.deliver(2, 1);
    // The next read begins a round of its own; the answer to the first, delivered twice, confirms
    // the first alone.
    table.step(1, Input::ReadIndex(2));
    for _ in 0..2 {
        for message in answer.clone() {
            table.step(1, Input::Receive(message));
        }
    }
    let ctxs: Vec<u64> = table.seat_of(1).reads.iter().map(|read| read.ctx).collect();
    assert_eq!(vec![1], ctxs);
    // Losing the lead fails what is not confirmed.
    table.tell(2, 1, 9, append((2, 2), vec![], 2));
    assert_eq!(vec![2], table.seat_of(1).failed_reads);
}

/// A write that completes does not make durable what was overwritten while it was under way,
/// even if a later leader brought the very same entries back. Shown to matter with the guard
/// taken out.
#[test]
fn a_write_overtaken_and_restored_is_not_durable() {
    for (mutant, durable) in [(None, 1), (Some(Mutant::OverwrittenCountsDurable), 3)] {
        let mut table = overtaken_and_restored(mutant);
        assert_eq!(LogIndex(durable), table.raft(1).durable(), "with {mutant:?}");
        assert_eq!(vec![2, 2], table.stored_terms(1), "which the next write will drop");
        if mutant.is_none() {
            table.sync_one(1);
            assert_eq!(LogIndex(1), table.raft(1).durable());
            table.sync_one(1);
            assert_eq!(LogIndex(4), table.raft(1).durable());
        }
    }
}

/// Of three writes, of which the second undoes the first and the third the second, the first is
/// complete. Only the entry before all of them is durable then.
pub(crate) fn overtaken_and_restored(mutant: Option<Mutant>) -> Table {
    let mut table = Table::with(3, |config| {
        plain(config);
        config.mutant = mutant;
    });
    table.tell(2, 1, 2, append((1, 1), vec![entry(2, 2), entry(3, 2)], 1));
    table.tell(3, 1, 3, append((1, 1), vec![entry(2, 3)], 1));
    table.tell(2, 1, 4, append((1, 1), vec![entry(2, 2), entry(3, 2), entry(4, 4)], 1));
    assert_eq!(3, table.seat_of(1).writes.len());
    table.sync_one(1);
    table
}

/// Evidence of broken safety stops the replica, for good and with a reason.
#[test]
fn two_leaders_in_one_term_stop_the_replica() {
    let mut table = Table::with(3, plain);
    table.tell(2, 1, 5, append((1, 1), vec![entry(2, 5)], 1));
    let rival =
        raft::Message { from: id(3), to: id(1), term: Term(5), body: append((1, 1), vec![], 1) };
    let stopped = Stopped::TwoLeaders { term: Term(5), known: id(2), other: id(3) };
    assert_eq!(Err(stopped), table.try_step(1, Input::Receive(rival)));
    assert_eq!(Err(stopped), table.try_step(1, Input::Timeout));
    assert_eq!(Some(stopped), table.raft(1).stopped());
    assert_eq!(Err(Refused::Stopped), table.propose(1, vec![data("a")]));
    assert_eq!(None, table.raft(1).next_deadline());
}

/// A leader whose log contradicts what is committed here is evidence, too.
#[test]
fn a_contradicted_commit_stops_the_replica() {
    let mut table = Table::with(3, plain);
    table.tell(2, 1, 5, append((1, 1), vec![entry(2, 5)], 2));
    assert_eq!(LogIndex(2), table.raft(1).committed());
    let body = append((1, 1), vec![entry(2, 6)], 2);
    let message = raft::Message { from: id(3), to: id(1), term: Term(6), body };
    let stopped = Stopped::CommittedConflict { committed: at(2, 5), other: at(2, 6) };
    assert_eq!(Err(stopped), table.try_step(1, Input::Receive(message)));
}

/// Nonsense from a peer is ignored, whatever it is.
#[test]
fn nonsense_is_ignored() {
    let mut table = Table::of(3);
    table.elect(1);
    let before = (table.raft(1).term(), table.raft(1).last(), table.raft(1).committed());
    let session = Session(LogIndex(2));
    let huge = LogIndex(u64::MAX);
    let bodies = [
        Body::AppendAccepted { session, matched: huge },
        Body::AppendAccepted { session, matched: LogIndex(9) },
        Body::AppendRejected { session, rejected: huge, hint: at(u64::MAX, u64::MAX) },
        Body::AppendRejected { session, rejected: LogIndex(0), hint: at(7, 7) },
        Body::HeartbeatResponse { round: u64::MAX, commit: LogIndex(u64::MAX) },
        Body::VoteResponse { granted: true, commit: at(9, 9) },
        Body::PreVoteResponse { campaign_term: Term(u64::MAX), granted: true, commit: at(1, 1) },
        Body::PreVote { campaign_term: Term(u64::MAX), last: at(1, 1) },
        Body::Vote { last: at(u64::MAX, 2), transfer: true },
        Body::TimeoutNow,
    ];
    for body in bodies {
        for from in [2, 9] {
            table.tell(from, 1, 2, body.clone());
        }
    }
    table.tell(2, 1, u64::MAX, append((1, 1), vec![], 1));
    let gap = append((2, 2), vec![entry(4, 2)], 2);
    table.tell(2, 1, 3, gap);
    let falling = append((2, 2), vec![entry(3, 2), entry(4, 1)], 2);
    table.tell(2, 1, 3, falling);
    assert_eq!(before, (table.raft(1).term(), table.raft(1).last(), table.raft(1).committed()));
    assert!(table.raft(1).is_leader());
}

/// A commit notice from an earlier stay, or for a log that differs, commits nothing.
#[test]
fn a_commit_notice_binds_index_and_term() {
    let mut table = Table::with_logs(&[&[2, 2, 2], &[], &[]], 5, plain);
    table.tell(2, 1, 5, Body::Heartbeat { commit: at(3, 3), round: 0 });
    assert_eq!(LogIndex(1), table.raft(1).committed());
    table.tell(2, 1, 5, Body::Commit { commit: at(9, 5) });
    assert_eq!(LogIndex(1), table.raft(1).committed());
    table.tell(2, 1, 5, Body::Commit { commit: at(3, 2) });
    assert_eq!(LogIndex(3), table.raft(1).committed());
}

/// The window bounds what is under way; acknowledgements open it; a lost message at its end is
/// found by the next answered heartbeats.
#[test]
fn the_window_is_bounded_and_recovers_from_loss() {
    let mut table = Table::with(3, |config| {
        config.inflight_messages_max = 3;
        config.append_bytes_max = 1;
    });
    table.elect(1);
    let payloads = (0..10).map(|n| data(&n.to_string())).collect();
    table.propose(1, payloads).expect("it leads");
    assert_eq!(3, table.take(1, 2).len(), "and these are lost");
    table.settle_among(&[1, 3]);
    assert_eq!(LogIndex(12), table.raft(1).committed());
    assert_eq!(LogIndex(2), table.raft(2).last().index);
    for _ in 0..3 {
        table.pass(100);
        table.settle();
    }
    assert_eq!(LogIndex(12), table.raft(2).committed());
}

/// Bytes that are proposed and not delivered are bounded; one batch always goes.
#[test]
fn uncommitted_bytes_are_bounded() {
    let mut table = Table::with(3, |config| config.uncommitted_bytes_max = 200);
    table.elect(1);
    assert!(table.propose(1, vec![data(&"x".repeat(500))]).is_ok(), "one always goes");
    assert_eq!(Err(Refused::TooManyUncommitted), table.propose(1, vec![data("y")]));
    table.settle();
    for _ in 0..6 {
        assert!(table.propose(1, vec![data("y")]).is_ok());
    }
    assert_eq!(Err(Refused::TooManyUncommitted), table.propose(1, vec![data("z")]));
}

/// A failed snapshot is asked for again, a delivered one leads back to the log.
#[test]
fn a_snapshot_that_fails_is_asked_for_again() {
    let mut table = Table::of(3);
    table.elect(1);
    table.propose(1, vec![data("a"), data("b")]).expect("it leads");
    table.settle();
    table.step(1, Input::Truncate(at(4, 2)));
    table.seat(4, Restored::blank(), |_| ());
    table.propose(1, change([MembershipStep::AddLearner(id(4))])).expect("it leads");
    table.settle();
    let asked = |table: &Table| table.seat_of(1).snapshots.len();
    assert_eq!(1, asked(&table));
    let request = table.seat_of(1).snapshots[0];
    assert_eq!((id(4), LogIndex(5)), (request.to, request.at_least));
    table.step(1, Input::SnapshotSent { to: id(4), outcome: SnapshotOutcome::Failed });
    assert_eq!(1, asked(&table), "not before a heartbeat is answered");
    table.pass(100);
    table.settle();
    assert_eq!(2, asked(&table));
    let membership = table.raft(1).membership().clone();
    let snapshot = Box::new(SnapshotMeta { position: at(5, 2), membership });
    let session = request.session;
    table.tell(1, 4, 2, Body::InstallSnapshot { session, snapshot });
    let outcome = SnapshotOutcome::Delivered(LogIndex(5));
    table.step(1, Input::SnapshotSent { to: id(4), outcome });
    table.settle();
    table.propose(1, vec![data("c")]).expect("it leads");
    table.settle();
    assert_eq!(LogIndex(6), table.raft(4).committed());
}

/// A replica that has nothing to do is small and waits for one thing at most: many thousands of
/// them live on a node.
#[test]
fn an_idle_replica_is_small() {
    assert!(size_of::<raft::Raft>() <= 1_536, "{} bytes", size_of::<raft::Raft>());
    let mut table = Table::of(1);
    table.elect(1);
    for n in 0..100 {
        table.propose(1, vec![data(&n.to_string())]).expect("it leads");
        table.settle();
    }
    assert_eq!(None, table.raft(1).next_deadline(), "a sole voter waits for nothing");
    assert!(table.raft(1).recent_bytes() > 0);
    table.rafts.get_mut(&id(1)).expect("seated").release_recent();
    assert_eq!(0, table.raft(1).recent_bytes());
}

/// Entries that have left memory are fetched, for a peer that lags and for delivery.
#[test]
fn entries_out_of_memory_are_fetched() {
    let mut table = Table::with(3, |config| config.recent_bytes_max = 0);
    table.elect(1);
    table.propose(1, vec![data("a"), data("b")]).expect("it leads");
    table.settle_among(&[1, 2]);
    assert_eq!(0, table.raft(1).recent_bytes());
    for _ in 0..3 {
        table.pass(100);
        table.settle();
    }
    let fetch = *table.seat_of(1).fetches.last().expect("3 lags");
    assert_eq!(Some(id(3)), fetch.peer);
    let within = |entry: &&raft::Entry| (fetch.first..=fetch.last).contains(&entry.index);
    let entries = table.seat_of(1).stored.iter().filter(within).cloned().collect();
    table.step(1, Input::Fetched { id: fetch.id, entries });
    table.settle();
    assert_eq!(table.terms(1), table.terms(3));
}

/// What a replica says in a later term ends the bindings to it, wherever it led. If it has not got that term on disk, it
/// may be back in the earlier one after a crash, lead the later one, and be stood by, when the word arrives.
#[test]
fn no_word_of_a_term_leaves_before_the_term_is_durable() {
    for fortify in [false, true] {
        let mut table = Table::with(3, |config| config.fortify = fortify);
        table.elect(1);
        table.settle();
        let heartbeat = Body::Heartbeat { commit: at(1, 1), round: 0 };
        table.tell(2, 1, 9, heartbeat.clone());
        let of_term_9 = |table: &Table| table.network.iter().any(|m| m.term == Term(9));
        assert_eq!(of_term_9(&table), !fortify, "nothing rests on it without bindings");
        table.sync(1);
        assert!(of_term_9(&table));
        // And from then on it is free.
        table.network.clear();
        table.tell(2, 1, 9, heartbeat);
        assert!(of_term_9(&table));
    }
}

/// Without pre-votes a follower that lost its binding asks for votes in ever later terms, and nobody answers: all stand
/// by the leader, and the leader counts on it still. (Seed 2064456 of the simulation: for ever.)
#[test]
fn a_follower_that_has_left_the_term_is_not_taken_for_bound() {
    let mut table = Table::with(3, |config| (config.fortify, config.pre_vote) = (true, false));
    table.elect(1);
    table.settle();
    for n in [2, 3] {
        let (term, leader) = (table.raft(1).term(), id(1));
        table.step(n, Input::Supported { term, leader, epoch: Epoch(1) });
        table.sync(n);
    }
    table.settle();
    let counts_on = |table: &Table, n| {
        let peer = table.raft(1).peers().find(|peer| peer.id == id(n)).expect("a peer");
        peer.fortified.is_some()
    };
    assert!(counts_on(&table, 2) && counts_on(&table, 3));
    let last = table.raft(3).last();
    table.tell(3, 1, 40, Body::Vote { last, transfer: false });
    assert!(table.raft(1).is_leader(), "a campaign is none of its business");
    assert!(counts_on(&table, 2) && !counts_on(&table, 3));
    table.network.clear();
    table.pass(100);
    assert!(
        !table.take(1, 3).is_empty(),
        "it is told that there is a leader, and can say that it is ahead"
    );
}

/// Three replicas, two of them bound to the first, which leads.
fn stood_by(mutant: Option<Mutant>) -> Table {
    let mut table = Table::with(3, |config| (config.fortify, config.mutant) = (true, mutant));
    table.elect(1);
    let (term, leader) = (table.raft(1).term(), id(1));
    for n in [2, 3] {
        table.step(n, Input::Supported { term, leader, epoch: Epoch(1) });
    }
    table.settle();
    table
}

/// The disk of a leader hangs, so its store asks for support no more. It speaks on, and the others write what it
/// sends: they elect another all the same.
pub(crate) fn a_leader_without_support(mutant: Option<Mutant>) -> Result<(), String> {
    let mut table = stood_by(mutant);
    let term = table.raft(1).term().0;
    let heartbeat = Body::Heartbeat { commit: table.raft(1).last(), round: 0 };
    for n in [2, 3] {
        table.step(n, Input::SupportWithdrawn { epoch: Epoch(1) });
        table.tell(1, n, term, heartbeat.clone());
    }
    table.step(2, Input::Campaign);
    // Its next word is there before the answers are.
    table.tell(1, 2, term, Body::Fortify);
    table.settle_among(&[2, 3]);
    if table.raft(2).is_leader() { Ok(()) } else { Err("the leader without support stays".into()) }
}

#[test]
fn a_leader_that_has_lost_all_support_keeps_nobody_from_campaigning() {
    assert_eq!(Ok(()), a_leader_without_support(None));
}

/// The others answer all that the leader sends; its own write is not done.
pub(crate) fn a_leader_without_a_disk(mutant: Option<Mutant>) -> Result<(), String> {
    let mut table = stood_by(mutant);
    table.propose(1, vec![data("x")]).expect("it leads");
    for _ in 0..30 {
        for n in [2, 3] {
            table.deliver(1, n);
            table.sync(n);
            table.deliver(n, 1);
        }
        let timeout = table.raft(1).next_deadline();
        if !table.raft(1).is_leader() {
            return Ok(());
        }
        let Some(deadline) = timeout else { return Err("it waits for nothing".into()) };
        table.now = table.now.max(deadline);
        table.step(1, Input::Timeout);
    }
    Err(format!("it leads still, {:?} later", table.now))
}

#[test]
fn a_leader_whose_write_is_not_done_makes_room() {
    assert_eq!(Ok(()), a_leader_without_a_disk(None));
}
