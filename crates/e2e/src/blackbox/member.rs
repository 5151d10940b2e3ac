//! One member: its process, its disk, its place in the network, its clock.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::host::Helpers;
use super::net::{self, CLIENT_PORT, PEER_PORT, Slot};
use super::volume::Volume;
use crate::server::wait_for;
use crate::tools::Program;

const SHIM_BYTES: usize = 4_096;
const OFFSET_AT: u64 = 0;
const SYNCS_AT: u64 = 8;
const CLOCK_MOVED_AT: u64 = 16;
const SYNCS_REFUSED_AT: u64 = 24;
const LOG_LINES: usize = 20;

/// What a member's syncs do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    /// They sync.
    Honest,
    /// They fail with EIO.
    Fail,
    /// They say that they have synced the log, and have not.
    Lie,
}

/// See the module. The process ends with the run.
#[derive(Debug)]
pub struct Member {
    /// Its place.
    pub slot: Slot,
    /// Its disk.
    pub volume: Volume,
    /// Which life of it runs, or ran last; shared with the clients.
    pub life: Arc<AtomicU32>,
    program: Program,
    shim: PathBuf,
    page: File,
    page_path: PathBuf,
    log: PathBuf,
    initial_cluster: String,
    existing: bool,
    child: Option<Child>,
}

impl Member {
    /// A member of a new cluster of so many; not started.
    ///
    /// # Errors
    /// When its disk cannot be made.
    pub fn new(
        program: &Program,
        directory: &Path,
        helpers: &Helpers,
        slot: Slot,
        members: usize,
    ) -> Result<Self> {
        let name = format!("m{slot}");
        let page_path = directory.join(format!("{name}.page"));
        std::fs::write(&page_path, [0; SHIM_BYTES])?;
        let page = File::options().read(true).write(true).open(&page_path)?;
        let all: Vec<Slot> = (1..=members).collect();
        Ok(Self {
            slot,
            volume: Volume::make(directory, &name, helpers)?,
            life: Arc::default(),
            program: program.clone(),
            shim: helpers.shim.clone(),
            page,
            page_path,
            log: directory.join(format!("{name}.log")),
            initial_cluster: initial_cluster(&all),
            existing: false,
            child: None,
        })
    }

    /// From its next start on it joins a cluster that is there.
    pub fn joins(&mut self, slots: &[Slot]) {
        self.initial_cluster = initial_cluster(slots);
        self.existing = true;
    }

    /// Starts the process: a new life.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "m{} still runs", self.slot);
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.life.fetch_add(1, Ordering::SeqCst);
        self.child = Some(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        Ok(())
    }

    fn command(&self) -> Command {
        let slot = self.slot;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", net::namespace(slot))).arg("--");
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]);
        command.arg(&self.program.path).args(self.program.verb);
        let client = format!("http://{}", net::endpoint(slot));
        let state = if self.existing { "existing" } else { "new" };
        for (flag, value) in [
            ("--name", format!("m{slot}")),
            ("--listen-client-urls", format!("http://0.0.0.0:{CLIENT_PORT}")),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", format!("http://0.0.0.0:{PEER_PORT}")),
            ("--initial-advertise-peer-urls", net::peer_url(slot)),
            ("--initial-cluster", self.initial_cluster.clone()),
            ("--initial-cluster-state", state.to_owned()),
            ("--initial-cluster-token", "blackbox".to_owned()),
        ] {
            command.arg(flag).arg(value);
        }
        command.arg("--data-dir").arg(self.volume.data_dir()).args(&self.program.extra);
        command.env("LD_PRELOAD", &self.shim).env("QUORATE_SHIM", &self.page_path);
        // A stopped process is continued by the system when the shell that started its group ends.
        command.process_group(0);
        command
    }

    /// Whether there is a process, paused or not. One that has ended by itself is none.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.exited()?.is_none() && self.child.is_some())
    }

    /// How the process has ended, if it has by itself. Told once.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it runs on.
    pub async fn wait_exit(&mut self, bound: Duration) -> Result<ExitStatus> {
        let end = tokio::time::Instant::now() + bound;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            ensure!(self.child.is_some(), "m{} does not run", self.slot);
            ensure!(tokio::time::Instant::now() < end, "m{} runs on", self.slot);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// kill -9; how the process ended, if there was one.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<Option<ExitStatus>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        child.kill()?;
        Ok(Some(child.wait()?))
    }

    /// SIGSTOP. Returns when the system says that the process stands still.
    ///
    /// # Errors
    /// When it does not.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        wait_for("SIGSTOP", Duration::from_secs(2), || (self.state() == Some('T')).then_some(()))
    }

    /// What the process does, as the system says it: `T` when it is stopped.
    #[must_use]
    pub fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.as_ref()?.id()));
        // pid (name) state ...
        stat.ok()?.rsplit(") ").next()?.chars().next()
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().with_context(|| format!("m{} does not run", self.slot))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Moves the wall clock of the process, this life and the next ones.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn move_clock(&self, offset_ns: i64) -> Result<()> {
        Ok(self.page.write_all_at(&offset_ns.to_le_bytes(), OFFSET_AT)?)
    }

    /// What syncs do from now on.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn sync_as(&self, mode: Syncs) -> Result<()> {
        let mode: u64 = match mode {
            Syncs::Honest => 0,
            Syncs::Fail => 1,
            Syncs::Lie => 2,
        };
        Ok(self.page.write_all_at(&mode.to_le_bytes(), SYNCS_AT)?)
    }

    /// How often the moved clock was read so far.
    ///
    /// # Errors
    /// When the page cannot be read.
    pub fn clock_moved(&self) -> Result<u64> {
        self.counter(CLOCK_MOVED_AT)
    }

    /// How many syncs were refused so far.
    ///
    /// # Errors
    /// When the page cannot be read.
    pub fn syncs_refused(&self) -> Result<u64> {
        self.counter(SYNCS_REFUSED_AT)
    }

    fn counter(&self, at: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.page.read_exact_at(&mut bytes, at)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Copies all that the process has printed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_log(&self, to: &Path) -> Result<()> {
        Ok(std::fs::copy(&self.log, to).map(drop)?)
    }

    /// The last lines that the process has printed.
    #[must_use]
    pub fn log_end(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

fn initial_cluster(slots: &[Slot]) -> String {
    let one = |slot: &Slot| format!("m{slot}={}", net::peer_url(*slot));
    slots.iter().map(one).collect::<Vec<_>>().join(",")
}
