//! Pure. One tree file with the writes that it does not have yet: buckets, overlays, commits.
//!
//! In: records, index entries and small-bucket writes, each batch closed by the log position that
//! it ends at. Out: [`State`], which reads all of it, and commit plans for the driver.
//!
//! Order of a life:
//! ```text
//! Backend::open(tree)                       reads five meta values; no scan
//! push_record / put_index / put_small ...   seen at once through state(); set_consistent
//! commit_begin                              the active generation becomes the committing one
//! commit_slice ...                          bounded work each, until it gives a Plan
//! (driver executes the plan)
//! committed(receipt)                        the committing generation is dropped
//! ```
//!
//! Invariants
//! 1. A generation ends between two log entries, so the file always holds an exact log prefix:
//!    everything up to the consistent index in its meta bucket and nothing behind it.
//! 2. Revisions ascend: tree < committing buffer < active buffer.
//! 3. Every key with a record in the `key` bucket has exactly one index entry, which names its
//!    newest record.
//! 4. A [`State`] that was cloned never changes.
//!
//! Not here: what revisions mean (`mvcc/`), files and timing (the group's driver).
//! Bytes: `docs/format/schema.md`.

mod buffer;
mod commit;
mod cowmap;
mod defragment;
mod entry;
mod error;
mod merge;
mod record;
mod retired;
pub mod schema;
mod state;

#[cfg(test)]
mod tests;

pub use buffer::Buffer;
pub use commit::{CommitPolicy, CommitProgress};
pub use cowmap::{CowMap, MapCursor};
pub use defragment::DefragmentProgress;
pub use entry::{IndexEntry, KeyMeta, waypoint_key, waypoint_revision};
pub use error::{Corrupt, EntryRule};
pub use merge::MergeCursor;
pub use record::{KvFields, Link, Record, RevisionKey, kv_key, kv_key_bytes, split_record};
pub use state::{Kv, Layer, State, StoredRecord};

use crate::btree::{BucketId, Receipt, Tree};
use crate::ids::{LogIndex, Term};
use crate::limits::mvcc::RELEASE_RECORDS_PER_ENTRY;
use bytes::Bytes;
use commit::Commit;
use defragment::Defragment;
use retired::Retired;
use state::small_key;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What an overlay entry costs beside its key and value, roughly: nodes, slots, counters.
const RECORD_OVERHEAD_BYTES: u64 = 160;
const ENTRY_OVERHEAD_BYTES: u64 = 120;

/// Owned by one group, on the group's core.
pub struct Backend {
    tree: Tree,
    state: State,
    /// Records that compaction removed since the newest commit began; in order, as the tree likes
    /// them, without a sort that would hold the core.
    deletes: BTreeSet<RevisionKey>,
    buffered_bytes: u64,
    applied: (LogIndex, Term),
    /// `durable <= applied.0`
    durable: LogIndex,
    changed: bool,
    commit: Option<Commit>,
    /// Space being given back; while a commit is under way, the commit has it.
    defragment: Option<Defragment>,
    retired: Retired,
}

impl Backend {
    /// Takes over an open tree. Reads its log position and nothing else.
    pub fn open(tree: Tree) -> Result<Backend, Corrupt> {
        let state = State {
            tree: tree.read(),
            active: Layer::default(),
            committing: None,
        };
        let index = LogIndex(meta_number(&state, schema::META_CONSISTENT_INDEX)?.unwrap_or(0));
        let term = Term(meta_number(&state, schema::META_TERM)?.unwrap_or(0));
        Ok(Backend {
            tree,
            state,
            deletes: BTreeSet::new(),
            buffered_bytes: 0,
            applied: (index, term),
            durable: index,
            changed: false,
            commit: None,
            defragment: None,
            retired: Retired::default(),
        })
    }

    /// Index and term of the newest applied log entry.
    pub fn consistent(&self) -> (LogIndex, Term) {
        self.applied
    }

    /// The newest log entry that the file contains: replay begins behind it.
    pub fn durable(&self) -> LogIndex {
        self.durable
    }

    /// Everything that was written, committed or not. Clone it for a view.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The number under `key` in the meta bucket.
    pub fn meta_number(&self, key: &[u8]) -> Result<Option<u64>, Corrupt> {
        meta_number(&self.state, key)
    }

    /// Appends a record to the `key` bucket.
    pub fn push_record(&mut self, record: Record) {
        self.buffered_bytes += record.kv.len() as u64 + RECORD_OVERHEAD_BYTES;
        self.changed = true;
        self.state.active.records.push(record);
    }

    /// Sets a key's index entry; `None` removes it.
    pub fn put_index(&mut self, key: &Bytes, entry: Option<IndexEntry>) {
        self.changed = true;
        if self.state.active.index.insert(key, entry).is_none() {
            self.buffered_bytes += ENTRY_OVERHEAD_BYTES;
        }
    }

    /// Removes a record of the `key` bucket. Readers see it until the commit: no read may ask.
    pub fn delete_record(&mut self, key: RevisionKey) {
        self.changed = true;
        self.buffered_bytes += size_of::<RevisionKey>() as u64;
        self.deletes.insert(key);
    }

    /// Records whose removal waits for the next commit.
    pub fn pending_deletes(&self) -> usize {
        self.deletes.len()
    }

    /// Sets or deletes an entry of a bucket other than `key` and `index`.
    pub fn put_small(&mut self, bucket: BucketId, key: &[u8], value: Option<Bytes>) {
        assert!(bucket != schema::KEY && bucket != schema::INDEX);
        self.changed = true;
        let size = key.len() + value.as_ref().map_or(0, Bytes::len);
        self.buffered_bytes += size as u64 + ENTRY_OVERHEAD_BYTES;
        self.state
            .active
            .small
            .insert(&small_key(bucket, key), value);
    }

    /// Closes the writes of one log entry.
    pub fn set_consistent(&mut self, index: LogIndex, term: Term) {
        assert!(index >= self.applied.0, "log entries are applied in order");
        self.changed |= index > self.applied.0;
        self.applied = (index, term);
        self.retired.free(RELEASE_RECORDS_PER_ENTRY);
    }

    /// Frees memory of committed generations, about as much as `records` took. `false` when nothing
    /// can be freed now. Every log entry frees a little as well; this is for idle times.
    pub fn release_slice(&mut self, records: usize) -> bool {
        self.retired.free(records)
    }

    /// Bytes of the tree file.
    pub fn size_bytes(&self) -> u64 {
        self.tree.size_bytes()
    }

    /// Bytes of the tree file's pages that are reached.
    pub fn in_use_bytes(&self) -> u64 {
        self.tree.in_use_bytes()
    }

    /// Bytes of writes that are not committed, those of a commit under way included.
    pub fn buffered_bytes(&self) -> u64 {
        self.buffered_bytes + self.commit.as_ref().map_or(0, |commit| commit.bytes)
    }

    /// The tree: for checks and dumps.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether there is something that a commit would write.
    pub fn is_changed(&self) -> bool {
        self.changed || self.defragment.is_some()
    }

    pub fn is_committing(&self) -> bool {
        self.commit.is_some()
    }

    /// Makes the active generation the committing one. `false` when nothing changed or a commit is
    /// under way.
    pub fn commit_begin(&mut self) -> bool {
        if !self.is_changed() || self.commit.is_some() {
            return false;
        }
        let (index, term) = self.applied;
        self.put_meta_number(schema::META_CONSISTENT_INDEX, index.0);
        self.put_meta_number(schema::META_TERM, term.0);
        let layer = Arc::new(std::mem::take(&mut self.state.active));
        self.state.committing = Some(layer.clone());
        let deletes = std::mem::take(&mut self.deletes);
        let bytes = std::mem::take(&mut self.buffered_bytes);
        self.changed = false;
        let (txn, defragment) = (self.tree.begin(), self.defragment.take());
        self.commit = Some(Commit::new(txn, layer, deletes, index, bytes, defragment));
        true
    }

    /// Sets a number of the meta bucket.
    pub fn put_meta_number(&mut self, key: &[u8], number: u64) {
        self.put_small(
            schema::META,
            key,
            Some(Bytes::copy_from_slice(&number.to_be_bytes())),
        );
    }

    /// Does about `entries` puts' worth of the commit under way.
    ///
    /// After an error the commit is lost with the file: latch, and restart from disk.
    pub fn commit_slice(&mut self, entries: usize) -> Result<CommitProgress, Corrupt> {
        let commit = self.commit.as_mut().expect("commit_begin gave true");
        commit.slice(&mut self.tree, entries)
    }

    /// The plan was executed. Gives the newest log entry that the file contains now.
    pub fn committed(&mut self, receipt: Receipt) -> LogIndex {
        let mut commit = self.commit.take().expect("a commit is under way");
        self.tree.committed(receipt);
        self.state.tree = self.tree.read();
        self.state.committing = None;
        self.durable = commit.index;
        self.defragment = self.defragment.take().or(commit.defragment.take());
        self.retired.push(commit.into_layer());
        self.durable
    }

    /// Begins to give space back to the file system: each commit from now on moves some pages from
    /// the file's end, the last ones cut it. `false` when there is nothing worth it.
    pub fn defragment_begin(&mut self) -> bool {
        if self.defragment_progress() == DefragmentProgress::Idle {
            self.defragment = Defragment::begin(&self.tree);
        }
        self.defragment_progress() != DefragmentProgress::Idle
    }

    /// How far giving space back is.
    pub fn defragment_progress(&self) -> DefragmentProgress {
        let committing = self
            .commit
            .as_ref()
            .and_then(|commit| commit.defragment.as_ref());
        let defragment = self.defragment.as_ref().or(committing);
        defragment.map_or(DefragmentProgress::Idle, Defragment::progress)
    }
}

fn meta_number(state: &State, key: &[u8]) -> Result<Option<u64>, Corrupt> {
    let Some(value) = state.small(schema::META, key)? else {
        return Ok(None);
    };
    match value.first_chunk::<8>() {
        Some(bytes) if value.len() == 8 => Ok(Some(u64::from_be_bytes(*bytes))),
        _ => Err(Corrupt::entry(schema::META, key, EntryRule::MetaValue)),
    }
}
