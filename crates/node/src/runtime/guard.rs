//! Threads that cannot end unnoticed: without one of them a node would seem to live and do nothing.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use super::{Event, Inbox};

/// Starts a thread of which a panic stops the node.
pub(super) fn spawn(
    name: &'static str,
    inbox: Inbox,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(panic) = caught(work) {
            inbox.send(Event::Fatal(format!("the thread {name} panicked: {panic}")));
        }
    })
}

/// What `work` gives, or what it panicked with. What it had borrowed must not be used after a panic.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| words(&*panic))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::Clock;

    #[test]
    fn a_panic_stops_the_node() {
        let (inbox, mut events) = Inbox::new(Clock::start());
        let thread = spawn("checkpoint", inbox, || panic!("row {}", 7)).unwrap();
        thread.join().unwrap();
        let Ok(Event::Fatal(reason)) = events.recv() else { panic!("nobody was told") };
        assert_eq!(reason, "the thread checkpoint panicked: row 7");
    }
}
