//! Pure. The operations of a load and how their answers are checked.
//!
//! Key `i` is `prefix` and `i` in decimal, padded to the key's size; its value begins with the same
//! digits, so that an answer shows by itself whether it belongs to its request.

use super::message::{self, KeyValue, Message, path};

/// Digits of a key's number.
const DIGITS: usize = 12;
const PREFIX: &[u8] = b"/bench/";

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Order {
    Uniform,
    Sequential,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Put,
    Get { serializable: bool },
}

impl Verb {
    pub fn path(self) -> &'static str {
        match self {
            Verb::Put => path::PUT,
            Verb::Get { .. } => path::RANGE,
        }
    }
}

/// Which keys a load touches.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    pub count: u64,
    pub order: Order,
    pub key_size: usize,
    pub value_size: usize,
}

impl Keys {
    /// The number of the `n`-th operation's key.
    #[inline]
    pub fn number(&self, n: u64) -> u64 {
        match self.order {
            Order::Sequential => n % self.count,
            Order::Uniform => mixed(n) % self.count,
        }
    }

    pub fn key(&self, number: u64) -> Vec<u8> {
        let mut key = PREFIX.to_vec();
        let digits = self.key_size.saturating_sub(PREFIX.len()).max(DIGITS);
        key.resize(PREFIX.len() + digits, b'0');
        write_digits(&mut key, number);
        key
    }

    /// The range of all keys of a load.
    pub fn all() -> (Vec<u8>, Vec<u8>) {
        (PREFIX.to_vec(), message::prefix_end(PREFIX))
    }
}

/// splitmix64's mixing: the same keys for the same operation numbers in every run.
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Writes `number` in decimal over the last digits of `at`.
#[inline]
fn write_digits(at: &mut [u8], mut number: u64) {
    for byte in at.iter_mut().rev().take(DIGITS) {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A request with gRPC's prefix, encoded once; only the digits change from one to the next.
#[derive(Clone, Debug)]
pub struct Template {
    framed: Vec<u8>,
    key_end: usize,
    /// Where the digits of the value end; puts only.
    value_digits_end: Option<usize>,
}

impl Template {
    pub fn new(verb: Verb, keys: &Keys) -> Template {
        let key = keys.key(0);
        let value = value(keys.value_size);
        let message = match verb {
            Verb::Put => Message::new().bytes(1, &key).bytes(2, &value),
            Verb::Get { serializable } => Message::new().bytes(1, &key).flag(7, serializable),
        };
        let body = message.as_bytes();
        let mut framed = vec![0];
        framed.extend_from_slice(&(body.len() as u32).to_be_bytes());
        framed.extend_from_slice(body);
        let find = |part: &[u8]| framed.windows(part.len()).position(|window| window == part);
        let key_end = find(&key).expect("the message holds the key") + key.len();
        let value_digits_end = (verb == Verb::Put && value.len() >= DIGITS)
            .then(|| framed.len() - value.len() + DIGITS);
        Template {
            framed,
            key_end,
            value_digits_end,
        }
    }

    #[inline]
    pub fn fill(&mut self, number: u64) -> &[u8] {
        write_digits(&mut self.framed[..self.key_end], number);
        if let Some(end) = self.value_digits_end {
            write_digits(&mut self.framed[..end], number);
        }
        &self.framed
    }
}

/// Bytes that do not compress, the same in every run; the first digits are the key's number.
fn value(size: usize) -> Vec<u8> {
    let mut value = vec![b'0'; size.min(DIGITS)];
    for n in 0.. {
        if value.len() >= size {
            break;
        }
        value.extend_from_slice(&mixed(n).to_le_bytes());
    }
    value.truncate(size);
    value
}

/// What is wrong with an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    NoRevision,
    KeyMissing,
    OtherKey,
    OtherValue,
}

/// Checks the answer to a get of key `number`; its header's revision.
#[inline]
pub fn check_get(body: &[u8], keys: &Keys, number: u64) -> Result<i64, Wrong> {
    let revision = message::header_revision(body);
    if revision == 0 {
        return Err(Wrong::NoRevision);
    }
    let kv = KeyValue::read(message::bytes(body, 2)).ok_or(Wrong::KeyMissing)?;
    if kv.key.is_empty() {
        return Err(Wrong::KeyMissing);
    }
    if digits(&kv.key[kv.key.len().saturating_sub(DIGITS)..]) != Some(number) {
        return Err(Wrong::OtherKey);
    }
    let head = kv
        .value
        .get(..DIGITS.min(keys.value_size))
        .unwrap_or_default();
    if kv.value.len() != keys.value_size || (head.len() == DIGITS && digits(head) != Some(number)) {
        return Err(Wrong::OtherValue);
    }
    Ok(revision)
}

#[inline]
fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |n, byte| match byte {
        b'0'..=b'9' => Some(n.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'))),
        _ => None,
    })
}

/// Proves without keeping them that acknowledged revisions are `first + 1 ..= last`, each once:
/// their count, sum and sum of squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    pub count: u64,
    sum: u64,
    squares: u64,
    pub max: i64,
}

impl Revisions {
    #[inline]
    pub fn add(&mut self, revision: i64) {
        let r = revision as u64;
        self.count += 1;
        self.sum = self.sum.wrapping_add(r);
        self.squares = self.squares.wrapping_add(r.wrapping_mul(r));
        self.max = self.max.max(revision);
    }

    pub fn merge(&mut self, other: &Revisions) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self.squares = self.squares.wrapping_add(other.squares);
        self.max = self.max.max(other.max);
    }

    /// Whether these are exactly the revisions after `before` up to `last`.
    pub fn are_all_between(&self, before: i64, last: i64) -> bool {
        let mut all = Revisions::default();
        for revision in before + 1..=last {
            all.add(revision);
        }
        *self == all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Keys = Keys {
        count: 1000,
        order: Order::Uniform,
        key_size: 32,
        value_size: 256,
    };

    // Catches: a template whose digits land beside the key or the value.
    #[test]
    fn templates_hold_what_they_say() {
        let mut put = Template::new(Verb::Put, &KEYS);
        let body = put.fill(987)[5..].to_vec();
        assert_eq!(message::bytes(&body, 1), KEYS.key(987));
        assert_eq!(
            (
                message::bytes(&body, 1).len(),
                message::bytes(&body, 2).len()
            ),
            (32, 256)
        );
        let kv = Message::new()
            .bytes(1, &KEYS.key(987))
            .bytes(5, message::bytes(&body, 2));
        let header = Message::new().int(3, 5);
        let answer = Message::new()
            .nested(1, &header)
            .nested(2, &kv)
            .into_bytes();
        assert_eq!(check_get(&answer, &KEYS, 987), Ok(5));
        assert_eq!(check_get(&answer, &KEYS, 988), Err(Wrong::OtherKey));
        let mut get = Template::new(Verb::Get { serializable: true }, &KEYS);
        assert_eq!(message::bytes(&get.fill(5)[5..], 1), KEYS.key(5));
        assert_eq!(message::int(&get.fill(5)[5..], 7), 1);
    }

    // Catches: a lost, doubled or foreign revision that the sums would not show.
    #[test]
    fn revisions_must_be_all_there() {
        let mut seen = Revisions::default();
        for revision in [7, 5, 6, 8] {
            seen.add(revision);
        }
        assert!(seen.are_all_between(4, 8));
        assert!(!seen.are_all_between(4, 9) && !seen.are_all_between(3, 8));
        let mut doubled = seen;
        doubled.add(8);
        assert!(!doubled.are_all_between(4, 9));
    }
}
