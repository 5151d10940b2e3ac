//! The Byzantine generals (L. Lamport, R. Shostak, M. Pease, *The Byzantine Generals Problem*, 1982).
//!
#![doc = include_str!("essay.md")]

pub mod oral;
pub mod signed;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::dice::Dice;
use crate::process::NodeId;
use crate::protocol::{Bears, Knob, Operation, Protocol, Rule, Seen, Traitors, Verdict};
use crate::script::{Act, Conduct, Script, Weather, What};

/// Who gives the order; all others are lieutenants.
pub const COMMANDER: NodeId = NodeId(0);

/// How long a round is: a message sent at its beginning has arrived at its end. That is assumption A3, that
/// the absence of a message can be detected.
const ROUND: Duration = Duration::from_millis(10);

/// An order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// What is done if nothing else is clear.
    #[default]
    Retreat,
    /// Attack.
    Attack,
}

impl Order {
    fn other(self) -> Self {
        match self {
            Self::Retreat => Self::Attack,
            Self::Attack => Self::Retreat,
        }
    }

    fn of(op: &str, args: &[u64]) -> Option<Self> {
        match (op, args) {
            ("order", [0]) => Some(Self::Retreat),
            ("order", [1]) => Some(Self::Attack),
            _ => None,
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retreat => "retreat",
            Self::Attack => "attack",
        })
    }
}

const RULES: &[Rule] = &[
    Rule::promise("ic1", "All loyal lieutenants obey the same order."),
    Rule::promise(
        "ic2",
        "If the commanding general is loyal, then every loyal lieutenant obeys the order he sends.",
    ),
    Rule::eventual("all-decide", "Every loyal lieutenant decides."),
];

const OPERATIONS: &[Operation] = &[Operation {
    name: "order",
    args: &["attack"],
    says: "Tells the commander (n0) what to order before the first round: 1 to attack, 0 to retreat.",
}];

/// Messages arrive, in time, and say who sent them (A1, A2, A3). There are traitors.
const BEARS: Bears = Bears {
    loss: false,
    duplicates: false,
    disorder: false,
    cuts: false,
    crashes: false,
    lost_disks: false,
    pauses: false,
    clocks: false,
    traitors: Traitors::Knob("traitors"),
    length_us: 200_000,
    wishes: 0,
};

const TRAITORS: Knob = Knob {
    name: "traitors",
    says: "How many traitors a generated script makes.",
    default: 1,
    min: 0,
    max: 9,
};

const M: Knob = Knob {
    name: "m",
    says: "How many traitors it is to cope with: the m of the algorithm's name.",
    default: 1,
    min: 0,
    max: 3,
};

/// What was seen: who is a traitor, what was ordered, who does what.
#[derive(Debug, Default)]
struct Memory {
    traitors: BTreeSet<NodeId>,
    ordered: Option<Order>,
    obeyed: Option<(NodeId, Order)>,
}

impl Memory {
    fn act(&mut self, act: Option<&What>) {
        match act {
            Some(What::Traitor { node, conduct }) if *conduct != Conduct::Loyal => {
                self.traitors.insert(*node);
            }
            Some(What::Client { op, args, .. }) => self.ordered = Order::of(op, args),
            _ => {}
        }
    }

    /// A loyal lieutenant obeys an order.
    fn obeys(&mut self, node: NodeId, order: Order, verdict: &mut Verdict) {
        if self.traitors.contains(&node) {
            return;
        }
        let (first, other) = *self.obeyed.get_or_insert((node, order));
        verdict.require("ic1", other == order, || {
            format!("{first} obeys the order to {other}, and {node} the order to {order}")
        });
        let ordered = self.ordered.unwrap_or_default();
        let loyal = !self.traitors.contains(&COMMANDER);
        verdict.require("ic2", !loyal || ordered == order, || {
            format!("{node} obeys the order to {order}, and the loyal commander said {ordered}")
        });
    }
}

/// Every loyal lieutenant has decided.
fn all_decide<P: Protocol>(
    seen: &Seen<'_, P>,
    decided: impl Fn(&P::Process) -> bool,
    verdict: &mut Verdict,
) {
    for (place, node) in seen.nodes.iter().enumerate().skip(1) {
        let decided = node.traitor || node.process.as_ref().is_none_or(&decided);
        verdict.require("all-decide", decided, || format!("n{place} has not decided"));
    }
}

/// Makes a generated script one for generals: an order at the beginning, and weather in which every message
/// arrives within its round.
fn synchronous(script: &mut Script, dice: &mut Dice) {
    let args = vec![dice.below(2)];
    let what = What::Client { node: COMMANDER, op: "order".to_owned(), args };
    script.acts.retain(|act| matches!(act.what, What::Traitor { .. }));
    script.acts.push(Act::at_ms(0, what));
    script.weather = Weather { delay_us_min: 100, delay_us_max: 2_000, ..Weather::calm() };
    script.calm_from_us = Some(0);
}
