//! Pure. Finds the transactions that may change a key twice.
//!
//! A key may change once in a transaction, but etcd's check has holes: a delete "from key" (range
//! end 0x00) counts as empty, and a nested transaction's deletes are not held against the puts of
//! the sibling before it. A compaction at exactly the revision in which a key was deleted and put
//! removes the key's record from etcd, and the next read of the key ends the process with "range
//! failed to find revision pair". So it must be known which revisions these are.
//!
//! Worse is such a put that keeps the value or the lease: it is checked before the transaction, and
//! when the key is deleted in it the put fails, and etcd ends at once and at every start.

use ringbolt::bench::message;

/// Whether some key of `txn` is both put and deleted, in whichever branches.
pub fn may_change_twice(txn: &[u8]) -> bool {
    let mut changes = Changes::default();
    changes.add(txn);
    let deleted = |put: &Vec<u8>| changes.deletes.iter().any(|delete| covers(delete, put));
    changes.puts.iter().any(deleted)
}

/// Whether a real etcd may end by `txn`.
pub fn may_end_etcd(txn: &[u8]) -> bool {
    let mut changes = Changes::default();
    changes.add(txn);
    changes.keeps && may_change_twice(txn)
}

/// What a transaction may change, nested ones included.
#[derive(Default)]
struct Changes {
    puts: Vec<Vec<u8>>,
    /// A put keeps the value or the lease.
    keeps: bool,
    deletes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Changes {
    fn add(&mut self, txn: &[u8]) {
        for op in [2, 3]
            .iter()
            .flat_map(|branch| message::repeated(txn, *branch))
        {
            for put in message::repeated(op, 2) {
                self.puts.push(message::bytes(put, 1).to_vec());
                self.keeps |= message::int(put, 5) != 0 || message::int(put, 6) != 0;
            }
            for delete in message::repeated(op, 3) {
                let interval = [1, 2].map(|field| message::bytes(delete, field).to_vec());
                self.deletes.push(interval.into());
            }
            for txn in message::repeated(op, 4) {
                self.add(txn);
            }
        }
    }
}

fn covers((start, end): &(Vec<u8>, Vec<u8>), key: &Vec<u8>) -> bool {
    match end.as_slice() {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}
