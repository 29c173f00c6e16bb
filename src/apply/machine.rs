//! Pure. The state machine: one committed entry at a time.

use super::alarms::Alarms;
use super::put::KeyValueRef;
use super::quota::{self, Quota};
use super::txn::{self, Path};
use super::{
    Alarm, AlarmMember, ApplyError, DeleteRequestRef, Entry, EntryError, Fault, Kind,
    PutRequestRef, Response, leases,
};
use crate::backend::{Corrupt, schema};
use crate::env::Monotonic;
use crate::ids::{LeaseId, LogIndex, MemberId, Term};
use crate::lease::{GrantError, Lessor, LessorOptions};
use crate::mvcc::{Changes, CompactError, RangeEnd, Store};
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::{
    AlarmRequest, CompactionRequest, DowngradeInfo, LeaseCheckpointRequest, LeaseGrantRequest,
    LeaseRevokeRequest, Member, MemberRemoveRequest, TxnRequest,
};
use bytes::Bytes;
use prost::Message;

/// What the operator decides.
#[derive(Clone, Copy, Default, Debug)]
pub struct MachineOptions {
    pub lessor: LessorOptions,
    /// `quota-backend-bytes`: 0 is the default, negative is off.
    pub quota_bytes: i64,
}

/// What one entry did.
#[derive(Debug)]
pub struct Outcome {
    pub kind: Kind,
    /// The proposer's number; 0 when nobody waits.
    pub request_id: u64,
    pub result: Result<Response, ApplyError>,
    /// The changed keys, for watchers; `None` when none changed. There also when `result` is
    /// [`ApplyError::NoSpace`]: an entry that passes the quota is applied.
    pub changes: Option<Changes>,
    /// The quota was passed: the driver proposes this member's NOSPACE alarm.
    pub raise_no_space: bool,
    /// The store was compacted at this revision: the driver begins `Store::compact_slice`.
    pub compacted: Option<i64>,
    /// A lease ended: renewals that wait for it are answered.
    pub revoked: Option<LeaseId>,
}

/// One per group, on the group's core.
pub struct StateMachine {
    store: Store,
    lessor: Lessor,
    alarms: Alarms,
    quota: Quota,
}

/// A refusal, or what was done.
type Done = Result<Result<Response, ApplyError>, Stop>;

/// Why an entry cannot be applied.
enum Stop {
    Entry(EntryError),
    Store(Corrupt),
}

impl From<Corrupt> for Stop {
    fn from(corrupt: Corrupt) -> Stop {
        Stop::Store(corrupt)
    }
}

impl StateMachine {
    /// Reads leases and alarms of the store; replay continues behind `consistent`.
    pub fn open(store: Store, options: MachineOptions) -> Result<StateMachine, Fault> {
        let view = store.view();
        let lessor = leases::open(&view, options.lessor)?;
        let alarms = Alarms::open(&view)?;
        let quota = Quota::new(options.quota_bytes);
        Ok(StateMachine {
            store,
            lessor,
            alarms,
            quota,
        })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// For commits, compaction slices, defragmentation. Not for writing keys.
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    pub fn lessor(&self) -> &Lessor {
        &self.lessor
    }

    /// For leading, renewing and expiring. Grants and revokes go through the log.
    pub fn lessor_mut(&mut self) -> &mut Lessor {
        &mut self.lessor
    }

    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// The last entry applied.
    pub fn consistent(&self) -> (LogIndex, Term) {
        self.store.consistent()
    }

    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// What the quota is compared with: the file, or what it will hold once all is committed.
    pub fn size_bytes(&self) -> u64 {
        let next = self.store.in_use_bytes() + self.store.buffered_bytes();
        self.store.size_bytes().max(next)
    }

    /// Whether a request of this cost may be proposed; if not, the driver proposes the NOSPACE
    /// alarm of its member and refuses the request.
    pub fn has_room(&self, cost: u64) -> bool {
        self.quota.has_room(self.size_bytes(), cost)
    }

    /// Passes an entry that is none of ours: empty, or a configuration change.
    pub fn advance(&mut self, index: LogIndex, term: Term) {
        if index > self.consistent().0 {
            self.store.set_consistent(index, term);
        }
    }

    /// Applies a committed entry. `None`: it was applied before this start. After a fault the
    /// machine must not be used.
    pub fn apply(
        &mut self,
        index: LogIndex,
        term: Term,
        entry: &[u8],
        now: Monotonic,
    ) -> Result<Option<Outcome>, Fault> {
        if index <= self.consistent().0 {
            return Ok(None);
        }
        let entry = Entry::decode(entry).map_err(|error| Fault::Entry { index, error })?;
        let mut outcome = Outcome {
            kind: entry.kind,
            request_id: entry.request_id,
            result: Ok(Response::Internal { revision: 0 }),
            changes: None,
            raise_no_space: false,
            compacted: None,
            revoked: None,
        };
        outcome.result = match self.dispatch(&entry, now, &mut outcome) {
            Ok(result) => result,
            Err(Stop::Entry(error)) => return Err(Fault::Entry { index, error }),
            Err(Stop::Store(corrupt)) => return Err(Fault::Store(corrupt)),
        };
        self.store.set_consistent(index, term);
        Ok(Some(outcome))
    }

    fn dispatch(&mut self, entry: &Entry<'_>, now: Monotonic, outcome: &mut Outcome) -> Done {
        if entry.kind.stops_when_corrupt() && self.alarms.is_raised(Alarm::Corrupt) {
            return Ok(Err(ApplyError::CorruptCluster));
        }
        let done = match entry.kind {
            Kind::Put => self.put(entry, outcome),
            Kind::DeleteRange => self.delete_range(entry, outcome),
            Kind::Txn => self.txn(entry, outcome),
            Kind::Compact => self.compact(message(entry)?, outcome),
            Kind::LeaseGrant => self.lease_grant(message(entry)?, now, outcome),
            Kind::LeaseRevoke => self.lease_revoke(message(entry)?, outcome),
            Kind::LeaseCheckpoint => self.lease_checkpoint(message(entry)?, now),
            Kind::Alarm => self.alarm(message(entry)?),
            Kind::ClusterVersion => self.set_cluster_version(entry),
            Kind::Downgrade => {
                message::<DowngradeInfo>(entry)?;
                self.set_cluster_fact(CLUSTER_DOWNGRADE, entry.body)
            }
            Kind::MemberAttributes => self.member_attributes(message(entry)?),
            Kind::MemberSet => self.member_set(&message(entry)?),
            Kind::MemberRemove => self.member_remove(&message(entry)?),
        }?;
        // The write stands, its author is told: the next one is refused before it is proposed.
        Ok(if outcome.raise_no_space {
            done.and(Err(ApplyError::NoSpace))
        } else {
            done
        })
    }

    /// Whether a cost is refused; remembers when it passes the quota.
    fn refuses_cost(&self, cost: u64, outcome: &mut Outcome) -> bool {
        if cost == 0 {
            return false;
        }
        if self.alarms.is_raised(Alarm::NoSpace) {
            return true;
        }
        outcome.raise_no_space = !self.has_room(cost);
        false
    }

    fn put(&mut self, entry: &Entry<'_>, outcome: &mut Outcome) -> Done {
        let put = PutRequestRef::decode(entry.body).ok_or(bad_body(entry))?;
        if self.refuses_cost(quota::put_cost(put.key, put.value), outcome) {
            return Ok(Err(ApplyError::NoSpace));
        }
        if put.lease != 0 && !self.lessor.exists(LeaseId(put.lease)) {
            return refuse(ApplyError::LeaseNotFound, outcome);
        }
        let mut write = self.store.write();
        let reads = put.prev_kv || put.ignore_value || put.ignore_lease;
        let before = if reads { write.kv(put.key)? } else { None };
        if (put.ignore_value || put.ignore_lease) && before.is_none() {
            write.finish();
            return refuse(ApplyError::KeyNotFound, outcome);
        }
        let kept = before
            .as_deref()
            .and_then(KeyValueRef::decode)
            .unwrap_or_default();
        let value = if put.ignore_value {
            kept.value
        } else {
            put.value
        };
        let lease = if put.ignore_lease {
            kept.lease
        } else {
            put.lease
        };
        let revision = write.put(put.key, value, LeaseId(lease))?.main;
        let changes = write.finish();
        outcome.changes = self.settle(changes);
        Ok(Ok(Response::Put {
            revision,
            previous: before.filter(|_| put.prev_kv),
        }))
    }

    fn delete_range(&mut self, entry: &Entry<'_>, outcome: &mut Outcome) -> Done {
        let delete = DeleteRequestRef::decode(entry.body).ok_or(bad_body(entry))?;
        let end = RangeEnd::from_wire(Bytes::copy_from_slice(delete.range_end));
        let mut write = self.store.write();
        let mut previous = Vec::new();
        let wanted = delete.prev_kv.then_some(&mut previous);
        let deleted = write.delete_range(delete.key, &end, wanted)? as i64;
        let revision = write.revision();
        let changes = write.finish();
        outcome.changes = self.settle(changes);
        Ok(Ok(Response::DeleteRange {
            revision,
            deleted,
            previous,
        }))
    }

    fn txn(&mut self, entry: &Entry<'_>, outcome: &mut Outcome) -> Done {
        // One copy; the messages within share it.
        let body = Bytes::copy_from_slice(entry.body);
        let request = TxnRequest::decode(body).map_err(|_| bad_body(entry))?;
        if self.refuses_cost(quota::txn_cost(&request), outcome) {
            return Ok(Err(ApplyError::NoSpace));
        }
        let path = {
            // The view goes before the write begins: shared nodes would be copied.
            let view = self.store.view();
            let path = Path::of(&request, &view)?;
            let lessor = &self.lessor;
            let lease_exists = |id| lessor.exists(id);
            if let Err(error) = txn::check(&request, &path, &view, &lease_exists)? {
                return refuse(error, outcome);
            }
            path
        };
        let mut write = self.store.write();
        let response = txn::run(&request, &path, &mut write)?;
        let changes = write.finish();
        outcome.changes = self.settle(changes);
        Ok(Ok(Response::Txn(response)))
    }

    /// What follows from changed keys.
    fn settle(&mut self, changes: Changes) -> Option<Changes> {
        leases::reattach(&mut self.store, &changes);
        (!changes.changes.is_empty()).then_some(changes)
    }

    fn compact(&mut self, request: CompactionRequest, outcome: &mut Outcome) -> Done {
        let asked = request.revision;
        let (current, compacted) = (self.store.current(), self.store.compacted());
        Ok(match self.store.compact(asked) {
            Ok(()) => {
                outcome.compacted = Some(asked);
                Ok(Response::Compact { revision: current })
            }
            Err(CompactError::Compacted { .. }) => Err(ApplyError::Compacted { asked, compacted }),
            Err(CompactError::Future { .. }) => Err(ApplyError::FutureRevision { asked, current }),
        })
    }

    fn lease_grant(
        &mut self,
        request: LeaseGrantRequest,
        now: Monotonic,
        outcome: &mut Outcome,
    ) -> Done {
        if self.refuses_cost(quota::lease_cost(), outcome) {
            return Ok(Err(ApplyError::NoSpace));
        }
        let error = match self.lessor.grant(LeaseId(request.id), request.ttl, now) {
            Ok(record) => {
                leases::write_record(&mut self.store, &record);
                let revision = self.store.current();
                let (id, ttl) = (record.id.0, record.ttl);
                return Ok(Ok(Response::LeaseGrant { revision, id, ttl }));
            }
            Err(GrantError::NoId) => ApplyError::LeaseNotFound,
            Err(GrantError::TtlTooLarge { .. }) => ApplyError::LeaseTtlTooLarge,
            Err(GrantError::Exists(_)) => ApplyError::LeaseExists,
        };
        refuse(error, outcome)
    }

    fn lease_revoke(&mut self, request: LeaseRevokeRequest, outcome: &mut Outcome) -> Done {
        let id = LeaseId(request.id);
        if !self.lessor.exists(id) {
            return Ok(Err(ApplyError::LeaseNotFound));
        }
        // All keys go in one revision, in key order, so that every member numbers them alike.
        let keys = self.lease_keys(id)?;
        if !keys.is_empty() {
            let mut write = self.store.write();
            for key in &keys {
                write.delete(key)?;
            }
            let changes = write.finish();
            outcome.changes = self.settle(changes);
        }
        self.lessor.revoke(id);
        self.store
            .delete_small(schema::LEASE, &crate::lease::LeaseRecord::key(id));
        outcome.revoked = Some(id);
        Ok(Ok(Response::LeaseRevoke {
            revision: self.store.current(),
        }))
    }

    fn lease_checkpoint(&mut self, request: LeaseCheckpointRequest, now: Monotonic) -> Done {
        for checkpoint in &request.checkpoints {
            let id = LeaseId(checkpoint.id);
            if let Some(record) = self.lessor.checkpoint(id, checkpoint.remaining_ttl, now) {
                leases::write_record(&mut self.store, &record);
            }
        }
        Ok(Ok(Response::LeaseCheckpoint {
            revision: self.store.current(),
        }))
    }

    fn alarm(&mut self, request: AlarmRequest) -> Done {
        let kind = Alarm::from_number(request.alarm);
        let member = MemberId(request.member_id);
        let alarms = match (AlarmAction::try_from(request.action), kind) {
            (Ok(AlarmAction::Get), only) => self.alarms.list(only),
            (Ok(AlarmAction::Activate), Some(alarm)) => {
                let raised = AlarmMember { alarm, member };
                self.alarms.raise(raised, &mut self.store);
                vec![raised]
            }
            (Ok(AlarmAction::Deactivate), Some(alarm)) => {
                let cleared = AlarmMember { alarm, member };
                let was_raised = self.alarms.clear(cleared, &mut self.store);
                if was_raised {
                    vec![cleared]
                } else {
                    Vec::new()
                }
            }
            _ => Vec::new(),
        };
        Ok(Ok(Response::Alarm {
            revision: self.store.current(),
            alarms,
        }))
    }
}

/// Keys of the cluster bucket, as in etcd.
const CLUSTER_VERSION: &[u8] = b"clusterVersion";
const CLUSTER_DOWNGRADE: &[u8] = b"downgrade";

/// Facts about the cluster that travel in the log.
impl StateMachine {
    /// The cluster version, such as `3.7.0`; `None` before the first leader set it.
    pub fn cluster_version(&self) -> Result<Option<String>, Corrupt> {
        let text = self.store.view().small(schema::CLUSTER, CLUSTER_VERSION)?;
        Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    /// The downgrade job; the default when there is none.
    pub fn downgrade(&self) -> Result<DowngradeInfo, Fault> {
        match self
            .store
            .view()
            .small(schema::CLUSTER, CLUSTER_DOWNGRADE)?
        {
            None => Ok(DowngradeInfo::default()),
            Some(bytes) => DowngradeInfo::decode(bytes).map_err(|_| Fault::Small {
                bucket: schema::CLUSTER,
                key: CLUSTER_DOWNGRADE.to_vec(),
            }),
        }
    }

    /// The members by id.
    pub fn members(&self) -> Result<Vec<Member>, Fault> {
        let view = self.store.view();
        let mut members = Vec::new();
        let mut bad = None;
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            from = view.small_scan(schema::MEMBERS, &start, 100, &mut |key, value| {
                match Member::decode(value) {
                    Ok(member) => members.push(member),
                    Err(_) => bad = Some(key.to_vec()),
                }
                true
            })?;
        }
        match bad {
            Some(key) => Err(Fault::Small {
                bucket: schema::MEMBERS,
                key,
            }),
            None => Ok(members),
        }
    }

    /// Whether this id was removed: it may never come back.
    pub fn was_removed(&self, member: MemberId) -> Result<bool, Corrupt> {
        let key = member.0.to_be_bytes();
        Ok(self
            .store
            .view()
            .small(schema::MEMBERS_REMOVED, &key)?
            .is_some())
    }

    fn set_cluster_version(&mut self, entry: &Entry<'_>) -> Done {
        std::str::from_utf8(entry.body).map_err(|_| bad_body(entry))?;
        self.set_cluster_fact(CLUSTER_VERSION, entry.body)
    }

    fn set_cluster_fact(&mut self, key: &[u8], value: &[u8]) -> Done {
        self.store.put_small(schema::CLUSTER, key, value);
        self.internal()
    }

    /// Sets the name and client URLs of a member that is still there.
    fn member_attributes(&mut self, started: Member) -> Done {
        let key = started.id.to_be_bytes();
        if let Some(bytes) = self.store.view().small(schema::MEMBERS, &key)?
            && let Ok(member) = Member::decode(bytes)
        {
            let Member {
                name, client_urls, ..
            } = started;
            let member = Member {
                name,
                client_urls,
                ..member
            };
            self.store
                .put_small(schema::MEMBERS, &key, &member.encode_to_vec());
        }
        self.internal()
    }

    fn member_set(&mut self, member: &Member) -> Done {
        let key = member.id.to_be_bytes();
        self.store
            .put_small(schema::MEMBERS, &key, &member.encode_to_vec());
        self.internal()
    }

    fn member_remove(&mut self, request: &MemberRemoveRequest) -> Done {
        let key = request.id.to_be_bytes();
        self.store.delete_small(schema::MEMBERS, &key);
        self.store
            .put_small(schema::MEMBERS_REMOVED, &key, b"removed");
        self.internal()
    }

    fn internal(&self) -> Done {
        Ok(Ok(Response::Internal {
            revision: self.store.current(),
        }))
    }
}

impl Kind {
    /// Refused while the CORRUPT alarm is raised.
    fn stops_when_corrupt(self) -> bool {
        matches!(
            self,
            Kind::Put
                | Kind::DeleteRange
                | Kind::Txn
                | Kind::Compact
                | Kind::LeaseGrant
                | Kind::LeaseRevoke
        )
    }
}

/// Nothing was written, so nothing passed the quota.
fn refuse(error: ApplyError, outcome: &mut Outcome) -> Done {
    outcome.raise_no_space = false;
    Ok(Err(error))
}

fn bad_body(entry: &Entry<'_>) -> Stop {
    Stop::Entry(EntryError::Body { kind: entry.kind })
}

fn message<M: Message + Default>(entry: &Entry<'_>) -> Result<M, Stop> {
    M::decode(entry.body).map_err(|_| bad_body(entry))
}
