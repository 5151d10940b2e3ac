//! The engine's promises, shown on Paxos.

use lab::check::{check, setup_of};
use lab::facade::{Run, RunError, Tell};
use lab::process::NodeId;
use lab::protocol::Setup;
use lab::registry::{PROTOCOLS, find};
use lab::script::{Act, End, Script, Weather, What};
use lab::shrink::{fork, shrink};
use lab::story;

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
    let whole = subject.run(&run, Tell::All).unwrap().trace.unwrap();
    for at in [5, 10, 50, whole.events.len() / 2] {
        let at_us = whole.events[at - 1].at_us;
        let events = u64::try_from(at).unwrap();
        let act = Act::at_ms(0, What::Crash(NodeId(1)));
        let script = fork(&run.script, events, at_us, false, vec![act]);
        let forked = Run { script, ..run.clone() };
        let forked = subject.run(&forked, Tell::All).unwrap().trace.unwrap();
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
    let outcome = subject.run(&smallest.run, Tell::All).unwrap();
    let story = story::tell(&outcome.trace.unwrap(), Some(&smallest.broken.to_string()));
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
    assert_eq!(RunError::NoVariant("x".into()), refused(&run(vec![]).broken("x")));
    assert_eq!(RunError::NoKnob("x".into()), refused(&run(vec![]).with("x", 1)));
    assert_eq!(RunError::NoRule("x".into()), refused(&run(vec![]).watching("x")));
    let none = Run { protocol: "x".into(), ..run(vec![]) };
    assert_eq!(RunError::OtherProtocol("x".into()), refused(&none));
    assert!(matches!(find("x"), Err(RunError::NoProtocol(_))));
}
