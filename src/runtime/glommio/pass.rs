//! Adapter. Waiting for one pass of the reactor.
//!
//! Trap (a): glommio polls its rings only when its task queue ran dry (or after 100 ms). A task
//! that requeues itself keeps the queue from running dry, so each completion of the core waits for
//! it. A zero timer does not help: glommio finds it expired at the first poll and never suspends.
//! What works is a waker that only the reactor calls: a channel from the core to itself is looked
//! at once per pass. One pump task per core owns that channel; everybody else waits for its count.

use glommio::channels::shared_channel::{self, ConnectedReceiver, ConnectedSender};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_lite::Stream;

/// Counts the passes of one core's reactor while somebody waits for one. One per core.
#[derive(Clone, Default)]
pub(super) struct Passes {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    passes: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
    pump: RefCell<Option<Waker>>,
}

impl Passes {
    /// Creates the counter and the pump that drives it; the caller spawns the pump.
    pub(super) async fn connect() -> (Passes, impl Future<Output = ()> + 'static) {
        let (sender, receiver) = shared_channel::new_bounded::<()>(2);
        // Each side waits until the other is connected, so both must be on the way at once.
        let (sender, receiver) =
            futures_lite::future::zip(sender.connect(), receiver.connect()).await;
        let passes = Passes::default();
        let pump = pump(passes.clone(), sender, receiver);
        (passes, pump)
    }

    /// Returns after the reactor has polled for completions and what was ready has run.
    pub(super) fn next(&self) -> NextPass {
        NextPass {
            passes: self.clone(),
            after: None,
        }
    }
}

/// The future of [`Passes::next`].
pub(super) struct NextPass {
    passes: Passes,
    /// The count when this wait began.
    after: Option<u64>,
}

impl Future for NextPass {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = self.passes.shared.passes.get();
        let after = *self.after.get_or_insert(now);
        if now > after {
            return Poll::Ready(());
        }
        let shared = &self.passes.shared;
        let mut waiters = shared.waiters.borrow_mut();
        if !waiters.iter().any(|w| w.will_wake(context.waker())) {
            waiters.push(context.waker().clone());
        }
        drop(waiters);
        if let Some(pump) = shared.pump.borrow_mut().take() {
            pump.wake();
        }
        Poll::Pending
    }
}

async fn pump(passes: Passes, sender: ConnectedSender<()>, mut receiver: ConnectedReceiver<()>) {
    let shared = &passes.shared;
    loop {
        poll_fn(|context| {
            if !shared.waiters.borrow().is_empty() {
                return Poll::Ready(());
            }
            *shared.pump.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;

        // Register with the empty channel first and fill it then: the reactor's next look finds it
        // non-empty and wakes this task. The other order would find a message at once and not wait.
        let mut sent = false;
        poll_fn(|context| match Pin::new(&mut receiver).poll_next(context) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending if sent => Poll::Pending,
            Poll::Pending => {
                sent = true;
                // It holds two messages and has none: this cannot fail.
                let full = sender.try_send(()).is_err();
                debug_assert!(!full);
                Poll::Pending
            }
        })
        .await;

        shared.passes.set(shared.passes.get() + 1);
        // The waiters go to the end of the run queue, behind what this pass made ready.
        for waiter in shared.waiters.take() {
            waiter.wake();
        }
    }
}
