//! Pure. The kinds of number, each a type of its own, so that no signature takes two bare integers
//! that a caller could swap.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(/// One executor pinned to one CPU, counted from 0.
    CoreId(u16));
id!(/// A raft group and its state machine. 0 is the keyspace `default`.
    GroupId(u32));
id!(/// A cluster member, etcd's 64-bit id.
    MemberId(u64));
id!(/// A cluster, etcd's 64-bit id.
    ClusterId(u64));
id!(/// A position in a raft log; the first entry is 1.
    LogIndex(u64));
id!(/// A raft term.
    Term(u64));
id!(/// A position in one core's write-ahead stream, in bytes since the stream began; only grows.
    Lsn(u64));
id!(/// A WAL segment's place in its stream.
    SegmentSeq(u64));
id!(/// A page of a B+tree file, counted from the file's start.
    PageId(u64));
id!(/// A B+tree transaction; each commit has the next one.
    Txid(u64));
id!(/// An etcd lease. 0 means none.
    LeaseId(i64));
id!(/// A client connection on one core.
    ConnId(u64));
id!(/// An HTTP/2 stream.
    StreamId(u32));

impl LogIndex {
    /// The index after this one.
    pub fn next(self) -> LogIndex {
        LogIndex(self.0 + 1)
    }
}

/// An mvcc revision: `main` numbers the write transaction, `sub` the change within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Revision {
    pub main: i64,
    pub sub: i64,
}

impl Revision {
    pub const fn new(main: i64, sub: i64) -> Revision {
        Revision { main, sub }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}
