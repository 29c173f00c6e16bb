//! Pure. Why a request is refused, and what stops the state machine.

use super::EntryError;
use crate::backend::Corrupt;
use crate::btree::BucketId;
use crate::ids::LogIndex;
use std::fmt;

/// A rule of the contract that a request breaks: found by `validate` before it is proposed, or by
/// `apply`. `api/errors.rs` has the codes and texts for clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApplyError {
    EmptyKey,
    /// A put with `ignore_value` or `ignore_lease` of a key that does not exist; also an operation
    /// of a transaction that is none.
    KeyNotFound,
    ValueProvided,
    LeaseProvided,
    TooManyOps {
        got: usize,
        max: usize,
    },
    DuplicateKey,
    InvalidSortOption,
    Compacted {
        asked: i64,
        compacted: i64,
    },
    FutureRevision {
        asked: i64,
        current: i64,
    },
    LeaseNotFound,
    LeaseExists,
    LeaseTtlTooLarge,
    /// The quota is used up, or its alarm is raised.
    NoSpace,
    /// The alarm for damaged data is raised.
    CorruptCluster,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::EmptyKey => write!(f, "key is not provided"),
            ApplyError::KeyNotFound => write!(f, "key not found"),
            ApplyError::ValueProvided => write!(f, "value is provided with ignore_value"),
            ApplyError::LeaseProvided => write!(f, "lease is provided with ignore_lease"),
            ApplyError::TooManyOps { got, max } => {
                write!(f, "{got} operations in a transaction, at most {max}")
            }
            ApplyError::DuplicateKey => write!(f, "a key is changed twice in one transaction"),
            ApplyError::InvalidSortOption => write!(f, "invalid sort option"),
            ApplyError::Compacted { asked, compacted } => {
                write!(f, "revision {asked} is compacted, oldest is {compacted}")
            }
            ApplyError::FutureRevision { asked, current } => {
                write!(f, "revision {asked} is in the future, current is {current}")
            }
            ApplyError::LeaseNotFound => write!(f, "lease not found"),
            ApplyError::LeaseExists => write!(f, "lease exists"),
            ApplyError::LeaseTtlTooLarge => write!(f, "lease TTL is too large"),
            ApplyError::NoSpace => write!(f, "the space quota is used up"),
            ApplyError::CorruptCluster => write!(f, "the data is marked as corrupt"),
        }
    }
}

impl std::error::Error for ApplyError {}

/// The log or the tree is damaged. The group stops; the operator reads this.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A committed entry cannot be read.
    Entry { index: LogIndex, error: EntryError },
    /// The tree file is damaged.
    Store(Corrupt),
    /// A small bucket holds an entry that its owner cannot read.
    Small { bucket: BucketId, key: Vec<u8> },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Entry { index, error } => write!(f, "log entry {index}: {error}"),
            Fault::Store(corrupt) => corrupt.fmt(f),
            Fault::Small { bucket, key } => {
                let name = crate::backend::schema::bucket_name(*bucket);
                write!(
                    f,
                    "bucket {name}: entry {} is unreadable",
                    key.escape_ascii()
                )
            }
        }
    }
}

impl std::error::Error for Fault {}

impl From<Corrupt> for Fault {
    fn from(corrupt: Corrupt) -> Fault {
        Fault::Store(corrupt)
    }
}
