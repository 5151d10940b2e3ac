//! Every target on what its encoders write, on the committed corpus, and on random changes of both.
//!
//! `QUORATE_FUZZ_CASES` (2,000 a target unless set) and `QUORATE_FUZZ_SEED` (1) make it longer, or
//! another.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use env::SplitMix64;
use fuzz::{BROKEN, TARGETS, Target, corpus, mutate};

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Tries so many changes; the first that breaks a promise.
fn search(target: &Target, cases: u64, seed: u64) -> Result<[u64; 2], String> {
    let seeds = target.seeds().unwrap();
    let mut dice = SplitMix64::new(seed);
    let mut verdicts = [0, 0];
    let mut accepted = (target.samples)();
    for input in &seeds {
        let verdict = target.attempt(input)?;
        verdicts[usize::from(verdict)] += 1;
        accepted.extend(verdict.then(|| input.clone()));
    }
    for case in 0..cases {
        // Most of a corpus is refused, each input in a way of its own; what is nearly right is
        // found beside what is accepted.
        let from = if case % 4 == 0 { &seeds } else { &accepted };
        let input = mutate::mutated(&mut dice, from, target.bytes_max);
        let verdict = target.attempt(&input).map_err(|broken| format!("case {case}: {broken}"))?;
        verdicts[usize::from(verdict)] += 1;
    }
    Ok(verdicts)
}

/// A few targets take most of the time, so each of `of` tests takes every `of`-th.
fn every(of: usize, from: usize) {
    let (cases, seed) = (variable("QUORATE_FUZZ_CASES", 2_000), variable("QUORATE_FUZZ_SEED", 1));
    let mut broken = Vec::new();
    for target in TARGETS.iter().skip(from).step_by(of) {
        match search(target, cases, seed) {
            // A search that is only refused, or never, has looked at nothing.
            Ok([refused, accepted]) => assert!(
                refused > cases / 50 && (target.is_summed || accepted > cases / 200),
                "{}: {accepted} accepted, {refused} refused",
                target.name
            ),
            Err(text) => broken.push(format!("{}: {text}", target.name)),
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn promises_are_kept_1() {
    every(4, 0);
}

#[test]
fn promises_are_kept_2() {
    every(4, 1);
}

#[test]
fn promises_are_kept_3() {
    every(4, 2);
}

#[test]
fn promises_are_kept_4() {
    every(4, 3);
}

#[test]
fn samples_are_accepted_somewhere_and_fit() {
    for target in TARGETS {
        let samples = (target.samples)();
        assert!(samples.iter().any(|sample| target.run(sample)), "{}", target.name);
        for sample in samples {
            assert!(sample.len() <= target.bytes_max, "{}: {} bytes", target.name, sample.len());
        }
    }
}

#[test]
fn the_corpus_belongs_to_targets_and_is_small() {
    let mut bytes = 0;
    for file in std::fs::read_dir(corpus::directory()).unwrap() {
        let file = file.unwrap();
        let name = file.path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(TARGETS.iter().any(|target| target.name == name), "{name} is no target");
        bytes += file.metadata().unwrap().len();
    }
    assert!(bytes <= 300 << 10, "{bytes} bytes");
}

/// A search that finds nothing must be one that would have.
#[test]
fn a_broken_decoder_is_found() {
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = search(&BROKEN, 2_000, 1);
    let memory = BROKEN.attempt(&[0, 200, 1]);
    let word = BROKEN.attempt(b"\x02\0mad!");
    std::panic::set_hook(silent);
    assert!(found.unwrap_err().contains("replay broken"));
    assert!(memory.unwrap_err().contains("bytes of memory"));
    assert!(word.unwrap_err().contains("the word was guessed"));
}
