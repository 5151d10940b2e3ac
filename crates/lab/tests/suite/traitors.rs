//! Every protocol can be lied to. Those that are made for traitors bear some; of the others it can be seen what a lie
//! does, and they are never checked with one.

use lab::facade::{ASSERTION, Run, Subject, Tell};
use lab::process::NodeId;
use lab::protocol::{RuleKind, Setup, Traitors};
use lab::registry::{self, PROTOCOLS};
use lab::script::{Act, Conduct, End, Script, Weather, What};
use lab::story::{self, Tells};

fn is_made_for(subject: &dyn Subject) -> bool {
    subject.about().bears.traitors != Traitors::None
}

/// The run of a seed, in which somebody turns traitor at once.
fn with_traitor(subject: &dyn Subject, seed: u64, conduct: Conduct) -> Run {
    let mut run = subject.generate(&Setup { seed, ..Setup::default() }).unwrap();
    let node = NodeId(usize::try_from(seed).unwrap() % run.setup.n);
    run.script.acts.insert(0, Act::at_ms(0, What::Traitor { node, conduct }));
    run
}

fn others() -> impl Iterator<Item = &'static dyn Subject> {
    PROTOCOLS.iter().copied().filter(|&subject| !is_made_for(subject))
}

#[test]
fn nobody_who_is_not_made_for_traitors_is_checked_with_one() {
    for subject in others() {
        for seed in 0..300 {
            let run = subject.generate(&Setup { seed, ..Setup::default() }).unwrap();
            let traitor = |act: &Act| matches!(act.what, What::Traitor { .. });
            assert!(!run.script.acts.iter().any(traitor), "{} {seed}", run.protocol);
        }
    }
}

/// What others say is validated and not asserted.
#[test]
fn nobody_falls_over_a_lie() {
    for subject in others() {
        for seed in 0..200 {
            let run = with_traitor(subject, seed, Conduct::Lies { per_mille: 600 });
            let mut everything = run.clone();
            // It goes on past the rules that break.
            let last = subject.about().rules.last().unwrap();
            everything.setup.watched.insert(last.name.to_owned());
            for run in [run, everything] {
                let broken = subject.run(&run, Tell::End).unwrap().broken;
                let asserted = broken.filter(|broken| broken.rule == ASSERTION);
                assert_eq!(None, asserted, "{} {seed}", run.protocol);
            }
        }
    }
}

/// Who only says nothing is to the others as one that has crashed, and of himself nothing is asked.
#[test]
fn a_traitor_that_says_nothing_breaks_nothing() {
    for subject in others() {
        for seed in 0..200 {
            let outcome = subject.run(&with_traitor(subject, seed, Conduct::Silent), Tell::End);
            assert_eq!(None, outcome.unwrap().broken, "{} {seed}", subject.about().name);
        }
    }
}

/// Who lies breaks a promise to the loyal, where nobody is prepared for it.
#[test]
fn a_lie_breaks_what_is_promised() {
    for name in ["raft", "paxos", "multi-paxos", "zab", "kraft"] {
        let subject = registry::find(name).unwrap();
        let about = subject.about();
        let breaks = |seed: &u64| {
            let mut run = with_traitor(subject, *seed, Conduct::Lies { per_mille: 600 });
            run.setup.watched = about.promises().map(str::to_owned).collect();
            let broken = subject.run(&run, Tell::End).unwrap().broken;
            let kind = |rule: &str| about.kind_of(rule) == Some(RuleKind::Promise);
            broken.is_some_and(|broken| kind(&broken.rule))
        };
        let found = (0..500).find(breaks);
        println!("{name}: {found:?}");
        assert!(found.is_some(), "{name}");
    }
}

/// Silence, a thing said twice, a thing said before: lies that need no words of the protocol's.
#[test]
fn a_traitor_lies_by_number_where_nobody_is_prepared_for_one() {
    let client = What::Client { node: NodeId(0), op: "write".to_owned(), args: vec![1] };
    let conduct = Conduct::Script(vec![6, 7, 8]);
    let acts = vec![
        Act::at_ms(0, What::Traitor { node: NodeId(0), conduct }),
        Act::at_ms(1, client),
        Act::at_ms(2, What::Traitor { node: NodeId(0), conduct: Conduct::Loyal }),
    ];
    let end = End { events: 1_000, at_us: 10_000 };
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: None };
    let run = Run::by_hand("wait-for-all", 4, script);
    let outcome = registry::find("wait-for-all").unwrap().run(&run, Tell::All).unwrap();
    let trace = outcome.trace.unwrap();
    let to = |node| trace.messages.iter().filter(|it| it.to == NodeId(node)).count();
    assert_eq!([0, 2, 1], [1, 2, 3].map(to), "{:?}", trace.messages);
    // What differs from what it should have said is marked, and so is what it keeps back.
    let lies = |node| -> Vec<bool> {
        trace.messages.iter().filter(|it| it.to == NodeId(node)).map(|it| it.lie).collect()
    };
    assert_eq!([vec![], vec![false, true], vec![false]], [1, 2, 3].map(lies));
    let kept_back: Vec<NodeId> =
        trace.events.iter().flat_map(|event| &event.kept_back).map(|(to, _)| *to).collect();
    assert_eq!(vec![NodeId(1)], kept_back);
    // It was a traitor, and is none any more.
    let of_it = trace.events.iter().filter(|event| event.node == Some(NodeId(0)));
    let frames = of_it.filter_map(|event| event.now.as_ref());
    let lied: Vec<(bool, bool)> = frames.map(|frame| (frame.traitor, frame.lies)).collect();
    assert!(lied.contains(&(true, true)) && lied.last() == Some(&(true, false)), "{lied:?}");
}

/// Whoever looks at a run, as a story, on the page or as JSON, sees which words are lies.
#[test]
fn a_lie_is_marked_wherever_it_is_shown() {
    for &subject in PROTOCOLS {
        let name = subject.about().name;
        let mut lies = 0;
        for seed in 0..20 {
            let run = with_traitor(subject, seed, Conduct::Lies { per_mille: 600 });
            let generated = run.script.acts.iter().filter_map(|act| match act.what {
                What::Traitor { node, .. } => Some(node),
                _ => None,
            });
            let traitors: Vec<NodeId> = generated.collect();
            let outcome = subject.run(&run, Tell::All).unwrap();
            let story = story::of(&outcome, Tells::Everything);
            let trace = outcome.trace.unwrap();
            let marked: Vec<_> = trace.messages.iter().filter(|message| message.lie).collect();
            let loyal = marked.iter().find(|message| !traitors.contains(&message.from));
            assert_eq!(None, loyal, "{name} {seed}");
            let kept_back = trace.events.iter().any(|event| !event.kept_back.is_empty());
            assert_eq!(!marked.is_empty() || kept_back, story.contains("[a lie]"), "{name} {seed}");
            let json = serde_json::to_string(&trace).unwrap();
            assert_eq!(marked.len(), json.matches("\"lie\":true").count());
            assert_eq!(trace, serde_json::from_str(&json).unwrap());
            lies += marked.len();
        }
        assert!(lies > 0, "{name}");
        // Nobody lies where nobody is a traitor.
        let run = subject.generate(&Setup { seed: 1, ..Setup::default() }).unwrap();
        if !run.script.acts.iter().any(|act| matches!(act.what, What::Traitor { .. })) {
            let trace = subject.run(&run, Tell::All).unwrap().trace.unwrap();
            assert!(trace.messages.iter().all(|message| !message.lie), "{name}");
        }
    }
}

/// The same lies in the same run, byte for byte.
#[test]
fn a_traitor_can_be_replayed() {
    for subject in others() {
        let run = with_traitor(subject, 3, Conduct::Lies { per_mille: 600 });
        let digest = || subject.run(&run, Tell::End).unwrap().digest;
        assert_eq!(digest(), digest());
    }
}
