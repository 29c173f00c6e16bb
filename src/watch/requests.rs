//! Pure. What a stream asks of the hub: create, cancel, progress. Contract 1.2 has the rules.

use super::hub::Hub;
use super::interest::End;
use super::watcher::{self, NONE, State, Watcher};
use super::{StreamKey, WatchResponse};
use crate::env::Monotonic;
use crate::limits::watch as limits;
use crate::pb::etcdserverpb::WatchCreateRequest;
use crate::pb::etcdserverpb::watch_create_request::FilterType;
use std::borrow::Cow;

const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const TOO_MANY: &str = "etcdserver: too many requests";

impl Hub {
    /// Creates a watch; `revision` is the store's current one. Permission was checked before, on
    /// the range as the client sent it.
    pub fn create(
        &mut self,
        key: StreamKey,
        request: &WatchCreateRequest,
        revision: i64,
        now: Monotonic,
    ) {
        if let Err(reason) = self.try_create(key, request, revision, now) {
            self.reject(key, revision, Cow::Borrowed(reason));
        }
    }

    /// Answers a create that is not allowed: created and canceled at once, with watch id -1.
    pub fn reject(&mut self, key: StreamKey, revision: i64, reason: Cow<'static, str>) {
        let mut response = WatchResponse::empty(-1, revision);
        response.created = true;
        response.canceled = true;
        response.cancel_reason = reason;
        self.push_control(key, response);
    }

    fn try_create(
        &mut self,
        key: StreamKey,
        request: &WatchCreateRequest,
        revision: i64,
        now: Monotonic,
    ) -> Result<(), &'static str> {
        if request.start_revision < 0 {
            return Err(COMPACTED);
        }
        let (from, end) = range_of(&request.key, &request.range_end).ok_or(EMPTY_RANGE)?;
        let Some(stream) = self.stream(key) else {
            return Ok(());
        };
        if stream.watch_count() + stream.spent.len() >= limits::STREAM_WATCHES_MAX {
            return Err(TOO_MANY);
        }
        let id = match request.watch_id {
            0 => stream.pick_id(),
            id if stream.watcher(id).is_some() || stream.spent.contains(&id) => {
                return Err(DUPLICATE_ID);
            }
            id => id,
        };
        let interest = self.interests.enter(from, end);
        let slot = self.watchers.insert(Watcher {
            id,
            next_revision: match request.start_revision {
                0 => revision + 1,
                start => start,
            },
            stream: key.slot,
            interest,
            before: NONE,
            after: NONE,
            open: 0,
            generation: 0,
            flags: flags_of(request, revision),
            state: State::Live,
        });
        let flags = self.watchers[slot].flags;
        let stream = self.stream_at(key.slot);
        stream.insert(id, slot);
        stream.future += u32::from(flags & watcher::FUTURE != 0);
        if flags & watcher::PROGRESS != 0 {
            stream.notified += 1;
            if stream.notified == 1 {
                stream.progress_at = now + stream.progress_interval;
                let due = (stream.progress_at, key);
                self.progress.insert(due);
            }
        }
        self.watchers.link(&mut self.interests[interest].live, slot);
        if self.watchers[slot].next_revision <= revision {
            self.fall_behind(slot, State::Arrived);
            self.arrivals.push(self.watchers.key(slot));
        }
        let mut response = WatchResponse::empty(id, revision);
        response.created = true;
        self.push_control(key, response);
        Ok(())
    }

    /// Cancels a watch. An unknown id is met with silence; one that a compaction canceled is told
    /// so again, once.
    pub fn cancel(&mut self, key: StreamKey, watch_id: i64, revision: i64) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        match stream.remove(watch_id) {
            Some(slot) => self.forget(slot),
            None if stream.spent.remove(&watch_id) => {}
            None => return,
        }
        let mut response = WatchResponse::empty(watch_id, revision);
        response.canceled = true;
        self.push_control(key, response);
    }

    /// A manual progress request: answered once for the whole stream, and only when each of its
    /// watches is live and past its start; otherwise not at all. A watch that a compaction canceled
    /// is never live again: the client has to cancel it first.
    pub fn progress(&mut self, key: StreamKey, revision: i64) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        let waits = stream.lagging > 0 || !stream.spent.is_empty();
        if stream.watch_count() == 0 || waits || stream.refuses() {
            return;
        }
        if stream.future > 0 {
            let slots: Vec<u32> = stream.watchers().collect();
            if !slots
                .into_iter()
                .all(|slot| self.has_started(slot, revision))
            {
                return;
            }
        }
        self.push_control(key, WatchResponse::empty(-1, revision));
    }
}

/// The range of a create request; `None` when it is empty. An empty key begins at the least key,
/// an end of one zero byte means no end.
fn range_of<'a>(key: &'a [u8], range_end: &[u8]) -> Option<(&'a [u8], End)> {
    let from = if key.is_empty() { &[0][..] } else { key };
    match range_end {
        [] => Some((from, End::Single)),
        [0] => Some((from, End::Open)),
        end if from < end => Some((from, End::Before(end.into()))),
        _ => None,
    }
}

fn flags_of(request: &WatchCreateRequest, revision: i64) -> u8 {
    let has = |filter: FilterType| request.filters.contains(&(filter as i32));
    let mut flags = 0;
    for (set, flag) in [
        (request.prev_kv, watcher::PREV_KV),
        (has(FilterType::Noput), watcher::NO_PUT),
        (has(FilterType::Nodelete), watcher::NO_DELETE),
        (request.fragment, watcher::FRAGMENT),
        (request.progress_notify, watcher::PROGRESS | watcher::QUIET),
        (request.start_revision > revision, watcher::FUTURE),
    ] {
        if set {
            flags |= flag;
        }
    }
    flags
}
