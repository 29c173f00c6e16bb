//! Pure. What can be read: a pinned tree root under two overlays.
//!
//! ```text
//!   active       writes since the newest commit began      ─┐ newest wins
//!   committing   writes of the commit that is under way     │
//!   tree         what the file holds                       ─┘
//! ```
//! The owner changes its own `State`; a view is a clone of it and keeps what it saw.

use super::buffer::Buffer;
use super::cowmap::CowMap;
use super::entry::{IndexEntry, waypoint_key, waypoint_revision};
use super::error::{Corrupt, EntryRule};
use super::merge::MergeCursor;
use super::record::{Link, Record, RevisionKey, split_record};
use super::schema;
use crate::btree::{BucketId, Cursor, ReadTxn, Value};
use crate::ids::Revision;
use bytes::Bytes;
use std::ops::Deref;
use std::sync::Arc;

/// One generation of writes that the file does not have.
#[derive(Clone, Default, Debug)]
pub struct Layer {
    pub records: Buffer,
    /// User key → newest entry; `None` where compaction removed it.
    pub index: CowMap<Option<IndexEntry>>,
    /// Bucket number ++ key → value, for every bucket but `key` and `index`; `None` is a deletion.
    pub small: CowMap<Option<Bytes>>,
}

/// `Send + Sync`: a view on any core is a clone of the owner's state.
#[derive(Clone)]
pub struct State {
    pub tree: ReadTxn,
    pub active: Layer,
    pub committing: Option<Arc<Layer>>,
}

/// A record's link and KeyValue, borrowed from where they lie.
pub struct StoredRecord<'a> {
    pub link: Link,
    pub kv: Kv<'a>,
}

/// An encoded KeyValue: in a buffer, or in a page after its link.
pub enum Kv<'a> {
    Buffered(&'a Bytes),
    Stored { value: Value<'a>, start: usize },
}

impl Deref for Kv<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Kv::Buffered(bytes) => bytes,
            Kv::Stored { value, start } => &value[*start..],
        }
    }
}

impl Kv<'_> {
    /// Shares buffered bytes, copies stored ones.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Kv::Buffered(bytes) => (*bytes).clone(),
            Kv::Stored { .. } => Bytes::copy_from_slice(self),
        }
    }
}

impl<'a> StoredRecord<'a> {
    pub fn of_buffer(record: &'a Record) -> StoredRecord<'a> {
        StoredRecord {
            link: record.link,
            kv: Kv::Buffered(&record.kv),
        }
    }

    /// The record in a value of the `key` bucket.
    pub fn of_value(
        revision: Revision,
        tombstone: bool,
        value: Value<'a>,
    ) -> Result<StoredRecord<'a>, Corrupt> {
        let Some((link, kv)) = split_record(revision, &value) else {
            let key = RevisionKey::new(revision, tombstone);
            return Err(Corrupt::entry(
                schema::KEY,
                key.as_bytes(),
                EntryRule::Record,
            ));
        };
        let start = value.len() - kv.len();
        Ok(StoredRecord {
            link,
            kv: Kv::Stored { value, start },
        })
    }
}

impl State {
    /// The newest entry of `key`, tombstones included.
    pub fn index(&self, key: &[u8]) -> Result<Option<IndexEntry>, Corrupt> {
        if let Some(entry) = self.active.index.get(key) {
            return Ok(*entry);
        }
        if let Some(entry) = self
            .committing
            .as_ref()
            .and_then(|layer| layer.index.get(key))
        {
            return Ok(*entry);
        }
        match self.tree.bucket(schema::INDEX).get(key)? {
            None => Ok(None),
            Some(value) => match IndexEntry::parse(&value) {
                Some(entry) => Ok(Some(entry)),
                None => Err(Corrupt::entry(schema::INDEX, key, EntryRule::IndexValue)),
            },
        }
    }

    /// The record of `revision` where a buffer has it.
    #[inline]
    fn buffered(&self, revision: Revision) -> Option<Option<&Record>> {
        if self.active.records.covers(revision) {
            return Some(self.active.records.find(revision));
        }
        let records = &self.committing.as_ref()?.records;
        records.covers(revision).then(|| records.find(revision))
    }

    /// The record of `revision`, if it is a tombstone or not as asked; `None` when compaction
    /// removed it, or it never was.
    pub fn record(
        &self,
        revision: Revision,
        tombstone: bool,
    ) -> Result<Option<StoredRecord<'_>>, Corrupt> {
        if let Some(record) = self.buffered(revision) {
            let record = record.filter(|record| record.tombstone == tombstone);
            return Ok(record.map(StoredRecord::of_buffer));
        }
        let key = RevisionKey::new(revision, tombstone);
        let Some(value) = self.tree.bucket(schema::KEY).get(key.as_bytes())? else {
            return Ok(None);
        };
        StoredRecord::of_value(revision, tombstone, value).map(Some)
    }

    /// As [`record`](State::record), through a cursor on the `key` bucket: cheap when revisions
    /// that are asked for one after the other lie close together.
    #[inline]
    pub fn record_near<'a>(
        &'a self,
        cursor: &mut Cursor<'a>,
        revision: Revision,
        tombstone: bool,
    ) -> Result<Option<StoredRecord<'a>>, Corrupt> {
        if let Some(record) = self.buffered(revision) {
            let record = record.filter(|record| record.tombstone == tombstone);
            return Ok(record.map(StoredRecord::of_buffer));
        }
        let key = RevisionKey::new(revision, tombstone);
        if !cursor.seek(key.as_bytes())? || cursor.key() != Some(key.as_bytes()) {
            return Ok(None);
        }
        let value = cursor.value()?.expect("the cursor stands on an entry");
        StoredRecord::of_value(revision, tombstone, value).map(Some)
    }

    /// A cursor for [`record_near`](State::record_near).
    pub fn record_cursor(&self) -> Cursor<'_> {
        self.tree.bucket(schema::KEY).cursor()
    }

    /// All index entries in key order, tombstones included.
    pub fn index_cursor(&self) -> MergeCursor<'_, IndexEntry> {
        let lower = self.committing.as_ref().map(|layer| &layer.index);
        MergeCursor::new(
            self.tree.bucket(schema::INDEX).cursor(),
            None,
            &self.active.index,
            lower,
        )
    }

    /// The entries of a bucket other than `key` and `index`.
    pub fn small_cursor(&self, bucket: BucketId) -> MergeCursor<'_, Bytes> {
        assert!(bucket != schema::KEY && bucket != schema::INDEX);
        let lower = self.committing.as_ref().map(|layer| &layer.small);
        let tree = self.tree.bucket(bucket).cursor();
        MergeCursor::new(tree, Some(bucket.0), &self.active.small, lower)
    }

    /// The value of `key` in a bucket other than `key` and `index`.
    pub fn small(&self, bucket: BucketId, key: &[u8]) -> Result<Option<Bytes>, Corrupt> {
        assert!(bucket != schema::KEY && bucket != schema::INDEX);
        let placed = small_key(bucket, key);
        if let Some(value) = self.active.small.get(&placed) {
            return Ok(value.clone());
        }
        if let Some(value) = self
            .committing
            .as_ref()
            .and_then(|layer| layer.small.get(&placed))
        {
            return Ok(value.clone());
        }
        let value = self.tree.bucket(bucket).get(key)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// The revision of `key` that was its newest when `main` was the store's revision, found by
    /// walking links down from `from`, which is above `main`. `None`: the key had no record then,
    /// or the walk ends at one that compaction removed.
    pub fn find_at(
        &self,
        key: &[u8],
        from: (Revision, bool),
        main: i64,
    ) -> Result<Option<(Revision, bool)>, Corrupt> {
        let mut at = from;
        let mut waypoint_asked = false;
        loop {
            let (revision, tombstone) = at;
            if revision.main <= main {
                return Ok(Some(at));
            }
            let record = self.record(revision, tombstone)?;
            let link = record.ok_or(Corrupt::Missing { revision })?.link;
            let Some(previous) = link.previous else {
                return Ok(None);
            };
            at = previous;
            // From here the key has at least one waypoint below; look for the one nearest to
            // `main`, once, when the walk would otherwise reach the next one.
            if link.step == 0 && previous.0.main > main && !waypoint_asked {
                waypoint_asked = true;
                if let Some(nearer) = self.waypoint_above(key, main)?
                    && nearer.0 < at.0
                {
                    at = nearer;
                }
            }
        }
    }

    /// The oldest waypoint of `key` above `main`.
    fn waypoint_above(&self, key: &[u8], main: i64) -> Result<Option<(Revision, bool)>, Corrupt> {
        let seek = waypoint_key(key, Revision::new(main + 1, 0));
        let mut cursor = self.small_cursor(schema::HISTORY);
        cursor.seek(&seek)?;
        let Some(found) = cursor.key() else {
            return Ok(None);
        };
        let Some(revision) = waypoint_revision(found, &seek) else {
            return Ok(None);
        };
        let (upper, stored) = cursor.value()?;
        let flag = match (&upper, &stored) {
            (Some(value), _) => value.first(),
            (_, Some(value)) => value.first(),
            (None, None) => None,
        };
        match flag {
            Some(0) => Ok(Some((revision, false))),
            Some(1) => Ok(Some((revision, true))),
            _ => Err(Corrupt::entry(schema::HISTORY, &seek, EntryRule::Waypoint)),
        }
    }
}

/// The key of a small-bucket write in a [`Layer`].
pub fn small_key(bucket: BucketId, key: &[u8]) -> Bytes {
    let mut placed = Vec::with_capacity(key.len() + 1);
    placed.push(bucket.0);
    placed.extend_from_slice(key);
    Bytes::from(placed)
}
