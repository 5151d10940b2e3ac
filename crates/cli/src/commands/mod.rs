//! The commands that talk to a cluster, each in etcdctl's manner.

pub(crate) mod bench;
pub(crate) mod endpoint;
pub(crate) mod kv;
pub(crate) mod lab;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod maintenance;
pub(crate) mod member;
pub(crate) mod restore;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod txn;
pub(crate) mod watch;
pub(crate) mod words;

use std::time::Duration;

use client::{Client, Config};

use crate::exit::{Exit, Result};
use crate::print::{Format, Style, text};

/// Where the cluster is and how answers look; accepted before and after every command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// The members' client addresses, separated by commas
    ///
    /// Any one member serves any command, wherever the leader is; with several, the next one is
    /// asked when one does not answer. A write is sent a second time only if it is certain that
    /// the first one changed nothing.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379",
        env = "ETCDCTL_ENDPOINTS",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    endpoints: Vec<String>,
    /// How answers look: simple, fields, json (etcdctl's own shape) or table
    #[arg(
        short = 'w',
        long = "write-out",
        global = true,
        value_name = "FORMAT",
        default_value = "simple",
        env = "ETCDCTL_WRITE_OUT",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    write_out: Format,
    /// Show keys and values as \x.. (simple), member ids as hexadecimal (json)
    #[arg(long, global = true, help_heading = "Global options")]
    hex: bool,
    /// Longest wait for a connection, like 2s or 500ms
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        default_value = "2s",
        value_parser = text::parse_duration,
        env = "ETCDCTL_DIAL_TIMEOUT",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    dial_timeout: Duration,
    /// Longest wait for an answer, all attempts together
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        default_value = "5s",
        value_parser = text::parse_duration,
        env = "ETCDCTL_COMMAND_TIMEOUT",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    command_timeout: Duration,
}

impl Global {
    /// The client's configuration that these flags ask for.
    ///
    /// # Errors
    /// If an endpoint cannot be read.
    pub(crate) fn config(&self) -> Result<Config> {
        let mut config = Config::new(&self.endpoints).map_err(Exit::bad_args)?;
        config.connect_timeout = self.dial_timeout;
        config.request_timeout = self.command_timeout;
        config.read_attempt_timeout = config.read_attempt_timeout.min(self.command_timeout);
        Ok(config)
    }

    /// Whether answers are for programs.
    pub(crate) fn wants_json(&self) -> bool {
        self.write_out == Format::Json
    }

    /// A client of the cluster and the looks of its answers.
    ///
    /// # Errors
    /// If an endpoint cannot be read.
    pub(crate) fn cluster(&self) -> Result<Cluster> {
        let style = Style { format: self.write_out, hex: self.hex, value_only: false };
        Ok(Cluster { client: Client::new(self.config()?), style })
    }
}

/// What every command works with.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) style: Style,
}

/// Reads an id as etcdctl writes it: hexadecimal.
pub(crate) fn hex_id<T>(text: &str, what: &str, parse: fn(&str, u32) -> Parsed<T>) -> Result<T> {
    parse(text, 16)
        .map_err(|_| Exit::bad_args(format!("bad {what} ({text:?}), expecting ID in Hex")))
}

type Parsed<T> = std::result::Result<T, std::num::ParseIntError>;

/// A lease's id.
///
/// # Errors
/// If it is not a hexadecimal number.
pub(crate) fn lease_id(text: &str) -> Result<i64> {
    hex_id(text, "lease ID", i64::from_str_radix)
}

/// A member's id.
///
/// # Errors
/// If it is not a hexadecimal number.
pub(crate) fn member_id(text: &str) -> Result<u64> {
    hex_id(text, "member ID", u64::from_str_radix)
}
