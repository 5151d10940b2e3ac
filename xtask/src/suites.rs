//! Launching the suites that need real processes: see the crate `quorate-e2e`.
//!
//! They run the binary of this workspace (or `QUORATE_BIN`) and a real etcd side by side. Which tools they
//! need, and where they look for them, is the suites' own business: a tool that is missing fails them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{cargo, root, target_dir};

pub(crate) const PACKAGE: &str = "quorate-e2e";
const PEERS: &str = "QUORATE_PEERS";

/// Whether the environment asks for the suites that need real peers.
pub(crate) fn peers_wanted() -> bool {
    std::env::var_os(PEERS).is_some_and(|value| value == "1")
}

/// Says which suites do not run, by name: a skipped test must not look like a passed one.
pub(crate) fn announce_skipped() -> Result<()> {
    println!("\n== end to end: SKIPPED, because {PEERS}=1 is not set ==");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("crates/e2e/tests")).context("crates/e2e/tests")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    for name in names {
        println!("skipped: {name}");
    }
    Ok(())
}

/// The server under test: `QUORATE_BIN`, or this workspace's binary, built now.
fn server() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("QUORATE_BIN").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    let profile = std::env::var("QUORATE_PROFILE").unwrap_or_else(|_| "dev".to_owned());
    cargo(&["build", "--locked", "--package", "quorate", "--profile", &profile]).run()?;
    let directory = if profile == "dev" { "debug" } else { &profile };
    Ok(target_dir().join(directory).join("quorate"))
}

/// The simulator of whole clusters with its mutants, whose traces the lab's page is shown: `QUORATE_SIM_BIN`, or this
/// workspace's, built now.
fn simulator() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("QUORATE_SIM_BIN").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    cargo(&["build", "--locked", "--package", "quorate-sim", "--features", "mutants"]).run()?;
    Ok(target_dir().join("debug").join("quorate-sim"))
}

/// All suites, or the tests whose names contain one of `filters`.
pub(crate) fn end_to_end(filters: &[String]) -> Result<()> {
    let (server, simulator) = (server()?, simulator()?);
    let test = ["test", "--locked", "--no-fail-fast", "--package", PACKAGE];
    // One test at a time: each starts several servers, and their timings are part of what is tested.
    let task = cargo(&test).args(&["--".to_owned(), "--test-threads=1".to_owned()]);
    let task = task.args(filters).env(PEERS, "1").env("QUORATE_BIN", server);
    task.env("QUORATE_SIM_BIN", simulator).run()
}

pub(crate) fn differential(args: &[String]) -> Result<()> {
    let options = options(args, &["requests", "seed", "replay"])?;
    one("differential", "random_requests", &options)
}

pub(crate) fn torture(args: &[String]) -> Result<()> {
    let options = options(args, &["rounds", "kind", "seed"])?;
    one("torture", "rounds_of_one_kind", &options)
}

const FAILOVER_HELP: &str = "\
Usage: cargo xtask failover [--rounds N] [--server ours|etcd] [--election-ms N] [--heartbeat-ms N]
                            [--interval-ms N] [--format text|json]

Three members on loopback, under a put and a get every --interval-ms (5) of one client with all endpoints. The
leader is killed by kill -9, --rounds (3) times; the outage is from the kill to the first answer to a request
begun after it. Prints p50, p99 and the most, and where the time went: until a member that is left has noticed,
until there is a new leader, until the put is answered.

  --server etcd   a real etcd 3.4 instead, for comparison
  QUORATE_PROFILE=release in the environment measures what is shipped
";

pub(crate) fn failover(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h")) {
        print!("{FAILOVER_HELP}");
        return Ok(());
    }
    let known = ["rounds", "server", "election-ms", "heartbeat-ms", "interval-ms", "format"];
    one("failover", "the_leader_is_killed", &options(args, &known)?)
}

pub(crate) fn disk(args: &[String]) -> Result<()> {
    one("disk", "", &options(args, &[])?)
}

/// A program of its own, because it goes into namespaces of its own. Judging a file takes no server.
pub(crate) fn blackbox(args: &[String]) -> Result<()> {
    let words = ["run", "--locked", "--package", PACKAGE, "--bin", "blackbox", "--"];
    let task = cargo(&words).args(args);
    let plays = !matches!(args.first().map(String::as_str), Some("judge" | "help" | "--help"));
    if plays { task.env("QUORATE_BIN", server()?).run() } else { task.run() }
}

/// A program of its own, because it is no test: it measures, and is judged by what is asked for.
pub(crate) fn lab_speed(args: &[String]) -> Result<()> {
    let words = ["run", "--locked", "--package", PACKAGE, "--bin", "lab_speed", "--"];
    let task = cargo(&words).args(args);
    let asks = args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h"));
    if asks { task.run() } else { task.env("QUORATE_BIN", server()?).run() }
}

/// One test of one suite, or all of them for an empty name, in full view, with its options as `QUORATE_<OPTION>`.
fn one(suite: &str, test: &str, options: &[(String, String)]) -> Result<()> {
    let server = server()?;
    let mut task = cargo(&[
        "test",
        "--locked",
        "--package",
        PACKAGE,
        "--test",
        suite,
        "--",
        test,
        "--nocapture",
        "--test-threads=1",
    ])
    .env(PEERS, "1")
    .env("QUORATE_BIN", server);
    for (name, value) in options {
        task = task.env(&format!("QUORATE_{}", name.to_uppercase().replace('-', "_")), value);
    }
    task.run()
}

/// `--name value` and `--name=value` pairs.
fn options(args: &[String], known: &[&str]) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(name) = arg.strip_prefix("--") else { bail!("{arg:?} is not an option") };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (name, args.next().with_context(|| format!("--{name} needs a value"))?.clone()),
        };
        ensure!(known.contains(&name), "no option --{name}; there are: --{}", known.join(" --"));
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::options;

    #[test]
    fn options_in_both_forms() {
        let args = ["--seed", "7", "--requests=100"].map(str::to_owned);
        let found = options(&args, &["seed", "requests"]).unwrap();
        assert_eq!(found, [("seed".into(), "7".into()), ("requests".into(), "100".into())]);
        assert!(options(&["--no".to_owned(), "1".to_owned()], &["seed"]).is_err());
        assert!(options(&["--seed".to_owned()], &["seed"]).is_err());
        assert!(options(&["seed".to_owned()], &["seed"]).is_err());
    }
}
