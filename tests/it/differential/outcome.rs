//! Pure. What a step came to, without what two etcds would not agree on either.

use ringbolt::bench::message::{self, Message};
use ringbolt::codec::Field;

use super::step::{Kind, Step};

/// Sorting is not stable in etcd past this many keys: see `masked_sort`.
const STABLE_SORT_MAX: usize = 12;

/// What grpc-go says of a message that is none, of unary calls and of streams.
const UNREADABLE: [&str; 2] = [
    "grpc: error unmarshalling request",
    "grpc: failed to unmarshal the received message",
];

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    pub code: u32,
    pub text: String,
    /// The answer's bytes, masked. For watch steps: lines of text.
    pub body: Vec<u8>,
}

impl Outcome {
    /// Masks in an answer to `step`: cluster id, member id and term; a random lease id; the time a
    /// lease has left; the order of its keys, of alarms, and of keys that a sort finds equal.
    pub fn masked(mut self, step: &Step) -> Outcome {
        // What follows is the words of Go's protobuf package, which it varies on purpose.
        for unreadable in UNREADABLE {
            if let Some(cut) = self.text.find(unreadable) {
                self.text.truncate(cut + unreadable.len());
            }
        }
        if self.code != 0 || step.kind.is_watch() || self.body.is_empty() {
            return self;
        }
        let random_lease = step.kind == Kind::LeaseGrant && message::int(&step.request, 2) == 0;
        let mut masked = Message::new();
        // What comes in the order of a Go map.
        let mut unordered = Vec::new();
        let read = message::fields(&self.body, |number, value| {
            let built = std::mem::take(&mut masked);
            masked = match (step.kind, number, value) {
                (_, 1, Field::Bytes(header)) => {
                    let revision = message::int(header, 3);
                    built.nested(1, &Message::new().int(3, revision))
                }
                (Kind::LeaseGrant, 2, _) if random_lease => built,
                (Kind::LeaseTimeToLive, 3, Field::Varint(left)) if left as i64 > 0 => built,
                (Kind::LeaseTimeToLive, 5, Field::Bytes(v)) | (Kind::Alarm, 2, Field::Bytes(v)) => {
                    unordered.push(v.to_vec());
                    built
                }
                (_, _, Field::Varint(v)) => built.int_present(number, v as i64),
                (_, _, Field::Bytes(v)) => built.bytes_present(number, v),
                (_, _, Field::Fixed32(_) | Field::Fixed64(_)) => built,
            };
        });
        unordered.sort();
        let field = if step.kind == Kind::Alarm { 2 } else { 5 };
        for value in &unordered {
            masked = masked.bytes_present(field, value);
        }
        self.body = match read {
            Some(()) => masked.into_bytes(),
            None => [b"not a message: ", &self.body[..]].concat(),
        };
        match step.kind {
            Kind::Range => self.body = masked_sort(&step.request, self.body),
            Kind::Txn => self.body = masked_sorts(&step.request, self.body),
            _ => {}
        }
        self
    }

    pub fn header_revision(&self) -> i64 {
        message::header_revision(&self.body)
    }
}

/// An answer sorted by version, revision or value: which of two equal keys comes first depends on
/// the sorting algorithm once there are many, and with a limit so does which of them is there.
/// Then only the values that were sorted by are compared.
fn masked_sort(request: &[u8], body: Vec<u8>) -> Vec<u8> {
    let (target, limit) = (message::int(request, 6), message::int(request, 3));
    let kvs = message::repeated(&body, 2);
    if target == 0 || (limit == 0 && kvs.len() <= STABLE_SORT_MAX) {
        return body;
    }
    let mut masked = Message::new();
    for kv in kvs {
        let field = match target {
            1 => 4,
            2 => 2,
            3 => 3,
            _ => 5,
        };
        masked = masked.nested(
            2,
            &Message::new().int(field, message::int(kv, field)).bytes(
                5,
                match field {
                    5 => message::bytes(kv, 5),
                    _ => &[],
                },
            ),
        );
    }
    masked = masked.bytes(1, message::bytes(&body, 1));
    masked
        .int(3, message::int(&body, 3))
        .int(4, message::int(&body, 4))
        .into_bytes()
}

/// The same for each range of a transaction. `body` is the answer to it.
fn masked_sorts(request: &[u8], body: Vec<u8>) -> Vec<u8> {
    let branch = if message::int(&body, 2) != 0 { 2 } else { 3 };
    let ops = message::repeated(request, branch);
    let mut ops = ops.iter();
    let mut masked = Message::new();
    let read = message::fields(&body, |number, value| {
        let built = std::mem::take(&mut masked);
        masked = match (number, value) {
            (3, Field::Bytes(response)) => {
                let op = ops.next().copied().unwrap_or_default();
                built.bytes_present(3, &masked_op(op, response))
            }
            (_, Field::Bytes(v)) => built.bytes_present(number, v),
            (_, Field::Varint(v)) => built.int_present(number, v as i64),
            (_, Field::Fixed32(_) | Field::Fixed64(_)) => built,
        };
    });
    match read {
        Some(()) => masked.into_bytes(),
        None => body,
    }
}

fn masked_op(op: &[u8], response: &[u8]) -> Vec<u8> {
    let of = |number| {
        message::repeated(response, number)
            .last()
            .map(|r| r.to_vec())
    };
    let masked = |number, bytes: Vec<u8>| Message::new().bytes_present(number, &bytes).into_bytes();
    if let Some(range) = of(1) {
        return masked(1, masked_sort(message::bytes(op, 1), range));
    }
    match of(4) {
        Some(txn) => masked(4, masked_sorts(message::bytes(op, 4), txn)),
        None => response.to_vec(),
    }
}

/// The messages of a RangeStream, merged as protobuf merges: the answer that a unary Range would
/// have given, with its fields in order.
pub fn merged_stream(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut kvs = Message::new();
    let (mut header, mut more, mut count) = (Vec::new(), 0, 0);
    for part in parts {
        for response in message::repeated(part, 1) {
            for kv in message::repeated(response, 2) {
                kvs = kvs.bytes_present(2, kv);
            }
            let own = message::bytes(response, 1);
            if !own.is_empty() {
                header = own.to_vec();
            }
            more |= message::int(response, 3);
            count = count.max(message::int(response, 4));
        }
    }
    let mut merged = Message::new();
    if !header.is_empty() {
        merged = merged.bytes_present(1, &header);
    }
    let mut bytes = merged.into_bytes();
    bytes.extend(kvs.into_bytes());
    bytes.extend(Message::new().int(3, more).int(4, count).into_bytes());
    bytes
}
