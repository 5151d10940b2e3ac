//! What is told of it. Compiled twice, as `adapter.rs` is.
//!
//! The core numbers replicas from 1; in words they have the names that processes have everywhere in the lab.

use std::fmt;

use super::adapter::{Output, Wire, node, value_in};
use super::core::{
    Body, LogPosition, Membership, MembershipStep, Message, Payload, Refused, RoleKind, Stopped,
    Term,
};
use crate::words::{listed, names};

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied { index, term, what } => {
                write!(f, "{}, entry {index} of term {term}", in_full(what))
            }
            Self::Done(index) => write!(f, "done, in entry {index}"),
            Self::Read(index) => write!(f, "read, up to entry {index}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Overwritten(index) => write!(f, "overwritten: entry {index} is another"),
        }
    }
}

/// What a replica has done that cannot be taken back.
pub(crate) fn decides(output: &Output) -> String {
    match output {
        Output::Applied { .. } => format!("applies {output}"),
        _ => format!("decides {output}"),
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(id, ask) => write!(f, "request {id}: {ask}"),
            Self::Core(message, _) => f.write_str(&says(message)),
        }
    }
}

fn says(message: &Message) -> String {
    let term = message.term;
    let is = |granted: bool| if granted { "granted" } else { "refused" };
    match &message.body {
        Body::PreVote { campaign_term, last } => {
            format!("PreVote, term {campaign_term}, log ends with {last}")
        }
        Body::PreVoteResponse { campaign_term, granted, .. } => {
            format!("PreVote, term {campaign_term}: {}", is(*granted))
        }
        Body::Vote { last, .. } => format!("RequestVote, term {term}, log ends with {last}"),
        Body::VoteResponse { granted, .. } => format!("Vote, term {term}: {}", is(*granted)),
        Body::Append { prev, entries, commit, .. } => {
            let entries = entries.iter().map(|entry| {
                let text = text(&entry.payload);
                format!(" {} {text}", entry.position())
            });
            let entries: String = entries.collect();
            let entries = if entries.is_empty() { " no entries".to_owned() } else { entries };
            format!("AppendEntries, term {term}, after {prev}:{entries}; committed up to {commit}")
        }
        Body::AppendAccepted { matched, .. } => format!("Accepted, term {term}, up to {matched}"),
        Body::AppendRejected { rejected, hint, .. } => {
            format!("Rejected, term {term}: not after {rejected}, but perhaps after {hint}")
        }
        Body::Heartbeat { commit, .. } => {
            format!("Heartbeat, term {term}, committed up to {commit}")
        }
        Body::HeartbeatResponse { .. } => format!("Heartbeat answered, term {term}"),
        Body::Commit { commit } => format!("Commit, term {term}, up to {commit}"),
        Body::InstallSnapshot { snapshot, .. } => {
            format!("InstallSnapshot, term {term}, up to {}", snapshot.position)
        }
        Body::TimeoutNow => format!("TimeoutNow, term {term}: campaign at once"),
        Body::StaleTerm => format!("StaleTerm: it is term {term}"),
        Body::Fortify => format!("Fortify, term {term}"),
        Body::Fortified { epoch } => format!("Fortified, term {term}, epoch {epoch}"),
        Body::Counted { epoch, commit } => {
            format!("Counted, term {term}, epoch {epoch}, committed up to {commit}")
        }
        Body::Release => format!("Release, term {term}"),
        Body::Released => format!("Released, term {term}"),
    }
}

/// Why a replica has stopped.
pub(crate) fn stopped(why: &Stopped) -> String {
    match why {
        Stopped::TwoLeaders { term, known, other } => {
            format!("two leaders in term {term}, {}", names([node(*known), node(*other)]))
        }
        Stopped::CommittedConflict { committed, other } => format!(
            "{} is committed here, and the leader has {} in its place",
            entry(*committed),
            entry(*other)
        ),
        other => other.to_string(),
    }
}

/// Why a request is refused.
pub(crate) fn refused(why: &Refused) -> String {
    match why {
        Refused::Transferring { to } => {
            format!("leadership is being transferred to {}", node(*to))
        }
        other => other.to_string(),
    }
}

pub(crate) fn role_name(role: RoleKind) -> &'static str {
    match role {
        RoleKind::Follower => "follower",
        RoleKind::PreCandidate => "pre-candidate",
        RoleKind::Candidate => "candidate",
        RoleKind::Leader => "leader",
    }
}

/// That it has this role from now on.
pub(crate) fn takes_role(role: RoleKind, term: Term) -> String {
    match role {
        RoleKind::Leader => format!("leads term {term}"),
        _ => format!("is a {} in term {term}", role_name(role)),
    }
}

/// Who votes: the names, one after the other.
pub(crate) fn members(membership: &Membership) -> String {
    let voters: Vec<String> = membership.voters.iter().map(|&id| node(id).to_string()).collect();
    voters.join(" ")
}

/// Who votes, in a sentence.
pub(crate) fn voters(membership: &Membership) -> String {
    let now = names(membership.voters.iter().map(|&id| node(id)));
    if membership.voters_outgoing.is_empty() {
        return now;
    }
    let before = names(membership.voters_outgoing.iter().map(|&id| node(id)));
    format!("{now} (and, for as long as the change lasts, of {before})")
}

/// An entry's place.
pub(crate) fn entry(at: LogPosition) -> String {
    format!("entry {} of term {}", at.index, at.term)
}

/// What an entry carries, in short.
pub(crate) fn text(payload: &Payload) -> String {
    match payload {
        Payload::Empty => "-".to_owned(),
        Payload::Data(_) => value_in(payload).map_or_else(String::new, |value| format!("v{value}")),
        Payload::Membership(change) => {
            let step = |step: &MembershipStep| match step {
                MembershipStep::AddVoter(id) => format!("+{}", node(*id)),
                MembershipStep::AddLearner(id) => format!("~{}", node(*id)),
                MembershipStep::Remove(id) => format!("-{}", node(*id)),
            };
            change.steps.iter().map(step).collect::<Vec<_>>().join(" ")
        }
    }
}

/// What an entry carries, in a sentence: `v7`, `an empty entry`, `adding n3`.
pub(crate) fn in_full(short: &str) -> String {
    if short == "-" {
        return "an empty entry".to_owned();
    }
    let steps = short.split(' ').map(|step| match (step.get(..1), step.get(1..)) {
        (Some("+"), Some(who)) => format!("adding {who}"),
        (Some("~"), Some(who)) => format!("making {who} a learner"),
        (Some("-"), Some(who)) => format!("removing {who}"),
        _ => step.to_owned(),
    });
    listed(steps.collect()).unwrap_or_default()
}
