//! The adversary by name, for the command line and the page.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::adversary::{Adversary, Bounds, Ending};
use super::certificate::{Certificate, Verified, verify};
use super::configuration::{Configuration, Step, Subject};
use super::wait_for_all::{self, Everyone};
use crate::facade::{Of, RunError, Subject as _};
use crate::process::{NodeId, Process};
use crate::protocol::{DiskOf, Protocol, Setup};
use crate::protocols::benor;
use crate::protocols::paxos::{Paxos, Value};
use crate::trace::{
    Event, KEYFRAME_EVENTS, Keyframe, Message, MessageEnd, NodeFrame, Status, Trace,
};

/// The protocols that can be attacked: Paxos; Ben-Or, whose coins the adversary knows beforehand, so that it is
/// deterministic; and one that waits for everybody, which does not do what the theorem would keep it from.
pub const TARGETS: &[&str] = &["paxos", "ben-or", "wait-for-all"];

/// What came of an attack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attack {
    /// How it ended.
    pub ending: Ending,
    /// The schedule, with its witnesses.
    pub certificate: Certificate,
    /// What the checker says of it; `None` if there is no schedule.
    pub verified: Option<Verified>,
    /// The schedule as a run, a millisecond to a step.
    pub trace: Trace,
}

/// Attacks a protocol with three processes: the inputs of the first and the last are 0 and 1.
///
/// # Errors
/// If the protocol cannot be attacked.
pub fn attack(name: &str, bounds: Bounds) -> Result<Attack, RunError> {
    match name {
        "paxos" => attack_on::<Paxos>([Some(0), None, Some(1)], |value: &Value| value.0, bounds),
        "ben-or" => {
            let value = |bit: &benor::Bit| u64::from(bit.0);
            attack_on::<benor::Observer>([Some(0), Some(1), Some(1)], value, bounds)
        }
        "wait-for-all" => {
            let value = |bit: &wait_for_all::Bit| bit.0;
            attack_on::<Everyone>([Some(0), Some(1), Some(1)], value, bounds)
        }
        _ => Err(RunError::unknown("protocol that can be attacked", name, TARGETS.iter().copied())),
    }
}

fn attack_on<O: Protocol<Process: Subject>>(
    inputs: [Option<u64>; 3],
    value: fn(&<O::Process as Process>::Output) -> u64,
    bounds: Bounds,
) -> Result<Attack, RunError> {
    let setup = Of::<O>::new().setup(&Setup { n: inputs.len(), ..Setup::default() })?;
    let protocol = O::new(&setup);
    let inputs = inputs.map(|input| input.and_then(|bit| protocol.request("write", &[bit])));
    let initial = Configuration::initial(&protocol, &inputs);
    let mut adversary = Adversary::new(initial.clone(), value);
    let ending = adversary.run(bounds);
    let certificate = adversary.certificate().clone();
    let begun = !certificate.stages.is_empty();
    let verified = begun.then(|| verify(&initial, &certificate, value).ok()).flatten();
    let steps: Vec<Step> = certificate
        .stages
        .iter()
        .flat_map(|stage| stage.before.iter().chain([&stage.event]).copied())
        .collect();
    let trace = show(&protocol, initial, &steps);
    Ok(Attack { ending, certificate, verified, trace })
}

/// A schedule as a run, a millisecond to a step.
fn show<O: Protocol<Process: Subject>>(
    protocol: &O,
    mut configuration: Configuration<O::Process>,
    steps: &[Step],
) -> Trace {
    let all = configuration.len();
    let frame = |configuration: &Configuration<O::Process>, id: NodeId| {
        let (process, disk): (&O::Process, &DiskOf<O>) = configuration.process(id);
        let view = protocol.view(id, Some(process), disk);
        NodeFrame { status: Status::Up, traitor: false, lies: false, view }
    };
    let mut frames: Vec<NodeFrame> = NodeId::all(all).map(|id| frame(&configuration, id)).collect();
    let mut trace = Trace { nodes: all, ..Trace::default() };
    // The numbers in the trace of messages on their way.
    let mut flying: BTreeMap<(NodeId, u64), u64> = BTreeMap::new();
    for (number, &step) in (0_u64..).zip(steps) {
        if number % KEYFRAME_EVENTS == 0 {
            let mut in_flight: Vec<u64> = flying.values().copied().collect();
            in_flight.sort_unstable();
            trace.keyframes.push(Keyframe { nodes: frames.clone(), cut: vec![], in_flight });
        }
        let (node, at_us) = (step.node(), number * 1_000);
        let before = configuration.sent_of(node);
        if !configuration.apply(step) {
            break;
        }
        let arrived = match step {
            Step::Deliver { from, nth, .. } => flying.remove(&(from, nth)),
            _ => None,
        };
        let arrived_text = arrived.and_then(|id| trace.messages.get_mut(usize::try_from(id).ok()?));
        let text = match (step, arrived_text) {
            (Step::Deliver { from, .. }, Some(message)) => {
                message.end = Some(MessageEnd { event: number, at_us, lost: None });
                format!("from {from}: {}", message.text)
            }
            (Step::Begin { .. }, _) => "begins".to_owned(),
            (Step::Expire { .. }, _) => "a timer runs out".to_owned(),
            _ => "takes a step without a message".to_owned(),
        };
        let mut sent = Vec::new();
        for (to, nth, message) in configuration.sent_by(node, before) {
            let id = trace.messages.len() as u64;
            sent.push(id);
            flying.insert((node, nth), id);
            trace.messages.push(Message {
                from: node,
                to,
                kind: O::Process::kind(message).to_owned(),
                text: message.to_string(),
                lie: false,
                sent: number,
                sent_us: at_us,
                end: None,
            });
        }
        let after = frame(&configuration, node);
        let now = (frames[node.0] != after).then(|| after.clone());
        frames[node.0] = after;
        trace.events.push(Event {
            at_us,
            sort: if arrived.is_some() { "arrived" } else { "expired" }.to_owned(),
            node: Some(node),
            message: arrived,
            text,
            sent,
            kept_back: vec![],
            lost: vec![],
            persisted: false,
            said: vec![],
            now,
            cut: None,
            idle: false,
        });
    }
    trace
}
