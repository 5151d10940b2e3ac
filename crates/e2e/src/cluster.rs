//! A cluster of server processes with their directories.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::ports;
use crate::server::{Server, Settings};
use crate::tools::Program;

/// Members `m1`, `m2`, ... of one program. Dropping it kills them and removes their data.
#[derive(Debug)]
pub struct Cluster {
    /// The members, in the order of their names.
    pub servers: Vec<Server>,
    program: Program,
    directory: TempDir,
}

impl Cluster {
    /// Starts `members` of a new cluster and waits until each can serve.
    ///
    /// # Errors
    /// When one of them cannot.
    pub fn start(program: &Program, members: usize) -> Result<Self> {
        let mut cluster = Self::spawn(program, members)?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// Starts `members` of a new cluster without waiting.
    ///
    /// # Errors
    /// When there is no port or no directory for them.
    pub fn spawn(program: &Program, members: usize) -> Result<Self> {
        Self::spawn_as(program, members, |_| {}, |_| Ok(()))
    }

    /// The same; `prepare` sees each member's settings before the first is started, and may make its data
    /// directory.
    ///
    /// # Errors
    /// As [`Cluster::spawn`], and those of `prepare`.
    pub fn spawn_after(
        program: &Program,
        members: usize,
        prepare: impl Fn(&Settings) -> Result<()>,
    ) -> Result<Self> {
        Self::spawn_as(program, members, |_| {}, prepare)
    }

    /// The same, each member with its settings changed first.
    ///
    /// # Errors
    /// As [`Cluster::spawn`].
    pub fn spawn_with(
        program: &Program,
        members: usize,
        change: impl FnMut(&mut Settings),
    ) -> Result<Self> {
        Self::spawn_as(program, members, change, |_| Ok(()))
    }

    fn spawn_as(
        program: &Program,
        members: usize,
        mut change: impl FnMut(&mut Settings),
        prepare: impl Fn(&Settings) -> Result<()>,
    ) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("quorate-e2e-").tempdir()?;
        let mut all = Vec::new();
        for number in 1..=members {
            let name = format!("m{number}");
            let data_dir = directory.path().join(&name);
            let (client_port, peer_port) = (ports::free()?, ports::free()?);
            let mut settings = Settings {
                program: program.clone(),
                name,
                client_port,
                peer_port,
                data_dir,
                initial_cluster: String::new(),
                existing: false,
                token: "e2e".to_owned(),
            };
            change(&mut settings);
            all.push(settings);
        }
        let initial = initial_cluster(&all);
        for settings in &mut all {
            settings.initial_cluster.clone_from(&initial);
            prepare(settings)?;
        }
        let servers = all.into_iter().map(Server::start).collect::<Result<Vec<_>>>()?;
        Ok(Self { servers, program: program.clone(), directory })
    }

    /// Waits until every running member can serve.
    ///
    /// # Errors
    /// When one cannot.
    pub fn wait_ready(&mut self) -> Result<()> {
        for server in self.servers.iter_mut().filter(|server| server.is_running()) {
            server.wait_ready()?;
        }
        Ok(())
    }

    /// The settings for a member that joins this cluster; it must have been announced by `member add`.
    ///
    /// # Errors
    /// When there is no port.
    pub fn joining(&self, name: &str) -> Result<Settings> {
        let mut settings = Settings {
            program: self.program.clone(),
            name: name.to_owned(),
            client_port: ports::free()?,
            peer_port: ports::free()?,
            data_dir: self.directory.path().join(name),
            initial_cluster: String::new(),
            existing: true,
            token: "e2e".to_owned(),
        };
        let mut all: Vec<Settings> =
            self.servers.iter().map(|server| server.settings.clone()).collect();
        all.push(settings.clone());
        settings.initial_cluster = initial_cluster(&all);
        Ok(settings)
    }

    /// Starts a member and counts it in.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn join(&mut self, settings: Settings) -> Result<&mut Server> {
        self.servers.push(Server::start(settings)?);
        self.servers.last_mut().context("just pushed")
    }

    /// The endpoints of all members, comma-separated.
    #[must_use]
    pub fn endpoints(&self) -> String {
        self.servers.iter().map(|server| server.settings.endpoint()).collect::<Vec<_>>().join(",")
    }

    /// The directory that holds the members' directories; free for other files too.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file in [`Cluster::directory`].
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Fails when a member that should run has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check_alive(&mut self) -> Result<()> {
        for server in &mut self.servers {
            if let Some(status) = server.exited()? {
                anyhow::bail!(
                    "{} ended with {status}:\n{}",
                    server.settings.name,
                    server.log_end()
                );
            }
        }
        Ok(())
    }

    /// Ends every member by SIGTERM.
    ///
    /// # Errors
    /// When one runs on for 10 s or does not end in order.
    pub fn terminate(&mut self) -> Result<()> {
        for server in &mut self.servers {
            let status = server.terminate(Duration::from_secs(10))?;
            ensure!(status.success() || server.settings.program.is_etcd(), "SIGTERM: {status}");
        }
        Ok(())
    }
}

fn initial_cluster(all: &[Settings]) -> String {
    all.iter().map(|one| format!("{}={}", one.name, one.peer_url())).collect::<Vec<_>>().join(",")
}
