//! Pure. A `WatchResponse` whose events are shared, and its wire form.

use crate::codec::{
    bytes_field_size, message_size, put_bytes_field, put_message_header, put_varint_field,
    varint_field_size,
};
use crate::ids::{ClusterId, MemberId, Term};
use crate::limits::watch as limits;
use bytes::Bytes;
use std::borrow::Cow;

/// What every response header of a member holds beside the revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub cluster: ClusterId,
    pub member: MemberId,
    pub term: Term,
}

impl Header {
    /// The size of the encoded `ResponseHeader` message.
    pub fn size(&self, revision: i64) -> usize {
        varint_field_size(1, self.cluster.0)
            + varint_field_size(2, self.member.0)
            + varint_field_size(3, revision as u64)
            + varint_field_size(4, self.term.0)
    }

    /// Appends the `ResponseHeader` as field 1 of a response.
    pub fn put(&self, revision: i64, out: &mut Vec<u8>) {
        put_message_header(out, 1, self.size(revision));
        put_varint_field(out, 1, self.cluster.0);
        put_varint_field(out, 2, self.member.0);
        put_varint_field(out, 3, revision as u64);
        put_varint_field(out, 4, self.term.0);
    }

    /// The size of field 1 as `put` writes it.
    pub fn field_size(&self, revision: i64) -> usize {
        message_size(1, self.size(revision))
    }
}

/// One response of a stream. May travel to another core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchResponse {
    /// -1 for a failed create and for a manual progress answer.
    pub watch_id: i64,
    /// The revision of the header.
    pub revision: i64,
    pub created: bool,
    pub canceled: bool,
    /// Another response follows with events of the same revision.
    pub fragment: bool,
    pub compact_revision: i64,
    pub cancel_reason: Cow<'static, str>,
    /// Encoded events, each a whole field 11.
    pub events: Vec<Bytes>,
    /// The sum of the sizes of `events`.
    pub(super) event_bytes: usize,
    /// Revisions within `events`.
    pub(super) revisions: u16,
    /// May be split when taken.
    pub(super) fragmentable: bool,
}

impl WatchResponse {
    pub(super) fn empty(watch_id: i64, revision: i64) -> WatchResponse {
        WatchResponse {
            watch_id,
            revision,
            created: false,
            canceled: false,
            fragment: false,
            compact_revision: 0,
            cancel_reason: Cow::Borrowed(""),
            events: Vec::new(),
            event_bytes: 0,
            revisions: 0,
            fragmentable: false,
        }
    }

    /// What the stream's bound counts for it; the driver gives the sum back by `Hub::drained`.
    pub fn cost(&self) -> usize {
        limits::RESPONSE_COST_BYTES
            + self.event_bytes
            + self.events.len() * limits::EVENT_COST_BYTES
    }

    /// The size of the encoded `WatchResponse`.
    pub fn encoded_size(&self, header: &Header) -> usize {
        header.field_size(self.revision)
            + varint_field_size(2, self.watch_id as u64)
            + varint_field_size(3, u64::from(self.created))
            + varint_field_size(4, u64::from(self.canceled))
            + varint_field_size(5, self.compact_revision as u64)
            + bytes_field_size(6, self.cancel_reason.len())
            + varint_field_size(7, u64::from(self.fragment))
            + self.event_bytes
    }

    /// Appends the encoded `WatchResponse`, in field order.
    pub fn encode(&self, header: &Header, out: &mut Vec<u8>) {
        header.put(self.revision, out);
        put_varint_field(out, 2, self.watch_id as u64);
        put_varint_field(out, 3, u64::from(self.created));
        put_varint_field(out, 4, u64::from(self.canceled));
        put_varint_field(out, 5, self.compact_revision as u64);
        put_bytes_field(out, 6, self.cancel_reason.as_bytes());
        put_varint_field(out, 7, u64::from(self.fragment));
        for event in &self.events {
            out.extend_from_slice(event);
        }
    }

    /// Splits as etcd does: each part below `bytes_max` unless one event alone is larger, all but
    /// the last flagged. Appends the parts to `into` and returns what they cost more than `self`.
    pub(super) fn split(self, bytes_max: usize, into: &mut Vec<WatchResponse>) -> usize {
        if !self.fragmentable || self.events.len() < 2 || self.worst_size(0) < bytes_max {
            into.push(self);
            return 0;
        }
        let cost = self.cost();
        let whole = WatchResponse {
            events: Vec::new(),
            event_bytes: 0,
            ..self
        };
        let first = into.len();
        let mut part = WatchResponse {
            fragment: true,
            ..whole.clone()
        };
        for event in self.events {
            if !part.events.is_empty() && part.worst_size(event.len()) >= bytes_max {
                into.push(std::mem::replace(
                    &mut part,
                    WatchResponse {
                        fragment: true,
                        ..whole.clone()
                    },
                ));
            }
            part.event_bytes += event.len();
            part.events.push(event);
        }
        part.fragment = false;
        into.push(part);
        into[first..].iter().map(WatchResponse::cost).sum::<usize>() - cost
    }

    /// The encoded size with `more` bytes of events and the largest possible header.
    fn worst_size(&self, more: usize) -> usize {
        const HEADER_BYTES_MAX: usize = 2 + 4 * 11;
        const FLAGS_BYTES_MAX: usize = 11 + 2;
        HEADER_BYTES_MAX + FLAGS_BYTES_MAX + self.event_bytes + more
    }
}
