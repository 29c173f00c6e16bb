//! Driver. Compaction, giving space back, the quota.

use super::rig::Rig;
use crate::apply::{ApplyError, Kind};
use crate::group::{Answer, Query, Ticket};
use crate::pb::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
use std::time::Duration;

fn fill(rig: &mut Rig, keys: u64, rounds: u64, size: usize) -> i64 {
    let mut last = None;
    for round in 0..rounds {
        for key in 0..keys {
            last = Some(rig.propose_put(&format!("key/{key:04}"), &vec![round as u8; size], 0));
        }
        rig.wait_until(|rig| last.is_some_and(|ticket| rig.is_answered(ticket)));
    }
    let last: Ticket = last.expect("some puts");
    rig.applied(last).0.expect("allowed").revision()
}

// Would catch: a physical compaction that is answered when it is decided, or carried out in memory
// only: right behind the answer the power goes, and the tree file alone must show it.
#[test]
fn a_physical_compaction_is_answered_from_the_file() {
    for seed in 0..20 {
        let mut rig = Rig::new(seed).opened();
        let revision = fill(&mut rig, 50, 6, 100);
        let ticket = rig.propose_compaction(revision, true);
        assert!(rig.applied(ticket).0.is_ok());
        rig.restart();
        assert_eq!(rig.life().tree_compacted, revision, "seed {seed}");
    }
}

// Would catch: a logical compaction that waits for its work; reads below it that are allowed; a
// restart in the midst of the work that forgets the rest.
#[test]
fn a_compaction_goes_on_after_a_restart() {
    let mut rig = Rig::quiet(1).opened();
    let revision = fill(&mut rig, 300, 10, 20);
    let ticket = rig.propose_compaction(revision, false);
    assert!(rig.applied(ticket).0.is_ok());
    assert!(
        rig.with_store(|store| store.compact_pending()),
        "only begun"
    );
    let ticket = rig.propose_compaction(revision, false);
    let (asked, compacted) = (revision, revision);
    let refused = ApplyError::Compacted { asked, compacted };
    assert_eq!(rig.applied(ticket).0, Err(refused));
    rig.restart();
    rig.view();
    rig.run_for(Duration::from_secs(1));
    let finished = rig.with_store(|store| store.compact_finished());
    assert_eq!(finished, revision);
    assert_eq!(rig.view().0.compacted(), revision);
}

// Would catch: a physical compaction that waits for a moment without writes, which a busy store
// does not have.
#[test]
fn a_physical_compaction_is_answered_under_load() {
    for seed in 0..20 {
        let mut rig = Rig::new(seed).opened();
        let revision = fill(&mut rig, 50, 4, 100);
        let ticket = rig.propose_compaction(revision, true);
        let mut commits = std::collections::BTreeSet::new();
        while !rig.is_answered(ticket) {
            for key in 0..5 {
                rig.propose_put(&format!("key/{key:04}"), &[1; 100], 0);
            }
            rig.run_for(Duration::from_micros(50));
            rig.with_store(|store| {
                if store.compact_finished() >= revision && !store.compact_pending() {
                    commits.insert(store.durable());
                }
            });
            // The one that was under way, and the one that took the work along.
            assert!(
                commits.len() <= 3,
                "seed {seed}: still not after {commits:?}"
            );
        }
    }
}

// Would catch: a defragmentation that is not answered, gives nothing back, or loses something.
#[test]
fn a_defragmentation_shrinks_the_file() {
    let mut rig = Rig::new(3);
    rig.options.policy.buffered_bytes = 1 << 20;
    rig.options.policy.log_bytes = 1 << 20;
    rig.wal.segment_bytes = 1 << 20;
    let mut rig = rig.opened();
    fill(&mut rig, 2_000, 4, 1_000);
    rig.commit();
    let revision = rig.delete("key/0010", "key/9999");
    let ticket = rig.propose_compaction(revision, true);
    rig.applied(ticket).0.expect("a first compaction");
    let before = rig.with_store(|store| store.size_bytes());
    let ticket = rig.ask(Query::Defragment);
    assert!(matches!(rig.wait(ticket), Answer::Defragmented));
    let after = rig.with_store(|store| (store.size_bytes(), store.in_use_bytes()));
    assert!(after.0 < before / 4, "{before} bytes, {after:?} afterwards");
    rig.with_store(|store| store.backend().tree().check())
        .expect("a whole tree");
    rig.restart();
    assert_eq!(rig.with_store(|store| store.size_bytes()), after.0);
    assert_eq!(super::rig::all(&rig.view().0).len(), 10);
    // With nothing to give back it is answered as well.
    let ticket = rig.ask(Query::Defragment);
    assert!(matches!(rig.wait(ticket), Answer::Defragmented));
}

// Would catch: work that waits for a reader's end and keeps others waiting: a compaction, a stop;
// commits without end while it waits.
#[test]
fn a_pinned_defragmentation_holds_nobody_up() {
    let mut rig = Rig::new(5).opened();
    fill(&mut rig, 1_000, 3, 1_000);
    rig.commit();
    let (kept, _) = rig.view();
    let before = super::rig::hash(&kept, 0);
    let revision = rig.delete("key/0010", "key/9999");
    let ticket = rig.propose_compaction(revision, true);
    rig.applied(ticket).0.expect("a first compaction");
    let defragmented = rig.ask(Query::Defragment);
    rig.run_for(Duration::from_millis(300));
    assert!(!rig.is_answered(defragmented), "the view holds the pages");
    let revision = rig.put("key/0001", b"later");
    let ticket = rig.propose_compaction(revision, true);
    let asked = rig.world.elapsed();
    rig.applied(ticket).0.expect("a second compaction");
    assert!(rig.world.elapsed() - asked < Duration::from_secs(1));
    assert!(
        matches!(rig.wait(defragmented), Answer::Defragmented),
        "patience has an end"
    );
    // What was not given back goes with later commits, and there are none.
    let writes = rig.world.faults(super::rig::NODE, |disk| disk.steps());
    rig.run_for(Duration::from_secs(5));
    assert_eq!(
        rig.world.faults(super::rig::NODE, |disk| disk.steps()),
        writes
    );
    let outlet = std::rc::Rc::clone(&rig.life().outlet);
    let defragmented = rig.ask(Query::Defragment);
    rig.run_for(Duration::from_millis(300));
    let asked = rig.world.elapsed();
    rig.stop();
    assert!(rig.world.elapsed() - asked < Duration::from_secs(1));
    assert!(outlet.is_settled(defragmented));
    assert_eq!(super::rig::hash(&kept, 0), before);
    drop(kept);
    rig.open().unwrap();
    assert_eq!(rig.life().entries_behind, 0);
}

// Would catch: a quota that lets writes through, an alarm that is not raised, raised for ever, or
// forgotten; deletes and compactions that it refuses.
#[test]
fn the_quota_raises_its_alarm_once() {
    let mut rig = Rig::new(4);
    rig.options.machine.quota_bytes = 3 << 20;
    let mut rig = rig.opened();
    let mut refused = 0;
    for n in 0..2_000 {
        let ticket = rig.propose_put(&format!("k{n}"), &[0; 4_000], 0);
        refused += u32::from(rig.applied(ticket).0 == Err(ApplyError::NoSpace));
        if refused > 5 {
            break;
        }
    }
    assert!(refused > 5, "{refused}");
    rig.run_for(Duration::from_millis(10));
    let alarms = |rig: &mut Rig| {
        let ticket = rig.ask(Query::Alarms);
        match rig.wait(ticket) {
            Answer::Alarms(alarms, _) => alarms,
            other => panic!("{other:?}"),
        }
    };
    let raised = alarms(&mut rig);
    assert_eq!(raised.len(), 1);
    assert_eq!(raised[0].alarm, AlarmType::Nospace as i32);
    rig.restart();
    assert_eq!(alarms(&mut rig), raised);
    let revision = rig.delete("k", "l");
    let ticket = rig.propose_compaction(revision, true);
    rig.applied(ticket).0.expect("allowed at any time");
    let ticket = rig.ask(Query::Defragment);
    assert!(matches!(rig.wait(ticket), Answer::Defragmented));
    let disarm = AlarmRequest {
        action: AlarmAction::Deactivate as i32,
        member_id: raised[0].member_id,
        alarm: AlarmType::Nospace as i32,
    };
    let ticket = rig.propose(Kind::Alarm, &disarm, 0);
    rig.applied(ticket).0.expect("allowed at any time");
    rig.put("k", b"small again");
    assert!(alarms(&mut rig).is_empty());
}
