//! Many seeds, on as many threads as wanted. Each seed is a world of its own, so the order in which
//! they are lived through changes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::{Broken, Plan, Tally, Tell, live};

/// How often something is said of how far it is.
const TELLS_EVERY: Duration = Duration::from_secs(10);

/// Which seeds, and how.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// Threads.
    pub jobs: usize,
    /// Go on after a rule was broken.
    pub keep_going: bool,
}

/// What came of them.
#[derive(Debug, Default)]
pub struct Harvest {
    /// Seeds lived through.
    pub seeds: u64,
    /// Rules that were broken, by seed.
    pub broken: BTreeMap<u64, Broken>,
    /// What happened how often.
    pub tally: Tally,
    /// Simulated time, in hours.
    pub simulated_hours: f64,
    /// How long it took.
    pub took: Duration,
}

/// Lives through seeds. `tell` hears how many are done, now and then.
///
/// # Panics
/// If a thread dies, which is a bug of the simulator: what the code under test does is caught.
pub fn harvest(bulk: Bulk, mut tell: impl FnMut(&Harvest)) -> Harvest {
    let began = Instant::now();
    let mut told = began;
    let mut harvest = Harvest::default();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..bulk.jobs.max(1) {
            let (done, next, stop) = (done.clone(), &next, &stop);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= bulk.seeds || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = bulk.first.wrapping_add(at);
                    if done.send((seed, live(&Plan::draw(seed), Tell::Nothing))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for (seed, outcome) in results {
            harvest.seeds += 1;
            let mut at_once = false;
            harvest.tally.merge(&outcome.tally);
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let hours = outcome.simulated_us as f64 / 3.6e9;
            harvest.simulated_hours += hours;
            if let Some(broken) = outcome.broken {
                harvest.broken.insert(seed, broken);
                at_once = true;
                stop.store(!bulk.keep_going, Ordering::Relaxed);
            }
            harvest.took = began.elapsed();
            if at_once || told.elapsed() >= TELLS_EVERY {
                told = Instant::now();
                tell(&harvest);
            }
        }
    });
    harvest.took = began.elapsed();
    harvest
}
