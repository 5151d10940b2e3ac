//! A protocol that never disagrees, and stops when one process is gone: everyone tells everyone its input,
//! waits for all, and decides the least.

use std::collections::BTreeMap;
use std::fmt;

use crate::process::{Input, InputOf, NodeId, Now, Out, Process};
use crate::protocol::{
    About, Bears, Nodes, Operation, Protocol, Rule, Seen, Setup, Variant, Verdict,
};
use crate::view::View;

/// An input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bit(pub u64);

impl fmt::Display for Bit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// It has no timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WaitForAll {
    n: usize,
    impatient: bool,
    heard: BTreeMap<NodeId, Bit>,
    decided: bool,
}

impl Process for WaitForAll {
    type Message = Bit;
    type Timer = Timer;
    type Request = Bit;
    type Output = Bit;
    /// Its input, once it has been given one.
    type Disk = Option<Bit>;

    fn step(&mut self, _now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match input {
            Input::Start | Input::Restart => {}
            Input::Timer(timer) => match timer {},
            Input::Request { request, .. } => {
                // Its first input stays its input.
                let input = out.disk().unwrap_or(request);
                out.persist(|disk| *disk = Some(input));
                out.send_all(NodeId::all(self.n), &input);
            }
            Input::Message { from, message } => {
                self.heard.insert(from, message);
            }
        }
        let enough = if self.impatient { self.n - 1 } else { self.n };
        if self.heard.len() >= enough && !self.decided {
            self.decided = true;
            out.decide(self.heard.values().copied().min().unwrap_or(Bit(0)));
        }
    }

    fn timer(timer: &Timer) -> String {
        match *timer {}
    }

    fn kind(_message: &Bit) -> &'static str {
        "Input"
    }
}

/// The observer of a run.
#[derive(Debug)]
pub struct Everyone {
    n: usize,
    impatient: bool,
    decided: Option<Bit>,
}

impl Protocol for Everyone {
    type Process = WaitForAll;

    const ABOUT: About = About {
        name: "wait-for-all",
        title: "Waiting for all",
        paper: "The protocol that the theorem does not have to forbid",
        essay: "Everyone tells everyone its input, waits for all, and decides the least. It never disagrees. If one \
                process crashes before all have heard of it, nobody decides: it blocks after one crash.",
        rules: &[Rule::promise("agreement", "No two processes decide different values.")],
        variants: &[Variant::new("impatient", "Waits for all but one, to live with a crash.", 500)],
        knobs: &[],
        operations: &[Operation {
            name: "write",
            args: &["bit"],
            says: "Gives a process its input.",
        }],
        nodes: Nodes { min: 2, default: 3, max: 9 },
        bears: Bears { wishes: 12, ..Bears::CRASHES },
        lessons: &[],
    };

    fn new(setup: &Setup) -> Self {
        Self { n: setup.n, impatient: setup.broken("impatient"), decided: None }
    }

    fn disk(&self, _node: NodeId) -> Option<Bit> {
        None
    }

    fn process(&self, _node: NodeId, _disk: &Option<Bit>) -> WaitForAll {
        WaitForAll { n: self.n, impatient: self.impatient, heard: BTreeMap::new(), decided: false }
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<Bit> {
        match (op, args) {
            ("write", &[bit]) => Some(Bit(bit % 2)),
            _ => None,
        }
    }

    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        for (node, bit) in seen.decided() {
            let first = *self.decided.get_or_insert(*bit);
            verdict.require("agreement", first == *bit, || {
                format!("{node} decides {bit}, and {first} was decided")
            });
        }
    }

    fn view(&self, _node: NodeId, process: Option<&WaitForAll>, _disk: &Option<Bit>) -> View {
        let Some(process) = process else { return View::default() };
        View::default().with("heard", process.heard.len())
    }
}
