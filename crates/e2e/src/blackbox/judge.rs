//! The verdict on a recorded history, by `history` alone; and the file that keeps one.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use history::linear::keys::{self, Passed};
use history::record::History;
use history::replay::{self, Report};

/// So many broken rules are told; the file has the rest.
const VIOLATIONS_MAX: usize = 8;

/// What was found in order.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// By the rules of the contract.
    pub replay: Report,
    /// By the search for an order.
    pub linear: Passed,
}

/// Judges. A history that could not be judged to the end, or in which nothing was checked, does not pass.
///
/// # Errors
/// With the rules that were broken, or why there is no verdict.
pub fn judge(history: &History) -> Result<Verdict> {
    let settings = replay::Settings { violations_max: VIOLATIONS_MAX, ..Default::default() };
    let replay = replay::check(history, &settings);
    if !replay.is_clean() {
        bail!("verdict: BROKEN\n{replay}");
    }
    let linear = match keys::check(&history.operations, &keys::Settings::default()) {
        Ok(passed) => passed,
        Err(fault @ keys::Fault::NotLinearizable { .. }) => bail!("verdict: BROKEN\n{fault}"),
        Err(fault @ keys::Fault::Unknown { .. }) => bail!("verdict: UNKNOWN\n{fault}"),
    };
    let seen = &replay.seen;
    ensure!(
        seen.writes_acknowledged > 0 && seen.answers > 0 && seen.watch_events > 0,
        "verdict: NOTHING HAPPENED, {seen:?}"
    );
    ensure!(linear.operations > 0, "verdict: NOTHING HAPPENED, {linear:?}");
    Ok(Verdict { replay, linear })
}

/// Keeps a history.
///
/// # Errors
/// When the file cannot be written.
pub fn write(history: &History, path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut file = BufWriter::new(file);
    serde_json::to_writer(&mut file, history)?;
    Ok(file.flush()?)
}

/// Reads a history that was kept.
///
/// # Errors
/// When there is none in the file.
pub fn read(path: &Path) -> Result<History> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    serde_json::from_reader(BufReader::new(file)).with_context(|| path.display().to_string())
}
