//! Adapter. The world: virtual time, and tasks of many cores interleaved by the seed.

use super::disk::Disk;
use super::env::SimEnv;
use super::rng::Rng;
use crate::ids::CoreId;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Nanoseconds that a poll of a task takes, drawn: time passes even in a world that never waits.
const POLL_NS: (u64, u64) = (50, 500);

/// Polls after which a run is taken for endless. Far beyond any test that ends.
const POLLS_MAX: u64 = 200_000_000;

/// A simulated node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u16);

/// A world. Cloning shares it; with the last clone that a test holds, its tasks end.
#[derive(Clone)]
pub struct World {
    shared: Rc<Shared>,
    /// Environments hold the world without owning it: tasks hold environments, and the world holds
    /// the tasks, so it would otherwise never be freed.
    _owner: Option<Rc<Owner>>,
}

struct Owner {
    shared: Rc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let (tasks, events) = {
            let mut state = self.shared.state.borrow_mut();
            // Dead: destructors that spawn or sleep find no life to do it in.
            for node in &mut state.nodes {
                node.life += 1;
            }
            (
                std::mem::take(&mut state.tasks),
                std::mem::take(&mut state.events),
            )
        };
        drop(tasks);
        drop(events);
    }
}

struct Shared {
    state: RefCell<State>,
    ready: Arc<Ready>,
}

struct State {
    now_ns: u64,
    rng: Rng,
    nodes: Vec<Node>,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    /// What happens at a time, in order of time, then of arrival.
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    /// Digest of every choice: two runs with one trace did the same.
    trace: u64,
    polls: u64,
}

struct Node {
    disk: Rc<RefCell<Disk>>,
    rng: Rng,
    cores: u16,
    /// Number of the lane of core 0.
    lane: usize,
    /// Grows with each crash: environments of earlier lives are dead.
    life: u64,
    wall_offset_ns: i64,
    /// Nanoseconds of a disk operation, drawn between these.
    disk_ns: (u64, u64),
}

type BoxFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    node: NodeId,
    lane: usize,
    /// Taken out while it is polled.
    future: Option<BoxFuture>,
    waker: Arc<TaskWaker>,
}

enum Event {
    Wake(Waker),
    Call(NodeId, Box<dyn FnOnce()>),
}

/// The ready tasks of each core ("lane"), in order of their wake-ups.
#[derive(Default)]
struct Ready {
    lanes: Mutex<Vec<VecDeque<u64>>>,
}

impl Ready {
    fn with<T>(&self, look: impl FnOnce(&mut Vec<VecDeque<u64>>) -> T) -> T {
        look(&mut self.lanes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct TaskWaker {
    task: u64,
    lane: usize,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready
                .with(|lanes| lanes[self.lane].push_back(self.task));
        }
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        let state = State {
            now_ns: 0,
            rng: Rng::new(seed),
            nodes: Vec::new(),
            tasks: BTreeMap::new(),
            next_task: 0,
            events: BTreeMap::new(),
            next_event: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            polls: 0,
        };
        let shared = Shared {
            state: RefCell::new(state),
            ready: Arc::default(),
        };
        let shared = Rc::new(shared);
        let owner = Owner {
            shared: Rc::clone(&shared),
        };
        World {
            shared,
            _owner: Some(Rc::new(owner)),
        }
    }

    /// A world of one node with one core.
    pub fn single(seed: u64) -> World {
        let world = World::new(seed);
        world.add_node(1);
        world
    }

    pub fn add_node(&self, cores: u16) -> NodeId {
        assert!(cores > 0, "a node has a core");
        let mut state = self.shared.state.borrow_mut();
        let id = NodeId(u16::try_from(state.nodes.len()).expect("fewer than 65536 nodes"));
        let disk = Disk::new(state.rng.draw());
        let rng = state.rng.fork();
        let lane = self.shared.ready.with(|lanes| {
            let first = lanes.len();
            lanes.resize_with(first + usize::from(cores), VecDeque::new);
            first
        });
        state.nodes.push(Node {
            disk: Rc::new(RefCell::new(disk)),
            rng,
            cores,
            lane,
            life: 0,
            wall_offset_ns: 1_700_000_000_000_000_000,
            disk_ns: (20_000, 200_000),
        });
        id
    }

    /// The environment of a core in the node's present life.
    pub fn env(&self, node: NodeId, core: CoreId) -> SimEnv {
        let state = self.shared.state.borrow();
        let place = &state.nodes[usize::from(node.0)];
        assert!(core.0 < place.cores, "the node has {} cores", place.cores);
        let world = World {
            shared: Rc::clone(&self.shared),
            _owner: None,
        };
        SimEnv::new(world, node, core, place.life, Rc::clone(&place.disk))
    }

    /// Runs a future on core 0 of node 0 until it returns. Panics when the world stands still
    /// before, or when a task panics.
    pub fn run<T: 'static, F>(&self, main: impl FnOnce(SimEnv) -> F) -> T
    where
        F: Future<Output = T> + 'static,
    {
        self.run_on(NodeId(0), CoreId(0), main)
    }

    /// The same on any core.
    pub fn run_on<T: 'static, F>(
        &self,
        node: NodeId,
        core: CoreId,
        main: impl FnOnce(SimEnv) -> F,
    ) -> T
    where
        F: Future<Output = T> + 'static,
    {
        let slot = Rc::new(RefCell::new(None));
        let result = Rc::clone(&slot);
        let main = main(self.env(node, core));
        self.spawn(node, core, async move {
            *result.borrow_mut() = Some(main.await);
        });
        loop {
            if let Some(value) = slot.borrow_mut().take() {
                return value;
            }
            let moved = self.step();
            assert!(
                moved,
                "the world stands still: every task waits and nothing is due"
            );
        }
    }

    /// Lets the world go on until `done` says so; `false` when it stands still before.
    pub fn run_until(&self, mut done: impl FnMut() -> bool) -> bool {
        while !done() {
            if !self.step() {
                return false;
            }
        }
        true
    }

    /// Lets the world go on for so long.
    pub fn run_for(&self, time: Duration) {
        let over = Rc::new(Cell::new(false));
        let flag = Rc::clone(&over);
        let end = self.now_ns() + time.as_nanos() as u64;
        self.at(NodeId(0), end, Box::new(move || flag.set(true)));
        self.run_until(|| over.get());
    }

    /// Starts a task on a core.
    pub fn spawn(&self, node: NodeId, core: CoreId, task: impl Future<Output = ()> + 'static) {
        let waker = {
            let mut state = self.shared.state.borrow_mut();
            let place = &state.nodes[usize::from(node.0)];
            assert!(core.0 < place.cores, "the node has {} cores", place.cores);
            let lane = place.lane + usize::from(core.0);
            let id = state.next_task;
            state.next_task += 1;
            let ready = Arc::clone(&self.shared.ready);
            let waker = Arc::new(TaskWaker {
                task: id,
                lane,
                queued: AtomicBool::new(false),
                ready,
            });
            let future: Option<BoxFuture> = Some(Box::pin(task));
            state.tasks.insert(
                id,
                Task {
                    node,
                    lane,
                    future,
                    waker: Arc::clone(&waker),
                },
            );
            waker
        };
        waker.wake();
    }

    /// The power of a node goes: its tasks are dropped where they stand, its disk keeps what it
    /// keeps. A new [`World::env`] is the restart.
    pub fn crash(&self, node: NodeId) {
        let (tasks, calls, disk) = {
            let mut state = self.shared.state.borrow_mut();
            state.nodes[usize::from(node.0)].life += 1;
            let (gone, kept): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut state.tasks)
                .into_iter()
                .partition(|(_, t)| t.node == node);
            state.tasks = kept;
            let (calls, kept): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut state.events)
                .into_iter()
                .partition(|(_, event)| matches!(event, Event::Call(n, _) if *n == node));
            state.events = kept;
            state.note(u64::from(node.0) | 1 << 32);
            (
                gone,
                calls,
                Rc::clone(&state.nodes[usize::from(node.0)].disk),
            )
        };
        // Outside the borrow: dropped futures reach back into the world.
        drop(tasks);
        drop(calls);
        disk.borrow_mut().crash();
    }

    /// A node's disk, to be filled, broken or looked at.
    pub fn faults<T>(&self, node: NodeId, with: impl FnOnce(&mut Disk) -> T) -> T {
        let disk = Rc::clone(&self.shared.state.borrow().nodes[usize::from(node.0)].disk);
        with(&mut disk.borrow_mut())
    }

    /// How long the disk operations of a node take from now on, drawn between the two.
    pub fn set_disk_time(&self, node: NodeId, low: Duration, high: Duration) {
        assert!(low <= high, "a range has an order");
        let mut state = self.shared.state.borrow_mut();
        state.nodes[usize::from(node.0)].disk_ns = (low.as_nanos() as u64, high.as_nanos() as u64);
    }

    /// Moves a node's wall clock, as an operator or a bad time server does.
    pub fn step_wall(&self, node: NodeId, by_ns: i64) {
        self.shared.state.borrow_mut().nodes[usize::from(node.0)].wall_offset_ns += by_ns;
    }

    /// Digest of everything that happened.
    pub fn trace(&self) -> u64 {
        self.shared.state.borrow().trace
    }

    /// Virtual time since the world began.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now_ns())
    }

    // For the rest of `sim/`.

    pub(super) fn now_ns(&self) -> u64 {
        self.shared.state.borrow().now_ns
    }

    pub(super) fn wall_ns(&self, node: NodeId) -> i64 {
        let state = self.shared.state.borrow();
        state.nodes[usize::from(node.0)].wall_offset_ns + state.now_ns as i64
    }

    pub(super) fn life(&self, node: NodeId) -> u64 {
        self.shared.state.borrow().nodes[usize::from(node.0)].life
    }

    /// A draw of the node's own stream.
    pub(super) fn node_random(&self, node: NodeId) -> u64 {
        self.shared.state.borrow_mut().nodes[usize::from(node.0)]
            .rng
            .draw()
    }

    /// A draw of the world's stream.
    pub(super) fn draw<T>(&self, with: impl FnOnce(&mut Rng) -> T) -> T {
        with(&mut self.shared.state.borrow_mut().rng)
    }

    pub(super) fn disk_time_ns(&self, node: NodeId) -> u64 {
        let mut state = self.shared.state.borrow_mut();
        let (low, high) = state.nodes[usize::from(node.0)].disk_ns;
        // Now and then an operation hangs, as disks do.
        let slow = if state.rng.chance(1) { 50 } else { 1 };
        state.rng.between(low, high) * slow
    }

    pub(super) fn note(&self, fact: u64) {
        self.shared.state.borrow_mut().note(fact);
    }

    /// Wakes somebody at a time.
    pub(super) fn wake_at(&self, time_ns: u64, waker: Waker) {
        self.shared
            .state
            .borrow_mut()
            .add_event(time_ns, Event::Wake(waker));
    }

    /// Does something at a time, unless the node crashes before.
    pub(super) fn at(&self, node: NodeId, time_ns: u64, call: Box<dyn FnOnce()>) {
        self.shared
            .state
            .borrow_mut()
            .add_event(time_ns, Event::Call(node, call));
    }

    /// One poll, or the next event. `false` when there is neither.
    fn step(&self) -> bool {
        // A binding of its own: as a part of the `if let` the borrow would outlive the call.
        let due = self.shared.state.borrow_mut().take_due();
        if let Some(event) = due {
            self.fire(event);
            return true;
        }
        if let Some(task) = self.choose() {
            self.poll(task);
            return true;
        }
        let next = self.shared.state.borrow_mut().take_next();
        match next {
            Some(event) => self.fire(event),
            None => return false,
        }
        true
    }

    fn fire(&self, event: Event) {
        match event {
            Event::Wake(waker) => waker.wake(),
            Event::Call(_, call) => call(),
        }
    }

    /// Takes a ready task: of any core, and mostly the one that is ready for the longest time.
    fn choose(&self) -> Option<u64> {
        let mut state = self.shared.state.borrow_mut();
        self.shared.ready.with(|lanes| {
            let busy: Vec<usize> = (0..lanes.len()).filter(|n| !lanes[*n].is_empty()).collect();
            if busy.is_empty() {
                return None;
            }
            let lane = &mut lanes[busy[state.rng.index(busy.len())]];
            let place = if state.rng.chance(10) {
                state.rng.index(lane.len())
            } else {
                0
            };
            lane.remove(place)
        })
    }

    fn poll(&self, id: u64) {
        let (mut future, waker) = {
            let mut state = self.shared.state.borrow_mut();
            state.polls += 1;
            assert!(
                state.polls < POLLS_MAX,
                "{POLLS_MAX} polls: this run is endless"
            );
            let (low, high) = POLL_NS;
            state.now_ns += state.rng.between(low, high);
            state.note(id);
            // A task of a crashed node may still stand in the queue.
            let Some(task) = state.tasks.get_mut(&id) else {
                return;
            };
            task.waker.queued.store(false, Ordering::Relaxed);
            debug_assert_eq!(task.waker.lane, task.lane);
            let future = task
                .future
                .take()
                .expect("a task is not polled inside itself");
            (future, Waker::from(Arc::clone(&task.waker)))
        };
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut done = None;
        {
            let mut state = self.shared.state.borrow_mut();
            match (poll, state.tasks.get_mut(&id)) {
                (Poll::Pending, Some(task)) => task.future = Some(future),
                // Returned, or crashed its own node.
                (Poll::Ready(()), Some(_)) => {
                    state.tasks.remove(&id);
                    done = Some(future);
                }
                (_, None) => done = Some(future),
            }
        }
        drop(done);
    }
}

impl State {
    fn note(&mut self, fact: u64) {
        for part in [fact, self.now_ns] {
            self.trace = (self.trace ^ part)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(17);
        }
    }

    fn add_event(&mut self, time_ns: u64, event: Event) {
        let number = self.next_event;
        self.next_event += 1;
        self.events.insert((time_ns, number), event);
    }

    fn take_due(&mut self) -> Option<Event> {
        let entry = self.events.first_entry()?;
        if entry.key().0 > self.now_ns {
            None
        } else {
            Some(entry.remove())
        }
    }

    /// Moves time to the next event.
    fn take_next(&mut self) -> Option<Event> {
        let ((time_ns, number), event) = self.events.pop_first()?;
        self.now_ns = self.now_ns.max(time_ns);
        self.note(number);
        Some(event)
    }
}
