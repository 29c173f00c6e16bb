//! Pure. A naive etcd: every state of every revision, kept whole.

use crate::apply::ApplyError;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::response_op::Response as Op;
use crate::pb::etcdserverpb::*;
use crate::pb::mvccpb::KeyValue;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

type State = BTreeMap<Bytes, KeyValue>;

pub(super) struct Model {
    /// The state at revision n is at n.
    states: Vec<State>,
    pub compacted: i64,
    pub leases: BTreeSet<i64>,
}

/// A transaction under way.
struct Writing {
    state: State,
    begin: i64,
    changed: bool,
}

impl Writing {
    fn revision(&self) -> i64 {
        self.begin + i64::from(self.changed)
    }
}

fn inside(key: &[u8], from: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == from,
        [0] => key >= from,
        end => key >= from && key < end,
    }
}

fn found(state: &State, from: &[u8], end: &[u8]) -> Vec<KeyValue> {
    state
        .values()
        .filter(|kv| inside(&kv.key, from, end))
        .cloned()
        .collect()
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

impl Model {
    pub fn new() -> Model {
        Model {
            states: vec![State::new(); 2],
            compacted: -1,
            leases: BTreeSet::new(),
        }
    }

    pub fn current(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    fn begin(&self) -> Writing {
        let state = self.states.last().unwrap().clone();
        Writing {
            state,
            begin: self.current(),
            changed: false,
        }
    }

    fn end(&mut self, writing: Writing) {
        if writing.changed {
            self.states.push(writing.state);
        }
    }

    pub fn put(&mut self, request: &PutRequest) -> Result<PutResponse, ApplyError> {
        if request.lease != 0 && !self.leases.contains(&request.lease) {
            return Err(ApplyError::LeaseNotFound);
        }
        self.check_ignore(request)?;
        let mut writing = self.begin();
        let response = put(&mut writing, request);
        self.end(writing);
        Ok(response)
    }

    fn check_ignore(&self, request: &PutRequest) -> Result<(), ApplyError> {
        let lives = self.states.last().unwrap().contains_key(&request.key);
        match (request.ignore_value || request.ignore_lease) && !lives {
            true => Err(ApplyError::KeyNotFound),
            false => Ok(()),
        }
    }

    pub fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut writing = self.begin();
        let response = delete(&mut writing, request);
        self.end(writing);
        response
    }

    pub fn revoke(&mut self, id: i64) -> Result<(), ApplyError> {
        if !self.leases.remove(&id) {
            return Err(ApplyError::LeaseNotFound);
        }
        let mut writing = self.begin();
        let before = writing.state.len();
        writing.state.retain(|_, kv| kv.lease != id);
        writing.changed = writing.state.len() < before;
        self.end(writing);
        Ok(())
    }

    pub fn compact(&mut self, asked: i64) -> Result<(), ApplyError> {
        if asked <= self.compacted {
            return Err(ApplyError::Compacted {
                asked,
                compacted: self.compacted,
            });
        }
        if asked > self.current() {
            return Err(ApplyError::FutureRevision {
                asked,
                current: self.current(),
            });
        }
        self.compacted = asked;
        Ok(())
    }

    pub fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, ApplyError> {
        let mut path = Vec::new();
        self.path(request, &mut path);
        let (current, compacted) = (self.current(), self.compacted);
        self.check(request, &mut path.iter(), &|op| match op {
            Request::RequestPut(put) => {
                if put.lease != 0 && !self.leases.contains(&put.lease) {
                    return Err(ApplyError::LeaseNotFound);
                }
                self.check_ignore(put)
            }
            Request::RequestRange(range) if range.revision == 0 => Ok(()),
            Request::RequestRange(range) if range.revision > current => {
                Err(ApplyError::FutureRevision {
                    asked: range.revision,
                    current,
                })
            }
            Request::RequestRange(range) if range.revision < compacted => {
                Err(ApplyError::Compacted {
                    asked: range.revision,
                    compacted,
                })
            }
            _ => Ok(()),
        })?;
        let mut writing = self.begin();
        let mut response = self.run(request, &mut path.iter(), &mut writing);
        response.header = header(writing.revision());
        self.end(writing);
        Ok(response)
    }

    fn path(&self, request: &TxnRequest, path: &mut Vec<bool>) {
        let holds = request.compare.iter().all(|compare| self.holds(compare));
        path.push(holds);
        for op in if holds {
            &request.success
        } else {
            &request.failure
        } {
            if let Some(Request::RequestTxn(inner)) = &op.request {
                self.path(inner, path);
            }
        }
    }

    fn check(
        &self,
        request: &TxnRequest,
        path: &mut std::slice::Iter<'_, bool>,
        rule: &dyn Fn(&Request) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        for op in if *path.next().unwrap() {
            &request.success
        } else {
            &request.failure
        } {
            match op.request.as_ref().unwrap() {
                Request::RequestTxn(inner) => self.check(inner, path, rule)?,
                op => rule(op)?,
            }
        }
        Ok(())
    }

    fn run(
        &self,
        request: &TxnRequest,
        path: &mut std::slice::Iter<'_, bool>,
        writing: &mut Writing,
    ) -> TxnResponse {
        let succeeded = *path.next().unwrap();
        let mut responses = Vec::new();
        for op in if succeeded {
            &request.success
        } else {
            &request.failure
        } {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => Op::ResponseRange(self.range(writing, range)),
                Request::RequestPut(request) => Op::ResponsePut(put(writing, request)),
                Request::RequestDeleteRange(request) => {
                    Op::ResponseDeleteRange(delete(writing, request))
                }
                Request::RequestTxn(inner) => Op::ResponseTxn(self.run(inner, path, writing)),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        TxnResponse {
            header: Some(ResponseHeader::default()),
            succeeded,
            responses,
        }
    }

    fn range(&self, writing: &Writing, request: &RangeRequest) -> RangeResponse {
        let state = match request.revision {
            past if past > 0 && past <= writing.begin => &self.states[past as usize],
            _ => &writing.state,
        };
        let mut kvs = found(state, &request.key, &request.range_end);
        let count = kvs.len() as i64;
        let mut more = false;
        if request.count_only {
            kvs.clear();
        } else if request.limit > 0 && count > request.limit {
            kvs.truncate(request.limit as usize);
            more = true;
        }
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
                kv.lease = 0;
            }
        }
        RangeResponse {
            header: header(writing.revision()),
            kvs,
            more,
            count,
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kvs = found(
            self.states.last().unwrap(),
            &compare.key,
            &compare.range_end,
        );
        if kvs.is_empty() {
            let value = compare.target == CompareTarget::Value as i32;
            return !value && holds(compare, &KeyValue::default());
        }
        kvs.iter().all(|kv| holds(compare, kv))
    }
}

fn holds(compare: &Compare, kv: &KeyValue) -> bool {
    let ordering = match compare.target_union.as_ref().unwrap() {
        TargetUnion::Version(version) => kv.version.cmp(version),
        TargetUnion::CreateRevision(revision) => kv.create_revision.cmp(revision),
        TargetUnion::ModRevision(revision) => kv.mod_revision.cmp(revision),
        TargetUnion::Value(value) => kv.value.cmp(value),
        TargetUnion::Lease(lease) => kv.lease.cmp(lease),
    };
    match CompareResult::try_from(compare.result).unwrap() {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}

fn put(writing: &mut Writing, request: &PutRequest) -> PutResponse {
    let before = writing.state.get(&request.key).cloned();
    let main = writing.begin + 1;
    let kept = before.clone().unwrap_or_default();
    let kv = KeyValue {
        key: request.key.clone(),
        create_revision: before.as_ref().map_or(main, |kv| kv.create_revision),
        mod_revision: main,
        version: kept.version + 1,
        value: if request.ignore_value {
            kept.value
        } else {
            request.value.clone()
        },
        lease: if request.ignore_lease {
            kept.lease
        } else {
            request.lease
        },
    };
    writing.state.insert(request.key.clone(), kv);
    writing.changed = true;
    let prev_kv = before.filter(|_| request.prev_kv);
    PutResponse {
        header: header(main),
        prev_kv,
    }
}

fn delete(writing: &mut Writing, request: &DeleteRangeRequest) -> DeleteRangeResponse {
    let gone = found(&writing.state, &request.key, &request.range_end);
    for kv in &gone {
        writing.state.remove(&kv.key);
    }
    writing.changed |= !gone.is_empty();
    DeleteRangeResponse {
        header: header(writing.revision()),
        deleted: gone.len() as i64,
        prev_kvs: if request.prev_kv { gone } else { Vec::new() },
    }
}
