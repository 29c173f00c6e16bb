//! Pure. What a client of the group may rely on: every revision as it was first seen, every answer
//! that was given, and a store of its own that is fed with the same changes.

use super::rig::{Rig, all, hash};
use crate::backend::Backend;
use crate::btree::{self, Tree, memory::MemoryPages};
use crate::group::{Answer, Query, Ticket};
use crate::ids::LeaseId;
use crate::mvcc::{CompactProgress, Store, View};
use crate::pb::etcdserverpb::WatchResponse;
use crate::pb::mvccpb::{Event, KeyValue, event::EventType};
use crate::sim::Rng;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The first revision that a write takes.
const FIRST: i64 = 2;

/// What an answered write must have left at its revision.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Promise {
    /// Key, value, lease, in their order.
    pub puts: Vec<(Bytes, Bytes, i64)>,
    /// How many keys went, and between which.
    pub deleted: i64,
    pub range: (Bytes, Bytes),
}

/// What is known of a lease. One whose grant or revoke was under way at a crash is not here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lease {
    Granted,
    Revoked,
}

pub(super) struct Book {
    /// The events of each revision when it was first seen; the first is that of `FIRST`.
    history: Vec<Vec<Event>>,
    /// Answered and not yet compared with the history.
    promised: BTreeMap<i64, Promise>,
    /// The newest revision in any answer.
    pub acknowledged: i64,
    pub leases: BTreeMap<i64, Lease>,
    /// The newest compaction that was answered.
    pub compacted: i64,
    model: Store,
    /// Revisions below it are in the model.
    fed: i64,
    /// The watch of this life, and the revision that it must bring next.
    watch: Option<(Ticket, i64)>,
}

impl Book {
    pub fn new() -> Book {
        let pages = MemoryPages::new();
        pages.run(&btree::format(&btree::Options::default(), 1));
        let tree = Tree::open(Arc::new(pages.clone()), pages.size()).expect("just made");
        let backend = Backend::open(tree).expect("just made");
        Book {
            history: Vec::new(),
            promised: BTreeMap::new(),
            acknowledged: 1,
            leases: BTreeMap::new(),
            compacted: -1,
            model: Store::open(backend).expect("just made"),
            fed: FIRST,
            watch: None,
        }
    }

    /// The newest revision that a watcher has seen.
    pub fn seen(&self) -> i64 {
        FIRST + self.history.len() as i64 - 1
    }

    /// The newest revision that the watch of this life has brought.
    pub fn brought(&self) -> i64 {
        self.watch.map_or(0, |(_, next)| next - 1)
    }

    /// A write was answered with success at a revision of its own.
    pub fn promise(&mut self, revision: i64, promise: Promise) {
        self.acknowledged = self.acknowledged.max(revision);
        let twice = self.promised.insert(revision, promise);
        assert!(twice.is_none(), "two writes were given revision {revision}");
    }

    /// Takes what the watch of this life has brought.
    pub fn absorb(&mut self, rig: &Rig) {
        let Some((ticket, mut next)) = self.watch else {
            return;
        };
        for response in rig.take_watched(ticket) {
            let WatchResponse {
                canceled,
                compact_revision,
                events,
                ..
            } = response;
            assert!(
                !canceled,
                "canceled at compaction {compact_revision}, was at {next}"
            );
            for events in events.chunk_by(|a, b| revision_of(a) == revision_of(b)) {
                let revision = revision_of(&events[0]);
                assert_eq!(revision, next, "each revision once, whole, in order");
                next += 1;
                self.note(revision, events);
            }
        }
        self.watch = Some((ticket, next));
    }

    fn note(&mut self, revision: i64, events: &[Event]) {
        let place = (revision - FIRST) as usize;
        match self.history.get(place) {
            Some(before) => assert_eq!(before, events, "revision {revision} changed"),
            None => {
                assert_eq!(place, self.history.len(), "a revision was passed over");
                self.history.push(events.to_vec());
            }
        }
    }

    /// The node has crashed or stopped: its watch is gone, and so are writes under way.
    pub fn life_ended(&mut self) {
        self.watch = None;
    }

    /// Compares everything with a group that has just started or come to rest.
    pub fn check(&mut self, rig: &mut Rig, rng: &mut Rng) {
        let (view, stamp) = rig.view();
        assert_eq!(view.revision(), stamp.revision);
        assert!(
            view.revision() >= self.acknowledged,
            "an answered write is lost"
        );
        assert!(
            view.revision() >= self.seen(),
            "a revision that was seen is lost"
        );
        assert!(
            view.compacted() >= self.compacted,
            "an answered compaction is lost"
        );
        if self.watch.is_none() {
            // Behind a compaction its revision itself is the oldest that can be watched.
            let start = view.compacted().max(FIRST);
            self.watch = Some((rig.watch_all(start), start));
        }
        let caught_up = {
            let book = &mut *self;
            rig.wait_until(|rig| {
                book.absorb(rig);
                book.brought() >= view.revision()
            })
        };
        assert!(caught_up, "the watch stays at {}", self.brought());
        self.check_promises();
        self.check_state(&view, rng);
        self.check_leases(rig, &view);
        let checked = rig.with_store(|store| store.backend().tree().check());
        checked.expect("a whole tree");
    }

    fn check_promises(&mut self) {
        for (revision, promise) in std::mem::take(&mut self.promised) {
            let events = &self.history[(revision - FIRST) as usize];
            let mut puts = Vec::new();
            let mut deleted = 0;
            for event in events {
                let kv = event.kv.clone().expect("an event has a key");
                if event.r#type() == EventType::Put {
                    puts.push((kv.key, kv.value, kv.lease));
                } else {
                    let (first, end) = &promise.range;
                    let one = end.is_empty() && kv.key == first;
                    assert!(one || (kv.key >= *first && kv.key < *end), "{event:?}");
                    deleted += 1;
                }
            }
            assert_eq!(puts, promise.puts, "revision {revision}");
            assert_eq!(deleted, promise.deleted, "revision {revision}");
        }
    }

    /// The state against the model and against a map made of the history.
    fn check_state(&mut self, view: &View, rng: &mut Rng) {
        self.feed(view.revision());
        if view.compacted() > self.model.compacted() {
            self.model
                .compact(view.compacted())
                .expect("as the group did");
            while self.model.compact_slice(100).expect("whole") != CompactProgress::Done {}
        }
        let model = self.model.view();
        assert_eq!(hash(view, 0), hash(&model, 0));
        let oldest = view.compacted().max(1);
        let at = rng.between(oldest as u64, view.revision() as u64) as i64;
        assert_eq!(hash(view, at), hash(&model, at), "at {at}");
        let live: Vec<KeyValue> = self.live(view.revision()).into_values().collect();
        assert_eq!(all(view), live);
    }

    /// The live keys at a revision, from what watchers saw.
    fn live(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        let mut live = BTreeMap::new();
        let count = (revision + 1 - FIRST) as usize;
        for event in self.history[..count].iter().flatten() {
            let kv = event.kv.clone().expect("an event has a key");
            match event.r#type() {
                EventType::Put => live.insert(kv.key.clone(), kv),
                EventType::Delete => live.remove(&kv.key),
            };
        }
        live
    }

    fn check_leases(&self, rig: &mut Rig, view: &View) {
        let live = self.live(view.revision());
        for (id, lease) in &self.leases {
            let id = LeaseId(*id);
            let ticket = rig.ask(Query::LeaseFacts { id, keys: true });
            let Answer::Lease { facts, .. } = rig.wait(ticket) else {
                panic!("no facts of lease {id}");
            };
            let expected = (*lease == Lease::Granted).then(|| {
                let of_lease = live.values().filter(|kv| kv.lease == id.0);
                of_lease.map(|kv| kv.key.clone()).collect::<Vec<_>>()
            });
            assert_eq!(facts.map(|facts| facts.keys), expected, "lease {id}");
        }
    }

    fn feed(&mut self, revision: i64) {
        while self.fed <= revision {
            let events = &self.history[(self.fed - FIRST) as usize];
            let mut write = self.model.write();
            for event in events {
                let kv = event.kv.as_ref().expect("an event has a key");
                match event.r#type() {
                    EventType::Put => {
                        let put = write.put(&kv.key, &kv.value, LeaseId(kv.lease));
                        assert_eq!(put.expect("whole").main, self.fed);
                    }
                    EventType::Delete => {
                        assert!(write.delete(&kv.key).expect("whole"), "{event:?}");
                    }
                }
            }
            write.finish();
            self.fed += 1;
        }
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().expect("an event has a key").mod_revision
}
