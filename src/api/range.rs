//! Pure. The bytes of a `RangeResponse` behind its key-values, and the chunks of a `RangeStream`.

use crate::codec::{put_varint_field, varint_field_size};
use crate::mvcc::RangeTotals;

/// The fields behind the key-values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    pub more: bool,
    pub count: i64,
}

impl Tail {
    pub fn of(totals: &RangeTotals) -> Tail {
        Tail {
            more: totals.more,
            count: totals.count,
        }
    }

    pub fn size(&self) -> usize {
        varint_field_size(3, u64::from(self.more)) + varint_field_size(4, self.count as u64)
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        put_varint_field(out, 3, u64::from(self.more));
        put_varint_field(out, 4, self.count as u64);
    }
}

/// How many keys the next chunk of a `RangeStream` holds: etcd's rule of halving and doubling
/// around the greatest request size.
#[derive(Clone, Copy, Debug)]
pub struct ChunkSize {
    keys: usize,
    target_bytes: usize,
}

impl ChunkSize {
    /// Ten keys first: the size of a value is not known yet.
    pub fn new(target_bytes: usize) -> ChunkSize {
        ChunkSize {
            keys: 10,
            target_bytes,
        }
    }

    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Learns from a chunk of `bytes`.
    pub fn sent(&mut self, bytes: usize) {
        if bytes < self.target_bytes / 2 {
            self.keys = self.keys.saturating_mul(2).min(1 << 20);
        } else if bytes > self.target_bytes * 2 {
            self.keys = (self.keys / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches: chunks that never grow, or shrink to nothing.
    #[test]
    fn chunks_follow_the_size_of_values() {
        let mut chunk = ChunkSize::new(1000);
        chunk.sent(100);
        assert_eq!(chunk.keys(), 20);
        chunk.sent(1500);
        assert_eq!(chunk.keys(), 20);
        for _ in 0..10 {
            chunk.sent(5000);
        }
        assert_eq!(chunk.keys(), 1);
    }

    // Catches: zero-valued fields on the wire, which etcd leaves out.
    #[test]
    fn an_empty_tail_has_no_bytes() {
        let tail = Tail {
            more: false,
            count: 0,
        };
        let mut out = Vec::new();
        tail.put(&mut out);
        assert_eq!((out.len(), tail.size()), (0, 0));
        let tail = Tail {
            more: true,
            count: 300,
        };
        tail.put(&mut out);
        assert_eq!(out.len(), tail.size());
    }
}
