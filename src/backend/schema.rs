//! Pure. Every bucket and every key of the meta bucket, in one table. Bytes:
//! `docs/format/schema.md`.

use crate::btree::BucketId;

/// Revision → link and encoded KeyValue. etcd's bucket of that name, with a link before the value.
pub const KEY: BucketId = BucketId(1);
/// User key → what its newest revision is.
pub const INDEX: BucketId = BucketId(2);
/// Waypoints: escaped user key ++ revision → tombstone flag, for every [`WAYPOINT_EVERY`]th
/// revision of a key.
///
/// [`WAYPOINT_EVERY`]: crate::limits::mvcc::WAYPOINT_EVERY
pub const HISTORY: BucketId = BucketId(3);
/// The keys below.
pub const META: BucketId = BucketId(4);
/// The buckets from here on are opaque to this layer: their owners choose keys and values.
pub const LEASE: BucketId = BucketId(5);
/// Lease id ++ user key → nothing: attachments, so that a restart need not read every key.
pub const LEASE_KEYS: BucketId = BucketId(6);
pub const ALARM: BucketId = BucketId(7);
pub const MEMBERS: BucketId = BucketId(8);
pub const MEMBERS_REMOVED: BucketId = BucketId(9);
pub const CLUSTER: BucketId = BucketId(10);
pub const AUTH: BucketId = BucketId(11);
pub const AUTH_USERS: BucketId = BucketId(12);
pub const AUTH_ROLES: BucketId = BucketId(13);
/// Keyspaces, raft configuration and other facts of a group.
pub const GROUP: BucketId = BucketId(14);

/// Every bucket with the name that dumps and etcd snapshots give it.
pub const BUCKETS: [(BucketId, &str); 14] = [
    (KEY, "key"),
    (INDEX, "index"),
    (HISTORY, "history"),
    (META, "meta"),
    (LEASE, "lease"),
    (LEASE_KEYS, "lease_keys"),
    (ALARM, "alarm"),
    (MEMBERS, "members"),
    (MEMBERS_REMOVED, "members_removed"),
    (CLUSTER, "cluster"),
    (AUTH, "auth"),
    (AUTH_USERS, "authUsers"),
    (AUTH_ROLES, "authRoles"),
    (GROUP, "group"),
];

/// The name of `bucket`, for messages.
pub fn bucket_name(bucket: BucketId) -> &'static str {
    BUCKETS
        .iter()
        .find(|(id, _)| *id == bucket)
        .map_or("unnamed", |(_, name)| name)
}

/// Whether the bucket belongs to this layer, so that nobody else may write it.
pub fn is_reserved(bucket: BucketId) -> bool {
    bucket.0 < LEASE.0
}

/// 8 bytes, big endian: the newest log entry that the file contains.
pub const META_CONSISTENT_INDEX: &[u8] = b"consistent_index";
/// 8 bytes, big endian: the term of that entry.
pub const META_TERM: &[u8] = b"term";
/// 8 bytes, big endian: the store's revision after that entry.
pub const META_REVISION: &[u8] = b"current_revision";
/// A revision key, as in etcd: no read below it.
pub const META_COMPACT_SCHEDULED: &[u8] = b"scheduledCompactRev";
/// A revision key, as in etcd: what lies below it is physically gone.
pub const META_COMPACT_FINISHED: &[u8] = b"finishedCompactRev";
