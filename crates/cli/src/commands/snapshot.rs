//! snapshot: save a member's database to a file.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::Cluster;
use crate::exit::{Exit, Result};
use crate::print::put;

/// Save and inspect snapshots of a member's database
#[derive(Debug, Clone, clap::Subcommand)]
#[command(after_help = "\
A snapshot is one member's whole database as one file, with a checksum at its end.

Example:
  quorate snapshot save backup.db")]
pub(crate) enum SnapshotCommand {
    /// Save a snapshot to a file
    Save {
        /// The file, which must not be there half-written: it appears only when it is whole
        path: PathBuf,
    },
}

impl SnapshotCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        match self {
            Self::Save { path } => save(&path, &cluster).await,
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
