//! Pure. Puts, deletes, compaction, replay, cluster facts.

use super::build::*;
use super::*;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::*;

// Catches: quirk 15 (a fresh store is at 1, the first write gives 2) and the put rules of 1.1.
#[test]
fn put_rules() {
    let mut world = World::new();
    assert_eq!(world.machine.store().current(), 1);
    let prev = PutRequest {
        prev_kv: true,
        ..put("k", "1")
    };
    let answer: PutResponse = world.answer(Kind::Put, &prev).unwrap();
    assert_eq!((revision_of(&answer.header), answer.prev_kv), (2, None));
    let header = answer.header.unwrap();
    assert_eq!(
        (header.cluster_id, header.member_id, header.raft_term),
        (1, 2, 3)
    );
    let prev = PutRequest {
        prev_kv: true,
        ..put("k", "2")
    };
    let before = world
        .answer::<_, PutResponse>(Kind::Put, &prev)
        .unwrap()
        .prev_kv
        .unwrap();
    assert_eq!(
        (&before.value[..], before.version, before.mod_revision),
        (&b"1"[..], 1, 2)
    );

    let keep = PutRequest {
        ignore_value: true,
        ..put("k", "")
    };
    world.call(Kind::Put, &keep).unwrap();
    let view = world.machine.store().view();
    let kv = crate::pb::mvccpb::KeyValue::decode(view.kv(b"k").unwrap().unwrap()).unwrap();
    assert_eq!(
        (&kv.value[..], kv.version, kv.create_revision),
        (&b"2"[..], 3, 2)
    );

    for request in [
        PutRequest {
            ignore_value: true,
            ..put("none", "")
        },
        PutRequest {
            ignore_lease: true,
            ..put("none", "v")
        },
    ] {
        assert_eq!(
            world.call(Kind::Put, &request),
            Err(ApplyError::KeyNotFound)
        );
    }
    let unknown = PutRequest {
        lease: 5,
        ..put("none", "")
    };
    assert_eq!(
        world.call(Kind::Put, &unknown),
        Err(ApplyError::LeaseNotFound)
    );
    // Alone the lease is looked at first, in a transaction the key.
    let both = PutRequest {
        lease: 5,
        ignore_value: true,
        ..put("none", "")
    };
    assert_eq!(world.call(Kind::Put, &both), Err(ApplyError::LeaseNotFound));
    let txn = then(vec![op(Request::RequestPut(both))]);
    assert_eq!(world.call(Kind::Txn, &txn), Err(ApplyError::LeaseNotFound));
    assert_eq!(
        world.machine.store().current(),
        4,
        "refused puts take no revision"
    );
}

// Catches: delete answers, and a revision taken by a delete of nothing.
#[test]
fn delete_rules() {
    let mut world = World::new();
    for key in ["a", "b", "c"] {
        world.call(Kind::Put, &put(key, key)).unwrap();
    }
    let none: DeleteRangeResponse = world.answer(Kind::DeleteRange, &delete("x", "")).unwrap();
    assert_eq!((none.deleted, revision_of(&none.header)), (0, 4));
    let inverted: DeleteRangeResponse = world.answer(Kind::DeleteRange, &delete("c", "a")).unwrap();
    assert_eq!(inverted.deleted, 0);
    let all = DeleteRangeRequest {
        prev_kv: true,
        ..delete("b", "\0")
    };
    let answer: DeleteRangeResponse = world.answer(Kind::DeleteRange, &all).unwrap();
    assert_eq!((answer.deleted, revision_of(&answer.header)), (2, 5));
    let values: Vec<&[u8]> = answer.prev_kvs.iter().map(|kv| &kv.value[..]).collect();
    assert_eq!(values, [b"b", b"c"]);
}

// Catches: compaction answers (1.1): compacted and future revisions, the header's revision.
#[test]
fn compact_rules() {
    let mut world = World::new();
    let compact = |revision| CompactionRequest {
        revision,
        physical: true,
    };
    let refused = |asked, compacted| Err(ApplyError::Compacted { asked, compacted });
    assert_eq!(world.call(Kind::Compact, &compact(-1)), refused(-1, -1));
    assert_eq!(world.call(Kind::Compact, &compact(-3)), refused(-3, -1));
    // As a real etcd does: above "never compacted" is revision 0, once.
    let done = Ok(Response::Compact { revision: 1 });
    assert_eq!(world.call(Kind::Compact, &compact(0)), done);
    assert_eq!(world.call(Kind::Compact, &compact(0)), refused(0, 0));
    for _ in 0..3 {
        world.call(Kind::Put, &put("k", "v")).unwrap();
    }
    let future = Err(ApplyError::FutureRevision {
        asked: 5,
        current: 4,
    });
    assert_eq!(world.call(Kind::Compact, &compact(5)), future);
    let outcome = world.apply(Kind::Compact, &compact(3).encode_to_vec());
    assert_eq!(outcome.result, Ok(Response::Compact { revision: 4 }));
    assert_eq!(outcome.compacted, Some(3));
    assert_eq!(world.call(Kind::Compact, &compact(3)), refused(3, 3));
}

// Catches: entries applied twice, and entries of raft that hold up the consistent index.
#[test]
fn entries_below_the_consistent_index_are_skipped() {
    let mut world = World::new();
    world.call(Kind::Put, &put("k", "v")).unwrap();
    let entry = world.log[0].clone();
    assert!(
        world
            .machine
            .apply(LogIndex(1), Term(1), &entry, world.now)
            .unwrap()
            .is_none()
    );
    assert_eq!(world.machine.store().current(), 2);
    world.machine.advance(LogIndex(2), Term(4));
    assert_eq!(world.machine.consistent(), (LogIndex(2), Term(4)));
    world.machine.advance(LogIndex(1), Term(1));
    assert_eq!(world.machine.consistent(), (LogIndex(2), Term(4)));
    world.commit();
    world.log.push(Vec::new());
    world.restart();
    assert_eq!(world.machine.consistent(), (LogIndex(2), Term(4)));
}

// Catches: facts about the cluster that do not survive, and a removed member that comes back.
#[test]
fn cluster_facts() {
    let mut world = World::new();
    assert_eq!(world.machine.cluster_version().unwrap(), None);
    world.apply(Kind::ClusterVersion, b"3.7.0").result.unwrap();
    let info = DowngradeInfo {
        enabled: true,
        target_version: "3.6.0".into(),
    };
    world.call(Kind::Downgrade, &info).unwrap();
    let member = Member {
        id: 7,
        peer_urls: vec!["http://p".into()],
        ..Member::default()
    };
    world.call(Kind::MemberSet, &member).unwrap();
    let started = Member {
        id: 7,
        name: "n".into(),
        client_urls: vec!["http://c".into()],
        ..Member::default()
    };
    world.call(Kind::MemberAttributes, &started).unwrap();
    world
        .call(
            Kind::MemberAttributes,
            &Member {
                id: 8,
                ..started.clone()
            },
        )
        .unwrap();
    world.commit();
    world.restart();
    assert_eq!(
        world.machine.cluster_version().unwrap().as_deref(),
        Some("3.7.0")
    );
    assert_eq!(world.machine.downgrade().unwrap(), info);
    let expected = Member {
        peer_urls: member.peer_urls.clone(),
        ..started
    };
    assert_eq!(world.machine.members().unwrap(), [expected]);
    world
        .call(Kind::MemberRemove, &MemberRemoveRequest { id: 7 })
        .unwrap();
    assert_eq!(world.machine.members().unwrap(), []);
    assert!(world.machine.was_removed(MemberId(7)).unwrap());
    assert!(!world.machine.was_removed(MemberId(8)).unwrap());
}
