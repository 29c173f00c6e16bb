//! Driver. etcd's services on one core: calls in, inputs to groups out, and answers back.
//!
//! In: bytes of client connections, answers of groups. Out: bytes for clients, [`Input`]s for the
//! group that owns the keyspace (through a [`Route`]: directly, or over the mesh).
//!
//! Call order, per connection: [`Desk::connect`]; `receive` for what the socket brings; the driver
//! sends `Conn::take_output` whenever `Conn::flush` is notified; `disconnect` at the end. Per
//! core: `deliver` for each answer, `tick` now and then.
//!
//! Invariants
//! 1. A call that was announced ends exactly once, by an answer, a status or its cancellation.
//! 2. What can be refused without state is refused here, before a group sees it.
//! 3. Hot calls (put, range, delete, txn, keep-alive, watch) hold no task; others may.
//! 4. No handler holds a borrow of a connection while it submits to a group.
//!
//! Not here: sockets and TLS (`server/`), gRPC framing (`grpc/`), semantics (`apply/`, `group/`).
//! The contract with clients is etcd's; `errors` is its one table of codes and texts.

mod ask;
mod conn;
mod desk;
pub mod errors;
mod header;
mod keepalive;
mod kv;
mod plain;
mod range;
mod sending;
mod services;
mod watch;

pub use ask::ask_conn;
pub use conn::Conn;
pub use desk::{Desk, Facts, Route};
pub use header::Origin;
pub use plain::{PlainAnswer, PlainRequest};

#[allow(unused_imports)] // Named by the module's doc.
use crate::group::Input;
