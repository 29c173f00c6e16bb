//! Driver. The KV service's hot calls: put, range, delete, txn.

use super::conn::{CallState, Conn, Read};
use super::desk::Desk;
use super::errors::EtcdError;
use super::range::Tail;
use crate::apply::{
    DeleteRequestRef, Kind, PutRequestRef, ReadTxnError, Response, quota, range_spec, read_txn,
    validate,
};
use crate::env::Env;
use crate::group::{Input, Query, Stamp};
use crate::grpc::{Code, Status};
use crate::ids::StreamId;
use crate::limits::server as limits;
use crate::mvcc::{Progress, RangeError, RangeResponseSink, RangeScan, View};
use crate::pb::etcdserverpb::{RangeRequest, TxnRequest};
use crate::pb::{METHODS, MethodKind};
use bytes::Bytes;
use prost::Message;
use std::rc::Rc;

impl From<RangeError> for EtcdError {
    fn from(error: RangeError) -> EtcdError {
        match error {
            RangeError::Future { .. } => EtcdError::FutureRevision,
            RangeError::Compacted { .. } => EtcdError::Compacted,
            RangeError::Corrupt(_) => EtcdError::Corrupt,
        }
    }
}

impl<E: Env> Desk<E> {
    pub(super) fn put(&self, conn: &Conn, stream: StreamId, body: Bytes) {
        let Some(put) = PutRequestRef::decode(&body) else {
            return self.malformed(conn, stream);
        };
        if let Err(error) = validate::put_ref(&put) {
            return self.fail(conn, stream, error.into());
        }
        let cost = quota::put_cost(put.key, put.value);
        self.propose_call(conn, stream, Kind::Put, body, cost);
    }

    pub(super) fn delete_range(&self, conn: &Conn, stream: StreamId, body: Bytes) {
        let Some(delete) = DeleteRequestRef::decode(&body) else {
            return self.malformed(conn, stream);
        };
        if delete.key.is_empty() {
            return self.fail(conn, stream, EtcdError::EmptyKey);
        }
        self.propose_call(conn, stream, Kind::DeleteRange, body, 0);
    }

    pub(super) fn txn(&self, conn: &Rc<Conn>, stream: StreamId, body: Bytes) {
        let Ok(request) = TxnRequest::decode(body.clone()) else {
            return self.malformed(conn, stream);
        };
        if let Err(error) = validate::txn(&request, self.shared.facts.txn_ops_max) {
            return self.fail(conn, stream, error.into());
        }
        if validate::txn_is_read_only(&request) {
            let linearizable = !validate::txn_is_serializable(&request);
            return self.read_call(conn, stream, Read::Txn(request), linearizable);
        }
        let cost = quota::txn_cost(&request);
        self.propose_call(conn, stream, Kind::Txn, body, cost);
    }

    pub(super) fn range(&self, conn: &Rc<Conn>, stream: StreamId, body: Bytes) {
        let Ok(request) = RangeRequest::decode(body) else {
            return self.malformed(conn, stream);
        };
        if let Err(error) = validate::range(&request) {
            return self.fail(conn, stream, error.into());
        }
        let linearizable = !request.serializable;
        self.read_call(conn, stream, Read::Range(request), linearizable);
    }

    pub(super) fn range_stream(&self, conn: &Rc<Conn>, stream: StreamId, body: Bytes) {
        let Ok(request) = RangeRequest::decode(body) else {
            return self.malformed(conn, stream);
        };
        if let Err(error) = validate::range(&request) {
            return self.fail(conn, stream, error.into());
        }
        // Ascending by key is the order that chunks have anyway.
        // Another target without an order passes too, and sorts as in a unary range (quirk 1).
        let plain =
            request.sort_order == 0 || (request.sort_target == 0 && request.sort_order == 1);
        if !plain {
            return self.fail(conn, stream, EtcdError::RangeStreamSort);
        }
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if filters.iter().any(|filter| *filter != 0) {
            return self.fail(conn, stream, EtcdError::RangeStreamFilters);
        }
        let linearizable = !request.serializable;
        self.read_call(conn, stream, Read::RangeStream(request), linearizable);
    }

    /// What grpc-go says of a message that is not one, without the library's own words.
    pub(super) fn malformed(&self, conn: &Conn, stream: StreamId) {
        let method = conn.calls.borrow().get(&stream).map(|call| call.method);
        let kind = method.map(|method| METHODS[method as usize].kind);
        let text = match kind {
            Some(MethodKind::Unary) | None => {
                "grpc: error unmarshalling request: the message is malformed"
            }
            Some(MethodKind::ServerStream | MethodKind::BidiStream) => {
                "grpc: failed to unmarshal the received message: the message is malformed"
            }
        };
        self.finish(conn, stream, &Status::new(Code::Internal, text));
    }

    fn propose_call(&self, conn: &Conn, stream: StreamId, kind: Kind, body: Bytes, cost: u64) {
        if body.len() > self.shared.facts.request_bytes_max {
            return self.fail(conn, stream, EtcdError::RequestTooLarge);
        }
        self.wait_for(conn, stream, CallState::Applied);
        self.submit(conn, stream, |ticket| Input::Propose {
            kind,
            body,
            cost,
            ticket,
        });
    }

    fn read_call(&self, conn: &Rc<Conn>, stream: StreamId, read: Read, linearizable: bool) {
        self.wait_for(conn, stream, CallState::View(Box::new(read)));
        if let Some((view, stamp)) = self.shared.route.view_now() {
            return self.read(conn, stream, view, stamp);
        }
        self.submit(conn, stream, |ticket| {
            Input::Query(Query::View { linearizable }, ticket)
        });
    }

    /// The view that a call waited for is here.
    pub(super) fn read(&self, conn: &Rc<Conn>, stream: StreamId, view: View, stamp: Stamp) {
        let read = {
            let mut calls = conn.calls.borrow_mut();
            let Some(call) = calls.get_mut(&stream) else {
                return;
            };
            match std::mem::replace(&mut call.state, CallState::Applied) {
                CallState::View(read) => *read,
                // Timed out and answered, and the stream number belongs to nobody else.
                other => return call.state = other,
            }
        };
        // The CORRUPT alarm stops no read: etcd 3.7 serves them beside its appliers.
        self.shared.metrics.ranges.inc();
        match read {
            Read::Range(request) => self.read_range(conn, stream, request, view, stamp),
            Read::RangeStream(request) => self.send_chunks(conn, stream, request, view, stamp),
            Read::Txn(request) => self.answer_txn(conn, stream, &request, &view, stamp),
        }
    }

    fn answer_txn(
        &self,
        conn: &Conn,
        stream: StreamId,
        request: &TxnRequest,
        view: &View,
        stamp: Stamp,
    ) {
        match read_txn(request, view) {
            Ok(response) => {
                let response = Response::Txn(response);
                let header = self.shared.facts.origin.header(stamp);
                let size = response.encoded_size(&header);
                self.reply(conn, stream, size, |out| response.encode(&header, out));
            }
            Err(ReadTxnError::Refused(error)) => self.fail(conn, stream, error.into()),
            Err(ReadTxnError::Fault(fault)) => {
                tracing::error!(error = %fault, "a read met damaged data");
                self.fail(conn, stream, EtcdError::Corrupt);
            }
        }
    }

    /// Small answers at once; others by a task, in slices.
    fn read_range(
        &self,
        conn: &Rc<Conn>,
        stream: StreamId,
        request: RangeRequest,
        view: View,
        stamp: Stamp,
    ) {
        let mut scan = match RangeScan::new(view.clone(), range_spec(&request)) {
            Ok(scan) => scan,
            Err(error) => return self.fail(conn, stream, error.into()),
        };
        let mut scratch = self.shared.scratch.take();
        scratch.clear();
        let mut slices = 0;
        let done = loop {
            let mut sink = RangeResponseSink(&mut scratch);
            match scan.slice(limits::RANGE_FIRST_ENTRIES, &mut sink) {
                Ok(Progress::Done) => break Ok(true),
                Ok(Progress::More) => {}
                Err(error) => break Err(error),
            }
            slices += 1;
            if slices == limits::RANGE_FIRST_SLICES || scratch.len() > limits::RANGE_FIRST_BYTES {
                break Ok(false);
            }
        };
        match done {
            Ok(true) => {
                let tail = Tail::of(&scan.totals().expect("the scan is done"));
                let header = self.shared.facts.origin.header(stamp);
                let size = header.field_size(stamp.revision) + scratch.len() + tail.size();
                self.reply(conn, stream, size, |out| {
                    header.put(stamp.revision, out);
                    out.extend_from_slice(&scratch);
                    tail.put(out);
                });
            }
            Ok(false) => self.send_range(conn, stream, request, view, stamp),
            Err(error) => {
                tracing::error!(error = %error, "a read met damaged data");
                self.fail(conn, stream, EtcdError::Corrupt);
            }
        }
        scratch.shrink_to(limits::RANGE_FIRST_BYTES * 2);
        *self.shared.scratch.borrow_mut() = scratch;
    }
}
