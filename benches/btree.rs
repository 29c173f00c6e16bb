//! The tree beside redb and LMDB (through heed) on the same data: 17-byte ascending keys with
//! 300-byte values as the revision bucket has them, 32-byte random keys with 20-byte values as the
//! index has them. Nobody syncs; LMDB and redb write to a file in the page cache, the tree's plans
//! are carried out on memory.
// heed's open is unsafe: a map may change under it. Nobody else touches this file.
#![allow(unsafe_code)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use heed::types::Bytes;
use heed::{EnvFlags, EnvOpenOptions};
use redb::{Durability, ReadableDatabase, TableDefinition};
use ringbolt::btree::memory::{FrozenPages, MemoryPages};
use ringbolt::btree::{BucketId, Options, Tree, format};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

const BUCKET: BucketId = BucketId(0);
const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("bench");
const KEYS: u64 = 1_000_000;
const BATCH: u64 = 10_000;
type Pair = (Vec<u8>, Vec<u8>);

fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn random_pair(n: u64) -> Pair {
    let key = (0..4)
        .flat_map(|part| mix(n * 4 + part).to_be_bytes())
        .collect();
    (key, vec![n as u8; 20])
}

fn revision_pair(n: u64) -> Pair {
    let mut key = n.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend_from_slice(&[0; 8]);
    (key, vec![n as u8; 300])
}

fn batch(first: u64, pair: fn(u64) -> Pair) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = (first..first + BATCH).map(pair).collect();
    pairs.sort();
    pairs
}

/// What the three have in common.
trait Store {
    fn write(&mut self, pairs: &[Pair]);
    fn value_size(&self, key: &[u8]) -> usize;
    fn range(&self, from: &[u8], count: usize) -> usize;
    fn bytes(&self) -> u64;
}

struct Ours {
    pages: MemoryPages,
    tree: Tree,
    /// The finished file, read as a map is.
    frozen: Option<Tree>,
}

impl Ours {
    fn new() -> Ours {
        let pages = MemoryPages::new();
        pages.run(&format(&Options::default(), 1));
        let tree = Tree::open(Arc::new(pages.clone()), pages.size()).unwrap();
        Ours {
            pages,
            tree,
            frozen: None,
        }
    }

    fn freeze(&mut self) {
        let bytes = self.pages.to_bytes();
        let size = bytes.len() as u64;
        self.frozen = Some(Tree::open(Arc::new(FrozenPages::new(bytes)), size).unwrap());
    }
}

impl Store for Ours {
    fn write(&mut self, pairs: &[Pair]) {
        let mut txn = self.tree.begin();
        for (key, value) in pairs {
            txn.put(BUCKET, key, value).unwrap();
        }
        let plan = self.tree.seal(txn).unwrap();
        self.tree.committed(self.pages.run(&plan));
    }

    fn value_size(&self, key: &[u8]) -> usize {
        let txn = self.frozen.as_ref().unwrap().read();
        txn.bucket(BUCKET).get(key).unwrap().unwrap().len()
    }

    fn range(&self, from: &[u8], count: usize) -> usize {
        let txn = self.frozen.as_ref().unwrap().read();
        let mut cursor = txn.bucket(BUCKET).cursor();
        let mut found = cursor.seek(from).unwrap();
        let (mut size, mut left) = (0, count);
        while found && left > 0 {
            let (key, value) = cursor.current().unwrap().unwrap();
            size += key.len() + value.len();
            left -= 1;
            found = cursor.next().unwrap();
        }
        size
    }

    fn bytes(&self) -> u64 {
        println!("ringbolt: {} bytes in use", self.tree.in_use_bytes());
        self.tree.size_bytes()
    }
}

fn scratch(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

struct Redb(redb::Database, PathBuf);

impl Redb {
    fn new(name: &str) -> Redb {
        let path = scratch(name).join("redb");
        Redb(redb::Database::create(&path).unwrap(), path)
    }
}

impl Store for Redb {
    fn write(&mut self, pairs: &[Pair]) {
        let mut txn = self.0.begin_write().unwrap();
        txn.set_durability(Durability::None).unwrap();
        {
            let mut table = txn.open_table(TABLE).unwrap();
            for (key, value) in pairs {
                table.insert(key.as_slice(), value.as_slice()).unwrap();
            }
        }
        txn.commit().unwrap();
    }

    fn value_size(&self, key: &[u8]) -> usize {
        let txn = self.0.begin_read().unwrap();
        txn.open_table(TABLE)
            .unwrap()
            .get(key)
            .unwrap()
            .unwrap()
            .value()
            .len()
    }

    fn range(&self, from: &[u8], count: usize) -> usize {
        let txn = self.0.begin_read().unwrap();
        let table = txn.open_table(TABLE).unwrap();
        let pairs = table.range(from..).unwrap().take(count).map(Result::unwrap);
        pairs
            .map(|(key, value)| key.value().len() + value.value().len())
            .sum()
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(&self.1).unwrap().len()
    }
}

struct Lmdb(heed::Env, heed::Database<Bytes, Bytes>, PathBuf);

impl Lmdb {
    fn new(name: &str) -> Lmdb {
        let mut options = EnvOpenOptions::new();
        options.map_size(4 << 30);
        let dir = scratch(name);
        // SAFETY: the directory is this process's own and fresh; losing a crash is fine.
        let env = unsafe { options.flags(EnvFlags::NO_SYNC).open(&dir).unwrap() };
        let mut txn = env.write_txn().unwrap();
        let database = env.create_database(&mut txn, None).unwrap();
        txn.commit().unwrap();
        Lmdb(env, database, dir.join("data.mdb"))
    }
}

impl Store for Lmdb {
    fn write(&mut self, pairs: &[Pair]) {
        let mut txn = self.0.write_txn().unwrap();
        for (key, value) in pairs {
            self.1.put(&mut txn, key, value).unwrap();
        }
        txn.commit().unwrap();
    }

    fn value_size(&self, key: &[u8]) -> usize {
        let txn = self.0.read_txn().unwrap();
        self.1.get(&txn, key).unwrap().unwrap().len()
    }

    fn range(&self, from: &[u8], count: usize) -> usize {
        let txn = self.0.read_txn().unwrap();
        let from = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        let pairs = self
            .1
            .range(&txn, &from)
            .unwrap()
            .take(count)
            .map(Result::unwrap);
        pairs.map(|(key, value)| key.len() + value.len()).sum()
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(&self.2).unwrap().len()
    }
}

/// Ten thousand ascending revisions per commit, on top of each other.
fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append 10000 revisions and commit");
    group.sample_size(20);
    let mut stores: [(&str, Box<dyn Store>); 3] = [
        ("ringbolt", Box::new(Ours::new())),
        ("redb", Box::new(Redb::new("append-redb"))),
        ("lmdb", Box::new(Lmdb::new("append-lmdb"))),
    ];
    for (name, store) in &mut stores {
        let mut first = 0;
        group.bench_function(*name, |b| {
            let next = || {
                first += BATCH;
                batch(first, revision_pair)
            };
            b.iter_batched(next, |pairs| store.write(&pairs), BatchSize::PerIteration);
        });
        let per_key = store.bytes() / first.max(1);
        println!("{name}: {per_key} bytes of file per key with 17 + 300 bytes");
    }
    group.finish();
}

/// Everything on a tree of a million random keys.
fn random(c: &mut Criterion) {
    let mut ours = Box::new(Ours::new());
    let mut redb = Box::new(Redb::new("random-redb"));
    let mut lmdb = Box::new(Lmdb::new("random-lmdb"));
    for first in (0..KEYS).step_by(BATCH as usize) {
        let pairs = batch(first, random_pair);
        ours.write(&pairs);
        redb.write(&pairs);
        lmdb.write(&pairs);
    }
    ours.freeze();
    let mut stores: [(&str, Box<dyn Store>); 3] =
        [("ringbolt", ours), ("redb", redb), ("lmdb", lmdb)];
    for (name, store) in &stores {
        println!(
            "{name}: {} bytes of file per key with 32 + 20 bytes",
            store.bytes() / KEYS
        );
    }
    let mut group = c.benchmark_group("look up one of 1000000 keys");
    for (name, store) in &stores {
        let mut n = 0;
        group.bench_function(*name, |b| {
            let next = || {
                n += 1;
                random_pair(mix(n) % KEYS).0
            };
            b.iter_batched(next, |key| store.value_size(&key), BatchSize::SmallInput);
        });
    }
    group.finish();
    let mut group = c.benchmark_group("range over 1000 of 1000000 keys");
    for (name, store) in &stores {
        let mut n = 0;
        group.bench_function(*name, |b| {
            let next = || {
                n += 1;
                random_pair(mix(n) % KEYS).0
            };
            b.iter_batched(
                next,
                |key| black_box(store.range(&key, 1000)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    let mut group = c.benchmark_group("insert 10000 of random keys into 1000000 and commit");
    group.sample_size(20);
    for (name, store) in &mut stores {
        let mut first = KEYS;
        group.bench_function(*name, |b| {
            let next = || {
                first += BATCH;
                batch(first, random_pair)
            };
            b.iter_batched(next, |pairs| store.write(&pairs), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, append, random);
criterion_main!(benches);
