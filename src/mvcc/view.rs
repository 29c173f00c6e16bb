//! Pure. A moment of the store, kept for reading.

use crate::backend::{Corrupt, IndexEntry, KeyMeta, Kv, State};
use crate::btree::BucketId;
use crate::ids::Revision;
use bytes::Bytes;
use std::sync::Arc;

/// Shared between cores: a clone is one reference count. While it lives, the pages that it can
/// reach are not reused, and the writes that were not committed when it was taken stay in memory.
#[derive(Clone)]
pub struct View {
    inner: Arc<Inner>,
}

struct Inner {
    state: State,
    revision: i64,
    compacted: i64,
}

const _: fn() = || {
    fn is_shared<T: Send + Sync + Clone + 'static>() {}
    is_shared::<View>();
};

impl View {
    pub(super) fn new(state: State, revision: i64, compacted: i64) -> View {
        View {
            inner: Arc::new(Inner {
                state,
                revision,
                compacted,
            }),
        }
    }

    /// The store's revision when the view was taken.
    pub fn revision(&self) -> i64 {
        self.inner.revision
    }

    /// The oldest readable revision; -1 when nothing was compacted.
    pub fn compacted(&self) -> i64 {
        self.inner.compacted
    }

    /// The meta of a live key.
    pub fn meta(&self, key: &[u8]) -> Result<Option<KeyMeta>, Corrupt> {
        Ok(self.state().index(key)?.and_then(|entry| entry.live()))
    }

    /// The encoded KeyValue of a live key.
    pub fn kv(&self, key: &[u8]) -> Result<Option<Bytes>, Corrupt> {
        let Some(meta) = self.meta(key)? else {
            return Ok(None);
        };
        Ok(Some(self.state().live_kv(meta.modified)?.to_bytes()))
    }

    /// The encoded KeyValue that the change `before` of `key` replaced, as etcd reports it to
    /// watchers: that of the main revision before it, also when a transaction changed the key
    /// twice; none for the put that creates the key, when there was no live key, or when the
    /// revision before is compacted.
    pub fn previous(&self, key: &[u8], before: Revision) -> Result<Option<Bytes>, Corrupt> {
        if before.main - 1 < self.inner.compacted {
            return Ok(None);
        }
        let state = self.state();
        let (record, is_put) = match state.record(before, false)? {
            Some(record) => (Some(record), true),
            None => (state.record(before, true)?, false),
        };
        let record = record.ok_or(Corrupt::Missing { revision: before })?;
        debug_assert_eq!(crate::backend::kv_key(&record.kv), Some(key));
        let mut previous = record.link.previous;
        while let Some((revision, tombstone)) = previous
            && revision.main == before.main
        {
            if is_put && tombstone {
                return Ok(None);
            }
            let record = state.record(revision, tombstone)?;
            previous = record.ok_or(Corrupt::Missing { revision })?.link.previous;
        }
        match previous {
            Some((revision, false)) => Ok(Some(state.live_kv(revision)?.to_bytes())),
            Some((_, true)) | None => Ok(None),
        }
    }

    /// The value of `key` in a bucket that this layer does not own.
    pub fn small(&self, bucket: BucketId, key: &[u8]) -> Result<Option<Bytes>, Corrupt> {
        self.state().small(bucket, key)
    }

    /// Visits up to `entries_max` entries of such a bucket in order, from the first key at or after
    /// `from`, until `visit` gives `false`. Gives the key to go on from, or `None` at the end.
    pub fn small_scan(
        &self,
        bucket: BucketId,
        from: &[u8],
        entries_max: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, Corrupt> {
        let mut cursor = self.state().small_cursor(bucket);
        cursor.seek(from)?;
        let mut left = entries_max;
        while let Some(key) = cursor.key() {
            if left == 0 {
                return Ok(Some(key.to_vec()));
            }
            left -= 1;
            let go_on = match cursor.value()? {
                (Some(value), _) => visit(key, value),
                (_, Some(value)) => visit(key, &value),
                (None, None) => true,
            };
            cursor.advance()?;
            if !go_on {
                return Ok(cursor.key().map(<[u8]>::to_vec));
            }
        }
        Ok(None)
    }

    pub(super) fn state(&self) -> &State {
        &self.inner.state
    }
}

impl State {
    /// The KeyValue of a record that must be there.
    pub(super) fn live_kv(&self, revision: Revision) -> Result<Kv<'_>, Corrupt> {
        let record = self
            .record(revision, false)?
            .ok_or(Corrupt::Missing { revision })?;
        Ok(record.kv)
    }

    /// What `entry`, the newest of `key`, was at main revision `at`.
    #[inline]
    pub(super) fn entry_at(
        &self,
        key: &[u8],
        entry: IndexEntry,
        at: i64,
    ) -> Result<Option<KeyMeta>, Corrupt> {
        if entry.meta.modified.main <= at {
            return Ok(entry.live());
        }
        let from = (entry.meta.modified, entry.tombstone);
        let Some((revision, false)) = self.find_at(key, from, at)? else {
            return Ok(None);
        };
        let record = self
            .record(revision, false)?
            .ok_or(Corrupt::Missing { revision })?;
        match KeyMeta::of_record(revision, record.link.step, &record.kv) {
            Some(meta) => Ok(Some(meta)),
            None => Err(super::range::bad_record(revision)),
        }
    }
}
