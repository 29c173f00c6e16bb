//! Pure. Finds the transactions that etcd should refuse and does not.
//!
//! A key may change once in a transaction: etcd refuses a put whose key is put again or deleted in
//! the same one. Its check has holes: a delete "from key" (range end 0x00) counts as empty, and a
//! nested transaction's deletes are not held against the puts of the sibling before it. A key that
//! got through changes twice in one revision, and once that is compacted the next read of the key
//! ends etcd with "range failed to find revision pair". So such requests are not drawn, unless
//! another overlap in them is refused for certain.

use ringbolt::bench::message;

/// Whether `txn` could change a key twice without a refusal.
pub fn breaks_etcd(txn: &[u8]) -> bool {
    let both = [2, 3].map(|branch| Changes::of(&message::repeated(txn, branch)));
    let refused = both.iter().any(|changes| changes.refused);
    let overlapping = both.iter().any(|changes| changes.overlapping);
    overlapping && !refused
}

/// What a list of operations may change, nested ones included.
#[derive(Default)]
struct Changes {
    puts: Vec<Vec<u8>>,
    deletes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Some key may change twice.
    overlapping: bool,
    /// At least one overlap is of a kind that etcd finds.
    refused: bool,
}

impl Changes {
    fn of(ops: &[&[u8]]) -> Changes {
        let mut own = Changes::default();
        let mut children = Vec::new();
        for op in ops {
            for put in message::repeated(op, 2) {
                let key = message::bytes(put, 1).to_vec();
                own.note(own.puts.contains(&key), true);
                own.puts.push(key);
            }
            for delete in message::repeated(op, 3) {
                own.deletes.push((
                    message::bytes(delete, 1).to_vec(),
                    message::bytes(delete, 2).to_vec(),
                ));
            }
            for txn in message::repeated(op, 4) {
                children.push([2, 3].map(|b| Changes::of(&message::repeated(txn, b))));
            }
        }
        for (put, delete) in pairs(&own.puts, &own.deletes) {
            own.note(covers(&delete, &put), delete.1 != [0]);
        }
        let mut all = own;
        let (own_puts, own_deletes) = (all.puts.clone(), all.deletes.clone());
        let mut earlier = Changes::default();
        for branches in children {
            for branch in &branches {
                all.overlapping |= branch.overlapping;
                all.refused |= branch.refused;
                for (put, delete) in pairs(&branch.puts, &own_deletes) {
                    all.note(covers(&delete, &put), delete.1 != [0]);
                }
                for (put, delete) in pairs(&own_puts, &branch.deletes) {
                    all.note(covers(&delete, &put), false);
                }
                for put in &branch.puts {
                    all.note(own_puts.contains(put) || earlier.puts.contains(put), true);
                }
                for (put, delete) in pairs(&branch.puts, &earlier.deletes) {
                    all.note(covers(&delete, &put), false);
                }
                for (put, delete) in pairs(&earlier.puts, &branch.deletes) {
                    all.note(covers(&delete, &put), false);
                }
            }
            // Only now: the two branches of one transaction exclude each other.
            for branch in branches {
                earlier.puts.extend(branch.puts);
                earlier.deletes.extend(branch.deletes);
            }
        }
        all.puts.extend(earlier.puts);
        all.deletes.extend(earlier.deletes);
        all
    }

    fn note(&mut self, overlaps: bool, found_by_etcd: bool) {
        self.overlapping |= overlaps;
        self.refused |= overlaps && found_by_etcd;
    }
}

type Interval = (Vec<u8>, Vec<u8>);

fn pairs(puts: &[Vec<u8>], deletes: &[Interval]) -> Vec<(Vec<u8>, Interval)> {
    let mut all = Vec::new();
    for put in puts {
        all.extend(deletes.iter().map(|delete| (put.clone(), delete.clone())));
    }
    all
}

fn covers((start, end): &Interval, key: &Vec<u8>) -> bool {
    match end.as_slice() {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}
