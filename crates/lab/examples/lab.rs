//! The lab by hand, until the `quorate` binary has it:
//!
//! ```text
//! cargo run --release -p quorate-lab --example lab -- list
//! ... check paxos 10000 [VARIANT [RULE...]]
//!                                      seeds from 0 on, up to the first that breaks a rule, one of these
//! ... shrink paxos VARIANT             finds, shrinks and tells
//! ... tell paxos SEED [VARIANT]        the story of a seed
//! ... lesson paxos NAME [VARIANT]      the story of a run by hand
//! ```

use std::time::Instant;

use lab::check::{self, Found};
use lab::facade::{Run, Subject, Tell};
use lab::protocol::Setup;
use lab::{registry, shrink, story};

type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["list"] => list(),
        ["check", name, seeds, ref rest @ ..] => {
            let subject = registry::find(name)?;
            let mut setup = setup(subject, rest.first().copied())?;
            setup.watched.extend(rest.iter().skip(1).map(|&rule| rule.to_owned()));
            let begun = Instant::now();
            let report = check::check(subject, &setup, seeds.parse()?)?;
            let (seeds, events) = (report.seeds, report.events);
            println!("{seeds} seeds, {events} events, {:.2?}", begun.elapsed());
            if let Some(found) = report.found {
                println!("seed {}, event {}: {}", found.run.setup.seed, found.events, found.broken);
            }
        }
        ["shrink", name, variant] => {
            let subject = registry::find(name)?;
            let report = check::check(subject, &setup(subject, Some(variant))?, 100_000)?;
            let found = report.found.ok_or("nothing broke")?;
            let smallest: Found = shrink::shrink(subject, &found, 5_000)?;
            println!("{}", serde_json::to_string(&smallest.run)?);
            tell(subject, &smallest.run)?;
        }
        ["tell", name, seed, ref rest @ ..] => {
            let subject = registry::find(name)?;
            let setup = Setup { seed: seed.parse()?, ..setup(subject, rest.first().copied())? };
            tell(subject, &subject.generate(&setup)?)?;
        }
        ["lesson", name, lesson, ref rest @ ..] => {
            let subject = registry::find(name)?;
            let known = subject.about().lessons.iter().find(|known| known.name == lesson);
            let mut run = (known.ok_or("no such lesson")?.run)();
            run.setup.variants.extend(rest.iter().map(|&variant| variant.to_owned()));
            tell(subject, &run)?;
        }
        _ => return Err("list | check | shrink | tell | lesson: see the source".into()),
    }
    Ok(())
}

fn list() {
    for subject in registry::PROTOCOLS {
        let about = subject.about();
        println!("{:<12} {} ({})", about.name, about.title, about.paper);
        for variant in about.variants {
            println!("    {:<28} {}", variant.name, variant.says);
        }
        for lesson in about.lessons {
            println!("    lesson {:<21} {}", lesson.name, lesson.says);
        }
    }
}

fn setup(subject: &dyn Subject, variant: Option<&str>) -> Fallible<Setup> {
    // `knobs-of=VARIANT`: as it should be, in the setup in which the variant shows.
    Ok(match variant.map(|name| name.strip_prefix("knobs-of=").ok_or(name)) {
        Some(Ok(name)) => Setup { variants: [].into(), ..check::setup_of(subject, name)? },
        Some(Err(name)) => check::setup_of(subject, name)?,
        None => Setup::default(),
    })
}

fn tell(subject: &dyn Subject, run: &Run) -> Fallible {
    let outcome = subject.run(run, Tell::All)?;
    let broken = outcome.broken.map(|broken| broken.to_string());
    if let Some(trace) = &outcome.trace {
        print!("{}", story::tell(trace, broken.as_deref()));
    }
    println!("{} events, {} us, digest {}", outcome.events, outcome.at_us, outcome.digest);
    Ok(())
}
