//! Pure. The client's end of a connection: raw and cheap, for load generators and tests.

use super::connection::{Connection, Event};
use super::error::{ConnectionError, ErrorCode};
use super::frame;
use super::hpack::Encoder;
use super::settings::{Role, Settings};
use crate::env::Monotonic;
use crate::ids::StreamId;
use crate::limits::http2 as limits;
use bytes::Bytes;

/// Request fields that were prepared on one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prepared(usize);

/// Fields, and the block that says them while the table stands still.
struct PreparedFields {
    fields: Vec<(String, Vec<u8>)>,
    block: Vec<u8>,
    /// `Encoder::inserted_count` when `block` was made; `usize::MAX`: not made.
    count: usize,
}

/// One connection of a client. One turn as a server's: `receive`, `poll_event` until `None`, send
/// what `output` holds, poll again. Events are `Response` (head, then trailers with `end`), `Data`,
/// `Reset`, `Writable`, `GoAway`, `Pong`. A stream is over after an event with `end` or `Reset`.
pub struct ClientConnection {
    inner: Connection,
    encoder: Encoder,
    prepared: Vec<PreparedFields>,
    next_stream: u32,
}

impl ClientConnection {
    /// A fresh connection; the preface and our SETTINGS are in the output. Requests may follow at
    /// once.
    pub fn new(settings: Settings, now: Monotonic) -> ClientConnection {
        ClientConnection {
            inner: Connection::with_role(Role::Client, settings, now),
            encoder: Encoder::new(limits::HPACK_TABLE_BYTES_MAX),
            prepared: Vec::new(),
            next_stream: 1,
        }
    }

    /// Remembers request fields, pseudo-fields first, names in lower case.
    pub fn prepare(&mut self, fields: &[(&str, &[u8])]) -> Prepared {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_vec()));
        let fields = fields.collect();
        self.prepared.push(PreparedFields {
            fields,
            block: Vec::new(),
            count: usize::MAX,
        });
        Prepared(self.prepared.len() - 1)
    }

    /// Opens a stream. `extra` is a header block appended to the prepared one (see `put_field`);
    /// `end`: no body follows. `None`: the server takes no more streams now, or none at all.
    pub fn open(&mut self, prepared: Prepared, extra: &[u8], end: bool) -> Option<StreamId> {
        let peer = self.inner.peer;
        if self.inner.is_closing()
            || self.inner.streams.count() >= peer.streams_max as usize
            || self.next_stream > frame::U31_MAX
        {
            return None;
        }
        if peer.table_bytes_max < limits::HPACK_TABLE_BYTES_MAX as u32
            && self.encoder.inserted_count() > 0
        {
            self.encoder.forget_table();
            self.prepared
                .iter_mut()
                .for_each(|prepared| prepared.count = usize::MAX);
        }
        let prepared = &mut self.prepared[prepared.0];
        if prepared.count != self.encoder.inserted_count() {
            prepared.block.clear();
            let before = self.encoder.inserted_count();
            self.encoder.encode(&prepared.fields, &mut prepared.block);
            let after = self.encoder.inserted_count();
            // A block that inserts is sent once.
            prepared.count = if before == after { after } else { usize::MAX };
        }
        let id = self.next_stream;
        self.next_stream += 2;
        self.inner.last_stream = id;
        let slot = self.inner.insert_stream(id, false, u64::MAX);
        if extra.is_empty() {
            self.inner.put_block(id, &prepared.block, end);
        } else {
            let block = [&prepared.block, extra].concat();
            self.inner.put_block(id, &block, end);
        }
        self.inner.streams.at_mut(slot).local_ended = end;
        Some(StreamId(id))
    }

    /// Sends bytes of a request's body. `false`: wait for `Writable`, or the stream is gone.
    pub fn send(&mut self, stream: StreamId, bytes: &[u8], end: bool) -> bool {
        self.inner.send_data(stream, bytes, end)
    }

    /// `send` without a copy of what has to wait.
    pub fn send_bytes(&mut self, stream: StreamId, bytes: Bytes, end: bool) -> bool {
        self.inner.send_bytes(stream, bytes, end)
    }

    /// Sends `size` bytes that `encode` appends, in place when they fit one frame.
    pub fn send_with(
        &mut self,
        stream: StreamId,
        size: usize,
        end: bool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some(slot) = self.inner.slot(stream) else {
            return false;
        };
        self.inner.data_at(slot, size, end, encode)
    }

    /// Gives up on a stream.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        self.inner.reset(stream, code);
    }

    pub fn receive(&mut self, bytes: &[u8], now: Monotonic) -> Result<(), ConnectionError> {
        self.inner.receive(bytes, now)
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.inner.poll_event()
    }

    pub fn output(&mut self) -> &mut Vec<u8> {
        self.inner.output()
    }

    pub fn ping(&mut self, payload: [u8; 8]) {
        self.inner.ping(payload);
    }

    pub fn goaway(&mut self, code: ErrorCode, debug: &str) {
        self.inner.goaway(code, debug);
    }

    pub fn tick(&mut self, now: Monotonic) -> Result<(), ConnectionError> {
        self.inner.tick(now)
    }

    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.inner.next_deadline()
    }

    pub fn wants_read(&self) -> bool {
        self.inner.wants_read()
    }

    pub fn stream_count(&self) -> usize {
        self.inner.stream_count()
    }

    pub fn is_closing(&self) -> bool {
        self.inner.is_closing()
    }

    pub fn pending_bytes(&self, stream: StreamId) -> usize {
        self.inner.pending_bytes(stream)
    }

    #[cfg(test)]
    pub fn check(&mut self) {
        self.inner.check();
    }
}
