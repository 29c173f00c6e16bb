//! Opens forged bytes as a tree file, checks it, and reads and writes what passes. Checksums are
//! not compared, so that the fuzzer gets behind them. The input is a list of edits of a sound
//! image: whole pages from nothing are never found by chance. An input that begins with 0xFF is
//! the file itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringbolt::btree::memory::{MemoryPages, read_image};
use ringbolt::btree::{BucketId, Options, Tree, format};
use std::sync::{Arc, OnceLock};

/// Sound images: small pages for depth, and the size that the server uses.
fn images() -> &'static [Vec<u8>; 2] {
    static IMAGES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    IMAGES.get_or_init(|| [512, 4096].map(image))
}

fn image(page_size: u32) -> Vec<u8> {
    let pages = MemoryPages::new();
    pages.run(&format(&Options { page_size }, 7));
    let mut tree = Tree::open(Arc::new(pages.clone()), pages.size()).expect("just made");
    for round in 0..4u32 {
        let mut txn = tree.begin();
        for n in 0..40u32 {
            let key = format!(
                "/registry/{}/{}",
                ["pods", "leases"][n as usize % 2],
                n * 7 % 61
            );
            // Values inside a leaf, and on runs of pages of their own.
            let value = vec![round as u8; if n % 9 == 0 { 3000 } else { n as usize }];
            let bucket = BucketId((n % 4) as u8);
            if (n + round) % 5 == 0 {
                txn.delete(bucket, key.as_bytes()).expect("a sound tree");
            } else {
                txn.put(bucket, key.as_bytes(), &value)
                    .expect("a sound tree");
            }
        }
        let plan = tree.seal(txn).expect("a sound tree");
        tree.committed(pages.run(&plan));
    }
    let bytes = pages.to_bytes();
    assert!(read_image(&bytes, true).is_some(), "the image is sound");
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    if *first == 0xff {
        read_image(rest, false);
        read_image(rest, true);
        return;
    }
    let mut forged = images()[usize::from(*first & 1)].clone();
    // An edit: where (three bytes), how many (one byte), what.
    let mut edits = rest;
    while let [a, b, c, size, tail @ ..] = edits {
        let at = u32::from_le_bytes([*a, *b, *c, 0]) as usize % forged.len();
        let size = usize::from(*size % 16 + 1)
            .min(tail.len())
            .min(forged.len() - at);
        forged[at..at + size].copy_from_slice(&tail[..size]);
        edits = &tail[size..];
    }
    if *first & 2 != 0 {
        let end = forged.len() * usize::from(*first >> 2) / 64;
        forged.truncate(end);
    }
    read_image(&forged, false);
});
