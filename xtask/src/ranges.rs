//! `ranges`: what many ranges on three members cost, and how they come back when a member dies.
//!
//! Three real processes on loopback, founded with so many ranges beside the one that holds all
//! keys. Measured, in this order:
//!
//! 1. memory of a replica, at rest and after load, with members of their own (`memory`);
//! 2. the members without ranges, idle: what is not the ranges';
//! 3. with them: how long until every range has a leader, how evenly the leaders lie, and then,
//!    with nobody asking anything, CPU time and bytes to peers;
//! 4. load on some of the ranges: puts, syncs of the log and entries per sync;
//! 5. one member killed with SIGKILL: how long until every range has a leader again, as the
//!    survivors count, how many bytes that takes at its worst, and what they cost idle while it
//!    is away.
//!
//! # Caveats
//!
//! - The metrics are asked for every few milliseconds while leaders are awaited, which is work
//!   too; during the idle windows nobody asks.
//! - The memory of a process in an idle window holds what its allocator has not given back.
//! - Loopback and one disk for three members: the figures are of the processes, not of a network.

mod memory;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::given::Given;
use crate::process::{cpu_seconds, rss_mib};

/// What `cargo xtask ranges --help` prints.
const HELP: &str = "\
Usage: cargo xtask ranges [OPTION VALUE]...

  --count N          ranges beside the one that holds all keys [default: 10000]
  --idle-seconds N   length of each idle window [default: 20]
  --rest-seconds N   how long after its start a member's memory is looked at [default: 30]
  --kill 0|1         kill a member and watch the leaders come back [default: 1]
  --load N,N...      load on so many of the ranges each; none: no load [default: 1,100,10000]
  --load-seconds N   length of each load [default: 10]
  --clients N        clients of the load [default: 256]
  --ours PATH        the binary that is measured [default: quorate of the release profile]
  --dir PATH         where the data goes [default: the system's]
  --port N           first of six ports [default: 24890]
  --out FILE         write the table there as well
";

/// Longest wait for all leaders.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(300);
/// Between two looks at the metrics.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// What follows from an election is over after this.
const SETTLE: Duration = Duration::from_secs(5);

struct Options {
    count: u64,
    idle: Duration,
    rest: Duration,
    kill: bool,
    loads: Vec<u64>,
    load_seconds: u64,
    clients: u64,
    ours: PathBuf,
    dir: PathBuf,
    port: u16,
    out: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut given = Given::parse(args, HELP)?;
        let loads = match given.take("--load").unwrap_or("1,100,10000") {
            "none" => Vec::new(),
            list => list.split(',').map(str::parse).collect::<Result<_, _>>().context("--load")?,
        };
        let options = Self {
            count: given.number("--count", 10_000)?,
            idle: Duration::from_secs(given.number("--idle-seconds", 20)?),
            rest: Duration::from_secs(given.number("--rest-seconds", 30)?),
            kill: given.number("--kill", 1_u64)? != 0,
            loads,
            load_seconds: given.number("--load-seconds", 10)?,
            clients: given.number("--clients", 256)?,
            ours: given.path("--ours", || crate::run::target_dir().join("release/quorate")),
            dir: given.path("--dir", std::env::temp_dir),
            port: given.number("--port", 24_890)?,
            out: given.take("--out").map(PathBuf::from),
        };
        given.finish()?;
        ensure!(options.count >= 10, "--count must be 10 or more");
        let most = options.loads.iter().max().copied().unwrap_or(0);
        ensure!(most <= options.count, "--load {most}: there are only {} ranges", options.count);
        Ok(options)
    }
}

/// Runs the task.
///
/// # Errors
/// If a member does not come up, leaders do not come in time, a measurement fails, or a replica at rest
/// takes too much memory.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    let options = Options::parse(args)?;
    let mut table = Table(String::new());
    table.title(&format!(
        "Three members, {} ranges beside the one that holds all keys",
        options.count
    ));
    let at_rest = memory::measure(&options, &mut table)?;
    let mut bare = Cluster::start(&options, 0, &[])?;
    bare.leaders(1)?;
    let without = bare.idle(&options)?;
    drop(bare);
    table.idle("idle, no ranges", &without);
    let mut cluster = Cluster::start(&options, options.count, &[])?;
    let (took, _) = cluster.leaders(options.count + 1)?;
    table.row(
        "from the start of the processes to a leader for every range, s",
        &[took.as_secs_f64()],
        2,
    );
    let led = cluster.led()?;
    table.row(
        "ranges led, by member",
        &led.values().map(|&led| figure(led)).collect::<Vec<_>>(),
        0,
    );
    let with = cluster.idle(&options)?;
    table.idle("idle, with ranges", &with);
    for &ranges in &options.loads {
        cluster.load(ranges, &options, &mut table)?;
    }
    if options.kill {
        cluster.kill(&options, &mut table)?;
    }
    drop(cluster);
    print!("{}", table.0);
    if let Some(out) = &options.out {
        std::fs::write(out, &table.0).with_context(|| out.display().to_string())?;
    }
    at_rest.judge(&options)
}

/// What a member did in an idle window.
struct Idle {
    cores: f64,
    bytes_per_second: f64,
    frames_per_second: f64,
    rss_mib: f64,
}

/// The metrics of a member, by name; labels are part of it.
type Metrics = BTreeMap<String, f64>;

/// A member's process, killed when dropped.
struct Member {
    child: Child,
    log: PathBuf,
    client: u16,
}

impl Member {
    fn metrics(&self) -> Result<Metrics> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.client))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(text.lines().filter_map(sample).collect())
    }

    fn look(&mut self) -> Result<Option<Metrics>> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            bail!("a member ended with {status}:\n{log}");
        }
        // Until it serves there is nobody to ask.
        Ok(self.metrics().ok())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _may_be_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn of(metrics: &Metrics, name: &str) -> Result<f64> {
    metrics.get(name).copied().with_context(|| format!("no metric {name}"))
}

struct Cluster {
    began: Instant,
    members: BTreeMap<usize, Member>,
    dir: PathBuf,
}

impl Cluster {
    fn start(options: &Options, ranges: u64, env: &[(&str, &str)]) -> Result<Self> {
        let dir = options.dir.join(format!("quorate-ranges-{}", std::process::id()));
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let began = Instant::now();
        let mut cluster = Self { began, members: BTreeMap::new(), dir };
        for number in 0..3 {
            let member = start(options, &cluster.dir, number, ranges, env)?;
            cluster.members.insert(number.into(), member);
        }
        Ok(cluster)
    }

    /// Ranges led, by member; those that cannot be asked yet lead none.
    fn led(&mut self) -> Result<BTreeMap<usize, u64>> {
        let mut led = BTreeMap::new();
        for (&number, member) in &mut self.members {
            let metrics = member.look()?;
            let ranges = metrics.map_or(Ok(0.0), |metrics| of(&metrics, "quorate_ranges_led"))?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small count"
            )]
            led.insert(number, ranges as u64);
        }
        Ok(led)
    }

    /// Waits until so many ranges have a leader, as the members count. Says how long it took since the start
    /// or the last kill, and how many had one when.
    fn leaders(&mut self, wanted: u64) -> Result<(Duration, Vec<(Duration, u64)>)> {
        let mut curve = Vec::new();
        loop {
            let led: u64 = self.led()?.values().sum();
            let now = self.began.elapsed();
            curve.push((now, led));
            // A member that was cut off may take itself for a leader still: more is no better.
            if led >= wanted {
                return Ok((now, curve));
            }
            ensure!(now < LEADERS_TIMEOUT, "{led} of {wanted} ranges have a leader after {now:?}");
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// What each member does while nobody asks anything.
    fn idle(&mut self, options: &Options) -> Result<Vec<Idle>> {
        std::thread::sleep(SETTLE);
        let look = |member: &Member| -> Result<(f64, Metrics)> {
            Ok((cpu_seconds(member.child.id())?, member.metrics()?))
        };
        let before: Vec<_> = self.members.values().map(look).collect::<Result<_>>()?;
        let began = Instant::now();
        std::thread::sleep(options.idle);
        let seconds = began.elapsed().as_secs_f64();
        let mut idle = Vec::new();
        for (member, (cpu, metrics)) in self.members.values().zip(before) {
            // The CPU time first: asking for the metrics is work that idle members do not have.
            let (cpu_after, after) = look(member)?;
            let rate = |name: &str| {
                Ok::<_, anyhow::Error>((of(&after, name)? - of(&metrics, name)?) / seconds)
            };
            idle.push(Idle {
                cores: (cpu_after - cpu) / seconds,
                bytes_per_second: rate("quorate_peer_sent_bytes_total")?,
                frames_per_second: rate("quorate_peer_sent_frames_total")?,
                rss_mib: rss_mib(member.child.id())?,
            });
        }
        Ok(idle)
    }

    /// Kills the member that leads most, and watches the others take over.
    fn kill(&mut self, options: &Options, table: &mut Table) -> Result<()> {
        let led = self.led()?;
        let (&victim, &lost) = led.iter().max_by_key(|(_, led)| **led).context("no member")?;
        let before = self.sent()?;
        self.began = Instant::now();
        drop(self.members.remove(&victim));
        let (took, curve) = self.leaders(options.count + 1)?;
        let after = self.sent()?;
        let base = options.count + 1 - lost;
        let when = |share: f64| {
            let reached = |&&(_, led): &&(Duration, u64)| {
                figure(led.saturating_sub(base)) >= share * figure(lost)
            };
            curve.iter().find(reached).map_or(f64::NAN, |(when, _)| when.as_secs_f64())
        };
        table.row("leaders lost with the member that was killed", &[figure(lost)], 0);
        table.row(
            "until half, 99 %, all of them were back, s",
            &[when(0.5), when(0.99), took.as_secs_f64()],
            2,
        );
        let spent = |name: usize| -> f64 {
            after.iter().map(|(member, after)| after[name] - before[member][name]).sum()
        };
        table.row(
            "frames and bytes for that, for each leader",
            &[spent(0) / figure(lost), spent(1) / figure(lost)],
            2,
        );
        let idle = self.idle(options)?;
        table.idle("idle, one member away", &idle);
        Ok(())
    }

    /// Frames and bytes sent to peers by the members that are there.
    fn sent(&self) -> Result<BTreeMap<usize, [f64; 2]>> {
        let names = ["quorate_peer_sent_frames_total", "quorate_peer_sent_bytes_total"];
        let mut sent = BTreeMap::new();
        for (&number, member) in &self.members {
            let metrics = member.metrics()?;
            sent.insert(number, [of(&metrics, names[0])?, of(&metrics, names[1])?]);
        }
        Ok(sent)
    }

    /// Puts on so many of the ranges, and gives the report.
    fn bench(&self, ranges: u64, options: &Options, seconds: u64) -> Result<serde_json::Value> {
        let url = |member: &Member| format!("http://127.0.0.1:{}", member.client);
        let endpoints: Vec<String> = self.members.values().map(url).collect();
        let keys = ranges.max(10_000).next_multiple_of(ranges).to_string();
        let output = Command::new(&options.ours)
            .args(["bench", "-w", "json", "--endpoints", &endpoints.join(","), "put", "--quiet"])
            .args(["--ranges", &ranges.to_string(), "--key-space", &keys])
            .args(["--clients", &options.clients.to_string(), "--connections", "6"])
            .args(["--duration", &format!("{seconds}s"), "--warm-up", "0"])
            .stderr(Stdio::inherit())
            .output()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "bench: {stdout}");
        Ok(serde_json::from_str(&stdout)?)
    }

    /// Syncs and entries of each member's log, and the CPU time of all of them.
    fn worked(&self) -> Result<(Vec<[f64; 2]>, f64)> {
        let names = ["etcd_disk_wal_fsync_duration_seconds_count", "quorate_log_entries_total"];
        let (mut logs, mut cpu) = (Vec::new(), 0.0);
        for member in self.members.values() {
            let metrics = member.metrics()?;
            logs.push([of(&metrics, names[0])?, of(&metrics, names[1])?]);
            cpu += cpu_seconds(member.child.id())?;
        }
        Ok((logs, cpu))
    }

    /// Puts on so many of the ranges.
    fn load(&self, ranges: u64, options: &Options, table: &mut Table) -> Result<()> {
        // So that every range is awake.
        self.bench(ranges, options, 2)?;
        let ((before, cpu_before), began) = (self.worked()?, Instant::now());
        let report = self.bench(ranges, options, options.load_seconds)?;
        let ((after, cpu_after), took) = (self.worked()?, began.elapsed().as_secs_f64());
        let number = |pointer: &str| {
            let found = report.pointer(pointer).and_then(serde_json::Value::as_f64);
            found.with_context(|| format!("no {pointer}"))
        };
        ensure!(number("/failures")? < 1.0, "puts failed: {report}");
        let puts = number("/per_second")?;
        table.row(&format!("{ranges} ranges active: puts/s"), &[puts], 0);
        let ms = |quantile: &str| Ok::<_, anyhow::Error>(number(quantile)? / 1e3);
        table.row("  p50, p99, ms", &[ms("/latency_us/p50")?, ms("/latency_us/p99")?], 2);
        let of_members = |what: &dyn Fn(&[f64; 2], &[f64; 2]) -> f64| -> Vec<f64> {
            after.iter().zip(&before).map(|(after, before)| what(after, before)).collect()
        };
        table.row("  syncs/s, by member", &of_members(&|a, b| (a[0] - b[0]) / took), 0);
        let each = of_members(&|a, b| (a[1] - b[1]) / (a[0] - b[0]));
        table.row("  entries for each sync, by member", &each, 1);
        let cpu_us = (cpu_after - cpu_before) * 1e6 / (puts * took);
        table.row("  CPU of three members, us a put", &[cpu_us], 0);
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.members.clear();
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {error}", self.dir.display());
        }
    }
}

fn start(
    options: &Options,
    dir: &Path,
    number: u16,
    ranges: u64,
    env: &[(&str, &str)],
) -> Result<Member> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let (client, peer) = (options.port + number, |number: u16| options.port + 3 + number);
    let cluster: Vec<String> =
        (0..3).map(|number| format!("m{number}={}", url(peer(number)))).collect();
    let log_path = dir.join(format!("m{number}.log"));
    let log = std::fs::File::create(&log_path)?;
    let child = Command::new(&options.ours)
        .envs(env.iter().copied())
        .arg("start")
        .arg("--data-dir")
        .arg(dir.join(format!("m{number}")))
        .args(["--name", &format!("m{number}"), "--log-level", "warn"])
        .args(["--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)])
        .args([
            "--listen-peer-urls",
            &url(peer(number)),
            "--initial-advertise-peer-urls",
            &url(peer(number)),
        ])
        .args([
            "--initial-cluster",
            &cluster.join(","),
            "--experimental-ranges",
            &ranges.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("{}", options.ours.display()))?;
    Ok(Member { child, log: log_path, client })
}

#[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
fn figure(count: u64) -> f64 {
    count as f64
}

/// What is printed in the end; each row is shown at once as well.
struct Table(String);

impl Table {
    fn title(&mut self, title: &str) {
        eprintln!("{title}");
        let _never_fails = write!(self.0, "{title}.\n\n| | |\n|---|---|\n");
    }

    fn row(&mut self, what: &str, figures: &[f64], digits: usize) {
        let figures: Vec<String> =
            figures.iter().map(|figure| format!("{figure:.digits$}")).collect();
        let row = format!("| {what} | {} |", figures.join(", "));
        eprintln!("{row}");
        self.0.push_str(&row);
        self.0.push('\n');
    }

    fn idle(&mut self, what: &str, idle: &[Idle]) {
        let mut row = |unit: &str, figure: fn(&Idle) -> f64, digits| {
            self.row(
                &format!("{what}: {unit}"),
                &idle.iter().map(figure).collect::<Vec<_>>(),
                digits,
            );
        };
        row("cores, by member", |idle| idle.cores, 4);
        row("bytes/s to peers", |idle| idle.bytes_per_second, 0);
        row("frames/s to peers", |idle| idle.frames_per_second, 1);
        row("memory of the process, MiB", |idle| idle.rss_mib, 0);
    }
}
