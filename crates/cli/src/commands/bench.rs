//! bench: load and measurement.

use std::time::Duration;

use bench::watch::WatchConfig;
use bench::{Distribution, Keys, LoadConfig, Operation, Until};

use super::Global;
use crate::exit::{Exit, Result};
use crate::print::{put, text};

/// Put load on a cluster and measure it
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Works against any etcd endpoint. Without --rate each client sends its next request when the last
one is answered, which finds the ceiling; with --rate requests begin at a fixed pace, and a stall
counts for every request that it delays. Keys are written under --prefix and stay there.

Examples:
  quorate bench put --clients 64 --duration 10s
  quorate bench get --clients 256 --connections 16 --serializable
  quorate bench put --rate 2000 --clients 200            latency at 2,000 a second
  quorate bench range --range-keys 1000 --value-size 1024 --key-space 1000
  quorate bench list --list-keys 100000 --key-space 100000 --clients 1 --total 3
  quorate bench txn --clients 64 --dist zipf             compare-and-swap, as Kubernetes does
  quorate bench watch --watchers 1000 --rate 100         fan-out of one key
  quorate bench mixed --reads 0.95 -w json")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum BenchCommand {
    /// Write keys
    Put(Load),
    /// Read keys
    Get(Reading),
    /// Read many keys at once, in order
    Range {
        #[command(flatten)]
        reading: Reading,
        /// Keys a request
        #[arg(long, value_name = "N", default_value_t = 1000)]
        range_keys: i64,
    },
    /// Read very many keys in pages, all as of one revision, as Kubernetes lists
    List {
        #[command(flatten)]
        reading: Reading,
        /// Keys in all; one list counts as one request
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        list_keys: u64,
        /// Keys a page
        #[arg(long, value_name = "N", default_value_t = 500)]
        page: i64,
    },
    /// Compare a key's revision and write it, or read it if another was faster
    Txn(Load),
    /// Write one key that many watch, and measure how long the events take
    Watch(Fanout),
    /// Read and write
    Mixed {
        #[command(flatten)]
        reading: Reading,
        /// Share of requests that read
        #[arg(long, value_name = "0..1", default_value_t = 0.9)]
        reads: f64,
    },
}

/// When to stop, and how it looks.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// Measure for so long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = text::parse_duration)]
    duration: Duration,
    /// Stop after so many requests instead
    #[arg(long, value_name = "N")]
    total: Option<u64>,
    /// Requests a second, all clients together; without it, as fast as they are answered
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// HTTP/2 connections
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: usize,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    value_size: usize,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

impl Common {
    fn until(&self) -> Until {
        self.total.map_or(Until::Elapsed(self.duration), Until::Requests)
    }
}

#[derive(Debug, Clone, clap::Args)]
struct Load {
    #[command(flatten)]
    common: Common,
    /// Clients, each with one request in flight
    #[arg(long, value_name = "M", default_value_t = 64)]
    clients: usize,
    /// Threads that make the load; raise it if this process is the limit
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Time at the start that does not count
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = text::parse_duration)]
    warm_up: Duration,
    /// Number of different keys
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    key_space: u64,
    /// Bytes of a key
    #[arg(long, value_name = "BYTES", default_value_t = 32)]
    key_size: usize,
    /// What every key starts with
    #[arg(long, default_value = "bench/")]
    prefix: String,
    /// How keys are drawn: uniform, zipf or sequential
    #[arg(long, value_name = "NAME", default_value = "uniform")]
    dist: Distribution,
    /// Spread the keys over so many of the ranges that the cluster was founded with (--experimental-ranges)
    #[arg(long, value_name = "N", default_value_t = 0)]
    ranges: u64,
    /// Seed of keys and values
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Do not write every key once before reading
    #[arg(long)]
    no_fill: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct Reading {
    #[command(flatten)]
    load: Load,
    /// Read from the asked member alone: no round to the others, maybe stale
    #[arg(long)]
    serializable: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct Fanout {
    #[command(flatten)]
    common: Common,
    /// Watchers of the one key
    #[arg(long, value_name = "N", default_value_t = 1000)]
    watchers: usize,
    /// gRPC streams that carry the watchers
    #[arg(long, value_name = "N", default_value_t = 10)]
    streams: usize,
    /// Writers, each with one write in flight
    #[arg(long, value_name = "N", default_value_t = 1)]
    writers: usize,
    /// The key
    #[arg(long, default_value = "bench/watched")]
    key: String,
}

impl BenchArgs {
    /// Runs the command, on threads of its own.
    ///
    /// # Errors
    /// Whatever ends it; also if not one request succeeded.
    pub(crate) fn run(self, global: &Global) -> Result<()> {
        let report = match self.command {
            BenchCommand::Put(load) => load.run("put", Operation::Put, global),
            BenchCommand::Txn(load) => load.run("txn", Operation::CompareAndSwap, global),
            BenchCommand::Get(Reading { load, serializable }) => {
                load.run("get", Operation::Get { serializable }, global)
            }
            BenchCommand::Range { reading: Reading { load, serializable }, range_keys: keys } => {
                load.run("range", Operation::Range { keys, serializable }, global)
            }
            BenchCommand::List { reading, list_keys: keys, page } => {
                let Reading { load, serializable } = reading;
                load.run("list", Operation::List { keys, page, serializable }, global)
            }
            BenchCommand::Mixed { reading: Reading { load, serializable }, reads } => {
                load.run("mixed", Operation::Mixed { reads, serializable }, global)
            }
            BenchCommand::Watch(fanout) => fanout.run(global),
        }?;
        if global.wants_json() {
            put(&format!("{}\n", report.json()))?;
        } else {
            put(&report.table())?;
        }
        if report.operations() == 0 && report.failures() > 0 {
            return Err(Exit::failed("not one request succeeded"));
        }
        Ok(())
    }
}

impl Load {
    fn run(self, name: &str, operation: Operation, global: &Global) -> Result<bench::Report> {
        let title = format!(
            "{name}: {} clients on {} connections, values of {} B, {} keys",
            self.clients, self.common.connections, self.common.value_size, self.key_space
        );
        let keys = Keys::new(&self.prefix, self.key_size, self.key_space, self.dist);
        let config = LoadConfig {
            client: global.config()?,
            operation,
            keys,
            ranges: self.ranges,
            value_bytes: self.common.value_size,
            connections: self.common.connections,
            clients: self.clients,
            threads: self.threads,
            until: self.common.until(),
            warm_up: self.warm_up,
            rate: self.common.rate,
            fill: operation.reads() && !self.no_fill,
            seed: self.seed,
            progress: !self.common.quiet,
        };
        bench::run(&title, config).map_err(Exit::failed)
    }
}

impl Fanout {
    fn run(self, global: &Global) -> Result<bench::Report> {
        let title = format!(
            "watch: {} watchers on {} streams on {} connections, {} writers",
            self.watchers, self.streams, self.common.connections, self.writers
        );
        let config = WatchConfig {
            client: global.config()?,
            key: self.key.clone().into(),
            value_bytes: self.common.value_size,
            watchers: self.watchers,
            streams: self.streams,
            connections: self.common.connections,
            writers: self.writers,
            rate: self.common.rate,
            until: self.common.until(),
            progress: !self.common.quiet,
        };
        bench::watch::run(&title, &config).map_err(Exit::failed)
    }
}
