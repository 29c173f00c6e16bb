//! Pure. The outside world as traits: clock, randomness, tasks, log file, tree file, sockets, mesh.
//!
//! In: what a driver asks of the world. Out: facts. Two implementations exist: `runtime/` (glommio
//! on Linux) and `sim/` (one thread, one seed). A driver is generic over [`Env`] and names neither.
//!
//! Invariants
//! 1. Everything here lives on one core: futures are not `Send`. Only [`PageSource`] is shared.
//! 2. A log file's completed `write_at` is on stable storage. A tree file's is not until `sync`.
//! 3. After an `Err` from a write or a sync the caller never writes to that file again.
//!
//! Not here: name resolution, TLS, process start-up.

mod notify;

pub use notify::Notify;

use crate::ids::CoreId;
use std::future::Future;
use std::io;
use std::ops::{Add, Deref, DerefMut, Range, Sub};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Time since an arbitrary start, in nanoseconds; never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Monotonic(pub u64);

impl Add<Duration> for Monotonic {
    type Output = Monotonic;
    fn add(self, by: Duration) -> Monotonic {
        Monotonic(
            self.0
                .saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub for Monotonic {
    type Output = Duration;
    fn sub(self, earlier: Monotonic) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Wall-clock time, in nanoseconds since 1970; may jump.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Wall(pub i64);

/// One core's view of the world. Cloning is cheap: every task holds one.
pub trait Env: Clone + 'static {
    type LogFile: LogFile;
    type TreeFile: TreeFile;

    fn core(&self) -> CoreId;
    fn now(&self) -> Monotonic;
    fn wall(&self) -> Wall;
    fn random(&self) -> u64;
    fn sleep(&self, time: Duration) -> impl Future<Output = ()>;
    /// Ends a slice of background work: returns after the core has polled for completions and run
    /// what was ready. Never a plain requeue, which would starve the core's completions.
    fn next_pass(&self) -> impl Future<Output = ()>;
    /// Starts a task on this core. It runs until it returns: nothing cancels it.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    fn create_dir_all(&self, dir: &Path) -> impl Future<Output = io::Result<()>>;
    /// The files of `dir` (not its sub-directories), sorted by name.
    fn list(&self, dir: &Path) -> impl Future<Output = io::Result<Vec<FileFact>>>;
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// Makes the directory's entries durable: needed after create, rename and remove.
    fn sync_dir(&self, dir: &Path) -> impl Future<Output = io::Result<()>>;

    /// Creates `path` with `size` zero bytes, every block written once and synced, so that later
    /// overwrites change no metadata. Fails when the path exists.
    fn create_zeroed(&self, path: &Path, size: u64) -> impl Future<Output = io::Result<()>>;
    /// Opens an existing non-empty file for durable overwrites.
    fn open_log(&self, path: &Path) -> impl Future<Output = io::Result<Self::LogFile>>;
    /// Opens, or creates empty, a tree file whose shared map may grow to `map_bytes_max`.
    fn open_tree(
        &self,
        path: &Path,
        map_bytes_max: u64,
    ) -> impl Future<Output = io::Result<Self::TreeFile>>;
}

/// A file and its size in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileFact {
    pub name: String,
    pub size: u64,
}

/// An O_DIRECT file of fixed size that is only overwritten.
pub trait LogFile: 'static {
    type Buffer: Deref<Target = [u8]> + DerefMut + 'static;

    fn size(&self) -> u64;
    /// Offsets and sizes of reads and writes are multiples of this; a power of two, 512 or more.
    fn alignment(&self) -> usize;
    /// A zeroed, aligned buffer of exactly `size` bytes (a multiple of the alignment).
    fn alloc(&self, size: usize) -> Self::Buffer;
    /// Overwrites; durable when it returns `Ok`. Never extends the file.
    fn write_at(
        &self,
        buffer: Self::Buffer,
        offset: u64,
    ) -> impl Future<Output = io::Result<()>> + 'static;
    fn read_at(&self, offset: u64, size: usize) -> impl Future<Output = io::Result<Vec<u8>>>;
    fn close(self) -> impl Future<Output = io::Result<()>>;
}

/// A B+tree file: buffered writes, read through a shared map.
pub trait TreeFile: 'static {
    fn size(&self) -> u64;
    /// The shared map. Sees completed writes at once, durable or not.
    fn pages(&self) -> Arc<dyn PageSource>;
    fn write_at(&self, bytes: Vec<u8>, offset: u64) -> impl Future<Output = io::Result<()>>;
    fn sync(&self) -> impl Future<Output = io::Result<()>>;
    /// Grows with zeros or truncates. The caller knows that no reader holds a truncated page.
    fn set_size(&self, size: u64) -> impl Future<Output = io::Result<()>>;
}

/// Pages of a tree file, readable from any core while the file is written.
pub trait PageSource: Send + Sync + 'static {
    /// The bytes of `range`, or `None` when they reach past the end of the file or of the map.
    fn read(&self, range: Range<u64>) -> Option<PageRef<'_>>;
}

/// Bytes of a page: borrowed from the map, or shared where the world has no map.
#[derive(Clone, Debug)]
pub enum PageRef<'a> {
    Mapped(&'a [u8]),
    Shared(Arc<[u8]>),
}

impl Deref for PageRef<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            PageRef::Mapped(bytes) => bytes,
            PageRef::Shared(bytes) => bytes,
        }
    }
}

/// The receiving half of a byte pipe: a socket, later TLS over one.
pub trait ReadHalf: 'static {
    /// Waits for bytes and stores what is there. 0 is the peer's orderly end.
    fn receive(&mut self, into: &mut [u8]) -> impl Future<Output = io::Result<usize>>;
}

/// The sending half of a byte pipe.
pub trait WriteHalf: 'static {
    fn send_all(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>>;
    fn shutdown(&mut self) -> impl Future<Output = io::Result<()>>;
}

/// Bounded, ordered, batched messages between the cores of one node.
pub trait Mesh<M: Send + 'static>: Clone + 'static {
    fn core(&self) -> CoreId;
    fn core_count(&self) -> u16;
    /// Sends to another core; gives the message back when the way there is full.
    fn try_send(&self, to: CoreId, message: M) -> Result<(), M>;
    /// Sends to another core, waiting for room. `Err` when that core is gone.
    fn send(&self, to: CoreId, message: M) -> impl Future<Output = Result<(), M>>;
    /// The next message from any core; one task per core receives. `None` when all are gone.
    fn receive(&self) -> impl Future<Output = Option<(CoreId, M)>>;
    /// A message that is already here.
    fn try_receive(&self) -> Option<(CoreId, M)>;
}
