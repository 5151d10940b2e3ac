//! Histories as a person reads them: one operation a line, times in milliseconds.

use std::fmt::{Display, Formatter, Result};

use super::{
    Answer, Call, Change, Commit, Compare, Failure, Get, Key, KeyValue, LeaseId, Operation,
    Outcome, Put, Relation, Revision, Span, Step, Target, Time, Txn, WatchEvent,
};

/// More of a key or value is not shown.
const BYTES_SHOWN_MAX: usize = 40;

struct Bytes<'a>(&'a [u8]);

impl Display for Bytes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let shown = &self.0[..self.0.len().min(BYTES_SHOWN_MAX)];
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            write!(f, "..({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

fn bytes(key: &Key) -> Bytes<'_> {
    Bytes(key)
}

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}.{:06} ms", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl Display for Revision {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "revision {}", self.0)
    }
}

impl Display for LeaseId {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "lease {:x}", self.0)
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::One(key) => write!(f, "{}", bytes(key)),
            Self::Range { from, to } => write!(f, "[{}, {})", bytes(from), bytes(to)),
            Self::From(from) if from.is_empty() => f.write_str("every key"),
            Self::From(from) => write!(f, "[{}, ..)", bytes(from)),
        }
    }
}

impl Display for Put {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "put {}", bytes(&self.key))?;
        if self.ignore_value {
            f.write_str(" keeping its value")?;
        } else {
            write!(f, " = {}", bytes(&self.value))?;
        }
        if let Some(lease) = self.lease {
            write!(f, " on {lease}")?;
        }
        if self.ignore_lease {
            f.write_str(" keeping its lease")?;
        }
        Ok(())
    }
}

impl Display for Get {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "get {}", self.span)?;
        if let Some(revision) = self.revision {
            write!(f, " at {revision}")?;
        }
        if let Some(limit) = self.limit {
            write!(f, " limit {limit}")?;
        }
        for (set, word) in [
            (self.serializable, " serializable"),
            (self.count_only, " count only"),
            (self.keys_only, " keys only"),
        ] {
            if set {
                f.write_str(word)?;
            }
        }
        Ok(())
    }
}

fn list<T: Display>(f: &mut Formatter<'_>, items: &[T]) -> Result {
    f.write_str("[")?;
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            f.write_str("; ")?;
        }
        write!(f, "{item}")?;
    }
    f.write_str("]")
}

impl Display for Compare {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let sign = match self.relation {
            Relation::Equal => "=",
            Relation::NotEqual => "!=",
            Relation::Greater => ">",
            Relation::Less => "<",
        };
        match &self.target {
            Target::Version(given) => write!(f, "version({}) {sign} {given}", self.span),
            Target::Create(given) => write!(f, "create({}) {sign} {}", self.span, given.0),
            Target::Mod(given) => write!(f, "mod({}) {sign} {}", self.span, given.0),
            Target::Value(given) => write!(f, "value({}) {sign} {}", self.span, bytes(given)),
            Target::Lease(given) => write!(f, "lease({}) {sign} {:x}", self.span, given.0),
        }
    }
}

impl Display for Txn {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("txn if ")?;
        list(f, &self.compares)?;
        f.write_str(" then ")?;
        list(f, &self.success)?;
        f.write_str(" else ")?;
        list(f, &self.failure)
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Put(put) => write!(f, "{put}"),
            Self::Get(get) => write!(f, "{get}"),
            Self::Delete(delete) => write!(f, "delete {}", delete.span),
            Self::Txn(txn) => write!(f, "{txn}"),
        }
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Put(put) => write!(f, "{put}"),
            Self::Get(get) => write!(f, "{get}"),
            Self::Delete(delete) => write!(f, "delete {}", delete.span),
            Self::Txn(txn) => write!(f, "{txn}"),
            Self::Compact(compact) => write!(f, "compact to {}", compact.revision),
            Self::LeaseGrant(grant) => match grant.id {
                Some(id) => write!(f, "grant {id} for {} s", grant.ttl_s),
                None => write!(f, "grant a lease for {} s", grant.ttl_s),
            },
            Self::LeaseRevoke(revoke) => write!(f, "revoke {}", revoke.id),
            Self::LeaseKeepAlive(alive) => write!(f, "keep {} alive", alive.id),
        }
    }
}

impl Display for KeyValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { create, modified, version, .. } = self;
        write!(f, "{} = {}", bytes(&self.key), bytes(&self.value))?;
        write!(f, " (create {}, mod {}, version {version}", create.0, modified.0)?;
        if let Some(lease) = self.lease {
            write!(f, ", {lease}")?;
        }
        f.write_str(")")
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Put { prev: None } => f.write_str("done"),
            Self::Put { prev: Some(prev) } => write!(f, "done, before: {prev}"),
            Self::Get { kvs, more, count } => {
                write!(f, "{count} keys{} ", if *more { ", more" } else { "" })?;
                list(f, kvs)
            }
            Self::Delete { deleted, prev } => {
                write!(f, "{deleted} deleted ")?;
                list(f, prev)
            }
            Self::Txn { succeeded, answers } => {
                f.write_str(if *succeeded { "then " } else { "else " })?;
                list(f, answers)
            }
            Self::Compact => f.write_str("compacted"),
            Self::LeaseGrant { id, ttl_s } => write!(f, "{id} for {ttl_s} s"),
            Self::LeaseRevoke => f.write_str("revoked"),
            Self::LeaseKeepAlive { ttl_s: Some(ttl_s) } => write!(f, "{ttl_s} s"),
            Self::LeaseKeepAlive { ttl_s: None } => f.write_str("no such lease"),
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Compacted => f.write_str("compacted"),
            Self::FutureRevision => f.write_str("future revision"),
            Self::LeaseNotFound => f.write_str("no such lease"),
            Self::LeaseExists => f.write_str("the lease exists"),
            Self::KeyNotFound => f.write_str("no such key"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "client {} at node {}, {}", self.client.0, self.node.0, self.invoked)?;
        match self.returned {
            Some(returned) => write!(f, " .. {returned}: ")?,
            None => f.write_str(" .. never: ")?,
        }
        write!(f, "{}", self.call)?;
        match &self.outcome {
            Outcome::Ok { revision, answer } => write!(f, " -> {answer}, header {}", revision.0),
            Outcome::Failed(failure) => write!(f, " -> failed: {failure}"),
            Outcome::Unknown => f.write_str(" -> unknown"),
        }
    }
}

fn change(f: &mut Formatter<'_>, key: &Key, change: &Change) -> Result {
    match change {
        Change::Put { value, create, version, lease } => {
            write!(f, "put {} = {}", bytes(key), bytes(value))?;
            write!(f, " (create {}, version {version}", create.0)?;
            if let Some(lease) = lease {
                write!(f, ", {lease}")?;
            }
            f.write_str(")")
        }
        Change::Delete => write!(f, "delete {}", bytes(key)),
    }
}

impl Display for super::Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        change(f, &self.key, &self.change)
    }
}

impl Display for WatchEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}: ", self.revision)?;
        change(f, &self.key, &self.change)
    }
}

impl Display for Commit {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}: ", self.revision)?;
        list(f, &self.events)
    }
}
