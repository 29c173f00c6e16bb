//! Adapter. Cores: one executor on one pinned thread each, and the news of their end.

use super::World;
use super::event::Event;
use crate::ids::CoreId;
use futures_lite::FutureExt;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

/// How log files are written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum LogAccess {
    /// O_DIRECT and O_DSYNC: the page cache is not involved.
    #[default]
    Direct,
    /// O_DSYNC through the page cache, for file systems without O_DIRECT. Just as durable as the
    /// file system is (tmpfs is not), slower, and a torn write may tear at a page.
    Buffered,
}

/// The cores to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The CPU of each core, from [`cpus::choose`].
    pub cpus: Vec<usize>,
    /// Pin each core to its CPU. Tests that run several cores at once leave it off.
    pub pin: bool,
    pub log_access: LogAccess,
}

impl Options {
    /// Pinned cores on these CPUs, with the direct log.
    pub fn new(cpus: Vec<usize>) -> Options {
        Options {
            cpus,
            pin: true,
            log_access: LogAccess::Direct,
        }
    }

    /// So many cores, not pinned.
    pub fn unpinned(cores: usize) -> Options {
        Options {
            cpus: vec![0; cores],
            pin: false,
            log_access: LogAccess::Direct,
        }
    }
}

/// Why the cores could not start.
#[derive(Debug)]
pub enum StartError {
    /// The number of per-core values is not the number of CPUs.
    Values { got: usize, expected: usize },
    /// A thread could not be created.
    Thread { core: CoreId, error: io::Error },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Values { got, expected } => {
                write!(f, "{got} values for {expected} cores")
            }
            StartError::Thread { core, error } => {
                write!(f, "cannot start the thread of core {core}: {error}")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// How a core ended that should not have.
#[derive(Debug)]
pub enum CoreFailure {
    /// The executor could not be made or pinned (io_uring, locked memory, affinity).
    Executor { core: CoreId, error: io::Error },
    /// A task panicked. The core may still run others: the process must end.
    Panic { core: CoreId, message: String },
}

impl CoreFailure {
    pub fn core(&self) -> CoreId {
        match self {
            CoreFailure::Executor { core, .. } | CoreFailure::Panic { core, .. } => *core,
        }
    }
}

impl fmt::Display for CoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoreFailure::Executor { core, error } => {
                write!(f, "core {core} cannot run its executor: {error}")
            }
            CoreFailure::Panic { core, message } => {
                write!(f, "a task of core {core} panicked: {message}")
            }
        }
    }
}

impl std::error::Error for CoreFailure {}

/// Cores that run. Dropping it leaves them running.
pub struct Running {
    ends: mpsc::Receiver<Result<CoreId, CoreFailure>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    /// Blocks until every core's future has returned, or until the first failure; then the other
    /// cores still run and the caller ends the process.
    pub fn wait(self) -> Result<(), CoreFailure> {
        for _ in 0..self.threads.len() {
            match self.ends.recv() {
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => return Err(failure),
                // Every sender is gone: each thread has reported or died while reporting.
                Err(mpsc::RecvError) => break,
            }
        }
        for (core, thread) in self.threads.into_iter().enumerate() {
            if let Err(payload) = thread.join() {
                let message = panic_message(&*payload);
                return Err(CoreFailure::Panic {
                    core: CoreId(core as u16),
                    message,
                });
            }
        }
        Ok(())
    }
}

/// Starts one core per CPU of `options`. Core N runs `setup(env, values[N])` to its end.
pub fn start<W, T, S, F>(options: &Options, values: Vec<T>, setup: S) -> Result<Running, StartError>
where
    W: World,
    T: Send + 'static,
    S: Fn(W, T) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + 'static,
{
    let cores = options.cpus.len();
    if values.len() != cores {
        return Err(StartError::Values {
            got: values.len(),
            expected: cores,
        });
    }
    let (ends_sender, ends) = mpsc::channel();
    let setup = Arc::new(setup);
    let base = Instant::now();
    let mut threads = Vec::with_capacity(cores);
    for (place, (cpu, value)) in options.cpus.iter().copied().zip(values).enumerate() {
        let core = CoreId(u16::try_from(place).expect("fewer CPUs than 65536"));
        let setup = Arc::clone(&setup);
        let ends = ends_sender.clone();
        let news = ends_sender.clone();
        let fatal = Fatal::new(move |failure| {
            // The receiver is gone only when main ends already.
            let _ = news.send(Err(failure));
        });
        let seat = Seat {
            core,
            cores,
            cpu: options.pin.then_some(cpu),
            base,
            log_access: options.log_access,
            fatal,
        };
        let thread = std::thread::Builder::new()
            .name(format!("core-{core}"))
            .spawn(move || {
                let end = W::run(seat, move |world| async move {
                    AssertUnwindSafe(setup(world, value)).catch_unwind().await
                })
                .and_then(|end| match end {
                    Ok(()) => Ok(core),
                    Err(payload) => Err(CoreFailure::Panic {
                        core,
                        message: panic_message(&*payload),
                    }),
                });
                let _ = ends.send(end);
            })
            .map_err(|error| StartError::Thread { core, error })?;
        threads.push(thread);
    }
    Ok(Running { ends, threads })
}

/// Runs one future as core 0 on the calling thread, unpinned, to its end: for tools and tests. A
/// panic of any task resumes here.
pub fn run_here<W, T, S, F>(options: &Options, setup: S) -> Result<T, CoreFailure>
where
    W: World,
    T: 'static,
    S: FnOnce(W) -> F,
    F: Future<Output = T> + 'static,
{
    let slot = Arc::new(Mutex::new(None));
    let failed = Event::new();
    let fatal = Fatal::new({
        let (slot, failed) = (Arc::clone(&slot), failed.clone());
        move |failure| {
            slot.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(failure);
            failed.raise();
        }
    });
    let seat = Seat {
        core: CoreId(0),
        cores: 1,
        cpu: None,
        base: Instant::now(),
        log_access: options.log_access,
        fatal,
    };
    let end = W::run(seat, |world| {
        let main = setup(world);
        async move {
            let main = async { Some(AssertUnwindSafe(main).catch_unwind().await) };
            let failure = async {
                failed.wait().await;
                None
            };
            futures_lite::future::or(main, failure).await
        }
    })?;
    match end {
        Some(Ok(value)) => Ok(value),
        Some(Err(payload)) => std::panic::resume_unwind(payload),
        None => {
            let failure = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(failure.expect("the event is raised after the slot is filled"))
        }
    }
}

/// Where a core sits, and what every adapter is told.
pub struct Seat {
    pub(super) core: CoreId,
    /// Cores of this process.
    pub(super) cores: usize,
    /// The CPU to pin the thread to, after its helpers have started.
    pub(super) cpu: Option<usize>,
    /// The same on every core, so that their clocks compare.
    pub(super) base: Instant,
    pub(super) log_access: LogAccess,
    pub(super) fatal: Fatal,
}

impl Seat {
    pub(super) fn failure(&self, error: io::Error) -> CoreFailure {
        CoreFailure::Executor {
            core: self.core,
            error,
        }
    }
}

/// Where a core's tasks report a panic.
#[derive(Clone)]
pub(super) struct Fatal {
    report: Arc<dyn Fn(CoreFailure) + Send + Sync>,
}

impl Fatal {
    fn new(report: impl Fn(CoreFailure) + Send + Sync + 'static) -> Fatal {
        Fatal {
            report: Arc::new(report),
        }
    }

    pub(super) fn report(&self, core: CoreId, payload: &(dyn Any + Send)) {
        (self.report)(CoreFailure::Panic {
            core,
            message: panic_message(payload),
        });
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    match payload.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => "a panic without a message".to_owned(),
    }
}
