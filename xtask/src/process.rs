//! What the operating system says of a process that is measured.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Clock ticks of `/proc/PID/stat` in a second; fixed by Linux's interface.
const TICKS_HZ: f64 = 100.0;

/// A command that runs on one core only.
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// CPU time of a process so far, its threads that are gone included. `taskset` replaces itself by
/// the program, so the child's id is the server's.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    parse_cpu(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

fn parse_cpu(stat: &str) -> Result<f64> {
    // The second field is the program's name in parentheses, and may contain anything.
    let (_, rest) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64> {
        Ok(fields.get(index).context("a short /proc/PID/stat")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS_HZ)
}

/// Memory of a process, the pages of files that it has mapped included.
pub(crate) fn rss_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmRSS:")
}

/// Memory that is a process's own.
pub(crate) fn rss_anon_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "RssAnon:")
}

fn status_mib(pid: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name));
    let line = line.with_context(|| format!("no {name}"))?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number behind it")?.parse()?;
    Ok(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 9 1 1";
        assert!((parse_cpu(stat).unwrap() - 2.0).abs() < 1e-9);
        assert!(parse_cpu("7 (x) S 1").is_err());
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        let (all, own) = (rss_mib(std::process::id()), rss_anon_mib(std::process::id()));
        assert!(0.0 < own.as_ref().copied().unwrap() && own.unwrap() < all.unwrap());
    }
}
