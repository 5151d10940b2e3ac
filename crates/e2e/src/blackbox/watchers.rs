//! Watchers, one of which collects the commits.
//!
//! Each follows its keys over all connections, to one member after the other, and resumes where it stopped. The
//! collector watches every key from the first revision on; what it is told first of a revision is taken for the
//! commit. It is itself one of the watches that are judged, and the others were told by other members.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use history::record::{
    ClientId, Commit, Connection, Event, Filters, Incarnation, NodeId, Revision, Said, Span, Told,
    Watch, WatchEvent,
};
use prost::Message;
use proto::etcdserverpb as pb;
use proto::method;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tonic::Streaming;

use super::convert;
use super::load::Stage;
use super::net::endpoint;
use super::record::Record;
use crate::rpc::Client;

/// A stream that says nothing for so long is given up: its member may be cut off.
const SILENCE: Duration = Duration::from_secs(3);
/// How often progress is asked for.
const PROGRESS: Duration = Duration::from_millis(700);
const OPENING: Duration = Duration::from_secs(2);
const BACKOFF: Duration = Duration::from_millis(50);
/// How soon a watcher sees that it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// One watcher.
#[derive(Debug)]
pub struct Watcher {
    stage: Stage,
    connections: Vec<Client>,
    watch: Watch,
    collects: bool,
    /// Everything below was told; `None` before the watch is made.
    due: Option<Revision>,
    /// The next commit to collect.
    next_commit: Revision,
}

/// Why a connection has ended.
enum End {
    /// It is over, silent or broken: on to the next.
    Lost,
    /// What is due is compacted.
    Compacted,
    /// The run is over.
    Stop,
}

impl Watcher {
    /// A watcher of a span.
    ///
    /// # Errors
    /// When an address is none.
    pub fn new(stage: &Stage, id: u32, span: Span, options: (bool, bool, Filters)) -> Result<Self> {
        let slots = 1..=stage.lives.len();
        let connections =
            slots.map(|slot| Client::new(&endpoint(slot))).collect::<Result<Vec<_>>>()?;
        let (prev_kv, progress_notify, filters) = options;
        let watch = Watch {
            client: ClientId(id),
            span,
            prev_kv,
            progress_notify,
            filters,
            ..Watch::default()
        };
        Ok(Self {
            stage: stage.clone(),
            connections,
            watch,
            collects: false,
            due: None,
            next_commit: Revision(2),
        })
    }

    /// The watcher of everything, from the beginning.
    ///
    /// # Errors
    /// When an address is none.
    pub fn collector(stage: &Stage, id: u32) -> Result<Self> {
        let mut watcher = Self::new(stage, id, Span::all(), (false, false, Filters::default()))?;
        watcher.collects = true;
        watcher.due = Some(Revision(1));
        Ok(watcher)
    }

    /// Watches until the record says stop, and puts the watch into it.
    pub async fn work(mut self) {
        let members = self.connections.len();
        let first = self.watch.client.0 as usize % members;
        for turn in first.. {
            match self.connect(turn % members).await {
                End::Lost => tokio::time::sleep(BACKOFF).await,
                End::Compacted => self.begin_anew(),
                End::Stop => break,
            }
        }
        if self.due.is_some() {
            let span = (self.watch.span.clone(), self.watch.filters);
            self.watch.told_up_to = self.stage.record.last_wanted(|commit| {
                let wants = |event: &Event| {
                    span.0.contains(&event.key) && span.1.lets_through(&event.change)
                };
                commit.events.iter().any(wants)
            });
        }
        self.stage.record.push_watch(self.watch);
    }

    /// A watch that was canceled for a compaction is over. Another begins with what is to come.
    fn begin_anew(&mut self) {
        let next = Watch { connections: Vec::new(), ..self.watch.clone() };
        self.stage.record.push_watch(std::mem::replace(&mut self.watch, next));
        self.due = None;
    }

    /// Whether everything that was committed for this watch has been told.
    fn caught_up(&self) -> bool {
        let Watch { span, filters, .. } = &self.watch;
        let wants =
            |event: &Event| span.contains(&event.key) && filters.lets_through(&event.change);
        let last = self.stage.record.last_wanted(|commit| commit.events.iter().any(wants));
        match (last, self.due) {
            (Some(last), Some(due)) => due > last,
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    async fn connect(&mut self, member: usize) -> End {
        let record = Arc::clone(&self.stage.record);
        let (key, range_end) = convert::span(&self.watch.span);
        let mut filters = Vec::new();
        if self.watch.filters.no_put {
            filters.push(pb::watch_create_request::FilterType::Noput.into());
        }
        if self.watch.filters.no_delete {
            filters.push(pb::watch_create_request::FilterType::Nodelete.into());
        }
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: self.due.map_or(0, |due| due.0),
            progress_notify: self.watch.progress_notify,
            prev_kv: self.watch.prev_kv,
            filters,
            ..Default::default()
        };
        let life = &self.stage.lives[member];
        self.watch.connections.push(Connection {
            node: NodeId(u32::try_from(member + 1).unwrap_or_default()),
            incarnation: Some(Incarnation(life.load(Ordering::SeqCst))),
            opened: record.now(),
            start: self.due,
            told: Vec::new(),
        });
        let request = pb::watch_request::RequestUnion::CreateRequest(create);
        let request = pb::WatchRequest { request_union: Some(request) };
        // The stream lives as long as the sender.
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let first = Bytes::from(request.encode_to_vec());
        let _received_later = sender.send(first).await;
        let client = &self.connections[member];
        let asks = self.watch.progress_notify.then(|| sender.clone());
        let opened =
            tokio::time::timeout(OPENING, client.stream(method::watch::WATCH, receiver)).await;
        let end = match opened {
            Ok(Ok(stream)) => self.listen(&record, stream, asks).await,
            _ if record.watchers_leave.load(Ordering::SeqCst) => End::Stop,
            _ => End::Lost,
        };
        drop(sender);
        // One that told nothing says nothing.
        if self.watch.connections.last().is_some_and(|connection| connection.told.is_empty()) {
            self.watch.connections.pop();
        }
        end
    }

    async fn listen(
        &mut self,
        record: &Record,
        mut stream: Streaming<Bytes>,
        asks: Option<Sender<Bytes>>,
    ) -> End {
        let mut silent = Duration::ZERO;
        let mut asked = Instant::now();
        loop {
            // Progress on demand: each answer claims that everything up to its header was told.
            if let Some(asks) = asks.as_ref().filter(|_| asked.elapsed() > PROGRESS) {
                asked = Instant::now();
                let request = pb::WatchProgressRequest {};
                let request = pb::watch_request::RequestUnion::ProgressRequest(request);
                let request = pb::WatchRequest { request_union: Some(request) };
                let _full_or_gone = asks.try_send(Bytes::from(request.encode_to_vec()));
            }
            // Once more after everything else has stopped, so that the last events are heard.
            let stop = record.watchers_stop.load(Ordering::SeqCst) && self.caught_up();
            if stop || record.watchers_leave.load(Ordering::SeqCst) {
                return End::Stop;
            }
            let message = match tokio::time::timeout(LOOK, stream.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None) | Err(_)) => return End::Lost,
                Err(_) if silent > SILENCE => return End::Lost,
                Err(_) => {
                    silent += LOOK;
                    continue;
                }
            };
            let Ok(response) = pb::WatchResponse::decode(message) else { return End::Lost };
            if !response.events.is_empty() {
                silent = Duration::ZERO;
            }
            if let Some(end) = self.take(record, response) {
                return end;
            }
        }
    }

    fn take(&mut self, record: &Record, response: pb::WatchResponse) -> Option<End> {
        let header = Revision(response.header.map_or(0, |header| header.revision));
        let compacted = (response.compact_revision > 0).then_some(response.compact_revision);
        let said = if response.canceled {
            let compacted = compacted.map(Revision);
            Said::Canceled { compacted, reason: response.cancel_reason }
        } else if response.created {
            Said::Created
        } else if response.events.is_empty() {
            Said::Progress
        } else {
            let events = response.events.into_iter().filter_map(convert::event).collect();
            Said::Events { events, fragment: response.fragment }
        };
        let end = match &said {
            Said::Canceled { compacted: Some(_), .. } => Some(End::Compacted),
            Said::Canceled { .. } => Some(End::Lost),
            Said::Created => {
                self.due.get_or_insert(header.next());
                None
            }
            Said::Progress => {
                self.due = self.due.max(Some(header.next()));
                None
            }
            Said::Events { events, .. } => {
                if let Some(last) = events.last() {
                    self.due = self.due.max(Some(last.revision.next()));
                }
                if self.collects {
                    self.collect(record, events);
                }
                None
            }
        };
        let told = Told { at: record.now(), header, said };
        if let Some(connection) = self.watch.connections.last_mut() {
            connection.told.push(told);
        }
        end
    }

    /// The first telling of a revision is taken; whether a later one agrees is the judge's business.
    fn collect(&mut self, record: &Record, events: &[WatchEvent]) {
        for group in events.chunk_by(|a, b| a.revision == b.revision) {
            let revision = group[0].revision;
            if revision < self.next_commit {
                continue;
            }
            self.next_commit = revision.next();
            let as_event =
                |told: &WatchEvent| Event { key: told.key.clone(), change: told.change.clone() };
            record.push_commit(Commit {
                revision,
                events: group.iter().map(as_event).collect(),
                seen: Some(record.now()),
            });
        }
    }
}
