//! Members: ids as etcd computes them, and which changes are refused.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use etcd::{
    ClusterFacts, Error, Evaluated, FoundingMember, Limits, Machine, MemberChange, Publish,
    Request, Response, cluster_id, member_id, parse_urls,
};
use mvcc::engine::mem::MemEngine;
use proto::etcdserverpb as pb;
use support::{LEADER, Solo};

fn urls(urls: &[&str]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

fn url(port: u64) -> Vec<String> {
    vec![format!("http://127.0.0.1:{port}")]
}

/// A leader among founders with the ids given, all of them started and connected.
fn cluster(ids: &[u64], limits: Limits) -> Solo {
    let founder = |id: &u64| FoundingMember { id: *id, name: String::new(), peer_urls: url(*id) };
    let founders: Vec<_> = ids.iter().map(founder).collect();
    let mut solo = Solo::with(limits);
    solo.machine.follow();
    solo.term = 2;
    let founding = Machine::<MemEngine>::founding(2, &founders);
    assert!(solo.apply(founding).members_changed);
    solo.machine.lead(solo.now, 2).unwrap();
    for id in ids {
        start(&mut solo, *id);
    }
    observe(&mut solo, ids);
    solo
}

fn start(solo: &mut Solo, member_id: u64) {
    let client_urls = url(member_id + 1000);
    let publish = Publish { member_id, name: format!("m{member_id}"), client_urls };
    assert_eq!(solo.ask(Request::Publish(publish)), Ok(Response::Published));
}

/// These are connected for long enough and hold the whole log.
fn observe(solo: &mut Solo, connected: &[u64]) {
    let others = connected.iter().filter(|id| **id != LEADER);
    solo.machine.observe_cluster(ClusterFacts {
        unix_time_s: 1_700_000_000,
        connected_for: others.clone().map(|id| (*id, Duration::from_secs(5))).collect(),
        matched: others.map(|id| (*id, 100)).collect(),
        last_index: 100,
    });
}

fn add(solo: &mut Solo, port: u64, is_learner: bool) -> Result<u64, Error> {
    let peer_urls = url(port);
    match solo.ask(Request::MemberAdd(pb::MemberAddRequest { peer_urls, is_learner }))? {
        Response::MemberAdd(response) => {
            assert_eq!(response.header.unwrap().revision, 0);
            let member = response.member.unwrap();
            assert!(response.members.contains(&member) && member.name.is_empty());
            assert_eq!(member.is_learner, is_learner);
            Ok(member.id)
        }
        other => panic!("{other:?}"),
    }
}

fn remove(solo: &mut Solo, id: u64) -> Result<Vec<u64>, Error> {
    match solo.ask(Request::MemberRemove(pb::MemberRemoveRequest { id }))? {
        Response::MemberRemove(response) => {
            Ok(response.members.iter().map(|member| member.id).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn promote(solo: &mut Solo, id: u64) -> Result<(), Error> {
    match solo.ask(Request::MemberPromote(pb::MemberPromoteRequest { id }))? {
        Response::MemberPromote(response) => {
            assert!(response.members.iter().any(|member| member.id == id && !member.is_learner));
            Ok(())
        }
        other => panic!("{other:?}"),
    }
}

fn update(solo: &mut Solo, id: u64, port: u64) -> Result<(), Error> {
    let peer_urls = url(port);
    solo.ask(Request::MemberUpdate(pb::MemberUpdateRequest { id, peer_urls })).map(|_| ())
}

#[test]
fn ids_are_those_of_etcd() {
    // Taken from two etcd clusters of one member with these peer addresses.
    for (port, member, cluster) in [
        (12380, 15_985_099_378_392_235_387, 12_101_053_776_118_486_841),
        (12390, 3_544_609_687_393_156_342, 7_249_742_258_938_824_516),
    ] {
        let id = member_id(&url(port), "etcd-cluster", None);
        assert_eq!(id, member);
        assert_eq!(cluster_id(&BTreeSet::from([id])), cluster);
    }
    let mut two = urls(&["http://b:1", "http://a:1"]);
    let id = member_id(&two, "", Some(17));
    two.reverse();
    assert_eq!(member_id(&two, "", Some(17)), id);
    assert_ne!(member_id(&two, "", Some(18)), id);
}

#[test]
fn addresses_of_members() {
    for good in [
        "http://127.0.0.1:2380",
        "https://host.example:1",
        "http://[::1]:2380",
        "http://:2380",
        "HTTP://a:1",
        " http://a:1 ",
        "unix:///tmp/x",
        "unixs://a:1",
    ] {
        assert!(parse_urls(&urls(&[good])).is_ok(), "{good}");
    }
    for bad in [
        "",
        "abc",
        "127.0.0.1:2380",
        "ftp://a:1",
        "http://a",
        "http://a:1/",
        "http://a:1/p",
        "http://a:b",
        "http://::1:2",
        "http://a b:1",
        "http:/a:1",
        "http://[::1:2380",
    ] {
        assert_eq!(parse_urls(&urls(&[bad])), Err(Error::MemberBadUrls), "{bad}");
    }
    assert_eq!(parse_urls(&[]), Err(Error::MemberBadUrls));
    assert_eq!(
        parse_urls(&urls(&["http://b:1", "HTTP://a:1"])),
        Ok(urls(&["http://a:1", "http://b:1"]))
    );
}

#[test]
fn a_change_comes_with_its_effects() {
    let mut solo = cluster(&[LEADER], Limits::default());
    let request = pb::MemberAddRequest { peer_urls: url(50), is_learner: true };
    let Evaluated::Membership { change, effects, outcome } =
        solo.machine.evaluate(solo.now, Request::MemberAdd(request))
    else {
        panic!("an addition changes Raft's configuration")
    };
    let id = member_id(&url(50), "", Some(1_700_000_000));
    assert_eq!(change, MemberChange::AddLearner(id));
    assert!(outcome.is_ok());
    assert!(solo.apply(effects).members_changed);
    let members = solo.machine.members().unwrap();
    assert_eq!(members.iter().find(|member| member.id == id).unwrap().peer_urls, url(50));
    assert_eq!(solo.revision(), 1, "no revision for members");
}

#[test]
fn a_member_lives_and_its_id_is_never_used_again() {
    let mut solo = cluster(&[LEADER], Limits::default());
    let id = add(&mut solo, 50, true).unwrap();
    assert_eq!(add(&mut solo, 50, true), Err(Error::MemberExist));
    observe(&mut solo, &[LEADER, id]);
    start(&mut solo, id);
    promote(&mut solo, id).unwrap();
    assert_eq!(promote(&mut solo, id), Err(Error::MemberNotLearner));
    update(&mut solo, id, 51).unwrap();
    assert_eq!(update(&mut solo, id, LEADER), Err(Error::PeerUrlExist));
    assert_eq!(remove(&mut solo, id), Ok(vec![LEADER]));
    observe(&mut solo, &[LEADER]);
    assert_eq!(add(&mut solo, 50, true), Err(Error::MemberNotFound));
    for error in
        [remove(&mut solo, id).map(|_| ()), promote(&mut solo, id), update(&mut solo, id, 52)]
    {
        assert_eq!(error, Err(Error::MemberNotFound));
    }
}

#[test]
fn addresses_belong_to_one_member() {
    let mut solo = cluster(&[LEADER, 8, 9], Limits::default());
    assert_eq!(add(&mut solo, 8, false), Err(Error::PeerUrlExist));
    assert_eq!(update(&mut solo, 9, 8), Err(Error::PeerUrlExist));
    update(&mut solo, 9, 9).unwrap();
}

#[test]
fn there_are_as_many_learners_as_there_may_be() {
    let mut solo = cluster(&[LEADER], Limits::default());
    add(&mut solo, 50, true).unwrap();
    assert_eq!(add(&mut solo, 51, true), Err(Error::TooManyLearners));
    let mut solo = cluster(&[LEADER], Limits { max_learners: 2, ..Limits::default() });
    add(&mut solo, 50, true).unwrap();
    add(&mut solo, 51, true).unwrap();
}

#[test]
fn a_learner_is_promoted_at_90_percent() {
    let mut solo = cluster(&[LEADER], Limits::default());
    let id = add(&mut solo, 50, true).unwrap();
    let mut holds = |matched| {
        let matched = [(id, matched)].into();
        solo.machine.observe_cluster(ClusterFacts {
            matched,
            last_index: 200,
            ..Default::default()
        });
        promote(&mut solo, id)
    };
    assert_eq!(holds(179), Err(Error::LearnerNotReady));
    assert_eq!(holds(180), Ok(()));
}

#[test]
fn a_quorum_must_have_started() {
    let mut solo = cluster(&[LEADER], Limits::default());
    let second = add(&mut solo, 50, false).unwrap();
    assert_eq!(add(&mut solo, 51, false), Err(Error::MemberNotEnoughStarted));
    assert_eq!(remove(&mut solo, LEADER), Err(Error::MemberNotEnoughStarted));
    start(&mut solo, second);
    observe(&mut solo, &[LEADER, second]);
    add(&mut solo, 51, false).unwrap();
    let mut solo = cluster(&[LEADER], Limits::default());
    assert_eq!(remove(&mut solo, LEADER), Err(Error::MemberNotEnoughStarted), "the last one");
}

#[test]
fn a_quorum_must_be_connected() {
    let all = [LEADER, 8, 9];
    let mut solo = cluster(&all, Limits::default());
    observe(&mut solo, &[LEADER, 8]);
    assert_eq!(add(&mut solo, 50, false), Err(Error::Unhealthy));
    assert_eq!(add(&mut solo, 50, true), Err(Error::Unhealthy));
    assert_eq!(remove(&mut solo, 8), Err(Error::Unhealthy));
    assert_eq!(remove(&mut solo, LEADER), Err(Error::Unhealthy));
    // The one that is away is not part of the quorum: it may go.
    assert_eq!(remove(&mut solo, 9), Ok(vec![LEADER, 8]));
    let mut solo = cluster(&all, Limits::default());
    add(&mut solo, 50, false).unwrap();
    let lax = Limits { strict_reconfig_check: false, ..Limits::default() };
    let mut solo = cluster(&all, lax);
    observe(&mut solo, &[]);
    add(&mut solo, 50, false).unwrap();
    remove(&mut solo, 9).unwrap();
}

/// A member that was just removed is connected for a moment yet, while the others may not be connected for long.
#[test]
fn one_that_is_no_member_is_not_found_whoever_is_connected() {
    let mut solo = cluster(&[LEADER, 2, 3], Limits::default());
    remove(&mut solo, 2).unwrap();
    observe(&mut solo, &[LEADER, 2]);
    assert_eq!(remove(&mut solo, 2), Err(Error::MemberNotFound));
    assert_eq!(remove(&mut solo, 1234), Err(Error::MemberNotFound));
}

#[test]
fn the_list_knows_names_and_addresses() {
    let mut solo = cluster(&[8, LEADER], Limits::default());
    let Ok(Response::MemberList(response)) =
        solo.ask(Request::MemberList(pb::MemberListRequest { linearizable: true }))
    else {
        panic!("a list")
    };
    assert_eq!(response.header.unwrap().revision, 0);
    let ids: Vec<u64> = response.members.iter().map(|member| member.id).collect();
    assert_eq!(ids, [LEADER, 8]);
    let member = &response.members[0];
    assert_eq!((member.name.as_str(), &member.client_urls), ("m7", &url(1007)));
    let stranger = Publish { member_id: 99, name: "x".into(), client_urls: vec![] };
    assert_eq!(solo.ask(Request::Publish(stranger)), Err(Error::MemberNotFound));
}

#[test]
fn a_change_in_flight_is_seen_by_the_next_and_gone_when_taken_back() {
    let mut solo = cluster(&[LEADER], Limits::default());
    let request = pb::MemberAddRequest { peer_urls: url(50), is_learner: false };
    let first = solo.machine.evaluate(solo.now, Request::MemberAdd(request));
    assert!(matches!(first, Evaluated::Membership { .. }));
    assert_eq!(add(&mut solo, 50, false), Err(Error::MemberNotEnoughStarted));
    solo.machine.retract(1);
    add(&mut solo, 50, false).unwrap();
}
