//! Pure. Answers of the state machine, and their wire form. Key-values in them are encoded
//! already: what the store keeps is what the client gets.

use super::AlarmMember;
use crate::codec::{message_size, put_message_header, put_varint_field, varint_field_size};
use crate::watch::Header;
use bytes::Bytes;

/// The answer to an entry. `revision` is the header's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    Put {
        revision: i64,
        previous: Option<Bytes>,
    },
    DeleteRange {
        revision: i64,
        deleted: i64,
        previous: Vec<Bytes>,
    },
    Txn(TxnResponse),
    Compact {
        revision: i64,
    },
    LeaseGrant {
        revision: i64,
        id: i64,
        ttl: i64,
    },
    LeaseRevoke {
        revision: i64,
    },
    LeaseCheckpoint {
        revision: i64,
    },
    Alarm {
        revision: i64,
        alarms: Vec<AlarmMember>,
    },
    /// Of entries that no client sends.
    Internal {
        revision: i64,
    },
}

/// `TxnResponse`. Of a transaction within another the header is there but empty, as in etcd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxnResponse {
    pub revision: i64,
    pub succeeded: bool,
    pub responses: Vec<OpResponse>,
}

/// The answer to one operation of a transaction. Its header has a revision only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpResponse {
    Range {
        revision: i64,
        kvs: Vec<Bytes>,
        more: bool,
        count: i64,
    },
    Put {
        revision: i64,
        previous: Option<Bytes>,
    },
    DeleteRange {
        revision: i64,
        deleted: i64,
        previous: Vec<Bytes>,
    },
    Txn(TxnResponse),
}

impl Response {
    pub fn revision(&self) -> i64 {
        match self {
            Response::Put { revision, .. }
            | Response::DeleteRange { revision, .. }
            | Response::Compact { revision }
            | Response::LeaseGrant { revision, .. }
            | Response::LeaseRevoke { revision }
            | Response::LeaseCheckpoint { revision }
            | Response::Alarm { revision, .. }
            | Response::Internal { revision } => *revision,
            Response::Txn(txn) => txn.revision,
        }
    }

    /// The size of the encoded message that belongs to the request's kind.
    pub fn encoded_size(&self, header: &Header) -> usize {
        header.field_size(self.revision())
            + match self {
                Response::Put { previous, .. } => put_size(previous),
                Response::DeleteRange {
                    deleted, previous, ..
                } => delete_size(*deleted, previous),
                Response::Txn(txn) => txn.body_size(),
                Response::LeaseGrant { id, ttl, .. } => {
                    varint_field_size(2, *id as u64) + varint_field_size(3, *ttl as u64)
                }
                Response::Alarm { alarms, .. } => alarms
                    .iter()
                    .map(|alarm| message_size(2, alarm_size(alarm)))
                    .sum(),
                Response::Compact { .. }
                | Response::LeaseRevoke { .. }
                | Response::LeaseCheckpoint { .. }
                | Response::Internal { .. } => 0,
            }
    }

    /// Appends the encoded message.
    pub fn encode(&self, header: &Header, out: &mut Vec<u8>) {
        header.put(self.revision(), out);
        match self {
            Response::Put { previous, .. } => put_body(previous, out),
            Response::DeleteRange {
                deleted, previous, ..
            } => delete_body(*deleted, previous, out),
            Response::Txn(txn) => txn.put_body(out),
            Response::LeaseGrant { id, ttl, .. } => {
                put_varint_field(out, 2, *id as u64);
                put_varint_field(out, 3, *ttl as u64);
            }
            Response::Alarm { alarms, .. } => {
                for alarm in alarms {
                    put_message_header(out, 2, alarm_size(alarm));
                    put_varint_field(out, 1, alarm.member.0);
                    put_varint_field(out, 2, alarm.alarm as u64);
                }
            }
            Response::Compact { .. }
            | Response::LeaseRevoke { .. }
            | Response::LeaseCheckpoint { .. }
            | Response::Internal { .. } => {}
        }
    }
}

impl TxnResponse {
    /// Fields 2 and 3.
    fn body_size(&self) -> usize {
        varint_field_size(2, u64::from(self.succeeded))
            + self
                .responses
                .iter()
                .map(|op| message_size(3, op.op_size()))
                .sum::<usize>()
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        put_varint_field(out, 2, u64::from(self.succeeded));
        for op in &self.responses {
            put_message_header(out, 3, op.op_size());
            put_message_header(out, op.number(), op.message_size());
            op.put_message(out);
        }
    }
}

impl OpResponse {
    /// The field of `ResponseOp` that holds it.
    fn number(&self) -> u32 {
        match self {
            OpResponse::Range { .. } => 1,
            OpResponse::Put { .. } => 2,
            OpResponse::DeleteRange { .. } => 3,
            OpResponse::Txn(_) => 4,
        }
    }

    fn revision(&self) -> i64 {
        match self {
            OpResponse::Range { revision, .. }
            | OpResponse::Put { revision, .. }
            | OpResponse::DeleteRange { revision, .. } => *revision,
            OpResponse::Txn(_) => 0,
        }
    }

    /// The size of the `ResponseOp` message.
    fn op_size(&self) -> usize {
        message_size(self.number(), self.message_size())
    }

    fn message_size(&self) -> usize {
        message_size(1, varint_field_size(3, self.revision() as u64))
            + match self {
                OpResponse::Range {
                    kvs, more, count, ..
                } => {
                    kvs.iter()
                        .map(|kv| message_size(2, kv.len()))
                        .sum::<usize>()
                        + varint_field_size(3, u64::from(*more))
                        + varint_field_size(4, *count as u64)
                }
                OpResponse::Put { previous, .. } => put_size(previous),
                OpResponse::DeleteRange {
                    deleted, previous, ..
                } => delete_size(*deleted, previous),
                OpResponse::Txn(txn) => txn.body_size(),
            }
    }

    fn put_message(&self, out: &mut Vec<u8>) {
        put_message_header(out, 1, varint_field_size(3, self.revision() as u64));
        put_varint_field(out, 3, self.revision() as u64);
        match self {
            OpResponse::Range {
                kvs, more, count, ..
            } => {
                put_kvs(2, kvs, out);
                put_varint_field(out, 3, u64::from(*more));
                put_varint_field(out, 4, *count as u64);
            }
            OpResponse::Put { previous, .. } => put_body(previous, out),
            OpResponse::DeleteRange {
                deleted, previous, ..
            } => {
                delete_body(*deleted, previous, out);
            }
            OpResponse::Txn(txn) => txn.put_body(out),
        }
    }
}

fn put_size(previous: &Option<Bytes>) -> usize {
    previous.as_ref().map_or(0, |kv| message_size(2, kv.len()))
}

fn put_body(previous: &Option<Bytes>, out: &mut Vec<u8>) {
    put_kvs(2, previous.as_slice(), out);
}

fn delete_size(deleted: i64, previous: &[Bytes]) -> usize {
    varint_field_size(2, deleted as u64)
        + previous
            .iter()
            .map(|kv| message_size(3, kv.len()))
            .sum::<usize>()
}

fn delete_body(deleted: i64, previous: &[Bytes], out: &mut Vec<u8>) {
    put_varint_field(out, 2, deleted as u64);
    put_kvs(3, previous, out);
}

fn put_kvs(number: u32, kvs: &[Bytes], out: &mut Vec<u8>) {
    for kv in kvs {
        put_message_header(out, number, kv.len());
        out.extend_from_slice(kv);
    }
}

fn alarm_size(alarm: &AlarmMember) -> usize {
    varint_field_size(1, alarm.member.0) + varint_field_size(2, alarm.alarm as u64)
}
