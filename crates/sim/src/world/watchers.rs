//! Watchers, and the doors that serve them.
//!
//! A member's door drives the hub as a door thread of a real one does: it takes the commits that
//! were published in its own time, with a view that may be newer; it reads history for those who
//! are behind, a window at a time; it hears that it has missed something when too much waits.
//!
//! A watcher is a client library's: it takes messages at its own speed, and when its connection or
//! its member is gone it goes to another and resumes behind the last header it was told. What it
//! was told is kept for the judge.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd::watch::{Hub, StreamId};
use history::record::{Connection, Filters, Incarnation, Revision, Said, Span, Told, Watch};
use prost::Message as _;
use proto::etcdserverpb as pb;
use proto::wire;
use store::NodeId;

use super::clients::{end, key};
use super::{Happening, What, World};
use crate::check::Fault;
use crate::climate::Doors;
use crate::judge::record;
use crate::plan::{Place, Wish};

/// Commits that may wait for a door; more, and it hears that it has missed some.
const NEWS_MAX: usize = 8;
/// At the end watchers ask this often how far they are.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Something that a door has not told its hub yet.
enum News {
    Commit(Arc<mvcc::Commit>),
    Missed,
}

/// A member's door.
pub(crate) struct Door {
    hub: Hub,
    news: VecDeque<News>,
    /// When it has its next turn.
    turn_at: Option<Duration>,
    /// Whose stream is whose.
    streams: Vec<(StreamId, usize)>,
}

impl Door {
    pub(crate) fn new(doors: &Doors, member: NodeId, seed: u64, revision: mvcc::Revision) -> Self {
        let limits = etcd::watch::Limits {
            stream_bytes_max: doors.stream_bytes,
            window_commits_max: doors.window_commits,
            fragment_bytes: doors.fragment_bytes,
            progress_interval: Duration::from_micros(doors.progress_us.max(1)),
            ..etcd::watch::Limits::default()
        };
        let config = etcd::watch::Config { cluster_id: 1, member_id: member.0, limits, seed };
        Self {
            hub: Hub::new(config, revision, 0),
            news: VecDeque::new(),
            turn_at: None,
            streams: Vec::new(),
        }
    }

    fn hears(&mut self, news: News) -> bool {
        let much = self.news.len() >= NEWS_MAX;
        if much || matches!(news, News::Missed) {
            self.news.clear();
            self.news.push_back(News::Missed);
        } else {
            self.news.push_back(news);
        }
        much
    }
}

/// A connection of a watcher.
#[derive(Clone, Copy)]
struct Line {
    node: NodeId,
    incarnation: u64,
    stream: StreamId,
}

/// A client that watches.
pub(crate) struct Watcher {
    wish: Wish,
    record: Watch,
    line: Option<Line>,
    /// What it asks for next; nothing before it knows any revision.
    next: Option<i64>,
    reading: bool,
    /// Nothing more will be told.
    over: bool,
}

/// All who watch.
#[derive(Default)]
pub(crate) struct Watchers(Vec<Watcher>);

impl Watchers {
    pub(crate) fn records(&self) -> Vec<Watch> {
        self.0.iter().map(|watcher| watcher.record.clone()).collect()
    }
}

fn small(wide: u64) -> u32 {
    u32::try_from(wide & 0xffff_ffff).unwrap_or(u32::MAX)
}

impl World {
    /// A client of the plan begins to watch.
    pub(super) fn watch(&mut self, at: Place, wish: Wish) -> Result<(), Fault> {
        let range_end = if wish.single { bytes::Bytes::new() } else { end(wish.to) };
        let number = self.watchers.0.len();
        let next = wish.back.map(|back| (self.clients.newest() - back).max(1));
        self.watchers.0.push(Watcher {
            wish,
            record: Watch {
                client: history::record::ClientId(1_000 + small(number as u64)),
                span: Span::decode(key(wish.from), range_end),
                prev_kv: wish.prev,
                progress_notify: wish.progress,
                filters: Filters { no_put: wish.no_put, no_delete: wish.no_delete },
                ..Watch::default()
            },
            line: None,
            next,
            reading: false,
            over: false,
        });
        let at = self.member_at(at);
        self.connect(number, at)
    }

    /// A watcher finds another member, if any is up.
    pub(super) fn watcher_connects(&mut self, number: usize) -> Result<(), Fault> {
        let at = self.net.draw(self.hosts.len() as u64);
        let at = self.member_at(at);
        self.connect(number, at)
    }

    fn connect(&mut self, number: usize, at: NodeId) -> Result<(), Fault> {
        let watcher = &self.watchers.0[number];
        if watcher.over || watcher.line.is_some() {
            return Ok(());
        }
        if !self.hosts[&at].is_up() || self.hosts[&at].paused_until > self.now {
            return self.connect_later(number);
        }
        let (wish, start) = (watcher.wish, watcher.next);
        let local = self.hosts[&at].clock.monotonic(self.now);
        let incarnation = self.hosts[&at].incarnation;
        let Some(process) = self.process(at) else { return Ok(()) };
        let stream = process.door.hub.open(local);
        process.door.streams.push((stream, number));
        let mut filters = Vec::new();
        filters.extend(wish.no_put.then_some(0));
        filters.extend(wish.no_delete.then_some(1));
        let create = pb::WatchCreateRequest {
            key: key(wish.from),
            range_end: if wish.single { bytes::Bytes::new() } else { end(wish.to) },
            start_revision: start.unwrap_or(0),
            progress_notify: wish.progress,
            filters,
            prev_kv: wish.prev,
            fragment: wish.fragment,
            ..Default::default()
        };
        let taken = process.door.hub.create(stream, &create);
        taken.map_err(|error| ("a new stream takes a request", error.to_string()))?;
        let resumed = !self.watchers.0[number].record.connections.is_empty();
        self.tally.count(if resumed { "watch resumed" } else { "watch begun" });
        let line = format_args!("w{number} watches {:?} at n{:x} from {start:?}", wish, at.0);
        self.trace.tell(self.now, line);
        let watcher = &mut self.watchers.0[number];
        watcher.line = Some(Line { node: at, incarnation, stream });
        watcher.record.connections.push(Connection {
            node: history::record::NodeId(small(at.0)),
            incarnation: Some(Incarnation(small(incarnation))),
            opened: record::time(self.now),
            start: start.map(Revision),
            told: Vec::new(),
        });
        self.door_turn(at)
    }

    fn connect_later(&mut self, number: usize) -> Result<(), Fault> {
        let takes = Duration::from_micros(10_000) + self.draw_us(500_000);
        self.post(self.now + takes, Happening::WatcherConnects(number));
        Ok(())
    }

    /// A member has applied a commit, or a snapshot in its place.
    pub(super) fn door_hears(&mut self, id: NodeId, commit: Option<Arc<mvcc::Commit>>) {
        let lag = self.plan.climate.doors.lag_us;
        let Some(process) = self.process(id) else { return };
        if process.door.hears(commit.map_or(News::Missed, News::Commit)) {
            self.tally.count("watch: commits missed");
        }
        let at = self.now + self.draw_us(lag);
        self.door_wakes(id, at);
    }

    fn door_wakes(&mut self, id: NodeId, at: Duration) {
        let Some(process) = self.process(id) else { return };
        if process.door.turn_at.is_none_or(|turn| at < turn) {
            process.door.turn_at = Some(at);
            self.post_within(id, at, What::Door);
        }
    }

    /// A door does what is due.
    pub(super) fn door_turn(&mut self, id: NodeId) -> Result<(), Fault> {
        let broken = |error: mvcc::ReadError| -> Fault { ("a hub can read", error.to_string()) };
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        let local = host.clock.monotonic(self.now);
        let Some(process) = &mut host.process else { return Ok(()) };
        let view = process.core.machine().view();
        let term = process.core.standing().term;
        let door = &mut process.door;
        door.turn_at = None;
        door.hub.set_term(term.0);
        for news in door.news.drain(..) {
            match news {
                News::Commit(commit) => door.hub.publish(&commit, &view).map_err(broken)?,
                News::Missed => door.hub.jump(view.revision()),
            }
        }
        if door.hub.next_deadline().is_some_and(|deadline| deadline <= local) {
            door.hub.tick(local);
        }
        let mut read = 0;
        if door.hub.is_behind() {
            let window = door.hub.limits().window_commits_max;
            read = door.hub.catch_up(&view, window).map_err(broken)?;
        }
        let mut ready = Vec::new();
        while let Some(stream) = door.hub.next_ready() {
            ready.extend(door.streams.iter().find(|(id, _)| *id == stream).map(|(_, w)| *w));
        }
        let deadline = door.hub.next_deadline().map(|deadline| host.clock.when(deadline));
        if read > 0 {
            self.tally.count("watch: history read");
            let at = self.now + Duration::from_micros(1) + self.draw_us(1_000);
            self.door_wakes(id, at);
        }
        if let Some(at) = deadline {
            self.door_wakes(id, at);
        }
        for number in ready {
            self.watcher_is_called(number);
        }
        Ok(())
    }

    /// There is something for a watcher, which takes it in its own time.
    fn watcher_is_called(&mut self, number: usize) {
        let watcher = &mut self.watchers.0[number];
        if std::mem::replace(&mut watcher.reading, true) {
            return;
        }
        let connection = watcher.record.connections.len();
        let takes = Duration::from_micros(1) + self.draw_us(self.plan.climate.doors.read_us);
        self.post(self.now + takes, Happening::WatcherReads(number, connection));
    }

    /// A watcher takes one message.
    pub(super) fn watcher_reads(&mut self, number: usize, connection: usize) -> Result<(), Fault> {
        let watcher = &mut self.watchers.0[number];
        if watcher.record.connections.len() != connection {
            return Ok(());
        }
        watcher.reading = false;
        let Some(line) = watcher.line else { return Ok(()) };
        let paused_until = self.hosts[&line.node].paused_until;
        if paused_until > self.now {
            self.watchers.0[number].reading = true;
            self.post(paused_until, Happening::WatcherReads(number, connection));
            return Ok(());
        }
        let Some(process) = self.process(line.node) else { return Ok(()) };
        let Some(message) = process.door.hub.take(line.stream) else { return Ok(()) };
        let behind = process.door.hub.is_behind();
        let bytes = message.to_bytes();
        self.trace.mix(&[number as u64]);
        self.trace.mix_bytes(&bytes);
        let told = wire::WatchResponse::decode(bytes).ok().and_then(|told| record::told(&told));
        let Some((header, said)) = told else {
            return Err((
                "a watcher understands what it is told",
                format!("w{number}: {message:?}"),
            ));
        };
        self.is_told(number, header, said);
        if behind {
            self.door_wakes(line.node, self.now);
        }
        if self.watchers.0[number].line.is_some() {
            self.watcher_is_called(number);
        }
        Ok(())
    }

    fn is_told(&mut self, number: usize, header: Revision, said: Said) {
        let watcher = &mut self.watchers.0[number];
        let resume = watcher.next.unwrap_or(0).max(header.0 + 1);
        let (what, words) = match &said {
            Said::Created => ("watch: created", "it has begun".to_owned()),
            Said::Progress => ("watch: progress", "nothing new".to_owned()),
            Said::Events { events, fragment } => {
                let what = if *fragment { "watch: fragment" } else { "watch: events" };
                let first = events.first().map_or(0, |event| event.revision.0);
                (what, format!("{} events from revision {first} on", events.len()))
            }
            Said::Canceled { compacted: Some(at), .. } => {
                ("watch: ended by compaction", format!("the end: compacted up to {}", at.0))
            }
            Said::Canceled { reason, .. } => ("watch: ended", format!("the end: {reason}")),
        };
        match &said {
            Said::Canceled { .. } => watcher.over = true,
            // In the middle of a message nothing may be taken for told.
            Said::Events { fragment: true, .. } => {}
            _ => watcher.next = Some(resume),
        }
        let told = Told { at: record::time(self.now), header, said };
        if let Some(connection) = watcher.record.connections.last_mut() {
            connection.told.push(told);
        }
        self.tally.count(what);
        self.trace.tell(self.now, format_args!("w{number} hears, header {}: {words}", header.0));
        if self.watchers.0[number].over {
            self.hang_up(number);
        }
    }

    fn hang_up(&mut self, number: usize) {
        let Some(line) = self.watchers.0[number].line.take() else { return };
        let incarnation = self.hosts[&line.node].incarnation;
        if let Some(process) = self.process(line.node).filter(|_| incarnation == line.incarnation) {
            process.door.hub.close(line.stream);
            process.door.streams.retain(|(stream, _)| *stream != line.stream);
        }
    }

    /// The connections of those who watch at a member are gone; they look for another.
    pub(super) fn watchers_lose(&mut self, id: NodeId) {
        for number in 0..self.watchers.0.len() {
            let watcher = &mut self.watchers.0[number];
            if watcher.line.is_some_and(|line| line.node == id) {
                watcher.reading = false;
                self.hang_up(number);
                let takes = self.draw_us(500_000);
                self.post(self.now + takes, Happening::WatcherConnects(number));
            }
        }
    }

    /// Everything is healed: whoever watches is told all there is, and says so.
    pub(super) fn watchers_end(&mut self, deadline: Duration) -> Result<(), Fault> {
        self.stop_removed();
        let Some(leader) = self.leader() else { return Ok(()) };
        let Some(process) = self.process(leader) else { return Ok(()) };
        let target = process.core.machine().view().revision().0;
        let mut ask_at = self.now;
        loop {
            let waits =
                |watcher: &Watcher| !watcher.over && watcher.next.is_none_or(|next| next <= target);
            let waiting: Vec<usize> = (0..self.watchers.0.len())
                .filter(|&number| waits(&self.watchers.0[number]))
                .collect();
            if waiting.is_empty() {
                break;
            }
            if self.now > deadline {
                let what = format!("watchers {waiting:?} were not told of revision {target}");
                return Err(("watchers are told in the end", what));
            }
            if self.now >= ask_at {
                ask_at = self.now + ASK_EVERY;
                for number in waiting {
                    self.ask_for_progress(number)?;
                }
            }
            self.next_event()?;
        }
        for watcher in self.watchers.0.iter_mut().filter(|watcher| !watcher.over) {
            watcher.record.told_up_to = Some(Revision(target));
        }
        Ok(())
    }

    fn ask_for_progress(&mut self, number: usize) -> Result<(), Fault> {
        let Some(line) = self.watchers.0[number].line else { return Ok(()) };
        let Some(process) = self.process(line.node) else { return Ok(()) };
        if process.door.hub.accepts(line.stream) {
            let asked = process.door.hub.progress(line.stream);
            asked.map_err(|error| ("a stream with room takes a request", error.to_string()))?;
        }
        self.door_turn(line.node)
    }
}
