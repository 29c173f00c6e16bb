//! Driver. What happens because time passes: raft ticks, lease expiry, watch progress.

use super::core::{Core, Waiter};
use super::task::Shared;
use crate::apply::Kind;
use crate::env::{Env, Monotonic};
use crate::ids::LeaseId;
use crate::limits::group as limits;
use crate::pb::etcdserverpb::LeaseRevokeRequest;
use prost::Message;
use std::rc::Rc;

impl<E: Env> Shared<E> {
    /// The group's clock.
    pub(super) async fn clock(self: Rc<Self>) {
        loop {
            self.env.sleep(limits::TICK).await;
            if self.stopping.get() {
                return;
            }
            let now = self.env.now();
            let core = &mut *self.core.borrow_mut();
            if core.failure.is_some() {
                return;
            }
            core.node.tick();
            core.watching.hub.tick(now, core.machine.store().current());
            core.expire(now);
            core.export(self.inputs.borrow().len());
            self.wake.notify();
        }
    }
}

impl<E: Env> Core<E> {
    /// Proposes to revoke the leases that have ended.
    fn expire(&mut self, now: Monotonic) {
        if !self.may_read() || !self.takes_proposals() {
            return;
        }
        let room = limits::REVOKES_PENDING_MAX.saturating_sub(self.revoking.len());
        let mut ended: Vec<LeaseId> = Vec::new();
        let count_max = room.min(limits::REVOKES_PER_TICK);
        self.machine
            .lessor_mut()
            .take_expired(now, count_max, &mut ended);
        for id in ended {
            let request = LeaseRevokeRequest { id: id.0 };
            // Refused: the lessor offers it again.
            if self
                .propose(Kind::LeaseRevoke, &request.encode_to_vec(), Waiter::Nobody)
                .is_err()
            {
                return;
            }
            self.metrics.lease_expired.add(1);
            self.revoking.insert(id);
        }
    }
}
