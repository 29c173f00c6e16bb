//! Pure. What can be wrong with the bytes of a tree file, with the place to look at.

use crate::ids::PageId;
use std::fmt;

/// The rule that a page broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The page lies past the end of the file, or where metas live.
    PageInFile,
    /// The page's checksum is that of its bytes.
    Checksum,
    /// The page's checksum is the one that its parent names.
    ParentChecksum,
    /// The page carries its own number.
    PageNumber,
    /// The page is of the kind that its parent needs.
    Kind,
    /// A child is one level below its parent, a root not above the limit.
    Level,
    /// Reserved bits are zero.
    Reserved,
    /// The entries and the prefix fit into the page.
    Count,
    /// A record starts and ends within its page.
    Record,
    /// Keys ascend, and lie between the separators above.
    KeyOrder,
    /// An overflow run is as long as its owner says.
    OverflowSize,
    /// A page is reached once.
    ReachedOnce,
    /// Reached pages, and no others, are marked in the bitmap.
    Bitmap,
    /// A bucket has as many keys as the meta says.
    KeyCount,
}

/// A page that breaks a rule. `offset` is where in the file, in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Corrupt {
    pub page: PageId,
    pub offset: u64,
    pub rule: Rule,
    pub expected: u64,
    pub found: u64,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Corrupt {
            page,
            offset,
            rule,
            expected,
            found,
        } = self;
        write!(f, "tree page {page} at offset {offset}: {rule:?}: ")?;
        write!(f, "expected {expected:#x}, found {found:#x}")
    }
}

impl std::error::Error for Corrupt {}

/// Why a file could not be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// Neither meta is valid; what each one broke.
    NoMeta([MetaFault; 2]),
    /// The newest meta is valid, the file behind it is too short: it was cut by someone else.
    FileTooShort { expected: u64, found: u64 },
    /// The newest meta is valid, but what it names is not.
    Corrupt(Corrupt),
}

/// Why one meta is not valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MetaFault {
    pub offset: u64,
    pub rule: MetaRule,
    pub expected: u64,
    pub found: u64,
}

/// The rule that a meta broke, in the order in which they are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetaRule {
    /// The file holds the meta's bytes.
    Present,
    Magic,
    Version,
    Flags,
    Checksum,
    PageSize,
    PageCount,
    Slot,
    /// A commit number that no file reaches.
    Txid,
    Root,
    Directory,
}

impl fmt::Display for MetaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MetaFault {
            offset,
            rule,
            expected,
            found,
        } = self;
        write!(
            f,
            "meta at offset {offset}: {rule:?}: expected {expected:#x}, found {found:#x}"
        )
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::NoMeta([a, b]) => write!(f, "no valid meta: {a}; {b}"),
            OpenError::FileTooShort { expected, found } => {
                write!(
                    f,
                    "tree file too short: expected {expected} bytes, found {found}"
                )
            }
            OpenError::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<Corrupt> for OpenError {
    fn from(corrupt: Corrupt) -> OpenError {
        OpenError::Corrupt(corrupt)
    }
}
