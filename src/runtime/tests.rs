//! Adapter. The runtime on the real kernel: files, sockets, mesh, cores, and one test per trap.

/// Each test as `ring::name` and as `glommio::name`.
macro_rules! in_both_worlds {
    ($($name:ident),* $(,)?) => {
        mod ring {
            $(#[test]
            fn $name() {
                super::$name::<crate::runtime::RingEnv>();
            })*
        }
        mod glommio {
            $(#[test]
            fn $name() {
                super::$name::<crate::runtime::GlommioEnv>();
            })*
        }
    };
}

mod cores;
mod files;
mod sockets;
mod traps;

use super::{Options, World, run_here};
use std::future::Future;

/// Runs a test's future on one executor of the test's thread.
fn on_core<W, T, F>(test: impl FnOnce(W) -> F) -> T
where
    W: World,
    T: 'static,
    F: Future<Output = T> + 'static,
{
    run_here(&Options::unpinned(1), test).unwrap_or_else(|failure| panic!("{failure}"))
}

/// A directory on the disk that holds the checkout: `/tmp` may be memory.
fn disk_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(".").expect("the working directory is writable")
}
