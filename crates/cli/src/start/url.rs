//! The addresses of members: scheme, host and port, nothing else.

use std::fmt;
use std::str::FromStr;

/// `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Url {
    /// Whether it asks for TLS.
    pub(crate) tls: bool,
    /// A name or an address; IPv6 without brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("URL {text:?}: {why}");
        let (scheme, rest) =
            text.trim().split_once("://").ok_or_else(|| bad("expected http://host:port"))?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(bad("scheme must be http or https")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return Err(bad("must not contain a path"));
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| bad("missing port"))?;
        let port = port.parse().map_err(|_| bad("bad port"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(address) => address,
            None if host.contains([':', '[', ']']) => return Err(bad("IPv6 needs brackets")),
            None => host,
        };
        if host.is_empty() {
            return Err(bad("missing host"));
        }
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Reads URLs separated by commas.
///
/// # Errors
/// The first that cannot be read, or that there is none.
pub(crate) fn list(text: &str) -> Result<Vec<Url>, String> {
    if text.trim().is_empty() {
        return Err("no URL given".into());
    }
    text.split(',').map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_scheme_host_and_port() {
        for good in ["http://localhost:2379", "https://10.0.0.1:1", "http://[::1]:2380"] {
            assert_eq!(good.parse::<Url>().unwrap().to_string(), good);
        }
        assert_eq!("http://a:1/".parse::<Url>().unwrap().to_string(), "http://a:1");
        for bad in [
            "",
            "a:1",
            "ftp://a:1",
            "http://a",
            "http://:1",
            "http://a:x",
            "http://a:1/b",
            "http://::1:2",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
        assert_eq!(list("http://a:1,http://b:2").unwrap().len(), 2);
        assert!(list("").is_err());
        assert!(list("http://a:1,").is_err());
    }
}
