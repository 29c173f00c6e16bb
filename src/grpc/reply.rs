//! Pure. Answers: messages, their parts, statuses.

use super::connection::GrpcConnection;
use super::message::{MESSAGE_PREFIX_SIZE, message_prefix};
use super::status::Status;
use crate::http2::{ErrorCode, Slot};
use crate::ids::StreamId;

/// `:status 200`, `content-type: application/grpc`: indexed, and a literal of the static table's
/// name 31.
const RESPONSE_HEAD: &[u8] = b"\x88\x0f\x10\x10application/grpc";

/// `grpc-status: 0`, a literal with a literal name.
const TRAILERS_OK: &[u8] = b"\x00\x0bgrpc-status\x010";

impl GrpcConnection {
    /// Sends the response headers of a stream before its first message.
    pub fn respond(&mut self, stream: StreamId) {
        if let Some((slot, _)) = self.open_call(stream) {
            self.put_head(slot);
        }
    }

    /// Sends one message of a stream; `encode` appends it. `false`: the stream is gone, or enough
    /// is queued: wait for `Writable`. The message is taken nevertheless.
    pub fn reply(&mut self, stream: StreamId, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some((slot, _)) = self.open_call(stream) else {
            return false;
        };
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
        let Some((slot, _)) = self.open_call(stream) else {
            return false;
        };
        self.put_head(slot);
        self.http2
            .data_at(slot, MESSAGE_PREFIX_SIZE + size, false, |out| {
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
        let Some((slot, call)) = self.open_call(stream) else {
            return;
        };
        debug_assert_eq!(call.message_left, 0);
        let head = (!call.headers_sent).then_some(RESPONSE_HEAD);
        self.close_call(slot);
        let message = |out: &mut Vec<u8>| {
            out.extend_from_slice(&message_prefix(size));
            encode(out);
        };
        self.http2
            .whole_at(slot, head, MESSAGE_PREFIX_SIZE + size, message, TRAILERS_OK);
    }

    /// Begins a message of `size` bytes that comes in parts.
    pub fn message_start(&mut self, stream: StreamId, size: usize) {
        let Some((slot, call)) = self.open_call(stream) else {
            return;
        };
        assert_eq!(call.message_left, 0, "the message before is whole");
        call.message_left = size;
        self.put_head(slot);
        self.http2.slice_at(slot, &message_prefix(size), false);
    }

    /// The next part of the begun message. `false`: wait for `Writable`, or the stream is gone.
    /// The part is taken nevertheless.
    pub fn message_part(&mut self, stream: StreamId, bytes: &[u8]) -> bool {
        let Some(slot) = self.pay_part(stream, bytes.len()) else {
            return false;
        };
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
        let Some(slot) = self.pay_part(stream, size) else {
            return false;
        };
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
        let Some((slot, call)) = self.open_call(stream) else {
            return;
        };
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

    #[inline]
    fn put_head(&mut self, slot: Slot) {
        let call = &mut self.calls[slot.index()];
        if !std::mem::replace(&mut call.headers_sent, true) {
            self.http2.headers_at(slot, RESPONSE_HEAD, false);
        }
    }
}
