//! Adapter. The world of one core on its ring, and the loop that runs it.

use super::block::Pool;
use super::blocking::HelperThreads;
use super::executor::RunQueue;
use super::files::{RingLogFile, RingTreeFile};
use super::net::{RingDoor, RingReader, RingWriter};
use super::ops::Ops;
use super::timers::Timers;
use crate::env::{Env, FileFact, Monotonic, Wall};
use crate::ids::CoreId;
use crate::runtime::clock::{self, Random};
use crate::runtime::net::Address;
use crate::runtime::start::{CoreFailure, LogAccess, Seat};
use crate::runtime::{World, cpus, files, limits, zeroed};
use futures_lite::FutureExt;
use std::cell::{Cell, RefCell};
use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The world of one core. One per core; a clone is one reference count.
#[derive(Clone)]
pub struct RingEnv {
    world: Rc<Shared>,
}

struct Shared {
    seat: Seat,
    queue: RunQueue,
    ops: Ops,
    timers: Timers,
    threads: HelperThreads,
    pool: Pool,
    passes: Passes,
    random: RefCell<Random>,
}

impl RingEnv {
    fn new(seat: Seat) -> io::Result<RingEnv> {
        // Before the thread is pinned: helper threads, and those of the kernel, belong beside the
        // core, not on it.
        let threads = HelperThreads::start(seat.core)?;
        let queue = RunQueue::new()?;
        let ops = Ops::new(queue.bell(), &cpus::allowed()?)?;
        if let Some(cpu) = seat.cpu {
            cpus::pin(cpu)?;
        }
        let shared = Shared {
            seat,
            queue,
            ops,
            timers: Timers::default(),
            threads,
            pool: Pool::default(),
            passes: Passes::default(),
            random: RefCell::new(Random::new()),
        };
        Ok(RingEnv {
            world: Rc::new(shared),
        })
    }

    pub(super) fn ops(&self) -> &Ops {
        &self.world.ops
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.world.pool
    }

    pub(super) fn log_access(&self) -> LogAccess {
        self.world.seat.log_access
    }

    /// Runs tasks until `done`.
    fn drive(&self, done: &Cell<bool>) -> io::Result<()> {
        let world = &*self.world;
        loop {
            for _ in 0..limits::TASKS_PER_PASS {
                let Some(task) = world.queue.pop() else { break };
                task.run();
                if done.get() {
                    return Ok(());
                }
            }
            let wait = if world.passes.is_wanted() || !world.queue.may_park() {
                None
            } else {
                Some(world.timers.idle_time(|| self.now()))
            };
            let turned = world.ops.turn(wait);
            world.queue.unpark();
            turned?;
            world.timers.fire(|| self.now());
            world.queue.take_woken();
            world.passes.pass();
        }
    }
}

impl Env for RingEnv {
    type LogFile = RingLogFile;
    type TreeFile = RingTreeFile;

    fn core(&self) -> CoreId {
        self.world.seat.core
    }

    #[inline]
    fn now(&self) -> Monotonic {
        clock::since(self.world.seat.base)
    }

    fn wall(&self) -> Wall {
        clock::wall()
    }

    fn random(&self) -> u64 {
        self.world.random.borrow_mut().next()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> {
        self.world.timers.until(self.now() + time)
    }

    fn next_pass(&self) -> impl Future<Output = ()> {
        NextPass {
            env: self.clone(),
            after: None,
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let (core, fatal) = (self.core(), self.world.seat.fatal.clone());
        self.world.queue.spawn(async move {
            if let Err(payload) = AssertUnwindSafe(task).catch_unwind().await {
                fatal.report(core, &*payload);
            }
        });
    }

    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        self.blocking(move || fs::create_dir_all(dir)).await
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<FileFact>> {
        let dir = dir.to_owned();
        self.blocking(move || files::list(&dir)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.blocking(move || fs::rename(from, to)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        self.blocking(move || fs::remove_file(path)).await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        self.blocking(move || files::sync_dir(&dir)).await
    }

    async fn create_zeroed(&self, path: &Path, size: u64) -> io::Result<()> {
        let (path, log_access) = (path.to_owned(), self.log_access());
        self.blocking(move || zeroed::create(&path, size, log_access))
            .await
    }

    async fn open_log(&self, path: &Path) -> io::Result<RingLogFile> {
        RingLogFile::open(self, path).await
    }

    async fn open_tree(&self, path: &Path, map_bytes_max: u64) -> io::Result<RingTreeFile> {
        RingTreeFile::open(self, path, map_bytes_max).await
    }
}

impl World for RingEnv {
    type Door = RingDoor;
    type Reader = RingReader;
    type Writer = RingWriter;

    fn run<T: 'static, F: Future<Output = T> + 'static>(
        seat: Seat,
        main: impl FnOnce(RingEnv) -> F,
    ) -> Result<T, CoreFailure> {
        let core = seat.core;
        let failure = |error| CoreFailure::Executor { core, error };
        let env = RingEnv::new(seat).map_err(failure)?;
        let done = Rc::new(Cell::new(false));
        let value = Rc::new(RefCell::new(None));
        let main = {
            let main = main(env.clone());
            let (done, value) = (Rc::clone(&done), Rc::clone(&value));
            async move {
                *value.borrow_mut() = Some(main.await);
                done.set(true);
            }
        };
        env.world.queue.spawn(main);
        let driven = env.drive(&done);
        env.world.queue.end();
        env.ops().close();
        driven.map_err(failure)?;
        let value = value.take();
        Ok(value.expect("set before `done`"))
    }

    fn door(&self, fd: OwnedFd, _address: &Address) -> RingDoor {
        RingDoor::new(self.ops(), fd)
    }

    async fn accept(&self, door: &RingDoor) -> io::Result<OwnedFd> {
        door.accept().await
    }

    fn halves(&self, fd: OwnedFd) -> (RingReader, RingWriter) {
        super::net::halves(fd, self)
    }

    async fn connect(&self, address: SocketAddr, timeout: Duration) -> io::Result<OwnedFd> {
        super::net::connect(self, address, timeout).await
    }

    fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> impl Future<Output = io::Result<R>> {
        self.world.threads.run(work)
    }
}

/// Counts the passes of the core, and keeps who waits for one.
#[derive(Default)]
struct Passes {
    count: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
}

impl Passes {
    fn is_wanted(&self) -> bool {
        !self.waiters.borrow().is_empty()
    }

    /// The waiters go to the end of the run queue, behind what this pass made ready.
    fn pass(&self) {
        self.count.set(self.count.get() + 1);
        self.waiters.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

struct NextPass {
    env: RingEnv,
    /// The count when this wait began.
    after: Option<u64>,
}

impl Future for NextPass {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = self.env.world.passes.count.get();
        let after = *self.after.get_or_insert(now);
        if now > after {
            return Poll::Ready(());
        }
        let mut waiters = self.env.world.passes.waiters.borrow_mut();
        if !waiters.iter().any(|w| w.will_wake(context.waker())) {
            waiters.push(context.waker().clone());
        }
        Poll::Pending
    }
}
