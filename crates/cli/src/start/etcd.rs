//! Running under the name `etcd`: Go's flags, `ETCD_*`, `--config-file`, `--version`.
//!
//! Go's flag package takes one dash or two, `--flag value` and `--flag=value`, and lets the last
//! of repeated flags win; a boolean takes its value only after `=`. With `--config-file`, etcd
//! ignores every other flag and the environment, and so do we.

use std::ffi::OsString;
use std::path::Path;

use clap::Parser as _;
use server::API_VERSION;

use super::config::{Manner, StartConfig};
use super::flags::Flags;
use crate::exit::{Exit, Result};

/// Variables that etcd's own scripts and images set and that are not flags.
const KNOWN_VARIABLES: [&str; 3] = ["ETCD_UNSUPPORTED_ARCH", "ETCD_CONFIG_FILE", "ETCD_VERSION"];

/// etcd's command line.
#[derive(Debug, clap::Parser)]
#[command(
    name = "etcd",
    args_override_self = true,
    disable_version_flag = true,
    max_term_width = 100,
    about = "quorate, run under the name of etcd: etcd's flags, environment and config file"
)]
struct Etcd {
    #[command(flatten)]
    flags: Flags,
    /// Read the settings from this YAML file instead
    #[arg(long, env = "ETCD_CONFIG_FILE", hide_env = true, value_name = "FILE")]
    config_file: Option<String>,
    /// Print the version and end
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    version: Option<bool>,
}

/// Whether the binary was run under the name `etcd`.
pub(crate) fn is_etcd(program: &OsString) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == "etcd")
}

/// What the command line of `etcd` asks for.
pub(crate) enum Request {
    /// A member.
    Start(Box<StartConfig>),
    /// Text on stdout: the version.
    Print(String),
}

/// Reads etcd's command line, the program's name first.
///
/// # Errors
/// Clap's, to be printed by the caller.
pub(crate) fn read(
    args: impl IntoIterator<Item = OsString>,
) -> std::result::Result<Result<Request>, clap::Error> {
    let etcd = Etcd::try_parse_from(two_dashes(args))?;
    if etcd.version == Some(true) {
        let own = env!("CARGO_PKG_VERSION");
        let text = format!("etcd Version: {API_VERSION}\nQuorate Version: {own}\n");
        return Ok(Ok(Request::Print(text)));
    }
    let Some(file) = etcd.config_file.filter(|file| !file.is_empty()) else {
        return Ok(started(&etcd.flags, unknown_variables()));
    };
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) => return Ok(Err(Exit::failed(format!("--config-file {file}: {e}")))),
    };
    match file_flags(&text) {
        Ok(flags) => Ok(started(&flags, Vec::new())),
        Err(e) => Ok(Err(Exit::failed(format!("--config-file {file}: {e}")))),
    }
}

fn started(flags: &Flags, warnings: Vec<String>) -> Result<Request> {
    let mut config = StartConfig::new(flags, Manner::Etcd)?;
    config.warnings.extend(warnings);
    Ok(Request::Start(Box::new(config)))
}

/// Gives single-dash flags their second dash. Values after a space are told from flags by where
/// they stand: a flag that takes one is followed by it.
fn two_dashes(args: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    args.into_iter().map(|arg| match arg.to_str() {
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => {
            let is_flag = text[1..].starts_with(|c: char| c.is_ascii_alphabetic());
            if is_flag { format!("-{text}").into() } else { arg }
        }
        _ => arg,
    })
}

fn unknown_variables() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("ETCD_"))
        .filter(|name| !Flags::VARIABLES.contains(&name.as_str()))
        .filter(|name| !KNOWN_VARIABLES.contains(&name.as_str()))
        .map(|name| format!("unrecognized environment variable {name}"))
        .collect()
}

/// Reads etcd's configuration file: YAML, of which it uses flat `key: value` lines and two
/// sections for TLS.
pub(crate) fn file_flags(text: &str) -> std::result::Result<Flags, String> {
    let mut args = vec![OsString::from("etcd")];
    for (number, line) in (1..).zip(text.lines()) {
        let at = |what: &str| format!("line {number}: {what}");
        let content = without_comment(line);
        if content.trim().is_empty() || content.trim() == "---" {
            continue;
        }
        let (key, value) = content.split_once(':').ok_or_else(|| at("expected `key: value`"))?;
        let value = unquoted(value.trim());
        let nested = key.starts_with([' ', '\t']);
        let key = key.trim();
        if value.is_empty() || value == "null" || value == "[]" {
            continue;
        }
        if nested {
            // What is in a section is TLS; saying that there is none is harmless.
            if matches!(value, "false" | "0") {
                continue;
            }
            return Err(at(&format!("{key}: TLS is not served yet")));
        }
        if value.starts_with(['[', '{', '|', '>']) {
            return Err(at(&format!("{key}: only plain values are understood")));
        }
        // etcd gives times in milliseconds or nanoseconds here as bare numbers, like its flags.
        args.push(format!("--{key}={value}").into());
    }
    /// The flags alone: a file neither names another file nor asks for the version.
    #[derive(Debug, clap::Parser)]
    #[command(args_override_self = true)]
    struct File {
        #[command(flatten)]
        flags: Flags,
    }
    let parsed = File::try_parse_from(args).map_err(|e| e.to_string())?;
    Ok(parsed.flags)
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with('#') {
        return "";
    }
    line.split_once(" #").map_or(line, |(content, _)| content)
}

fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(args: &[&str]) -> StartConfig {
        let args = std::iter::once("etcd").chain(args.iter().copied()).map(OsString::from);
        match read(args) {
            Ok(Ok(Request::Start(config))) => *config,
            Ok(Ok(Request::Print(text))) => panic!("{text}"),
            Ok(Err(exit)) => panic!("{exit}"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn flags_come_in_every_form_that_go_takes() {
        let forms: [&[&str]; 4] =
            [&["--name", "n1"], &["--name=n1"], &["-name", "n1"], &["-name=n1"]];
        for form in forms {
            assert_eq!(start(form).name, "n1", "{form:?}");
        }
        assert_eq!(start(&["--name=a", "-name", "b"]).name, "b");
        let quota = start(&["--quota-backend-bytes", "-1"]);
        assert_eq!(quota.limits.quota_bytes, None);
    }

    #[test]
    fn booleans_take_their_value_only_after_an_equals_sign() {
        assert!(start(&["--force-new-cluster"]).force_new_cluster);
        assert!(!start(&["--force-new-cluster=false"]).force_new_cluster);
        assert!(!start(&["-pre-vote=f", "--name=x"]).pre_vote);
        assert!(start(&["--strict-reconfig-check=1"]).strict_reconfig_check);
    }

    #[test]
    fn a_command_line_of_kubeadm_is_understood() {
        let config = start(&[
            "--advertise-client-urls=http://10.0.0.1:2379",
            "--data-dir=/var/lib/etcd",
            "--experimental-initial-corrupt-check=true",
            "--experimental-watch-progress-notify-interval=5s",
            "--initial-advertise-peer-urls=http://10.0.0.1:2380",
            "--initial-cluster=cp=http://10.0.0.1:2380",
            "--listen-client-urls=http://127.0.0.1:2379,http://10.0.0.1:2379",
            "--listen-metrics-urls=http://127.0.0.1:2381",
            "--listen-peer-urls=http://10.0.0.1:2380",
            "--name=cp",
            "--snapshot-count=10000",
        ]);
        assert_eq!(config.listen_client_urls.len(), 2);
        assert_eq!(config.progress_notify_interval, std::time::Duration::from_secs(5));
        assert_eq!(config.listen_metrics_urls[0].port, 2381);
        assert!(config.initial_corrupt_check);
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        assert!(config.warnings[0].starts_with("--snapshot-count=10000 is ignored"));
    }

    #[test]
    fn the_version_has_etcds_line() {
        let args = ["etcd", "--version"].map(OsString::from);
        let Ok(Ok(Request::Print(text))) = read(args) else { panic!() };
        assert!(text.starts_with("etcd Version: 3.5."), "{text}");
    }

    #[test]
    fn unknown_flags_are_refused() {
        assert!(read(["etcd", "--no-such-flag"].map(OsString::from)).is_err());
        assert!(read(["etcd", "stray"].map(OsString::from)).is_err());
    }

    #[test]
    fn a_config_file_says_what_flags_say() {
        let flags = file_flags(
            "# a member\nname: 'm1'\ndata-dir: \"/d\" # here\nheartbeat-interval: 50\n\
             pre-vote: false\nclient-transport-security:\n  cert-file:\n  auto-tls: false\n",
        )
        .unwrap();
        assert_eq!(flags.name.as_deref(), Some("m1"));
        assert_eq!(flags.data_dir.as_deref(), Some("/d"));
        assert_eq!((flags.heartbeat_interval, flags.pre_vote), (Some(50), Some(false)));
        assert!(
            file_flags("client-transport-security:\n  cert-file: /x\n")
                .unwrap_err()
                .contains("TLS")
        );
        assert!(file_flags("no-such: 1\n").is_err());
        assert!(file_flags("nonsense\n").unwrap_err().contains("line 1"));
    }

    #[test]
    fn the_name_of_the_program_decides() {
        assert!(is_etcd(&"/usr/bin/etcd".into()));
        assert!(!is_etcd(&"/usr/bin/quorate".into()));
        assert!(!is_etcd(&"etcdctl".into()));
    }
}
