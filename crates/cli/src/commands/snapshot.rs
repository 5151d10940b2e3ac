//! snapshot: save a member's database to a file, look into it, restore it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::Cluster;
use super::restore::RestoreArgs;
use crate::exit::{Exit, Result};
use crate::print::snapshot::Status;
use crate::print::{print, put};

/// Save, inspect and restore snapshots of a member's database
#[derive(Debug, Clone, clap::Subcommand)]
#[command(after_help = "\
A snapshot is one member's whole database as one file, with a checksum at its end.

Examples:
  quorate snapshot save backup.db
  quorate snapshot status backup.db -w table
  quorate snapshot restore backup.db --data-dir new.data")]
pub(crate) enum SnapshotCommand {
    /// Save a snapshot to a file
    Save {
        /// The file, which must not be there half-written: it appears only when it is whole
        path: PathBuf,
    },
    /// Check a snapshot's checksum and show what is in it
    Status {
        /// The file
        path: PathBuf,
    },
    /// Make a member's data directory from a snapshot, as the beginning of a new cluster
    ///
    /// Keys, their history, leases and alarms are as they were; cluster and members are new. Restore
    /// every member of the new cluster from the same file, each with its own --name and
    /// --initial-advertise-peer-urls, and then start them with the same flags.
    #[command(after_help = "\
Examples:
  a member alone:
  quorate snapshot restore backup.db --data-dir new.data
  quorate start --data-dir new.data
  one of three, on each host with its own name and address:
  quorate snapshot restore backup.db --name a --data-dir a.data \\
    --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380 \\
    --initial-advertise-peer-urls http://10.0.0.1:2380
  with clients that cache, Kubernetes for one:
  quorate snapshot restore backup.db --bump-revision 1000000000 --mark-compacted")]
    Restore(Box<RestoreArgs>),
}

impl SnapshotCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        match self {
            Self::Save { path } => save(&path, &cluster).await,
            Self::Status { path } => print(&status(&path)?, cluster.style),
            Self::Restore(restore) => restore.run(),
        }
    }
}

/// Streams the snapshot into `PATH.part`, syncs it, and gives it its name.
async fn save(path: &Path, cluster: &Cluster) -> Result<()> {
    if cluster.client.config().endpoints.len() != 1 {
        return Err(Exit::bad_args(
            "snapshot must be requested to one selected node, not multiple",
        ));
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let saved = save_part(&part, path, cluster).await;
    if saved.is_err() {
        let _may_not_exist = std::fs::remove_file(&part);
    }
    saved?;
    put(&format!("Snapshot saved at {}\n", path.display()))
}

async fn save_part(part: &Path, path: &Path, cluster: &Cluster) -> Result<()> {
    let at = |e: std::io::Error| Exit::io(format!("{}: {e}", part.display()));
    let mut snapshot = cluster.client.snapshot().await?;
    let mut file = File::create(part).map_err(at)?;
    while let Some(chunk) = snapshot.chunk().await? {
        // Nothing else runs here that a slow disk could hold up.
        file.write_all(&chunk).map_err(at)?;
    }
    file.sync_all().map_err(at)?;
    std::fs::rename(part, path).map_err(at)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(at)
}

/// Reads the file twice: for its checksum, and for what is in it.
fn status(path: &Path) -> Result<Status> {
    let failed = |e: &dyn std::fmt::Display| Exit::failed(format!("{}: {e}", path.display()));
    let file = File::open(path).map_err(|e| failed(&e))?;
    bolt::etcd::verify(&file).map_err(|e| failed(&e))?;
    let snapshot =
        bolt::etcd::Snapshot::open(file, bolt::Limits::default()).map_err(|e| failed(&e))?;
    let status = snapshot.status().map_err(|e| failed(&e))?;
    Ok(Status { status })
}
