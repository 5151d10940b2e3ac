//! Keys and values: requests as builders, answers as the server's own messages.
//!
//! ```no_run
//! # async fn example() -> client::Result<()> {
//! use client::{Client, Config, Get, Put, Txn};
//! use client::kv::{mod_revision, value};
//!
//! let client = Client::new(Config::new(["localhost:2379"])?);
//! client.put(Put::new("colour", "red").prev_kv()).await?;
//! let got = client.get(Get::key("colour")).await?;
//! let revision = got.kvs[0].mod_revision;
//! let answer = client
//!     .txn(
//!         Txn::new()
//!             .when([mod_revision("colour").equals(revision)])
//!             .then([Put::new("colour", "blue")])
//!             .otherwise([Get::key("colour")]),
//!     )
//!     .await?;
//! assert!(answer.succeeded);
//! # Ok(()) }
//! ```

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::method::kv as method;

use crate::pool::{Client, Safety};

/// The end of the range of all keys that start with `prefix`: the first key after them, or `\0`
/// (no end) if there is none, as for an empty prefix or one of 0xff alone.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

/// An empty key means "from the very first key" where a range is asked for; the wire wants `\0`.
fn range_start(key: Bytes) -> Bytes {
    if key.is_empty() { Bytes::from_static(b"\0") } else { key }
}

macro_rules! ranges {
    ($($kind:ident),*) => {$(
        impl $kind {
            /// One key.
            pub fn key(key: impl Into<Bytes>) -> Self {
                let mut this = Self::default();
                this.0.key = key.into();
                this
            }

            /// Every key that starts with `prefix`; the empty prefix is every key.
            pub fn prefix(prefix: impl Into<Bytes>) -> Self {
                let prefix = prefix.into();
                let mut this = Self::default();
                this.0.range_end = prefix_end(&prefix);
                this.0.key = range_start(prefix);
                this
            }

            /// Every key from `first` on.
            pub fn from_key(first: impl Into<Bytes>) -> Self {
                let mut this = Self::key(range_start(first.into()));
                this.0.range_end = Bytes::from_static(b"\0");
                this
            }

            /// The keys from `first` up to, but not including, `end`.
            pub fn range(first: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
                let mut this = Self::key(first);
                this.0.range_end = end.into();
                this
            }
        }
    )*};
}
pub(crate) use ranges;

/// A read of one key or of a range of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Get(pub pb::RangeRequest);

/// A deletion of one key or of a range of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delete(pub pb::DeleteRangeRequest);

ranges!(Get, Delete);

impl Get {
    /// At most this many keys; 0 is no limit.
    #[must_use]
    pub fn limit(mut self, limit: i64) -> Self {
        self.0.limit = limit;
        self
    }

    /// As of this revision rather than the newest.
    #[must_use]
    pub fn revision(mut self, revision: i64) -> Self {
        self.0.revision = revision;
        self
    }

    /// From whatever the asked member has applied, without asking the leader: fast, maybe stale.
    #[must_use]
    pub fn serializable(mut self) -> Self {
        self.0.serializable = true;
        self
    }

    /// Keys without values.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.0.keys_only = true;
        self
    }

    /// Only how many.
    #[must_use]
    pub fn count_only(mut self) -> Self {
        self.0.count_only = true;
        self
    }

    /// Sorted by `target` in `order`.
    #[must_use]
    pub fn sorted(
        mut self,
        target: pb::range_request::SortTarget,
        order: pb::range_request::SortOrder,
    ) -> Self {
        self.0.sort_target = target.into();
        self.0.sort_order = order.into();
        self
    }
}

impl Delete {
    /// Answer with what was deleted.
    #[must_use]
    pub fn prev_kv(mut self) -> Self {
        self.0.prev_kv = true;
        self
    }
}

/// A write of one key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Put(pub pb::PutRequest);

impl Put {
    /// Key and value.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self(pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() })
    }

    /// Attached to this lease; without it a put detaches the key from the lease it had.
    #[must_use]
    pub fn lease(mut self, lease: i64) -> Self {
        self.0.lease = lease;
        self
    }

    /// Answer with what was there before.
    #[must_use]
    pub fn prev_kv(mut self) -> Self {
        self.0.prev_kv = true;
        self
    }

    /// Keep the value that the key has; the key must exist.
    #[must_use]
    pub fn ignore_value(mut self) -> Self {
        self.0.ignore_value = true;
        self
    }

    /// Keep the lease that the key has; the key must exist.
    #[must_use]
    pub fn ignore_lease(mut self) -> Self {
        self.0.ignore_lease = true;
        self
    }
}

/// One side of a comparison: an attribute of a key.
#[derive(Debug, Clone)]
pub struct Operand {
    key: Bytes,
    range_end: Bytes,
    target: Target,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Version,
    Create,
    Mod,
    Lease,
}

macro_rules! operands {
    ($($(#[$doc:meta])* $name:ident = $target:ident),*) => {$(
        $(#[$doc])*
        pub fn $name(key: impl Into<Bytes>) -> Operand {
            Operand { key: key.into(), range_end: Bytes::new(), target: Target::$target }
        }
    )*};
}
operands! {
    /// How often the key has been put since it was created; 0 if it does not exist.
    version = Version,
    /// The revision that created the key; 0 if it does not exist.
    create_revision = Create,
    /// The revision that last put the key; 0 if it does not exist.
    mod_revision = Mod,
    /// The lease of the key; 0 if it has none or does not exist.
    lease = Lease
}

/// The value of the key. No comparison holds for a key that does not exist.
pub fn value(key: impl Into<Bytes>) -> ValueOperand {
    ValueOperand { key: key.into(), range_end: Bytes::new() }
}

/// The value of a key, to be compared with bytes.
#[derive(Debug, Clone)]
pub struct ValueOperand {
    key: Bytes,
    range_end: Bytes,
}

macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident = $result:ident),*) => {
        impl Operand {
            $($(#[$doc])*
            pub fn $name(self, number: i64) -> pb::Compare {
                self.with(pb::compare::CompareResult::$result, number)
            })*
        }
        impl ValueOperand {
            $($(#[$doc])*
            pub fn $name(self, value: impl Into<Bytes>) -> pb::Compare {
                self.with(pb::compare::CompareResult::$result, value.into())
            })*
        }
    };
}
comparisons! {
    /// Holds if they are equal.
    equals = Equal,
    /// Holds if the key's is greater.
    greater = Greater,
    /// Holds if the key's is less.
    less = Less,
    /// Holds if they differ.
    differs = NotEqual
}

impl Operand {
    /// Must hold for every key of `[key, end)`.
    #[must_use]
    pub fn through(mut self, end: impl Into<Bytes>) -> Self {
        self.range_end = end.into();
        self
    }

    fn with(self, result: pb::compare::CompareResult, number: i64) -> pb::Compare {
        use pb::compare::{CompareTarget, TargetUnion};
        let (target, union) = match self.target {
            Target::Version => (CompareTarget::Version, TargetUnion::Version(number)),
            Target::Create => (CompareTarget::Create, TargetUnion::CreateRevision(number)),
            Target::Mod => (CompareTarget::Mod, TargetUnion::ModRevision(number)),
            Target::Lease => (CompareTarget::Lease, TargetUnion::Lease(number)),
        };
        pb::Compare {
            result: result.into(),
            target: target.into(),
            key: self.key,
            range_end: self.range_end,
            target_union: Some(union),
        }
    }
}

impl ValueOperand {
    /// Must hold for every key of `[key, end)`.
    #[must_use]
    pub fn through(mut self, end: impl Into<Bytes>) -> Self {
        self.range_end = end.into();
        self
    }

    fn with(self, result: pb::compare::CompareResult, value: Bytes) -> pb::Compare {
        pb::Compare {
            result: result.into(),
            target: pb::compare::CompareTarget::Value.into(),
            key: self.key,
            range_end: self.range_end,
            target_union: Some(pb::compare::TargetUnion::Value(value)),
        }
    }
}

impl From<Put> for pb::RequestOp {
    fn from(put: Put) -> Self {
        Self { request: Some(pb::request_op::Request::RequestPut(put.0)) }
    }
}

impl From<Get> for pb::RequestOp {
    fn from(get: Get) -> Self {
        Self { request: Some(pb::request_op::Request::RequestRange(get.0)) }
    }
}

impl From<Delete> for pb::RequestOp {
    fn from(delete: Delete) -> Self {
        Self { request: Some(pb::request_op::Request::RequestDeleteRange(delete.0)) }
    }
}

impl From<Txn> for pb::RequestOp {
    fn from(txn: Txn) -> Self {
        Self { request: Some(pb::request_op::Request::RequestTxn(txn.0)) }
    }
}

/// A transaction: if every comparison holds then one list of operations, else another, at one
/// revision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Txn(pub pb::TxnRequest);

impl Txn {
    /// Nothing to compare (which holds) and nothing to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds comparisons, all of which must hold.
    #[must_use]
    pub fn when(mut self, comparisons: impl IntoIterator<Item = pb::Compare>) -> Self {
        self.0.compare.extend(comparisons);
        self
    }

    /// Adds operations for when all comparisons hold.
    #[must_use]
    pub fn then(mut self, ops: impl IntoIterator<Item = impl Into<pb::RequestOp>>) -> Self {
        self.0.success.extend(ops.into_iter().map(Into::into));
        self
    }

    /// Adds operations for when some comparison does not hold.
    #[must_use]
    pub fn otherwise(mut self, ops: impl IntoIterator<Item = impl Into<pb::RequestOp>>) -> Self {
        self.0.failure.extend(ops.into_iter().map(Into::into));
        self
    }

    /// Whether it can change nothing, whichever way the comparisons go.
    pub fn is_read_only(&self) -> bool {
        self.0.success.iter().chain(&self.0.failure).all(|op| match &op.request {
            Some(pb::request_op::Request::RequestRange(_)) | None => true,
            Some(pb::request_op::Request::RequestTxn(txn)) => Self(txn.clone()).is_read_only(),
            Some(_) => false,
        })
    }
}

impl Client {
    /// Reads a key or a range of keys: linearizable unless it asks for less.
    ///
    /// # Errors
    /// [`crate::Error`]; among the rejections are [`crate::Reason::Compacted`] and
    /// [`crate::Reason::FutureRevision`].
    pub async fn get(&self, get: Get) -> crate::Result<pb::RangeResponse> {
        self.call(Safety::Read, method::RANGE, &get.0).await
    }

    /// Writes a key.
    ///
    /// # Errors
    /// [`crate::Error`]; [`crate::Error::Unknown`] if it may have been applied.
    pub async fn put(&self, put: Put) -> crate::Result<pb::PutResponse> {
        self.call(Safety::Write, method::PUT, &put.0).await
    }

    /// Deletes a key or a range of keys.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn delete(&self, delete: Delete) -> crate::Result<pb::DeleteRangeResponse> {
        self.call(Safety::Write, method::DELETE_RANGE, &delete.0).await
    }

    /// Runs a transaction. One that can only read is retried like a read.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn txn(&self, txn: Txn) -> crate::Result<pb::TxnResponse> {
        let safety = if txn.is_read_only() { Safety::Read } else { Safety::Write };
        self.call(safety, method::TXN, &txn.0).await
    }

    /// Forgets the history before `revision`; with `physical`, answers only once it is gone from
    /// the disk too.
    ///
    /// # Errors
    /// As [`Client::put`]; compacting twice is rejected as [`crate::Reason::Compacted`].
    pub async fn compact(
        &self,
        revision: i64,
        physical: bool,
    ) -> crate::Result<pb::CompactionResponse> {
        let request = pb::CompactionRequest { revision, physical };
        self.call(Safety::Write, method::COMPACT, &request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_successor_begins() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"a", b"b"),
            (b"foo/", b"foo0"),
            (b"a\xff", b"b"),
            (b"a\xff\xff", b"b"),
            (b"\xff", b"\0"),
            (b"", b"\0"),
        ];
        for (prefix, end) in cases {
            assert_eq!(prefix_end(prefix), end, "{prefix:?}");
        }
        assert_eq!(Get::prefix("").0.key, &b"\0"[..]);
        assert_eq!(Get::from_key("").0.key, &b"\0"[..]);
        assert_eq!(Get::key("").0.key, &b""[..]);
    }

    #[test]
    fn only_reads_make_a_read_only_txn() {
        assert!(Txn::new().is_read_only());
        let reading = Txn::new().then([Get::key("a")]);
        assert!(reading.is_read_only());
        assert!(Txn::new().then([reading.clone()]).is_read_only());
        let writing = Txn::new().otherwise([Put::new("a", "b")]);
        assert!(!writing.is_read_only());
        assert!(!reading.then([writing]).is_read_only());
    }

    #[test]
    fn comparisons_name_their_target() {
        use pb::compare::{CompareTarget, TargetUnion};
        let compare = lease("k").through("z").greater(7);
        assert_eq!(compare.target, i32::from(CompareTarget::Lease));
        assert_eq!(compare.target_union, Some(TargetUnion::Lease(7)));
        assert_eq!(compare.range_end, &b"z"[..]);
        let compare = value("k").differs("v");
        assert_eq!(compare.target_union, Some(TargetUnion::Value("v".into())));
    }
}
