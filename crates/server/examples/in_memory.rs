//! etcd's API over a state in memory: the door alone, for trying clients and for measuring it.
//! Nothing is durable. Serves until its standard input ends.
//!
//! `cargo run -p quorate-server --example in_memory -- http://127.0.0.1:12420`

#[expect(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Read as _;
use std::num::NonZeroUsize;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:12420".to_owned());
    let doors = arguments.next().and_then(|doors| doors.parse().ok()).unwrap_or(NonZeroUsize::MIN);
    let config =
        server::Config { listen_client_urls: vec![url], doors, ..server::Config::default() };
    match server::Server::start(config, support::Memory::new()) {
        Ok(server) => {
            println!("ready to serve client requests on {:?}", server.client_addresses());
            let mut ignored = Vec::new();
            // An error ends it as well.
            let _ = std::io::stdin().read_to_end(&mut ignored);
            server.shutdown();
        }
        Err(error) => eprintln!("{error}"),
    }
}
