//! Driver. A tree file in memory, for tests, benches and tools.

use super::error::Corrupt;
use super::plan::{Plan, Receipt, Step};
use super::read::{BucketId, ReadTxn};
use super::tree::Tree;
use super::write::WriteTxn;
use crate::env::{PageRef, PageSource, TreeFile};
use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

const BLOCK: usize = 4096;

/// A growing file of shared blocks; clones are the same file. A block that a reader holds keeps its
/// bytes when it is overwritten, as the simulator's disk does.
#[derive(Clone, Default)]
pub struct MemoryPages {
    file: Arc<RwLock<Blocks>>,
}

#[derive(Default)]
struct Blocks {
    size: u64,
    blocks: Vec<Arc<[u8]>>,
}

impl MemoryPages {
    pub fn new() -> MemoryPages {
        MemoryPages::default()
    }

    /// A file with these bytes.
    pub fn from_bytes(bytes: &[u8]) -> MemoryPages {
        let pages = MemoryPages::new();
        pages.resize(bytes.len() as u64);
        pages.overwrite(0, bytes);
        pages
    }

    /// The whole file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::with_capacity(file.blocks.len() * BLOCK);
        file.blocks
            .iter()
            .for_each(|block| bytes.extend_from_slice(block));
        bytes.truncate(file.size as usize);
        bytes
    }

    pub fn size(&self) -> u64 {
        self.file
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .size
    }

    /// Carries a plan out.
    pub fn run(&self, plan: &Plan) -> Receipt {
        for step in &plan.steps {
            match step {
                Step::SetSize(size) => self.resize(*size),
                Step::Write { offset, bytes } => self.overwrite(*offset, bytes),
                Step::Sync => {}
            }
        }
        plan.receipt.clone()
    }

    pub fn resize(&self, size: u64) {
        let mut file = self.file.write().unwrap_or_else(PoisonError::into_inner);
        if size < file.size {
            let (block, keep) = (
                (size / BLOCK as u64) as usize,
                (size % BLOCK as u64) as usize,
            );
            if let Some(last) = file.blocks.get_mut(block) {
                let mut bytes = last.to_vec();
                bytes[keep..].fill(0);
                *last = bytes.into();
            }
        }
        file.size = size;
        let blocks = size.div_ceil(BLOCK as u64) as usize;
        file.blocks.resize_with(blocks, || Arc::new([0; BLOCK]));
    }

    /// Overwrites; the file must be large enough.
    pub fn overwrite(&self, offset: u64, bytes: &[u8]) {
        let mut file = self.file.write().unwrap_or_else(PoisonError::into_inner);
        assert!(
            offset + bytes.len() as u64 <= file.size,
            "a plan sets the size first"
        );
        let mut at = offset as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = at % BLOCK;
            let (now, later) = rest.split_at(rest.len().min(BLOCK - within));
            let block = &mut file.blocks[at / BLOCK];
            if let Some(block) = Arc::get_mut(block) {
                block[within..within + now.len()].copy_from_slice(now);
            } else {
                let mut copy = block.to_vec();
                copy[within..within + now.len()].copy_from_slice(now);
                *block = copy.into();
            }
            at += now.len();
            rest = later;
        }
    }
}

impl PageSource for MemoryPages {
    fn read(&self, range: Range<u64>) -> Option<PageRef<'_>> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        if range.start > range.end || range.end > file.size {
            return None;
        }
        let (start, end) = (range.start as usize, range.end as usize);
        if start.is_multiple_of(BLOCK) && end - start == BLOCK {
            return Some(PageRef::Shared(file.blocks[start / BLOCK].clone()));
        }
        let mut bytes = Vec::with_capacity(end - start);
        let mut at = start;
        while at < end {
            let stop = end.min((at / BLOCK + 1) * BLOCK);
            let block = at / BLOCK;
            bytes.extend_from_slice(&file.blocks[block][at % BLOCK..stop - block * BLOCK]);
            at = stop;
        }
        Some(PageRef::Shared(bytes.into()))
    }
}

impl TreeFile for MemoryPages {
    fn size(&self) -> u64 {
        MemoryPages::size(self)
    }

    fn pages(&self) -> Arc<dyn PageSource> {
        Arc::new(self.clone())
    }

    async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        self.overwrite(offset, &bytes);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    async fn set_size(&self, size: u64) -> io::Result<()> {
        self.resize(size);
        Ok(())
    }
}

/// A file image that no longer changes: values are borrowed from it, as from a map.
pub struct FrozenPages(Vec<u8>);

impl FrozenPages {
    pub fn new(bytes: Vec<u8>) -> FrozenPages {
        FrozenPages(bytes)
    }
}

impl PageSource for FrozenPages {
    fn read(&self, range: Range<u64>) -> Option<PageRef<'_>> {
        let (start, end) = (
            usize::try_from(range.start).ok()?,
            usize::try_from(range.end).ok()?,
        );
        Some(PageRef::Mapped(self.0.get(start..end)?))
    }
}

/// Opens a file image, checks it, reads everything that a sound one holds, and then reads and
/// writes whatever it is: the whole way of foreign bytes through this module. `checksums` off
/// lets a fuzzer get behind them. Returns the bytes of all keys and values, or `None` when the
/// image is refused.
pub fn read_image(bytes: &[u8], checksums: bool) -> Option<u64> {
    let pages = MemoryPages::from_bytes(bytes);
    let source: Arc<dyn PageSource> = Arc::new(pages.clone());
    let open = if checksums {
        Tree::open
    } else {
        Tree::open_unchecked
    };
    let mut tree = open(source, bytes.len() as u64).ok()?;
    let found = tree.check().and_then(|_| tree.read_everything()).ok();
    // What the check refuses must do no harm either: errors, but no panic and no endless work.
    let _ = use_image(&pages, &mut tree);
    found
}

fn use_image(pages: &MemoryPages, tree: &mut Tree) -> Result<(), Corrupt> {
    let txn = tree.read();
    for id in 0..4 {
        let bucket = txn.bucket(BucketId(id));
        for key in [&b""[..], b"a", b"/registry/pods/1", &[0xff; 200]] {
            let _ = bucket.get(key);
            let mut cursor = bucket.cursor();
            let _ = cursor
                .seek(key)
                .and_then(|_| cursor.prev())
                .and_then(|_| cursor.value());
        }
    }
    drop(txn);
    change_image(pages, tree, |txn| {
        txn.put(BucketId(1), b"/registry/pods/1", b"value")?;
        txn.delete(BucketId(1), b"/registry/pods/2")?;
        (0..60).try_for_each(|n| txn.put(BucketId(3), &[n; 30], &[n; 40]))?;
        txn.put(BucketId(2), &[0xff; 200], &[1; 9000])
    })?;
    change_image(pages, tree, |txn| {
        let mut keys = Vec::new();
        for id in 0..4 {
            let base = ReadTxn {
                snapshot: txn.base.clone(),
            };
            let mut cursor = base.bucket(BucketId(id)).cursor();
            while keys.len() < 100 && cursor.next()? {
                keys.extend(cursor.key().map(|key| (BucketId(id), key.to_vec())));
            }
        }
        keys.iter()
            .try_for_each(|(id, key)| txn.delete(*id, key).map(drop))
    })?;
    change_image(pages, tree, |txn| {
        (1..4).for_each(|id| txn.clear(BucketId(id)));
        txn.shrink();
        Ok(())
    })
}

fn change_image(
    pages: &MemoryPages,
    tree: &mut Tree,
    change: impl Fn(&mut WriteTxn) -> Result<(), Corrupt>,
) -> Result<(), Corrupt> {
    let mut txn = tree.begin();
    if let Err(corrupt) = change(&mut txn) {
        tree.abandon(txn);
        return Err(corrupt);
    }
    let plan = tree.seal(txn)?;
    tree.committed(pages.run(&plan));
    Ok(())
}
