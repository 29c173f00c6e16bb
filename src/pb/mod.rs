//! Pure. The protobuf messages of etcd's API, and the table of its methods.
//!
//! In: `proto/`, compiled by `build.rs`. Out: one module per package with prost structs and enums,
//! and [`Method`], the number by which the wire layer, the services and the metrics name a call.
//! There is no call order.
//!
//! Invariants
//! 1. Every `bytes` field is a `bytes::Bytes`: decoding from a `Bytes` copies nothing.
//! 2. Field numbers and names are etcd's; `peerURLs` and `clientURLs` are `peer_urls`,
//!    `client_urls` in Rust.
//! 3. `METHODS[id].method as u16 == id`, and the paths are distinct.
//!
//! Not here: service code, validation, gRPC framing, service clients (`client/`).
//! The bytes are described by the files in `proto/`.

mod method;

pub use method::{METHODS, Method, MethodInfo, MethodKind};

/// Key-value, watch, lease, cluster, maintenance and auth messages.
// Generated code follows prost's style, not ours.
#[allow(clippy::all, missing_docs)]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// Keys and events.
// Generated code follows prost's style, not ours.
#[allow(clippy::all, missing_docs)]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Users, roles, permissions.
// Generated code follows prost's style, not ours.
#[allow(clippy::all, missing_docs)]
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// The lock service.
// Generated code follows prost's style, not ours.
#[allow(clippy::all, missing_docs)]
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// The election service.
// Generated code follows prost's style, not ours.
#[allow(clippy::all, missing_docs)]
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// The health service of gRPC.
// Generated code follows prost's style, not ours. Its map of statuses is a BTreeMap.
#[allow(clippy::all, missing_docs)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// The compiled `proto/` as an encoded `FileDescriptorSet`, with etcd's own field names.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests;
