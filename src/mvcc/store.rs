//! Pure. The owner of a keyspace's state.

use super::compact::Compaction;
use super::txn::WriteTxn;
use super::view::View;
use crate::backend::{
    Backend, CommitProgress, Corrupt, DefragmentProgress, EntryRule, IndexEntry, Record, State,
    schema, waypoint_key,
};
use crate::btree::{BucketId, Receipt};
use crate::ids::{LogIndex, Revision, Term};
use bytes::Bytes;
use std::cell::OnceCell;

/// The revision of a store that nothing was written to.
const FRESH_REVISION: i64 = 1;

/// One per group, on the group's core.
pub struct Store {
    pub(super) backend: Backend,
    /// The main revision of the newest change; `>= compaction.scheduled`.
    pub(super) current: i64,
    pub(super) compaction: Compaction,
    /// The view of the current state, made when first asked for and dropped before any change.
    view: OnceCell<View>,
    /// The newest record of an import; behind everything when the store is not fresh.
    pub(super) imported: Revision,
}

impl Store {
    pub fn open(backend: Backend) -> Result<Store, Corrupt> {
        let revision = backend.meta_number(schema::META_REVISION)?;
        let current = revision.map_or(FRESH_REVISION, |revision| revision as i64);
        let compaction = Compaction::open(backend.state())?;
        let imported = revision.map_or(Revision::default(), |_| Revision::new(current, i64::MAX));
        // A revision has 63 bits; half of them leave room to count on.
        if current < FRESH_REVISION.max(compaction.scheduled()) || current > i64::MAX / 2 {
            let (bucket, key) = (schema::META, schema::META_REVISION);
            return Err(Corrupt::entry(bucket, key, EntryRule::MetaValue));
        }
        Ok(Store {
            backend,
            current,
            compaction,
            view: OnceCell::new(),
            imported,
        })
    }

    /// The revision of the newest write; 1 before the first.
    pub fn current(&self) -> i64 {
        self.current
    }

    /// The revision below which nothing can be read; -1 before the first compaction.
    pub fn compacted(&self) -> i64 {
        self.compaction.scheduled()
    }

    /// Index and term of the newest applied log entry.
    pub fn consistent(&self) -> (LogIndex, Term) {
        self.backend.consistent()
    }

    /// The newest log entry that the tree file contains.
    pub fn durable(&self) -> LogIndex {
        self.backend.durable()
    }

    /// A view of the current state. Views taken between two changes are one and the same.
    pub fn view(&self) -> View {
        self.view
            .get_or_init(|| View::new(self.backend.state().clone(), self.current, self.compacted()))
            .clone()
    }

    /// Begins a transaction; what it writes is seen at once and cannot be taken back.
    pub fn write(&mut self) -> WriteTxn<'_> {
        self.view.take();
        WriteTxn::new(self)
    }

    /// Closes the writes of one log entry.
    pub fn set_consistent(&mut self, index: LogIndex, term: Term) {
        self.backend.set_consistent(index, term);
    }

    /// Sets an entry of a bucket that this layer does not own.
    pub fn put_small(&mut self, bucket: BucketId, key: &[u8], value: &[u8]) {
        assert!(!schema::is_reserved(bucket));
        self.view.take();
        self.backend
            .put_small(bucket, key, Some(Bytes::copy_from_slice(value)));
    }

    /// Deletes an entry of a bucket that this layer does not own.
    pub fn delete_small(&mut self, bucket: BucketId, key: &[u8]) {
        assert!(!schema::is_reserved(bucket));
        self.view.take();
        self.backend.put_small(bucket, key, None);
    }

    /// Bytes of the tree file: etcd's dbSize.
    pub fn size_bytes(&self) -> u64 {
        self.backend.size_bytes()
    }

    /// Bytes of the tree file that hold data: etcd's dbSizeInUse.
    pub fn in_use_bytes(&self) -> u64 {
        self.backend.in_use_bytes()
    }

    /// Bytes of writes that the tree file does not have yet.
    pub fn buffered_bytes(&self) -> u64 {
        self.backend.buffered_bytes()
    }

    /// The backend, for checks and dumps.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Whether a commit would write anything.
    pub fn is_changed(&self) -> bool {
        self.backend.is_changed()
    }

    /// Whether a commit is under way.
    pub fn is_committing(&self) -> bool {
        self.backend.is_committing()
    }

    /// Begins to move everything written so far into the tree file. `false` when nothing changed or
    /// a commit is under way. Call between two log entries.
    pub fn commit_begin(&mut self) -> bool {
        if !self.backend.is_changed() || self.backend.is_committing() {
            return false;
        }
        self.view.take();
        self.backend
            .put_meta_number(schema::META_REVISION, self.current as u64);
        self.backend.commit_begin()
    }

    /// Does a part of the commit, about as long as `entries` puts take in the tree.
    pub fn commit_slice(&mut self, entries: usize) -> Result<CommitProgress, Corrupt> {
        self.backend.commit_slice(entries)
    }

    /// The plan was executed. Gives the newest log entry that is durable in the tree file.
    pub fn committed(&mut self, receipt: Receipt) -> LogIndex {
        self.view.take();
        self.backend.committed(receipt)
    }

    /// Frees memory of committed generations, about as much as `records` took. `false` when nothing
    /// can be freed now. Every log entry frees a little as well; this is for idle times.
    pub fn release_slice(&mut self, records: usize) -> bool {
        self.backend.release_slice(records)
    }

    /// Begins to give space back to the file system: each commit moves some pages, the last ones
    /// cut the file. `false` when there is nothing worth it. Commit until the progress is `Idle`.
    pub fn defragment_begin(&mut self) -> bool {
        self.backend.defragment_begin()
    }

    /// How far giving space back is; `Moving` and `Waiting` make the next `commit_begin` true.
    pub fn defragment_progress(&self) -> DefragmentProgress {
        self.backend.defragment_progress()
    }

    /// Buffers a record with its key's index entry and, now and then, a waypoint.
    pub(super) fn push(&mut self, record: Record, key: &Bytes, mut entry: IndexEntry) {
        entry.meta.step = record.link.step;
        if record.link.is_waypoint() {
            let flag = Bytes::from_static(if record.tombstone { &[1] } else { &[0] });
            let place = waypoint_key(key, record.revision);
            self.backend.put_small(schema::HISTORY, &place, Some(flag));
        }
        self.backend.push_record(record);
        self.backend.put_index(key, Some(entry));
    }

    pub(super) fn state(&self) -> &State {
        self.backend.state()
    }

    pub(super) fn forget_view(&mut self) {
        self.view.take();
    }
}
