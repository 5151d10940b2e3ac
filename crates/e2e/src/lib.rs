//! End-to-end and differential tests: real server processes, and a real etcd as the oracle.
//!
//! Nothing here knows the insides of the server under test. It is a program ([`tools::subject`]) that takes
//! etcd's flags, and a real etcd in its place must pass every suite: that is how the suites are checked.
//! Expectations are not written down either. Where etcd's behaviour is the contract, the same requests go to
//! a real etcd, and the two answers must be equal once ids, times and addresses are made alike.
//!
//! - [`server`], [`cluster`]: processes: start, kill -9, stop and continue, restart; all by process id.
//! - [`ctl`], [`transcript`]: etcdctl, and what it printed in a comparable form.
//! - [`rpc`]: gRPC by path and bytes, so that malformed messages can be sent too.
//! - [`differential`]: random requests from a seed, compared whole, with shrinking.
//! - [`browser`]: a real browser, for the pages.
//! - [`lab_page`]: the lab's page in it, and how fast that is.
//! - [`disk`]: a small file system of its own, to be filled.
//! - [`blackbox`]: real faults of network, disk, processes and clocks; the record judged by `history`.
//! - [`torture`]: faults under load, and the checks of what must hold afterwards.
//!
//! Every wait has a bound. Caveat: ports are probed before they are used, so that something else on the
//! machine can still take one in between; the start then fails, loudly.

pub mod blackbox;
pub mod browser;
pub mod cluster;
pub mod ctl;
pub mod differential;
pub mod disk;
pub mod failover;
pub mod lab_page;
pub mod ports;
pub mod rpc;
pub mod server;
pub mod tools;
pub mod torture;
pub mod transcript;
