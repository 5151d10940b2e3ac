//! What the operating system says of this process. Zeros where it does not say (not Linux).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the process uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_s: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) open_fds: u64,
    pub(crate) max_fds: u64,
}

/// When this was asked first, in seconds since 1970; the door asks at start.
pub(crate) fn started_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

pub(crate) fn usage() -> Usage {
    let (cpu_s, resident_bytes) = cpu_and_memory().unwrap_or_default();
    let open_fds = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let max_fds = std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| {
            let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
            line.split_ascii_whitespace().nth(3)?.parse().ok()
        })
        .unwrap_or(0);
    Usage { cpu_s, resident_bytes, open_fds, max_fds }
}

/// Times are in hundredths of a second and memory in KiB there, whatever the machine.
fn cpu_and_memory() -> Option<(f64, u64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program comes in parentheses and may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks: u32 = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((f64::from(ticks) / 100.0, kib * 1024))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_uses_something() {
        let usage = usage();
        assert!(usage.resident_bytes > 100_000);
        assert!(usage.open_fds >= 3 && usage.max_fds >= usage.open_fds);
        assert!(usage.cpu_s >= 0.0);
        assert!(started_s() > 1_700_000_000.0);
    }
}
