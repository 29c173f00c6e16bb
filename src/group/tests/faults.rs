//! Driver. Disks that fail and disks that are full.

use super::rig::{NODE, Rig};
use crate::group::{Answer, Query, Refusal, Ticket};
use std::io::ErrorKind;
use std::time::Duration;

/// Keys whose put was answered with success; each value is its key.
fn succeeded(rig: &Rig, puts: &[(String, Ticket)]) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, ticket) in puts {
        let answered = rig.wait_until(|rig| rig.is_answered(*ticket));
        assert!(answered, "{key} is never answered");
        match rig.take(*ticket).expect("it was answered") {
            Answer::Applied(Ok(_), _) => keys.push(key.clone()),
            Answer::Refused(Refusal::Stopped) => {}
            other => panic!("{other:?}"),
        }
    }
    keys
}

fn puts(rig: &mut Rig, name: &str, count: usize, size: usize) -> Vec<(String, Ticket)> {
    let mut puts = Vec::new();
    for n in 0..count {
        let key = format!("{name}/{n}");
        let mut value = key.clone().into_bytes();
        value.resize(size.max(value.len()), b' ');
        let ticket = rig.propose_put(&key, &value, 0);
        puts.push((key, ticket));
        rig.run_for(Duration::from_micros(30));
    }
    puts
}

fn assert_stopped(rig: &mut Rig) {
    for _ in 0..3 {
        let ticket = rig.propose_put("after", b"", 0);
        assert!(matches!(
            rig.wait(ticket),
            Answer::Refused(Refusal::Stopped)
        ));
    }
    for query in [
        Query::View {
            linearizable: false,
        },
        Query::Leases,
        Query::Defragment,
    ] {
        let ticket = rig.ask(query);
        assert!(matches!(
            rig.wait(ticket),
            Answer::Refused(Refusal::Stopped)
        ));
    }
    assert!(rig.life().group.view_now().is_none());
    let ticket = rig.ask(Query::Status);
    assert!(
        matches!(rig.wait(ticket), Answer::Status(_)),
        "operators may still look"
    );
    let group = rig.life().group.clone();
    let why = rig.world.run(move |_| async move { group.failed().await });
    assert_eq!(Some(why), rig.failure());
    // It still ends, as a process does that was asked to.
    let group = rig.life().group.clone();
    rig.world.run(move |_| async move { group.stop().await });
}

fn assert_present(rig: &mut Rig, keys: &[String]) {
    for key in keys {
        let value = rig.value(key).unwrap_or_else(|| panic!("{key} is lost"));
        assert!(value.starts_with(key.as_bytes()));
    }
}

// Would catch: a group that writes on behind a failed log write, answers with success what may not
// be there, forgets a ticket, or cannot start afterwards.
#[test]
fn a_failed_log_write_stops_the_group() {
    for nth in 1..=12 {
        let mut rig = Rig::quiet(nth).opened();
        let mut kept = vec!["before".to_string()];
        rig.put("before", b"before");
        rig.run_for(Duration::from_millis(50));
        rig.world
            .faults(NODE, |disk| disk.fail_at(nth, ErrorKind::Other));
        let puts = puts(&mut rig, "k", 500, 10);
        let succeeded = succeeded(&rig, &puts);
        assert!(succeeded.len() < puts.len(), "write {nth} failed");
        kept.extend(succeeded);
        let failure = rig.failure().expect("latched");
        assert!(failure.starts_with("wal: write"), "{failure}");
        assert_stopped(&mut rig);
        rig.restart();
        assert_present(&mut rig, &kept);
        rig.put("after", b"after");
    }
}

// Would catch: the same for each other step on the log's directory: a segment made, renamed,
// synced, removed.
#[test]
fn any_failed_step_stops_the_group() {
    let mut kinds = std::collections::BTreeSet::new();
    for nth in 1..=80 {
        let mut rig = Rig::new(nth).opened();
        rig.world
            .faults(NODE, |disk| disk.fail_at(nth, ErrorKind::Other));
        let puts = puts(&mut rig, "k", 400, 500);
        let kept = succeeded(&rig, &puts);
        rig.run_for(Duration::from_millis(100));
        let failure = rig.failure().expect("latched");
        let end = failure.find('/').unwrap_or(failure.len());
        kinds.insert(failure[..end].to_string());
        assert_stopped(&mut rig);
        rig.restart();
        assert_present(&mut rig, &kept);
        rig.put("after", b"after");
        rig.with_store(|store| store.backend().tree().check())
            .expect("a whole tree");
    }
    assert!(kinds.len() >= 4, "{kinds:?}");
}

// Would catch: a tree commit that is tried again after a failed write or sync, a log that is
// released for a commit that failed, writes answered with success behind it.
#[test]
fn a_failed_tree_commit_stops_the_group() {
    let mut failed = 0;
    for nth in 1.. {
        let mut rig = Rig::quiet(nth).opened();
        let puts = puts(&mut rig, "k", 50, 400);
        let kept = succeeded(&rig, &puts);
        assert_eq!(kept.len(), 50);
        rig.run_for(Duration::from_millis(20));
        rig.world
            .faults(NODE, |disk| disk.fail_at(nth, ErrorKind::Other));
        rig.commit();
        rig.run_for(Duration::from_millis(20));
        match rig.failure() {
            None => break,
            Some(failure) => assert!(failure.starts_with("tree file: "), "{failure}"),
        }
        failed += 1;
        assert_stopped(&mut rig);
        rig.restart();
        assert!(rig.life().entries_behind >= 50, "the log lets nothing go");
        assert_present(&mut rig, &kept);
        rig.commit();
        assert_eq!(rig.failure(), None);
    }
    assert!(failed >= 4, "pages, sync, meta, sync: {failed}");
}

// Would catch: a full disk that stops the group or its reads although the log has room, writes
// without a bound, a commit that is not taken up again when there is room.
#[test]
fn a_tree_that_cannot_grow_waits_for_room() {
    let mut rig = Rig::quiet(1).opened();
    let first = puts(&mut rig, "a", 400, 4_000);
    let mut kept = succeeded(&rig, &first);
    let used = rig.used_bytes();
    rig.world.faults(NODE, |disk| disk.set_capacity(used));
    {
        let shared = &rig.life().group.shared;
        shared.core.borrow_mut().commit_asked = true;
        shared.commit_wake.notify();
    }
    rig.run_for(Duration::from_secs(3));
    assert_eq!(rig.failure(), None);
    assert!(rig.life().group.shared.core.borrow().tree_full);
    let more = puts(&mut rig, "b", 100, 400);
    kept.extend(succeeded(&rig, &more));
    assert_eq!(kept.len(), 500, "writes go on");
    assert!(rig.value("a/7").is_some());
    let tree = rig.with_store(|store| store.durable());
    rig.world.faults(NODE, |disk| disk.set_capacity(u64::MAX));
    let resumed = rig.wait_until(|rig| rig.with_store(|store| store.durable()) > tree);
    assert!(resumed, "the commit is taken up again");
    assert!(!rig.life().group.shared.core.borrow().tree_full);
    rig.restart();
    assert_present(&mut rig, &kept);
}

// Would catch: a power cut while the disk is full that loses what was acknowledged meanwhile.
#[test]
fn a_crash_on_a_full_disk_loses_nothing() {
    for seed in 0..10 {
        let mut rig = Rig::quiet(seed).opened();
        let first = puts(&mut rig, "a", 300, 4_000);
        let mut kept = succeeded(&rig, &first);
        let used = rig.used_bytes();
        rig.world.faults(NODE, |disk| disk.set_capacity(used));
        rig.life().group.shared.core.borrow_mut().commit_asked = true;
        let more = puts(&mut rig, "b", 50, 100);
        kept.extend(succeeded(&rig, &more));
        rig.run_for(Duration::from_millis(200));
        // A start wants a segment in advance: there is no room for it, so this life may be short.
        rig.crash();
        if rig.open().is_ok() {
            rig.run_for(Duration::from_millis(200));
        }
        rig.life = None;
        rig.world.faults(NODE, |disk| disk.set_capacity(u64::MAX));
        rig.restart();
        assert_present(&mut rig, &kept);
        rig.commit();
        assert_present(&mut rig, &kept);
        rig.with_store(|store| store.backend().tree().check())
            .expect("a whole tree");
    }
}

// Would catch: a disk with no room for the next log segment that loses an acknowledged write,
// leaves a ticket without an answer, or cannot be started again once there is room.
//
// What the log does: the segment behind the present one is made in advance. When that fails it
// latches at once, and the group stops, reads included; the present segment's room is not used up.
#[test]
fn a_log_that_cannot_grow_loses_nothing() {
    for seed in 0..10 {
        let mut rig = Rig::quiet(seed);
        rig.wal = Rig::new(seed).wal;
        let mut rig = rig.opened();
        let first = puts(&mut rig, "a", 20, 500);
        let mut kept = succeeded(&rig, &first);
        assert_eq!(kept.len(), 20);
        let used = rig.used_bytes();
        rig.world.faults(NODE, |disk| disk.set_capacity(used));
        let puts = puts(&mut rig, "b", 200, 500);
        kept.extend(succeeded(&rig, &puts));
        assert!(kept.len() < 20 + 200);
        let failure = rig.failure().expect("latched");
        assert!(failure.starts_with("wal: create "), "{failure}");
        assert_stopped(&mut rig);
        // Restarts on the full disk end the same way, or refuse to begin.
        for _ in 0..2 {
            rig.crash();
            if rig.open().is_ok() {
                rig.run_for(Duration::from_millis(200));
            }
        }
        rig.life = None;
        rig.world.faults(NODE, |disk| disk.set_capacity(u64::MAX));
        rig.restart();
        assert_present(&mut rig, &kept);
        rig.put("after", b"after");
    }
}
