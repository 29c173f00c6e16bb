//! Pure. The write transaction: changes to dirty nodes in memory. Sealing it is in `seal.rs`.

use super::cell::common_len;
use super::error::Corrupt;
use super::node::{Arena, Big, Branch, BranchCell, Child, Node, NodeId, NodeValue};
use super::read::{BucketId, Snapshot, Value, lookup};
use super::seal::Seal;
use super::view::Body;
use crate::ids::{PageId, Txid};
use crate::limits::btree::{BUCKET_COUNT, KEY_BYTES_MAX, NODE_PAGES_MAX, VALUE_BYTES_MAX};
use std::sync::Arc;

/// A transaction that changes the tree. Owned by the core of its [`Tree`](super::Tree), which it
/// does not borrow; one at a time. Nothing reaches the file before its plan is executed.
///
/// After an `Err` of any method the transaction can only be abandoned.
pub struct WriteTxn {
    pub(super) base: Arc<Snapshot>,
    pub(super) txid: Txid,
    pub(super) page_size: u32,
    pub(super) roots: [WriteRoot; BUCKET_COUNT],
    pub(super) arena: Arena,
    /// Subtrees of cleared buckets whose pages are still to be freed.
    pub(super) cleared: Vec<(Child, u8)>,
    pub(super) seal: Option<Box<Seal>>,
    pub(super) changed: bool,
    /// Bitmaps and directories at or behind this page move before it.
    pub(super) compact_space_before: Option<PageId>,
    pub(super) shrink: bool,
    last: LastLeaf,
    path: Vec<(NodeId, usize)>,
}

/// The root of one bucket within the transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteRoot {
    pub child: Option<Child>,
    pub level: u8,
    pub keys: u64,
}

/// The leaf of the last change and the keys that belong to it: `low <= key < high`. Sorted batches
/// and appends find their leaf here without a descent.
struct LastLeaf {
    bucket: Option<BucketId>,
    leaf: NodeId,
    low: Vec<u8>,
    high: Vec<u8>,
    /// No key is too high: the leaf is the bucket's last.
    rightmost: bool,
}

impl LastLeaf {
    fn includes(&self, bucket: BucketId, key: &[u8]) -> bool {
        self.bucket == Some(bucket)
            && key >= self.low.as_slice()
            && (self.rightmost || key < self.high.as_slice())
    }
}

impl WriteTxn {
    pub(super) fn new(base: Arc<Snapshot>, page_size: u32) -> WriteTxn {
        let roots = base.roots.map(|root| WriteRoot {
            child: (!root.is_empty()).then_some(Child::Page(root.child)),
            level: root.level,
            keys: root.keys,
        });
        WriteTxn {
            txid: Txid(base.txid.0 + 1),
            base,
            page_size,
            roots,
            arena: Arena::default(),
            cleared: Vec::new(),
            seal: None,
            changed: false,
            compact_space_before: None,
            shrink: false,
            last: LastLeaf {
                bucket: None,
                leaf: NodeId(0),
                low: Vec::new(),
                high: Vec::new(),
                rightmost: false,
            },
            path: Vec::new(),
        }
    }

    /// The commit that this transaction will be.
    pub fn txid(&self) -> Txid {
        self.txid
    }

    /// Nothing was changed.
    pub fn is_empty(&self) -> bool {
        !self.changed
    }

    /// The number of keys in a bucket, own changes included.
    pub fn len(&self, bucket: BucketId) -> u64 {
        self.roots[bucket.index()].keys
    }

    /// Inserts or replaces.
    pub fn put(&mut self, bucket: BucketId, key: &[u8], value: &[u8]) -> Result<(), Corrupt> {
        assert!(self.seal.is_none(), "no change after the seal began");
        assert!(key.len() <= KEY_BYTES_MAX, "key within the limit");
        assert!(value.len() <= VALUE_BYTES_MAX, "value within the limit");
        let leaf = self.leaf_for(bucket, key)?;
        let (index, equal) = self.arena.search_leaf(&self.base.pages, leaf, key)?;
        self.arena
            .put(leaf, index, equal, key, value, self.page_size)?;
        self.changed = true;
        if !equal {
            let keys = &mut self.roots[bucket.index()].keys;
            *keys = keys.saturating_add(1);
        }
        if self.arena.leaf_bytes(leaf) > NODE_PAGES_MAX * self.page_size as usize {
            self.split(bucket, leaf, index)?;
        }
        Ok(())
    }

    /// Removes; `false` when there is no such key.
    pub fn delete(&mut self, bucket: BucketId, key: &[u8]) -> Result<bool, Corrupt> {
        assert!(self.seal.is_none(), "no change after the seal began");
        if !self.last.includes(bucket, key) && self.get(bucket, key)?.is_none() {
            return Ok(false);
        }
        let leaf = self.leaf_for(bucket, key)?;
        let (index, equal) = self.arena.search_leaf(&self.base.pages, leaf, key)?;
        if equal {
            self.arena.remove(leaf, index, self.page_size)?;
            // A forged meta may have claimed fewer keys than there are.
            let keys = &mut self.roots[bucket.index()].keys;
            *keys = keys.saturating_sub(1);
            self.changed = true;
        }
        Ok(equal)
    }

    /// Removes all keys of a bucket. Its pages are freed while the transaction is sealed.
    pub fn clear(&mut self, bucket: BucketId) {
        assert!(self.seal.is_none(), "no change after the seal began");
        let root = &mut self.roots[bucket.index()];
        if let Some(child) = root.child.take() {
            self.cleared.push((child, root.level));
            self.changed = true;
        }
        *root = WriteRoot {
            child: None,
            level: 0,
            keys: 0,
        };
        if self.last.bucket == Some(bucket) {
            self.last.bucket = None;
        }
    }

    /// The value of `key`, own changes included.
    pub fn get(&self, bucket: BucketId, key: &[u8]) -> Result<Option<Value<'_>>, Corrupt> {
        let root = &self.roots[bucket.index()];
        let mut level = root.level;
        let mut child = root.child;
        while let Some(Child::Node(node)) = child {
            if level == 0 {
                return self.leaf_value(node, key);
            }
            let index = self.arena.search_branch(&self.base.pages, node, key)?;
            child = self
                .arena
                .branch(node)
                .cells
                .get(index)
                .map(|cell| cell.child);
            level -= 1;
        }
        match child {
            Some(Child::Page(page)) => lookup(&self.base.pages, page, level, key),
            _ => Ok(None),
        }
    }

    fn leaf_value(&self, node: NodeId, key: &[u8]) -> Result<Option<Value<'_>>, Corrupt> {
        let (index, equal) = self.arena.search_leaf(&self.base.pages, node, key)?;
        if !equal {
            return Ok(None);
        }
        if let Node::Image(image) = self.arena.node(node) {
            return Ok(Some(match image.view()?.record(index)?.body {
                Body::Run(run) => Value::of_run(&self.base.pages, run)?,
                Body::Inline { at, len } => Value::borrowed(&image.bytes()[at..at + len]),
                Body::Child(_) => unreachable!("a leaf's records have no children"),
            }));
        }
        let leaf = self.arena.leaf(node);
        Ok(Some(match leaf.cells[index].value {
            NodeValue::Inline(span) => Value::borrowed(leaf.value(span)),
            NodeValue::Big(big) => match self.arena.big(big) {
                Big::Fresh(bytes) => Value::borrowed(bytes),
                Big::Stored(run) => Value::of_run(&self.base.pages, *run)?,
                Big::Gone => unreachable!("a cell owns its long value"),
            },
        }))
    }

    /// The dirty leaf to which `key` belongs. All nodes above it become dirty as well.
    fn leaf_for(&mut self, bucket: BucketId, key: &[u8]) -> Result<NodeId, Corrupt> {
        if self.last.includes(bucket, key) {
            return Ok(self.last.leaf);
        }
        self.last.bucket = None;
        let low_known = self.descend(bucket, key)?;
        let (leaf, _) = *self.path.last().expect("a descent ends at a leaf");
        if low_known {
            self.last.bucket = Some(bucket);
            self.last.leaf = leaf;
        }
        Ok(leaf)
    }

    /// Makes the path to the leaf of `key` dirty without a change, and returns that leaf.
    pub(super) fn touch(&mut self, bucket: BucketId, key: &[u8]) -> Result<NodeId, Corrupt> {
        self.last.bucket = None;
        self.leaf_for(bucket, key)
    }

    /// The branches above the leaf that was touched last.
    pub(super) fn path_branches(&self) -> Vec<NodeId> {
        let above = self.path.len().saturating_sub(1);
        self.path[..above].iter().map(|(node, _)| *node).collect()
    }

    /// Fills `path` from the root to the leaf of `key`, loading pages on the way, and the bounds in
    /// `last`; `false` when a bound is a long key, which is not worth remembering.
    fn descend(&mut self, bucket: BucketId, key: &[u8]) -> Result<bool, Corrupt> {
        self.path.clear();
        self.last.low.clear();
        self.last.high.clear();
        self.last.rightmost = true;
        let root = &mut self.roots[bucket.index()];
        let (mut node, mut level) = match root.child {
            Some(Child::Node(node)) => (node, root.level),
            Some(Child::Page(page)) => {
                let node = self.arena.load(&self.base.pages, page, root.level)?;
                root.child = Some(Child::Node(node));
                (node, root.level)
            }
            None => {
                let node = self.arena.add(Node::Leaf(Default::default()));
                root.child = Some(Child::Node(node));
                (node, 0)
            }
        };
        let mut bounds_known = true;
        while level > 0 {
            let index = self.arena.search_branch(&self.base.pages, node, key)?;
            let branch = self.arena.branch(node);
            if index > 0 {
                let low = &branch.cells[index].key;
                bounds_known &= low.big.is_none();
                self.last.low.clear();
                self.last
                    .low
                    .extend_from_slice(branch.key(&branch.cells[index]));
            }
            if let Some(next) = branch.cells.get(index + 1) {
                bounds_known &= next.key.big.is_none();
                self.last.high.clear();
                self.last.high.extend_from_slice(branch.key(next));
                self.last.rightmost = false;
            }
            let child = branch.cells[index].child;
            self.path.push((node, index));
            level -= 1;
            node = match child {
                Child::Node(node) => node,
                Child::Page(page) => {
                    let loaded = self.arena.load(&self.base.pages, page, level)?;
                    self.arena.branch_mut(node).cells[index].child = Child::Node(loaded);
                    loaded
                }
            };
        }
        self.path.push((node, 0));
        Ok(bounds_known)
    }

    /// Splits a leaf that has grown too large in memory, where the last insert was at `inserted`:
    /// at its end when keys ascend, so that the left part packs into full pages; else in the
    /// middle.
    fn split(&mut self, bucket: BucketId, leaf: NodeId, inserted: usize) -> Result<(), Corrupt> {
        let count = self.arena.leaf(leaf).cells.len();
        if count < 2 {
            return Ok(());
        }
        let at = if inserted + 1 == count {
            count - 1
        } else {
            count / 2
        };
        let whole = |index: usize| {
            let node = self.arena.leaf(leaf);
            let cell = &node.cells[index];
            self.arena
                .whole_key(&self.base.pages, node.key(cell), cell.key.big)
        };
        let (left_key, right_key) = (whole(at - 1)?, whole(at)?);
        self.last.bucket = None;
        self.descend(bucket, &left_key)?;
        // In order the right key is longer than what they share; in a forged page it need not be.
        let size = right_key.len().min(common_len(&left_key, &right_key) + 1);
        let separator = &right_key[..size];
        let right = self.arena.split_leaf(leaf, at);
        let parent = match self.path.len().checked_sub(2) {
            Some(above) => self.path[above],
            None => {
                let mut branch = Branch::new(1);
                let child = Child::Node(leaf);
                branch.cells.push(BranchCell {
                    key: Default::default(),
                    child,
                });
                let node = self.arena.add(Node::Branch(branch));
                let root = &mut self.roots[bucket.index()];
                root.child = Some(Child::Node(node));
                root.level = 1;
                (node, 0)
            }
        };
        let (node, index) = parent;
        let Node::Branch(mut branch) = self.arena.take(node) else {
            unreachable!("above a leaf stands a branch")
        };
        let key = self.arena.separator(&mut branch, separator, self.page_size);
        branch.cells.insert(
            index + 1,
            BranchCell {
                key,
                child: Child::Node(right),
            },
        );
        self.arena.nodes[node.0 as usize] = Node::Branch(branch);
        Ok(())
    }

    /// Frees what is below `child`, a page of a cleared bucket; pages read count against
    /// `pages_max`.
    pub(super) fn free_cleared(&mut self, pages_max: usize) -> Result<usize, Corrupt> {
        let mut visited = 0;
        while visited < pages_max {
            let Some((child, level)) = self.cleared.pop() else {
                break;
            };
            visited += 1;
            let node = match child {
                Child::Node(node) => node,
                Child::Page(page) => self.arena.load(&self.base.pages, page, level)?,
            };
            match self.arena.take(node) {
                node @ (Node::Leaf(_) | Node::Image(_)) => {
                    let leaf = self.arena.unpacked(node)?;
                    for cell in &leaf.cells {
                        self.arena.drop_key(cell.key, self.page_size);
                        if let NodeValue::Big(big) = cell.value {
                            self.arena.drop_big(big, self.page_size);
                        }
                    }
                }
                Node::Branch(branch) => {
                    for cell in &branch.cells {
                        self.arena.drop_key(cell.key, self.page_size);
                        self.cleared.push((cell.child, level - 1));
                    }
                }
                Node::Gone => unreachable!("a cleared node is freed once"),
            }
        }
        Ok(visited)
    }
}
