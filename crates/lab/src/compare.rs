//! The same script on several protocols, side by side.

use serde::{Deserialize, Serialize};

use crate::facade::{Run, RunError, Subject, Tell};
use crate::protocol::{Broken, Setup};
use crate::script::Script;

/// One protocol's part in a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The protocol, by its name.
    pub protocol: String,
    /// How many processes.
    pub n: usize,
    /// Messages that left.
    pub messages: u64,
    /// Writes to disks.
    pub writes: u64,
    /// Requests of clients.
    pub asked: usize,
    /// Those that were answered.
    pub answered: usize,
    /// Writes that were acknowledged, and that in the end the processes have not got or contradict: counted on their
    /// disks, whatever the rules say ([`crate::protocol::Protocol::lost`]). `None` where clients are told
    /// nothing.
    pub lost: Option<u64>,
    /// How long answers took, in microseconds: the median, and the longest.
    pub latency_us: Option<(u64, u64)>,
    /// How many messages one after the other led to an answer: the median.
    pub rounds: Option<u64>,
    /// The rule that broke.
    pub broken: Option<Broken>,
}

/// Runs the script on each of these, with `n` processes or as many as each takes. Operations that a protocol
/// does not know are left out: scripts for several protocols ask for `write`.
///
/// # Errors
/// Why one of them cannot run it.
pub fn compare(subjects: &[(&dyn Subject, Setup)], script: &Script) -> Result<Vec<Row>, RunError> {
    let row = |(subject, setup): &(&dyn Subject, Setup)| {
        let about = subject.about();
        let known = |op: &String| about.operations.iter().any(|known| known.name == op);
        let mut script = script.clone();
        script.acts.retain(|act| match &act.what {
            crate::script::What::Client { op, .. } => known(op),
            _ => true,
        });
        let setup = subject.setup(setup)?;
        let n = setup.n;
        let run = Run { protocol: about.name.to_owned(), setup, script };
        let outcome = subject.run(&run, Tell::End)?;
        let mut latency: Vec<u64> =
            outcome.tally.replied.values().map(|replied| replied.after_us).collect();
        latency.sort_unstable();
        let mut rounds: Vec<u64> =
            outcome.tally.replied.values().map(|replied| replied.messages).collect();
        rounds.sort_unstable();
        let median = latency.get(latency.len() / 2).copied();
        Ok(Row {
            protocol: about.name.to_owned(),
            n,
            messages: outcome.tally.sent,
            writes: outcome.tally.persisted,
            asked: outcome.tally.asked.len(),
            answered: outcome.tally.replied.len(),
            lost: outcome.lost,
            latency_us: median.zip(latency.last().copied()),
            rounds: rounds.get(rounds.len() / 2).copied(),
            broken: outcome.broken,
        })
    };
    subjects.iter().map(row).collect()
}
