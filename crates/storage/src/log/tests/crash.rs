//! Every point at which the power may go, and what must be there when it comes back.

use env::{SimDisk, SplitMix64};

use super::super::{GroupWrite, Log, OpenError};
use super::{Model, draw, observe, open};

/// States that the log may be found in: any from the last that was synced on.
pub(super) struct Allowed {
    states: Vec<Model>,
}

impl Allowed {
    pub(super) fn found(model: Model) -> Self {
        Self { states: vec![model] }
    }

    fn now(&self) -> &Model {
        self.states.last().expect("there is always a state")
    }

    fn synced(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }
}

/// Works until the power goes off or the work is done. An append or sync that fails leaves it
/// open what became of it.
pub(super) fn work(
    log: &mut Log<SimDisk>,
    random: &mut SplitMix64,
    rounds: u32,
    allowed: &mut Allowed,
) {
    for _ in 0..rounds {
        for _ in 0..=random.below(2) {
            let writes: Vec<GroupWrite> = draw(random, allowed.now());
            let mut next = allowed.now().clone();
            next.apply(&writes);
            let appended = log.append(&writes);
            allowed.states.push(next);
            if appended.is_err() {
                return;
            }
        }
        if log.sync().is_err() {
            return;
        }
        allowed.synced();
    }
}

/// Opens after a crash and checks that what is found is allowed.
pub(super) fn reopen(disk: &SimDisk, allowed: &Allowed, what: &str) -> (Log<SimDisk>, Model, bool) {
    let (log, recovered) = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let model = observe(&log);
    assert!(
        allowed.states.contains(&model),
        "{what}: found {model:?}, which is none of {} allowed states, the oldest {:?}, the newest {:?}",
        allowed.states.len(),
        allowed.states[0],
        allowed.now()
    );
    (log, model, recovered.torn)
}

/// One life that ends at operation `cut`, a second that begins with what the first left behind
/// and ends the same way, and a third that must find what the second synced.
pub(super) fn live_and_die(seed: u64, cut: u64, second_cut: u64, torn: &mut u64) {
    let what = format!("seed {seed}, cut {cut}, second cut {second_cut}");
    let disk = SimDisk::new(seed ^ cut.wrapping_mul(0x9E37_79B9));
    let mut random = SplitMix64::new(seed);
    let mut allowed = Allowed::found(Model::default());
    disk.power_off_after(cut);
    if let Ok((mut log, _)) = open(&disk) {
        work(&mut log, &mut random, 12, &mut allowed);
    }
    // A process that dies leaves the page cache behind: what the next one finds there it must
    // make durable itself.
    if cut.is_multiple_of(3) {
        disk.kill()
    } else {
        disk.crash()
    }
    disk.power_off_after(second_cut);
    match open(&disk) {
        Ok((mut log, recovered)) => {
            *torn += u64::from(recovered.torn);
            // What was found and told to the caller is durable from then on.
            let found = if let Some(found) = observe_powered(&disk, &log) {
                assert!(allowed.states.contains(&found), "{what}: {found:?}");
                found
            } else {
                return;
            };
            allowed = Allowed::found(found);
            work(&mut log, &mut random, 12, &mut allowed);
        }
        Err(OpenError::Io { .. }) => {}
        Err(other) => panic!("{what}: {other}"),
    }
    disk.crash();
    let (_, model, torn_again) = reopen(&disk, &allowed, &what);
    *torn += u64::from(torn_again);
    disk.kill();
    let (_, again, _) = reopen(&disk, &Allowed::found(model.clone()), &what);
    assert_eq!(again, model, "{what}: opening changes nothing");
}

/// What the log holds; `None` if the power went off right after the opening.
fn observe_powered(disk: &SimDisk, log: &Log<SimDisk>) -> Option<Model> {
    use env::Disk;
    disk.list(std::path::Path::new(super::DIR)).ok()?;
    Some(observe(log))
}

/// Operations of an undisturbed life.
fn operations(seed: u64) -> u64 {
    let disk = SimDisk::new(seed);
    let mut random = SplitMix64::new(seed);
    let (mut log, _) = open(&disk).unwrap();
    work(&mut log, &mut random, 12, &mut Allowed::found(Model::default()));
    disk.changes()
}

#[test]
fn every_crash_point_leaves_a_prefix_with_all_that_was_synced() {
    let mut torn = 0;
    let mut points = 0;
    for seed in 0..12 {
        for cut in 0..=operations(seed) {
            let second_cut = SplitMix64::new(seed * 1000 + cut).below(90);
            live_and_die(seed, cut, second_cut, &mut torn);
            points += 1;
        }
    }
    assert!(points > 500, "{points} points");
    assert!(torn > 50, "{torn} tears in {points} points");
}

/// The crash comes while the log is opened after a crash, at every point of the opening.
#[test]
fn opening_may_be_interrupted_anywhere() {
    let mut torn = 0;
    for seed in 100..130 {
        for second_cut in 0..25 {
            live_and_die(seed, 40 + seed % 17, second_cut, &mut torn);
        }
    }
    assert!(torn > 50, "{torn}");
}
