//! Reading through the engine's newest file.
//!
//! A state reads through the snapshot that its last job took. An engine that has moved to a smaller file since
//! cannot give the old one back as long as that snapshot is held, and while no writes come, no job replaces it.

use std::sync::Arc;

use crate::checkpoint::Done;
use crate::disk::Disk;
use crate::engine::{Engine, EngineError, Snapshot};
use crate::layout::Mark;
use crate::state::Ticket;

/// A new snapshot in place of the one that is held. See the module.
pub struct ReloadJob<E: Engine> {
    pub(crate) engine: Arc<E>,
    pub(crate) ticket: Ticket,
    pub(crate) mark: Mark,
}

impl<E: Engine> ReloadJob<E> {
    /// The engine that it works on.
    #[must_use]
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// Takes the snapshot. Meant for a thread of its own.
    ///
    /// # Errors
    /// The engine's; then nothing has changed.
    ///
    /// # Panics
    /// If somebody else has written into the engine.
    pub fn run(&self) -> Result<Done, EngineError> {
        self.done(Box::new(self.engine.snapshot()?))
    }

    pub(crate) fn done(&self, snapshot: Box<dyn Snapshot>) -> Result<Done, EngineError> {
        let disk = Disk::load(snapshot)?;
        assert_eq!(disk.mark, self.mark, "another writer in the engine");
        Ok(Done { ticket: self.ticket.clone(), disk, checkpoint: false })
    }
}
