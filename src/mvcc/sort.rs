//! Pure. Orders the keys of a range by something else than the key, in slices.
//!
//! Each slice of the walk sorts what it collected into a run; runs are merged through a heap, and
//! the merge stops at the limit. An item is 48 bytes; records are read again when they are emitted.

use super::Progress;
use super::range::{SortTarget, bad_record};
use crate::backend::{Corrupt, KvFields, State};
use crate::ids::Revision;
use crate::limits::mvcc::SORT_VALUE_BYTES;
use std::cell::RefCell;
use std::cmp::Ordering;

/// A key of the range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// The number to sort by, or the value's first bytes.
    pub rank: u128,
    pub revision: Revision,
    /// Bytes of the KeyValue that the answer has.
    pub size: u32,
    /// The key's place in key order: decides between equals, as a stable sort would.
    pub place: u64,
}

const _: () = assert!(SORT_VALUE_BYTES == size_of::<u128>());

impl Item {
    /// The first bytes of `value`, so that unequal ranks are in the order of their values.
    pub(super) fn value_rank(value: &[u8]) -> u128 {
        let mut bytes = [0; SORT_VALUE_BYTES];
        let size = value.len().min(SORT_VALUE_BYTES);
        bytes[..size].copy_from_slice(&value[..size]);
        u128::from_be_bytes(bytes)
    }
}

/// Owned by one scan.
pub(super) struct Sorter {
    order: Order,
    limit: u64,
    run: Vec<Item>,
    /// Sorted runs and how far each is merged.
    runs: Vec<(Vec<Item>, usize)>,
    /// Indices of runs that are not empty, the one with the least head first; `None` while
    /// collecting.
    heap: Option<Vec<usize>>,
    picked: Vec<Item>,
}

#[derive(Clone, Copy)]
struct Order {
    target: SortTarget,
    descend: bool,
}

impl Sorter {
    pub(super) fn new(target: SortTarget, descend: bool, limit: u64) -> Sorter {
        let order = Order { target, descend };
        Sorter {
            order,
            limit,
            run: Vec::new(),
            runs: Vec::new(),
            heap: None,
            picked: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, item: Item) {
        self.run.push(item);
    }

    /// Sorts what was pushed since the last call.
    pub(super) fn end_run(&mut self, state: &State) -> Result<(), Corrupt> {
        if self.run.is_empty() {
            return Ok(());
        }
        let mut run = std::mem::take(&mut self.run);
        // A comparison by value may meet a bad page; the sort goes on, its result is not used.
        let failure = RefCell::new(None);
        run.sort_unstable_by(|a, b| {
            self.order.compare(state, a, b).unwrap_or_else(|corrupt| {
                failure.borrow_mut().get_or_insert(corrupt);
                a.place.cmp(&b.place)
            })
        });
        self.runs.push((run, 0));
        failure.into_inner().map_or(Ok(()), Err)
    }

    /// All items are pushed.
    pub(super) fn end_collection(&mut self, state: &State) -> Result<(), Corrupt> {
        let mut heap: Vec<usize> = (0..self.runs.len()).collect();
        for at in (0..heap.len() / 2).rev() {
            self.sift_down(state, &mut heap, at)?;
        }
        self.heap = Some(heap);
        Ok(())
    }

    pub(super) fn is_collected(&self) -> bool {
        self.heap.is_some()
    }

    /// Picks up to `entries_max` more items, in order, until the limit.
    pub(super) fn merge(&mut self, state: &State, entries_max: usize) -> Result<Progress, Corrupt> {
        let mut heap = self.heap.take().expect("collection has ended");
        let mut left = entries_max.max(1);
        while left > 0 && !heap.is_empty() && (self.picked.len() as u64) < self.limit {
            let (run, at) = &mut self.runs[heap[0]];
            self.picked.push(run[*at]);
            *at += 1;
            if *at == run.len() {
                *run = Vec::new();
                heap.swap_remove(0);
            }
            self.sift_down(state, &mut heap, 0)?;
            left -= 1;
        }
        let done = heap.is_empty() || self.picked.len() as u64 >= self.limit;
        if done {
            self.runs = Vec::new();
        }
        self.heap = Some(heap);
        Ok(if done { Progress::Done } else { Progress::More })
    }

    /// The items of the answer, in order; all there once `merge` is done.
    pub(super) fn picked(&self) -> &[Item] {
        &self.picked
    }

    fn head(&self, run: usize) -> &Item {
        let (items, at) = &self.runs[run];
        &items[*at]
    }

    fn sift_down(&self, state: &State, heap: &mut [usize], mut at: usize) -> Result<(), Corrupt> {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < heap.len() {
                    let (a, b) = (self.head(heap[child]), self.head(heap[least]));
                    if self.order.compare(state, a, b)? == Ordering::Less {
                        least = child;
                    }
                }
            }
            if least == at {
                return Ok(());
            }
            heap.swap(at, least);
            at = least;
        }
    }
}

impl Order {
    fn compare(&self, state: &State, a: &Item, b: &Item) -> Result<Ordering, Corrupt> {
        let mut order = a.rank.cmp(&b.rank);
        if order == Ordering::Equal && self.target == SortTarget::Value && a.place != b.place {
            order = compare_values(state, a.revision, b.revision)?;
        }
        let order = if self.descend { order.reverse() } else { order };
        Ok(order.then(a.place.cmp(&b.place)))
    }
}

/// Values whose first bytes are equal.
fn compare_values(state: &State, a: Revision, b: Revision) -> Result<Ordering, Corrupt> {
    let (kv_a, kv_b) = (state.live_kv(a)?, state.live_kv(b)?);
    let fields_a = KvFields::parse(&kv_a).ok_or_else(|| bad_record(a))?;
    let fields_b = KvFields::parse(&kv_b).ok_or_else(|| bad_record(b))?;
    Ok(fields_a.value.cmp(fields_b.value))
}
