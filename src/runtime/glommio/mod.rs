//! Adapter. The world on glommio 0.9: the adapter for kernels before 6.1, and the one to compare
//! with.
//!
//! glommio drives three rings per core and asks each of them in every pass, which is most of what
//! a lone request costs here. Its traps are named where they are worked around.

mod env;
mod log_file;
#[allow(unsafe_code)] // glommio takes sockets over by raw descriptor only.
mod net;
mod pass;
mod tree_file;

pub use env::GlommioEnv;
#[cfg(test)]
pub(super) use env::io_memory_bytes;
