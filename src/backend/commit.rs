//! Pure. Moves one generation into the tree file, in slices; and when to do so.

use super::defragment::Defragment;
use super::entry::IndexEntry;
use super::error::Corrupt;
use super::record::RevisionKey;
use super::schema;
use super::state::Layer;
use crate::btree::{BucketId, Plan, Relocated, SealProgress, Tree, WriteTxn};
use crate::ids::LogIndex;
use crate::limits::mvcc::{
    BUFFERED_BYTES_MAX, COMMIT_AGE, COMMIT_BUFFERED_BYTES, COMMIT_LOG_BYTES, COMMIT_SLICE_PAGES,
    DEFRAGMENT_PAGES_PER_COMMIT, DEFRAGMENT_SLICE_LEAVES, DEFRAGMENT_SLICE_PAGES,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// When a commit becomes due. Commits gate no answer: the log has made every write durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitPolicy {
    pub buffered_bytes: u64,
    pub log_bytes: u64,
    pub age: Duration,
}

impl Default for CommitPolicy {
    fn default() -> CommitPolicy {
        CommitPolicy {
            buffered_bytes: COMMIT_BUFFERED_BYTES,
            log_bytes: COMMIT_LOG_BYTES,
            age: COMMIT_AGE,
        }
    }
}

impl CommitPolicy {
    /// Whether a commit should begin, given the store's buffered bytes, the log's bytes since the
    /// last commit, and the age of the oldest change that is not committed.
    pub fn is_due(&self, buffered_bytes: u64, log_bytes: u64, age: Duration) -> bool {
        buffered_bytes >= self.buffered_bytes
            || log_bytes >= self.log_bytes
            || (buffered_bytes > 0 && age >= self.age)
    }

    /// Whether writers must wait: the disk does not follow.
    pub fn is_overdue(buffered_bytes: u64) -> bool {
        buffered_bytes >= BUFFERED_BYTES_MAX
    }
}

/// What a slice of a commit gave.
pub enum CommitProgress {
    /// Call again.
    More,
    /// Execute the plan, then call `committed`.
    Plan(Plan),
}

/// A commit under way; owned by the backend.
pub struct Commit {
    layer: Arc<Layer>,
    deletes: BTreeSet<RevisionKey>,
    /// What the generation's log prefix ends with.
    pub index: LogIndex,
    pub bytes: u64,
    /// `None` once sealed.
    txn: Option<WriteTxn>,
    phase: Phase,
    scratch: Vec<u8>,
    /// Space being given back, taken along by this commit and handed back with it.
    pub defragment: Option<Defragment>,
    pages_to_move: u64,
}

/// Positions are what the next slice begins with.
#[derive(Debug)]
enum Phase {
    Records(usize),
    Index(Bytes),
    Small(Bytes),
    Deletes,
    Defragment,
    Seal,
}

/// Work of one slice, in entries; large values count as several.
struct Budget {
    left: usize,
}

impl Budget {
    fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(1 + bytes / 2048);
    }
}

impl Commit {
    /// `index` is what the layer's log prefix ends with, `bytes` what it holds in memory.
    pub fn new(
        txn: WriteTxn,
        layer: Arc<Layer>,
        deletes: BTreeSet<RevisionKey>,
        index: LogIndex,
        bytes: u64,
        defragment: Option<Defragment>,
    ) -> Commit {
        let phase = Phase::Records(0);
        Commit {
            layer,
            deletes,
            index,
            bytes,
            txn: Some(txn),
            phase,
            scratch: Vec::new(),
            defragment,
            pages_to_move: DEFRAGMENT_PAGES_PER_COMMIT,
        }
    }

    /// The generation, once it is in the file.
    pub fn into_layer(self) -> Arc<Layer> {
        self.layer
    }

    pub fn slice(&mut self, tree: &mut Tree, entries: usize) -> Result<CommitProgress, Corrupt> {
        let txn = self
            .txn
            .as_mut()
            .expect("a sealed commit waits for `committed`");
        let mut budget = Budget {
            left: entries.max(1),
        };
        while budget.left > 0 {
            let scratch = &mut self.scratch;
            let next = match &self.phase {
                Phase::Records(from) => put_records(txn, &self.layer, *from, &mut budget, scratch)?,
                Phase::Index(from) => put_index(txn, &self.layer, from, &mut budget, scratch)?,
                Phase::Small(from) => put_small(txn, &self.layer, from, &mut budget)?,
                Phase::Deletes => delete_records(txn, &mut self.deletes, &mut budget)?,
                Phase::Defragment => {
                    let (defragment, left) = (&mut self.defragment, &mut self.pages_to_move);
                    let done = give_back(txn, tree, defragment, left)?;
                    self.phase = if done { Phase::Seal } else { Phase::Defragment };
                    return Ok(CommitProgress::More);
                }
                Phase::Seal => {
                    let pages = COMMIT_SLICE_PAGES.min(entries.max(1));
                    return match txn.seal_slice(tree, pages)? {
                        SealProgress::More => Ok(CommitProgress::More),
                        SealProgress::Done(plan) => {
                            self.txn = None;
                            Ok(CommitProgress::Plan(plan))
                        }
                    };
                }
            };
            self.phase = next;
        }
        Ok(CommitProgress::More)
    }
}

/// Revisions ascend across generations too, so these all append at the end of the bucket.
fn put_records(
    txn: &mut WriteTxn,
    layer: &Layer,
    from: usize,
    budget: &mut Budget,
    scratch: &mut Vec<u8>,
) -> Result<Phase, Corrupt> {
    let mut at = from;
    while budget.left > 0 {
        let Some(record) = layer.records.get(at) else {
            return Ok(Phase::Index(Bytes::new()));
        };
        scratch.clear();
        record.encode(scratch);
        txn.put(schema::KEY, record.revision_key().as_bytes(), scratch)?;
        budget.spend(scratch.len());
        at += 1;
    }
    Ok(Phase::Records(at))
}

fn put_index(
    txn: &mut WriteTxn,
    layer: &Layer,
    from: &Bytes,
    budget: &mut Budget,
    scratch: &mut Vec<u8>,
) -> Result<Phase, Corrupt> {
    let mut cursor = layer.index.cursor();
    cursor.seek(from);
    while let Some((key, entry)) = cursor.key().zip(cursor.value()) {
        if budget.left == 0 {
            return Ok(Phase::Index(key.clone()));
        }
        match entry {
            Some(entry) => {
                scratch.clear();
                IndexEntry::encode(entry, scratch);
                txn.put(schema::INDEX, key, scratch)?;
            }
            None => {
                txn.delete(schema::INDEX, key)?;
            }
        }
        budget.spend(key.len());
        cursor.advance();
    }
    Ok(Phase::Small(Bytes::new()))
}

fn put_small(
    txn: &mut WriteTxn,
    layer: &Layer,
    from: &Bytes,
    budget: &mut Budget,
) -> Result<Phase, Corrupt> {
    let mut cursor = layer.small.cursor();
    cursor.seek(from);
    while let Some((placed, value)) = cursor.key().zip(cursor.value()) {
        if budget.left == 0 {
            return Ok(Phase::Small(placed.clone()));
        }
        let (bucket, key) = placed
            .split_first()
            .expect("placed keys begin with their bucket");
        match value {
            Some(value) => txn.put(BucketId(*bucket), key, value)?,
            None => {
                txn.delete(BucketId(*bucket), key)?;
            }
        }
        budget.spend(key.len() + value.as_ref().map_or(0, Bytes::len));
        cursor.advance();
    }
    Ok(Phase::Deletes)
}

/// After the records: one that is put and compacted away in the same generation must be gone.
fn delete_records(
    txn: &mut WriteTxn,
    deletes: &mut BTreeSet<RevisionKey>,
    budget: &mut Budget,
) -> Result<Phase, Corrupt> {
    while budget.left > 0 {
        let Some(key) = deletes.pop_first() else {
            return Ok(Phase::Defragment);
        };
        txn.delete(schema::KEY, key.as_bytes())?;
        budget.spend(0);
    }
    Ok(Phase::Deletes)
}

/// One slice of moving pages. `true` when this commit has done its share.
fn give_back(
    txn: &mut WriteTxn,
    tree: &Tree,
    defragment: &mut Option<Defragment>,
    pages_left: &mut u64,
) -> Result<bool, Corrupt> {
    let (relocation, waiting) = match defragment {
        None => return Ok(true),
        Some(Defragment::Cutting(left)) => {
            txn.shrink();
            *left -= 1;
            if *left == 0 {
                *defragment = None;
            }
            return Ok(true);
        }
        Some(Defragment::Moving {
            relocation,
            waiting,
        }) => (relocation, waiting),
    };
    let pages = DEFRAGMENT_SLICE_PAGES.min(*pages_left);
    let found = txn.relocate_slice(tree, relocation, DEFRAGMENT_SLICE_LEAVES, pages)?;
    *waiting = found == Relocated::Waiting;
    *pages_left -= pages;
    match found {
        Relocated::More => Ok(*pages_left == 0),
        Relocated::Waiting => Ok(true),
        Relocated::Done => {
            *defragment = Some(Defragment::cut());
            Ok(true)
        }
    }
}
