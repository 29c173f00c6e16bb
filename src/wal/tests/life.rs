//! Pure. The log in calm weather: bounds, order, latching, recycling, closing.

use super::world::World;
use crate::env::{Env, Notify};
use crate::ids::{GroupId, LogIndex, MemberId, Term};
use crate::wal::{Bounds, HardState, Log, Options, Record, Recovered, TailCase, WalError};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

pub const A: GroupId = GroupId(1);
const B: GroupId = GroupId(2);

pub fn options() -> Options {
    let bounds = Bounds {
        record_bytes_max: 8 << 10,
        batch_bytes_max: 8 << 10,
        in_flight_bytes_max: 32 << 10,
        second_write_bytes_min: 4 << 10,
        queue_bytes_max: 64 << 10,
    };
    Options {
        segment_bytes: 64 << 10,
        segments_live: 2,
        bounds,
        ..Options::new("/wal")
    }
}

pub fn open(world: &World, options: &Options) -> Result<(Log<World>, Recovered), WalError> {
    let (env, options) = (world.clone(), options.clone());
    let opening = async move { Log::open(&env, options).await };
    world.block_on(opening, u64::MAX).expect("no end of steps")
}

pub fn entry(group: GroupId, index: u64, data: &[u8]) -> Record<'_> {
    Record::Entry {
        group,
        index: LogIndex(index),
        term: Term(1),
        data,
    }
}

/// Runs tasks and disk until both rest.
pub fn settle(world: &World) {
    loop {
        world.run_tasks();
        if !world.step() {
            return;
        }
    }
}

// Catches: a timer or a second write on the path of a lone put; a put that is not durable when
// the log says so.
#[test]
fn a_lone_record_takes_one_write() {
    let world = World::new(1);
    let (log, _) = open(&world, &options()).expect("opens");
    settle(&world);
    let before = log.stats().counters;
    let lsn = log.append(&entry(A, 1, &[7; 300])).expect("fits");
    assert!(log.durable() < lsn);
    world.run_tasks();
    assert!(world.step());
    world.run_tasks();
    assert!(log.durable() >= lsn);
    let after = log.stats().counters;
    assert_eq!(after.batches - before.batches, 1);
    assert_eq!(after.written_bytes - before.written_bytes, 512);
    assert!(!world.step(), "nothing else is to be done");
}

// Catches: more than two writes in flight, a second one for little, acknowledgement out of order.
#[test]
fn a_second_write_only_when_much_waits() {
    let world = World::new(2);
    let (log, _) = open(&world, &options()).expect("opens");
    settle(&world);
    world.inner.borrow_mut().most_in_flight = 0;
    log.append(&entry(A, 1, &[1; 100])).expect("fits");
    world.run_tasks();
    log.append(&entry(A, 2, &[1; 100])).expect("fits");
    world.run_tasks();
    assert_eq!(world.inner.borrow().most_in_flight, 1);
    for index in 3..20 {
        log.append(&entry(A, index, &[1; 700])).expect("fits");
    }
    world.run_tasks();
    assert_eq!(world.inner.borrow().most_in_flight, 2);
    settle(&world);
    assert_eq!(world.inner.borrow().most_in_flight, 2);
}

// Catches: a waiter or a listener that is never told.
#[test]
fn waiters_and_listeners_hear_of_progress() {
    let world = World::new(3);
    let (log, _) = open(&world, &options()).expect("opens");
    let heard = Rc::new(RefCell::new(Vec::new()));
    let notify = Notify::new();
    log.on_durable(&notify);
    for name in ["first", "second"] {
        let lsn = log.append(&entry(A, 1, b"x")).expect("fits");
        let (log, heard) = (log.clone(), Rc::clone(&heard));
        world.spawn(async move {
            log.wait_durable(lsn).await.expect("durable");
            heard.borrow_mut().push(name);
        });
    }
    let told = Rc::clone(&heard);
    world.spawn(async move {
        notify.wait().await;
        told.borrow_mut().push("notified");
    });
    settle(&world);
    let mut heard = heard.borrow().clone();
    heard.sort_unstable();
    assert_eq!(heard, ["first", "notified", "second"]);
}

// Catches: memory that grows with a slow disk, or a bound that never opens again.
#[test]
fn a_full_queue_refuses_and_recovers() {
    let world = World::new(4);
    let (log, _) = open(&world, &options()).expect("opens");
    settle(&world);
    let mut index = 0;
    let refused = loop {
        index += 1;
        if let Err(error) = log.append(&entry(A, index, &[0; 4000])) {
            break error;
        }
    };
    assert!(matches!(refused, WalError::Full { .. }), "{refused}");
    assert!(log.stats().queued_bytes <= 64 << 10);
    settle(&world);
    assert_eq!(log.stats().queued_bytes, 0);
    log.append(&entry(A, index, &[0; 4000]))
        .expect("room again");
    let large = log.append(&entry(A, index + 1, &[0; 9000]));
    assert!(
        matches!(large, Err(WalError::RecordTooLarge { .. })),
        "{large:?}"
    );
    assert!(log.failed().is_none());
}

// Catches: a log that goes on after a failed write, or a waiter that waits for ever.
#[test]
fn a_failed_write_is_latched() {
    let world = World::new(5);
    let (log, _) = open(&world, &options()).expect("opens");
    settle(&world);
    world.inner.borrow_mut().failing_writes = 1;
    let lsn = log.append(&entry(A, 1, b"x")).expect("fits");
    let waiting = {
        let log = log.clone();
        async move { log.wait_durable(lsn).await }
    };
    let waited = world.block_on(waiting, 100).expect("ends");
    assert!(
        matches!(
            waited,
            Err(WalError::Io {
                action: "write",
                ..
            })
        ),
        "{waited:?}"
    );
    assert!(log.append(&entry(A, 2, b"x")).is_err());
    assert!(log.failed().is_some());
    let writes = world.inner.borrow().writes;
    settle(&world);
    assert_eq!(world.inner.borrow().writes, writes);
    assert!(log.durable() < lsn);
}

// Catches: disk space that grows although everything is released, and segments made anew instead
// of recycled.
#[test]
fn released_segments_are_recycled() {
    let world = World::new(6);
    let (log, _) = open(&world, &options()).expect("opens");
    for index in 1..=2000 {
        log.append(&entry(A, index, &[3; 900])).expect("fits");
        settle(&world);
        if index % 20 == 0 {
            log.release(A, LogIndex(index));
        }
    }
    let stats = log.stats();
    assert!(stats.counters.segments_recycled > 20, "{stats:?}");
    assert!(stats.segments <= 3, "{stats:?}");
    assert!(stats.counters.segments_created <= 5, "{stats:?}");
    assert!(world.paths().len() <= 6, "{:?}", world.paths());
}

// Catches: one idle group that keeps every later segment of its busy neighbours; and its records
// lost on the way forward.
#[test]
fn an_idle_group_does_not_pin_segments() {
    let world = World::new(7);
    let options = options();
    let (log, _) = open(&world, &options).expect("opens");
    let state = HardState {
        term: Term(3),
        vote: MemberId(9),
        commit: LogIndex(0),
    };
    log.append(&Record::HardState { group: B, state })
        .expect("fits");
    log.append(&Record::Meta {
        group: B,
        bytes: b"idle",
    })
    .expect("fits");
    for index in 1..=5 {
        log.append(&entry(B, index, format!("kept {index}").as_bytes()))
            .expect("fits");
    }
    log.release(B, LogIndex(2));
    for index in 1..=1500 {
        log.append(&entry(A, index, &[3; 900])).expect("fits");
        settle(&world);
        log.release(A, LogIndex(index));
    }
    let stats = log.stats();
    assert!(stats.segments <= 3, "{stats:?}");
    assert!(stats.counters.copied_records >= 6, "{stats:?}");
    world.power_cut();
    let (_, found) = open(&world, &options).expect("opens");
    let group = &found.groups[&B];
    assert_eq!(group.hard_state, Some(state));
    assert_eq!(group.meta.as_deref(), Some(&b"idle"[..]));
    assert_eq!(group.released.index, LogIndex(2));
    let entries: Vec<_> = group
        .entries
        .iter()
        .map(|e| (e.index.0, &e.data[..]))
        .collect();
    assert_eq!(
        entries,
        [(3, &b"kept 3"[..]), (4, b"kept 4"), (5, b"kept 5")]
    );
}

// Catches: a group that is far behind with its releases and nobody who says so.
#[test]
fn statistics_name_the_group_that_pins() {
    let world = World::new(8);
    let (log, _) = open(&world, &options()).expect("opens");
    for index in 1..=300 {
        log.append(&entry(B, index, &[3; 900])).expect("fits");
        settle(&world);
    }
    let (group, index) = log.stats().pinned_by.expect("somebody pins");
    assert_eq!(group, B);
    assert!(index > LogIndex(0) && index < LogIndex(300));
    assert_eq!(
        log.stats().counters.copied_records,
        0,
        "too much to be copied"
    );
}

// Catches: records lost by an orderly end, a wasteful jump behind it, tasks that stay.
#[test]
fn a_closed_log_goes_on_where_it_ended() {
    let world = World::new(9);
    let options = options();
    let mut end = None;
    for life in 1..=5u64 {
        let (log, found) = open(&world, &options).expect("opens");
        if let Some(end) = end {
            assert_eq!(found.report.tail_case, TailCase::Closed);
            assert_eq!(found.report.tail, end);
            assert_eq!(found.groups[&A].entries.len() as u64, life - 1);
        }
        assert_eq!(found.report.epoch as u64, life);
        log.append(&entry(A, life, b"x")).expect("fits");
        let closing = {
            let log = log.clone();
            async move { log.close().await }
        };
        world
            .block_on(closing, 1000)
            .expect("ends")
            .expect("closes");
        assert!(matches!(
            log.append(&entry(A, 9, b"x")),
            Err(WalError::Closed)
        ));
        end = Some(log.durable());
    }
}

// Catches: a snapshot's jump taken for a hole, entries of before it that come back, a removed
// group that comes back, or one that cannot be made again.
#[test]
fn resets_and_removals_void_what_was_before() {
    let world = World::new(10);
    let options = options();
    let (log, _) = open(&world, &options).expect("opens");
    for index in 1..=4 {
        log.append(&entry(A, index, b"old")).expect("fits");
        log.append(&entry(B, index, b"old")).expect("fits");
    }
    let reset = Record::Reset {
        group: A,
        index: LogIndex(50),
        term: Term(1),
    };
    log.append(&reset).expect("fits");
    log.append(&entry(A, 51, b"new")).expect("fits");
    log.append(&Record::Removed { group: B }).expect("fits");
    settle(&world);
    world.power_cut();
    let (log, found) = open(&world, &options).expect("opens");
    assert_eq!(found.groups.keys().collect::<Vec<_>>(), [&A]);
    assert_eq!(found.groups[&A].released.index, LogIndex(50));
    assert_eq!(found.groups[&A].entries.len(), 1);
    log.append(&entry(B, 1, b"again")).expect("fits");
    settle(&world);
    world.power_cut();
    let (_, found) = open(&world, &options).expect("opens");
    assert_eq!(&found.groups[&B].entries[0].data[..], b"again");
}

// Catches: a hole in a group's entries, or a commit index behind the log's end, passed on as if
// the log were whole.
#[test]
fn what_does_not_fit_is_refused() {
    let holes = |records: &[Record<'_>]| {
        let world = World::new(11);
        let (log, _) = open(&world, &options()).expect("opens");
        for record in records {
            log.append(record).expect("fits");
        }
        settle(&world);
        world.power_cut();
        open(&world, &options()).map(|_| ()).expect_err("refuses")
    };
    let gap = holes(&[entry(A, 1, b"x"), entry(A, 3, b"x")]);
    assert!(matches!(gap, WalError::Gap { group: A, .. }), "{gap}");
    let state = HardState {
        commit: LogIndex(2),
        ..HardState::default()
    };
    let lost = holes(&[entry(A, 1, b"x"), Record::HardState { group: A, state }]);
    assert!(
        matches!(lost, WalError::CommitLost { group: A, .. }),
        "{lost}"
    );
}

// Catches: options that would make a log that cannot work.
#[test]
fn impossible_options_are_refused() {
    let world = World::new(12);
    let small = Options {
        segment_bytes: 8192,
        ..options()
    };
    let odd = Options {
        segment_bytes: (64 << 10) + 512,
        ..options()
    };
    let tight = Options {
        bounds: Bounds {
            in_flight_bytes_max: 4096,
            ..options().bounds
        },
        ..options()
    };
    for options in [small, odd, tight] {
        assert!(matches!(
            open(&world, &options),
            Err(WalError::Options { .. })
        ));
    }
    assert!(world.paths().is_empty());
}

// Catches: a dump that leaves a field out, or shows a record that is not in the log.
#[test]
fn a_dump_shows_every_field() {
    let world = World::new(13);
    let (log, _) = open(&world, &options()).expect("opens");
    let state = HardState {
        term: Term(1),
        vote: MemberId(0xab),
        commit: LogIndex(0),
    };
    log.append(&Record::HardState { group: A, state })
        .expect("fits");
    log.append(&entry(A, 1, b"hello")).expect("fits");
    settle(&world);
    let env = world.clone();
    let dumping = async move {
        let mut out = String::new();
        crate::wal::dump(&env, Path::new("/wal"), &mut out)
            .await
            .expect("readable");
        out
    };
    let text = world.block_on(dumping, 1000).expect("ends");
    // The log's random name, and what depends on it, is left out.
    let text: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("stream") && !line.contains("body_crc"))
        .collect();
    let text = text.join("\n");
    if std::env::var_os("REWRITE").is_some() {
        let path = Path::new(file!()).with_file_name("dump.golden");
        std::fs::write(path, format!("{text}\n")).expect("writable");
    }
    let golden = include_str!("dump.golden");
    assert_eq!(text.trim_end(), golden.trim_end(), "{text}");
}

// Catches: a segment whose name a killed process never synced, used for acknowledged records and
// gone with the next power cut.
#[test]
fn an_unsynced_name_is_synced_before_use() {
    // Every unclean restart goes on in the next segment.
    let bounds = Bounds {
        in_flight_bytes_max: 64 << 10,
        ..options().bounds
    };
    let options = Options {
        bounds,
        ..options()
    };
    for seed in 0..50 {
        let world = World::new(seed);
        let (log, _) = open(&world, &options).expect("opens");
        while world
            .paths()
            .iter()
            .all(|path| !path.ends_with("0000000000000002.wal"))
        {
            world.run_tasks();
            world.step();
        }
        drop(log);
        world.kill();
        let (log, _) = open(&world, &options).expect("opens");
        let lsn = log.append(&entry(A, 1, b"kept")).expect("fits");
        while log.durable() < lsn {
            world.run_tasks();
            world.step();
            world.run_tasks();
        }
        world.power_cut();
        let (_, found) = open(&world, &options).expect("opens");
        assert_eq!(&found.groups[&A].entries[0].data[..], b"kept");
    }
}
