//! Pure. Ten thousand watches: what a change costs and what is held, counted.

use super::model::{Logged, MemoryLog};
use super::*;
use crate::env::Monotonic;
use crate::limits::watch as limits;
use crate::pb::etcdserverpb::WatchCreateRequest;
use std::collections::BTreeSet;

const WATCHES: usize = 10_000;
const STREAMS: usize = 10;
/// Table entries and treap nodes that a change may look at, whatever is watched: some times the
/// depth of a balanced tree of so many ranges.
const LOOKS_MAX: usize = 100;

struct World {
    hub: Hub,
    log: MemoryLog,
}

impl World {
    /// `range` gives the n-th watch its key and range end.
    fn new(range: impl Fn(usize) -> (Vec<u8>, Vec<u8>)) -> World {
        let mut hub = Hub::new(HubOptions {
            seed: 5,
            ..HubOptions::default()
        });
        let streams: Vec<StreamKey> = (0..STREAMS).map(|_| hub.open_stream(0)).collect();
        for n in 0..WATCHES {
            let (key, range_end) = range(n);
            let request = WatchCreateRequest {
                key: key.into(),
                range_end: range_end.into(),
                ..WatchCreateRequest::default()
            };
            hub.create(streams[n % STREAMS], &request, 1, Monotonic(0));
        }
        let mut world = World {
            hub,
            log: MemoryLog::new(),
        };
        let created = world.take();
        assert_eq!(created.len(), WATCHES);
        world.hub.interests.take_looks();
        world
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.log.write(&[(key, Some(value))]);
        let events = self.log.changes.last().unwrap().iter().map(Logged::event);
        let Ok(()) = self.hub.applied(events, &self.log);
    }

    /// Everything queued, as a client that keeps up takes it.
    fn take(&mut self) -> Vec<WatchResponse> {
        let (mut all, mut some) = (Vec::new(), Vec::new());
        while let Some(key) = self.hub.take_responses(&mut some) {
            let cost = some.iter().map(WatchResponse::cost).sum();
            self.hub.drained(key, cost);
            all.append(&mut some);
        }
        all
    }

    /// Puts, and compares how many watches were given the event, and what was looked at.
    fn put_meets(&mut self, key: &[u8], watches: usize) {
        let before = self.hub.stats().events_total;
        self.put(key, b"value");
        assert_eq!(self.hub.stats().events_total - before, watches as u64);
        let looks = self.hub.interests.take_looks();
        assert!(looks <= LOOKS_MAX, "{looks} looks for {watches} watches");
        let responses = self.take();
        assert_eq!(responses.len(), watches);
        let buffers: BTreeSet<*const u8> = responses.iter().map(|r| r.events[0].as_ptr()).collect();
        assert!(buffers.len() <= 1, "an event is encoded once and shared");
    }

    /// Bytes of the hub's own structures per watch.
    fn bytes_per_watch(&self) -> usize {
        (self.hub.watchers.size() + self.hub.interests.size().1) / WATCHES
    }
}

fn key(n: usize) -> Vec<u8> {
    format!("/registry/pods/{n:06}").into_bytes()
}

fn prefix_end(mut prefix: Vec<u8>) -> Vec<u8> {
    *prefix.last_mut().unwrap() += 1;
    prefix
}

// Catches: a put that looks at watches of other keys, and an event encoded for each of its watches.
#[test]
fn one_key_watched_by_all() {
    let mut world = World::new(|_| (key(7), Vec::new()));
    assert_eq!(world.hub.interests.size().0, 1);
    world.put_meets(&key(7), WATCHES);
    world.put_meets(&key(8), 0);
    assert!(world.bytes_per_watch() < 100, "{}", world.bytes_per_watch());
}

// Catches: the same, for watches that share a range.
#[test]
fn one_prefix_watched_by_all() {
    let mut world = World::new(|_| (b"/registry/".to_vec(), b"/registry0".to_vec()));
    assert_eq!(world.hub.interests.size().0, 1);
    world.put_meets(&key(7), WATCHES);
    world.put_meets(b"/other", 0);
    world.put_meets(b"/registry0", 0);
}

// Catches: a put whose cost grows with the number of keys that others watch.
#[test]
fn distinct_keys() {
    let mut world = World::new(|n| (key(n), Vec::new()));
    for n in (0..WATCHES).step_by(97) {
        world.put_meets(&key(n), 1);
        world.put_meets(&key(n + WATCHES), 0);
    }
    assert!(world.bytes_per_watch() < 250, "{}", world.bytes_per_watch());
}

// Catches: the same for prefixes, also beneath ranges without an end, which reach over all others
// and must not lead through them.
#[test]
fn distinct_prefixes() {
    let mut world = World::new(|n| match n {
        0 => (vec![0], vec![0]),
        n => (key(n), prefix_end(key(n))),
    });
    for n in (1..WATCHES).step_by(97) {
        let below = [&key(n)[..], b"/spec"].concat();
        world.put_meets(&below, 2);
        world.put_meets(&key(n + WATCHES), 1);
    }
    assert!(world.bytes_per_watch() < 250, "{}", world.bytes_per_watch());
}

// Catches: clients that do not read and events that are held for them without bound; or one of them
// that loses events for it.
#[test]
fn nobody_reads() {
    const PUTS: usize = 600;
    let mut world = World::new(|n| (key(n % 100), Vec::new()));
    let value = vec![b'v'; 4000];
    for n in 0..PUTS {
        world.put(&key(n % 100), &value);
    }
    let held: usize = world.hub.stats().pending_events;
    let event = value.len() + limits::EVENT_COST_BYTES;
    let per_stream = limits::STREAM_BYTES_MAX / event + 1;
    assert!(held <= STREAMS * per_stream, "{held} events are held");
    assert!(world.hub.stats().slow_watchers > WATCHES / 2);
    // They read again: each watch is given each of the events of its key.
    let mut given = 0;
    loop {
        given += world.take().iter().map(|r| r.events.len()).sum::<usize>();
        let Ok(behind) = world.hub.catch_up(&world.log, 512);
        if !behind && !world.hub.has_responses() {
            break;
        }
    }
    assert_eq!(given, PUTS * WATCHES / 100);
    assert_eq!(world.hub.stats().slow_watchers, 0);
}
