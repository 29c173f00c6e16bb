//! Adapter. A whole world on one thread from one seed: clock, tasks, disks, mesh and byte pipes.
//!
//! In: a seed, nodes, futures that run on their cores, orders to crash and to fail. Out: what the
//! futures return, and a [`World::trace`] that is the same whenever seed and program are.
//!
//! Call order
//! 1. [`World::new`], then [`World::add_node`] per node ([`World::single`] does both for one).
//! 2. [`World::run`] for one future to its end, or [`World::spawn`] and [`World::run_until`].
//! 3. [`World::faults`] reaches a node's [`Disk`]: full, failing at the n-th step, rotten.
//! 4. [`World::crash`] drops the node's tasks and lets its disk decide what survived; the next
//!    [`World::env`] of that node is its restart.
//!
//! Invariants
//! 1. Nothing here looks at the real world: time moves only when the world moves it, every choice
//!    is drawn from the seed.
//! 2. Each core runs its tasks one at a time; which core, and mostly in which order, is drawn.
//!    Every ready task runs before time can pass it by: nobody starves.
//! 3. A completed log write, a synced tree write, and a directory entry after `sync_dir` survive a
//!    crash. Of the rest any part may survive, in sectors of 512 bytes ([`disk`] has the details).
//! 4. An environment of before a crash is dead: its tasks are dropped, its files refuse.
//!
//! Not here: the workloads, checkers and the cluster of `group/`; sockets and TLS (a [`duplex`]
//! pipe stands for them). [`disk::Disk`] works alone, without a world, for tests of pure code.
//!
//! What a real disk may do that this one does not: `docs/assumptions.md`.

pub mod disk;
mod env;
mod files;
mod mesh;
mod pipe;
mod rng;
mod world;

#[cfg(test)]
mod tests;

pub use disk::Disk;
pub use env::SimEnv;
pub use files::{SimLogFile, SimTreeFile};
pub use mesh::{SimMesh, mesh};
pub use pipe::{SimReader, SimWriter, duplex};
pub use rng::Rng;
pub use world::{NodeId, World};
