//! Driver. Committed entries to the state machine, their answers to whoever waits, their changes
//! to the watch hub.

use super::core::{Core, Failure, Waiter};
use super::task::Shared;
use super::ticket::{Answer, Refusal, Ticket};
use crate::apply::{Alarm, ApplyError, Kind, Outcome, StoreLog, watch_events};
use crate::env::{Env, Monotonic};
use crate::ids::{LeaseId, Term};
use crate::limits::group as limits;
use crate::pb::etcdserverpb::{AlarmRequest, CompactionRequest, LeaseRevokeRequest};
use crate::raft::Committed;
use prost::Message;

impl<E: Env> Shared<E> {
    /// A client's proposal enters the log, or is refused.
    pub(super) fn propose_for(
        &self,
        core: &mut Core<E>,
        kind: Kind,
        body: &[u8],
        cost: u64,
        ticket: Ticket,
    ) {
        if cost > 0 {
            let size = body.len() + limits::ENTRY_OVERHEAD_BYTES;
            if core.is_overfull() || !core.log_takes(size + limits::FULL_DISK_BYTES_KEPT) {
                return self
                    .outlet
                    .answer(ticket, Answer::Refused(Refusal::NoSpace));
            }
            let raised = core.machine.alarms().is_raised(Alarm::NoSpace);
            if raised || !core.machine.has_room(cost) {
                core.raise_quota_alarm();
                let answer = Answer::Applied(Err(ApplyError::NoSpace), core.stamp());
                return self.outlet.answer(ticket, answer);
            }
        }
        if let Err(refusal) = core.propose(kind, body, Waiter::Client(ticket)) {
            self.outlet.answer(ticket, Answer::Refused(refusal));
        }
    }

    /// Applies committed entries while the budget lasts; `true` when there were some.
    pub(super) fn apply_slice(
        &self,
        core: &mut Core<E>,
        budget: &mut usize,
        now: Monotonic,
    ) -> bool {
        let mut progress = false;
        while *budget > 0 && core.failure.is_none() {
            // Here and not after the turn: leases granted behind it run from their own time.
            core.begin_leading(now);
            let Some(entry) = core.committed.pop_front() else {
                break;
            };
            self.apply_one(core, entry, now);
            *budget -= 1;
            progress = true;
        }
        if progress {
            core.node.applied(core.applied());
        }
        progress
    }

    fn apply_one(&self, core: &mut Core<E>, entry: Committed, now: Monotonic) {
        let waiter = core.waiter_of(&entry);
        if entry.data.is_empty() {
            core.machine.advance(entry.index, entry.term);
            return;
        }
        // What a compaction hashes is the store as it was before it.
        let before = is_compaction(&entry).then(|| core.machine.store().view());
        let outcome = match core
            .machine
            .apply(entry.index, entry.term, &entry.data, now)
        {
            Ok(Some(outcome)) => outcome,
            // The tree file had it: replay after a start. Nobody waits for it.
            Ok(None) => return,
            Err(fault) => return self.damaged(core, Failure::of_fault(&fault), waiter),
        };
        if let (Some(revision), Some(view)) = (outcome.compacted, before) {
            self.hash_wanted.borrow_mut().push_back((view, revision));
            self.compact_wake.notify();
        }
        if let Some(changes) = &outcome.changes {
            let Core {
                watching, machine, ..
            } = core;
            let log = StoreLog(machine.store());
            if let Err(error) = watching.hub.applied(watch_events(changes), &log) {
                return self.damaged(core, Failure::of_read(&error), waiter);
            }
        }
        self.settle(core, &entry, outcome, waiter);
    }

    /// Damage was met while an entry was applied. Its waiter no longer stands among the pending.
    fn damaged(&self, core: &mut Core<E>, failure: Failure, waiter: Waiter) {
        core.fail(failure);
        if let Some(ticket) = waiter.ticket() {
            self.outlet
                .answer(ticket, Answer::Refused(Refusal::Corrupt));
        }
    }

    /// What follows from an applied entry beside its changes.
    fn settle(&self, core: &mut Core<E>, entry: &Committed, outcome: Outcome, waiter: Waiter) {
        if outcome.raise_no_space {
            core.raise_quota_alarm();
        }
        if outcome.kind == Kind::Alarm {
            core.quota_alarm_proposed = false;
        }
        if outcome.kind == Kind::LeaseRevoke
            && let Some(request) = entry_body::<LeaseRevokeRequest>(entry)
        {
            // Refused or not, it is no longer under way: the lessor offers the lease again.
            core.revoking.remove(&LeaseId(request.id));
        }
        if let Some(lease) = outcome.revoked {
            self.note_revoked(core, lease);
        }
        if let Some(revision) = outcome.compacted {
            tracing::info!(
                group = core.options.group.0,
                revision,
                "scheduled compaction"
            );
        }
        core.count(&outcome);
        let Some(ticket) = waiter.ticket() else {
            return;
        };
        let physical = outcome.compacted.is_some()
            && entry_body::<CompactionRequest>(entry).is_some_and(|request| request.physical);
        let answer = Answer::Applied(outcome.result, core.stamp());
        if physical {
            core.compactions.push((ticket, answer));
        } else {
            self.outlet.answer(ticket, answer);
        }
    }
}

fn is_compaction(entry: &Committed) -> bool {
    crate::apply::Entry::decode(&entry.data).is_ok_and(|entry| entry.kind == Kind::Compact)
}

/// The protobuf message of an entry that was applied, so it is known to be one.
pub(super) fn entry_body<M: Message + Default>(entry: &Committed) -> Option<M> {
    let entry = crate::apply::Entry::decode(&entry.data).ok()?;
    M::decode(entry.body).ok()
}

impl<E: Env> Core<E> {
    /// Who waits for `entry`. Proposals of this leader stand in log order.
    fn waiter_of(&mut self, entry: &Committed) -> Waiter {
        match self.pending.front() {
            Some(first) if first.index == entry.index => {
                let pending = self.pending.pop_front().expect("just seen");
                // Another leader's entry in this place: ours was lost. One voter never sees it.
                assert_eq!(pending.term, entry.term, "a single voter loses no proposal");
                pending.waiter
            }
            first => {
                assert!(
                    first.is_none_or(|first| first.index > entry.index),
                    "in log order"
                );
                Waiter::Nobody
            }
        }
    }

    /// This member leads from now on: leases start to run.
    pub(super) fn elected(&mut self, term: Term) {
        tracing::info!(
            group = self.options.group.0,
            member = %format_args!("{:x}", self.options.member.0),
            term = term.0,
            "became leader"
        );
        self.metrics.leader_changes_seen.add(1);
        self.metrics.is_leader.set(1);
        self.metrics.has_leader.set(1);
        self.became_leader = true;
    }

    /// Once this member leads and has applied what it found: leases end from now on.
    fn begin_leading(&mut self, now: Monotonic) {
        if self.became_leader && self.may_read() {
            self.became_leader = false;
            let extend = self.options.election_timeout;
            self.machine.lessor_mut().promote(now, extend);
        }
    }

    /// Raises the space alarm through the log, once.
    fn raise_quota_alarm(&mut self) {
        if self.quota_alarm_proposed || self.machine.alarms().is_raised(Alarm::NoSpace) {
            return;
        }
        tracing::warn!(
            group = self.options.group.0,
            quota_bytes = self.machine.quota().bytes(),
            size_bytes = self.machine.store().size_bytes(),
            "the space quota is used up: raising the NOSPACE alarm"
        );
        let request = AlarmRequest {
            action: crate::pb::etcdserverpb::alarm_request::AlarmAction::Activate as i32,
            member_id: self.options.member.0,
            alarm: crate::pb::etcdserverpb::AlarmType::Nospace as i32,
        };
        let proposed = self.propose(Kind::Alarm, &request.encode_to_vec(), Waiter::Nobody);
        self.quota_alarm_proposed = proposed.is_ok();
    }

    fn count(&self, outcome: &Outcome) {
        match outcome.kind {
            Kind::Put => self.metrics.puts.add(1),
            Kind::DeleteRange => self.metrics.deletes.add(1),
            Kind::Txn => self.metrics.txns.add(1),
            Kind::LeaseGrant => self.metrics.lease_granted.add(1),
            Kind::LeaseRevoke => self.metrics.lease_revoked.add(1),
            _ => {}
        }
    }
}
