//! `quorate-fuzz`: one input, many random ones, and the corpus as files for libFuzzer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use env::SplitMix64;
use fuzz::{Target, corpus, mutate};

const HELP: &str = "\
Usage: quorate-fuzz TASK

  list                          the targets: name, tab, what it reads
  replay TARGET HEX|FILE        one input: is it accepted, refused, or is a promise broken
  run TARGET [--seconds N] [--seed N]
                                random changes of samples and corpus, without coverage
  unpack TARGET DIRECTORY       samples and corpus as files, for libFuzzer
  pack TARGET DIRECTORY         the corpus becomes what is in these files, and what has a reason

`cargo xtask fuzz` runs libFuzzer with all of this around it.
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
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["list"] => {
            for target in fuzz::TARGETS {
                println!("{}\t{}", target.name, target.reads);
            }
            Ok(())
        }
        ["replay", name, given] => replay(target(name)?, given),
        ["run", name, ref options @ ..] => run(target(name)?, options),
        ["unpack", name, directory] => unpack(target(name)?, Path::new(directory)),
        ["pack", name, directory] => pack(target(name)?, Path::new(directory)),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("no such task\n\n{HELP}"),
    }
}

fn target(name: &str) -> Result<&'static Target> {
    fuzz::target(name).with_context(|| {
        let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        format!("no target {name:?}; there are: {}", names.join(" "))
    })
}

fn replay(target: &Target, given: &str) -> Result<()> {
    let input = match corpus::from_hex(given) {
        Some(input) => input,
        None => std::fs::read(given).with_context(|| given.to_owned())?,
    };
    match target.attempt(&input) {
        Ok(accepted) => {
            println!("{}", if accepted { "accepted" } else { "refused" });
            Ok(())
        }
        Err(broken) => bail!("{}: {broken}", target.name),
    }
}

fn run(target: &Target, options: &[&str]) -> Result<()> {
    let (mut seconds, mut seed) = (10, 1);
    for option in options.chunks(2) {
        match *option {
            ["--seconds", value] => seconds = value.parse().context("--seconds")?,
            ["--seed", value] => seed = value.parse().context("--seed")?,
            _ => bail!("{option:?}\n\n{HELP}"),
        }
    }
    let seeds = target.seeds()?;
    let (mut dice, began) = (SplitMix64::new(seed), Instant::now());
    let (mut accepted, mut refused) = (0_u64, 0_u64);
    while began.elapsed() < Duration::from_secs(seconds) {
        let input = mutate::mutated(&mut dice, &seeds, target.bytes_max);
        match target.attempt(&input) {
            Ok(true) => accepted += 1,
            Ok(false) => refused += 1,
            Err(broken) => bail!("{}: {broken}", target.name),
        }
    }
    println!("{}: {accepted} accepted, {refused} refused, no promise broken", target.name);
    Ok(())
}

fn unpack(target: &Target, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    for (number, input) in target.seeds()?.iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{number:04}")), input)?;
    }
    Ok(())
}

/// Bytes of inputs that are kept of a target, the shortest first; two digits each, and twenty
/// targets, that is less than 300 KiB of corpus.
const KEPT_BYTES_MAX: usize = 6 << 10;

fn pack(target: &Target, directory: &Path) -> Result<()> {
    let files = std::fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut inputs = Vec::new();
    for file in files {
        let path: PathBuf = file?.path();
        inputs.push(std::fs::read(&path).with_context(|| path.display().to_string())?);
    }
    let samples = (target.samples)();
    inputs.retain(|input| input.len() <= target.bytes_max && !samples.contains(input));
    inputs.sort_by_key(|input| (input.len(), input.clone()));
    let mut left = KEPT_BYTES_MAX;
    inputs.retain(|input| {
        let fits = input.len() <= left;
        left = left.saturating_sub(if fits { input.len() } else { left });
        fits
    });
    corpus::write(target.name, &inputs)?;
    println!("{}: {} inputs", target.name, inputs.len());
    Ok(())
}
