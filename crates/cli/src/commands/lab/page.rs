//! The page.

use std::net::{SocketAddr, TcpListener};

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
}

impl PageArgs {
    /// Serves until it is interrupted.
    pub(super) async fn run(self) -> Result<()> {
        let listener = TcpListener::bind(self.listen).map_err(|error| {
            Exit::io(format!(
                "cannot listen on {}: {error}; another address can be given with --listen",
                self.listen
            ))
        })?;
        let address = listener.local_addr().map_err(Exit::io)?;
        put(&format!("The lab is open at http://{address}/ (ctrl-c closes it)\n"))?;
        tokio::select! {
            served = lab_page::serve(listener) => served.map_err(Exit::io),
            () = stop_signal() => Ok(()),
        }
    }
}
