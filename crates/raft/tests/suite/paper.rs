//! Sentences of the Raft paper (extended version) and of Ongaro's thesis, each with a test.
//!
//! Short quotations, by section. Where this implementation goes beyond a sentence (pre-vote,
//! asynchronous writes) the test says so.

use raft::{Body, Input, LogIndex, RoleKind, Session, Term};

use crate::table::{Table, at, data, entry, id};

const SESSION: Session = Session(LogIndex(2));

fn plain(config: &mut raft::Config) {
    config.pre_vote = false;
    config.check_quorum = false;
}

fn append(prev: (u64, u64), entries: Vec<raft::Entry>, commit: u64) -> Body {
    let commit = LogIndex(commit);
    Body::Append { session: SESSION, prev: at(prev.0, prev.1), entries, commit }
}

/// §5.1: "If one server's current term is smaller than the other's, then it updates its current
/// term to the larger value. If a candidate or leader discovers that its term is out of date, it
/// immediately reverts to follower state."
#[test]
fn s5_1_a_larger_term_is_taken_over_and_ends_any_role() {
    for role in [RoleKind::Follower, RoleKind::Candidate, RoleKind::Leader] {
        let mut table = Table::with(3, plain);
        if role != RoleKind::Follower {
            table.step(1, Input::Campaign);
        }
        if role == RoleKind::Leader {
            table.settle();
        }
        assert_eq!(role, table.raft(1).role());
        table.tell(2, 1, 9, append((1, 1), vec![], 1));
        assert_eq!((RoleKind::Follower, Term(9)), (table.raft(1).role(), table.raft(1).term()));
        assert_eq!(Some(id(2)), table.raft(1).leader());
    }
}

/// §5.1: "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn s5_1_a_stale_term_is_rejected() {
    let mut table = Table::with_logs(&[&[2, 2], &[2, 2], &[2, 2]], 5, plain);
    table.tell(2, 1, 4, append((3, 2), vec![entry(4, 4)], 4));
    table.tell(2, 1, 4, Body::Vote { last: at(9, 4), transfer: false });
    assert_eq!(vec![2, 2], table.terms(1));
    assert_eq!(Term(5), table.raft(1).term());
    let answers: Vec<Body> = table.take(1, 2).into_iter().map(|message| message.body).collect();
    assert!(matches!(answers[..], [Body::StaleTerm, Body::VoteResponse { granted: false, .. }]));
}

/// §5.2: "Leaders send periodic heartbeats [...] to all followers in order to maintain their
/// authority."
#[test]
fn s5_2_a_leader_sends_heartbeats() {
    let mut table = Table::of(3);
    table.elect(1);
    let deadline = table.raft(1).next_deadline().expect("a leader has something to do");
    assert_eq!(table.raft(1).config().heartbeat_interval, deadline - table.now);
    table.now = deadline;
    table.step(1, Input::Timeout);
    for to in [2, 3] {
        let sent = table.take(1, to);
        assert!(matches!(sent[..], [raft::Message { body: Body::Heartbeat { .. }, .. }]));
    }
}

/// §5.2: "If a follower receives no communication over a period of time called the election
/// timeout, then it assumes there is no viable leader and begins an election [...] To begin an
/// election, a follower increments its current term and transitions to candidate state. It then
/// votes for itself and issues RequestVote RPCs in parallel to each of the other servers."
///
/// Beyond it: the requests leave when the own vote is durable.
#[test]
fn s5_2_silence_starts_an_election() {
    let mut table = Table::with(3, plain);
    let deadline = table.raft(1).next_deadline().expect("a follower waits");
    table.now = deadline;
    table.step(1, Input::Timeout);
    let raft = table.raft(1);
    assert_eq!((RoleKind::Candidate, Term(2)), (raft.role(), raft.term()));
    assert_eq!(Some(id(1)), raft.vote());
    assert!(table.network.is_empty(), "nothing leaves before the vote is durable");
    table.sync(1);
    for to in [2, 3] {
        let sent = table.take(1, to);
        assert!(matches!(sent[..], [raft::Message { body: Body::Vote { .. }, .. }]));
    }
}

/// §5.2: "A candidate wins an election if it receives votes from a majority of the servers in the
/// full cluster for the same term."
#[test]
fn s5_2_a_majority_of_votes_wins() {
    // (voters, granted, refused, role that follows)
    let cases = [
        (1, 0, 0, RoleKind::Leader),
        (3, 1, 0, RoleKind::Leader),
        (3, 0, 1, RoleKind::Candidate),
        (3, 0, 2, RoleKind::Follower),
        (5, 1, 2, RoleKind::Candidate),
        (5, 2, 0, RoleKind::Leader),
        (5, 1, 3, RoleKind::Follower),
        (5, 0, 0, RoleKind::Candidate),
    ];
    for (voters, granted, refused, role) in cases {
        let mut table = Table::with(voters, plain);
        table.step(1, Input::Campaign);
        table.sync(1);
        for from in 2..2 + granted + refused {
            let granted = from < 2 + granted;
            table.tell(from, 1, 2, Body::VoteResponse { granted, commit: at(1, 1) });
        }
        assert_eq!(role, table.raft(1).role(), "{voters} voters, {granted} for, {refused} against");
    }
}

/// §5.2: "Each server will vote for at most one candidate in a given term, on a
/// first-come-first-served basis."
#[test]
fn s5_2_one_vote_for_each_term() {
    let mut table = Table::with(3, plain);
    for (from, granted) in [(2, true), (3, false), (2, true)] {
        table.tell(from, 1, 2, Body::Vote { last: at(1, 1), transfer: false });
        table.sync(1);
        let answers = table.take(1, from);
        let [raft::Message { body: Body::VoteResponse { granted: answer, .. }, .. }] = answers[..]
        else {
            panic!("one answer was expected, not {answers:?}")
        };
        assert_eq!(granted, answer, "to {from}");
    }
    assert_eq!(Some(id(2)), table.seat_of(1).hard_state.vote);
}

/// §5.2: "While waiting for votes, a candidate may receive an AppendEntries RPC from another
/// server claiming to be leader. If the leader's term [...] is at least as large as the
/// candidate's current term, then the candidate recognizes the leader as legitimate and returns
/// to follower state. If the term in the RPC is smaller [...] the candidate rejects the RPC and
/// continues in candidate state."
#[test]
fn s5_2_a_candidate_yields_to_a_leader_of_its_term() {
    for (term, role) in [(1, RoleKind::Candidate), (2, RoleKind::Follower), (3, RoleKind::Follower)]
    {
        let mut table = Table::with(3, plain);
        table.step(1, Input::Campaign);
        table.tell(2, 1, term, append((1, 1), vec![], 1));
        assert_eq!(role, table.raft(1).role(), "after an append of term {term}");
    }
}

/// §5.2: "election timeouts are chosen randomly from a fixed interval".
#[test]
fn s5_2_election_timeouts_are_random_within_an_interval() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut table = Table::with(1, |config| config.seed = seed);
        let timeout = table.raft(1).config().election_timeout;
        let deadline = table.raft(1).next_deadline().expect("it waits");
        assert!((timeout..2 * timeout).contains(&deadline), "{deadline:?}");
        seen.insert(deadline.as_millis() / 100);
        table.now = deadline;
    }
    assert_eq!(10, seen.len(), "each tenth of the interval comes up");
}

/// §5.3: "The leader appends the command to its log as a new entry, then issues AppendEntries
/// RPCs in parallel to each of the other servers to replicate the entry."
#[test]
fn s5_3_a_proposal_is_appended_and_sent_to_everyone() {
    let mut table = Table::of(3);
    table.elect(1);
    let proposed = table.propose(1, vec![data("a")]).expect("it leads");
    assert_eq!((LogIndex(3), Term(2)), (proposed.first_index, proposed.term));
    for to in [2, 3] {
        let sent = table.take(1, to);
        let [raft::Message { body: Body::Append { prev, entries, .. }, .. }] = &sent[..] else {
            panic!("one append was expected, not {sent:?}");
        };
        assert_eq!(
            (at(2, 2), vec![at(3, 2)]),
            (*prev, entries.iter().map(|e| e.position()).collect())
        );
    }
}

/// §5.3: "A log entry is committed once the leader that created the entry has replicated it on a
/// majority of the servers. This also commits all preceding entries in the leader's log,
/// including entries created by previous leaders. [...] Once a follower learns that a log entry
/// is committed, it applies the entry to its local state machine (in log order)."
#[test]
fn s5_3_a_majority_commits_everything_up_to_the_entry() {
    for old in [&[][..], &[1], &[1, 1], &[1, 2]] {
        let mut table = Table::with_logs(&[old, &[], &[]], 2, plain);
        table.elect(1);
        table.propose(1, vec![data("a")]).expect("it leads");
        table.settle();
        let expected: Vec<u64> = (2..=old.len() as u64 + 3).collect();
        for n in 1..=3 {
            let applied = table.seat_of(n).applied.iter().map(|entry| entry.index.0);
            assert_eq!(expected, applied.collect::<Vec<_>>(), "at {n}");
        }
    }
}

/// §5.3: "If the follower does not find an entry in its log with the same index and term, then it
/// refuses the new entries."
#[test]
fn s5_3_an_append_without_its_predecessor_is_refused() {
    // (prev, accepted up to, or refused with this hint)
    let cases = [
        ((3, 3), Ok(3)),
        ((2, 2), Ok(2)),
        ((1, 1), Ok(1)),
        ((3, 2), Err((2, 2))),
        ((4, 4), Err((3, 3))),
        ((9, 2), Err((2, 2))),
        ((9, 1), Err((1, 1))),
    ];
    for (prev, expected) in cases {
        let mut table = Table::with_logs(&[&[2, 3], &[], &[]], 5, plain);
        table.tell(2, 1, 5, append(prev, vec![], 1));
        table.sync(1);
        let answers = table.take(1, 2);
        match (&answers[..], expected) {
            ([raft::Message { body: Body::AppendAccepted { matched, .. }, .. }], Ok(to)) => {
                assert_eq!(LogIndex(to), *matched);
            }
            ([raft::Message { body: Body::AppendRejected { hint, .. }, .. }], Err(best)) => {
                assert_eq!(at(best.0, best.1), *hint, "after {prev:?}");
            }
            _ => panic!("after {prev:?}: {answers:?}"),
        }
    }
}

/// §5.3: "conflicting entries in follower logs will be overwritten with entries from the leader's
/// log"; and what does not conflict stays ("If an existing entry conflicts with a new one [...]
/// delete the existing entry and all that follow it", figure 2).
#[test]
fn s5_3_only_what_conflicts_is_overwritten() {
    let cases = [
        ((3, 2), vec![], vec![2, 2, 2], vec![2, 2, 2]),
        ((2, 2), vec![entry(3, 2)], vec![2, 2, 2], vec![2, 2, 2]),
        ((2, 2), vec![entry(3, 4)], vec![2, 2, 2], vec![2, 4]),
        ((1, 1), vec![entry(2, 4), entry(3, 4)], vec![2, 2, 2], vec![4, 4]),
        ((4, 2), vec![entry(5, 4)], vec![2, 2, 2], vec![2, 2, 2, 4]),
    ];
    for (prev, entries, before, after) in cases {
        let mut table = Table::with_logs(&[&before, &[], &[]], 4, plain);
        table.tell(2, 1, 4, append(prev, entries, 1));
        table.sync(1);
        assert_eq!(after, table.terms(1));
        assert_eq!(after, table.stored_terms(1));
    }
}

/// Figure 7: "the leader [...] forces the followers' logs to duplicate its own", whatever they
/// hold: missing entries, extra uncommitted entries, or both.
#[test]
fn figure_7_every_follower_ends_up_with_the_leaders_log() {
    let leader: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for follower in followers {
        // The third holds an empty log, and makes up the quorum.
        let mut table = Table::with_logs(&[leader, follower, &[]], 7, plain);
        table.step(1, Input::Campaign);
        table.settle_among(&[1, 3]);
        assert_eq!(RoleKind::Leader, table.raft(1).role());
        table.pass(100);
        table.settle();
        assert_eq!(table.terms(1), table.terms(2));
        assert_eq!(table.stored_terms(1), table.stored_terms(2));
    }
}

/// §5.4.1: "the voter denies its vote if its own log is more up-to-date than that of the
/// candidate. [...] If the logs have last entries with different terms, then the log with the
/// later term is more up-to-date. If the logs end with the same term, then whichever log is
/// longer is more up-to-date."
#[test]
fn s5_4_1_votes_go_to_logs_that_are_up_to_date() {
    let own: &[u64] = &[2, 3];
    let cases = [((3, 3), true), ((4, 3), true), ((2, 4), true), ((2, 3), false), ((9, 2), false)];
    for (last, expected) in cases {
        let mut table = Table::with_logs(&[own, &[], &[]], 4, plain);
        table.tell(2, 1, 5, Body::Vote { last: at(last.0, last.1), transfer: false });
        table.sync(1);
        let answers = table.take(1, 2);
        let [raft::Message { body: Body::VoteResponse { granted, .. }, .. }] = answers[..] else {
            panic!("one answer was expected");
        };
        assert_eq!(expected, granted, "to a log that ends with {last:?}");
    }
}

/// §5.4.2: "Only log entries from the leader's current term are committed by counting replicas;
/// once an entry from the current term has been committed in this way, then all prior entries are
/// committed indirectly."
#[test]
fn s5_4_2_old_terms_are_committed_by_way_of_the_own_term_only() {
    let mut table = Table::with_logs(&[&[2, 3], &[], &[]], 3, plain);
    table.step(1, Input::Campaign);
    table.sync(1);
    table.tell(2, 1, 4, Body::VoteResponse { granted: true, commit: at(1, 1) });
    table.sync(1);
    assert_eq!(at(4, 4), table.raft(1).last(), "its own first entry");
    let session = Session(LogIndex(4));
    for (matched, committed) in [(2, 1), (3, 1), (4, 4)] {
        table.tell(2, 1, 4, Body::AppendAccepted { session, matched: LogIndex(matched) });
        assert_eq!(LogIndex(committed), table.raft(1).committed(), "acknowledged to {matched}");
    }
}

/// §6: "a server that is not in its latest configuration [...] new servers [...] join the cluster
/// as non-voting members (the leader replicates log entries to them, but they are not considered
/// for majorities)".
#[test]
fn s6_learners_get_the_log_and_do_not_count() {
    let mut table = Table::of(1);
    table.elect(1);
    table.seat(2, raft::Restored::blank(), |_| ());
    let change = raft::MembershipChange::of([raft::MembershipStep::AddLearner(id(2))]);
    table.propose(1, vec![raft::Payload::membership(change)]).expect("it leads");
    table.sync(1);
    assert!(table.raft(1).membership().learners.contains(&id(2)));
    let proposed = table.propose(1, vec![data("a")]).expect("it leads");
    table.sync(1);
    assert_eq!(proposed.first_index, table.raft(1).committed(), "the learner was not waited for");
}

/// §7: "If an existing log entry has the same index and term as the snapshot's last included
/// entry, retain log entries following it [...] Otherwise discard the entire log" (figure 13).
#[test]
fn s7_a_snapshot_replaces_a_log_that_does_not_hold_its_position() {
    for (terms, kept) in [(&[2, 2, 2][..], true), (&[2, 1][..], false), (&[3, 3, 3], false)] {
        if terms.windows(2).any(|pair| pair[0] > pair[1]) {
            continue;
        }
        let mut table = Table::with_logs(&[terms, &[], &[]], 4, plain);
        let membership = table.raft(1).membership().clone();
        let snapshot = Box::new(raft::SnapshotMeta { position: at(3, 2), membership });
        table.tell(2, 1, 4, Body::InstallSnapshot { session: SESSION, snapshot });
        let raft = table.raft(1);
        assert_eq!(LogIndex(3), raft.committed());
        let expected = if kept { (at(1, 1), at(4, 2)) } else { (at(3, 2), at(3, 2)) };
        assert_eq!(expected, (raft.truncated(), raft.last()));
        table.sync(1);
        let answers = table.take(1, 2);
        let accepted = Body::AppendAccepted { session: SESSION, matched: LogIndex(3) };
        assert!(answers.iter().any(|message| message.body == accepted), "{answers:?}");
    }
}

/// §8: "a leader must have the latest information on which entries are committed [...] Raft
/// handles this by having each leader commit a blank no-op entry into the log at the start of its
/// term."
#[test]
fn s8_a_leader_starts_with_an_empty_entry() {
    let mut table = Table::of(3);
    table.elect(1);
    assert_eq!(raft::Payload::Empty, table.seat_of(1).applied[0].payload);
    assert!(table.raft(1).is_term_committed());
}

/// Thesis §4.2.3: "if a server receives a RequestVote request within the minimum election timeout
/// of hearing from a current leader, it does not update its term or grant its vote."
#[test]
fn thesis_4_2_3_followers_stand_by_a_leader_they_hear() {
    let mut table = Table::of(3);
    table.elect(1);
    table.tell(3, 2, 9, Body::Vote { last: at(9, 8), transfer: false });
    assert_eq!(Term(2), table.raft(2).term());
    assert!(table.take(2, 3).is_empty());
    table.now += table.raft(2).config().election_timeout;
    table.tell(3, 2, 9, Body::Vote { last: at(9, 8), transfer: false });
    assert_eq!((Term(9), Some(id(3))), (table.raft(2).term(), table.raft(2).vote()));
}

/// Thesis §3.10: "the prior leader [...] stops accepting new client requests [...] fully updates
/// the target server's log to match its own [...] sends a TimeoutNow request"; and "if the target
/// server fails [...] the prior leader [...] aborts the transfer and resumes" after an election
/// timeout.
#[test]
fn thesis_3_10_transfer_of_leadership() {
    let mut table = Table::of(3);
    table.elect(1);
    table.step(1, Input::TransferLeadership { to: id(2) });
    assert_eq!(Err(raft::Refused::Transferring { to: id(2) }), table.propose(1, vec![data("a")]));
    table.settle();
    assert_eq!(RoleKind::Leader, table.raft(2).role());
    // The next one goes to a replica that is not there.
    table.step(2, Input::TransferLeadership { to: id(3) });
    table.take(2, 3);
    table.pass(900);
    table.settle_among(&[1, 2]);
    table.pass(100);
    table.settle_among(&[1, 2]);
    assert!(table.propose(2, vec![data("a")]).is_ok(), "it goes on leading");
}

/// Thesis §6.2: "a leader in Raft steps down if an election timeout elapses without a successful
/// round of heartbeats to a majority of its cluster".
#[test]
fn thesis_6_2_a_leader_without_a_quorum_steps_down() {
    let mut table = Table::of(3);
    table.elect(1);
    for _ in 0..9 {
        table.pass(100);
        table.network.clear();
    }
    assert_eq!(RoleKind::Leader, table.raft(1).role());
    table.pass(100);
    assert_eq!(RoleKind::Follower, table.raft(1).role());
    assert_eq!(Some(id(1)), table.raft(1).vote(), "its vote in the term stands");
}

/// Thesis §6.4: "the leader [...] waits for its state machine to advance at least as far as the
/// readIndex", after "a new round of heartbeats" that "a majority" acknowledged.
#[test]
fn thesis_6_4_reads_wait_for_a_round_of_heartbeats() {
    let mut table = Table::of(3);
    table.elect(1);
    table.step(1, Input::ReadIndex(7));
    table.step(1, Input::ReadIndex(8));
    assert!(table.seat_of(1).reads.is_empty());
    table.settle_among(&[1, 3]);
    let reads: Vec<(u64, u64)> =
        table.seat_of(1).reads.iter().map(|read| (read.ctx, read.index.0)).collect();
    assert_eq!(vec![(7, 2), (8, 2)], reads);
}

/// Thesis §9.6: "a candidate only increments its term if it first learns from a majority of the
/// cluster that they would be willing to grant the candidate their votes".
#[test]
fn thesis_9_6_a_pre_vote_moves_nobodys_term() {
    let mut table = Table::of(3);
    table.elect(1);
    table.pass(400);
    // 3 is cut off and campaigns over and over.
    for _ in 0..5 {
        table.step(3, Input::Campaign);
        table.network.clear();
    }
    assert_eq!((RoleKind::PreCandidate, Term(2)), (table.raft(3).role(), table.raft(3).term()));
    // When it comes back it disturbs nobody.
    table.step(3, Input::Campaign);
    table.settle();
    assert_eq!((RoleKind::Leader, Term(2)), (table.raft(1).role(), table.raft(1).term()));
}

/// Thesis §10.2.1: "the leader [...] can write to its disk in parallel with replicating to the
/// followers [...] the leader [may] commit an entry before it has been written to its own disk, if
/// a majority of followers have written it to their disks".
#[test]
fn thesis_10_2_1_the_leaders_own_write_is_not_waited_for() {
    let mut table = Table::of(3);
    table.elect(1);
    table.propose(1, vec![data("a")]).expect("it leads");
    for n in [2, 3] {
        table.deliver(1, n);
        table.sync(n);
        table.deliver(n, 1);
    }
    assert_eq!((LogIndex(3), LogIndex(2)), (table.raft(1).committed(), table.raft(1).durable()));
}
