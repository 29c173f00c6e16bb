//! Pure. Cutting a sorted sequence of cells into pages.

use super::cell::{CellSize, Fill};
use super::page::{CHILD_REF, SLOT};

/// A cell to be packed. `common` is the length of the prefix that its key shares with the one
/// before.
#[derive(Clone, Copy)]
pub(super) struct Item {
    pub size: CellSize,
    pub common: usize,
}

/// Where pages end: page `n` holds the cells `ends[n - 1]..ends[n]`.
pub(super) struct Cut {
    pub ends: Vec<usize>,
    /// Bytes in use on all pages.
    pub bytes: usize,
}

/// Counts cells into one page after the other.
struct Counter {
    fill: Fill,
    branch: bool,
}

impl Counter {
    fn with(&self, item: &Item) -> Fill {
        if self.fill.count > 0 {
            let first_key = self.branch && self.fill.count == 1;
            let common = if first_key {
                item.size.key_len
            } else {
                item.common
            };
            self.fill.with(item.size, Some(common))
        } else {
            self.start(item)
        }
    }

    /// The fill of a page that begins with this cell.
    fn start(&self, item: &Item) -> Fill {
        if self.branch {
            let size = CellSize {
                fixed: SLOT + 1 + CHILD_REF,
                key_len: 0,
            };
            Fill::default().with(size, None)
        } else {
            Fill::default().with(item.size, Some(item.size.key_len))
        }
    }
}

/// Full pages from the left; what is left over goes to the last one. Right for ascending inserts.
pub(super) fn cut_greedy(items: &[Item], page_size: usize, branch: bool) -> Cut {
    let mut cut = Cut {
        ends: Vec::new(),
        bytes: 0,
    };
    let mut counter = Counter {
        fill: Fill::default(),
        branch,
    };
    for (index, item) in items.iter().enumerate() {
        let next = counter.with(item);
        if next.bytes() <= page_size {
            counter.fill = next;
            continue;
        }
        assert!(counter.fill.count > 0, "a cell fits into a page of its own");
        cut.ends.push(index);
        cut.bytes += counter.fill.bytes();
        counter.fill = counter.start(item);
    }
    if counter.fill.count > 0 {
        cut.ends.push(items.len());
        cut.bytes += counter.fill.bytes();
    }
    cut
}

/// As few pages as the greedy cut, about equally full. Right for inserts anywhere.
pub(super) fn cut_even(items: &[Item], page_size: usize, branch: bool) -> Cut {
    let greedy = cut_greedy(items, page_size, branch);
    if greedy.ends.len() <= 1 {
        return greedy;
    }
    let mut cut = Cut {
        ends: Vec::with_capacity(greedy.ends.len()),
        bytes: 0,
    };
    let mut counter = Counter {
        fill: Fill::default(),
        branch,
    };
    for (index, item) in items.iter().enumerate() {
        let next = counter.with(item);
        let pages_left = greedy.ends.len().saturating_sub(cut.ends.len()).max(1);
        let target = greedy.bytes.saturating_sub(cut.bytes) / pages_left;
        let (now, then) = (counter.fill.bytes(), next.bytes());
        let past = then > target && pages_left > 1 && then - target > target.saturating_sub(now);
        if counter.fill.count > 0 && (then > page_size || past) {
            cut.ends.push(index);
            cut.bytes += now;
            counter.fill = counter.start(item);
        } else {
            counter.fill = next;
        }
    }
    cut.ends.push(items.len());
    cut.bytes += counter.fill.bytes();
    if cut.ends.len() > greedy.ends.len() {
        greedy
    } else {
        cut
    }
}
