//! Rows of the table: the same sizes for one engine after the other, each in a process of its own.
//!
//! A run is bounded in time and needs room on the disk; one that gets neither is a result too, and says so
//! under the metric `outcome`: 1 finished, 0 failed, -1 took too long, -2 had no room. What it had measured
//! until then stays. Every figure is a line: row, engine, cache in MiB, round, metric, value; separated by
//! tabs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::candidates::Kind;
use crate::gauges;
use crate::workload::Shape;

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// What a row may take of the disk, over all that it puts: half-full pages, copies on write.
const ROOM_FACTOR: u64 = 2;
/// Overwrites of neighbours, and by the workers.
const OTHER_PUTS: u64 = 500_000;

/// One line of the table: `KEYS:VALUE_BYTES:BATCH:CHECKPOINTS`, keys with `k` or `M`.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: String,
    keys: u64,
    value_bytes: u64,
    batch: u64,
    checkpoints: u64,
}

impl FromStr for Row {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split(':').map(number).collect::<Result<Vec<_>>>()?;
        let &[keys, value_bytes, batch, checkpoints] = &numbers[..] else {
            bail!("not KEYS:VALUE_BYTES:BATCH:CHECKPOINTS");
        };
        // Lists among the neighbours of the middle, which have to be there.
        ensure!(keys >= 10_000, "too few keys");
        Ok(Self { name: text.to_owned(), keys, value_bytes, batch, checkpoints })
    }
}

fn number(text: &str) -> Result<u64> {
    let (digits, factor) = match text.strip_suffix('M') {
        Some(digits) => (digits, 1_000_000),
        None => text.strip_suffix('k').map_or((text, 1), |digits| (digits, 1_000)),
    };
    Ok(digits.parse::<u64>().with_context(|| text.to_owned())? * factor)
}

impl Row {
    fn room_bytes(&self) -> u64 {
        let value_bytes = usize::try_from(self.value_bytes).unwrap_or(usize::MAX);
        let shape = Shape { keys: self.keys, value_bytes, seed: 1 };
        let puts = self.keys + self.batch * self.checkpoints + OTHER_PUTS;
        ROOM_FACTOR * shape.put_bytes() * puts
    }
}

/// Which rows, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Rows {
    /// KEYS:VALUE_BYTES:BATCH:CHECKPOINTS, such as 1M:256:200k:5.
    #[arg(required = true)]
    rows: Vec<Row>,
    /// In this order, for each row and round.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "redb,lmdb,fjall")]
    engines: Vec<Kind>,
    /// The engines' caches.
    #[arg(long, default_value_t = 128)]
    cache_mib: usize,
    /// How often every row.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// The number of the first of them: figures of a later call go beside those of an earlier one.
    #[arg(long, default_value_t = 1)]
    first_round: u32,
    /// A run is given up after this.
    #[arg(long, default_value_t = 900)]
    timeout_seconds: u64,
    /// Under which each run has a directory.
    #[arg(long)]
    dir: PathBuf,
    /// Figures are appended here.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the rows.
pub(crate) fn run(rows: &Rows) -> Result<()> {
    std::fs::create_dir_all(&rows.dir)?;
    for row in &rows.rows {
        for round in rows.first_round..rows.first_round + rows.rounds {
            for &engine in &rows.engines {
                let began = Instant::now();
                let outcome = rows.run_one(row, engine, round)?;
                let line = rows.line(row, engine, round, &format!("outcome\t{outcome}"));
                append(&rows.out, &line)?;
                eprintln!("{line}\t{:.0} s", began.elapsed().as_secs_f64());
            }
        }
    }
    Ok(())
}

fn append(out: &Path, line: &str) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(out)?;
    Ok(writeln!(file, "{line}")?)
}

impl Rows {
    fn line(&self, row: &Row, engine: Kind, round: u32, figure: &str) -> String {
        format!("{}\t{}\t{}\t{round}\t{figure}", row.name, engine.name(), self.cache_mib)
    }

    fn run_one(&self, row: &Row, engine: Kind, round: u32) -> Result<i32> {
        if gauges::free_bytes(&self.dir)? < row.room_bytes() {
            return Ok(-2);
        }
        let dir = self.dir.join(engine.name());
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--engine", engine.name()]).arg("--dir").arg(&dir);
        for (name, number) in [
            ("--keys", row.keys),
            ("--value-bytes", row.value_bytes),
            ("--batch", row.batch),
            ("--checkpoints", row.checkpoints),
            ("--cache-mib", self.cache_mib as u64),
        ] {
            command.arg(name).arg(number.to_string());
        }
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().context("a pipe was asked for")?;
        let limit = Instant::now() + Duration::from_secs(self.timeout_seconds);
        let outcome = std::thread::scope(|scope| {
            let figures = scope.spawn(|| {
                BufReader::new(output).lines().map_while(Result::ok).try_for_each(|figure| {
                    append(&self.out, &self.line(row, engine, round, &figure))
                })
            });
            let outcome = loop {
                if let Some(status) = process.try_wait()? {
                    break i32::from(status.success());
                }
                if Instant::now() > limit {
                    process.kill()?;
                    process.wait()?;
                    break -1;
                }
                std::thread::sleep(LOOK);
            };
            figures.join().expect("the reader does not panic")?;
            anyhow::Ok(outcome)
        })?;
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        Ok(outcome)
    }
}

/// Where a table comes from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Table {
    /// What `rows` has written.
    figures: PathBuf,
    /// Figures to show, such as over.cpu_us; all by default.
    #[arg(long, value_delimiter = ',')]
    metrics: Vec<String>,
}

type Column = (String, String);

/// Prints every metric as a Markdown table: a line for each row, a column for each engine and cache; the
/// mean of the rounds, and the furthest of them from it in per cent.
pub(crate) fn table(table: &Table) -> Result<()> {
    let text = std::fs::read_to_string(&table.figures)?;
    let mut metrics: BTreeMap<&str, BTreeMap<&str, BTreeMap<Column, Vec<f64>>>> = BTreeMap::new();
    let mut columns: Vec<Column> = Vec::new();
    for line in text.lines() {
        let &[row, engine, cache, _round, metric, value] =
            &line.split('\t').collect::<Vec<_>>()[..]
        else {
            bail!("not a figure: {line}");
        };
        let column = (engine.to_owned(), cache.to_owned());
        if !columns.contains(&column) {
            columns.push(column.clone());
        }
        let value: f64 = value.parse().with_context(|| line.to_owned())?;
        let cells = metrics.entry(metric).or_default().entry(row).or_default();
        cells.entry(column).or_default().push(value);
    }
    let wanted = |metric: &str| {
        table.metrics.is_empty() || table.metrics.iter().any(|wanted| wanted == metric)
    };
    for (metric, rows) in metrics.iter().filter(|(metric, _)| wanted(metric)) {
        let mut page = format!("### {metric}\n\n| |");
        for (engine, cache) in &columns {
            let _infallible = write!(page, " {engine}, {cache} MiB |");
        }
        let _infallible = write!(page, "\n|{}\n", "---|".repeat(columns.len() + 1));
        for (row, cells) in rows {
            let _infallible = write!(page, "| {row} |");
            for column in &columns {
                let cell = cells.get(column).map_or_else(String::new, |values| cell(values));
                let _infallible = write!(page, " {cell} |");
            }
            page.push('\n');
        }
        println!("{page}");
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a handful of rounds")]
fn cell(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let spread = values.iter().map(|value| (value - mean).abs()).fold(0.0, f64::max);
    if values.len() == 1 || mean == 0.0 {
        return format!("{mean:.3}");
    }
    format!("{mean:.3} ±{:.0} %", 100.0 * spread / mean.abs())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn rows_are_read() {
        let row: Row = "20M:256:200k:5".parse().unwrap();
        let numbers = (row.keys, row.value_bytes, row.batch, row.checkpoints);
        assert_eq!(numbers, (20_000_000, 256, 200_000, 5));
        for bad in ["", "1M:256", "1M:256:x:5", "5:1:1:1", "1M:256:1:1:1"] {
            assert!(bad.parse::<Row>().is_err(), "{bad}");
        }
    }

    #[test]
    fn engines_have_one_name() {
        for kind in Kind::value_variants() {
            assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.name());
        }
    }

    #[test]
    fn a_cell_says_how_far_rounds_are_apart() {
        assert_eq!(cell(&[2.0]), "2.000");
        assert_eq!(cell(&[1.0, 3.0]), "2.000 ±50 %");
    }
}
