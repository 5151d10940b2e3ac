//! A run written down, for the page to show and to scrub.
//!
//! Events carry what changed; every [`KEYFRAME_EVENTS`] events there is a keyframe with everything, so that
//! any moment of a long run is a keyframe and fewer than that many changes away.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::{Happened, Lost, Occurred, World};
use crate::process::{Effect, EffectOf, Input, InputOf, NodeId, Process};
use crate::protocol::Protocol;
use crate::script::{Conduct, What};
use crate::view::View;

/// Events between two keyframes.
pub const KEYFRAME_EVENTS: u64 = 500;

/// A run written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// How many processes there are, those besides the `n` included.
    pub nodes: usize,
    /// Every event, in order: an event's place is its number.
    pub events: Vec<Event>,
    /// Every message, by its number.
    pub messages: Vec<Message>,
    /// Everything, every [`KEYFRAME_EVENTS`] events: the n-th is before event `n * KEYFRAME_EVENTS`.
    pub keyframes: Vec<Keyframe>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in microseconds.
    pub at_us: u64,
    /// What sort: `began`, `arrived`, `expired`, `asked`, `waits`, `missed`, `act`.
    pub sort: String,
    /// Whom it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The message that arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<u64>,
    /// What happened, in words.
    pub text: String,
    /// Messages that left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<u64>,
    /// What a traitor should have said and kept back: to whom, and what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_back: Vec<(NodeId, String)>,
    /// Messages that were lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<u64>,
    /// Whether it wrote to its disk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub persisted: bool,
    /// What was decided, replied and said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<String>,
    /// How the process is after it, if that changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<NodeFrame>,
    /// The links that are cut after it, if that changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Vec<(NodeId, NodeId)>>,
    /// Whether nothing came of it: see [`crate::idle`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// From.
    pub from: NodeId,
    /// To.
    pub to: NodeId,
    /// Its kind.
    pub kind: String,
    /// What it says.
    pub text: String,
    /// Whether it is a lie: a traitor says it in the place of something else, or once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lie: bool,
    /// The event it left in.
    pub sent: u64,
    /// When.
    pub sent_us: u64,
    /// What became of it, if it is not on its way still.
    pub end: Option<MessageEnd>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageEnd {
    /// The event in which it arrived or was lost.
    pub event: u64,
    /// When.
    pub at_us: u64,
    /// Why it was lost; `None` if it arrived.
    pub lost: Option<Lost>,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyframe {
    /// The processes.
    pub nodes: Vec<NodeFrame>,
    /// The links that are cut.
    pub cut: Vec<(NodeId, NodeId)>,
    /// The messages on their way.
    pub in_flight: Vec<u64>,
}

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFrame {
    /// Whether it is there.
    pub status: Status,
    /// Whether it is or was a traitor.
    pub traitor: bool,
    /// Whether it is one now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lies: bool,
    /// What is shown of it.
    pub view: View,
}

/// Whether a process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It runs.
    Up,
    /// It has crashed, or not begun.
    Down,
    /// It stands still.
    Paused,
}

/// Writes a run down while it goes on.
#[derive(Debug)]
pub struct Recorder {
    trace: Trace,
    frames: Vec<NodeFrame>,
    cut: Vec<(NodeId, NodeId)>,
    flying: BTreeMap<u64, ()>,
    /// The events in which a rule first broke: whatever else they are, they are told.
    broke: BTreeSet<u64>,
}

impl Recorder {
    /// Before the first event.
    #[must_use]
    pub fn new<P: Protocol>(world: &World<P>) -> Self {
        let nodes = world.nodes().len();
        let frames = NodeId::all(nodes).map(|id| frame(world, id)).collect();
        let trace = Trace { nodes, ..Trace::default() };
        let (cut, flying, broke) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        let mut recorder = Self { trace, frames, cut, flying, broke };
        recorder.keyframe();
        recorder
    }

    /// The run, as far as it was written down.
    #[must_use]
    pub fn into_trace(mut self) -> Trace {
        crate::idle::mark(&mut self.trace, &self.broke);
        self.trace
    }

    /// Writes down what happened last.
    pub fn event<P: Protocol>(&mut self, world: &World<P>) {
        let Some(happened) = world.happened() else { return };
        let (at_us, number) = (happened.at_us, happened.event);
        for &id in &happened.sent {
            if let Some(message) = world.message(id) {
                self.trace.messages.push(Message {
                    from: message.from,
                    to: message.to,
                    kind: P::Process::kind(message.message).to_owned(),
                    text: message.message.to_string(),
                    lie: happened.lies.contains(&id),
                    sent: number,
                    sent_us: at_us,
                    end: None,
                });
                self.flying.insert(id, ());
            }
        }
        let arrived = match happened.what {
            Occurred::Arrived(id) => Some(id),
            _ => None,
        };
        for (id, lost) in arrived
            .map(|id| (id, None))
            .into_iter()
            .chain(happened.lost.iter().map(|&(id, why)| (id, Some(why))))
        {
            self.flying.remove(&id);
            if let Some(message) =
                usize::try_from(id).ok().and_then(|id| self.trace.messages.get_mut(id))
            {
                message.end = Some(MessageEnd { event: number, at_us, lost });
            }
        }
        let now = happened.node.and_then(|id| {
            let now = frame(world, id);
            (self.frames[id.0] != now).then(|| {
                self.frames[id.0] = now.clone();
                now
            })
        });
        let text = self.text(happened);
        let cut = matches!(happened.what, Occurred::Act(_)).then(|| cuts(world));
        let cut = cut.filter(|cut| *cut != self.cut);
        self.cut = cut.clone().unwrap_or_else(|| std::mem::take(&mut self.cut));
        self.trace.events.push(Event {
            at_us,
            sort: sort(&happened.what).to_owned(),
            node: happened.node,
            message: arrived,
            text,
            sent: happened.sent.clone(),
            kept_back: happened.kept_back.iter().map(|(to, it)| (*to, it.to_string())).collect(),
            lost: happened.lost.iter().map(|&(id, _)| id).collect(),
            persisted: happened.effects.iter().any(|effect| matches!(effect, Effect::Persist)),
            said: happened.effects.iter().filter_map(say::<P::Process>).collect(),
            now,
            cut,
            idle: false,
        });
        self.broke.extend(world.all_broken().last().map(|last| last.event));
        if (number + 1) % KEYFRAME_EVENTS == 0 {
            self.keyframe();
        }
    }

    fn keyframe(&mut self) {
        self.trace.keyframes.push(Keyframe {
            nodes: self.frames.clone(),
            cut: self.cut.clone(),
            in_flight: self.flying.keys().copied().collect(),
        });
    }

    /// What happened, in words: of an act the whole sentence, of all else what is said of the process.
    fn text<P: Protocol>(&self, happened: &Happened<P>) -> String {
        match (&happened.what, &happened.input) {
            (Occurred::Act(what), input) => self.act::<P::Process>(what, input.as_ref()),
            (Occurred::Missed, _) => match happened.lost.first() {
                Some(&(id, why)) => match self.message(id) {
                    Some(it) => format!("from {}, lost ({}): {}", it.from, why.says(), words(it)),
                    None => format!("a message is lost ({})", why.says()),
                },
                None => "is asked by a client, and is not there".to_owned(),
            },
            (Occurred::Waits, _) => "what reaches it waits until it goes on".to_owned(),
            (_, Some(Input::Start)) => "begins".to_owned(),
            (_, Some(Input::Restart)) => "begins again".to_owned(),
            (Occurred::Arrived(id), Some(Input::Message { from, message })) => {
                let words = self.message(*id).map_or_else(|| message.to_string(), words);
                format!("from {from}: {words}")
            }
            (_, Some(Input::Message { from, message })) => format!("from {from}: {message}"),
            (_, Some(Input::Timer(timer))) => format!("timer: {}", P::Process::timer(timer)),
            (_, Some(Input::Request { id, request })) => {
                format!("is asked by a client: {request} (request {id})")
            }
            (_, None) => String::new(),
        }
    }

    fn message(&self, id: u64) -> Option<&Message> {
        self.trace.messages.get(usize::try_from(id).ok()?)
    }

    /// An act, and what is only known in the run: the number of a request, the timer, what the message says.
    fn act<P: Process>(&self, what: &What, input: Option<&InputOf<P>>) -> String {
        let is = |node: &NodeId, status| self.frames[node.0].status == status;
        let message = |id: &u64| match self.message(*id) {
            Some(it) => format!("{} from {} to {}", words(it), it.from, it.to),
            None => format!("message {id}"),
        };
        let plain = act(what);
        match (what, input) {
            (What::Client { .. }, Some(Input::Request { id, .. })) => {
                format!("{plain} (request {id})")
            }
            (What::Client { node, .. }, _) if is(node, Status::Down) => {
                format!("{plain}; it is not there")
            }
            (What::Client { .. }, _) => format!("{plain}; it has to wait"),
            (What::Expire(_), Some(Input::Timer(timer))) => {
                format!("{plain}: {}", P::timer(timer))
            }
            (What::Expire(_), _) => format!("{plain}; none is running"),
            (What::Heal, _) if self.cut.is_empty() => format!("{plain}; none was cut"),
            (What::Deliver(id), _) => format!("{} arrives at once", message(id)),
            (What::Lose(id), _) => format!("{} is lost", message(id)),
            (What::Hold(id), _) => format!("{} is held", message(id)),
            _ => plain,
        }
    }
}

/// What a message says, marked if it is a lie.
fn words(message: &Message) -> String {
    if message.lie { format!("[a lie] {}", message.text) } else { message.text.clone() }
}

fn frame<P: Protocol>(world: &World<P>, id: NodeId) -> NodeFrame {
    let node = &world.nodes()[id.0];
    let status = match (&node.process, node.paused) {
        (None, _) => Status::Down,
        (Some(_), true) => Status::Paused,
        (Some(_), false) => Status::Up,
    };
    let view = world.protocol().view(id, node.process.as_ref(), &node.disk);
    NodeFrame { status, traitor: node.traitor, lies: world.lies(id), view }
}

fn cuts<P: Protocol>(world: &World<P>) -> Vec<(NodeId, NodeId)> {
    let all = world.nodes().len();
    let pairs = NodeId::all(all).flat_map(|from| NodeId::all(all).map(move |to| (from, to)));
    pairs.filter(|&(from, to)| world.is_cut(from, to)).collect()
}

fn sort(what: &Occurred) -> &'static str {
    match what {
        Occurred::Began => "began",
        Occurred::Arrived(_) => "arrived",
        Occurred::Expired => "expired",
        Occurred::Asked(_) => "asked",
        Occurred::Waits => "waits",
        Occurred::Missed => "missed",
        Occurred::Act(_) => "act",
    }
}

fn say<P: Process>(effect: &EffectOf<P>) -> Option<String> {
    match effect {
        Effect::Decide(output) => Some(P::decides(output)),
        Effect::Reply { id, output } => Some(format!("answers {id}: {output}")),
        Effect::Note(note) => Some(note.clone()),
        _ => None,
    }
}

/// How far a clock is off, and how fast it runs.
fn clock(offset_us: i64, drift_ppm: i64) -> String {
    let to = |by: i64, unit, more, less, right: &str| match by {
        0 => right.to_owned(),
        _ => format!("{} {unit} {}", by.unsigned_abs(), if by > 0 { more } else { less }),
    };
    let offset = to(offset_us, "us", "ahead", "behind", "right");
    let drift = to(drift_ppm, "parts in a million", "too fast", "too slow", "as it should");
    format!("set {offset}, and it runs {drift}")
}

/// An act in words.
#[must_use]
pub fn act(what: &What) -> String {
    match what {
        What::Client { node, op, args } => {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            format!("{node} is asked by a client: {op}({})", args.join(", "))
        }
        What::Cut { from, to } | What::Mend { from, to } if from == to => {
            format!("the link of {from} to itself stays: it cannot be cut")
        }
        What::Cut { from, to } => format!("the link {from} -> {to} is cut"),
        What::Mend { from, to } => format!("the link {from} -> {to} is mended"),
        What::Split(some) => {
            let some: Vec<String> = some.iter().map(ToString::to_string).collect();
            format!("the network splits: {} on one side, all others on the other", some.join(" "))
        }
        What::Heal => "all links are mended".to_owned(),
        What::Crash(node) => format!("{node} crashes"),
        What::Restart(node) => format!("{node} restarts with its disk"),
        What::RestartBlank(node) => format!("{node} restarts without its disk"),
        What::Pause(node) => format!("{node} pauses"),
        What::Resume(node) => format!("{node} goes on"),
        What::Clock { node, offset_us, drift_ppm } => {
            format!("{node} has its clock {}", clock(*offset_us, *drift_ppm))
        }
        What::Traitor { node, conduct } => match conduct {
            Conduct::Loyal => format!("{node} is loyal again"),
            Conduct::Silent => format!("{node} turns traitor, and says nothing"),
            Conduct::Lies { per_mille } => {
                format!("{node} turns traitor, and lies in {per_mille} of a thousand messages")
            }
            Conduct::Script(lies) => {
                let lies: Vec<String> = lies.iter().map(ToString::to_string).collect();
                format!("{node} turns traitor, and lies by the list {}", lies.join(" "))
            }
        },
        What::Weather(weather) => format!("the weather changes: {weather}"),
        What::Expire(node) => format!("{node} has its next timer run out at once"),
        What::Deliver(id) => format!("message {id} arrives at once"),
        What::Lose(id) => format!("message {id} is lost"),
        What::Hold(id) => format!("message {id} is held"),
    }
}
