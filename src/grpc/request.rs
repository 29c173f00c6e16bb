//! Pure. Requests: what a head means, and messages out of DATA.

use super::call::{Call, Kind, NEVER, PlainBody};
use super::connection::{Event, GrpcConnection};
use super::message::{MessageError, MessageReader};
use super::metadata::Metadata;
use super::method::MethodId;
use super::plain::head_block;
use super::status::{Code, Status};
use super::timeout::{TimeoutError, parse_timeout};
use crate::http2::{Head, ShortValue, Slot, put_field};
use crate::ids::StreamId;
use crate::limits::http2 as limits;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// DATA of which messages were not taken yet.
pub(super) struct Unread {
    pub stream: StreamId,
    pub slot: Slot,
    pub bytes: Bytes,
    pub end: bool,
}

impl GrpcConnection {
    /// A request's headers arrived.
    pub(super) fn begin(
        &mut self,
        stream: StreamId,
        slot: Slot,
        head: Arc<Head>,
        varying: Option<ShortValue>,
        end: bool,
    ) -> Option<Event> {
        let known = self
            .memo
            .iter()
            .find(|(known, ..)| Arc::ptr_eq(known, &head));
        let (method, metadata) = match known {
            Some((_, method, metadata)) => (*method, metadata.clone()),
            None => match self.understand(stream, &head) {
                Understood::Call(method, metadata) => (method, metadata),
                Understood::Answered => return None,
                Understood::Plain => return self.begin_plain(stream, slot, head, end),
            },
        };
        if self.answers_wait() {
            let max = limits::UNREAD_BYTES_MAX;
            let message =
                format!("ringbolt: {max} bytes of answers wait to be read on this connection");
            self.abort(stream, 200, &Status::new(Code::ResourceExhausted, message));
            return None;
        }
        let mut deadline = NEVER;
        if let Some(value) = varying {
            match value.as_bytes().map_or_else(too_long, parse_timeout) {
                Ok(time) if time < limits::DEADLINE_MIN => {
                    self.abort(stream, 200, &Status::deadline_exceeded());
                    return None;
                }
                Ok(time) => deadline = self.now + time,
                Err(error) => {
                    let message = format!("malformed grpc-timeout: {error}");
                    self.abort(stream, 400, &Status::new(Code::Internal, message));
                    return None;
                }
            }
        }
        self.open(
            slot,
            Call {
                stream,
                kind: Kind::Grpc(MessageReader::default()),
                deadline,
                ..Call::closed()
            },
        );
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
            self.unread = Some(Unread {
                stream,
                slot,
                bytes: Bytes::new(),
                end,
            });
        }
        Some(Event::Request {
            stream,
            method,
            metadata,
            deadline: told,
        })
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
        if self.answers_wait() {
            self.http2
                .trailers_at(slot, head_block(503, &[]).as_bytes());
            return None;
        }
        let is_head = head.method() == b"HEAD";
        let kind = if end {
            Kind::Plain { is_head }
        } else {
            Kind::PlainBody(Box::new(PlainBody {
                head: head.clone(),
                bytes: Vec::new(),
            }))
        };
        self.open(
            slot,
            Call {
                stream,
                kind,
                ..Call::closed()
            },
        );
        end.then(|| Event::PlainRequest {
            stream,
            head,
            body: Bytes::new(),
        })
    }

    /// Answers of other calls wait for windows that the peer does not open. What is small enough to
    /// be answered at once has no other bound, and reading cannot stop: windows come this way, too.
    fn answers_wait(&self) -> bool {
        self.http2.queued_bytes() > limits::UNREAD_BYTES_MAX
    }

    /// Refuses a request before it becomes a call.
    fn abort(&mut self, stream: StreamId, http_status: u16, status: &Status) {
        let Some(slot) = self.http2.slot(stream) else {
            return;
        };
        let mut block = Vec::new();
        put_field(&mut block, ":status", http_status.to_string().as_bytes());
        put_field(&mut block, "content-type", b"application/grpc");
        status.put_fields(&mut block);
        self.http2.trailers_at(slot, &block);
    }

    /// Takes the next message off received DATA; what is left stays in `unread`.
    pub(super) fn read_message(&mut self, mut unread: Unread) -> Option<Event> {
        let Unread {
            stream, slot, end, ..
        } = unread;
        let max = self.settings.message_bytes_max;
        let call = self
            .calls
            .get_mut(slot.index())
            .filter(|call| call.stream == stream)?;
        let held = call.held_bytes();
        let result = match &mut call.kind {
            Kind::Closed | Kind::Plain { .. } => return None,
            Kind::PlainBody(_) => return self.read_plain(unread),
            Kind::Grpc(reader) => reader.take(&mut unread.bytes, max),
        };
        let cut = match &call.kind {
            Kind::Grpc(reader) if end && unread.bytes.is_empty() => reader.cut(),
            _ => None,
        };
        self.held = self.held + call.held_bytes() - held;
        let result = match (result, cut) {
            (Ok(None), Some(cut)) => Err(cut),
            (Ok(None), None) if self.held > limits::ASSEMBLY_BYTES_MAX => {
                Err(MessageError::Assembly {
                    max: limits::ASSEMBLY_BYTES_MAX,
                })
            }
            (result, _) => result,
        };
        match result {
            Ok(Some(bytes)) => {
                let last = end && unread.bytes.is_empty();
                if !unread.bytes.is_empty() {
                    self.unread = Some(unread);
                }
                Some(Event::Message {
                    stream,
                    bytes,
                    end: last,
                })
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
        let Unread {
            stream,
            slot,
            bytes,
            end,
        } = unread;
        let call = &mut self.calls[slot.index()];
        let Kind::PlainBody(body) = &mut call.kind else {
            return None;
        };
        self.held += bytes.len();
        body.bytes.extend_from_slice(&bytes);
        if body.bytes.len() > limits::PLAIN_BODY_BYTES_MAX || self.held > limits::ASSEMBLY_BYTES_MAX
        {
            self.close_call(slot);
            if let Some(slot) = self.http2.slot(stream) {
                self.http2
                    .trailers_at(slot, head_block(413, &[]).as_bytes());
            }
            return None;
        }
        if !end {
            return None;
        }
        self.held -= body.bytes.len();
        let is_head = body.head.method() == b"HEAD";
        let plain = Kind::Plain { is_head };
        let Kind::PlainBody(body) = std::mem::replace(&mut call.kind, plain) else {
            return None;
        };
        Some(Event::PlainRequest {
            stream,
            head: body.head,
            body: body.bytes.into(),
        })
    }

    pub(super) fn canceled(&mut self, stream: StreamId, slot: Slot) -> Option<Event> {
        let call = self
            .calls
            .get(slot.index())
            .filter(|call| call.stream == stream)?;
        let announced = matches!(call.kind, Kind::Grpc(_) | Kind::Plain { .. });
        self.close_call(slot);
        announced.then_some(Event::Canceled { stream })
    }
}

/// What a head asks for.
enum Understood {
    Call(MethodId, Arc<Metadata>),
    Plain,
    /// It was refused.
    Answered,
}

fn too_long() -> Result<Duration, TimeoutError> {
    Err(TimeoutError::TooLong)
}

/// `application/grpc`, alone or with a subtype or parameters.
fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let Some((name, rest)) = content_type.split_at_checked(NAME.len()) else {
        return false;
    };
    name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';'))
}
