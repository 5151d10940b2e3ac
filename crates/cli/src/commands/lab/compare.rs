//! The same script on several protocols.

use lab::compare::{Row, compare};
use lab::facade::Subject;
use lab::protocol::Setup;
use lab::script::{Act, End, Script, Weather, What};

use super::{bad, find, json_line, put, wrapped};
use crate::exit::{Exit, Result};

/// Protocols side by side.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  quorate lab compare raft paxos gossip
  quorate lab compare raft gossip --faults seed --seed 3")]
pub(super) struct CompareArgs {
    /// The protocols, two or more
    #[arg(required = true, num_args = 2..)]
    protocols: Vec<String>,
    /// Processes of each; 0 is as many as each has by itself
    #[arg(long, value_name = "N", default_value_t = 0)]
    n: usize,
    /// Where everything that is drawn comes from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// What breaks: seed (as it is drawn for the first of them), none, or a file with a script as JSON
    #[arg(long, value_name = "seed|none|FILE", default_value = "none")]
    faults: String,
}

impl CompareArgs {
    pub(super) fn run(self, json: bool) -> Result<()> {
        let subjects = self.protocols.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
        let setup = Setup { n: self.n, seed: self.seed, ..Setup::default() };
        let script = self.script(subjects[0], &setup)?;
        let of = |subject: &&'static dyn Subject| (*subject, setup.clone());
        let rows = compare(&subjects.iter().map(of).collect::<Vec<_>>(), &script).map_err(bad)?;
        if json { json_line(&rows) } else { put(&table(&rows)) }
    }

    fn script(&self, first: &dyn Subject, setup: &Setup) -> Result<Script> {
        match self.faults.as_str() {
            "seed" => Ok(first.generate(setup).map_err(bad)?.script),
            "none" => Ok(ten_writes()),
            file => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| Exit::io(format!("{file}: {error}")))?;
                serde_json::from_str(&text)
                    .map_err(|error| Exit::invalid_input(format!("{file} is no script: {error}")))
            }
        }
    }
}

/// Once everybody has found a leader who needs one.
fn ten_writes() -> Script {
    let node = lab::process::NodeId(0);
    let write = |nth| What::Client { node, op: "write".to_owned(), args: vec![nth] };
    let acts = (1..=10).map(|nth| Act::at_ms(1_000 + 100 * nth, write(nth))).collect();
    let end = End { events: 100_000, at_us: 3_000_000 };
    Script { weather: Weather::calm(), acts, end, calm_from_us: None }
}

fn table(rows: &[Row]) -> String {
    let ms = |us: u64| format!("{}.{:03}", us / 1000, us % 1000);
    let mut text = format!(
        "{:<16}{:>3}{:>9}{:>7}{:>6}{:>9}{:>5}{:>9}{:>9}{:>7}\n",
        "protocol",
        "n",
        "messages",
        "writes",
        "asked",
        "answered",
        "lost",
        "median",
        "longest",
        "rounds"
    );
    for row in rows {
        let (median, longest) =
            row.latency_us.map_or_else(Default::default, |(a, b)| (ms(a), ms(b)));
        let lost = row.lost.map_or_else(|| "-".to_owned(), |lost| lost.to_string());
        let rounds = row.rounds.map(|rounds| rounds.to_string()).unwrap_or_default();
        text += &format!(
            "{:<16}{:>3}{:>9}{:>7}{:>6}{:>9}{lost:>5}{median:>9}{longest:>9}{rounds:>7}\n",
            row.protocol, row.n, row.messages, row.writes, row.asked, row.answered
        );
        if let Some(broken) = &row.broken {
            text += &wrapped("  broke", 2, &broken.to_string());
        }
    }
    if rows.iter().any(|row| row.n != rows[0].n) {
        text += "\nNot all of them have as many processes: --n gives all the same.\n";
    }
    text += "\nMedian and longest say how long answers took, in ms. A round is a message that\nan answer had to wait for. Writes are to disks, of all processes. Lost is what\nwas answered and is gone or contradicted in the end, counted on the disks; - where\nclients are told nothing.\n";
    text
}
