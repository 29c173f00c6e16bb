//! Pure. Bounds of `backend/` and `mvcc/`.

use std::time::Duration;

/// Every so many revisions of one key a waypoint is written. A historic read walks at most twice as
/// many links per key, and an overwrite costs one waypoint in so many.
pub const WAYPOINT_EVERY: u8 = 16;

/// Keys per node of the copy-on-write maps: what a writer copies after a view was taken.
pub const MAP_NODE_KEYS_MAX: usize = 32;

/// Records per chunk of the bucket buffer: one allocation, made while a put waits.
pub const BUFFER_CHUNK_RECORDS: usize = 256;
/// Chunks per directory of the bucket buffer.
pub const BUFFER_DIRECTORY_CHUNKS: usize = 512;
/// Directories of a bucket buffer: at 134 million uncommitted records the store stops. Memory and
/// `BUFFERED_BYTES_MAX` end long before.
pub const BUFFER_DIRECTORIES: usize = 1024;

/// Uncommitted bytes at which a commit becomes due: bounds memory and the tail that a restart
/// replays (twice this: a commit may be under way).
pub const COMMIT_BUFFERED_BYTES: u64 = 16 << 20;
/// Log bytes since the last commit at which one becomes due: bounds the log that must be kept.
pub const COMMIT_LOG_BYTES: u64 = 64 << 20;
/// Age of the oldest uncommitted change at which a commit becomes due.
pub const COMMIT_AGE: Duration = Duration::from_secs(10);
/// Uncommitted bytes at which writers should be refused until a commit ends: the disk does not
/// follow. Asked through `CommitPolicy::is_overdue`.
pub const BUFFERED_BYTES_MAX: u64 = 1 << 30;

/// Entries handed to the tree per slice of a commit when the caller has no better number.
pub const COMMIT_SLICE_ENTRIES: usize = 400;
/// Pages sealed per slice, as a share of the entries' budget.
pub const COMMIT_SLICE_PAGES: usize = 64;

/// Physical deletions that may wait in the active generation. Beyond, compaction waits for the next
/// commit, so that a compaction of a million revisions does not hold them all in memory.
pub const COMPACT_PENDING_DELETES_MAX: usize = 200_000;

/// Records freed per log entry from generations that are in the file: twice what one put adds.
pub const RELEASE_RECORDS_PER_ENTRY: usize = 4;

/// Keys of a range that are found and then deleted at a time: what is held of them beside the
/// changes that they become.
pub const DELETE_WALK_ENTRIES: usize = 1024;

/// Space below which giving back is not worth a page write.
pub const DEFRAGMENT_BYTES_MIN: u64 = 64 << 10;
/// Pages that one commit moves to give space back: 8 MB with ordinary pages.
pub const DEFRAGMENT_PAGES_PER_COMMIT: u64 = 2048;
/// Leaves looked at per slice while giving space back.
pub const DEFRAGMENT_SLICE_LEAVES: usize = 64;
/// Pages moved per slice while giving space back.
pub const DEFRAGMENT_SLICE_PAGES: u64 = 32;

/// Bytes of a value compared without a look at its record when a range sorts by value.
pub const SORT_VALUE_BYTES: usize = 16;

/// Bytes of a key kept in an error.
pub const ERROR_KEY_BYTES_MAX: usize = 128;

const _: () = assert!(WAYPOINT_EVERY > 1);
const _: () = assert!(MAP_NODE_KEYS_MAX >= 4);
