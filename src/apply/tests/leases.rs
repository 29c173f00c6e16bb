//! Pure. Leases and the keys that hang on them.

use super::build::*;
use super::*;
use crate::ids::LeaseId;
use crate::lease::record::split_attachment;
use crate::pb::etcdserverpb::*;
use std::time::Duration;

// Catches: quirk 16 (a put without lease detaches), attachments that do not follow the keys.
#[test]
fn attachments_follow_puts_and_deletes() {
    let mut world = World::new();
    grant(&mut world, 5, 60).unwrap();
    grant(&mut world, 6, 60).unwrap();
    let keys = |world: &World, id| {
        let keys = world.machine.lease_keys(LeaseId(id)).unwrap();
        keys.iter()
            .map(|key| String::from_utf8(key.to_vec()).unwrap())
            .collect::<Vec<_>>()
    };
    for key in ["b", "a", "c"] {
        world
            .call(
                Kind::Put,
                &PutRequest {
                    lease: 5,
                    ..put(key, "v")
                },
            )
            .unwrap();
    }
    assert_eq!(keys(&world, 5), ["a", "b", "c"]);
    world
        .call(
            Kind::Put,
            &PutRequest {
                lease: 6,
                ..put("b", "v")
            },
        )
        .unwrap();
    world.call(Kind::Put, &put("c", "v")).unwrap();
    world
        .call(
            Kind::Put,
            &PutRequest {
                ignore_lease: true,
                ..put("a", "w")
            },
        )
        .unwrap();
    assert_eq!(
        (keys(&world, 5), keys(&world, 6)),
        (vec!["a".into()], vec!["b".into()])
    );
    world.commit();
    world.restart();
    assert_eq!(
        (keys(&world, 5), keys(&world, 6)),
        (vec!["a".into()], vec!["b".into()])
    );
    world.call(Kind::DeleteRange, &delete("a", "z")).unwrap();
    assert!(keys(&world, 5).is_empty() && keys(&world, 6).is_empty());
}

// Catches: a lease with its keys that does not end as a whole, in one revision, keys sorted.
#[test]
fn revoke_deletes_attached_keys_in_one_revision() {
    let mut world = World::new();
    grant(&mut world, 5, 60).unwrap();
    let large = "k".repeat(5000);
    for key in ["b", "a", &large] {
        world
            .call(
                Kind::Put,
                &PutRequest {
                    lease: 5,
                    ..put(key, "v")
                },
            )
            .unwrap();
    }
    world.call(Kind::Put, &put("other", "v")).unwrap();
    world.commit();
    world.restart();
    let outcome = world.apply(
        Kind::LeaseRevoke,
        &LeaseRevokeRequest { id: 5 }.encode_to_vec(),
    );
    assert_eq!(outcome.result, Ok(Response::LeaseRevoke { revision: 6 }));
    assert_eq!(outcome.revoked, Some(LeaseId(5)));
    let changes = outcome.changes.unwrap().changes;
    let gone: Vec<_> = changes
        .iter()
        .map(|c| (c.revision.main, c.revision.sub))
        .collect();
    assert_eq!(gone, [(6, 0), (6, 1), (6, 2)]);
    let order: Vec<&[u8]> = changes.iter().map(|c| &c.key[..]).collect();
    assert_eq!(order, [b"a", b"b", large.as_bytes()]);
    assert!(
        world
            .machine
            .store()
            .view()
            .meta(b"other")
            .unwrap()
            .is_some()
    );
    let revoke = LeaseRevokeRequest { id: 5 };
    assert_eq!(
        world.call(Kind::LeaseRevoke, &revoke),
        Err(ApplyError::LeaseNotFound)
    );
    grant(&mut world, 7, 60).unwrap();
    let outcome = world.apply(
        Kind::LeaseRevoke,
        &LeaseRevokeRequest { id: 7 }.encode_to_vec(),
    );
    assert_eq!(
        outcome.result,
        Ok(Response::LeaseRevoke { revision: 6 }),
        "no key, no revision"
    );
    assert!(outcome.changes.is_none());
    let leftover = world.contents();
    let small = [schema::LEASE.0, schema::LEASE_KEYS.0];
    assert!(
        leftover.iter().all(|(bucket, ..)| !small.contains(bucket)),
        "buckets are empty"
    );
}

// Catches: grant answers and errors (1.3, quirk 6), and a lease that a restart changes.
#[test]
fn lease_rules() {
    let mut world = World::new();
    let answer = grant(&mut world, 5, 1).unwrap();
    assert_eq!(
        (answer.id, answer.ttl, revision_of(&answer.header)),
        (5, 2, 1)
    );
    assert_eq!(grant(&mut world, 5, 60), Err(ApplyError::LeaseExists));
    assert_eq!(grant(&mut world, 0, 60), Err(ApplyError::LeaseNotFound));
    assert_eq!(
        grant(&mut world, 6, 9_000_000_001),
        Err(ApplyError::LeaseTtlTooLarge)
    );
    grant(&mut world, 6, 600).unwrap();
    let checkpoint = LeaseCheckpointRequest {
        checkpoints: vec![
            LeaseCheckpoint {
                id: 6,
                remaining_ttl: 100,
            },
            LeaseCheckpoint {
                id: 99,
                remaining_ttl: 100,
            },
        ],
    };
    world.call(Kind::LeaseCheckpoint, &checkpoint).unwrap();
    world.commit();
    world.restart();
    world
        .machine
        .lessor_mut()
        .promote(world.now, Duration::ZERO);
    let remaining = |id| world.machine.lessor().remaining(LeaseId(id), world.now);
    assert_eq!(remaining(5), Some(Duration::from_secs(2)));
    assert_eq!(remaining(6), Some(Duration::from_secs(100)));
    assert_eq!(remaining(7), None);
}

// Catches: attachments in the tree that no key has, or the reverse; used by the random test too.
pub(super) fn check_attachments(world: &mut World) {
    let contents = world.contents();
    let attached: Vec<(LeaseId, Vec<u8>)> = contents
        .iter()
        .filter(|(bucket, ..)| *bucket == schema::LEASE_KEYS.0)
        .map(|(_, entry, _)| split_attachment(entry).unwrap())
        .map(|(id, key)| (id, key.to_vec()))
        .collect();
    let view = world.machine.store().view();
    for (id, key) in &attached {
        let meta = view.meta(key).unwrap().expect("an attached key lives");
        assert_eq!(meta.lease, *id);
        assert!(world.machine.lessor().exists(*id));
    }
    let mut all = Vec::new();
    let spec = crate::mvcc::RangeSpec {
        key: Bytes::from_static(b"\0"),
        end: crate::mvcc::RangeEnd::FromKey,
        ..Default::default()
    };
    let mut scan = crate::mvcc::RangeScan::new(view, spec).unwrap();
    scan.slice(usize::MAX, &mut all).unwrap();
    let leased = all
        .iter()
        .filter(|kv| crate::pb::mvccpb::KeyValue::decode(&kv[..]).unwrap().lease != 0)
        .count();
    assert_eq!(leased, attached.len(), "each leased key is attached");
}
