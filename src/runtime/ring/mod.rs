//! Adapter. The world on one io_uring per core: single issuer, deferred task work.
//!
//! ```text
//!   tasks ──submit──► ops ──SQE──► kernel ──CQE──► ops ──wake──► run queue ──► tasks
//! ```
//!
//! Call order, once per turn of a core: run what is ready (at most `TASKS_PER_PASS`), enter the
//! kernel once, which submits what the tasks asked for, runs what it deferred and waits if nothing
//! is ready; take the completions; fire timers; wake who waits for a pass.
//!
//! Invariants
//! 1. Memory that the kernel writes to or reads from belongs to its operation (`ops`) and not to a
//!    future: dropping a future never frees it. So does the descriptor.
//! 2. One system call per turn. A turn with nothing to submit and nothing deferred makes none.
//! 3. A receive takes a buffer of the core's pool only when bytes are there: an idle connection
//!    holds none.
//! 4. A waker may be called from any thread; only a parked core costs its caller a system call.
//!
//! Needs Linux 6.1. Not here: registered files and buffers, zero-copy sends.

#[allow(unsafe_code)] // Aligned memory comes from the allocator as a raw pointer.
mod block;
mod blocking;
#[allow(unsafe_code)] // The kernel takes buffers from a ring in shared memory.
mod buffers;
mod env;
mod executor;
mod files;
mod net;
#[allow(unsafe_code)] // An entry of the submission queue names memory by address.
mod ops;
mod timers;

pub use env::RingEnv;
pub(super) use ops::probe;
