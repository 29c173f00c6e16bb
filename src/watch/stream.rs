//! Pure. One watch stream: its watches by id, and the responses on their way out.

use super::WatchResponse;
use super::watcher::WatcherKey;
use crate::env::Monotonic;
use crate::limits::watch as limits;
use crate::pb::etcdserverpb::WatchCreateRequest;
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// A stream of the hub. Never names another stream after this one is closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamKey {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// What a client's stream, or the connection that carries it, tells the hub.
#[derive(Clone, PartialEq, Debug)]
pub enum StreamInput {
    /// A create request whose permission was checked.
    Create(Box<WatchCreateRequest>),
    /// A create request that is refused, with the text for the client.
    Rejected(Cow<'static, str>),
    Cancel {
        watch_id: i64,
    },
    Progress,
    /// Responses of this summed [`WatchResponse::cost`] left for the client.
    Drained {
        cost: usize,
    },
    /// The stream ended, by either side.
    Closed,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub key: StreamKey,
    /// Watch id → watcher, sorted by id. Ids that the server picks only grow: they go to the end.
    watches: Vec<Watch>,
    next_id: i64,
    /// Ids of watches that a compaction canceled. As in etcd they stay taken until the client
    /// cancels them too, and until then no manual progress is answered.
    pub spent: BTreeSet<i64>,
    queue: VecDeque<WatchResponse>,
    /// The sequence number of the front of `queue`; `head <= barrier <= head + queue.len()` or
    /// `barrier < head`.
    head: u64,
    /// Responses before it take no further events: a response that speaks for the stream's order
    /// (created, canceled, progress) stands behind them.
    barrier: u64,
    /// The cost of responses that are queued, or taken and not drained.
    pub undelivered: usize,
    /// Events in `queue`.
    pub queued_events: usize,
    /// Refused an event and has not drained below the resume bound since.
    pub full: bool,
    /// Stands in the hub's list of streams with output.
    pub ready: bool,
    /// Watchers that wait for the stream to drain.
    pub stalled: Vec<WatcherKey>,
    /// Watchers that are not live.
    pub lagging: u32,
    /// Watchers with `FUTURE`.
    pub future: u32,
    /// Watchers with `PROGRESS`.
    pub notified: u32,
    pub progress_interval: Duration,
    /// When the next periodic progress is due; meaningful while `notified > 0`.
    pub progress_at: Monotonic,
}

#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
struct Watch {
    id: i64,
    slot: u32,
}

impl Stream {
    pub fn new(key: StreamKey, progress_interval: Duration) -> Stream {
        Stream {
            key,
            watches: Vec::new(),
            next_id: 0,
            spent: BTreeSet::new(),
            queue: VecDeque::new(),
            head: 0,
            barrier: 0,
            undelivered: 0,
            queued_events: 0,
            full: false,
            ready: false,
            stalled: Vec::new(),
            lagging: 0,
            future: 0,
            notified: 0,
            progress_interval,
            progress_at: Monotonic(u64::MAX),
        }
    }

    pub fn watch_count(&self) -> usize {
        self.watches.len()
    }

    fn position(&self, id: i64) -> Result<usize, usize> {
        match self.watches.last() {
            Some(last) if { last.id } < id => Err(self.watches.len()),
            _ => self.watches.binary_search_by_key(&id, |watch| watch.id),
        }
    }

    pub fn watcher(&self, id: i64) -> Option<u32> {
        self.position(id).ok().map(|at| self.watches[at].slot)
    }

    pub fn watchers(&self) -> impl Iterator<Item = u32> + '_ {
        self.watches.iter().map(|watch| watch.slot)
    }

    /// The least unused id that the server has not picked before.
    pub fn pick_id(&mut self) -> i64 {
        while self.watcher(self.next_id).is_some() || self.spent.contains(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    pub fn insert(&mut self, id: i64, slot: u32) {
        let at = self.position(id).expect_err("the caller looked for the id");
        self.watches.insert(at, Watch { id, slot });
    }

    pub fn remove(&mut self, id: i64) -> Option<u32> {
        let at = self.position(id).ok()?;
        Some(self.watches.remove(at).slot)
    }

    pub fn take_watches(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.watches)
            .iter()
            .map(|watch| watch.slot)
            .collect()
    }

    /// Has no room for events of another revision.
    #[inline]
    pub fn refuses(&self) -> bool {
        self.full || self.undelivered >= limits::STREAM_BYTES_MAX
    }

    /// Queues a response whose place among the others matters.
    pub fn push_control(&mut self, response: WatchResponse) {
        self.undelivered += response.cost();
        self.queue.push_back(response);
        self.barrier = self.head + self.queue.len() as u64;
    }

    /// Queues an event for watch `id`, whose latest events are at `open`; returns where it went.
    /// `starts`: it is the first of its revision, so it may begin another response.
    pub fn push_event(
        &mut self,
        id: i64,
        open: u32,
        starts: bool,
        revision: i64,
        fragmentable: bool,
        field: Bytes,
    ) -> u32 {
        let cost = field.len() + limits::EVENT_COST_BYTES;
        self.undelivered += cost;
        self.queued_events += 1;
        let behind = open.wrapping_sub(self.head as u32) as usize;
        let least = self.barrier.saturating_sub(self.head) as usize;
        if behind >= least
            && let Some(last) = self.queue.get_mut(behind)
            && last.watch_id == id
            && (!starts || last.takes_another())
        {
            last.event_bytes += field.len();
            last.revisions += u16::from(starts);
            last.revision = last.revision.max(revision);
            last.events.push(field);
            return open;
        }
        // A revision that began in one response ends in it: nothing is taken and nothing of the
        // stream's order is queued while a revision is handed out.
        assert!(starts, "an event of a begun revision lost its response");
        let mut response = WatchResponse::empty(id, revision);
        response.event_bytes = field.len();
        response.revisions = 1;
        response.fragmentable = fragmentable;
        response.events.push(field);
        self.undelivered += limits::RESPONSE_COST_BYTES;
        self.queue.push_back(response);
        (self.head as u32).wrapping_add(self.queue.len() as u32 - 1)
    }

    pub fn has_output(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Moves the front of the queue, whole responses, to `into`.
    pub fn take(&mut self, count_max: usize, fragment_bytes: usize, into: &mut Vec<WatchResponse>) {
        let count = self.queue.len().min(count_max);
        for response in self.queue.drain(..count) {
            self.queued_events -= response.events.len();
            self.undelivered += response.split(fragment_bytes, into);
        }
        self.head += count as u64;
        if self.queue.is_empty() {
            // An idle stream holds no buffer.
            self.queue = VecDeque::new();
        }
    }

    /// Compares the counters with what they count.
    pub fn check(&self) {
        let events: usize = self.queue.iter().map(|r| r.events.len()).sum();
        assert_eq!(
            events, self.queued_events,
            "queued events of {:?}",
            self.key
        );
        let queued: usize = self.queue.iter().map(WatchResponse::cost).sum();
        assert!(
            queued <= self.undelivered,
            "undelivered of {:?} covers its queue",
            self.key
        );
        assert!(
            self.barrier <= self.head + self.queue.len() as u64,
            "barrier behind the queue"
        );
        let sorted = self.watches.is_sorted_by(|a, b| { a.id } < { b.id });
        assert!(sorted, "watch ids of {:?} are sorted", self.key);
    }
}

impl WatchResponse {
    fn takes_another(&self) -> bool {
        self.event_bytes < limits::RESPONSE_BYTES_SOFT
            && self.revisions < limits::RESPONSE_REVISIONS_MAX
    }
}
