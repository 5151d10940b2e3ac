//! `large`: one member with much data, ours and a real etcd beside it.
//!
//! What an operator feels of ten gigabytes: how long a member that was killed takes to its first
//! answer, what memory it needs, and how long a list of many keys in pages takes, right after
//! the start and again. Both systems get the same keys; both run on all cores, one at a time.
//!
//! # Caveats
//!
//! - Without `--cold 1` the page cache stays between the end of the filling and the restart: it
//!   is a restart of the process, not of the machine.
//! - The time to the first answer is seen from outside by asking every few milliseconds.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::given::Given;
use crate::process::rss_mib;

/// What `cargo xtask large --help` prints.
const HELP: &str = "\
Usage: cargo xtask large [OPTION VALUE]...

  --gib N            data: keys and values together [default: 10]
  --value-size N     bytes of a value [default: 1024]
  --list-keys N      keys of a list [default: 100000]
  --page N           keys of a page [default: 500]
  --ours PATH        the binary that is measured [default: quorate of the release profile]
  --theirs PATH      the binary it is compared with [default: etcd of PATH]; none: ours alone
  --dir PATH         where the data goes [default: the system's]
  --port N           first of two ports [default: 23890]
  --cold 0|1         drop the system's page cache before the restart, as a restart of the
                     machine would; needs root [default: 0]
  --keep 0|1         leave the data where it is, and use what an earlier run left [default: 0]
  --out FILE         write the table there as well
";

/// Bytes of a key.
const KEY_BYTES: u64 = 32;
/// Longest wait for a member to serve.
const READY_TIMEOUT: Duration = Duration::from_secs(600);
/// Between two looks whether it does.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// The quota that a real etcd is given: it refuses to hold so much by default.
const QUOTA_BYTES: u64 = 64 << 30;

struct Options {
    gib: u64,
    value_bytes: u64,
    list_keys: u64,
    page: u64,
    ours: PathBuf,
    theirs: PathBuf,
    dir: PathBuf,
    port: u16,
    cold: bool,
    keep: bool,
    out: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut given = Given::parse(args, HELP)?;
        let ours = || crate::run::target_dir().join("release/quorate");
        let options = Self {
            gib: given.number("--gib", 10)?,
            value_bytes: given.number("--value-size", 1024)?,
            list_keys: given.number("--list-keys", 100_000)?,
            page: given.number("--page", 500)?,
            ours: given.path("--ours", ours),
            theirs: given.path("--theirs", || "etcd".into()),
            dir: given.path("--dir", std::env::temp_dir),
            port: given.number("--port", 23_890)?,
            cold: given.number("--cold", 0_u64)? != 0,
            keep: given.number("--keep", 0_u64)? != 0,
            out: given.take("--out").map(PathBuf::from),
        };
        given.finish()?;
        ensure!(options.gib > 0 && options.page > 0, "--gib and --page must not be 0");
        ensure!(options.list_keys <= options.keys(), "there are only {} keys", options.keys());
        Ok(options)
    }

    fn keys(&self) -> u64 {
        (self.gib << 30) / (self.value_bytes + KEY_BYTES)
    }
}

/// What was measured of one system.
struct Figures {
    fill_per_second: f64,
    filled_mib: f64,
    disk_mib: f64,
    first_answer: Duration,
    started_mib: f64,
    lists: [f64; 2],
    listed_mib: f64,
}

/// Runs the task.
///
/// # Errors
/// If a tool is missing, a member does not come up, or a measurement fails.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    let options = Options::parse(args)?;
    let mut systems = vec![("quorate", options.ours.clone())];
    if options.theirs != Path::new("none") {
        systems.insert(0, ("etcd", options.theirs.clone()));
    }
    let mut measured = Vec::new();
    for (name, binary) in systems {
        eprintln!("{name}: {}", binary.display());
        measured.push((name, measure(name, &binary, &options)?));
    }
    let table = table(&measured, &options);
    print!("{table}");
    if let Some(out) = &options.out {
        std::fs::write(out, &table).with_context(|| out.display().to_string())?;
    }
    Ok(())
}

fn measure(name: &str, binary: &Path, options: &Options) -> Result<Figures> {
    let dir = options.dir.join(format!("quorate-large-{name}"));
    let is_filled = options.keep && dir.join("filled").exists();
    let (mut fill_per_second, mut filled_mib) = (f64::NAN, f64::NAN);
    if !is_filled {
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let mut member = Member::start(binary, &dir, options)?;
        member.first_answer(options)?;
        let total = options.keys().to_string();
        let fill = ["put", "--clients", "256", "--connections", "8", "--warm-up", "0"];
        let shape = ["--dist", "sequential", "--total", &total];
        fill_per_second =
            number(&member.load(options, &[&fill[..], &shape].concat())?, "/per_second")?;
        filled_mib = rss_mib(member.child.id())?;
        drop(member);
        std::fs::write(dir.join("filled"), "")?;
    }
    if options.cold {
        drop_page_cache()?;
    }
    let mut member = Member::start(binary, &dir, options)?;
    let first_answer = member.first_answer(options)?;
    let started_mib = rss_mib(member.child.id())?;
    eprintln!("  first answer after {first_answer:.2?}, {started_mib:.0} MiB");
    let (keys, page) = (options.list_keys.to_string(), options.page.to_string());
    let list =
        ["list", "--list-keys", &keys, "--page", &page, "--clients", "1", "--connections", "1"];
    let rest = ["--total", "1", "--warm-up", "0", "--no-fill", "--seed"];
    let mut lists = [0.0; 2];
    for (seconds, seed) in lists.iter_mut().zip(["1", "1"]) {
        let report = member.load(options, &[&list[..], &rest, &[seed]].concat())?;
        ensure!(number(&report, "/keys")? >= 1.0, "an empty list: {report}");
        *seconds = number(&report, "/latency_us/max")? / 1e6;
    }
    let figures = Figures {
        fill_per_second,
        filled_mib,
        disk_mib: disk_mib(&dir)?,
        first_answer,
        started_mib,
        lists,
        listed_mib: rss_mib(member.child.id())?,
    };
    drop(member);
    if !options.keep {
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(figures)
}

/// Has the system forget what it has read of any file.
fn drop_page_cache() -> Result<()> {
    ensure!(Command::new("sync").status()?.success(), "sync");
    let path = "/proc/sys/vm/drop_caches";
    std::fs::write(path, "3").with_context(|| format!("{path}: --cold needs root"))
}

/// A member of a cluster of one, killed when dropped.
struct Member {
    child: Child,
    began: Instant,
    log: PathBuf,
    endpoint: String,
}

impl Member {
    fn start(binary: &Path, dir: &Path, options: &Options) -> Result<Self> {
        let (client, peer) = (
            format!("http://127.0.0.1:{}", options.port),
            format!("http://127.0.0.1:{}", options.port + 1),
        );
        let log_path = dir.join("log.txt");
        let log = std::fs::File::create(&log_path)?;
        let mut command = Command::new(binary);
        if binary.file_name().is_some_and(|name| name == "quorate") {
            command.arg("start");
        }
        let data_dir = dir.join("data");
        command
            .arg("--data-dir")
            .arg(&data_dir)
            .args(["--name", "m0", "--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client, "--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("m0={peer}"), "--log-level", "error"])
            .args(["--quota-backend-bytes", &QUOTA_BYTES.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("{}", binary.display()))?;
        Ok(Self { child, began, log: log_path, endpoint: client })
    }

    /// Waits for the first linearizable read that succeeds; since the start of the process.
    fn first_answer(&mut self, options: &Options) -> Result<Duration> {
        loop {
            let get = Command::new(&options.ours)
                .args(["get", "none", "--endpoints", &self.endpoint])
                .args(["--dial-timeout", "1s", "--command-timeout", "1s"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .with_context(|| format!("{}", options.ours.display()))?;
            if get.success() {
                return Ok(self.began.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("the member ended with {status}:\n{log}");
            }
            ensure!(self.began.elapsed() < READY_TIMEOUT, "no answer within {READY_TIMEOUT:?}");
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Runs one load to its end and gives its report.
    fn load(&self, options: &Options, args: &[&str]) -> Result<String> {
        let (keys, value) = (options.keys().to_string(), options.value_bytes.to_string());
        let key = KEY_BYTES.to_string();
        let shape = ["--key-space", &keys, "--value-size", &value, "--key-size", &key];
        let output = Command::new(&options.ours)
            .args(["bench", "-w", "json", "--endpoints", &self.endpoint])
            .args(args)
            .args(shape)
            .args(["--prefix", "large/", "--command-timeout", "60s"])
            .stderr(Stdio::inherit())
            .output()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "bench {args:?}: {stdout}");
        ensure!(number(&stdout, "/failures")? < 1.0, "bench {args:?}: {stdout}");
        Ok(stdout)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _may_be_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn number(report: &str, pointer: &str) -> Result<f64> {
    let report: serde_json::Value = serde_json::from_str(report)?;
    let found = report.pointer(pointer).and_then(serde_json::Value::as_f64);
    found.with_context(|| format!("no {pointer} in the report"))
}

/// Bytes that the files in and below `dir` take on disk.
fn disk_mib(dir: &Path) -> Result<f64> {
    let mut bytes = 0;
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                dirs.push(entry.path());
            } else {
                bytes += std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
    Ok(bytes as f64 / f64::from(1 << 20))
}

/// A row of the table: heading, what, and digits behind the point.
type Row<'a> = (&'a str, &'a dyn Fn(&Figures) -> f64, usize);

fn table(measured: &[(&str, Figures)], options: &Options) -> String {
    let mut out = format!(
        "One member, {} GiB: {} keys of {KEY_BYTES} B with values of {} B; killed with SIGKILL and \
         started again{}.\n\n|",
        options.gib,
        options.keys(),
        options.value_bytes,
        if options.cold { ", with a cold page cache" } else { "" }
    );
    for (name, _) in measured {
        out.push_str(&format!(" | {name}"));
    }
    out.push_str(" |\n|---|");
    out.push_str(&"---|".repeat(measured.len()));
    out.push('\n');
    let list = format!("list of {} keys in pages of {}, s", options.list_keys, options.page);
    let rows: [Row<'_>; 8] = [
        ("filling, puts/s", &|f| f.fill_per_second, 0),
        ("memory after filling, MiB", &|f| f.filled_mib, 0),
        ("on disk, MiB", &|f| f.disk_mib, 0),
        ("restart to the first answer, s", &|f| f.first_answer.as_secs_f64(), 2),
        ("memory then, MiB", &|f| f.started_mib, 0),
        (&list, &|f| f.lists[0], 2),
        ("the same again, s", &|f| f.lists[1], 2),
        ("memory after the lists, MiB", &|f| f.listed_mib, 0),
    ];
    for (what, figure, digits) in rows {
        out.push_str(&format!("| {what}"));
        for (_, figures) in measured {
            match figure(figures) {
                // Of a filling in an earlier run nothing is known.
                number if number.is_nan() => out.push_str(" | -"),
                number => out.push_str(&format!(" | {number:.digits$}")),
            }
        }
        out.push_str(" |\n");
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
        let options = Options::parse(&words("--gib 1 --value-size 992 --keep 1")).unwrap();
        assert_eq!((options.keys(), options.keep), (1 << 20, true));
        assert!(Options::parse(&words("--gib")).is_err());
        assert!(Options::parse(&words("--nope 1")).is_err());
        assert!(Options::parse(&words("--gib 0")).is_err());
        assert!(Options::parse(&words("--gib 1 --list-keys 2000000")).is_err());
    }

    #[test]
    fn the_table_has_a_column_for_each_system() {
        let figures = || Figures {
            fill_per_second: 10.0,
            filled_mib: 20.0,
            disk_mib: 30.0,
            first_answer: Duration::from_millis(1500),
            started_mib: 40.0,
            lists: [0.5, 0.25],
            listed_mib: 50.0,
        };
        let options = Options::parse(&[]).unwrap();
        let kept = Figures { fill_per_second: f64::NAN, ..figures() };
        let table = table(&[("etcd", figures()), ("quorate", kept)], &options);
        assert!(table.contains("| filling, puts/s | 10 | - |"), "{table}");
        assert!(table.contains("| | etcd | quorate |"), "{table}");
        assert!(table.contains("| restart to the first answer, s | 1.50 | 1.50 |"), "{table}");
        assert!(table.contains("| the same again, s | 0.25 | 0.25 |"), "{table}");
    }

    #[test]
    fn the_size_of_a_directory_is_that_of_its_files() {
        let dir = std::env::temp_dir().join(format!("quorate-large-test-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("below")).unwrap();
        std::fs::write(dir.join("below/file"), vec![1; 1 << 20]).unwrap();
        let mib = disk_mib(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!((1.0..1.1).contains(&mib), "{mib}");
    }
}
