//! Adapter. Log and tree files on a simulated disk.

use super::disk::{FileId, SECTOR_BYTES, View, WriteId};
use super::env::{SimEnv, fact};
use crate::env::{LogFile, PageRef, PageSource, TreeFile};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// A log file: each write is in flight for a drawn time, and durable after it.
pub struct SimLogFile {
    env: SimEnv,
    file: FileId,
    size: u64,
}

impl SimLogFile {
    pub(super) fn new(env: SimEnv, file: FileId) -> io::Result<SimLogFile> {
        let size = env.disk().borrow().size(file);
        if size == 0 {
            return Err(invalid("an empty log file"));
        }
        Ok(SimLogFile { env, file, size })
    }

    fn check_range(&self, offset: u64, size: usize) -> io::Result<()> {
        let aligned = |n: u64| n.is_multiple_of(SECTOR_BYTES as u64);
        if size == 0 || !aligned(offset) || !aligned(size as u64) {
            return Err(invalid("not whole blocks"));
        }
        match offset.checked_add(size as u64) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(invalid("past the end of the log file")),
        }
    }
}

/// How a write in flight tells its future that it landed. The write lands whether or not somebody
/// still waits for it.
#[derive(Default)]
struct Landing {
    outcome: Option<io::Result<()>>,
    waker: Option<Waker>,
}

impl LogFile for SimLogFile {
    type Buffer = Vec<u8>;

    fn size(&self) -> u64 {
        self.size
    }

    fn alignment(&self) -> usize {
        SECTOR_BYTES
    }

    fn alloc(&self, size: usize) -> Vec<u8> {
        assert!(size > 0, "a log buffer is never empty");
        assert!(
            size.is_multiple_of(SECTOR_BYTES),
            "a log buffer is whole blocks"
        );
        vec![0; size]
    }

    fn write_at(
        &self,
        buffer: Vec<u8>,
        offset: u64,
    ) -> impl Future<Output = io::Result<()>> + 'static {
        let range = self.check_range(offset, buffer.len());
        let (env, file) = (self.env.clone(), self.file);
        async move {
            range?;
            if !env.is_alive() {
                return Err(io::Error::other("a file of before the crash"));
            }
            let landing = Rc::new(RefCell::new(Landing::default()));
            let write = env.disk().borrow_mut().begin_write(file, offset, buffer);
            let time = env.world().now_ns() + env.world().disk_time_ns(env.node());
            let arrival = arrive(env.clone(), write, Rc::clone(&landing));
            env.world().at(env.node(), time, Box::new(arrival));
            poll_fn(|context| {
                let mut landing = landing.borrow_mut();
                match landing.outcome.take() {
                    Some(outcome) => Poll::Ready(outcome),
                    None => {
                        landing.waker = Some(context.waker().clone());
                        Poll::Pending
                    }
                }
            })
            .await
        }
    }

    async fn read_at(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        self.check_range(offset, size)?;
        let read = |disk: &mut super::Disk| disk.read(self.file, offset, size);
        self.env.disk_operation(fact::READ, read).await
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

fn arrive(env: SimEnv, write: WriteId, landing: Rc<RefCell<Landing>>) -> impl FnOnce() {
    move || {
        env.world().note(fact::LOG_WRITE);
        let outcome = env.disk().borrow_mut().finish_write(write);
        let waker = {
            let mut landing = landing.borrow_mut();
            landing.outcome = Some(outcome);
            landing.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A tree file: writes are visible when they return, durable after a sync.
pub struct SimTreeFile {
    env: SimEnv,
    file: FileId,
    pages: Arc<SimPages>,
}

impl SimTreeFile {
    pub(super) fn new(env: SimEnv, file: FileId, map_bytes_max: u64) -> io::Result<SimTreeFile> {
        let view = env.disk().borrow().view(file);
        if view.size() > map_bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "larger than its map",
            ));
        }
        let pages = Arc::new(SimPages {
            view,
            map_bytes_max,
        });
        Ok(SimTreeFile { env, file, pages })
    }

    fn check_end(&self, end: Option<u64>) -> io::Result<()> {
        match end {
            Some(end) if end <= self.pages.map_bytes_max => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "past the end of the map",
            )),
        }
    }
}

/// What readers of a tree file see.
struct SimPages {
    view: View,
    map_bytes_max: u64,
}

impl PageSource for SimPages {
    fn read(&self, range: Range<u64>) -> Option<PageRef<'_>> {
        let size = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        if range.end > self.map_bytes_max {
            return None;
        }
        Some(PageRef::Shared(self.view.read(range.start, size)?.into()))
    }
}

impl TreeFile for SimTreeFile {
    fn size(&self) -> u64 {
        self.pages.view.size()
    }

    fn pages(&self) -> Arc<dyn PageSource> {
        Arc::<SimPages>::clone(&self.pages)
    }

    async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        self.check_end(offset.checked_add(bytes.len() as u64))?;
        let write = |disk: &mut super::Disk| disk.write(self.file, offset, &bytes);
        self.env.disk_operation(fact::TREE_WRITE, write).await
    }

    async fn sync(&self) -> io::Result<()> {
        self.env
            .disk_operation(fact::SYNC, |disk| disk.sync(self.file))
            .await
    }

    async fn set_size(&self, size: u64) -> io::Result<()> {
        self.check_end(Some(size))?;
        self.env
            .disk_operation(fact::SET_SIZE, |disk| disk.set_size(self.file, size))
            .await
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
