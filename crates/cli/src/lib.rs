//! The `quorate` binary, as a library: `main.rs` only calls [`main`].
//!
//! - `start` turns flags into a `StartConfig`, `quorate`'s own or etcd's when the binary is run
//!   under that name, and runs a member.
//! - `commands` are etcdctl's, with its flags, formats and exit codes.
//! - `demo` is a cluster of real processes on one screen.
//!
//! Each command writes its answer to stdout at once and what went wrong to stderr, and ends with
//! etcdctl's exit code.

mod commands;
mod demo;
mod exit;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod print;
mod start;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use commands::Global;
use commands::bench::BenchArgs;
use commands::endpoint::EndpointArgs;
use commands::kv::{CompactArgs, DelArgs, GetArgs, PutArgs};
use commands::lab::LabArgs;
use commands::lease::LeaseCommand;
use commands::lock::{ElectArgs, LockArgs};
use commands::maintenance::{AlarmCommand, DefragArgs, MoveLeaderArgs};
use commands::member::MemberCommand;
use commands::snapshot::SnapshotCommand;
use commands::txn::TxnArgs;
use commands::watch::WatchArgs;
use demo::DemoArgs;
use exit::{Exit, Result};
use start::config::Manner;
use start::{Flags, StartConfig};

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
  quorate lab                      consensus protocols to watch, to break and to check, as a page
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
    /// Run a member: a store of its own, or one of a cluster
    #[command(
        args_override_self = true,
        after_help = "\
Every flag can also be given as an environment variable: --data-dir as ETCD_DATA_DIR. Run under the
name etcd (a link to this binary), it takes etcd's command line as it is.

Examples:
  quorate start
  quorate start --data-dir /var/lib/quorate --listen-client-urls http://0.0.0.0:2379
  three members on three hosts, on each with its own name and address:
  quorate start --name a --listen-peer-urls http://10.0.0.1:2380 \\
    --initial-advertise-peer-urls http://10.0.0.1:2380 \\
    --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380"
    )]
    Start(Box<Flags>),
    Demo(DemoArgs),
    Lab(LabArgs),
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

/// The command line. The lab asks no cluster: what says how to, it does not show.
fn command_line() -> clap::Command {
    let command = Cli::command();
    let global: Vec<clap::Arg> =
        command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    command.mut_subcommand("lab", |lab| {
        lab.args(global.into_iter().map(|arg| {
            match arg.get_id().as_str() {
                "write_out" => arg
                    .help("How answers look: simple is text, json is data")
                    .hide_possible_values(true),
                _ => arg.hide(true),
            }
        }))
    })
}

/// Does what the command line of this process asks for.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|program| start::etcd::is_etcd(&program)) {
        return match start::etcd::read(std::env::args_os()) {
            Ok(request) => ended(request.and_then(serve)),
            Err(error) => usage(&error),
        };
    }
    let parsed = command_line().try_get_matches();
    let cli = match parsed.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    ended(run(cli))
}

fn serve(request: start::etcd::Request) -> Result<()> {
    match request {
        start::etcd::Request::Start(config) => start::run(&config),
        start::etcd::Request::Print(text) => print::put(&text),
    }
}

fn ended(result: Result<()>) -> ExitCode {
    match result {
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
        Command::Start(flags) => start::run(&StartConfig::new(&flags, Manner::Quorate)?),
        Command::Bench(bench) => bench.run(&global),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command_line(), "quorate", &mut script);
            print::put(&String::from_utf8_lossy(&script))
        }
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Exit::io)?;
            runtime.block_on(async {
                match command {
                    Command::Demo(demo) => demo.run().await,
                    Command::Lab(lab) => lab.run(&global).await,
                    command => ask(&global, command).await,
                }
            })
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
        Command::Start(_)
        | Command::Demo(_)
        | Command::Lab(_)
        | Command::Bench(_)
        | Command::Completion { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command_line().debug_assert();
    }

    #[test]
    fn the_lab_shows_no_options_of_a_cluster() {
        let mut command = command_line().term_width(80);
        command.build();
        let lab = command.find_subcommand_mut("lab").unwrap();
        let mut helps = vec![lab.render_long_help().to_string()];
        helps.extend(lab.get_subcommands_mut().map(|sub| sub.render_long_help().to_string()));
        for help in helps {
            for option in ["--endpoints", "--hex", "--dial-timeout", "--command-timeout"] {
                assert!(!help.contains(option), "{option} in {help}");
            }
            let long = help.lines().find(|line| line.chars().count() > 80);
            assert_eq!(None, long);
        }
    }
}
