//! Pure. What a raft entry carries: a header of our own, then the client's message as it came.
//! The bytes are described in `docs/format/entry.md`; offsets stand here.

use std::fmt;

/// The layout that this code writes and reads.
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 16;
/// `flags`: an author follows the header.
const HAS_AUTHOR: u16 = 1;

/// What an entry asks for. The numbers are on disk: they never change and are never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// `PutRequest`.
    Put = 1,
    /// `DeleteRangeRequest`.
    DeleteRange = 2,
    /// `TxnRequest`.
    Txn = 3,
    /// `CompactionRequest`.
    Compact = 4,
    /// `LeaseGrantRequest` whose id the proposer has chosen.
    LeaseGrant = 5,
    /// `LeaseRevokeRequest`.
    LeaseRevoke = 6,
    /// `LeaseCheckpointRequest`.
    LeaseCheckpoint = 7,
    /// `AlarmRequest`.
    Alarm = 8,
    /// The cluster version as text, such as `3.7`.
    ClusterVersion = 9,
    /// `Member` with the name and client URLs of a started member.
    MemberAttributes = 10,
    /// `DowngradeInfo`.
    Downgrade = 11,
    /// `Member`, whole: added or changed together with a configuration change.
    MemberSet = 12,
    /// `MemberRemoveRequest`: the member may never come back.
    MemberRemove = 13,
}

impl Kind {
    pub const ALL: [Kind; 13] = [
        Kind::Put,
        Kind::DeleteRange,
        Kind::Txn,
        Kind::Compact,
        Kind::LeaseGrant,
        Kind::LeaseRevoke,
        Kind::LeaseCheckpoint,
        Kind::Alarm,
        Kind::ClusterVersion,
        Kind::MemberAttributes,
        Kind::Downgrade,
        Kind::MemberSet,
        Kind::MemberRemove,
    ];

    fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Who asked, for the permission check at apply time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Author<'a> {
    pub user: &'a str,
    /// The revision of the auth store when the request was checked before proposing.
    pub auth_revision: u64,
}

/// A committed entry, borrowed from the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    pub kind: Kind,
    /// Unique within the cluster: how the proposer finds its waiter. 0: nobody waits.
    pub request_id: u64,
    pub author: Option<Author<'a>>,
    /// The message that `kind` names.
    pub body: &'a [u8],
}

/// Why bytes are not an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryError {
    /// Ends within the header, the author, or before it.
    Short {
        size: usize,
        expected: usize,
    },
    Version {
        got: u8,
        expected: u8,
    },
    Kind {
        got: u8,
    },
    /// A flag of a newer version.
    Flags {
        got: u16,
    },
    /// Reserved bytes are not zero.
    Reserved {
        got: u32,
    },
    /// The author's name is not UTF-8.
    Author,
    /// The body is not the message that the kind names.
    Body {
        kind: Kind,
    },
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryError::Short { size, expected } => {
                write!(f, "{size} bytes, expected {expected} or more")
            }
            EntryError::Version { got, expected } => {
                write!(f, "version {got}, expected {expected}")
            }
            EntryError::Kind { got } => write!(f, "kind {got} is unknown"),
            EntryError::Flags { got } => write!(f, "flags {got:#06x} are unknown"),
            EntryError::Reserved { got } => write!(f, "reserved bytes {got:#010x}, expected 0"),
            EntryError::Author => write!(f, "user name is not UTF-8"),
            EntryError::Body { kind } => write!(f, "body is not a {kind:?} message"),
        }
    }
}

impl std::error::Error for EntryError {}

impl<'a> Entry<'a> {
    /// An entry without an author.
    pub fn new(kind: Kind, request_id: u64, body: &'a [u8]) -> Entry<'a> {
        Entry {
            kind,
            request_id,
            author: None,
            body,
        }
    }

    pub fn encoded_size(&self) -> usize {
        let author = self.author.map_or(0, |author| 10 + author.user.len());
        HEADER_BYTES + author + self.body.len()
    }

    /// Appends the entry's bytes. A user name is at most 65,535 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flags = if self.author.is_some() { HAS_AUTHOR } else { 0 };
        out.reserve(self.encoded_size());
        out.push(VERSION);
        out.push(self.kind as u8);
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.request_id.to_le_bytes());
        if let Some(author) = self.author {
            let size = u16::try_from(author.user.len()).expect("auth bounds user names");
            out.extend_from_slice(&author.auth_revision.to_le_bytes());
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(author.user.as_bytes());
        }
        out.extend_from_slice(self.body);
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Entry<'a>, EntryError> {
        let size = bytes.len();
        let short = |expected| EntryError::Short { size, expected };
        let (header, mut rest) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(short(HEADER_BYTES))?;
        let [version, kind, f0, f1, r0, r1, r2, r3, id @ ..] = *header;
        if version != VERSION {
            return Err(EntryError::Version {
                got: version,
                expected: VERSION,
            });
        }
        let kind = Kind::from_number(kind).ok_or(EntryError::Kind { got: kind })?;
        let flags = u16::from_le_bytes([f0, f1]);
        if flags & !HAS_AUTHOR != 0 {
            return Err(EntryError::Flags { got: flags });
        }
        let reserved = u32::from_le_bytes([r0, r1, r2, r3]);
        if reserved != 0 {
            return Err(EntryError::Reserved { got: reserved });
        }
        let mut author = None;
        if flags & HAS_AUTHOR != 0 {
            let (head, tail) = rest
                .split_first_chunk::<10>()
                .ok_or(short(HEADER_BYTES + 10))?;
            let [revision @ .., s0, s1] = *head;
            let name_size = usize::from(u16::from_le_bytes([s0, s1]));
            let (name, tail) = tail
                .split_at_checked(name_size)
                .ok_or(short(HEADER_BYTES + 10 + name_size))?;
            let user = std::str::from_utf8(name).map_err(|_| EntryError::Author)?;
            author = Some(Author {
                user,
                auth_revision: u64::from_le_bytes(revision),
            });
            rest = tail;
        }
        Ok(Entry {
            kind,
            request_id: u64::from_le_bytes(id),
            author,
            body: rest,
        })
    }
}
