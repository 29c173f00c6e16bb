//! Pure. A budget that time refills: how much nonsense a peer may send.

use crate::env::Monotonic;

const SECOND: u128 = 1_000_000_000;

/// Holds at most `burst`; `per_second` come back. One per kind of abuse, per connection.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    credit: u32,
    burst: u32,
    per_second: u32,
    filled_at: Monotonic,
}

impl Budget {
    pub fn new(burst: u32, per_second: u32, now: Monotonic) -> Budget {
        Budget {
            credit: burst,
            burst,
            per_second,
            filled_at: now,
        }
    }

    /// Spends `cost`; `false` when the budget cannot pay, even with what time gave back.
    #[inline]
    pub fn spend(&mut self, cost: u32, now: Monotonic) -> bool {
        if self.credit < cost {
            self.refill(now);
        }
        match self.credit.checked_sub(cost) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }

    /// Gives back for useful work.
    #[inline]
    pub fn earn(&mut self, credit: u32) {
        self.credit = self.credit.saturating_add(credit).min(self.burst);
    }

    fn refill(&mut self, now: Monotonic) {
        let time = (now - self.filled_at).as_nanos();
        let back = time * u128::from(self.per_second) / SECOND;
        if back > 0 {
            // Only when something came back: fractions must not be lost at every try.
            self.filled_at = now;
            self.earn(u32::try_from(back).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    // Catches: a budget that time does not refill, refills past its burst, or that loses the
    // fractions of frequent tries.
    #[test]
    fn time_refills_up_to_the_burst() {
        let start = Monotonic(0);
        let mut budget = Budget::new(10, 2, start);
        assert!(budget.spend(10, start));
        let mut now = start;
        for _ in 0..4 {
            now = now + Duration::from_millis(100);
            assert!(!budget.spend(1, now));
        }
        assert!(budget.spend(1, start + Duration::from_millis(600)));
        assert!(budget.spend(10, start + Duration::from_secs(3600)));
        assert!(!budget.spend(1, start + Duration::from_secs(3600)));
    }
}
