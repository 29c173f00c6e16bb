//! Pure. Giving space back while serving: pages at the file's end move to free ones before it, a
//! few with each ordinary commit; then a commit cuts the file.
//!
//! A page moves because its leaf's path is made dirty: the seal writes it to the lowest free page,
//! as it does with every changed page. Nothing else knows of relocation.

use super::cursor::Cursor;
use super::error::Corrupt;
use super::node::{Big, BigId, NodeValue};
use super::page::RunRef;
use super::read::{BucketId, ReadTxn, Value};
use super::tree::Tree;
use super::view::{Body, NodeView};
use super::write::WriteTxn;
use crate::ids::PageId;
use crate::limits::btree::BUCKET_COUNT;

/// How far a relocation is: the pages from `target` on are to be emptied, and the buckets before
/// `bucket`, and its keys up to `key`, are done.
#[derive(Clone, Debug)]
pub struct Relocation {
    target: PageId,
    bucket: u8,
    key: Option<Vec<u8>>,
}

/// What a slice of a relocation came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relocated {
    /// Call again, in this transaction or a later one.
    More,
    /// Too few free pages before the target: commit, and go on when readers of older commits are
    /// gone.
    Waiting,
    /// All pages behind the target are moved, once this transaction is committed. The next one's
    /// [`shrink`](WriteTxn::shrink) can cut the file.
    Done,
}

impl Tree {
    /// A relocation that would leave the file at about its bytes in use, or `None` when less than
    /// `bytes_min` would be won.
    pub fn relocation(&self, bytes_min: u64) -> Option<Relocation> {
        let target = self.relocation_target();
        let won = self.space.page_count().saturating_sub(target.0) * u64::from(self.page_size());
        let relocation = Relocation {
            target,
            bucket: 0,
            key: None,
        };
        (won >= bytes_min.max(1)).then_some(relocation)
    }

    /// Every commit needs free pages to write to: a thirty-second of those in use, and a few.
    fn relocation_target(&self) -> PageId {
        let used = self.space.used_count();
        PageId(used + used / 32 + 64)
    }
}

impl Relocation {
    fn is_behind(&self, page: PageId, pages: u64) -> bool {
        page.0 + pages > self.target.0
    }

    fn run_is_behind(&self, run: RunRef, page_size: u32) -> bool {
        self.is_behind(run.page, run.pages(page_size))
    }
}

impl WriteTxn {
    /// Looks at up to `leaves_max` leaves from where the last slice ended, and takes those along
    /// that are, or whose branches or long values are, behind the target; at most about `pages_max`
    /// pages.
    pub fn relocate_slice(
        &mut self,
        tree: &Tree,
        relocation: &mut Relocation,
        leaves_max: usize,
        pages_max: u64,
    ) -> Result<Relocated, Corrupt> {
        assert!(self.seal.is_none(), "no change after the seal began");
        // The tree may have grown since the relocation began.
        relocation.target = relocation.target.max(tree.relocation_target());
        // What this transaction already holds will take free pages as well.
        let taken = self.arena.nodes.len() as u64;
        let free = tree
            .space
            .free_before(relocation.target)
            .saturating_sub(taken);
        let mut moved = 0;
        let base = ReadTxn {
            snapshot: self.base.clone(),
        };
        let mut leaves = 0;
        while usize::from(relocation.bucket) < BUCKET_COUNT {
            let bucket = BucketId(relocation.bucket);
            let mut cursor = base.bucket(bucket).cursor();
            let mut found = match &relocation.key {
                None => cursor.first()?,
                Some(key) => cursor.seek(key)?,
            };
            // A bucket that this transaction cleared has nothing left to move.
            while found && self.roots[bucket.index()].child.is_some() {
                let pages = self.pages_behind(relocation, &cursor)?;
                let blocked = moved + pages > free;
                // A leaf with many long values may need more than a slice: it is moved alone.
                let enough = leaves >= leaves_max.max(1) || moved > 0 && moved + pages > pages_max;
                let waiting = tree.space.has_pending() || !self.arena.freed.is_empty();
                if pages > 0 && blocked && !waiting {
                    // Nothing to wait for: its long values find no room. It stays where it is.
                    leaves += 1;
                    found = cursor.next_leaf()?;
                    continue;
                }
                if pages > 0 && blocked || enough {
                    relocation.key = cursor.key().map(<[u8]>::to_vec);
                    return Ok(if enough {
                        Relocated::More
                    } else {
                        Relocated::Waiting
                    });
                }
                leaves += 1;
                if pages > 0 {
                    self.move_leaf(relocation, bucket, &cursor)?;
                    moved += pages;
                }
                found = cursor.next_leaf()?;
            }
            relocation.bucket += 1;
            relocation.key = None;
        }
        self.compact_space_before = Some(relocation.target);
        self.changed = true;
        Ok(Relocated::Done)
    }

    /// Lets this commit cut the file behind its last page in use.
    pub fn shrink(&mut self) {
        self.shrink = true;
        self.changed = true;
    }

    /// Pages to be written so that nothing of the cursor's leaf is behind the target; 0 when
    /// nothing is. A branch counts with each of its leaves: an estimate from above.
    fn pages_behind(&self, relocation: &Relocation, cursor: &Cursor<'_>) -> Result<u64, Corrupt> {
        let mut behind = false;
        let mut run_pages = 0;
        for (id, view) in cursor.views() {
            behind |= relocation.is_behind(id, 1);
            let view: NodeView<'_> = view?;
            for index in 0..view.count() {
                let record = view.record(index)?;
                let value = if let Body::Run(run) = record.body {
                    Some(run)
                } else {
                    None
                };
                for run in record.key_run.into_iter().chain(value) {
                    if relocation.run_is_behind(run, self.page_size) {
                        run_pages += run.pages(self.page_size);
                    }
                }
            }
        }
        let path = cursor.views().count() as u64;
        Ok(if behind || run_pages > 0 {
            path + run_pages
        } else {
            0
        })
    }

    fn move_leaf(
        &mut self,
        relocation: &Relocation,
        bucket: BucketId,
        cursor: &Cursor<'_>,
    ) -> Result<(), Corrupt> {
        let Some(key) = cursor.key() else {
            return Ok(());
        };
        let leaf = self.touch(bucket, key)?;
        let mut bigs: Vec<BigId> = Vec::new();
        self.arena.unpack(leaf)?;
        for cell in &self.arena.leaf(leaf).cells {
            bigs.extend(cell.key.big);
            if let NodeValue::Big(big) = cell.value {
                bigs.push(big);
            }
        }
        for node in self.path_branches() {
            bigs.extend(
                self.arena
                    .branch(node)
                    .cells
                    .iter()
                    .filter_map(|cell| cell.key.big),
            );
        }
        for big in bigs {
            if let Big::Stored(run) = self.arena.big(big)
                && relocation.run_is_behind(*run, self.page_size)
            {
                let run = *run;
                let value = Value::of_run(&self.base.pages, run)?;
                self.arena.restore_big(big, &value, self.page_size);
            }
        }
        self.changed = true;
        Ok(())
    }
}
