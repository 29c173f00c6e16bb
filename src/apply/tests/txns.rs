//! Pure. Transactions.

use super::build::*;
use super::*;
use crate::pb::etcdserverpb::TxnResponse;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::*;

// Catches: quirk 2 (a missing key has no value, not even an unequal one) and each compare target.
#[test]
fn compares() {
    let mut world = World::new();
    grant(&mut world, 9, 60).unwrap();
    world.call(Kind::Put, &put("k", "m")).unwrap();
    world
        .call(
            Kind::Put,
            &PutRequest {
                lease: 9,
                ..put("k", "m")
            },
        )
        .unwrap();
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let value = |text: &str| TargetUnion::Value(bytes(text));
    for (key, target, union, expected) in [
        ("k", Version, TargetUnion::Version(2), "="),
        ("k", Version, TargetUnion::Version(1), ">"),
        ("k", Create, TargetUnion::CreateRevision(2), "="),
        ("k", Mod, TargetUnion::ModRevision(4), "<"),
        ("k", Mod, TargetUnion::ModRevision(3), "="),
        ("k", Lease, TargetUnion::Lease(9), "="),
        ("k", Lease, TargetUnion::Lease(0), ">"),
        ("k", Value, value("m"), "="),
        ("k", Value, value("a"), ">"),
        ("k", Value, value("z"), "<"),
        ("none", Version, TargetUnion::Version(0), "="),
        ("none", Create, TargetUnion::CreateRevision(0), "="),
        ("none", Mod, TargetUnion::ModRevision(1), "<"),
        ("none", Lease, TargetUnion::Lease(-1), ">"),
        ("none", Value, value(""), ""),
        ("none", Value, value("x"), ""),
        // A union of another target counts as 0.
        ("k", Version, TargetUnion::ModRevision(2), ">"),
    ] {
        for (result, sign) in [(Equal, "="), (Greater, ">"), (Less, "<")] {
            let compare = compare(key, target, result, union.clone());
            assert_eq!(
                holds(&mut world, compare),
                sign == expected,
                "{key} {target:?} {sign}"
            );
        }
        let compare = compare(key, target, NotEqual, union.clone());
        let unequal = expected == ">" || expected == "<";
        assert_eq!(
            holds(&mut world, compare),
            unequal,
            "{key} {target:?} {union:?} !="
        );
    }
}

// Catches: a range compare that not every key decides, or an empty one that is not a missing key.
#[test]
fn range_compares() {
    let mut world = World::new();
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
        world.call(Kind::Put, &put(key, value)).unwrap();
    }
    let over = |key: &str, end: &str, target, result, union| Compare {
        range_end: bytes(end),
        ..compare(key, target, result, union)
    };
    use CompareTarget::{Mod, Value, Version};
    let value = |text: &str| TargetUnion::Value(bytes(text));
    for (compare, expected) in [
        (
            over(
                "a",
                "d",
                Mod,
                CompareResult::Greater,
                TargetUnion::ModRevision(1),
            ),
            true,
        ),
        (
            over(
                "a",
                "d",
                Mod,
                CompareResult::Less,
                TargetUnion::ModRevision(4),
            ),
            false,
        ),
        (
            over(
                "a",
                "c",
                Mod,
                CompareResult::Less,
                TargetUnion::ModRevision(4),
            ),
            true,
        ),
        (
            over("a", "\0", Value, CompareResult::Less, value("4")),
            true,
        ),
        (
            over("b", "\0", Value, CompareResult::Equal, value("2")),
            false,
        ),
        (
            over(
                "x",
                "z",
                Version,
                CompareResult::Equal,
                TargetUnion::Version(0),
            ),
            true,
        ),
        (
            over("x", "z", Value, CompareResult::NotEqual, value("1")),
            false,
        ),
        (
            over(
                "z",
                "a",
                Version,
                CompareResult::Equal,
                TargetUnion::Version(0),
            ),
            true,
        ),
    ] {
        assert_eq!(holds(&mut world, compare.clone()), expected, "{compare:?}");
    }
}

// Catches: quirk 8 (a nested compare that sees a sibling's write), and header revisions within a
// transaction: operations have theirs, a nested transaction's header is there but empty.
#[test]
fn nested_transactions() {
    let mut world = World::new();
    let absent = compare(
        "k",
        CompareTarget::Version,
        CompareResult::Equal,
        TargetUnion::Version(0),
    );
    let inner = TxnRequest {
        compare: vec![absent],
        success: vec![op_put("inner", "yes")],
        failure: vec![op_put("inner", "no")],
    };
    let txn = then(vec![
        op_range("a", "\0"),
        op_put("k", "v"),
        op_txn(inner),
        op_range("a", "\0"),
        op_delete("x", ""),
    ]);
    let answer: TxnResponse = world.answer(Kind::Txn, &txn).unwrap();
    assert!(answer.succeeded);
    assert_eq!(revision_of(&answer.header), 2);
    use response_op::Response::*;
    let responses: Vec<_> = answer
        .responses
        .iter()
        .map(|r| r.response.clone().unwrap())
        .collect();
    let [
        ResponseRange(before),
        ResponsePut(put),
        ResponseTxn(inner),
        ResponseRange(after),
        rest,
    ] = &responses[..]
    else {
        panic!("{responses:?}")
    };
    let ResponseDeleteRange(deleted) = rest else {
        panic!("{rest:?}")
    };
    assert_eq!((revision_of(&before.header), before.count), (1, 0));
    assert_eq!((revision_of(&after.header), after.count), (2, 2));
    assert_eq!(
        (revision_of(&put.header), revision_of(&deleted.header)),
        (2, 2)
    );
    assert_eq!(inner.header, Some(ResponseHeader::default()));
    assert!(
        inner.succeeded,
        "the compare saw the state before the transaction"
    );
    let only_revision = ResponseHeader {
        revision: 2,
        ..ResponseHeader::default()
    };
    assert_eq!(put.header, Some(only_revision));
    assert_eq!(world.machine.store().current(), 2, "one revision for all");
}

// Catches: an empty transaction refused, and read-only ones told apart wrongly.
#[test]
fn empty_and_read_only_transactions() {
    let mut world = World::new();
    let empty = TxnRequest::default();
    let answer: TxnResponse = world.answer(Kind::Txn, &empty).unwrap();
    assert!(answer.succeeded);
    assert_eq!(
        (answer.responses.len(), revision_of(&answer.header)),
        (0, 1)
    );
    assert!(validate::txn_is_read_only(&empty) && validate::txn_is_serializable(&empty));
    assert!(validate::txn_is_read_only(&then(vec![op_range("a", "")])));
    assert!(!validate::txn_is_serializable(&then(vec![op_range(
        "a", ""
    )])));
    assert!(!validate::txn_is_read_only(&then(vec![op_txn(empty)])));
    assert!(!validate::txn_is_read_only(&TxnRequest {
        failure: vec![op_put("a", "")],
        ..TxnRequest::default()
    }));
    world.call(Kind::Put, &put("a", "1")).unwrap();
    let read = read_txn(
        &then(vec![op_range("a", "")]),
        &world.machine.store().view(),
    )
    .unwrap();
    assert_eq!(
        (read.revision, read.succeeded, read.responses.len()),
        (2, true, 1)
    );
    let answer: TxnResponse = decoded(&Response::Txn(read));
    assert_eq!(revision_of(&answer.header), 2);
}

// Catches: revision checks on a branch that is not taken, after a write, or not at all.
#[test]
fn range_revisions_are_checked_before_anything_is_written() {
    let mut world = World::new();
    for n in 0..5 {
        world.call(Kind::Put, &put("k", &n.to_string())).unwrap();
    }
    world
        .call(
            Kind::Compact,
            &CompactionRequest {
                revision: 4,
                physical: false,
            },
        )
        .unwrap();
    let at = |revision| {
        op(Request::RequestRange(RangeRequest {
            revision,
            ..range("k", "")
        }))
    };
    let both = |revision| then(vec![op_put("x", "1"), at(revision)]);
    let future = ApplyError::FutureRevision {
        asked: 7,
        current: 6,
    };
    let compacted = |asked| ApplyError::Compacted {
        asked,
        compacted: 4,
    };
    assert_eq!(world.call(Kind::Txn, &both(7)), Err(future));
    assert_eq!(world.call(Kind::Txn, &both(3)), Err(compacted(3)));
    assert_eq!(world.call(Kind::Txn, &both(-1)), Err(compacted(-1)));
    assert_eq!(world.machine.store().current(), 6, "nothing was written");
    let view = world.machine.store().view();
    let refused = read_txn(&then(vec![at(7)]), &view).unwrap_err();
    assert_eq!(refused, ReadTxnError::Refused(future));
    let untaken = TxnRequest {
        failure: vec![at(7)],
        ..both(4)
    };
    let answer: TxnResponse = world.answer(Kind::Txn, &untaken).unwrap();
    let Some(response_op::Response::ResponseRange(found)) = &answer.responses[1].response else {
        panic!()
    };
    assert_eq!(
        (&found.kvs[0].value[..], revision_of(&found.header)),
        (&b"2"[..], 7)
    );
    // Operations are checked in their order, whatever they are.
    let lease = op(Request::RequestPut(PutRequest {
        lease: 77,
        ..put("x", "")
    }));
    let future = ApplyError::FutureRevision {
        asked: 99,
        current: world.machine.store().current(),
    };
    let txn = then(vec![at(99), lease.clone()]);
    assert_eq!(world.call(Kind::Txn, &txn), Err(future));
    let txn = then(vec![lease, at(99)]);
    assert_eq!(world.call(Kind::Txn, &txn), Err(ApplyError::LeaseNotFound));
}

// Catches: a key that is lost, or kept twice, when a transaction deletes and puts it and the store
// is compacted at just that revision: a real etcd loses it and ends at its next read.
#[test]
fn a_key_changed_twice_survives_compaction_there() {
    let mut world = World::new();
    world.call(Kind::Put, &put("b", "1")).unwrap();
    let txn = then(vec![
        op_delete("a", "\0"),
        op_put("b", "2"),
        op_put("c", "2"),
    ]);
    assert_eq!(validate::txn(&txn, 128), Ok(()));
    world.call(Kind::Txn, &txn).unwrap();
    let undone = then(vec![op_put("c", "3"), op_delete("c", "\0")]);
    world.call(Kind::Txn, &undone).unwrap();
    for revision in [3, 4] {
        let physical = true;
        world
            .call(Kind::Compact, &CompactionRequest { revision, physical })
            .unwrap();
        world.finish_compaction();
        world.commit();
        let view = world.machine.store().view();
        let kv = view.kv(b"b").unwrap().expect("the key lives");
        let kv = crate::pb::mvccpb::KeyValue::decode(kv).unwrap();
        assert_eq!(
            (kv.create_revision, kv.version, &kv.value[..]),
            (3, 1, &b"2"[..])
        );
        assert_eq!(view.kv(b"c"), Ok(None));
    }
}

// Catches: a put that keeps the value of a key which its own transaction has deleted: it was
// checked before, and must not end the process, as it does etcd's.
#[test]
fn a_put_may_keep_what_its_transaction_deleted() {
    let mut world = World::new();
    world.call(Kind::Put, &put("b", "1")).unwrap();
    let keeping = op(Request::RequestPut(PutRequest {
        ignore_value: true,
        ignore_lease: true,
        ..put("b", "")
    }));
    let txn = then(vec![op_delete("a", "\0"), keeping]);
    assert_eq!(validate::txn(&txn, 128), Ok(()));
    world.call(Kind::Txn, &txn).unwrap();
    let kv = world.machine.store().view().kv(b"b").unwrap();
    let kv = crate::pb::mvccpb::KeyValue::decode(kv.expect("it was put")).unwrap();
    assert_eq!((kv.version, &kv.value[..], kv.lease), (1, &b""[..], 0));
}
