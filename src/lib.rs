//! ringbolt: an etcd-compatible metadata store. The map is `ARCHITECTURE.md`.

pub mod api;
pub mod apply;
pub mod backend;
pub mod btree;
pub mod client;
pub mod codec;
pub mod config;
pub mod ctl;
pub mod env;
pub mod group;
pub mod grpc;
pub mod http1;
pub mod http2;
pub mod ids;
pub mod inspect;
pub mod lease;
pub mod limits;
pub mod metrics;
pub mod mvcc;
pub mod pb;
pub mod raft;
pub mod runtime;
pub mod server;
pub mod sim;
pub mod wal;
pub mod watch;
