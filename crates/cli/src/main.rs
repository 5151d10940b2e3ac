//! The `quorate` binary: server, client, demo and bench in one.
//!
//! - [`start`] turns flags into a `StartConfig`, `quorate`'s own or etcd's when the binary is run
//!   under that name, and runs a member.
//! - [`commands`] are etcdctl's, with its flags, formats and exit codes.
//! - [`demo`] is a cluster of real processes on one screen.
//!
//! Each command writes its answer to stdout at once and what went wrong to stderr, and ends with
//! etcdctl's exit code.

mod commands;
mod exit;
mod print;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

use commands::Global;
use commands::bench::BenchArgs;
use commands::endpoint::EndpointArgs;
use commands::kv::{CompactArgs, DelArgs, GetArgs, PutArgs};
use commands::lease::LeaseCommand;
use commands::lock::{ElectArgs, LockArgs};
use commands::maintenance::{AlarmCommand, DefragArgs, MoveLeaderArgs};
use commands::member::MemberCommand;
use commands::snapshot::SnapshotCommand;
use commands::txn::TxnArgs;
use commands::watch::WatchArgs;
use exit::{Exit, Result};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A strictly serializable key-value store that speaks etcd's v3 API
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
First steps:
  quorate start                    a store on localhost:2379, data in ./quorate.data
  quorate put colour red           write; every etcd client works as well
  quorate get colour               read
  quorate demo                     three members on one screen: kill one and look
  quorate COMMAND --help           every command explains itself, with examples"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Put(PutArgs),
    Get(GetArgs),
    Del(DelArgs),
    Txn(TxnArgs),
    Watch(WatchArgs),
    #[command(subcommand)]
    Lease(LeaseCommand),
    #[command(visible_alias = "compaction")]
    Compact(CompactArgs),
    #[command(subcommand)]
    Member(MemberCommand),
    Endpoint(EndpointArgs),
    #[command(subcommand)]
    Alarm(AlarmCommand),
    Defrag(DefragArgs),
    MoveLeader(MoveLeaderArgs),
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    Lock(LockArgs),
    Elect(ElectArgs),
    Bench(BenchArgs),
    /// Print a script that completes commands and flags in a shell
    #[command(after_help = "\
Examples:
  quorate completion bash > /etc/bash_completion.d/quorate
  quorate completion zsh > \"${fpath[1]}/_quorate\"
  quorate completion fish > ~/.config/fish/completions/quorate.fish")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            eprintln!("Error: {exit}");
            ExitCode::from(exit.code())
        }
    }
}

/// Help and version are what was asked for; anything else is a mistake in the arguments.
fn usage(error: &clap::Error) -> ExitCode {
    let _stdout_may_be_closed = error.print();
    if error.use_stderr() { ExitCode::from(Exit::bad_args("").code()) } else { ExitCode::SUCCESS }
}

fn run(cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    match command {
        Command::Bench(bench) => bench.run(&global),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "quorate", &mut script);
            print::put(&String::from_utf8_lossy(&script))
        }
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Exit::io)?;
            runtime.block_on(ask(&global, command))
        }
    }
}

/// The commands that ask a cluster.
async fn ask(global: &Global, command: Command) -> Result<()> {
    let cluster = global.cluster()?;
    match command {
        Command::Put(put) => put.run(cluster).await,
        Command::Get(get) => get.run(cluster).await,
        Command::Del(del) => del.run(cluster).await,
        Command::Txn(txn) => txn.run(cluster).await,
        Command::Watch(watch) => watch.run(cluster).await,
        Command::Lease(lease) => lease.run(cluster).await,
        Command::Compact(compact) => compact.run(cluster).await,
        Command::Member(member) => member.run(cluster).await,
        Command::Endpoint(endpoint) => endpoint.run(cluster).await,
        Command::Alarm(alarm) => alarm.run(cluster).await,
        Command::Defrag(defrag) => defrag.run(cluster).await,
        Command::MoveLeader(target) => target.run(cluster).await,
        Command::Snapshot(snapshot) => snapshot.run(cluster).await,
        Command::Lock(lock) => lock.run(cluster).await,
        Command::Elect(elect) => elect.run(cluster).await,
        Command::Bench(_) | Command::Completion { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
