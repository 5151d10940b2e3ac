//! watch: events as they happen, to the screen or to a command.

use std::ffi::OsString;

use clap::Parser as _;
use client::{Watch, WatchError, Watcher};
use proto::mvccpb;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::broadcast;

use super::Cluster;
use super::words::split;
use crate::exit::{Exit, Result};
use crate::print::kv::Watched;
use crate::print::{print, put};

/// Progress requests that may wait for a slow watch in interactive mode.
const PROGRESS_QUEUE_MAX: usize = 16;

/// Print events as they happen
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
A watch survives the loss of its connection and of members: it goes on at the revision where it
stood, without a gap and without a duplicate.

Examples:
  quorate watch colour                        one key
  quorate watch /jobs/ --prefix --prev-kv     every job, with what was there before
  quorate watch colour --rev 7                everything since revision 7, then what comes
  quorate watch /jobs/ --prefix -- sh -c 'echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY'
                                              run a command for every event
  quorate watch -i                            then lines like: watch a --prefix / progress")]
pub(crate) struct WatchArgs {
    /// The key, or the first key of a range
    #[arg(required_unless_present = "interactive")]
    key: Option<String>,
    /// The end of the range, itself not included
    range_end: Option<String>,
    /// Run this for every event, with ETCD_WATCH_{REVISION,EVENT_TYPE,KEY,VALUE} set
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Every key that starts with KEY; an empty KEY is every key
    #[arg(long)]
    prefix: bool,
    /// From this revision on, instead of from now
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    rev: i64,
    /// Show what was there before
    #[arg(long)]
    prev_kv: bool,
    /// Say from time to time how far the watch is
    #[arg(long)]
    progress_notify: bool,
    /// Read watches and progress requests from stdin, one a line
    #[arg(short, long)]
    interactive: bool,
}

/// A line of the interactive mode.
#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true)]
enum Line {
    Watch(WatchArgs),
    Progress,
}

impl WatchArgs {
    fn request(&self) -> Result<Watch> {
        let key = self.key.clone().unwrap_or_default();
        let mut watch = match &self.range_end {
            Some(_) if self.prefix => {
                return Err(Exit::bad_args(
                    "`range_end` and `--prefix` are mutually exclusive: bad number of arguments",
                ));
            }
            Some(end) => Watch::range(key, end.clone()),
            None if self.prefix => Watch::prefix(key),
            None => Watch::key(key),
        };
        watch.0.start_revision = self.rev;
        watch.0.prev_kv = self.prev_kv;
        watch.0.progress_notify = self.progress_notify;
        Ok(watch)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        if self.interactive {
            return interactive(cluster).await;
        }
        let (_keep, progress) = broadcast::channel(PROGRESS_QUEUE_MAX);
        follow(self, cluster, progress).await
    }
}

/// Prints what one watch gives, until the server ends it.
async fn follow(
    args: WatchArgs,
    cluster: Cluster,
    mut progress: broadcast::Receiver<()>,
) -> Result<()> {
    let mut watcher = match cluster.client.watch(args.request()?).await {
        Ok(watcher) => watcher,
        Err(error) => return ended(&cluster, error),
    };
    loop {
        let Some(batch) = next_batch(&mut watcher, &mut progress).await.transpose() else {
            continue;
        };
        match batch {
            Ok(batch) => {
                let revision = batch.header.revision;
                if batch.events.is_empty() {
                    put(&format!("progress notify: {revision}\n"))?;
                }
                let watched =
                    Watched { header: batch.header, events: batch.events, ..Default::default() };
                print(&watched, cluster.style)?;
                for event in &watched.events {
                    run_command(&args.command, revision, event).await?;
                }
            }
            Err(error) => return ended(&cluster, error),
        }
    }
}

/// The next batch, or `None` if it was a progress request that woke us.
async fn next_batch(
    watcher: &mut Watcher,
    progress: &mut broadcast::Receiver<()>,
) -> std::result::Result<Option<client::Batch>, WatchError> {
    tokio::select! {
        batch = watcher.next() => batch.map(Some),
        Ok(()) = progress.recv() => {
            watcher.request_progress().await;
            Ok(None)
        }
    }
}

fn ended(cluster: &Cluster, error: WatchError) -> Result<()> {
    let (compact_revision, reason) = match &error {
        WatchError::Compacted { compact_revision } => {
            (*compact_revision, "etcdserver: mvcc: required revision has been compacted".to_owned())
        }
        WatchError::Canceled(reason) => (0, reason.clone()),
        WatchError::Rejected(_) | WatchError::Malformed(_) => return Err(error.into()),
    };
    eprintln!("watch was canceled ({reason})");
    print(&Watched { compact_revision, canceled: true, ..Default::default() }, cluster.style)?;
    Err(Exit::interrupted("watch is canceled by the server"))
}

async fn run_command(command: &[OsString], revision: i64, event: &mvccpb::Event) -> Result<()> {
    let Some((program, args)) = command.split_first() else {
        return Ok(());
    };
    let kind = match event.r#type() {
        mvccpb::event::EventType::Put => "PUT",
        mvccpb::event::EventType::Delete => "DELETE",
    };
    let kv = event.kv.clone().unwrap_or_default();
    let quoted = |bytes: &[u8]| crate::print::text::quoted(bytes);
    let status = tokio::process::Command::new(program)
        .args(args)
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", quoted(kind.as_bytes()))
        .env("ETCD_WATCH_KEY", quoted(&kv.key))
        .env("ETCD_WATCH_VALUE", quoted(&kv.value))
        .status()
        .await
        .map_err(|e| Exit::failed(format!("{}: {e}", program.display())))?;
    if status.success() {
        return Ok(());
    }
    Err(Exit::child(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Starts a watch for every `watch ...` line of stdin, and asks all of them for `progress`.
async fn interactive(cluster: Cluster) -> Result<()> {
    let (progress, _) = broadcast::channel(PROGRESS_QUEUE_MAX);
    let (ends, mut ended) = tokio::sync::mpsc::channel::<Exit>(1);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line.map_err(Exit::io)?,
            Some(exit) = ended.recv() => return Err(exit),
        };
        let Some(line) = line else {
            return Err(Exit::invalid_input("error reading watch request line: EOF"));
        };
        let words = split(&line).map_err(Exit::invalid_input)?;
        if words.is_empty() {
            continue;
        }
        match Line::try_parse_from(words) {
            Ok(Line::Progress) => {
                let _nobody_watches_yet = progress.send(());
            }
            Ok(Line::Watch(args)) => {
                let (cluster, progress) = (cluster.clone(), progress.subscribe());
                let ends = ends.clone();
                tokio::spawn(async move {
                    if let Err(exit) = follow(args, cluster, progress).await {
                        let _over_anyway = ends.send(exit).await;
                    }
                });
            }
            Err(error) => eprintln!("Invalid command {line}: {error}"),
        }
    }
}
