//! lab: protocols from their papers, run under faults, checked after every event.

mod compare;
mod generals;
mod page;
mod run;
mod tax;

use lab::check;
use lab::facade::{RunError, Subject};
use lab::protocol::{RuleKind, Setup};
use lab::registry;

use super::Global;
use crate::exit::{Exit, Result};

/// Watch consensus protocols, break them and check them: opens a page, or runs one here
#[derive(Debug, Clone, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Without a command it serves the lab's page on this machine alone; nothing of it
needs a network. With one it runs in this terminal; -w json gives data instead
of text.

Examples:
  quorate lab                                  then open the address that it prints
  quorate lab --trace FILE                     what quorate-sim trace has written: a
                                               whole cluster, as a recording
  quorate lab list
  quorate lab run raft --seed 7                the story of one seed
  quorate lab check paxos --seeds 10000        does any rule ever break?
  quorate lab check paxos --broken forget-promise
  quorate lab shrink raft --broken commit-old-term
  quorate lab compare raft paxos gossip --seed 3
  quorate lab tax                              what distance costs
  quorate lab flp paxos --stages 1000          a schedule that never decides
  quorate lab byzantine --n 4 --m 1 --traitors 1"
)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    command: Option<LabCommand>,
    #[command(flatten)]
    page: page::PageArgs,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum LabCommand {
    /// Every protocol: its rules, mistakes, settings and lessons
    List {
        /// This one alone
        protocol: Option<String>,
    },
    /// Make one run and tell what happens in it
    Run(run::RunArgs),
    /// Run many seeds, up to the first in which a rule breaks
    Check(run::CheckArgs),
    /// Find a run in which a rule breaks, cut it down, and tell it
    Shrink(run::CheckArgs),
    /// The same script on several protocols: messages, rounds, latency, what was lost
    Compare(compare::CompareArgs),
    /// How long a write takes, by where the members are and where the leader is
    Tax(tax::TaxArgs),
    /// Set the adversary of Fischer, Lynch and Paterson on a protocol
    Flp(run::FlpArgs),
    /// The Byzantine generals of Lamport, Shostak and Pease
    Byzantine(generals::GeneralsArgs),
}

impl LabArgs {
    /// Does what is asked for; the page is served until it is interrupted.
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        let json = global.wants_json();
        match self.command {
            None => self.page.run().await,
            Some(LabCommand::List { protocol }) => list(protocol.as_deref(), json),
            Some(LabCommand::Run(args)) => args.run(json),
            Some(LabCommand::Check(args)) => args.check(json),
            Some(LabCommand::Shrink(args)) => args.shrink(json),
            Some(LabCommand::Compare(args)) => args.run(json),
            Some(LabCommand::Tax(args)) => args.run(json),
            Some(LabCommand::Flp(args)) => args.run(json),
            Some(LabCommand::Byzantine(args)) => args.run(json),
        }
    }
}

/// How a protocol is set up.
#[derive(Debug, Clone, clap::Args)]
struct SetupArgs {
    /// The protocol; `quorate lab list` has them all
    protocol: String,
    /// Processes; 0 is as many as the protocol has by itself
    #[arg(long, value_name = "N", default_value_t = 0)]
    n: usize,
    /// Build this mistake into the protocol; may be given again
    #[arg(long, value_name = "MISTAKE")]
    broken: Vec<String>,
    /// Set a setting of the protocol; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = knob)]
    set: Vec<(String, u64)>,
    /// End a run only when this rule breaks, or others named so
    #[arg(long, value_name = "RULE")]
    rule: Vec<String>,
}

fn knob(text: &str) -> std::result::Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    let value = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
    Ok((name.to_owned(), value))
}

impl SetupArgs {
    fn subject(&self) -> Result<&'static dyn Subject> {
        find(&self.protocol)
    }

    /// As asked for; a mistake that shows only in some setup has that one, unless told otherwise.
    fn setup(&self, seed: u64) -> Result<Setup> {
        let subject = self.subject()?;
        let mut setup = match &self.broken[..] {
            [mistake] => check::setup_of(subject, mistake).map_err(bad)?,
            _ => Setup::default(),
        };
        setup.seed = seed;
        setup.variants.extend(self.broken.iter().cloned());
        setup.knobs.extend(self.set.iter().cloned());
        setup.watched.extend(self.rule.iter().cloned());
        if self.n > 0 {
            setup.n = self.n;
        }
        subject.setup(&setup).map_err(bad)
    }
}

fn find(name: &str) -> Result<&'static dyn Subject> {
    registry::find(name).map_err(bad)
}

fn bad(error: RunError) -> Exit {
    Exit::bad_args(error)
}

fn json_line(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(Exit::failed)?;
    put(&format!("{text}\n"))
}

/// As stdout takes it: whoever reads on (`| head`) may have enough.
fn put(text: &str) -> Result<()> {
    use std::io::{ErrorKind, Write as _};
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Exit::io(error)),
        _ => Ok(()),
    }
}

/// Columns of the terminal for which lists are made.
const COLUMNS: usize = 80;
/// Of a name, before what it says.
const NAME: usize = 26;

/// A name and what it says, over as many lines as it takes.
fn entry(name: &str, says: &str) -> String {
    wrapped(&format!("  {name:<width$}", width = NAME - 2), NAME, says)
}

/// Words after what a line begins with, over as many lines as it takes; the others begin `indent` further in.
fn wrapped(first: &str, indent: usize, words: &str) -> String {
    let mut text = first.to_owned();
    let mut column = first.chars().count();
    for word in words.split_whitespace() {
        let length = word.chars().count() + 1;
        if column + length > COLUMNS {
            text += &format!("\n{:indent$}", "");
            column = indent;
        }
        if column > 0 {
            text.push(' ');
        }
        text += word;
        column += length;
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// An essay, its paragraphs and items over as many lines as they take.
fn essay(text: &str) -> String {
    let mut blocks: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.trim_end().lines() {
        let begins = ["- ", "1. ", "2. ", "3. ", "4. ", "5. ", "# "];
        let begins = begins.iter().any(|mark| line.starts_with(mark));
        match blocks.last_mut().filter(|_| open && !begins && !line.is_empty()) {
            Some(block) => *block += &format!(" {}", line.trim_start()),
            None => blocks.push(line.to_owned()),
        }
        open = !line.is_empty() && !line.starts_with('#');
    }
    let shown = |block: &String| {
        let indent =
            block.find(['-', '.']).filter(|&at| at < 2 && block[at + 1..].starts_with(' '));
        wrapped("", indent.map_or(0, |at| at + 1), block)
    };
    blocks.iter().map(shown).collect()
}

fn list(protocol: Option<&str>, json: bool) -> Result<()> {
    let wanted = match protocol {
        Some(name) => vec![find(name)?],
        None => registry::PROTOCOLS.to_vec(),
    };
    if json {
        return json_line(&wanted.iter().map(|one| one.about()).collect::<Vec<_>>());
    }
    let mut text = String::new();
    for subject in &wanted {
        let about = subject.about();
        text += &format!("{:<16} {}\n", about.name, about.title);
        text += &wrapped(&format!("{:16}", ""), 16, about.paper);
        if protocol.is_none() {
            continue;
        }
        let mut part = |title: &str, lines: Vec<(String, &str)>| {
            text += &format!("\n{title}\n");
            for (name, says) in lines {
                text += &entry(&name, says);
            }
        };
        let own = |name: &str| name.to_owned();
        let rules = |kind: RuleKind| {
            let rules = about.rules.iter().filter(move |rule| rule.kind == kind);
            rules.map(|rule| (own(rule.name), rule.says)).collect()
        };
        part("Rules that are promises", rules(RuleKind::Promise));
        part("Rules of the mechanism, which keeps them", rules(RuleKind::Mechanism));
        part(
            "Mistakes, for --broken",
            about.variants.iter().map(|one| (own(one.name), one.says)).collect(),
        );
        let knob =
            |knob: &lab::protocol::Knob| (format!("{}={}", knob.name, knob.default), knob.says);
        part("Settings, for --set", about.knobs.iter().map(knob).collect());
        let operation = |op: &lab::protocol::Operation| {
            (format!("{}({})", op.name, op.args.join(", ")), op.says)
        };
        part("Operations", about.operations.iter().map(operation).collect());
        part(
            "Lessons, for run --lesson",
            about.lessons.iter().map(|one| (own(one.name), one.says)).collect(),
        );
        text += &format!("\n{}", essay(about.essay));
    }
    put(&text)
}
