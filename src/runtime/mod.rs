//! Adapter. The real world: executors, O_DIRECT files, sockets, mesh, signals, start-up checks.
//!
//! In: [`Options`] and one value per core. Out: running cores, each with a [`GlommioEnv`], and the
//! first failure of any of them. Everything above knows only `crate::env`; the names below are
//! for `server/`, which builds the world and hands it down.
//!
//! Call order
//! 1. On main: [`checks::run`], [`DirLock::acquire`], [`Shutdown::install`], [`cpus::choose`],
//!    [`net::bind`] (listening errors surface here), [`mesh::seats`].
//! 2. [`start`] with one value per core (its mesh seat, its bound listeners); each core runs the
//!    future that `setup` returns, on a thread named `core-N` pinned to its CPU. When that future
//!    returns the core stops: tasks that still wait are abandoned, not dropped.
//! 3. [`Running::wait`] on main; after a failure the process must end: other cores still run.
//!
//! Invariants
//! 1. This folder alone names glommio. Each trap of glommio 0.9 that touches us is worked around
//!    here, in one place, with a test in `tests/traps.rs` that names it.
//! 2. No task is ever cancelled: what is spawned runs until it returns, and a panic in it reaches
//!    [`Running::wait`] as a [`CoreFailure`] instead of unwinding through the executor.
//! 3. A core's rings are polled at least once per [`limits::READY_PER_PASS`] ready operations of a
//!    socket and [`limits::MESSAGES_PER_PASS`] ready messages of the mesh: neither starves the
//!    disk.
//! 4. Listeners, accepted connections and mesh seats are `Send` until they are bound to a core.
//!
//! Not here: name service policy, TLS, placement of connections, retries. A second adapter on a
//! raw ring fits behind the same traits.
//!
//! What we assume of kernel and disk: `docs/assumptions.md`.

pub mod checks;
pub mod cpus;
mod dir_lock;
mod env;
mod event;
pub mod files;
pub mod limits;
mod log_file;
#[allow(unsafe_code)] // The shared map of a tree file is raw memory of another owner: the kernel.
mod map;
pub mod mesh;
#[allow(unsafe_code)] // glommio takes sockets over by raw descriptor only.
pub mod net;
mod pass;
pub mod process;
mod signals;
mod start;
mod tree_file;

#[cfg(test)]
mod tests;

pub use dir_lock::DirLock;
pub use env::GlommioEnv;
pub use event::Event;
pub use log_file::{GlommioLogFile, LogBuffer};
pub use mesh::{GlommioMesh, MeshSeat};
pub use net::{Accepted, Bound, Listener, Peer, SocketReader, SocketWriter};
pub use signals::{Shutdown, end_by_signal};
pub use start::{CoreFailure, LogAccess, Options, Running, StartError, run_here, start};
pub use tree_file::GlommioTreeFile;
