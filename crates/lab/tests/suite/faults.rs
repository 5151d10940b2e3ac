//! What the engine does to processes, shown on one that only looks.

use std::fmt;
use std::time::Duration;

use lab::engine::World;
use lab::facade::{ASSERTION, Of, Run, Subject as _, Tell};
use lab::process::{Input, InputOf, NodeId, Now, Out, Process};
use lab::protocol::{About, Bears, Nodes, Operation, Protocol, Seen, Setup, Traitors, Verdict};
use lab::script::{Act, Conduct, End, Map, Script, Weather, What, When};
use lab::view::View;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Number(u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Asked for `say`, tells a number to all others; for `keep`, counts in memory and on the disk; for `wait`,
/// sets a timer of ten milliseconds. Writes down what happens to it, in a log that the test reads.
#[derive(Debug, Default)]
struct Looker {
    counted: u64,
    seen: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Say(u64),
    Keep,
    Wait,
    Trip,
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Process for Looker {
    type Message = Number;
    type Timer = u8;
    type Request = Ask;
    type Output = Number;
    type Disk = u64;

    fn step(&mut self, now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match input {
            Input::Start => {}
            Input::Restart => {
                self.seen.push(format!("memory {}, disk {}", self.counted, out.disk()))
            }
            Input::Message { from, message } => self.seen.push(format!("{message} from {from}")),
            Input::Timer(_) => {
                let (local, wall) = (now.local.as_millis(), now.wall.as_millis());
                self.seen.push(format!("timer at {local}, wall {wall}"));
            }
            Input::Request { request: Ask::Trip, .. } => panic!("{} trips", 7),
            Input::Request { request: Ask::Wait, .. } => out.set(0, Duration::from_millis(10)),
            Input::Request { request: Ask::Say(n), .. } => {
                out.send_all(NodeId::all(3), &Number(n));
            }
            Input::Request { request: Ask::Keep, .. } => {
                self.counted += 1;
                out.persist(|disk| *disk += 1);
            }
        }
    }

    fn timer(_timer: &u8) -> String {
        String::new()
    }

    fn kind(_message: &Number) -> &'static str {
        "Number"
    }
}

#[derive(Debug)]
struct Looking;

impl Protocol for Looking {
    type Process = Looker;

    const ABOUT: About = About {
        name: "looking",
        title: "",
        paper: "",
        essay: "",
        rules: &[],
        variants: &[],
        knobs: &[],
        operations: &[Operation { name: "say", args: &["number"], says: "" }],
        nodes: Nodes { min: 3, default: 3, max: 3 },
        bears: Bears { traitors: Traitors::BelowThird, ..Bears::CRASHES },
        lessons: &[],
    };

    fn new(_setup: &Setup) -> Self {
        Self
    }

    fn disk(&self, _node: NodeId) -> u64 {
        0
    }

    fn process(&self, _node: NodeId, _disk: &u64) -> Looker {
        Looker::default()
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<Ask> {
        match (op, args) {
            ("say", &[number]) => Some(Ask::Say(number)),
            ("keep", _) => Some(Ask::Keep),
            ("wait", _) => Some(Ask::Wait),
            ("trip", _) => Some(Ask::Trip),
            _ => None,
        }
    }

    fn forge(&self, _: NodeId, _: NodeId, message: &Number, choice: u64) -> Vec<Number> {
        (0..choice - 1).map(|_| Number(message.0 + 100 * choice)).collect()
    }

    fn check(&mut self, _seen: &Seen<'_, Self>, _verdict: &mut Verdict) {}

    fn view(&self, _node: NodeId, _process: Option<&Looker>, _disk: &u64) -> View {
        View::default()
    }
}

fn ask(node: usize, op: &str) -> What {
    What::Client { node: NodeId(node), op: op.to_owned(), args: vec![] }
}

fn say(node: usize, number: u64) -> What {
    What::Client { node: NodeId(node), op: "say".to_owned(), args: vec![number] }
}

/// What each of the three has seen in the end. Every message takes a millisecond.
fn seen(acts: Vec<Act>) -> Vec<Vec<String>> {
    seen_in(Weather::lockstep(), acts)
}

fn seen_in(weather: Weather, acts: Vec<Act>) -> Vec<Vec<String>> {
    let end = End { events: 10_000, at_us: 1_000_000 };
    let script = Script { weather, acts, end, calm_from_us: None };
    let setup = Setup { n: 3, ..Setup::default() };
    let mut world: World<Looking> = World::new(setup, script, false);
    world.run();
    let seen =
        |node: &lab::protocol::Node<Looking>| node.process.as_ref().map(|it| it.seen.clone());
    world.nodes().iter().map(|node| seen(node).unwrap_or_default()).collect()
}

const N0: NodeId = NodeId(0);
const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);

#[test]
fn a_crash_loses_what_was_not_persisted_and_a_lost_disk_the_rest() {
    let acts = vec![
        Act::at_ms(0, ask(0, "keep")),
        Act::at_ms(1, ask(0, "keep")),
        Act::at_ms(2, What::Crash(N0)),
        Act::at_ms(3, ask(0, "keep")),
        Act::at_ms(4, What::Restart(N0)),
    ];
    assert_eq!(vec!["memory 0, disk 2"], seen(acts.clone())[0]);
    let mut acts = acts;
    acts[4].what = What::RestartBlank(N0);
    assert_eq!(vec!["memory 0, disk 0"], seen(acts)[0]);
}

#[test]
fn a_link_is_cut_in_one_direction() {
    let acts = vec![
        Act::at_ms(0, What::Cut { from: N0, to: N1 }),
        Act::at_ms(1, say(0, 1)),
        Act::at_ms(1, say(1, 2)),
        Act::at_ms(5, What::Mend { from: N0, to: N1 }),
        Act::at_ms(6, say(0, 3)),
        // Under way when the network splits: lost.
        Act::at_ms(10, say(0, 4)),
        Act { when: When::Us(10_500), what: What::Split(vec![N2]) },
    ];
    let seen = seen(acts);
    assert_eq!(vec!["1 from n0", "2 from n1", "3 from n0", "4 from n0"], seen[0]);
    assert_eq!(vec!["2 from n1", "3 from n0", "4 from n0"], seen[1]);
    assert_eq!(vec!["1 from n0", "2 from n1", "3 from n0"], seen[2]);
}

#[test]
fn what_was_meant_for_a_paused_process_comes_when_it_goes_on() {
    let acts = vec![
        Act::at_ms(0, ask(1, "wait")),
        Act::at_ms(1, What::Pause(N1)),
        Act::at_ms(2, say(0, 1)),
        Act::at_ms(30, say(0, 2)),
        Act::at_ms(40, What::Resume(N1)),
    ];
    let seen = seen(acts);
    assert_eq!(vec!["1 from n0", "timer at 40, wall 40", "2 from n0"], seen[1]);
}

#[test]
fn clocks_run_fast_and_slow_and_are_set_wrong() {
    let clock = |node, drift_ppm| What::Clock { node, offset_us: 5_000, drift_ppm };
    let acts = vec![
        Act::at_ms(0, clock(N0, 0)),
        Act::at_ms(0, clock(N1, 250_000)),
        Act::at_ms(0, clock(N2, -500_000)),
        Act::at_ms(0, ask(0, "wait")),
        Act::at_ms(0, ask(1, "wait")),
        Act::at_ms(0, ask(2, "wait")),
        // At this time the fast one has had its timer, the others have not.
        Act::at_ms(9, What::Crash(N0)),
        Act::at_ms(9, What::Crash(N2)),
    ];
    assert_eq!(vec!["timer at 10, wall 15"], seen(acts[..6].to_vec())[2]);
    assert_eq!(vec![vec![], vec!["timer at 10, wall 15".to_owned()], vec![]], seen(acts));
}

#[test]
fn messages_are_lost_doubled_and_overtaken_as_the_weather_has_it() {
    let says: Vec<Act> = (0..50).map(|n| Act::at_ms(0, say(0, n))).collect();
    let count = |weather: Weather| seen_in(weather, says.clone())[1].len();
    let calm = Weather::calm();
    assert_eq!(50, count(calm.clone()));
    assert_eq!(0, count(Weather { drop_per_mille: 1000, ..calm.clone() }));
    assert_eq!(100, count(Weather { duplicate_per_mille: 1000, ..calm.clone() }));
    let in_order: Vec<String> = (0..50).map(|n| format!("{n} from n0")).collect();
    assert_ne!(in_order, seen_in(calm.clone(), says.clone())[1]);
    assert_eq!(in_order, seen_in(Weather { in_order: true, ..calm }, says.clone())[1]);
}

#[test]
fn a_hand_may_hold_deliver_and_lose_messages_and_let_timers_run_out() {
    // Numbers of messages: 0, 1 and 2 go to n0, n1 and n2.
    let acts = vec![
        Act::at_ms(0, say(0, 7)),
        Act::at_ms(0, What::Hold(1)),
        Act::at_ms(0, What::Lose(2)),
        Act::at_ms(20, What::Deliver(1)),
        Act::at_ms(20, ask(1, "wait")),
        Act::at_ms(22, What::Expire(N1)),
    ];
    let seen = seen(acts);
    assert_eq!(vec!["7 from n0"], seen[0]);
    assert_eq!(vec!["7 from n0", "timer at 22, wall 22"], seen[1]);
    assert!(seen[2].is_empty());
}

#[test]
fn a_traitor_lies_by_number() {
    // The truth to itself, nothing to n1, two lies to n2; the truth from then on.
    let conduct = Conduct::Script(vec![0, 1, 3]);
    let acts = vec![
        Act::at_ms(0, What::Traitor { node: N0, conduct }),
        Act::at_ms(1, say(0, 1)),
        Act::at_ms(5, say(0, 2)),
        Act::at_ms(9, What::Traitor { node: N0, conduct: Conduct::Silent }),
        Act::at_ms(10, say(0, 3)),
    ];
    let seen = seen(acts);
    assert_eq!(vec!["2 from n0"], seen[1]);
    assert_eq!(vec!["301 from n0", "301 from n0", "2 from n0"], seen[2]);
}

#[test]
fn acts_may_wait_for_events_and_come_in_any_case() {
    let acts = vec![
        Act::after_event(4, say(0, 2)),
        Act::at_ms(0, say(0, 1)),
        // Nothing happens by itself any more by then.
        Act::after_event(9_999, say(0, 3)),
    ];
    assert_eq!(vec!["1 from n0", "2 from n0", "3 from n0"], seen(acts)[1]);
}

#[test]
fn a_map_adds_the_way_between_two_places() {
    let map = Map::RoundTripsMs(vec![vec![0, 80, 0], vec![80, 0, 0], vec![0, 0, 0]]);
    let weather = Weather { map, ..Weather::lockstep() };
    let acts = vec![
        Act::at_ms(0, say(0, 1)),
        Act::at_ms(30, What::Crash(N1)),
        Act::at_ms(31, What::Restart(N1)),
    ];
    // To n2 it takes one millisecond, to n1 forty more: after the restart.
    let seen = seen_in(weather, acts);
    assert_eq!((1, 2), (seen[2].len(), seen[1].len()));
    for map in [Map::Region, Map::Continent, Map::Globe] {
        for (from, to) in [(N0, N1), (N1, N2), (N0, NodeId(6))] {
            assert_eq!(map.one_way_us(from, to), map.one_way_us(to, from), "{map:?}");
        }
    }
}

#[test]
fn a_process_that_trips_over_an_assertion_ends_its_run_and_no_more() {
    let end = End { events: 10_000, at_us: 1_000_000 };
    let acts = vec![Act::at_ms(0, say(0, 1)), Act::at_ms(9, ask(1, "trip"))];
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: None };
    let run = Run::by_hand("looking", 3, script);
    let outcome = Of::<Looking>::new().run(&run, Tell::All).unwrap();
    let broken = outcome.broken.unwrap();
    assert_eq!((ASSERTION, "7 trips"), (broken.rule.as_str(), broken.what.as_str()));
    assert_eq!(outcome.events, u64::try_from(outcome.trace.unwrap().events.len()).unwrap());
}
