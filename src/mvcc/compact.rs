//! Pure. Compaction: refused at once for readers, carried out in slices.
//!
//! Compacting at C keeps, for each key, its newest record at or below C. So each record r in
//! `(finished, C]` condemns the one that it superseded, which its link names, and no other needs a
//! look. A tombstone goes as well, with the key's index entry if it is still the newest, except one
//! at C itself: a watcher may still ask for the events of C.
//!
//! The scan begins at `finished` and not behind it, because tombstones at that revision were kept
//! then. Doing a part twice changes nothing, so only `scheduled` and `finished` are stored, and a
//! restart begins the scan again.

use super::changes::LogCursor;
use super::store::Store;
use crate::backend::{Corrupt, EntryRule, Link, RevisionKey, State, kv_key, schema, waypoint_key};
use crate::ids::Revision;
use crate::limits::mvcc::COMPACT_PENDING_DELETES_MAX;
use bytes::Bytes;
use std::fmt;

/// Why a revision cannot be compacted at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompactError {
    /// At or below the newest compaction.
    Compacted { asked: i64, compacted: i64 },
    /// Above the store's revision.
    Future { asked: i64, current: i64 },
}

impl fmt::Display for CompactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompactError::Compacted { asked, compacted } => {
                write!(f, "compaction at {asked}: already compacted at {compacted}")
            }
            CompactError::Future { asked, current } => {
                write!(f, "compaction at {asked}: the store is at {current}")
            }
        }
    }
}

impl std::error::Error for CompactError {}

/// What a slice of compaction came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompactProgress {
    /// Call again.
    More,
    /// So many removals wait for the next commit that one must begin first.
    WaitsForCommit,
    /// Everything asked for is removed; the next commit makes it so in the file.
    Done,
}

/// Whether compaction at `compact` keeps the tombstone of `revision`. etcd from 3.6 on, and later
/// patches of 3.4 and 3.5, keep the one of the compaction revision.
pub(super) fn keeps_tombstone(revision: Revision, compact: i64) -> bool {
    revision.main >= compact
}

/// `finished <= target <= scheduled`; -1 is none.
pub(super) struct Compaction {
    scheduled: i64,
    finished: i64,
    run: Option<Run>,
}

struct Run {
    target: i64,
    position: Revision,
}

impl Compaction {
    pub(super) fn open(state: &State) -> Result<Compaction, Corrupt> {
        let finished = meta_revision(state, schema::META_COMPACT_FINISHED)?;
        let scheduled = meta_revision(state, schema::META_COMPACT_SCHEDULED)?.max(finished);
        let mut compaction = Compaction {
            scheduled,
            finished,
            run: None,
        };
        compaction.start();
        Ok(compaction)
    }

    pub(super) fn scheduled(&self) -> i64 {
        self.scheduled
    }

    /// One run at a time, so that each scan has one target: a tombstone that an earlier target
    /// kept is met again by the next run.
    fn start(&mut self) {
        if self.run.is_none() && self.scheduled > self.finished {
            let position = Revision::new(self.finished.max(0), 0);
            self.run = Some(Run {
                target: self.scheduled,
                position,
            });
        }
    }
}

/// A record in the range of a compaction, read before anything is changed.
struct Superseding {
    revision: Revision,
    tombstone: bool,
    link: Link,
    /// Read where it is needed: for tombstones, and where a waypoint may go.
    key: Option<Bytes>,
}

impl Store {
    /// Refuses reads below `revision` from now on, and makes the removal due.
    pub fn compact(&mut self, revision: i64) -> Result<(), CompactError> {
        let (compacted, current) = (self.compacted(), self.current);
        if revision <= compacted {
            return Err(CompactError::Compacted {
                asked: revision,
                compacted,
            });
        }
        if revision > current {
            return Err(CompactError::Future {
                asked: revision,
                current,
            });
        }
        self.forget_view();
        self.compaction.scheduled = revision;
        self.compaction.start();
        self.put_meta_revision(schema::META_COMPACT_SCHEDULED, revision);
        Ok(())
    }

    /// Whether [`compact_slice`](Store::compact_slice) has work.
    pub fn compact_pending(&self) -> bool {
        self.compaction.run.is_some()
    }

    /// The newest revision at which compaction has physically finished; -1 for none.
    pub fn compact_finished(&self) -> i64 {
        self.compaction.finished
    }

    /// Looks at up to `entries_max` records and removes what they condemn.
    pub fn compact_slice(&mut self, entries_max: usize) -> Result<CompactProgress, Corrupt> {
        let Some(run) = &self.compaction.run else {
            return Ok(CompactProgress::Done);
        };
        if self.backend.pending_deletes() >= COMPACT_PENDING_DELETES_MAX {
            return Ok(CompactProgress::WaitsForCommit);
        }
        let (target, finished) = (run.target, self.compaction.finished);
        let (batch, next) = read_batch(self.state(), run, entries_max.max(1))?;
        self.forget_view();
        for superseding in batch {
            self.remove_condemned(superseding, target, finished)?;
        }
        match next {
            Some(position) => {
                self.compaction.run = Some(Run { target, position });
                Ok(CompactProgress::More)
            }
            None => {
                self.compaction.finished = target;
                self.compaction.run = None;
                self.compaction.start();
                self.put_meta_revision(schema::META_COMPACT_FINISHED, target);
                let more = self.compaction.run.is_some();
                Ok(if more {
                    CompactProgress::More
                } else {
                    CompactProgress::Done
                })
            }
        }
    }

    fn remove_condemned(
        &mut self,
        superseding: Superseding,
        target: i64,
        finished: i64,
    ) -> Result<(), Corrupt> {
        let Superseding {
            revision,
            tombstone,
            link,
            key,
        } = superseding;
        let backend = &mut self.backend;
        // At `finished` itself the last run has been here; only its kept tombstones are left to do.
        if let Some((previous, was_tombstone)) = link.previous
            && revision.main > finished
        {
            // A tombstone below `finished` is gone; deleting it again does nothing.
            if !was_tombstone || previous.main >= finished {
                backend.delete_record(RevisionKey::new(previous, was_tombstone));
            }
            if let Some(key) = key.as_ref().filter(|_| link.follows_waypoint()) {
                backend.put_small(schema::HISTORY, &waypoint_key(key, previous), None);
            }
        }
        let Some(key) = key.filter(|_| tombstone && !keeps_tombstone(revision, target)) else {
            return Ok(());
        };
        backend.delete_record(RevisionKey::new(revision, true));
        if link.is_waypoint() {
            backend.put_small(schema::HISTORY, &waypoint_key(&key, revision), None);
        }
        let newest = backend.state().index(&key)?;
        if newest.is_some_and(|entry| entry.meta.modified == revision) {
            backend.put_index(&key, None);
        }
        Ok(())
    }

    /// Sets the compacted revision of an imported store, of which nothing is known to be removed.
    pub(super) fn set_compacted(&mut self, scheduled: i64) {
        self.compaction = Compaction {
            scheduled: scheduled.max(-1),
            finished: -1,
            run: None,
        };
        self.compaction.start();
        if scheduled >= 0 {
            self.put_meta_revision(schema::META_COMPACT_SCHEDULED, scheduled);
        }
    }

    fn put_meta_revision(&mut self, key: &[u8], main: i64) {
        let revision = RevisionKey::new(Revision::new(main, 0), false);
        let value = Bytes::copy_from_slice(revision.as_bytes());
        self.backend.put_small(schema::META, key, Some(value));
    }
}

/// Up to `entries_max` records from the run's position to its target, and where to go on.
fn read_batch(
    state: &State,
    run: &Run,
    entries_max: usize,
) -> Result<(Vec<Superseding>, Option<Revision>), Corrupt> {
    let mut batch = Vec::with_capacity(entries_max.min(4096));
    let mut log = LogCursor::new(state);
    log.seek(run.position)?;
    while let Some((revision, tombstone)) = log.revision()? {
        if revision.main > run.target {
            break;
        }
        if batch.len() == entries_max {
            return Ok((batch, Some(revision)));
        }
        let record = log.record()?.ok_or(Corrupt::Missing { revision })?;
        let key = if tombstone || record.link.follows_waypoint() {
            let key = kv_key(&record.kv).ok_or_else(|| super::range::bad_record(revision))?;
            Some(Bytes::copy_from_slice(key))
        } else {
            None
        };
        batch.push(Superseding {
            revision,
            tombstone,
            link: record.link,
            key,
        });
        log.advance()?;
    }
    Ok((batch, None))
}

fn meta_revision(state: &State, key: &[u8]) -> Result<i64, Corrupt> {
    let Some(value) = state.small(schema::META, key)? else {
        return Ok(-1);
    };
    match RevisionKey::parse(&value) {
        Some((revision, false)) => Ok(revision.main),
        _ => Err(Corrupt::entry(schema::META, key, EntryRule::MetaValue)),
    }
}
