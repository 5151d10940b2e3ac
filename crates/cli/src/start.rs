//! start: one member of a cluster.
//!
//! Flags, environment and file become [`Flags`], which are text; [`StartConfig`] is what they
//! mean, checked as a whole before anything is touched. [`run`] takes it from there.

mod compactor;
pub(crate) mod config;
mod corrupt_check;
pub(crate) mod etcd;
pub(crate) mod flags;
mod member;
pub(crate) mod url;

pub(crate) use config::StartConfig;
pub(crate) use flags::Flags;
pub(crate) use member::node_config;

use crate::exit::{Exit, Result};

/// The environment variable by which `demo` tells a member the process it must not outlive.
pub(crate) const PARENT_VARIABLE: &str = "QUORATE_PARENT";

/// Runs a member until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot start or cannot go on.
pub(crate) fn run(config: &StartConfig) -> Result<()> {
    end_with_parent()?;
    member::run(config)
}

/// If a parent is named, has the system send SIGTERM when it is gone.
fn end_with_parent() -> Result<()> {
    let Some(parent) = std::env::var_os(PARENT_VARIABLE) else {
        return Ok(());
    };
    let signal = Some(rustix::process::Signal::TERM);
    rustix::process::set_parent_process_death_signal(signal).map_err(Exit::failed)?;
    // It may have gone before we asked.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if now.as_deref() == parent.to_str() {
        return Ok(());
    }
    Err(Exit::failed("the process that started this member is gone"))
}
