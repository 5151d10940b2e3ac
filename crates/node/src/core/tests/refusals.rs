//! What consensus refuses for want of room leaves nothing behind, whatever is evaluated with it.

use super::*;

const UNCOMMITTED_MAX: usize = 100 << 10;

fn table() -> Table {
    let mut table = Table::new();
    for node in NODES {
        let raft = raft::Config {
            uncommitted_bytes_max: UNCOMMITTED_MAX,
            ..raft::Config::new(replica(node), 11 * node)
        };
        let (config, raft, machine) = parts(node, raft, etcd::Limits::default());
        table.cores.insert(node, Core::new(config, raft, machine));
    }
    table.elect(1, &NODES);
    // Long enough for the strict check of the members' health.
    for _ in 0..120 {
        table.now += Duration::from_millis(50);
        for node in NODES {
            if table.cores[&node].next_deadline().is_some_and(|due| due <= table.now) {
                table.does(node, Input::Tick);
            }
        }
        table.settle(&NODES);
    }
    assert!(table.cores[&1].standing().serving);
    table
}

fn put_of(bytes: usize, token: u64) -> Input<MemEngine> {
    let put = ep::PutRequest {
        key: Bytes::from(format!("k{token}")),
        value: Bytes::from(vec![b'x'; bytes]),
        ..Default::default()
    };
    Input::Client(Token(token), Request::Put(put))
}

fn overloaded_and_a_member_is_added(table: &mut Table) {
    // As much as half of what may be under way is under way.
    table.does(1, put_of(UNCOMMITTED_MAX / 2, 1));
    // In one turn of the core: a put that is too much now, and a member is added.
    table.step(1, put_of(UNCOMMITTED_MAX * 6 / 10, 2));
    let add = ep::MemberAddRequest { peer_urls: vec!["http://n4:1".to_owned()], is_learner: true };
    table.step(1, Input::Client(Token(3), Request::MemberAdd(add)));
    table.flush(1);
    assert_eq!(table.replies.get(&2), Some(&Err(Error::TooManyRequests)));
    assert_eq!(table.replies.get(&3), None, "the change of members is in the log");
    // Anybody's write, before that is applied.
    table.does(1, put_of(10, 4));
}

/// The leader itself goes on.
#[test]
pub(super) fn a_refused_put_before_a_member_is_added_leaves_nothing_behind() {
    let mut table = table();
    overloaded_and_a_member_is_added(&mut table);
    table.settle(&NODES);
    assert!(matches!(table.replies.get(&3), Some(Ok(_))), "{:?}", table.replies.get(&3));
    assert!(is_put(table.replies.get(&4)), "{:?}", table.replies.get(&4));
}

/// So do the others, if the leader is lost.
#[test]
pub(super) fn the_next_leader_can_apply_what_is_in_the_log() {
    let mut table = table();
    overloaded_and_a_member_is_added(&mut table);
    for to in [2, 3] {
        for frame in table.take(1, to) {
            table.does(to, Input::Frame(NodeId(1), frame));
        }
    }
    // What they answer is lost, and so is the leader.
    table.frames.clear();
    table.elect(2, &[2, 3]);
    table.settle(&[2, 3]);
    assert!(table.cores[&2].standing().serving);
}
