//! Driver. A disk without room for the next segment: what is taken, what waits, what ends.

use super::life::{A, entry, open, options, settle};
use super::world::World;
use crate::env::Notify;
use crate::ids::LogIndex;
use crate::wal::{Log, Options, WalError};

/// A log that took entries until the full disk had it refuse one; the index of that one.
fn filled(world: &World, options: &Options) -> (Log<World>, u64) {
    let (log, _) = open(world, options).expect("opens");
    settle(world);
    world.inner.borrow_mut().full = true;
    let mut index = 1;
    loop {
        match log.append(&entry(A, index, &[index as u8; 900])) {
            Ok(_) => settle(world),
            Err(WalError::NoRoom { wanted_bytes, .. }) => {
                assert_eq!(wanted_bytes, options.segment_bytes);
                return (log, index);
            }
            Err(error) => panic!("{error}"),
        }
        index += 1;
        assert!(index < 1000, "it takes what it has no room for");
    }
}

fn close(world: &World, log: &Log<World>) {
    let closing = {
        let log = log.clone();
        async move { log.close().await }
    };
    // Without time: an end must not wait for the next try.
    let (closed, naps) = (world.block_on(closing, 200), world.inner.borrow().naps);
    closed.expect("ends").expect("closes");
    assert_eq!(world.inner.borrow().naps, naps);
}

fn entries(world: &World, options: &Options) -> (Log<World>, Vec<u64>) {
    let (log, found) = open(world, options).expect("opens");
    let entries = found.groups.get(&A).map(|group| &group.entries);
    let indexes = entries.into_iter().flatten().map(|entry| {
        assert_eq!(entry.data[0], entry.index.0 as u8);
        entry.index.0
    });
    let indexes = indexes.collect();
    (log, indexes)
}

// Catches: a full disk taken for a broken one; records that are taken and do not become durable
// although the segment has room for them; a log that asks the disk without a pause, or never again;
// groups that are not told.
#[test]
fn a_full_disk_is_waited_for() {
    let world = World::new(1);
    let options = options();
    let (log, refused) = filled(&world, &options);
    // Two segments of 64 KiB in blocks of 512, and what is kept for marks.
    assert!(refused > 100, "{refused}");
    assert!(log.waits_for_room() && log.is_stalled());
    assert!(log.failed().is_none());
    assert_eq!(log.stats().queued_bytes, 0, "all that was taken is durable");
    assert!(!log.has_room_for(900));
    let tries = world.inner.borrow().refused;
    assert!(tries <= 2, "{tries}");
    for _ in 0..5 {
        log.append(&entry(A, refused, &[0; 900]))
            .expect_err("no room");
        settle(&world);
    }
    assert_eq!(world.inner.borrow().refused, tries);
    world.pass_time();
    settle(&world);
    assert_eq!(world.inner.borrow().refused, tries + 1);
    assert!(
        world
            .paths()
            .iter()
            .all(|path| path.extension().is_some_and(|e| e == "wal"))
    );

    let heard = Notify::new();
    log.on_durable(&heard);
    world.inner.borrow_mut().full = false;
    world.pass_time();
    settle(&world);
    assert!(!log.waits_for_room() && log.has_room_for(900));
    world
        .block_on(async move { heard.wait().await }, 1)
        .expect("told");
    log.append(&entry(A, refused, &[refused as u8; 900]))
        .expect("room again");
    settle(&world);
    world.power_cut();
    let (_, found) = entries(&world, &options);
    assert_eq!(found, (1..=refused).collect::<Vec<_>>());
}

// Catches: a log that waits for others to make room while it holds segments that nothing needs:
// the mark that would say so has no batch to ride in.
#[test]
fn released_segments_are_room() {
    for all in [true, false] {
        let world = World::new(2);
        let options = options();
        let (log, refused) = filled(&world, &options);
        let files = world.paths().len();
        // The first segment's entries and no more, or all.
        let through = if all { refused - 1 } else { 63 };
        log.release(A, LogIndex(through));
        settle(&world);
        assert!(!log.waits_for_room(), "released through {through}");
        assert_eq!(world.paths().len(), files, "one file changed its use");
        for index in refused..refused + 40 {
            log.append(&entry(A, index, &[index as u8; 900]))
                .expect("room again");
            settle(&world);
        }
        assert!(log.failed().is_none());
        world.power_cut();
        let (_, found) = entries(&world, &options);
        assert_eq!(found, (through + 1..refused + 40).collect::<Vec<_>>());
    }
}

// Catches: a log that does not end while the disk is full, an end that is not marked although the
// segment has a block for it, a start on the full disk that jumps over the end of the segment.
#[test]
fn a_full_log_closes_and_opens() {
    let world = World::new(3);
    let options = options();
    let (log, refused) = filled(&world, &options);
    close(&world, &log);
    for _ in 0..3 {
        let (log, found) = entries(&world, &options);
        assert_eq!(found, (1..refused).collect::<Vec<_>>());
        settle(&world);
        assert!(log.waits_for_room());
        close(&world, &log);
    }
}

/// A log with records behind a seal whose next segment cannot be made, and how many are durable.
fn sealed(world: &World, options: &Options) -> (Log<World>, u64) {
    let (log, _) = open(world, options).expect("opens");
    world.inner.borrow_mut().full = true;
    let mut ends = Vec::new();
    // All before the log learns that the disk is full.
    for index in 1..=60 {
        let lsn = log.append(&entry(A, index, &[index as u8; 1000]));
        ends.push(lsn.expect("fits the queue"));
    }
    settle(world);
    assert!(log.is_stalled());
    let durable = ends.iter().filter(|&&end| end <= log.durable()).count();
    assert!((1..60).contains(&durable), "{durable}");
    (log, durable as u64)
}

// Catches: records that the log took before it knew of the full disk, lost when there is room
// again, or kept for ever; an end that waits for them.
#[test]
fn records_behind_a_seal_wait() {
    let world = World::new(4);
    // The first segment holds half of what is appended.
    let options = Options {
        segment_bytes: 32 << 10,
        ..options()
    };
    let (log, _) = sealed(&world, &options);
    world.inner.borrow_mut().full = false;
    world.pass_time();
    settle(&world);
    assert_eq!(log.stats().queued_bytes, 0);
    world.power_cut();
    let (_, found) = entries(&world, &options);
    assert_eq!(found, (1..=60).collect::<Vec<_>>());
}

// Catches: the same at an end on the full disk, also one that comes just as there is room again; a
// start behind it that refuses or serves less.
#[test]
fn a_sealed_log_closes_and_opens_without_room() {
    for (seed, room_at_the_end) in [(5, false), (6, true)] {
        let world = World::new(seed);
        let options = Options {
            segment_bytes: 32 << 10,
            ..options()
        };
        let (log, durable) = sealed(&world, &options);
        if room_at_the_end {
            world.inner.borrow_mut().full = false;
            world.pass_time();
            // The segment is being made.
            world.run_tasks();
        }
        close(&world, &log);
        let waiting = {
            let log = log.clone();
            async move { log.wait_durable(crate::ids::Lsn(u64::MAX)).await }
        };
        let waited = world.block_on(waiting, 1).expect("ends");
        assert!(matches!(waited, Err(WalError::Closed)), "{waited:?}");
        world.inner.borrow_mut().full = true;
        // Twice: the first start must leave it as it was.
        for _ in 0..2 {
            let (log, found) = entries(&world, &options);
            assert_eq!(found, (1..=durable).collect::<Vec<_>>());
            settle(&world);
            if room_at_the_end {
                world.power_cut();
                break;
            }
            assert!(log.is_stalled());
            assert!(!log.has_room_for(0));
            let refused = log.append(&entry(A, durable + 1, b"x"));
            assert!(
                matches!(refused, Err(WalError::NoRoom { .. })),
                "{refused:?}"
            );
            close(&world, &log);
        }
        let (log, _) = entries(&world, &options);
        world.inner.borrow_mut().full = false;
        world.pass_time();
        settle(&world);
        log.append(&entry(A, durable + 1, &[durable as u8 + 1; 10]))
            .expect("room again");
        settle(&world);
        world.power_cut();
        let (_, found) = entries(&world, &options);
        assert_eq!(found, (1..=durable + 1).collect::<Vec<_>>());
    }
}

// Catches: a first start on a full disk whose refusal does not say what is needed, or that leaves
// something behind.
#[test]
fn a_new_log_on_a_full_disk_is_refused() {
    let world = World::new(7);
    world.inner.borrow_mut().full = true;
    let error = open(&world, &options()).map(|_| ()).expect_err("refuses");
    let text = "wal: /wal: the disk has no room for a log segment of 65536 bytes";
    assert_eq!(error.to_string(), text);
    assert!(world.paths().is_empty());
}

// Catches: another failure of making a segment taken for a full disk.
#[test]
fn only_want_of_room_is_waited_for() {
    let world = World::new(8);
    let (log, _) = open(&world, &options()).expect("opens");
    world.inner.borrow_mut().failing_creates = true;
    settle(&world);
    let error = log.failed().expect("latched");
    assert!(
        matches!(
            error,
            WalError::Io {
                action: "create",
                ..
            }
        ),
        "{error}"
    );
    assert!(!log.waits_for_room());
}

// Catches: a write of a killed process that lands after a start without room has read the log, and
// is then neither kept nor void: it counts as long as no opening says otherwise, and never behind
// one. Nothing that such a start served is gone later.
#[test]
fn a_late_write_counts_until_the_opening() {
    let (mut kept, mut voided) = (0, 0);
    for seed in 0..400 {
        let world = World::new(seed);
        let options = options();
        let (log, last) = filled(&world, &options);
        log.append(&entry(A, last, &[last as u8]))
            .expect("a small one fits");
        world.run_tasks();
        world.kill();
        let (log, served) = entries(&world, &options);
        assert!(log.waits_for_room());
        let opens = seed % 2 == 0;
        if opens {
            world.inner.borrow_mut().full = false;
        }
        world.pass_time();
        settle(&world);
        assert_eq!(log.waits_for_room(), !opens);
        world.power_cut();
        let (_, found) = entries(&world, &options);
        match served.len() as u64 == last {
            true => assert_eq!(found, served),
            false if opens => {
                assert_eq!(found, served);
                voided += 1;
            }
            false => {
                assert!(found.starts_with(&served));
                kept += found.len() - served.len();
            }
        }
    }
    assert!(kept > 5 && voided > 20, "{kept} {voided}");
}

// Catches: records in flight beside an opening that is not durable, or beside the batch that
// confirms it: a crash could then leave both, of two lives.
#[test]
fn a_late_opening_is_written_alone() {
    let world = World::new(9);
    let options = Options {
        segment_bytes: 32 << 10,
        ..options()
    };
    let (log, durable) = sealed(&world, &options);
    close(&world, &log);
    let (log, _) = entries(&world, &options);
    world.inner.borrow_mut().full = false;
    world.pass_time();
    while log.waits_for_room() {
        world.run_tasks();
        world.step();
    }
    for index in durable + 1..durable + 25 {
        log.append(&entry(A, index, &[index as u8; 1000]))
            .expect("there is room");
    }
    world.inner.borrow_mut().most_in_flight = 0;
    let mut end = log.durable();
    for batch in ["the opening", "its confirmation"] {
        while log.durable() == end {
            world.run_tasks();
            assert!(world.inner.borrow().most_in_flight <= 1, "{batch}");
            world.step();
            world.run_tasks();
        }
        end = log.durable();
        world.inner.borrow_mut().most_in_flight = 0;
    }
    settle(&world);
    world.power_cut();
    let (_, found) = entries(&world, &options);
    assert_eq!(found, (1..durable + 25).collect::<Vec<_>>());
}
