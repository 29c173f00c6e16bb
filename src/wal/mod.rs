//! Driver. The write-ahead log of one core: one stream of records, shared by the core's raft
//! groups, in recycled segment files that are only overwritten.
//!
//! In: records ([`Log::append`]), releases ([`Log::release`]). Out: a durable prefix
//! ([`Log::durable`], [`Log::wait_durable`], [`Log::on_durable`]); after a restart, what each
//! group had ([`Recovered`]).
//!
//! Call order: `open`, then any of the others, `close` last. One log per core; its handles never
//! leave it.
//!
//! Invariants
//! 1. A record whose `Lsn` is at or below `durable()` is found by every later `open`.
//! 2. A block that holds acknowledged bytes is never written again while its segment is in the
//!    log.
//! 3. What `open` has once returned stays so: bytes that it passed over never come back, once the
//!    opening batch is durable.
//! 4. A group's entries come back without a hole behind its release mark, or `open` refuses.
//! 5. Damage below the durable prefix is refused and located as long as a later batch is readable.
//! 6. After a failed write or directory change nothing more is written: the error is latched. A
//!    disk without room for a new file is no such failure: the log waits for room.
//! 7. Everything waiting is bounded: records by `QUEUE_BYTES_MAX`, writes in flight by two.
//!
//! Not here: what records mean, replication, checkpoints, encryption. Records are not split: the
//! largest is `RECORD_BYTES_MAX`.
//!
//! Bytes: `docs/format/wal.md`; in code `format.rs` alone.

mod appender;
mod dump;
mod error;
mod format;
mod index;
mod log;
mod names;
mod rebuild;
mod recover;
mod scan;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

pub use appender::{Appender, Bounds, Refused, Shape, Write};
pub use dump::{dump, dump_segment};
pub use error::WalError;
pub use format::{BATCH_HEADER_SIZE, BatchHeader, HardState, Record, RecordFault};
pub use index::{Index, Mark};
pub use log::{BatchFact, Counters, Log, Options, Stats};
pub use rebuild::{Entry, RecoveredGroup};
pub use recover::{Recovered, RecoveryReport};
pub use scan::{Fault, FaultKind, SegmentReport, TailCase, scan};
