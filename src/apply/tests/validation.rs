//! Pure. What is checked before a request is proposed.

use super::build::*;
use super::*;
use crate::pb::etcdserverpb::*;

// Catches: the rules that requests must meet before they are proposed, in their order.
#[test]
fn validation() {
    let value = PutRequest {
        ignore_value: true,
        ..put("k", "v")
    };
    let lease = PutRequest {
        ignore_lease: true,
        lease: 1,
        ..put("k", "v")
    };
    for (request, expected) in [
        (put("", "v"), Err(ApplyError::EmptyKey)),
        (value, Err(ApplyError::ValueProvided)),
        (lease, Err(ApplyError::LeaseProvided)),
        (put("k", ""), Ok(())),
    ] {
        assert_eq!(validate::put(&request), expected);
        let bytes = request.encode_to_vec();
        assert_eq!(
            validate::put_ref(&PutRequestRef::decode(&bytes).unwrap()),
            expected
        );
    }
    let sorted = |sort_order, sort_target| RangeRequest {
        sort_order,
        sort_target,
        ..range("k", "")
    };
    assert_eq!(
        validate::range(&sorted(3, 0)),
        Err(ApplyError::InvalidSortOption)
    );
    assert_eq!(
        validate::range(&sorted(0, 5)),
        Err(ApplyError::InvalidSortOption)
    );
    assert_eq!(validate::range(&sorted(2, 4)), Ok(()));
    assert_eq!(validate::range(&range("", "")), Err(ApplyError::EmptyKey));
    assert_eq!(
        validate::delete_range(&delete("", "")),
        Err(ApplyError::EmptyKey)
    );
}

// Catches: the transaction rules of 1.1: counts with the remaining budget, empty operations,
// duplicate keys within and across branches.
#[test]
fn transaction_validation() {
    let check = |txn: &TxnRequest| validate::txn(txn, 3);
    let many = |count: usize| then(vec![op_range("k", ""); count]);
    assert_eq!(check(&many(3)), Ok(()));
    assert_eq!(
        check(&many(4)),
        Err(ApplyError::TooManyOps { got: 4, max: 3 })
    );
    assert_eq!(check(&then(vec![op_txn(many(2))])), Ok(()));
    let deep = then(vec![op_txn(many(3))]);
    assert_eq!(check(&deep), Err(ApplyError::TooManyOps { got: 3, max: 2 }));
    assert_eq!(
        check(&then(vec![RequestOp::default()])),
        Err(ApplyError::KeyNotFound)
    );
    let empty = TxnRequest {
        compare: vec![Compare::default()],
        ..TxnRequest::default()
    };
    assert_eq!(check(&empty), Err(ApplyError::EmptyKey));

    let check = |txn: &TxnRequest| validate::txn(txn, 128);
    let branches = |success, failure| TxnRequest {
        success,
        failure,
        ..TxnRequest::default()
    };
    let duplicate = Err(ApplyError::DuplicateKey);
    for (txn, expected) in [
        (then(vec![op_put("a", ""), op_put("a", "")]), duplicate),
        (then(vec![op_put("a", ""), op_put("b", "")]), Ok(())),
        (
            branches(vec![op_put("a", "")], vec![op_put("a", "")]),
            Ok(()),
        ),
        (
            branches(vec![], vec![op_put("a", ""), op_put("a", "")]),
            duplicate,
        ),
        (then(vec![op_put("b", ""), op_delete("a", "c")]), duplicate),
        (then(vec![op_put("c", ""), op_delete("a", "c")]), Ok(())),
        // As in etcd "from key" covers nothing here, nor does an end before its key.
        (then(vec![op_put("b", ""), op_delete("a", "\0")]), Ok(())),
        (then(vec![op_put("b", ""), op_delete("c", "a")]), Ok(())),
        (then(vec![op_delete("a", "c"), op_delete("b", "d")]), Ok(())),
        (
            then(vec![op_put("a", ""), op_txn(then(vec![op_put("a", "")]))]),
            duplicate,
        ),
        (
            then(vec![
                op_delete("a", ""),
                op_txn(then(vec![op_put("a", "")])),
            ]),
            duplicate,
        ),
        (
            then(vec![
                op_put("a", ""),
                op_txn(then(vec![op_delete("a", "")])),
            ]),
            duplicate,
        ),
        // A nested deletion is held against puts of later siblings only, as in etcd.
        (
            then(vec![
                op_txn(then(vec![op_put("a", "")])),
                op_txn(then(vec![op_delete("a", "")])),
            ]),
            Ok(()),
        ),
        (
            then(vec![
                op_txn(then(vec![op_delete("a", "")])),
                op_txn(then(vec![op_put("a", "")])),
            ]),
            duplicate,
        ),
        // What one branch of a nested transaction deletes, the other may put.
        (
            then(vec![op_txn(branches(
                vec![op_delete("a", "")],
                vec![op_put("a", "")],
            ))]),
            Ok(()),
        ),
        // The branches of a nested transaction exclude each other.
        (
            then(vec![op_txn(branches(
                vec![op_put("a", "")],
                vec![op_put("a", "")],
            ))]),
            Ok(()),
        ),
        (
            then(vec![
                op_txn(branches(vec![op_put("a", "")], vec![])),
                op_txn(branches(vec![], vec![op_put("a", "")])),
            ]),
            duplicate,
        ),
    ] {
        assert_eq!(check(&txn), expected, "{txn:?}");
    }
}
