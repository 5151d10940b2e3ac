//! Reads that need a view and nothing else: any thread may answer them.

use mvcc::{Revision, View};
use proto::etcdserverpb as pb;

use crate::draft::Draft;
use crate::error::Error;
use crate::limits::Limits;
use crate::request::{Request, Response, header, header_without_revision};
use crate::{alarm, check, member, range, txn};

/// Number of changes that users and roles have seen before the first one, as etcd counts it.
const FIRST_AUTH_REVISION: u64 = 1;

/// From where a request may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// From this member's state as it is.
    Here,
    /// From this member's state once it has caught up with a read point.
    ReadPoint,
    /// By the leader.
    Leader,
}

impl Request {
    /// From where the request may be answered. [`read()`] answers it unless that is the leader.
    #[must_use]
    pub fn route(&self) -> Route {
        let unless = |here: bool| if here { Route::Here } else { Route::ReadPoint };
        match self {
            Self::Range(request) => unless(request.serializable),
            Self::Txn(request) if txn::is_read_only(request) => {
                unless(txn::is_serializable(request))
            }
            Self::MemberList(request) => unless(!request.linearizable),
            Self::Alarm(request) if request.action() == pb::alarm_request::AlarmAction::Get => {
                Route::ReadPoint
            }
            Self::AuthStatus(_) => Route::ReadPoint,
            Self::Hash(_) | Self::HashKv(_) => Route::Here,
            _ => Route::Leader,
        }
    }
}

/// Answers a request from a view. The header has the revision; cluster, member and term are the
/// caller's to fill in.
///
/// # Errors
/// Those of the request; [`Error::NotLeader`] if only a leader can answer it.
pub fn read(view: &View, request: &Request, limits: &Limits) -> Result<Response, Error> {
    if request.route() == Route::Leader {
        return Err(Error::NotLeader);
    }
    check(request, limits)?;
    answer(&mut Draft::new(view, None), request)
}

/// What can be refused without the state.
pub(crate) fn check(request: &Request, limits: &Limits) -> Result<(), Error> {
    match request {
        Request::Range(request) => check::range(request),
        Request::Txn(request) => check::txn(request, limits.max_txn_ops),
        _ => Ok(()),
    }
}

/// Answers a request that [`check`] has passed.
pub(crate) fn answer(draft: &mut Draft<'_>, request: &Request) -> Result<Response, Error> {
    match request {
        Request::Range(request) => Ok(Response::Range(range::range(draft, request)?)),
        Request::Txn(request) => Ok(Response::Txn(txn::txn(draft, request)?)),
        Request::MemberList(_) => {
            let members = member::list(draft)?;
            let header = header_without_revision();
            Ok(Response::MemberList(pb::MemberListResponse { header, members }))
        }
        Request::Alarm(request) => {
            let alarms = alarm::list(draft, request.alarm)?;
            let header = header(draft.base());
            Ok(Response::Alarm(pb::AlarmResponse { header, alarms }))
        }
        Request::Hash(_) => {
            let (hash, header) = (draft.view().hash()?, header(draft.view().revision()));
            Ok(Response::Hash(pb::HashResponse { header, hash }))
        }
        Request::HashKv(request) => Ok(Response::HashKv(hash_kv(draft, *request)?)),
        Request::AuthStatus(_) => Ok(Response::AuthStatus(pb::AuthStatusResponse {
            header: header(draft.base()),
            enabled: false,
            auth_revision: FIRST_AUTH_REVISION,
        })),
        _ => Err(Error::NotLeader),
    }
}

/// A member's hash of what it has applied; what is in flight is not in it.
fn hash_kv(draft: &Draft<'_>, request: pb::HashKvRequest) -> Result<pb::HashKvResponse, Error> {
    let view = draft.view();
    let at = if request.revision <= 0 { view.revision() } else { Revision(request.revision) };
    let hash = view.hash_kv(at)?;
    Ok(pb::HashKvResponse {
        header: header(view.revision()),
        hash: hash.hash,
        compact_revision: draft.compact_mark()?,
        hash_revision: hash.revision.0,
    })
}
