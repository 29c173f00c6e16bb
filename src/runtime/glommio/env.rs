//! Adapter. The world of one core on glommio.

use super::log_file::GlommioLogFile;
use super::net::{GlommioDoor, GlommioReader, GlommioWriter};
use super::pass::Passes;
use super::tree_file::GlommioTreeFile;
use crate::env::{Env, FileFact, Monotonic, Wall};
use crate::ids::CoreId;
use crate::runtime::clock::{self, Random};
use crate::runtime::net::Address;
use crate::runtime::start::{CoreFailure, Fatal, LogAccess, Seat};
use crate::runtime::{World, cpus, files, limits, zeroed};
use futures_lite::FutureExt;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement, TaskQueueHandle};
use rustix::process::{Resource, getrlimit};
use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The world of one core. One per core; a clone is one reference count.
#[derive(Clone)]
pub struct GlommioEnv {
    world: Rc<Shared>,
}

struct Shared {
    core: CoreId,
    base: Instant,
    log_access: LogAccess,
    passes: Passes,
    fatal: Fatal,
    random: RefCell<Random>,
}

impl GlommioEnv {
    /// Must run on the core's executor.
    async fn connect(seat: Seat) -> GlommioEnv {
        let (passes, pump) = Passes::connect().await;
        let env = GlommioEnv {
            world: Rc::new(Shared {
                core: seat.core,
                base: seat.base,
                log_access: seat.log_access,
                passes,
                fatal: seat.fatal,
                random: RefCell::new(Random::new()),
            }),
        };
        env.spawn(pump);
        env
    }
}

impl Env for GlommioEnv {
    type LogFile = GlommioLogFile;
    type TreeFile = GlommioTreeFile;

    fn core(&self) -> CoreId {
        self.world.core
    }

    fn now(&self) -> Monotonic {
        clock::since(self.world.base)
    }

    fn wall(&self) -> Wall {
        clock::wall()
    }

    fn random(&self) -> u64 {
        self.world.random.borrow_mut().next()
    }

    async fn sleep(&self, time: Duration) {
        // glommio finds an expired timer ready at once and never suspends (trap a).
        if time.is_zero() {
            return self.next_pass().await;
        }
        glommio::timer::Timer::new(time).await;
    }

    fn next_pass(&self) -> impl Future<Output = ()> {
        self.world.passes.next()
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let (core, fatal) = (self.world.core, self.world.fatal.clone());
        let guarded = async move {
            // A panic must not unwind through the executor, whose destructors panic again (trap f).
            if let Err(payload) = AssertUnwindSafe(task).catch_unwind().await {
                fatal.report(core, &*payload);
            }
        };
        // By the queue, not `spawn_local`: that one polls the task inside this call, where the
        // caller may hold a borrow that the task wants.
        glommio::spawn_local_into(guarded, TaskQueueHandle::default())
            .expect("the default queue of an executor always exists")
            .detach();
    }

    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        blocking(move || fs::create_dir_all(dir)).await
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<FileFact>> {
        let dir = dir.to_owned();
        blocking(move || files::list(&dir)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || fs::rename(from, to)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || fs::remove_file(path)).await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        blocking(move || files::sync_dir(&dir)).await
    }

    async fn create_zeroed(&self, path: &Path, size: u64) -> io::Result<()> {
        let (path, log_access) = (path.to_owned(), self.world.log_access);
        blocking(move || zeroed::create(&path, size, log_access)).await
    }

    async fn open_log(&self, path: &Path) -> io::Result<GlommioLogFile> {
        GlommioLogFile::open(path, self.world.log_access).await
    }

    async fn open_tree(&self, path: &Path, map_bytes_max: u64) -> io::Result<GlommioTreeFile> {
        GlommioTreeFile::open(path, map_bytes_max).await
    }
}

impl World for GlommioEnv {
    type Door = GlommioDoor;
    type Reader = GlommioReader;
    type Writer = GlommioWriter;

    fn run<T: 'static, F: Future<Output = T> + 'static>(
        seat: Seat,
        main: impl FnOnce(GlommioEnv) -> F,
    ) -> Result<T, CoreFailure> {
        let executor = executor(seat.cores).map_err(|error| seat.failure(error))?;
        // After the executor exists: its helper threads inherit the affinity of this thread, and
        // they belong beside the core, not on it.
        if let Some(cpu) = seat.cpu {
            cpus::pin(cpu).map_err(|error| seat.failure(error))?;
        }
        Ok(executor.run(async move { main(GlommioEnv::connect(seat).await).await }))
    }

    fn door(&self, fd: OwnedFd, _address: &Address) -> GlommioDoor {
        GlommioDoor::new(fd)
    }

    async fn accept(&self, door: &GlommioDoor) -> io::Result<OwnedFd> {
        door.accept().await
    }

    fn halves(&self, fd: OwnedFd) -> (GlommioReader, GlommioWriter) {
        super::net::halves(fd, self)
    }

    async fn connect(&self, address: SocketAddr, timeout: Duration) -> io::Result<OwnedFd> {
        blocking(move || crate::runtime::net::connect_blocking(address, timeout)).await
    }

    fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> impl Future<Output = io::Result<R>> {
        blocking(work)
    }
}

/// glommio's defaults wherever a trap is near: no `spin_before_park` (trap g), the default preempt
/// timer (trap b), no placement of its own (trap f).
fn executor(cores: usize) -> io::Result<LocalExecutor> {
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("core")
        .io_memory(io_memory_bytes(cores))
        .blocking_thread_pool_placement(PoolPlacement::Unbound(limits::HELPER_THREADS))
        .make()
        .map_err(io::Error::from)
}

/// Bytes to register per core. Each of glommio's three rings registers the same memory and the
/// kernel charges each one; past the limit glommio falls back silently (trap i), so stay below.
pub(in crate::runtime) fn io_memory_bytes(cores: usize) -> usize {
    let locked = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    let share = locked / (4 * cores.max(1) as u64);
    let share = usize::try_from(share).unwrap_or(usize::MAX) & !4095;
    share.clamp(limits::IO_MEMORY_BYTES_MIN, limits::IO_MEMORY_BYTES_MAX)
}

/// Runs what would block on one of the core's helper threads.
pub(super) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> io::Result<R> {
    glommio::executor().spawn_blocking(work).await
}

/// The I/O error inside a glommio error, with its number; glommio's own conversion loses it.
pub(super) fn io_error(error: glommio::GlommioError<()>) -> io::Error {
    match error {
        glommio::GlommioError::IoError(error) => error,
        glommio::GlommioError::EnhancedIoError {
            source, op, path, ..
        } => match source.raw_os_error() {
            Some(_) => source,
            None => io::Error::new(source.kind(), format!("{op} {path:?}: {source}")),
        },
        other => io::Error::from(other),
    }
}
