//! Pure. Plain HTTP requests over HTTP/2: what curl and Prometheus send to a TLS port.

use super::call::{Call, Kind};
use super::connection::GrpcConnection;
use crate::http2::{HeaderBlock, Slot, put_field};
use crate::ids::StreamId;

impl GrpcConnection {
    /// Begins the answer to a `PlainRequest`. Names are in lower case.
    pub fn plain_start(&mut self, stream: StreamId, status: u16, fields: &[(&str, &str)]) {
        let Some((slot, _)) = self.plain_slot(stream) else {
            return;
        };
        self.calls[slot.index()].headers_sent = true;
        self.http2
            .headers_at(slot, head_block(status, fields).as_bytes(), false);
    }

    /// A piece of the answer's body; dropped when the request is HEAD. `false`: wait for
    /// `Writable`, or the stream is gone.
    pub fn plain_part(&mut self, stream: StreamId, bytes: &[u8]) -> bool {
        match self.plain_slot(stream) {
            Some((slot, false)) => self.http2.slice_at(slot, bytes, false),
            Some((_, true)) => true,
            None => false,
        }
    }

    /// Ends the answer.
    pub fn plain_end(&mut self, stream: StreamId) {
        if let Some((slot, _)) = self.plain_slot(stream) {
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
        if let Some((slot, is_head)) = self.plain_slot(stream) {
            self.close_call(slot);
            self.http2
                .slice_at(slot, if is_head { &[] } else { body }, true);
        }
    }

    /// The slot of a plain request that can be answered, and whether it is HEAD.
    fn plain_slot(&self, stream: StreamId) -> Option<(Slot, bool)> {
        let slot = self.http2.slot(stream)?;
        match self.calls.get(slot.index())? {
            Call {
                stream: at,
                kind: Kind::Plain { is_head },
                ..
            } if *at == stream => Some((slot, *is_head)),
            _ => None,
        }
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
