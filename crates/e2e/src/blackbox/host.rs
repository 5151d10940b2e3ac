//! The machine that a run takes place on: its tools, and namespaces of the run's own.
//!
//! A run enters its own network, mount and process namespaces before anything else (`unshare`). So names never
//! collide, two runs can stand side by side, and nothing is left behind however a run ends: with its first process the
//! kernel ends all members, unmounts what was mounted, detaches loop devices, and removes networks and their rules.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Set in the process that already is inside.
const INSIDE: &str = "QUORATE_BLACKBOX_INSIDE";

/// What a run calls, and the Debian package that brings it.
const TOOLS: &[(&str, &str)] = &[
    ("unshare", "util-linux"),
    ("fsfreeze", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("mkfs.ext4", "e2fsprogs"),
    ("cc", "gcc"),
];

/// Goes into namespaces of its own. Returns only inside of them: outside, this process is replaced.
///
/// # Errors
/// When a tool is missing, or the system refuses.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return settle();
    }
    check_tools()?;
    let program = std::env::current_exe()?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg("--").arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    Err(command.exec()).context("cannot run unshare")
}

/// Network namespaces get their names from files in /run/netns: of this run alone.
fn settle() -> Result<()> {
    std::fs::create_dir_all("/run/netns")?;
    call("mount", ["-t", "tmpfs", "-o", "mode=755", "quorate-netns", "/run/netns"])?;
    Ok(())
}

fn check_tools() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<String> = TOOLS
        .iter()
        .filter(|(tool, _)| !std::env::split_paths(&path).any(|place| place.join(tool).is_file()))
        .map(|(tool, package)| format!("{tool} (apt-get install {package})"))
        .collect();
    ensure!(missing.is_empty(), "the black box needs {}", missing.join(", "));
    ensure!(
        rustix::process::geteuid().is_root(),
        "the black box makes namespaces and mounts file systems: it needs root"
    );
    Ok(())
}

/// Runs a program to its end; what it printed.
///
/// # Errors
/// When it cannot be run or fails, with what it said.
pub fn call<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args);
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("{:?}: {}: {words}", command, output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The two programs in C that a run needs, compiled into its directory.
#[derive(Debug, Clone)]
pub struct Helpers {
    /// For `LD_PRELOAD`: see `shim.c`.
    pub shim: PathBuf,
    /// `power_off MOUNT_POINT`.
    pub power_off: PathBuf,
}

impl Helpers {
    /// Compiles them.
    ///
    /// # Errors
    /// When the compiler refuses.
    pub fn build(directory: &Path) -> Result<Self> {
        let source = |name: &str, text: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let shim_source = source("shim.c", include_str!("shim.c"))?;
        let power_source = source("power_off.c", include_str!("power_off.c"))?;
        let (shim, power_off) = (directory.join("shim.so"), directory.join("power_off"));
        let flags = ["-O1", "-Wall", "-Werror"].map(OsStr::new);
        let shared = ["-shared", "-fPIC", "-o"].map(OsStr::new);
        let libraries = ["-ldl"].map(OsStr::new);
        let words = [shim.as_os_str(), shim_source.as_os_str()];
        call("cc", flags.iter().chain(&shared).chain(&words).chain(&libraries))?;
        let words = [OsStr::new("-o"), power_off.as_os_str(), power_source.as_os_str()];
        call("cc", flags.iter().chain(&words))?;
        Ok(Self { shim, power_off })
    }
}
