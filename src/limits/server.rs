//! Pure. Bounds of `server/` and `api/`.

use std::time::Duration;

/// Entries of the first slices of a range: a small answer is made at once, without a task.
pub const RANGE_FIRST_ENTRIES: usize = 16;

/// So many first slices.
pub const RANGE_FIRST_SLICES: usize = 8;

/// Bytes of a range's answer beyond which a task sends it in parts.
pub const RANGE_FIRST_BYTES: usize = 64 << 10;

/// Entries that a task's slice of a range looks at while it measures: 50 ns each.
pub const RANGE_MEASURE_ENTRIES: usize = 4096;

/// Entries that a task's slice of a range sends: about 300 ns each.
pub const RANGE_SLICE_ENTRIES: usize = 512;

/// How often deadlines and keep-alives are looked at; how late an answer to a passed deadline may
/// come.
pub const DESK_TICK: Duration = Duration::from_millis(50);

/// Bytes of one receive. Large, so that one system call brings as many requests as are there.
pub const RECEIVE_BYTES: usize = 128 << 10;

/// Client connections of one core. One more is accepted and closed at once.
pub const CONNECTIONS_MAX: usize = 100_000;

/// Messages under way from one core to another. A full way makes the sender keep them in order
/// and try again when the other core has taken some.
pub const MESH_MESSAGES: usize = 16 << 10;

/// How long a stop waits for calls under way.
pub const STOP_PATIENCE: Duration = Duration::from_millis(800);

/// How long a client may take to say whether it speaks HTTP/1 or HTTP/2.
pub const FIRST_BYTES_PATIENCE: Duration = Duration::from_secs(10);

/// How long the last output of a connection that ends may take to leave.
pub const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(1);

/// Connections that stay on the core that owns the keyspace before others are used: a hop costs
/// a lone client more than the disk does, and a busy core nothing.
pub const CONNECTIONS_AT_OWNER: usize = 8;
