//! What the storage state costs per operation: 32-byte keys, 256-byte values.
//!
//! The tree holds a million keys (in memory: what is measured is code, not a disk).

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringbolt::btree::memory::{FrozenPages, MemoryPages};
use ringbolt::btree::{self, Options, Tree};
use ringbolt::ids::{LeaseId, LogIndex, Term};
use ringbolt::mvcc::{
    Backend, CommitProgress, Progress, RangeEnd, RangeScan, RangeSpec, Sink, Store,
};
use std::hint::black_box;
use std::sync::Arc;

const KEYS: u64 = 1_000_000;
const VALUE: [u8; 256] = [b'v'; 256];

/// Keys in the order of their numbers, or scattered when `scatter`.
fn key(number: u64, scatter: bool) -> [u8; 32] {
    let number = if scatter {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    } else {
        number
    };
    let mut key = *b"/registry/pods/0000000000000000x";
    for (at, place) in key[15..31].iter_mut().enumerate() {
        *place = b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 15];
    }
    key
}

fn put(store: &mut Store, key: &[u8]) {
    let mut txn = store.write();
    txn.put(key, &VALUE, LeaseId(0)).expect("whole");
    black_box(txn.finish());
}

/// The file of a store with all keys, and its size.
fn filled(scatter: bool) -> (Arc<FrozenPages>, u64) {
    let pages = MemoryPages::new();
    pages.run(&btree::format(&Options::default(), 1));
    let tree = Tree::open(Arc::new(pages.clone()), pages.size()).expect("whole");
    let mut store = Store::open(Backend::open(tree).expect("whole")).expect("whole");
    for number in 0..KEYS {
        put(&mut store, &key(number, scatter));
        store.set_consistent(LogIndex(number + 1), Term(1));
        if number % 250_000 == 249_999 {
            store.commit_begin();
            loop {
                if let CommitProgress::Plan(plan) = store.commit_slice(5000).expect("whole") {
                    store.committed(pages.run(&plan));
                    break;
                }
            }
        }
    }
    println!(
        "scatter {scatter}: file {} MB, in use {} MB",
        store.size_bytes() >> 20,
        store.in_use_bytes() >> 20
    );
    let bytes = pages.to_bytes();
    let size = bytes.len() as u64;
    (Arc::new(FrozenPages::new(bytes)), size)
}

fn open(pages: &Arc<FrozenPages>, size: u64) -> Store {
    let tree = Tree::open(pages.clone(), size).expect("whole");
    Store::open(Backend::open(tree).expect("whole")).expect("whole")
}

struct Count(usize);

impl Sink for Count {
    fn kv(&mut self, kv: &[u8]) {
        self.0 += black_box(kv).len();
    }
}

fn range(store: &Store, from: &[u8], limit: u64, keys_only: bool) -> usize {
    let spec = RangeSpec {
        key: Bytes::copy_from_slice(from),
        end: RangeEnd::Before(Bytes::copy_from_slice(&key_after(from, limit))),
        keys_only,
        ..RangeSpec::default()
    };
    let mut scan = RangeScan::new(store.view(), spec).expect("readable");
    let mut count = Count(0);
    while scan.slice(2000, &mut count).expect("whole") == Progress::More {}
    count.0
}

fn key_after(from: &[u8], count: u64) -> [u8; 32] {
    let text = std::str::from_utf8(&from[15..31]).expect("hex");
    key(u64::from_str_radix(text, 16).expect("hex") + count, false)
}

fn benches(c: &mut Criterion) {
    for scatter in [false, true] {
        let name = if scatter { "scattered" } else { "ordered" };
        let (pages, size) = filled(scatter);
        c.bench_function(&format!("{name}/open"), |b| {
            b.iter(|| black_box(open(&pages, size).current()));
        });
        let mut store = open(&pages, size);
        let mut next = 0;
        c.bench_function(&format!("{name}/get"), |b| {
            let view = store.view();
            b.iter(|| {
                next = (next + 7919) % KEYS;
                black_box(view.kv(&key(next, scatter)).expect("whole")).is_some()
            });
        });
        for (count, label) in [(1000, "1k"), (100_000, "100k")] {
            if scatter {
                continue;
            }
            let mut group = c.benchmark_group(format!("{name}/range_{label}"));
            group.throughput(Throughput::Elements(count));
            let from = key(5000, false);
            group.bench_function("kvs", |b| b.iter(|| range(&store, &from, count, false)));
            group.bench_function("keys", |b| b.iter(|| range(&store, &from, count, true)));
        }
        if scatter {
            let mut group = c.benchmark_group("scattered/list_all");
            group.throughput(Throughput::Elements(KEYS));
            group.sample_size(10);
            let spec = || RangeSpec {
                key: Bytes::from_static(b"/"),
                end: RangeEnd::FromKey,
                ..RangeSpec::default()
            };
            group.bench_function("kvs", |b| {
                b.iter(|| {
                    let mut scan = RangeScan::new(store.view(), spec()).expect("readable");
                    let mut count = Count(0);
                    while scan.slice(2000, &mut count).expect("whole") == Progress::More {}
                    count.0
                });
            });
            group.bench_function("measure", |b| {
                b.iter(|| {
                    let mut scan = RangeScan::new(store.view(), spec()).expect("readable");
                    while scan.measure(2000).expect("whole") == Progress::More {}
                    scan.totals()
                });
            });
        }
        next = 0;
        c.bench_function(&format!("{name}/put_over_tree_key"), |b| {
            b.iter(|| {
                next = (next + 7919) % KEYS;
                put(&mut store, &key(next, scatter));
            });
        });
        let mut store = open(&pages, size);
        next = KEYS;
        c.bench_function(&format!("{name}/put_new"), |b| {
            b.iter(|| {
                next += 1;
                put(&mut store, &key(next, scatter));
            });
        });
        let mut store = open(&pages, size);
        for number in 0..10_000 {
            put(&mut store, &key(number, scatter));
        }
        c.bench_function(&format!("{name}/put_over_overlay_key"), |b| {
            b.iter(|| {
                next = (next + 7919) % 10_000;
                put(&mut store, &key(next, scatter));
            });
        });
        let mut store = open(&pages, size);
        c.bench_function(&format!("{name}/put_then_view"), |b| {
            b.iter(|| {
                next = (next + 7919) % 10_000;
                put(&mut store, &key(next, scatter));
                black_box(store.view())
            });
        });
    }
}

criterion_group!(mvcc, benches);
criterion_main!(mvcc);
