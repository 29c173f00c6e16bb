//! Pure. The dumps, as goldens: they pin the layout.

use crate::btree::memory::MemoryPages;
use crate::btree::{BucketId, Options, Tree, dump, format};
use crate::ids::PageId;
use std::sync::Arc;

fn small_tree() -> (MemoryPages, Tree) {
    let pages = MemoryPages::new();
    pages.run(&format(&Options { page_size: 512 }, 0x7e57));
    let mut tree = Tree::open(Arc::new(pages.clone()), pages.size()).unwrap();
    let mut txn = tree.begin();
    for n in 0..40 {
        let key = format!("/pods/{n:03}");
        txn.put(BucketId(1), key.as_bytes(), b"twenty bytes of value")
            .unwrap();
    }
    txn.put(BucketId(2), b"long value", &[b'v'; 700]).unwrap();
    txn.put(BucketId(2), &[b'k'; 90], b"long key").unwrap();
    let plan = tree.seal(txn).unwrap();
    tree.committed(pages.run(&plan));
    (pages, tree)
}

// Would catch: a change of the layout that keeps version 1. The checksums cover every byte of the
// file, so this test fails when any of them moves.
#[test]
fn the_layout_of_version_1_does_not_change() {
    let (pages, tree) = small_tree();
    let mut found = dump::metas(&pages);
    found.push_str(&tree.dump_buckets());
    found.push_str(&tree.dump_free());
    for page in [16, 19, 20, 22, 23, 24, 25] {
        found.push_str(&format!("-- page {page}\n"));
        found.push_str(&tree.dump_page(PageId(page)));
    }
    if std::env::var_os("REWRITE").is_some() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/btree/tests/dump.golden");
        return std::fs::write(golden, found).unwrap();
    }
    let golden = include_str!("dump.golden");
    if found != golden {
        let at = found.lines().zip(golden.lines()).position(|(a, b)| a != b);
        panic!("first difference in line {at:?}; the dump is now:\n{found}");
    }
}
