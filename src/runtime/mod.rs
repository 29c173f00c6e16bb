//! Adapter. The real world: executors, O_DIRECT files, sockets, mesh, signals, start-up checks.
//!
//! In: [`Options`] and one value per core. Out: running cores, each with a [`World`], and the
//! first failure of any of them. Everything above knows only `crate::env`; the names below are
//! for `server/`, which builds the world and hands it down.
//!
//! Two adapters implement [`World`]: `ring/`, on one io_uring per core, and `glommio/`.
//! [`Adapter::choose`] says which one this machine can run.
//!
//! Call order
//! 1. On main: [`checks::run`], [`DirLock::acquire`], [`Shutdown::install`], [`cpus::choose`],
//!    [`net::bind_host`] (listening errors surface here), [`mesh::seats`].
//! 2. [`start`] with one value per core (its mesh seat, its bound listeners); each core runs the
//!    future that `setup` returns, on a thread named `core-N` pinned to its CPU. When that future
//!    returns the core stops: tasks that still wait are abandoned, not dropped.
//! 3. [`Running::wait`] on main; after a failure the process must end: other cores still run.
//!
//! Invariants
//! 1. `glommio/` alone names glommio, `ring/` alone names io_uring. Each trap of glommio 0.9 that
//!    touches us is worked around in one place, with a test in `tests/traps.rs` that names it.
//! 2. No task is ever cancelled: what is spawned runs until it returns, and a panic in it reaches
//!    [`Running::wait`] as a [`CoreFailure`] instead of unwinding through the executor.
//! 3. Completions are looked for at least once per [`limits::READY_PER_PASS`] ready operations of
//!    a socket, [`limits::MESSAGES_PER_PASS`] ready messages of the mesh and, in `ring/`,
//!    [`limits::TASKS_PER_PASS`] task runs: none of them starves the disk.
//! 4. Listeners, accepted connections and mesh seats are `Send` until they are bound to a core.
//!
//! Not here: name service policy, TLS, placement of connections, retries.
//!
//! What we assume of kernel and disk: `docs/assumptions.md`.

mod adapter;
pub mod checks;
mod clock;
pub mod cpus;
mod dir_lock;
mod event;
pub mod files;
mod glommio;
pub mod limits;
#[allow(unsafe_code)] // The shared map of a tree file is raw memory of another owner: the kernel.
mod map;
pub mod mesh;
pub mod net;
pub mod process;
mod ring;
mod signals;
mod start;
mod tree;
mod world;
mod zeroed;

#[cfg(test)]
mod tests;

pub use adapter::Adapter;
pub use dir_lock::DirLock;
pub use event::Event;
pub use glommio::GlommioEnv;
pub use mesh::{CoreMesh, MeshSeat};
pub use net::{Abort, Accepted, Bound, Listener, Peer};
pub use ring::RingEnv;
pub use signals::{Shutdown, end_by_signal};
pub use start::{CoreFailure, LogAccess, Options, Running, Seat, StartError, run_here, start};
pub use world::World;
