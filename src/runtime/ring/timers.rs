//! Adapter. Timers of one core: by deadline, woken by the reactor.

use crate::env::Monotonic;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The sleepers of one core. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Timers {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    sleepers: RefCell<BTreeMap<Key, Waker>>,
    next: Cell<u64>,
}

/// A deadline, and a number that tells sleepers with the same one apart.
type Key = (Monotonic, u64);

impl Timers {
    /// Ready at `deadline`, and never before it was polled once.
    pub(super) fn until(&self, deadline: Monotonic) -> Sleep {
        let number = self.shared.next.get();
        self.shared.next.set(number + 1);
        Sleep {
            timers: self.clone(),
            key: (deadline, number),
            state: State::New,
        }
    }

    /// How long nothing is due; `None` for ever.
    pub(super) fn idle_time(&self, now: impl FnOnce() -> Monotonic) -> Option<Duration> {
        let sleepers = self.shared.sleepers.borrow();
        let ((deadline, _), _) = sleepers.first_key_value()?;
        Some(*deadline - now())
    }

    /// Wakes who is due.
    pub(super) fn fire(&self, now: impl FnOnce() -> Monotonic) {
        let mut sleepers = self.shared.sleepers.borrow_mut();
        if sleepers.is_empty() {
            return;
        }
        let now = now();
        while let Some(first) = sleepers.first_entry() {
            if first.key().0 > now {
                break;
            }
            // Waking only queues the task: nothing runs in here.
            first.remove().wake();
        }
    }
}

enum State {
    New,
    Waiting,
}

/// The future of [`Timers::until`].
pub(super) struct Sleep {
    timers: Timers,
    key: Key,
    state: State,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut sleepers = self.timers.shared.sleepers.borrow_mut();
        let fired = matches!(self.state, State::Waiting) && !sleepers.contains_key(&self.key);
        if fired {
            return Poll::Ready(());
        }
        sleepers.insert(self.key, context.waker().clone());
        drop(sleepers);
        self.state = State::Waiting;
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.timers.shared.sleepers.borrow_mut().remove(&self.key);
    }
}
