//! The processes: the lock service, the file server and the clients.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::process::{Input, InputOf, NodeId, Now, Out, Process, RequestId};
use crate::protocol::Setup;
use crate::view::View;

/// Where the lock service is.
pub const SERVICE: NodeId = NodeId(0);
/// Where the file server is.
pub const FILE_SERVER: NodeId = NodeId(1);
/// A client asks again after this.
const PATIENCE: Duration = Duration::from_millis(30);

/// A fencing token: Chubby's sequencer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What is in the file, and how often it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct File {
    /// How many writes it has seen.
    pub version: u64,
    /// The sum of all updates.
    pub sum: u64,
}

/// What processes say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// May I have the lock? The number tells one wish from another.
    Acquire(u64),
    /// You have it, until the lease ends.
    Granted {
        /// To which wish.
        wish: u64,
        /// To be shown wherever the lock is used.
        token: Token,
    },
    /// I am done.
    Release(Token),
    /// What is in the file?
    Read(Token),
    /// This.
    Contents {
        /// Under which token it was asked for.
        token: Token,
        /// What is in it.
        file: File,
    },
    /// Put this into it.
    Write {
        /// The token of the lock.
        token: Token,
        /// The version that it was computed from: for whoever watches, the server does not look at it.
        base: u64,
        /// The new sum.
        sum: u64,
    },
    /// It is.
    Written {
        /// By whom.
        token: Token,
        /// What is in it now.
        file: File,
    },
    /// Somebody has come with a higher token.
    Refused {
        /// The one that was shown.
        token: Token,
        /// The highest one.
        highest: Token,
    },
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquire(wish) => write!(f, "Acquire, attempt {}", wish % 1_000),
            Self::Granted { token, .. } => write!(f, "Granted {token}"),
            Self::Release(token) => write!(f, "Release {token}"),
            Self::Read(token) => write!(f, "Read {token}"),
            Self::Contents { token, file } => {
                write!(f, "Contents {token}: {} (version {})", file.sum, file.version)
            }
            Self::Write { token, base, sum } => {
                write!(f, "Write {token}: {sum} over version {base}")
            }
            Self::Written { token, file } => write!(f, "Written {token}: version {}", file.version),
            Self::Refused { token, highest } => write!(f, "Refused {token}, seen {highest}"),
        }
    }
}

/// What processes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The end of the lease, at the lock service.
    Lease,
    /// A client asks again.
    AskAgain,
}

/// An update of the file: this is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Update(pub u64);

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "update({})", self.0)
    }
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Done(pub Token);

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "done under {}", self.0)
    }
}

/// The lock, as the service knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// By whom.
    pub by: NodeId,
    /// For which of its wishes.
    pub wish: u64,
    /// Under which token.
    pub token: Token,
}

/// What survives a crash; each process uses its part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    /// The lock service: the last token given.
    pub last: Token,
    /// The lock service: who holds the lock.
    pub held: Option<Held>,
    /// The file server: the file.
    pub file: File,
    /// The file server: the highest token seen.
    pub fence: Token,
    /// The file server: the token of the last write.
    pub writer: Token,
}

/// How the processes of a run are set up, and how they are broken.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Settings {
    lease: Duration,
    no_fencing: bool,
    reads_not_fenced: bool,
    tokens_forgotten: bool,
    same_token_again: bool,
    no_grace: bool,
    wall_clock: bool,
}

impl Settings {
    pub(super) fn of(setup: &Setup) -> Self {
        Self {
            lease: Duration::from_millis(setup.knob("lease_ms")),
            no_fencing: setup.broken("no-fencing"),
            reads_not_fenced: setup.broken("reads-not-fenced"),
            tokens_forgotten: setup.broken("tokens-forgotten"),
            same_token_again: setup.broken("same-token-again"),
            no_grace: setup.broken("no-grace"),
            wall_clock: setup.broken("wall-clock"),
        }
    }
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Party {
    settings: Rc<Settings>,
    me: NodeId,
    part: Part,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Service(Service),
    FileServer,
    Client(Client),
}

/// The lock service, but for what is on its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Service {
    /// When the lease ends, by the clock that is believed.
    ends: Duration,
    /// Who waits.
    queue: VecDeque<(NodeId, u64)>,
}

/// A client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Client {
    wanted: VecDeque<(RequestId, Update)>,
    at: Step,
}

/// Where a client is with the first of its updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Step {
    #[default]
    Idle,
    Acquiring(u64),
    Reading(Token),
    Writing {
        token: Token,
        base: u64,
        sum: u64,
    },
}

impl Party {
    pub(super) fn new(settings: Rc<Settings>, me: NodeId) -> Self {
        let part = match me {
            SERVICE => Part::Service(Service::default()),
            FILE_SERVER => Part::FileServer,
            _ => Part::Client(Client::default()),
        };
        Self { settings, me, part }
    }

    /// How many updates a client has not done.
    #[must_use]
    pub fn wants(&self) -> usize {
        match &self.part {
            Part::Client(client) => client.wanted.len(),
            Part::Service(_) | Part::FileServer => 0,
        }
    }

    pub(super) fn view(&self) -> View {
        let role = match &self.part {
            Part::Service(_) => "lock service".to_owned(),
            Part::FileServer => "file server".to_owned(),
            Part::Client(client) => match client.at {
                Step::Idle => "client".to_owned(),
                Step::Acquiring(_) => "wants the lock".to_owned(),
                Step::Reading(token) => format!("reads under {token}"),
                Step::Writing { token, .. } => format!("writes under {token}"),
            },
        };
        View { role, ..View::default() }
    }
}

impl Process for Party {
    type Message = Message;
    type Timer = Timer;
    type Request = Update;
    type Output = Done;
    type Disk = Disk;

    fn step(&mut self, now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        let settings = Rc::clone(&self.settings);
        match &mut self.part {
            Part::Service(service) => service.step(&settings, now, input, out),
            Part::FileServer => serve_file(&settings, input, out),
            Part::Client(client) => client.step(input, out),
        }
    }

    fn timer(timer: &Timer) -> String {
        let name = match timer {
            Timer::Lease => "the lease ends",
            Timer::AskAgain => "time to ask again",
        };
        name.to_owned()
    }

    fn kind(message: &Message) -> &'static str {
        match message {
            Message::Acquire(_) => "Acquire",
            Message::Granted { .. } => "Granted",
            Message::Release(_) => "Release",
            Message::Read(_) => "Read",
            Message::Contents { .. } => "Contents",
            Message::Write { .. } => "Write",
            Message::Written { .. } => "Written",
            Message::Refused { .. } => "Refused",
        }
    }
}

impl Service {
    fn step(
        &mut self,
        settings: &Settings,
        now: Now,
        input: InputOf<Party>,
        out: &mut Out<'_, Party>,
    ) {
        match input {
            Input::Restart => self.restart(settings, now, out),
            Input::Message { from, message: Message::Acquire(wish) } => {
                self.acquire(settings, now, (from, wish), out);
            }
            Input::Message { from, message: Message::Release(token) } => {
                let held = out.disk().held;
                if held.is_some_and(|held| held.by == from && held.token == token) {
                    out.cancel(Timer::Lease);
                    self.free(settings, now, out);
                }
            }
            Input::Timer(Timer::Lease) => {
                out.note(|| "the lease has ended".to_owned());
                self.free(settings, now, out);
            }
            _ => {}
        }
    }

    fn restart(&mut self, settings: &Settings, now: Now, out: &mut Out<'_, Party>) {
        if settings.tokens_forgotten {
            out.persist(|disk| disk.last = Token(0));
        }
        if settings.no_grace {
            out.persist(|disk| disk.held = None);
        } else if out.disk().held.is_some() {
            // Nobody knows how much is left of the lease.
            self.lease_begins(settings, now, out);
        }
    }

    fn acquire(
        &mut self,
        settings: &Settings,
        now: Now,
        (from, wish): (NodeId, u64),
        out: &mut Out<'_, Party>,
    ) {
        let over = settings.wall_clock && now.wall >= self.ends;
        match out.disk().held {
            Some(held) if held.by == from && held.wish == wish => {
                out.send(from, Message::Granted { wish, token: held.token });
            }
            // Whoever comes with another wish has given up the one before, or lost it in a crash.
            Some(held) if held.by == from => {
                let token = settings.same_token_again.then_some(held.token);
                self.grant(settings, now, (from, wish), token, out);
            }
            Some(_) if !over => {
                self.queue.retain(|&(waits, _)| waits != from);
                self.queue.push_back((from, wish));
            }
            _ => self.grant(settings, now, (from, wish), None, out),
        }
    }

    fn free(&mut self, settings: &Settings, now: Now, out: &mut Out<'_, Party>) {
        out.persist(|disk| disk.held = None);
        if let Some(next) = self.queue.pop_front() {
            self.grant(settings, now, next, None, out);
        }
    }

    fn grant(
        &mut self,
        settings: &Settings,
        now: Now,
        (by, wish): (NodeId, u64),
        token: Option<Token>,
        out: &mut Out<'_, Party>,
    ) {
        let token = token.unwrap_or(Token(out.disk().last.0 + 1));
        out.persist(|disk| {
            disk.last = token;
            disk.held = Some(Held { by, wish, token });
        });
        self.queue.retain(|&(waits, _)| waits != by);
        self.lease_begins(settings, now, out);
        out.send(by, Message::Granted { wish, token });
    }

    fn lease_begins(&mut self, settings: &Settings, now: Now, out: &mut Out<'_, Party>) {
        self.ends = now.wall + settings.lease;
        out.set(Timer::Lease, settings.lease);
    }
}

/// The file server does not know of locks. It knows numbers that rise.
fn serve_file(settings: &Settings, input: InputOf<Party>, out: &mut Out<'_, Party>) {
    let Input::Message { from, message } = input else { return };
    let (token, write) = match message {
        Message::Read(token) => (token, None),
        Message::Write { token, sum, .. } => (token, Some(sum)),
        _ => return,
    };
    let Disk { fence, writer, file, .. } = *out.disk();
    if write.is_some() && token == writer {
        // The answer to it was lost.
        return out.send(from, Message::Written { token, file });
    }
    if token < fence && !settings.no_fencing {
        return out.send(from, Message::Refused { token, highest: fence });
    }
    if write.is_some() || !settings.reads_not_fenced {
        out.persist(|disk| disk.fence = fence.max(token));
    }
    let Some(sum) = write else {
        return out.send(from, Message::Contents { token, file });
    };
    let file = File { version: file.version + 1, sum };
    out.persist(|disk| {
        disk.file = file;
        disk.writer = token;
    });
    out.send(from, Message::Written { token, file });
}

impl Client {
    fn step(&mut self, input: InputOf<Party>, out: &mut Out<'_, Party>) {
        match input {
            Input::Request { id, request } => {
                self.wanted.push_back((id, request));
                if self.at == Step::Idle {
                    self.acquire(out);
                }
            }
            Input::Message { message, .. } => self.receive(&message, out),
            Input::Timer(Timer::AskAgain) => self.ask(out),
            Input::Start | Input::Restart | Input::Timer(Timer::Lease) => {}
        }
    }

    fn receive(&mut self, message: &Message, out: &mut Out<'_, Party>) {
        match (*message).clone() {
            Message::Granted { wish, token } if self.at == Step::Acquiring(wish) => {
                self.at = Step::Reading(token);
                self.ask(out);
            }
            Message::Contents { token, file } if self.at == Step::Reading(token) => {
                let update = self.wanted.front().map_or(0, |&(_, Update(update))| update);
                let sum = file.sum.wrapping_add(update);
                self.at = Step::Writing { token, base: file.version, sum };
                self.ask(out);
            }
            Message::Written { token, .. } if self.writes(token) => {
                if let Some((id, _)) = self.wanted.pop_front() {
                    out.reply(id, Done(token));
                }
                out.send(SERVICE, Message::Release(token));
                self.acquire(out);
            }
            Message::Refused { token, .. }
                if self.writes(token) || self.at == Step::Reading(token) =>
            {
                out.note(|| format!("{token} is stale: the lock was lost"));
                self.acquire(out);
            }
            _ => {}
        }
    }

    fn writes(&self, token: Token) -> bool {
        matches!(self.at, Step::Writing { token: own, .. } if own == token)
    }

    /// Wants the lock for the next update, if there is one.
    fn acquire(&mut self, out: &mut Out<'_, Party>) {
        if self.wanted.is_empty() {
            self.at = Step::Idle;
            return out.cancel(Timer::AskAgain);
        }
        self.at = Step::Acquiring(out.dice().below(u64::MAX));
        self.ask(out);
    }

    fn ask(&self, out: &mut Out<'_, Party>) {
        let (to, message) = match self.at {
            Step::Idle => return,
            Step::Acquiring(wish) => (SERVICE, Message::Acquire(wish)),
            Step::Reading(token) => (FILE_SERVER, Message::Read(token)),
            Step::Writing { token, base, sum } => {
                (FILE_SERVER, Message::Write { token, base, sum })
            }
        };
        out.send(to, message);
        out.set(Timer::AskAgain, PATIENCE);
    }
}
