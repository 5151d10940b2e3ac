//! `quorate-sim`: many seeds, one seed told as a story, or the smallest plan that breaks a rule.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use sim::bulk::{Bulk, Harvest, harvest};
use sim::claims::{self, CLAIMS};
use sim::{Mutants, Plan, Tell};

const HELP: &str = "\
Usage: quorate-sim TASK

  run [--first N] [--seeds N] [--jobs N] [--keep-going]
                                live through seeds; stops at the first that breaks a rule
  replay SEED|FILE [--all]      one seed (or the plan in a file), told as a story; --all: every message
  hash SEED                     the number that stands for everything that happens in a seed
  plan SEED                     a seed's plan, as JSON
  shrink SEED|FILE [--runs N]   the smallest plan that breaks the same rule, as JSON, and its story
  trace SEED|FILE [--out FILE]  everything that happens, as JSON; quorate lab --trace FILE shows it

replay, hash, shrink and trace take --mutant NAME (raft::VoteGivenTwice): the code is broken on purpose, as
docs/verification.md says, if it was built with --features mutants.

A run fails if a rule is broken, and if something that it claims to survive never happened
(asked of 1,000 seeds and more, and what is rare of 10,000).
";

fn main() -> ExitCode {
    match dispatch() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn dispatch() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = args.split_first().map_or(("help", &[][..]), |(task, rest)| (task, rest));
    match task {
        "run" => run(rest),
        "replay" => {
            let (plan, mutants) = broken(rest)?;
            replay(&plan, mutants, rest.iter().any(|arg| arg == "--all"))
        }
        "hash" => {
            let (plan, mutants) = broken(rest)?;
            println!("{:016x}", sim::live_broken(&plan, Tell::Nothing, mutants).hash);
            Ok(ExitCode::SUCCESS)
        }
        "plan" => {
            println!("{}", serde_json::to_string_pretty(&plan(rest)?)?);
            Ok(ExitCode::SUCCESS)
        }
        "shrink" => {
            let (plan, mutants) = broken(rest)?;
            shrink(&plan, mutants, usize::try_from(number(rest, "--runs", 2_000)?)?)
        }
        "trace" => {
            let (plan, mutants) = broken(rest)?;
            trace(&plan, mutants, value(rest, "--mutant")?, value(rest, "--out")?)
        }
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("no task {other:?}\n\n{HELP}"),
    }
}

fn value<'a>(args: &'a [String], name: &str) -> Result<Option<&'a str>> {
    let Some(at) = args.iter().position(|arg| arg == name) else { return Ok(None) };
    let given = args.get(at + 1).with_context(|| format!("{name} wants a value"))?;
    Ok(Some(given))
}

fn number(args: &[String], name: &str, otherwise: u64) -> Result<u64> {
    let Some(given) = value(args, name)? else { return Ok(otherwise) };
    given.parse().with_context(|| format!("{name} wants a number, not {given:?}"))
}

/// A plan by its seed, or from a file.
fn plan(args: &[String]) -> Result<Plan> {
    let given = args.first().context("which seed, or which file?")?;
    match given.parse() {
        Ok(seed) => Ok(Plan::draw(seed)),
        Err(_) => {
            let text = std::fs::read_to_string(given)
                .with_context(|| format!("{given}: no seed and no file"))?;
            serde_json::from_str(&text).with_context(|| format!("{given} holds no plan"))
        }
    }
}

/// A plan, and what is broken on purpose while it is lived through.
fn broken(args: &[String]) -> Result<(Plan, Mutants)> {
    let plan = plan(args)?;
    match value(args, "--mutant")? {
        Some(name) => mutant(plan, name),
        None => Ok((plan, Mutants::default())),
    }
}

#[cfg(feature = "mutants")]
fn mutant(mut plan: Plan, name: &str) -> Result<(Plan, Mutants)> {
    let known = sim::mutants::all().into_iter().find(|known| format!("{known:?}") == name);
    let mutant =
        known.with_context(|| format!("no mutant {name:?}: docs/verification.md lists them"))?;
    sim::mutants::prepare(&mut plan, mutant);
    Ok((plan, Some(mutant).into()))
}

#[cfg(not(feature = "mutants"))]
fn mutant(_plan: Plan, name: &str) -> Result<(Plan, Mutants)> {
    bail!("{name} is not built in: cargo run -p quorate-sim --features mutants -- ...")
}

fn run(args: &[String]) -> Result<ExitCode> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let bulk = Bulk {
        first: number(args, "--first", 1)?,
        seeds: number(args, "--seeds", 100)?,
        jobs: usize::try_from(number(args, "--jobs", processors as u64)?)?,
        keep_going: args.iter().any(|arg| arg == "--keep-going"),
    };
    let harvest = harvest(bulk, |so_far| {
        let Harvest { seeds, broken, .. } = so_far;
        let last = broken.last_key_value();
        let last = last.map_or(String::new(), |(seed, what)| format!(", {seed} by {}", what.rule));
        eprintln!("{seeds} of {} seeds, {} of them broken{last}", bulk.seeds, broken.len());
    });
    Ok(if report(&bulk, &harvest) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what came of a run; whether it is clean, and has seen what it claims to survive.
fn report(bulk: &Bulk, harvest: &Harvest) -> bool {
    for (what, times) in harvest.tally.iter() {
        println!("{times:>12}  {what}");
    }
    for (seed, broken) in &harvest.broken {
        println!("seed {seed}: {broken}\nquorate-sim replay {seed}; quorate-sim shrink {seed}");
    }
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = harvest.seeds as f64 / harvest.took.as_secs_f64().max(1e-9);
    println!(
        "{} seeds from {}: {}; {:.1} simulated hours, {rate:.1} seeds a second",
        harvest.seeds,
        bulk.first,
        if harvest.broken.is_empty() { "clean" } else { "broken" },
        harvest.simulated_hours
    );
    let missing = harvest.tally.missing(CLAIMS);
    if harvest.broken.is_empty() && !missing.is_empty() {
        println!("these never happened: {}", missing.join(", "));
    }
    let owed = harvest.tally.missing(&claims::owed(bulk.seeds));
    if harvest.broken.is_empty() && !owed.is_empty() {
        println!("in {} seeds they should have: {}", bulk.seeds, owed.join(", "));
    }
    harvest.broken.is_empty() && owed.is_empty()
}

fn replay(plan: &Plan, mutants: Mutants, all: bool) -> Result<ExitCode> {
    let tell = if all { Tell::Everything } else { Tell::Story };
    let outcome = sim::live_broken(plan, tell, mutants);
    for line in &outcome.story {
        println!("{line}");
    }
    println!("hash {:016x}", outcome.hash);
    Ok(if outcome.broken.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn shrink(plan: &Plan, mutants: Mutants, runs_max: usize) -> Result<ExitCode> {
    let Some(broken) = sim::live_broken(plan, Tell::Nothing, mutants).broken else {
        bail!("nothing breaks: there is nothing to shrink");
    };
    let (least, runs) = sim::shrink::shrink(plan, broken.rule, mutants, runs_max);
    println!("{}", serde_json::to_string_pretty(&least)?);
    eprintln!("{} events of {} are left, after {runs} runs", least.events.len(), plan.events.len());
    replay(&least, mutants, false)
}

fn trace(
    plan: &Plan,
    mutants: Mutants,
    mutant: Option<&str>,
    path: Option<&str>,
) -> Result<ExitCode> {
    let outcome = sim::live_broken(plan, Tell::Data, mutants);
    let trace = sim::trace::File {
        format: sim::trace::FORMAT,
        plan,
        mutant,
        hash: format!("{:016x}", outcome.hash),
        broken: outcome.broken.as_ref().map(sim::trace::Breach::from),
        events: &outcome.seen,
    };
    let to: Box<dyn Write> = match path {
        Some(path) => Box::new(File::create(path).with_context(|| path.to_owned())?),
        None => Box::new(std::io::stdout().lock()),
    };
    let mut file = BufWriter::new(to);
    serde_json::to_writer(&mut file, &trace)?;
    file.flush()?;
    eprintln!("{} events", outcome.seen.len());
    if let Some(broken) = &outcome.broken {
        eprintln!("{broken}");
    }
    Ok(if outcome.broken.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
