//! Driver. The server process: start-up, one set of listeners and connections per core, stop.
//!
//! In: a checked [`Config`](crate::config::Config). Out: a running member; an exit code at the end.
//!
//! Call order: [`run`] does all of it: checks of the machine, lock of the data directory, identity,
//! listeners, cores. On each core (`core.rs`): mesh, switchboard, desk, and on the owner the log
//! and the group; then accept. A signal drains connections, commits, closes the log and ends.
//!
//! Invariants
//! 1. Nothing is written before the data directory is locked, and nothing but the identity before
//!    the identity is durable.
//! 2. Clients are accepted only once the group can answer them.
//! 3. A failure of the log or of the tree ends the process with an error: the next start recovers.
//!
//! Not here: services (`api/`), framing (`grpc/`, `http1/`), TLS.
//! Bytes of the data directory: `docs/format/data-dir.md`.

mod connection;
mod core;
mod identity;
mod place;
mod start;
mod switchboard;

pub use start::run;
