//! Pure. Write plans: what to write, in which order, with which barriers.

use super::meta::Meta;
use super::read::Root;
use crate::ids::{PageId, Txid};
use crate::limits::btree::{BUCKET_COUNT, WRITE_BYTES_MAX};

/// One step of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Grow the file, or cut it where no page is used any more.
    SetSize(u64),
    /// Write bytes at an offset. Writes between two other steps touch different bytes.
    Write { offset: u64, bytes: Vec<u8> },
    /// All that was done before is on stable storage when this returns.
    Sync,
}

/// What a commit does to the file, in binding order: new pages, sync, meta, sync. A crash anywhere
/// within leaves the old root or the new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// To be handed to [`Tree::committed`](super::Tree::committed) once every step is done.
    pub receipt: Receipt,
}

/// What a plan leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    pub(super) txid: Txid,
    pub(super) roots: Box<[Root; BUCKET_COUNT]>,
    pub(super) file_size: u64,
}

impl Receipt {
    /// The commit that the plan made durable.
    pub fn txid(&self) -> Txid {
        self.txid
    }
}

impl Plan {
    /// Bytes that the plan writes.
    pub fn bytes(&self) -> usize {
        let size = |step: &Step| {
            if let Step::Write { bytes, .. } = step {
                bytes.len()
            } else {
                0
            }
        };
        self.steps.iter().map(size).sum()
    }
}

/// Collects the pages of a commit into few writes.
#[derive(Debug)]
pub(super) struct PlanBuilder {
    page_size: usize,
    writes: Vec<(u64, Vec<u8>)>,
    pages: usize,
}

impl PlanBuilder {
    pub fn new(page_size: u32) -> PlanBuilder {
        PlanBuilder {
            page_size: page_size as usize,
            writes: Vec::new(),
            pages: 0,
        }
    }

    /// Pages so far.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// A zeroed page to be filled; it joins the write that ends where it begins.
    pub fn page(&mut self, page: PageId) -> &mut [u8] {
        self.run(page, 1)
    }

    /// Adjacent zeroed pages.
    pub fn run(&mut self, page: PageId, pages: u64) -> &mut [u8] {
        self.pages += pages as usize;
        let size = pages as usize * self.page_size;
        let offset = page.0 * self.page_size as u64;
        // Single pages, runs and bitmaps come from different places of the file: look at the last
        // few writes.
        let near = self.writes.len().saturating_sub(3);
        let joined = self.writes[near..].iter().position(|(start, bytes)| {
            start + bytes.len() as u64 == offset && bytes.len() + size <= WRITE_BYTES_MAX
        });
        let index = match joined {
            Some(index) => near + index,
            None => {
                self.writes.push((offset, Vec::with_capacity(size)));
                self.writes.len() - 1
            }
        };
        let bytes = &mut self.writes[index].1;
        let at = bytes.len();
        bytes.resize(at + size, 0);
        &mut bytes[at..]
    }

    /// The plan of a commit. `grow` comes first, `shrink` last: until the new meta is durable, the
    /// old one still needs the pages behind the cut.
    pub fn finish(self, meta: &Meta, file_size: u64, grow: bool, shrink: bool) -> Plan {
        let mut steps = Vec::with_capacity(self.writes.len() + 4);
        if grow {
            steps.push(Step::SetSize(file_size));
        }
        steps.extend(
            self.writes
                .into_iter()
                .map(|(offset, bytes)| Step::Write { offset, bytes }),
        );
        steps.push(Step::Sync);
        steps.push(Step::Write {
            offset: meta.offset(),
            bytes: meta.encode(),
        });
        steps.push(Step::Sync);
        if shrink {
            steps.push(Step::SetSize(file_size));
        }
        Plan {
            steps,
            receipt: Receipt {
                txid: meta.txid,
                roots: Box::new(meta.roots),
                file_size,
            },
        }
    }
}
