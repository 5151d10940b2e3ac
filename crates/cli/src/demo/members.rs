//! The member processes: started, killed, paused, restarted, and never left behind.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::Endpoint;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::exit::{Exit, Result};
use crate::start::PARENT_VARIABLE;

/// How long a member has to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// What a process is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Process {
    Running,
    /// Stopped by SIGSTOP: it holds its connections and answers nothing.
    Paused,
    /// Killed by us.
    Killed,
    /// Ended by itself, with what it said last.
    Ended(String),
}

/// All members; dropping them kills what still runs.
pub(crate) struct Members {
    members: Vec<Member>,
    program: PathBuf,
    initial_cluster: String,
    dir: TempDir,
}

struct Member {
    name: String,
    client_port: u16,
    peer_port: u16,
    child: Child,
    process: Process,
}

impl Members {
    /// Starts `count` members on free ports of loopback.
    ///
    /// # Errors
    /// If there is no port, no temporary directory, or the program cannot be run.
    pub(crate) fn start(program: &Path, count: u8) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("quorate-demo-").tempdir().map_err(Exit::io)?;
        let ports = free_ports(2 * usize::from(count))?;
        let named: Vec<_> = (1..=count)
            .zip(ports.chunks(2))
            .map(|(number, ports)| (format!("n{number}"), ports[0], ports[1]))
            .collect();
        let urls: Vec<_> =
            named.iter().map(|(name, _, peer)| format!("{name}={}", url(*peer))).collect();
        let mut this = Self {
            members: Vec::new(),
            program: program.to_owned(),
            initial_cluster: urls.join(","),
            dir,
        };
        for (name, client_port, peer_port) in named {
            let child = this.spawn(&name, client_port, peer_port)?;
            let process = Process::Running;
            this.members.push(Member { name, client_port, peer_port, child, process });
        }
        Ok(this)
    }

    fn spawn(&self, name: &str, client_port: u16, peer_port: u16) -> Result<Child> {
        let failed = |e: std::io::Error| Exit::failed(format!("{}: {e}", self.program.display()));
        let log = File::options().create(true).append(true).open(self.log(name)).map_err(failed)?;
        let mut command = Command::new(&self.program);
        if self.program.file_name().is_none_or(|file| file != "etcd") {
            command.arg("start");
        }
        command
            .args(["--name", name])
            .arg("--data-dir")
            .arg(self.dir.path().join(name))
            .args(["--listen-client-urls", &url(client_port)])
            .args(["--advertise-client-urls", &url(client_port)])
            .args(["--listen-peer-urls", &url(peer_port)])
            .args(["--initial-advertise-peer-urls", &url(peer_port)])
            .args(["--initial-cluster", &self.initial_cluster])
            .args(["--initial-cluster-state", "new"])
            .env(PARENT_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// How many members there are, whatever they do.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The members' client addresses, in their order.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("127.0.0.1:{}", member.client_port)).collect()
    }

    /// Names and what the processes do, in their order.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&str, &Process)> {
        self.members.iter().map(|member| (member.name.as_str(), &member.process))
    }

    /// Notices processes that are gone.
    pub(crate) fn reap(&mut self) {
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if !matches!(member.process, Process::Running | Process::Paused) {
                continue;
            }
            if let Ok(Some(status)) = member.child.try_wait() {
                let how = match (status.code(), status.signal()) {
                    (Some(code), _) => format!("exit code {code}"),
                    (None, Some(signal)) => format!("signal {signal}"),
                    (None, None) => "unknown".into(),
                };
                let log = self.log(&self.members[index].name);
                let said = last_line(&log).map_or(how.clone(), |line| format!("{how}: {line}"));
                self.members[index].process = Process::Ended(said);
            }
        }
    }

    /// SIGKILL: no goodbye, nothing flushed.
    pub(crate) fn kill(&mut self, index: usize) {
        let member = &mut self.members[index];
        if matches!(member.process, Process::Running | Process::Paused) {
            let _may_be_gone = member.child.kill();
            let _reaped = member.child.wait();
            member.process = Process::Killed;
        }
    }

    /// SIGSTOP, or SIGCONT if it is paused.
    pub(crate) fn pause_or_continue(&mut self, index: usize) {
        let member = &mut self.members[index];
        let (signal, then) = match member.process {
            Process::Running => (Signal::STOP, Process::Paused),
            Process::Paused => (Signal::CONT, Process::Running),
            Process::Killed | Process::Ended(_) => return,
        };
        if send(&member.child, signal) {
            member.process = then;
        }
    }

    /// Starts a member that is gone again, with its data; kills it first if it runs.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub(crate) fn restart(&mut self, index: usize) -> Result<()> {
        self.kill(index);
        let Member { name, client_port, peer_port, .. } = &self.members[index];
        let child = self.spawn(name, *client_port, *peer_port)?;
        let member = &mut self.members[index];
        (member.child, member.process) = (child, Process::Running);
        Ok(())
    }

    /// Ends every member in good order, or else by force.
    pub(crate) async fn end(mut self) {
        for member in &self.members {
            if matches!(member.process, Process::Running | Process::Paused) {
                send(&member.child, Signal::CONT);
                send(&member.child, Signal::TERM);
            }
        }
        let deadline = tokio::time::Instant::now() + GRACE;
        while tokio::time::Instant::now() < deadline {
            self.reap();
            let alive = |m: &Member| matches!(m.process, Process::Running | Process::Paused);
            if !self.members.iter().any(alive) {
                return;
            }
            tokio::time::sleep(super::TICK).await;
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|index| self.kill(index));
    }
}

fn send(child: &Child, signal: Signal) -> bool {
    // Until it is waited for, the id is the child's own.
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Ports that are free now. All are held until the last is found, so they differ.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(Exit::io)?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect::<std::io::Result<_>>()
        .map_err(Exit::io)
}

fn last_line(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    text.lines().rev().find(|line| !line.trim().is_empty()).map(ToOwned::to_owned)
}

/// An endpoint of a member.
///
/// # Errors
/// Never for what [`Members::endpoints`] gives.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint> {
    Endpoint::parse(text).map_err(Exit::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_differ() {
        let ports = free_ports(6).unwrap();
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 6);
        assert!(TcpListener::bind(("127.0.0.1", ports[0])).is_ok());
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error() {
        assert!(Members::start(Path::new("/nonexistent/quorate"), 1).is_err());
    }
}
