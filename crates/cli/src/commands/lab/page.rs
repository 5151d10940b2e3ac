//! The page.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use lab_page::{Trace, TraceError};

use super::put;
use crate::commands::session::stop_signal;
use crate::exit::{Exit, Result};

/// Where the page is served.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PageArgs {
    /// Where the page is served; port 0 takes any that is free
    ///
    /// Whoever can reach the address can have this machine compute; by default that is nobody but you.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:2389")]
    listen: SocketAddr,
    /// Open the page on the trace of a whole cluster: a file that quorate-sim trace has written
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

impl PageArgs {
    /// Serves until it is interrupted.
    pub(super) async fn run(self) -> Result<()> {
        let trace = self.trace.map(open).transpose()?;
        let at = if trace.is_some() { "#trace" } else { "" };
        let listener = TcpListener::bind(self.listen).map_err(|error| {
            Exit::io(format!(
                "cannot listen on {}: {error}; another address can be given with --listen",
                self.listen
            ))
        })?;
        let address = listener.local_addr().map_err(Exit::io)?;
        put(&format!("The lab is open at http://{address}/{at} (ctrl-c closes it)\n"))?;
        tokio::select! {
            served = lab_page::serve(listener, trace) => served.map_err(Exit::io),
            () = stop_signal() => Ok(()),
        }
    }
}

fn open(path: PathBuf) -> Result<Trace> {
    Trace::open(&path).map_err(|error| {
        let what = format!("{}: {error}", path.display());
        match error {
            TraceError::Io(_) => Exit::io(what),
            _ => Exit::invalid_input(what),
        }
    })
}
