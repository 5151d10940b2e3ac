//! Consensus messages to and from their shape on the wire.

use std::sync::Arc;

use raft::{
    Body, Entry, Epoch, LogIndex, LogPosition, Membership, MembershipChange, MembershipStep,
    Message, Payload, ReplicaId, Session, SnapshotMeta, Term, Transition,
};
use store::{Envelope, RangeId};

use super::{Malformed, pb};

pub(crate) fn encode(envelope: Envelope) -> pb::GroupMessage {
    let Envelope { range, message } = envelope;
    pb::GroupMessage {
        range: range.0,
        from: message.from.get(),
        to: message.to.get(),
        term: message.term.0,
        body: Some(encode_body(message.body)),
    }
}

pub(crate) fn decode(message: pb::GroupMessage) -> Result<Envelope, Malformed> {
    let body = message.body.ok_or(Malformed("a message without a body"))?;
    Ok(Envelope {
        range: RangeId(message.range),
        message: Message {
            from: replica(message.from)?,
            to: replica(message.to)?,
            term: Term(message.term),
            body: decode_body(body)?,
        },
    })
}

fn encode_body(body: Body) -> pb::Body {
    match body {
        Body::PreVote { campaign_term, last } => pb::Body::PreVote(pb::PreVote {
            campaign_term: campaign_term.0,
            last: encode_position(last),
        }),
        Body::PreVoteResponse { campaign_term, granted, commit } => {
            pb::Body::PreVoteResponse(pb::PreVoteResponse {
                campaign_term: campaign_term.0,
                granted,
                commit: encode_position(commit),
            })
        }
        Body::Vote { last, transfer } => {
            pb::Body::Vote(pb::Vote { last: encode_position(last), transfer })
        }
        Body::VoteResponse { granted, commit } => {
            pb::Body::VoteResponse(pb::VoteResponse { granted, commit: encode_position(commit) })
        }
        Body::Append { session, prev, entries, commit } => pb::Body::Append(pb::Append {
            session: session.0.0,
            prev: encode_position(prev),
            entries: entries.into_iter().map(encode_entry).collect(),
            commit: commit.0,
        }),
        Body::AppendAccepted { session, matched } => pb::Body::AppendAccepted(pb::AppendAccepted {
            session: session.0.0,
            matched: matched.0,
        }),
        Body::AppendRejected { session, rejected, hint } => {
            pb::Body::AppendRejected(pb::AppendRejected {
                session: session.0.0,
                rejected: rejected.0,
                hint: encode_position(hint),
            })
        }
        Body::Heartbeat { commit, round } => {
            pb::Body::Heartbeat(pb::Heartbeat { commit: encode_position(commit), round })
        }
        Body::HeartbeatResponse { round, commit } => {
            pb::Body::HeartbeatResponse(pb::HeartbeatResponse { round, commit: commit.0 })
        }
        Body::Commit { commit } => pb::Body::Commit(pb::Commit { commit: encode_position(commit) }),
        Body::InstallSnapshot { session, snapshot } => {
            pb::Body::InstallSnapshot(encode_snapshot(session, &snapshot))
        }
        Body::TimeoutNow => pb::Body::TimeoutNow(pb::Nothing {}),
        Body::StaleTerm => pb::Body::StaleTerm(pb::Nothing {}),
        Body::Fortify => pb::Body::Fortify(pb::Nothing {}),
        Body::Fortified { epoch } => pb::Body::Fortified(pb::Fortified { epoch: epoch.0 }),
        Body::Counted { epoch, commit } => {
            pb::Body::Counted(pb::Counted { epoch: epoch.0, commit: encode_position(commit) })
        }
        Body::Release => pb::Body::Release(pb::Nothing {}),
        Body::Released => pb::Body::Released(pb::Nothing {}),
    }
}

fn decode_body(body: pb::Body) -> Result<Body, Malformed> {
    Ok(match body {
        pb::Body::PreVote(m) => {
            Body::PreVote { campaign_term: Term(m.campaign_term), last: decode_position(m.last)? }
        }
        pb::Body::PreVoteResponse(m) => Body::PreVoteResponse {
            campaign_term: Term(m.campaign_term),
            granted: m.granted,
            commit: decode_position(m.commit)?,
        },
        pb::Body::Vote(m) => Body::Vote { last: decode_position(m.last)?, transfer: m.transfer },
        pb::Body::VoteResponse(m) => {
            Body::VoteResponse { granted: m.granted, commit: decode_position(m.commit)? }
        }
        pb::Body::Append(m) => decode_append(m)?,
        pb::Body::AppendAccepted(m) => Body::AppendAccepted {
            session: Session(LogIndex(m.session)),
            matched: LogIndex(m.matched),
        },
        pb::Body::AppendRejected(m) => Body::AppendRejected {
            session: Session(LogIndex(m.session)),
            rejected: LogIndex(m.rejected),
            hint: decode_position(m.hint)?,
        },
        pb::Body::Heartbeat(m) => {
            Body::Heartbeat { commit: decode_position(m.commit)?, round: m.round }
        }
        pb::Body::HeartbeatResponse(m) => {
            Body::HeartbeatResponse { round: m.round, commit: LogIndex(m.commit) }
        }
        pb::Body::Commit(m) => Body::Commit { commit: decode_position(m.commit)? },
        pb::Body::InstallSnapshot(m) => {
            let (session, snapshot) = decode_snapshot(m)?;
            Body::InstallSnapshot { session, snapshot: Box::new(snapshot) }
        }
        pb::Body::TimeoutNow(_) => Body::TimeoutNow,
        pb::Body::StaleTerm(_) => Body::StaleTerm,
        pb::Body::Fortify(_) => Body::Fortify,
        pb::Body::Fortified(m) => Body::Fortified { epoch: Epoch(m.epoch) },
        pb::Body::Counted(m) => {
            Body::Counted { epoch: Epoch(m.epoch), commit: decode_position(m.commit)? }
        }
        pb::Body::Release(_) => Body::Release,
        pb::Body::Released(_) => Body::Released,
    })
}

fn decode_append(append: pb::Append) -> Result<Body, Malformed> {
    let prev = decode_position(append.prev)?;
    let count = append.entries.len() as u64;
    if prev.index.0.checked_add(count).is_none() {
        return Err(Malformed("entries beyond the last index"));
    }
    let mut entries = Vec::with_capacity(append.entries.len());
    for (offset, entry) in append.entries.into_iter().enumerate() {
        entries.push(decode_entry(prev.index.plus(offset as u64 + 1), entry)?);
    }
    Ok(Body::Append {
        session: Session(LogIndex(append.session)),
        prev,
        entries,
        commit: LogIndex(append.commit),
    })
}

fn encode_entry(entry: Entry) -> pb::Entry {
    let (data, membership) = match entry.payload {
        Payload::Empty => (None, None),
        Payload::Data(data) => (Some(data), None),
        Payload::Membership(change) => (None, Some(encode_change(&change))),
    };
    let empty = data.is_none() && membership.is_none();
    pb::Entry { term: entry.term.0, data, membership, empty }
}

fn decode_entry(index: LogIndex, entry: pb::Entry) -> Result<Entry, Malformed> {
    // INVARIANT: what is not understood is not taken for empty: this member would apply nothing where others apply
    // something. It is refused whole, and this member lags until it is upgraded.
    let payload = match (entry.data, entry.membership, entry.empty) {
        (None, None, true) => Payload::Empty,
        (Some(data), None, false) => Payload::Data(data),
        (None, Some(change), false) => Payload::Membership(Arc::new(decode_change(change)?)),
        (None, None, false) => return Err(Malformed("an entry of an unknown kind")),
        _ => return Err(Malformed("an entry with two payloads")),
    };
    Ok(Entry { index, term: Term(entry.term), payload })
}

fn encode_change(change: &MembershipChange) -> pb::MembershipChange {
    pb::MembershipChange {
        transition: match change.transition {
            Transition::Auto => 0,
            Transition::JointImplicit => 1,
            Transition::JointExplicit => 2,
            Transition::LeaveJoint => 3,
        },
        steps: change
            .steps
            .iter()
            .map(|step| match *step {
                MembershipStep::AddVoter(id) => pb::MembershipStep { kind: 0, replica: id.get() },
                MembershipStep::AddLearner(id) => pb::MembershipStep { kind: 1, replica: id.get() },
                MembershipStep::Remove(id) => pb::MembershipStep { kind: 2, replica: id.get() },
            })
            .collect(),
        context: change.context.clone(),
    }
}

fn decode_change(change: pb::MembershipChange) -> Result<MembershipChange, Malformed> {
    let transition = match change.transition {
        0 => Transition::Auto,
        1 => Transition::JointImplicit,
        2 => Transition::JointExplicit,
        3 => Transition::LeaveJoint,
        _ => return Err(Malformed("an unknown membership transition")),
    };
    let steps = change
        .steps
        .into_iter()
        .map(|step| {
            let id = replica(step.replica)?;
            match step.kind {
                0 => Ok(MembershipStep::AddVoter(id)),
                1 => Ok(MembershipStep::AddLearner(id)),
                2 => Ok(MembershipStep::Remove(id)),
                _ => Err(Malformed("an unknown membership step")),
            }
        })
        .collect::<Result<_, _>>()?;
    Ok(MembershipChange { transition, steps, context: change.context })
}

pub(crate) fn encode_snapshot(session: Session, snapshot: &SnapshotMeta) -> pb::InstallSnapshot {
    pb::InstallSnapshot {
        session: session.0.0,
        position: encode_position(snapshot.position),
        membership: Some(encode_membership(&snapshot.membership)),
    }
}

pub(crate) fn decode_snapshot(
    snapshot: pb::InstallSnapshot,
) -> Result<(Session, SnapshotMeta), Malformed> {
    let membership = snapshot.membership.ok_or(Malformed("a snapshot without membership"))?;
    let meta = SnapshotMeta {
        position: decode_position(snapshot.position)?,
        membership: decode_membership(membership)?,
    };
    Ok((Session(LogIndex(snapshot.session)), meta))
}

pub(crate) fn encode_membership(membership: &Membership) -> pb::Membership {
    let ids = |set: &std::collections::BTreeSet<ReplicaId>| set.iter().map(|id| id.get()).collect();
    pb::Membership {
        voters: ids(&membership.voters),
        voters_outgoing: ids(&membership.voters_outgoing),
        learners: ids(&membership.learners),
        learners_next: ids(&membership.learners_next),
        auto_leave: membership.auto_leave,
    }
}

pub(crate) fn decode_membership(membership: pb::Membership) -> Result<Membership, Malformed> {
    let ids = |ids: Vec<u64>| ids.into_iter().map(replica).collect::<Result<_, _>>();
    let membership = Membership {
        voters: ids(membership.voters)?,
        voters_outgoing: ids(membership.voters_outgoing)?,
        learners: ids(membership.learners)?,
        learners_next: ids(membership.learners_next)?,
        auto_leave: membership.auto_leave,
    };
    membership.check().map_err(Malformed)?;
    Ok(membership)
}

#[expect(clippy::unnecessary_wraps, reason = "the field of a message is optional")]
fn encode_position(position: LogPosition) -> Option<pb::Position> {
    Some(pb::Position { index: position.index.0, term: position.term.0 })
}

/// An absent position is the origin: all its fields are zero.
#[expect(clippy::unnecessary_wraps, reason = "symmetry with the other decoders")]
fn decode_position(position: Option<pb::Position>) -> Result<LogPosition, Malformed> {
    let position = position.unwrap_or_default();
    Ok(LogPosition::new(position.index, position.term))
}

fn replica(id: u64) -> Result<ReplicaId, Malformed> {
    ReplicaId::new(id).ok_or(Malformed("replica 0"))
}
