//! Driver. Leases end in virtual time, in the order of the log.

use super::rig::{Rig, all};
use crate::apply::{ApplyError, Kind, quota};
use crate::group::{Answer, Query};
use crate::ids::LeaseId;
use crate::pb::etcdserverpb::{AlarmRequest, LeaseGrantRequest};
use std::time::Duration;

fn renewed(rig: &mut Rig, id: i64) -> i64 {
    let ticket = rig.ask(Query::LeaseRenew(LeaseId(id)));
    match rig.wait(ticket) {
        Answer::Renewed { ttl, .. } => ttl,
        other => panic!("{other:?} instead of a renewal"),
    }
}

fn put_with_lease(rig: &mut Rig, key: &str, lease: i64) {
    let ticket = rig.propose_put(key, b"v", lease);
    rig.applied(ticket).0.expect("the lease lives");
}

// Would catch: a lease that ends early, late or never, one that ends although it is renewed, keys
// that outlive their lease, more than one revision for the keys of one lease.
#[test]
fn a_lease_ends_with_its_keys() {
    let mut rig = Rig::quiet(1).opened();
    rig.grant(1, 5);
    rig.grant(2, 5);
    for key in ["a", "b", "c"] {
        put_with_lease(&mut rig, key, 1);
    }
    put_with_lease(&mut rig, "d", 2);
    rig.put("e", b"v");
    rig.run_for(Duration::from_millis(3_000));
    assert_eq!(renewed(&mut rig, 2), 5);
    rig.run_for(Duration::from_millis(1_800));
    assert_eq!(all(&rig.view().0).len(), 5, "not before its end");
    let before = rig.view().0.revision();
    rig.run_for(Duration::from_millis(500));
    let (view, _) = rig.view();
    let keys: Vec<_> = all(&view).into_iter().map(|kv| kv.key).collect();
    assert_eq!(keys, ["d", "e"]);
    assert_eq!(view.revision(), before + 1);
    rig.run_for(Duration::from_secs(4));
    assert_eq!(rig.value("d"), None);
    assert_eq!(rig.value("e").as_deref(), Some(&b"v"[..]));
    let ticket = rig.ask(Query::Leases);
    assert!(matches!(rig.wait(ticket), Answer::Leases(ids, _) if ids.is_empty()));
}

// Would catch: a renewal in a lease's last moments that revives it, is answered before the keys are
// gone, or is never answered.
#[test]
fn a_renewal_of_an_ended_lease_waits_for_the_revoke() {
    let mut rig = Rig::quiet(2).opened();
    rig.grant(1, 2);
    put_with_lease(&mut rig, "key", 1);
    // To just behind the end, and before the group's clock has looked.
    let end = rig.world.elapsed() + Duration::from_secs(2);
    let slow = Duration::from_millis(30);
    rig.world.set_disk_time(super::rig::NODE, slow, slow);
    let mut asked = None;
    rig.wait_until(|rig| {
        let core = rig.life().group.shared.core.borrow();
        !core.revoking.is_empty() || rig.world.elapsed() > end + Duration::from_secs(1)
    });
    for _ in 0..3 {
        asked = Some(rig.ask(Query::LeaseRenew(LeaseId(1))));
    }
    rig.run_for(Duration::from_micros(200));
    let asked = asked.expect("three times");
    assert!(!rig.is_answered(asked), "the revoke is not durable yet");
    assert!(rig.with_store(|store| store.view().kv(b"key").unwrap().is_some()));
    match rig.wait(asked) {
        Answer::Renewed { id, ttl, stamp } => {
            assert_eq!((id, ttl), (LeaseId(1), 0));
            assert_eq!(stamp.revision, 3, "the key's delete is in");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.value("key"), None);
    assert_eq!(renewed(&mut rig, 1), 0, "afterwards at once");
}

// Would catch: expiry that takes one lease at a time, or one batch per round trip of the disk.
#[test]
fn ten_thousand_leases_end_within_a_second() {
    const COUNT: i64 = 10_000;
    let mut rig = Rig::quiet(3).opened();
    let mut last = None;
    for id in 1..=COUNT {
        let request = LeaseGrantRequest { id, ttl: 10 };
        let ticket = rig.propose(Kind::LeaseGrant, &request, quota::lease_cost());
        last = Some(ticket);
        if id % 1000 == 0 {
            rig.applied(ticket).0.expect("a new lease");
        }
        if id % 10 == 0 {
            last = Some(rig.propose_put(&format!("k{id}"), b"v", id));
        }
    }
    rig.wait(last.expect("many"));
    assert_eq!(all(&rig.view().0).len() as i64, COUNT / 10);
    rig.run_for(Duration::from_secs(11));
    let ticket = rig.ask(Query::Leases);
    let Answer::Leases(left, _) = rig.wait(ticket) else {
        panic!("no leases");
    };
    assert_eq!(left.len(), 0);
    assert_eq!(all(&rig.view().0).len(), 0);
    let core = rig.life().group.shared.core.borrow();
    assert!(core.revoking.is_empty() && core.pending.is_empty());
}

// Would catch: leases that a restart forgets, ends at once, or never ends.
#[test]
fn leases_live_on_after_a_restart() {
    let mut rig = Rig::new(4).opened();
    rig.grant(1, 10);
    put_with_lease(&mut rig, "key", 1);
    rig.run_for(Duration::from_secs(8));
    rig.restart();
    rig.run_for(Duration::from_secs(8));
    // A new leader gives each its full time and an election's more.
    assert!(rig.value("key").is_some());
    rig.run_for(Duration::from_secs(4));
    assert_eq!(rig.value("key"), None);
    rig.restart();
    assert_eq!(rig.value("key"), None);
    assert_eq!(renewed(&mut rig, 1), 0);
}

// Would catch: revocations that an alarm refused and that count as under way for ever: with enough
// of them no lease would end any more.
#[test]
fn a_refused_revocation_is_not_under_way() {
    use crate::pb::etcdserverpb::{AlarmType, alarm_request::AlarmAction};
    let mut rig = Rig::quiet(5).opened();
    rig.grant(1, 3);
    let mut alarm = AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: 7,
        alarm: AlarmType::Corrupt as i32,
    };
    let ticket = rig.propose(Kind::Alarm, &alarm, 0);
    rig.applied(ticket).0.expect("an alarm");
    rig.run_for(Duration::from_secs(5));
    let put = rig.propose_put("key", b"v", 0);
    assert_eq!(rig.applied(put).0, Err(ApplyError::CorruptCluster));
    assert!(rig.life().group.shared.core.borrow().revoking.is_empty());
    alarm.action = AlarmAction::Deactivate as i32;
    let ticket = rig.propose(Kind::Alarm, &alarm, 0);
    rig.applied(ticket).0.expect("an alarm");
    rig.run_for(Duration::from_secs(4));
    assert_eq!(renewed(&mut rig, 1), 0);
}
