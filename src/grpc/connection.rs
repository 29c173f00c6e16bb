//! Pure. Calls of one connection: from HTTP/2 events to gRPC's, and answers back.

use super::call::{Call, Deadlines, Kind, NEVER};
use super::metadata::Metadata;
use super::method::{MethodId, MethodTable};
use super::request::Unread;
use super::status::Status;
use crate::env::Monotonic;
use crate::http2::{self, ConnectionError, ErrorCode, Head, Slot};
use crate::ids::StreamId;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// The field that changes with every request.
const TIMEOUT_FIELD: &[u8] = b"grpc-timeout";

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// A call began. Its messages follow.
    Request {
        stream: StreamId,
        method: MethodId,
        metadata: Arc<Metadata>,
        deadline: Option<Monotonic>,
    },
    /// One whole message. `end`: the peer half-closed with it, and no `HalfClosed` follows.
    Message {
        stream: StreamId,
        bytes: Bytes,
        end: bool,
    },
    /// The peer will send no more messages.
    HalfClosed { stream: StreamId },
    /// The call is over without our doing: the peer reset it, or sent what no call may.
    Canceled { stream: StreamId },
    /// The call's time is up; it was answered DEADLINE_EXCEEDED.
    DeadlinePassed { stream: StreamId },
    /// A sender that was told to wait can send again.
    Writable { stream: StreamId },
    /// A whole plain HTTP request; answer with `plain_*`.
    PlainRequest {
        stream: StreamId,
        head: Arc<Head>,
        body: Bytes,
    },
}

/// How a listener treats its connections.
#[derive(Clone, Copy, Debug)]
pub struct GrpcSettings {
    pub http2: http2::Settings,
    /// Bytes of the largest message that is taken.
    pub message_bytes_max: usize,
    /// Requests that are not gRPC are handed out as `PlainRequest` instead of being refused.
    pub plain_http: bool,
}

impl Default for GrpcSettings {
    /// etcd's: 1.5 MiB requests and half a MiB around them.
    fn default() -> GrpcSettings {
        GrpcSettings {
            http2: http2::Settings::default(),
            message_bytes_max: 2 << 20,
            plain_http: false,
        }
    }
}

/// gRPC over one HTTP/2 connection. Pure; one per client connection, lives on one core.
pub struct GrpcConnection {
    pub(super) http2: http2::Connection,
    pub(super) settings: GrpcSettings,
    pub(super) methods: Arc<MethodTable>,
    /// By slot; the streams of `http2` and these may differ while events are under way, so each
    /// carries its stream's id.
    pub(super) calls: Vec<Call>,
    pub(super) unread: Option<Unread>,
    /// Calls whose deadline has passed, not told yet.
    expired: VecDeque<StreamId>,
    pub(super) deadlines: Deadlines,
    /// The sum of all calls' `held_bytes`.
    pub(super) held: usize,
    /// Heads seen before, and what they mean.
    pub(super) memo: Vec<(Arc<Head>, MethodId, Arc<Metadata>)>,
    pub(super) memo_oldest: usize,
    /// The time of the last receive: deadlines count from it.
    pub(super) now: Monotonic,
}

impl GrpcConnection {
    pub fn new(
        settings: GrpcSettings,
        methods: Arc<MethodTable>,
        now: Monotonic,
    ) -> GrpcConnection {
        let http2 = http2::Settings {
            varying_field: TIMEOUT_FIELD,
            ..settings.http2
        };
        GrpcConnection {
            http2: http2::Connection::new(http2, now),
            settings,
            methods,
            calls: Vec::new(),
            unread: None,
            expired: VecDeque::new(),
            deadlines: Deadlines::default(),
            held: 0,
            memo: Vec::new(),
            memo_oldest: 0,
            now,
        }
    }

    /// Takes bytes from the socket, all of them. On `Err` send the output and close.
    pub fn receive(&mut self, bytes: &[u8], now: Monotonic) -> Result<(), ConnectionError> {
        self.now = now;
        self.http2.receive(bytes, now)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(unread) = self.unread.take() {
                if let Some(event) = self.read_message(unread) {
                    return Some(event);
                }
                continue;
            }
            let event = match self.http2.poll_event() {
                Some(event) => event,
                None => {
                    let stream = self.expired.pop_front()?;
                    return Some(Event::DeadlinePassed { stream });
                }
            };
            let event = match event {
                http2::Event::Headers {
                    stream,
                    slot,
                    head,
                    varying,
                    end,
                } => self.begin(stream, slot, head, varying, end),
                http2::Event::Data {
                    stream,
                    slot,
                    bytes,
                    end,
                } => {
                    self.unread = Some(Unread {
                        stream,
                        slot,
                        bytes,
                        end,
                    });
                    None
                }
                http2::Event::Reset { stream, slot, .. } => self.canceled(stream, slot),
                http2::Event::Writable { stream } => self
                    .http2
                    .is_open(stream)
                    .then_some(Event::Writable { stream }),
                http2::Event::Response { .. }
                | http2::Event::GoAway { .. }
                | http2::Event::Pong { .. } => None,
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// Bytes for the socket; the caller takes or drains them.
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.http2.output()
    }

    /// Whether the driver should go on receiving. No: send first.
    pub fn wants_read(&self) -> bool {
        self.http2.wants_read()
    }

    /// When `tick` has something to do.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let below = self.http2.next_deadline();
        let first = self.deadlines.first();
        below.map_or(first, |below| {
            Some(first.map_or(below, |first| first.min(below)))
        })
    }

    /// Does what is due; poll events afterwards. On `Err` send the output and close.
    pub fn tick(&mut self, now: Monotonic) -> Result<(), ConnectionError> {
        while let Some((deadline, stream)) = self.deadlines.pop_due(now) {
            let Some((_, call)) = self.open_call(stream) else {
                continue;
            };
            if call.deadline == deadline {
                self.finish(stream, &Status::deadline_exceeded());
                self.expired.push_back(stream);
            }
        }
        if self.http2.is_quiet(now) {
            self.release_memory();
        }
        self.http2.tick(now)
    }

    /// Bytes of a stream's answer that wait for the peer's windows.
    pub fn pending_bytes(&self, stream: StreamId) -> usize {
        self.http2.pending_bytes(stream)
    }

    /// Whether a call can still be answered.
    pub fn is_open(&self, stream: StreamId) -> bool {
        let slot = self.http2.slot(stream);
        slot.is_some_and(|slot| {
            let call = self.calls.get(slot.index());
            call.is_some_and(|call| call.stream == stream && !matches!(call.kind, Kind::Closed))
        })
    }

    /// Ends the connection for a reason of ours; open calls may finish.
    pub fn goaway(&mut self, code: ErrorCode, debug: &str) {
        self.http2.goaway(code, debug);
    }

    /// Ends gracefully; close when `is_idle`.
    pub fn drain(&mut self, now: Monotonic) {
        self.http2.drain(now);
    }

    pub fn ping(&mut self, payload: [u8; 8]) {
        self.http2.ping(payload);
    }

    /// Streams that have not ended.
    pub fn stream_count(&self) -> usize {
        self.http2.stream_count()
    }

    pub fn is_idle(&self) -> bool {
        self.http2.is_idle()
    }

    pub fn is_closing(&self) -> bool {
        self.http2.is_closing()
    }

    /// Gives back what no call needs; the connection below does the same.
    fn release_memory(&mut self) {
        if self.http2.stream_count() == 0 {
            self.calls = Vec::new();
            self.deadlines = Deadlines::default();
            self.expired.shrink_to_fit();
        }
    }

    /// Puts a call at its slot.
    pub(super) fn open(&mut self, slot: Slot, call: Call) {
        while self.calls.len() <= slot.index() {
            self.calls.push(Call::closed());
        }
        self.close_call(slot);
        self.calls[slot.index()] = call;
    }

    /// An announced gRPC call that can be answered.
    #[inline]
    pub(super) fn open_call(&mut self, stream: StreamId) -> Option<(Slot, &mut Call)> {
        let slot = self.http2.slot(stream)?;
        let call = self.calls.get_mut(slot.index())?;
        (call.stream == stream && matches!(call.kind, Kind::Grpc(_))).then_some((slot, call))
    }

    pub(super) fn close_if(&mut self, slot: Slot, stream: StreamId) {
        if self
            .calls
            .get(slot.index())
            .is_some_and(|call| call.stream == stream)
        {
            self.close_call(slot);
        }
    }

    /// Forgets the call at a slot; its stream may still have an answer to send.
    #[inline]
    pub(super) fn close_call(&mut self, slot: Slot) {
        let call = &mut self.calls[slot.index()];
        if matches!(call.kind, Kind::Closed) {
            return;
        }
        self.held -= call.held_bytes();
        if call.deadline != NEVER {
            self.deadlines.live -= 1;
        }
        *call = Call::closed();
    }

    /// The relations between the fields; tests call it after every step.
    #[cfg(test)]
    pub fn check(&mut self) {
        self.http2.check();
        assert_eq!(
            self.held,
            self.calls.iter().map(Call::held_bytes).sum::<usize>()
        );
        let live = self
            .calls
            .iter()
            .filter(|call| call.deadline != NEVER)
            .count();
        assert_eq!(self.deadlines.live, live);
    }

    /// Deadlines kept, those of ended calls among them.
    #[cfg(test)]
    pub fn deadline_count(&self) -> usize {
        self.deadlines.heap_size()
    }
}
