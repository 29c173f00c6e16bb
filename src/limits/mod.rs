//! Pure. Every bound of the project: one file per layer, each constant with its unit, its reason
//! and what happens when it is reached.

pub mod apply;
pub mod btree;
pub mod group;
pub mod http2;
pub mod mvcc;
pub mod server;
pub mod wal;
pub mod watch;
