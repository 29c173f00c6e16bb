//! Driver. Watch: a client's orders to the hub of the group, the hub's responses to the client.

use super::conn::{CallState, Conn};
use super::desk::Desk;
use crate::env::Env;
use crate::group::{Input, Stamp, Ticket};
use crate::ids::StreamId;
use crate::pb::Method;
use crate::pb::etcdserverpb::WatchRequest;
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::watch::{StreamInput, WatchResponse};
use bytes::Bytes;
use prost::Message;

impl<E: Env> Desk<E> {
    pub(super) fn watch_message(&self, conn: &Conn, stream: StreamId, body: Bytes) {
        let Ok(request) = WatchRequest::decode(body) else {
            return self.malformed(conn, stream);
        };
        let input = match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => StreamInput::Create(Box::new(request)),
            Some(RequestUnion::CancelRequest(request)) => StreamInput::Cancel {
                watch_id: request.watch_id,
            },
            Some(RequestUnion::ProgressRequest(_)) => StreamInput::Progress,
            // Of a newer client: nothing is asked that we know.
            None => return,
        };
        self.submit(conn, stream, |ticket| Input::Watch(input, ticket));
    }

    /// Sends what the hub queued for a stream; tells the hub when the client has taken it.
    pub(super) fn watched(
        &self,
        conn: &Conn,
        stream: StreamId,
        responses: Vec<WatchResponse>,
        stamp: Stamp,
    ) {
        let open = conn.calls.borrow().contains_key(&stream);
        if !open {
            return;
        }
        let header = self.shared.facts.origin.header(stamp);
        let mut cost = 0;
        let mut room = true;
        {
            let mut grpc = conn.grpc.borrow_mut();
            for response in &responses {
                cost += response.cost();
                let size = response.encoded_size(&header);
                room = grpc.reply_sized(stream, size, |out| response.encode(&header, out));
                self.shared.metrics.grpc.sent(Method::Watch);
                self.shared.metrics.events.add(response.events.len() as u64);
            }
        }
        let mut calls = conn.calls.borrow_mut();
        let Some(CallState::Watch { undrained }) =
            calls.get_mut(&stream).map(|call| &mut call.state)
        else {
            return;
        };
        *undrained += cost;
        let drained = if room { std::mem::take(undrained) } else { 0 };
        drop(calls);
        if drained > 0 {
            self.watch_drained(conn, stream, drained);
        }
    }

    pub(super) fn watch_drained(&self, conn: &Conn, stream: StreamId, cost: usize) {
        self.watch_input(conn, stream, StreamInput::Drained { cost });
    }

    pub(super) fn watch_closed(&self, conn: &Conn, stream: StreamId) {
        self.watch_input(conn, stream, StreamInput::Closed);
    }

    fn watch_input(&self, conn: &Conn, stream: StreamId, input: StreamInput) {
        let ticket = Ticket {
            core: self.shared.env.core(),
            conn: conn.id,
            stream,
        };
        let sent = self.shared.route.submit(Input::Watch(input, ticket));
        // A group that stopped has no streams left to tell; it refuses nothing else of a watch.
        debug_assert!(sent.is_ok() || conn.gone.get());
    }
}
