//! Adapter. A flag that is raised once, from any thread, and awaited on any core.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Raised once and then for ever. Cloning shares it.
#[derive(Clone, Default)]
pub struct Event {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    raised: AtomicBool,
    waiters: Mutex<Vec<Waker>>,
}

impl Event {
    pub fn new() -> Event {
        Event::default()
    }

    pub fn is_raised(&self) -> bool {
        self.shared.raised.load(Ordering::Acquire)
    }

    /// Raises the flag and wakes all who wait.
    pub fn raise(&self) {
        let waiters = {
            let mut waiters = self
                .shared
                .waiters
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // Inside the lock: a waiter that looked before has left its waker; one that looks
            // after sees the flag.
            self.shared.raised.store(true, Ordering::Release);
            std::mem::take(&mut *waiters)
        };
        for waiter in waiters {
            waiter.wake();
        }
    }

    /// Returns once the flag is raised.
    pub fn wait(&self) -> Wait {
        Wait {
            event: self.clone(),
        }
    }
}

/// The future of [`Event::wait`].
pub struct Wait {
    event: Event,
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = &self.event.shared;
        if shared.raised.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut waiters = shared
            .waiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if shared.raised.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        // A task polled twice must not be kept twice: its waker count is 16 bits (trap d).
        if !waiters.iter().any(|w| w.will_wake(context.waker())) {
            waiters.push(context.waker().clone());
        }
        Poll::Pending
    }
}
