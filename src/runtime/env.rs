//! Adapter. The world of one core on glommio.

use super::log_file::GlommioLogFile;
use super::pass::Passes;
use super::start::{Fatal, LogAccess};
use super::tree_file::GlommioTreeFile;
use super::{limits, log_file};
use crate::env::{Env, FileFact, Monotonic, Wall};
use crate::ids::CoreId;
use futures_lite::FutureExt;
use glommio::TaskQueueHandle;
use std::cell::RefCell;
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The world of one core. One per core; a clone is one reference count.
#[derive(Clone)]
pub struct GlommioEnv {
    world: Rc<World>,
}

struct World {
    core: CoreId,
    /// The same on every core, so that their clocks compare.
    base: Instant,
    log_access: LogAccess,
    passes: Passes,
    fatal: Fatal,
    random: RefCell<Random>,
}

impl GlommioEnv {
    /// Must run on the core's executor.
    pub(super) async fn connect(
        core: CoreId,
        base: Instant,
        log_access: LogAccess,
        fatal: Fatal,
    ) -> GlommioEnv {
        let (passes, pump) = Passes::connect().await;
        let random = RefCell::new(Random::new());
        let world = World {
            core,
            base,
            log_access,
            passes,
            fatal,
            random,
        };
        let env = GlommioEnv {
            world: Rc::new(world),
        };
        env.spawn(pump);
        env
    }

    /// How this core's log files are written.
    pub fn log_access(&self) -> LogAccess {
        self.world.log_access
    }

    pub(super) fn passes(&self) -> &Passes {
        &self.world.passes
    }
}

impl Env for GlommioEnv {
    type LogFile = GlommioLogFile;
    type TreeFile = GlommioTreeFile;

    fn core(&self) -> CoreId {
        self.world.core
    }

    fn now(&self) -> Monotonic {
        let elapsed = self.world.base.elapsed().as_nanos();
        Monotonic(u64::try_from(elapsed).expect("an uptime below 584 years"))
    }

    fn wall(&self) -> Wall {
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(after) => Wall(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)),
            Err(before) => {
                Wall(i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n))
            }
        }
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
        blocking(move || list(dir)).await
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
        blocking(move || File::open(dir)?.sync_all()).await
    }

    async fn create_zeroed(&self, path: &Path, size: u64) -> io::Result<()> {
        let (path, log_access) = (path.to_owned(), self.world.log_access);
        blocking(move || log_file::create_zeroed(&path, size, log_access)).await
    }

    async fn open_log(&self, path: &Path) -> io::Result<GlommioLogFile> {
        GlommioLogFile::open(path, self.world.log_access).await
    }

    async fn open_tree(&self, path: &Path, map_bytes_max: u64) -> io::Result<GlommioTreeFile> {
        GlommioTreeFile::open(path, map_bytes_max).await
    }
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

fn list(dir: PathBuf) -> io::Result<Vec<FileFact>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            let name = entry.file_name().into_string().map_err(|name| {
                io::Error::new(io::ErrorKind::InvalidData, format!("file name {name:?}"))
            })?;
            files.push(FileFact {
                name,
                size: metadata.len(),
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The kernel's random numbers, fetched in bulk: unpredictable, and about 10 ns each.
struct Random {
    bytes: [u8; limits::RANDOM_BYTES],
    used: usize,
}

impl Random {
    fn new() -> Random {
        Random {
            bytes: [0; limits::RANDOM_BYTES],
            used: limits::RANDOM_BYTES,
        }
    }

    fn next(&mut self) -> u64 {
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
