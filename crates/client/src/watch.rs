//! Watches that outlive their streams: no gap, no duplicate.
//!
//! A watch is defined by where it stands, not by the stream it runs over. [`Watcher`] keeps one
//! number, the revision to resume from, and moves it by three rules:
//!
//! 1. A watch that starts "now" stands one after the revision in the header of the answer that
//!    created it: an event between that answer and a broken stream is then asked for again.
//! 2. A batch of events moves it to one after the batch's last revision. A server never splits a
//!    revision over two batches, except into *fragments* on request; those are gathered here and
//!    handed out whole, so that a stream that breaks between two fragments loses neither.
//! 3. A progress answer that carries this watch's own id moves it to one after its header.
//!    Answers to explicit progress requests carry the id -1 and do not move it: servers before
//!    etcd 3.4.25 and 3.5.8 may send them ahead of events (etcd's issue 15220).
//!
//! When a stream ends, for whatever reason, the next one is opened on the next healthy endpoint
//! at that revision. Only the server can end the watch: the revision has been compacted, or the
//! watch is refused.

use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::mvccpb;

use crate::error::{Failure, Judgement, Status, judge};
use crate::grpc::{Requests, Responses};
use crate::kv::{prefix_end, ranges};
use crate::pool::Client;

/// What to watch, from when, and what to leave out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watch(pub pb::WatchCreateRequest);

fn range_start(key: Bytes) -> Bytes {
    if key.is_empty() { Bytes::from_static(b"\0") } else { key }
}
ranges!(Watch);

impl Watch {
    /// From this revision on, itself included; without it, from the watch's creation on.
    #[must_use]
    pub fn from_revision(mut self, revision: i64) -> Self {
        self.0.start_revision = revision;
        self
    }

    /// Events carry what was there before.
    #[must_use]
    pub fn prev_kv(mut self) -> Self {
        self.0.prev_kv = true;
        self
    }

    /// Batches without events tell from time to time how far the watch has come.
    #[must_use]
    pub fn progress_notify(mut self) -> Self {
        self.0.progress_notify = true;
        self
    }

    /// Batches over 2 MiB come in several messages, for servers whose messages are limited.
    #[must_use]
    pub fn fragment(mut self) -> Self {
        self.0.fragment = true;
        self
    }

    /// No puts.
    #[must_use]
    pub fn without_puts(mut self) -> Self {
        self.0.filters.push(pb::watch_create_request::FilterType::Noput.into());
        self
    }

    /// No deletions.
    #[must_use]
    pub fn without_deletes(mut self) -> Self {
        self.0.filters.push(pb::watch_create_request::FilterType::Nodelete.into());
        self
    }
}

/// What a watch gives: events of whole revisions in order, or none and only a header, which is
/// progress.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The answer's header.
    pub header: pb::ResponseHeader,
    /// The events, ordered by revision and within it by operation.
    pub events: Vec<mvccpb::Event>,
}

/// Why a watch is over. It cannot be resumed as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// What happened at the revision to resume from has been forgotten. Read the state anew and
    /// watch from there.
    #[error(
        "etcdserver: mvcc: required revision has been compacted (compacted at {compact_revision})"
    )]
    Compacted {
        /// The oldest revision that can still be watched.
        compact_revision: i64,
    },
    /// The server ended the watch.
    #[error("watch canceled by the server: {0}")]
    Canceled(String),
    /// The server refused the stream.
    #[error("{0}")]
    Rejected(Status),
    /// The server broke the protocol.
    #[error("malformed answer: {0}")]
    Malformed(String),
}

/// A watch. See the module for what it promises.
#[derive(Debug)]
pub struct Watcher {
    client: Client,
    request: pb::WatchCreateRequest,
    progress: Position,
    stream: Option<Stream>,
    /// Reopening attempts since the last message.
    failures: u32,
}

#[derive(Debug)]
struct Stream {
    requests: Requests<pb::WatchRequest>,
    responses: Responses<pb::WatchResponse>,
    watch_id: i64,
}

/// Where the watch stands, apart from any stream: rules 1 to 3 of the module.
#[derive(Debug, Default)]
struct Position {
    /// The revision to resume from, once known.
    next_revision: Option<i64>,
    /// Fragments of the batch that is being received.
    fragments: Vec<mvccpb::Event>,
}

impl Position {
    /// Takes in an answer other than the one that created or canceled the watch. `ours` is
    /// whether it carries this watch's id. Gives a batch when one is whole.
    fn advance(&mut self, response: pb::WatchResponse, ours: bool) -> Option<Batch> {
        let header = response.header.unwrap_or_default();
        let from = self.next_revision.unwrap_or(0);
        let fresh = |event: &mvccpb::Event| revision_of(event) >= from;
        self.fragments.extend(response.events.into_iter().filter(fresh));
        if response.fragment {
            return None;
        }
        let events = std::mem::take(&mut self.fragments);
        let reached = match events.last() {
            Some(last) => Some(revision_of(last)),
            None if ours => Some(header.revision),
            None => None,
        };
        if let Some(reached) = reached {
            self.next_revision = Some(from.max(reached + 1));
        }
        Some(Batch { header, events })
    }

    /// The stream is gone: what it had not completed will come again.
    fn stream_lost(&mut self) {
        self.fragments.clear();
    }

    /// The watch was created, at the revision of `header`.
    fn created(&mut self, header: pb::ResponseHeader) {
        self.next_revision.get_or_insert(header.revision + 1);
    }
}

fn revision_of(event: &mvccpb::Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

impl Client {
    /// Starts a watch and waits until a member has confirmed it, for as long as none can be
    /// reached.
    ///
    /// # Errors
    /// [`WatchError`], if it can never be served.
    pub async fn watch(&self, watch: Watch) -> Result<Watcher, WatchError> {
        let from = Some(watch.0.start_revision).filter(|revision| *revision != 0);
        let mut watcher = Watcher {
            client: self.clone(),
            request: watch.0,
            progress: Position { next_revision: from, fragments: Vec::new() },
            stream: None,
            failures: 0,
        };
        watcher.reopen().await?;
        Ok(watcher)
    }

    /// A bare watch stream: what is sent and received is the protocol's own, and nothing is
    /// reconnected. For many watches on one stream, and for measuring.
    ///
    /// # Errors
    /// [`crate::Error`] if no endpoint accepts the stream.
    pub async fn watch_stream(
        &self,
        first: pb::WatchCreateRequest,
    ) -> crate::Result<(Requests<pb::WatchRequest>, Responses<pb::WatchResponse>)> {
        let first = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(first)) };
        self.open_stream(proto::method::watch::WATCH, &first)
            .await
            .map_err(|failure| crate::pool::given_up(failure, crate::pool::Safety::Read))
    }
}

impl Watcher {
    /// The next batch; waits for it across broken streams and dead members, without limit.
    ///
    /// Cancel safe: nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`WatchError`]; the watch is then over.
    pub async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.reopen().await?;
                continue;
            };
            let response = match stream.responses.message().await {
                Ok(Some(response)) => response,
                Ok(None) => {
                    self.lost(&Failure::Lost("the stream ended".into()))?;
                    continue;
                }
                Err(failure) => {
                    self.lost(&failure)?;
                    continue;
                }
            };
            self.failures = 0;
            let ours = response.watch_id == stream.watch_id;
            if response.canceled {
                return Err(canceled(&response));
            }
            if let Some(batch) = self.progress.advance(response, ours) {
                return Ok(batch);
            }
        }
    }

    /// The revision that the watch would resume from: everything before it has been delivered.
    pub fn next_revision(&self) -> Option<i64> {
        self.progress.next_revision
    }

    /// Asks the server to tell how far it is; the answer is a batch without events, and comes
    /// only once everything before has been sent.
    pub async fn request_progress(&self) {
        if let Some(stream) = &self.stream {
            let union = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
            stream.requests.send(&pb::WatchRequest { request_union: Some(union) }).await;
        }
    }

    fn lost(&mut self, failure: &Failure) -> Result<(), WatchError> {
        self.stream = None;
        self.progress.stream_lost();
        final_error(failure).map_or(Ok(()), Err)
    }

    /// Opens a stream at the revision to resume from; tries until it stands.
    async fn reopen(&mut self) -> Result<(), WatchError> {
        loop {
            if self.failures > 0 {
                let wait: Duration = self.client.config().backoff(self.failures);
                tokio::time::sleep(wait).await;
            }
            match self.open_once().await {
                Ok(opened) => {
                    self.stream = Some(opened?);
                    return Ok(());
                }
                Err(failure) => {
                    self.failures = self.failures.saturating_add(1);
                    if let Some(error) = final_error(&failure) {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn open_once(&mut self) -> Result<Result<Stream, WatchError>, Failure> {
        let mut request = self.request.clone();
        request.start_revision = self.progress.next_revision.unwrap_or(0);
        let union = RequestUnion::CreateRequest(request);
        let first = pb::WatchRequest { request_union: Some(union) };
        let path = proto::method::watch::WATCH;
        let (requests, mut responses) =
            self.client.open_stream::<_, pb::WatchResponse>(path, &first).await?;
        let limit = self.client.config().read_attempt_timeout;
        let created = tokio::time::timeout(limit, responses.message())
            .await
            .unwrap_or(Err(Failure::TimedOut))?
            .ok_or_else(|| Failure::Lost("the stream ended at once".into()))?;
        if created.canceled {
            return Ok(Err(canceled(&created)));
        }
        if !created.created {
            return Err(Failure::Malformed("a watch that was not created answers".into()));
        }
        self.progress.created(created.header.unwrap_or_default());
        Ok(Ok(Stream { requests, responses, watch_id: created.watch_id }))
    }
}

fn final_error(failure: &Failure) -> Option<WatchError> {
    match (judge(failure), failure) {
        (Judgement::Final, Failure::Status(status)) => Some(WatchError::Rejected(status.clone())),
        (_, Failure::Malformed(text)) => Some(WatchError::Malformed(text.clone())),
        _ => None,
    }
}

fn canceled(response: &pb::WatchResponse) -> WatchError {
    match response.compact_revision {
        0 => WatchError::Canceled(response.cancel_reason.clone()),
        compact_revision => WatchError::Compacted { compact_revision },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(revision: i64, events: &[i64]) -> pb::WatchResponse {
        let event = |revision: &i64| mvccpb::Event {
            kv: Some(mvccpb::KeyValue { mod_revision: *revision, ..Default::default() }),
            ..Default::default()
        };
        pb::WatchResponse {
            header: Some(pb::ResponseHeader { revision, ..Default::default() }),
            events: events.iter().map(event).collect(),
            ..Default::default()
        }
    }

    fn revisions(batch: &Batch) -> Vec<i64> {
        batch.events.iter().map(revision_of).collect()
    }

    #[test]
    fn a_watch_from_now_stands_after_the_header_that_created_it() {
        let mut position = Position::default();
        position.created(pb::ResponseHeader { revision: 7, ..Default::default() });
        assert_eq!(position.next_revision, Some(8));
        // Created again on another member: it stands where it stood.
        position.created(pb::ResponseHeader { revision: 99, ..Default::default() });
        assert_eq!(position.next_revision, Some(8));
    }

    #[test]
    fn events_move_it_past_the_last_revision_not_past_the_header() {
        let mut position = Position { next_revision: Some(5), ..Default::default() };
        let batch = position.advance(response(20, &[5, 5, 8]), true).unwrap();
        assert_eq!(revisions(&batch), [5, 5, 8]);
        assert_eq!(position.next_revision, Some(9));
    }

    #[test]
    fn what_was_delivered_is_not_delivered_again() {
        let mut position = Position { next_revision: Some(6), ..Default::default() };
        let batch = position.advance(response(8, &[4, 5, 6, 7]), true).unwrap();
        assert_eq!(revisions(&batch), [6, 7]);
    }

    #[test]
    fn fragments_are_handed_out_whole_or_asked_for_again() {
        let mut position = Position { next_revision: Some(5), ..Default::default() };
        let first = pb::WatchResponse { fragment: true, ..response(5, &[5, 5]) };
        assert_eq!(position.advance(first.clone(), true), None);
        assert_eq!(position.next_revision, Some(5));
        position.stream_lost();
        assert_eq!(position.advance(first, true), None);
        let batch = position.advance(response(5, &[5]), true).unwrap();
        assert_eq!(revisions(&batch), [5, 5, 5]);
        assert_eq!(position.next_revision, Some(6));
    }

    #[test]
    fn only_progress_of_its_own_moves_it() {
        let mut position = Position { next_revision: Some(5), ..Default::default() };
        let stranger = position.advance(response(30, &[]), false).unwrap();
        assert!(stranger.events.is_empty());
        assert_eq!(position.next_revision, Some(5));
        position.advance(response(30, &[]), true).unwrap();
        assert_eq!(position.next_revision, Some(31));
        position.advance(response(20, &[]), true).unwrap();
        assert_eq!(position.next_revision, Some(31), "it never goes back");
    }
}
