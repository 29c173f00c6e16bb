//! Pure. The rules that a request must meet before it is proposed, in etcd's order of checks.

use super::ApplyError;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use bytes::Bytes;
use std::collections::BTreeSet;

pub fn range(request: &RangeRequest) -> Result<(), ApplyError> {
    if request.key.is_empty() {
        return Err(ApplyError::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(ApplyError::InvalidSortOption);
    }
    Ok(())
}

pub fn put(request: &PutRequest) -> Result<(), ApplyError> {
    put_fields(
        &request.key,
        (request.ignore_value, &request.value),
        (request.ignore_lease, request.lease),
    )
}

/// The same for a put that was read without prost.
pub fn put_ref(request: &super::PutRequestRef<'_>) -> Result<(), ApplyError> {
    put_fields(
        request.key,
        (request.ignore_value, request.value),
        (request.ignore_lease, request.lease),
    )
}

fn put_fields(
    key: &[u8],
    (ignore_value, value): (bool, &[u8]),
    (ignore_lease, lease): (bool, i64),
) -> Result<(), ApplyError> {
    if key.is_empty() {
        return Err(ApplyError::EmptyKey);
    }
    if ignore_value && !value.is_empty() {
        return Err(ApplyError::ValueProvided);
    }
    if ignore_lease && lease != 0 {
        return Err(ApplyError::LeaseProvided);
    }
    Ok(())
}

pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), ApplyError> {
    match request.key.is_empty() {
        true => Err(ApplyError::EmptyKey),
        false => Ok(()),
    }
}

/// Counts and fields of the whole tree first, then keys that are changed twice.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), ApplyError> {
    txn_fields(request, ops_max)?;
    changes_of(&request.success)?;
    changes_of(&request.failure)?;
    Ok(())
}

/// A transaction that only ranges: served from a read view, without the log. A transaction within
/// it counts as a write.
pub fn txn_is_read_only(request: &TxnRequest) -> bool {
    let is_range = |op: &RequestOp| matches!(op.request, Some(Request::RequestRange(_)));
    request.success.iter().chain(&request.failure).all(is_range)
}

/// A read-only transaction that may be served from local state: each range says so.
pub fn txn_is_serializable(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

/// The largest of the three lists counts; a transaction within this one has what is left.
fn txn_fields(request: &TxnRequest, ops_max: usize) -> Result<(), ApplyError> {
    let ops = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    if ops > ops_max {
        return Err(ApplyError::TooManyOps {
            got: ops,
            max: ops_max,
        });
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(ApplyError::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(inner)) => range(inner)?,
            Some(Request::RequestPut(inner)) => put(inner)?,
            Some(Request::RequestDeleteRange(inner)) => delete_range(inner)?,
            Some(Request::RequestTxn(inner)) => txn_fields(inner, ops_max - ops)?,
            None => return Err(ApplyError::KeyNotFound),
        }
    }
    Ok(())
}

/// What a branch may change.
#[derive(Default)]
struct Branch<'a> {
    puts: BTreeSet<&'a [u8]>,
    /// Key and raw range end.
    deletes: Vec<(&'a [u8], &'a [u8])>,
}

impl Branch<'_> {
    fn deletes_key(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|(from, end)| match *end {
            [] => key == *from,
            // As in etcd an end of one zero byte, "from key", covers nothing here: it sorts before
            // every key. So such a delete and a put of one of its keys pass together.
            end => key >= *from && key < end,
        })
    }
}

/// Collects the changes of a branch. A key may be put once, and not where the branch deletes; the
/// two branches of a transaction within it exclude each other, so both may put the same key.
fn changes_of(ops: &[RequestOp]) -> Result<Branch<'_>, ApplyError> {
    let mut branch = Branch::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            branch.deletes.push((&delete.key, &delete.range_end));
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(inner)) = &op.request else {
            continue;
        };
        let taken = changes_of(&inner.success)?;
        let other = changes_of(&inner.failure)?;
        for key in &taken.puts {
            if branch.deletes_key(key) || !branch.puts.insert(key) {
                return Err(ApplyError::DuplicateKey);
            }
        }
        for key in &other.puts {
            let twice = !branch.puts.insert(key) && !taken.puts.contains(key);
            if twice || branch.deletes_key(key) {
                return Err(ApplyError::DuplicateKey);
            }
        }
        branch.deletes.extend(&taken.deletes);
        branch.deletes.extend(&other.deletes);
    }
    for op in ops {
        let Some(Request::RequestPut(put)) = &op.request else {
            continue;
        };
        let key: &Bytes = &put.key;
        if branch.deletes_key(key) || !branch.puts.insert(key) {
            return Err(ApplyError::DuplicateKey);
        }
    }
    Ok(branch)
}
