//! What a replica takes of a member's memory: a slope between two counts of ranges.
//!
//! A process takes memory beside its ranges, and how much is no constant. At its start a member
//! reads a whole segment of its log, 64 MiB, and the allocator gives back what was freed only when
//! it is called again: a member that then idles keeps all of it, one that founds ranges gives it
//! back. So the one cannot be held against the other. Instead:
//!
//! 1. Two clusters, each new, with a tenth of the ranges and with all of them, are looked at the
//!    same time after their start; the difference of their memory is that of so many replicas.
//! 2. Their allocator gives back at once what is freed, so that only what is in use is counted.
//! 3. Counted is the memory that is the process's own (`RssAnon`), not the pages of its file.

use anyhow::{Result, ensure};

use super::{Cluster, Options, Table, figure};
use crate::process::rss_anon_mib;

/// A replica at rest takes no more, at a member that leads a third of its ranges.
const REPLICA_BYTES_MAX: f64 = 2048.0;
/// With fewer ranges a figure is not held against that: what the allocator and the engine's cache round up
/// to weighs too much.
const JUDGED_COUNT_MIN: u64 = 50_000;
/// All ranges are so many times the fewer.
const FEWER: u64 = 10;
/// Has the members' allocator (mimalloc) give back at once what is freed.
const PURGING: [(&str, &str); 1] = [("MIMALLOC_PURGE_DELAY", "0")];

/// Memory of a replica at rest, by member, in bytes.
pub(super) struct AtRest(Vec<f64>);

impl AtRest {
    /// Fails if a replica takes too much.
    pub(super) fn judge(&self, options: &Options) -> Result<()> {
        // Every range is led once: whoever leads more than a third makes up for one that leads less.
        let mean = self.0.iter().sum::<f64>() / figure(self.0.len() as u64);
        if options.count < JUDGED_COUNT_MIN {
            eprintln!(
                "with less than {JUDGED_COUNT_MIN} ranges the memory of a replica is not judged"
            );
            return Ok(());
        }
        ensure!(
            mean <= REPLICA_BYTES_MAX,
            "a replica at rest takes {mean:.0} bytes, and {REPLICA_BYTES_MAX:.0} is the most that it may"
        );
        Ok(())
    }
}

/// Measures both clusters; then, if there is to be load, the second again.
pub(super) fn measure(options: &Options, table: &mut Table) -> Result<AtRest> {
    let fewer = options.count / FEWER;
    let few = at_rest(&mut Cluster::start(options, fewer, &PURGING)?, fewer, options)?;
    let mut cluster = Cluster::start(options, options.count, &PURGING)?;
    let many = at_rest(&mut cluster, options.count, options)?;
    let led: Vec<f64> = cluster.led()?.values().map(|&led| figure(led)).collect();
    table.row(&format!("at rest, {} ranges: led, by member", options.count), &led, 0);
    for (ranges, memory) in [(fewer, &few), (options.count, &many)] {
        table.row(&format!("at rest, {ranges} ranges: memory in use by member, MiB"), memory, 1);
    }
    let each = per_replica(&many, &few, options.count - fewer);
    table.row("memory of a replica at rest, by member, bytes", &each, 0);
    if let Some(&awake) = options.loads.iter().max() {
        cluster.bench(awake, options, options.load_seconds)?;
        std::thread::sleep(options.rest);
        let more = per_replica(&memory(&cluster)?, &many, awake);
        let what = format!("what {awake} of them take more that were awake under load, bytes each");
        table.row(&what, &more, 0);
    }
    Ok(AtRest(each))
}

/// The time since the start is the same for every cluster.
fn at_rest(cluster: &mut Cluster, ranges: u64, options: &Options) -> Result<Vec<f64>> {
    let (took, _) = cluster.leaders(ranges + 1)?;
    let left = options.rest.checked_sub(took);
    ensure!(left.is_some(), "the leaders took {took:?}: give more with --rest-seconds");
    std::thread::sleep(left.unwrap_or_default());
    memory(cluster)
}

fn memory(cluster: &Cluster) -> Result<Vec<f64>> {
    cluster.members.values().map(|member| rss_anon_mib(member.child.id())).collect()
}

fn per_replica(many: &[f64], few: &[f64], replicas: u64) -> Vec<f64> {
    let slope = |(many, few): (&f64, &f64)| (many - few) * f64::from(1 << 20) / figure(replicas);
    many.iter().zip(few).map(slope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_takes_what_more_ranges_take_more() {
        let each = per_replica(&[7.0, 9.0], &[5.0, 5.0], 1024);
        assert_eq!(each, [2048.0, 4096.0]);
    }
}
