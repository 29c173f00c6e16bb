//! Pure. Header blocks in: requests, trailers, and a client's answers.

use super::connection::{Connection, Ending, Event, Slot};
use super::error::{ConnectionError, ErrorCode, Flood};
use super::frame::{self, FrameHeader};
use super::head::{Head, Response, check_trailers};
use super::hpack::ShortValue;
use super::receive::inner;
use super::settings::Role;
use super::stream::Stream;
use crate::env::Monotonic;
use crate::ids::StreamId;
use crate::limits::http2 as limits;
use bytes::Bytes;
use std::sync::Arc;

/// A header block whose CONTINUATIONs are still to come.
pub(super) struct OpenBlock {
    pub(super) stream: u32,
    end: bool,
    block: Vec<u8>,
    continuations: u32,
}

/// What a request's header block said.
enum Decoded {
    Head(Arc<Head>, Option<ShortValue>),
    /// The stream is reset with this code.
    Refused(ErrorCode),
}

impl Connection {
    pub(super) fn receive_headers(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        if header.stream == 0 {
            return Err(ConnectionError::StreamZero { kind: header.kind });
        }
        let block = inner(&header, payload)?;
        let end = header.has(frame::FLAG_END_STREAM);
        if header.has(frame::FLAG_END_HEADERS) {
            return self.receive_block(header.stream, block, end, now);
        }
        self.open_block = Some(OpenBlock {
            stream: header.stream,
            end,
            block: block.to_vec(),
            continuations: 0,
        });
        Ok(())
    }

    pub(super) fn receive_continuation(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        let Some(mut open) = self.open_block.take() else {
            let stream = header.stream;
            return Err(ConnectionError::ContinuationUnexpected { stream });
        };
        open.continuations += 1;
        if open.continuations > limits::CONTINUATIONS_MAX {
            return Err(ConnectionError::Flood(Flood::Continuations));
        }
        if open.block.len() + payload.len() > limits::HEADER_BLOCK_BYTES_MAX {
            return Err(ConnectionError::Flood(Flood::HeaderBlock));
        }
        open.block.extend_from_slice(payload);
        if header.has(frame::FLAG_END_HEADERS) {
            return self.receive_block(open.stream, &open.block, open.end, now);
        }
        self.open_block = Some(open);
        Ok(())
    }

    /// A whole header block: a request's, or its trailers'.
    fn receive_block(
        &mut self,
        id: u32,
        block: &[u8],
        end: bool,
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        if self.role == Role::Client {
            return self.receive_response(id, block, end, now);
        }
        if let Some(slot) = self.streams.slot(id) {
            return self.receive_trailers(slot, block, end, now);
        }
        if id.is_multiple_of(2) {
            return Err(ConnectionError::StreamParity { got: id });
        }
        if id <= self.last_stream {
            if self.ended.contains(&id) {
                // Trailers that crossed our end of the stream: only the table needs them.
                self.decoder.decode(block)?;
                return self.spend_idle(1, now);
            }
            return Err(ConnectionError::StreamNotNew {
                got: id,
                last: self.last_stream,
            });
        }
        self.last_stream = id;
        let decoded = self.decode_request(block)?;
        let closing = matches!(self.ending, Ending::Final { .. });
        let streams_max = self.settings.streams_max.min(limits::STREAMS_MAX);
        let refusal = match &decoded {
            _ if closing => Some(ErrorCode::REFUSED_STREAM),
            _ if self.streams.count() >= streams_max as usize => Some(ErrorCode::REFUSED_STREAM),
            Decoded::Refused(code) => Some(*code),
            Decoded::Head(..) => None,
        };
        if let Some(code) = refusal {
            self.spend_idle(1, now)?;
            self.put_reset(id, code);
            self.remember_ended(id);
            return Ok(());
        }
        let Decoded::Head(head, varying) = decoded else {
            unreachable!("refused above")
        };
        let content_left = head.content_length().unwrap_or(u64::MAX);
        if end && content_left != u64::MAX && content_left != 0 {
            self.spend_idle(1, now)?;
            self.put_reset(id, ErrorCode::PROTOCOL_ERROR);
            self.remember_ended(id);
            return Ok(());
        }
        self.idle_frames.earn(limits::IDLE_FRAMES_PER_REQUEST);
        let slot = self.insert_stream(id, end, content_left);
        self.events.push_back(Event::Headers {
            stream: StreamId(id),
            slot,
            head,
            varying,
            end,
        });
        Ok(())
    }

    pub(super) fn insert_stream(&mut self, id: u32, remote_ended: bool, content_left: u64) -> Slot {
        self.streams.insert(Stream {
            id,
            remote_ended,
            local_ended: false,
            ready: false,
            wants_writable: false,
            send_window: i64::from(self.peer.initial_window),
            receive_window: i64::from(self.settings.stream_window),
            unreturned: 0,
            content_left,
            queue: None,
        })
    }

    /// A server's header block: an answer's head, or its trailers.
    fn receive_response(
        &mut self,
        id: u32,
        block: &[u8],
        end: bool,
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        if id.is_multiple_of(2) || id > self.last_stream {
            return Err(ConnectionError::StreamParity { got: id });
        }
        let version = self.decoder.version();
        let known = self.responses.by_block(block, version);
        let known = match known {
            Some((response, _)) => Some(response),
            None => {
                self.decoder.decode(block)?;
                let version = Some(version).filter(|&before| before == self.decoder.version());
                self.responses
                    .by_fields(self.decoder.fields(), block, version)
            }
        };
        let Some(slot) = self.streams.slot(id) else {
            return self.spend_idle(1, now);
        };
        let response = match known {
            Some(response) => response,
            None => {
                let fields = self.decoder.fields();
                let Some(response) =
                    Response::from_fields(&self.decoder).filter(|_| !fields.too_large())
                else {
                    return self.refuse(slot, ErrorCode::PROTOCOL_ERROR, now);
                };
                let response = Arc::new(response);
                self.responses.remember(fields, &response);
                response
            }
        };
        self.idle_frames.earn(limits::IDLE_FRAMES_PER_REQUEST);
        let stream = StreamId(id);
        self.events.push_back(Event::Response {
            stream,
            slot,
            response,
            end,
        });
        if end {
            self.remove(slot);
        }
        Ok(())
    }

    #[inline]
    fn decode_request(&mut self, block: &[u8]) -> Result<Decoded, ConnectionError> {
        let version = self.decoder.version();
        if let Some((head, varying)) = self.memo.by_block(block, version) {
            return Ok(Decoded::Head(head, varying));
        }
        self.decoder.decode(block)?;
        let fields = self.decoder.fields();
        if fields.too_large() {
            // As grpc-go resets it.
            return Ok(Decoded::Refused(ErrorCode::FRAME_SIZE_ERROR));
        }
        let varying = fields.varying();
        let version = Some(version).filter(|&before| before == self.decoder.version());
        if let Some(head) = self.memo.by_fields(fields, block, version) {
            return Ok(Decoded::Head(head, varying));
        }
        let Ok(head) = Head::request(&self.decoder) else {
            return Ok(Decoded::Refused(ErrorCode::PROTOCOL_ERROR));
        };
        let head = Arc::new(head);
        self.memo.remember(fields, &head);
        Ok(Decoded::Head(head, varying))
    }

    fn receive_trailers(
        &mut self,
        slot: Slot,
        block: &[u8],
        end: bool,
        now: Monotonic,
    ) -> Result<(), ConnectionError> {
        self.decoder.decode(block)?;
        let fields = self.decoder.fields();
        let fine = end && !fields.too_large() && check_trailers(&self.decoder).is_ok();
        let stream = self.streams.at_mut(slot);
        if stream.remote_ended {
            return self.refuse(slot, ErrorCode::STREAM_CLOSED, now);
        }
        let short = stream.content_left != u64::MAX && stream.content_left != 0;
        if !fine || short {
            return self.refuse(slot, ErrorCode::PROTOCOL_ERROR, now);
        }
        stream.remote_ended = true;
        let stream = StreamId(stream.id);
        self.events.push_back(Event::Data {
            stream,
            slot,
            bytes: Bytes::new(),
            end: true,
        });
        Ok(())
    }
}
