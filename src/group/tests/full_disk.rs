//! Driver. Disks that are full: for the tree file, for the log, for both; and room again.

use super::faults::{assert_present, puts, succeeded};
use super::rig::{NODE, Rig, delete_request};
use crate::apply::Kind;
use crate::group::{Answer, GroupStatus, Query, Refusal, Ticket};
use crate::ids::LeaseId;
use std::time::Duration;

/// The disk has room for `bytes` more.
fn set_room(rig: &Rig, bytes: u64) {
    let used = rig.used_bytes();
    rig.world
        .faults(NODE, |disk| disk.set_capacity(used.saturating_add(bytes)));
}

fn room_again(rig: &Rig) {
    rig.world.faults(NODE, |disk| disk.set_capacity(u64::MAX));
}

fn status(rig: &mut Rig) -> GroupStatus {
    let ticket = rig.ask(Query::Status);
    match rig.wait(ticket) {
        Answer::Status(status) => *status,
        other => panic!("{other:?} instead of a status"),
    }
}

/// A put that is answered at once: whether it succeeded, or there was no room.
fn try_put(rig: &mut Rig, key: &str, size: usize) -> bool {
    let value = [key.as_bytes(), &vec![b' '; size]].concat();
    let ticket = rig.propose_put(key, &value, 0);
    answered_at_once(rig, ticket)
}

fn try_delete(rig: &mut Rig, key: &str) -> bool {
    let ticket = rig.propose(Kind::DeleteRange, &delete_request(key, ""), 0);
    answered_at_once(rig, ticket)
}

fn answered_at_once(rig: &mut Rig, ticket: Ticket) -> bool {
    rig.run_for(Duration::from_millis(50));
    match rig
        .take(ticket)
        .expect("nothing that is new waits for room")
    {
        Answer::Applied(Ok(_), _) => true,
        Answer::Refused(Refusal::NoSpace) => false,
        other => panic!("{other:?}"),
    }
}

/// A group whose tree is committed only when asked, with a log of small segments of which only
/// deletes may use the last quarter.
fn rig(seed: u64) -> Rig {
    let mut rig = Rig::quiet(seed);
    rig.wal.segment_bytes = 1 << 20;
    rig.wal.bounds.in_flight_bytes_max = 64 << 10;
    rig.wal.bounds.record_bytes_max = 32 << 10;
    rig.wal.bounds.batch_bytes_max = 32 << 10;
    rig
}

/// Puts on a disk without room for another segment, until one is refused; the keys that were taken.
fn fill(rig: &mut Rig) -> Vec<String> {
    rig.put("first", b"first");
    rig.run_for(Duration::from_millis(100));
    set_room(rig, 0);
    let mut kept = vec!["first".to_string()];
    for n in 0.. {
        let key = format!("fill/{n}");
        if !try_put(rig, &key, 8_000) {
            break;
        }
        kept.push(key);
        assert!(n < 1_000, "it takes what it has no room for");
    }
    assert!(rig.life().log.waits_for_room());
    kept
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
        rig.restart();
        assert_present(&mut rig, &kept);
        rig.run_for(Duration::from_millis(200));
        rig.world.faults(NODE, |disk| disk.set_capacity(u64::MAX));
        rig.restart();
        assert_present(&mut rig, &kept);
        rig.commit();
        assert_present(&mut rig, &kept);
        rig.with_store(|store| store.backend().tree().check())
            .expect("a whole tree");
    }
}

// Would catch: a full disk that stops the group or its reads, a write that hangs instead of being
// refused, deletes and compactions that are refused with the puts, a full disk that nobody can see,
// writes that stay refused when there is room again, a lost one.
#[test]
fn a_log_that_cannot_grow_refuses_writes_and_serves_reads() {
    let mut rig = rig(1).opened();
    rig.grant(7, 60);
    let watch = rig.watch_all(2);
    let mut kept = fill(&mut rig);
    assert!(
        kept.len() > 150,
        "the present segment is used: {}",
        kept.len()
    );
    let log = rig.life().log.stats();
    assert!(!try_put(&mut rig, "no", 8_000));
    assert_eq!(
        rig.life().log.stats().counters,
        log.counters,
        "not even written"
    );
    assert!(try_delete(&mut rig, &kept.pop().expect("some")));
    let compaction = rig.propose_compaction(2, false);
    assert!(answered_at_once(&mut rig, compaction));

    assert_present(&mut rig, &kept);
    assert!(rig.life().group.view_now().is_some());
    assert!(!rig.take_watched(watch).is_empty());
    let renewal = rig.ask(Query::LeaseRenew(LeaseId(7)));
    assert!(matches!(rig.wait(renewal), Answer::Renewed { ttl: 60, .. }));
    let errors = status(&mut rig).errors;
    assert_eq!(errors, ["ringbolt: disk full: the log waits for room"]);
    assert_eq!(rig.failure(), None);

    rig.run_for(Duration::from_secs(10));
    room_again(&rig);
    rig.run_for(Duration::from_millis(1_500));
    assert!(try_put(&mut rig, "after", 8_000));
    kept.push("after".into());
    assert!(status(&mut rig).errors.is_empty());
    rig.restart();
    assert_present(&mut rig, &kept);
}

// Would catch: deletes without end that use up the room of the marks; a full segment in which the
// refusals stop being refusals.
#[test]
fn deletes_end_too_when_the_segment_is_full() {
    let mut rig = rig(2).opened();
    let kept = fill(&mut rig);
    let mut deleted = 0;
    while try_delete(&mut rig, "none of them") {
        deleted += 1;
        assert!(deleted < 2_000);
    }
    assert!(deleted > 300, "{deleted}");
    let compaction = rig.propose_compaction(2, true);
    assert!(!answered_at_once(&mut rig, compaction));
    assert_present(&mut rig, &kept);
    room_again(&rig);
    rig.run_for(Duration::from_millis(1_500));
    assert!(try_put(&mut rig, "after", 10));
    assert_eq!(rig.failure(), None);
}

// Would catch: a log that waits for an operator although a tree commit lets it recycle a segment.
#[test]
fn a_tree_commit_makes_room_for_the_log() {
    let mut rig = rig(3).opened();
    let mut kept = fill(&mut rig);
    while try_delete(&mut rig, "none of them") {}
    // The tree needs more than nothing and less than a segment is long.
    let segments = rig.life().log.stats().segments;
    rig.run_for(Duration::from_secs(3));
    assert!(rig.life().log.waits_for_room());
    assert_eq!(rig.life().log.stats().segments, segments);
    let tree_bytes = 3 << 20;
    set_room(&rig, tree_bytes);
    rig.life().group.shared.core.borrow_mut().commit_asked = true;
    rig.life().group.shared.commit_wake.notify();
    rig.run_for(Duration::from_millis(500));
    set_room(&rig, 0);
    let created = rig.life().log.stats().counters.segments_created;
    rig.run_for(Duration::from_secs(2));
    assert!(!rig.life().log.waits_for_room());
    assert!(rig.life().log.stats().counters.segments_recycled > 0);
    assert_eq!(rig.life().log.stats().counters.segments_created, created);
    assert!(try_put(&mut rig, "after", 8_000));
    kept.push("after".into());
    rig.restart();
    assert_present(&mut rig, &kept);
}

// Would catch: an acknowledged write lost in a crash on the full disk; a start there that refuses,
// serves less, answers that leases are gone, or takes what it cannot keep; a start that makes
// later ones impossible.
#[test]
fn a_start_on_a_full_disk_serves_reads() {
    for seed in 0..10 {
        let mut rig = rig(seed).opened();
        rig.grant(7, 60);
        rig.grant(8, 5);
        let kept = fill(&mut rig);
        while seed % 2 == 0 && try_delete(&mut rig, "none of them") {}
        for life in 0..3 {
            rig.restart();
            assert_present(&mut rig, &kept);
            rig.run_for(Duration::from_millis(50));
            let log = &rig.life().log;
            assert!(log.waits_for_room());
            assert_eq!(log.has_room_for(0), seed % 2 == 1, "life {life}");
            let renewal = rig.ask(Query::LeaseRenew(LeaseId(7)));
            assert!(matches!(rig.wait(renewal), Answer::Renewed { ttl: 60, .. }));
            assert!(!try_put(&mut rig, "no", 8_000), "life {life}");
            let watch = rig.watch_all(2);
            let mut seen = 0;
            rig.wait_until(|rig| {
                let responses = rig.take_watched(watch);
                seen += responses.iter().map(|r| r.events.len()).sum::<usize>();
                seen >= kept.len()
            });
            assert_eq!(seen, kept.len());
            assert_eq!(rig.failure(), None);
        }
        room_again(&rig);
        rig.run_for(Duration::from_millis(1_500));
        assert!(try_put(&mut rig, "after", 8_000));
        rig.run_for(Duration::from_secs(8));
        let ticket = rig.ask(Query::Leases);
        let Answer::Leases(leases, _) = rig.wait(ticket) else {
            panic!("no leases");
        };
        assert_eq!(leases, [LeaseId(7)], "the other one ended, if late");
        rig.restart();
        assert_present(&mut rig, &kept);
        assert!(rig.value("after").is_some());
    }
}

// Would catch: a stop that waits for room: for the tree's last commit, for entries that the log
// took before it knew; a ticket without an answer; an acknowledged write that is gone.
#[test]
fn a_stop_on_a_full_disk_ends() {
    for seed in 0..10 {
        let mut rig = rig(seed);
        // A burst goes past the end of the segments before the log knows that there is no third.
        rig.wal.segment_bytes = 256 << 10;
        let mut rig = rig.opened();
        let mut kept = vec!["first".to_string()];
        rig.put("first", b"first");
        rig.run_for(Duration::from_millis(100));
        set_room(&rig, 0);
        let slow = Duration::from_millis(20);
        if seed % 2 == 0 {
            rig.world.set_disk_time(NODE, slow, slow);
        }
        let mut burst = Vec::new();
        for n in 0..100 {
            let key = format!("burst/{n}");
            let ticket = rig.propose_put(&key, &[key.as_bytes(), &[b' '; 8_000]].concat(), 0);
            burst.push((key, ticket));
        }
        rig.run_for(Duration::from_secs(5));
        let mut waiting = Vec::new();
        for (key, ticket) in burst {
            match rig.take(ticket) {
                Some(Answer::Applied(Ok(_), _)) => kept.push(key),
                Some(Answer::Refused(Refusal::NoSpace)) => {}
                Some(other) => panic!("{other:?}"),
                None => waiting.push((key, ticket)),
            }
        }
        let log = &rig.life().log;
        assert!(log.waits_for_room(), "seed {seed}: {:?}", log.stats());
        assert!(!waiting.is_empty(), "taken before it was known");
        assert_present(&mut rig, &kept);
        let resumes = seed % 4 < 2;
        if resumes {
            room_again(&rig);
            rig.run_for(Duration::from_secs(10));
            for (key, ticket) in &waiting {
                match rig.take(*ticket).expect("room came") {
                    Answer::Applied(Ok(_), _) => kept.push(key.clone()),
                    other => panic!("{other:?}"),
                }
            }
        } else {
            let outlet = std::rc::Rc::clone(&rig.life().outlet);
            let asked = rig.world.elapsed();
            rig.stop();
            let took = rig.world.elapsed() - asked;
            assert!(took < Duration::from_secs(3), "{took:?}");
            assert!(waiting.iter().all(|(_, ticket)| outlet.is_settled(*ticket)));
            rig.open().expect("reads at least");
        }
        assert_present(&mut rig, &kept);
        room_again(&rig);
        rig.run_for(Duration::from_millis(1_500));
        assert!(try_put(&mut rig, "after", 10));
        rig.restart();
        assert_present(&mut rig, &kept);
    }
}
