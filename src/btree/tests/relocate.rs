//! Pure. Giving space back: the file gets short, nobody notices.

use super::Random;
use crate::btree::memory::MemoryPages;
use crate::btree::{BucketId, Options, ReadTxn, Relocated, Tree, format};
use std::collections::BTreeMap;
use std::sync::Arc;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
const BUCKET: BucketId = BucketId(3);

fn commit(pages: &MemoryPages, tree: &mut Tree, txn: crate::btree::WriteTxn) {
    let plan = tree.seal(txn).unwrap();
    tree.committed(pages.run(&plan));
    tree.check().unwrap();
}

fn read(txn: &ReadTxn) -> Model {
    let mut model = Model::new();
    let mut cursor = txn.bucket(BUCKET).cursor();
    while cursor.next().unwrap() {
        let (key, value) = cursor.current().unwrap().unwrap();
        model.insert(key.to_vec(), value.to_vec());
    }
    model
}

fn run(seed: u64, page_size: u32, sizes: u64) {
    let mut random = Random(seed);
    let pages = MemoryPages::new();
    pages.run(&format(&Options { page_size }, 7));
    let mut tree = Tree::open(Arc::new(pages.clone()), pages.size()).unwrap();
    let mut model = Model::new();
    let number = |n: u64| format!("{n:08}").into_bytes();
    for _ in 0..20 {
        let mut txn = tree.begin();
        for _ in 0..400 {
            let key = if random.below(8) == 0 {
                random.key(sizes)
            } else {
                number(random.next())
            };
            let value = random.value(sizes);
            txn.put(BUCKET, &key, &value).unwrap();
            model.insert(key, value);
        }
        commit(&pages, &mut tree, txn);
    }
    // Nine of ten keys go: the file stays.
    let gone: Vec<_> = model
        .keys()
        .filter(|_| random.below(10) != 0)
        .cloned()
        .collect();
    let mut txn = tree.begin();
    for key in gone {
        assert!(txn.delete(BUCKET, &key).unwrap());
        model.remove(&key);
    }
    commit(&pages, &mut tree, txn);
    let before = tree.size_bytes();
    assert!(tree.in_use_bytes() < before / 3);

    let mut relocation = tree.relocation(1).unwrap();
    let mut reader = Some((tree.read(), model.clone()));
    let mut rounds = 0;
    loop {
        rounds += 1;
        assert!(rounds < 10_000, "a relocation ends");
        let mut txn = tree.begin();
        // Ordinary work goes on in the same transactions.
        for _ in 0..random.below(5) {
            let (key, value) = (number(random.next()), random.value(sizes));
            txn.put(BUCKET, &key, &value).unwrap();
            model.insert(key, value);
        }
        let found = txn.relocate_slice(&tree, &mut relocation, 8, 40).unwrap();
        commit(&pages, &mut tree, txn);
        if (found == Relocated::Waiting || rounds == 20)
            && let Some((reader, model)) = reader.take()
        {
            assert_eq!(read(&reader), model);
        }
        if found == Relocated::Done {
            break;
        }
    }
    drop(reader);
    for _ in 0..2 {
        let mut txn = tree.begin();
        txn.shrink();
        commit(&pages, &mut tree, txn);
    }
    assert_eq!(pages.size(), tree.size_bytes());
    let (used, size) = (tree.in_use_bytes(), tree.size_bytes());
    let slack = u64::from(page_size) * 120;
    assert!(
        size < used + used / 4 + slack,
        "{used} bytes in use, {size} of {before} left"
    );
    assert_eq!(read(&tree.read()), model);
    let mut tree = Tree::open(Arc::new(pages.clone()), pages.size()).unwrap();
    tree.check().unwrap();
    assert_eq!(read(&tree.read()), model);
    let mut txn = tree.begin();
    for n in 0..5000 {
        txn.put(BUCKET, &number(n), b"the file grows again")
            .unwrap();
    }
    commit(&pages, &mut tree, txn);
}

// Would catch: a page cut off that is still in use, a relocation that does not end or does not
// empty the tail, bitmaps of regions that are gone.
#[test]
fn a_relocation_shortens_the_file() {
    run(1, 512, 6);
    run(2, 512, 30);
    run(3, 4096, 6);
    run(4, 1024, 100);
}
