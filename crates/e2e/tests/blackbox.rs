//! A minute of real faults, and the black box itself under test: what it recorded is broken on purpose, and must be
//! caught; see `e2e::blackbox`.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::blackbox::judge::{judge, read};
use history::record::{Answer, Call, Change, History, Outcome, Revision, Said, Told};

const SEED: &str = "1";

/// Runs the black box; where its history is.
fn a_run(minutes: &str, out: &Path) -> PathBuf {
    let seed = std::env::var("QUORATE_SEED").unwrap_or_else(|_| SEED.to_owned());
    let status = Command::new(env!("CARGO_BIN_EXE_blackbox"))
        .args(["--seed", &seed, "--minutes", minutes, "--keep", "yes", "--out"])
        .arg(out)
        .status()
        .expect("the black box can be started");
    assert!(status.success(), "the black box: {status}");
    let mut histories = std::fs::read_dir(out)
        .expect("the directory for histories")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    histories.next().expect("a history is kept")
}

/// A way in which a server can be wrong, done to a record; false if there is no place for it.
type Lie = fn(&mut History) -> bool;

/// With the rules that it breaks: whichever is looked at first names it.
const LIES: &[(&str, &[&str], Lie)] = &[
    ("an acknowledged write is lost", &["WriteLost"], lost_write),
    ("a read is stale", &["ReadStale"], stale_read),
    ("a read gives another value", &["ReadWrong"], wrong_read),
    ("a watcher is not told an event", &["WatchMissing"], unheard),
    ("a watcher is told an event twice", &["WatchTwice"], told_twice),
    // What it claims to have written at its revision, another has, who may know it.
    ("a transaction lies about its branch", &["BranchWrong", "RevisionShared"], wrong_branch),
    ("a deletion counts wrong", &["CountWrong"], wrong_count),
    ("a commit is missing", &["RevisionGap"], gap),
];

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn a_minute_of_faults_and_every_lie_about_it() {
    let out = tempfile::tempdir().expect("a directory");
    let path = a_run("1", out.path());
    let honest = read(&path).expect("a history");
    judge(&honest).expect("the record as it is");
    for (what, rules, lie) in LIES {
        let mut history = honest.clone();
        assert!(lie(&mut history), "no place in the record for: {what}");
        let error = format!("{:#}", judge(&history).expect_err(what));
        let named = rules.iter().any(|rule| error.contains(rule));
        assert!(error.contains("BROKEN") && named, "{what}: {error}");
    }
    blind_lie(honest);
}

/// How it shows that what had been acknowledged is gone: a rule of the contract is broken; or members that have less
/// than they once acknowledged cannot go on, together or alone.
const FOUND_OUT: &[&str] =
    &["verdict: BROKEN", "does not serve again", "ended by itself", "writes do not go on"];

/// Disks that say that they have synced, and have not, and lose their power: acknowledged writes are lost, and that
/// must be found out. By luck a run may lose nothing that was acknowledged; several do not.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn a_disk_that_lies_is_found_out() {
    for seed in ["1", "2", "3"] {
        let Err(told) = a_run_on_disks_that_lie(seed) else { continue };
        let end: Vec<&str> = told.lines().rev().take(40).collect();
        let found = FOUND_OUT.iter().any(|one| told.contains(one));
        assert!(found, "it failed for another reason; its last lines, backwards: {end:#?}");
        return;
    }
    panic!("a store on disks that lie passed, three times");
}

/// What it told if it failed.
fn a_run_on_disks_that_lie(seed: &str) -> Result<(), String> {
    let out = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_blackbox"))
        .args(["--seed", seed, "--minutes", "0.3", "--only", "power loss", "--lie", "yes", "--out"])
        .arg(out.path())
        .output()
        .expect("the black box can be started");
    let told = || String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(told()) }
}

/// The search believes no revision: it must find a wrong value by itself.
fn blind_lie(mut history: History) {
    use history::linear::keys::{Fault, Settings, check};
    let settings = Settings::default();
    check(&history.operations, &settings).expect("the record as it is");
    assert!(wrong_read(&mut history));
    let fault = check(&history.operations, &settings).expect_err("a value that was never put");
    assert!(matches!(fault, Fault::NotLinearizable { .. }), "{fault}");
}

/// The last write that was acknowledged is in no commit: another value is there.
fn lost_write(history: &mut History) -> bool {
    let wrong = "a value that nobody put";
    for operation in history.operations.iter().rev() {
        let (Call::Put(put), Outcome::Ok { revision, .. }) = (&operation.call, &operation.outcome)
        else {
            continue;
        };
        for commit in &mut history.commits.list {
            if commit.revision != *revision {
                continue;
            }
            for event in &mut commit.events {
                if event.key == put.key
                    && let Change::Put { value, .. } = &mut event.change
                {
                    *value = wrong.into();
                    return true;
                }
            }
        }
    }
    false
}

fn gap(history: &mut History) -> bool {
    let middle = history.commits.list.len() / 2;
    if middle == 0 {
        return false;
    }
    history.commits.list.remove(middle);
    true
}

/// A linearizable read of the state before the last write that had been acknowledged.
fn stale_read(history: &mut History) -> bool {
    for operation in history.operations.iter_mut().rev() {
        if let Call::Get(get) = &operation.call
            && let Outcome::Ok { revision, .. } = &mut operation.outcome
            && get.revision.is_none()
            && !get.serializable
        {
            *revision = Revision(revision.0 / 2);
            return true;
        }
    }
    false
}

fn wrong_read(history: &mut History) -> bool {
    for operation in history.operations.iter_mut().rev() {
        if let Call::Get(get) = &operation.call
            && let Outcome::Ok { answer: Answer::Get { kvs, .. }, .. } = &mut operation.outcome
            && let Some(kv) = kvs.first_mut()
            && get.span.single().is_some_and(|key| key.starts_with(b"g"))
            && !(get.serializable || get.keys_only || get.revision.is_some())
        {
            kv.value = "a value that nobody put".into();
            return true;
        }
    }
    false
}

/// Messages of events between others of the same connection.
fn some_events(history: &mut History) -> Option<(&mut Vec<Told>, usize)> {
    for watch in &mut history.watches {
        for connection in &mut watch.connections {
            let last = connection.told.len().saturating_sub(1);
            let place = (1..last).find(|place| {
                let is = |told: &Told| matches!(told.said, Said::Events { .. });
                is(&connection.told[*place]) && is(&connection.told[*place + 1])
            });
            if let Some(place) = place {
                return Some((&mut connection.told, place));
            }
        }
    }
    None
}

fn unheard(history: &mut History) -> bool {
    some_events(history).map(|(told, place)| told.remove(place)).is_some()
}

fn told_twice(history: &mut History) -> bool {
    some_events(history).map(|(told, place)| told.insert(place, told[place].clone())).is_some()
}

/// Of a store in which nothing was ever written.
const FIRST: Revision = Revision(1);

fn wrong_branch(history: &mut History) -> bool {
    for operation in &mut history.operations {
        if let Outcome::Ok { answer: Answer::Txn { succeeded, answers }, revision } =
            &mut operation.outcome
            && !*succeeded
            // Before anything was written no commit could be its own: a lost write, not a wrong branch.
            && *revision > FIRST
            && let Call::Txn(txn) = &operation.call
            && !txn.compares.is_empty()
        {
            // It says that it took the other branch, with the answer that this would have had.
            *succeeded = true;
            *answers = vec![Answer::Put { prev: None }];
            return true;
        }
    }
    false
}

fn wrong_count(history: &mut History) -> bool {
    for operation in &mut history.operations {
        if let Outcome::Ok { answer: Answer::Delete { deleted, prev }, .. } = &mut operation.outcome
            && *deleted > 0
            && prev.is_empty()
        {
            *deleted += 1;
            return true;
        }
    }
    false
}
