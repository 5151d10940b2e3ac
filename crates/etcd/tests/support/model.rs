//! etcd, as simply as it can be written: a whole map of keys for every revision, and nothing
//! shared with the crate but the messages.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd::{Error, Request, Response};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::response_op::Response as Answer;
use proto::mvccpb::KeyValue;

use super::twin;

type Map = BTreeMap<Bytes, KeyValue>;

/// An answer in messages of the API.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Other(Response),
}

impl From<Response> for Said {
    fn from(response: Response) -> Self {
        match response {
            Response::Range(response) => Self::Range(twin(&response)),
            Response::Put(response) => Self::Put(twin(&response)),
            Response::DeleteRange(response) => Self::DeleteRange(twin(&response)),
            Response::Txn(response) => Self::Txn(twin(&response)),
            other => Self::Other(other),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Model {
    maps: BTreeMap<i64, Map>,
    compacted: i64,
    leases: BTreeMap<i64, i64>,
}

/// A transaction at work: the map it began with, and the one it has made of it.
struct Work<'m> {
    model: &'m Model,
    begin: i64,
    now: Map,
    written: bool,
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

fn within(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    if end.is_empty() { key == start } else { start <= key && (end == [0] || key < end) }
}

fn select(map: &Map, start: &[u8], end: &[u8]) -> Vec<KeyValue> {
    map.values().filter(|kv| within(&kv.key, start, end)).cloned().collect()
}

impl Model {
    pub fn new() -> Self {
        let maps = BTreeMap::from([(1, Map::new())]);
        Self { maps, compacted: -1, leases: BTreeMap::new() }
    }

    pub fn revision(&self) -> i64 {
        *self.maps.last_key_value().unwrap().0
    }

    fn work(&self) -> Work<'_> {
        let (begin, now) = self.maps.last_key_value().unwrap();
        Work { model: self, begin: *begin, now: now.clone(), written: false }
    }

    pub fn ask(&mut self, request: &Request) -> Result<Said, Error> {
        let revision = self.revision();
        match request {
            Request::Range(request) => {
                check_range(request)?;
                Ok(Said::Range(self.work().range(request)?))
            }
            Request::Put(request) => {
                check_put(request)?;
                let mut work = self.work();
                work.may_put(request)?;
                let response = work.put(request);
                let done = (work.now, work.written);
                self.commit(done);
                Ok(Said::Put(response))
            }
            Request::DeleteRange(request) => {
                check_delete(request)?;
                let mut work = self.work();
                let response = work.delete(request);
                let done = (work.now, work.written);
                self.commit(done);
                Ok(Said::DeleteRange(response))
            }
            Request::Txn(request) => {
                check_txn(request, 128)?;
                check_keys(&request.success)?;
                check_keys(&request.failure)?;
                let mut work = self.work();
                let path = work.path(request);
                work.may_txn(request, &mut path.iter())?;
                let mut response = work.txn(request, &mut path.iter())?;
                response.header = header(work.revision());
                let done = (work.now, work.written);
                self.commit(done);
                Ok(Said::Txn(response))
            }
            Request::Compact(request) => {
                if request.revision <= self.compacted {
                    return Err(Error::Compacted);
                }
                if request.revision > revision {
                    return Err(Error::FutureRev);
                }
                self.compacted = request.revision;
                let response = pb::CompactionResponse { header: header(revision) };
                Ok(Said::Other(Response::Compact(response)))
            }
            lease => Ok(Said::Other(self.ask_lease(lease)?)),
        }
    }

    fn ask_lease(&mut self, request: &Request) -> Result<Response, Error> {
        let revision = self.revision();
        match request {
            Request::LeaseGrant(request) => {
                if request.ttl > 9_000_000_000 {
                    return Err(Error::LeaseTtlTooLarge);
                }
                if self.leases.contains_key(&request.id) {
                    return Err(Error::LeaseExist);
                }
                let ttl = request.ttl.max(2);
                self.leases.insert(request.id, ttl);
                let (header, id) = (header(revision), request.id);
                let error = String::new();
                Ok(Response::LeaseGrant(pb::LeaseGrantResponse { header, id, ttl, error }))
            }
            Request::LeaseRevoke(request) => {
                self.leases.remove(&request.id).ok_or(Error::LeaseNotFound)?;
                let mut now = self.work().now;
                let before = now.len();
                now.retain(|_, kv| kv.lease != request.id);
                let written = now.len() != before;
                self.commit((now, written));
                let header = header(self.revision());
                Ok(Response::LeaseRevoke(pb::LeaseRevokeResponse { header }))
            }
            Request::LeaseKeepAlive(request) => {
                let (header, id) = (header(revision), request.id);
                let ttl = self.leases.get(&id).copied().unwrap_or(0);
                Ok(Response::LeaseKeepAlive(pb::LeaseKeepAliveResponse { header, id, ttl }))
            }
            Request::LeaseTimeToLive(request) => {
                let id = request.id;
                let mut response = pb::LeaseTimeToLiveResponse {
                    header: header(revision),
                    id,
                    ttl: -1,
                    ..Default::default()
                };
                if let Some(ttl) = self.leases.get(&id) {
                    (response.ttl, response.granted_ttl) = (*ttl, *ttl);
                    if request.keys {
                        let attached = self.work().now.into_values().filter(|kv| kv.lease == id);
                        response.keys = attached.map(|kv| kv.key).collect();
                    }
                }
                Ok(Response::LeaseTimeToLive(response))
            }
            other => panic!("the model has no {other:?}"),
        }
    }

    fn commit(&mut self, (map, written): (Map, bool)) {
        if written {
            self.maps.insert(self.revision() + 1, map);
        }
    }
}

impl Work<'_> {
    fn revision(&self) -> i64 {
        self.begin + i64::from(self.written)
    }

    fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        let newest = self.revision();
        if request.revision > newest {
            return Err(Error::FutureRev);
        }
        let at = if request.revision <= 0 { newest } else { request.revision };
        if at < self.model.compacted {
            return Err(Error::Compacted);
        }
        let map = if at == newest { &self.now } else { &self.model.maps[&at] };
        let mut kvs = select(map, &request.key, &request.range_end);
        let count = i64::try_from(kvs.len()).unwrap();
        let mut response =
            pb::RangeResponse { header: header(newest), count, ..Default::default() };
        if request.count_only {
            return Ok(response);
        }
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let ascending_keys = request.sort_order == 1 && request.sort_target == 0;
        let limited = request.limit > 0;
        let limit = usize::try_from(request.limit).unwrap_or(0);
        if limited
            && filters == [0; 4]
            && (request.sort_order == 0 || ascending_keys)
            && limit < usize::MAX
        {
            kvs.truncate(limit + 1);
        }
        kvs.retain(|kv| {
            (filters[0] == 0 || kv.mod_revision >= filters[0])
                && (filters[1] == 0 || kv.mod_revision <= filters[1])
                && (filters[2] == 0 || kv.create_revision >= filters[2])
                && (filters[3] == 0 || kv.create_revision <= filters[3])
        });
        match request.sort_target {
            1 => kvs.sort_by_key(|kv| kv.version * sign(request)),
            2 => kvs.sort_by_key(|kv| kv.create_revision * sign(request)),
            3 => kvs.sort_by_key(|kv| kv.mod_revision * sign(request)),
            4 if sign(request) == 1 => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
            4 => kvs.sort_by(|a, b| b.value.cmp(&a.value)),
            _ if sign(request) == -1 => kvs.reverse(),
            _ => {}
        }
        if limited && kvs.len() > limit {
            kvs.truncate(limit);
            response.more = true;
        }
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
                kv.lease = if request.sort_target == 4 { kv.lease } else { 0 };
            }
        }
        response.kvs = kvs;
        Ok(response)
    }

    fn may_put(&self, request: &pb::PutRequest) -> Result<(), Error> {
        if request.lease != 0 && !self.model.leases.contains_key(&request.lease) {
            return Err(Error::LeaseNotFound);
        }
        let ignores = request.ignore_value || request.ignore_lease;
        if ignores && !self.now.contains_key(&request.key) {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn put(&mut self, request: &pb::PutRequest) -> pb::PutResponse {
        let revision = self.begin + 1;
        let before = self.now.get(&request.key).cloned();
        let mut kv = before.clone().unwrap_or(KeyValue {
            key: request.key.clone(),
            create_revision: revision,
            ..Default::default()
        });
        kv.mod_revision = revision;
        kv.version += 1;
        if !request.ignore_value {
            kv.value = request.value.clone();
        }
        if !request.ignore_lease {
            kv.lease = request.lease;
        }
        self.now.insert(request.key.clone(), kv);
        self.written = true;
        let prev_kv = if request.prev_kv { before } else { None };
        pb::PutResponse { header: header(revision), prev_kv }
    }

    fn delete(&mut self, request: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let gone = select(&self.now, &request.key, &request.range_end);
        for kv in &gone {
            self.now.remove(&kv.key);
        }
        self.written |= !gone.is_empty();
        let deleted = i64::try_from(gone.len()).unwrap();
        let prev_kvs = if request.prev_kv { gone } else { vec![] };
        pb::DeleteRangeResponse { header: header(self.revision()), deleted, prev_kvs }
    }

    /// Which branch each transaction takes, in the order in which they are met.
    fn path(&self, request: &pb::TxnRequest) -> Vec<bool> {
        let taken = request.compare.iter().all(|compare| self.holds(compare));
        let mut path = vec![taken];
        for op in if taken { &request.success } else { &request.failure } {
            if let Some(Op::RequestTxn(inner)) = &op.request {
                path.extend(self.path(inner));
            }
        }
        path
    }

    fn holds(&self, compare: &pb::Compare) -> bool {
        let mut found = select(&self.now, &compare.key, &compare.range_end);
        if found.is_empty() {
            if compare.target == 3 {
                return false;
            }
            found.push(KeyValue::default());
        }
        found.iter().all(|kv| {
            let number = |stored: i64, given: Option<i64>| stored.cmp(&given.unwrap_or(0));
            let given = compare.target_union.clone();
            let order = match (compare.target, given) {
                (0, Some(TargetUnion::Version(n))) => number(kv.version, Some(n)),
                (0, _) => number(kv.version, None),
                (1, Some(TargetUnion::CreateRevision(n))) => number(kv.create_revision, Some(n)),
                (1, _) => number(kv.create_revision, None),
                (2, Some(TargetUnion::ModRevision(n))) => number(kv.mod_revision, Some(n)),
                (2, _) => number(kv.mod_revision, None),
                (3, Some(TargetUnion::Value(value))) => kv.value.cmp(&value),
                (3, _) => kv.value.cmp(&Bytes::new()),
                (4, Some(TargetUnion::Lease(n))) => number(kv.lease, Some(n)),
                (4, _) => number(kv.lease, None),
                _ => std::cmp::Ordering::Equal,
            };
            match compare.result {
                0 => order.is_eq(),
                1 => order.is_gt(),
                2 => order.is_lt(),
                3 => order.is_ne(),
                _ => true,
            }
        })
    }

    fn may_txn(
        &self,
        request: &pb::TxnRequest,
        path: &mut std::slice::Iter<'_, bool>,
    ) -> Result<(), Error> {
        let taken = *path.next().unwrap();
        for op in if taken { &request.success } else { &request.failure } {
            match op.request.as_ref().unwrap() {
                Op::RequestRange(range) if range.revision == 0 => {}
                Op::RequestRange(range) if range.revision > self.begin => {
                    return Err(Error::FutureRev);
                }
                Op::RequestRange(range) if range.revision < self.model.compacted => {
                    return Err(Error::Compacted);
                }
                Op::RequestRange(_) | Op::RequestDeleteRange(_) => {}
                Op::RequestPut(put) => self.may_put(put)?,
                Op::RequestTxn(inner) => self.may_txn(inner, path)?,
            }
        }
        Ok(())
    }

    fn txn(
        &mut self,
        request: &pb::TxnRequest,
        path: &mut std::slice::Iter<'_, bool>,
    ) -> Result<pb::TxnResponse, Error> {
        let succeeded = *path.next().unwrap();
        let mut responses = Vec::new();
        for op in if succeeded { &request.success } else { &request.failure } {
            let response = match op.request.as_ref().unwrap() {
                Op::RequestRange(range) => Answer::ResponseRange(self.range(range)?),
                Op::RequestPut(put) => Answer::ResponsePut(self.put(put)),
                Op::RequestDeleteRange(delete) => Answer::ResponseDeleteRange(self.delete(delete)),
                Op::RequestTxn(inner) => Answer::ResponseTxn(self.txn(inner, path)?),
            };
            responses.push(pb::ResponseOp { response: Some(response) });
        }
        Ok(pb::TxnResponse { header: header(0), succeeded, responses })
    }
}

fn sign(request: &pb::RangeRequest) -> i64 {
    if request.sort_order == 2 { -1 } else { 1 }
}

fn check_range(request: &pb::RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if !(0..=2).contains(&request.sort_order) || !(0..=4).contains(&request.sort_target) {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

fn check_put(request: &pb::PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

fn check_delete(request: &pb::DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

fn check_txn(request: &pb::TxnRequest, budget: usize) -> Result<(), Error> {
    let lens = [request.compare.len(), request.success.len(), request.failure.len()];
    let widest = lens.into_iter().max().unwrap();
    if widest > budget {
        return Err(Error::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in [&request.success, &request.failure].into_iter().flatten() {
        match &op.request {
            None => return Err(Error::KeyNotFound),
            Some(Op::RequestRange(range)) => check_range(range)?,
            Some(Op::RequestPut(put)) => check_put(put)?,
            Some(Op::RequestDeleteRange(delete)) => check_delete(delete)?,
            Some(Op::RequestTxn(inner)) => check_txn(inner, budget - widest)?,
        }
    }
    Ok(())
}

type Keys = (Vec<Bytes>, Vec<(Bytes, Bytes)>);

/// The keys put and the spans deleted by a list of operations.
fn check_keys(ops: &[pb::RequestOp]) -> Result<Keys, Error> {
    let overlaps = |key: &Bytes, deletes: &[(Bytes, Bytes)]| {
        let hit = |(start, end): &(Bytes, Bytes)| {
            if end.is_empty() { key == start } else { start <= key && key < end }
        };
        deletes.iter().any(hit)
    };
    let (mut puts, mut deletes): Keys = (vec![], vec![]);
    for op in ops {
        if let Some(Op::RequestDeleteRange(delete)) = &op.request {
            deletes.push((delete.key.clone(), delete.range_end.clone()));
        }
    }
    for op in ops {
        let Some(Op::RequestTxn(inner)) = &op.request else { continue };
        let (success, success_deletes) = check_keys(&inner.success)?;
        let (failure, failure_deletes) = check_keys(&inner.failure)?;
        for key in &success {
            if puts.contains(key) || overlaps(key, &deletes) {
                return Err(Error::DuplicateKey);
            }
        }
        for key in &failure {
            if puts.contains(key) || overlaps(key, &deletes) {
                return Err(Error::DuplicateKey);
            }
        }
        puts.extend(success);
        puts.extend(failure);
        deletes.extend(success_deletes);
        deletes.extend(failure_deletes);
    }
    for op in ops {
        if let Some(Op::RequestPut(put)) = &op.request {
            if puts.contains(&put.key) || overlaps(&put.key, &deletes) {
                return Err(Error::DuplicateKey);
            }
            puts.push(put.key.clone());
        }
    }
    Ok((puts, deletes))
}
