//! Measures the candidates for the state engine on the product's own work. The README has the how and the
//! what; decision 0001 has what followed.

mod candidates;
mod crash;
mod gauges;
mod measure;
mod rows;
mod workload;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the candidates for the state engine.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rows of the table, one engine after the other.
    Rows(rows::Rows),
    /// One engine, one size; figures to the standard output.
    Run(measure::Plan),
    /// Figures as Markdown.
    Table(rows::Table),
    /// What is killed.
    #[command(hide = true)]
    Work(crash::Work),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Rows(rows) => rows::run(&rows),
        Command::Run(plan) => candidates::run(plan.engine, &plan),
        Command::Table(table) => rows::table(&table),
        Command::Work(work) => candidates::run(work.plan.engine, &work),
    }
}
