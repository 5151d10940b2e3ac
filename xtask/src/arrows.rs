//! Who may depend on whom.
//!
//! The table below is the one in ARCHITECTURE.md; the check fails when they differ, when a manifest has an
//! arrow that is not here, when a room is missing, and when a crate reaches for a runtime it must not know:
//! tokio belongs to `node` and above, tonic to those who speak gRPC. Dev-dependencies follow the same table,
//! with a few more arrows of their own.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use crate::metadata::{Package, workspace};
use crate::run::root;

/// One room of the house.
struct Room {
    name: &'static str,
    does: &'static str,
    /// May depend on, in any kind of dependency.
    on: &'static [&'static str],
    /// May depend on besides, in tests only.
    in_tests: &'static [&'static str],
}

const fn room(name: &'static str, does: &'static str, on: &'static [&'static str]) -> Room {
    Room { name, does, on, in_tests: &[] }
}

/// The house, from the cellar up. An arrow leads only to rooms above it in this list.
const HOUSE: &[Room] = &[
    room("hunt", "tests only: the hunt for code that is broken on purpose", &[]),
    room("quorum", "majority and joint quorum arithmetic", &[]),
    room("history", "recorded histories of an etcd-like store, and their checkers", &[]),
    room("env", "ports to the outside: disk, clock, network, randomness; real and simulated", &[]),
    room("http2", "the server's side of HTTP/2 and HPACK, sans-io", &[]),
    room("bolt", "the bbolt file format: what an etcd snapshot is made of", &[]),
    room("proto", "the messages of the etcd v3 API; no gRPC", &[]),
    room("raft", "the consensus core, sans-io", &["quorum"]),
    room(
        "raft-mutants",
        "the sources of raft with known mistakes compiled in, for the lab",
        &["quorum"],
    ),
    room("mvcc", "keys, versions, revisions: the multi-version state", &[]),
    room("store", "many Raft groups on one node: ranges and replicas", &["raft"]),
    room(
        "etcd",
        "KV, Txn, Lease, Watch, Cluster as one deterministic state machine",
        &["mvcc", "proto"],
    ),
    room("storage", "the shared log and the state engine", &["env", "raft", "mvcc"]),
    room(
        "node",
        "the runtime of a member: the deterministic core, threads, peer transport",
        &["env", "proto", "raft", "mvcc", "store", "etcd", "storage"],
    ),
    room(
        "server",
        "the door: gRPC, health, metrics",
        &["http2", "bolt", "proto", "mvcc", "etcd", "node"],
    ),
    room(
        "sim",
        "whole clusters from a seed: real members, simulated surroundings",
        &["history", "env", "proto", "raft", "mvcc", "store", "etcd", "storage", "node"],
    ),
    room(
        "lab",
        "protocols from their papers, run under faults, checked after every event",
        &["raft", "raft-mutants"],
    ),
    room("lab-page", "the lab's page, served by the binary", &["lab"]),
    room("client", "the Rust client: finds the leader, retries only what is safe", &["proto"]),
    room(
        "bench",
        "load generation and measurement against any etcd endpoint",
        &["proto", "client"],
    ),
    room(
        "cli",
        "the `quorate` binary",
        &[
            "env", "bolt", "proto", "mvcc", "etcd", "storage", "node", "server", "lab", "lab-page",
            "client", "bench",
        ],
    ),
    room(
        "fuzz",
        "tests only: what every decoder promises of any bytes",
        &[
            "env", "http2", "bolt", "mvcc", "store", "etcd", "storage", "node", "server", "sim",
            "cli",
        ],
    ),
    room(
        "e2e",
        "tests only: real processes, real etcd, real etcdctl",
        &["history", "proto", "client"],
    ),
    room("xtask", "`cargo xtask ci`, the one gate", &[]),
];

/// What every room's tests may depend on.
const IN_ALL_TESTS: &str = "hunt";

/// Rooms that may know an async runtime.
const TOKIO: &[&str] = &["node", "server", "lab-page", "client", "bench", "cli", "e2e"];
/// Rooms that may know gRPC.
const TONIC: &[&str] = &["server", "client", "bench", "cli", "e2e"];

const BEGIN: &str =
    "<!-- arrows: checked by `cargo xtask arrows`, written by `cargo xtask arrows --write` -->\n";
const END: &str = "<!-- /arrows -->\n";

/// Checks manifests and ARCHITECTURE.md; with `write` the page is brought up to date first.
pub(crate) fn check(write: bool) -> Result<()> {
    let mut faults = table_faults();
    let packages = workspace()?;
    faults.extend(manifest_faults(&packages));
    let path = root().join("ARCHITECTURE.md");
    let page = std::fs::read_to_string(&path).context("ARCHITECTURE.md")?;
    let (before, old, after) = split(&page)?;
    let new = render();
    if old != new {
        if write {
            std::fs::write(&path, format!("{before}{BEGIN}{new}{END}{after}"))?;
            println!("ARCHITECTURE.md updated");
        } else {
            faults.push("ARCHITECTURE.md's table differs: cargo xtask arrows --write".to_owned());
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    println!("{} rooms, every arrow leads down", packages.len());
    Ok(())
}

/// The table itself must be acyclic: every arrow leads to an earlier room.
fn table_faults() -> Vec<String> {
    let mut faults = Vec::new();
    for (position, room) in HOUSE.iter().enumerate() {
        for target in room.on.iter().chain(room.in_tests) {
            if !HOUSE[..position].iter().any(|earlier| earlier.name == *target) {
                faults.push(format!(
                    "the table's arrow {} -> {target} does not lead down",
                    room.name
                ));
            }
        }
    }
    faults
}

fn manifest_faults(packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for package in packages {
        let Some(room) = HOUSE.iter().find(|room| room.name == package.room) else {
            faults.push(format!("{} is not in the table of xtask/src/arrows.rs", package.room));
            continue;
        };
        for dependency in &package.dependencies {
            if let Some(target) = dependency.room.as_deref() {
                let in_tests = room.in_tests.contains(&target) || target == IN_ALL_TESTS;
                let allowed = target == room.name
                    || room.on.contains(&target)
                    || (dependency.dev && in_tests);
                if !allowed {
                    faults.push(format!("{} may not depend on {target}", room.name));
                }
            }
            for (runtime, rooms) in [("tokio", TOKIO), ("tonic", TONIC)] {
                if is_family(&dependency.package, runtime) && !rooms.contains(&room.name) {
                    faults.push(format!("{} may not depend on {}", room.name, dependency.package));
                }
            }
        }
    }
    faults
}

/// `tokio`, `tokio-stream`, ... are the family of `tokio`.
fn is_family(package: &str, runtime: &str) -> bool {
    package == runtime || package.strip_prefix(runtime).is_some_and(|rest| rest.starts_with('-'))
}

fn split(page: &str) -> Result<(&str, &str, &str)> {
    let (before, rest) =
        page.split_once(BEGIN).context("ARCHITECTURE.md has no mark for the arrows")?;
    let (table, after) =
        rest.split_once(END).context("ARCHITECTURE.md has no end of the arrows")?;
    Ok((before, table, after))
}

fn render() -> String {
    let mut table = String::from("| room | what it is | may depend on |\n|---|---|---|\n");
    for room in HOUSE {
        let mut on = room.on.join(" ");
        if !room.in_tests.is_empty() {
            let _infallible = write!(on, " (in tests: {})", room.in_tests.join(" "));
        }
        let on = if on.is_empty() { "-" } else { &on };
        let _infallible = writeln!(table, "| {} | {} | {} |", room.name, room.does, on);
    }
    let _infallible = writeln!(table, "\nThe tests of every room may depend on `{IN_ALL_TESTS}`.");
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn package(room: &str, package: &str, leads_to: Option<&str>, dev: bool) -> Vec<Package> {
        let dependency =
            Dependency { package: package.to_owned(), room: leads_to.map(str::to_owned), dev };
        vec![Package { room: room.to_owned(), dependencies: vec![dependency] }]
    }

    #[test]
    fn the_table_leads_down() {
        assert_eq!(table_faults(), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_in_the_table_passes() {
        assert!(
            manifest_faults(&package("raft", "quorate-quorum", Some("quorum"), false)).is_empty()
        );
    }

    #[test]
    fn an_arrow_that_is_not_in_the_table_fails_in_every_kind() {
        assert_eq!(manifest_faults(&package("raft", "quorate-mvcc", Some("mvcc"), false)).len(), 1);
        assert_eq!(manifest_faults(&package("raft", "quorate-mvcc", Some("mvcc"), true)).len(), 1);
    }

    #[test]
    fn the_hunt_is_for_tests() {
        assert!(manifest_faults(&package("raft", "quorate-hunt", Some("hunt"), true)).is_empty());
        assert_eq!(manifest_faults(&package("raft", "quorate-hunt", Some("hunt"), false)).len(), 1);
    }

    #[test]
    fn an_unknown_room_fails() {
        assert_eq!(manifest_faults(&package("common", "bytes", None, false)).len(), 1);
    }

    #[test]
    fn runtimes_belong_upstairs() {
        assert_eq!(manifest_faults(&package("raft", "tokio", None, false)).len(), 1);
        assert_eq!(manifest_faults(&package("storage", "tokio-stream", None, true)).len(), 1);
        assert_eq!(manifest_faults(&package("node", "tonic", None, false)).len(), 1);
        assert!(manifest_faults(&package("node", "tokio", None, false)).is_empty());
        assert!(manifest_faults(&package("server", "tonic-prost", None, false)).is_empty());
        assert!(manifest_faults(&package("raft", "tokioish", None, false)).is_empty());
    }
}
