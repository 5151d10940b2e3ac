//! Reads of many keys of a range beside the dense one: neither the core nor another range waits for them.

use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;

use super::{Event, Inbox, guard};
use crate::core::Scan;

/// Scans that are evaluated at once: one on each core of the machine, within these bounds.
const THREADS: std::ops::RangeInclusive<usize> = 2..=8;

/// Starts the threads, which end when the sender is dropped. Their queue is bounded by the requests that
/// a member takes in.
pub(super) fn spawn(inbox: &Inbox, threads: &mut Vec<JoinHandle<()>>) -> io::Result<Sender<Scan>> {
    let (sender, scans) = crossbeam_channel::unbounded::<Scan>();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..cores.clamp(*THREADS.start(), *THREADS.end()) {
        let (inbox, scans) = (inbox.clone(), scans.clone());
        threads.push(guard::spawn("scan", inbox.clone(), move || {
            for scan in scans {
                if inbox.is_closed() {
                    return;
                }
                inbox.send(Event::Scanned(scan.run()));
            }
        })?);
    }
    Ok(sender)
}
