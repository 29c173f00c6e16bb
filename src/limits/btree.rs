//! Pure. Bounds of `btree/`.

/// Smallest page, in bytes. Tests use it to force deep trees; smaller would not hold four keys.
pub const PAGE_BYTES_MIN: u32 = 512;
/// Largest page, in bytes: a record's offset within its page has 15 bits.
pub const PAGE_BYTES_MAX: u32 = 32768;
/// Page size of a new file: the unit of the page cache, so that one record touches one of its
/// pages.
pub const PAGE_BYTES_DEFAULT: u32 = 4096;
/// Buckets of a file; their roots live in the meta, which a torn write must be able to spare.
pub const BUCKET_COUNT: usize = 32;
/// Longest key, in bytes; twice the largest request that a server may be told to accept by default.
/// A longer one is the caller's mistake and asserts.
pub const KEY_BYTES_MAX: usize = 8 << 20;
/// Longest value, in bytes. A longer one is the caller's mistake and asserts.
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// Deepest tree: branches of the smallest page hold four children or more, so 4^24 leaves. A file
/// that claims more is corrupt; this also bounds every descent.
pub const LEVEL_MAX: u8 = 24;
/// Largest single write of a plan, in bytes (longer ones only for one overflow run): long enough to
/// amortise a system call, short enough not to hold the ring.
pub const WRITE_BYTES_MAX: usize = 1 << 20;
/// Writes of one plan in flight at once: enough to hide a completion's round trip.
pub const WRITES_IN_FLIGHT_MAX: usize = 8;
/// The file grows by an eighth of its size, at least and at most by these many bytes, so that few
/// commits change the file's size.
pub const GROWTH_BYTES_MIN: u64 = 1 << 20;
/// See [`GROWTH_BYTES_MIN`].
pub const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// A dirty leaf splits in memory beyond this many pages of records: inserts stay cheap, and the
/// spill still cuts full pages from it.
pub const NODE_PAGES_MAX: usize = 4;
/// Dirty siblings packed together by one step of a spill: bounds a slice, and the pages left
/// partly filled at its end to one in this many.
pub const RUN_NODES_MAX: usize = 32;
/// Freed pages given back to the allocator in one step, so that a commit after a long pin ended
/// stays under a millisecond; the rest follows with later commits.
pub const RELEASE_PAGES_MAX: usize = 65536;
/// Pages of one chunk of the checked-page bitmap: 32 KiB of bits.
pub const CHECKED_CHUNK_PAGES: u64 = 1 << 18;
/// Chunks of the checked-page bitmap: bounds a file to 2^31 pages, 8 TiB at 4 KiB.
pub const CHECKED_CHUNKS_MAX: usize = 8192;
/// Pages of a file; one that claims more is refused at open, and a tree never grows beyond.
pub const PAGE_COUNT_MAX: u64 = CHECKED_CHUNK_PAGES * CHECKED_CHUNKS_MAX as u64;

const _: () = assert!(PAGE_BYTES_MIN.is_power_of_two() && PAGE_BYTES_MAX.is_power_of_two());
const _: () = assert!(PAGE_BYTES_MAX <= 1 << 15);
const _: () = assert!(PAGE_BYTES_DEFAULT >= PAGE_BYTES_MIN && PAGE_BYTES_DEFAULT <= PAGE_BYTES_MAX);
const _: () = assert!(VALUE_BYTES_MAX <= u32::MAX as usize && KEY_BYTES_MAX <= VALUE_BYTES_MAX);
