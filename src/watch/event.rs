//! Pure. One change as watchers see it, encoded at most twice and then shared.

use super::RevisionLog;
use crate::codec::{message_size, put_message_header, put_varint_field};
use crate::ids::Revision;
use bytes::Bytes;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    Put,
    Delete,
}

/// A change on its way to watchers.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub kind: EventKind,
    pub revision: Revision,
    pub key: &'a [u8],
    /// The encoded `KeyValue` of the event: of a delete it has key and mod revision only.
    pub kv: &'a [u8],
    /// False when it is known that the key did not exist before: then nobody looks for it.
    pub may_have_previous: bool,
}

/// Field number of `events` in `WatchResponse`.
const EVENTS: u32 = 11;

/// An event as a whole field 11, without and with the previous value, made when first wanted.
pub(super) struct Encoded<'a> {
    pub event: Event<'a>,
    plain: Option<Bytes>,
    with_previous: Option<Bytes>,
}

impl<'a> Encoded<'a> {
    pub fn new(event: Event<'a>) -> Encoded<'a> {
        Encoded {
            event,
            plain: None,
            with_previous: None,
        }
    }

    #[inline]
    pub fn field<L: RevisionLog>(&mut self, previous: bool, log: &L) -> Result<Bytes, L::Error> {
        let made = if previous {
            &self.with_previous
        } else {
            &self.plain
        };
        match made {
            Some(bytes) => Ok(bytes.clone()),
            None => self.make(previous, log),
        }
    }

    #[cold]
    fn make<L: RevisionLog>(&mut self, previous: bool, log: &L) -> Result<Bytes, L::Error> {
        if !previous {
            let field = encode(self.event.kind, self.event.kv, None);
            self.plain = Some(field.clone());
            return Ok(field);
        }
        let before = match self.event.may_have_previous {
            true => log.previous(self.event.key, self.event.revision)?,
            false => None,
        };
        let field = match before {
            Some(kv) => encode(self.event.kind, self.event.kv, Some(&kv)),
            None => self.field(false, log)?,
        };
        self.with_previous = Some(field.clone());
        Ok(field)
    }
}

/// `Event { 1 type, 2 kv, 3 prev_kv }` as field 11 of a `WatchResponse`.
fn encode(kind: EventKind, kv: &[u8], previous: Option<&[u8]>) -> Bytes {
    let kind = u64::from(kind == EventKind::Delete);
    let size = 2 * kind as usize
        + message_size(2, kv.len())
        + previous.map_or(0, |kv| message_size(3, kv.len()));
    let mut out = Vec::with_capacity(message_size(EVENTS, size));
    put_message_header(&mut out, EVENTS, size);
    put_varint_field(&mut out, 1, kind);
    put_message_header(&mut out, 2, kv.len());
    out.extend_from_slice(kv);
    if let Some(kv) = previous {
        put_message_header(&mut out, 3, kv.len());
        out.extend_from_slice(kv);
    }
    debug_assert_eq!(out.len(), message_size(EVENTS, size));
    Bytes::from(out)
}
