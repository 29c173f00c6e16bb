//! Adapter. The clocks and the random numbers of a core.

use super::limits;
use crate::env::{Monotonic, Wall};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Time since `base`.
#[inline]
pub(super) fn since(base: Instant) -> Monotonic {
    let elapsed = base.elapsed().as_nanos();
    Monotonic(u64::try_from(elapsed).expect("an uptime below 584 years"))
}

pub(super) fn wall() -> Wall {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => Wall(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)),
        Err(before) => Wall(i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n)),
    }
}

/// The kernel's random numbers, fetched in bulk: unpredictable, and about 10 ns each.
pub(super) struct Random {
    bytes: [u8; limits::RANDOM_BYTES],
    used: usize,
}

impl Random {
    pub(super) fn new() -> Random {
        Random {
            bytes: [0; limits::RANDOM_BYTES],
            used: limits::RANDOM_BYTES,
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        if self.used == self.bytes.len() {
            getrandom::fill(&mut self.bytes).expect("Linux has getrandom since 3.17");
            self.used = 0;
        }
        let (draw, _) = self.bytes[self.used..]
            .split_first_chunk()
            .expect("a multiple of 8");
        self.used += 8;
        u64::from_le_bytes(*draw)
    }
}
