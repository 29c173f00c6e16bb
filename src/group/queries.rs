//! Driver. Questions that change no replicated state.

use super::core::Core;
use super::task::Shared;
use super::ticket::{Answer, LeaseAnswer, Query, Refusal, Ticket};
use crate::env::{Env, Monotonic};
use crate::ids::LeaseId;
use crate::lease::Renewal;
use crate::limits::group as limits;

impl<E: Env> Shared<E> {
    /// Answers a query, or keeps it until it can be answered.
    pub(super) fn query(&self, core: &mut Core<E>, query: Query, ticket: Ticket, now: Monotonic) {
        if let Some(refusal) = core.refusal()
            && query != Query::Status
        {
            return self.outlet.answer(ticket, Answer::Refused(refusal));
        }
        let linearizable = match query {
            Query::View { linearizable } => linearizable,
            Query::Status => false,
            _ => true,
        };
        if linearizable && !core.may_read() {
            // Only in the first moments of a leadership: bounded by what clients sent in them.
            if core.early.len() >= limits::INPUTS_MAX {
                return self
                    .outlet
                    .answer(ticket, Answer::Refused(Refusal::TooManyRequests));
            }
            core.early.push((query, ticket));
            return;
        }
        self.answer_query(core, query, ticket, now);
    }

    /// Answers the queries that waited for this leader's first entry.
    pub(super) fn answer_early(&self, core: &mut Core<E>, now: Monotonic) {
        if !core.early.is_empty() && core.may_read() {
            for (query, ticket) in std::mem::take(&mut core.early) {
                self.answer_query(core, query, ticket, now);
            }
        }
    }

    fn answer_query(&self, core: &mut Core<E>, query: Query, ticket: Ticket, now: Monotonic) {
        let stamp = core.stamp();
        let answer = match query {
            Query::View { .. } => Answer::View(core.machine.store().view(), stamp),
            Query::HashKv { revision } => {
                match core
                    .hashes
                    .iter()
                    .find(|hash| hash.hash_revision == revision)
                {
                    Some(hash) => Answer::Hash(*hash, stamp),
                    None => Answer::View(core.machine.store().view(), stamp),
                }
            }
            Query::Status => Answer::Status(Box::new(core.status())),
            Query::Leases => Answer::Leases(core.machine.lessor().list(now), stamp),
            Query::Alarms => {
                let alarms = core.machine.alarms().list(None);
                Answer::Alarms(alarms.iter().map(|alarm| alarm.message()).collect(), stamp)
            }
            Query::LeaseFacts { id, keys } => match lease_facts(core, id, keys, now) {
                Ok(facts) => Answer::Lease { id, facts, stamp },
                Err(refusal) => Answer::Refused(refusal),
            },
            Query::LeaseRenew(id) => match self.renew(core, id, ticket, now) {
                Some(ttl) => Answer::Renewed { id, ttl, stamp },
                None => return,
            },
            Query::Defragment => {
                self.defragment.borrow_mut().push(ticket);
                self.commit_wake.notify();
                return;
            }
        };
        self.outlet.answer(ticket, answer);
    }

    /// The new TTL, 0 for an unknown lease; `None` when the answer waits for a revocation.
    fn renew(
        &self,
        core: &mut Core<E>,
        id: LeaseId,
        ticket: Ticket,
        now: Monotonic,
    ) -> Option<i64> {
        match core.machine.lessor_mut().renew(id, now) {
            Renewal::Renewed { ttl, .. } => {
                core.metrics.lease_renewed.add(1);
                Some(ttl)
            }
            Renewal::Expired if core.renewals_waiting < limits::RENEWALS_WAITING_MAX => {
                core.renewals.entry(id).or_default().push(ticket);
                core.renewals_waiting += 1;
                None
            }
            Renewal::Expired | Renewal::NotFound | Renewal::NotLeader => Some(0),
        }
    }

    /// A lease is gone: who tried to renew it in its last moments is told.
    pub(super) fn note_revoked(&self, core: &mut Core<E>, id: LeaseId) {
        let stamp = core.stamp();
        for ticket in core.renewals.remove(&id).unwrap_or_default() {
            core.renewals_waiting -= 1;
            self.outlet
                .answer(ticket, Answer::Renewed { id, ttl: 0, stamp });
        }
    }
}

fn lease_facts<E: Env>(
    core: &mut Core<E>,
    id: LeaseId,
    keys: bool,
    now: Monotonic,
) -> Result<Option<LeaseAnswer>, Refusal> {
    let Some(facts) = core.machine.lessor().facts(id, now) else {
        return Ok(None);
    };
    let keys = match keys {
        true => core.machine.lease_keys(id).map_err(|_| Refusal::Corrupt)?,
        false => Vec::new(),
    };
    // Rounded down, as in etcd.
    Ok(Some(LeaseAnswer {
        remaining: facts.remaining.as_secs() as i64,
        granted: facts.granted,
        keys,
    }))
}
