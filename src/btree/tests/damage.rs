//! Pure. Damaged and forged files: errors, never panics, never endless work.

use super::Random;
use crate::btree::memory::{MemoryPages, read_image};
use crate::btree::{BucketId, Options, Tree, format};
use std::sync::Arc;

fn image(page_size: u32) -> Vec<u8> {
    let pages = MemoryPages::new();
    pages.run(&format(&Options { page_size }, 7));
    let mut tree = Tree::open(Arc::new(pages.clone()), pages.size()).unwrap();
    let mut random = Random(5);
    for _ in 0..3 {
        let mut txn = tree.begin();
        for _ in 0..60 {
            let (key, value) = (random.key(60), random.value(8));
            txn.put(BucketId(random.below(4) as u8), &key, &value)
                .unwrap();
        }
        let plan = tree.seal(txn).unwrap();
        tree.committed(pages.run(&plan));
    }
    let mut bytes = pages.to_bytes();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.truncate(end.next_multiple_of(page_size as usize));
    bytes
}

// Would catch: a panic, an out-of-bounds read or an endless loop on bytes that no one of us wrote;
// with checksums off, as if the forger had computed them.
#[test]
fn forged_bytes_never_panic() {
    for (page_size, rounds) in [(512, 3000), (4096, 300)] {
        let sound = image(page_size);
        assert!(read_image(&sound, true).is_some());
        assert!(read_image(&sound, false).is_some());
        let mut random = Random(page_size.into());
        for _ in 0..rounds {
            let mut bytes = sound.clone();
            for _ in 0..random.below(4) + 1 {
                // Page headers and metas are hit as often as everything else together.
                let page = random.below(bytes.len() as u64 / 512) * 512;
                let reach = [48, 512][random.below(2) as usize];
                let within = random.below(reach);
                let at = (page + within) as usize;
                bytes[at] = match random.below(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => bytes[at].wrapping_add(1),
                    _ => random.next() as u8,
                };
            }
            read_image(&bytes, false);
        }
        // Numbers of a meta at their end, which the next commit would take beyond it.
        for slot in [0, 4096] {
            for at in (0..256).step_by(8) {
                let mut bytes = sound.clone();
                bytes[slot + at..][..8].fill(0xff);
                read_image(&bytes, false);
                bytes[slot + at] &= 0xfe;
                read_image(&bytes, false);
            }
        }
        // A file that was cut anywhere.
        for _ in 0..50 {
            let end = random.below(sound.len() as u64) as usize;
            read_image(&sound[..end], true);
            read_image(&sound[..end], false);
        }
    }
}
