//! Running commands and timing steps.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// The workspace's root: the parent of this crate. Cargo says where it is when it runs this
/// program; where it was when the program was built may be another clone, with which the
/// directory of builds is shared.
pub(crate) fn root() -> PathBuf {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let manifest_dir = manifest_dir.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    manifest_dir.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The user's cache directory for this project: `$XDG_CACHE_HOME/quorate` or `~/.cache/quorate`.
pub(crate) fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| {
            std::env::var_os("HOME")
                .filter(|v| !v.is_empty())
                .map(|home| PathBuf::from(home).join(".cache"))
        });
    base.unwrap_or_else(|| root().join("target/cache")).join("quorate")
}

/// Where cargo builds: `CARGO_TARGET_DIR`, or a folder in the user's cache that all clones share.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .filter(|v| !v.is_empty())
        .map_or_else(|| cache().join("target"), PathBuf::from)
}

/// A command that runs in the workspace's root and shows what it is.
pub(crate) struct Task {
    command: Command,
}

/// Cargo, the one that started this task, building in [`target_dir`].
pub(crate) fn cargo(args: &[&str]) -> Task {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).env("CARGO_TARGET_DIR", target_dir());
    Task { command }
}

/// Any other program.
pub(crate) fn program(name: &str, args: &[&str]) -> Task {
    let mut command = Command::new(name);
    command.args(args).current_dir(root());
    Task { command }
}

impl Task {
    /// Sets an environment variable.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Adds arguments.
    pub(crate) fn args(mut self, args: &[String]) -> Self {
        self.command.args(args);
        self
    }

    /// Runs it with this process's output; an exit code other than 0 is an error.
    pub(crate) fn run(mut self) -> Result<()> {
        println!("$ {}", self.line());
        let status =
            self.command.status().with_context(|| format!("cannot start: {}", self.line()))?;
        ensure!(status.success(), "{status}: {}", self.line());
        Ok(())
    }

    /// Runs it and returns what it printed; an exit code other than 0 is an error.
    pub(crate) fn output(mut self) -> Result<String> {
        let output = self
            .command
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start: {}", self.line()))?;
        ensure!(output.status.success(), "{}: {}", output.status, self.line());
        String::from_utf8(output.stdout).with_context(|| format!("not UTF-8: {}", self.line()))
    }

    fn line(&self) -> String {
        let name = Path::new(self.command.get_program()).file_name().unwrap_or_default();
        let args = self.command.get_args().map(|arg| arg.to_string_lossy().into_owned());
        std::iter::once(name.to_string_lossy().into_owned())
            .chain(args)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Named steps with their times.
pub(crate) struct Steps {
    began: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), done: Vec::new() }
    }

    /// Runs one step; its failure ends the gate.
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        println!("\n== {name} ==");
        let began = Instant::now();
        step().with_context(|| format!("step `{name}` failed"))?;
        self.done.push((name, began.elapsed()));
        Ok(())
    }

    /// One line with every finished step's seconds.
    pub(crate) fn summary(&self) {
        let steps: Vec<String> =
            self.done.iter().map(|(name, took)| format!("{name} {} s", took.as_secs())).collect();
        println!("\ngreen after {} s: {}", self.began.elapsed().as_secs(), steps.join(", "));
    }
}
