//! `compare`: three real etcd members and three of ours, the same load, in turns.
//!
//! Absolute figures of a small shared machine mean little; ratios from one run mean something. So
//! both systems run here, one after the other and in alternating order over several rounds: all
//! three members of a system pinned to one core, the load to another. For each workload the table
//! has the median of the rounds and, after it, the lowest and the highest.
//!
//! What is counted for the servers is what the operating system counted: `utime + stime` of
//! `/proc/PID/stat` over the measured time (the filling of the key space and the warm-up are runs
//! of their own before it), and `VmRSS` after it, both summed over the three members.
//!
//! # Caveats
//!
//! - The load has one core. The table shows its own CPU for each request: where that times the
//!   throughput comes near a whole core, the load was the limit and the ratio is too small.
//! - Servers that share a core are compared by the CPU they need, which is what this is for; it
//!   says nothing about how they use many cores.
//! - All three members are asked in equal parts, so two thirds of the requests reach a follower.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::given::Given;
use crate::process::{cpu_seconds, pinned, rss_mib};

/// What `cargo xtask compare --help` prints.
const HELP: &str = "\
Usage: cargo xtask compare [OPTION VALUE]...

  --ours PATH        the binary that is measured [default: quorate of the release profile]
  --theirs PATH      the binary it is compared with [default: etcd in QUORATE_ETCD_37_DIR, or of PATH]
  --load PATH        the quorate binary that makes the load [default: as --ours]
  --rounds N         rounds of both systems [default: 3]
  --seconds N        measured time of each workload [default: 5]
  --only A,B         workloads by name [default: all]
  --server-core N    core of all servers [default: 0]
  --load-core N      core of the load [default: 1]
  --port N           first of six ports [default: 23790]
  --dir PATH         where the data goes, on the disk that is to be measured [default: the system's]
  --out FILE         write the table there as well

A binary named quorate is run as `quorate start`; any other takes etcd's flags as they are.
";

/// Longest wait for a cluster to serve.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Unmeasured load before each measurement.
const WARM_UP_SECONDS: u64 = 1;
/// Members of each system.
const MEMBERS: u16 = 3;

/// A measurement by name: what to fill first, and what to run.
struct Workload {
    name: &'static str,
    fill: Option<&'static [&'static str]>,
    run: &'static [&'static str],
}

const SMALL: &[&str] = &["--value-size", "256", "--key-space", "10000", "--prefix", "small/"];
const LARGE: &[&str] = &["--value-size", "1024", "--key-space", "1000", "--prefix", "large/"];

const WORKLOADS: &[Workload] = &[
    Workload { name: "put-1", fill: None, run: &["put", "--clients", "1", "--connections", "1"] },
    Workload { name: "put-64", fill: None, run: &["put", "--clients", "64", "--connections", "6"] },
    Workload {
        name: "put-1000",
        fill: None,
        run: &["put", "--clients", "1000", "--connections", "30"],
    },
    Workload {
        name: "get-linearizable",
        fill: Some(SMALL),
        run: &["get", "--clients", "256", "--connections", "15"],
    },
    Workload {
        name: "get-serializable",
        fill: Some(SMALL),
        run: &["get", "--clients", "256", "--connections", "15", "--serializable"],
    },
    Workload {
        name: "list-1000x1KiB",
        fill: Some(LARGE),
        run: &["range", "--clients", "6", "--connections", "6", "--range-keys", "1000"],
    },
    Workload {
        name: "cas-txn",
        fill: Some(SMALL),
        run: &["txn", "--clients", "64", "--connections", "6"],
    },
    Workload {
        name: "watch-1000",
        fill: None,
        run: &[
            "watch",
            "--watchers",
            "1000",
            "--streams",
            "30",
            "--connections",
            "6",
            "--rate",
            "50",
        ],
    },
];

/// The command line.
struct Options {
    ours: PathBuf,
    theirs: PathBuf,
    load: PathBuf,
    rounds: usize,
    seconds: u64,
    only: Vec<String>,
    server_core: usize,
    load_core: usize,
    port: u16,
    dir: PathBuf,
    out: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut given = Given::parse(args, HELP)?;
        let ours = given.path("--ours", || crate::run::target_dir().join("release/quorate"));
        let theirs = || match std::env::var_os("QUORATE_ETCD_37_DIR") {
            Some(dir) => PathBuf::from(dir).join("etcd"),
            None => "etcd".into(),
        };
        let names = |names: &str| names.split(',').map(ToOwned::to_owned).collect();
        let options = Self {
            theirs: given.path("--theirs", theirs),
            load: given.path("--load", || ours.clone()),
            ours,
            rounds: given.number("--rounds", 3)?,
            seconds: given.number("--seconds", 5)?,
            only: given.take("--only").map_or_else(Vec::new, names),
            server_core: given.number("--server-core", 0)?,
            load_core: given.number("--load-core", 1)?,
            port: given.number("--port", 23_790)?,
            dir: given.path("--dir", std::env::temp_dir),
            out: given.take("--out").map(PathBuf::from),
        };
        given.finish()?;
        let known = |name: &String| WORKLOADS.iter().any(|workload| workload.name == name);
        if let Some(unknown) = options.only.iter().find(|name| !known(name)) {
            bail!("no workload {unknown:?}");
        }
        ensure!(options.rounds > 0 && options.seconds > 0, "rounds and seconds must not be 0");
        ensure!(options.server_core != options.load_core, "servers and load need different cores");
        Ok(options)
    }

    fn workloads(&self) -> impl Iterator<Item = &'static Workload> {
        WORKLOADS.iter().filter(|workload| {
            self.only.is_empty() || self.only.iter().any(|name| name == workload.name)
        })
    }
}

/// What one run of a workload gave.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    server_us: f64,
    load_us: f64,
    rss_mib: f64,
}

/// Samples by workload and system (0: theirs, 1: ours).
type Samples = BTreeMap<(&'static str, usize), Vec<Sample>>;

/// Runs the task.
///
/// # Errors
/// If a tool is missing, a cluster does not come up, or a measurement fails.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    let options = Options::parse(args)?;
    let mut samples = Samples::new();
    for round in 0..options.rounds {
        // Whoever is first in one round is second in the next.
        for turn in 0..2 {
            let system = (round + turn) % 2;
            let binary = if system == 0 { &options.theirs } else { &options.ours };
            eprintln!("round {} of {}: {}", round + 1, options.rounds, binary.display());
            let cluster = Cluster::start(binary, &options)?;
            for workload in options.workloads() {
                let sample = cluster.measure(workload, &options)?;
                eprintln!("  {:<18} {:>10.0} /s", workload.name, sample.per_second);
                samples.entry((workload.name, system)).or_default().push(sample);
            }
        }
    }
    let table = table(&samples, &options);
    print!("{table}");
    if let Some(out) = &options.out {
        std::fs::write(out, &table).with_context(|| out.display().to_string())?;
    }
    Ok(())
}

/// Three members of one system, killed when dropped.
struct Cluster {
    members: Vec<Child>,
    endpoints: String,
    dir: PathBuf,
}

impl Cluster {
    fn start(binary: &Path, options: &Options) -> Result<Self> {
        let dir = options.dir.join(format!("quorate-compare-{}", std::process::id()));
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let client = |member: u16| format!("http://127.0.0.1:{}", options.port + 2 * member);
        let peer = |member: u16| format!("http://127.0.0.1:{}", options.port + 2 * member + 1);
        let initial: Vec<String> =
            (0..MEMBERS).map(|member| format!("m{member}={}", peer(member))).collect();
        let endpoints: Vec<String> = (0..MEMBERS).map(client).collect();
        let mut cluster = Self { members: Vec::new(), endpoints: endpoints.join(","), dir };
        for member in 0..MEMBERS {
            let log = std::fs::File::create(cluster.dir.join(format!("m{member}.log")))?;
            let mut command = pinned(options.server_core, binary);
            if binary.file_name().is_some_and(|name| name == "quorate") {
                command.arg("start");
            }
            command
                .args(["--name", &format!("m{member}")])
                .arg("--data-dir")
                .arg(cluster.dir.join(format!("m{member}")))
                .args(["--listen-client-urls", &client(member)])
                .args(["--advertise-client-urls", &client(member)])
                .args(["--listen-peer-urls", &peer(member)])
                .args(["--initial-advertise-peer-urls", &peer(member)])
                .args(["--initial-cluster", &initial.join(",")])
                .args(["--initial-cluster-state", "new", "--log-level", "error"])
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log);
            let child = command.spawn().with_context(|| format!("{}", binary.display()))?;
            cluster.members.push(child);
        }
        cluster.wait_ready(options)?;
        Ok(cluster)
    }

    /// Waits until every member answers a linearizable read.
    fn wait_ready(&mut self, options: &Options) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let health = Command::new(&options.load)
                .args(["endpoint", "health", "--endpoints", &self.endpoints])
                .output()
                .with_context(|| format!("{}", options.load.display()))?;
            if health.status.success() {
                return Ok(());
            }
            for (at, member) in self.members.iter_mut().enumerate() {
                if let Some(status) = member.try_wait()? {
                    let log = self.dir.join(format!("m{at}.log"));
                    let log = std::fs::read_to_string(log).unwrap_or_default();
                    bail!("member m{at} ended with {status}:\n{log}");
                }
            }
            ensure!(Instant::now() < deadline, "no cluster within {READY_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn measure(&self, workload: &Workload, options: &Options) -> Result<Sample> {
        let seconds = |seconds: u64| format!("{seconds}s");
        let shape = workload.fill.unwrap_or(if workload.run[0] == "watch" { &[] } else { SMALL });
        if let Some(fill) = workload.fill {
            let keys = fill.iter().skip_while(|arg| **arg != "--key-space").nth(1);
            let total = keys.context("a fill names its key space")?;
            let load = ["put", "--dist", "sequential", "--total", total, "--warm-up", "0"];
            self.load(options, &[&load, fill].concat())?;
        }
        let is_watch = workload.run[0] == "watch";
        let extra: &[&str] = match (is_watch, workload.fill) {
            (true, _) => &[],
            (false, None) => &["--warm-up", "0"],
            (false, Some(_)) => &["--warm-up", "0", "--no-fill"],
        };
        let warm_up = seconds(WARM_UP_SECONDS);
        self.load(options, &[workload.run, shape, extra, &["--duration", &warm_up]].concat())?;
        let before = self.cpu_seconds()?;
        let measured = seconds(options.seconds);
        let report =
            self.load(options, &[workload.run, shape, extra, &["--duration", &measured]].concat())?;
        let cpu = self.cpu_seconds()? - before;
        sample(&report, cpu, self.rss_mib()?)
            .with_context(|| format!("{}: {report}", workload.name))
    }

    /// Runs one load to its end and gives its report.
    fn load(&self, options: &Options, args: &[&str]) -> Result<String> {
        let output = pinned(options.load_core, &options.load)
            .args(["bench", "-w", "json", "--endpoints", &self.endpoints])
            .args(args)
            .arg("--quiet")
            .output()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "bench {args:?}: {stdout}{stderr}");
        Ok(stdout)
    }

    fn cpu_seconds(&self) -> Result<f64> {
        self.members.iter().map(|member| cpu_seconds(member.id())).sum()
    }

    fn rss_mib(&self) -> Result<f64> {
        self.members.iter().map(|member| rss_mib(member.id())).sum()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _may_be_gone = member.kill();
            let _reaped = member.wait();
        }
        let _left_behind_at_worst = std::fs::remove_dir_all(&self.dir);
    }
}

/// Reads a report of `quorate bench -w json`.
fn sample(report: &str, cpu_seconds: f64, rss_mib: f64) -> Result<Sample> {
    let report: serde_json::Value = serde_json::from_str(report)?;
    let number = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(serde_json::Value::as_f64)
            .with_context(|| pointer.to_owned())
    };
    let operations = number("/operations")?;
    ensure!(operations > 0.0, "not one request succeeded");
    ensure!(number("/failures")? < operations / 1000.0, "more than one request in 1,000 failed");
    Ok(Sample {
        per_second: number("/per_second")?,
        p50_ms: number("/latency_us/p50")? / 1000.0,
        p99_ms: number("/latency_us/p99")? / 1000.0,
        server_us: cpu_seconds * 1e6 / operations,
        load_us: number("/client_cpu_us")?,
        rss_mib,
    })
}

/// Median, lowest and highest.
fn spread(samples: &[Sample], field: fn(&Sample) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = samples.iter().map(field).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    (median, values[0], values[values.len() - 1])
}

fn cell((median, low, high): (f64, f64, f64)) -> String {
    let digits = match median {
        m if m >= 100.0 => 0,
        m if m >= 10.0 => 1,
        _ => 2,
    };
    format!("{median:.digits$} ({low:.digits$}-{high:.digits$})")
}

/// A row of the table: heading, what, and whether more is better.
type Field = (&'static str, fn(&Sample) -> f64, bool);

const FIELDS: [Field; 6] = [
    ("throughput /s", |s| s.per_second, true),
    ("p50 ms", |s| s.p50_ms, false),
    ("p99 ms", |s| s.p99_ms, false),
    ("server CPU us/op", |s| s.server_us, false),
    ("memory MiB", |s| s.rss_mib, false),
    ("load CPU us/op", |s| s.load_us, false),
];

fn table(samples: &Samples, options: &Options) -> String {
    let name = |path: &Path| path.file_name().map_or_else(String::new, |n| n.display().to_string());
    let mut out = format!(
        "{MEMBERS} members on core {}, load on core {}; {} rounds of {} s; median (lowest-highest)\n\n\
         | workload | figure | {} | {} | better by |\n|---|---|---|---|---|\n",
        options.server_core,
        options.load_core,
        options.rounds,
        options.seconds,
        name(&options.theirs),
        name(&options.ours)
    );
    for workload in options.workloads() {
        let (Some(theirs), Some(ours)) =
            (samples.get(&(workload.name, 0)), samples.get(&(workload.name, 1)))
        else {
            continue;
        };
        for (at, (heading, field, more_is_better)) in FIELDS.iter().enumerate() {
            let (theirs, ours) = (spread(theirs, *field), spread(ours, *field));
            let ratio = if *more_is_better { ours.0 / theirs.0 } else { theirs.0 / ours.0 };
            let title = if at == 0 { workload.name } else { "" };
            out.push_str(&format!(
                "| {title} | {heading} | {} | {} | {ratio:.2}x |\n",
                cell(theirs),
                cell(ours)
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn options_are_read_and_checked() {
        let options = Options::parse(&words("--rounds 2 --only put-1,cas-txn --ours /x")).unwrap();
        assert_eq!((options.rounds, options.load), (2, PathBuf::from("/x")));
        assert!(Options::parse(&words("--rounds")).is_err());
        assert!(Options::parse(&words("--nope 1")).is_err());
        assert!(Options::parse(&words("--only nope")).is_err());
        assert!(Options::parse(&words("--rounds 0")).is_err());
        assert!(Options::parse(&words("--load-core 0")).is_err());
    }

    #[test]
    fn a_report_becomes_a_sample_unless_requests_failed() {
        let report = |failures: u32| {
            format!(
                "{{\"operations\":1000,\"failures\":{failures},\"per_second\":500.0,\
                 \"latency_us\":{{\"p50\":1500,\"p99\":9000}},\"client_cpu_us\":12.5}}"
            )
        };
        let good = sample(&report(0), 0.05, 64.0).unwrap();
        assert!((good.server_us - 50.0).abs() < 1e-9);
        assert!((good.p50_ms - 1.5).abs() < 1e-9);
        assert!(sample(&report(1), 0.05, 64.0).is_err());
        assert!(sample("{}", 0.05, 64.0).is_err());
    }

    #[test]
    fn the_table_has_medians_and_ratios_that_say_better() {
        let sample = |per_second: f64| Sample {
            per_second,
            p50_ms: 100.0 / per_second,
            p99_ms: 1.0,
            server_us: 10.0,
            load_us: 5.0,
            rss_mib: 100.0,
        };
        let mut samples = Samples::new();
        samples.insert(("put-1", 0), vec![sample(10.0), sample(30.0), sample(20.0)]);
        samples.insert(("put-1", 1), vec![sample(40.0), sample(60.0)]);
        let options = Options::parse(&words("--only put-1 --theirs etcd --ours quorate")).unwrap();
        let table = table(&samples, &options);
        assert!(
            table.contains(
                "| put-1 | throughput /s | 20.0 (10.0-30.0) | 50.0 (40.0-60.0) | 2.50x |"
            ),
            "{table}"
        );
        assert!(table.contains("|  | p50 ms | 5.00 (3.33-10.00) | 2.08"), "{table}");
        assert!(table.contains("| 1.00x |"), "{table}");
    }
}
