//! What came out: counts, percentiles, and what it cost here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Latencies are kept in microseconds with three significant digits, up to a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Latencies and counts of a thread or of a whole run.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Latencies of what succeeded, in microseconds.
    pub latencies_us: Histogram<u64>,
    /// What failed, by its text.
    pub errors: BTreeMap<String, u64>,
    /// Keys that came back.
    pub keys: u64,
    /// Bytes of keys and values that came back.
    pub bytes: u64,
    /// Compare-and-swaps that met another's change.
    pub conflicts: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let latencies_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
            .unwrap_or_else(|_| unreachable!("the bounds and digits are constants in range"));
        Self { latencies_us, errors: BTreeMap::new(), keys: 0, bytes: 0, conflicts: 0 }
    }
}

impl Tally {
    /// Adds a success.
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        self.latencies_us.saturating_record(us);
    }

    /// Adds what another thread saw.
    pub fn merge(&mut self, other: &Self) {
        self.latencies_us += &other.latencies_us;
        for (text, count) in &other.errors {
            *self.errors.entry(text.clone()).or_default() += count;
        }
        self.keys += other.keys;
        self.bytes += other.bytes;
        self.conflicts += other.conflicts;
    }
}

/// The outcome of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was done, for people.
    pub title: String,
    /// Counts and latencies of the time that was measured.
    pub tally: Tally,
    /// That time.
    pub elapsed: Duration,
    /// CPU time of this process in that time.
    pub client_cpu: Duration,
}

/// The percentiles that are reported, with their names in JSON.
const PERCENTILES: [(f64, &str); 5] =
    [(50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p999"), (100.0, "max")];

#[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
impl Report {
    /// Requests that succeeded.
    pub fn operations(&self) -> u64 {
        self.tally.latencies_us.len()
    }

    /// Requests that failed.
    pub fn failures(&self) -> u64 {
        self.tally.errors.values().sum()
    }

    /// Successes in a second.
    pub fn per_second(&self) -> f64 {
        self.operations() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Microseconds of this process's CPU for one request.
    pub fn client_cpu_us(&self) -> f64 {
        let requests = (self.operations() + self.failures()).max(1);
        self.client_cpu.as_secs_f64() * 1e6 / requests as f64
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let histogram = &self.tally.latencies_us;
        let _infallible = writeln!(
            out,
            "{}\n  {:<12} {:>12.1} /s   ({} in {:.2} s, {} failed)",
            self.title,
            "throughput",
            self.per_second(),
            self.operations(),
            self.elapsed.as_secs_f64(),
            self.failures()
        );
        if self.tally.keys > 0 {
            let seconds = self.elapsed.as_secs_f64().max(1e-9);
            let _infallible = writeln!(
                out,
                "  {:<12} {:>12.1} /s   ({:.1} MB/s)",
                "keys",
                self.tally.keys as f64 / seconds,
                self.tally.bytes as f64 / seconds / 1e6
            );
        }
        if self.tally.conflicts > 0 {
            let share = 100.0 * self.tally.conflicts as f64 / self.operations().max(1) as f64;
            let _infallible = writeln!(out, "  {:<12} {share:>12.1} %", "conflicts");
        }
        let _infallible = writeln!(out, "  {:<12} {:>12.3} ms", "mean", histogram.mean() / 1000.0);
        for (percentile, name) in PERCENTILES {
            let name = if name == "p999" { "p99.9" } else { name };
            let value = histogram.value_at_percentile(percentile) as f64 / 1000.0;
            let _infallible = writeln!(out, "  {name:<12} {value:>12.3} ms");
        }
        let _infallible = writeln!(
            out,
            "  {:<12} {:>12.1} us of CPU a request",
            "this client",
            self.client_cpu_us()
        );
        for (text, count) in &self.tally.errors {
            let _infallible = writeln!(out, "  {count} x {text}");
        }
        out
    }

    /// For programs: one object, latencies in microseconds.
    pub fn json(&self) -> String {
        let histogram = &self.tally.latencies_us;
        let mut out = String::from("{");
        let _infallible = write!(
            out,
            "\"title\":{},\"operations\":{},\"failures\":{},\"seconds\":{:.6},\"per_second\":{:.3}",
            quoted(&self.title),
            self.operations(),
            self.failures(),
            self.elapsed.as_secs_f64(),
            self.per_second()
        );
        let _infallible = write!(
            out,
            ",\"keys\":{},\"bytes\":{},\"conflicts\":{}",
            self.tally.keys, self.tally.bytes, self.tally.conflicts
        );
        let _infallible = write!(out, ",\"latency_us\":{{\"mean\":{:.1}", histogram.mean());
        for (percentile, name) in PERCENTILES {
            let _infallible =
                write!(out, ",\"{name}\":{}", histogram.value_at_percentile(percentile));
        }
        let _infallible =
            write!(out, "}},\"client_cpu_us\":{:.2},\"errors\":{{", self.client_cpu_us());
        for (at, (text, count)) in self.tally.errors.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _infallible = write!(out, "{comma}{}:{count}", quoted(text));
        }
        out.push_str("}}");
        out
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// CPU time that this process has had so far, its ended threads included.
pub fn process_cpu() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// CPU time that the calling thread has had so far.
pub(crate) fn thread_cpu() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

fn duration(spent: Timespec) -> Duration {
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut tally = Tally::default();
        (1..=100).for_each(|ms| tally.record(Duration::from_millis(ms)));
        tally.errors.insert("no \"leader\"".into(), 2);
        Report {
            title: "put".into(),
            tally,
            elapsed: Duration::from_secs(2),
            client_cpu: Duration::from_micros(1020),
        }
    }

    #[test]
    fn counts_and_percentiles_are_those_of_the_samples() {
        let report = report();
        assert_eq!(report.operations(), 100);
        assert_eq!(report.failures(), 2);
        assert!((report.per_second() - 50.0).abs() < 1e-9);
        assert!((report.client_cpu_us() - 10.0).abs() < 1e-9);
        let p99 = report.tally.latencies_us.value_at_percentile(99.0);
        assert!((98_900..=99_100).contains(&p99), "{p99}");
    }

    #[test]
    fn json_has_every_figure_and_escapes_texts() {
        let json = report().json();
        for part in [
            "\"operations\":100",
            "\"failures\":2",
            "\"per_second\":50.000",
            "\"p999\":",
            "\"no \\\"leader\\\"\":2",
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
        assert!(json.starts_with('{') && json.ends_with('}'));
    }

    #[test]
    fn merging_adds_up() {
        let mut all = report().tally;
        all.merge(&report().tally);
        assert_eq!(all.latencies_us.len(), 200);
        assert_eq!(all.errors["no \"leader\""], 4);
    }

    #[test]
    fn cpu_time_outlives_the_thread_that_spent_it() {
        let before = process_cpu();
        let spent = std::thread::spawn(move || {
            while process_cpu() < before + Duration::from_millis(20) {
                std::hint::spin_loop();
            }
            process_cpu()
        });
        let spent = spent.join().unwrap();
        assert!(process_cpu() >= spent);
    }
}
