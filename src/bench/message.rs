//! Pure. etcd's messages by field number: a builder for requests and readers for the answers that
//! the harness checks. Independent of the server's generated types, like the rest of this folder.

use crate::codec::{Field, Reader, put_bytes_field, put_message_header, put_varint};

/// The methods that the harness calls.
pub mod path {
    pub const RANGE: &str = "/etcdserverpb.KV/Range";
    pub const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
    pub const PUT: &str = "/etcdserverpb.KV/Put";
    pub const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
    pub const TXN: &str = "/etcdserverpb.KV/Txn";
    pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
    pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
    pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
    pub const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
    pub const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
    pub const LEASE_TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
    pub const LEASE_LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
    pub const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";
    pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
    pub const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
    pub const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
    pub const AUTH_STATUS: &str = "/etcdserverpb.Auth/AuthStatus";
}

/// A protobuf message under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn new() -> Message {
        Message::default()
    }

    /// An integer, enum or bool field; 0 is left out.
    pub fn int(mut self, number: u32, value: i64) -> Message {
        if value != 0 {
            self = self.int_present(number, value);
        }
        self
    }

    /// The same, written even when 0: a member of a oneof.
    pub fn int_present(mut self, number: u32, value: i64) -> Message {
        put_varint(&mut self.0, u64::from(number) << 3);
        put_varint(&mut self.0, value as u64);
        self
    }

    pub fn flag(self, number: u32, value: bool) -> Message {
        self.int(number, i64::from(value))
    }

    /// A bytes or string field; empty is left out.
    pub fn bytes(mut self, number: u32, value: &[u8]) -> Message {
        put_bytes_field(&mut self.0, number, value);
        self
    }

    /// The same, written even when empty: a member of a oneof.
    pub fn bytes_present(mut self, number: u32, value: &[u8]) -> Message {
        put_message_header(&mut self.0, number, value.len());
        self.0.extend_from_slice(value);
        self
    }

    pub fn nested(self, number: u32, message: &Message) -> Message {
        self.bytes_present(number, &message.0)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Calls `visit` with each field of `message`; `None` when the bytes are no message.
pub fn fields<'a>(message: &'a [u8], mut visit: impl FnMut(u32, Field<'a>)) -> Option<()> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.field() {
        let (number, value) = field.ok()?;
        visit(number, value);
    }
    Some(())
}

/// The last integer in field `number`, 0 when there is none.
pub fn int(message: &[u8], number: u32) -> i64 {
    let mut found = 0;
    fields(message, |n, value| {
        if let (true, Field::Varint(v)) = (n == number, value) {
            found = v as i64;
        }
    });
    found
}

/// The last bytes in field `number`, empty when there are none.
pub fn bytes(message: &[u8], number: u32) -> &[u8] {
    let mut found = &[][..];
    fields(message, |n, value| {
        if let (true, Field::Bytes(v)) = (n == number, value) {
            found = v;
        }
    });
    found
}

/// All bytes in field `number`, in order.
pub fn repeated(message: &[u8], number: u32) -> Vec<&[u8]> {
    let mut found = Vec::new();
    fields(message, |n, value| {
        if let (true, Field::Bytes(v)) = (n == number, value) {
            found.push(v);
        }
    });
    found
}

/// `header.revision` of an answer whose field 1 is its header.
#[inline]
pub fn header_revision(message: &[u8]) -> i64 {
    let mut reader = Reader::new(message);
    match reader.field() {
        Some(Ok((1, Field::Bytes(header)))) => int(header, 3),
        _ => 0,
    }
}

/// mvccpb.KeyValue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValue<'a> {
    pub key: &'a [u8],
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

impl KeyValue<'_> {
    pub fn read(message: &[u8]) -> Option<KeyValue<'_>> {
        let mut kv = KeyValue::default();
        fields(message, |number, value| match (number, value) {
            (1, Field::Bytes(v)) => kv.key = v,
            (2, Field::Varint(v)) => kv.create_revision = v as i64,
            (3, Field::Varint(v)) => kv.mod_revision = v as i64,
            (4, Field::Varint(v)) => kv.version = v as i64,
            (5, Field::Bytes(v)) => kv.value = v,
            (6, Field::Varint(v)) => kv.lease = v as i64,
            _ => {}
        })?;
        Some(kv)
    }
}

/// The end of the range of all keys that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches: a field written under a wrong tag, or read from another.
    #[test]
    fn built_messages_read_back() {
        let kv = Message::new()
            .bytes(1, b"k")
            .int(2, 5)
            .int(3, -1)
            .bytes(5, b"v")
            .int(6, 1 << 40);
        let read = KeyValue::read(kv.as_bytes()).expect("a valid message");
        assert_eq!((read.key, read.value), (&b"k"[..], &b"v"[..]));
        assert_eq!(
            (read.create_revision, read.mod_revision, read.lease),
            (5, -1, 1 << 40)
        );
        let header = Message::new().int(1, 9).int(3, 77);
        assert_eq!(
            header_revision(Message::new().nested(1, &header).as_bytes()),
            77
        );
        assert_eq!(header_revision(&[]), 0);
        assert_eq!(KeyValue::read(&[0x0a, 9]), None);
    }

    // Catches: a prefix of 0xff bytes whose end would come before it.
    #[test]
    fn prefix_ends_come_after_every_key() {
        assert_eq!(prefix_end(b"a"), b"b");
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff\xff"), b"\0");
    }
}
