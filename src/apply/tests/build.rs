//! Pure. Requests, written shortly.

use super::*;
use crate::pb::etcdserverpb::TxnResponse;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::*;

pub(super) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    }
}

pub(super) fn delete(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: false,
    }
}

pub(super) fn range(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..RangeRequest::default()
    }
}

pub(super) fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

pub(super) fn op_put(key: &str, value: &str) -> RequestOp {
    op(Request::RequestPut(put(key, value)))
}

pub(super) fn op_delete(key: &str, end: &str) -> RequestOp {
    op(Request::RequestDeleteRange(delete(key, end)))
}

pub(super) fn op_range(key: &str, end: &str) -> RequestOp {
    op(Request::RequestRange(range(key, end)))
}

pub(super) fn op_txn(txn: TxnRequest) -> RequestOp {
    op(Request::RequestTxn(txn))
}

pub(super) fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..TxnRequest::default()
    }
}

pub(super) fn compare(
    key: &str,
    target: CompareTarget,
    result: CompareResult,
    union: TargetUnion,
) -> Compare {
    Compare {
        result: result as i32,
        target: target as i32,
        key: bytes(key),
        target_union: Some(union),
        range_end: Bytes::new(),
    }
}

pub(super) fn grant(
    world: &mut World,
    id: i64,
    ttl: i64,
) -> Result<LeaseGrantResponse, ApplyError> {
    world.answer(Kind::LeaseGrant, &LeaseGrantRequest { id, ttl })
}

pub(super) fn revision_of(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().expect("a header").revision
}

/// Whether a transaction of one compare takes its success branch.
pub(super) fn holds(world: &mut World, compare: Compare) -> bool {
    let txn = TxnRequest {
        compare: vec![compare],
        ..TxnRequest::default()
    };
    let answer: TxnResponse = world.answer(Kind::Txn, &txn).unwrap();
    answer.succeeded
}
