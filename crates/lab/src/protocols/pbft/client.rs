//! A client: asks for one thing after the other, and believes what f+1 replicas say.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::message::{Message, Request, ViewNumber, Written};
use super::process::{Output, Party, Settings, Timer};
use crate::process::{Input, InputOf, NodeId, Out, RequestId};

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    settings: Rc<Settings>,
    id: NodeId,
    /// What it is to ask for, the first of it now.
    wanted: VecDeque<(RequestId, u64)>,
    asked: Option<Request>,
    /// The view of the primary that it asks first.
    view: ViewNumber,
    /// Who said what about the request.
    replies: BTreeMap<NodeId, Written>,
}

impl Client {
    pub(super) fn new(settings: Rc<Settings>, id: NodeId) -> Self {
        Self {
            settings,
            id,
            wanted: VecDeque::new(),
            asked: None,
            view: ViewNumber::default(),
            replies: BTreeMap::new(),
        }
    }

    /// How many requests are not answered.
    pub(super) fn wants(&self) -> usize {
        self.wanted.len()
    }

    pub(super) fn asked(&self) -> Option<(Request, usize)> {
        self.asked.map(|request| (request, self.replies.len()))
    }

    pub(super) fn step(&mut self, input: InputOf<Party>, out: &mut Out<'_, Party>) {
        match input {
            Input::Request { id, request } => self.want(id, request, out),
            Input::Message { message: Message::Ask { id, value }, .. } => self.want(id, value, out),
            Input::Message { from, message: Message::Reply { view, timestamp, result } } => {
                if self.asked.is_some_and(|asked| asked.timestamp == timestamp) {
                    self.hear(from, view, result, out);
                }
            }
            Input::Timer(_) => self.ask_all(out),
            Input::Message { .. } | Input::Start | Input::Restart => {}
        }
    }

    fn want(&mut self, id: RequestId, value: u64, out: &mut Out<'_, Party>) {
        self.wanted.push_back((id, value));
        if self.asked.is_none() {
            self.ask(out);
        }
    }

    fn ask(&mut self, out: &mut Out<'_, Party>) {
        self.replies.clear();
        self.asked = None;
        let Some(&(_, value)) = self.wanted.front() else {
            return out.cancel(Timer::Again);
        };
        let timestamp = out.disk().timestamp + 1;
        // Before it is used: what comes after a crash must be newer.
        out.persist(|disk| disk.timestamp = timestamp);
        let request = Request::signed(self.id, timestamp, value);
        self.asked = Some(request);
        out.send(self.settings.primary(self.view), Message::Request(request));
        out.set(Timer::Again, self.settings.timeout);
    }

    /// No answer: the primary may be faulty, or the client may know the wrong one.
    fn ask_all(&mut self, out: &mut Out<'_, Party>) {
        if let Some(request) = self.asked {
            out.send_all(self.settings.replicas(), &Message::Request(request));
            out.set(Timer::Again, self.settings.timeout);
        }
    }

    /// Of f+1 replicas one is loyal. Each has one voice, its last.
    fn hear(&mut self, from: NodeId, view: ViewNumber, result: Written, out: &mut Out<'_, Party>) {
        if !self.settings.is_replica(from) {
            return;
        }
        self.replies.insert(from, result);
        let equal = self.replies.values().filter(|&&other| other == result).count();
        let enough = if self.settings.first_reply { 1 } else { self.settings.f + 1 };
        if equal < enough {
            return;
        }
        self.view = view;
        if let (Some((id, _)), Some(request)) = (self.wanted.pop_front(), self.asked) {
            out.reply(id, Output::Accepted { timestamp: request.timestamp, result });
        }
        self.ask(out);
    }
}
