//! Pure. The revision log as watchers read it, over a real store.

use super::*;
use crate::pb::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, WatchCreateRequest, WatchResponse,
};
use crate::pb::mvccpb::Event;
use crate::watch::{Hub, HubOptions, RevisionLog};

fn create(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"\0"),
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    }
}

/// Every event that came out, by watch.
fn events(hub: &mut Hub) -> [Vec<Event>; 2] {
    let mut events = [Vec::new(), Vec::new()];
    let mut out = Vec::new();
    while let Some(stream) = hub.take_responses(&mut out) {
        for response in out.drain(..) {
            hub.drained(stream, response.cost());
            let mut bytes = Vec::new();
            response.encode(&HEADER, &mut bytes);
            let message = WatchResponse::decode(&bytes[..]).unwrap();
            events[message.watch_id as usize].extend(message.events);
        }
    }
    events
}

// Catches: a store's log that gives watchers other events late than it gave live, splits a
// revision between slices, or loses the previous value.
#[test]
fn late_watchers_see_what_live_ones_saw() {
    for seed in 0..8 {
        let mut random = Random(seed);
        let mut world = World::new();
        let mut hub = Hub::new(HubOptions::default());
        let stream = hub.open_stream(0);
        hub.create(stream, &create(0), 1, world.now);
        for _ in 0..300 {
            let key = Bytes::from(vec![b'a' + random.below(9) as u8]);
            let body = match random.below(5) {
                0 => {
                    let range_end = Bytes::from_static(b"f");
                    let delete = DeleteRangeRequest {
                        key,
                        range_end,
                        prev_kv: false,
                    };
                    (Kind::DeleteRange, delete.encode_to_vec())
                }
                _ => {
                    let value = Bytes::from(vec![b'v'; random.below(40) as usize]);
                    let put = PutRequest {
                        key,
                        value,
                        ..PutRequest::default()
                    };
                    (Kind::Put, put.encode_to_vec())
                }
            };
            let outcome = world.apply(body.0, &body.1);
            if let Some(changes) = &outcome.changes {
                let log = StoreLog(world.machine.store());
                hub.applied(watch_events(changes), &log).unwrap();
            }
            if random.below(20) == 0 {
                world.commit();
            }
        }
        let current = world.machine.store().current();
        hub.create(stream, &create(2), current, world.now);
        let view = world.machine.store().view();
        while hub.catch_up(&view, 1 + random.below(7) as usize).unwrap() {}
        let [live, late] = events(&mut hub);
        assert!(live.len() > 200);
        assert_eq!(live, late);

        // Behind a compaction: the tail, without what was before the compacted revision.
        let compact = CompactionRequest {
            revision: current - 50,
            physical: false,
        };
        world.call(Kind::Compact, &compact).unwrap();
        world.finish_compaction();
        let stream = hub.open_stream(0);
        hub.create(stream, &create(current - 50), current, world.now);
        let view = world.machine.store().view();
        while hub.catch_up(&view, 3).unwrap() {}
        let [tail, _] = events(&mut hub);
        let revision = |event: &Event| event.kv.as_ref().unwrap().mod_revision;
        let expected: Vec<&Event> = live.iter().filter(|e| revision(e) > current - 50).collect();
        let kept: Vec<&Event> = tail.iter().filter(|e| revision(e) > current - 50).collect();
        assert_eq!(kept, expected);
        let at = tail.iter().filter(|e| revision(e) == current - 50);
        assert!(at.into_iter().all(|e| e.prev_kv.is_none()));
    }
}

// Catches: a scan that ends within a revision, or whose next revision is not where it stopped.
#[test]
fn a_scan_gives_whole_revisions() {
    let mut world = World::new();
    for round in 0..4 {
        for n in 0..5u8 {
            let key = Bytes::from(vec![b'a' + n]);
            let put = PutRequest {
                key,
                ..PutRequest::default()
            };
            world.call(Kind::Put, &put).unwrap();
        }
        let delete = DeleteRangeRequest {
            key: Bytes::from_static(b"a"),
            range_end: Bytes::from_static(b"\0"),
            prev_kv: false,
        };
        world.call(Kind::DeleteRange, &delete).unwrap();
        if round == 1 {
            world.commit();
        }
    }
    let view = world.machine.store().view();
    for entries_max in 1..30 {
        let mut next = 2;
        let mut seen = Vec::new();
        while next <= RevisionLog::revision(&view) {
            let from = next;
            let mut last = 0;
            let mut count = 0;
            next = view
                .scan(from, entries_max, &mut |event| {
                    last = event.revision.main;
                    count += 1;
                    seen.push(event.revision);
                })
                .unwrap();
            assert_eq!(next, last + 1);
            assert!(count >= entries_max || next == RevisionLog::revision(&view) + 1);
        }
        assert_eq!(seen.len(), 40);
        assert!(seen.is_sorted());
    }
}
