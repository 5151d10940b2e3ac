//! Real etcdctl against a cluster, and the comparison of what it prints with what it prints on a real etcd.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::Cluster;
use crate::server::{POLL, Settings, wait_for};
use crate::tools::{Program, Version, etcd_tool};
use crate::transcript::{Entry, Names, Transcript};

/// No single command may take longer.
const COMMAND_SECONDS_MAX: u64 = 60;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error without the client's own log lines.
    pub stderr: String,
}

impl Outcome {
    /// Both outputs, the errors last.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The `index`th word of the standard output.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn word(&self, index: usize) -> Result<&str> {
        self.stdout
            .split_whitespace()
            .nth(index)
            .with_context(|| format!("no word {index} in {self:?}"))
    }
}

/// Which etcdctl, on which cluster; collects the transcript.
#[derive(Debug)]
pub struct Session {
    /// The cluster.
    pub cluster: Cluster,
    /// What was done so far.
    pub transcript: Transcript,
    names: Names,
    version: Version,
    endpoints: String,
    background: Vec<Option<Background>>,
}

#[derive(Debug)]
struct Background {
    command: String,
    child: Child,
    output: PathBuf,
}

impl Drop for Background {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Session {
    /// A session on a cluster that is ready.
    ///
    /// # Errors
    /// When the members cannot be listed, or are not all named within some seconds.
    pub fn new(cluster: Cluster, version: Version) -> Result<Self> {
        let endpoints = cluster.endpoints();
        let mut session = Self {
            cluster,
            transcript: Transcript::default(),
            names: Names::default(),
            version,
            endpoints,
            background: Vec::new(),
        };
        session.learn_names()?;
        Ok(session)
    }

    /// Learns addresses and member ids; again after the members have changed.
    ///
    /// # Errors
    /// When the members cannot be listed, or are not all named within some seconds.
    pub fn learn_names(&mut self) -> Result<()> {
        let directory = self.cluster.directory().to_string_lossy().into_owned();
        self.names.replace(&directory, "<dir>");
        for server in &self.cluster.servers {
            let settings = &server.settings;
            self.names.replace(&settings.endpoint(), &format!("<{} client>", settings.name));
            self.names.replace(
                &format!("127.0.0.1:{}", settings.peer_port),
                &format!("<{} peer>", settings.name),
            );
        }
        // A member that is ready may not have told the others its name yet.
        wait_for("the names of all members", Duration::from_secs(15), || {
            let known = self.member_ids().ok()?;
            let mut servers = self.cluster.servers.iter();
            servers.all(|server| known.contains_key(&server.settings.name)).then_some(())
        })?;
        let list = self.quiet("member list")?;
        ensure!(list.code == Some(0), "member list: {}", list.text());
        for line in list.stdout.lines() {
            let fields: Vec<&str> = line.split(", ").collect();
            if let [id, _, name, ..] = fields[..]
                && !name.is_empty()
            {
                self.names.id(u64::from_str_radix(id, 16)?, &format!("member {name}"));
            }
        }
        Ok(())
    }

    /// Gives the addresses of a member their names.
    pub fn name_settings(&mut self, settings: &Settings) {
        self.names.replace(&settings.endpoint(), &format!("<{} client>", settings.name));
        let peer = settings.peer_url();
        let peer = peer.strip_prefix("http://").unwrap_or(&peer);
        self.names.replace(peer, &format!("<{} peer>", settings.name));
    }

    /// Gives a text a name in the transcript from here on.
    pub fn name(&mut self, text: &str, name: &str) {
        self.names.replace(text, name);
    }

    /// Gives an id, printed in hex, a name in the transcript from here on.
    ///
    /// # Errors
    /// When it is not an id.
    pub fn name_id(&mut self, hex: &str, name: &str) -> Result<()> {
        self.names.id(u64::from_str_radix(hex, 16)?, name);
        Ok(())
    }

    /// The ids of the members by their names.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn member_ids(&self) -> Result<BTreeMap<String, String>> {
        let list = self.quiet("member list")?;
        ensure!(list.code == Some(0), "member list: {}", list.text());
        let lines = list.stdout.lines().map(|line| line.split(", ").collect::<Vec<_>>());
        Ok(lines
            .filter(|fields| fields.len() > 2)
            .map(|f| (f[2].to_owned(), f[0].to_owned()))
            .collect())
    }

    /// The name of the member that leads, as the members themselves say.
    ///
    /// # Errors
    /// When none says so within some seconds.
    pub fn leader(&self) -> Result<String> {
        let mut said = String::new();
        let found = wait_for("a leader", Duration::from_secs(15), || {
            for server in &self.cluster.servers {
                let endpoint = server.settings.endpoint();
                let line = format!("--endpoints={endpoint} endpoint status -w json");
                said = self.quiet(&line).map(|outcome| outcome.stdout).unwrap_or_default();
                let (leader, own) = (json_field(&said, "leader"), json_field(&said, "member_id"));
                if leader.is_some() && leader == own {
                    return Some(server.settings.name.clone());
                }
            }
            None
        });
        found.with_context(|| format!("endpoint status: {said}"))
    }

    /// The endpoint of a member.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn endpoint(&self, name: &str) -> Result<String> {
        let servers = &mut self.cluster.servers.iter();
        let server = servers.find(|server| server.settings.name == name);
        Ok(server.with_context(|| format!("no member {name}"))?.settings.endpoint())
    }

    /// From here on only these endpoints are used.
    pub fn use_endpoints(&mut self, endpoints: &str) {
        endpoints.clone_into(&mut self.endpoints);
    }

    /// Runs `etcdctl ARGS` and takes what it did into the transcript. Arguments are split at spaces; single
    /// quotes keep them together.
    ///
    /// # Errors
    /// When etcdctl cannot be run or does not end.
    pub fn ctl(&mut self, line: &str) -> Result<Outcome> {
        self.ctl_with_input(line, "")
    }

    /// The same with standard input.
    ///
    /// # Errors
    /// As [`Session::ctl`].
    pub fn ctl_with_input(&mut self, line: &str, input: &str) -> Result<Outcome> {
        let outcome = self.run("etcdctl", line, input, COMMAND_SECONDS_MAX)?;
        let text = outcome.text();
        self.note(line, outcome.code, &text);
        Ok(outcome)
    }

    /// The same, with the lines of the output sorted: for lists in the order of ids.
    ///
    /// # Errors
    /// As [`Session::ctl`].
    pub fn ctl_sorted(&mut self, line: &str) -> Result<Outcome> {
        let outcome = self.run("etcdctl", line, "", COMMAND_SECONDS_MAX)?;
        let named = self.names.apply(&outcome.text());
        let mut lines: Vec<&str> = named.lines().collect();
        lines.sort_unstable();
        self.note(line, outcome.code, &lines.join("\n"));
        Ok(outcome)
    }

    /// Runs it without a word in the transcript.
    ///
    /// # Errors
    /// As [`Session::ctl`].
    pub fn quiet(&self, line: &str) -> Result<Outcome> {
        self.run("etcdctl", line, "", COMMAND_SECONDS_MAX)
    }

    /// Runs a program under test as a tool: `quorate ARGS`. Nothing goes into the transcript.
    ///
    /// # Errors
    /// As [`Session::ctl`].
    pub fn own_of(&self, program: &Program, line: &str) -> Result<Outcome> {
        let mut command = Command::new(&program.path);
        command.args(words(line)?).current_dir(self.cluster.directory());
        outcome_of(command, line, "", COMMAND_SECONDS_MAX)
    }

    /// The same, for a command that takes minutes.
    ///
    /// # Errors
    /// As [`Session::ctl`].
    pub fn quiet_long(&self, line: &str) -> Result<Outcome> {
        self.run("etcdctl", line, "", 5 * COMMAND_SECONDS_MAX)
    }

    /// `endpoint status -w json`; only who leads, who learns and what is wrong goes into the transcript, because
    /// sizes, versions and indexes are a server's own.
    ///
    /// # Errors
    /// As [`Session::ctl`].
    pub fn ctl_status(&mut self) -> Result<String> {
        let outcome = self.quiet("endpoint status --cluster -w json")?;
        let mut kept = String::new();
        for field in ["\"revision\":", "\"leader\":", "\"isLearner\":", "\"errors\":"] {
            for rest in outcome.stdout.split(field).skip(1) {
                let end = rest.find([',', '}']).unwrap_or(rest.len());
                kept.push_str(&format!("{field}{}\n", &rest[..end]));
            }
        }
        self.note("endpoint status --cluster", outcome.code, &kept);
        Ok(outcome.stdout)
    }

    /// Runs etcdutl, which works on files, without a word in the transcript.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn utl(&self, line: &str) -> Result<Outcome> {
        self.run("etcdutl", line, "", COMMAND_SECONDS_MAX)
    }

    /// Takes a line of the script's own into the transcript.
    pub fn note(&mut self, command: &str, code: Option<i32>, output: &str) {
        let entry =
            Entry { command: self.names.apply(command), code, output: self.names.apply(output) };
        self.transcript.entries.push(entry);
    }

    /// Repeats a command until what it prints satisfies `done`; the last run is in the transcript.
    ///
    /// # Errors
    /// When it does not within `bound`.
    pub fn until(
        &mut self,
        line: &str,
        bound: Duration,
        done: impl Fn(&Outcome) -> bool,
    ) -> Result<Outcome> {
        let end = Instant::now() + bound;
        loop {
            let outcome = self.quiet(line)?;
            if done(&outcome) {
                let text = outcome.text();
                self.note(line, outcome.code, &text);
                return Ok(outcome);
            }
            ensure!(Instant::now() < end, "not within {bound:?}: {line}: {outcome:?}");
            std::thread::sleep(POLL);
        }
    }

    /// Starts `etcdctl ARGS` in the background.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, line: &str) -> Result<usize> {
        let number = self.background.len();
        let output = self.cluster.file(&format!("background-{number}.txt"));
        let file = File::create(&output)?;
        let child = self
            .command("etcdctl", line)?
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        self.background.push(Some(Background { command: line.to_owned(), child, output }));
        Ok(number)
    }

    fn running(&mut self, number: usize) -> Result<&mut Background> {
        self.background
            .get_mut(number)
            .and_then(Option::as_mut)
            .context("no such command in the background")
    }

    /// Waits until a command in the background has printed `text`; gives what it printed so far.
    ///
    /// # Errors
    /// When it has not within `bound`.
    pub fn wait_output(&mut self, number: usize, text: &str, bound: Duration) -> Result<String> {
        let path = self.running(number)?.output.clone();
        let read =
            || std::fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let found =
            wait_for("output", bound, || read().ok().filter(|printed| printed.contains(text)));
        found.with_context(|| format!("waiting for {text:?}, printed: {:?}", read()))
    }

    /// Interrupts a command in the background; what it printed goes into the transcript.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self, number: usize) -> Result<String> {
        self.interrupt(number)?;
        self.finish(number)
    }

    /// The same, without a word in the transcript.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_quietly(&mut self, number: usize) -> Result<String> {
        self.interrupt(number)?;
        Ok(self.ended(number)?.2)
    }

    fn interrupt(&mut self, number: usize) -> Result<()> {
        let pid = i32::try_from(self.running(number)?.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process id")?, Signal::INT)?;
        Ok(())
    }

    /// Waits for the end of a command in the background; what it printed goes into the transcript.
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish(&mut self, number: usize) -> Result<String> {
        let (command, code, printed) = self.ended(number)?;
        self.note(&command, code, &printed);
        Ok(printed)
    }

    fn ended(&mut self, number: usize) -> Result<(String, Option<i32>, String)> {
        let mut background = self
            .background
            .get_mut(number)
            .and_then(Option::take)
            .context("no such command in the background")?;
        let bound = Duration::from_secs(COMMAND_SECONDS_MAX);
        let status =
            wait_for(&background.command, bound, || background.child.try_wait().ok().flatten())?;
        let printed = String::from_utf8_lossy(&std::fs::read(&background.output)?).into_owned();
        Ok((background.command.clone(), status.code(), without_client_log(&printed)))
    }

    fn command(&self, program: &str, line: &str) -> Result<Command> {
        // 3.4 had no etcdutl.
        let version = match (program, self.version) {
            ("etcdutl", Version::V34) => Version::V35,
            (_, version) => version,
        };
        let mut command = Command::new(etcd_tool(version, program)?);
        if program == "etcdctl" && !line.contains("--endpoints") {
            command.args(["--endpoints", &self.endpoints]);
        }
        command.args(words(line)?).env("ETCDCTL_API", "3").current_dir(self.cluster.directory());
        Ok(command)
    }

    fn run(&self, program: &str, line: &str, input: &str, seconds_max: u64) -> Result<Outcome> {
        outcome_of(self.command(program, line)?, line, input, seconds_max)
    }
}

fn outcome_of(mut command: Command, line: &str, input: &str, seconds_max: u64) -> Result<Outcome> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let pid = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(Duration::from_secs(seconds_max)) else {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::KILL)?;
        }
        bail!("{line}: no end within {seconds_max} s");
    };
    let output = output?;
    Ok(Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: without_client_log(&String::from_utf8_lossy(&output.stderr)),
    })
}

/// What a user sees, without the lines that the Go client logs about itself.
fn without_client_log(text: &str) -> String {
    let is_log = |line: &&str| {
        (line.starts_with("{\"level\":") && !line.starts_with("{\"level\":\"fatal\""))
            || line.starts_with("WARNING: 2")
    };
    let kept = text.lines().filter(|line| !is_log(line));
    kept.fold(String::new(), |all, line| all + line + "\n")
}

/// The value of the first field of that name; only for numbers.
fn json_field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    rest.split([',', '}']).next()
}

/// Splits at spaces; single quotes keep a word together.
fn words(line: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => all.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    ensure!(!quoted, "a quote is not closed: {line}");
    all.extend(word);
    Ok(all)
}

/// Runs a script on a fresh cluster of each program, both at once, and compares the transcripts.
///
/// # Errors
/// With the first difference, or with what a script could not do.
pub fn compare(
    oracle: &Program,
    subject: &Program,
    version: Version,
    members: usize,
    script: impl Fn(&mut Session) -> Result<()> + Sync,
) -> Result<()> {
    let (expected, found) = both(
        || play(oracle, version, members, &script),
        || play(subject, version, members, &script),
    )?;
    ensure!(!expected.entries.is_empty(), "the script did nothing");
    if let Some(difference) = expected.difference(&found) {
        bail!("etcdctl prints something else (- etcd, + the server under test):\n{difference}");
    }
    Ok(())
}

/// Runs one thing on a real etcd and one on the server under test, at the same time: much of it is waiting.
///
/// # Errors
/// What either could not do.
///
/// # Panics
/// When one of them does.
pub fn both<T: Send>(
    on_oracle: impl FnOnce() -> Result<T> + Send,
    on_subject: impl FnOnce() -> Result<T> + Send,
) -> Result<(T, T)> {
    let (oracle, subject) = std::thread::scope(|scope| {
        let oracle = scope.spawn(on_oracle);
        let subject = on_subject();
        let oracle = oracle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (oracle, subject)
    });
    Ok((oracle.context("on a real etcd")?, subject.context("on the server under test")?))
}

fn play(
    program: &Program,
    version: Version,
    members: usize,
    script: &impl Fn(&mut Session) -> Result<()>,
) -> Result<Transcript> {
    let mut session = Session::new(Cluster::start(program, members)?, version)?;
    let result = script(&mut session).and_then(|()| session.cluster.check_alive());
    let log = || {
        session
            .cluster
            .servers
            .iter()
            .map(|server| server.log_end())
            .collect::<Vec<_>>()
            .join("\n--\n")
    };
    result.with_context(|| format!("logs:\n{}", log()))?;
    Ok(session.transcript)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("put a 'b c' ''").unwrap(), ["put", "a", "b c", ""]);
        assert!(words("put 'a").is_err());
    }
}
