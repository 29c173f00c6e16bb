//! Pure. Who answers: the part of every response header that never changes.

use crate::apply::Header;
use crate::group::Stamp;
use crate::ids::{ClusterId, MemberId};
use crate::pb::etcdserverpb::ResponseHeader;

/// This member and its cluster.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub cluster: ClusterId,
    pub member: MemberId,
}

impl Origin {
    /// For answers that are encoded by hand.
    pub fn header(&self, stamp: Stamp) -> Header {
        Header {
            cluster: self.cluster,
            member: self.member,
            term: stamp.term,
        }
    }

    /// For answers that prost encodes.
    pub fn message(&self, stamp: Stamp) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: self.cluster.0,
            member_id: self.member.0,
            revision: stamp.revision,
            raft_term: stamp.term.0,
        })
    }
}
