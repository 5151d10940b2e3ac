//! Porcupine's labelled histories: Jepsen's logs of etcd, and a map with append.
//!
//! They are not in this repository: `.ci/run` fetches the Go module `github.com/anishathalye/porcupine` and names its
//! directory in `QUORATE_PORCUPINE_DIR`. Where it is missing and `QUORATE_PEERS=1` asks for it, that is an error. The
//! labels are read from the module's own tests, so that nothing of them is copied here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use history::linear::models::{
    CasInput, CasOutput, CasRegister, Map, MapAction, MapInput, WholeMap,
};
use history::linear::{Bounds, Op, Verdict, check};
use history::record::Time;

/// Where the module is.
fn module() -> PathBuf {
    let given = std::env::var_os("QUORATE_PORCUPINE_DIR").filter(|value| !value.is_empty());
    let directory =
        given.map(PathBuf::from).expect("QUORATE_PORCUPINE_DIR is not set: see .ci/run");
    assert!(directory.join("test_data").is_dir(), "{}: no test_data", directory.display());
    directory
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Operations under construction: one a process at a time. Lines are the clock.
struct Builder<I, O> {
    ops: Vec<Op<I, O>>,
    running: BTreeMap<u64, usize>,
}

impl<I, O> Builder<I, O> {
    fn new() -> Self {
        Self { ops: Vec::new(), running: BTreeMap::new() }
    }

    fn invoke(&mut self, process: u64, line: usize, input: I) {
        self.running.insert(process, self.ops.len());
        self.ops.push(Op { invoked: Time(line as u64), input, answered: None });
    }

    fn answer(&mut self, process: u64, line: usize, output: O) {
        let op = self.running.remove(&process).expect("an answer to nothing");
        self.ops[op].answered = Some((Time(line as u64), output));
    }
}

/// `INFO  jepsen.util - 3 :invoke :cas [4 2]`, with tabs.
fn parse_jepsen(text: &str) -> Vec<Op<CasInput, CasOutput>> {
    let mut builder = Builder::new();
    for (line, words) in text.lines().enumerate() {
        let words: Vec<&str> = words
            .split(|c: char| c.is_whitespace() || c == '[' || c == ']')
            .filter(|word| !word.is_empty())
            .collect();
        let ["INFO", "jepsen.util", "-", process, kind, function, values @ ..] = words.as_slice()
        else {
            continue;
        };
        let Ok(process) = process.parse() else { continue };
        let number = |place: usize| values[place].parse::<i64>().expect("a number");
        match (*kind, *function, values) {
            (":invoke", ":read", _) => builder.invoke(process, line, CasInput::Read),
            (":invoke", ":write", _) => builder.invoke(process, line, CasInput::Write(number(0))),
            (":invoke", ":cas", _) => {
                builder.invoke(process, line, CasInput::Cas { from: number(0), to: number(1) });
            }
            (":ok", ":read", ["nil"]) => builder.answer(process, line, CasOutput::Read(None)),
            (":ok", ":read", _) => builder.answer(process, line, CasOutput::Read(Some(number(0)))),
            (":ok", ":write", _) => builder.answer(process, line, CasOutput::Written),
            (":ok", ":cas", _) => builder.answer(process, line, CasOutput::Swapped(true)),
            (":fail", ":cas", [_, _]) => builder.answer(process, line, CasOutput::Swapped(false)),
            // Timed out: a read is forgotten, anything else is unknown.
            _ => {}
        }
    }
    builder.ops
}

/// `{:process 9, :type :invoke, :f :append, :key "0", :value "x 9 0 y"}`
fn parse_map(text: &str) -> Vec<Op<MapInput, String>> {
    let mut builder = Builder::new();
    for (line, words) in text.lines().enumerate() {
        let after = |mark: &str| words.split_once(mark).map(|(_, rest)| rest);
        let quoted = |mark: &str| {
            after(mark)?.strip_prefix('"')?.split_once('"').map(|(value, _)| value.to_owned())
        };
        let word = |mark: &str| Some(after(mark)?.split([',', '}']).next()?.to_owned());
        let Some(process) = word(":process ").and_then(|text| text.parse().ok()) else { continue };
        let value = quoted(":value ").unwrap_or_default();
        match (word(":type ").as_deref(), word(":f ").as_deref()) {
            (Some(":invoke"), Some(function)) => {
                let action = match function {
                    ":get" => MapAction::Get,
                    ":put" => MapAction::Put(value),
                    ":append" => MapAction::Append(value),
                    other => panic!("line {line}: {other}"),
                };
                let key = quoted(":key ").expect("a key");
                builder.invoke(process, line, MapInput { key, action });
            }
            (Some(":ok"), Some(_)) => builder.answer(process, line, value),
            _ => {}
        }
    }
    builder.ops
}

/// The arguments of each call of `function` in the module's tests.
fn labels(source: &str, function: &str) -> Vec<Vec<String>> {
    let calls = source.lines().filter_map(|line| line.trim().strip_prefix(function));
    let arguments = calls.filter_map(|rest| rest.strip_prefix("(t, ")?.strip_suffix(')'));
    arguments
        .map(|list| list.split(", ").map(|one| one.trim_matches('"').to_owned()).collect())
        .collect()
}

fn passes(verdict: &Verdict, name: &str) -> bool {
    match verdict {
        Verdict::Linearizable => true,
        Verdict::NotLinearizable(_) => false,
        Verdict::Unknown(why) => panic!("{name}: {why}"),
    }
}

#[test]
#[cfg_attr(not(peers), ignore = "needs Porcupine's histories: QUORATE_PEERS=1")]
fn jepsens_logs_of_etcd() {
    let module = module();
    let source = read(&module.join("porcupine_test.go"));
    let (mut right, mut wrong) = (0, 0);
    for label in labels(&source, "checkJepsen") {
        let number: u32 = label[0].parse().expect("a number");
        let name = format!("etcd_{number:03}.log");
        let ops = parse_jepsen(&read(&module.join("test_data/jepsen").join(&name)));
        assert!(ops.len() > 20, "{name}: {} operations", ops.len());
        let verdict = check(&CasRegister, &ops, &Bounds::default());
        let expected = label[1] == "true";
        assert_eq!(passes(&verdict, &name), expected, "{name}: {verdict:?}");
        if expected { right += 1 } else { wrong += 1 }
    }
    println!("{right} linearizable, {wrong} not");
    assert!(right >= 20 && wrong >= 70, "{right} and {wrong}");
}

#[test]
#[cfg_attr(not(peers), ignore = "needs Porcupine's histories: QUORATE_PEERS=1")]
fn maps_with_append() {
    let module = module();
    let source = read(&module.join("porcupine_test.go"));
    let labels = labels(&source, "checkKv");
    assert!(labels.len() >= 8, "{labels:?}");
    for label in labels {
        let name = format!("{}.txt", label[0]);
        let ops = parse_map(&read(&module.join("test_data/kv").join(&name)));
        assert!(ops.len() > 10, "{name}: {} operations", ops.len());
        let (expected, in_parts) = (label[1] == "true", label[2] == "true");
        let began = std::time::Instant::now();
        let verdict = if in_parts {
            check(&Map, &ops, &Bounds::default())
        } else {
            check(&WholeMap, &ops, &Bounds::default())
        };
        println!("{label:?}: {} operations, {:?}", ops.len(), began.elapsed());
        assert_eq!(passes(&verdict, &name), expected, "{label:?}: {verdict:?}");
    }
}
