//! Pure. Plain HTTP requests over HTTP/2: what curl and Prometheus send to a TLS port.

use super::call::Kind;
use super::connection::GrpcConnection;
use crate::http2::{HeaderBlock, put_field};
use crate::ids::StreamId;

impl GrpcConnection {
    /// Begins the answer to a `PlainRequest`. Names are in lower case.
    pub fn plain_start(&mut self, stream: StreamId, status: u16, fields: &[(&str, &str)]) {
        let Some(slot) = self.plain_slot(stream) else { return };
        let block = head_block(status, fields);
        self.calls[slot.index()].headers_sent = true;
        self.http2.headers_at(slot, block.as_bytes(), false);
    }

    /// A piece of the answer's body. `false`: wait for `Writable`, or the stream is gone.
    pub fn plain_part(&mut self, stream: StreamId, bytes: &[u8]) -> bool {
        let Some(slot) = self.plain_slot(stream) else { return false };
        self.http2.slice_at(slot, bytes, false)
    }

    /// Ends the answer.
    pub fn plain_end(&mut self, stream: StreamId) {
        if let Some(slot) = self.plain_slot(stream) {
            self.close_call(slot);
            self.http2.slice_at(slot, &[], true);
        }
    }

    /// A whole answer.
    pub fn plain_reply(
        &mut self,
        stream: StreamId,
        status: u16,
        fields: &[(&str, &str)],
        body: &[u8],
    ) {
        self.plain_start(stream, status, fields);
        if let Some(slot) = self.plain_slot(stream) {
            self.close_call(slot);
            self.http2.slice_at(slot, body, true);
        }
    }

    fn plain_slot(&self, stream: StreamId) -> Option<crate::http2::Slot> {
        let slot = self.http2.slot(stream)?;
        let call = self.calls.get(slot.index())?;
        let plain = call.stream == stream && matches!(call.kind, Kind::Plain);
        plain.then_some(slot)
    }
}

/// The fields of an answer.
pub fn head_block(status: u16, fields: &[(&str, &str)]) -> HeaderBlock {
    let mut bytes = Vec::new();
    put_field(&mut bytes, ":status", status.to_string().as_bytes());
    for (name, value) in fields {
        put_field(&mut bytes, name, value.as_bytes());
    }
    HeaderBlock::from(bytes)
}
