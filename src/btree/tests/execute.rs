//! Pure. Plans carried out by the driver, readers on other threads, and the largest values.

use crate::btree::memory::MemoryPages;
use crate::btree::{BucketId, Options, Plan, ReadTxn, Step, Tree, execute, format};
use crate::env::{PageSource, TreeFile};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

const BUCKET: BucketId = BucketId(31);

fn fresh(page_size: u32) -> (MemoryPages, Tree) {
    let pages = MemoryPages::new();
    pages.run(&format(&Options { page_size }, 7));
    let tree = Tree::open(Arc::new(pages.clone()), pages.size()).unwrap();
    (pages, tree)
}

/// A file that writes down what begins and what ends, completes writes in the wrong order, and
/// fails at one of them.
struct Recorder {
    log: RefCell<Vec<String>>,
    begun: Cell<usize>,
    fail_at: usize,
}

impl Recorder {
    /// Every third operation is ready at once; the others have to be polled again.
    async fn operation(&self, name: String) -> io::Result<()> {
        let number = self.begun.replace(self.begun.get() + 1);
        self.log.borrow_mut().push(format!("begin {name}"));
        let mut polls = number % 3;
        std::future::poll_fn(|context| {
            if polls == 0 {
                return Poll::Ready(());
            }
            polls -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        self.log.borrow_mut().push(format!("end {name}"));
        if number == self.fail_at {
            Err(io::Error::other("broken disk"))
        } else {
            Ok(())
        }
    }
}

impl TreeFile for Recorder {
    fn size(&self) -> u64 {
        0
    }

    fn pages(&self) -> Arc<dyn PageSource> {
        Arc::new(MemoryPages::new())
    }

    async fn write_at(&self, _: Vec<u8>, offset: u64) -> io::Result<()> {
        self.operation(format!("write {offset}")).await
    }

    async fn sync(&self) -> io::Result<()> {
        self.operation("sync".into()).await
    }

    async fn set_size(&self, size: u64) -> io::Result<()> {
        self.operation(format!("size {size}")).await
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("a future that is polled 10000 times is done");
}

fn plan() -> Plan {
    let (_, mut tree) = fresh(512);
    let txn = tree.begin();
    let mut plan = tree.seal(txn).unwrap();
    let write = |offset| Step::Write {
        offset,
        bytes: vec![0; 512],
    };
    plan.steps = vec![Step::SetSize(9)];
    plan.steps.extend((1..30).map(write));
    plan.steps
        .extend([Step::Sync, write(0), Step::Sync, Step::SetSize(5)]);
    plan
}

// Would catch: a barrier that begins before the writes ahead of it have ended, or a write that
// begins before the barrier ahead of it has ended.
#[test]
fn barriers_wait_for_all_before_them() {
    let file = Recorder {
        log: RefCell::default(),
        begun: Cell::new(0),
        fail_at: usize::MAX,
    };
    block_on(execute(plan(), &file)).unwrap();
    let log = file.log.into_inner();
    assert_eq!(log.len(), 2 * 34);
    let mut open = 0;
    for line in &log {
        let barrier = line.contains("sync") || line.contains("size");
        if line.starts_with("begin") {
            assert!(!barrier || open == 0, "{line} with {open} writes open");
            open += 1;
        } else {
            open -= 1;
        }
        assert!(open <= 8);
    }
    assert_eq!(log.last().unwrap(), "end size 5");
    assert!(log.iter().any(|line| line == "begin write 29"));
}

// Would catch: work that goes on after a failed step, above all the meta after a failed page.
#[test]
fn nothing_begins_after_a_failure_is_seen() {
    for fail_at in 0..34 {
        let file = Recorder {
            log: RefCell::default(),
            begun: Cell::new(0),
            fail_at,
        };
        assert!(block_on(execute(plan(), &file)).is_err());
        let log = file.log.into_inner();
        if fail_at < 31 {
            assert!(
                !log.iter().any(|line| line == "begin write 0"),
                "the meta is not written"
            );
        }
    }
}

// Would catch: a page reused or marked checked while a reader on another core still needs its old
// content. Every commit writes its number to all keys: a reader sees one number only.
#[test]
fn readers_on_other_threads_see_one_commit() {
    let (pages, mut tree) = fresh(512);
    let latest: Mutex<Option<ReadTxn>> = Mutex::new(None);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut read = 0;
                while !done.load(Ordering::Relaxed) || read == 0 {
                    let txn = latest.lock().unwrap().clone();
                    let Some(txn) = txn else { continue };
                    let mut cursor = txn.bucket(BUCKET).cursor();
                    let (mut numbers, mut keys) = (Vec::new(), 0);
                    while cursor.next().unwrap() {
                        let (_, value) = cursor.current().unwrap().unwrap();
                        numbers.push(u64::from_le_bytes(value[..8].try_into().unwrap()));
                        keys += 1;
                    }
                    numbers.dedup();
                    assert_eq!((numbers.len(), keys), (1, 300));
                    assert_eq!(numbers[0], txn.txid().0);
                    read += 1;
                }
            });
        }
        for _ in 0..300 {
            let mut txn = tree.begin();
            for key in 0..300_u32 {
                let mut value = txn.txid().0.to_le_bytes().to_vec();
                value.resize(8 + (key as usize * 7) % 40, b'.');
                txn.put(BUCKET, &key.to_be_bytes(), &value).unwrap();
            }
            let plan = tree.seal(txn).unwrap();
            tree.committed(pages.run(&plan));
            *latest.lock().unwrap() = Some(tree.read());
        }
        done.store(true, Ordering::Relaxed);
    });
    *latest.lock().unwrap() = None;
    assert_eq!(tree.pinned_count(), 0);
    tree.check().unwrap();
}

// Would catch: sizes that overflow a field somewhere on the way.
#[test]
fn the_largest_keys_and_values_work() {
    let (pages, mut tree) = fresh(4096);
    let long = |last: u8| {
        let mut bytes = vec![b'x'; 8 << 20];
        *bytes.last_mut().unwrap() = last;
        bytes
    };
    let mut txn = tree.begin();
    for last in [3, 1, 2] {
        txn.put(BUCKET, &long(last), &long(last + 10)).unwrap();
        assert_eq!(
            &*txn.get(BUCKET, &long(last)).unwrap().unwrap(),
            long(last + 10)
        );
    }
    txn.put(BUCKET, b"", b"").unwrap();
    txn.put(BUCKET, b"short", &long(0)).unwrap();
    let plan = tree.seal(txn).unwrap();
    tree.committed(pages.run(&plan));
    let report = tree.check().unwrap();
    assert_eq!(report.keys, 5);
    let txn = tree.read();
    let bucket = txn.bucket(BUCKET);
    assert_eq!(&*bucket.get(&long(2)).unwrap().unwrap(), long(12));
    assert_eq!(bucket.get(&long(4)).unwrap().map(|value| value.len()), None);
    let mut cursor = bucket.cursor();
    assert!(cursor.seek(&long(2)[..(8 << 20) - 1]).unwrap());
    assert_eq!(cursor.key().unwrap(), long(1));
    let mut txn = tree.begin();
    for last in [1, 2, 3] {
        assert!(txn.delete(BUCKET, &long(last)).unwrap());
    }
    let plan = tree.seal(txn).unwrap();
    tree.committed(pages.run(&plan));
    assert_eq!(tree.check().unwrap().overflow_pages, 2049);
}

// Would catch: a reader that cannot leave its core.
#[test]
fn readers_may_go_anywhere() {
    fn anywhere<T: Send + Sync + Clone + 'static>(_: &T) {}
    anywhere(&fresh(512).1.read());
}

// Would catch: a file that grows with each commit of the same size, because pages are not reused.
#[test]
fn overwriting_does_not_grow_the_file() {
    let (pages, mut tree) = fresh(512);
    let mut count = 0;
    for commit in 0..200_u64 {
        let mut txn = tree.begin();
        for key in 0..300_u32 {
            txn.put(BUCKET, &key.to_be_bytes(), &commit.to_le_bytes().repeat(3))
                .unwrap();
        }
        let plan = tree.seal(txn).unwrap();
        tree.committed(pages.run(&plan));
        if commit == 3 {
            count = tree.check().unwrap().free_pages + tree.in_use_bytes() / 512;
        }
    }
    assert_eq!(
        tree.check().unwrap().free_pages + tree.in_use_bytes() / 512,
        count
    );
}

// Would catch: appends that leave pages half empty.
#[test]
fn appended_revisions_fill_their_pages() {
    let (pages, mut tree) = fresh(4096);
    for commit in 0..40_u64 {
        let mut txn = tree.begin();
        for n in 0..57 {
            let mut key = (commit * 57 + n).to_be_bytes().to_vec();
            key.extend_from_slice(b"_\0\0\0\0\0\0\0\0");
            txn.put(BUCKET, &key, &[7; 300]).unwrap();
        }
        let plan = tree.seal(txn).unwrap();
        tree.committed(pages.run(&plan));
    }
    let report = tree.check().unwrap();
    assert!(
        report.leaf_bytes * 100 / (report.leaf_pages * 4096) >= 90,
        "{report:?}"
    );
}
