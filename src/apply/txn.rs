//! Pure. Transactions: compares on the state before it, checks of the branch that is taken, then
//! the operations in order.

use super::put::KeyValueRef;
use super::{ApplyError, Fault, OpResponse, TxnResponse, range_spec};
use crate::backend::Corrupt;
use crate::ids::LeaseId;
use crate::mvcc::{Progress, RangeEnd, RangeError, RangeScan, RangeSpec, Sink, View, WriteTxn};
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use bytes::Bytes;
use std::cmp::Ordering;

/// Which branch each transaction of the tree takes, in the order in which they are met. Decided
/// before the first operation: a compare never sees what a sibling wrote (quirk 8).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Path {
    taken: Vec<bool>,
}

/// Reads a path in the order in which it was written.
struct Steps<'a> {
    rest: std::slice::Iter<'a, bool>,
}

impl Steps<'_> {
    /// The branch of the next transaction.
    fn branch<'t>(&mut self, txn: &'t TxnRequest) -> (bool, &'t [RequestOp]) {
        match self
            .rest
            .next()
            .expect("the path was made for this request")
        {
            true => (true, &txn.success),
            false => (false, &txn.failure),
        }
    }
}

impl Path {
    pub fn of(txn: &TxnRequest, view: &View) -> Result<Path, Corrupt> {
        let mut path = Path::default();
        path.walk(txn, view)?;
        Ok(path)
    }

    fn walk(&mut self, txn: &TxnRequest, view: &View) -> Result<(), Corrupt> {
        let mut holds = true;
        for compare in &txn.compare {
            if !compare_holds(compare, view)? {
                holds = false;
                break;
            }
        }
        self.taken.push(holds);
        for op in if holds { &txn.success } else { &txn.failure } {
            if let Some(Request::RequestTxn(inner)) = &op.request {
                self.walk(inner, view)?;
            }
        }
        Ok(())
    }

    fn steps(&self) -> Steps<'_> {
        Steps {
            rest: self.taken.iter(),
        }
    }
}

/// What an operation of the taken path breaks; `Ok(Err(_))` refuses the whole transaction.
type Checked = Result<Result<(), ApplyError>, Corrupt>;

/// Checks the taken path before anything is applied, operation by operation.
pub(super) fn check(
    txn: &TxnRequest,
    path: &Path,
    view: &View,
    lease_exists: &dyn Fn(LeaseId) -> bool,
) -> Checked {
    each_op(txn, &mut path.steps(), &mut |op| match &op.request {
        Some(Request::RequestPut(put)) => check_put(put, view, lease_exists),
        Some(Request::RequestRange(range)) => Ok(check_range(range, view)),
        _ => Ok(Ok(())),
    })
}

fn check_ranges(txn: &TxnRequest, path: &Path, view: &View) -> Checked {
    each_op(txn, &mut path.steps(), &mut |op| match &op.request {
        Some(Request::RequestRange(range)) => Ok(check_range(range, view)),
        _ => Ok(Ok(())),
    })
}

fn each_op(
    txn: &TxnRequest,
    steps: &mut Steps<'_>,
    each: &mut dyn FnMut(&RequestOp) -> Checked,
) -> Checked {
    for op in steps.branch(txn).1 {
        let checked = match &op.request {
            Some(Request::RequestTxn(inner)) => each_op(inner, steps, each)?,
            _ => each(op)?,
        };
        if checked.is_err() {
            return Ok(checked);
        }
    }
    Ok(Ok(()))
}

fn check_put(put: &PutRequest, view: &View, lease_exists: &dyn Fn(LeaseId) -> bool) -> Checked {
    if put.lease != 0 && !lease_exists(LeaseId(put.lease)) {
        return Ok(Err(ApplyError::LeaseNotFound));
    }
    if (put.ignore_value || put.ignore_lease) && view.meta(&put.key)?.is_none() {
        return Ok(Err(ApplyError::KeyNotFound));
    }
    Ok(Ok(()))
}

/// A negative revision is compared too, unlike in a range of its own, which takes it for 0.
fn check_range(range: &RangeRequest, view: &View) -> Result<(), ApplyError> {
    let (asked, current, compacted) = (range.revision, view.revision(), view.compacted());
    match asked {
        0 => Ok(()),
        _ if asked > current => Err(ApplyError::FutureRevision { asked, current }),
        _ if asked < compacted => Err(ApplyError::Compacted { asked, compacted }),
        _ => Ok(()),
    }
}

/// Runs the taken path. Nothing can be refused any more.
pub(super) fn run(
    txn: &TxnRequest,
    path: &Path,
    write: &mut WriteTxn<'_>,
) -> Result<TxnResponse, Corrupt> {
    let mut response = run_branch(txn, &mut path.steps(), &mut |op| run_op(op, write))?;
    response.revision = write.revision();
    Ok(response)
}

/// Runs one operation that is no transaction; `None` for an operation that is none, which
/// `validate` does not let pass.
type RunOp<'a> = dyn FnMut(&Request) -> Result<OpResponse, Corrupt> + 'a;

fn run_branch(
    txn: &TxnRequest,
    steps: &mut Steps<'_>,
    run_op: &mut RunOp<'_>,
) -> Result<TxnResponse, Corrupt> {
    let (succeeded, ops) = steps.branch(txn);
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        match &op.request {
            Some(Request::RequestTxn(inner)) => {
                responses.push(OpResponse::Txn(run_branch(inner, steps, run_op)?));
            }
            Some(request) => responses.push(run_op(request)?),
            None => {}
        }
    }
    Ok(TxnResponse {
        revision: 0,
        succeeded,
        responses,
    })
}

fn run_op(request: &Request, write: &mut WriteTxn<'_>) -> Result<OpResponse, Corrupt> {
    match request {
        Request::RequestRange(range) => {
            let found = match write.range(&range_spec(range)) {
                Ok(found) => found,
                Err(RangeError::Corrupt(corrupt)) => return Err(corrupt),
                Err(error) => unreachable!("revisions were checked before the txn: {error:?}"),
            };
            Ok(OpResponse::Range {
                revision: write.revision(),
                kvs: found.kvs,
                more: found.more,
                count: found.count as i64,
            })
        }
        Request::RequestPut(put) => run_put(put, write),
        Request::RequestDeleteRange(delete) => run_delete(delete, write),
        Request::RequestTxn(_) => unreachable!("a txn is walked, not run as an operation"),
    }
}

fn run_put(put: &PutRequest, write: &mut WriteTxn<'_>) -> Result<OpResponse, Corrupt> {
    let reads = put.prev_kv || put.ignore_value || put.ignore_lease;
    let before = if reads { write.kv(&put.key)? } else { None };
    let kept = before
        .as_deref()
        .and_then(KeyValueRef::decode)
        .unwrap_or_default();
    let value = if put.ignore_value {
        kept.value
    } else {
        &put.value
    };
    let lease = if put.ignore_lease {
        kept.lease
    } else {
        put.lease
    };
    write.put(&put.key, value, LeaseId(lease))?;
    let previous = before.filter(|_| put.prev_kv);
    Ok(OpResponse::Put {
        revision: write.revision(),
        previous,
    })
}

fn run_delete(
    delete: &DeleteRangeRequest,
    write: &mut WriteTxn<'_>,
) -> Result<OpResponse, Corrupt> {
    let end = RangeEnd::from_wire(delete.range_end.clone());
    let mut previous = Vec::new();
    let wanted = delete.prev_kv.then_some(&mut previous);
    let deleted = write.delete_range(&delete.key, &end, wanted)?;
    Ok(OpResponse::DeleteRange {
        revision: write.revision(),
        deleted: deleted as i64,
        previous,
    })
}

/// Why a read-only transaction has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadTxnError {
    Refused(ApplyError),
    Fault(Fault),
}

impl From<Corrupt> for ReadTxnError {
    fn from(corrupt: Corrupt) -> ReadTxnError {
        ReadTxnError::Fault(Fault::Store(corrupt))
    }
}

/// Answers a read-only transaction (`validate::txn_is_read_only`) from a view. Runs to its end:
/// bounded by the operations and what they range over.
pub fn read_txn(txn: &TxnRequest, view: &View) -> Result<TxnResponse, ReadTxnError> {
    let path = Path::of(txn, view)?;
    check_ranges(txn, &path, view)?.map_err(ReadTxnError::Refused)?;
    let mut response = run_branch(txn, &mut path.steps(), &mut |request| match request {
        Request::RequestRange(range) => view_range(range, view),
        _ => unreachable!("the caller knows that the transaction is read-only"),
    })?;
    response.revision = view.revision();
    Ok(response)
}

fn view_range(range: &RangeRequest, view: &View) -> Result<OpResponse, Corrupt> {
    let mut kvs: Vec<Bytes> = Vec::new();
    let mut scan = match RangeScan::new(view.clone(), range_spec(range)) {
        Ok(scan) => scan,
        Err(RangeError::Corrupt(corrupt)) => return Err(corrupt),
        Err(error) => unreachable!("revisions were checked before: {error:?}"),
    };
    while scan.slice(usize::MAX, &mut kvs)? == Progress::More {}
    let totals = scan.totals().expect("the scan is done");
    Ok(OpResponse::Range {
        revision: view.revision(),
        kvs,
        more: totals.more,
        count: totals.count as i64,
    })
}

/// Whether a compare holds for its key, or for every key of its range. A range without keys is
/// compared as one missing key.
fn compare_holds(compare: &Compare, view: &View) -> Result<bool, Corrupt> {
    let by_value = compare.target == CompareTarget::Value as i32;
    if compare.range_end.is_empty() && !by_value {
        // The index alone knows all but the value.
        let meta = view.meta(&compare.key)?;
        let kv = meta.map_or(KeyValueRef::default(), |meta| KeyValueRef {
            create_revision: meta.create_revision,
            mod_revision: meta.modified.main,
            version: meta.version,
            value: b"",
            lease: meta.lease.0,
        });
        return Ok(holds(compare, &kv));
    }
    let mut all = CompareAll {
        compare,
        count: 0,
        hold: true,
    };
    let spec = RangeSpec {
        key: compare.key.clone(),
        end: RangeEnd::from_wire(compare.range_end.clone()),
        ..RangeSpec::default()
    };
    let mut scan = match RangeScan::new(view.clone(), spec) {
        Ok(scan) => scan,
        Err(RangeError::Corrupt(corrupt)) => return Err(corrupt),
        Err(error) => unreachable!("the latest revision is readable: {error:?}"),
    };
    while all.hold && scan.slice(COMPARE_SLICE_ENTRIES, &mut all)? == Progress::More {}
    match all.count {
        // A missing key has no value: not even NOT_EQUAL holds (quirk 2).
        0 if by_value => Ok(false),
        0 => Ok(holds(compare, &KeyValueRef::default())),
        _ => Ok(all.hold),
    }
}

/// Keys compared between two looks at whether one failed.
const COMPARE_SLICE_ENTRIES: usize = 256;

struct CompareAll<'a> {
    compare: &'a Compare,
    count: usize,
    hold: bool,
}

impl Sink for CompareAll<'_> {
    fn kv(&mut self, kv: &[u8]) {
        self.count += 1;
        let kv = KeyValueRef::decode(kv).unwrap_or_default();
        self.hold = self.hold && holds(self.compare, &kv);
    }
}

/// One compare against one key-value. A union that does not fit the target counts as 0 or empty.
fn holds(compare: &Compare, kv: &KeyValueRef<'_>) -> bool {
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let value = match union {
                Some(TargetUnion::Value(value)) => &**value,
                _ => b"",
            };
            kv.value.cmp(value)
        }
        Ok(CompareTarget::Create) => kv.create_revision.cmp(&match union {
            Some(TargetUnion::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => kv.mod_revision.cmp(&match union {
            Some(TargetUnion::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Version) => kv.version.cmp(&match union {
            Some(TargetUnion::Version(version)) => *version,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => kv.lease.cmp(&match union {
            Some(TargetUnion::Lease(lease)) => *lease,
            _ => 0,
        }),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}
