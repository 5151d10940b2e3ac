//! `quorate-sim`: many seeds, one seed told as a story, or the smallest plan that breaks a rule.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use sim::{Mutants, Plan, Tally, Tell};

const HELP: &str = "\
Usage: quorate-sim TASK

  run [--first N] [--seeds N]   live through seeds; stops at the first that breaks a rule
  replay SEED|FILE [--all]      one seed (or the plan in a file), told as a story; --all: every message
  hash SEED                     the number that stands for everything that happens in a seed
  plan SEED                     a seed's plan, as JSON
  shrink SEED [--runs N]        the smallest plan that breaks the same rule, as JSON, and its story

A run fails if a rule is broken, and if something that it claims to survive never happened
(asked of 2,000 seeds and more).
";

/// What must happen somewhere in a run of many seeds.
const MUST_HAPPEN: &[&str] = &[
    "bits rotten",
    "bridge",
    "checkpoint",
    "checkpoint cut off",
    "clock jump",
    "collection",
    "connection lost",
    "converged",
    "damage refused",
    "election",
    "files torn",
    "full disk",
    "given up",
    "i/o error",
    "kill",
    "leader isolated",
    "leadership moved",
    "log full",
    "log has room again",
    "log read",
    "member joined",
    "member removed",
    "message late",
    "message lost",
    "message twice",
    "ok: compact",
    "ok: delete",
    "ok: get",
    "ok: lease grant",
    "ok: lease keep-alive",
    "ok: lease revoke",
    "ok: lease time-to-live",
    "ok: member add",
    "ok: member promote",
    "ok: member remove",
    "ok: put",
    "ok: txn",
    "one-way cut",
    "partition",
    "pause",
    "power cut",
    "power cut of all",
    "refused",
    "refused by a full disk",
    "rot",
    "sectors lost",
    "slow disk",
    "snapshot cut off",
    "snapshot installed",
    "unknown",
];

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
        "run" => run(number(rest, "--first", 1)?, number(rest, "--seeds", 100)?),
        "replay" => replay(&plan(rest)?, rest.iter().any(|arg| arg == "--all")),
        "hash" => {
            println!("{:016x}", sim::live(&plan(rest)?, Tell::Nothing).hash);
            Ok(ExitCode::SUCCESS)
        }
        "plan" => {
            println!("{}", serde_json::to_string_pretty(&plan(rest)?)?);
            Ok(ExitCode::SUCCESS)
        }
        "shrink" => shrink(&plan(rest)?, usize::try_from(number(rest, "--runs", 2_000)?)?),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("no task {other:?}\n\n{HELP}"),
    }
}

fn number(args: &[String], name: &str, otherwise: u64) -> Result<u64> {
    let Some(at) = args.iter().position(|arg| arg == name) else { return Ok(otherwise) };
    let given = args.get(at + 1).with_context(|| format!("{name} wants a number"))?;
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

fn run(first: u64, seeds: u64) -> Result<ExitCode> {
    let began = Instant::now();
    let mut told = Instant::now();
    let mut tally = Tally::default();
    let mut simulated_us = 0;
    for seed in first..first.saturating_add(seeds) {
        let outcome = sim::live(&Plan::draw(seed), Tell::Nothing);
        if let Some(broken) = outcome.broken {
            println!("seed {seed}: {broken}\nquorate-sim replay {seed}; quorate-sim shrink {seed}");
            return Ok(ExitCode::FAILURE);
        }
        tally.merge(&outcome.tally);
        simulated_us += outcome.simulated_us;
        if told.elapsed().as_secs() >= 10 {
            told = Instant::now();
            eprintln!("{} of {seeds} seeds", seed + 1 - first);
        }
    }
    for (what, times) in tally.iter() {
        println!("{times:>12}  {what}");
    }
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (hours, rate) =
        (simulated_us as f64 / 3.6e9, seeds as f64 / began.elapsed().as_secs_f64().max(1e-9));
    println!(
        "{seeds} seeds from {first}: clean; {hours:.1} simulated hours, {rate:.1} seeds a second"
    );
    let missing = tally.missing(MUST_HAPPEN);
    if seeds >= 2_000 && !missing.is_empty() {
        println!("but these never happened: {}", missing.join(", "));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn replay(plan: &Plan, all: bool) -> Result<ExitCode> {
    let tell = if all { Tell::Everything } else { Tell::Story };
    let outcome = sim::live(plan, tell);
    for line in &outcome.story {
        println!("{line}");
    }
    println!("hash {:016x}", outcome.hash);
    Ok(if outcome.broken.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn shrink(plan: &Plan, runs_max: usize) -> Result<ExitCode> {
    let Some(broken) = sim::live(plan, Tell::Nothing).broken else {
        bail!("nothing breaks: there is nothing to shrink");
    };
    let (least, runs) = sim::shrink::shrink(plan, broken.rule, Mutants::default(), runs_max);
    println!("{}", serde_json::to_string_pretty(&least)?);
    eprintln!("{} events of {} are left, after {runs} runs", least.events.len(), plan.events.len());
    replay(&least, false)
}
