//! Pure. The hub's requests, the live path, and what it hands out.

use super::catch_up::Cohort;
use super::event::Encoded;
use super::interest::Interests;
use super::stream::Stream;
use super::watcher::{self, NONE, State, WatcherKey, Watchers};
use super::{Event, EventKind, RevisionLog, StreamInput, StreamKey, WatchResponse};
use crate::env::Monotonic;
use crate::limits::watch as limits;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct HubOptions {
    /// `watch-progress-notify-interval`; each stream adds up to a tenth of it.
    pub progress_interval: Duration,
    /// Where responses of watches with `fragment` are split: `max-request-bytes` + 512 KiB.
    pub fragment_bytes: usize,
    /// Seeds the hash of watched keys.
    pub seed: u64,
}

impl Default for HubOptions {
    fn default() -> HubOptions {
        HubOptions {
            progress_interval: Duration::from_secs(600),
            fragment_bytes: limits::FRAGMENT_BYTES,
            seed: 0,
        }
    }
}

/// Counters for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HubStats {
    pub streams: usize,
    pub watchers: usize,
    /// Watchers that are not live.
    pub slow_watchers: usize,
    /// Events handed to watchers since the start.
    pub events_total: u64,
    /// Events in the queues of streams.
    pub pending_events: usize,
}

/// The watches of one group; lives on the group's core.
#[derive(Debug)]
pub struct Hub {
    pub(super) options: HubOptions,
    pub(super) interests: Interests,
    pub(super) watchers: Watchers,
    pub(super) streams: Vec<Slot>,
    free_streams: Vec<u32>,
    ready: VecDeque<StreamKey>,
    /// When each stream with watches that want progress is due.
    pub(super) progress: BTreeSet<(Monotonic, StreamKey)>,
    /// Lagging watchers that no cohort took yet.
    pub(super) arrivals: Vec<WatcherKey>,
    pub(super) cohorts: VecDeque<Cohort>,
    pub(super) lagging: usize,
    events_total: u64,
    /// Watchers that were given events of the revision that is being handed out.
    touched: Vec<u32>,
    pub(super) matched: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Slot {
    generation: u32,
    pub stream: Option<Box<Stream>>,
}

/// What became of an event at a watcher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offer {
    /// Given, or not wanted.
    Done,
    /// The stream has no room.
    Full,
}

impl Hub {
    pub fn new(options: HubOptions) -> Hub {
        Hub {
            options,
            interests: Interests::new(options.seed),
            watchers: Watchers::default(),
            streams: Vec::new(),
            free_streams: Vec::new(),
            ready: VecDeque::new(),
            progress: BTreeSet::new(),
            arrivals: Vec::new(),
            cohorts: VecDeque::new(),
            lagging: 0,
            events_total: 0,
            touched: Vec::new(),
            matched: Vec::new(),
        }
    }

    /// Begins a stream. `random` draws its share of jitter for periodic progress.
    pub fn open_stream(&mut self, random: u64) -> StreamKey {
        let interval = self.options.progress_interval;
        let tenth = u64::try_from(interval.as_nanos() / 10)
            .unwrap_or(u64::MAX)
            .max(1);
        let interval = interval + Duration::from_nanos(random % tenth);
        let slot = self.free_streams.pop().unwrap_or_else(|| {
            self.streams.push(Slot {
                generation: 0,
                stream: None,
            });
            self.streams.len() as u32 - 1
        });
        let place = &mut self.streams[slot as usize];
        let key = StreamKey {
            slot,
            generation: place.generation,
        };
        place.stream = Some(Box::new(Stream::new(key, interval)));
        key
    }

    /// Ends a stream and its watches. What was not taken is dropped. A stream that is already
    /// closed is no error: the client and the server may end it at once.
    pub fn close_stream(&mut self, key: StreamKey) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        for slot in stream.take_watches() {
            self.forget(slot);
        }
        let place = &mut self.streams[key.slot as usize];
        let stream = place.stream.take().expect("found above");
        place.generation = place.generation.wrapping_add(1);
        self.progress.remove(&(stream.progress_at, key));
        self.free_streams.push(key.slot);
    }

    /// Does what a stream asks; `revision` is the store's current one.
    pub fn input(&mut self, key: StreamKey, input: StreamInput, revision: i64, now: Monotonic) {
        match input {
            StreamInput::Create(request) => self.create(key, &request, revision, now),
            StreamInput::Rejected(reason) => self.reject(key, revision, reason),
            StreamInput::Cancel { watch_id } => self.cancel(key, watch_id, revision),
            StreamInput::Progress => self.progress(key, revision),
            StreamInput::Drained { cost } => self.drained(key, cost),
            StreamInput::Closed => self.close_stream(key),
        }
    }

    /// Whether `applied` would meet anyone.
    pub fn has_live_watchers(&self) -> bool {
        self.watchers.count() > self.lagging
    }

    /// Hands the changes of one revision to the live watchers; all events have that revision.
    /// Once per applied entry, before the next. `log` is asked for previous values only.
    pub fn applied<'a, L: RevisionLog>(
        &mut self,
        events: impl IntoIterator<Item = Event<'a>>,
        log: &L,
    ) -> Result<(), L::Error> {
        if !self.has_live_watchers() {
            return Ok(());
        }
        let result = events
            .into_iter()
            .try_for_each(|event| self.hand_out(event, log));
        self.end_revision();
        result
    }

    fn hand_out<L: RevisionLog>(&mut self, event: Event<'_>, log: &L) -> Result<(), L::Error> {
        let mut matched = std::mem::take(&mut self.matched);
        matched.clear();
        self.interests.matching(event.key, &mut matched);
        let mut encoded = Encoded::new(event);
        let mut result = Ok(());
        'matched: for &interest in &matched {
            let mut slot = self.interests[interest].live;
            while slot != NONE {
                let after = self.watchers[slot].after;
                match self.offer(slot, &mut encoded, event.revision.main, log) {
                    Ok(Offer::Done) => {}
                    Ok(Offer::Full) => {
                        self.watchers[slot].next_revision = event.revision.main;
                        self.fall_behind(slot, State::Stalled);
                        let watcher = self.watchers.key(slot);
                        self.stream_of(slot).stalled.push(watcher);
                    }
                    Err(error) => {
                        result = Err(error);
                        break 'matched;
                    }
                }
                slot = after;
            }
        }
        self.matched = matched;
        result
    }

    /// Gives an event to a watcher that may want it. `header` is the revision of the response.
    #[inline]
    pub(super) fn offer<L: RevisionLog>(
        &mut self,
        slot: u32,
        encoded: &mut Encoded<'_>,
        header: i64,
        log: &L,
    ) -> Result<Offer, L::Error> {
        let w = &mut self.watchers[slot];
        let refused = match encoded.event.kind {
            EventKind::Put => watcher::NO_PUT,
            EventKind::Delete => watcher::NO_DELETE,
        };
        let revision = encoded.event.revision.main;
        let starts = w.flags & watcher::TOUCHED == 0;
        if w.flags & refused != 0 || (starts && revision < w.next_revision) {
            return Ok(Offer::Done);
        }
        let stream = self.streams[w.stream as usize]
            .stream
            .as_mut()
            .expect("its watch lives");
        if starts {
            if stream.refuses() {
                stream.full = true;
                return Ok(Offer::Full);
            }
            if w.flags & watcher::FUTURE != 0 {
                stream.future -= 1;
            }
        }
        let field = encoded.field(w.flags & watcher::PREV_KV != 0, log)?;
        if starts {
            w.next_revision = revision + 1;
            w.flags = (w.flags | watcher::TOUCHED) & !(watcher::QUIET | watcher::FUTURE);
            self.touched.push(slot);
        }
        let fragmentable = w.flags & watcher::FRAGMENT != 0;
        w.open = stream.push_event(w.id, w.open, starts, header, fragmentable, field);
        self.events_total += 1;
        if !stream.ready {
            stream.ready = true;
            self.ready.push_back(stream.key);
        }
        Ok(Offer::Done)
    }

    pub(super) fn end_revision(&mut self) {
        for slot in self.touched.drain(..) {
            self.watchers[slot].flags &= !watcher::TOUCHED;
        }
    }

    /// Appends the responses of the next stream that has some; call until `None`. A stream with
    /// very many comes back in a later call.
    pub fn take_responses(&mut self, into: &mut Vec<WatchResponse>) -> Option<StreamKey> {
        loop {
            let key = self.ready.pop_front()?;
            let fragment_bytes = self.options.fragment_bytes;
            let Some(stream) = self.stream(key) else {
                continue;
            };
            stream.take(limits::TAKE_RESPONSES_MAX, fragment_bytes, into);
            stream.ready = stream.has_output();
            if stream.ready {
                self.ready.push_back(key);
            }
            return Some(key);
        }
    }

    pub fn has_responses(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Responses of this summed cost ([`WatchResponse::cost`]) went to the client or were dropped.
    pub fn drained(&mut self, key: StreamKey, cost: usize) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        assert!(
            cost <= stream.undelivered,
            "{cost} drained of {}",
            stream.undelivered
        );
        stream.undelivered -= cost;
        if stream.full && stream.undelivered < limits::STREAM_BYTES_RESUME {
            stream.full = false;
            for watcher in std::mem::take(&mut stream.stalled) {
                if self.watchers.state(watcher) == State::Stalled {
                    self.watchers[watcher.slot].state = State::Arrived;
                    self.arrivals.push(watcher);
                }
            }
        }
    }

    /// True while the stream has no room: the driver then stops reading its requests, so that
    /// answers to requests are bounded too.
    pub fn is_full(&self, key: StreamKey) -> bool {
        self.streams[key.slot as usize]
            .stream
            .as_ref()
            .is_some_and(|stream| stream.key == key && stream.refuses())
    }

    /// Sends periodic progress to watches that asked for it and were given nothing since the last
    /// tick of their stream.
    pub fn tick(&mut self, now: Monotonic, revision: i64) {
        while let Some(&(at, key)) = self.progress.first()
            && at <= now
        {
            self.progress.pop_first();
            let stream = self.stream_at(key.slot);
            stream.progress_at = now + stream.progress_interval;
            let due = (stream.progress_at, key);
            let slots: Vec<u32> = stream.watchers().collect();
            self.progress.insert(due);
            for slot in slots {
                if self.watchers[slot].flags & watcher::PROGRESS == 0 {
                    continue;
                }
                let quiet = self.watchers[slot].flags & watcher::QUIET != 0;
                self.watchers[slot].flags |= watcher::QUIET;
                if quiet
                    && self.watchers[slot].state == State::Live
                    && self.has_started(slot, revision)
                    && !self.stream_at(key.slot).refuses()
                {
                    let id = self.watchers[slot].id;
                    self.push_control(key, WatchResponse::empty(id, revision));
                }
            }
        }
    }

    /// When `tick` has something to do; `None` without watches that want progress.
    pub fn next_tick(&self) -> Option<Monotonic> {
        self.progress.first().map(|(at, _)| *at)
    }

    pub fn stats(&self) -> HubStats {
        let streams = self.streams.iter().filter_map(|slot| slot.stream.as_ref());
        HubStats {
            streams: self.streams.len() - self.free_streams.len(),
            watchers: self.watchers.count(),
            slow_watchers: self.lagging,
            events_total: self.events_total,
            pending_events: streams.map(|stream| stream.queued_events).sum(),
        }
    }

    /// Whether the watch has reached its start revision.
    pub(super) fn has_started(&mut self, slot: u32, revision: i64) -> bool {
        let w = &mut self.watchers[slot];
        if w.flags & watcher::FUTURE == 0 {
            return true;
        }
        if revision < w.next_revision {
            return false;
        }
        w.flags &= !watcher::FUTURE;
        self.stream_of(slot).future -= 1;
        true
    }

    /// Moves a live watcher among the lagging of its interest.
    pub(super) fn fall_behind(&mut self, slot: u32, state: State) {
        assert_eq!(self.watchers[slot].state, State::Live);
        let interest = &mut self.interests[self.watchers[slot].interest];
        self.watchers.unlink(&mut interest.live, slot);
        self.watchers.link(&mut interest.lagging, slot);
        self.watchers[slot].state = state;
        self.lagging += 1;
        self.stream_of(slot).lagging += 1;
    }

    /// Makes a lagging watcher live again.
    pub(super) fn come_alive(&mut self, slot: u32) {
        assert_ne!(self.watchers[slot].state, State::Live);
        let interest = &mut self.interests[self.watchers[slot].interest];
        self.watchers.unlink(&mut interest.lagging, slot);
        self.watchers.link(&mut interest.live, slot);
        self.watchers[slot].state = State::Live;
        self.lagging -= 1;
        self.stream_of(slot).lagging -= 1;
    }

    /// Ends a lagging watcher whose next revision is compacted.
    pub(super) fn cancel_compacted(&mut self, slot: u32, compacted: i64) {
        let id = self.watchers[slot].id;
        let stream = self.stream_of(slot);
        let key = stream.key;
        stream.remove(id);
        stream.spent.insert(id);
        self.forget(slot);
        let mut response = WatchResponse::empty(id, 0);
        response.canceled = true;
        response.compact_revision = compacted;
        self.push_control(key, response);
    }

    /// Removes a watcher that its stream no longer lists.
    pub(super) fn forget(&mut self, slot: u32) {
        let w = &self.watchers[slot];
        let (interest, flags, lags) = (w.interest, w.flags, w.state != State::Live);
        let place = &mut self.interests[interest];
        let head = if lags {
            &mut place.lagging
        } else {
            &mut place.live
        };
        self.watchers.unlink(head, slot);
        self.interests.drop_unused(interest);
        self.lagging -= usize::from(lags);
        let stream = self.stream_of(slot);
        stream.lagging -= u32::from(lags);
        stream.future -= u32::from(flags & watcher::FUTURE != 0);
        if flags & watcher::PROGRESS != 0 {
            stream.notified -= 1;
            if stream.notified == 0 {
                let due = (stream.progress_at, stream.key);
                self.progress.remove(&due);
            }
        }
        self.watchers.remove(slot);
    }

    pub(super) fn push_control(&mut self, key: StreamKey, response: WatchResponse) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        stream.push_control(response);
        if !stream.ready {
            stream.ready = true;
            self.ready.push_back(key);
        }
    }

    /// The stream, or `None` when it is closed.
    pub(super) fn stream(&mut self, key: StreamKey) -> Option<&mut Stream> {
        let stream = self
            .streams
            .get_mut(key.slot as usize)?
            .stream
            .as_deref_mut()?;
        (stream.key == key).then_some(stream)
    }

    pub(super) fn stream_at(&mut self, slot: u32) -> &mut Stream {
        self.streams[slot as usize]
            .stream
            .as_mut()
            .expect("the stream is open")
    }

    pub(super) fn stream_of(&mut self, watcher: u32) -> &mut Stream {
        self.stream_at(self.watchers[watcher].stream)
    }

    /// Compares every count and list with what it stands for.
    pub fn check(&self) {
        self.interests.check();
        let mut lagging = 0;
        let mut reading = 0;
        for (slot, w) in self.watchers.living() {
            let stream = self.streams[w.stream as usize]
                .stream
                .as_ref()
                .expect("open");
            assert_eq!(stream.watcher(w.id), Some(slot), "a stream knows its watch");
            assert_eq!(
                w.flags & watcher::TOUCHED,
                0,
                "no revision is being handed out"
            );
            lagging += usize::from(w.state != State::Live);
            let key = self.watchers.key(slot);
            match w.state {
                State::Live | State::Free => {}
                State::Arrived => assert!(self.arrivals.contains(&key), "arrived"),
                State::Stalled => {
                    assert!(stream.full && stream.stalled.contains(&key), "stalled");
                }
                State::Reading(cohort) => {
                    let found = self.cohorts.iter().find(|c| c.id == cohort);
                    assert!(found.is_some_and(|c| c.members.contains(&key)), "reading");
                    reading += 1;
                }
            }
            let place = &self.interests[w.interest];
            let head = if w.state == State::Live {
                place.live
            } else {
                place.lagging
            };
            let mut at = head;
            while at != NONE && at != slot {
                at = self.watchers[at].after;
            }
            assert_eq!(at, slot, "a watcher stands in the list of its state");
        }
        assert_eq!(lagging, self.lagging, "lagging watchers");
        let members: usize = self.cohorts.iter().map(|c| self.members_reading(c)).sum();
        assert_eq!(reading, members, "members of cohorts");
        for stream in self.streams.iter().filter_map(|slot| slot.stream.as_ref()) {
            stream.check();
            let of = |flag: u8| {
                let has = |slot: &u32| self.watchers[*slot].flags & flag != 0;
                stream.watchers().filter(has).count() as u32
            };
            assert_eq!(stream.future, of(watcher::FUTURE), "future watches");
            assert_eq!(
                stream.notified,
                of(watcher::PROGRESS),
                "watches with progress"
            );
            let lags = |slot: &u32| self.watchers[*slot].state != State::Live;
            assert_eq!(
                stream.lagging as usize,
                stream.watchers().filter(lags).count()
            );
            let due = self.progress.contains(&(stream.progress_at, stream.key));
            assert_eq!(due, stream.notified > 0, "progress is due when wanted");
            assert!(stream.ready || !stream.has_output(), "output is announced");
        }
    }
}
