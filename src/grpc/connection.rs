//! Pure. Calls of one connection: from HTTP/2 events to gRPC's, and answers back.

use super::call::{Call, Deadlines, Kind, NEVER, PlainBody};
use super::message::{MESSAGE_PREFIX_SIZE, MessageError, MessageReader, message_prefix};
use super::metadata::Metadata;
use super::method::{MethodId, MethodTable};
use super::plain::head_block;
use super::status::{Code, Status};
use super::timeout::parse_timeout;
use crate::env::Monotonic;
use crate::http2::{self, ConnectionError, ErrorCode, Head, ShortValue, Slot, put_field};
use crate::ids::StreamId;
use crate::limits::http2 as limits;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// `:status 200`, `content-type: application/grpc`: indexed, and a literal of the static table's
/// name 31.
const RESPONSE_HEAD: &[u8] = b"\x88\x0f\x10\x10application/grpc";

/// `grpc-status: 0`, a literal with a literal name.
const TRAILERS_OK: &[u8] = b"\x00\x0bgrpc-status\x010";

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
    Message { stream: StreamId, bytes: Bytes, end: bool },
    /// The peer will send no more messages.
    HalfClosed { stream: StreamId },
    /// The call is over without our doing: the peer reset it, or sent what no call may.
    Canceled { stream: StreamId },
    /// The call's time is up; it was answered DEADLINE_EXCEEDED.
    DeadlinePassed { stream: StreamId },
    /// A sender that was told to wait can send again.
    Writable { stream: StreamId },
    /// A whole plain HTTP request; answer with `plain_*`.
    PlainRequest { stream: StreamId, head: Arc<Head>, body: Bytes },
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

/// DATA of which messages were not taken yet.
struct Unread {
    stream: StreamId,
    slot: Slot,
    bytes: Bytes,
    end: bool,
}

/// gRPC over one HTTP/2 connection. Pure; one per client connection, lives on one core.
pub struct GrpcConnection {
    pub(super) http2: http2::Connection,
    settings: GrpcSettings,
    methods: Arc<MethodTable>,
    /// By slot; the streams of `http2` and these may differ while events are under way, so each
    /// carries its stream's id.
    pub(super) calls: Vec<Call>,
    unread: Option<Unread>,
    /// Calls whose deadline has passed, not told yet.
    expired: VecDeque<StreamId>,
    deadlines: Deadlines,
    /// The sum of all calls' `held_bytes`.
    held: usize,
    /// Heads seen before, and what they mean.
    memo: Vec<(Arc<Head>, MethodId, Arc<Metadata>)>,
    memo_oldest: usize,
    /// The time of the last receive: deadlines count from it.
    now: Monotonic,
}

impl GrpcConnection {
    pub fn new(
        settings: GrpcSettings,
        methods: Arc<MethodTable>,
        now: Monotonic,
    ) -> GrpcConnection {
        let http2 = http2::Settings { varying_field: TIMEOUT_FIELD, ..settings.http2 };
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
                http2::Event::Headers { stream, slot, head, varying, end } => {
                    self.begin(stream, slot, head, varying, end)
                }
                http2::Event::Data { stream, slot, bytes, end } => {
                    self.unread = Some(Unread { stream, slot, bytes, end });
                    None
                }
                http2::Event::Reset { stream, slot, .. } => self.canceled(stream, slot),
                http2::Event::Writable { stream } => {
                    self.http2.is_open(stream).then_some(Event::Writable { stream })
                }
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
        below.map_or(first, |below| Some(first.map_or(below, |first| first.min(below))))
    }

    /// Does what is due; poll events afterwards. On `Err` send the output and close.
    pub fn tick(&mut self, now: Monotonic) -> Result<(), ConnectionError> {
        while let Some((deadline, stream)) = self.deadlines.pop_due(now) {
            let Some((_, call)) = self.open_call(stream) else { continue };
            if call.deadline == deadline {
                let message = "context deadline exceeded";
                self.finish(stream, &Status::new(Code::DeadlineExceeded, message));
                self.expired.push_back(stream);
            }
        }
        self.http2.tick(now)
    }

    /// Sends the response headers of a stream before its first message.
    pub fn respond(&mut self, stream: StreamId) {
        if let Some((slot, _)) = self.open_call(stream) {
            self.put_head(slot);
        }
    }

    /// Sends one message of a stream; `encode` appends it. `false`: the stream is gone, or enough
    /// is queued: wait for `Writable`. The message is taken nevertheless.
    pub fn reply(&mut self, stream: StreamId, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some((slot, _)) = self.open_call(stream) else { return false };
        self.put_head(slot);
        self.http2.data_unsized_at(slot, |out| {
            let start = out.len();
            out.extend_from_slice(&[0; MESSAGE_PREFIX_SIZE]);
            encode(out);
            let size = out.len() - start - MESSAGE_PREFIX_SIZE;
            let prefix = message_prefix(size);
            out[start..start + MESSAGE_PREFIX_SIZE].copy_from_slice(&prefix);
        })
    }

    /// `reply` of a message whose size is known: `encode` appends exactly `size` bytes.
    pub fn reply_sized(
        &mut self,
        stream: StreamId,
        size: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some((slot, _)) = self.open_call(stream) else { return false };
        self.put_head(slot);
        self.http2.data_at(slot, MESSAGE_PREFIX_SIZE + size, false, |out| {
            out.extend_from_slice(&message_prefix(size));
            encode(out);
        })
    }

    /// The whole answer of a unary call: headers, one message of exactly `size` bytes, status OK.
    #[inline]
    pub fn reply_unary(
        &mut self,
        stream: StreamId,
        size: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some((slot, call)) = self.open_call(stream) else { return };
        debug_assert_eq!(call.message_left, 0);
        let head = (!call.headers_sent).then_some(RESPONSE_HEAD);
        self.close_call(slot);
        let message = |out: &mut Vec<u8>| {
            out.extend_from_slice(&message_prefix(size));
            encode(out);
        };
        self.http2.whole_at(slot, head, MESSAGE_PREFIX_SIZE + size, message, TRAILERS_OK);
    }

    /// Begins a message of `size` bytes that comes in parts.
    pub fn message_start(&mut self, stream: StreamId, size: usize) {
        let Some((slot, call)) = self.open_call(stream) else { return };
        assert_eq!(call.message_left, 0, "the message before is whole");
        call.message_left = size;
        self.put_head(slot);
        self.http2.slice_at(slot, &message_prefix(size), false);
    }

    /// The next part of the begun message. `false`: wait for `Writable`, or the stream is gone.
    /// The part is taken nevertheless.
    pub fn message_part(&mut self, stream: StreamId, bytes: &[u8]) -> bool {
        let Some(slot) = self.pay_part(stream, bytes.len()) else { return false };
        self.http2.slice_at(slot, bytes, false)
    }

    /// The next part of the begun message: `size` bytes that `encode` appends, in place when they
    /// fit one frame.
    pub fn message_part_with(
        &mut self,
        stream: StreamId,
        size: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some(slot) = self.pay_part(stream, size) else { return false };
        self.http2.data_at(slot, size, false, encode)
    }

    fn pay_part(&mut self, stream: StreamId, size: usize) -> Option<Slot> {
        let (slot, call) = self.open_call(stream)?;
        let left = call.message_left.checked_sub(size);
        call.message_left = left.expect("parts are not longer than the message");
        Some(slot)
    }

    /// Ends a call. A begun message that is not whole resets the stream instead: no status could
    /// make up for it.
    pub fn finish(&mut self, stream: StreamId, status: &Status) {
        let Some((slot, call)) = self.open_call(stream) else { return };
        let headers_sent = call.headers_sent;
        if call.message_left > 0 {
            self.close_call(slot);
            self.http2.reset(stream, ErrorCode::INTERNAL_ERROR);
            return;
        }
        self.close_call(slot);
        if headers_sent && *status == Status::OK {
            self.http2.trailers_at(slot, TRAILERS_OK);
            return;
        }
        let mut block = Vec::with_capacity(64 + status.message.len());
        if !headers_sent {
            block.extend_from_slice(RESPONSE_HEAD);
        }
        status.put_fields(&mut block);
        self.http2.trailers_at(slot, &block);
    }

    /// Ends a call without a status.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        if let Some(slot) = self.http2.slot(stream) {
            self.close_if(slot, stream);
            self.http2.reset(stream, code);
        }
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

    /// Gives back buffers that an idle connection does not need.
    pub fn release_memory(&mut self) {
        self.http2.release_memory();
        if self.http2.stream_count() == 0 {
            self.calls = Vec::new();
            self.deadlines = Deadlines::default();
            self.expired.shrink_to_fit();
        }
    }

    /// A request's headers arrived.
    fn begin(
        &mut self,
        stream: StreamId,
        slot: Slot,
        head: Arc<Head>,
        varying: Option<ShortValue>,
        end: bool,
    ) -> Option<Event> {
        let known = self.memo.iter().find(|(known, ..)| Arc::ptr_eq(known, &head));
        let (method, metadata) = match known {
            Some((_, method, metadata)) => (*method, metadata.clone()),
            None => match self.understand(stream, &head) {
                Understood::Call(method, metadata) => (method, metadata),
                Understood::Answered => return None,
                Understood::Plain => return self.begin_plain(stream, slot, head, end),
            },
        };
        let mut deadline = NEVER;
        if let Some(value) = varying {
            match value.as_bytes().map_or_else(too_long, parse_timeout) {
                Ok(time) => deadline = self.now + time,
                Err(error) => {
                    let message = format!("malformed grpc-timeout: {error}");
                    self.abort(stream, 400, &Status::new(Code::Internal, message));
                    return None;
                }
            }
        }
        self.open(slot, Call {
            stream,
            kind: Kind::Grpc(MessageReader::default()),
            deadline,
            ..Call::closed()
        });
        let mut told = None;
        if deadline != NEVER {
            told = Some(deadline);
            let calls = &self.calls;
            let http2 = &self.http2;
            self.deadlines.push(deadline, stream, |deadline, stream| {
                let call = http2.slot(stream).and_then(|slot| calls.get(slot.index()));
                call.is_some_and(|call| call.stream == stream && call.deadline == deadline)
            });
        }
        if end {
            self.unread = Some(Unread { stream, slot, bytes: Bytes::new(), end });
        }
        Some(Event::Request { stream, method, metadata, deadline: told })
    }

    /// What a head that was not seen before means. Refusals are answered here, as grpc-go does.
    fn understand(&mut self, stream: StreamId, head: &Arc<Head>) -> Understood {
        let content_type = head.field("content-type").unwrap_or(b"");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if !is_grpc(content_type) {
            if self.settings.plain_http {
                return Understood::Plain;
            }
            let message = format!("invalid gRPC request content-type {:?}", text(content_type));
            self.abort(stream, 415, &Status::new(Code::InvalidArgument, message));
            return Understood::Answered;
        }
        if head.method() != b"POST" {
            let message = format!(
                "Received a HEADERS frame with :method {:?} which should be POST",
                text(head.method())
            );
            self.abort(stream, 405, &Status::new(Code::Internal, message));
            return Understood::Answered;
        }
        let method = match self.methods.find(head.path()) {
            Ok(method) => method,
            Err(unknown) => {
                self.abort(stream, 200, &unknown.status());
                return Understood::Answered;
            }
        };
        let encoding = head.field("grpc-encoding").unwrap_or(b"");
        if !matches!(encoding, b"" | b"identity") {
            let message = format!(
                "grpc: Decompressor is not installed for grpc-encoding {:?}",
                text(encoding)
            );
            self.abort(stream, 200, &Status::new(Code::Unimplemented, message));
            return Understood::Answered;
        }
        let metadata = Arc::new(Metadata::from_head(head));
        let entry = (head.clone(), method, metadata.clone());
        if self.memo.len() < limits::HEAD_MEMO_COUNT_MAX {
            self.memo.push(entry);
        } else {
            self.memo[self.memo_oldest] = entry;
            self.memo_oldest = (self.memo_oldest + 1) % limits::HEAD_MEMO_COUNT_MAX;
        }
        Understood::Call(method, metadata)
    }

    fn begin_plain(
        &mut self,
        stream: StreamId,
        slot: Slot,
        head: Arc<Head>,
        end: bool,
    ) -> Option<Event> {
        let kind = if end {
            Kind::Plain
        } else {
            Kind::PlainBody(Box::new(PlainBody { head: head.clone(), bytes: Vec::new() }))
        };
        self.open(slot, Call { stream, kind, ..Call::closed() });
        end.then(|| Event::PlainRequest { stream, head, body: Bytes::new() })
    }

    /// Refuses a request before it becomes a call.
    fn abort(&mut self, stream: StreamId, http_status: u16, status: &Status) {
        let Some(slot) = self.http2.slot(stream) else { return };
        let mut block = Vec::new();
        put_field(&mut block, ":status", http_status.to_string().as_bytes());
        put_field(&mut block, "content-type", b"application/grpc");
        status.put_fields(&mut block);
        self.http2.trailers_at(slot, &block);
    }

    /// Takes the next message off received DATA; what is left stays in `unread`.
    fn read_message(&mut self, mut unread: Unread) -> Option<Event> {
        let Unread { stream, slot, end, .. } = unread;
        let max = self.settings.message_bytes_max;
        let call = self.calls.get_mut(slot.index()).filter(|call| call.stream == stream)?;
        let held = call.held_bytes();
        let result = match &mut call.kind {
            Kind::Closed | Kind::Plain => return None,
            Kind::PlainBody(_) => return self.read_plain(unread),
            Kind::Grpc(reader) => reader.take(&mut unread.bytes, max),
        };
        let truncated = unread.bytes.is_empty()
            && end
            && matches!(&call.kind, Kind::Grpc(reader) if !reader.is_empty());
        self.held = self.held + call.held_bytes() - held;
        let result = match result {
            Ok(None) if truncated => Err(MessageError::Truncated),
            Ok(None) if self.held > limits::ASSEMBLY_BYTES_MAX => {
                Err(MessageError::Assembly { max: limits::ASSEMBLY_BYTES_MAX })
            }
            result => result,
        };
        match result {
            Ok(Some(bytes)) => {
                let last = end && unread.bytes.is_empty();
                if !unread.bytes.is_empty() {
                    self.unread = Some(unread);
                }
                Some(Event::Message { stream, bytes, end: last })
            }
            Ok(None) if end => Some(Event::HalfClosed { stream }),
            Ok(None) => None,
            Err(error) => {
                self.finish(stream, &error.status());
                Some(Event::Canceled { stream })
            }
        }
    }

    fn read_plain(&mut self, unread: Unread) -> Option<Event> {
        let Unread { stream, slot, bytes, end } = unread;
        let call = &mut self.calls[slot.index()];
        let Kind::PlainBody(body) = &mut call.kind else { return None };
        self.held += bytes.len();
        body.bytes.extend_from_slice(&bytes);
        if body.bytes.len() > limits::PLAIN_BODY_BYTES_MAX
            || self.held > limits::ASSEMBLY_BYTES_MAX
        {
            self.close_call(slot);
            if let Some(slot) = self.http2.slot(stream) {
                self.http2.trailers_at(slot, head_block(413, &[]).as_bytes());
            }
            return None;
        }
        if !end {
            return None;
        }
        self.held -= body.bytes.len();
        let Kind::PlainBody(body) = std::mem::replace(&mut call.kind, Kind::Plain) else {
            return None;
        };
        Some(Event::PlainRequest { stream, head: body.head, body: body.bytes.into() })
    }

    fn canceled(&mut self, stream: StreamId, slot: Slot) -> Option<Event> {
        let call = self.calls.get(slot.index()).filter(|call| call.stream == stream)?;
        let announced = matches!(call.kind, Kind::Grpc(_) | Kind::Plain);
        self.close_call(slot);
        announced.then_some(Event::Canceled { stream })
    }

    /// Puts a call at its slot.
    fn open(&mut self, slot: Slot, call: Call) {
        while self.calls.len() <= slot.index() {
            self.calls.push(Call::closed());
        }
        self.close_call(slot);
        self.calls[slot.index()] = call;
    }

    /// An announced gRPC call that can be answered.
    #[inline]
    fn open_call(&mut self, stream: StreamId) -> Option<(Slot, &mut Call)> {
        let slot = self.http2.slot(stream)?;
        let call = self.calls.get_mut(slot.index())?;
        (call.stream == stream && matches!(call.kind, Kind::Grpc(_))).then_some((slot, call))
    }

    #[inline]
    fn put_head(&mut self, slot: Slot) {
        let call = &mut self.calls[slot.index()];
        if !std::mem::replace(&mut call.headers_sent, true) {
            self.http2.headers_at(slot, RESPONSE_HEAD, false);
        }
    }

    fn close_if(&mut self, slot: Slot, stream: StreamId) {
        if self.calls.get(slot.index()).is_some_and(|call| call.stream == stream) {
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
        assert_eq!(self.held, self.calls.iter().map(Call::held_bytes).sum::<usize>());
        let live = self.calls.iter().filter(|call| call.deadline != NEVER).count();
        assert_eq!(self.deadlines.live, live);
    }

    /// Deadlines kept, those of ended calls among them.
    #[cfg(test)]
    pub fn deadline_count(&self) -> usize {
        self.deadlines.heap_size()
    }
}

/// What a head asks for.
enum Understood {
    Call(MethodId, Arc<Metadata>),
    Plain,
    /// It was refused.
    Answered,
}

fn too_long() -> Result<Duration, super::timeout::TimeoutError> {
    Err(super::timeout::TimeoutError::TooLong)
}

/// `application/grpc`, alone or with a subtype or parameters.
fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let Some((name, rest)) = content_type.split_at_checked(NAME.len()) else { return false };
    name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';'))
}
