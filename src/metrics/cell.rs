//! Pure. Numbers that one core writes and any thread may read.
//!
//! Each cell has one writing core. A write is a plain load and store, never a locked instruction:
//! two writers would lose counts, so a cell is never shared between cores; the scrape adds up.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A count that only grows. One core writes it.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    #[inline]
    pub fn add(&self, by: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(by), Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. One core writes it.
#[derive(Default, Debug)]
pub struct Gauge(AtomicI64);

impl Gauge {
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    #[inline]
    pub fn add(&self, by: i64) {
        self.set(self.value().wrapping_add(by));
    }

    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// The upper bounds of a histogram's buckets: `start`, `start * 2`, … (`count` of them), in the
/// unit that the metric shows. `raw_per_unit` observed units make one shown unit.
#[derive(Clone, Copy, Debug)]
pub struct Buckets {
    pub start: f64,
    pub count: usize,
    pub raw_per_unit: f64,
}

impl Buckets {
    /// Buckets in seconds for times observed in nanoseconds.
    pub const fn seconds(start: f64, count: usize) -> Buckets {
        Buckets {
            start,
            count,
            raw_per_unit: 1e9,
        }
    }

    /// Buckets in milliseconds for times observed in nanoseconds.
    pub const fn millis(start: f64, count: usize) -> Buckets {
        Buckets {
            start,
            count,
            raw_per_unit: 1e6,
        }
    }

    /// Buckets for plain numbers.
    pub const fn plain(start: f64, count: usize) -> Buckets {
        Buckets {
            start,
            count,
            raw_per_unit: 1.0,
        }
    }

    /// The upper bound of bucket `index`, as shown.
    pub fn bound(&self, index: usize) -> f64 {
        // Doubling is exact, so this is the number that repeated multiplication gives.
        self.start * (1u64 << index) as f64
    }
}

/// How many buckets the widest histogram has (24 in etcd), the one above all bounds not counted.
pub const BUCKETS_MAX: usize = 24;

/// A histogram with doubling bounds. One core writes it.
#[derive(Debug)]
pub struct Histogram {
    /// `start` in observed units; the bucket of a value follows from the ratio's leading bit.
    start_raw: u64,
    /// `count` buckets and one more for what is above the last bound.
    cells: Box<[Counter]>,
    sum_raw: Counter,
}

impl Histogram {
    pub fn new(buckets: Buckets) -> Histogram {
        assert!(buckets.count <= BUCKETS_MAX);
        let start_raw = (buckets.start * buckets.raw_per_unit).round() as u64;
        assert!(start_raw > 0, "bounds are whole numbers of observed units");
        let cells = (0..=buckets.count).map(|_| Counter::default()).collect();
        Histogram {
            start_raw,
            cells,
            sum_raw: Counter::default(),
        }
    }

    /// Counts a value in observed units (nanoseconds for times).
    #[inline]
    pub fn observe(&self, raw: u64) {
        // The first `i` with raw <= start << i.
        let ratio = raw.div_ceil(self.start_raw).max(1);
        let index = (u64::BITS - (ratio - 1).leading_zeros()) as usize;
        self.cells[index.min(self.cells.len() - 1)].inc();
        self.sum_raw.add(raw);
    }

    /// Counts a time.
    #[inline]
    pub fn observe_time(&self, time: std::time::Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds what this histogram holds to `total`.
    pub(super) fn add_to(&self, total: &mut HistogramTotal) {
        for (sum, cell) in total.cells.iter_mut().zip(&self.cells) {
            *sum += cell.value();
        }
        total.sum_raw += u128::from(self.sum_raw.value());
    }
}

/// A histogram summed over cores.
#[derive(Clone, Default, Debug)]
pub(super) struct HistogramTotal {
    pub(super) cells: [u64; BUCKETS_MAX + 1],
    pub(super) sum_raw: u128,
}
