//! Pure. The tree of one file: its newest commit, its readers, its one writer.

use super::checked::CheckedPages;
use super::error::{Corrupt, MetaFault, OpenError};
use super::meta::{META_BYTES, METAS_BYTES, Meta, first_page};
use super::plan::{Plan, PlanBuilder, Receipt, Step};
use super::read::{ReadTxn, Root, Snapshot};
use super::seal::SealProgress;
use super::space::Space;
use super::write::WriteTxn;
use crate::env::PageSource;
use crate::ids::Txid;
use crate::limits::btree::{
    BUCKET_COUNT, GROWTH_BYTES_MAX, GROWTH_BYTES_MIN, PAGE_BYTES_DEFAULT, PAGE_BYTES_MAX,
    PAGE_BYTES_MIN,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// How a new file is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// A power of two between 512 and 32768.
    pub page_size: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            page_size: PAGE_BYTES_DEFAULT,
        }
    }
}

/// The plan that makes an empty file a tree of no keys. `identity` is the caller's: it comes back
/// from [`Tree::identity`], so that a file of another group or cluster is noticed.
pub fn format(options: &Options, identity: u64) -> Plan {
    let page_size = options.page_size;
    assert!(page_size.is_power_of_two());
    assert!((PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_size));
    let meta = |txid| Meta {
        page_size,
        identity,
        txid: Txid(txid),
        page_count: first_page(page_size),
        used_count: first_page(page_size),
        roots: [Root::default(); BUCKET_COUNT],
        directories: Vec::new(),
    };
    let file_size = METAS_BYTES.max(u64::from(page_size));
    let mut bytes = meta(0).encode();
    bytes.extend_from_slice(&meta(1).encode());
    debug_assert_eq!(bytes.len(), 2 * META_BYTES);
    Plan {
        steps: vec![
            Step::SetSize(file_size),
            Step::Write { offset: 0, bytes },
            Step::Sync,
        ],
        receipt: Receipt {
            txid: Txid(1),
            roots: Box::new(meta(1).roots),
            file_size,
        },
    }
}

/// The tree of one file. Owned by the core of its group; readers on other cores hold [`ReadTxn`]s.
pub struct Tree {
    pub(super) pages: Arc<CheckedPages>,
    pub(super) space: Space,
    current: Arc<Snapshot>,
    /// Earlier commits that are pinned, or were when last looked at; ascending.
    older: VecDeque<Arc<Snapshot>>,
    identity: u64,
    page_size: u32,
    file_size: u64,
    writer: Writer,
}

/// The one writer. `Sealed`: its plan is out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writer {
    Idle,
    Open(Txid),
    Sealed(Txid),
}

impl Tree {
    /// Opens at the newest valid meta. Reads the metas and the bitmaps, nothing else.
    pub fn open(pages: Arc<dyn PageSource>, file_size: u64) -> Result<Tree, OpenError> {
        Tree::open_with(pages, file_size, true)
    }

    /// Opens without comparing checksums, to look at a damaged file; whatever else is wrong is
    /// found as usual. Never for serving.
    pub fn open_unchecked(pages: Arc<dyn PageSource>, file_size: u64) -> Result<Tree, OpenError> {
        Tree::open_with(pages, file_size, false)
    }

    fn open_with(
        source: Arc<dyn PageSource>,
        file_size: u64,
        checksums: bool,
    ) -> Result<Tree, OpenError> {
        let meta = newest_meta(&*source, checksums).map_err(OpenError::NoMeta)?;
        let expected = meta.page_count.saturating_mul(u64::from(meta.page_size));
        if expected > file_size && !meta.directories.is_empty() {
            return Err(OpenError::FileTooShort {
                expected,
                found: file_size,
            });
        }
        let first = meta.first_page();
        let pages = Arc::new(CheckedPages::new(source, meta.page_size, first, checksums));
        let space = Space::load(&meta, &pages)?;
        let snapshot = Snapshot {
            txid: meta.txid,
            roots: meta.roots,
            pages: pages.clone(),
        };
        Ok(Tree {
            pages,
            space,
            current: Arc::new(snapshot),
            older: VecDeque::new(),
            identity: meta.identity,
            page_size: meta.page_size,
            file_size,
            writer: Writer::Idle,
        })
    }

    /// Pins the newest durable commit.
    pub fn read(&self) -> ReadTxn {
        ReadTxn {
            snapshot: self.current.clone(),
        }
    }

    /// Begins the one write transaction, on top of the newest durable commit.
    pub fn begin(&mut self) -> WriteTxn {
        assert_eq!(self.writer, Writer::Idle, "one write transaction at a time");
        self.release();
        let txn = WriteTxn::new(self.current.clone(), self.page_size);
        self.writer = Writer::Open(txn.txid());
        txn
    }

    /// Seals in one go; see [`WriteTxn::seal_slice`] for doing it in parts.
    pub fn seal(&mut self, mut txn: WriteTxn) -> Result<Plan, Corrupt> {
        loop {
            match txn.seal_slice(self, usize::MAX / 2) {
                Ok(SealProgress::More) => {}
                Ok(SealProgress::Done(plan)) => return Ok(plan),
                Err(corrupt) => {
                    self.abandon(txn);
                    return Err(corrupt);
                }
            }
        }
    }

    /// The plan was carried out: its root is what [`read`](Tree::read) pins from now on, and what
    /// it freed is reused as soon as no reader of an older commit is left.
    pub fn committed(&mut self, receipt: Receipt) {
        assert_eq!(
            self.writer,
            Writer::Sealed(receipt.txid),
            "the receipt of the plan in flight"
        );
        self.writer = Writer::Idle;
        self.file_size = receipt.file_size;
        let (txid, roots) = (receipt.txid, *receipt.roots);
        let snapshot = Arc::new(Snapshot {
            txid,
            roots,
            pages: self.pages.clone(),
        });
        self.older
            .push_back(std::mem::replace(&mut self.current, snapshot));
        self.release();
    }

    /// Gives up a transaction whose plan is not out. Once it is, only executing it or giving up the
    /// file is left.
    pub fn abandon(&mut self, txn: WriteTxn) {
        assert_eq!(
            self.writer,
            Writer::Open(txn.txid()),
            "the open transaction"
        );
        if let Some(seal) = &txn.seal {
            self.space.untake(&seal.taken);
        }
        self.writer = Writer::Idle;
    }

    /// The newest durable commit.
    pub fn txid(&self) -> Txid {
        self.current.txid
    }

    pub fn identity(&self) -> u64 {
        self.identity
    }

    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// The size of the file.
    pub fn size_bytes(&self) -> u64 {
        self.file_size
    }

    /// Bytes of pages that the newest sealed commit uses, metas and bitmaps included.
    pub fn in_use_bytes(&self) -> u64 {
        self.space.used_count() * u64::from(self.page_size)
    }

    /// Bytes of pages that are free but for readers of older commits.
    pub fn pending_bytes(&self) -> u64 {
        self.space.pending_count() * u64::from(self.page_size)
    }

    /// Commits older than the newest that readers still pin.
    pub fn pinned_count(&mut self) -> usize {
        self.release();
        self.older
            .iter_mut()
            .filter_map(|older| Arc::get_mut(older).is_none().then_some(()))
            .count()
    }

    /// A plan is out.
    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.writer, Writer::Sealed(_))
    }

    pub(super) fn assert_writing(&self, txid: Txid) {
        assert_eq!(
            self.writer,
            Writer::Open(txid),
            "the tree that began the transaction"
        );
    }

    pub(super) fn sealed(&mut self, plan: PlanBuilder, meta: &Meta, shrink: bool) -> Plan {
        self.writer = Writer::Sealed(meta.txid);
        let needed = meta.page_count * u64::from(self.page_size);
        let grow = needed > self.file_size;
        let mut file_size = self.file_size;
        if grow {
            let step = (needed / 8).clamp(GROWTH_BYTES_MIN, GROWTH_BYTES_MAX);
            file_size = (needed + step).next_multiple_of(u64::from(self.page_size));
        }
        let shrink = shrink && needed < file_size;
        if shrink {
            file_size = needed.max(METAS_BYTES);
        }
        plan.finish(meta, file_size, grow, shrink)
    }

    /// Drops earlier commits that nobody pins any more, from the oldest on, and releases their
    /// pages. `get_mut` sees the last reader's release, so its reads come before our writes.
    fn release(&mut self) {
        while let Some(oldest) = self.older.front_mut() {
            if Arc::get_mut(oldest).is_none() {
                break;
            }
            self.older.pop_front();
        }
        let oldest = self
            .older
            .front()
            .map_or(self.current.txid, |snapshot| snapshot.txid);
        self.space.release(oldest);
    }
}

/// The valid meta with the higher txid; two faults if there is none.
pub(super) fn newest_meta(
    source: &dyn PageSource,
    checksums: bool,
) -> Result<Meta, [MetaFault; 2]> {
    let slots = [0, 1].map(|slot| Meta::read(source, slot, checksums));
    match slots {
        [Ok(a), Ok(b)] => Ok(if a.txid > b.txid { a } else { b }),
        [Ok(meta), Err(_)] | [Err(_), Ok(meta)] => Ok(meta),
        [Err(a), Err(b)] => Err([a, b]),
    }
}
