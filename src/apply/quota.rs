//! Pure. The space quota: what a request may cost, estimated as etcd does, before and at apply.

use crate::limits::apply as limits;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::{RequestOp, TxnRequest};

/// How large the tree file may get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// `None`: unlimited.
    bytes: Option<u64>,
}

impl Quota {
    /// From `quota-backend-bytes`: 0 is the default, negative is off.
    pub fn new(bytes: i64) -> Quota {
        Quota {
            bytes: match bytes {
                0 => Some(limits::QUOTA_BYTES_DEFAULT),
                bytes => u64::try_from(bytes).ok(),
            },
        }
    }

    /// The quota in bytes; 0 when there is none.
    pub fn bytes(&self) -> u64 {
        self.bytes.unwrap_or(0)
    }

    /// Whether a store of `size` bytes has room for a request of this cost.
    pub fn has_room(&self, size: u64, cost: u64) -> bool {
        cost == 0
            || self
                .bytes
                .is_none_or(|bytes| size.saturating_add(cost) < bytes)
    }
}

pub fn put_cost(key: &[u8], value: &[u8]) -> u64 {
    limits::PUT_COST_BYTES + (key.len() + value.len()) as u64
}

pub fn lease_cost() -> u64 {
    limits::LEASE_COST_BYTES
}

/// The costlier branch, transactions within it included. 0 when no branch puts anything.
pub fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(put)) => put_cost(&put.key, &put.value),
                Some(Request::RequestTxn(txn)) => txn_cost(txn),
                _ => 0,
            })
            .sum()
    };
    branch(&txn.success).max(branch(&txn.failure))
}
