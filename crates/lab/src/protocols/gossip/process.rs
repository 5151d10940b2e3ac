//! A node: master of a share of the slots, or replica of a master.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::slots::{SLOTS, slot_of};
use crate::process::{Input, InputOf, NodeId, Now, Out, Process, RequestId};
use crate::protocol::Setup;
use crate::view::View;

/// Slots are shared out to so many masters.
pub const SHARES: usize = 3;
/// Between two pings.
const PING: Duration = Duration::from_millis(20);

/// A share of the slots: a third of them, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(pub usize);

impl Share {
    /// That of a key.
    #[must_use]
    pub fn of(key: u64) -> Self {
        Self(usize::from(slot_of(&key.to_string())) * SHARES / usize::from(SLOTS))
    }

    /// That of which a node is master or replica.
    #[must_use]
    pub const fn home(node: NodeId) -> Self {
        Self(node.0 % SHARES)
    }
}

/// Who serves a share, and under which configuration epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The higher one wins.
    pub epoch: u64,
    /// Who.
    pub node: NodeId,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.epoch)
    }
}

/// What a node knows of the cluster, as it tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gossip {
    /// The highest epoch heard of.
    pub epoch: u64,
    /// Who serves each share.
    pub owners: [Owner; SHARES],
    /// Who does not answer, in this node's opinion.
    pub pfail: BTreeSet<NodeId>,
    /// How many writes it has.
    pub offset: u64,
}

/// What nodes say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// What I know.
    Ping(Gossip),
    /// A majority of masters says that it is gone.
    Fail(NodeId),
    /// Vote for me, to take over the share that was this master's.
    AuthRequest {
        /// The epoch of the election.
        epoch: u64,
        /// The master that failed.
        failed: NodeId,
    },
    /// My vote in this epoch.
    AuthAck(u64),
    /// A write, after it was answered.
    Replicate {
        /// Which.
        offset: u64,
        /// What.
        key: u64,
    },
    /// I have not got all.
    Sync,
    /// All that there is.
    Full {
        /// How many writes it is.
        offset: u64,
        /// The keys.
        keys: BTreeSet<u64>,
    },
    /// A client's request, passed on to the owner of its slot.
    Forward {
        /// Whose.
        id: RequestId,
        /// What.
        key: u64,
    },
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ping(gossip) => {
                let owners: Vec<String> = gossip.owners.iter().map(ToString::to_string).collect();
                write!(f, "Ping, epoch {}, masters {}", gossip.epoch, owners.join(" "))?;
                let pfail: Vec<String> = gossip.pfail.iter().map(ToString::to_string).collect();
                if pfail.is_empty() { Ok(()) } else { write!(f, ", PFAIL {}", pfail.join(" ")) }
            }
            Self::Fail(node) => write!(f, "FAIL {node}"),
            Self::AuthRequest { epoch, failed } => {
                write!(f, "AuthRequest, epoch {epoch}: {failed} has failed")
            }
            Self::AuthAck(epoch) => write!(f, "AuthAck, epoch {epoch}"),
            Self::Replicate { offset, key } => write!(f, "Replicate, write {offset}: key {key}"),
            Self::Sync => write!(f, "Sync"),
            Self::Full { offset, .. } => write!(f, "Full copy, up to write {offset}"),
            Self::Forward { key, .. } => write!(f, "Forward: set key {key}"),
        }
    }
}

/// What a node waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// To ping.
    Ping,
    /// To stand for election.
    Stand,
}

/// A client sets a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(pub u64);

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write({})", self.0)
    }
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stored {
    /// What was set.
    pub key: u64,
    /// The configuration epoch of whoever answered.
    pub epoch: u64,
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} is set", self.key)
    }
}

/// What survives a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// The highest epoch heard of.
    pub epoch: u64,
    /// The last epoch voted in.
    pub voted: u64,
    /// Who serves each share.
    pub owners: [Owner; SHARES],
    /// The keys of its share.
    pub keys: BTreeSet<u64>,
    /// How many writes they are.
    pub offset: u64,
}

impl Default for Disk {
    fn default() -> Self {
        let owner = |share| Owner { epoch: 0, node: NodeId(share) };
        let owners = [owner(0), owner(1), owner(2)];
        Self { epoch: 0, voted: 0, owners, keys: BTreeSet::new(), offset: 0 }
    }
}

/// How the nodes of a run are set up, and how they are broken.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Settings {
    n: usize,
    node_timeout: Duration,
    vote_again: bool,
    minority_elects: bool,
    last_heard_wins: bool,
    answers_without_storing: bool,
}

impl Settings {
    pub(super) fn of(setup: &Setup) -> Self {
        Self {
            n: setup.n,
            node_timeout: Duration::from_millis(setup.knob("node_timeout_ms")),
            vote_again: setup.broken("vote-again"),
            minority_elects: setup.broken("minority-elects"),
            last_heard_wins: setup.broken("last-heard-wins"),
            answers_without_storing: setup.broken("answers-without-storing"),
        }
    }

    /// More than half of the masters.
    pub(super) const MAJORITY: usize = SHARES / 2 + 1;
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    settings: Rc<Settings>,
    me: NodeId,
    heard: BTreeMap<NodeId, Duration>,
    /// Who did not answer when it last pinged.
    suspected: BTreeSet<NodeId>,
    /// Who thinks that somebody does not answer, and when they said so.
    reports: BTreeMap<NodeId, BTreeMap<NodeId, Duration>>,
    /// Who is held to be gone, and since when.
    failed: BTreeMap<NodeId, Duration>,
    /// The epoch of its election, and who voted for it.
    election: Option<(u64, BTreeSet<NodeId>)>,
    standing: bool,
}

type Effects<'a> = Out<'a, Server>;

impl Server {
    pub(super) fn new(settings: Rc<Settings>, me: NodeId) -> Self {
        Self {
            settings,
            me,
            heard: BTreeMap::new(),
            suspected: BTreeSet::new(),
            reports: BTreeMap::new(),
            failed: BTreeMap::new(),
            election: None,
            standing: false,
        }
    }

    pub(super) fn view(&self, disk: &Disk) -> View {
        let role = if owns(disk, self.me) { "master" } else { "replica" };
        let names = |nodes: Vec<NodeId>| {
            nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        View { role: role.to_owned(), ..View::default() }
            .with("PFAIL", names(self.suspected.iter().copied().collect()))
            .with("FAIL", names(self.failed.keys().copied().collect()))
    }

    fn others(&self) -> impl Iterator<Item = NodeId> + use<> {
        let me = self.me;
        NodeId::all(self.settings.n).filter(move |&node| node != me)
    }

    fn hears(&self, now: Now, node: NodeId) -> bool {
        let last = self.heard.get(&node);
        node == self.me || last.is_some_and(|&at| now.local < at + self.settings.node_timeout)
    }

    fn ping(&mut self, now: Now, out: &mut Effects<'_>) {
        out.set(Timer::Ping, PING);
        let Disk { epoch, owners, offset, .. } = *out.disk();
        let pfail: BTreeSet<NodeId> =
            self.others().filter(|&node| !self.hears(now, node)).collect();
        self.suspected.clone_from(&pfail);
        let gossip = Gossip { epoch, owners, pfail, offset };
        out.send_all(self.others(), &Message::Ping(gossip));
        for node in self.others() {
            self.fail_if_agreed(now, node, out);
        }
        self.stand_if_failed(out);
    }

    /// PFAIL becomes FAIL when a majority of masters has said so lately.
    fn fail_if_agreed(&mut self, now: Now, node: NodeId, out: &mut Effects<'_>) {
        if self.failed.contains_key(&node) || self.hears(now, node) {
            return;
        }
        let lately = |&at: &Duration| now.local < at + 2 * self.settings.node_timeout;
        let agrees = |master: &NodeId| {
            *master == self.me
                || self.reports.get(&node).and_then(|by| by.get(master)).is_some_and(lately)
        };
        if masters(out.disk()).iter().filter(|master| agrees(master)).count() >= Settings::MAJORITY
        {
            self.failed.insert(node, now.local);
            out.send_all(self.others(), &Message::Fail(node));
        }
    }

    /// A replica whose master has failed stands for election, after a moment of its own.
    fn stand_if_failed(&mut self, out: &mut Effects<'_>) {
        let owner = out.disk().owners[Share::home(self.me).0].node;
        if owner == self.me || !self.failed.contains_key(&owner) || self.standing {
            return;
        }
        self.standing = true;
        let after = Duration::from_millis(5 + out.dice().below(40));
        out.set(Timer::Stand, after);
    }

    fn stand(&mut self, out: &mut Effects<'_>) {
        self.standing = false;
        let owner = out.disk().owners[Share::home(self.me).0].node;
        if owner == self.me || !self.failed.contains_key(&owner) {
            return;
        }
        let epoch = out.disk().epoch + 1;
        out.persist(|disk| disk.epoch = epoch);
        self.election = Some((epoch, BTreeSet::new()));
        out.send_all(self.others(), &Message::AuthRequest { epoch, failed: owner });
    }

    fn vote(&mut self, from: NodeId, epoch: u64, failed: NodeId, out: &mut Effects<'_>) {
        let disk = out.disk();
        let fresh = epoch > disk.voted || self.settings.vote_again;
        let may = owns(disk, self.me)
            && epoch >= disk.epoch
            && fresh
            && self.failed.contains_key(&failed)
            && disk.owners[Share::home(from).0].node == failed;
        if may {
            out.persist(|disk| (disk.epoch, disk.voted) = (epoch, epoch));
            out.send(from, Message::AuthAck(epoch));
        }
    }

    fn voted(&mut self, from: NodeId, epoch: u64, out: &mut Effects<'_>) {
        if !masters(out.disk()).contains(&from) {
            return;
        }
        let Some((of, votes)) = &mut self.election else { return };
        if *of != epoch {
            return;
        }
        votes.insert(from);
        let enough = Settings::MAJORITY - usize::from(self.settings.minority_elects);
        if votes.len() >= enough {
            self.election = None;
            let (home, node) = (Share::home(self.me).0, self.me);
            out.persist(|disk| disk.owners[home] = Owner { epoch, node });
            out.note(|| format!("takes over under configuration epoch {epoch}"));
            self.tell(out);
        }
    }

    /// Tells everybody at once what it knows.
    fn tell(&self, out: &mut Effects<'_>) {
        let Disk { epoch, owners, offset, .. } = *out.disk();
        let gossip = Gossip { epoch, owners, pfail: BTreeSet::new(), offset };
        out.send_all(self.others(), &Message::Ping(gossip));
    }

    fn hear(&mut self, now: Now, from: NodeId, gossip: &Gossip, out: &mut Effects<'_>) {
        self.heard.insert(from, now.local);
        for &node in &gossip.pfail {
            self.reports.entry(node).or_default().insert(from, now.local);
        }
        self.learn(from, gossip, out);
        // A master that nobody has replaced is given some time before it counts as back.
        let disk = out.disk();
        let since = self.failed.get(&from);
        let back =
            |&at: &Duration| !owns(disk, from) || now.local >= at + 2 * self.settings.node_timeout;
        if since.is_some_and(back) {
            self.failed.remove(&from);
        }
        let home = Share::home(self.me).0;
        let is_behind = disk.owners[home].node == from && disk.offset != gossip.offset;
        if is_behind && from != self.me && Share::home(from).0 == home {
            out.send(from, Message::Sync);
        }
    }

    fn learn(&mut self, from: NodeId, gossip: &Gossip, out: &mut Effects<'_>) {
        let before = out.disk().clone();
        let mut owners = before.owners;
        for (mine, theirs) in owners.iter_mut().zip(gossip.owners) {
            if theirs.epoch > mine.epoch || (self.settings.last_heard_wins && theirs.node == from) {
                *mine = theirs;
            }
        }
        let epoch = before.epoch.max(gossip.epoch);
        if (epoch, owners) == (before.epoch, before.owners) {
            return;
        }
        let home = Share::home(self.me).0;
        let replaced = before.owners[home].node == self.me && owners[home].node != self.me;
        out.persist(|disk| {
            (disk.epoch, disk.owners) = (epoch, owners);
            if replaced {
                disk.keys.clear();
                disk.offset = 0;
            }
        });
        if replaced {
            out.note(|| "was replaced, and throws away what it has".to_owned());
            out.send(owners[home].node, Message::Sync);
        }
    }

    /// A write: stored and answered if the key is ours, and passed on if not.
    fn set(&mut self, now: Now, id: RequestId, key: u64, out: &mut Effects<'_>) {
        let owner = out.disk().owners[Share::of(key).0];
        if owner.node != self.me {
            return out.send(owner.node, Message::Forward { id, key });
        }
        let heard = masters(out.disk()).into_iter().filter(|&node| self.hears(now, node)).count();
        if heard < Settings::MAJORITY {
            return out.note(|| "hears no majority of masters, and refuses writes".to_owned());
        }
        let offset = out.disk().offset + 1;
        if !self.settings.answers_without_storing || !key.is_multiple_of(3) {
            out.persist(|disk| {
                disk.keys.insert(key);
                disk.offset = offset;
            });
        }
        out.reply(id, Stored { key, epoch: owner.epoch });
        let home = Share::home(self.me);
        let replicas = self.others().filter(|&node| Share::home(node) == home);
        out.send_all(replicas.collect::<Vec<_>>(), &Message::Replicate { offset, key });
    }

    fn receive(&mut self, now: Now, from: NodeId, message: Message, out: &mut Effects<'_>) {
        let is_master = out.disk().owners[Share::home(self.me).0].node == from;
        match message {
            Message::Ping(gossip) => self.hear(now, from, &gossip, out),
            Message::Fail(node) => {
                if node != self.me {
                    self.failed.entry(node).or_insert(now.local);
                    self.stand_if_failed(out);
                }
            }
            Message::AuthRequest { epoch, failed } => self.vote(from, epoch, failed, out),
            Message::AuthAck(epoch) => self.voted(from, epoch, out),
            Message::Replicate { offset, key } if is_master => {
                if offset == out.disk().offset + 1 {
                    out.persist(|disk| {
                        disk.keys.insert(key);
                        disk.offset = offset;
                    });
                } else {
                    out.send(from, Message::Sync);
                }
            }
            Message::Sync if owns(out.disk(), self.me) => {
                let Disk { offset, keys, .. } = out.disk().clone();
                out.send(from, Message::Full { offset, keys });
            }
            Message::Full { offset, keys } if is_master => {
                out.persist(|disk| (disk.offset, disk.keys) = (offset, keys));
            }
            Message::Forward { id, key } => self.set(now, id, key, out),
            Message::Replicate { .. } | Message::Sync | Message::Full { .. } => {}
        }
    }
}

/// Whether a node serves its share, in the eyes of whose disk it is.
pub(super) fn owns(disk: &Disk, node: NodeId) -> bool {
    disk.owners[Share::home(node).0].node == node
}

/// Who serves.
fn masters(disk: &Disk) -> BTreeSet<NodeId> {
    disk.owners.iter().map(|owner| owner.node).collect()
}

impl Process for Server {
    type Message = Message;
    type Timer = Timer;
    type Request = Set;
    type Output = Stored;
    type Disk = Disk;

    fn step(&mut self, now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match input {
            Input::Start | Input::Restart => {
                // Nobody is late who was not waited for.
                self.heard = self.others().map(|node| (node, now.local)).collect();
                self.ping(now, out);
            }
            Input::Message { from, message } => self.receive(now, from, message, out),
            Input::Timer(Timer::Ping) => self.ping(now, out),
            Input::Timer(Timer::Stand) => self.stand(out),
            Input::Request { id, request: Set(key) } => self.set(now, id, key, out),
        }
    }

    fn timer(timer: &Timer) -> String {
        let name = match timer {
            Timer::Ping => "time to ping",
            Timer::Stand => "time to stand for election",
        };
        name.to_owned()
    }

    fn kind(message: &Message) -> &'static str {
        match message {
            Message::Ping(_) => "Ping",
            Message::Fail(_) => "Fail",
            Message::AuthRequest { .. } => "AuthRequest",
            Message::AuthAck(_) => "AuthAck",
            Message::Replicate { .. } => "Replicate",
            Message::Sync => "Sync",
            Message::Full { .. } => "Full",
            Message::Forward { .. } => "Forward",
        }
    }
}
