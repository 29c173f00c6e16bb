//! Adapter. The world of one simulated core.

use super::disk::Disk;
use super::files::{SimLogFile, SimTreeFile};
use super::world::{NodeId, World};
use crate::env::{Env, FileFact, Monotonic, Wall};
use crate::ids::CoreId;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Nanoseconds of a pass of the reactor, drawn between these.
const PASS_NS: (u64, u64) = (500, 4_000);

/// One core of one life of a node.
#[derive(Clone)]
pub struct SimEnv {
    place: Rc<Place>,
}

struct Place {
    world: World,
    node: NodeId,
    core: CoreId,
    life: u64,
    disk: Rc<RefCell<Disk>>,
}

impl SimEnv {
    pub(super) fn new(
        world: World,
        node: NodeId,
        core: CoreId,
        life: u64,
        disk: Rc<RefCell<Disk>>,
    ) -> SimEnv {
        SimEnv {
            place: Rc::new(Place {
                world,
                node,
                core,
                life,
                disk,
            }),
        }
    }

    pub fn node(&self) -> NodeId {
        self.place.node
    }

    pub fn world(&self) -> &World {
        &self.place.world
    }

    /// The node has not crashed since this environment was made.
    pub fn is_alive(&self) -> bool {
        self.place.world.life(self.place.node) == self.place.life
    }

    pub(super) fn disk(&self) -> &RefCell<Disk> {
        &self.place.disk
    }

    pub(super) async fn sleep_until(&self, time_ns: u64) {
        let mut registered = false;
        poll_fn(|context| {
            if self.world().now_ns() >= time_ns {
                return Poll::Ready(());
            }
            if !registered {
                registered = true;
                self.world().wake_at(time_ns, context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// A disk operation: it takes a drawn time, and takes effect somewhere in the middle of it, so
    /// that a crash comes before or after.
    pub(super) async fn disk_operation<T>(
        &self,
        fact: u64,
        operation: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        let now = self.world().now_ns();
        let time = self.world().disk_time_ns(self.node());
        let before = self.world().draw(|rng| rng.between(0, time));
        self.sleep_until(now + before).await;
        if !self.is_alive() {
            return Err(io::Error::other("a file of before the crash"));
        }
        self.world().note(fact);
        let outcome = operation(&mut self.place.disk.borrow_mut());
        self.sleep_until(now + time).await;
        outcome
    }
}

/// Facts for the trace: which operation took effect.
pub(super) mod fact {
    pub(in super::super) const RENAME: u64 = 1 << 40;
    pub(in super::super) const REMOVE: u64 = 2 << 40;
    pub(in super::super) const SYNC_DIR: u64 = 3 << 40;
    pub(in super::super) const CREATE: u64 = 4 << 40;
    pub(in super::super) const LOG_WRITE: u64 = 5 << 40;
    pub(in super::super) const READ: u64 = 6 << 40;
    pub(in super::super) const TREE_WRITE: u64 = 7 << 40;
    pub(in super::super) const SYNC: u64 = 8 << 40;
    pub(in super::super) const SET_SIZE: u64 = 9 << 40;
    pub(in super::super) const OPEN: u64 = 10 << 40;
}

impl Env for SimEnv {
    type LogFile = SimLogFile;
    type TreeFile = SimTreeFile;

    fn core(&self) -> CoreId {
        self.place.core
    }

    fn now(&self) -> Monotonic {
        Monotonic(self.world().now_ns())
    }

    fn wall(&self) -> Wall {
        Wall(self.world().wall_ns(self.node()))
    }

    fn random(&self) -> u64 {
        self.world().node_random(self.node())
    }

    async fn sleep(&self, time: Duration) {
        let end = self.now() + time.max(Duration::from_nanos(1));
        self.sleep_until(end.0).await;
    }

    async fn next_pass(&self) {
        let (low, high) = PASS_NS;
        let time = self.world().draw(|rng| rng.between(low, high));
        self.sleep_until(self.world().now_ns() + time).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // A destructor of a crashed node may still try.
        if self.is_alive() {
            self.world().spawn(self.node(), self.core(), task);
        }
    }

    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk_operation(fact::CREATE, |disk| disk.create_dir_all(dir))
            .await
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<FileFact>> {
        let files = self
            .disk_operation(fact::READ, |disk| disk.list(dir))
            .await?;
        Ok(files
            .into_iter()
            .map(|(name, size)| FileFact { name, size })
            .collect())
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk_operation(fact::RENAME, |disk| disk.rename(from, to))
            .await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk_operation(fact::REMOVE, |disk| disk.remove(path))
            .await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk_operation(fact::SYNC_DIR, |disk| disk.sync_dir(dir))
            .await
    }

    async fn create_zeroed(&self, path: &Path, size: u64) -> io::Result<()> {
        self.disk_operation(fact::CREATE, |disk| {
            disk.create_zeroed(path, size).map(drop)
        })
        .await
    }

    async fn open_log(&self, path: &Path) -> io::Result<SimLogFile> {
        let file = self
            .disk_operation(fact::OPEN, |disk| disk.find(path))
            .await?;
        SimLogFile::new(self.clone(), file)
    }

    async fn open_tree(&self, path: &Path, map_bytes_max: u64) -> io::Result<SimTreeFile> {
        let file = self
            .disk_operation(fact::OPEN, |disk| disk.open_or_create(path))
            .await?;
        SimTreeFile::new(self.clone(), file, map_bytes_max)
    }
}
