//! `quorate` beside `etcdctl` on one and the same real etcd: what they print must be the same.
//!
//! These tests need etcd and etcdctl 3.5, in the folder that `QUORATE_ETCD_35_DIR` names. With
//! `QUORATE_PEERS=1` a missing tool fails them; without it they say that they did nothing.
//!
//! Commands that read are compared to the byte, exit code included. Commands that write cannot be
//! run twice with the same outcome, so in their output numbers are compared only by where they
//! stand.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A real etcd on free ports, ended when dropped.
struct Etcd {
    child: Child,
    endpoint: String,
    etcdctl: PathBuf,
    _dir: tempfile::TempDir,
}

impl Etcd {
    /// `None` if the tools are not there and were not asked for.
    fn start() -> Option<Self> {
        let wanted = std::env::var_os("QUORATE_PEERS").is_some_and(|value| value == "1");
        let Some(folder) = std::env::var_os("QUORATE_ETCD_35_DIR").map(PathBuf::from) else {
            assert!(!wanted, "QUORATE_PEERS=1 needs QUORATE_ETCD_35_DIR");
            eprintln!("not compared with etcdctl: QUORATE_PEERS is not 1");
            return None;
        };
        let (etcd, etcdctl) = (folder.join("etcd"), folder.join("etcdctl"));
        let there = etcd.exists() && etcdctl.exists();
        if !wanted && !there {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer] = ports.map(|port| format!("http://{}", port.local_addr().unwrap()));
        let child = Command::new(&etcd)
            .args(["--name", "m1", "--log-level", "error", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("m1={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let endpoint = client.trim_start_matches("http://").to_owned();
        let this = Self { child, endpoint, etcdctl, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !this.quorate(&["get", "ready"], "").status.success() {
            assert!(Instant::now() < deadline, "etcd does not serve");
        }
        Some(this)
    }

    fn run(&self, mut command: Command, args: &[&str], stdin: &str) -> Output {
        let mut child = command
            .args(["--endpoints", &self.endpoint])
            .args(args)
            .env("ETCDCTL_API", "3")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone before it is written.
        let _broken_pipe = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn quorate(&self, args: &[&str], stdin: &str) -> Output {
        self.run(Command::new(env!("CARGO_BIN_EXE_quorate")), args, stdin)
    }

    fn etcdctl(&self, args: &[&str], stdin: &str) -> Output {
        self.run(Command::new(&self.etcdctl), args, stdin)
    }

    fn text(output: &Output) -> String {
        let code = output.status.code().unwrap();
        format!("{}[exit code {code}]", String::from_utf8_lossy(&output.stdout))
    }

    /// Equal to the byte.
    fn same(&self, args: &[&str], stdin: &str) {
        let (theirs, ours) = (self.etcdctl(args, stdin), self.quorate(args, stdin));
        assert_eq!(Self::text(&ours), Self::text(&theirs), "{args:?} {stdin:?}");
        assert_eq!(last_error(&ours), last_error(&theirs), "{args:?} {stdin:?}");
    }

    /// Equal but for numbers. `before` puts the store into the same state for each of the two.
    fn alike(&self, before: &[&[&str]], args: &[&str], stdin: &str) {
        let prepare = || {
            for args in before {
                let output = self.etcdctl(args, "");
                assert!(output.status.success(), "{args:?}: {output:?}");
            }
        };
        prepare();
        let theirs = Self::text(&self.etcdctl(args, stdin));
        prepare();
        let ours = Self::text(&self.quorate(args, stdin));
        assert_eq!(without_numbers(&ours), without_numbers(&theirs), "{args:?} {stdin:?}");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _may_be_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// etcdctl logs to stderr as well; the error proper is its last line.
fn last_error(output: &Output) -> Option<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    stderr.lines().rev().find(|line| line.starts_with("Error: ")).map(ToOwned::to_owned)
}

/// Every run of hexadecimal digits that has a decimal digit in it, as one `#`.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let run = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let digits = &rest[..run];
        if run > 0 && digits.contains(|c: char| c.is_ascii_digit()) {
            out.push('#');
            rest = &rest[run..];
        } else {
            let next = run.max(c.len_utf8());
            out.push_str(&rest[..next]);
            rest = &rest[next..];
        }
    }
    out
}

const FORMATS: [&str; 3] = ["simple", "fields", "json"];

#[test]
fn numbers_are_left_out_of_the_comparison_and_nothing_else() {
    assert_eq!(without_numbers("rev: 12, id 7c5f, face, k1"), "rev: #, id #, face, k#");
}

#[test]
fn what_is_read_is_printed_alike() {
    let Some(etcd) = Etcd::start() else { return };
    let odd = "v<b>&\"\\ \u{1}\té";
    for put in [["put", "a", "1"], ["put", "ab", odd], ["put", "b", "x y"], ["put", "a", "2"]] {
        assert!(etcd.quorate(&put, "").status.success());
    }
    let reads: &[&[&str]] = &[
        &["get", "a"],
        &["get", "ab"],
        &["get", "nothing"],
        &["get", "a", "--rev", "2"],
        &["get", "a", "b"],
        &["get", "a", "--prefix"],
        &["get", "", "--prefix", "--limit", "2"],
        &["get", "ab", "--from-key"],
        &["get", "a", "--prefix", "--keys-only"],
        &["get", "", "--prefix", "--sort-by", "modify", "--order", "descend"],
        &["get", "", "--prefix", "--sort-by", "VALUE", "--order", "ASCEND"],
        &["get", "", "--prefix", "--sort-by", "version"],
        &["get", "ab", "--consistency", "s"],
        &["get", "ab", "--hex"],
        &["lease", "timetolive", "1234"],
        &["member", "list"],
        &["member", "list", "--hex"],
        &["endpoint", "status"],
        &["endpoint", "hashkv"],
        &["alarm", "list"],
    ];
    for format in FORMATS {
        for read in reads {
            etcd.same(&[read, &["-w", format][..]].concat(), "");
        }
    }
    etcd.same(&["get", "a", "--print-value-only"], "");
    etcd.same(&["get", "a", "--count-only", "-w", "fields"], "");
    for tabular in [["member", "list"], ["endpoint", "status"], ["endpoint", "hashkv"]] {
        etcd.same(&[&tabular, &["-w", "table"][..]].concat(), "");
    }
}

#[test]
fn what_is_refused_is_refused_with_the_same_words_and_exit_code() {
    let Some(etcd) = Etcd::start() else { return };
    for put in [["put", "a", "1"], ["put", "a", "2"], ["put", "a", "3"]] {
        assert!(etcd.quorate(&put, "").status.success());
    }
    assert!(etcd.quorate(&["compact", "3"], "").status.success());
    let refusals: &[&[&str]] = &[
        &["get", "a", "--rev", "2"],
        &["get", "a", "--rev", "99"],
        &["get", ""],
        &["get", "a", "-w", "table"],
        &["get", "a", "--sort-by", "colour"],
        &["get", "a", "--order", "sideways"],
        &["get", "a", "--consistency", "x"],
        &["get", "a", "b", "--prefix"],
        &["get", "a", "--prefix", "--from-key"],
        &["get", "a", "--print-value-only", "-w", "json"],
        &["put", "a", "1", "--lease", "99"],
        &["put", "nothing", "--ignore-value"],
        &["compaction", "2"],
        &["compaction", "99"],
        &["lease", "revoke", "1234"],
        &["lease", "keep-alive", "1234", "--once"],
        &["member", "remove", "1234"],
        &["move-leader", "1234"],
    ];
    for refused in refusals {
        etcd.same(refused, "");
    }
    etcd.same(&["txn"], "\nput a 1\nput a 2\n\n\n");
    etcd.same(&["txn"], "garbage\n\n\n\n");
}

#[test]
fn what_is_written_is_printed_alike() {
    let Some(etcd) = Etcd::start() else { return };
    let fresh: &[&[&str]] =
        &[&["del", "", "--prefix"], &["put", "a", "1"], &["put", "b", "2"], &["put", "c", "3"]];
    let script = "val(\"a\") = \"1\"\nver(\"x\") = \"0\"\n\nput a \"two words\" --prev-kv\n\
                  get a b\ndel b --prev-kv\n\nget a\n\n";
    let failing = "create(\"a\") = \"0\"\n\nput a 9\n\nget c\ndel c\n\n";
    for format in FORMATS {
        let in_format = |args: &[&'static str]| [args, &["-w", format]].concat();
        let none: &[&[&str]] = &[];
        etcd.alike(fresh, &in_format(&["put", "a", "9"]), "");
        etcd.alike(fresh, &in_format(&["put", "a", "9", "--prev-kv"]), "");
        etcd.alike(fresh, &in_format(&["put", "a"]), "from stdin\n");
        etcd.alike(fresh, &in_format(&["del", "a", "--prev-kv"]), "");
        etcd.alike(fresh, &in_format(&["del", "a", "c"]), "");
        etcd.alike(fresh, &in_format(&["del", "nothing"]), "");
        etcd.alike(fresh, &in_format(&["txn"]), script);
        etcd.alike(fresh, &in_format(&["txn"]), failing);
        etcd.alike(none, &in_format(&["lease", "grant", "100"]), "");
        etcd.alike(none, &in_format(&["defrag"]), "");
    }
}

#[test]
fn leases_live_and_take_their_keys_with_them() {
    let Some(etcd) = Etcd::start() else { return };
    let granted = etcd.quorate(&["lease", "grant", "100"], "");
    let text = String::from_utf8(granted.stdout).unwrap();
    let id = text.split_whitespace().nth(1).unwrap();
    assert!(etcd.quorate(&["put", "k", "v", "--lease", id], "").status.success());
    for format in FORMATS {
        etcd.same(&["lease", "timetolive", id, "--keys", "-w", format], "");
        etcd.same(&["lease", "list", "-w", format], "");
        etcd.same(&["lease", "keep-alive", id, "--once", "-w", format], "");
    }
    let revoked = etcd.quorate(&["lease", "revoke", id], "");
    assert_eq!(String::from_utf8(revoked.stdout).unwrap(), format!("lease {id} revoked\n"));
    let left = etcd.etcdctl(&["get", "k"], "");
    assert!(left.stdout.is_empty());
}

#[test]
fn a_lock_runs_a_command_and_gives_its_exit_code() {
    let Some(etcd) = Etcd::start() else { return };
    let shell = "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV; exit 3";
    let output = etcd.quorate(&["lock", "deploy", "--", "sh", "-c", shell], "");
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("deploy/"), "{said}");
    // Released: etcdctl gets it at once.
    let output = etcd.etcdctl(&["lock", "deploy", "true"], "");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_saved_snapshot_is_one_that_etcdctl_accepts() {
    let Some(etcd) = Etcd::start() else { return };
    for number in 0..20 {
        assert!(etcd.quorate(&["put", &format!("k{number}"), "v"], "").status.success());
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.db");
    let saved = etcd.quorate(&["snapshot", "save", path.to_str().unwrap()], "");
    assert!(saved.status.success(), "{saved:?}");
    let status = etcd.etcdctl(&["snapshot", "status", path.to_str().unwrap(), "-w", "json"], "");
    assert!(status.status.success(), "{status:?}");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["revision"], 21);
    for format in ["simple", "fields", "json", "table"] {
        etcd.same(&["snapshot", "status", path.to_str().unwrap(), "-w", format], "");
    }
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "nothing half-written is left");
}
