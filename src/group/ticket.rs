//! Pure. What goes into a group and what comes out: requests with a way back, and answers.

use crate::apply::{Alarm, ApplyError, Kind, Response};
use crate::ids::{ConnId, CoreId, LeaseId, StreamId, Term};
use crate::mvcc::{KvHash, View};
use crate::pb::etcdserverpb::AlarmMember;
use crate::watch::{StreamInput, WatchResponse};
use bytes::Bytes;
use std::fmt;

/// Where an answer goes: a stream of a connection of a core. Copied freely, valid for ever: a
/// ticket of a stream that ended is answered into nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket {
    pub core: CoreId,
    pub conn: ConnId,
    pub stream: StreamId,
}

/// A request to the group that owns a keyspace. Crosses cores.
#[derive(Debug)]
pub enum Input {
    /// Goes through the log: `body` is the client's protobuf message as it came, `cost` what the
    /// quota counts for it.
    Propose {
        kind: Kind,
        body: Bytes,
        cost: u64,
        ticket: Ticket,
    },
    /// Answered from the state.
    Query(Query, Ticket),
    /// An input of a watch stream; the ticket names it, and the first create opens it.
    Watch(StreamInput, Ticket),
}

/// A question that changes no replicated state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    /// A read view: linearizable, or whatever is applied here.
    View {
        linearizable: bool,
    },
    /// Renews a lease.
    LeaseRenew(LeaseId),
    /// What is known of a lease, with its keys when asked.
    LeaseFacts {
        id: LeaseId,
        keys: bool,
    },
    Leases,
    /// The hash that was kept of a compaction at this revision, else a view to hash.
    HashKv {
        revision: i64,
    },
    Status,
    Alarms,
    /// Gives free pages back; answered when done.
    Defragment,
}

/// The facts that a response header and `Status` need, taken when the answer was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stamp {
    pub revision: i64,
    pub term: Term,
    /// The alarm for damaged data is raised: reads of keys are refused.
    pub corrupt: bool,
}

/// The answer to an [`Input`]. Crosses cores.
pub enum Answer {
    Applied(Result<Response, ApplyError>, Stamp),
    View(View, Stamp),
    Renewed {
        id: LeaseId,
        ttl: i64,
        stamp: Stamp,
    },
    Lease {
        id: LeaseId,
        facts: Option<LeaseAnswer>,
        stamp: Stamp,
    },
    Leases(Vec<LeaseId>, Stamp),
    Hash(KvHash, Stamp),
    Status(Box<GroupStatus>),
    Alarms(Vec<AlarmMember>, Stamp),
    Defragmented,
    Watch(Vec<WatchResponse>, Stamp),
    Refused(Refusal),
}

/// Which answer it is, for the message of a broken expectation.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Answer::Applied(..) => "Applied",
            Answer::View(..) => "View",
            Answer::Renewed { .. } => "Renewed",
            Answer::Lease { .. } => "Lease",
            Answer::Leases(..) => "Leases",
            Answer::Hash(..) => "Hash",
            Answer::Status(_) => "Status",
            Answer::Alarms(..) => "Alarms",
            Answer::Defragmented => "Defragmented",
            Answer::Watch(..) => "Watch",
            Answer::Refused(_) => "Refused",
        })
    }
}

/// `LeaseTimeToLive` of a lease that exists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseAnswer {
    pub remaining: i64,
    pub granted: i64,
    pub keys: Vec<Bytes>,
}

/// `Maintenance.Status` of a group.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct GroupStatus {
    pub stamp: Stamp,
    pub leader: u64,
    pub raft_index: u64,
    pub applied_index: u64,
    pub size_bytes: u64,
    pub in_use_bytes: u64,
    pub quota_bytes: i64,
    pub errors: Vec<String>,
    pub alarms: Vec<Alarm>,
}

/// Why a group does not take a request now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No leader is known.
    NoLeader,
    /// The leader changed while the request waited.
    LeaderChanged,
    /// The log or the tree failed; the process must restart.
    Stopped,
    /// More is queued than `limits::group` allows.
    TooManyRequests,
    /// The disk has no room for it.
    NoSpace,
    /// Larger than `max-request-bytes`.
    TooLarge,
    /// Waited longer than the request timeout.
    TimedOut,
    /// The stored bytes are damaged.
    Corrupt,
}

/// Takes answers on the group's core and brings each to its ticket.
pub trait Outlet {
    fn answer(&self, ticket: Ticket, answer: Answer);
}
