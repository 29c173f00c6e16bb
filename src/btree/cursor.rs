//! Pure. A cursor over one bucket of a pinned root.

use super::error::{Corrupt, Rule};
use super::page::{ChildRef, HEADER};
use super::read::{Bucket, Value};
use super::view::{Body, NodeView};
use crate::env::PageRef;
use crate::ids::PageId;

/// A place in a bucket: on an entry, or on none (fresh, or moved past either end).
///
/// It borrows its [`ReadTxn`](super::ReadTxn). To go on in a later slice, keep a clone of the
/// transaction and the last key, and [`seek`](Cursor::seek) again.
pub struct Cursor<'t> {
    bucket: Bucket<'t>,
    /// From the root to the leaf; empty when the cursor stands on no entry. Each frame's `index` is
    /// below its page's count.
    path: Vec<Frame<'t>>,
    /// The whole key of the current entry.
    key: Vec<u8>,
}

struct Frame<'t> {
    page: PageRef<'t>,
    id: PageId,
    index: usize,
    count: usize,
}

impl<'t> Frame<'t> {
    fn view(&self) -> Result<NodeView<'_>, Corrupt> {
        NodeView::new(&self.page, self.id)
    }
}

impl<'t> Cursor<'t> {
    pub(super) fn new(bucket: Bucket<'t>) -> Cursor<'t> {
        Cursor {
            bucket,
            path: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Goes to the first entry. Like all moves: whether it stands on an entry now.
    pub fn first(&mut self) -> Result<bool, Corrupt> {
        self.path.clear();
        if self.bucket.root.is_empty() {
            return Ok(false);
        }
        self.descend_edge(self.bucket.root.child, false)?;
        self.load_key()
    }

    /// Goes to the last entry.
    pub fn last(&mut self) -> Result<bool, Corrupt> {
        self.path.clear();
        if self.bucket.root.is_empty() {
            return Ok(false);
        }
        self.descend_edge(self.bucket.root.child, true)?;
        self.load_key()
    }

    /// Goes to the first entry whose key is `key` or above. From a cursor that stands on an entry
    /// below `key` it climbs only as far as needed: near keys cost no descent.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool, Corrupt> {
        if self.bucket.root.is_empty() {
            return Ok(false);
        }
        if !self.path.is_empty() && key >= self.key.as_slice() {
            self.climb(key)?;
        } else {
            self.path.clear();
        }
        let mut child = self.bucket.root.child;
        if let Some(frame) = self.path.last_mut() {
            let view = NodeView::new(&frame.page, frame.id)?;
            if !view.is_leaf() {
                frame.index = view.search_branch(key, self.bucket.pages)?;
                child = view.child(frame.index)?;
            }
        }
        let height = usize::from(self.bucket.root.level) + 1;
        while self.path.len() < height {
            let level = (height - 1 - self.path.len()) as u8;
            let page = self.bucket.pages.node(child, level)?;
            let view = NodeView::new(&page, child.page)?;
            let (id, count) = (child.page, view.count());
            let mut index = 0;
            if level > 0 {
                index = view.search_branch(key, self.bucket.pages)?;
                child = view.child(index)?;
            }
            self.path.push(Frame {
                page,
                id,
                index,
                count,
            });
        }
        let Some(leaf) = self.path.last_mut() else {
            return Ok(false);
        };
        let (index, _) = NodeView::new(&leaf.page, leaf.id)?.search_leaf(key, self.bucket.pages)?;
        leaf.index = index;
        if index == leaf.count && !self.step_up(true)? {
            return Ok(false);
        }
        self.load_key()
    }

    /// Goes to the next entry; from none, to the first.
    // Not an iterator's: it can fail, and its items are borrowed from the cursor.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<bool, Corrupt> {
        let Some(leaf) = self.path.last_mut() else {
            return self.first();
        };
        leaf.index += 1;
        if leaf.index == leaf.count && !self.step_up(true)? {
            return Ok(false);
        }
        self.load_key()
    }

    /// Goes to the entry before; from none, to the last.
    pub fn prev(&mut self) -> Result<bool, Corrupt> {
        let Some(leaf) = self.path.last_mut() else {
            return self.last();
        };
        if leaf.index > 0 {
            leaf.index -= 1;
        } else if !self.step_up(false)? {
            return Ok(false);
        }
        self.load_key()
    }

    /// Goes to the first entry of the next leaf.
    pub(super) fn next_leaf(&mut self) -> Result<bool, Corrupt> {
        if let Some(leaf) = self.path.last_mut() {
            leaf.index = leaf.count - 1;
        }
        self.next()
    }

    /// The pages from the root to the current leaf.
    pub(super) fn views(&self) -> impl Iterator<Item = (PageId, Result<NodeView<'_>, Corrupt>)> {
        self.path.iter().map(|frame| (frame.id, frame.view()))
    }

    /// The key of the current entry.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        if self.path.is_empty() {
            None
        } else {
            Some(&self.key)
        }
    }

    /// The value of the current entry. It outlives the cursor's next move.
    pub fn value(&self) -> Result<Option<Value<'t>>, Corrupt> {
        let Some(leaf) = self.path.last() else {
            return Ok(None);
        };
        let body = leaf.view()?.record(leaf.index)?.body;
        Value::of(self.bucket.pages, leaf.id, &leaf.page, body).map(Some)
    }

    /// The size of the current entry's value in bytes, without reading a long one's pages.
    pub fn value_size(&self) -> Result<Option<usize>, Corrupt> {
        let Some(leaf) = self.path.last() else {
            return Ok(None);
        };
        Ok(match leaf.view()?.record(leaf.index)?.body {
            Body::Inline { len, .. } => Some(len),
            Body::Run(run) => Some(run.len as usize),
            Body::Child(_) => None,
        })
    }

    /// Key and value of the current entry.
    pub fn current(&self) -> Result<Option<(&[u8], Value<'t>)>, Corrupt> {
        let Some(value) = self.value()? else {
            return Ok(None);
        };
        Ok(Some((&self.key, value)))
    }

    /// Drops frames until the last one's page must include `key`, which is not below the current
    /// key. A branch includes it when one of its separators is above `key`; a leaf when its last
    /// key is not below. The root includes everything.
    fn climb(&mut self, key: &[u8]) -> Result<(), Corrupt> {
        while self.path.len() > 1 {
            let frame = &self.path[self.path.len() - 1];
            let view = frame.view()?;
            let pages = self.bucket.pages;
            let inside = if view.is_leaf() {
                view.search_leaf(key, pages)?.0 < frame.count
            } else {
                view.search_branch(key, pages)? + 1 < frame.count
            };
            if inside {
                return Ok(());
            }
            self.path.pop();
        }
        Ok(())
    }

    /// From the edge of a leaf to the neighbouring leaf, over as many branches as needed.
    fn step_up(&mut self, forward: bool) -> Result<bool, Corrupt> {
        self.path.pop();
        while let Some(frame) = self.path.last_mut() {
            let moved = if forward {
                frame.index += 1;
                frame.index < frame.count
            } else if frame.index > 0 {
                frame.index -= 1;
                true
            } else {
                false
            };
            if moved {
                let child = frame.view()?.child(frame.index)?;
                self.descend_edge(child, !forward)?;
                return Ok(true);
            }
            self.path.pop();
        }
        Ok(false)
    }

    /// Goes down along the first or the last children.
    fn descend_edge(&mut self, mut child: ChildRef, last: bool) -> Result<(), Corrupt> {
        let height = usize::from(self.bucket.root.level) + 1;
        while self.path.len() < height {
            let level = (height - 1 - self.path.len()) as u8;
            let page = self.bucket.pages.node(child, level)?;
            let view = NodeView::new(&page, child.page)?;
            let (id, count) = (child.page, view.count());
            // A checked page is never empty; one that changed after its check could be.
            let Some(end) = count.checked_sub(1) else {
                return Err(view.corrupt(Rule::Count, 0, 1, 0));
            };
            let index = if last { end } else { 0 };
            if level > 0 {
                child = view.child(index)?;
            }
            self.path.push(Frame {
                page,
                id,
                index,
                count,
            });
        }
        Ok(())
    }

    fn load_key(&mut self) -> Result<bool, Corrupt> {
        let Some(leaf) = self.path.last() else {
            return Ok(false);
        };
        self.key.clear();
        let run = NodeView::new(&leaf.page, leaf.id)?.key_into(leaf.index, &mut self.key)?;
        if let Some(run) = run {
            let bytes = self.bucket.pages.run(run)?;
            self.key.clear();
            self.key
                .extend_from_slice(&bytes[HEADER..HEADER + run.len as usize]);
        }
        Ok(true)
    }
}
