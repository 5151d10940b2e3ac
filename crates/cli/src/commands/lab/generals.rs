//! The Byzantine generals.

use lab::check;
use lab::facade::{Run, Tell};
use lab::process::NodeId;
use lab::protocol::Setup;
use lab::script::{Act, End, Script, Weather, What};
use lab::story::Tells;
use lab::{shrink, story};

use super::{bad, find, json_line, put};
use crate::exit::{Exit, Result};

/// Runs that a disagreement is cut down by.
const SHRINK_RUNS_MAX: u64 = 2_000;

/// Oral or signed messages, and traitors.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
With oral messages no more than m of 3m + 1 generals may be traitors; with
signed ones m of m + 2.

Exit status: 0 the loyal ones agreed however they were lied to, 1 they did not,
128 the arguments do not fit.

Examples:
  quorate lab byzantine --n 4 --m 1 --traitors 1            holds
  quorate lab byzantine --n 3 --m 1 --traitors 1            three cannot bear one
  quorate lab byzantine --n 3 --m 1 --traitors 1 --signed   unless they sign")]
pub(super) struct GeneralsArgs {
    /// Generals, the commander included
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = generals)]
    n: usize,
    /// The m of OM(m) or SM(m): rounds of relaying
    #[arg(long, value_name = "M", default_value_t = 1)]
    m: u64,
    /// Traitors, at most
    #[arg(long, value_name = "K", default_value_t = 1)]
    traitors: u64,
    /// Messages are signed: nobody can say that another said what he did not
    #[arg(long)]
    signed: bool,
    /// Ways of treason that are tried
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
}

impl GeneralsArgs {
    pub(super) fn run(self, json: bool) -> Result<()> {
        let subject = find(if self.signed { "generals-signed" } else { "generals-oral" })?;
        let traitors = match self.traitors {
            1 => "1 traitor".to_owned(),
            many => format!("{many} traitors"),
        };
        if self.traitors > self.n as u64 {
            return Err(Exit::bad_args(format!("{traitors} among {} generals", self.n)));
        }
        let name = if self.signed { "SM" } else { "OM" };
        let knobs = [("m".to_owned(), self.m), ("traitors".to_owned(), self.traitors)];
        let setup = Setup { n: self.n, knobs: knobs.into(), ..Setup::default() };
        let loyal =
            subject.run(&all_loyal(subject.about().name, &setup), Tell::End).map_err(bad)?;
        let report = check::check(subject, &setup, self.seeds).map_err(bad)?;
        let smallest = report
            .found
            .as_ref()
            .map(|found| shrink::shrink(subject, found, SHRINK_RUNS_MAX))
            .transpose()
            .map_err(bad)?;
        let broken = smallest.as_ref().map(|smallest| smallest.broken.to_string());
        let ended = || match &broken {
            None => Ok(()),
            Some(broken) => Err(Exit::failed(format!("a rule broke: {broken}"))),
        };
        if json {
            let messages = loyal.tally.sent;
            let seeds = report.seeds;
            json_line(
                &serde_json::json!({ "messages": messages, "seeds": seeds, "found": smallest }),
            )?;
            return ended();
        }
        put(&format!(
            "{name}({}) with {} generals: {} messages if all are loyal.\n",
            self.m, self.n, loyal.tally.sent
        ))?;
        let Some(smallest) = smallest else {
            return put(&format!(
                "With up to {traitors} the loyal ones agreed in all {} ways of\ntreason that were tried.\n",
                report.seeds
            ));
        };
        put(&format!(
            "With up to {traitors} they do not agree; way {} of treason, cut down:\n\n",
            report.seeds
        ))?;
        let outcome = subject.run(&smallest.run, Tell::All).map_err(bad)?;
        put(&story::of(&outcome, Tells::Changes))?;
        ended()
    }
}

/// None would be as many as the protocol has by itself, which nobody asks for here.
fn generals(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("there must be generals".to_owned()),
        Ok(n) => Ok(n),
        Err(_) => Err(format!("{text:?} is not a number")),
    }
}

fn all_loyal(name: &str, setup: &Setup) -> Run {
    let what = What::Client { node: NodeId(0), op: "order".to_owned(), args: vec![1] };
    let end = End { events: 100_000, at_us: 1_000_000 };
    let script = Script {
        weather: Weather::lockstep(),
        acts: vec![Act::at_ms(0, what)],
        end,
        calm_from_us: Some(0),
    };
    Run { protocol: name.to_owned(), setup: setup.clone(), script }
}
