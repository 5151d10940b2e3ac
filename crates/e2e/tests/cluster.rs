//! Scripts of real etcdctl against three members, and against a cluster that grows and shrinks.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::ctl::{Session, compare};
use e2e::tools::{self, Version, etcd, subject};

const SOON: Duration = Duration::from_secs(20);

fn check(members: usize, script: impl Fn(&mut Session) -> Result<()> + Sync) {
    for version in [Version::V34, Version::V35, Version::V37] {
        let oracle = tools::oracle().expect("etcd 3.7");
        let subject = subject().expect("the server under test");
        compare(&oracle, &subject, version, members, &script)
            .unwrap_or_else(|error| panic!("{version:?}: {error:#}"));
    }
}

/// Every kind of request through every member: a follower serves them all.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn any_member_serves_anything() {
    check(3, |s| {
        s.ctl_sorted("member list")?;
        s.ctl_sorted("endpoint health")?;
        for name in ["m1", "m2", "m3"] {
            let endpoint = s.endpoint(name)?;
            s.use_endpoints(&endpoint);
            s.ctl(&format!("put {name} 1"))?;
            s.ctl(&format!("put {name} 2 --prev-kv"))?;
            s.ctl("get '' --prefix")?;
            s.until("get '' --prefix --consistency=s --keys-only", SOON, |o| {
                o.stdout.contains(name)
            })?;
            s.ctl_with_input(
                "txn",
                &format!("mod(\"{name}\") > \"0\"\n\nput {name} 3\nget {name}\n\n\n"),
            )?;
            let lease = s.ctl("lease grant 500")?.word(1)?.to_owned();
            s.ctl(&format!("put leased/{name} 1 --lease={lease}"))?;
            s.ctl(&format!("lease keep-alive {lease} --once"))?;
            s.ctl("lease list")?;
            s.ctl(&format!("lease revoke {lease}"))?;
            s.ctl("get leased/ --prefix")?;
            s.ctl(&format!("del {name} --prev-kv"))?;
            let watch = s.start(&format!("watch {name} --rev=1 --prev-kv"))?;
            s.wait_output(watch, "DELETE", SOON)?;
            s.stop(watch)?;
        }
        s.ctl("compact 5")?;
        for name in ["m1", "m2", "m3"] {
            let endpoint = s.endpoint(name)?;
            s.use_endpoints(&endpoint);
            s.ctl("get m1 --rev=4")?;
            s.ctl("alarm list")?;
        }
        let endpoints = s.cluster.endpoints();
        s.use_endpoints(&endpoints);
        hashes_are_equal(s, 10)
    });
}

fn hashes_are_equal(s: &mut Session, revision: i64) -> Result<()> {
    let line = format!("endpoint hashkv --rev={revision}");
    let outcome = s.until(&line, SOON, |outcome| {
        let hashes: Vec<&str> =
            outcome.stdout.lines().filter_map(|line| line.split(", ").nth(1)).collect();
        hashes.len() >= 3 && hashes.iter().all(|hash| *hash == hashes[0])
    })?;
    s.transcript.entries.pop();
    ensure!(outcome.code == Some(0), "hashkv: {outcome:?}");
    Ok(())
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn leadership_moves() {
    check(3, |s| {
        let ids = s.member_ids()?;
        let leader = s.leader()?;
        let other = ids.keys().find(|name| **name != leader).context("another member")?.clone();
        let third =
            ids.keys().find(|name| **name != leader && **name != other).context("a third")?.clone();
        for (name, role) in
            [(&leader, "first leader"), (&other, "second leader"), (&third, "third")]
        {
            s.name_id(&ids[name], role)?;
            let endpoint = s.endpoint(name)?;
            s.name(&endpoint, &format!("<{role} client>"));
        }
        let endpoint = s.endpoint(&other)?;
        s.ctl(&format!("--endpoints={endpoint} move-leader {}", ids[&other]))?;
        s.ctl("move-leader 1234")?;
        s.ctl("move-leader nonsense")?;
        s.ctl(&format!("move-leader {}", ids[&other]))?;
        let now = s.leader()?;
        ensure!(now == other, "{now} leads, not {other}: {:?}", s.transcript.entries.last());
        s.ctl("put after 1")?;
        s.ctl("get after")?;
        Ok(())
    });
}

/// The lines of `member list`, in the order of names rather than ids.
fn members(s: &mut Session) -> Result<()> {
    s.learn_names()?;
    s.ctl_sorted("member list")?;
    Ok(())
}

/// The first line only: the rest repeats the members in the order of their ids. A cluster that is not yet sure of
/// its newest member refuses for some seconds; that is waited out.
fn member_add(s: &mut Session, line: &str) -> Result<String> {
    let mut outcome = s.quiet(line)?;
    let began = std::time::Instant::now();
    while outcome.stderr.contains("unhealthy cluster") && began.elapsed() < SOON {
        outcome = s.quiet(line)?;
    }
    let text = outcome.text();
    let first = text.lines().next().unwrap_or_default().to_owned();
    s.note(line, outcome.code, &first);
    Ok(first.split_whitespace().nth(1).unwrap_or_default().to_owned())
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn members_come_and_go() {
    check(1, |s| {
        for number in 0..50 {
            s.quiet(&format!("put key-{number} {number}"))?;
        }
        // A voter.
        let second = s.cluster.joining("m2")?;
        s.name_settings(&second);
        member_add(s, &format!("member add m2 --peer-urls={}", second.peer_url()))?;
        s.cluster.join(second.clone())?.wait_ready()?;
        members(s)?;
        let first = s.endpoint("m1")?;
        s.use_endpoints(&first);
        member_add(s, &format!("member add again --peer-urls={}", second.peer_url()))?;
        // A learner.
        let third = s.cluster.joining("m3")?;
        s.name_settings(&third);
        let learner =
            member_add(s, &format!("member add m3 --learner --peer-urls={}", third.peer_url()))?;
        s.name_id(&learner, "member m3")?;
        member_add(s, "member add m4 --learner --peer-urls=http://127.0.0.1:1")?;
        s.cluster.join(third)?;
        let at_learner = format!("--endpoints={}", s.endpoint("m3")?);
        s.until(&format!("{at_learner} get key-49 --consistency=s"), SOON, |o| {
            o.stdout.contains("49")
        })?;
        s.ctl(&format!("{at_learner} put no 1"))?;
        s.ctl(&format!("{at_learner} get key-1"))?;
        s.ctl(&format!("{at_learner} lease grant 100"))?;
        members(s)?;
        s.ctl("member promote 1234")?;
        s.until(&format!("member promote {learner}"), SOON, |outcome| outcome.code == Some(0))?;
        s.ctl(&format!("member promote {learner}"))?;
        members(s)?;
        s.until(&format!("{at_learner} get key-1"), SOON, |o| o.code == Some(0))?;
        // Other addresses, and the way out.
        let ids = s.member_ids()?;
        s.ctl(&format!("member update {} --peer-urls=http://127.0.0.1:2", ids["m2"]))?;
        s.ctl("member update 1234 --peer-urls=http://127.0.0.1:3")?;
        s.ctl_sorted("member list")?;
        // With one address gone, a cluster is not sure of its quorum for some seconds, and refuses.
        s.until(&format!("member remove {}", ids["m2"]), SOON, |o| {
            !o.stderr.contains("unhealthy cluster")
        })?;
        s.ctl(&format!("member remove {}", ids["m2"]))?;
        s.ctl("member remove 1234")?;
        s.cluster.servers[1].kill()?;
        s.ctl_sorted("member list")?;
        s.ctl("put after 1")?;
        s.ctl("get after")?;
        s.cluster.servers.remove(1);
        Ok(())
    });
}

/// Two of three members are lost for ever, and the third goes on alone; started once more with the flag, and
/// then without it; a new member joins it.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn the_last_member_is_made_a_cluster() {
    check(3, |s| {
        for number in 0..30 {
            s.quiet(&format!("put key-{number} {number}"))?;
        }
        // All of it is applied by the one that stays: what only the others have is lost with them. A real etcd
        // also drops the last entries, of which it has not written down that they are committed.
        for _ in 0..3 {
            s.quiet("put last 1")?;
        }
        let first = s.endpoint("m1")?;
        s.until(&format!("--endpoints={first} get key-29 --consistency=s"), SOON, |outcome| {
            outcome.stdout.contains("29\n29")
        })?;
        let lost: Vec<String> = s.member_ids()?.into_iter().skip(1).map(|(_, id)| id).collect();
        for server in &mut s.cluster.servers {
            server.kill()?;
        }
        for mut gone in s.cluster.servers.drain(1..) {
            gone.wipe()?;
        }
        s.use_endpoints(&first);
        let plain = s.cluster.servers[0].settings.program.clone();
        let forced = plain.clone().with(&["--force-new-cluster"]);
        for program in [&forced, &forced, &plain] {
            s.cluster.servers[0].settings.program = program.clone();
            s.cluster.servers[0].kill()?;
            s.cluster.servers[0].restart()?;
            s.cluster.servers[0].wait_ready()?;
            s.ctl_sorted("member list")?;
            s.ctl("get key- --prefix --keys-only")?;
            s.ctl("put after 1 --prev-kv")?;
            // As above: it is to outlive the next start.
            for _ in 0..3 {
                s.quiet("put last 1")?;
            }
        }
        for id in &lost {
            s.name_id(id, "a member that was lost")?;
            s.ctl(&format!("member remove {id}"))?;
        }
        let second = s.cluster.joining("m4")?;
        s.name_settings(&second);
        member_add(s, &format!("member add m4 --peer-urls={}", second.peer_url()))?;
        s.cluster.join(second)?.wait_ready()?;
        members(s)?;
        let at_second = s.endpoint("m4")?;
        s.ctl(&format!("--endpoints={at_second} get after"))?;
        Ok(())
    });
}

/// What is restored by etcd's own tools from a snapshot of ours is what was there.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn a_snapshot_restores_into_a_real_etcd() {
    let subject = subject().expect("the server under test");
    for version in [Version::V34, Version::V35, Version::V37] {
        snapshot(version, &subject).unwrap_or_else(|error| panic!("{version:?}: {error:#}"));
    }
}

fn snapshot(version: Version, subject: &e2e::tools::Program) -> Result<()> {
    let mut s = Session::new(e2e::cluster::Cluster::start(subject, 1)?, version)?;
    for number in 0..300 {
        let outcome = s.quiet(&format!("put key-{:03} value-{number}", number % 200))?;
        ensure!(outcome.code == Some(0), "put: {}", outcome.text());
    }
    s.ctl("del key-007")?;
    let lease = s.ctl("lease grant 5000")?.word(1)?.to_owned();
    s.ctl(&format!("put leased 1 --lease={lease}"))?;
    s.ctl("compact 100")?;
    let before = s.quiet("get '' --prefix -w json")?.stdout;
    let old = s.quiet("get '' --prefix --rev=150 -w json")?.stdout;
    let saved = s.ctl("snapshot save backup.db")?;
    ensure!(saved.code == Some(0), "snapshot save: {}", saved.text());
    // From 3.6 on, what works on files is in etcdutl alone.
    let status = match version {
        Version::V37 => s.utl("snapshot status backup.db")?,
        _ => s.ctl("snapshot status backup.db")?,
    };
    ensure!(
        status.code == Some(0) && status.stdout.contains(", 303, "),
        "status: {}",
        status.text()
    );
    // The tool of the version restores, and an etcd of that version serves what it restored.
    let restored = s.cluster.file("m1-restored");
    let line = format!(
        "snapshot restore backup.db --data-dir {} --name m1 --initial-cluster m1=http://127.0.0.1:1 \
         --initial-advertise-peer-urls http://127.0.0.1:1",
        restored.display()
    );
    let outcome = if version == Version::V34 { s.quiet(&line)? } else { s.utl(&line)? };
    ensure!(outcome.code == Some(0), "restore: {}", outcome.text());
    let mut settings = s.cluster.joining("m1")?;
    settings.program = etcd(version)?;
    settings.data_dir = restored;
    settings.existing = false;
    let mut server = e2e::server::Server::start(settings)?;
    server.wait_ready()?;
    s.use_endpoints(&server.settings.endpoint());
    let kvs = |json: &str| json.split_once("\"kvs\":").map(|(_, kvs)| kvs.to_owned());
    let after = s.quiet("get '' --prefix -w json")?.stdout;
    ensure!(kvs(&before).is_some() && kvs(&before) == kvs(&after), "keys:\n{before}\n{after}");
    let after = s.quiet("get '' --prefix --rev=150 -w json")?.stdout;
    ensure!(kvs(&old).is_some() && kvs(&old) == kvs(&after), "keys at 150:\n{old}\n{after}");
    let compacted = s.quiet("get '' --prefix --rev=99")?;
    ensure!(compacted.stderr.contains("compacted"), "at 99: {compacted:?}");
    ensure!(s.quiet("lease list")?.stdout.contains(&lease), "the lease is gone");
    Ok(())
}

/// What three members restored from a snapshot serve is what the member had from which it was saved:
/// a real etcd, or one of ours.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn a_snapshot_restores_into_three_members() {
    let subject = subject().expect("the server under test");
    for source in [
        etcd(Version::V34).expect("etcd 3.4"),
        etcd(Version::V35).expect("etcd 3.5"),
        subject.clone(),
    ] {
        restored(&source, &subject)
            .unwrap_or_else(|error| panic!("{}: {error:#}", source.path.display()));
    }
}

/// Revisions 2 to some 330 and a compaction at 100: keys overwritten, deleted and made anew, transactions of
/// several keys, leases with and without keys.
fn history(s: &mut Session) -> Result<String> {
    for number in 0..300 {
        let outcome = s.quiet(&format!("put key-{:03} value-{number}", number % 190))?;
        ensure!(outcome.code == Some(0), "put: {}", outcome.text());
    }
    let lease = s.ctl("lease grant 5000")?.word(1)?.to_owned();
    s.ctl("lease grant 7000")?;
    for line in [
        "del key-007".to_owned(),
        "put key-007 again".to_owned(),
        "del key-02 --prefix".to_owned(),
        format!("put leased --lease={lease} 1"),
        format!("put leased/too --lease={lease} 1"),
        "put leased/too 2".to_owned(),
        "compact 100".to_owned(),
    ] {
        let outcome = s.ctl(&line)?;
        ensure!(outcome.code == Some(0), "{line}: {}", outcome.text());
    }
    let outcome =
        s.ctl_with_input("txn", "mod(\"key-001\") > \"0\"\n\nput a 1\nput z 1\ndel key-001\n\n\n")?;
    ensure!(outcome.code == Some(0), "txn: {}", outcome.text());
    Ok(lease)
}

/// All that can be asked for, without the headers, which name the cluster.
fn everything(s: &mut Session) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for revision in [0, 100, 101, 190, 191, 290, 302, 303] {
        let outcome = s.quiet(&format!("get '' --prefix --rev={revision} -w json"))?;
        let kvs = outcome.stdout.split_once("\"kvs\":").map(|(_, kvs)| kvs.to_owned());
        seen.push(kvs.with_context(|| format!("get --rev={revision}: {}", outcome.text()))?);
    }
    let compacted = s.quiet("get '' --prefix --rev=99")?;
    ensure!(compacted.stderr.contains("compacted"), "at 99: {compacted:?}");
    let watch = s.start("watch '' --prefix --rev=100 --prev-kv")?;
    s.wait_output(watch, "\nz\n", SOON)?;
    seen.push(s.stop_quietly(watch)?);
    seen.push(s.quiet("lease list")?.stdout);
    Ok(seen)
}

fn restored(source: &e2e::tools::Program, subject: &e2e::tools::Program) -> Result<()> {
    let mut old = Session::new(e2e::cluster::Cluster::start(source, 1)?, Version::V35)?;
    let lease = history(&mut old)?;
    let saved = old.ctl("snapshot save backup.db")?;
    ensure!(saved.code == Some(0), "snapshot save: {}", saved.text());
    let status = old.utl("snapshot status backup.db -w json")?.stdout;
    if !subject.is_etcd() {
        let ours = old.own_of(subject, "snapshot status backup.db -w json")?;
        ensure!(ours.stdout.trim() == status.trim(), "status: {status:?}, ours: {ours:?}");
    }
    let cluster = e2e::cluster::Cluster::spawn_after(subject, 3, |member| {
        let line = format!(
            "snapshot restore backup.db --data-dir {} --name {} --initial-cluster {} \
             --initial-cluster-token {} --initial-advertise-peer-urls {}",
            member.data_dir.display(),
            member.name,
            member.initial_cluster,
            member.token,
            member.peer_url()
        );
        let outcome = if subject.is_etcd() { old.utl(&line)? } else { old.own_of(subject, &line)? };
        ensure!(outcome.code == Some(0), "restore: {}", outcome.text());
        Ok(())
    })?;
    let mut new = Session::new(ready(cluster)?, Version::V35)?;
    let expected = everything(&mut old)?;
    for name in ["m1", "m2", "m3"] {
        let endpoint = new.endpoint(name)?;
        new.use_endpoints(&endpoint);
        let found = everything(&mut new)?;
        for (expected, found) in expected.iter().zip(&found) {
            ensure!(expected == found, "{name} has\n{found}\nnot\n{expected}");
        }
    }
    let list = new.quiet("member list")?.stdout;
    ensure!(list.lines().count() == 3 && list.matches("started").count() == 3, "{list}");
    let hash = |s: &Session, endpoint: &str| -> Result<String> {
        Ok(s.quiet(&format!("--endpoints={endpoint} endpoint hashkv --rev=303"))?
            .word(1)?
            .to_owned())
    };
    let hashes = ["m1", "m2", "m3"].map(|name| hash(&new, &new.endpoint(name)?));
    let hashes = hashes.into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(hashes.iter().all(|one| *one == hashes[0]), "{hashes:?}");
    if source == subject {
        let before = hash(&old, &old.endpoint("m1")?)?;
        ensure!(before == hashes[0], "HashKV was {before}, is {}", hashes[0]);
    }
    goes_on(&mut new, &lease)
}

fn ready(mut cluster: e2e::cluster::Cluster) -> Result<e2e::cluster::Cluster> {
    cluster.wait_ready()?;
    Ok(cluster)
}

/// The restored members are a cluster like any other: they write, expire, lose a member, start again.
fn goes_on(s: &mut Session, lease: &str) -> Result<()> {
    let endpoints = s.cluster.endpoints();
    s.use_endpoints(&endpoints);
    let revoked = s.quiet(&format!("lease revoke {lease}"))?;
    ensure!(revoked.code == Some(0), "revoke: {}", revoked.text());
    let left = s.quiet("get leased --prefix --keys-only")?;
    ensure!(left.stdout.trim() == "leased/too", "left of the lease: {left:?}");
    let leader = s.leader()?;
    for server in &mut s.cluster.servers {
        if server.settings.name == leader {
            server.kill()?;
        }
    }
    s.until("put after 1", SOON, |outcome| outcome.code == Some(0))?;
    for server in &mut s.cluster.servers {
        server.kill()?;
        server.restart()?;
    }
    s.cluster.wait_ready()?;
    let after = s.quiet("get after")?;
    ensure!(after.stdout == "after\n1\n", "after a restart: {after:?}");
    hashes_are_equal(s, 309)
}
