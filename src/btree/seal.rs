//! Pure. Sealing a write transaction: dirty nodes become pages, level by level, in slices; then
//! bitmaps, meta and the plan.
//!
//! Each dirty branch replaces its dirty children by pages. Adjacent dirty children are packed
//! together as one sequence of cells, so a batch leaves full pages; a clean neighbour joins them
//! when it fits into the pages that are written anyway. Merging and splitting are the same act.

use super::error::Corrupt;
use super::meta::{Meta, first_page};
use super::node::{Child, Extent, Node, NodeId};
use super::packer::{Packer, Parent};
use super::plan::{Plan, PlanBuilder};
use super::read::{BucketId, Root};
use super::space::{Space, SpaceWish};
use super::tree::Tree;
use super::write::WriteTxn;
use crate::limits::btree::BUCKET_COUNT;

/// How far a seal is.
#[derive(Debug)]
pub enum SealProgress {
    /// Call again.
    More,
    /// Execute this, then [`Tree::committed`].
    Done(Plan),
}

/// A seal between two slices.
pub(super) struct Seal {
    plan: PlanBuilder,
    pub taken: Vec<Extent>,
    /// What is to be done, last first: branches of low levels come before their parents.
    work: Vec<Work>,
    /// A branch whose children are being replaced.
    open: Option<Parent>,
}

enum Work {
    Parent { node: NodeId, rightmost: bool },
    Root(BucketId),
}

impl WriteTxn {
    /// Does a part of the seal: about `pages_max` pages, plus one run of siblings at most. The tree
    /// must be the one that began this transaction.
    pub fn seal_slice(
        &mut self,
        tree: &mut Tree,
        pages_max: usize,
    ) -> Result<SealProgress, Corrupt> {
        tree.assert_writing(self.txid);
        let mut seal = match self.seal.take() {
            Some(seal) => seal,
            None => {
                tree.space.rewind();
                Box::new(self.begin_seal())
            }
        };
        let result = self.slice(&mut seal, &mut tree.space, pages_max);
        let done = seal.open.is_none() && seal.work.is_empty() && self.cleared.is_empty();
        self.seal = Some(seal);
        result?;
        if done {
            Ok(SealProgress::Done(self.finish(tree)?))
        } else {
            Ok(SealProgress::More)
        }
    }

    fn begin_seal(&mut self) -> Seal {
        let mut parents: Vec<(u8, NodeId, bool)> = Vec::new();
        let mut work = Vec::new();
        for (index, root) in self.roots.iter().enumerate() {
            let Some(Child::Node(node)) = root.child else {
                continue;
            };
            work.push(Work::Root(BucketId(index as u8)));
            if root.level > 0 {
                self.dirty_branches(node, root.level, true, &mut parents);
            }
        }
        // Ascending levels, and key order within each; taken from the end.
        parents.sort_by_key(|(level, ..)| *level);
        let parents = parents.into_iter();
        let parents = parents.map(|(_, node, rightmost)| Work::Parent { node, rightmost });
        work.extend(parents.rev());
        Seal {
            plan: PlanBuilder::new(self.page_size),
            taken: Vec::new(),
            work,
            open: None,
        }
    }

    fn dirty_branches(
        &self,
        node: NodeId,
        level: u8,
        rightmost: bool,
        out: &mut Vec<(u8, NodeId, bool)>,
    ) {
        let cells = &self.arena.branch(node).cells;
        if level > 1 {
            for (index, cell) in cells.iter().enumerate() {
                if let Child::Node(child) = cell.child {
                    let rightmost = rightmost && index + 1 == cells.len();
                    self.dirty_branches(child, level - 1, rightmost, out);
                }
            }
        }
        out.push((level, node, rightmost));
    }

    fn slice(
        &mut self,
        seal: &mut Seal,
        space: &mut Space,
        pages_max: usize,
    ) -> Result<(), Corrupt> {
        let end = seal.plan.pages() + pages_max.max(1);
        if !self.cleared.is_empty() {
            self.free_cleared(pages_max.max(1))?;
            return Ok(());
        }
        // A branch that has no dirty child costs little, but not nothing: it counts as a page.
        let mut visited = 0;
        while seal.plan.pages() + visited < end {
            let mut packer = Packer {
                pages: &self.base.pages,
                space,
                arena: &mut self.arena,
                plan: &mut seal.plan,
                taken: &mut seal.taken,
                txid: self.txid,
                page_size: self.page_size,
            };
            if let Some(parent) = &mut seal.open {
                if packer.replace_children(parent)? {
                    let parent = seal.open.take().expect("just seen");
                    self.arena.nodes[parent.node.0 as usize] = Node::Branch(parent.branch);
                }
                continue;
            }
            visited += 1;
            match seal.work.pop() {
                None => break,
                Some(Work::Parent { node, rightmost }) => {
                    let Node::Branch(mut branch) = packer.arena.take(node) else {
                        unreachable!("parents are branches")
                    };
                    let cells = std::mem::take(&mut branch.cells);
                    branch.cells.reserve(cells.len());
                    let (next, last_is_clean) = (0, false);
                    seal.open = Some(Parent {
                        node,
                        branch,
                        cells,
                        next,
                        rightmost,
                        last_is_clean,
                    });
                }
                Some(Work::Root(bucket)) => {
                    let root = &mut self.roots[bucket.index()];
                    let packed = packer.pack_root(root.child, root.level)?;
                    (root.child, root.level) = packed;
                }
            }
        }
        Ok(())
    }

    /// The last part: not sliced, because it cannot be abandoned half done.
    fn finish(&mut self, tree: &mut Tree) -> Result<Plan, Corrupt> {
        tree.space.check_freed(&self.arena.freed)?;
        let seal = self
            .seal
            .take()
            .expect("only called with a seal at its end");
        let mut plan = seal.plan;
        let freed = std::mem::take(&mut self.arena.freed);
        let (compact_before, shrink) = (self.compact_space_before, self.shrink);
        let wish = SpaceWish {
            compact_before,
            shrink,
        };
        tree.space.seal(
            self.txid,
            &seal.taken,
            freed,
            wish,
            &self.base.pages,
            &mut plan,
        );
        let mut roots = [Root::default(); BUCKET_COUNT];
        for (to, from) in roots.iter_mut().zip(&self.roots) {
            if let Some(Child::Page(child)) = from.child {
                *to = Root {
                    child,
                    level: from.level,
                    keys: from.keys,
                };
            }
        }
        let meta = Meta {
            page_size: self.page_size,
            identity: tree.identity(),
            txid: self.txid,
            page_count: tree.space.page_count(),
            used_count: tree.space.used_count(),
            roots,
            directories: tree.space.directories().to_vec(),
        };
        debug_assert!(meta.page_count >= first_page(self.page_size));
        Ok(tree.sealed(plan, &meta, self.shrink))
    }
}
