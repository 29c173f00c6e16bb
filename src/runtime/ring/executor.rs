//! Adapter. The tasks of one core: what is ready runs, in order; wakers come from any thread.

use async_task::Runnable;
use rustix::event::EventfdFlags;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

thread_local! {
    /// The run queue of the core that runs on this thread.
    static LOCAL: Local = const { Local::new() };
}

struct Local {
    /// Whose it is; null while no core runs here.
    owner: Cell<*const Inbox>,
    ready: RefCell<VecDeque<Runnable>>,
}

impl Local {
    const fn new() -> Local {
        Local {
            owner: Cell::new(std::ptr::null()),
            ready: RefCell::new(VecDeque::new()),
        }
    }
}

/// The run queue of one core, on the core's thread.
pub(super) struct RunQueue {
    inbox: Arc<Inbox>,
}

/// Where other threads leave what they woke.
pub(super) struct Inbox {
    woken: Mutex<Woken>,
    /// The core is about to park, or parked, and nobody has rung since.
    parked: AtomicBool,
    bell: OwnedFd,
}

#[derive(Default)]
struct Woken {
    tasks: Vec<Runnable>,
    /// The core has ended: what is woken now never runs.
    ended: bool,
}

impl RunQueue {
    /// The queue of the calling thread, which has none yet.
    pub(super) fn new() -> io::Result<RunQueue> {
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
        let inbox = Arc::new(Inbox {
            woken: Mutex::default(),
            parked: AtomicBool::new(false),
            bell,
        });
        LOCAL.with(|local| {
            assert!(local.owner.get().is_null(), "one executor per thread");
            local.owner.set(Arc::as_ptr(&inbox));
        });
        Ok(RunQueue { inbox })
    }

    /// Rung by who wakes a parked core.
    pub(super) fn bell(&self) -> &OwnedFd {
        &self.inbox.bell
    }

    /// Queues a new task. It does not run inside the call.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let inbox = Arc::clone(&self.inbox);
        let (runnable, task) = async_task::spawn_local(task, move |task| inbox.schedule(task));
        runnable.schedule();
        task.detach();
    }

    /// The next task that is ready.
    pub(super) fn pop(&self) -> Option<Runnable> {
        LOCAL.with(|local| local.ready.borrow_mut().pop_front())
    }

    /// Takes what other threads woke; `true` when the core may park: nothing is ready, and whoever
    /// wakes something from now on rings.
    pub(super) fn may_park(&self) -> bool {
        if self.take_woken() {
            return false;
        }
        self.inbox.parked.store(true, Ordering::Relaxed);
        // Orders the store before the last look, as a waker's fence orders its push before its
        // look at `parked`: one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.take_woken() {
            self.unpark();
            return false;
        }
        true
    }

    pub(super) fn unpark(&self) {
        self.inbox.parked.store(false, Ordering::Relaxed);
    }

    /// The core ends. Tasks that still wait are abandoned, not dropped: their destructors may
    /// expect a world.
    pub(super) fn end(&self) {
        let woken = {
            let mut woken = self.inbox.woken();
            woken.ended = true;
            std::mem::take(&mut woken.tasks)
        };
        let ready = LOCAL.with(|local| {
            local.owner.set(std::ptr::null());
            std::mem::take(&mut *local.ready.borrow_mut())
        });
        woken.into_iter().chain(ready).for_each(std::mem::forget);
    }

    /// Takes what other threads woke; `true` when something is ready.
    pub(super) fn take_woken(&self) -> bool {
        let tasks = std::mem::take(&mut self.inbox.woken().tasks);
        LOCAL.with(|local| {
            let mut ready = local.ready.borrow_mut();
            ready.extend(tasks);
            !ready.is_empty()
        })
    }
}

impl Inbox {
    fn woken(&self) -> MutexGuard<'_, Woken> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From a waker, on any thread.
    fn schedule(&self, task: Runnable) {
        let mut task = Some(task);
        // A thread that ends has no local queue any more; it is not a core's.
        let _ = LOCAL.try_with(|local| {
            if std::ptr::eq(local.owner.get(), self) {
                local.ready.borrow_mut().extend(task.take());
            }
        });
        let Some(task) = task else { return };
        let mut woken = self.woken();
        if woken.ended {
            std::mem::forget(task);
            return;
        }
        woken.tasks.push(task);
        drop(woken);
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel) {
            // A counter at its end is full of rings that nobody looked at yet: one more is not
            // needed.
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }
}
