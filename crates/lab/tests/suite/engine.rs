//! The engine's promises, shown on Paxos.

use lab::check::{check, setup_of};
use lab::compare::compare;
use lab::facade::{Run, RunError, Tell};
use lab::process::NodeId;
use lab::protocol::Setup;
use lab::registry::{PROTOCOLS, find};
use lab::script::{Act, End, Map, Script, Weather, What, When};
use lab::shrink::{fork, shrink};
use lab::story::{self, Tells};
use lab::trace::KEYFRAME_EVENTS;

use crate::support::{lesson, subject};

#[test]
fn a_run_is_its_data() {
    for subject in PROTOCOLS {
        for seed in 0..20 {
            let setup = Setup { seed, ..Setup::default() };
            let run = subject.generate(&setup).unwrap();
            let text = serde_json::to_string(&run).unwrap();
            let again: Run = serde_json::from_str(&text).unwrap();
            assert_eq!(run, again);
            let one = subject.run(&run, Tell::End).unwrap();
            // Being written down changes nothing.
            let other = subject.run(&again, Tell::All).unwrap();
            assert_eq!((one.events, &one.digest), (other.events, &other.digest));
            let next = Setup { seed: seed + 1, ..setup };
            let next = subject.run(&subject.generate(&next).unwrap(), Tell::End).unwrap();
            assert_ne!(one.digest, next.digest);
        }
    }
}

#[test]
fn a_run_forks_at_any_event() {
    let subject = subject("paxos");
    let run = subject.generate(&Setup { seed: 3, ..Setup::default() }).unwrap();
    // Of what nothing came is known in the end only.
    let traced = |run: &Run| {
        let mut trace = subject.run(run, Tell::All).unwrap().trace.unwrap();
        trace.events.iter_mut().for_each(|event| event.idle = false);
        trace
    };
    let whole = traced(&run);
    for at in [5, 10, 50, whole.events.len() / 2] {
        let at_us = whole.events[at - 1].at_us;
        let events = u64::try_from(at).unwrap();
        let act = Act::at_ms(0, What::Crash(NodeId(1)));
        let script = fork(&run.script, events, at_us, false, vec![act]);
        let forked = traced(&Run { script, ..run.clone() });
        assert_eq!(whole.events[..at], forked.events[..at]);
        assert_eq!("n1 crashes", forked.events[at].text);
    }
}

#[test]
fn a_counterexample_shrinks_and_breaks_the_same_rule() {
    let subject = subject("paxos");
    let setup = setup_of(subject, "forget-promise").unwrap();
    let found = check(subject, &setup, 1_000).unwrap().found.unwrap();
    let smallest = shrink(subject, &found, 1_000).unwrap();
    assert_eq!(found.broken.rule, smallest.broken.rule);
    assert!(smallest.run.script.acts.len() < found.run.script.acts.len());
    assert!(smallest.run.script.acts.len() <= 5, "{:?}", smallest.run.script.acts);
    // The first thing is done at once.
    assert!(smallest.run.script.acts.iter().any(|act| act.when == When::Us(0)));
    let outcome = subject.run(&smallest.run, Tell::All).unwrap();
    let story = story::of(&outcome, Tells::Changes);
    assert!(story.contains("restarts with its disk"), "{story}");
    assert!(story.ends_with(&format!("BROKEN  {}\n", smallest.broken)), "{story}");
}

#[test]
fn a_keyframe_is_what_the_changes_up_to_it_add_up_to() {
    let subject = subject("paxos");
    let mut run = lesson("paxos", "duel");
    run.script.acts.push(Act::at_ms(100, What::Cut { from: NodeId(0), to: NodeId(1) }));
    run.script.acts.push(Act::at_ms(120, What::Heal));
    run.script.acts.push(Act::at_ms(140, What::Pause(NodeId(1))));
    run.script.acts.push(Act::at_ms(160, What::Resume(NodeId(1))));
    let trace = subject.run(&run, Tell::All).unwrap().trace.unwrap();
    let mut frame = trace.keyframes[0].clone();
    let mut in_flight = std::collections::BTreeSet::new();
    for (number, event) in trace.events.iter().enumerate() {
        let every = usize::try_from(lab::trace::KEYFRAME_EVENTS).unwrap();
        if number % every == 0 {
            frame.in_flight = in_flight.iter().copied().collect();
            assert_eq!(trace.keyframes[number / every], frame, "before event {number}");
        }
        if let (Some(node), Some(now)) = (event.node, &event.now) {
            frame.nodes[node.0] = now.clone();
        }
        if let Some(cut) = &event.cut {
            frame.cut.clone_from(cut);
        }
        in_flight.extend(&event.sent);
        for gone in event.lost.iter().chain(&event.message) {
            in_flight.remove(gone);
        }
    }
    assert!(trace.events.len() > 1_000, "only {} events", trace.events.len());
}

#[test]
fn what_cannot_be_run_is_refused_with_the_reason() {
    let subject = subject("paxos");
    let run = |acts| {
        let end = End { events: 100, at_us: 1_000 };
        let script = Script { weather: Weather::calm(), acts, end, calm_from_us: None };
        Run::by_hand("paxos", 3, script)
    };
    let refused = |run: &Run| subject.run(run, Tell::End).unwrap_err();
    let stranger = run(vec![Act::at_ms(0, What::Crash(NodeId(3)))]);
    assert_eq!(RunError::NoNode(0), refused(&stranger));
    let op = What::Client { node: NodeId(0), op: "sing".into(), args: vec![] };
    assert_eq!(RunError::NoOperation(0), refused(&run(vec![Act::at_ms(0, op)])));
    for (what, run) in [
        ("mistake", run(vec![]).broken("x")),
        ("setting", run(vec![]).with("x", 1)),
        ("rule", run(vec![]).watching("x")),
    ] {
        let error = refused(&run);
        assert!(matches!(&error, RunError::Unknown { what: said, .. } if *said == what));
        // What there is, is said.
        assert!(error.to_string().contains("; there are "), "{error}");
    }
    let none = Run { protocol: "x".into(), ..run(vec![]) };
    assert_eq!(RunError::OtherProtocol("x".into()), refused(&none));
    assert!(matches!(find("x"), Err(RunError::Unknown { what: "protocol", .. })));
}

/// One write, every message a millisecond: what a leader saves, and what the distance costs.
#[test]
fn one_script_runs_on_several_protocols_side_by_side() {
    let write = |value| What::Client { node: NodeId(0), op: "write".into(), args: vec![value] };
    let script = |map| Script {
        weather: Weather { map, ..Weather::lockstep() },
        // Whoever has a leader has it by then.
        acts: vec![Act::at_ms(0, What::Expire(NodeId(0))), Act::at_ms(5_000, write(1))],
        end: End { events: 100_000, at_us: 8_000_000 },
        calm_from_us: None,
    };
    let run = |name, n, map| {
        let plain = [("pre_vote".to_owned(), 0), ("write_us".to_owned(), 0)];
        let patient = [("timeout_ms".to_owned(), 5_000)];
        let knobs = if name == "raft" { plain.into() } else { patient.into() };
        let setup = Setup { n, knobs, ..Setup::default() };
        compare(&[(subject(name), setup)], &script(map)).unwrap().remove(0)
    };
    let paxos = run("paxos", 3, Map::Room);
    let raft = run("raft", 3, Map::Room);
    assert_eq!((1, 1), (paxos.answered, raft.answered), "{paxos:?} {raft:?}");
    // Two round trips against one, or a little more if the leader is another.
    assert_eq!((Some(4_000), Some(4)), (paxos.latency_us.map(|it| it.0), paxos.rounds));
    assert!(raft.latency_us.unwrap().0 <= 3_000, "{raft:?}");
    // A majority of three of the globe is nearer than one of seven.
    let globe: Vec<u64> =
        [3, 5, 7].map(|n| run("paxos", n, Map::Globe).latency_us.unwrap().0).to_vec();
    println!("Paxos on the globe, 3, 5 and 7: {globe:?} us");
    assert!(globe[0] < globe[2], "{globe:?}");
}

/// A hundred thousand events can be written down, and scrubbed by keyframes.
#[test]
fn a_long_run_is_written_down_whole() {
    let mut run = lesson("paxos", "duel");
    run.script.end = End { events: 100_000, at_us: 600_000_000 };
    let begun = std::time::Instant::now();
    let trace = subject("paxos").run(&run, Tell::All).unwrap().trace.unwrap();
    let made = begun.elapsed();
    let text = serde_json::to_string(&trace).unwrap();
    println!("{} events: {made:.2?}, {} bytes as JSON", trace.events.len(), text.len());
    assert_eq!(100_000, trace.events.len());
    assert_eq!(100_000 / usize::try_from(KEYFRAME_EVENTS).unwrap() + 1, trace.keyframes.len());
}

/// What the page shows beside a run: each rule, and since when it is broken, watched or not.
#[test]
fn the_state_of_every_rule_is_known_for_every_event() {
    let run = lesson("paxos", "highest-not-commonest").broken("commonest-value");
    let outcome = subject("paxos").run(&run.watching("chosen-once"), Tell::End).unwrap();
    let rules: Vec<&str> = outcome.all_broken.iter().map(|it| it.broken.rule.as_str()).collect();
    assert_eq!(vec!["highest-ballot", "chosen-once"], rules);
    assert!(outcome.all_broken[0].event < outcome.all_broken[1].event);
    assert_eq!(outcome.events, outcome.all_broken[1].event + 1);
}

/// Every lesson can be run, and breaks nothing as the protocol should be, unless that is its point.
#[test]
fn lessons_run() {
    for subject in PROTOCOLS {
        for lesson in subject.about().lessons {
            let outcome = subject.run(&(lesson.run)(), Tell::All).unwrap();
            let broken = outcome.broken.is_some();
            assert_eq!(
                lesson.name == "three-and-one",
                broken,
                "{} {}",
                subject.about().name,
                lesson.name
            );
        }
    }
}
