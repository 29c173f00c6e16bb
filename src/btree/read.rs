//! Pure. Reading a pinned root: transactions, buckets, values.

use super::checked::CheckedPages;
use super::cursor::Cursor;
use super::error::{Corrupt, Rule};
use super::page::{ChildRef, HEADER, RunRef};
use super::view::{Body, NodeView};
use crate::env::PageRef;
use crate::ids::{PageId, Txid};
use crate::limits::btree::BUCKET_COUNT;
use std::ops::Deref;
use std::sync::Arc;

/// One of the file's buckets, 0..=31.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BucketId(pub u8);

impl BucketId {
    pub(super) fn index(self) -> usize {
        let index = usize::from(self.0);
        assert!(index < BUCKET_COUNT, "bucket ids are 0..=31");
        index
    }
}

/// The root of one bucket. `keys == 0` exactly when there is no root page (`child` is zero).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Root {
    pub child: ChildRef,
    pub level: u8,
    pub keys: u64,
}

impl Root {
    pub fn is_empty(&self) -> bool {
        self.child.page == PageId(0)
    }
}

/// One commit's roots. Its pin is the `Arc` around it: the tree keeps a reference to each older
/// snapshot until it is the only one.
pub(super) struct Snapshot {
    pub txid: Txid,
    pub roots: [Root; BUCKET_COUNT],
    pub pages: Arc<CheckedPages>,
}

/// A pinned root, usable from any core: it sees one commit, and keeps that commit's pages from
/// being reused. Cloning and dropping cost one atomic operation.
#[derive(Clone)]
pub struct ReadTxn {
    pub(super) snapshot: Arc<Snapshot>,
}

impl ReadTxn {
    /// The commit that this transaction sees.
    pub fn txid(&self) -> Txid {
        self.snapshot.txid
    }

    /// A bucket; one that was never written is empty.
    pub fn bucket(&self, id: BucketId) -> Bucket<'_> {
        Bucket {
            pages: &self.snapshot.pages,
            root: &self.snapshot.roots[id.index()],
        }
    }
}

/// One bucket of a [`ReadTxn`].
#[derive(Clone, Copy)]
pub struct Bucket<'t> {
    pub(super) pages: &'t CheckedPages,
    pub(super) root: &'t Root,
}

impl<'t> Bucket<'t> {
    /// The number of keys.
    pub fn len(&self) -> u64 {
        self.root.keys
    }

    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// The levels of pages between the meta and a value: 0 for an empty bucket, 1 for a lone leaf.
    pub fn depth(&self) -> u8 {
        if self.is_empty() {
            0
        } else {
            self.root.level + 1
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value<'t>>, Corrupt> {
        if self.root.is_empty() {
            return Ok(None);
        }
        lookup(self.pages, self.root.child, self.root.level, key)
    }

    /// A cursor that stands on no entry yet.
    pub fn cursor(&self) -> Cursor<'t> {
        Cursor::new(*self)
    }
}

/// Looks `key` up below a page.
pub(super) fn lookup<'t>(
    pages: &'t CheckedPages,
    mut child: ChildRef,
    level: u8,
    key: &[u8],
) -> Result<Option<Value<'t>>, Corrupt> {
    for level in (1..=level).rev() {
        let page = pages.node(child, level)?;
        let view = NodeView::new(&page, child.page)?;
        child = view.child(view.search_branch(key, pages)?)?;
    }
    let page = pages.node(child, 0)?;
    let view = NodeView::new(&page, child.page)?;
    let (index, equal) = view.search_leaf(key, pages)?;
    if !equal {
        return Ok(None);
    }
    let body = view.record(index)?.body;
    Value::of(pages, child.page, &page, body).map(Some)
}

/// A value's bytes, borrowed from the map, or shared where the world has no map.
#[derive(Clone, Debug)]
pub struct Value<'t>(Bytes<'t>);

#[derive(Clone, Debug)]
enum Bytes<'t> {
    Borrowed(&'t [u8]),
    Shared {
        page: Arc<[u8]>,
        at: usize,
        len: usize,
    },
}

impl<'t> Value<'t> {
    pub(super) fn borrowed(bytes: &'t [u8]) -> Value<'t> {
        Value(Bytes::Borrowed(bytes))
    }

    pub(super) fn of(
        pages: &'t CheckedPages,
        id: PageId,
        page: &PageRef<'t>,
        body: Body,
    ) -> Result<Value<'t>, Corrupt> {
        match body {
            Body::Inline { at, len } => Value::part(page, id, at, len),
            Body::Run(run) => Value::of_run(pages, run),
            Body::Child(child) => Value::part(page, child.page, usize::MAX, 0),
        }
    }

    pub(super) fn of_run(pages: &'t CheckedPages, run: RunRef) -> Result<Value<'t>, Corrupt> {
        let page = pages.run(run)?;
        Value::part(&page, run.page, HEADER, run.len as usize)
    }

    #[inline]
    fn part(page: &PageRef<'t>, id: PageId, at: usize, len: usize) -> Result<Value<'t>, Corrupt> {
        let end = at.saturating_add(len);
        if end > page.len() {
            let (expected, found) = (page.len() as u64, end as u64);
            return Err(Corrupt {
                page: id,
                offset: 0,
                rule: Rule::Record,
                expected,
                found,
            });
        }
        Ok(Value(match page {
            PageRef::Mapped(bytes) => Bytes::Borrowed(&bytes[at..end]),
            PageRef::Shared(bytes) => Bytes::Shared {
                page: bytes.clone(),
                at,
                len,
            },
        }))
    }

    /// The bytes for as long as the transaction lives, where they are borrowed from the map.
    pub fn mapped(&self) -> Option<&'t [u8]> {
        match self.0 {
            Bytes::Borrowed(bytes) => Some(bytes),
            Bytes::Shared { .. } => None,
        }
    }
}

impl Deref for Value<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Borrowed(bytes) => bytes,
            Bytes::Shared { page, at, len } => &page[*at..*at + *len],
        }
    }
}
