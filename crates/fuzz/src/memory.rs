//! How much memory something uses at once, counted where it is given out.
//!
//! What is counted is what a thread asks for and has not given back. A buffer that is asked for and
//! never touched costs the machine nothing, but it is what a length in the input drove; so it counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
pub(crate) struct Counting;

fn count(bytes: isize) {
    // A thread that is ending has no counters any more, and nobody who asks for them.
    let _may_be_ending = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        PEAK.try_with(|peak| peak.set(peak.get().max(live.get())))
    });
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

#[expect(unsafe_code, reason = "an allocator is made of unsafe calls; each goes on as it came")]
// SAFETY: everything is done by the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Both may be there for a moment.
        count(signed(new_size));
        count(-signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// Runs it; tells the most memory that this thread had in use meanwhile, beyond what it had before.
pub(crate) fn peak_bytes<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = run();
    let most = PEAK.get() - before;
    (result, usize::try_from(most).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::peak_bytes;

    #[test]
    fn the_most_at_once_is_counted_and_no_more() {
        let (_, peak) = peak_bytes(|| {
            for _ in 0..10 {
                std::hint::black_box(vec![1_u8; 100_000]);
            }
            std::hint::black_box(Vec::<u8>::with_capacity(300_000));
        });
        assert!((300_000..301_000).contains(&peak), "{peak}");
        let (_, nothing) = peak_bytes(|| ());
        assert_eq!(nothing, 0);
    }
}
