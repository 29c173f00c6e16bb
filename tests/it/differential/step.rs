//! Pure. One step of a comparison: what is asked of both servers.

use ringbolt::bench::message::path;

/// What is asked. The numbers stand in transcripts: never renumber, only add.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Range = 0,
    RangeStream = 1,
    Put = 2,
    DeleteRange = 3,
    Txn = 4,
    Compact = 5,
    LeaseGrant = 6,
    LeaseRevoke = 7,
    LeaseTimeToLive = 8,
    LeaseLeases = 9,
    LeaseKeepAlive = 10,
    HashKv = 11,
    Alarm = 12,
    AuthStatus = 13,
    /// Opens a watch stream; the request is a list of WatchRequest messages.
    WatchOpen = 14,
    /// Sends further WatchRequest messages on the open stream.
    WatchMore = 15,
    /// Waits until the stream has seen the revision of field 1 or, with field 2 set, until the
    /// server has cancelled all its watches; the answer is all it saw.
    WatchSync = 16,
    WatchClose = 17,
    /// A method that no etcd knows, and a service that none has.
    UnknownMethod = 18,
    UnknownService = 19,
    Defragment = 20,
    /// Puts, asks the open stream for its progress, and finds out whether that stays without an
    /// answer; the answer is that and all the stream saw. One revision passes.
    WatchProgress = 21,
    /// Kills the server and starts it again on the same folder. No watch stream is open then.
    Restart = 22,
}

/// The key that a `WatchProgress` step puts.
pub const PROGRESS_KEY: &[u8] = b"\x01";

impl Kind {
    pub const ALL: [Kind; 23] = [
        Kind::Range,
        Kind::RangeStream,
        Kind::Put,
        Kind::DeleteRange,
        Kind::Txn,
        Kind::Compact,
        Kind::LeaseGrant,
        Kind::LeaseRevoke,
        Kind::LeaseTimeToLive,
        Kind::LeaseLeases,
        Kind::LeaseKeepAlive,
        Kind::HashKv,
        Kind::Alarm,
        Kind::AuthStatus,
        Kind::WatchOpen,
        Kind::WatchMore,
        Kind::WatchSync,
        Kind::WatchClose,
        Kind::UnknownMethod,
        Kind::UnknownService,
        Kind::Defragment,
        Kind::WatchProgress,
        Kind::Restart,
    ];

    pub fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The method that is called.
    pub fn path(self) -> &'static str {
        match self {
            Kind::Range => path::RANGE,
            Kind::RangeStream => path::RANGE_STREAM,
            Kind::Put => path::PUT,
            Kind::DeleteRange => path::DELETE_RANGE,
            Kind::Txn => path::TXN,
            Kind::Compact => path::COMPACT,
            Kind::LeaseGrant => path::LEASE_GRANT,
            Kind::LeaseRevoke => path::LEASE_REVOKE,
            Kind::LeaseTimeToLive => path::LEASE_TIME_TO_LIVE,
            Kind::LeaseLeases => path::LEASE_LEASES,
            Kind::LeaseKeepAlive => path::LEASE_KEEP_ALIVE,
            Kind::HashKv => path::HASH_KV,
            Kind::Alarm => path::ALARM,
            Kind::AuthStatus => path::AUTH_STATUS,
            Kind::WatchOpen
            | Kind::WatchMore
            | Kind::WatchSync
            | Kind::WatchClose
            | Kind::WatchProgress => path::WATCH,
            Kind::UnknownMethod => "/etcdserverpb.KV/Frobnicate",
            Kind::UnknownService => "/etcdserverpb.Nobody/Range",
            Kind::Defragment => path::DEFRAGMENT,
            // None: what it waits for is a range.
            Kind::Restart => path::RANGE,
        }
    }

    pub fn is_watch(self) -> bool {
        self.path() == path::WATCH
    }
}

/// A step: the request is its protobuf bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    pub kind: Kind,
    pub request: Vec<u8>,
}
