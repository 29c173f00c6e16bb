//! Pure. Dirty nodes: pages that a write transaction changed, unpacked in memory.

use super::cell::{Cell, CellBody, CellSize, branch_cell_size, leaf_cell_size};
use super::checked::CheckedPages;
use super::error::Corrupt;
use super::image::Image;
use super::page::{ChildRef, HEADER, RunRef, key_inline_max, value_is_inline};
use super::view::{Body, NodeView};
use crate::ids::PageId;
use std::cmp::Ordering;
use std::ops::Range;

/// An index into [`Arena::nodes`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NodeId(pub u32);

/// An index into [`Arena::bigs`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BigId(u32);

/// A part of a node's heap.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    at: u32,
    len: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.at as usize..(self.at + self.len) as usize
    }
}

/// A key: its inline part in the heap, and the whole of a long one in `big`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Key {
    span: Span,
    pub big: Option<BigId>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum NodeValue {
    Inline(Span),
    Big(BigId),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct LeafCell {
    pub key: Key,
    pub value: NodeValue,
}

/// A child: on a page, or changed and in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Child {
    Page(ChildRef),
    Node(NodeId),
}

/// A child and the separator below it: keys of the child are not below it. A node's first
/// separator is never compared: what stands above the node already decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct BranchCell {
    pub key: Key,
    pub child: Child,
}

/// A long key or value: on its run of pages, or new and in memory until the seal writes it.
#[derive(Debug)]
pub(super) enum Big {
    Stored(RunRef),
    Fresh(Box<[u8]>),
    Gone,
}

#[derive(Debug, Default)]
pub(super) struct Leaf {
    heap: Vec<u8>,
    pub cells: Vec<LeafCell>,
    /// Bytes that the cells would take on pages if nothing were shared; bounds the node's size.
    pub bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Branch {
    pub level: u8,
    heap: Vec<u8>,
    pub cells: Vec<BranchCell>,
}

#[derive(Debug)]
pub(super) enum Node {
    /// A leaf with few changes.
    Image(Image),
    Leaf(Leaf),
    Branch(Branch),
    /// Packed onto pages, or merged away.
    Gone,
}

/// A run of pages, for the list of freed ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    pub page: PageId,
    pub pages: u32,
}

/// The nodes and long values of one write transaction, and the pages that they replace.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pub nodes: Vec<Node>,
    bigs: Vec<Big>,
    /// Pages of the base root that the next one does not need.
    pub freed: Vec<Extent>,
}

impl Arena {
    pub fn add(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("a transaction below 2^32 nodes"));
        self.nodes.push(node);
        id
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub fn leaf(&self, id: NodeId) -> &Leaf {
        match &self.nodes[id.0 as usize] {
            Node::Leaf(leaf) => leaf,
            _ => unreachable!("levels tell leaves from branches"),
        }
    }

    pub fn leaf_mut(&mut self, id: NodeId) -> &mut Leaf {
        match &mut self.nodes[id.0 as usize] {
            Node::Leaf(leaf) => leaf,
            _ => unreachable!("levels tell leaves from branches"),
        }
    }

    pub fn branch(&self, id: NodeId) -> &Branch {
        match &self.nodes[id.0 as usize] {
            Node::Branch(branch) => branch,
            _ => unreachable!("levels tell leaves from branches"),
        }
    }

    pub fn branch_mut(&mut self, id: NodeId) -> &mut Branch {
        match &mut self.nodes[id.0 as usize] {
            Node::Branch(branch) => branch,
            _ => unreachable!("levels tell leaves from branches"),
        }
    }

    pub fn take(&mut self, id: NodeId) -> Node {
        std::mem::replace(&mut self.nodes[id.0 as usize], Node::Gone)
    }

    pub fn big(&self, id: BigId) -> &Big {
        &self.bigs[id.0 as usize]
    }

    pub fn add_big(&mut self, big: Big) -> BigId {
        let id = BigId(u32::try_from(self.bigs.len()).expect("below 2^32 long values"));
        self.bigs.push(big);
        id
    }

    /// The seal wrote a fresh one.
    pub fn stored_big(&mut self, id: BigId, run: RunRef) {
        self.bigs[id.0 as usize] = Big::Stored(run);
    }

    /// Takes a stored one off its pages, so that the seal writes it to others.
    pub fn restore_big(&mut self, id: BigId, bytes: &[u8], page_size: u32) {
        self.drop_big(id, page_size);
        self.bigs[id.0 as usize] = Big::Fresh(bytes.into());
    }

    /// Its owner is gone: so is it, with its pages.
    pub fn drop_big(&mut self, id: BigId, page_size: u32) {
        if let Big::Stored(run) = std::mem::replace(&mut self.bigs[id.0 as usize], Big::Gone) {
            let pages = run.pages(page_size) as u32;
            self.freed.push(Extent {
                page: run.page,
                pages,
            });
        }
    }

    pub fn drop_key(&mut self, key: Key, page_size: u32) {
        if let Some(big) = key.big {
            self.drop_big(big, page_size);
        }
    }

    /// The unpacked form of a leaf.
    pub fn unpacked(&mut self, node: Node) -> Result<Leaf, Corrupt> {
        match node {
            Node::Leaf(leaf) => Ok(leaf),
            Node::Image(image) => self.unpack_leaf(image.bytes(), image.view()?),
            Node::Branch(_) | Node::Gone => unreachable!("levels tell leaves from branches"),
        }
    }

    /// Makes a leaf unpacked in place.
    pub fn unpack(&mut self, id: NodeId) -> Result<(), Corrupt> {
        let node = self.take(id);
        self.nodes[id.0 as usize] = Node::Leaf(self.unpacked(node)?);
        Ok(())
    }

    /// Bytes of an unpacked leaf; 0 for one that still fits its page.
    pub fn leaf_bytes(&self, id: NodeId) -> usize {
        match &self.nodes[id.0 as usize] {
            Node::Leaf(leaf) => leaf.bytes,
            _ => 0,
        }
    }

    /// Takes a page into memory and frees it.
    pub fn load(
        &mut self,
        pages: &CheckedPages,
        child: ChildRef,
        level: u8,
    ) -> Result<NodeId, Corrupt> {
        let bytes = pages.node(child, level)?;
        let view = NodeView::new(&bytes, child.page)?;
        let node = if level == 0 {
            Node::Image(Image::new(&bytes, child.page))
        } else {
            Node::Branch(self.unpack_branch(view, level)?)
        };
        self.freed.push(Extent {
            page: child.page,
            pages: 1,
        });
        Ok(self.add(node))
    }

    /// The page is copied as the start of the heap, so that values stay where they are; keys are
    /// put together behind it, because on the page they are in three pieces.
    fn unpack_leaf(&mut self, bytes: &[u8], view: NodeView<'_>) -> Result<Leaf, Corrupt> {
        let count = view.count();
        let mut leaf = Leaf {
            heap: Vec::with_capacity(bytes.len() * 2),
            cells: Vec::with_capacity(count + count / 4 + 1),
            bytes: 0,
        };
        leaf.heap.extend_from_slice(bytes);
        for index in 0..count {
            let at = leaf.heap.len() as u32;
            let record = view.record(index)?;
            leaf.heap.extend_from_slice(view.prefix());
            leaf.heap
                .extend_from_slice(&record.head[..record.suffix_len.min(2)]);
            leaf.heap.extend_from_slice(record.rest);
            let span = Span {
                at,
                len: leaf.heap.len() as u32 - at,
            };
            let big = record.key_run.map(|run| self.add_big(Big::Stored(run)));
            let value = match record.body {
                Body::Inline { at, len } => NodeValue::Inline(Span {
                    at: at as u32,
                    len: len as u32,
                }),
                Body::Run(run) => NodeValue::Big(self.add_big(Big::Stored(run))),
                Body::Child(_) => unreachable!("a leaf's records have no children"),
            };
            let cell = LeafCell {
                key: Key { span, big },
                value,
            };
            leaf.bytes += cell.bytes();
            leaf.cells.push(cell);
        }
        Ok(leaf)
    }

    fn unpack_branch(&mut self, view: NodeView<'_>, level: u8) -> Result<Branch, Corrupt> {
        let count = view.count();
        let cells = Vec::with_capacity(count + count / 4 + 1);
        let mut branch = Branch {
            level,
            heap: Vec::with_capacity(count * 24),
            cells,
        };
        for index in 0..count {
            let at = branch.heap.len() as u32;
            let big = view.key_into(index, &mut branch.heap)?;
            let big = big.map(|run| self.add_big(Big::Stored(run)));
            let span = Span {
                at,
                len: branch.heap.len() as u32 - at,
            };
            let child = Child::Page(view.child(index)?);
            branch.cells.push(BranchCell {
                key: Key { span, big },
                child,
            });
        }
        Ok(branch)
    }

    /// Compares the key of an entry, of which `inline` is the inline part, with `key`.
    pub fn compare(
        &self,
        pages: &CheckedPages,
        inline: &[u8],
        big: Option<BigId>,
        key: &[u8],
    ) -> Result<Ordering, Corrupt> {
        let Some(big) = big else {
            return Ok(inline.cmp(key));
        };
        if key.len() <= inline.len() {
            return Ok(inline.cmp(key).then(Ordering::Greater));
        }
        match inline.cmp(&key[..inline.len()]) {
            Ordering::Equal => self.compare_big(pages, big, key),
            order => Ok(order),
        }
    }

    fn compare_big(
        &self,
        pages: &CheckedPages,
        big: BigId,
        key: &[u8],
    ) -> Result<Ordering, Corrupt> {
        match self.big(big) {
            Big::Fresh(whole) => Ok((**whole).cmp(key)),
            Big::Stored(run) => {
                let bytes = pages.run(*run)?;
                Ok(bytes[HEADER..HEADER + run.len as usize].cmp(key))
            }
            Big::Gone => unreachable!("a cell owns its long key"),
        }
    }

    /// In a leaf: the first entry not below `key`, and whether it is equal. The last entry is tried
    /// first: ascending inserts end there.
    pub fn search_leaf(
        &self,
        pages: &CheckedPages,
        id: NodeId,
        key: &[u8],
    ) -> Result<(usize, bool), Corrupt> {
        let leaf = match &self.nodes[id.0 as usize] {
            Node::Image(image) => return image.view()?.search_leaf(key, pages),
            Node::Leaf(leaf) => leaf,
            Node::Branch(_) | Node::Gone => unreachable!("levels tell leaves from branches"),
        };
        let compare = |cell: &LeafCell| {
            self.compare(pages, &leaf.heap[cell.key.span.range()], cell.key.big, key)
        };
        let Some(last) = leaf.cells.last() else {
            return Ok((0, false));
        };
        let mut high = leaf.cells.len() - 1;
        match compare(last)? {
            Ordering::Less => return Ok((high + 1, false)),
            Ordering::Equal => return Ok((high, true)),
            Ordering::Greater => {}
        }
        let mut low = 0;
        while low < high {
            let mid = usize::midpoint(low, high);
            match compare(&leaf.cells[mid])? {
                Ordering::Less => low = mid + 1,
                Ordering::Greater => high = mid,
                Ordering::Equal => return Ok((mid, true)),
            }
        }
        Ok((low, false))
    }

    /// In a branch: the child whose keys may include `key`.
    pub fn search_branch(
        &self,
        pages: &CheckedPages,
        id: NodeId,
        key: &[u8],
    ) -> Result<usize, Corrupt> {
        let branch = self.branch(id);
        let (mut low, mut high) = (1, branch.cells.len());
        while low < high {
            let mid = usize::midpoint(low, high);
            let cell = &branch.cells[mid];
            let inline = &branch.heap[cell.key.span.range()];
            if self.compare(pages, inline, cell.key.big, key)? == Ordering::Greater {
                high = mid;
            } else {
                low = mid + 1;
            }
        }
        Ok(low - 1)
    }

    /// Inserts at `index`, or replaces the entry there when `equal`.
    pub fn put(
        &mut self,
        id: NodeId,
        index: usize,
        equal: bool,
        key: &[u8],
        value: &[u8],
        page_size: u32,
    ) -> Result<(), Corrupt> {
        if let Node::Image(image) = &mut self.nodes[id.0 as usize] {
            if image.try_put(index, equal, key, value) {
                return Ok(());
            }
            self.unpack(id)?;
        }
        let inline = value_is_inline(key.len(), value.len(), page_size);
        if equal {
            let old = self.leaf(id).cells[index];
            match old.value {
                NodeValue::Inline(span) if inline && value.len() <= span.len as usize => {
                    let leaf = self.leaf_mut(id);
                    let span = Span {
                        at: span.at,
                        len: value.len() as u32,
                    };
                    leaf.heap[span.range()].copy_from_slice(value);
                    leaf.set_value(index, NodeValue::Inline(span));
                    return Ok(());
                }
                NodeValue::Inline(_) => {}
                NodeValue::Big(big) => self.drop_big(big, page_size),
            }
            let value = self.new_value(id, value, inline);
            self.leaf_mut(id).set_value(index, value);
        } else {
            let inline_max = key_inline_max(page_size);
            let big = (key.len() > inline_max).then(|| self.add_big(Big::Fresh(key.into())));
            let leaf = self.leaf_mut(id);
            let span = leaf.store(&key[..key.len().min(inline_max)]);
            let value = self.new_value(id, value, inline);
            let cell = LeafCell {
                key: Key { span, big },
                value,
            };
            let leaf = self.leaf_mut(id);
            leaf.bytes += cell.bytes();
            leaf.cells.insert(index, cell);
        }
        self.leaf_mut(id).tidy();
        Ok(())
    }

    fn new_value(&mut self, id: NodeId, value: &[u8], inline: bool) -> NodeValue {
        if inline {
            NodeValue::Inline(self.leaf_mut(id).store(value))
        } else {
            NodeValue::Big(self.add_big(Big::Fresh(value.into())))
        }
    }

    pub fn remove(&mut self, id: NodeId, index: usize, page_size: u32) -> Result<(), Corrupt> {
        if let Node::Image(image) = &mut self.nodes[id.0 as usize] {
            if image.try_remove(index) {
                return Ok(());
            }
            self.unpack(id)?;
        }
        let leaf = self.leaf_mut(id);
        let cell = leaf.cells.remove(index);
        leaf.bytes -= cell.bytes();
        self.drop_key(cell.key, page_size);
        if let NodeValue::Big(big) = cell.value {
            self.drop_big(big, page_size);
        }
        Ok(())
    }

    /// The whole key behind an inline part: copied only when it is long.
    pub fn whole_key(
        &self,
        pages: &CheckedPages,
        inline: &[u8],
        big: Option<BigId>,
    ) -> Result<Vec<u8>, Corrupt> {
        Ok(match big.map(|big| self.big(big)) {
            None => inline.to_vec(),
            Some(Big::Fresh(whole)) => whole.to_vec(),
            Some(Big::Stored(run)) => {
                let bytes = pages.run(*run)?;
                bytes[HEADER..HEADER + run.len as usize].to_vec()
            }
            Some(Big::Gone) => unreachable!("a cell owns its long key"),
        })
    }

    /// Adds a separator to a branch's heap; `whole` may be longer than the inline limit.
    pub fn separator(&mut self, branch: &mut Branch, whole: &[u8], page_size: u32) -> Key {
        let inline_max = key_inline_max(page_size);
        let big = (whole.len() > inline_max).then(|| self.add_big(Big::Fresh(whole.into())));
        Key {
            span: branch.store(&whole[..whole.len().min(inline_max)]),
            big,
        }
    }

    /// Moves the cells from `index` on into a new leaf.
    pub fn split_leaf(&mut self, id: NodeId, index: usize) -> NodeId {
        let leaf = self.leaf_mut(id);
        let mut right = Leaf::default();
        for cell in leaf.cells.drain(index..) {
            right.adopt(&leaf.heap, cell);
        }
        leaf.bytes -= right.bytes;
        self.add(Node::Leaf(right))
    }

    pub fn key_run(&self, key: Key) -> Option<RunRef> {
        match self.big(key.big?) {
            Big::Stored(run) => Some(*run),
            Big::Fresh(_) | Big::Gone => unreachable!("long keys are written before their owner"),
        }
    }

    /// A cell as it goes onto a page; its long parts have been written.
    pub fn leaf_cell<'c>(&self, leaf: &'c Leaf, cell: &LeafCell) -> Cell<'c> {
        let body = match cell.value {
            NodeValue::Inline(span) => CellBody::Inline(&leaf.heap[span.range()]),
            NodeValue::Big(big) => match self.big(big) {
                Big::Stored(run) => CellBody::Run(*run),
                Big::Fresh(_) | Big::Gone => unreachable!("written before its owner"),
            },
        };
        Cell {
            key: leaf.key(cell),
            key_run: self.key_run(cell.key),
            body,
        }
    }

    pub fn branch_cell<'c>(&self, branch: &'c Branch, cell: &BranchCell) -> Cell<'c> {
        let Child::Page(child) = cell.child else {
            unreachable!("children are packed first")
        };
        let key = &branch.heap[cell.key.span.range()];
        Cell {
            key,
            key_run: self.key_run(cell.key),
            body: CellBody::Child(child),
        }
    }
}

impl LeafCell {
    pub fn size(&self) -> CellSize {
        let value_len = match self.value {
            NodeValue::Inline(span) => Some(span.len as usize),
            NodeValue::Big(_) => None,
        };
        leaf_cell_size(
            self.key.span.len as usize,
            self.key.big.is_some(),
            value_len,
        )
    }

    fn bytes(&self) -> usize {
        let size = self.size();
        size.fixed + size.key_len
    }
}

impl Leaf {
    pub fn key(&self, cell: &LeafCell) -> &[u8] {
        &self.heap[cell.key.span.range()]
    }

    pub fn value(&self, span: Span) -> &[u8] {
        &self.heap[span.range()]
    }

    fn set_value(&mut self, index: usize, value: NodeValue) {
        let cell = &mut self.cells[index];
        let before = cell.bytes();
        cell.value = value;
        self.bytes = self.bytes + cell.bytes() - before;
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let at = self.heap.len() as u32;
        self.heap.extend_from_slice(bytes);
        Span {
            at,
            len: bytes.len() as u32,
        }
    }

    /// Appends a cell of another leaf, or of this one before it was rebuilt.
    pub fn adopt(&mut self, heap: &[u8], mut cell: LeafCell) {
        cell.key.span = self.store(&heap[cell.key.span.range()]);
        if let NodeValue::Inline(span) = cell.value {
            cell.value = NodeValue::Inline(self.store(&heap[span.range()]));
        }
        self.bytes += cell.bytes();
        self.cells.push(cell);
    }

    /// Rebuilds the heap when overwritten values have made most of it garbage: a key that is put
    /// a million times in one transaction must not keep a million values.
    fn tidy(&mut self) {
        if self.heap.len() < 4 * self.bytes + (64 << 10) {
            return;
        }
        let mut fresh = Leaf::default();
        for cell in self.cells.drain(..) {
            fresh.adopt(&self.heap, cell);
        }
        *self = fresh;
    }
}

impl BranchCell {
    pub fn size(&self) -> CellSize {
        branch_cell_size(self.key.span.len as usize, self.key.big.is_some())
    }
}

impl Branch {
    pub fn new(level: u8) -> Branch {
        Branch {
            level,
            ..Branch::default()
        }
    }

    pub fn key(&self, cell: &BranchCell) -> &[u8] {
        &self.heap[cell.key.span.range()]
    }

    pub fn store(&mut self, bytes: &[u8]) -> Span {
        let at = self.heap.len() as u32;
        self.heap.extend_from_slice(bytes);
        Span {
            at,
            len: bytes.len() as u32,
        }
    }

    /// Copies a separator of another branch; a long one changes its owner.
    pub fn adopt_key(&mut self, from: &Branch, key: Key) -> Key {
        Key {
            span: self.store(from.key_bytes(key)),
            big: key.big,
        }
    }

    pub fn key_bytes(&self, key: Key) -> &[u8] {
        &self.heap[key.span.range()]
    }

    /// Appends all children of the right neighbour; `separator` stood above it.
    pub fn append(&mut self, separator: Key, separator_bytes: &[u8], right: Branch) {
        for (index, cell) in right.cells.iter().enumerate() {
            let key = if index == 0 {
                Key {
                    span: self.store(separator_bytes),
                    big: separator.big,
                }
            } else {
                self.adopt_key(&right, cell.key)
            };
            self.cells.push(BranchCell {
                key,
                child: cell.child,
            });
        }
    }
}
