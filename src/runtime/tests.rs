//! Adapter. The runtime on the real kernel: files, sockets, mesh, cores, and one test per trap.

mod cores;
mod files;
mod sockets;
mod traps;

use super::{GlommioEnv, Options, run_here};
use std::future::Future;

/// Runs a test's future on one executor of the test's thread.
fn on_core<T: 'static, F: Future<Output = T> + 'static>(test: impl FnOnce(GlommioEnv) -> F) -> T {
    run_here(&Options::unpinned(1), test).unwrap_or_else(|failure| panic!("{failure}"))
}

/// A directory on the disk that holds the checkout: `/tmp` may be memory.
fn disk_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(".").expect("the working directory is writable")
}
