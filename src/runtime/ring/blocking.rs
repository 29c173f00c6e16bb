//! Adapter. The helper threads of a core, for what would block it.

use crate::ids::CoreId;
use crate::runtime::limits;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Work = Box<dyn FnOnce() + Send>;

/// The way to a core's helper threads, which end when it is dropped.
pub(super) struct HelperThreads {
    work: flume::Sender<Work>,
}

impl HelperThreads {
    /// Starts the threads; they inherit the affinity of the calling thread.
    pub(super) fn start(core: CoreId) -> io::Result<HelperThreads> {
        let (work, waiting) = flume::unbounded::<Work>();
        for _ in 0..limits::HELPER_THREADS {
            let waiting = waiting.clone();
            std::thread::Builder::new()
                .name(format!("help-{core}"))
                .spawn(move || waiting.iter().for_each(|work| work()))?;
        }
        Ok(HelperThreads { work })
    }

    /// Runs `work` on a helper thread.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> io::Result<R> {
        let (answer, wait) = flume::bounded(1);
        let work = move || {
            let done = catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(io::Error::other("a helper thread panicked")));
            // Nobody waits any more: the core has ended.
            let _ = answer.send(done);
        };
        self.work
            .send(Box::new(work))
            .expect("helper threads live as long as this value");
        wait.into_recv_async()
            .await
            .expect("every work is answered, a panic too")
    }
}
