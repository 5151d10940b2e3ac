//! One server process.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::tools::Program;

/// How often a condition is looked at.
pub const POLL: Duration = Duration::from_millis(20);
/// How long a server may take until it serves.
pub const READY_SECONDS_MAX: u64 = 30;

/// So much of a log is shown when something went wrong.
const LOG_LINES: usize = 15;

/// Waits until `condition` gives something.
///
/// # Errors
/// When it has not after `bound`.
pub fn wait_for<T>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + bound;
    loop {
        if let Some(found) = condition() {
            return Ok(found);
        }
        ensure!(Instant::now() < end, "not within {} s: {what}", bound.as_secs_f32());
        std::thread::sleep(POLL);
    }
}

/// What a member is started with. Ports and directory stay the same over restarts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program and its own flags.
    pub program: Program,
    /// The member's name.
    pub name: String,
    /// Port for clients, on loopback.
    pub client_port: u16,
    /// Port for peers, on loopback.
    pub peer_port: u16,
    /// The data directory.
    pub data_dir: PathBuf,
    /// etcd's `--initial-cluster`.
    pub initial_cluster: String,
    /// Whether the cluster is there already (`--initial-cluster-state existing`).
    pub existing: bool,
    /// etcd's `--initial-cluster-token`.
    pub token: String,
}

impl Settings {
    /// The client endpoint without a scheme.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// The peer URL.
    #[must_use]
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    fn command(&self) -> Command {
        // The kernel ends the server with the thread that started it, should this process be killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program.path).args(self.program.verb);
        let client = format!("http://{}", self.endpoint());
        let state = if self.existing { "existing" } else { "new" };
        for (flag, value) in [
            ("--name", self.name.as_str()),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &self.peer_url()),
            ("--initial-advertise-peer-urls", &self.peer_url()),
            ("--initial-cluster", &self.initial_cluster),
            ("--initial-cluster-state", state),
            ("--initial-cluster-token", &self.token),
        ] {
            command.args([flag, value]);
        }
        command.arg("--data-dir").arg(&self.data_dir).args(&self.program.extra);
        command
    }
}

/// A started server. Dropping it kills the process.
#[derive(Debug)]
pub struct Server {
    /// What it was started with.
    pub settings: Settings,
    child: Option<Child>,
    paused: bool,
    log: PathBuf,
}

impl Server {
    /// Starts the process. It does not serve yet: see [`Server::wait_ready`].
    ///
    /// # Errors
    /// When the program or its log file cannot be started.
    pub fn start(settings: Settings) -> Result<Self> {
        let log = settings.data_dir.with_extension("log");
        let mut server = Self { settings, child: None, paused: false, log };
        server.restart()?;
        Ok(server)
    }

    /// Starts the process again, with the same settings. Its log goes on in the same file.
    ///
    /// # Errors
    /// When it cannot be started, or still runs.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} still runs", self.settings.name);
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.settings.command();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        self.child = Some(child);
        self.paused = false;
        Ok(())
    }

    /// Waits until the member says at `/health` that it can serve.
    ///
    /// # Errors
    /// When the process ends first, or not within [`READY_SECONDS_MAX`]; with the end of its log.
    pub fn wait_ready(&mut self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(READY_SECONDS_MAX);
        loop {
            if let Some(status) = self.exited()? {
                bail!("{} ended with {status}:\n{}", self.settings.name, self.log_end());
            }
            if self.healthy() {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "{} is not ready:\n{}",
                self.settings.name,
                self.log_end()
            );
            std::thread::sleep(POLL);
        }
    }

    /// Whether `/health` says `"health":"true"` now.
    #[must_use]
    pub fn healthy(&self) -> bool {
        http_get(self.settings.client_port, "/health", Duration::from_secs(2)).is_ok_and(|answer| {
            answer.starts_with("HTTP/1.1 200") && answer.contains("\"health\":\"true\"")
        })
    }

    /// Whether the process has ended by itself, and how.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// Waits until the process has ended by itself, and says how.
    ///
    /// # Errors
    /// When it still runs after `bound`.
    pub fn wait_exit(&mut self, bound: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + bound;
        loop {
            if let Some(status) = self.exited()? {
                self.child = None;
                return Ok(status);
            }
            ensure!(Instant::now() < end, "{} still runs", self.settings.name);
            std::thread::sleep(POLL);
        }
    }

    /// Whether there is a process, paused or not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// kill -9. Returns when the process is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and how the process ended.
    ///
    /// # Errors
    /// When it runs on for more than `bound`.
    pub fn terminate(&mut self, bound: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_exit(bound)
    }

    /// SIGSTOP: the process stands still and keeps its sockets.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        self.paused = true;
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)?;
        self.paused = false;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child =
            self.child.as_ref().with_context(|| format!("{} does not run", self.settings.name))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, signal)?;
        Ok(())
    }

    /// Removes what the member has on disk. It must not run.
    ///
    /// # Errors
    /// When it runs, or the files cannot be removed.
    pub fn wipe(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} still runs", self.settings.name);
        std::fs::remove_dir_all(&self.settings.data_dir)?;
        Ok(())
    }

    /// The last lines that the process has printed.
    #[must_use]
    pub fn log_end(&self) -> String {
        tail(&self.log, LOG_LINES)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone_already = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A bare HTTP/1.1 GET on loopback; the whole answer, head included.
///
/// # Errors
/// When there is no answer within `bound`.
pub fn http_get(port: u16, path: &str, bound: Duration) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, bound)?;
    stream.set_read_timeout(Some(bound))?;
    stream.set_write_timeout(Some(bound))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
