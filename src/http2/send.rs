//! Pure. Frames out: answers, flow control, and the turn-taking of streams that wait for windows.

use super::connection::{Connection, Event, Slot};
use super::error::{ConnectionError, ErrorCode};
use super::frame::{self, FRAME_HEADER_SIZE};
use super::hpack::HeaderBlock;
use super::settings::Role;
use super::stream::SendQueue;
use crate::ids::StreamId;
use crate::limits::http2 as limits;
use bytes::Bytes;

/// A DATA frame at the end of the output buffer. More DATA of the same stream extends it instead of
/// beginning a new frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    stream: u32,
    /// Where its header begins.
    start: usize,
    /// Where its payload ends: the buffer's size when nothing came after it.
    end: usize,
}

impl Connection {
    /// Sends a header block; with `end` it is the whole answer.
    pub fn respond_headers(&mut self, stream: StreamId, block: &HeaderBlock, end: bool) {
        if let Some(slot) = self.streams.slot(stream.0) {
            self.headers_at(slot, block.as_bytes(), end);
        }
    }

    /// Sends bytes of the answer's body. `false`: the stream is gone, or enough is queued; wait
    /// for `Event::Writable`.
    pub fn send_data(&mut self, stream: StreamId, bytes: &[u8], end: bool) -> bool {
        let Some(slot) = self.streams.slot(stream.0) else {
            return false;
        };
        self.slice_at(slot, bytes, end)
    }

    /// Sends bytes of the answer's body without copying what has to wait.
    pub fn send_bytes(&mut self, stream: StreamId, bytes: Bytes, end: bool) -> bool {
        let Some(slot) = self.streams.slot(stream.0) else {
            return false;
        };
        if self.admits(slot, bytes.len()) {
            return self.data_at(slot, bytes.len(), end, |out| out.extend_from_slice(&bytes));
        }
        self.enqueue(slot, bytes, end)
    }

    /// Sends trailers behind all data, which ends the stream.
    pub fn send_trailers(&mut self, stream: StreamId, block: &HeaderBlock) {
        if let Some(slot) = self.streams.slot(stream.0) {
            self.trailers_at(slot, block.as_bytes());
        }
    }

    /// Ends a stream at once; what it had queued is dropped.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        if let Some(slot) = self.streams.slot(stream.0) {
            self.put_reset(stream.0, code);
            self.remember_ended(stream.0);
            self.remove(slot);
        }
    }

    /// Bytes of a stream that wait for its windows or for the socket's turn.
    pub fn pending_bytes(&self, stream: StreamId) -> usize {
        let slot = self.streams.slot(stream.0);
        let queue = slot.and_then(|slot| self.streams.at(slot).queue.as_ref());
        queue.map_or(0, |queue| queue.size)
    }

    /// The same of all streams.
    pub fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// The slot of an open stream.
    #[inline]
    pub fn slot(&self, stream: StreamId) -> Option<Slot> {
        self.streams.slot(stream.0)
    }

    /// A whole unary answer: `head` (unless it was sent), `size` bytes of DATA that `encode`
    /// appends, `trailers`. Written in place when the windows allow.
    #[inline]
    pub fn whole_at(
        &mut self,
        slot: Slot,
        head: Option<&[u8]>,
        size: usize,
        encode: impl FnOnce(&mut Vec<u8>),
        trailers: &[u8],
    ) {
        let blocks = head.map_or(0, <[u8]>::len) + trailers.len();
        if !self.admits(slot, size) || blocks > frame::PAYLOAD_SIZE_DEFAULT {
            if let Some(head) = head {
                self.headers_at(slot, head, false);
            }
            self.data_at(slot, size, false, encode);
            self.trailers_at(slot, trailers);
            return;
        }
        self.out.reserve(blocks + size + 3 * FRAME_HEADER_SIZE);
        let id = self.streams.at(slot).id;
        let flags = frame::FLAG_END_HEADERS;
        if let Some(head) = head {
            frame::put_frame(&mut self.out, frame::HEADERS, flags, id, head);
        }
        frame::put_header(&mut self.out, frame::DATA, 0, id, size);
        self.append(size, encode);
        let flags = frame::FLAG_END_HEADERS | frame::FLAG_END_STREAM;
        frame::put_frame(&mut self.out, frame::HEADERS, flags, id, trailers);
        self.send_window -= size as i64;
        self.earn_data(size);
        self.tail = None;
        self.end_at(slot);
    }

    /// Sends a header block on an open stream.
    pub fn headers_at(&mut self, slot: Slot, block: &[u8], end: bool) {
        if end {
            self.trailers_at(slot, block);
            return;
        }
        let id = self.streams.at(slot).id;
        self.put_block(id, block, false);
    }

    /// Sends a header block that ends the stream, behind what the stream has queued.
    pub fn trailers_at(&mut self, slot: Slot, block: &[u8]) {
        let stream = self.streams.at_mut(slot);
        let id = stream.id;
        if let Some(queue) = &mut stream.queue {
            if !queue.ended() {
                queue.trailers = Some(Bytes::copy_from_slice(block));
            }
            return;
        }
        self.put_block(id, block, true);
        self.end_at(slot);
    }

    /// Sends `size` bytes that `encode` appends: into the output when the windows allow, else into
    /// the stream's queue. `false`: enough is queued.
    #[inline]
    pub fn data_at(
        &mut self,
        slot: Slot,
        size: usize,
        end: bool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        if !self.admits(slot, size) {
            let mut bytes = Vec::with_capacity(size);
            encode(&mut bytes);
            assert_eq!(
                bytes.len(),
                size,
                "a message has the size that was announced"
            );
            return self.enqueue(slot, bytes.into(), end);
        }
        self.begin_data(slot, size, end);
        self.append(size, encode);
        self.end_data(slot, size, end);
        true
    }

    /// Sends bytes: as many as the windows admit into the output, the rest into the queue.
    pub fn slice_at(&mut self, slot: Slot, bytes: &[u8], end: bool) -> bool {
        let mut rest = bytes;
        loop {
            let window = self
                .send_window
                .min(self.streams.at(slot).send_window)
                .max(0);
            let max = self
                .frame_bytes_max()
                .min(usize::try_from(window).unwrap_or(usize::MAX));
            let size = rest.len().min(max);
            if !self.admits(slot, size) || (size == 0 && !rest.is_empty()) {
                return self.enqueue(slot, Bytes::copy_from_slice(rest), end);
            }
            let (part, tail) = rest.split_at(size);
            let last = tail.is_empty();
            self.begin_data(slot, size, end && last);
            self.out.extend_from_slice(part);
            self.end_data(slot, size, end && last);
            if last {
                return true;
            }
            rest = tail;
        }
    }

    /// Sends what `encode` appends, its size unknown before; it is encoded in place and moved to
    /// the queue if it does not fit. `encode` is given the buffer and where its part begins.
    pub fn data_unsized_at(&mut self, slot: Slot, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        if !self.admits(slot, 0) {
            let mut bytes = Vec::new();
            encode(&mut bytes);
            return self.enqueue(slot, bytes.into(), false);
        }
        let tail = self.tail;
        self.begin_data(slot, 0, false);
        let start = self.out.len();
        encode(&mut self.out);
        assert!(self.out.len() >= start, "an encoder only appends");
        let size = self.out.len() - start;
        if self.admits_size(slot, size) && self.grow_tail(size) {
            self.end_data(slot, size, false);
            return true;
        }
        let bytes = Bytes::copy_from_slice(&self.out[start..]);
        // Take the empty frame back too, unless it had bytes before this message.
        self.out.truncate(start);
        if let Some(begun) = self.tail
            && begun.start + FRAME_HEADER_SIZE == start
        {
            self.out.truncate(begun.start);
            self.tail = tail.filter(|tail| tail.end == begun.start);
        }
        self.enqueue(slot, bytes, false)
    }

    fn append(&mut self, size: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        encode(&mut self.out);
        assert_eq!(
            self.out.len() - start,
            size,
            "a message has the size that was announced"
        );
    }

    /// Whether `size` bytes of DATA may go out now, in one frame.
    #[inline]
    pub fn admits(&self, slot: Slot, size: usize) -> bool {
        self.streams.at(slot).queue.is_none()
            && self.out.len() < limits::OUTPUT_BYTES_MAX
            && self.admits_size(slot, size)
    }

    #[inline]
    fn admits_size(&self, slot: Slot, size: usize) -> bool {
        let window = self.send_window.min(self.streams.at(slot).send_window);
        size <= self.frame_bytes_max() && (size == 0 || size as i64 <= window)
    }

    #[inline]
    fn frame_bytes_max(&self) -> usize {
        self.peer.frame_bytes_max.min(limits::SEND_FRAME_BYTES_MAX)
    }

    /// Begins a DATA frame of `size` bytes, or extends the one at the end of the output.
    #[inline]
    fn begin_data(&mut self, slot: Slot, size: usize, end: bool) {
        let id = self.streams.at(slot).id;
        let flags = if end { frame::FLAG_END_STREAM } else { 0 };
        let extends = self
            .tail
            .is_some_and(|tail| tail.stream == id && tail.end == self.out.len());
        if extends && self.grow_tail(size) {
            if let Some(tail) = self.tail {
                self.out[tail.start + 4] |= flags;
            }
            return;
        }
        let start = self.out.len();
        frame::put_header(&mut self.out, frame::DATA, flags, id, size);
        self.tail = Some(Tail {
            stream: id,
            start,
            end: self.out.len() + size,
        });
    }

    /// Rewrites the size of the frame at the end of the output; `false` when it would be too big.
    fn grow_tail(&mut self, size: usize) -> bool {
        let frame_bytes_max = self.frame_bytes_max();
        let Some(tail) = &mut self.tail else {
            return false;
        };
        let grown = tail.end - tail.start - FRAME_HEADER_SIZE + size;
        if grown > frame_bytes_max {
            return false;
        }
        tail.end += size;
        let bytes = (grown as u32).to_be_bytes();
        self.out[tail.start..tail.start + 3].copy_from_slice(&bytes[1..]);
        true
    }

    /// Pays for a frame's payload.
    #[inline]
    fn end_data(&mut self, slot: Slot, size: usize, end: bool) {
        self.send_window -= size as i64;
        self.streams.at_mut(slot).send_window -= size as i64;
        self.earn_data(size);
        if end {
            self.tail = None;
            self.end_at(slot);
        }
    }

    /// A DATA frame went out: the peer may answer it with pings and window updates.
    #[inline]
    fn earn_data(&mut self, size: usize) {
        let more = size / limits::IDLE_FRAME_DATA_BYTES;
        self.idle_frames
            .earn(limits::IDLE_FRAMES_PER_DATA + more as u32);
        self.keeper.sent();
    }

    fn enqueue(&mut self, slot: Slot, bytes: Bytes, end: bool) -> bool {
        self.queued += bytes.len();
        self.queues_full |= self.queued > limits::CONNECTION_QUEUE_BYTES_MAX;
        let stream = self.streams.at_mut(slot);
        assert!(!stream.local_ended, "nothing follows the end of a stream");
        let queue = stream.queue.get_or_insert_default();
        assert!(!queue.ended(), "nothing follows the end of a stream");
        queue.size += bytes.len();
        queue.end = end;
        if !bytes.is_empty() {
            queue.chunks.push_back(bytes);
        }
        let room = queue.size < limits::STREAM_QUEUE_BYTES_HIGH;
        stream.wants_writable |= !room;
        self.make_ready(slot);
        room
    }

    /// Puts a stream that can send something in the queue of those.
    pub(super) fn make_ready(&mut self, slot: Slot) {
        let stream = self.streams.at_mut(slot);
        let Some(queue) = &stream.queue else { return };
        if !stream.ready && (stream.send_window > 0 || queue.size == 0) {
            stream.ready = true;
            self.ready.push_back((slot, StreamId(stream.id)));
        }
    }

    /// The peer's SETTINGS moved the window of every stream.
    pub(super) fn move_send_windows(&mut self, delta: i64) -> Result<(), ConnectionError> {
        let mut slots = Vec::new();
        for (slot, stream) in self.streams.iter_mut() {
            stream.send_window += delta;
            if stream.send_window > i64::from(frame::U31_MAX) {
                let window = stream.send_window - delta;
                let increment = u32::try_from(delta).unwrap_or(u32::MAX);
                return Err(ConnectionError::WindowOverflow { window, increment });
            }
            if stream.queue.is_some() {
                slots.push(slot);
            }
        }
        slots.into_iter().for_each(|slot| self.make_ready(slot));
        Ok(())
    }

    /// Moves queued DATA into the output, one frame per stream in turn, while windows and the
    /// output's target allow.
    pub(super) fn pump(&mut self) {
        while self.out.len() < limits::OUTPUT_BYTES_TARGET {
            let Some(&(slot, stream)) = self.ready.front() else {
                return;
            };
            if !self.streams.holds(slot, stream) {
                self.ready.pop_front();
                continue;
            }
            let queue_size = self
                .streams
                .at(slot)
                .queue
                .as_ref()
                .map_or(0, |queue| queue.size);
            if queue_size > 0 && self.send_window <= 0 {
                // Every stream behind it waits for the same window, but for one that only has its
                // end to send; that one waits for its turn.
                return;
            }
            self.ready.pop_front();
            self.streams.at_mut(slot).ready = false;
            self.pump_stream(slot);
        }
    }

    /// Sends one frame of a stream's queue, and its end when the queue is empty then.
    fn pump_stream(&mut self, slot: Slot) {
        let frame_bytes_max = self.frame_bytes_max();
        let stream = self.streams.at_mut(slot);
        let id = stream.id;
        let Some(mut queue) = stream.queue.take() else {
            return;
        };
        let window = self.send_window.min(stream.send_window).max(0);
        let size = queue
            .size
            .min(frame_bytes_max)
            .min(usize::try_from(window).unwrap_or(0));
        if size > 0 || (queue.size == 0 && queue.end) {
            let end = queue.end && size == queue.size;
            let flags = if end { frame::FLAG_END_STREAM } else { 0 };
            stream.send_window -= size as i64;
            self.send_window -= size as i64;
            self.tail = None;
            frame::put_header(&mut self.out, frame::DATA, flags, id, size);
            take_front(&mut queue, size, &mut self.out);
            self.queued -= size;
            self.earn_data(size);
            if end {
                self.end_at(slot);
                return;
            }
        }
        if queue.size == 0
            && let Some(trailers) = queue.trailers.take()
        {
            self.put_block(id, &trailers, true);
            self.end_at(slot);
            return;
        }
        let stream = self.streams.at_mut(slot);
        if stream.wants_writable && queue.size <= limits::STREAM_QUEUE_BYTES_LOW {
            stream.wants_writable = false;
            self.events.push_back(Event::Writable {
                stream: StreamId(id),
            });
        }
        if queue.size > 0 {
            self.streams.at_mut(slot).queue = Some(queue);
            self.make_ready(slot);
        }
    }

    /// Our side of the stream is over. A peer that has not finished is told to stop.
    fn end_at(&mut self, slot: Slot) {
        let stream = self.streams.at_mut(slot);
        let (id, remote_ended) = (stream.id, stream.remote_ended);
        if self.role == Role::Client && !remote_ended {
            // The answer is still to come.
            stream.local_ended = true;
            return;
        }
        if !remote_ended {
            self.put_reset(id, ErrorCode::NO_ERROR);
            self.remember_ended(id);
        }
        // An answered request pays for a reset: clients that use us may cancel.
        self.resets.earn(1);
        self.remove(slot);
    }

    #[inline]
    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some(queue) = self.streams.remove(slot) {
            self.queued -= queue.size;
        }
    }

    pub(super) fn remember_ended(&mut self, id: u32) {
        if self.ended.len() == limits::ENDED_STREAMS_REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(id);
    }

    pub(super) fn put_reset(&mut self, id: u32, code: ErrorCode) {
        self.tail = None;
        frame::put_reset(&mut self.out, id, code.0);
    }

    pub(super) fn put_window_update(&mut self, id: u32, increment: u32) {
        self.tail = None;
        frame::put_window_update(&mut self.out, id, increment);
    }

    pub(super) fn put_block(&mut self, id: u32, block: &[u8], end: bool) {
        self.tail = None;
        self.keeper.sent();
        let payload_max = self.peer.frame_bytes_max;
        frame::put_header_block(&mut self.out, id, block, end, payload_max);
    }
}

/// Moves the first `size` bytes of a queue to `out`.
fn take_front(queue: &mut SendQueue, size: usize, out: &mut Vec<u8>) {
    let mut left = size;
    while left > 0 {
        let chunk = queue
            .chunks
            .front_mut()
            .expect("the queue holds `size` bytes or more");
        let count = chunk.len().min(left);
        out.extend_from_slice(&chunk[..count]);
        left -= count;
        if count == chunk.len() {
            queue.chunks.pop_front();
        } else {
            bytes::Buf::advance(chunk, count);
        }
    }
    queue.size -= size;
}
