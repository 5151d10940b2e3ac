//! Scripts of real etcdctl, 3.4, 3.5 and 3.7, against one member. A real etcd gives the expectations.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::ctl::{Session, compare};
use e2e::tools::{self, Version, subject};

const SOON: Duration = Duration::from_secs(10);

/// Runs a script with both versions of etcdctl.
fn check(script: impl Fn(&mut Session) -> Result<()> + Sync) {
    for version in [Version::V34, Version::V35, Version::V37] {
        let oracle = tools::oracle().expect("etcd 3.7");
        let subject = subject().expect("the server under test");
        compare(&oracle, &subject, version, 1, &script)
            .unwrap_or_else(|error| panic!("{version:?}: {error:#}"));
    }
}

fn all(s: &mut Session, lines: &str) -> Result<()> {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        s.ctl(line)?;
    }
    Ok(())
}

/// Some keys with a history.
const SOME_KEYS: &str = "
    put a 1
    put b 2
    put c 3
    put a/1 x
    put a/2 y
    put a/3 z
    put a 11
    del b
    put b 22
    put '' empty
    put empty ''
    put 'with space' 'and more'
";

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn put_in_all_forms() {
    check(|s| {
        all(
            s,
            "put a 1
            put a 2 --prev-kv
            put a 3 --prev-kv -w json
            put a 4 -w fields
            put a
            put a b c
            put missing --ignore-value
            put a --ignore-value --prev-kv
            put a x --ignore-value
            put a 5 --ignore-lease
            put missing 5 --ignore-lease
            put a 5 --lease=1234
            put a 5 --lease=nonsense
            put '' 5
            get a -w json",
        )?;
        s.ctl_with_input("put from-input", "the value\nin two lines")?;
        s.ctl("get from-input -w json")?;
        Ok(())
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn get_with_every_flag() {
    check(|s| {
        all(s, SOME_KEYS)?;
        all(
            s,
            "get a
            get missing
            get missing -w json
            get a -w json
            get a -w fields
            get a --print-value-only
            get a --hex
            get a --consistency=s
            get a --consistency=l
            get a --consistency=x
            get a --keys-only
            get a --rev=2 -w json
            get a --rev=8
            get a --rev=1
            get a --rev=1000
            get a --rev=-1
            get a b
            get a c -w json
            get c a
            get a a
            get a --prefix
            get a/ --prefix --keys-only
            get '' --prefix
            get '' --from-key
            get b --from-key -w json
            get b --from-key --prefix
            get a --prefix --limit=2
            get a --prefix --limit=2 -w json
            get a --prefix --limit=-1
            get a --prefix --count-only -w json
            get a --prefix --count-only -w fields
            get a --prefix --order=DESCEND
            get a --prefix --order=ascend --sort-by=VALUE
            get a --prefix --order=nonsense
            get a --prefix --sort-by=nonsense
            get '' --prefix --sort-by=KEY --order=DESCEND
            get '' --prefix --sort-by=CREATE
            get '' --prefix --sort-by=CREATE --order=DESCEND
            get '' --prefix --sort-by=MODIFY
            get '' --prefix --sort-by=MODIFY --order=DESCEND --limit=3
            get '' --prefix --sort-by=VALUE
            get '' --prefix --sort-by=VERSION --order=DESCEND
            get '' --prefix --rev=5
            get",
        )
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn del_in_all_forms() {
    check(|s| {
        all(s, SOME_KEYS)?;
        all(
            s,
            "del missing
            del missing -w json
            del a --prev-kv
            del a -w json
            del a/1 a/3 --prev-kv
            del a/ --prefix -w json
            del c --from-key --prev-kv
            del ''
            del b a
            get '' --prefix -w json
            del '' --prefix
            del '' --from-key
            get '' --prefix -w json
            del",
        )
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn transactions() {
    check(|s| {
        all(s, SOME_KEYS)?;
        for script in [
            "mod(\"a\") > \"0\"\n\nput a then\nget a\n\nput a else\n\n",
            "value(\"a\") = \"then\"\nversion(\"b\") = \"1\"\ncreate(\"c\") < \"100\"\n\nput b 5\nget a --prefix\ndel c\n\nget b\n\n",
            "value(\"missing\") = \"\"\n\nput x 1\n\nget b\n\n",
            "create(\"missing\") = \"0\"\n\nput x 1\nput y 2\n\nget b\n\n",
            "\n\n\n",
            "\nput d 1\nput d 2\n\n\n",
            "\nput d 1\ndel d\n\n\n",
            "\ndel a\ndel a --prefix\n\n\n",
            "\nget a --rev=1000\n\n\n",
        ] {
            s.ctl_with_input("txn", script)?;
            s.ctl_with_input("txn -w json", script)?;
            s.ctl_with_input("txn --interactive", script)?;
        }
        s.ctl("get '' --prefix -w json")?;
        Ok(())
    });
}

/// What a watch without a start revision sees, from the moment on at which it is known to have begun.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn watches_from_now_on() {
    check(|s| {
        all(s, SOME_KEYS)?;
        let watch = s.start("watch live/ --prefix --prev-kv")?;
        for round in 0.. {
            ensure!(round < 50, "the watch does not begin");
            s.quiet("put live/probe x")?;
            if s.wait_output(watch, "live/probe", Duration::from_millis(200)).is_ok() {
                break;
            }
        }
        all(
            s,
            "put live/a 1
            put live/a 2
            put other 1
            del live/a
            del live/a
            del live/ --prefix
            put live/b 3",
        )?;
        s.ctl_with_input("txn", "\nput live/c 1\nput live/d 1\ndel live/b\n\n\n")?;
        s.ctl("put live/end 1")?;
        s.wait_output(watch, "live/end", SOON)?;
        let printed = s.stop_quietly(watch)?;
        let seen = printed.split_once("live/a").map(|(_, seen)| seen.to_owned());
        ensure!(seen.is_some(), "the watch did not see what followed: {printed}");
        s.note("watch live/ --prefix --prev-kv", Some(0), &seen.unwrap_or_default());
        Ok(())
    });
}

/// History only, so that everything that is printed is the same from run to run.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn watches_of_history() {
    check(|s| {
        all(s, SOME_KEYS)?;
        s.ctl_with_input("txn", "\nput a txn\nput b txn\ndel c\n\n\n")?;
        all(s, "del a/ --prefix\nput a end\nput b end\nput z end")?;
        for line in [
            "watch a --rev=1",
            "watch a --rev=1 --prev-kv",
            "watch a --prefix --rev=2 --prev-kv",
            "watch '' --prefix --rev=3 --prev-kv",
            "watch a c --rev=1",
            "watch b --from-key --rev=1 --prev-kv",
            "watch b --rev=1 --hex",
        ] {
            let watch = s.start(line)?;
            let end = if line.contains("--hex") { "\\x65\\x6e\\x64" } else { "end" };
            s.wait_output(watch, end, SOON)?;
            settle(s, watch)?;
            s.stop(watch)?;
        }
        s.ctl("compact 10")?;
        let watch = s.start("watch a --rev=5")?;
        s.finish(watch)?;
        Ok(())
    });
}

/// Waits until a command in the background prints no more: three looks in a row with nothing new.
fn settle(s: &mut Session, watch: usize) -> Result<()> {
    let (mut before, mut quiet) = (usize::MAX, 0);
    while quiet < 3 {
        s.quiet("get settle")?;
        let now = s.wait_output(watch, "", SOON)?.len();
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
    Ok(())
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn leases() {
    check(|s| {
        let id = s.ctl("lease grant 1000")?.word(1)?.to_owned();
        s.name(&id, "<lease>");
        s.ctl(&format!("put leased/b 1 --lease={id}"))?;
        s.ctl(&format!("put leased/a 1 --lease={id}"))?;
        s.ctl("put other 1")?;
        s.ctl("get leased/ --prefix -w fields")?;
        s.ctl(&format!("lease keep-alive {id} --once"))?;
        s.ctl("lease list")?;
        s.ctl(&format!("lease timetolive {id} -w json"))?;
        s.ctl(&format!("put leased/a 2 --lease={id} --prev-kv"))?;
        s.ctl("put leased/b detached")?;
        s.ctl("get leased/ --prefix -w fields")?;
        s.ctl(&format!("lease revoke {id}"))?;
        s.ctl("get '' --prefix -w json")?;
        s.ctl(&format!("lease revoke {id}"))?;
        s.ctl(&format!("lease timetolive {id}"))?;
        s.ctl(&format!("lease keep-alive {id} --once"))?;
        all(
            s,
            "lease list
            lease grant 0
            lease grant nonsense
            lease grant 9000000001
            lease revoke nonsense
            lease revoke 1
            lease timetolive 1
            put a 1 --lease=1",
        )
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn leases_run_out_and_not_early() {
    check(|s| {
        let granted = std::time::Instant::now();
        let id = s.ctl("lease grant 3")?.word(1)?.to_owned();
        for key in ["c", "a", "b"] {
            s.ctl(&format!("put {key} 1 --lease={id}"))?;
        }
        let watch = s.start("watch '' --prefix --rev=2 --prev-kv -w json")?;
        s.until("get '' --prefix --keys-only", SOON, |outcome| outcome.stdout.is_empty())?;
        ensure!(
            granted.elapsed() >= Duration::from_secs(3),
            "the lease ran out after {:?}",
            granted.elapsed()
        );
        s.ctl("get '' --prefix -w json")?;
        s.ctl("get '' --prefix --rev=4 -w json")?;
        s.ctl("lease list")?;
        s.wait_output(watch, "\"type\":1", SOON)?;
        s.stop(watch)?;
        // Kept alive, it outlives its time.
        let id = s.ctl("lease grant 2")?.word(1)?.to_owned();
        s.ctl(&format!("put kept 1 --lease={id}"))?;
        let keeper = s.start(&format!("lease keep-alive {id}"))?;
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            ensure!(
                s.quiet("get kept")?.stdout.contains("kept"),
                "the lease ran out although kept alive"
            );
        }
        s.ctl(&format!("lease revoke {id}"))?;
        s.ctl("get kept -w json")?;
        drop(s.finish(keeper));
        s.transcript.entries.pop();
        Ok(())
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn compaction() {
    check(|s| {
        all(s, SOME_KEYS)?;
        all(
            s,
            "get a --rev=3 -w json
            compact 5
            get a --rev=4
            get a --rev=5 -w json
            get '' --prefix --rev=5
            compact 5
            compact 4
            compact 1000
            compact 0
            compact -1
            compact nonsense
            compact
            compact 9 --physical
            get b --rev=9
            get b --rev=8
            get '' --prefix -w json
            put a after
            get a -w json",
        )
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn locks_and_elections() {
    check(|s| {
        let holder = s.start("lock mutex")?;
        s.wait_output(holder, "mutex/", SOON)?;
        let waiter = s.start("lock mutex echo held")?;
        s.until("get mutex/ --prefix --sort-by=CREATE -w fields", SOON, |o| {
            o.stdout.contains("\"Count\" : 2")
        })?;
        ensure!(!s.wait_output(waiter, "", SOON)?.contains("held"), "two hold one lock");
        s.stop(holder)?;
        let printed = s.finish(waiter)?;
        ensure!(printed.contains("held"), "the waiter did not get the lock: {printed}");
        s.ctl("get mutex/ --prefix --keys-only")?;

        let leader = s.start("elect seat first")?;
        s.wait_output(leader, "first", SOON)?;
        let observer = s.start("elect seat --listen")?;
        s.wait_output(observer, "first", SOON)?;
        let next = s.start("elect seat second")?;
        s.until("get seat/ --prefix --sort-by=CREATE -w fields", SOON, |o| {
            o.stdout.contains("\"Count\" : 2")
        })?;
        s.stop(leader)?;
        s.wait_output(next, "second", SOON)?;
        s.wait_output(observer, "second", SOON)?;
        s.stop(observer)?;
        s.stop(next)?;
        s.ctl("get seat/ --prefix --keys-only")?;
        Ok(())
    });
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn endpoints_and_alarms() {
    check(|s| {
        all(s, SOME_KEYS)?;
        all(
            s,
            "endpoint health
            endpoint health --cluster
            endpoint health -w json
            alarm list
            alarm disarm
            defrag
            member list
            member list -w json",
        )?;
        let status = s.ctl_status()?;
        ensure!(status.contains("\"dbSize\":"), "no size: {status}");
        let now = hashkv(s, "endpoint hashkv")?;
        ensure!(hashkv(s, "endpoint hashkv --rev=5")? != now, "the same hash at 5");
        ensure!(hashkv(s, "endpoint hashkv --rev=0")? == now, "another hash at 0");
        s.ctl("endpoint hashkv --rev=1000 -w json")?;
        Ok(())
    });
}

/// The hash, which is a server's own. Newer tools print the revision after it.
fn hashkv(s: &Session, line: &str) -> Result<u32> {
    let outcome = s.quiet(line)?;
    ensure!(outcome.code == Some(0), "{line}: {outcome:?}");
    Ok(outcome.word(1)?.trim_end_matches(',').parse()?)
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn check_perf() {
    let subject = subject().expect("the server under test");
    let cluster = e2e::cluster::Cluster::start(&subject, 1).expect("a member");
    let session = Session::new(cluster, Version::V34).expect("a session");
    // Passing or not is the machine's affair here; that it runs to its end and cleans up is ours.
    let outcome = session.quiet_long("check perf --load=s").expect("check perf");
    assert!(outcome.text().contains("Throughput"), "{outcome:?}");
    let left = session.quiet("get /etcdctl-check-perf/ --prefix --keys-only").expect("get");
    assert_eq!(left.stdout, "");
}

/// A server that differs in one setting is found out.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn the_test_itself() {
    let oracle = tools::oracle().expect("etcd 3.7");
    let script = |s: &mut Session| {
        s.ctl_with_input("txn", "\nput a 1\nput b 2\n\n\n")?;
        Ok(())
    };
    compare(&oracle, &oracle, Version::V37, 1, script).expect("etcd is like itself");
    let other = oracle.clone().with(&["--max-txn-ops", "1"]);
    let found = compare(&oracle, &other, Version::V37, 1, script).expect_err("a difference");
    assert!(
        format!("{found:#}").contains("+ Error: etcdserver: too many operations in txn request"),
        "{found:#}"
    );
}
