//! Pure. A wake-up between tasks of one core, on nothing but std's wakers.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Tells the tasks of one core that something changed. A `notify` that finds no waiter is kept: the
/// next wait returns at once. Cloning shares it.
#[derive(Clone, Default)]
pub struct Notify {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    set: Cell<bool>,
    waiters: RefCell<Vec<Waker>>,
}

impl Notify {
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Wakes every waiter; the first to run takes the signal, the others wait on.
    pub fn notify(&self) {
        if !self.shared.set.replace(true) {
            // Taken out first: a waker may run code that waits again.
            let waiters = std::mem::take(&mut *self.shared.waiters.borrow_mut());
            for waiter in waiters {
                waiter.wake();
            }
        }
    }

    /// Waits for the next `notify`, or takes one that already came.
    pub fn wait(&self) -> Wait<'_> {
        Wait { notify: self }
    }
}

/// The future of [`Notify::wait`].
pub struct Wait<'a> {
    notify: &'a Notify,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = &self.notify.shared;
        if shared.set.replace(false) {
            return Poll::Ready(());
        }
        let mut waiters = shared.waiters.borrow_mut();
        // A task polled twice must not be kept twice: the list would grow without bound.
        if !waiters.iter().any(|w| w.will_wake(context.waker())) {
            waiters.push(context.waker().clone());
        }
        Poll::Pending
    }
}
