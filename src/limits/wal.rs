//! Pure. Bounds of `wal/`.

use std::time::Duration;

/// Size of a segment file unless the options say otherwise. Large, so that the change of segment
/// (one drained pipeline) is rare; a multiple of every alignment.
pub const SEGMENT_BYTES_DEFAULT: u64 = 32 << 20;

/// The smallest segment that options may ask for. Smaller ones are refused at open.
pub const SEGMENT_BYTES_MIN: u64 = 16 << 10;

/// Recycled segments that wait for use; one more than this is deleted.
pub const SEGMENTS_SPARE_DEFAULT: usize = 2;

/// Segments in the log beyond which the oldest one's few live records are copied forward.
pub const SEGMENTS_LIVE_DEFAULT: usize = 3;

/// The oldest segment is copied forward when its live entries are at most one part in this many of
/// its size; above, it waits for its groups to release.
pub const COPY_SHARE: u64 = 8;

/// Largest record, header included: the largest request (1.5 MiB) and what wraps it. A larger one
/// is refused with `RecordTooLarge`. A record never spans batches or segments.
pub const RECORD_BYTES_MAX: usize = 2 << 20;

/// A batch that has reached this size is closed and the next one begins. One write of this size
/// takes about three small ones; larger ones would delay the records behind them.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Appended and not yet durable. Beyond it `append` answers `Full` and the group waits.
pub const QUEUE_BYTES_MAX: usize = 32 << 20;

/// Writes in flight at once.
pub const WRITES_IN_FLIGHT_MAX: usize = 2;

/// Bytes that must wait before a second write is sent while one is in flight. Below it, waiting
/// makes a fuller batch and costs less than a second device write.
pub const SECOND_WRITE_BYTES_MIN: usize = 256 << 10;

/// Distance from the durable end to the end of the last write in flight. After an unclean end the
/// log continues this far behind the last good batch, so that no late write of the former process
/// can land on new bytes.
pub const IN_FLIGHT_BYTES_MAX: u64 = 8 << 20;

/// Batches of at least this size are padded to 4 KiB, smaller ones to the file's alignment.
pub const LARGE_BATCH_BYTES_MIN: usize = 64 << 10;

/// One read of recovery. Entries borrow from it, so it bounds what one live entry keeps in memory.
pub const READ_BYTES: usize = 4 << 20;

/// Emptied batch buffers that are kept for reuse.
pub const BUFFERS_KEPT_MAX: usize = 4;

/// An emptied batch buffer larger than this is freed instead of kept.
pub const BUFFER_KEPT_BYTES_MAX: usize = 4 << 20;

/// How long after the disk had no room for a segment the next try comes.
pub const FULL_DISK_RETRY: Duration = Duration::from_secs(1);

/// Blocks of the segment being written that, while the disk has no room for the next one, only
/// marks may use: without a mark nothing is recycled, and recycling is what the log itself can do
/// about a full disk. Beyond it `append` answers `NoRoom`.
pub const MARK_BLOCKS_KEPT: u64 = 16;

const _: () = assert!(SEGMENT_BYTES_DEFAULT >= 8 * RECORD_BYTES_MAX as u64);
const _: () = assert!(SEGMENT_BYTES_DEFAULT >= 4 * IN_FLIGHT_BYTES_MAX);
const _: () = assert!(IN_FLIGHT_BYTES_MAX >= 3 * RECORD_BYTES_MAX as u64);
const _: () = assert!(QUEUE_BYTES_MAX >= 4 * RECORD_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX + RECORD_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(SEGMENT_BYTES_DEFAULT.is_multiple_of(4096));
const _: () = assert!(SEGMENT_BYTES_MIN.is_multiple_of(4096));
