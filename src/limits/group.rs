//! Pure. Bounds of `group/`.

use std::time::Duration;

/// Inputs that wait for a group's next turn. One more is refused with `too many requests`.
pub const INPUTS_MAX: usize = 64 << 10;

/// Bytes of proposals that wait for a group's next turn; one more is refused likewise.
pub const INPUT_BYTES_MAX: usize = 64 << 20;

/// Bytes proposed and not durable. At the bound inputs wait, so that the log's buffer stays small
/// and a slow disk is felt by clients and not by memory.
pub const UNDURABLE_BYTES_MAX: usize = 16 << 20;

/// Entries that are applied in one slice. At 2 µs each a slice stays below 1 ms.
pub const APPLY_SLICE_ENTRIES: usize = 256;

/// Inputs that are taken in one turn, for the same reason.
pub const TURN_INPUTS_MAX: usize = 1024;

/// The group's clock: raft ticks, lease expiry and watch progress are looked at this often.
pub const TICK: Duration = Duration::from_millis(100);

/// Leases that are revoked per tick: 50,000 leases that end together are gone in half a second.
pub const REVOKES_PER_TICK: usize = 10_000;

/// Revocations on their way through the log; more wait for the next tick.
pub const REVOKES_PENDING_MAX: usize = 20_000;

/// Entries of the revision log that a slice of watch catch-up reads.
pub const CATCH_UP_SLICE_ENTRIES: usize = 512;

/// Keys that a slice of a tree commit writes: about 0.4 ms. Smaller slices would let a core that is
/// busy with puts fall ever further behind with the commits that make room for them.
pub const COMMIT_SLICE: usize = 1000;

/// Bytes applied and not yet in the tree file at which new proposals wait for the commit under way.
/// It bounds memory, and with the log's tail the time of a restart.
pub const BUFFERED_BYTES_SOFT: u64 = 96 << 20;

/// Revisions that a slice of a compaction looks at.
pub const COMPACT_SLICE_ENTRIES: usize = 256;

/// Renewals that wait for the revocation of a lease that has ended.
pub const RENEWALS_WAITING_MAX: usize = 64 << 10;

/// How long after a refused growth of the tree file the next try comes.
pub const FULL_DISK_RETRY: Duration = super::wal::FULL_DISK_RETRY;

/// Bytes of the log's present segment that, while the disk has no room for the next one, only
/// requests may use that cost no space: deletes and compactions, which can make room.
pub const FULL_DISK_BYTES_KEPT: usize = 256 << 10;

/// Bytes applied and not yet in the tree file, past which new writes are refused while the disk
/// is full: they would only grow memory.
pub const BUFFERED_BYTES_MAX: u64 = 256 << 20;

/// How long a defragmentation waits for readers that hold pages at the file's end.
pub const DEFRAGMENT_PATIENCE: Duration = Duration::from_secs(10);

/// Records of a committed generation that are freed at once while the group is idle.
pub const RELEASE_SLICE_ENTRIES: usize = 500;

/// Records that a slice of a hash reads: below 1 µs each.
pub const HASH_SLICE_ENTRIES: usize = 512;

/// Hashes of compactions that are kept, as in etcd.
pub const COMPACTION_HASHES_MAX: usize = 10;

/// What an entry adds to the client's message.
pub const ENTRY_OVERHEAD_BYTES: usize = 64;
