//! Pure. Cost of an event on its way to watchers, and of applying entries.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use prost::Message;
use ringbolt::apply::{Entry, Kind, MachineOptions, StateMachine, watch_events};
use ringbolt::backend::Backend;
use ringbolt::btree::{self, Options, Tree, memory::MemoryPages};
use ringbolt::env::Monotonic;
use ringbolt::ids::{ClusterId, LogIndex, MemberId, Revision, Term};
use ringbolt::mvcc::{Store, View};
use ringbolt::pb::etcdserverpb::{
    Compare, LeaseGrantRequest, PutRequest, RequestOp, TxnRequest, WatchCreateRequest, compare,
    request_op,
};
use ringbolt::watch::{Event, EventKind, Header, Hub, HubOptions, StreamKey};
use std::hint::black_box;
use std::sync::Arc;

const HEADER: Header = Header {
    cluster: ClusterId(1),
    member: MemberId(2),
    term: Term(3),
};

fn machine() -> StateMachine {
    let pages = MemoryPages::new();
    pages.run(&btree::format(&Options::default(), 7));
    let tree = Tree::open(Arc::new(pages.clone()), pages.size()).expect("whole");
    let store = Store::open(Backend::open(tree).expect("whole")).expect("whole");
    StateMachine::open(store, MachineOptions::default()).expect("whole")
}

fn key(n: u64) -> Vec<u8> {
    format!(
        "/registry/pods/default/{:09}",
        n.wrapping_mul(0x9e37_79b9) % 1_000_000_000
    )
    .into()
}

fn event<'a>(revision: i64, key: &'a [u8], kv: &'a [u8]) -> Event<'a> {
    Event {
        kind: EventKind::Put,
        revision: Revision::new(revision, 0),
        key,
        kv,
        may_have_previous: false,
    }
}

/// A hub with `watches` spread over `streams`; `range` gives key and end of the n-th.
fn hub(watches: u64, streams: u64, range: impl Fn(u64) -> (Vec<u8>, Vec<u8>)) -> Hub {
    let mut hub = Hub::new(HubOptions {
        seed: 99,
        ..HubOptions::default()
    });
    let keys: Vec<StreamKey> = (0..streams).map(|_| hub.open_stream(0)).collect();
    for n in 0..watches {
        let (key, end) = range(n);
        let request = WatchCreateRequest {
            key: key.into(),
            range_end: end.into(),
            ..WatchCreateRequest::default()
        };
        hub.create(keys[(n % streams) as usize], &request, 1, Monotonic(0));
    }
    drain(&mut hub, &mut Vec::new());
    hub
}

/// Encodes and drains all that waits; returns how many events that were.
fn drain(hub: &mut Hub, wire: &mut Vec<u8>) -> usize {
    let mut out = Vec::new();
    let mut count = 0;
    while let Some(stream) = hub.take_responses(&mut out) {
        wire.clear();
        let mut cost = 0;
        for response in out.drain(..) {
            cost += response.cost();
            count += response.events.len();
            response.encode(&HEADER, wire);
        }
        hub.drained(stream, cost);
    }
    count
}

fn watch(c: &mut Criterion) {
    let view = machine().store().view();
    let kv = [7u8; 300];
    let mut group = c.benchmark_group("watch");

    let mut revision = 1;
    let mut one_of = |group: &mut criterion::BenchmarkGroup<'_, _>, name: &str, mut hub: Hub| {
        let mut wire = Vec::new();
        let keys: Vec<Vec<u8>> = (0..1000).map(key).collect();
        group.bench_function(name, |b| {
            b.iter(|| {
                revision += 1;
                let key = &keys[revision as usize % keys.len()];
                let Ok(()) = hub.applied([event(revision, key, &kv)], &view) else {
                    panic!()
                };
                if revision % 64 == 0 {
                    drain(&mut hub, &mut wire);
                }
            })
        });
    };
    let missing = |n: u64| (format!("/other/{n}").into_bytes(), Vec::new());
    one_of(
        &mut group,
        "no match among 1000 keys",
        hub(1000, 100, missing),
    );
    one_of(
        &mut group,
        "1 match among 1000 keys",
        hub(1000, 100, |n| (key(n), Vec::new())),
    );
    let prefixes = |n: u64| {
        let from = format!("/registry/{n:05}");
        (from.clone().into_bytes(), format!("{from}0").into_bytes())
    };
    one_of(
        &mut group,
        "no match among 1000 prefixes",
        hub(1000, 100, prefixes),
    );

    let pods = |_| (b"/registry/pods/".to_vec(), b"/registry/pods0".to_vec());
    let mut fan = hub(1000, 1000, pods);
    let (mut revision, mut wire) = (1, Vec::new());
    group.bench_function("fan out 10 events to 1000 streams, encoded", |b| {
        b.iter(|| {
            for _ in 0..10 {
                revision += 1;
                let key = key(revision as u64);
                let Ok(()) = fan.applied([event(revision, &key, &kv)], &view) else {
                    panic!()
                };
            }
            assert_eq!(drain(&mut fan, &mut wire), 10_000);
        })
    });
    group.finish();
}

fn entry(kind: Kind, message: &impl Message) -> Vec<u8> {
    let mut out = Vec::new();
    Entry::new(kind, 1, &message.encode_to_vec()).encode(&mut out);
    out
}

fn put_request(n: u64, lease: i64) -> PutRequest {
    PutRequest {
        key: key(n).into(),
        value: Bytes::from(vec![7u8; 256]),
        lease,
        ..PutRequest::default()
    }
}

/// kube-apiserver's write: put if the key has this mod revision.
fn guarded(n: u64) -> TxnRequest {
    TxnRequest {
        compare: vec![Compare {
            result: compare::CompareResult::Equal as i32,
            target: compare::CompareTarget::Mod as i32,
            key: key(n).into(),
            target_union: Some(compare::TargetUnion::ModRevision(0)),
            range_end: Bytes::new(),
        }],
        success: vec![RequestOp {
            request: Some(request_op::Request::RequestPut(put_request(n, 0))),
        }],
        failure: Vec::new(),
    }
}

const BATCH: u64 = 10_000;

fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply");
    group.sample_size(10);
    group.throughput(criterion::Throughput::Elements(BATCH));
    let mut batch = |name: &str, entries: Vec<Vec<u8>>| {
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let mut machine = machine();
                    let grant = entry(Kind::LeaseGrant, &LeaseGrantRequest { id: 5, ttl: 60 });
                    machine
                        .apply(LogIndex(1), Term(1), &grant, Monotonic(0))
                        .expect("whole");
                    machine
                },
                |mut machine| {
                    for (n, entry) in entries.iter().enumerate() {
                        let index = LogIndex(n as u64 + 2);
                        let outcome = machine.apply(index, Term(1), entry, Monotonic(0));
                        black_box(&outcome.expect("whole"));
                    }
                    machine
                },
                BatchSize::LargeInput,
            )
        });
    };
    let puts = |lease| {
        (0..BATCH)
            .map(|n| entry(Kind::Put, &put_request(n, lease)))
            .collect()
    };
    batch("put, new keys", puts(0));
    batch("put, new keys with a lease", puts(5));
    batch(
        "txn, compare and put",
        (0..BATCH).map(|n| entry(Kind::Txn, &guarded(n))).collect(),
    );
    let grants = |n| {
        entry(
            Kind::LeaseGrant,
            &LeaseGrantRequest {
                id: n as i64 + 10,
                ttl: 60,
            },
        )
    };
    batch("lease grant", (0..BATCH).map(grants).collect());
    group.finish();
}

fn catch_up(c: &mut Criterion) {
    let mut machine = machine();
    for n in 0..100_000u64 {
        let entry = entry(Kind::Put, &put_request(n % 1000, 0));
        machine
            .apply(LogIndex(n + 1), Term(1), &entry, Monotonic(0))
            .expect("whole");
    }
    let view: View = machine.store().view();
    let mut group = c.benchmark_group("catch up");
    group.sample_size(10);
    group.throughput(criterion::Throughput::Elements(100_000));
    let mut wire = Vec::new();
    group.bench_function("one watcher behind 100k revisions", |b| {
        b.iter(|| {
            let mut hub = Hub::new(HubOptions::default());
            let stream = hub.open_stream(0);
            let request = WatchCreateRequest {
                key: Bytes::from_static(b"/"),
                range_end: Bytes::from_static(b"0"),
                start_revision: 2,
                ..WatchCreateRequest::default()
            };
            hub.create(stream, &request, machine.store().current(), Monotonic(0));
            let mut events = 0;
            while hub.is_behind() || hub.has_responses() {
                hub.catch_up(&view, 500).expect("whole");
                events += drain(&mut hub, &mut wire);
            }
            assert_eq!(events, 100_000);
        })
    });
    group.finish();

    // The live path with everything around it: apply, hub, encoding for one watcher.
    let mut hub = hub(1, 1, |_| (b"/".to_vec(), b"0".to_vec()));
    let mut index = 100_000;
    c.bench_function("apply put with one watcher", |b| {
        b.iter(|| {
            index += 1;
            let entry = entry(Kind::Put, &put_request(index % 1000, 0));
            let outcome = machine.apply(LogIndex(index), Term(1), &entry, Monotonic(0));
            let outcome = outcome.expect("whole").expect("new");
            let changes = outcome.changes.expect("a put");
            hub.applied(watch_events(&changes), &view).expect("whole");
            drain(&mut hub, &mut wire);
        })
    });
}

criterion_group!(benches, watch, apply, catch_up);
criterion_main!(benches);
