//! Pure. The state of one keyspace: revisions, keys, read views, compaction, hash.
//!
//! In: the writes of applied log entries. Out: their [`Changes`], and [`View`]s for any core.
//!
//! Order of a life:
//! ```text
//! Store::open(backend)                          current() = 1 and compacted() = -1 when fresh
//! per log entry   write() -> WriteTxn: meta kv range put delete ... finish() -> Changes
//!                 put_small / compact           then set_consistent(index, term)
//! at any time     view() -> View                RangeScan, ChangeScan, HashScan: in slices
//! in background   compact_slice                 until Done; WaitsForCommit: commit first
//!                 commit_begin, commit_slice... -> Plan, execute, committed(receipt)
//!                 defragment_begin, then commits; release_slice when idle
//! ```
//!
//! Invariants
//! 1. A transaction that changes anything takes exactly one main revision; its changes are numbered
//!    by sub from 0.
//! 2. A view never changes, whatever is written, compacted or committed after it was taken.
//! 3. Every revision above `compacted()` is readable, and for each key the newest one at or below
//!    it, unless that is a tombstone below it. How far physical removal is never shows.
//! 4. The same log prefix gives the same answers and hashes, however commits and slices fell.
//! 5. Nothing here iterates all keys except slices that say so, and nothing at open.
//!
//! Not here: leases and their attachments, watchers, auth, quotas, and the checks that etcd makes
//! before it touches the store (`apply/`); time; files. A transaction cannot be taken back.
//! Bytes: `docs/format/schema.md`.

mod changes;
mod compact;
mod hash;
mod range;
mod sort;
mod store;
mod transfer;
mod txn;
mod view;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use crate::backend::{
    Backend, CommitPolicy, CommitProgress, Corrupt, DefragmentProgress, KeyMeta, KvFields, kv_key,
    schema,
};
pub use changes::{ChangeScan, LoggedChange};
pub use compact::{CompactError, CompactProgress};
pub use hash::{HashScan, KvHash};
pub use range::{
    RangeEnd, RangeError, RangeKvs, RangeResponseSink, RangeScan, RangeSpec, RangeTotals, Sink,
    SortOrder, SortTarget,
};
pub use store::Store;
pub use transfer::{ImportError, RecordScan};
pub use txn::{Change, ChangeKind, Changes, WriteTxn};
pub use view::View;

/// Whether a sliced piece of work is finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    More,
    Done,
}
