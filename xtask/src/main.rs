//! The project's tasks. `cargo xtask ci` is the one gate: what it passes may be merged.
//!
//! Everything here is a check or a launcher; nothing is built that the product needs. Dependencies are
//! two (anyhow, serde_json), because this is the first thing that a fresh clone compiles.
//!
//! | task | what it does |
//! |---|---|
//! | `ci` | all of the checks below, then all tests; with `QUORATE_PEERS=1` the end-to-end suites too |
//! | `arrows [--write]` | dependency directions, and the table of them in ARCHITECTURE.md |
//! | `sources` | file sizes, and no clock, thread, randomness or unordered iteration below `node` |
//! | `links` | relative links of the Markdown pages |
//! | `licenses` | every dependency's license against deny.toml (by cargo-deny where it is installed) |
//! | `mutants [--quick]` | code that is broken on purpose: every mutant caught, and the table of them |
//! | `e2e` | the suites against real etcd and real etcdctl |
//! | `differential --requests N --seed S` | random requests to a real etcd and to us, every response compared |
//! | `disk` | a member on a full disk, alone and as one of three |
//! | `torture --rounds N ...` | kill -9 and SIGSTOP under load, and what must hold afterwards |
//! | `failover --rounds N ...` | kill -9 of the leader, and how long a client waits for the next |
//! | `blackbox --seed S --minutes M` | real processes under real faults of network, disk and clocks; `blackbox judge FILE` |
//! | `lab-speed ...` | the lab's page in a browser: frames with many messages on their way, jumps in a long run |
//! | `compare ...` | the same load on three real etcd members and on three of ours, in turns |
//! | `large ...` | one member with 10 GiB: restart, memory, lists, beside a real etcd |
//! | `ranges ...` | what many ranges on three members cost, and how they come back when one dies |
//! | `fuzz [TARGET] ...` | every decoder under libFuzzer: what it promises of any bytes |
//! | `engines` | the engines of decision 0001: do they still build, conform, and have allowed licenses |
//!
//! Caveat: the scan of `sources` is by token, not by type. It catches slips, not intent.

mod arrows;
mod compare;
mod fuzz;
mod given;
mod large;
mod licenses;
mod links;
mod metadata;
mod mutants;
mod process;
mod ranges;
mod run;
mod scan;
mod seeds;
mod sources;
mod suites;

use std::process::ExitCode;

use anyhow::{Result, bail};
use run::{Steps, cargo};

const HELP: &str = "\
Usage: cargo xtask TASK

  ci                           the gate: every check, then every test
  arrows [--write]             dependency directions (--write: update ARCHITECTURE.md)
  sources                      file sizes and forbidden tokens
  links                        relative links in the Markdown pages
  licenses                     licenses of all dependencies against deny.toml
  mutants [--quick | --write]  code broken on purpose: who notices, after how many seeds
                               (--write: the table of docs/verification.md)
  e2e [TEST...]                suites against real etcd and etcdctl, by name
  differential [--requests N] [--seed S] [--replay FILE]
                               random requests to a real etcd and to us, compared whole
  disk                         a member on a full disk, alone and as one of three (root)
  torture [--rounds N] [--kind leader|follower|all|pause] [--seed S]
                               kill -9 and SIGSTOP under load
  failover [--rounds N] [--server ours|etcd]
                               how long a client waits when the leader is killed (--help)
  blackbox [--seed S] [--minutes M] [--members 3..5] | blackbox judge FILE...
                               real processes under real faults (root; --help)
  lab-speed [OPTION VALUE]...  frames and jumps of the lab's page in a browser (--help)
  compare [OPTION VALUE]...    throughput, latency, CPU and memory beside a real etcd (--help)
  large [OPTION VALUE]...      one member with 10 GiB: restart, memory, lists (--help)
  ranges [OPTION VALUE]...     what many ranges on three members cost (--help)
  fuzz [TARGET...] [--seconds N] [--keep]
                               every decoder under libFuzzer (--help)
  engines                      lints, tests and licenses of docs/decisions/0001-engines

Environment:
  CARGO_TARGET_DIR   where to build; default: quorate/target in the user's cache
  QUORATE_PEERS=1    `ci` also runs the end-to-end suites (a missing tool is then an error)
  QUORATE_FRESH_SEEDS  how many whole clusters `ci` lives through, from seeds of the commit; default: 2000
  QUORATE_BIN        the server under test; default: the binary of this workspace
  QUORATE_SIM_BIN    the simulator whose traces the lab is shown; default: that of this workspace, with its mutants
  QUORATE_ETCD_37_DIR        directory with etcd, etcdctl and etcdutl 3.7; default: see docs/operations.md
  QUORATE_ETCD_35_DIR        directory with etcd, etcdctl and etcdutl 3.5; default: see docs/operations.md
  QUORATE_PORCUPINE_DIR      the unpacked Go module with labelled histories: see .ci/run
  QUORATE_ETCD_34_DIR        directory with etcd and etcdctl 3.4; default: /usr/bin
";

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = args.split_first().map_or(("help", &[][..]), |(task, rest)| (task, rest));
    match task {
        "ci" => ci(),
        "arrows" => arrows::check(rest.iter().any(|arg| arg == "--write")),
        "sources" => sources::check(),
        "links" => links::check(),
        "licenses" => licenses::check(),
        "mutants" => mutants::run(rest),
        "e2e" => suites::end_to_end(rest),
        "differential" => suites::differential(rest),
        "torture" => suites::torture(rest),
        "disk" => suites::disk(rest),
        "failover" => suites::failover(rest),
        "blackbox" => suites::blackbox(rest),
        "lab-speed" => suites::lab_speed(rest),
        "compare" => compare::run(rest),
        "large" => large::run(rest),
        "ranges" => ranges::run(rest),
        "fuzz" => fuzz::run(rest),
        "engines" => engines(),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("no task {other:?}\n\n{HELP}"),
    }
}

/// The workspace beside ours: what decision 0001 was measured with. It brings engines that the product
/// does not have, so it is no part of `ci`, except for its format.
const ENGINES: &str = "docs/decisions/0001-engines/Cargo.toml";

fn engines() -> Result<()> {
    engines_format()?;
    // fjall's varints. It asks for nothing, but nothing of this workspace is shipped anyway.
    licenses::check_of(ENGINES, &["0BSD"])?;
    let lints =
        ["clippy", "--manifest-path", ENGINES, "--all-targets", "--locked", "--", "-D", "warnings"];
    cargo(&lints).run()?;
    cargo(&["test", "--manifest-path", ENGINES, "--locked"]).run()
}

fn engines_format() -> Result<()> {
    cargo(&["fmt", "--manifest-path", ENGINES, "--check"]).run()
}

/// The programs for libFuzzer, beside our workspace for their flags and their C++.
const FUZZ_DRIVER: &str = "fuzz/Cargo.toml";

/// Every check, cheapest first, and the tests last, so that the log ends with cargo's result lines.
fn ci() -> Result<()> {
    let mut steps = Steps::new();
    steps.run("format", || {
        cargo(&["fmt", "--all", "--check"]).run()?;
        cargo(&["fmt", "--manifest-path", FUZZ_DRIVER, "--check"]).run()?;
        engines_format()
    })?;
    steps.run("arrows", || arrows::check(false))?;
    steps.run("sources", sources::check)?;
    steps.run("links", links::check)?;
    steps.run("licenses", || {
        licenses::check()?;
        // libFuzzer itself is LLVM's of before 2019. It is in nothing that is shipped.
        licenses::check_of(FUZZ_DRIVER, &["NCSA"])
    })?;
    steps.run("clippy", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]).run()
    })?;
    steps.run("docs", || {
        cargo(&["doc", "--workspace", "--no-deps", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run()
    })?;
    steps.run("mutants", || mutants::quick(mutants::Selection::House))?;
    steps.run("fresh seeds", seeds::fresh)?;
    if suites::peers_wanted() {
        steps.run("end to end", || suites::end_to_end(&[]))?;
    } else {
        suites::announce_skipped()?;
    }
    steps.summary();
    steps.run("tests", || {
        cargo(&["test", "--workspace", "--exclude", suites::PACKAGE, "--locked", "--no-fail-fast"])
            .run()
    })
}
