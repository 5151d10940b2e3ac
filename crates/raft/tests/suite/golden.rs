//! Golden scripts: `tests/golden/*.txt`, blocks of commands, `---`, and the trace they leave.
//!
//! `RAFT_UPDATE_GOLDEN=1` writes the traces anew; the difference is then for a reviewer to judge.
//!
//! Commands: `voters N`, `pre_vote off`, `check_quorum off`, `recent_bytes N`, `log N terms...`
//! (before anything else), `campaign N`, `timeout N`, `pass MS`, `propose N words...`,
//! `change N [explicit|implicit] +4 ~5 -3`, `leave N`, `read N ctx`, `transfer N to`, `sync N`,
//! `deliver A B`, `drop A B`, `settle [N...]`, `blank N` (an empty replica joins the table),
//! `older N` (it starts again with the disk that it was founded with), `truncate N index`, `status`.

use std::path::Path;

use raft::{
    Config, Input, LogIndex, LogPosition, Membership, MembershipChange, MembershipStep, Payload,
    Restored, Transition,
};

use crate::table::{Table, data, id};

#[derive(Default)]
struct Script {
    settings: Vec<(String, u64)>,
    logs: Vec<Vec<u64>>,
    table: Option<Table>,
}

impl Script {
    fn table(&mut self) -> &mut Table {
        let settings = self.settings.clone();
        let logs: Vec<&[u64]> = self.logs.iter().map(Vec::as_slice).collect();
        self.table.get_or_insert_with(|| {
            let term = logs.iter().filter_map(|log| log.last()).max().copied().unwrap_or(1);
            Table::with_logs(&logs, term, |config| configure(config, &settings))
        })
    }

    fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| -> u64 { words[place].parse().expect("a number") };
        match words[0] {
            "voters" => self.logs = vec![Vec::new(); words[1].parse().expect("a number")],
            "pre_vote" | "check_quorum" => self.settings.push((words[0].to_owned(), 0)),
            "recent_bytes" => self.settings.push((words[0].to_owned(), number(1))),
            "log" => {
                let place: usize = words[1].parse().expect("a number");
                self.logs[place - 1] =
                    words[2..].iter().map(|term| term.parse().expect("a term")).collect();
            }
            "campaign" => self.table().step(number(1), Input::Campaign),
            "timeout" => self.table().step(number(1), Input::Timeout),
            "pass" => self.table().pass(number(1)),
            "propose" => {
                let payloads = words[2..].iter().map(|word| data(word)).collect();
                self.proposed(number(1), payloads);
            }
            "change" => {
                let change = change(&words[2..]);
                self.proposed(number(1), vec![Payload::membership(change)]);
            }
            "leave" => {
                let change = MembershipChange::leave_joint();
                self.proposed(number(1), vec![Payload::membership(change)]);
            }
            "read" => self.table().step(number(1), Input::ReadIndex(number(2))),
            "transfer" => {
                let to = id(number(2));
                self.table().step(number(1), Input::TransferLeadership { to });
            }
            "sync" => self.table().sync(number(1)),
            "deliver" => self.table().deliver(number(1), number(2)),
            "drop" => drop(self.table().take(number(1), number(2))),
            "settle" if words.len() > 1 => {
                let among: Vec<u64> = (1..words.len()).map(number).collect();
                self.table().settle_among(&among);
            }
            "settle" => self.table().settle(),
            "blank" => {
                let settings = self.settings.clone();
                let configure = |config: &mut Config| configure(config, &settings);
                self.table().seat(number(1), Restored::blank(), configure);
            }
            "older" => {
                let settings = self.settings.clone();
                let founders = Membership::of_voters((1..=self.logs.len() as u64).map(id));
                let configure = |config: &mut Config| configure(config, &settings);
                self.table().seat(number(1), Restored::founding(founders), configure);
            }
            "truncate" => {
                let index = LogIndex(number(2));
                let term = self.table().raft(number(1)).term_at(index).expect("in the log");
                let position = LogPosition { index, term };
                self.table().step(number(1), Input::Truncate(position));
            }
            "status" => self.status(),
            other => panic!("no command {other}"),
        }
    }

    fn proposed(&mut self, n: u64, payloads: Vec<Payload>) {
        if let Err(refused) = self.table().propose(n, payloads) {
            self.table().trace.push(format!("{n} refuses: {refused}"));
        }
    }

    fn status(&mut self) {
        let table = self.table();
        let lines: Vec<String> = table
            .rafts
            .values()
            .map(|raft| {
                format!(
                    "{} {:?} term {} log ({}, {}] committed {} durable {} {}",
                    raft.id(),
                    raft.role(),
                    raft.term(),
                    raft.truncated(),
                    raft.last(),
                    raft.committed(),
                    raft.durable(),
                    raft.membership()
                )
            })
            .collect();
        table.trace.extend(lines);
    }
}

fn configure(config: &mut Config, settings: &[(String, u64)]) {
    for (name, value) in settings {
        match name.as_str() {
            "pre_vote" => config.pre_vote = false,
            "check_quorum" => config.check_quorum = false,
            _ => config.recent_bytes_max = usize::try_from(*value).expect("small"),
        }
    }
}

fn change(words: &[&str]) -> MembershipChange {
    let mut change = MembershipChange::default();
    for word in words {
        let (kind, n) = word.split_at(1);
        let step = match kind {
            "+" => MembershipStep::AddVoter,
            "~" => MembershipStep::AddLearner,
            "-" => MembershipStep::Remove,
            _ if *word == "explicit" => {
                change.transition = Transition::JointExplicit;
                continue;
            }
            _ => {
                change.transition = Transition::JointImplicit;
                continue;
            }
        };
        change.steps.push(step(id(n.parse().expect("a number"))));
    }
    change
}

/// Runs a script; returns it with the traces as they are now.
fn replay(text: &str) -> String {
    let mut script = Script::default();
    let mut out = String::new();
    let mut in_trace = false;
    let flush = |script: &mut Script, out: &mut String| {
        for line in script.table().trace.drain(..) {
            out.push_str(&line);
            out.push('\n');
        }
        out.push('\n');
    };
    for line in text.lines() {
        match line {
            "---" => {
                out.push_str("---\n");
                flush(&mut script, &mut out);
                in_trace = true;
            }
            "" => in_trace = false,
            _ if in_trace => {}
            _ => {
                out.push_str(line);
                out.push('\n');
                if !line.starts_with('#') {
                    script.run(line);
                }
            }
        }
    }
    out
}

#[test]
fn golden_scripts_leave_the_traces_they_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|file| file.expect("readable").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 8, "the scripts are there");
    let update = std::env::var_os("RAFT_UPDATE_GOLDEN").is_some();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("readable");
        let now = replay(&text);
        if update {
            std::fs::write(&path, &now).expect("writable");
        } else {
            assert!(text == now, "{} differs; it is now:\n{now}", path.display());
        }
    }
}
