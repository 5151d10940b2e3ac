//! What the adversary of Fischer, Lynch and Paterson must show.

use lab::facade::{Of, Run, Subject as _};
use lab::flp::{
    Adversary, Bounds, Certificate, Configuration, Ending, Everyone, Fault, Step, fair, verify,
};
use lab::process::NodeId;
use lab::protocol::{Protocol, Setup};
use lab::protocols::paxos::{Paxos, PaxosProcess, Value};
use lab::script::{Act, End, Script, Weather, What};

use crate::support::{clean, holds, variants_are_caught};

fn setup<P: Protocol>(n: usize) -> Setup {
    Of::<P>::new().setup(&Setup { n, ..Setup::default() }).unwrap()
}

/// Paxos with three processes, of which two propose, 0 and 1.
fn paxos() -> Configuration<PaxosProcess> {
    let protocol = Paxos::new(&setup::<Paxos>(3));
    Configuration::initial(&protocol, &[Some(Value(0)), None, Some(Value(1))])
}

fn value(value: &Value) -> u64 {
    value.0
}

fn attacked(stages: usize) -> (Ending, Certificate) {
    let mut adversary = Adversary::new(paxos(), value);
    let ending = adversary.run(Bounds { stages, configurations: 20_000 });
    (ending, adversary.certificate().clone())
}

#[test]
fn paxos_is_kept_from_deciding_for_a_thousand_stages() {
    let (ending, certificate) = attacked(1_000);
    assert_eq!(Ending::Undecided, ending);
    let verified = verify(&paxos(), &certificate, value).unwrap();
    println!("{verified:?}");
    assert_eq!(1_000, verified.stages);
    // Nobody crashed: everyone took a step at least when it was its turn.
    assert!(verified.steps_of_each.iter().all(|&steps| steps >= 333), "{verified:?}");
    // Every message is delivered in the end: by now all that were sent up to a few stages ago.
    assert!(verified.delivered_up_to_stage >= 900, "{verified:?}");
    // The same again, byte for byte.
    let again = serde_json::to_string(&attacked(1_000).1).unwrap();
    assert_eq!(serde_json::to_string(&certificate).unwrap(), again);
}

/// A protocol of another shape: no leader, no ballots, rounds in which all do the same. The adversary knows its coins
/// before they are tossed, so it is a deterministic protocol to it.
#[test]
fn ben_or_with_its_coins_known_is_kept_from_deciding_as_well() {
    let bounds = Bounds { stages: 1_000, configurations: 20_000 };
    let attack = lab::flp::attack("ben-or", bounds).unwrap();
    assert_eq!(Ending::Undecided, attack.ending);
    let verified = attack.verified.expect("the check replays it");
    assert_eq!(1_000, verified.stages);
    assert!(verified.steps_of_each.iter().all(|&steps| steps >= 333), "{verified:?}");
    assert!(verified.delivered_up_to_stage >= 900, "{verified:?}");
    assert_eq!(attack.certificate, lab::flp::attack("ben-or", bounds).unwrap().certificate);
}

#[test]
fn with_delays_bounded_the_same_paxos_decides() {
    let steps = fair(&paxos(), None, 1_000).expect("it decides");
    println!("{} steps", steps.len());
    let write =
        |node, value| What::Client { node: NodeId(node), op: "write".into(), args: vec![value] };
    for seed in 0..20 {
        let acts = vec![Act::at_ms(0, write(0, 0)), Act::at_ms(0, write(2, 1))];
        let end = End { events: 100_000, at_us: 10_000_000 };
        let script = Script { weather: Weather::calm(), acts, end, calm_from_us: Some(0) };
        let outcome = holds(&Run::by_hand("paxos", 3, script).seeded(seed));
        assert_eq!(3, outcome.tally.decided, "seed {seed}");
    }
}

#[test]
fn waiting_for_all_blocks_after_one_crash() {
    let protocol = Everyone::new(&setup::<Everyone>(3));
    let bits = [0, 1, 1].map(|bit| protocol.request("write", &[bit]));
    let mut adversary =
        Adversary::new(Configuration::initial(&protocol, &bits), |bit: &lab::flp::Bit| bit.0);
    let ending = adversary.run(Bounds { stages: 10, configurations: 100 });
    assert_eq!(Ending::BlocksAfterCrash(NodeId(0)), ending);
}

#[test]
fn equal_inputs_leave_nothing_open() {
    let protocol = Paxos::new(&setup::<Paxos>(3));
    let initial = Configuration::initial(&protocol, &[Some(Value(1)), None, Some(Value(1))]);
    let ending = Adversary::new(initial, value).run(Bounds { stages: 10, configurations: 100 });
    assert_eq!(Ending::NotBivalent, ending);
}

#[test]
fn a_search_that_is_exhausted_says_so() {
    let mut adversary = Adversary::new(paxos(), value);
    let ending = adversary.run(Bounds { stages: 1_000, configurations: 1 });
    assert!(matches!(ending, Ending::Exhausted { looked_at: 1, .. }), "{ending:?}");
    // What it had by then holds.
    verify(&paxos(), adversary.certificate(), value).unwrap();
}

#[test]
fn the_checker_believes_nothing() {
    let (_, good) = attacked(30);
    let fault = |change: fn(&mut Certificate)| {
        let mut bad = good.clone();
        change(&mut bad);
        verify(&paxos(), &bad, value).unwrap_err()
    };
    assert_eq!(Fault::Turn(3), fault(|bad| bad.stages[3].node = NodeId(2)));
    assert_eq!(
        Fault::NotOldest(0),
        fault(|bad| bad.stages[0].event = Step::Idle { node: NodeId(0) })
    );
    let early = fault(|bad| {
        let event = bad.stages[5].event;
        bad.stages[5].before.push(event);
    });
    assert_eq!(Fault::Early(5), early);
    assert_eq!(
        Fault::Witness { stage: 8, value: 0 },
        fault(|bad| bad.stages[7].witnesses.swap(0, 1))
    );
    assert_eq!(Fault::Witness { stage: 0, value: 1 }, fault(|bad| bad.witnesses[1].clear()));
    let decided = fault(|bad| {
        // Stage 4 begins with what decides.
        let witness = bad.stages[3].witnesses[0].clone();
        let event = bad.stages[4].event;
        bad.stages[4].before = witness.into_iter().filter(|step| *step != event).collect();
    });
    assert!(matches!(decided, Fault::Decided(4) | Fault::Impossible(4)), "{decided:?}");
}

#[test]
fn an_attack_by_name_is_checked_and_can_be_shown() {
    let bounds = Bounds { stages: 300, configurations: 20_000 };
    let attack = lab::flp::attack("paxos", bounds).unwrap();
    assert_eq!(Ending::Undecided, attack.ending);
    let verified = attack.verified.unwrap();
    assert_eq!(verified.steps, attack.trace.events.len());
    assert_eq!(usize::try_from(verified.sent).unwrap(), attack.trace.messages.len());
    let under_way = attack.trace.messages.iter().filter(|message| message.end.is_none()).count();
    assert_eq!(verified.undelivered, under_way);
    let blocked = lab::flp::attack("wait-for-all", bounds).unwrap();
    assert_eq!((Ending::BlocksAfterCrash(NodeId(0)), None), (blocked.ending, blocked.verified));
    assert!(lab::flp::attack("raft", bounds).is_err());
}

#[test]
fn waiting_for_all_never_disagrees_and_waiting_for_fewer_does() {
    clean("wait-for-all", &Setup::default(), 1_000);
    variants_are_caught("wait-for-all", &[]);
}
