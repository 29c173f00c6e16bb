//! Pure. `RangeRequest` to a scan.

use crate::mvcc::{RangeEnd, RangeSpec, SortOrder, SortTarget};
use crate::pb::etcdserverpb::RangeRequest;
use crate::pb::etcdserverpb::range_request as wire;

/// The scan that a request asks for. The request has passed `validate`, so its enums are known; an
/// unknown one reads as the default.
pub fn range_spec(request: &RangeRequest) -> RangeSpec {
    RangeSpec {
        key: request.key.clone(),
        end: RangeEnd::from_wire(request.range_end.clone()),
        revision: request.revision.max(0),
        limit: request.limit,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod: request.min_mod_revision,
        max_mod: request.max_mod_revision,
        min_create: request.min_create_revision,
        max_create: request.max_create_revision,
        sort_target: match request.sort_target() {
            wire::SortTarget::Key => SortTarget::Key,
            wire::SortTarget::Version => SortTarget::Version,
            wire::SortTarget::Create => SortTarget::Create,
            wire::SortTarget::Mod => SortTarget::Mod,
            wire::SortTarget::Value => SortTarget::Value,
        },
        sort_order: match request.sort_order() {
            wire::SortOrder::None => SortOrder::None,
            wire::SortOrder::Ascend => SortOrder::Ascend,
            wire::SortOrder::Descend => SortOrder::Descend,
        },
    }
}
