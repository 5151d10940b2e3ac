//! The targets of `crates/fuzz` under libFuzzer, on the stable compiler.
//!
//! cargo-fuzz without a sanitizer: the code under test is safe Rust, and coverage is all that is
//! wanted. What a run begins with (samples, the committed corpus) and what it finds lies in the
//! directory of builds; only what `--keep` writes goes into the repository.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::run::{Task, cache, cargo, program, target_dir};

const HELP: &str = "\
Usage: cargo xtask fuzz [TARGET...] [--seconds N] [--keep]
       cargo xtask fuzz --list

Runs targets of crates/fuzz (all of them unless named) under libFuzzer, one after the other, each so
many seconds (10 unless said). First comes a decoder with a known fault, that only a search by coverage
finds: if it is not found, the run fails.

  --list    the targets, and what each reads
  --keep    afterwards the corpus becomes the smallest set that reaches as much: commit it

When a promise is broken, the input is printed, with the command that tries it again. Mend the fault,
and put the input into crates/fuzz/corpus/TARGET.txt, below a line `# why`.

Needs cargo-fuzz (cargo install cargo-fuzz --locked) and a compiler for C++ (Debian: g++). Without either,
`cargo run -p quorate-fuzz -- run TARGET --seconds N` searches by chance alone.
";

const PACKAGE: &str = "quorate-fuzz";
/// The program for libFuzzer, and the variable that tells it its target.
const PROGRAM: &str = "decoder";
const TARGET: &str = "QUORATE_FUZZ_TARGET";
/// The decoder with the known fault, and for how long it is searched.
const BROKEN: (&str, u64) = ("broken", 60);
/// An input that takes longer is a fault.
const INPUT_SECONDS_MAX: u32 = 10;

struct Options {
    targets: Vec<String>,
    seconds: u64,
    keep: bool,
}

/// Runs the task.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h" | "help")) {
        print!("{HELP}");
        return Ok(());
    }
    if args.iter().any(|arg| arg == "--list") {
        return ours(&["list"]).run();
    }
    let Options { targets, seconds, keep } = options(args)?;
    let known: Vec<String> = names(&ours(&["list"]).output()?);
    if let Some(unknown) = targets.iter().find(|name| !known.contains(name)) {
        bail!("no target {unknown:?}; there are: {}", known.join(" "));
    }
    let targets = if targets.is_empty() { known } else { targets };
    cargo_fuzz(&["--version"])
        .run()
        .context("cargo-fuzz is missing: see cargo xtask fuzz --help")?;
    find_the_known_fault()?;
    let mut failed = Vec::new();
    for name in &targets {
        println!("\n== {name}: {seconds} s ==");
        match search(name, seconds).and_then(|()| if keep { keep_least(name) } else { Ok(()) }) {
            Ok(()) => {}
            Err(error) => {
                println!("{error:#}");
                tell_artifacts(name)?;
                failed.push(name.as_str());
            }
        }
    }
    ensure!(failed.is_empty(), "promises broken: {}", failed.join(" "));
    println!("\n{} targets, {seconds} s each: every promise kept", targets.len());
    Ok(())
}

fn options(args: &[String]) -> Result<Options> {
    let mut options = Options { targets: Vec::new(), seconds: 10, keep: false };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--keep" => options.keep = true,
            "--seconds" => {
                let value = args.next().context("--seconds needs a number")?;
                options.seconds = value.parse().with_context(|| format!("--seconds {value}"))?;
            }
            other if other.starts_with('-') => bail!("no option {other}\n\n{HELP}"),
            target => options.targets.push(target.to_owned()),
        }
    }
    Ok(options)
}

/// The first column of a list.
fn names(list: &str) -> Vec<String> {
    list.lines().filter_map(|line| line.split('\t').next()).map(str::to_owned).collect()
}

/// A command of the crate `fuzz`.
fn ours(args: &[&str]) -> Task {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    cargo(&["run", "--quiet", "--locked", "--package", PACKAGE, "--"]).args(&args)
}

/// cargo-fuzz, from the path or from where `.ci/run` installs it. It has builds of its own: its
/// flags are not ours.
fn cargo_fuzz(args: &[&str]) -> Task {
    let installed = cache().join("tools/bin/cargo-fuzz");
    let name = if installed.exists() { installed } else { PathBuf::from("cargo-fuzz") };
    let args = [&["fuzz"], args].concat();
    let task = program(&name.to_string_lossy(), &args);
    // Coverage is a flag of the stable compiler, but cargo-fuzz asks for its unstable ones too.
    task.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", target_dir().join("libfuzzer"))
}

fn directory(kind: &str, name: &str) -> PathBuf {
    target_dir().join("libfuzzer").join(kind).join(name)
}

fn libfuzzer(name: &str, directories: &[&Path], flags: &[String]) -> Task {
    let directories = directories.iter().map(|path| path.to_string_lossy().into_owned());
    let mut args: Vec<String> = directories.collect();
    args.push("--".to_owned());
    args.extend_from_slice(flags);
    cargo_fuzz(&["run", "--sanitizer", "none", PROGRAM]).args(&args).env(TARGET, name)
}

fn flags(name: &str, seconds: u64) -> Vec<String> {
    vec![
        format!("-max_total_time={seconds}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        "-max_len=16384".to_owned(),
        "-rss_limit_mb=2048".to_owned(),
        "-print_final_stats=1".to_owned(),
        "-verbosity=0".to_owned(),
        format!("-artifact_prefix={}/", directory("artifacts", name).display()),
    ]
}

fn fresh(path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path).with_context(|| path.display().to_string())?;
    }
    std::fs::create_dir_all(path).with_context(|| path.display().to_string())
}

fn search(name: &str, seconds: u64) -> Result<()> {
    let corpus = directory("corpus", name);
    std::fs::create_dir_all(&corpus)?;
    fresh(&directory("artifacts", name))?;
    ours(&["unpack", name, &corpus.to_string_lossy()]).run()?;
    libfuzzer(name, &[&corpus], &flags(name, seconds)).run()
}

/// A search that finds nothing must be one that would have.
fn find_the_known_fault() -> Result<()> {
    let (name, seconds) = BROKEN;
    println!("\n== a known fault, to be found within {seconds} s ==");
    let corpus = directory("corpus", name);
    fresh(&corpus)?;
    fresh(&directory("artifacts", name))?;
    cargo_fuzz(&["build", "--sanitizer", "none", PROGRAM]).run()?;
    let found = libfuzzer(name, &[&corpus], &flags(name, seconds)).run().is_err();
    let artifacts = std::fs::read_dir(directory("artifacts", name))?.count();
    ensure!(found && artifacts > 0, "the known fault was not found: the search is blind");
    println!("found, as it must be");
    Ok(())
}

/// The smallest part of what was found that reaches as much.
fn keep_least(name: &str) -> Result<()> {
    let (corpus, least) = (directory("corpus", name), directory("least", name));
    fresh(&least)?;
    libfuzzer(name, &[&least, &corpus], &["-merge=1".to_owned(), "-verbosity=0".to_owned()])
        .run()?;
    ours(&["pack", name, &least.to_string_lossy()]).run()
}

fn tell_artifacts(name: &str) -> Result<()> {
    for file in std::fs::read_dir(directory("artifacts", name))? {
        let path = file?.path();
        println!("cargo run -p {PACKAGE} -- replay {name} {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(args: &[&str]) -> Result<Options> {
        options(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn targets_and_options_in_any_order() {
        let found = given(&["effects", "--seconds", "7", "state_row", "--keep"]).unwrap();
        assert_eq!(found.targets, ["effects", "state_row"]);
        assert_eq!((found.seconds, found.keep), (7, true));
        assert_eq!(given(&[]).unwrap().seconds, 10);
        for bad in [&["--seconds"][..], &["--seconds", "x"], &["--no"]] {
            assert!(given(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_list_is_read() {
        assert_eq!(names("a\tone\nb_c\ttwo words\n"), ["a", "b_c"]);
    }
}
