//! Random requests to a real etcd and to the server under test; see `e2e::differential`.

use std::time::Duration;

use e2e::differential::mutants::Mutant;
use e2e::differential::{Plan, replay, run};
use e2e::tools::{self, Program, subject};

/// Requests in a run that was not told a number: a minute or two.
const REQUESTS: u64 = 20_000;

fn variable<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

fn oracle() -> Program {
    tools::oracle().expect("etcd 3.7")
}

#[test]
#[cfg_attr(not(peers), ignore = "needs a real etcd: QUORATE_PEERS=1")]
fn random_requests() {
    let subject = subject().unwrap();
    if let Ok(text) = std::env::var("QUORATE_REPLAY") {
        let (seed, numbers) = text.split_once(':').expect("SEED:NUMBER,NUMBER,...");
        let numbers: Vec<u64> = numbers.split(',').map(|number| number.parse().unwrap()).collect();
        let found =
            e2e::rpc::block_on(replay(&oracle(), &subject, seed.parse().unwrap(), &numbers));
        return found.unwrap_or_else(|error| panic!("{error:#}"));
    }
    let plan = Plan {
        requests: variable("QUORATE_REQUESTS", REQUESTS),
        seed: variable("QUORATE_SEED", 1),
        shrink: Duration::from_secs(120),
        mutant: None,
    };
    let tally = e2e::rpc::block_on(run(&oracle(), &subject, &plan))
        .unwrap_or_else(|error| panic!("{error:#}"));
    println!("{tally:#?}");
    assert!(
        tally.steps.len() == 11 || plan.requests < 5_000,
        "a kind of step never came up: {tally:?}"
    );
    assert!(
        tally.refusals.len() >= 10 || plan.requests < 5_000,
        "hardly anything refused: {tally:?}"
    );
}

/// With a real etcd on both sides there is nothing to find, and every mutant is found.
#[test]
#[cfg_attr(not(peers), ignore = "needs a real etcd: QUORATE_PEERS=1")]
fn the_test_itself() {
    let plan = Plan { requests: 1_500, seed: 11, shrink: Duration::from_secs(8), mutant: None };
    e2e::rpc::block_on(run(&oracle(), &oracle(), &plan)).expect("etcd is like itself");
    for mutant in Mutant::ALL {
        // That shrinking gets anywhere is seen on one of them.
        let shrink = if mutant == Mutant::ALL[0] { plan.shrink } else { Duration::ZERO };
        let plan = Plan { requests: 5_000, mutant: Some(mutant), shrink, ..plan };
        let found = e2e::rpc::block_on(run(&oracle(), &oracle(), &plan));
        let text = format!("{:#}", found.expect_err(&format!("{mutant:?} was not found")));
        assert!(text.contains("the answers differ"), "{mutant:?}: {text}");
    }
}
