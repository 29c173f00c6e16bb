//! Pure. What can go wrong with the log, each with what a reader needs to look at it by hand.

use crate::ids::{GroupId, LogIndex, Lsn, SegmentSeq};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the log refuses. `RecordTooLarge`, `Full` and `NoRoom` leave it going on; all others are
/// final and stay until restart.
#[derive(Clone, Debug)]
pub enum WalError {
    /// The world failed. After a write or a directory change this is latched.
    Io {
        action: &'static str,
        file: PathBuf,
        source: Arc<io::Error>,
    },
    /// Options that no log can have.
    Options {
        segment_bytes: u64,
        expected: &'static str,
    },
    /// A record larger than a batch may hold. The log goes on.
    RecordTooLarge { size: usize, max: usize },
    /// Too much is appended and not yet durable. The log goes on: wait for `durable` to advance.
    Full { queued: usize, max: usize },
    /// The disk has no room for a segment of so many bytes. Of an open log: its present segment has
    /// no room for the record either; the log goes on, wait for `on_durable`.
    NoRoom { dir: PathBuf, wanted_bytes: u64 },
    /// `close` was called.
    Closed,
    /// A whole, checksummed batch of a layout that this program does not know.
    Version {
        file: PathBuf,
        offset: u64,
        found: u16,
        expected: u16,
    },
    /// A whole, checksummed record of a kind that this program does not know.
    KindUnknown {
        file: PathBuf,
        offset: u64,
        kind: u8,
    },
    /// A whole, checksummed batch whose records do not fit each other.
    Malformed {
        file: PathBuf,
        offset: u64,
        expected: &'static str,
        found: u64,
    },
    /// A batch is unreadable, and a later one says that it was durable: bit rot, not a torn tail.
    Lost {
        file: PathBuf,
        offset: u64,
        /// Where the missing batch begins.
        expected: Lsn,
        /// The later batch.
        found: Lsn,
        /// Below this all was durable when the later batch was written.
        durable: Lsn,
    },
    /// A segment that the log still needs is not there.
    SegmentMissing {
        dir: PathBuf,
        expected: SegmentSeq,
        found: SegmentSeq,
    },
    /// A group's entries do not follow its release mark without a hole.
    Gap {
        group: GroupId,
        expected: LogIndex,
        found: LogIndex,
    },
    /// A group's hard state calls an entry committed that the log does not hold: its end is lost.
    CommitLost {
        group: GroupId,
        committed: LogIndex,
        last: LogIndex,
    },
}

impl WalError {
    pub(super) fn io(action: &'static str, file: &Path, source: io::Error) -> WalError {
        WalError::Io {
            action,
            file: file.to_path_buf(),
            source: Arc::new(source),
        }
    }

    /// Whether the log goes on after this answer.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            WalError::RecordTooLarge { .. } | WalError::Full { .. } | WalError::NoRoom { .. }
        )
    }

    /// Whether a file could not be made or named for want of space. Nothing was in it, so nothing
    /// is lost, and the same may be tried again; a failed write or sync never is such an error.
    pub(super) fn is_no_room(&self) -> bool {
        match self {
            WalError::NoRoom { .. } => true,
            WalError::Io { action, source, .. } => {
                matches!(*action, "create" | "rename")
                    && matches!(
                        source.kind(),
                        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                    )
            }
            _ => false,
        }
    }
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalError::Io {
                action,
                file,
                source,
            } => {
                write!(f, "wal: {action} {}: {source}", file.display())
            }
            WalError::Options {
                segment_bytes,
                expected,
            } => {
                write!(
                    f,
                    "wal: segments of {segment_bytes} bytes, expected {expected}"
                )
            }
            WalError::RecordTooLarge { size, max } => {
                write!(f, "wal: record of {size} bytes, at most {max}")
            }
            WalError::Full { queued, max } => {
                write!(f, "wal: {queued} bytes wait for the disk, at most {max}")
            }
            WalError::NoRoom { dir, wanted_bytes } => write!(
                f,
                "wal: {}: the disk has no room for a log segment of {wanted_bytes} bytes",
                dir.display()
            ),
            WalError::Closed => write!(f, "wal: closed"),
            WalError::Version {
                file,
                offset,
                found,
                expected,
            } => write!(
                f,
                "wal: {} at {offset}: batch layout {found}, expected {expected}",
                file.display()
            ),
            WalError::KindUnknown { file, offset, kind } => {
                write!(
                    f,
                    "wal: {} at {offset}: unknown record kind {kind}",
                    file.display()
                )
            }
            WalError::Malformed {
                file,
                offset,
                expected,
                found,
            } => {
                write!(
                    f,
                    "wal: {} at {offset}: expected {expected}, found {found}",
                    file.display()
                )
            }
            WalError::Lost {
                file,
                offset,
                expected,
                found,
                durable,
            } => write!(
                f,
                "wal: {} at {offset}: batch {expected} is unreadable, but batch {found} was \
                 written when all below {durable} was durable: acknowledged data is damaged",
                file.display()
            ),
            WalError::SegmentMissing {
                dir,
                expected,
                found,
            } => write!(
                f,
                "wal: {}: segment {expected} is missing, found {found}",
                dir.display()
            ),
            WalError::Gap {
                group,
                expected,
                found,
            } => {
                write!(
                    f,
                    "wal: group {group}: expected entry {expected}, found {found}"
                )
            }
            WalError::CommitLost {
                group,
                committed,
                last,
            } => write!(
                f,
                "wal: group {group}: entry {committed} is committed, but the log ends at {last}"
            ),
        }
    }
}

impl std::error::Error for WalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WalError::Io { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
