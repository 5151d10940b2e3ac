//! What distance costs.

use std::path::PathBuf;

use lab::tax;

use super::{bad, json_line, put};
use crate::exit::{Exit, Result};

/// The latency of a write.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
A write is answered when a majority has it: it takes the round trip from the
leader to the nearest quorum. That is predicted from the map, and simulated with
the store's Raft. Round trips between places are those of public clouds, rounded.")]
pub(super) struct TaxArgs {
    /// Write the plot to this file as well
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl TaxArgs {
    pub(super) fn run(self, json: bool) -> Result<()> {
        let taxes = tax::all().map_err(bad)?;
        if let Some(path) = self.svg {
            std::fs::write(&path, tax::plot(&taxes))
                .map_err(|error| Exit::io(format!("{}: {error}", path.display())))?;
        }
        if json {
            return json_line(&taxes);
        }
        let mut text = format!(
            "{:<11}{:>3}  {:<12}{:>12}{:>12}\n",
            "map", "n", "leader in", "predicted", "simulated"
        );
        for one in &taxes {
            text += &format!(
                "{:<11}{:>3}  {:<12}{:>12}{:>12}\n",
                one.map,
                one.n,
                one.place,
                tax::milliseconds(one.predicted_us),
                tax::milliseconds(one.simulated_us)
            );
        }
        put(&text)
    }
}
