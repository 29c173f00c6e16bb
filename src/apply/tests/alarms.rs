//! Pure. Alarms and the quota.

use super::build::*;
use super::*;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::*;

fn alarm(action: AlarmAction, member_id: u64, alarm: AlarmType) -> AlarmRequest {
    AlarmRequest {
        action: action as i32,
        member_id,
        alarm: alarm as i32,
    }
}

// Catches: alarm answers, and an alarm that a restart forgets.
#[test]
fn alarms_survive_and_answer() {
    let mut world = World::new();
    let alarms = |world: &mut World, request: AlarmRequest| {
        let answer: AlarmResponse = world.answer(Kind::Alarm, &request).unwrap();
        answer
            .alarms
            .iter()
            .map(|a| (a.member_id, a.alarm))
            .collect::<Vec<_>>()
    };
    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmType::{Corrupt, None, Nospace};
    assert_eq!(alarms(&mut world, alarm(Activate, 7, None)), []);
    assert_eq!(alarms(&mut world, alarm(Activate, 7, Nospace)), [(7, 1)]);
    assert_eq!(alarms(&mut world, alarm(Activate, 7, Nospace)), [(7, 1)]);
    assert_eq!(alarms(&mut world, alarm(Activate, 8, Corrupt)), [(8, 2)]);
    world.commit();
    world.restart();
    assert_eq!(alarms(&mut world, alarm(Get, 0, None)), [(7, 1), (8, 2)]);
    assert_eq!(alarms(&mut world, alarm(Get, 0, Corrupt)), [(8, 2)]);
    assert_eq!(alarms(&mut world, alarm(Deactivate, 9, Corrupt)), []);
    assert_eq!(alarms(&mut world, alarm(Deactivate, 8, Corrupt)), [(8, 2)]);
    assert_eq!(world.machine.alarms().list(Option::None).len(), 1);
}

// Catches: a request that an alarm must refuse and does not, or the reverse (section 8).
#[test]
fn alarms_refuse_requests() {
    let mut world = World::new();
    world.call(Kind::Put, &put("k", "v")).unwrap();
    world.call(Kind::Put, &put("k", "w")).unwrap();
    grant(&mut world, 3, 60).unwrap();
    world
        .call(
            Kind::Alarm,
            &alarm(AlarmAction::Activate, 1, AlarmType::Nospace),
        )
        .unwrap();
    let no_space = Err(ApplyError::NoSpace);
    assert_eq!(world.call(Kind::Put, &put("k", "v")), no_space);
    assert_eq!(
        grant(&mut world, 4, 60).map(|_| ()),
        Err(ApplyError::NoSpace)
    );
    assert_eq!(
        world.call(Kind::Txn, &then(vec![op_put("k", "")])),
        no_space
    );
    let unlikely = TxnRequest {
        failure: vec![op_put("k", "")],
        ..TxnRequest::default()
    };
    assert_eq!(
        world.call(Kind::Txn, &unlikely),
        no_space,
        "either branch counts"
    );
    let nested = then(vec![op_txn(then(vec![op_put("k", "")]))]);
    assert_eq!(
        world.call(Kind::Txn, &nested),
        no_space,
        "nested puts count since 3.7.1"
    );
    world
        .call(Kind::Txn, &then(vec![op_delete("x", "")]))
        .unwrap();
    world.call(Kind::DeleteRange, &delete("k", "")).unwrap();
    world
        .call(
            Kind::Compact,
            &CompactionRequest {
                revision: 2,
                physical: false,
            },
        )
        .unwrap();
    world
        .call(Kind::LeaseRevoke, &LeaseRevokeRequest { id: 3 })
        .unwrap();
    world
        .call(
            Kind::Alarm,
            &alarm(AlarmAction::Deactivate, 1, AlarmType::Nospace),
        )
        .unwrap();
    world.call(Kind::Put, &put("k", "v")).unwrap();

    world
        .call(
            Kind::Alarm,
            &alarm(AlarmAction::Activate, 1, AlarmType::Corrupt),
        )
        .unwrap();
    let corrupt = Err(ApplyError::CorruptCluster);
    assert_eq!(world.call(Kind::Put, &put("k", "v")), corrupt);
    assert_eq!(world.call(Kind::DeleteRange, &delete("k", "")), corrupt);
    assert_eq!(world.call(Kind::Txn, &TxnRequest::default()), corrupt);
    let compact = CompactionRequest {
        revision: 3,
        physical: false,
    };
    assert_eq!(world.call(Kind::Compact, &compact), corrupt);
    assert_eq!(
        world.call(Kind::LeaseRevoke, &LeaseRevokeRequest { id: 3 }),
        corrupt
    );
    world
        .call(
            Kind::Alarm,
            &alarm(AlarmAction::Deactivate, 1, AlarmType::Corrupt),
        )
        .unwrap();
    world.call(Kind::Put, &put("k", "v")).unwrap();
}

// Catches: a put past the quota that is not applied (members would differ), or not refused.
#[test]
fn the_quota_tells_but_applies() {
    let quota_bytes = 64 << 10;
    let mut world = World::with(MachineOptions {
        quota_bytes,
        ..MachineOptions::default()
    });
    world.call(Kind::Put, &put("small", "v")).unwrap();
    assert!(!world.machine.has_room(quota::put_cost(b"k", &[0; 65_000])));
    let large = "v".repeat(65_000);
    let outcome = world.apply(Kind::Put, &put("large", &large).encode_to_vec());
    assert_eq!(outcome.result, Err(ApplyError::NoSpace));
    assert!(outcome.raise_no_space && outcome.changes.is_some());
    assert!(
        world
            .machine
            .store()
            .view()
            .meta(b"large")
            .unwrap()
            .is_some()
    );
    let unknown = PutRequest {
        lease: 5,
        ..put("k", &large)
    };
    let outcome = world.apply(Kind::Put, &unknown.encode_to_vec());
    assert_eq!(outcome.result, Err(ApplyError::LeaseNotFound));
    assert!(!outcome.raise_no_space);
    let off = quota::Quota::new(-1);
    assert!(off.has_room(u64::MAX, u64::MAX));
    assert_eq!(quota::Quota::new(0).bytes(), 2 << 30);
}
