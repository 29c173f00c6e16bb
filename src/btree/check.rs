//! Pure. The whole-file check: every page reached once or free, keys in order, checksums, counts.

use super::checked::CheckedPages;
use super::error::{Corrupt, Rule};
use super::page::{ChildRef, HEADER, Header, RunRef};
use super::read::{BucketId, ReadTxn};
use super::space::Space;
use super::tree::Tree;
use super::view::{Body, NodeView};
use crate::ids::PageId;
use crate::limits::btree::BUCKET_COUNT;

/// What a sound file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CheckReport {
    pub keys: u64,
    pub leaf_pages: u64,
    pub branch_pages: u64,
    pub overflow_pages: u64,
    /// Bitmap and directory pages.
    pub space_pages: u64,
    /// Free, or waiting for readers of older commits.
    pub free_pages: u64,
    /// Bytes in use on leaf pages; their share of `leaf_pages` is the fill.
    pub leaf_bytes: u64,
}

/// A check that goes on in slices. It pins the commit it checks.
///
/// The bitmap is compared by [`finish`](Check::finish), and only when no commit was sealed since:
/// the tree keeps the newest bitmap only.
pub struct Check {
    txn: ReadTxn,
    /// Subtrees to visit, the next one last.
    stack: Vec<Visit>,
    bucket: usize,
    bucket_keys: u64,
    reached: Vec<u64>,
    report: CheckReport,
}

struct Visit {
    child: ChildRef,
    level: u8,
    /// Keys of the subtree are not below this,
    low: Option<Vec<u8>>,
    /// and are below this.
    high: Option<Vec<u8>>,
}

impl Tree {
    /// Checks the whole file at once.
    pub fn check(&self) -> Result<CheckReport, Corrupt> {
        let mut check = Check::new(self.read());
        while check.slice(usize::MAX)? {}
        check.finish(self)
    }
}

impl Check {
    pub fn new(txn: ReadTxn) -> Check {
        Check {
            txn,
            stack: Vec::new(),
            bucket: 0,
            bucket_keys: 0,
            reached: Vec::new(),
            report: CheckReport::default(),
        }
    }

    /// Visits up to `pages_max` pages; `true` while there are more.
    pub fn slice(&mut self, pages_max: usize) -> Result<bool, Corrupt> {
        for _ in 0..pages_max {
            let Some(visit) = self.stack.pop() else {
                if !self.next_bucket()? {
                    return Ok(false);
                }
                continue;
            };
            self.visit(visit)?;
        }
        Ok(true)
    }

    /// Begins the next bucket; `false` after the last.
    fn next_bucket(&mut self) -> Result<bool, Corrupt> {
        let roots = &self.txn.snapshot.roots;
        if self.bucket > 0 && self.bucket <= BUCKET_COUNT {
            let root = roots[self.bucket - 1];
            let (page, expected, found) = (root.child.page, root.keys, self.bucket_keys);
            if expected != found {
                return Err(Corrupt {
                    page,
                    offset: 0,
                    rule: Rule::KeyCount,
                    expected,
                    found,
                });
            }
        }
        if self.bucket >= BUCKET_COUNT {
            self.bucket = BUCKET_COUNT + 1;
            return Ok(false);
        }
        let root = roots[self.bucket];
        self.bucket += 1;
        self.bucket_keys = 0;
        if !root.is_empty() {
            let (child, level) = (root.child, root.level);
            self.stack.push(Visit {
                child,
                level,
                low: None,
                high: None,
            });
        }
        Ok(true)
    }

    fn reach(&mut self, page: PageId, pages: u64) -> Result<(), Corrupt> {
        for page in page.0..page.0 + pages {
            let word = (page / 64) as usize;
            if self.reached.len() <= word {
                self.reached.resize(word + 1, 0);
            }
            if self.reached[word] & (1 << (page % 64)) != 0 {
                let (rule, page) = (Rule::ReachedOnce, PageId(page));
                return Err(Corrupt {
                    page,
                    offset: 0,
                    rule,
                    expected: 1,
                    found: 2,
                });
            }
            self.reached[word] |= 1 << (page % 64);
        }
        Ok(())
    }

    fn visit(&mut self, visit: Visit) -> Result<(), Corrupt> {
        let snapshot = self.txn.snapshot.clone();
        let pages = &*snapshot.pages;
        let bytes = pages.node(visit.child, visit.level)?;
        self.reach(visit.child.page, 1)?;
        let view = NodeView::new(&bytes, visit.child.page)?;
        let mut before = visit.low.clone();
        let first_child = self.stack.len();
        for index in 0..view.count() {
            let separated = visit.level == 0 || index > 0;
            let mut key = Vec::new();
            if separated {
                let run = view.key_into(index, &mut key)?;
                if let Some(run) = run {
                    self.whole_key(pages, view, run, &mut key)?;
                }
                // The first leaf key may equal the separator above it; all others ascend.
                let above = match &before {
                    Some(before) if index == 0 => *before <= key,
                    Some(before) if visit.level == 0 || index > 1 => *before < key,
                    Some(before) => *before <= key,
                    None => true,
                };
                let below = visit.high.as_ref().is_none_or(|high| key < *high);
                if !above || !below {
                    let index = index as u64;
                    return Err(view.corrupt(Rule::KeyOrder, 0, u64::from(above), index));
                }
            }
            match view.record(index)?.body {
                Body::Inline { .. } => {}
                Body::Run(run) => {
                    pages.run(run)?;
                    self.reach_run(pages, run)?;
                }
                Body::Child(child) => {
                    if let Some(last) = self.stack[first_child..].last_mut() {
                        last.high = Some(key.clone());
                    }
                    let low = if index == 0 {
                        visit.low.clone()
                    } else {
                        Some(key.clone())
                    };
                    let (level, high) = (visit.level - 1, visit.high.clone());
                    self.stack.push(Visit {
                        child,
                        level,
                        low,
                        high,
                    });
                }
            }
            if separated {
                before = Some(key);
            }
        }
        // The next one to visit is the last: key order.
        self.stack[first_child..].reverse();
        if visit.level == 0 {
            self.report.leaf_pages += 1;
            self.report.keys += view.count() as u64;
            self.bucket_keys += view.count() as u64;
            self.report.leaf_bytes += Header::read(&bytes).map_or(0, |h| u64::from(h.extent));
        } else {
            self.report.branch_pages += 1;
        }
        Ok(())
    }

    fn reach_run(&mut self, pages: &CheckedPages, run: RunRef) -> Result<(), Corrupt> {
        let count = run.pages(pages.page_size());
        self.report.overflow_pages += count;
        self.reach(run.page, count)
    }

    fn whole_key(
        &mut self,
        pages: &CheckedPages,
        view: NodeView<'_>,
        run: RunRef,
        key: &mut Vec<u8>,
    ) -> Result<(), Corrupt> {
        let bytes = pages.run(run)?;
        let whole = &bytes[HEADER..HEADER + run.len as usize];
        if whole.len() <= key.len() || !whole.starts_with(key) {
            return Err(view.corrupt(Rule::KeyOrder, 0, key.len() as u64, whole.len() as u64));
        }
        key.clear();
        key.extend_from_slice(whole);
        self.reach_run(pages, run)
    }

    /// Ends the check: compares the bitmap with the pages reached, if the tree still stands at the
    /// commit that was checked.
    pub fn finish(mut self, tree: &Tree) -> Result<CheckReport, Corrupt> {
        if tree.txid() != self.txn.txid() || tree.is_sealed() {
            return Ok(self.report);
        }
        let space: &Space = &tree.space;
        let pages: Vec<ChildRef> = space
            .bitmaps()
            .chain(space.directories().to_vec())
            .collect();
        for child in pages {
            self.reach(child.page, 1)?;
            self.report.space_pages += 1;
        }
        for page in 0..space.first_page() {
            self.reach(PageId(page), 1)?;
        }
        for page in 0..space.page_count() {
            let word = self.reached.get((page / 64) as usize).copied().unwrap_or(0);
            let reached = word & (1 << (page % 64)) != 0;
            let used = space.is_used(PageId(page));
            if reached != used {
                let offset = page * u64::from(tree.page_size());
                let (page, rule) = (PageId(page), Rule::Bitmap);
                let (expected, found) = (u64::from(reached), u64::from(used));
                return Err(Corrupt {
                    page,
                    offset,
                    rule,
                    expected,
                    found,
                });
            }
            self.report.free_pages += u64::from(!used);
        }
        Ok(self.report)
    }
}

impl Tree {
    /// Checks that the keys of a bucket ascend as a reader sees them, and reads every value.
    /// Bounded by [`check`](Tree::check), which must have passed: it knows that no page is reached
    /// twice.
    pub fn read_everything(&self) -> Result<u64, Corrupt> {
        let txn = self.read();
        let mut bytes = 0;
        for id in 0..BUCKET_COUNT as u8 {
            let mut cursor = txn.bucket(BucketId(id)).cursor();
            while cursor.next()? {
                if let Some((key, value)) = cursor.current()? {
                    bytes += (key.len() + value.len()) as u64;
                }
            }
        }
        Ok(bytes)
    }
}
