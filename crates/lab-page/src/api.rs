//! What the page asks: JSON in, JSON out. Every question stands for itself.

use bytes::Bytes;
use lab::check::{self, Found, Search};
use lab::compare;
use lab::facade::{Outcome, Run, RunError, Subject, Tell};
use lab::flp::{self, Bounds};
use lab::protocol::Setup;
use lab::script::Script;
use lab::{registry, shrink, tax, tour};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Seeds in one answer: the page asks again, shows how far it is, and asks no more when it is stopped.
const SEEDS_AT_ONCE: u64 = 100;
/// Runs that a counterexample is cut down by.
const SHRINK_RUNS_MAX: u64 = 3_000;
/// Stages of the adversary.
const STAGES_MAX: usize = 2_000;
/// Configurations that it looks at for one stage.
const CONFIGURATIONS_MAX: usize = 20_000;

/// An answer.
pub(crate) struct Answer {
    /// Its media type.
    pub(crate) kind: &'static str,
    /// What it is.
    pub(crate) body: Bytes,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nobody knows what is asked.
    #[error("there is no such question")]
    Unknown,
    /// The question cannot be read.
    #[error("the question cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The lab refuses it.
    #[error("{0}")]
    Run(#[from] RunError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfProtocol {
    protocol: String,
    #[serde(default)]
    setup: Setup,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfVariant {
    protocol: String,
    variant: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Searched {
    protocol: String,
    search: Search,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Comparison {
    protocols: Vec<String>,
    script: Script,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attack {
    protocol: String,
    stages: usize,
}

/// A run, and the setup that it was made with.
#[derive(Serialize)]
struct Ran {
    setup: Setup,
    #[serde(flatten)]
    outcome: Outcome,
}

/// A protocol with the runs of its lessons.
#[derive(Serialize)]
struct Described {
    #[serde(flatten)]
    about: &'static lab::protocol::About,
    runs: Vec<Run>,
    /// Whether the adversary of Fischer, Lynch and Paterson can be set on it.
    attackable: bool,
}

/// Answers a question: the part of its path behind `/api/`, and its body.
pub(crate) fn answer(question: &str, body: &[u8]) -> Result<Answer, Refusal> {
    match question {
        "protocols" => json(&registry::PROTOCOLS.iter().map(describe).collect::<Vec<_>>()),
        "run" => {
            let run: Run = read(body)?;
            let subject = registry::find(&run.protocol)?;
            json(&Ran { setup: subject.setup(&run.setup)?, outcome: subject.run(&run, Tell::All)? })
        }
        "generate" => {
            let asked: OfProtocol = read(body)?;
            json(&registry::find(&asked.protocol)?.generate(&asked.setup)?)
        }
        "variant" => {
            let asked: OfVariant = read(body)?;
            json(&check::setup_of(registry::find(&asked.protocol)?, &asked.variant)?)
        }
        "search" => {
            let Searched { protocol, mut search } = read(body)?;
            search.go_on(registry::find(&protocol)?, SEEDS_AT_ONCE)?;
            json(&search)
        }
        "shrink" => {
            let found: Found = read(body)?;
            let subject = registry::find(&found.run.protocol)?;
            json(&shrink::shrink(subject, &found, SHRINK_RUNS_MAX)?)
        }
        "compare" => {
            let asked: Comparison = read(body)?;
            let subject = |name: &String| Ok((registry::find(name)?, Setup::default()));
            let subjects: Result<Vec<_>, RunError> = asked.protocols.iter().map(subject).collect();
            json(&compare::compare(&subjects?, &asked.script)?)
        }
        "flp" => {
            let asked: Attack = read(body)?;
            let stages = asked.stages.min(STAGES_MAX);
            let bounds = Bounds { stages, configurations: CONFIGURATIONS_MAX };
            json(&flp::attack(&asked.protocol, bounds)?)
        }
        "tour" => json(&tour::tour()),
        "tax" => json(&tax::all()?),
        "tax.svg" => {
            let body = tax::plot(&tax::all()?).into();
            Ok(Answer { kind: "image/svg+xml", body })
        }
        _ => Err(Refusal::Unknown),
    }
}

fn describe(subject: &&'static dyn Subject) -> Described {
    let about = subject.about();
    let runs = about.lessons.iter().map(|lesson| (lesson.run)()).collect();
    Described { about, runs, attackable: flp::TARGETS.contains(&about.name) }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    Ok(serde_json::from_slice(body)?)
}

fn json<T: Serialize>(answer: &T) -> Result<Answer, Refusal> {
    let body = serde_json::to_vec(answer)?.into();
    Ok(Answer { kind: "application/json", body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(question: &str, body: &serde_json::Value) -> serde_json::Value {
        let answer = answer(question, body.to_string().as_bytes()).unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// The way of a visitor: look, find a counterexample, cut it down, see it.
    #[test]
    fn a_counterexample_is_found_cut_down_and_run() {
        let protocols = ask("protocols", &serde_json::Value::Null);
        assert!(protocols.as_array().unwrap().iter().any(|about| about["name"] == "paxos"));
        let of = serde_json::json!({ "protocol": "paxos", "variant": "forget-promise" });
        let setup = ask("variant", &of);
        let mut search = serde_json::json!({ "setup": setup, "seeds": 1000 });
        while search["over"] != true {
            search = ask("search", &serde_json::json!({ "protocol": "paxos", "search": search }));
        }
        let found = &search["report"]["found"];
        let smallest = ask("shrink", found);
        let outcome = ask("run", &smallest["run"]);
        assert_eq!(outcome["broken"]["rule"], found["broken"]["rule"]);
        assert!(outcome["trace"]["events"].as_array().unwrap().len() > 5);
    }

    #[test]
    fn what_cannot_be_run_is_refused_in_words() {
        let refusal = |question: &str, body: &str| {
            answer(question, body.as_bytes()).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(refusal("nothing", ""), "there is no such question");
        assert!(refusal("run", "{}").contains("cannot be read"));
        let unknown = r#"{"protocol": "telepathy"}"#;
        assert!(refusal("generate", unknown).contains("telepathy"));
    }

    #[test]
    fn a_plot_is_an_image() {
        let plot = answer("tax.svg", b"").unwrap();
        assert_eq!(plot.kind, "image/svg+xml");
        assert!(plot.body.starts_with(b"<svg"));
    }
}
