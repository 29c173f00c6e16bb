//! Driver. LeaseKeepAlive: a stream of renewals, each answered.

use super::conn::{CallState, Conn};
use super::desk::Desk;
use crate::env::Env;
use crate::group::{Input, Query, Stamp};
use crate::grpc::Status;
use crate::ids::{LeaseId, StreamId};
use crate::pb::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use bytes::Bytes;
use prost::Message;

impl<E: Env> Desk<E> {
    pub(super) fn keepalive_message(&self, conn: &Conn, stream: StreamId, body: Bytes) {
        let Ok(request) = LeaseKeepAliveRequest::decode(body) else {
            return self.malformed(conn, stream);
        };
        if let Some(call) = conn.calls.borrow_mut().get_mut(&stream)
            && let CallState::KeepAlive { waiting, .. } = &mut call.state
        {
            *waiting += 1;
        }
        let query = Query::LeaseRenew(LeaseId(request.id));
        self.submit(conn, stream, |ticket| Input::Query(query, ticket));
    }

    /// A renewal is answered; TTL 0 is a lease that does not exist.
    pub(super) fn renewed(
        &self,
        conn: &Conn,
        stream: StreamId,
        id: LeaseId,
        ttl: i64,
        stamp: Stamp,
    ) {
        let over = match conn
            .calls
            .borrow_mut()
            .get_mut(&stream)
            .map(|call| &mut call.state)
        {
            Some(CallState::KeepAlive {
                waiting,
                half_closed,
            }) => {
                *waiting -= 1;
                *half_closed && *waiting == 0
            }
            _ => return,
        };
        let header = self.shared.facts.origin.message(stamp);
        let response = LeaseKeepAliveResponse {
            header,
            id: id.0,
            ttl,
        };
        let encode = |out: &mut Vec<u8>| response.encode(out).expect("a vector grows");
        conn.grpc.borrow_mut().reply(stream, encode);
        self.shared
            .metrics
            .grpc
            .sent(crate::pb::Method::LeaseKeepAlive);
        if over {
            self.finish(conn, stream, &Status::OK);
        }
    }
}
