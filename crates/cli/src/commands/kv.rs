//! put, get, del, compact.

use std::io::Read as _;

use bytes::Bytes;
use client::kv::prefix_end;
use client::{Delete, Get, Put};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::{Cluster, lease_id};
use crate::exit::{Exit, Result};
use crate::print::{Format, Style, print, put};

/// Write a key
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  quorate put colour red                 write a key
  quorate put colour red --prev-kv       and show what was there before
  quorate put config < settings.toml     take the value from stdin
  quorate put job/7 run --lease 694d8c   the key goes when the lease ends
  quorate put temperature -- -3          a value that looks like a flag")]
pub(crate) struct PutArgs {
    /// The key
    key: String,
    /// The value; read from stdin if it is not given
    value: Option<String>,
    /// Attach the key to this lease (its id in hexadecimal)
    #[arg(long, value_name = "ID", default_value = "0")]
    lease: String,
    /// Show what was there before
    #[arg(long)]
    prev_kv: bool,
    /// Keep the key's value, change only its lease
    #[arg(long)]
    ignore_value: bool,
    /// Keep the key's lease, change only its value
    #[arg(long)]
    ignore_lease: bool,
}

impl PutArgs {
    /// The request; `stdin` says whether a missing value may be read from there.
    ///
    /// # Errors
    /// If there is no value, or one too many.
    pub(crate) fn request(self, stdin: bool) -> Result<Put> {
        let needs =
            || Exit::bad_args("put command needs 1 argument and input from stdin or 2 arguments");
        if self.key.is_empty() {
            return Err(needs());
        }
        let value = match (self.value, self.ignore_value) {
            (Some(_), true) => {
                return Err(Exit::bad_args(
                    "put command needs only 1 argument when --ignore-value is set",
                ));
            }
            (None, true) => Bytes::new(),
            (Some(value), false) => value.into(),
            (None, false) if stdin => {
                let mut value = Vec::new();
                std::io::stdin().read_to_end(&mut value).map_err(Exit::io)?;
                value.into()
            }
            (None, false) => return Err(needs()),
        };
        let mut request = Put::new(self.key, value).lease(lease_id(&self.lease)?);
        request.0.prev_kv = self.prev_kv;
        request.0.ignore_value = self.ignore_value;
        request.0.ignore_lease = self.ignore_lease;
        Ok(request)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        let request = self.request(true)?;
        print(&cluster.client.put(request).await?, cluster.style)
    }
}

/// Key, range end, and the two flags that replace it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Span {
    /// The key, or the first key of a range
    #[arg(allow_hyphen_values = false)]
    key: String,
    /// The end of the range, itself not included
    range_end: Option<String>,
    /// Every key that starts with KEY; an empty KEY is every key
    #[arg(long)]
    prefix: bool,
    /// Every key from KEY on
    #[arg(long)]
    from_key: bool,
}

impl Span {
    /// Key and range end as they go on the wire.
    ///
    /// # Errors
    /// If the flags contradict each other.
    pub(crate) fn bounds(self) -> Result<(Bytes, Bytes)> {
        if self.prefix && self.from_key {
            return Err(Exit::bad_args(
                "`--prefix` and `--from-key` cannot be set at the same time, choose one",
            ));
        }
        if (self.prefix || self.from_key) && self.range_end.is_some() {
            return Err(Exit::bad_args(
                "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
            ));
        }
        let first = if self.key.is_empty() { "\0".into() } else { self.key.clone() };
        Ok(match self.range_end {
            Some(end) => (self.key.into(), end.into()),
            None if self.prefix => (first.into(), prefix_end(self.key.as_bytes())),
            None if self.from_key => (first.into(), Bytes::from_static(b"\0")),
            None => (self.key.into(), Bytes::new()),
        })
    }
}

/// Read a key or a range of keys
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  quorate get colour                          one key: its name and its value
  quorate get colour --print-value-only       its value alone
  quorate get /jobs/ --prefix --keys-only     which jobs there are
  quorate get a f                             keys from a up to, not including, f
  quorate get '' --from-key --limit 10        the first ten keys of all
  quorate get colour --rev 7                  as it was at revision 7
  quorate get /jobs/ --prefix --sort-by modify --order descend --limit 1
                                              the job touched last
  quorate get colour -w json                  with revisions; keys and values in base64
  quorate get colour --consistency s          from the asked member alone: fast, maybe stale")]
pub(crate) struct GetArgs {
    #[command(flatten)]
    span: Span,
    /// At most so many keys; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: i64,
    /// As of this revision; 0 is the newest
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    rev: i64,
    /// Sort by create, key, modify, value or version
    #[arg(long, value_name = "WHAT", default_value = "")]
    sort_by: String,
    /// ascend or descend
    #[arg(long, value_name = "ORDER", default_value = "")]
    order: String,
    /// l: linearizable, confirmed by a majority; s: serializable, whatever the member has
    #[arg(long, value_name = "l|s", default_value = "l")]
    consistency: String,
    /// Keys without values
    #[arg(long)]
    keys_only: bool,
    /// Only how many there are
    #[arg(long)]
    count_only: bool,
    /// Only values, in the simple format
    #[arg(long)]
    print_value_only: bool,
}

impl GetArgs {
    /// The request.
    ///
    /// # Errors
    /// If flags contradict each other or have values that they do not take.
    pub(crate) fn request(self) -> Result<Get> {
        let (key, range_end) = self.span.bounds()?;
        let target = match self.sort_by.to_ascii_uppercase().as_str() {
            "" | "KEY" => SortTarget::Key,
            "CREATE" => SortTarget::Create,
            "MODIFY" => SortTarget::Mod,
            "VALUE" => SortTarget::Value,
            "VERSION" => SortTarget::Version,
            _ => return Err(Exit::bad_feature(format!("bad sort target {}", self.sort_by))),
        };
        let order = match self.order.to_ascii_uppercase().as_str() {
            "" => SortOrder::None,
            "ASCEND" => SortOrder::Ascend,
            "DESCEND" => SortOrder::Descend,
            _ => return Err(Exit::bad_feature(format!("bad sort order {}", self.order))),
        };
        // Keys come in ascending order anyway.
        let order = match (target, order) {
            (SortTarget::Key, SortOrder::Ascend) => SortOrder::None,
            (_, order) => order,
        };
        let mut get = Get::range(key, range_end).sorted(target, order);
        get.0.serializable = match self.consistency.as_str() {
            "l" => false,
            "s" => true,
            other => return Err(Exit::bad_feature(format!("unknown consistency flag {other:?}"))),
        };
        get.0.limit = self.limit;
        get.0.revision = self.rev;
        get.0.keys_only = self.keys_only;
        get.0.count_only = self.count_only;
        Ok(get)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        let style = Style { value_only: self.print_value_only, ..cluster.style };
        if self.print_value_only && style.format != Format::Simple {
            return Err(Exit::bad_args("print-value-only is only for `--write-out=simple`"));
        }
        let count = self.count_only && style.format == Format::Simple;
        let response = cluster.client.get(self.request()?).await?;
        if count { put(&format!("{}\n", response.count)) } else { print(&response, style) }
    }
}

/// Delete a key or a range of keys
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  quorate del colour                 one key; prints how many were deleted
  quorate del /jobs/ --prefix        every key under /jobs/
  quorate del a f --prev-kv          from a up to, not including, f, and show what they were")]
pub(crate) struct DelArgs {
    #[command(flatten)]
    span: Span,
    /// Show what was deleted
    #[arg(long)]
    prev_kv: bool,
}

impl DelArgs {
    /// The request.
    ///
    /// # Errors
    /// If flags contradict each other.
    pub(crate) fn request(self) -> Result<Delete> {
        let (key, range_end) = self.span.bounds()?;
        let mut delete = Delete::range(key, range_end);
        delete.0.prev_kv = self.prev_kv;
        Ok(delete)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        print(&cluster.client.delete(self.request()?).await?, cluster.style)
    }
}

/// Forget the history before a revision
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
What was overwritten or deleted before REVISION can no longer be read or watched. The newest value
of every key stays.

Examples:
  quorate compact 1000
  quorate compact 1000 --physical        return only once the space is free")]
pub(crate) struct CompactArgs {
    /// The oldest revision to keep
    revision: i64,
    /// Wait until what is forgotten is gone from the disk
    #[arg(long)]
    physical: bool,
}

impl CompactArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        cluster.client.compact(self.revision, self.physical).await?;
        put(&format!("compacted revision {}\n", self.revision))
    }
}
