//! A range in parts: RangeStream.
//!
//! The revision is pinned when the stream begins, to the one asked for or to the newest; the
//! parts together are exactly the answer that one Range would have given then. Header, `more`
//! and `count` come with the last part only. A part ends when it holds about
//! [`Limits::stream_chunk_bytes`]; a list of any length needs no more memory than that.
//!
//! Between two parts nothing of the state is held: each is read from a view of its own, so that
//! a slow client keeps no memory and no pages. The price is etcd's: if the pinned revision is
//! compacted meanwhile, the stream ends with an error.

use bytes::Bytes;
use mvcc::{KeySpan, Revision, View};
use proto::etcdserverpb::range_request::SortTarget;
use proto::{etcdserverpb as pb, wire};

use crate::check;
use crate::draft::Draft;
use crate::error::Error;
use crate::limits::Limits;
use crate::range::{self, Target};
use crate::request::header;

/// A range that is being sent in parts. See the module.
#[derive(Debug)]
pub struct RangeStream {
    request: pb::RangeRequest,
    chunk_bytes: usize,
    /// The revision of the state when the stream began: the header's.
    newest: Revision,
    /// The revision that is read.
    at: Revision,
    /// What is still to come; `None` once the last part is out.
    rest: Option<KeySpan>,
    /// Keys that may still be sent.
    allowance: usize,
    sent: i64,
}

impl RangeStream {
    /// Begins a stream at the revision of `view`, or at the one asked for.
    ///
    /// # Errors
    /// Those of a range; [`Error::StreamSort`] and [`Error::StreamFilter`] for an order of its
    /// own and for filters by revision, which a stream does not have.
    pub fn begin(view: &View, request: pb::RangeRequest, limits: &Limits) -> Result<Self, Error> {
        check::range(&request)?;
        if !range::in_key_order(&request) || request.sort_target() != SortTarget::Key {
            return Err(Error::StreamSort);
        }
        if range::has_filters(&request) {
            return Err(Error::StreamFilter);
        }
        let at = range::revision(&Draft::new(view, None), request.revision)?;
        let rest = match Target::new(&request.key, &request.range_end) {
            Target::One(key) => KeySpan::one(key),
            Target::Span(span) => span,
        };
        let allowance = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        Ok(Self {
            chunk_bytes: limits.stream_chunk_bytes,
            newest: view.revision(),
            at,
            rest: Some(rest),
            allowance: allowance.unwrap_or(usize::MAX),
            sent: 0,
            request,
        })
    }

    /// The next part, read from `view`, which is as new as the one the stream began with;
    /// `None` after the last.
    ///
    /// # Errors
    /// [`Error::Compacted`] if the revision is compacted by now; the engine's.
    pub fn next(&mut self, view: &View) -> Result<Option<wire::RangeStreamResponse>, Error> {
        let Some(rest) = self.rest.take() else { return Ok(None) };
        if self.at < view.compacted() {
            return Err(Error::Compacted);
        }
        let draft = Draft::new(view, None);
        let part = if self.request.count_only {
            let count = draft.count(&rest, self.at)?;
            wire::RangeResponse { header: header(self.newest), count, ..Default::default() }
        } else {
            self.part(&draft, rest)?
        };
        Ok(Some(wire::RangeStreamResponse { range_response: Some(part) }))
    }

    fn part(&mut self, draft: &Draft<'_>, span: KeySpan) -> Result<wire::RangeResponse, Error> {
        let mut kvs = Vec::new();
        let mut bytes = 0;
        let mut last = Bytes::new();
        let mut next = None;
        for record in draft.scan(&span, self.at)? {
            let record = record?;
            if bytes >= self.chunk_bytes || kvs.len() == self.allowance {
                next = Some(KeySpan { start: after(&last), end: span.end.clone() });
                break;
            }
            last = record.key();
            let kv = range::encoded(&self.request, record);
            bytes += kv.len();
            kvs.push(kv);
        }
        self.allowance -= kvs.len();
        self.sent += i64::try_from(kvs.len()).expect("fewer keys than bytes of memory");
        match next {
            Some(next) if self.allowance > 0 => {
                self.rest = Some(next);
                Ok(wire::RangeResponse { kvs, ..Default::default() })
            }
            next => {
                let more = next.is_some();
                let unsent = next.map_or(Ok(0), |next| draft.count(&next, self.at))?;
                let count = self.sent + unsent;
                Ok(wire::RangeResponse { header: header(self.newest), kvs, more, count })
            }
        }
    }
}

/// The smallest key after `key`.
fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}
