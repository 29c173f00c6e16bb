//! Adapter. Bounds of the runtime, each with its unit, reason and what happens when it is reached.

use std::time::Duration;

/// Operations of one socket half, or accepts of one listener, in a row that were ready at once
/// before it waits for a pass of the reactor. A peer that always has bytes ready would otherwise
/// keep its core from ever seeing a completed write (trap a). Not smaller: a half that waits for
/// other things in between is counted, too, and a pass of a busy core is long.
pub const READY_PER_PASS: u32 = 64;

/// The same in bytes.
pub const READY_BYTES_PER_PASS: usize = 1 << 20;

/// Ready messages that one core takes from the mesh before it waits for a pass, for the same
/// reason. Large enough that a pass (a few µs) costs little per message.
pub const MESSAGES_PER_PASS: u32 = 1024;

/// Messages taken from one core's ring before the next core's ring has its turn.
pub const MESSAGES_PER_TURN: u32 = 64;

/// Memory registered with the rings per core, in bytes, at most; larger buffers come from the heap.
pub const IO_MEMORY_BYTES_MAX: usize = 8 << 20;

/// The same, at least: glommio refuses to do with less than 64 KiB.
pub const IO_MEMORY_BYTES_MIN: usize = 256 << 10;

/// Helper threads per core for what io_uring cannot do: rename, remove, truncate, zero-fill. Two,
/// so that zero-filling a segment does not hold up a rename.
pub const HELPER_THREADS: usize = 2;

/// Pending connections per listening socket; the kernel caps it at `net.core.somaxconn`. Further
/// clients wait in SYN retries.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Pause after the process ran out of descriptors or memory while accepting; the connections stay
/// in the backlog meanwhile.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Idle time before the kernel probes a silent connection, then the pause between probes.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
pub const KEEPALIVE_PAUSE: Duration = Duration::from_secs(15);
/// Unanswered probes that end a connection.
pub const KEEPALIVE_PROBES: u32 = 4;

/// Bytes per write while a new log segment is filled with zeros.
pub const ZERO_FILL_BYTES: usize = 512 << 10;

/// Random bytes fetched from the kernel at once, a multiple of 8.
pub const RANDOM_BYTES: usize = 512;

/// Alignment and granularity of O_DIRECT files that we promise to cope with.
pub const ALIGNMENT_BYTES_MAX: usize = 4096;

/// Kernel that the product is tested on; older ones get a warning.
pub const KERNEL_MIN: (u32, u32) = (5, 15);

/// Descriptors below which a server of a few thousand clients cannot work.
pub const OPEN_FILES_MIN: u64 = 4096;

/// Free bytes of the data directory below which the server should not start: two log segments and
/// room for a commit.
pub const FREE_BYTES_MIN: u64 = 256 << 20;

const _: () = assert!(ZERO_FILL_BYTES.is_multiple_of(ALIGNMENT_BYTES_MAX));
const _: () = assert!(RANDOM_BYTES.is_multiple_of(8));
const _: () = assert!(IO_MEMORY_BYTES_MIN >= 64 << 10);
const _: () = assert!(MESSAGES_PER_TURN <= MESSAGES_PER_PASS);

/// How often a port in use is tried again, and how long after: a second in all. A killed server's
/// sockets are gone after some milliseconds.
pub const PORT_TRIES: u32 = 100;
pub const PORT_PAUSE: Duration = Duration::from_millis(10);

/// Task runs of the raw ring's executor before it looks for completions: at 0.2 to 2 µs each, some
/// dozens of µs. What is left runs behind what the completions woke.
pub const TASKS_PER_PASS: u32 = 64;

/// Entries of the raw ring's submission queue; a full one costs a system call at once. Of its
/// completion queue: the kernel keeps what does not fit and we fetch it later.
pub const RING_ENTRIES: u32 = 512;
pub const RING_COMPLETIONS: u32 = 8192;

/// Receive buffers of a core and their size. A connection holds one only between the arrival of
/// its bytes and its task's next run; without one left, receives wait for a pass.
pub const RECEIVE_BUFFERS: u16 = 64;
pub const RECEIVE_BUFFER_BYTES: usize = 64 << 10;

/// Aligned blocks kept for their next use: how many, and how large at most. Two writes are in
/// flight, and a batch is rarely larger.
pub const BLOCKS_KEPT: usize = 4;
pub const BLOCK_BYTES_KEPT: usize = 1 << 20;

/// How long the end of a raw ring waits for its operations to end.
pub const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
