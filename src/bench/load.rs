//! Driver. Makes load: threads that each turn an epoll loop over their connections, hold a fixed
//! number of calls open (closed loop) or start them by the clock (open loop), and check answers.
//!
//! In the open loop a call's latency counts from the moment it was due, not from when a free slot
//! let it start, so that a server that stalls cannot hide behind calls that were never made.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use rustix::time::{ClockId, clock_gettime};

use super::message::header_revision;
use super::process::Usage;
use super::report;
use super::wire::{Answers, Status, Wire};
use super::workload::{Keys, Revisions, Template, Verb, check_get};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Calls still open this long after the end are given up.
const DRAIN_WITHIN: Duration = Duration::from_secs(15);
const INBOX_START: usize = 64 << 10;
const EVENTS_PER_WAIT: usize = 256;

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const STOP: u8 = 2;

#[derive(Clone, Debug)]
pub struct LoadSpec {
    pub endpoint: String,
    pub verb: Verb,
    pub keys: Keys,
    pub connections: usize,
    /// Open calls per connection at most.
    pub in_flight: usize,
    pub threads: usize,
    pub warm_up: Duration,
    pub length: Length,
    /// Operations per second of an open loop; `None` is the closed loop.
    pub rate: Option<f64>,
    pub server_pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    For(Duration),
    Operations(u64),
}

/// Why there was no load.
#[derive(Debug)]
pub enum LoadError {
    Io(std::io::Error),
    Wire(super::wire::WireError),
    NoAddress(String),
    TooFewStreams { admitted: u32, wanted: usize },
    Closed,
    Unanswered { calls: usize },
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::Io(error) => error.fmt(f),
            LoadError::Wire(error) => error.fmt(f),
            LoadError::NoAddress(endpoint) => write!(f, "{endpoint} has no address"),
            LoadError::TooFewStreams { admitted, wanted } => {
                write!(
                    f,
                    "the server admits {admitted} streams, {wanted} wanted in flight"
                )
            }
            LoadError::Closed => f.write_str("the server closed a connection"),
            LoadError::Unanswered { calls } => write!(f, "{calls} calls were never answered"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<std::io::Error> for LoadError {
    fn from(error: std::io::Error) -> LoadError {
        LoadError::Io(error)
    }
}

impl From<rustix::io::Errno> for LoadError {
    fn from(error: rustix::io::Errno) -> LoadError {
        LoadError::Io(error.into())
    }
}

impl From<super::wire::WireError> for LoadError {
    fn from(error: super::wire::WireError) -> LoadError {
        LoadError::Wire(error)
    }
}

/// What a load came to. `operations` and `latency` are of the measured part; `acknowledged` and
/// `failures` of all of it.
#[derive(Debug)]
pub struct LoadResult {
    pub operations: u64,
    pub elapsed: Duration,
    pub latency: Histogram<u64>,
    pub acknowledged: Revisions,
    /// What went wrong, by its text.
    pub failures: BTreeMap<String, u64>,
    pub generator_cpu: Duration,
    pub server: Option<Usage>,
}

/// Shared by the threads of one load: the phase by the main thread, the count by each worker.
struct Shared {
    phase: AtomicU8,
    done: AtomicU64,
}

/// Runs a load to its end. `progress` is called a few times a second with the share done.
pub fn run(spec: &LoadSpec, mut progress: impl FnMut(f64, u64)) -> Result<LoadResult, LoadError> {
    let shared = Shared {
        phase: AtomicU8::new(WARM_UP),
        done: AtomicU64::new(0),
    };
    if matches!(spec.length, Length::Operations(_)) {
        shared.phase.store(MEASURE, Ordering::Relaxed);
    }
    let mut workers = Vec::new();
    for thread in 0..spec.threads {
        workers.push(Worker::connect(spec, thread)?);
    }
    let usage = || spec.server_pid.and_then(Usage::of);
    std::thread::scope(|scope| {
        let shared = &shared;
        let mut handles = Vec::new();
        for worker in workers {
            handles.push(scope.spawn(move || worker.run(shared)));
        }
        let tick = Duration::from_millis(100);
        let begin;
        let before;
        match spec.length {
            Length::For(length) => {
                sleep_until(Instant::now() + spec.warm_up, &handles, tick, || ());
                before = usage();
                shared.phase.store(MEASURE, Ordering::Relaxed);
                begin = Instant::now();
                sleep_until(begin + length, &handles, tick, || {
                    let share = begin.elapsed().as_secs_f64() / length.as_secs_f64();
                    progress(share, shared.done.load(Ordering::Relaxed));
                });
            }
            Length::Operations(count) => {
                before = usage();
                begin = Instant::now();
                while !handles.iter().all(|handle| handle.is_finished()) {
                    std::thread::sleep(Duration::from_millis(5));
                    let done = shared.done.load(Ordering::Relaxed);
                    progress(done as f64 / count as f64, done);
                }
            }
        }
        let elapsed = begin.elapsed();
        let server = usage()
            .zip(before)
            .map(|(after, before)| after.since(&before));
        shared.phase.store(STOP, Ordering::Relaxed);
        let mut result = LoadResult {
            operations: 0,
            elapsed,
            latency: report::histogram(),
            acknowledged: Revisions::default(),
            failures: BTreeMap::new(),
            generator_cpu: Duration::ZERO,
            server,
        };
        for handle in handles {
            let stats = handle.join().expect("a worker does not panic")?;
            result.operations += stats.measured;
            result.latency += &stats.latency;
            result.acknowledged.merge(&stats.acknowledged);
            result.generator_cpu += stats.cpu;
            for (text, count) in stats.failures {
                *result.failures.entry(text).or_default() += count;
            }
        }
        Ok(result)
    })
}

/// Sleeps in ticks; returns early when a worker has ended, which here means it failed.
fn sleep_until<T>(
    deadline: Instant,
    handles: &[std::thread::ScopedJoinHandle<'_, T>],
    tick: Duration,
    mut each: impl FnMut(),
) {
    while Instant::now() < deadline && !handles.iter().any(|handle| handle.is_finished()) {
        std::thread::sleep(tick.min(deadline.saturating_duration_since(Instant::now())));
        each();
    }
}

/// What one worker has counted.
struct Stats {
    measured: u64,
    latency: Histogram<u64>,
    acknowledged: Revisions,
    failures: BTreeMap<String, u64>,
    cpu: Duration,
}

/// One open call.
#[derive(Clone, Copy, Default)]
struct Call {
    start_ns: u64,
    key: u64,
    answered: bool,
}

/// One connection of one worker.
struct Connection {
    socket: TcpStream,
    wire: Wire,
    inbox: Vec<u8>,
    filled: usize,
    /// By tag; `free` holds the tags that no call uses.
    calls: Vec<Call>,
    free: Vec<u32>,
    /// The socket took less than there was: waiting for room.
    blocked: bool,
}

struct Worker {
    spec: LoadSpec,
    connections: Vec<Connection>,
    epoll: rustix::fd::OwnedFd,
    template: Template,
    stats: Stats,
    clock: Instant,
    /// The number of the next operation, over all threads: `thread + n × threads`.
    next: u64,
    quota: u64,
    started: u64,
    /// Answers since the last report to the main thread.
    unreported: u64,
}

struct Nobody;

impl Answers for Nobody {
    fn message(&mut self, _: u64, _: &[u8]) {}
    fn ended(&mut self, _: u64, _: &Status) {}
}

/// One read's worth of answers on one connection.
struct Turn<'a> {
    calls: &'a mut [Call],
    free: &'a mut Vec<u32>,
    stats: &'a mut Stats,
    spec: &'a LoadSpec,
    now_ns: u64,
    measuring: bool,
}

impl Answers for Turn<'_> {
    #[inline]
    fn message(&mut self, tag: u64, body: &[u8]) {
        let call = &mut self.calls[tag as usize];
        call.answered = true;
        match self.spec.verb {
            Verb::Put => match header_revision(body) {
                0 => fail(self.stats, "an answer without a revision"),
                revision => self.stats.acknowledged.add(revision),
            },
            Verb::Get { .. } => match check_get(body, &self.spec.keys, call.key) {
                Ok(_) => self.stats.acknowledged.count += 1,
                Err(wrong) => fail(self.stats, &format!("{wrong:?}")),
            },
        }
    }

    #[inline]
    fn ended(&mut self, tag: u64, status: &Status) {
        let call = &self.calls[tag as usize];
        if !status.is_ok() {
            fail(
                self.stats,
                &format!("code {}: {}", status.code, status.message),
            );
        } else if !call.answered {
            fail(self.stats, "status OK without an answer");
        } else if self.measuring {
            self.stats.measured += 1;
            self.stats
                .latency
                .saturating_record(self.now_ns.saturating_sub(call.start_ns));
        }
        self.free.push(tag as u32);
    }
}

#[cold]
fn fail(stats: &mut Stats, text: &str) {
    *stats.failures.entry(text.to_string()).or_default() += 1;
}

impl Worker {
    fn connect(spec: &LoadSpec, thread: usize) -> Result<Worker, LoadError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for _ in (thread..spec.connections).step_by(spec.threads) {
            let connection = Connection::open(spec)?;
            let data = epoll::EventData::new_u64(connections.len() as u64);
            epoll::add(&epoll, &connection.socket, data, epoll::EventFlags::IN)?;
            connections.push(connection);
        }
        let threads = spec.threads as u64;
        let quota = match spec.length {
            Length::Operations(count) => {
                count / threads + u64::from((thread as u64) < count % threads)
            }
            Length::For(_) => u64::MAX,
        };
        Ok(Worker {
            spec: spec.clone(),
            connections,
            epoll,
            template: Template::new(spec.verb, &spec.keys),
            stats: Stats {
                measured: 0,
                latency: report::histogram(),
                acknowledged: Revisions::default(),
                failures: BTreeMap::new(),
                cpu: Duration::ZERO,
            },
            clock: Instant::now(),
            next: thread as u64,
            quota,
            started: 0,
            unreported: 0,
        })
    }

    fn run(mut self, shared: &Shared) -> Result<Stats, LoadError> {
        if self.connections.is_empty() {
            return Ok(self.stats);
        }
        self.clock = Instant::now();
        let mut cpu_begin = thread_cpu();
        let mut phase = shared.phase.load(Ordering::Relaxed);
        let mut pacer = self
            .spec
            .rate
            .map(|rate| Pacer::new(rate, self.spec.threads));
        let mut stop_at = None;
        let idle = epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        };
        let mut events = vec![idle; EVENTS_PER_WAIT];
        if pacer.is_none() {
            for i in 0..self.connections.len() {
                self.refill(i, self.now_ns())?;
            }
        }
        loop {
            let seen = shared.phase.load(Ordering::Relaxed);
            if seen != phase {
                match seen {
                    MEASURE => cpu_begin = thread_cpu(),
                    _ => {
                        self.stats.cpu = thread_cpu().saturating_sub(cpu_begin);
                        stop_at = Some(Instant::now() + DRAIN_WITHIN);
                        self.quota = self.started;
                    }
                }
                phase = seen;
            }
            let open: usize = self.connections.iter().map(|c| c.wire.open_calls()).sum();
            if open == 0 && self.started >= self.quota {
                break;
            }
            if stop_at.is_some_and(|deadline| Instant::now() > deadline) {
                return Err(LoadError::Unanswered { calls: open });
            }
            let mut timeout = Duration::from_millis(100);
            if let Some(pacer) = &mut pacer {
                timeout = timeout.min(self.start_due(pacer)?);
            }
            let timeout = Timespec::try_from(timeout).expect("under a second");
            let count = match epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                let i = event.data.u64() as usize;
                self.turn(i, phase == MEASURE)?;
                if pacer.is_none() {
                    self.refill(i, self.now_ns())?;
                } else {
                    self.flush(i)?;
                }
            }
            shared
                .done
                .fetch_add(std::mem::take(&mut self.unreported), Ordering::Relaxed);
        }
        if phase == MEASURE {
            self.stats.cpu = thread_cpu().saturating_sub(cpu_begin);
        }
        Ok(self.stats)
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Reads what one connection has and counts the answers.
    fn turn(&mut self, i: usize, measuring: bool) -> Result<(), LoadError> {
        let connection = &mut self.connections[i];
        loop {
            if connection.filled == connection.inbox.len() {
                let larger = connection.inbox.len() * 2;
                connection.inbox.resize(larger, 0);
            }
            let room = connection.inbox.len() - connection.filled;
            let got = match connection
                .socket
                .read(&mut connection.inbox[connection.filled..])
            {
                Ok(0) => return Err(LoadError::Closed),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            connection.filled += got;
            let free_before = connection.free.len();
            let mut turn = Turn {
                calls: &mut connection.calls,
                free: &mut connection.free,
                stats: &mut self.stats,
                spec: &self.spec,
                now_ns: self.clock.elapsed().as_nanos() as u64,
                measuring,
            };
            let bytes = &connection.inbox[..connection.filled];
            let used = connection.wire.receive(bytes, &mut turn)?;
            connection.inbox.copy_within(used..connection.filled, 0);
            connection.filled -= used;
            self.unreported += (connection.free.len() - free_before) as u64;
            if got < room {
                return Ok(());
            }
        }
    }

    /// Starts calls until the connection has its fill, then sends.
    #[inline]
    fn refill(&mut self, i: usize, now_ns: u64) -> Result<(), LoadError> {
        while self.started < self.quota && self.start_call(i, now_ns) {}
        self.flush(i)
    }

    /// Starts one call if a slot is free.
    #[inline]
    fn start_call(&mut self, i: usize, start_ns: u64) -> bool {
        let connection = &mut self.connections[i];
        let Some(tag) = connection.free.pop() else {
            return false;
        };
        let key = self.spec.keys.number(self.next);
        self.next += self.spec.threads as u64;
        self.started += 1;
        connection.calls[tag as usize] = Call {
            start_ns,
            key,
            answered: false,
        };
        let framed = self.template.fill(key);
        connection
            .wire
            .call_framed(self.spec.verb.path(), u64::from(tag), framed);
        true
    }

    /// Open loop: starts what is due where there is room; how long until the next is due.
    fn start_due(&mut self, pacer: &mut Pacer) -> Result<Duration, LoadError> {
        let now = self.now_ns();
        let mut touched = false;
        while self.started < self.quota && pacer.due_ns() <= now {
            let count = self.connections.len();
            let Some(i) = (0..count)
                .map(|step| (pacer.connection + step) % count)
                .find(|&i| !self.connections[i].free.is_empty())
            else {
                // All slots are taken: an answer will free one, and the delay counts.
                break;
            };
            self.start_call(i, pacer.due_ns());
            pacer.advance(i + 1);
            touched = true;
        }
        if touched {
            for i in 0..self.connections.len() {
                if !self.connections[i].wire.output().is_empty() {
                    self.flush(i)?;
                }
            }
        }
        let full = self
            .connections
            .iter()
            .all(|connection| connection.free.is_empty());
        if full || self.started >= self.quota {
            return Ok(Duration::from_millis(100));
        }
        Ok(Duration::from_nanos(
            pacer.due_ns().saturating_sub(self.now_ns()),
        ))
    }

    fn flush(&mut self, i: usize) -> Result<(), LoadError> {
        let connection = &mut self.connections[i];
        let output = connection.wire.output();
        let mut sent = 0;
        while sent < output.len() {
            match connection.socket.write(&output[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if sent == output.len() {
            output.clear();
        } else {
            output.drain(..sent);
        }
        let blocked = !output.is_empty();
        if blocked != connection.blocked {
            connection.blocked = blocked;
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, blocked);
            let data = epoll::EventData::new_u64(i as u64);
            epoll::modify(&self.epoll, &connection.socket, data, flags)?;
        }
        Ok(())
    }
}

impl Connection {
    fn open(spec: &LoadSpec) -> Result<Connection, LoadError> {
        let address = spec.endpoint.to_socket_addrs()?.next();
        let address = address.ok_or_else(|| LoadError::NoAddress(spec.endpoint.clone()))?;
        let mut socket = TcpStream::connect_timeout(&address, CONNECT_WITHIN)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(CONNECT_WITHIN))?;
        let mut wire = Wire::new(&spec.endpoint, &[]);
        let (mut inbox, mut filled) = (vec![0; INBOX_START], 0);
        while !wire.settled() {
            socket.write_all(wire.output())?;
            wire.output().clear();
            let got = socket.read(&mut inbox[filled..])?;
            if got == 0 {
                return Err(LoadError::Closed);
            }
            filled += got;
            let used = wire.receive(&inbox[..filled], &mut Nobody)?;
            inbox.copy_within(used..filled, 0);
            filled -= used;
        }
        let admitted = wire.concurrent_max();
        if (admitted as usize) < spec.in_flight {
            return Err(LoadError::TooFewStreams {
                admitted,
                wanted: spec.in_flight,
            });
        }
        socket.set_nonblocking(true)?;
        let calls = vec![Call::default(); spec.in_flight];
        let free = (0..spec.in_flight as u32).rev().collect();
        Ok(Connection {
            socket,
            wire,
            inbox,
            filled,
            calls,
            free,
            blocked: false,
        })
    }
}

/// When the calls of one worker's open loop are due.
struct Pacer {
    interval_ns: f64,
    count: u64,
    /// Where to look for a free slot first.
    connection: usize,
}

impl Pacer {
    fn new(rate: f64, threads: usize) -> Pacer {
        Pacer {
            interval_ns: 1e9 * threads as f64 / rate,
            count: 0,
            connection: 0,
        }
    }

    fn due_ns(&self) -> u64 {
        (self.count as f64 * self.interval_ns) as u64
    }

    fn advance(&mut self, connection: usize) {
        self.count += 1;
        self.connection = connection;
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
