//! Pure. A disk with a write-back cache, and what is left of it after the power went.
//!
//! ```text
//!   write ──► cache ──sync──► platter    create, rename, remove ──► names ──sync_dir──► platter
//!   begin_write ──► in flight ──finish_write──► cache and platter
//! ```
//!
//! At a crash, sector by sector of 512 bytes: a cached sector has the platter's bytes or those of
//! any write since; a write in flight is lost, whole or torn; of the pending directory operations
//! any subset took place; a changed size has any of its values since. A sector itself never tears.
//!
//! After a failed sync the writes that it covered are forgotten by the cache, as on Linux: later
//! syncs succeed without them. A failed write leaves any of its sectors written.
//!
//! Everything is synchronous and drawn from one seed; [`Disk`] needs no simulated world.

use super::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The unit that a power cut does not divide.
pub const SECTOR_BYTES: usize = 512;

/// A file, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(u64);

/// A write in flight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WriteId(u64);

/// The bytes of a file as its processes see them; readable from other threads.
#[derive(Clone, Default, Debug)]
pub struct View {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl View {
    pub fn size(&self) -> u64 {
        self.with(|bytes| bytes.len() as u64)
    }

    /// A copy of `offset..offset + size`, or `None` past the end.
    pub fn read(&self, offset: u64, size: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        self.with(|bytes| Some(bytes.get(start..start.checked_add(size)?)?.to_vec()))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        look(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A simulated disk with its directories. One per node.
#[derive(Debug)]
pub struct Disk {
    rng: Rng,
    files: BTreeMap<FileId, File>,
    /// Directories that were created; durable at once, since no test needs their loss.
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, FileId>,
    durable_names: BTreeMap<PathBuf, FileId>,
    /// Directory operations since the last `sync_dir` that covered them, in order.
    pending_names: Vec<NameChange>,
    in_flight: BTreeMap<WriteId, InFlight>,
    next_id: u64,
    /// Mutating operations so far; reads do not count.
    steps: u64,
    fail_at: Option<(u64, io::ErrorKind)>,
    cut_after: Option<u64>,
    /// All files together may hold so many bytes.
    capacity: u64,
}

#[derive(Debug)]
struct File {
    view: View,
    durable: Vec<u8>,
    /// Changes since the last sync, in order.
    pending: Vec<Change>,
    /// Changes that a failed sync took out of `pending`: no later sync makes them durable.
    forgotten: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Size(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Create {
        path: PathBuf,
        file: FileId,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        file: FileId,
    },
    Remove {
        path: PathBuf,
    },
}

#[derive(Debug)]
struct InFlight {
    file: FileId,
    offset: usize,
    bytes: Vec<u8>,
}

impl Change {
    /// As the cache does it: a write past the end extends the file.
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes: new } => {
                let end = offset + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(new);
            }
            Change::Size(size) => bytes.resize(*size, 0),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, FileId>) {
        match self {
            NameChange::Create { path, file } => {
                names.insert(path.clone(), *file);
            }
            NameChange::Rename { from, to, file } => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
            NameChange::Remove { path } => {
                names.remove(path);
            }
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        match self {
            NameChange::Create { path, .. } | NameChange::Remove { path } => {
                path.parent() == Some(dir)
            }
            NameChange::Rename { from, to, .. } => {
                from.parent() == Some(dir) || to.parent() == Some(dir)
            }
        }
    }
}

impl Disk {
    pub fn new(seed: u64) -> Disk {
        Disk {
            rng: Rng::new(seed),
            files: BTreeMap::new(),
            dirs: BTreeSet::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            in_flight: BTreeMap::new(),
            next_id: 1,
            steps: 0,
            fail_at: None,
            cut_after: None,
            capacity: u64::MAX,
        }
    }

    // Orders to fail.

    /// Mutating operations so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The `nth` mutating operation from now (1 is the next) fails with `kind`; later ones succeed.
    pub fn fail_at(&mut self, nth: u64, kind: io::ErrorKind) {
        assert!(nth > 0, "the next operation is number 1");
        self.fail_at = Some((self.steps + nth, kind));
    }

    /// After `count` more mutating operations the power is gone: each further one fails, until
    /// [`Disk::crash`].
    pub fn cut_after(&mut self, count: u64) {
        self.cut_after = Some(self.steps + count);
    }

    pub fn is_cut(&self) -> bool {
        self.cut_after.is_some_and(|last| self.steps >= last)
    }

    /// All files together may hold `bytes`.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    /// Flips one bit, on the platter and in the cache. `false` past the end or for no such file.
    pub fn rot(&mut self, path: &Path, offset: u64, bit: u8) -> bool {
        assert!(bit < 8, "a byte has 8 bits");
        let Some(file) = self.names.get(path).and_then(|id| self.files.get_mut(id)) else {
            return false;
        };
        let at = offset as usize;
        let flip = |bytes: &mut Vec<u8>| match bytes.get_mut(at) {
            Some(byte) => {
                *byte ^= 1 << bit;
                true
            }
            None => false,
        };
        let cached = file.view.with(flip);
        flip(&mut file.durable) || cached
    }

    // Names.

    pub fn create_dir_all(&mut self, dir: &Path) -> io::Result<()> {
        self.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    /// The files of `dir` and their sizes, sorted by name.
    pub fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let below = self
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir));
        let files: Vec<_> = below
            .filter_map(|(path, id)| {
                let name = path.file_name()?.to_str()?.to_owned();
                Some((name, self.files[id].view.size()))
            })
            .collect();
        if files.is_empty() && !self.dirs.contains(dir) {
            let what = format!("no directory {}", dir.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        Ok(files)
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let file = self.find(from)?;
        let change = NameChange::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            file,
        };
        self.change_names(change);
        Ok(())
    }

    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.find(path)?;
        self.change_names(NameChange::Remove {
            path: path.to_owned(),
        });
        Ok(())
    }

    pub fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.step()?;
        let pending = std::mem::take(&mut self.pending_names);
        for change in pending {
            if change.is_in(dir) {
                change.apply(&mut self.durable_names);
            } else {
                self.pending_names.push(change);
            }
        }
        Ok(())
    }

    pub fn find(&self, path: &Path) -> io::Result<FileId> {
        self.names.get(path).copied().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("no file {}", path.display()),
            )
        })
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    // Files.

    /// A new file with `size` zero bytes, durable as soon as its name is.
    pub fn create_zeroed(&mut self, path: &Path, size: u64) -> io::Result<FileId> {
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.step()?;
        let room = self.capacity.saturating_sub(self.used_bytes());
        if size > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(self.insert(path, vec![0; size as usize]))
    }

    /// The file of that name, created empty when there is none.
    pub fn open_or_create(&mut self, path: &Path) -> io::Result<FileId> {
        match self.names.get(path) {
            Some(id) => Ok(*id),
            None => {
                self.step()?;
                Ok(self.insert(path, Vec::new()))
            }
        }
    }

    fn insert(&mut self, path: &Path, bytes: Vec<u8>) -> FileId {
        let id = FileId(self.take_id());
        let view = View {
            bytes: Arc::new(Mutex::new(bytes.clone())),
        };
        let file = File {
            view,
            durable: bytes,
            pending: Vec::new(),
            forgotten: Vec::new(),
        };
        self.files.insert(id, file);
        self.change_names(NameChange::Create {
            path: path.to_owned(),
            file: id,
        });
        id
    }

    pub fn size(&self, file: FileId) -> u64 {
        self.file(file).view.size()
    }

    /// What processes see; stays with them when the file is renamed or removed.
    pub fn view(&self, file: FileId) -> View {
        self.file(file).view.clone()
    }

    pub fn read(&self, file: FileId, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let bytes = self.file(file).view.read(offset, size);
        bytes.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Writes to the cache: visible at once, durable after [`Disk::sync`].
    pub fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = offset as usize;
        let change = Change::Write {
            offset,
            bytes: bytes.to_vec(),
        };
        if let Err(error) = self.step() {
            if !self.is_cut() {
                for part in self.torn(offset, bytes) {
                    let file = self.file_mut(file);
                    file.view.with(|bytes| part.apply(bytes));
                    file.pending.push(part);
                }
            }
            return Err(error);
        }
        let end = (offset + bytes.len()) as u64;
        let growth = end.saturating_sub(self.size(file));
        if growth > self.capacity.saturating_sub(self.used_bytes()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.file_mut(file);
        file.view.with(|bytes| change.apply(bytes));
        file.pending.push(change);
        Ok(())
    }

    pub fn set_size(&mut self, file: FileId, size: u64) -> io::Result<()> {
        self.step()?;
        let growth = size.saturating_sub(self.size(file));
        if growth > self.capacity.saturating_sub(self.used_bytes()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let change = Change::Size(size as usize);
        let file = self.file_mut(file);
        file.view.with(|bytes| change.apply(bytes));
        file.pending.push(change);
        Ok(())
    }

    pub fn sync(&mut self, file: FileId) -> io::Result<()> {
        if let Err(error) = self.step() {
            if !self.is_cut() {
                let file = self.file_mut(file);
                let lost = std::mem::take(&mut file.pending);
                file.forgotten.extend(lost);
            }
            return Err(error);
        }
        let file = self.file_mut(file);
        for change in std::mem::take(&mut file.pending) {
            change.apply(&mut file.durable);
        }
        Ok(())
    }

    /// Puts a durable overwrite on its way. Not visible before [`Disk::finish_write`].
    pub fn begin_write(&mut self, file: FileId, offset: u64, bytes: Vec<u8>) -> WriteId {
        let id = WriteId(self.take_id());
        let offset = offset as usize;
        let end = offset + bytes.len();
        assert!(
            end as u64 <= self.size(file),
            "a log file is only overwritten"
        );
        self.in_flight.insert(
            id,
            InFlight {
                file,
                offset,
                bytes,
            },
        );
        id
    }

    /// The write is on the platter, or failed and left any of its sectors there.
    pub fn finish_write(&mut self, id: WriteId) -> io::Result<()> {
        let write = self.in_flight.remove(&id).expect("a write finishes once");
        let outcome = self.step();
        let parts = match &outcome {
            Ok(()) => vec![Change::Write {
                offset: write.offset,
                bytes: write.bytes,
            }],
            Err(_) => self.torn(write.offset, &write.bytes),
        };
        let file = self.file_mut(write.file);
        for part in parts {
            file.view.with(|bytes| part.apply(bytes));
            part.apply(&mut file.durable);
        }
        outcome
    }

    /// A durable overwrite in one call, for users without a clock.
    pub fn write_durably(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let id = self.begin_write(file, offset, bytes.to_vec());
        self.finish_write(id)
    }

    // The power goes.

    /// Draws what survived. Orders to fail are over; capacity stays.
    pub fn crash(&mut self) {
        self.fail_at = None;
        self.cut_after = None;
        // Some crashes keep everything, some nothing: the extremes find other bugs than the middle.
        let keep = [0, 25, 50, 75, 100][self.rng.index(5)];
        for change in std::mem::take(&mut self.pending_names) {
            if self.rng.chance(keep) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        for (_, write) in std::mem::take(&mut self.in_flight) {
            let parts = match self.rng.index(3) {
                0 => Vec::new(),
                1 => vec![Change::Write {
                    offset: write.offset,
                    bytes: write.bytes,
                }],
                _ => self.torn(write.offset, &write.bytes),
            };
            for part in parts {
                part.apply(&mut self.file_mut(write.file).durable);
            }
        }
        let named: Vec<FileId> = self.names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
        for file in self.files.values_mut() {
            let mut changes = std::mem::take(&mut file.forgotten);
            changes.append(&mut file.pending);
            file.durable = survivors(&file.durable, &changes, keep, &mut self.rng);
            // A new view: handles of before the crash keep the old one and see nothing new.
            file.view = View {
                bytes: Arc::new(Mutex::new(file.durable.clone())),
            };
        }
    }

    fn file(&self, id: FileId) -> &File {
        self.files
            .get(&id)
            .expect("a file lives as long as its handles")
    }

    fn file_mut(&mut self, id: FileId) -> &mut File {
        self.files
            .get_mut(&id)
            .expect("a file lives as long as its handles")
    }

    fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .map(|id| self.files[id].view.size())
            .sum()
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn step(&mut self) -> io::Result<()> {
        if self.is_cut() {
            return Err(io::Error::other("the power is gone"));
        }
        self.steps += 1;
        match self.fail_at {
            Some((step, kind)) if step == self.steps => {
                self.fail_at = None;
                Err(io::Error::new(kind, "ordered to fail"))
            }
            _ => Ok(()),
        }
    }

    /// Any of the sectors of a write.
    fn torn(&mut self, offset: usize, bytes: &[u8]) -> Vec<Change> {
        let mut parts = Vec::new();
        for (sector, range) in sectors(offset, bytes.len()) {
            if self.rng.chance(50) {
                let from = range.start - offset;
                let bytes = bytes[from..from + range.len()].to_vec();
                parts.push(Change::Write {
                    offset: range.start,
                    bytes,
                });
            }
            debug_assert!(range.end <= (sector + 1) * SECTOR_BYTES);
        }
        parts
    }
}

/// The sectors that `offset..offset + size` touches, each with the part of the range inside it.
fn sectors(offset: usize, size: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let end = offset + size;
    (offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)).map(move |sector| {
        let start = (sector * SECTOR_BYTES).max(offset);
        (sector, start..((sector + 1) * SECTOR_BYTES).min(end))
    })
}

/// What a file is after a crash: each sector as it was after some prefix of the changes to it.
fn survivors(durable: &[u8], changes: &[Change], keep: u64, rng: &mut Rng) -> Vec<u8> {
    if changes.is_empty() {
        return durable.to_vec();
    }
    let mut seen = durable.to_vec();
    let mut sizes = vec![durable.len()];
    // Per sector, its bytes after each change to it.
    let mut versions: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    for change in changes {
        let before = seen.len();
        change.apply(&mut seen);
        let touched = match change {
            Change::Write { offset, bytes } => sectors(*offset, bytes.len()),
            // What a truncation cut off reads as zeros when the file grows again.
            Change::Size(size) => sectors(*size, before.saturating_sub(*size)),
        };
        for (sector, _) in touched {
            let start = (sector * SECTOR_BYTES).min(seen.len());
            let end = (start + SECTOR_BYTES).min(seen.len());
            let mut bytes = seen[start..end].to_vec();
            bytes.resize(SECTOR_BYTES, 0);
            versions.entry(sector).or_default().push(bytes);
        }
        if seen.len() != before {
            sizes.push(seen.len());
        }
    }
    let size = if rng.chance(keep) {
        seen.len()
    } else {
        sizes[rng.index(sizes.len())]
    };
    let mut after = durable.to_vec();
    after.resize(after.len().max(size).next_multiple_of(SECTOR_BYTES), 0);
    // Devices write pages as often as sectors: half of the crashes decide for 4 KiB at once.
    let sectors_per_draw = if rng.chance(50) { 8 } else { 1 };
    let mut drawn = None;
    let mut kept = false;
    for (sector, versions) in versions {
        if drawn != Some(sector / sectors_per_draw) {
            drawn = Some(sector / sectors_per_draw);
            kept = rng.chance(keep);
        }
        let latest = versions.len() - 1;
        let version = match (kept, keep) {
            (true, _) => Some(latest),
            (false, 0) => None,
            // The platter's, or an earlier one that the cache wrote back in between.
            (false, _) => rng.index(versions.len() + 1).checked_sub(1),
        };
        let start = sector * SECTOR_BYTES;
        if let (Some(version), true) = (version, start < after.len()) {
            after[start..start + SECTOR_BYTES].copy_from_slice(&versions[version]);
        }
    }
    after.truncate(size);
    after
}
