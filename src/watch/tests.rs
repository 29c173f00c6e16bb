//! Pure. The hub, rule by rule of contract 1.2.

use super::model::{Logged, MemoryLog};
use super::*;
use crate::env::Monotonic;
use crate::ids::{ClusterId, MemberId, Term};
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::WatchCreateRequest;
use bytes::Bytes;
use prost::Message;
use std::borrow::Cow;
use std::time::Duration;

struct World {
    hub: Hub,
    log: MemoryLog,
    stream: StreamKey,
}

impl World {
    fn new() -> World {
        let mut hub = Hub::new(HubOptions::default());
        let stream = hub.open_stream(0);
        World {
            hub,
            log: MemoryLog::new(),
            stream,
        }
    }

    fn create(&mut self, request: WatchCreateRequest) {
        let revision = self.log.revision();
        self.hub
            .create(self.stream, &request, revision, Monotonic(0));
    }

    fn write(&mut self, ops: &[(&[u8], Option<&[u8]>)]) {
        let before = self.log.changes.len();
        self.log.write(ops);
        if self.log.changes.len() > before {
            let events = self.log.changes.last().unwrap().iter().map(Logged::event);
            let Ok(()) = self.hub.applied(events, &self.log);
        }
    }

    /// Every response as protobuf reads it.
    fn take(&mut self) -> Vec<pb::WatchResponse> {
        self.hub.check();
        let header = Header {
            cluster: ClusterId(1),
            member: MemberId(2),
            term: Term(3),
        };
        let mut out = Vec::new();
        while let Some(key) = self.hub.take_responses(&mut out) {
            assert_eq!(key, self.stream);
        }
        let mut messages = Vec::new();
        for response in out {
            self.hub.drained(self.stream, response.cost());
            let mut bytes = Vec::new();
            response.encode(&header, &mut bytes);
            assert_eq!(bytes.len(), response.encoded_size(&header));
            let message = pb::WatchResponse::decode(&bytes[..]).unwrap();
            assert_eq!(
                message.encode_to_vec(),
                bytes,
                "prost writes the same bytes"
            );
            let head = message.header.as_ref().unwrap();
            assert_eq!((head.cluster_id, head.member_id, head.raft_term), (1, 2, 3));
            messages.push(message);
        }
        messages
    }

    /// Catches up to the end and takes.
    fn take_all(&mut self) -> Vec<pb::WatchResponse> {
        while let Ok(true) = self.hub.catch_up(&self.log, 3) {}
        self.take()
    }
}

fn watch(key: &'static [u8], end: &'static [u8], start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(key),
        range_end: Bytes::from_static(end),
        start_revision,
        ..WatchCreateRequest::default()
    }
}

/// (watch id, created, canceled, reason, header revision)
fn facts(message: &pb::WatchResponse) -> (i64, bool, bool, &str, i64) {
    let revision = message.header.as_ref().unwrap().revision;
    (
        message.watch_id,
        message.created,
        message.canceled,
        &message.cancel_reason,
        revision,
    )
}

/// (mod revision, key, previous value) of the events
fn events(message: &pb::WatchResponse) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let fact = |event: &crate::pb::mvccpb::Event| {
        let kv = event.kv.as_ref().unwrap();
        let previous = event.prev_kv.as_ref().map(|kv| text(&kv.value));
        (kv.mod_revision, text(&kv.key), previous)
    };
    message.events.iter().map(fact).collect()
}

// Catches: a refused create with another shape or text (contract 1.2; quirk 5: id -1).
#[test]
fn refused_creates() {
    let empty = "mvcc: watcher range is empty";
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let duplicate = "mvcc: duplicate watch ID provided on the WatchStream";
    for (request, reason) in [
        (watch(b"b", b"a", 0), empty),
        (watch(b"b", b"b", 0), empty),
        (watch(b"a", b"", -1), compacted),
        (watch(b"b", b"a", -1), compacted),
    ] {
        let mut world = World::new();
        world.create(request);
        let got = world.take();
        assert_eq!(
            got.iter().map(facts).collect::<Vec<_>>(),
            [(-1, true, true, reason, 1)]
        );
    }
    let mut world = World::new();
    world.create(WatchCreateRequest {
        watch_id: 7,
        ..watch(b"a", b"", 0)
    });
    world.create(WatchCreateRequest {
        watch_id: 7,
        ..watch(b"a", b"", 0)
    });
    world.hub.reject(
        world.stream,
        1,
        Cow::Borrowed("rpc error: code = PermissionDenied"),
    );
    let got = world.take();
    assert_eq!(
        got.iter().map(facts).collect::<Vec<_>>(),
        [
            (7, true, false, "", 1),
            (-1, true, true, duplicate, 1),
            (-1, true, true, "rpc error: code = PermissionDenied", 1)
        ]
    );
    assert_eq!(world.hub.stats().watchers, 1);
}

// Catches: ids picked from elsewhere than 0 upward, or one in use picked again.
#[test]
fn picked_ids_skip_used_ones() {
    let mut world = World::new();
    for id in [0, 2, 0, 0, 1, 0] {
        world.create(WatchCreateRequest {
            watch_id: id,
            ..watch(b"a", b"", 0)
        });
    }
    let ids: Vec<i64> = world.take().iter().map(|m| m.watch_id).collect();
    assert_eq!(ids, [0, 2, 1, 3, -1, 4]);
    world.hub.cancel(world.stream, 0, 1);
    world.create(watch(b"a", b"", 0));
    let got = world.take();
    assert_eq!((got[0].watch_id, got[0].canceled), (0, true));
    assert_eq!(got[1].watch_id, 5, "a picked id is not picked again");
}

// Catches: an event of another key or before its created response; an empty key not taken for \0.
#[test]
fn events_follow_created_and_the_range() {
    let mut world = World::new();
    world.create(watch(b"", b"", 0));
    world.create(watch(b"a", b"\0", 0));
    world.create(watch(b"b", b"", 0));
    world.write(&[(b"a", Some(b"1")), (b"b", Some(b"2"))]);
    world.write(&[(b"\0", Some(b"3"))]);
    let got = world.take();
    assert!(got[..3].iter().all(|m| m.created && m.events.is_empty()));
    let of = |id| {
        got[3..]
            .iter()
            .filter(|m| m.watch_id == id)
            .flat_map(events)
            .collect()
    };
    let keys = |list: Vec<(i64, String, Option<String>)>| -> Vec<(i64, String)> {
        list.into_iter()
            .map(|(revision, key, _)| (revision, key))
            .collect()
    };
    assert_eq!(keys(of(0)), [(3, "\0".into())]);
    assert_eq!(keys(of(1)), [(2, "a".into()), (2, "b".into())]);
    assert_eq!(keys(of(2)), [(2, "b".into())]);
}

// Catches: filters that let through, or a response made of nothing but filtered events.
#[test]
fn filters_leave_no_empty_response() {
    let mut world = World::new();
    world.create(WatchCreateRequest {
        filters: vec![0],
        ..watch(b"a", b"", 0)
    });
    world.create(WatchCreateRequest {
        filters: vec![1],
        ..watch(b"a", b"", 0)
    });
    world.create(WatchCreateRequest {
        filters: vec![0, 1],
        ..watch(b"a", b"", 0)
    });
    world.take();
    world.write(&[(b"a", Some(b"1"))]);
    let got = world.take();
    assert_eq!(got.iter().map(|m| m.watch_id).collect::<Vec<_>>(), [1]);
    world.write(&[(b"a", None)]);
    let got = world.take();
    assert_eq!(got.iter().map(|m| m.watch_id).collect::<Vec<_>>(), [0]);
    let kv = got[0].events[0].kv.as_ref().unwrap();
    assert_eq!(
        (&kv.key[..], kv.mod_revision, kv.create_revision, kv.version),
        (&b"a"[..], 3, 0, 0)
    );
}

// Catches: a previous value on a create, none on a change, or one of a compacted revision.
#[test]
fn previous_values() {
    let mut world = World::new();
    world.create(WatchCreateRequest {
        prev_kv: true,
        ..watch(b"a", b"", 0)
    });
    world.create(watch(b"a", b"", 0));
    world.write(&[(b"a", Some(b"1"))]);
    world.write(&[(b"a", Some(b"2"))]);
    world.write(&[(b"a", None)]);
    let got = world.take();
    let a = || "a".to_string();
    let with: Vec<_> = got
        .iter()
        .filter(|m| m.watch_id == 0)
        .flat_map(events)
        .collect();
    assert_eq!(
        with,
        [
            (2, a(), None),
            (3, a(), Some("1".into())),
            (4, a(), Some("2".into()))
        ]
    );
    let without: Vec<_> = got
        .iter()
        .filter(|m| m.watch_id == 1)
        .flat_map(events)
        .collect();
    assert_eq!(without, [(2, a(), None), (3, a(), None), (4, a(), None)]);
    world.log.compacted = 3;
    world.create(WatchCreateRequest {
        prev_kv: true,
        ..watch(b"a", b"", 3)
    });
    let late: Vec<_> = world.take_all().iter().flat_map(events).collect();
    assert_eq!(late, [(3, a(), None), (4, a(), Some("2".into()))]);
}

// Catches: a compacted start that is not told in two messages, the second with header revision 0
// (quirk 5), or a start at the compacted revision itself refused.
#[test]
fn a_compacted_start_is_created_then_canceled() {
    let mut world = World::new();
    for _ in 0..5 {
        world.write(&[(b"a", Some(b"1"))]);
    }
    world.log.compacted = 4;
    world.create(watch(b"a", b"", 3));
    world.create(watch(b"a", b"", 4));
    let got = world.take_all();
    assert_eq!(facts(&got[0]), (0, true, false, "", 6));
    assert_eq!(facts(&got[1]), (1, true, false, "", 6));
    assert_eq!(facts(&got[2]), (0, false, true, "", 0));
    assert_eq!(got[2].compact_revision, 4);
    let revisions: Vec<i64> = got[3..].iter().flat_map(events).map(|e| e.0).collect();
    assert_eq!(revisions, [4, 5, 6]);
    assert_eq!(world.hub.stats().watchers, 1);
}

// Catches: another end of a compacted watch than etcd's: its id stays taken and the stream without
// manual progress until the client cancels it as well, which is answered once (seen on a real etcd:
// the script compacted_watch).
#[test]
fn a_compacted_watch_waits_for_its_client() {
    let mut world = World::new();
    for _ in 0..5 {
        world.write(&[(b"a", Some(b"1"))]);
    }
    world.log.compacted = 4;
    let compacted = WatchCreateRequest {
        watch_id: 7,
        ..watch(b"a", b"", 3)
    };
    world.create(compacted.clone());
    world.create(watch(b"a", b"", 0));
    world.take_all();
    world.create(compacted.clone());
    assert_eq!(world.take_all()[0].watch_id, -1, "a duplicate");
    world.hub.progress(world.stream, 6);
    assert!(world.take().is_empty());
    world.hub.cancel(world.stream, 7, 6);
    world.hub.cancel(world.stream, 7, 6);
    let got = world.take();
    assert_eq!(facts(&got[0]), (7, false, true, "", 6));
    assert_eq!((got[0].compact_revision, got.len()), (0, 1));
    world.hub.progress(world.stream, 6);
    assert_eq!(world.take().len(), 1);
    world.create(compacted);
    assert_eq!(facts(&world.take()[0]), (7, true, false, "", 6));
}

// Catches: a future start that sees events or progress too early (contract 1.2).
#[test]
fn a_future_start_waits() {
    let mut world = World::new();
    world.create(watch(b"a", b"", 4));
    world.create(watch(b"b", b"", 0));
    world.take();
    let progress = |world: &mut World| {
        let revision = world.log.revision();
        world.hub.progress(world.stream, revision);
        world.take().iter().map(facts).collect::<Vec<_>>().len()
    };
    assert_eq!(progress(&mut world), 0);
    world.write(&[(b"a", Some(b"1"))]);
    world.write(&[(b"a", Some(b"2"))]);
    assert!(world.take().is_empty());
    assert_eq!(progress(&mut world), 0);
    world.write(&[(b"c", Some(b"2"))]);
    assert_eq!(
        progress(&mut world),
        1,
        "the start is reached, without an event of its own"
    );
    world.write(&[(b"a", Some(b"3"))]);
    assert_eq!(events(&world.take()[0])[0].0, 5);
}

// Catches: a watch that waits for its start while its stream is full, and then never counts as
// started: manual progress stays without an answer until the next event.
#[test]
fn a_future_start_passed_by_a_full_stream() {
    let mut world = World::new();
    world.create(watch(b"a", b"", 4));
    world.create(watch(b"b", b"", 0));
    world.take();
    let big = vec![b'v'; crate::limits::watch::STREAM_BYTES_MAX];
    world.write(&[(b"b", Some(&big))]);
    world.write(&[(b"b", Some(b"1"))]);
    world.write(&[(b"a", Some(b"1"))]);
    assert_eq!(world.hub.stats().slow_watchers, 2);
    world.take();
    world.take_all();
    world.hub.progress(world.stream, world.log.revision());
    assert_eq!(facts(&world.take()[0]), (-1, false, false, "", 4));
}

// Catches: cancel of an unknown id answered, a canceled watch that still sees events.
#[test]
fn cancel() {
    let mut world = World::new();
    world.create(watch(b"a", b"", 0));
    world.take();
    world.hub.cancel(world.stream, 5, 1);
    assert!(world.take().is_empty());
    world.write(&[(b"a", Some(b"1"))]);
    world.hub.cancel(world.stream, 0, 2);
    world.write(&[(b"a", Some(b"2"))]);
    let got = world.take();
    assert_eq!(events(&got[0]).len(), 1);
    assert_eq!(facts(&got[1]), (0, false, true, "", 2));
    assert_eq!(got.len(), 2);
}

// Catches: manual progress for a stream without watches, with one that lags, or ahead of events.
#[test]
fn manual_progress() {
    let mut world = World::new();
    world.hub.progress(world.stream, 1);
    assert!(world.take().is_empty(), "no watches, no answer");
    world.create(watch(b"a", b"", 0));
    world.take();
    world.write(&[(b"a", Some(b"1"))]);
    world.hub.progress(world.stream, 2);
    world.write(&[(b"a", Some(b"2"))]);
    world.hub.progress(world.stream, 3);
    let got = world.take();
    let order: Vec<_> = got
        .iter()
        .map(|m| (m.watch_id, m.events.len(), facts(m).4))
        .collect();
    assert_eq!(order, [(0, 1, 2), (-1, 0, 2), (0, 1, 3), (-1, 0, 3)]);
    world.create(watch(b"a", b"", 2));
    world.hub.progress(world.stream, 3);
    assert!(world.take().iter().all(|m| m.created), "a watch lags");
    let got = world.take_all();
    assert_eq!(got.iter().flat_map(events).count(), 2);
    world.hub.progress(world.stream, 3);
    assert_eq!(world.take().len(), 1);
}

// Catches: periodic progress that is sent in spite of events, too early, or to the wrong watch.
#[test]
fn periodic_progress() {
    let mut world = World::new();
    world.create(WatchCreateRequest {
        progress_notify: true,
        ..watch(b"a", b"", 0)
    });
    world.create(watch(b"a", b"", 0));
    world.take();
    let minutes = |m: u64| Monotonic(0) + Duration::from_secs(60 * m);
    assert_eq!(world.hub.next_tick(), Some(minutes(10)));
    world.hub.tick(minutes(9), 1);
    assert!(world.take().is_empty());
    world.hub.tick(minutes(10), 1);
    let got = world.take();
    assert_eq!(
        got.iter().map(facts).collect::<Vec<_>>(),
        [(0, false, false, "", 1)]
    );
    world.write(&[(b"a", Some(b"1"))]);
    world.take();
    world.hub.tick(minutes(20), 2);
    assert!(world.take().is_empty(), "it was given an event since");
    world.hub.tick(minutes(30), 2);
    assert_eq!(world.take().len(), 1);
    world.hub.cancel(world.stream, 0, 2);
    world.take();
    assert_eq!(world.hub.next_tick(), None);
    let jittered = world.hub.open_stream(u64::MAX);
    let request = WatchCreateRequest {
        progress_notify: true,
        ..watch(b"a", b"", 0)
    };
    world.hub.create(jittered, &request, 2, Monotonic(0));
    let at = world.hub.next_tick().unwrap();
    assert!(at >= minutes(10) && at < minutes(11), "a tenth of jitter");
}

// Catches: fragments of the wrong size, without flag, or asked for by nobody.
#[test]
fn fragments() {
    let mut world = World::new();
    world.hub.options.fragment_bytes = 1000;
    world.create(WatchCreateRequest {
        fragment: true,
        ..watch(b"a", b"z", 0)
    });
    world.create(watch(b"a", b"z", 0));
    world.take();
    let value = [b'v'; 300];
    let keys: Vec<Vec<u8>> = (0..10).map(|n| format!("k{n}").into_bytes()).collect();
    let ops: Vec<(&[u8], Option<&[u8]>)> =
        keys.iter().map(|k| (&k[..], Some(&value[..]))).collect();
    world.write(&ops);
    let got = world.take();
    let parts: Vec<_> = got.iter().filter(|m| m.watch_id == 0).collect();
    assert_eq!(
        parts.iter().map(|m| m.events.len()).collect::<Vec<_>>(),
        [2, 2, 2, 2, 2]
    );
    assert_eq!(
        parts.iter().map(|m| m.fragment).collect::<Vec<_>>(),
        [true, true, true, true, false]
    );
    assert!(parts.iter().all(|m| m.encoded_len() < 1000));
    let whole: Vec<_> = got.iter().filter(|m| m.watch_id == 1).collect();
    assert_eq!(
        (whole.len(), whole[0].events.len(), whole[0].fragment),
        (1, 10, false)
    );
}

// Catches: one that begins far back holding up one that is nearly there, and cohorts beyond their
// bound.
#[test]
fn far_and_near_watchers_catch_up_beside_each_other() {
    let mut world = World::new();
    for n in 0..30_000u32 {
        let key = [b'a' + (n % 5) as u8];
        world.log.write(&[(&key, Some(b"v"))]);
    }
    world.create(watch(b"a", b"", 2));
    let first = WatchCreateRequest {
        watch_id: 100,
        ..watch(b"a", b"b", 29_900)
    };
    world.create(first);
    for n in 0..20 {
        world.create(watch(b"b", b"", 1 + n * 1499));
    }
    let mut slices = 0;
    let mut done_at = None;
    while let Ok(true) = world.hub.catch_up(&world.log, 500) {
        slices += 1;
        let near = world.take();
        let arrived = near.iter().filter(|m| m.watch_id == 100 && !m.created);
        if arrived.flat_map(events).any(|event| event.0 > 29_990) && done_at.is_none() {
            done_at = Some(slices);
        }
        assert!(world.hub.cohorts.len() <= crate::limits::watch::COHORTS_MAX);
    }
    let done_at = done_at.expect("the near watcher arrived");
    assert!(
        done_at <= 8 && slices > 60,
        "near after {done_at} of {slices} slices"
    );
}

// Catches: state of a closed stream that meets the stream opened in its place.
#[test]
fn a_closed_stream_is_forgotten() {
    let mut world = World::new();
    world.create(WatchCreateRequest {
        progress_notify: true,
        ..watch(b"a", b"", 0)
    });
    world.write(&[(b"a", Some(b"1"))]);
    let old = world.stream;
    world.hub.close_stream(old);
    world.hub.close_stream(old);
    world.stream = world.hub.open_stream(0);
    world.hub.drained(old, 10_000);
    world.hub.cancel(old, 0, 1);
    world.hub.progress(old, 1);
    let request = watch(b"a", b"", 0);
    world.hub.create(old, &request, 1, Monotonic(0));
    assert!(world.take().is_empty());
    assert_eq!(world.hub.stats().watchers, 0);
    assert_eq!(
        (world.hub.next_tick(), world.hub.stats().streams),
        (None, 1)
    );
}
