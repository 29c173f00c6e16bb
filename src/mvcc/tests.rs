//! Pure. The store against the model: random writes, reads, compactions, commits, restarts.

use super::model::{Model, Rng, describes};
use super::*;
use crate::btree::{self, Options, Tree, memory::MemoryPages};
use crate::ids::{LeaseId, LogIndex, Revision, Term};
use bytes::Bytes;
use std::sync::Arc;

/// One log entry.
#[derive(Clone, Debug)]
enum Entry {
    /// Keys with values to put, or `None` to delete.
    Txn(Vec<(Vec<u8>, Option<Vec<u8>>, LeaseId)>),
    DeleteRange(Vec<u8>, RangeEnd),
    Compact(i64),
    Small(u8, Vec<u8>, Option<Vec<u8>>),
}

fn new_pages(page_size: u32) -> MemoryPages {
    let pages = MemoryPages::new();
    pages.run(&btree::format(&Options { page_size }, 7));
    pages
}

fn open(pages: &MemoryPages) -> Store {
    let tree = Tree::open(Arc::new(pages.clone()), pages.size()).expect("the file is whole");
    Store::open(Backend::open(tree).expect("meta")).expect("meta")
}

fn commit(store: &mut Store, pages: &MemoryPages) -> LogIndex {
    assert!(store.commit_begin());
    loop {
        if let CommitProgress::Plan(plan) = store.commit_slice(50).expect("the file is whole") {
            return store.committed(pages.run(&plan));
        }
    }
}

fn random_key(rng: &mut Rng) -> Vec<u8> {
    let mut key = vec![b'a' + rng.below(3) as u8];
    for _ in 0..rng.below(3) {
        key.push([0, 1, b'k', 255][rng.below(4) as usize]);
    }
    if rng.chance(2) {
        key.resize(300 + rng.below(900) as usize, b'x');
    }
    key
}

fn random_value(rng: &mut Rng) -> Vec<u8> {
    let size = if rng.chance(3) {
        rng.below(5000)
    } else {
        rng.below(24)
    };
    let fill = b'a' + rng.below(3) as u8;
    let mut value = vec![fill; size as usize];
    if let Some(last) = value.last_mut() {
        *last = b'a' + rng.below(20) as u8;
    }
    value
}

fn random_end(rng: &mut Rng, key: &[u8]) -> RangeEnd {
    match rng.below(5) {
        0 => RangeEnd::Single,
        1 => RangeEnd::FromKey,
        2 => {
            let mut end = key.to_vec();
            *end.last_mut().expect("keys are not empty") += u8::from(end.last() != Some(&255));
            RangeEnd::Before(end.into())
        }
        _ => RangeEnd::Before(random_key(rng).into()),
    }
}

fn random_entry(rng: &mut Rng, model: &Model) -> Entry {
    match rng.below(100) {
        0..80 => {
            let mut ops: Vec<(Vec<u8>, Option<Vec<u8>>, LeaseId)> = Vec::new();
            for _ in 0..(1 + rng.below(40) / 35 * rng.below(6)) {
                let value = (!rng.chance(25)).then(|| random_value(rng));
                let key = match ops.last() {
                    // Twice or more in one revision.
                    Some((key, ..)) if rng.chance(30) => Vec::clone(key),
                    _ => random_key(rng),
                };
                ops.push((key, value, LeaseId(rng.below(2) as i64 * 77)));
            }
            Entry::Txn(ops)
        }
        80..86 => {
            let key = random_key(rng);
            let end = random_end(rng, &key);
            Entry::DeleteRange(key, end)
        }
        86..92 => {
            let span = (model.current - model.compacted.max(0)) as u64;
            Entry::Compact(model.compacted.max(0) + rng.below(span + 2) as i64)
        }
        _ => {
            let value = (!rng.chance(30)).then(|| random_value(rng));
            Entry::Small(5 + rng.below(3) as u8, random_key(rng), value)
        }
    }
}

/// Applies to the store and, when it is given, to the model, comparing what both say.
fn apply(store: &mut Store, entry: &Entry, index: u64, mut model: Option<&mut Model>) {
    match entry {
        Entry::Txn(ops) => {
            let mut txn = store.write();
            for (key, value, lease) in ops {
                let revision = Revision::new(
                    if txn.changes().is_empty() {
                        txn.revision() + 1
                    } else {
                        txn.revision()
                    },
                    txn.changes().len() as i64,
                );
                let changed = match value {
                    Some(value) => {
                        assert_eq!(txn.put(key, value, *lease), Ok(revision));
                        true
                    }
                    None => txn.delete(key).expect("whole"),
                };
                if let Some(model) = &mut model {
                    let previous = model.live(key, i64::MAX).cloned();
                    assert_eq!(
                        model.change(revision, key, value.as_deref(), *lease),
                        changed
                    );
                    if changed {
                        let change = txn.changes().last().expect("just made");
                        let record = model.log.last().expect("just made");
                        assert_eq!(
                            (&change.key[..], &change.kv),
                            (&key[..], &record.event_kv())
                        );
                        match (change.previous, &previous) {
                            (Some(meta), Some(record)) => assert!(describes(&meta, record)),
                            (meta, record) => assert!(meta.is_none() && record.is_none()),
                        }
                    }
                    assert_eq!(txn.kv(key), Ok(model.live(key, i64::MAX).map(|r| r.kv())));
                    assert_eq!(txn.revision(), model.current);
                }
            }
            if let Some(model) = &model {
                let spec = RangeSpec {
                    key: Bytes::from_static(b"a"),
                    end: RangeEnd::FromKey,
                    limit: 3,
                    ..RangeSpec::default()
                };
                let (kvs, count, more) = model.range(&spec);
                assert_eq!(txn.range(&spec), Ok(RangeKvs { kvs, count, more }));
            }
            let changes = txn.finish();
            assert_eq!(changes.revision, store.current());
        }
        Entry::DeleteRange(key, end) => {
            let mut txn = store.write();
            let mut previous = Vec::new();
            let wanted = Some(&mut previous).filter(|_| index.is_multiple_of(2));
            let asked = wanted.is_some();
            let deleted = txn.delete_range(key, end, wanted).expect("whole");
            txn.finish();
            if let Some(model) = model {
                let key = Bytes::copy_from_slice(key);
                let spec = RangeSpec {
                    key,
                    end: end.clone(),
                    ..RangeSpec::default()
                };
                let found = model.in_range(&spec, i64::MAX);
                let kvs: Vec<_> = found.iter().map(|record| record.kv()).collect();
                assert_eq!(previous, if asked { kvs } else { Vec::new() });
                let keys: Vec<_> = found.into_iter().map(|record| record.key.clone()).collect();
                assert_eq!(deleted, keys.len() as u64);
                let main = model.current + 1;
                for (sub, key) in keys.iter().enumerate() {
                    model.change(Revision::new(main, sub as i64), key, None, LeaseId(0));
                }
            }
        }
        Entry::Compact(revision) => {
            let result = store.compact(*revision);
            if let Some(model) = model {
                let (asked, compacted, current) = (*revision, model.compacted, model.current);
                if asked <= compacted {
                    assert_eq!(result, Err(CompactError::Compacted { asked, compacted }));
                } else if asked > current {
                    assert_eq!(result, Err(CompactError::Future { asked, current }));
                } else {
                    assert_eq!(result, Ok(()));
                    model.compacted_before = compacted;
                    model.compacted = asked;
                }
            }
        }
        Entry::Small(bucket, key, value) => {
            let bucket = btree::BucketId(*bucket);
            match value {
                Some(value) => store.put_small(bucket, key, value),
                None => store.delete_small(bucket, key),
            }
            if let Some(model) = model {
                let place = (bucket.0, key.clone());
                match value {
                    Some(value) => model.small.insert(place, value.clone()),
                    None => model.small.remove(&place),
                };
            }
        }
    }
    store.set_consistent(LogIndex(index), Term(1));
}

fn random_spec(rng: &mut Rng, model: &Model) -> RangeSpec {
    let key = random_key(rng);
    let end = if rng.chance(30) {
        RangeEnd::FromKey
    } else {
        random_end(rng, &key)
    };
    let some = |rng: &mut Rng, percent| {
        if rng.chance(percent) {
            1 + rng.below(model.current as u64 + 1) as i64
        } else {
            0
        }
    };
    let target = rng.below(9) as usize;
    RangeSpec {
        key: key.into(),
        end,
        revision: some(rng, 60),
        limit: if rng.chance(50) {
            rng.below(12) as i64 - 1
        } else {
            0
        },
        keys_only: rng.chance(20),
        count_only: rng.chance(10),
        min_mod: some(rng, 8),
        max_mod: some(rng, 8),
        min_create: some(rng, 8),
        max_create: some(rng, 8),
        sort_target: [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ][target.min(4) * usize::from(target < 5)],
        sort_order: [SortOrder::None, SortOrder::Ascend, SortOrder::Descend][rng.below(3) as usize],
    }
}

fn check_range(rng: &mut Rng, view: &View, model: &Model) {
    let spec = random_spec(rng, model);
    let (asked, current, compacted) = (spec.revision, model.current, model.compacted);
    let mut scan = match RangeScan::new(view.clone(), spec.clone()) {
        Ok(scan) => scan,
        Err(RangeError::Future { .. }) => return assert!(asked > current),
        Err(RangeError::Compacted { .. }) => return assert!(asked > 0 && asked < compacted),
        Err(RangeError::Corrupt(corrupt)) => panic!("{corrupt}"),
    };
    assert!(asked <= current && (asked <= 0 || asked >= compacted));
    let (kvs, count, more) = model.range(&spec);
    let mut measured = None;
    if rng.chance(50) {
        while scan.measure(1 + rng.below(40) as usize) == Ok(Progress::More) {}
        measured = scan.totals();
        assert!(measured.is_some());
    } else if rng.chance(20) {
        let _ = scan.measure(3);
    }
    let mut bytes = Vec::new();
    let mut found: Vec<Bytes> = Vec::new();
    struct Both<'a>(&'a mut Vec<Bytes>, &'a mut Vec<u8>);
    impl Sink for Both<'_> {
        fn kv(&mut self, kv: &[u8]) {
            self.0.kv(kv);
            RangeResponseSink(self.1).kv(kv);
        }
    }
    let mut both = Both(&mut found, &mut bytes);
    while scan
        .slice(1 + rng.below(40) as usize, &mut both)
        .expect("whole")
        == Progress::More
    {}
    assert_eq!(found, kvs, "{spec:?}");
    let (kvs, kvs_bytes) = (kvs.len() as u64, bytes.len() as u64);
    let totals = RangeTotals {
        count,
        more,
        kvs,
        kvs_bytes,
    };
    assert_eq!(scan.totals(), Some(totals), "{spec:?}");
    assert!(measured.is_none_or(|measured| measured == totals));
}

fn hash(rng: &mut Rng, mut scan: HashScan) -> u32 {
    while scan.slice(1 + rng.below(60) as usize).expect("whole") == Progress::More {}
    scan.hash().hash
}

fn check_view(rng: &mut Rng, view: &View, model: &Model) {
    assert_eq!(
        (view.revision(), view.compacted()),
        (model.current, model.compacted)
    );
    for _ in 0..6 {
        check_range(rng, view, model);
    }
    let key = random_key(rng);
    assert_eq!(
        view.kv(&key),
        Ok(model.live(&key, i64::MAX).map(|record| record.kv()))
    );
    let from = model.compacted.max(0) + rng.below(30) as i64;
    let to = from + rng.below(60) as i64;
    let mut scan = ChangeScan::new(view.clone(), from, to).expect("above the compacted revision");
    let mut seen = Vec::new();
    let mut visit = |change: LoggedChange<'_>| {
        seen.push((
            change.revision,
            change.key.to_vec(),
            Bytes::copy_from_slice(change.kv),
        ));
    };
    while scan.slice(1 + rng.below(20) as usize, &mut visit) == Ok(Progress::More) {}
    let main = |revision: &Revision| revision.main;
    let expected: Vec<_> = model
        .log
        .iter()
        .filter(|r| (from..=to).contains(&r.revision.main) && from > model.compacted)
        .map(|record| (record.revision, record.key.clone(), record.event_kv()))
        .collect();
    if from > model.compacted {
        assert_eq!(seen, expected);
    }
    for (revision, key, _) in &seen {
        let before = model
            .live(key, main(revision) - 1)
            .map(|record| record.kv());
        let record = model.log.iter().find(|r| r.revision == *revision);
        let record = record.expect("the model made it");
        let created = !record.tombstone && record.create_revision == main(revision);
        let before = before.filter(|_| main(revision) > model.compacted && !created);
        assert_eq!(view.previous(key, *revision), Ok(before));
    }
    for bucket in 5..8 {
        let expected = model.small.iter().filter(|((id, _), _)| *id == bucket);
        let expected: Vec<_> = expected.map(|((_, k), v)| (k.clone(), v.clone())).collect();
        let mut found = Vec::new();
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            let visit = &mut |key: &[u8], value: &[u8]| {
                found.push((key.to_vec(), value.to_vec()));
                true
            };
            from = view
                .small_scan(btree::BucketId(bucket), &key, 3, visit)
                .expect("whole");
        }
        assert_eq!(found, expected);
    }
    if rng.chance(30) {
        let low = model.compacted.max(1) as u64;
        let at = low + rng.below(model.current as u64 - low + 1);
        let scan = HashScan::new(view.clone(), at as i64).expect("readable");
        assert_eq!(hash(rng, scan), model.hash(at as i64));
    }
}

fn run(seed: u64, steps: u64, page_size: u32) {
    let mut rng = Rng(seed);
    let pages = new_pages(page_size);
    let mut store = open(&pages);
    let mut model = Model::new();
    let mut log: Vec<Entry> = Vec::new();
    let mut views: Vec<(View, Model)> = Vec::new();
    for _ in 0..steps {
        let entry = random_entry(&mut rng, &model);
        log.push(entry);
        let entry = log.last().expect("just pushed");
        apply(&mut store, entry, log.len() as u64, Some(&mut model));
        assert_eq!(
            (store.current(), store.compacted()),
            (model.current, model.compacted)
        );
        if rng.chance(4) && !store.is_committing() {
            store.commit_begin();
        }
        if store.is_committing() && rng.chance(60) {
            let progress = store
                .commit_slice(1 + rng.below(60) as usize)
                .expect("whole");
            if let CommitProgress::Plan(plan) = progress {
                store.committed(pages.run(&plan));
            }
        }
        if rng.chance(30) {
            store
                .compact_slice(1 + rng.below(30) as usize)
                .expect("whole");
        }
        if rng.chance(6) {
            check_view(&mut rng, &store.view(), &model);
        }
        if rng.chance(2) {
            views.push((store.view(), model.clone()));
        }
        if views.len() > 4 || (rng.chance(3) && !views.is_empty()) {
            let (view, then) = views.swap_remove(rng.below(views.len() as u64) as usize);
            check_view(&mut rng, &view, &then);
        }
        if rng.chance(1) {
            // A crash: views go, what was not committed is replayed behind the consistent index.
            views.clear();
            store = open(&pages);
            let from = store.consistent().0;
            assert_eq!(from, store.durable());
            for (at, entry) in log.iter().enumerate().skip(from.0 as usize) {
                apply(&mut store, entry, at as u64 + 1, None);
            }
            check_view(&mut rng, &store.view(), &model);
        }
    }
    while store.compact_slice(100).expect("whole") != CompactProgress::Done {}
    commit_all(&mut store, &pages);
    check_view(&mut rng, &store.view(), &model);
    check_physical(&store, &model);
    store.backend().tree().check().expect("the tree is sound");
}

fn commit_all(store: &mut Store, pages: &MemoryPages) {
    if store.is_committing() {
        loop {
            if let CommitProgress::Plan(plan) = store.commit_slice(50).expect("whole") {
                store.committed(pages.run(&plan));
                break;
            }
        }
    }
    if store.is_changed() {
        commit(store, pages);
    }
}

/// After everything is compacted and committed, the file has what etcd's would, and no waypoint or
/// index entry without a record.
fn check_physical(store: &Store, model: &Model) {
    let newest: std::collections::BTreeMap<_, _> = model
        .log
        .iter()
        .map(|record| (record.key.clone(), record.revision))
        .collect();
    let (mut records, mut indexed) = (0, 0);
    for record in &model.log {
        let at = model.newest(&record.key, model.compacted);
        let kept = record.revision.main > model.compacted
            || at.is_some_and(|at| {
                at.revision == record.revision
                    && (!record.tombstone || at.revision.main == model.compacted)
            });
        let found = store
            .state()
            .record(record.revision, record.tombstone)
            .expect("whole");
        assert_eq!(
            found.map(|found| found.kv.to_bytes()),
            kept.then(|| record.kv())
        );
        records += u64::from(kept);
        let entry = store.state().index(&record.key).expect("whole");
        if newest[&record.key] == record.revision {
            assert_eq!(entry.is_some(), kept);
            indexed += u64::from(kept);
        }
    }
    let tree = &store.state().tree;
    assert_eq!(tree.bucket(schema::KEY).len(), records);
    assert_eq!(tree.bucket(schema::INDEX).len(), indexed);
    let waypoints = tree.bucket(schema::HISTORY).len();
    assert!(
        waypoints <= records,
        "{waypoints} waypoints for {records} records"
    );
}

// Catches: wrong answers of any read after any mix of writes, slices, commits and restarts; views
// that change; hashes that depend on how far commits and compaction are; leftovers in the file.
#[test]
fn equals_the_model() {
    for seed in 0..6 {
        run(seed, 700, [512, 1024, 4096][seed as usize % 3]);
    }
}

// The same for longer: rarer mixes, longer chains, deeper trees.
#[test]
#[ignore = "takes a minute"]
fn equals_the_model_for_long() {
    for seed in 100..140 {
        run(seed, 2500, [512, 1024, 4096][seed as usize % 3]);
    }
}

// Catches: a key that is skipped or deleted twice where one walk over a range ends and the next
// goes on, over what is in the file and what is not; previous values of another moment.
#[test]
fn a_delete_of_many_keys() {
    let pages = new_pages(1024);
    let mut store = open(&pages);
    let count = 2 * crate::limits::mvcc::DELETE_WALK_ENTRIES + 100;
    let name = |n: usize| format!("key/{n:06}").into_bytes();
    for n in 0..count {
        let mut txn = store.write();
        txn.put(&name(n), n.to_string().as_bytes(), LeaseId(0))
            .expect("whole");
        txn.finish();
        store.set_consistent(LogIndex(n as u64 + 1), Term(1));
        if n == count / 2 {
            commit_all(&mut store, &pages);
        }
    }
    let mut previous = Vec::new();
    let mut txn = store.write();
    txn.put(b"key/", b"own", LeaseId(0)).expect("whole");
    let end = RangeEnd::Before(name(count - 1).into());
    let deleted = txn.delete_range(b"key/", &end, Some(&mut previous));
    assert_eq!(deleted, Ok(count as u64));
    let changes = txn.finish();
    let keys: Vec<&[u8]> = changes.changes[1..].iter().map(|c| &c.key[..]).collect();
    let mut expected: Vec<Vec<u8>> = (0..count - 1).map(name).collect();
    expected.insert(0, b"key/".to_vec());
    assert_eq!(keys, expected);
    let subs: Vec<i64> = changes.changes.iter().map(|c| c.revision.sub).collect();
    assert_eq!(subs, (0..=count as i64).collect::<Vec<_>>());
    let named = |kv: &Bytes| crate::backend::kv_key(kv).map(<[u8]>::to_vec);
    let previous: Vec<_> = previous.iter().filter_map(named).collect();
    assert_eq!(previous, expected);
    let left = RangeSpec {
        key: Bytes::from_static(b"key/"),
        end: RangeEnd::FromKey,
        ..RangeSpec::default()
    };
    assert_eq!(store.write().range(&left).map(|found| found.count), Ok(1));
}

// Catches: a hash that depends on when commits and compaction slices fell.
#[test]
fn hash_is_the_same_however_commits_fell() {
    let mut rng = Rng(99);
    let mut model = Model::new();
    let mut entries = Vec::new();
    let mut first = open(&new_pages(1024));
    for index in 0..600 {
        let entry = random_entry(&mut rng, &model);
        apply(&mut first, &entry, index + 1, Some(&mut model));
        entries.push(entry);
    }
    let pages = new_pages(512);
    let mut second = open(&pages);
    for (index, entry) in entries.iter().enumerate() {
        apply(&mut second, entry, index as u64 + 1, None);
        if index % 37 == 0 {
            commit_all(&mut second, &pages);
        }
        second.compact_slice(7).expect("whole");
    }
    let expected = model.hash(model.current);
    for store in [&first, &second] {
        let scan = HashScan::new(store.view(), 0).expect("readable");
        assert_eq!(hash(&mut rng, scan), expected);
    }
}

// Catches: a compaction that keeps dead keys in memory or file: the index of a key whose tombstone
// is gone, its waypoints, and a kept tombstone that the next compaction forgets.
#[test]
fn compaction_leaves_nothing_of_a_deleted_key() {
    let pages = new_pages(512);
    let mut store = open(&pages);
    let mut index = 0;
    let mut write = |store: &mut Store, value: Option<&[u8]>| {
        let mut txn = store.write();
        match value {
            Some(value) => drop(txn.put(b"k", value, LeaseId(0))),
            None => drop(txn.delete(b"k")),
        }
        txn.finish();
        index += 1;
        store.set_consistent(LogIndex(index), Term(1));
    };
    for _ in 0..100 {
        write(&mut store, Some(b"v"));
    }
    write(&mut store, None);
    let deleted_at = store.current();
    commit_all(&mut store, &pages);
    assert_eq!(store.state().tree.bucket(schema::HISTORY).len(), 6);
    store.compact(deleted_at).expect("below current");
    while store.compact_slice(9).expect("whole") != CompactProgress::Done {}
    commit_all(&mut store, &pages);
    let count = |store: &Store, bucket| store.state().tree.bucket(bucket).len();
    // The tombstone at the compacted revision stays for watchers of that revision.
    assert_eq!(count(&store, schema::KEY), 1);
    assert_eq!(count(&store, schema::INDEX), 1);
    assert_eq!(count(&store, schema::HISTORY), 0);
    let mut txn = store.write();
    txn.put(b"other", b"", LeaseId(0)).expect("whole");
    txn.finish();
    store.compact(store.current()).expect("below current");
    while store.compact_slice(9).expect("whole") != CompactProgress::Done {}
    commit_all(&mut store, &pages);
    assert_eq!(
        (count(&store, schema::KEY), count(&store, schema::INDEX)),
        (1, 1)
    );
    assert_eq!(store.view().kv(b"k"), Ok(None));
}

// Catches: a snapshot that loses records, links or waypoints on its way out and in again.
#[test]
fn an_imported_store_equals_its_origin() {
    let mut rng = Rng(5);
    let (mut store, mut model) = (open(&new_pages(1024)), Model::new());
    for index in 0..500 {
        let entry = random_entry(&mut rng, &model);
        apply(&mut store, &entry, index + 1, Some(&mut model));
        store.compact_slice(2).expect("whole");
    }
    let pages = new_pages(512);
    let mut copy = open(&pages);
    let mut scan = RecordScan::new(store.view());
    let mut records = Vec::new();
    let mut visit = |key: &[u8], kv: &[u8]| {
        records.push((key.to_vec(), Bytes::copy_from_slice(kv)));
    };
    while scan.slice(7, &mut visit) == Ok(Progress::More) {}
    for (number, (key, kv)) in records.iter().enumerate() {
        copy.import_record(key, kv.clone()).expect("in order");
        if number % 100 == 50 {
            commit(&mut copy, &pages);
        }
    }
    let (key, kv) = records[3].clone();
    assert!(matches!(
        copy.import_record(&key, kv),
        Err(ImportError::Order { .. })
    ));
    copy.import_revisions(store.current(), store.compacted());
    for ((bucket, key), value) in &model.small {
        copy.put_small(btree::BucketId(*bucket), key, value);
    }
    for _ in 0..20 {
        check_view(&mut rng, &copy.view(), &model);
    }
    while copy.compact_slice(100).expect("whole") != CompactProgress::Done {}
    commit_all(&mut copy, &pages);
    let copy = open(&pages);
    check_view(&mut rng, &copy.view(), &model);
    check_physical(&copy, &model);
}

// Catches: a panic or an endless walk on entries that pass the tree's checksums but not ours.
#[test]
fn foreign_entries_never_panic() {
    for seed in 0..150 {
        let mut rng = Rng(seed);
        let (pages, mut model) = (new_pages(512), Model::new());
        let mut store = open(&pages);
        for index in 0..120 {
            let entry = random_entry(&mut rng, &model);
            apply(&mut store, &entry, index + 1, Some(&mut model));
        }
        commit(&mut store, &pages);
        let file = |pages: &MemoryPages| {
            Tree::open(Arc::new(pages.clone()), pages.size()).expect("the file is whole")
        };
        let mut tree = file(&pages);
        let mut txn = tree.begin();
        for _ in 0..1 + rng.below(4) {
            let bucket = btree::BucketId(1 + rng.below(4) as u8);
            let snapshot = tree.read();
            let mut cursor = snapshot.bucket(bucket).cursor();
            let mut found = cursor.first().expect("whole");
            for _ in 0..rng.below(40) {
                found = found && cursor.next().expect("whole");
            }
            let Some((key, value)) = cursor.current().expect("whole") else {
                continue;
            };
            let mut value = value.to_vec();
            match rng.below(3) {
                0 => value.truncate(rng.below(value.len() as u64 + 1) as usize),
                1 => value.push(rng.below(256) as u8),
                _ => {
                    let at = rng.below(value.len() as u64) as usize;
                    value[at] =
                        [0, 1, 0x7f, 0x80, 0xff, rng.below(256) as u8][rng.below(6) as usize];
                }
            }
            txn.put(bucket, key, &value).expect("whole");
        }
        let plan = tree.seal(txn).expect("whole");
        tree.committed(pages.run(&plan));
        let Ok(backend) = Backend::open(file(&pages)) else {
            continue;
        };
        let Ok(mut store) = Store::open(backend) else {
            continue;
        };
        use_everything(&mut rng, &mut store, &model);
    }
}

/// Whatever it says, it must say something.
fn use_everything(rng: &mut Rng, store: &mut Store, model: &Model) {
    for _ in 0..30 {
        let spec = random_spec(rng, model);
        if let Ok(mut scan) = RangeScan::new(store.view(), spec) {
            while scan.slice(10, &mut Vec::<Bytes>::new()) == Ok(Progress::More) {}
        }
    }
    if let Ok(mut scan) = HashScan::new(store.view(), 0) {
        while scan.slice(10) == Ok(Progress::More) {}
    }
    if let Ok(mut scan) = ChangeScan::new(store.view(), store.compacted(), i64::MAX) {
        while scan.slice(10, &mut |_| {}) == Ok(Progress::More) {}
    }
    let mut txn = store.write();
    for _ in 0..30 {
        let key = random_key(rng);
        let _ = (
            txn.kv(&key),
            txn.put(&key, b"v", LeaseId(0)),
            txn.delete(&random_key(rng)),
        );
    }
    txn.finish();
    let _ = store.compact(store.current());
    while store.compact_slice(10) == Ok(CompactProgress::More) {}
}

// Catches: a generation freed while a view reads it, and one that is never freed.
#[test]
fn generations_are_freed_when_the_last_view_is_gone() {
    let pages = new_pages(1024);
    let mut store = open(&pages);
    let mut txn = store.write();
    for number in 0..1000u64 {
        txn.put(&number.to_be_bytes(), b"value", LeaseId(0))
            .expect("whole");
    }
    txn.finish();
    let view = store.view();
    commit(&mut store, &pages);
    assert!(!store.release_slice(100));
    let read = |view: &View| view.kv(&7u64.to_be_bytes()).expect("whole");
    let before = read(&view);
    assert!(before.is_some());
    assert_eq!(read(&store.view()), before);
    drop((view, before));
    let mut slices = 0;
    while store.release_slice(100) {
        slices += 1;
    }
    assert!((10..100).contains(&slices), "{slices}");
    assert!(read(&store.view()).is_some());
}

// Catches: a defragmentation that does not end, does not shorten the file, or breaks the store.
#[test]
fn defragmentation_gives_space_back() {
    let pages = new_pages(1024);
    let mut store = open(&pages);
    for round in 0..4u64 {
        let mut txn = store.write();
        for number in 0..1000u64 {
            txn.put(&number.to_be_bytes(), &[round as u8; 300], LeaseId(0))
                .expect("whole");
        }
        txn.finish();
        commit(&mut store, &pages);
    }
    store.compact(store.current()).expect("not compacted");
    while store.compact_slice(100).expect("whole") != CompactProgress::Done {}
    commit(&mut store, &pages);
    commit_all(&mut store, &pages);
    let before = store.size_bytes();
    assert!(store.defragment_begin());
    let mut commits = 0;
    while store.defragment_progress() != DefragmentProgress::Idle {
        commit(&mut store, &pages);
        commits += 1;
        assert!(commits < 100);
    }
    let (after, used) = (store.size_bytes(), store.in_use_bytes());
    assert!(
        after < before / 2 && after < used + used / 4 + 120 * 1024,
        "{before} {after} {used}"
    );
    assert_eq!(pages.size(), after);
    store.backend().tree().check().expect("the tree is sound");
    assert!(!store.defragment_begin());
}

// Catches: a historic read of a much-overwritten key that walks every link.
#[test]
fn historic_reads_of_a_hot_key_find_every_version() {
    let pages = new_pages(1024);
    let mut store = open(&pages);
    for number in 0..2000u64 {
        let mut txn = store.write();
        txn.put(b"hot", &number.to_le_bytes(), LeaseId(0))
            .expect("whole");
        txn.finish();
        store.set_consistent(LogIndex(number + 1), Term(1));
        if number % 700 == 600 {
            commit(&mut store, &pages);
        }
    }
    let view = store.view();
    for revision in 2..=2001i64 {
        let key = Bytes::from_static(b"hot");
        let spec = RangeSpec {
            revision,
            ..RangeSpec::single(key)
        };
        let mut found: Vec<Bytes> = Vec::new();
        let mut scan = RangeScan::new(view.clone(), spec).expect("readable");
        assert_eq!(scan.slice(1, &mut found), Ok(Progress::Done));
        let fields = KvFields::parse(&found[0]).expect("a KeyValue");
        assert_eq!(
            (fields.mod_revision, fields.version),
            (revision, revision - 1)
        );
    }
}

// Catches: a sorted range within a transaction taken for finished after its sorting pass.
#[test]
fn a_sorted_range_within_a_transaction_finishes() {
    let pages = new_pages(4096);
    let mut store = open(&pages);
    let mut write = store.write();
    for key in [&b"a"[..], b"b", b"c"] {
        write.put(key, b"v", LeaseId(0)).expect("the file is whole");
    }
    let spec = RangeSpec {
        key: Bytes::from_static(b"a"),
        end: RangeEnd::FromKey,
        limit: 1,
        sort_target: SortTarget::Create,
        sort_order: SortOrder::Descend,
        ..RangeSpec::default()
    };
    let found = write.range(&spec).expect("the file is whole");
    assert_eq!((found.kvs.len(), found.count, found.more), (1, 3, true));
    drop(write.finish());
}
