//! The table of mutants: every line that is broken on purpose, and who noticed.
//!
//! Each crate's harness is a test (see the crate `hunt`) that says in lines what it caught. Here they are
//! built, run beside each other, one to a core, and what they say is held against what must be: every mutant
//! caught within its budget of seeds, every known way to get it wrong with a mutant of its own, every harness
//! heard to its end.

mod report;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::run::cargo;
use crate::suites;
use report::Row;

/// The environment variable that names the mutants wanted: `hunt::CHOICE`.
const CHOICE: &str = "QUORATE_MUTANTS";

/// A harness that has not ended after this long hangs: its mutant keeps it from ever ending.
const HARNESS_TIME_MAX: Duration = Duration::from_secs(1200);

/// The known ways to get it wrong that a mutant must stand for: all of docs/verification.md.
const WAYS: std::ops::RangeInclusive<u8> = 1..=15;

/// A test that hunts mutants.
struct Harness {
    /// What it calls itself.
    name: &'static str,
    package: &'static str,
    /// The test target; the library's own tests if it is the library's name.
    target: &'static str,
    test: &'static str,
    /// Those of its mutants that are quick to catch, and tried on every change.
    quick: &'static [&'static str],
}

impl Harness {
    fn is_in_library(&self) -> bool {
        self.package.strip_prefix("quorate-") == Some(self.target)
    }
}

const HARNESSES: &[Harness] = &[
    Harness {
        name: "raft",
        package: "quorate-raft",
        target: "suite",
        test: "mutants::every_mutant_is_caught",
        quick: &["QuorumBySortShortcut", "TermTakenInPassing", "ReadRoundReused"],
    },
    Harness {
        name: "store",
        package: "quorate-store",
        target: "suite",
        test: "pairs::every_mutant_is_caught",
        quick: &["PromiseNotPersisted"],
    },
    Harness {
        name: "storage",
        package: "quorate-storage",
        target: "storage",
        test: "log::tests::mutants::every_mutant_is_caught",
        quick: &["SyncTriedAgain", "CorruptionTakenForTear"],
    },
    Harness {
        name: "mvcc",
        package: "quorate-mvcc",
        target: "mvcc",
        test: "model::every_mutant_is_caught",
        quick: &["MarkBefore"],
    },
    Harness {
        name: "etcd",
        package: "quorate-etcd",
        target: "etcd",
        test: "mutant::tests::every_mutant_is_caught",
        quick: &["NewLeaderEndsLeases"],
    },
    Harness {
        name: "watch",
        package: "quorate-etcd",
        target: "etcd",
        test: "watch::tests::every_mutant_is_caught",
        quick: &["JoinEarly"],
    },
    Harness {
        name: "node",
        package: "quorate-node",
        target: "node",
        test: "core::tests::chance::every_mutant_is_caught",
        quick: &["AnswerWhateverStands"],
    },
    Harness {
        name: "sim",
        package: "quorate-sim",
        target: "mutants",
        test: "every_mutant_is_caught",
        quick: &[],
    },
    Harness {
        name: "http2",
        package: "quorate-http2",
        target: "http2",
        test: "tests::random::every_mutant_is_caught",
        quick: &[],
    },
];

/// `--quick`: those tried on every change. `--write`: all, and the table in docs/verification.md.
pub(crate) fn run(args: &[String]) -> Result<()> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => all().map(drop),
        ["--quick"] => quick(Selection::Harnesses),
        ["--write"] => report::write(&all()?),
        _ => bail!("cargo xtask mutants [--quick | --write]"),
    }
}

/// What is built.
#[derive(Clone, Copy)]
pub(crate) enum Selection {
    /// The packages with a harness, each as `cargo test --package` builds it.
    Harnesses,
    /// What `ci` tests: then nothing is built for the harnesses alone.
    House,
}

/// The quick ones.
pub(crate) fn quick(selection: Selection) -> Result<()> {
    let chosen: Vec<_> = HARNESSES.iter().filter(|harness| !harness.quick.is_empty()).collect();
    let rows = hunt(&chosen, selection, true)?;
    let wanted: usize = chosen.iter().map(|harness| harness.quick.len()).sum();
    ensure!(rows.len() == wanted, "{} of {wanted} quick mutants were hunted", rows.len());
    verdict(&rows)
}

fn all() -> Result<Vec<Row>> {
    let rows = hunt(&HARNESSES.iter().collect::<Vec<_>>(), Selection::Harnesses, false)?;
    verdict(&rows)?;
    let missing: Vec<u8> =
        WAYS.filter(|way| !rows.iter().any(|row| row.way == Some(*way))).collect();
    ensure!(missing.is_empty(), "no mutant stands for the known ways {missing:?}");
    Ok(rows)
}

/// The table, and whether all were caught.
fn verdict(rows: &[Row]) -> Result<()> {
    print!("\n{}", report::plain(rows));
    let survivors: Vec<&str> =
        rows.iter().filter(|row| !row.caught).map(|row| row.mutant.as_str()).collect();
    ensure!(survivors.is_empty(), "nobody noticed {}", survivors.join(", "));
    println!("{} mutants, all caught", rows.len());
    Ok(())
}

/// Runs harnesses, as many at once as there are cores, and gathers their rows in their order.
fn hunt(harnesses: &[&Harness], selection: Selection, quick: bool) -> Result<Vec<Row>> {
    let executables = build(harnesses, selection)?;
    let waiting = Mutex::new(harnesses.iter().enumerate());
    let heard: Mutex<BTreeMap<usize, Result<Vec<Row>>>> = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(harnesses.len()) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
                    let Some((place, harness)) = next else { break };
                    let rows = one(harness, &executables, quick)
                        .with_context(|| format!("harness {}", harness.name));
                    if let Ok(mut heard) = heard.lock() {
                        heard.insert(place, rows);
                    }
                }
            });
        }
    });
    let heard = heard.into_inner().map_err(|_| anyhow::anyhow!("a harness's thread panicked"))?;
    ensure!(heard.len() == harnesses.len(), "a harness was not heard");
    let rows: Vec<Vec<Row>> = heard.into_values().collect::<Result<_>>()?;
    Ok(rows.concat())
}

/// Test executables by package and target, and the directory to run them in.
type Executables = BTreeMap<(String, String), (PathBuf, PathBuf)>;

/// Builds the harnesses.
fn build(harnesses: &[&Harness], selection: Selection) -> Result<Executables> {
    let mut executables = Executables::new();
    match selection {
        Selection::House => {
            let mut args = vec!["--workspace", "--exclude", suites::PACKAGE, "--lib"];
            for harness in harnesses.iter().filter(|harness| !harness.is_in_library()) {
                args.extend(["--test", harness.target]);
            }
            build_those(&args, &mut executables)?;
        }
        Selection::Harnesses => {
            for harness in harnesses {
                let mut args = vec!["--package", harness.package];
                if harness.is_in_library() {
                    args.push("--lib");
                } else {
                    args.extend(["--test", harness.target]);
                }
                build_those(&args, &mut executables)?;
            }
        }
    }
    Ok(executables)
}

/// Builds tests, and takes note of their executables.
fn build_those(selection: &[&str], executables: &mut Executables) -> Result<()> {
    let args: Vec<String> = selection.iter().map(|&arg| arg.to_owned()).collect();
    let output = cargo(&["test", "--locked", "--no-run"])
        .args(&["--message-format".to_owned(), "json-render-diagnostics".to_owned()])
        .args(&args)
        .output()?;
    for line in output.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line)?;
        let Some(executable) = message["executable"].as_str() else { continue };
        let manifest = message["manifest_path"].as_str().context("no manifest_path")?;
        let dir =
            PathBuf::from(manifest).parent().context("a manifest lies in no directory")?.into();
        let target = message["target"]["name"].as_str().context("no target")?.to_owned();
        let package = package_of(message["package_id"].as_str().context("no package_id")?);
        executables.insert((package, target), (executable.into(), dir));
    }
    Ok(())
}

/// The name in `path+file:///.../crates/raft#quorate-raft@0.1.0`.
fn package_of(id: &str) -> String {
    let name = id.rsplit('#').next().unwrap_or(id);
    name.split('@').next().unwrap_or(name).to_owned()
}

/// Runs one harness and reads what it says.
fn one(harness: &Harness, executables: &Executables, quick: bool) -> Result<Vec<Row>> {
    let key = (harness.package.to_owned(), harness.target.to_owned());
    let (executable, dir) =
        executables.get(&key).with_context(|| format!("{} {} was not built", key.0, key.1))?;
    let mut command = Command::new(executable);
    command
        .args(["--exact", harness.test, "--nocapture", "--test-threads=1"])
        .current_dir(dir)
        .env("CARGO_MANIFEST_DIR", dir)
        .env_remove(CHOICE)
        .stdout(Stdio::piped());
    if quick {
        command.env(CHOICE, harness.quick.join(","));
    }
    let mut child = command.spawn().with_context(|| executable.display().to_string())?;
    let stdout = child.stdout.take().context("its output is not piped")?;
    let (line, lines) = channel();
    // Ends with the harness, whose end of the pipe it reads.
    std::thread::spawn(move || {
        for text in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.send(text).is_err() {
                break;
            }
        }
    });
    let heard = listen(harness.name, &lines);
    let status = end(child, heard.is_err())?;
    let rows = heard?;
    // A survivor fails the harness, too: that is for the verdict on the whole table.
    let survived = rows.iter().any(|row| !row.caught);
    ensure!(status || survived, "it failed: see above");
    Ok(rows)
}

/// Takes in lines until there are no more.
fn listen(harness: &str, lines: &Receiver<String>) -> Result<Vec<Row>> {
    let deadline = Instant::now() + HARNESS_TIME_MAX;
    let mut rows: Vec<Row> = Vec::new();
    let mut promised = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = match lines.recv_timeout(left) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => bail!("not over after {HARNESS_TIME_MAX:?}"),
        };
        if let Some(row) = Row::parse(&line)? {
            ensure!(row.harness == harness, "{} reports as {}", harness, row.harness);
            let twice = rows.iter().any(|other| other.mutant == row.mutant);
            ensure!(!twice, "{} is reported twice", row.mutant);
            println!("{}", report::line(&row));
            rows.push(row);
        } else if let Some(count) = report::parse_end(&line, harness)? {
            promised = Some(count);
        }
    }
    ensure!(promised == Some(rows.len()), "it reports {} of {promised:?} mutants", rows.len());
    Ok(rows)
}

/// Waits for the end of a harness, or makes one; says whether it succeeded.
fn end(mut child: Child, kill: bool) -> Result<bool> {
    if kill {
        child.kill()?;
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_by_their_ids() {
        assert_eq!(package_of("path+file:///x/crates/raft#quorate-raft@0.1.0"), "quorate-raft");
        assert_eq!(package_of("path+file:///x/xtask#0.1.0"), "0.1.0");
    }

    #[test]
    fn there_are_ten_quick_ones() {
        assert_eq!(HARNESSES.iter().map(|harness| harness.quick.len()).sum::<usize>(), 10);
    }

    fn say(lines: &[&str]) -> Result<Vec<Row>> {
        let (send, receive) = channel();
        lines.iter().for_each(|line| send.send((*line).to_owned()).unwrap());
        drop(send);
        listen("own", &receive)
    }

    #[test]
    fn a_harness_that_breaks_off_is_no_success() {
        let row = "mutant\town\tWrong\t1\tcaught\t3\t20\tseen";
        assert_eq!(say(&["running 1 test", row, "hunted\town\t1", "test ok"]).unwrap().len(), 1);
        assert!(say(&[row]).is_err(), "without its end");
        assert!(say(&[row, "hunted\town\t2"]).is_err(), "one is missing");
        assert!(say(&[row, row, "hunted\town\t2"]).is_err(), "one twice");
        assert!(say(&["mutant\tother\tWrong\t1\tcaught\t3\t20\tseen"]).is_err(), "another's");
        assert!(say(&[]).is_err());
    }

    #[test]
    fn survivors_fail_the_table() {
        let rows = say(&["mutant\town\tWrong\t-\tsurvived\t9\t20\t-", "hunted\town\t1"]).unwrap();
        assert!(verdict(&rows).unwrap_err().to_string().contains("Wrong"));
    }
}
