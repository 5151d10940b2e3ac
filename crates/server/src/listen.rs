//! Where clients knock: URLs, addresses, sockets.
//!
//! One socket listens per address, and its connections are dealt out to the doors, to the one
//! that has fewest. (SO_REUSEPORT would let every door accept for itself, but deals by a hash:
//! with a handful of long-lived connections, which is what gRPC clients hold, one door often gets
//! most of them. It would also let a second server bind the same port without an error.)

use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Why a URL cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It is not `http://host:port`.
    #[error("cannot listen on {url}: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The system refuses: the port is in use, the address is not of this machine, ...
    #[error("cannot listen on {url}: {source}")]
    Socket {
        /// The URL.
        url: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Listens on `url`.
///
/// # Errors
/// If the URL is none, or the system refuses.
pub(crate) fn listen(url: &str) -> Result<TcpListener, ListenError> {
    let authority = authority(url)?;
    let refused = |source| ListenError::Socket { url: url.to_owned(), source };
    let addresses: Vec<SocketAddr> = authority.to_socket_addrs().map_err(refused)?.collect();
    // A name may stand for several addresses; like etcd, IPv4 is preferred.
    let address = addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or(addresses.first())
        .ok_or_else(|| refused(std::io::ErrorKind::NotFound.into()))?;
    bind(*address).map_err(refused)
}

fn authority(url: &str) -> Result<&str, ListenError> {
    let fault = |reason| ListenError::Url { url: url.to_owned(), reason };
    if url.starts_with("https://") {
        return Err(fault("TLS is not supported yet"));
    }
    if url.starts_with("unix://") || url.starts_with("unixs://") {
        return Err(fault("unix sockets are not supported"));
    }
    let rest = url.strip_prefix("http://").ok_or_else(|| fault("must start with http://"))?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@']) {
        return Err(fault("must be a host and a port, nothing more"));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(authority),
        _ => Err(fault("must have a host and a port")),
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a server that was here before may linger; a server that is here may not.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked() {
        assert_eq!(authority("http://localhost:2379").unwrap(), "localhost:2379");
        assert_eq!(authority("http://[::1]:0/").unwrap(), "[::1]:0");
        for bad in [
            "",
            "localhost:2379",
            "http://",
            "http://:2379",
            "http://host",
            "http://host:99999",
            "http://host:1/x",
            "http://u@host:1",
            "https://host:1",
            "unix://x",
        ] {
            assert!(authority(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_in_use_is_an_error() {
        let first = listen("http://127.0.0.1:0").unwrap();
        let url = format!("http://{}", first.local_addr().unwrap());
        let error = listen(&url).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains(&url), "{error}");
        drop(first);
        listen(&url).unwrap();
    }
}
