//! Pure. Random entries against a naive etcd, and against another run of the same log.

use super::leases::check_attachments;
use super::model::Model;
use super::*;
use crate::mvcc::HashScan;
use crate::pb::etcdserverpb::TxnResponse;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::*;

fn key(random: &mut Random) -> Bytes {
    Bytes::from(vec![b'a' + random.below(6) as u8])
}

fn end(random: &mut Random) -> Bytes {
    match random.below(4) {
        0 | 1 => Bytes::new(),
        2 => Bytes::from_static(b"\0"),
        _ => Bytes::from(vec![b'a' + random.below(8) as u8]),
    }
}

fn put(random: &mut Random) -> PutRequest {
    let ignore_value = random.below(8) == 0;
    let ignore_lease = random.below(8) == 0;
    PutRequest {
        key: key(random),
        value: match ignore_value {
            true => Bytes::new(),
            false => Bytes::from(vec![b'v'; random.below(9) as usize]),
        },
        lease: match random.below(3) {
            _ if ignore_lease => 0,
            0 => 1 + random.below(4) as i64,
            _ => 0,
        },
        prev_kv: random.below(2) == 0,
        ignore_value,
        ignore_lease,
    }
}

fn delete(random: &mut Random) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key(random),
        range_end: end(random),
        prev_kv: random.below(2) == 0,
    }
}

fn range(random: &mut Random, current: i64) -> RangeRequest {
    RangeRequest {
        key: key(random),
        range_end: end(random),
        limit: random.below(4) as i64,
        revision: match random.below(3) {
            0 => (current + 1 - random.below(10) as i64).max(-2),
            _ => 0,
        },
        keys_only: random.below(4) == 0,
        count_only: random.below(4) == 0,
        ..RangeRequest::default()
    }
}

fn compare(random: &mut Random, current: i64) -> Compare {
    let number = random.below(3) as i64;
    let revision = current - number;
    let (target, union) = match random.below(5) {
        0 => (CompareTarget::Version, TargetUnion::Version(number)),
        1 => (CompareTarget::Create, TargetUnion::CreateRevision(revision)),
        2 => (CompareTarget::Mod, TargetUnion::ModRevision(revision)),
        3 => (
            CompareTarget::Value,
            TargetUnion::Value(Bytes::from_static(b"vvvv")),
        ),
        _ => (CompareTarget::Lease, TargetUnion::Lease(number)),
    };
    let result = [
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
    ][random.below(4) as usize];
    Compare {
        result: result as i32,
        target: target as i32,
        key: key(random),
        range_end: end(random),
        target_union: Some(union),
    }
}

fn ops(random: &mut Random, current: i64, depth: u64) -> Vec<RequestOp> {
    let op = |random: &mut Random| match random.below(4 + depth) {
        0 => Request::RequestRange(range(random, current)),
        1 | 2 => Request::RequestPut(put(random)),
        3 => Request::RequestDeleteRange(delete(random)),
        _ => Request::RequestTxn(txn(random, current, depth - 1)),
    };
    (0..random.below(4))
        .map(|_| RequestOp {
            request: Some(op(random)),
        })
        .collect()
}

fn txn(random: &mut Random, current: i64, depth: u64) -> TxnRequest {
    TxnRequest {
        compare: (0..random.below(3))
            .map(|_| compare(random, current))
            .collect(),
        success: ops(random, current, depth),
        failure: ops(random, current, depth),
    }
}

/// The model does not know who answers.
fn header_of_model(header: &mut Option<ResponseHeader>) {
    let header = header.as_mut().expect("a header");
    (header.cluster_id, header.member_id, header.raft_term) = (1, 2, 3);
}

fn step(world: &mut World, model: &mut Model, random: &mut Random) {
    let current = model.current();
    match random.below(12) {
        0 | 1 => {
            let request = put(random);
            let mut expected = model.put(&request);
            if let Ok(expected) = &mut expected {
                header_of_model(&mut expected.header);
            }
            assert_eq!(
                world.answer::<_, PutResponse>(Kind::Put, &request),
                expected
            );
        }
        2 => {
            let request = delete(random);
            let mut expected = model.delete(&request);
            header_of_model(&mut expected.header);
            let got = world.answer::<_, DeleteRangeResponse>(Kind::DeleteRange, &request);
            assert_eq!(got, Ok(expected));
        }
        3 => {
            let id = 1 + random.below(4) as i64;
            let fresh = model.leases.insert(id);
            let got = world.call(Kind::LeaseGrant, &LeaseGrantRequest { id, ttl: 60 });
            assert_eq!(got.is_ok(), fresh);
        }
        4 if random.below(2) == 0 => {
            let id = 1 + random.below(4) as i64;
            let expected = model.revoke(id);
            let revision = model.current();
            let got = world.call(Kind::LeaseRevoke, &LeaseRevokeRequest { id });
            assert_eq!(got, expected.map(|()| Response::LeaseRevoke { revision }));
        }
        5 if random.below(4) == 0 => {
            let revision = current + 1 - random.below(12) as i64;
            let expected = model.compact(revision);
            let got = world.call(
                Kind::Compact,
                &CompactionRequest {
                    revision,
                    physical: false,
                },
            );
            assert_eq!(
                got,
                expected.map(|()| Response::Compact { revision: current })
            );
        }
        _ => {
            let request = txn(random, current, 2);
            if validate::txn(&request, 128).is_err() {
                return;
            }
            if validate::txn_is_read_only(&request) {
                // From a view the answer is the same as through the log.
                let view = world.machine.store().view();
                let got = read_txn(&request, &view).map(Response::Txn);
                let logged = world.call(Kind::Txn, &request);
                assert_eq!(got, logged.map_err(ReadTxnError::Refused));
            }
            let mut expected = model.txn(&request);
            if let Ok(expected) = &mut expected {
                header_of_model(&mut expected.header);
            }
            let got = world.answer::<_, TxnResponse>(Kind::Txn, &request);
            assert_eq!(got, expected, "{request:?}");
        }
    }
    assert_eq!(world.machine.store().current(), model.current());
}

// Catches: any answer, error or revision that differs from a naive etcd, with commits, compaction
// and restarts at random places between.
#[test]
fn answers_are_those_of_a_naive_etcd() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut world = World::new();
        let mut model = Model::new();
        for _ in 0..700 {
            step(&mut world, &mut model, &mut random);
            match random.below(40) {
                0 => world.commit(),
                1 => world.finish_compaction(),
                2 => {
                    let _ = world.machine.store_mut().compact_slice(3).expect("whole");
                }
                3 if random.below(3) == 0 => world.restart(),
                _ => {}
            }
        }
        check_attachments(&mut world);
    }
}

// Catches: state that depends on when commits, compaction slices and restarts fell: the same log
// must give the same file contents and the same hash.
#[test]
fn the_same_log_gives_the_same_state() {
    for seed in 100..106 {
        let mut random = Random(seed);
        let mut first = World::new();
        let mut model = Model::new();
        for _ in 0..400 {
            step(&mut first, &mut model, &mut random);
        }
        let log = first.log.clone();
        let expected = first.contents();
        let hash = hash_of(&first);
        for _ in 0..3 {
            let mut other = World::new();
            for entry in &log {
                other.apply_entry(entry.clone());
                match random.below(30) {
                    0 => other.commit(),
                    1 => other.finish_compaction(),
                    2 => other.restart(),
                    3 => {
                        other.commit();
                        other.restart();
                    }
                    _ => {}
                }
            }
            assert_eq!(hash_of(&other), hash);
            assert_eq!(other.contents(), expected);
        }
    }
}

fn hash_of(world: &World) -> u32 {
    let mut scan = HashScan::new(world.machine.store().view(), 0).expect("the newest is readable");
    while scan.slice(100).expect("whole") == crate::mvcc::Progress::More {}
    scan.hash().hash
}
