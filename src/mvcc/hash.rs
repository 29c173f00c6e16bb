//! Pure. HashKV, bit for bit as etcd computes it.
//!
//! crc32c over the word `key`, then revision key and KeyValue of each record up to the asked
//! revision. Records at or below the compacted revision count only if they are the newest of a key
//! that lives at the asked revision, so that it does not show how far physical compaction is.
//! Two rules of etcd come on top:
//! - a tombstone at the compacted revision itself never counts: older versions have removed it;
//! - if no key lives at the asked revision, nothing is passed over. What compaction would have left
//!   then counts: for each key its newest record at or below the compacted revision, if not a
//!   tombstone.

use super::Progress;
use super::changes::LogCursor;
use super::range::{RangeEnd, RangeError, WalkEnd, bad_record, walk};
use super::view::View;
use crate::backend::{Corrupt, RevisionKey, State, kv_key};
use crate::ids::Revision;

/// A finished hash and what it covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KvHash {
    pub hash: u32,
    pub compact_revision: i64,
    pub hash_revision: i64,
}

/// Hashes a view in slices, from any core.
pub struct HashScan {
    view: View,
    hash: u32,
    compacted: i64,
    revision: i64,
    /// The main revision at which a record at or below `compacted` must be the newest of its key;
    /// `None` until it is known whether any key lives.
    keep_at: Option<i64>,
    resume: Vec<u8>,
    position: Revision,
}

/// A record below the compacted revision costs an index lookup and some links, in entries.
const KEEP_COST: usize = 4;

impl HashScan {
    /// The hash at `revision`; 0 is the view's own.
    pub fn new(view: View, revision: i64) -> Result<HashScan, RangeError> {
        let compacted = view.compacted();
        // A negative revision is before every record, and etcd hashes just that.
        let revision = if revision == 0 {
            view.revision()
        } else {
            revision
        };
        HashScan::over(view, revision, compacted)
    }

    /// The hash that etcd remembers of a compaction: over a view that was taken when compaction at
    /// `revision` was asked for, with `compacted` the compaction before it. A compaction at 0
    /// hashes what is at or before revision 0: nothing.
    pub fn of_compaction(
        view: View,
        compacted: i64,
        revision: i64,
    ) -> Result<HashScan, RangeError> {
        HashScan::over(view, revision, compacted)
    }

    fn over(view: View, asked: i64, compacted: i64) -> Result<HashScan, RangeError> {
        let current = view.revision();
        if asked > 0 && asked < compacted {
            return Err(RangeError::Compacted { asked, compacted });
        }
        if asked > current {
            return Err(RangeError::Future { asked, current });
        }
        Ok(HashScan {
            view,
            hash: crc32c::crc32c(b"key"),
            compacted,
            revision: asked,
            keep_at: None,
            resume: Vec::new(),
            position: Revision::default(),
        })
    }

    /// Goes over about `entries_max` records.
    pub fn slice(&mut self, entries_max: usize) -> Result<Progress, Corrupt> {
        if self.revision < 0 {
            // Before every record: the hash of the bucket's name.
            return Ok(Progress::Done);
        }
        let view = self.view.clone();
        let Some(keep_at) = self.keep_at else {
            return self.look_for_live_key(view.state(), entries_max);
        };
        let state = view.state();
        let mut log = LogCursor::new(state);
        log.seek(self.position)?;
        let mut left = entries_max.max(1);
        while let Some((revision, tombstone)) = log.revision()? {
            if revision.main > self.revision {
                break;
            }
            self.position = revision;
            if left == 0 {
                return Ok(Progress::More);
            }
            let record = log.record()?.ok_or(Corrupt::Missing { revision })?;
            let mut cost = 1 + record.kv.len() / 4096;
            let mut counts = !(tombstone && revision.main == self.compacted);
            if counts && revision.main <= self.compacted {
                cost += KEEP_COST;
                counts = !tombstone && is_newest_at(state, revision, &record.kv, keep_at)?;
            }
            if counts {
                let key = RevisionKey::new(revision, tombstone);
                self.hash = crc32c::crc32c_append(self.hash, key.as_bytes());
                self.hash = crc32c::crc32c_append(self.hash, &record.kv);
            }
            left = left.saturating_sub(cost);
            log.advance()?;
        }
        self.position = Revision::new(self.revision + 1, 0);
        Ok(Progress::Done)
    }

    /// The result, once `slice` is done.
    pub fn hash(&self) -> KvHash {
        KvHash {
            hash: self.hash,
            compact_revision: self.compacted,
            hash_revision: self.revision,
        }
    }

    fn look_for_live_key(
        &mut self,
        state: &State,
        entries_max: usize,
    ) -> Result<Progress, Corrupt> {
        let mut found = false;
        let (end, at) = (RangeEnd::FromKey, self.revision);
        let walked = walk(state, &self.resume, &end, at, entries_max, &mut |_, _| {
            found = true;
            Ok(false)
        })?;
        match walked {
            WalkEnd::At(key) => self.resume = key,
            WalkEnd::Done if found => self.keep_at = Some(self.revision),
            WalkEnd::Done => self.keep_at = Some(self.compacted),
        }
        Ok(Progress::More)
    }
}

/// Whether the record `revision` is its key's newest at main revision `at`.
fn is_newest_at(state: &State, revision: Revision, kv: &[u8], at: i64) -> Result<bool, Corrupt> {
    let key = kv_key(kv).ok_or_else(|| bad_record(revision))?;
    // Compaction may have removed the entry of a key whose tombstone is gone.
    let Some(entry) = state.index(key)? else {
        return Ok(false);
    };
    let newest = if entry.meta.modified.main <= at {
        Some(entry.meta.modified)
    } else {
        let from = (entry.meta.modified, entry.tombstone);
        state.find_at(key, from, at)?.map(|(found, _)| found)
    };
    Ok(newest == Some(revision))
}
