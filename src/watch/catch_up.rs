//! Pure. Lagging watchers read the revision log: in cohorts, slice by slice, beside the live path.
//!
//! A cohort is a set of lagging watchers that share one pass over the log. A watcher joins the
//! cohort that is a little before it; those far apart read separately, in turns, so that one that
//! begins at revision 1 does not hold up another that missed the last second.

use super::event::Encoded;
use super::hub::{Hub, Offer};
use super::watcher::{NONE, State, WatcherKey};
use super::{Event, RevisionLog};
use crate::limits::watch as limits;

#[derive(Debug)]
pub(super) struct Cohort {
    pub id: u8,
    /// The next revision to read. Members have been given what they want below it.
    pub position: i64,
    /// Some may have left: `Watchers::state` tells.
    pub members: Vec<WatcherKey>,
}

impl Hub {
    /// Whether `catch_up` has something to do. Stalled watchers do not count: they wait for their
    /// client.
    pub fn is_behind(&self) -> bool {
        !self.arrivals.is_empty() || !self.cohorts.is_empty()
    }

    /// One slice for one cohort: about `entries_max` changes are read. `log` is the store now:
    /// nothing was applied to it that `applied` was not told. Returns `is_behind`.
    pub fn catch_up<L: RevisionLog>(
        &mut self,
        log: &L,
        entries_max: usize,
    ) -> Result<bool, L::Error> {
        self.admit(log);
        let Some(mut cohort) = self.cohorts.pop_front() else {
            return Ok(false);
        };
        self.cancel_compacted_members(&mut cohort, log.compacted());
        let read = match cohort.members.is_empty() {
            true => Ok(()),
            false => self.read(&mut cohort, log, entries_max),
        };
        let id = cohort.id;
        cohort
            .members
            .retain(|member| self.watchers.state(*member) == State::Reading(id));
        if cohort.position > log.revision() {
            for member in cohort.members {
                let w = &mut self.watchers[member.slot];
                w.next_revision = w.next_revision.max(cohort.position);
                self.come_alive(member.slot);
            }
        } else if !cohort.members.is_empty() {
            self.cohorts.push_back(cohort);
        }
        read.map(|()| self.is_behind())
    }

    /// Gives each arrival to a cohort.
    fn admit<L: RevisionLog>(&mut self, log: &L) {
        for arrival in std::mem::take(&mut self.arrivals) {
            if self.watchers.state(arrival) != State::Arrived {
                continue;
            }
            let next = self.watchers[arrival.slot].next_revision;
            if next < log.compacted() {
                self.cancel_compacted(arrival.slot, log.compacted());
            } else if next > log.revision() {
                self.come_alive(arrival.slot);
            } else {
                let cohort = self.cohort_for(next);
                cohort.members.push(arrival);
                self.watchers[arrival.slot].state = State::Reading(cohort.id);
            }
        }
    }

    /// The cohort for a watcher that wants revision `next`, made when there is none close before
    /// it. When all are taken: the nearest before it, or else the earliest, pulled back.
    fn cohort_for(&mut self, next: i64) -> &mut Cohort {
        let mut nearest: Option<usize> = None;
        for (at, cohort) in self.cohorts.iter().enumerate() {
            let nearer = |n: usize| cohort.position > self.cohorts[n].position;
            if cohort.position <= next && nearest.is_none_or(nearer) {
                nearest = Some(at);
            }
        }
        let full = self.cohorts.len() == limits::COHORTS_MAX;
        let close =
            |at: &usize| full || next - self.cohorts[*at].position <= limits::COHORT_JOIN_REVISIONS;
        if let Some(at) = nearest.filter(close) {
            return &mut self.cohorts[at];
        }
        if full {
            let earliest = self.cohorts.iter_mut().min_by_key(|c| c.position);
            let earliest = earliest.expect("COHORTS_MAX is not 0");
            for member in &earliest.members {
                if self.watchers.state(*member) == State::Reading(earliest.id) {
                    // They keep what they have read; what was not for them is read again.
                    let w = &mut self.watchers[member.slot];
                    w.next_revision = w.next_revision.max(earliest.position);
                }
            }
            earliest.position = next;
            return earliest;
        }
        let used = |id: &u8| self.cohorts.iter().any(|c| c.id == *id);
        let id = (0..=u8::MAX)
            .find(|id| !used(id))
            .expect("COHORTS_MAX is below 256");
        self.cohorts.push_back(Cohort {
            id,
            position: next,
            members: Vec::new(),
        });
        self.cohorts.back_mut().expect("pushed above")
    }

    /// The log below the compacted revision may have holes: who still wants it is told so.
    fn cancel_compacted_members(&mut self, cohort: &mut Cohort, compacted: i64) {
        if cohort.position >= compacted {
            return;
        }
        for member in &cohort.members {
            if self.watchers.state(*member) == State::Reading(cohort.id)
                && self.watchers[member.slot]
                    .next_revision
                    .max(cohort.position)
                    < compacted
            {
                self.cancel_compacted(member.slot, compacted);
            }
        }
        cohort
            .members
            .retain(|m| self.watchers.state(*m) == State::Reading(cohort.id));
        cohort.position = compacted;
    }

    fn read<L: RevisionLog>(
        &mut self,
        cohort: &mut Cohort,
        log: &L,
        entries_max: usize,
    ) -> Result<(), L::Error> {
        let mut failed = None;
        let mut current = cohort.position;
        let next = log.scan(cohort.position, entries_max, &mut |event| {
            if failed.is_some() {
                return;
            }
            if event.revision.main != current {
                current = event.revision.main;
                self.end_revision();
            }
            failed = self.hand_out_late(cohort.id, event, log).err();
        });
        self.end_revision();
        match (failed, next) {
            // The position stays before the failure: the store is corrupt, and the group stops.
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok(next)) => {
                assert!(next > cohort.position, "a scan makes progress");
                cohort.position = next;
                Ok(())
            }
        }
    }

    fn hand_out_late<L: RevisionLog>(
        &mut self,
        cohort: u8,
        event: Event<'_>,
        log: &L,
    ) -> Result<(), L::Error> {
        let mut matched = std::mem::take(&mut self.matched);
        matched.clear();
        self.interests.matching(event.key, &mut matched);
        let mut encoded = Encoded::new(event);
        for &interest in &matched {
            let mut slot = self.interests[interest].lagging;
            while slot != NONE {
                // The lists do not change while the log is read: leaving a cohort is a state.
                if self.watchers[slot].state == State::Reading(cohort)
                    && self.offer(slot, &mut encoded, log.revision(), log)? == Offer::Full
                {
                    let w = &mut self.watchers[slot];
                    w.next_revision = event.revision.main;
                    w.state = State::Stalled;
                    let watcher = self.watchers.key(slot);
                    self.stream_of(slot).stalled.push(watcher);
                }
                slot = self.watchers[slot].after;
            }
        }
        self.matched = matched;
        Ok(())
    }

    pub(super) fn members_reading(&self, cohort: &Cohort) -> usize {
        let reads = |m: &&WatcherKey| self.watchers.state(**m) == State::Reading(cohort.id);
        cohort.members.iter().filter(reads).count()
    }
}
