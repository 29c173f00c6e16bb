//! Driver. Calls that are rare enough to have a task: compaction, leases, cluster, maintenance,
//! health.

use super::conn::{CallState, Conn};
use super::desk::Desk;
use super::errors::EtcdError;
use crate::apply::{Kind, Response, quota};
use crate::env::{Env, Notify};
use crate::group::{self, Answer, Query, Stamp};
use crate::grpc::{Code, Status};
use crate::ids::{LeaseId, StreamId};
use crate::lease::lease_id_from;
use crate::mvcc::{HashScan, KvHash, View};
use crate::pb::Method;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::*;
use crate::pb::health;
use bytes::Bytes;
use prost::Message;
use std::rc::Rc;

/// Why a call of this file fails.
pub(super) enum CallError {
    Etcd(EtcdError),
    /// The message is no message of its type.
    Malformed,
    Other(Code, String),
}

impl<T: Into<EtcdError>> From<T> for CallError {
    fn from(error: T) -> CallError {
        CallError::Etcd(error.into())
    }
}

type Encoded = Result<Vec<u8>, CallError>;

fn decode<M: Message + Default>(body: Bytes) -> Result<M, CallError> {
    M::decode(body).map_err(|_| CallError::Malformed)
}

impl<E: Env> Desk<E> {
    /// Starts the task of a call.
    pub(super) fn serve_in_task(
        &self,
        conn: &Rc<Conn>,
        stream: StreamId,
        method: Method,
        body: Bytes,
    ) {
        let (desk, conn) = (self.clone(), conn.clone());
        self.wait_for(&conn, stream, CallState::Task(Notify::new()));
        self.shared.env.spawn(async move {
            let error = match desk.serve(method, body).await {
                Ok(encoded) => {
                    let size = encoded.len();
                    return desk.reply(&conn, stream, size, |out| out.extend_from_slice(&encoded));
                }
                Err(error) => error,
            };
            match error {
                CallError::Etcd(error) => desk.fail(&conn, stream, error),
                CallError::Malformed => desk.malformed(&conn, stream),
                CallError::Other(code, text) => {
                    desk.finish(&conn, stream, &Status::new(code, text));
                }
            }
        });
    }

    async fn serve(&self, method: Method, body: Bytes) -> Encoded {
        match method {
            Method::Compact => self.compact(body).await,
            Method::LeaseGrant => self.lease_grant(decode(body)?).await,
            Method::LeaseRevoke => self.lease_revoke(body).await,
            Method::LeaseTimeToLive => self.lease_facts(decode(body)?).await,
            Method::LeaseLeases => {
                decode::<LeaseLeasesRequest>(body)?;
                self.leases().await
            }
            Method::MemberList => self.member_list(decode(body)?).await,
            Method::Alarm => self.alarm(decode(body)?).await,
            Method::Status => {
                decode::<StatusRequest>(body)?;
                self.status().await
            }
            Method::Defragment => {
                decode::<DefragmentRequest>(body)?;
                self.defragment().await
            }
            Method::Hash => {
                decode::<HashRequest>(body)?;
                self.hash().await
            }
            Method::HashKV => self.hash_kv(decode(body)?).await,
            Method::HealthCheck => self.health(&decode(body)?),
            Method::AuthStatus => {
                decode::<AuthStatusRequest>(body)?;
                self.auth_status().await
            }
            Method::MemberRemove => self.change_member(decode::<MemberRemoveRequest>(body)?.id),
            Method::MemberUpdate => self.change_member(decode::<MemberUpdateRequest>(body)?.id),
            Method::MemberPromote => self.change_member(decode::<MemberPromoteRequest>(body)?.id),
            Method::MoveLeader => Err(EtcdError::BadLeaderTransferee.into()),
            _ => {
                let info = crate::pb::METHODS[method as usize];
                let text = format!(
                    "method {} of service {} is not served",
                    info.name, info.service
                );
                Err(CallError::Other(Code::Unimplemented, text))
            }
        }
    }

    /// Proposes a client's message as it came and encodes the answer.
    async fn proposed(&self, kind: Kind, body: Bytes, cost: u64) -> Encoded {
        let (response, stamp) = self.applied(kind, body, cost).await?;
        let header = self.shared.facts.origin.header(stamp);
        let mut out = Vec::with_capacity(response.encoded_size(&header));
        response.encode(&header, &mut out);
        Ok(out)
    }

    async fn applied(
        &self,
        kind: Kind,
        body: Bytes,
        cost: u64,
    ) -> Result<(Response, Stamp), CallError> {
        match self.propose(kind, body, cost).await {
            Answer::Applied(Ok(response), stamp) => Ok((response, stamp)),
            Answer::Applied(Err(error), _) => Err(error.into()),
            Answer::Refused(refusal) => Err(refusal.into()),
            other => unreachable!("a proposal is applied or refused, not {other:?}"),
        }
    }

    async fn compact(&self, body: Bytes) -> Encoded {
        decode::<CompactionRequest>(body.clone())?;
        self.proposed(Kind::Compact, body, 0).await
    }

    async fn lease_grant(&self, mut request: LeaseGrantRequest) -> Encoded {
        let asked = request.id;
        // A drawn id may be taken, once in many lifetimes; a client's own id is its own affair.
        for _ in 0..3 {
            if asked == 0 {
                request.id = lease_id_from(self.shared.env.random()).0;
            }
            let body = Bytes::from(request.encode_to_vec());
            let result = self
                .proposed(Kind::LeaseGrant, body, quota::lease_cost())
                .await;
            match result {
                Err(CallError::Etcd(EtcdError::LeaseExists)) if asked == 0 => {}
                result => return result,
            }
        }
        Err(EtcdError::LeaseExists.into())
    }

    /// The entry holds the client's bytes, and an entry that cannot be read stops the group, now
    /// and at every start: so they are read before.
    async fn lease_revoke(&self, body: Bytes) -> Encoded {
        decode::<LeaseRevokeRequest>(body.clone())?;
        self.proposed(Kind::LeaseRevoke, body, 0).await
    }

    async fn lease_facts(&self, request: LeaseTimeToLiveRequest) -> Encoded {
        let id = LeaseId(request.id);
        let answer = self
            .ask(Query::LeaseFacts {
                id,
                keys: request.keys,
            })
            .await;
        let (facts, stamp) = match answer {
            Answer::Lease { facts, stamp, .. } => (facts, stamp),
            Answer::Refused(refusal) => return Err(refusal.into()),
            other => unreachable!("lease facts were asked for, not {other:?}"),
        };
        let header = self.shared.facts.origin.message(stamp);
        let response = match facts {
            Some(facts) => LeaseTimeToLiveResponse {
                header,
                id: id.0,
                ttl: facts.remaining,
                granted_ttl: facts.granted,
                keys: facts.keys,
            },
            None => LeaseTimeToLiveResponse {
                header,
                id: id.0,
                ttl: -1,
                ..Default::default()
            },
        };
        Ok(response.encode_to_vec())
    }

    async fn leases(&self) -> Encoded {
        match self.ask(Query::Leases).await {
            Answer::Leases(ids, stamp) => {
                let header = self.shared.facts.origin.message(stamp);
                let leases = ids.into_iter().map(|id| LeaseStatus { id: id.0 }).collect();
                Ok(LeaseLeasesResponse { header, leases }.encode_to_vec())
            }
            Answer::Refused(refusal) => Err(refusal.into()),
            other => unreachable!("leases were asked for, not {other:?}"),
        }
    }

    async fn member_list(&self, request: MemberListRequest) -> Encoded {
        // A linearizable list must come from a member that still leads or follows a leader.
        let (_, stamp) = self.view(request.linearizable).await?;
        let facts = &self.shared.facts;
        let stamp = Stamp {
            revision: 0,
            ..stamp
        };
        let member = Member {
            id: facts.origin.member.0,
            name: facts.name.clone(),
            peer_urls: facts.peer_urls.clone(),
            client_urls: facts.client_urls.clone(),
            is_learner: false,
        };
        let header = facts.origin.message(stamp);
        Ok(MemberListResponse {
            header,
            members: vec![member],
        }
        .encode_to_vec())
    }

    /// A single member has nobody to change but itself, and it stays.
    fn change_member(&self, id: u64) -> Encoded {
        if id != self.shared.facts.origin.member.0 {
            return Err(EtcdError::MemberNotFound.into());
        }
        let text = "the only member of a cluster is not changed by this build";
        Err(CallError::Other(Code::Unimplemented, text.into()))
    }

    async fn alarm(&self, request: AlarmRequest) -> Encoded {
        if request.action() == AlarmAction::Get {
            return match self.ask(Query::Alarms).await {
                Answer::Alarms(mut alarms, stamp) => {
                    let wanted = request.alarm;
                    alarms.retain(|alarm| wanted == 0 || alarm.alarm == wanted);
                    // Of every member: etcd does not look at the member id of this request either.
                    let header = self.shared.facts.origin.message(stamp);
                    Ok(AlarmResponse { header, alarms }.encode_to_vec())
                }
                Answer::Refused(refusal) => Err(refusal.into()),
                other => unreachable!("alarms were asked for, not {other:?}"),
            };
        }
        self.proposed(Kind::Alarm, Bytes::from(request.encode_to_vec()), 0)
            .await
    }

    async fn status(&self) -> Encoded {
        let status = match self.ask(Query::Status).await {
            Answer::Status(status) => status,
            Answer::Refused(refusal) => return Err(refusal.into()),
            other => unreachable!("the status was asked for, not {other:?}"),
        };
        let facts = &self.shared.facts;
        let storage = facts.cluster_version.clone();
        let response = StatusResponse {
            header: facts.origin.message(status.stamp),
            version: facts.version.into(),
            db_size: status.size_bytes as i64,
            leader: status.leader,
            raft_index: status.raft_index,
            raft_term: status.stamp.term.0,
            raft_applied_index: status.applied_index,
            errors: status.errors,
            db_size_in_use: status.in_use_bytes as i64,
            is_learner: false,
            storage_version: storage,
            db_size_quota: status.quota_bytes,
            downgrade_info: Some(DowngradeInfo::default()),
        };
        Ok(response.encode_to_vec())
    }

    async fn defragment(&self) -> Encoded {
        match self.ask(Query::Defragment).await {
            Answer::Defragmented => Ok(DefragmentResponse { header: None }.encode_to_vec()),
            Answer::Refused(refusal) => Err(refusal.into()),
            other => unreachable!("a defragmentation was asked for, not {other:?}"),
        }
    }

    async fn hash_kv(&self, request: HashKvRequest) -> Encoded {
        let revision = request.revision;
        let (hash, stamp) = match self.ask(Query::HashKv { revision }).await {
            Answer::Hash(hash, stamp) => (hash, stamp),
            Answer::View(view, stamp) => (self.hash_view(view, revision).await?, stamp),
            Answer::Refused(refusal) => return Err(refusal.into()),
            other => unreachable!("a hash was asked for, not {other:?}"),
        };
        let response = HashKvResponse {
            header: self.shared.facts.origin.message(stamp),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        };
        Ok(response.encode_to_vec())
    }

    async fn hash_view(&self, view: View, revision: i64) -> Result<KvHash, CallError> {
        let scan = HashScan::new(view, revision)?;
        let hash = group::run_hash(&self.shared.env, scan, || false).await;
        let hash = hash.map_err(|_| EtcdError::Corrupt)?;
        Ok(hash.expect("nobody says that it is not wanted"))
    }

    /// The hash of the whole keyspace as it is now. etcd hashes its file's buckets, whose bytes no
    /// other program has; equal answers of two members mean equal keys here too.
    async fn hash(&self) -> Encoded {
        let (view, stamp) = self.view(true).await?;
        let hash = self.hash_view(view, 0).await?.hash;
        let header = self.shared.facts.origin.message(stamp);
        Ok(HashResponse { header, hash }.encode_to_vec())
    }

    async fn auth_status(&self) -> Encoded {
        let (_, stamp) = self.view(false).await?;
        let header = self.shared.facts.origin.message(stamp);
        Ok(AuthStatusResponse {
            header,
            enabled: false,
            auth_revision: 1,
        }
        .encode_to_vec())
    }

    fn health(&self, request: &health::HealthCheckRequest) -> Encoded {
        if !request.service.is_empty() {
            return Err(CallError::Other(Code::NotFound, "unknown service".into()));
        }
        let status = health::health_check_response::ServingStatus::Serving as i32;
        Ok(health::HealthCheckResponse { status }.encode_to_vec())
    }
}
