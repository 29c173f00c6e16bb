//! Pure. Packing dirty nodes onto pages: one run of siblings at a time, merging and splitting as
//! needed.

use super::cell::{Cell, NodeWriter, common_len};
use super::checked::CheckedPages;
use super::error::Corrupt;
use super::image::Image;
use super::node::{Arena, BigId, NodeValue};
use super::node::{Big, Branch, BranchCell, Child, Extent, Key, Leaf, LeafCell, Node, NodeId};
use super::pack::{Cut, Item, cut_even, cut_greedy};
use super::page::{
    ChildRef, HEADER, Header, Kind, RunRef, run_pages, seal as seal_page, write_extent,
    write_header,
};
use super::plan::PlanBuilder;
use super::space::Space;
use super::view::NodeView;
use crate::ids::{PageId, Txid};
use crate::limits::btree::RUN_NODES_MAX;

/// A branch whose children are being replaced.
pub(super) struct Parent {
    pub node: NodeId,
    /// Its cells so far, all on pages.
    pub branch: Branch,
    /// Its cells as they were; those from `next` on are still to be moved over.
    pub cells: Vec<BranchCell>,
    pub next: usize,
    pub rightmost: bool,
    /// The last cell of `branch` is a page that this transaction did not write.
    pub last_is_clean: bool,
}

/// What packing needs of the tree, the transaction and the seal.
pub(super) struct Packer<'a> {
    pub pages: &'a CheckedPages,
    pub space: &'a mut Space,
    pub arena: &'a mut Arena,
    pub plan: &'a mut PlanBuilder,
    pub taken: &'a mut Vec<Extent>,
    pub txid: Txid,
    pub page_size: u32,
}

/// A page that packing made. The first of a run has no separator: it keeps the one above it.
struct Packed {
    separator: Option<Key>,
    child: ChildRef,
}

impl Packer<'_> {
    /// Moves cells of a parent over until one run of dirty children has been packed; `true` when
    /// there are no more.
    pub fn replace_children(&mut self, parent: &mut Parent) -> Result<bool, Corrupt> {
        while let Some(cell) = parent.cells.get(parent.next) {
            if matches!(cell.child, Child::Page(_)) {
                parent.branch.cells.push(*cell);
                parent.last_is_clean = true;
                parent.next += 1;
                continue;
            }
            let rest = &parent.cells[parent.next..];
            let dirty = rest
                .iter()
                .take_while(|cell| matches!(cell.child, Child::Node(_)));
            let count = dirty.take(RUN_NODES_MAX).count();
            let mut run = rest[..count].to_vec();
            parent.next += count;
            if parent.branch.level == 1 {
                self.replace_leaves(parent, &run)?;
            } else {
                self.replace_branches(parent, &mut run)?;
            }
            return Ok(parent.next == parent.cells.len());
        }
        Ok(true)
    }

    /// Leaves that fit their page go there as they are. Those that do not, or are nearly empty, are
    /// packed in groups, together with a sibling that fits in.
    fn replace_leaves(&mut self, parent: &mut Parent, run: &[BranchCell]) -> Result<(), Corrupt> {
        // The leaf before the group to come: it may join that.
        let mut held: Option<BranchCell> = None;
        let mut at = 0;
        while at < run.len() {
            if self.stands_alone(&run[at]) {
                self.write_image(parent, held.replace(run[at]));
                at += 1;
                continue;
            }
            let end = run[at..].iter().position(|cell| self.stands_alone(cell));
            let end = end.map_or(run.len(), |count| at + count);
            let mut group = run[at..end].to_vec();
            at = end;
            let mut leaves = Vec::with_capacity(group.len() + 1);
            for cell in &group {
                leaves.push(self.take_leaf(cell)?);
            }
            let append = parent.rightmost && parent.next == parent.cells.len() && at == run.len();
            let mut cut = self.cut_leaves(&leaves, append);
            if let Some(room) = self.room(&cut, append) {
                let next = run.get(at).copied();
                let joined = if held.is_some_and(|cell| self.image_bytes(&cell) <= room) {
                    held.take().map(|cell| (0, cell))
                } else if next.is_some_and(|cell| self.image_bytes(&cell) <= room) {
                    at += 1;
                    next.map(|cell| (group.len(), cell))
                } else {
                    let (left, right) = (held.is_none(), at == run.len());
                    let side = self.neighbour(parent, room, left, right)?;
                    side.map(|(left, cell)| (if left { 0 } else { group.len() }, cell))
                };
                if let Some((place, cell)) = joined {
                    leaves.insert(place, self.take_leaf(&cell)?);
                    group.insert(place, cell);
                    cut = self.cut_leaves(&leaves, append);
                }
            }
            self.write_image(parent, held.take());
            let packed = self.pack_leaves(&mut parent.branch, &leaves, &cut)?;
            for cell in &group[1..] {
                self.arena.drop_key(cell.key, self.page_size);
            }
            self.adopt(parent, group[0].key, packed);
        }
        self.write_image(parent, held);
        Ok(())
    }

    fn stands_alone(&self, cell: &BranchCell) -> bool {
        let least = self.page_size as usize / 3;
        let bytes = self.image_bytes(cell);
        bytes >= least && bytes <= self.page_size as usize
    }

    /// Bytes in use of a leaf that fits its page; more than any page has, for others.
    fn image_bytes(&self, cell: &BranchCell) -> usize {
        match cell.child {
            Child::Node(node) => match self.arena.node(node) {
                Node::Image(image) => image.extent(),
                _ => usize::MAX,
            },
            Child::Page(_) => usize::MAX,
        }
    }

    fn write_image(&mut self, parent: &mut Parent, cell: Option<BranchCell>) {
        let Some(cell) = cell else { return };
        let Child::Node(node) = cell.child else {
            unreachable!("runs are made of nodes")
        };
        let Node::Image(image) = self.arena.take(node) else {
            unreachable!("just looked at")
        };
        let child = self.place_image(&image);
        self.adopt(
            parent,
            cell.key,
            vec![Packed {
                separator: None,
                child,
            }],
        );
    }

    fn place_image(&mut self, image: &Image) -> ChildRef {
        let page = self.space.allocate();
        self.take(page, 1);
        ChildRef {
            page,
            crc: image.write(self.plan.page(page), page, self.txid),
        }
    }

    fn replace_branches(
        &mut self,
        parent: &mut Parent,
        run: &mut Vec<BranchCell>,
    ) -> Result<(), Corrupt> {
        let append = parent.rightmost && parent.next == parent.cells.len();
        let mut merged = self.merge_branches(parent, run);
        let mut cut = self.cut_branch(&merged, append);
        let side = match self.room(&cut, append) {
            Some(room) => self.neighbour(parent, room, true, true)?,
            None => None,
        };
        if let Some((left, cell)) = side {
            let Child::Page(page) = cell.child else {
                unreachable!("neighbours are pages")
            };
            let level = parent.branch.level - 1;
            let node = self.arena.load(self.pages, page, level)?;
            let Node::Branch(neighbour) = self.arena.take(node) else {
                unreachable!("just loaded as a branch")
            };
            if left {
                let mut whole = neighbour;
                let separator = run[0].key;
                self.join(&mut whole, separator, &parent.branch, merged);
                merged = whole;
                run.insert(0, cell);
            } else {
                self.join(&mut merged, cell.key, &parent.branch, neighbour);
                run.push(cell);
            }
            cut = self.cut_branch(&merged, append);
        }
        let packed = self.pack_branch(&mut parent.branch, &merged, &cut)?;
        self.adopt(parent, run[0].key, packed);
        Ok(())
    }

    /// Puts the pages of a run into their parent; the first one keeps the run's separator.
    fn adopt(&mut self, parent: &mut Parent, first: Key, packed: Vec<Packed>) {
        if packed.is_empty() {
            self.arena.drop_key(first, self.page_size);
            return;
        }
        for Packed { separator, child } in packed {
            let key = separator.unwrap_or(first);
            parent.branch.cells.push(BranchCell {
                key,
                child: Child::Page(child),
            });
        }
        parent.last_is_clean = false;
    }

    /// Room on the last page of a cut, if there is enough to look for a sibling that fits in:
    /// taking one in costs no write and frees its page.
    fn room(&self, cut: &Cut, append: bool) -> Option<usize> {
        let page_size = self.page_size as usize;
        let room = (cut.ends.len() * page_size).saturating_sub(cut.bytes);
        let worth = if cut.ends.len() == 1 {
            page_size / 2
        } else {
            page_size / 3
        };
        if cut.ends.is_empty() || room < worth || (append && cut.ends.len() > 1) {
            return None;
        }
        // An eighth is kept free: pages that are filled to the brim overflow with the next insert.
        Some(room - page_size / 8)
    }

    /// A clean sibling of at most `room` bytes, taken out of the parent; `true` when it stands
    /// left.
    fn neighbour(
        &mut self,
        parent: &mut Parent,
        room: usize,
        left: bool,
        right: bool,
    ) -> Result<Option<(bool, BranchCell)>, Corrupt> {
        let level = parent.branch.level - 1;
        if left
            && parent.last_is_clean
            && let Some(cell) = parent.branch.cells.last().copied()
            && let Child::Page(page) = cell.child
            && self.bytes_in_use(page, level)? <= room
        {
            parent.branch.cells.pop();
            return Ok(Some((true, cell)));
        }
        if right
            && let Some(cell) = parent.cells.get(parent.next).copied()
            && let Child::Page(page) = cell.child
            && self.bytes_in_use(page, level)? <= room
        {
            parent.next += 1;
            return Ok(Some((false, cell)));
        }
        Ok(None)
    }

    fn bytes_in_use(&self, page: ChildRef, level: u8) -> Result<usize, Corrupt> {
        let bytes = self.pages.node(page, level)?;
        Ok(Header::read(&bytes).map_or(usize::MAX, |header| header.extent as usize))
    }

    /// The leaf of a cell, in memory or on its page, unpacked.
    fn take_leaf(&mut self, cell: &BranchCell) -> Result<Leaf, Corrupt> {
        let node = match cell.child {
            Child::Node(node) => node,
            Child::Page(page) => self.arena.load(self.pages, page, 0)?,
        };
        let node = self.arena.take(node);
        self.arena.unpacked(node)
    }

    /// The branches of a run as one, with the separators between them from their parent.
    fn merge_branches(&mut self, parent: &Parent, run: &[BranchCell]) -> Branch {
        let mut merged: Option<Branch> = None;
        for cell in run {
            let Child::Node(node) = cell.child else {
                unreachable!("runs are made of nodes")
            };
            let Node::Branch(branch) = self.arena.take(node) else {
                unreachable!("levels tell leaves from branches")
            };
            match &mut merged {
                None => merged = Some(branch),
                Some(merged) => self.join(merged, cell.key, &parent.branch, branch),
            }
        }
        merged.expect("a run is not empty")
    }

    /// Appends `right` to `left`; `separator`, of the branch `above`, stood between them.
    fn join(&mut self, left: &mut Branch, separator: Key, above: &Branch, right: Branch) {
        if let Some(first) = right.cells.first() {
            self.arena.drop_key(first.key, self.page_size);
            let bytes = above.key_bytes(separator).to_vec();
            left.append(separator, &bytes, right);
        } else {
            self.arena.drop_key(separator, self.page_size);
        }
    }

    fn cut_leaves(&self, leaves: &[Leaf], append: bool) -> Cut {
        let mut items = Vec::with_capacity(leaves.iter().map(|leaf| leaf.cells.len()).sum());
        let mut before: &[u8] = &[];
        for leaf in leaves {
            for cell in &leaf.cells {
                let key = leaf.key(cell);
                items.push(Item {
                    size: cell.size(),
                    common: common_len(before, key),
                });
                before = key;
            }
        }
        self.cut(&items, false, append)
    }

    fn cut_branch(&self, branch: &Branch, append: bool) -> Cut {
        let mut items = Vec::with_capacity(branch.cells.len());
        let mut before: &[u8] = &[];
        for cell in &branch.cells {
            let key = branch.key(cell);
            items.push(Item {
                size: cell.size(),
                common: common_len(before, key),
            });
            before = key;
        }
        self.cut(&items, true, append)
    }

    fn cut(&self, items: &[Item], branch: bool, append: bool) -> Cut {
        let page_size = self.page_size as usize;
        if append {
            cut_greedy(items, page_size, branch)
        } else {
            cut_even(items, page_size, branch)
        }
    }

    /// Writes the cells of `leaves` to pages. Separators go to the heap of `above`.
    fn pack_leaves(
        &mut self,
        above: &mut Branch,
        leaves: &[Leaf],
        cut: &Cut,
    ) -> Result<Vec<Packed>, Corrupt> {
        let cells: Vec<(&Leaf, &LeafCell)> = leaves
            .iter()
            .flat_map(|leaf| leaf.cells.iter().map(move |cell| (leaf, cell)))
            .collect();
        // Separators first: comparing long keys reads them, and once written they are in the plan
        // only.
        let mut separators = vec![None];
        for end in cut.ends.iter().take(cut.ends.len().saturating_sub(1)) {
            separators.push(Some(self.separate(above, cells[end - 1], cells[*end])?));
        }
        let mut packed = Vec::with_capacity(cut.ends.len());
        let mut start = 0;
        for (end, separator) in cut.ends.iter().zip(separators) {
            let on_page = &cells[start..*end];
            for (_, cell) in on_page {
                self.write_big(cell.key.big);
                if let NodeValue::Big(big) = cell.value {
                    self.write_big(Some(big));
                }
            }
            let key = |index: usize| on_page[index].0.key(on_page[index].1);
            let (first, last) = (key(0), key(on_page.len() - 1));
            let shortest = on_page
                .iter()
                .map(|(leaf, cell)| leaf.key(cell).len())
                .min();
            let prefix = common_len(first, last).min(shortest.unwrap_or(0).saturating_sub(2));
            let page = self.space.allocate();
            self.take(page, 1);
            let (out, count) = (self.plan.page(page), on_page.len());
            let mut writer = NodeWriter::new(out, 0, page, self.txid, &first[..prefix], count);
            for (leaf, cell) in on_page {
                writer.push(&self.arena.leaf_cell(leaf, cell), false);
            }
            let child = ChildRef {
                page,
                crc: writer.finish(),
            };
            packed.push(Packed { separator, child });
            start = *end;
        }
        Ok(packed)
    }

    /// The shortest key that is above `left` and not above `right`.
    fn separate(
        &mut self,
        above: &mut Branch,
        left: (&Leaf, &LeafCell),
        right: (&Leaf, &LeafCell),
    ) -> Result<Key, Corrupt> {
        let (left_key, right_key) = (left.0.key(left.1), right.0.key(right.1));
        let common = common_len(left_key, right_key);
        if common < right_key.len() && (common < left_key.len() || left.1.key.big.is_none()) {
            return Ok(self
                .arena
                .separator(above, &right_key[..common + 1], self.page_size));
        }
        let left = self.arena.whole_key(self.pages, left_key, left.1.key.big)?;
        let right = self
            .arena
            .whole_key(self.pages, right_key, right.1.key.big)?;
        let common = common_len(&left, &right);
        Ok(self
            .arena
            .separator(above, &right[..right.len().min(common + 1)], self.page_size))
    }

    /// Writes the cells of a branch to pages. The first key of each page moves up.
    fn pack_branch(
        &mut self,
        above: &mut Branch,
        branch: &Branch,
        cut: &Cut,
    ) -> Result<Vec<Packed>, Corrupt> {
        let mut packed = Vec::with_capacity(cut.ends.len());
        let mut start = 0;
        for end in &cut.ends {
            let on_page = &branch.cells[start..*end];
            for cell in &on_page[1..] {
                self.write_big(cell.key.big);
            }
            let separator = if start == 0 {
                self.arena.drop_key(on_page[0].key, self.page_size);
                None
            } else {
                Some(above.adopt_key(branch, on_page[0].key))
            };
            let keyed = &on_page[1..];
            let prefix = match (keyed.first(), keyed.last()) {
                (Some(first), Some(last)) => {
                    let (first, last) = (branch.key(first), branch.key(last));
                    let shortest = keyed.iter().map(|cell| branch.key(cell).len()).min();
                    let most = shortest.unwrap_or(0).saturating_sub(2);
                    &first[..common_len(first, last).min(most)]
                }
                _ => &[],
            };
            let page = self.space.allocate();
            self.take(page, 1);
            let (out, count) = (self.plan.page(page), on_page.len());
            let mut writer = NodeWriter::new(out, branch.level, page, self.txid, prefix, count);
            for (index, cell) in on_page.iter().enumerate() {
                let mut cell = BranchCell { ..*cell };
                if index == 0 {
                    cell.key = Key::default();
                }
                let cell: Cell<'_> = self.arena.branch_cell(branch, &cell);
                writer.push(&cell, index == 0);
            }
            packed.push(Packed {
                separator,
                child: ChildRef {
                    page,
                    crc: writer.finish(),
                },
            });
            start = *end;
        }
        Ok(packed)
    }

    /// Packs a bucket's root, and new roots above it until one page is enough. A root branch with a
    /// single child gives way to it.
    pub fn pack_root(
        &mut self,
        mut child: Option<Child>,
        mut level: u8,
    ) -> Result<(Option<Child>, u8), Corrupt> {
        while let Some(Child::Node(node)) = child {
            let mut above = Branch::new(level + 1);
            let packed = match self.arena.take(node) {
                Node::Image(image) => {
                    return Ok((Some(Child::Page(self.place_image(&image))), 0));
                }
                Node::Leaf(leaf) => {
                    let leaves = [leaf];
                    let cut = self.cut_leaves(&leaves, true);
                    self.pack_leaves(&mut above, &leaves, &cut)?
                }
                Node::Branch(branch) if branch.cells.len() == 1 => {
                    self.arena.drop_key(branch.cells[0].key, self.page_size);
                    return self.collapse(branch.cells[0].child, level - 1);
                }
                Node::Branch(branch) => {
                    let cut = self.cut_branch(&branch, false);
                    self.pack_branch(&mut above, &branch, &cut)?
                }
                Node::Gone => unreachable!("a root is packed once"),
            };
            child = match packed.as_slice() {
                [] => None,
                [one] => Some(Child::Page(one.child)),
                _ => {
                    for Packed { separator, child } in packed {
                        let key = separator.unwrap_or_default();
                        above.cells.push(BranchCell {
                            key,
                            child: Child::Page(child),
                        });
                    }
                    level += 1;
                    Some(Child::Node(self.arena.add(Node::Branch(above))))
                }
            };
        }
        Ok(if child.is_none() {
            (None, 0)
        } else {
            (child, level)
        })
    }

    /// Goes down from a root as long as there is a single child.
    fn collapse(&mut self, child: Child, mut level: u8) -> Result<(Option<Child>, u8), Corrupt> {
        let Child::Page(mut page) = child else {
            unreachable!("children are packed first")
        };
        while level > 0 {
            // A page of this transaction is not in the file yet. It stays, single child or not.
            if self.taken.iter().any(|extent| extent.page == page.page) {
                break;
            }
            let bytes = self.pages.node(page, level)?;
            let view = NodeView::new(&bytes, page.page)?;
            if view.count() != 1 {
                break;
            }
            self.arena.freed.push(Extent {
                page: page.page,
                pages: 1,
            });
            page = view.child(0)?;
            level -= 1;
        }
        Ok((Some(Child::Page(page)), level))
    }

    fn take(&mut self, page: PageId, pages: u32) {
        self.taken.push(Extent { page, pages });
        (0..u64::from(pages)).for_each(|n| self.pages.forget(PageId(page.0 + n)));
    }

    /// Writes a long key or value that is not on pages yet.
    fn write_big(&mut self, big: Option<BigId>) {
        let Some(id) = big else { return };
        let Big::Fresh(bytes) = self.arena.big(id) else {
            return;
        };
        let pages = run_pages(bytes.len(), self.page_size);
        let page = self.space.allocate_run(pages);
        let out = self.plan.run(page, pages);
        write_header(out, Kind::Overflow, 0, page, self.txid);
        write_extent(out, bytes.len() as u32);
        out[HEADER..HEADER + bytes.len()].copy_from_slice(bytes);
        let run = RunRef {
            page,
            crc: seal_page(out),
            len: bytes.len() as u32,
        };
        self.arena.stored_big(id, run);
        self.take(page, pages as u32);
    }
}
