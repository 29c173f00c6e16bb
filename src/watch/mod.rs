//! Pure. The hub: every watch of one group, from the moment it is created until its last response.
//!
//! In: requests of watch streams, the changes of each applied entry, a reader of the revision log
//! ([`RevisionLog`]), the time as an argument, and how much of a stream was delivered. Out:
//! [`WatchResponse`]s per stream, in order, ready to be encoded on another core.
//!
//! Call order: `open_stream`; `create`, `cancel`, `progress` in any order; `applied` once per
//! entry that changed keys, before the next entry is applied; `take_responses` until it gives
//! `None`; `drained` for what reached the client; `close_stream`. While `is_behind`, the driver
//! calls `catch_up` slice by slice beside its other work; `tick` at `next_tick`.
//!
//! ```text
//!            start in the past               scan reached the present
//!   create ───────────────────► lagging ──────────────────────────────► live ◄── create
//!                       arrival → cohort                                 │
//!                          ▲        │ stream is full                     │ stream is full
//!                          └─────stalled◄────────────────────────────────┘
//!                     the stream drained below half
//! ```
//!
//! Invariants
//! 1. A watcher is given each matching event of a revision >= its `next_revision` exactly once, in
//!    revision order; `next_revision` passes a revision only with all of its events.
//! 2. A live watcher misses nothing that was applied. A lagging one holds no events: it reads them
//!    from the revision log later, so a slow client costs its window and no more.
//! 3. A progress response of revision R is queued only behind every event <= R of the watches it
//!    speaks for, and no event > R is put in front of it.
//! 4. `undelivered` of a stream is the cost of what is queued or taken and not drained. A stream
//!    takes events below `STREAM_BYTES_MAX` only; one revision may pass the bound, whole.
//! 5. A watcher stands in exactly one list of its interest: `live` or `lagging`.
//! 6. A lagging watcher stands in exactly one of: arrivals, one cohort, `stalled` of its stream.
//!
//! Costs, measured: an idle watch takes 72 bytes when others watch the same range, 180 with a
//! 30-byte key of its own; a stream 200. An event costs 210 ns until it is queued for its first
//! watcher and 50 ns for each further one, encoding included.
//!
//! Not here: permission (the caller asks `auth` and calls `reject`), sockets, gRPC, leader checks.
//! The wire is etcd's `WatchResponse`; contract 1.2 is the reference for every rule.

mod catch_up;
mod event;
mod hub;
mod interest;
mod log;
mod requests;
mod response;
mod stream;
mod watcher;

pub use event::{Event, EventKind};
pub use hub::{Hub, HubOptions, HubStats};
pub use log::RevisionLog;
pub use response::{Header, WatchResponse};
pub use stream::{StreamInput, StreamKey};

#[cfg(test)]
mod model;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod tests;
