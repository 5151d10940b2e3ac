//! The network: a namespace for each member, joined by a bridge; loss by iptables.
//!
//! | address | who |
//! |---|---|
//! | 10.77.0.200 | the clients, in the run's own namespace |
//! | 10.77.0.I | member I, from 1 on |
//! | 10.77.0.(100 + I) | the proxy of member I: where its peers reach it, and as whom it reaches them |
//!
//! All that two members say to each other goes through proxies, so each sees the other under the address of the other's
//! proxy, whoever connected. Whatever is lost between A and B is lost by a rule about that address.

use anyhow::{Context, Result};

use super::host::call;

/// Port for clients.
pub const CLIENT_PORT: u16 = 2379;
/// Port for peers, of members and of their proxies.
pub const PEER_PORT: u16 = 2380;

/// A member's place in the network, from 1 on.
pub type Slot = usize;

/// The address of a member.
#[must_use]
pub fn address(slot: Slot) -> String {
    format!("10.77.0.{slot}")
}

/// The address of a member's proxy.
#[must_use]
pub fn proxy_address(slot: Slot) -> String {
    format!("10.77.0.{}", 100 + slot)
}

/// Where clients reach a member.
#[must_use]
pub fn endpoint(slot: Slot) -> String {
    format!("{}:{CLIENT_PORT}", address(slot))
}

/// Where peers reach a member.
#[must_use]
pub fn peer_url(slot: Slot) -> String {
    format!("http://{}:{PEER_PORT}", proxy_address(slot))
}

/// The file that stands for a member's network namespace.
#[must_use]
pub fn namespace(slot: Slot) -> String {
    format!("/run/netns/{}", name(slot))
}

fn name(slot: Slot) -> String {
    format!("quorate-{}-m{slot}", std::process::id())
}

/// Makes the network for so many members.
///
/// # Errors
/// When the system refuses.
pub fn build(members: usize) -> Result<()> {
    call("ip", ["link", "set", "lo", "up"])?;
    call("ip", ["link", "add", "hub", "type", "bridge"])?;
    call("ip", ["addr", "add", "10.77.0.200/24", "dev", "hub"])?;
    call("ip", ["link", "set", "hub", "up"])?;
    for slot in 1..=members {
        let (space, cable) = (name(slot), format!("cable{slot}"));
        call("ip", ["addr", "add", &format!("{}/24", proxy_address(slot)), "dev", "hub"])?;
        call("ip", ["netns", "add", &space])?;
        let ends = ["type", "veth", "peer", "name", "eth0", "netns", &space];
        call("ip", ["link", "add", &cable].into_iter().chain(ends))?;
        call("ip", ["link", "set", &cable, "master", "hub", "up"])?;
        call("ip", ["-n", &space, "link", "set", "lo", "up"])?;
        let own = format!("{}/24", address(slot));
        call("ip", ["-n", &space, "addr", "add", &own, "dev", "eth0"])?;
        call("ip", ["-n", &space, "link", "set", "eth0", "up"])?;
    }
    Ok(())
}

/// Loses every packet from one member to another.
///
/// # Errors
/// When the system refuses.
pub fn lose(from: Slot, to: Slot) -> Result<()> {
    iptables(from, &["-A", "OUTPUT", "-d", &proxy_address(to), "-j", "DROP"])?;
    iptables(to, &["-A", "INPUT", "-s", &proxy_address(from), "-j", "DROP"])?;
    Ok(())
}

/// How many packets a member's rules have dropped.
///
/// # Errors
/// When the system does not say.
pub fn lost(slot: Slot) -> Result<u64> {
    let list = iptables(slot, &["-L", "-v", "-n", "-x"])?;
    let mut packets = 0;
    for line in list.lines() {
        let mut words = line.split_whitespace();
        if let (Some(count), Some(_), Some("DROP")) = (words.next(), words.next(), words.next()) {
            packets += count.parse::<u64>().with_context(|| line.to_owned())?;
        }
    }
    Ok(packets)
}

/// Ends all loss at a member.
///
/// # Errors
/// When the system refuses.
pub fn heal(slot: Slot) -> Result<()> {
    iptables(slot, &["-F"]).map(drop)
}

fn iptables(slot: Slot, words: &[&str]) -> Result<String> {
    let space = format!("--net={}", namespace(slot));
    call("nsenter", [space.as_str(), "iptables", "-w"].iter().chain(words))
}
