//! Pure. A disk and an executor that a test drives step by step. Each disk operation is one step;
//! a crash keeps any subset of the sectors of unfinished writes and a prefix of the unsynced
//! directory changes. A killed process's writes may also land later, under the next life.

use crate::env::{Env, FileFact, LogFile, Monotonic, PageSource, TreeFile, Wall};
use crate::ids::CoreId;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

pub const SECTOR: usize = 512;

/// A small generator: equal seeds give equal tests.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone)]
pub struct World {
    pub inner: Rc<RefCell<Inner>>,
}

pub struct Inner {
    pub dice: Dice,
    files: BTreeMap<u64, Vec<u8>>,
    file_next: u64,
    names: BTreeMap<PathBuf, u64>,
    /// What the names are if the machine stops now, and the changes that may be lost.
    names_synced: BTreeMap<PathBuf, u64>,
    changes: Vec<Change>,
    requests: BTreeMap<u64, Request>,
    request_next: u64,
    /// Writes of killed processes that the disk still has before it.
    late: Vec<Late>,
    pub steps: u64,
    /// Sectors written since their file became a segment; they must not be written again.
    written: BTreeSet<(u64, u64)>,
    tasks: Vec<Option<Task>>,
    spawned: Vec<Pin<Box<dyn Future<Output = ()>>>>,
    /// The next writes fail, so many.
    pub failing_writes: u32,
    pub writes: u64,
    pub most_in_flight: usize,
    pub alignment: usize,
    /// No new file can be made.
    pub full: bool,
    /// Creations that were refused.
    pub refused: u64,
    /// Making a file fails, and not for want of room.
    pub failing_creates: bool,
    /// Times that `pass_time` was called, and who waits for the next.
    pub naps: u64,
    sleepers: Vec<Waker>,
}

/// A write that lands or is lost within a few steps.
struct Late {
    file: u64,
    offset: u64,
    bytes: Vec<u8>,
    steps_left: u32,
}

struct Task {
    woken: Arc<Flag>,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

#[derive(Clone)]
enum Change {
    Name(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Unname(PathBuf),
}

enum Action {
    Write {
        file: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    Create {
        path: PathBuf,
        size: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    SyncDir,
    Read,
}

struct Request {
    action: Action,
    done: Option<io::Result<()>>,
    waker: Option<Waker>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            inner: Rc::new(RefCell::new(Inner {
                dice: Dice(seed),
                files: BTreeMap::new(),
                file_next: 0,
                names: BTreeMap::new(),
                names_synced: BTreeMap::new(),
                changes: Vec::new(),
                requests: BTreeMap::new(),
                request_next: 0,
                late: Vec::new(),
                steps: 0,
                written: BTreeSet::new(),
                tasks: Vec::new(),
                spawned: Vec::new(),
                failing_writes: 0,
                writes: 0,
                most_in_flight: 0,
                alignment: SECTOR,
                full: false,
                refused: 0,
                failing_creates: false,
                naps: 0,
                sleepers: Vec::new(),
            })),
        }
    }

    fn request(&self, action: Action) -> impl Future<Output = io::Result<()>> + 'static {
        let number = {
            let inner = &mut *self.inner.borrow_mut();
            inner.request_next += 1;
            let number = inner.request_next;
            inner.requests.insert(
                number,
                Request {
                    action,
                    done: None,
                    waker: None,
                },
            );
            let is_write = |r: &&Request| matches!(r.action, Action::Write { .. });
            let in_flight = inner.requests.values().filter(is_write).count();
            inner.most_in_flight = inner.most_in_flight.max(in_flight);
            number
        };
        let world = self.clone();
        poll_fn(move |context| {
            let inner = &mut *world.inner.borrow_mut();
            let Some(request) = inner.requests.get_mut(&number) else {
                return Poll::Pending;
            };
            if let Some(done) = request.done.take() {
                inner.requests.remove(&number);
                return Poll::Ready(done);
            }
            request.waker = Some(context.waker().clone());
            Poll::Pending
        })
    }

    /// Runs woken tasks until none is.
    pub fn run_tasks(&self) {
        loop {
            let mut ran = false;
            let spawned = std::mem::take(&mut self.inner.borrow_mut().spawned);
            for future in spawned {
                let task = Task {
                    woken: Arc::new(Flag(AtomicBool::new(true))),
                    future,
                };
                self.inner.borrow_mut().tasks.push(Some(task));
            }
            let count = self.inner.borrow().tasks.len();
            for i in 0..count {
                let task = self.inner.borrow_mut().tasks[i].take();
                let Some(mut task) = task else { continue };
                let mut over = false;
                if task.woken.0.swap(false, Ordering::Relaxed) {
                    ran = true;
                    let waker = Waker::from(Arc::clone(&task.woken));
                    over = task
                        .future
                        .as_mut()
                        .poll(&mut Context::from_waker(&waker))
                        .is_ready();
                }
                if !over {
                    self.inner.borrow_mut().tasks[i] = Some(task);
                }
            }
            if !ran && self.inner.borrow().spawned.is_empty() {
                return;
            }
        }
    }

    /// Every sleep that has begun ends. `false` when there is none.
    pub fn pass_time(&self) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        inner.naps += 1;
        let sleepers = std::mem::take(&mut inner.sleepers);
        let slept = !sleepers.is_empty();
        sleepers.into_iter().for_each(Waker::wake);
        slept
    }

    /// Completes one disk operation. `false` when none waits.
    pub fn step(&self) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        inner.land_late(10);
        let waiting: Vec<u64> = inner
            .requests
            .iter()
            .filter(|(_, request)| request.done.is_none())
            .map(|(&number, _)| number)
            .collect();
        if waiting.is_empty() {
            return false;
        }
        inner.steps += 1;
        let number = waiting[inner.dice.below(waiting.len() as u64) as usize];
        let result = inner.perform(number);
        let request = inner.requests.get_mut(&number).expect("it waited");
        request.done = Some(result);
        let waker = request.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Runs `future` with the tasks. `None` when `steps_max` disk operations came before its end.
    pub fn block_on<T: 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
        steps_max: u64,
    ) -> Option<T> {
        let result = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&result);
        self.inner.borrow_mut().spawned.push(Box::pin(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        }));
        let steps_max = self.inner.borrow().steps.saturating_add(steps_max);
        loop {
            self.run_tasks();
            let value = result.borrow_mut().take();
            if value.is_some() {
                return value;
            }
            if self.inner.borrow().steps >= steps_max {
                return None;
            }
            assert!(
                self.step() || self.pass_time(),
                "all tasks wait and the disk is idle: a wake-up was lost"
            );
        }
    }

    /// The machine stops: unfinished writes are torn, unsynced names may be lost.
    pub fn power_cut(&self) {
        self.drop_tasks();
        let inner = &mut *self.inner.borrow_mut();
        inner.land_late(50);
        inner.late.clear();
        for (_, request) in std::mem::take(&mut inner.requests) {
            inner.tear(request);
        }
        let kept = inner.dice.below(inner.changes.len() as u64 + 1) as usize;
        for change in inner.changes.drain(..).take(kept) {
            change.apply(&mut inner.names_synced);
        }
        inner.names = inner.names_synced.clone();
        inner.forget_unnamed();
    }

    /// The process is killed: names stay, unfinished writes land now, later or never.
    pub fn kill(&self) {
        self.drop_tasks();
        let inner = &mut *self.inner.borrow_mut();
        for (_, request) in std::mem::take(&mut inner.requests) {
            match request.action {
                Action::Write {
                    file,
                    offset,
                    bytes,
                } if request.done.is_none() => {
                    inner.late.push(Late {
                        file,
                        offset,
                        bytes,
                        steps_left: 12,
                    });
                }
                _ => inner.tear(request),
            }
        }
        inner.land_late(30);
    }

    fn drop_tasks(&self) {
        // A dropped task may drop handles that look at the world.
        let tasks = std::mem::take(&mut self.inner.borrow_mut().tasks);
        let spawned = std::mem::take(&mut self.inner.borrow_mut().spawned);
        let sleepers = std::mem::take(&mut self.inner.borrow_mut().sleepers);
        drop((tasks, spawned, sleepers));
    }

    /// Changes a byte of a file on the disk.
    pub fn rot(&self, path: &Path, offset: u64) {
        let inner = &mut *self.inner.borrow_mut();
        let file = inner.names[path];
        inner.files.get_mut(&file).expect("named files exist")[offset as usize] ^= 0x40;
    }

    /// Cuts a file on the disk.
    pub fn cut(&self, path: &Path, size: usize) {
        let inner = &mut *self.inner.borrow_mut();
        let file = inner.names[path];
        inner
            .files
            .get_mut(&file)
            .expect("named files exist")
            .truncate(size);
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.inner.borrow().names.keys().cloned().collect()
    }

    pub fn forget(&self, path: &Path) {
        let inner = &mut *self.inner.borrow_mut();
        inner.names.remove(path);
        inner.names_synced.remove(path);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Change::Name(path, file) => names.insert(path.clone(), *file),
            Change::Rename(from, to) => {
                let file = names.remove(from).expect("changes apply in order");
                names.insert(to.clone(), file)
            }
            Change::Unname(path) => names.remove(path),
        };
    }
}

impl Inner {
    fn change(&mut self, changes: Vec<Change>) {
        for change in changes {
            change.apply(&mut self.names);
            self.changes.push(change);
        }
    }

    fn perform(&mut self, number: u64) -> io::Result<()> {
        let request = self.requests.get_mut(&number).expect("it waited");
        match std::mem::replace(&mut request.action, Action::Read) {
            Action::Write {
                file,
                offset,
                bytes,
            } => {
                if self.failing_writes > 0 {
                    self.failing_writes -= 1;
                    return Err(io::Error::other("the disk is broken"));
                }
                self.writes += 1;
                self.check_fresh(file, offset, bytes.len(), true);
                self.land(file, offset, &bytes);
                Ok(())
            }
            Action::Create { .. } if self.failing_creates => Err(io::Error::other("broken")),
            Action::Create { .. } if self.full => {
                self.refused += 1;
                Err(io::ErrorKind::StorageFull.into())
            }
            Action::Create { path, size } => {
                let file = self.create(size as usize);
                self.change(vec![Change::Name(path, file)]);
                Ok(())
            }
            Action::Rename { from, to } => {
                assert!(
                    !self.names.contains_key(&to),
                    "a rename must not replace a file"
                );
                let file = self.names[&from];
                self.change(vec![Change::Rename(from, to)]);
                self.written.retain(|&(written, _)| written != file);
                Ok(())
            }
            Action::Remove { path } => {
                self.change(vec![Change::Unname(path)]);
                Ok(())
            }
            Action::SyncDir => {
                for change in self.changes.drain(..) {
                    change.apply(&mut self.names_synced);
                }
                assert_eq!(self.names, self.names_synced);
                Ok(())
            }
            Action::Read => Ok(()),
        }
    }

    /// No sector that holds acknowledged bytes is written again.
    fn check_fresh(&mut self, file: u64, offset: u64, size: usize, record: bool) {
        for sector in offset / SECTOR as u64..(offset + size as u64) / SECTOR as u64 {
            assert!(
                !self.written.contains(&(file, sector)),
                "sector {sector} written again"
            );
            if record {
                self.written.insert((file, sector));
            }
        }
    }

    fn land(&mut self, file: u64, offset: u64, bytes: &[u8]) {
        if let Some(target) = self.files.get_mut(&file) {
            target[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn land_late(&mut self, percent: u64) {
        for mut late in std::mem::take(&mut self.late) {
            if self.dice.chance(percent) {
                self.land(late.file, late.offset, &late.bytes);
            } else if late.steps_left > 0 {
                late.steps_left -= 1;
                self.late.push(late);
            }
        }
    }

    fn create(&mut self, size: usize) -> u64 {
        self.file_next += 1;
        self.files.insert(self.file_next, vec![0; size]);
        self.file_next
    }

    fn tear(&mut self, request: Request) {
        match request.action {
            Action::Write {
                file,
                offset,
                bytes,
            } => {
                let all = self.dice.below(4);
                for (i, sector) in bytes.chunks(SECTOR).enumerate() {
                    if all == 0 || (all > 1 && self.dice.chance(50)) {
                        self.land(file, offset + (i * SECTOR) as u64, sector);
                    }
                }
            }
            Action::Create { path, size } if self.dice.chance(50) => {
                let size = self.dice.below(size);
                let file = self.create(size as usize);
                self.change(vec![Change::Name(path, file)]);
            }
            _ => {}
        }
    }

    fn forget_unnamed(&mut self) {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }
}

impl Env for World {
    type LogFile = File;
    type TreeFile = NoTree;

    fn core(&self) -> CoreId {
        CoreId(0)
    }

    fn now(&self) -> Monotonic {
        let inner = self.inner.borrow();
        // One sleep is longer than any that the log asks for.
        Monotonic(inner.steps * 1000 + inner.naps * 10_000_000_000)
    }

    fn wall(&self) -> Wall {
        Wall(0)
    }

    fn random(&self) -> u64 {
        self.inner.borrow_mut().dice.next()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> {
        assert!(time < Duration::from_secs(10));
        let world = self.clone();
        let begun = world.inner.borrow().naps;
        poll_fn(move |context| {
            let inner = &mut *world.inner.borrow_mut();
            if inner.naps > begun {
                return Poll::Ready(());
            }
            inner.sleepers.push(context.waker().clone());
            Poll::Pending
        })
    }

    fn next_pass(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.inner.borrow_mut().spawned.push(Box::pin(task));
    }

    fn create_dir_all(&self, _dir: &Path) -> impl Future<Output = io::Result<()>> {
        std::future::ready(Ok(()))
    }

    async fn list(&self, _dir: &Path) -> io::Result<Vec<FileFact>> {
        self.request(Action::Read).await?;
        let inner = self.inner.borrow();
        let fact = |(path, file): (&PathBuf, &u64)| FileFact {
            name: path
                .file_name()
                .expect("named")
                .to_string_lossy()
                .into_owned(),
            size: inner.files[file].len() as u64,
        };
        Ok(inner.names.iter().map(fact).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> {
        self.request(Action::Rename {
            from: from.to_path_buf(),
            to: to.to_path_buf(),
        })
    }

    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        self.request(Action::Remove {
            path: path.to_path_buf(),
        })
    }

    fn sync_dir(&self, _dir: &Path) -> impl Future<Output = io::Result<()>> {
        self.request(Action::SyncDir)
    }

    fn create_zeroed(&self, path: &Path, size: u64) -> impl Future<Output = io::Result<()>> {
        assert!(!self.inner.borrow().names.contains_key(path));
        self.request(Action::Create {
            path: path.to_path_buf(),
            size,
        })
    }

    async fn open_log(&self, path: &Path) -> io::Result<File> {
        self.request(Action::Read).await?;
        let inner = self.inner.borrow();
        let number = *inner.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let size = inner.files[&number].len() as u64;
        Ok(File {
            world: self.clone(),
            number,
            size,
        })
    }

    async fn open_tree(&self, _path: &Path, _map_bytes_max: u64) -> io::Result<NoTree> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

pub struct File {
    world: World,
    number: u64,
    size: u64,
}

impl LogFile for File {
    type Buffer = Vec<u8>;

    fn size(&self) -> u64 {
        self.size
    }

    fn alignment(&self) -> usize {
        self.world.inner.borrow().alignment
    }

    fn alloc(&self, size: usize) -> Vec<u8> {
        assert!(size.is_multiple_of(self.alignment()));
        vec![0; size]
    }

    fn write_at(
        &self,
        buffer: Vec<u8>,
        offset: u64,
    ) -> impl Future<Output = io::Result<()>> + 'static {
        let unit = self.alignment();
        assert!(offset.is_multiple_of(unit as u64) && buffer.len().is_multiple_of(unit));
        assert!(offset + buffer.len() as u64 <= self.size);
        let inner = &mut *self.world.inner.borrow_mut();
        inner.check_fresh(self.number, offset, buffer.len(), false);
        let (file, bytes) = (self.number, buffer);
        let world = self.world.clone();
        async move {
            world
                .request(Action::Write {
                    file,
                    offset,
                    bytes,
                })
                .await
        }
    }

    async fn read_at(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        self.world.request(Action::Read).await?;
        let inner = self.world.inner.borrow();
        Ok(inner.files[&self.number][offset as usize..offset as usize + size].to_vec())
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

/// The log has no tree.
pub enum NoTree {}

impl TreeFile for NoTree {
    fn size(&self) -> u64 {
        match *self {}
    }

    fn pages(&self) -> Arc<dyn PageSource> {
        match *self {}
    }

    async fn write_at(&self, _bytes: Vec<u8>, _offset: u64) -> io::Result<()> {
        match *self {}
    }

    async fn sync(&self) -> io::Result<()> {
        match *self {}
    }

    async fn set_size(&self, _size: u64) -> io::Result<()> {
        match *self {}
    }
}
