//! Pure. The records of a keyspace in etcd's own form, out and in: snapshots and imports.

use super::Progress;
use super::changes::LogCursor;
use super::store::Store;
use super::view::View;
use crate::backend::{
    Corrupt, IndexEntry, KeyMeta, KvFields, Link, Record, RevisionKey, kv_key_bytes,
};
use crate::ids::Revision;
use bytes::Bytes;
use std::fmt;

/// Reads all records of a view as etcd's `key` bucket has them, in slices.
///
/// Records that compaction has condemned may be among them, even of one that has finished: removal
/// shows with a commit. So an etcd snapshot gets `scheduledCompactRev` and no `finishedCompactRev`;
/// etcd, as an import here, then goes over them again.
pub struct RecordScan {
    view: View,
    position: Option<Revision>,
}

impl RecordScan {
    pub fn new(view: View) -> RecordScan {
        RecordScan {
            view,
            position: Some(Revision::default()),
        }
    }

    /// Visits up to `entries_max` records: revision key and KeyValue, ascending.
    pub fn slice(
        &mut self,
        entries_max: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Progress, Corrupt> {
        let Some(position) = self.position else {
            return Ok(Progress::Done);
        };
        let mut log = LogCursor::new(self.view.state());
        log.seek(position)?;
        let mut left = entries_max.max(1);
        while let Some((revision, tombstone)) = log.revision()? {
            if left == 0 {
                self.position = Some(revision);
                return Ok(Progress::More);
            }
            let record = log.record()?.ok_or(Corrupt::Missing { revision })?;
            visit(RevisionKey::new(revision, tombstone).as_bytes(), &record.kv);
            left = left.saturating_sub(1 + record.kv.len() / 4096);
            log.advance()?;
        }
        self.position = None;
        Ok(Progress::Done)
    }
}

/// Why a record cannot be imported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImportError {
    /// Not a revision key of etcd.
    Key(Vec<u8>),
    /// Not above the record before it.
    Order {
        found: Revision,
        before: Revision,
    },
    /// Not a KeyValue message, or one without a key.
    Value {
        revision: Revision,
    },
    Corrupt(Corrupt),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Key(key) => {
                write!(f, "revision key expected, found \"{}\"", key.escape_ascii())
            }
            ImportError::Order { found, before } => {
                write!(f, "revision above {before} expected, found {found}")
            }
            ImportError::Value { revision } => {
                write!(f, "revision {revision}: KeyValue message expected")
            }
            ImportError::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {}

impl From<Corrupt> for ImportError {
    fn from(corrupt: Corrupt) -> ImportError {
        ImportError::Corrupt(corrupt)
    }
}

impl Store {
    /// Takes over one record of etcd's `key` bucket; call in ascending order, on a store that
    /// serves nobody yet, and commit whenever enough is buffered. Then [`import_revisions`].
    ///
    /// [`import_revisions`]: Store::import_revisions
    pub fn import_record(&mut self, key: &[u8], kv: Bytes) -> Result<(), ImportError> {
        let Some((revision, tombstone)) = RevisionKey::parse(key) else {
            return Err(ImportError::Key(key.to_vec()));
        };
        let before = self.imported;
        if revision <= before || revision.main > i64::MAX / 2 {
            return Err(ImportError::Order {
                found: revision,
                before,
            });
        }
        let bad_value = ImportError::Value { revision };
        let fields = KvFields::parse(&kv).filter(|fields| !fields.key.is_empty());
        let Some(fields) = fields else {
            return Err(bad_value);
        };
        // Written anew, so that the key is the first field, whoever wrote the message.
        let (key_size, kv) = (fields.key.len(), fields.to_bytes());
        let Some(meta) = KeyMeta::of_record(revision, 0, &kv) else {
            return Err(bad_value);
        };
        let key = kv_key_bytes(&kv, key_size);
        let superseded = self.state().index(&key)?;
        // The oldest record of a compacted store may be a tombstone, which then is all of its key.
        let link = superseded.map_or(Link::default(), |entry| {
            Link::onto(entry.meta.modified, entry.tombstone, entry.meta.step)
        });
        self.forget_view();
        self.imported = revision;
        self.current = self.current.max(revision.main);
        self.push(
            Record {
                revision,
                tombstone,
                link,
                kv,
            },
            &key,
            IndexEntry { meta, tombstone },
        );
        Ok(())
    }

    /// Ends an import: the revision of its origin, and the one that was compacted at, or -1. What
    /// the origin had not removed yet is removed by [`compact_slice`](Store::compact_slice). A
    /// restore that bumps the revision asks for a higher `current`, and for `compacted` to be it if
    /// older ones shall be refused.
    pub fn import_revisions(&mut self, current: i64, compacted: i64) {
        self.forget_view();
        self.current = self.current.max(current).max(compacted);
        self.set_compacted(compacted);
    }
}
