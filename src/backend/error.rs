//! Pure. What can be wrong with the contents of a tree file.

use super::schema::bucket_name;
use crate::btree::{self, BucketId};
use crate::ids::Revision;
use crate::limits::mvcc::ERROR_KEY_BYTES_MAX;
use std::fmt;

/// The tree file does not hold what it must. Reads stop and say where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Corrupt {
    /// A page is bad.
    Tree(btree::Corrupt),
    /// An entry breaks its encoding. `key` is cut to its first bytes.
    Entry {
        bucket: BucketId,
        key: Vec<u8>,
        rule: EntryRule,
    },
    /// The index or a link names a revision that the `key` bucket does not have.
    Missing { revision: Revision },
}

/// The rule that an entry broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryRule {
    /// A revision key is 8 bytes, `_`, 8 bytes, and `t` for a tombstone.
    RevisionKey,
    /// A record is a link and a KeyValue message.
    Record,
    /// An index value is the encoding of `entry.rs`.
    IndexValue,
    /// An index entry names its record's size.
    RecordSize,
    /// An index entry names a revision that the store has reached.
    Reached,
    /// A waypoint is an escaped key, a revision, and a flag.
    Waypoint,
    /// A meta value has the size of its number.
    MetaValue,
}

impl Corrupt {
    /// An entry of `bucket` under `key` breaks `rule`.
    #[cold]
    pub fn entry(bucket: BucketId, key: &[u8], rule: EntryRule) -> Corrupt {
        let key = key[..key.len().min(ERROR_KEY_BYTES_MAX)].to_vec();
        Corrupt::Entry { bucket, key, rule }
    }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corrupt::Tree(corrupt) => corrupt.fmt(f),
            Corrupt::Entry { bucket, key, rule } => {
                let (name, key) = (bucket_name(*bucket), key.escape_ascii());
                write!(f, "bucket {name}, key \"{key}\": {rule:?} broken")
            }
            Corrupt::Missing { revision } => {
                write!(f, "bucket key: revision {revision} expected, not found")
            }
        }
    }
}

impl std::error::Error for Corrupt {}

impl From<btree::Corrupt> for Corrupt {
    fn from(corrupt: btree::Corrupt) -> Corrupt {
        Corrupt::Tree(corrupt)
    }
}
