//! `cargo xtask blackbox`: real processes under real faults; see `e2e::blackbox`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use e2e::blackbox::schedule::Kind;
use e2e::blackbox::{Options, host, judge, run};
use e2e::rpc::block_on;
use e2e::tools::subject;

const HELP: &str = "\
Usage: cargo xtask blackbox [--seed S] [--minutes M] [--members 3..5] [--out DIR] [--keep yes]
                            [--only KIND] [--lie yes] [--compare no]
       cargo xtask blackbox judge FILE...

  --seed S      what is done, to whom, when [default: the time]
  --minutes M   how long [default: 1]
  --members N   how many members [default: 3]
  --out DIR     where history and logs of a failed run are kept [default: the directory for temporary files]
  --keep yes    keep the history of a clean run too
  --only KIND   do nothing but this, as it is called in the table at the end
  --compare no  start members without --initial-corrupt-check, which finds rot inside of the state's pages
  --lie yes     let the disks lie about what they have synced: such a run must fail

It takes root, and iproute2, iptables, e2fsprogs, util-linux and a C compiler.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((word, files)) if word == "judge" => judge_all(files),
        Some((word, _)) if word == "--help" || word == "help" => {
            print!("{HELP}");
            Ok(())
        }
        _ => play(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blackbox: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(args: &[String]) -> Result<()> {
    let options = options(args)?;
    let mut program = subject()?;
    if options.compare {
        // Rot inside of a page of the state is found by comparing with the others, and only then.
        program = program.with(&["--initial-corrupt-check"]);
    }
    host::enter()?;
    block_on(run(&program, &options))
}

fn judge_all(files: &[String]) -> Result<()> {
    ensure!(!files.is_empty(), "no file to judge\n\n{HELP}");
    let mut broken = 0;
    for file in files {
        match judge::judge(&judge::read(Path::new(file))?) {
            Ok(verdict) => {
                println!("{file}: CLEAN, {:?}, {:?}", verdict.replay.seen, verdict.linear)
            }
            Err(error) => {
                broken += 1;
                println!("{file}: {error:#}");
            }
        }
    }
    ensure!(broken == 0, "{broken} of {} histories do not pass", files.len());
    Ok(())
}

fn options(args: &[String]) -> Result<Options> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let mut options = Options {
        seed: now.as_secs(),
        minutes: 1.0,
        members: 3,
        out: std::env::temp_dir(),
        keep: false,
        kinds: Kind::ALL.to_vec(),
        lie: false,
        compare: true,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().with_context(|| format!("{name} needs a value\n\n{HELP}"))?;
        match name.as_str() {
            "--seed" => options.seed = value.parse().context("--seed")?,
            "--minutes" => options.minutes = value.parse().context("--minutes")?,
            "--members" => options.members = value.parse().context("--members")?,
            "--out" => options.out = PathBuf::from(value),
            "--only" => {
                let kind =
                    Kind::named(value).with_context(|| format!("nothing is called {value:?}"))?;
                options.kinds = vec![kind];
            }
            "--compare" => options.compare = value != "no",
            "--lie" => options.lie = value == "yes",
            "--keep" => options.keep = value == "yes",
            _ => bail!("no option {name:?}\n\n{HELP}"),
        }
    }
    ensure!((3..=5).contains(&options.members), "--members: from 3 to 5");
    let bounded = options.minutes > 0.0 && options.minutes <= 24.0 * 60.0;
    ensure!(bounded, "--minutes: more than 0, a day at most");
    Ok(options)
}
