//! Driver. SIGKILL on a real disk, again and again: load with watchers beside it, a kill at a drawn
//! moment, a restart on the same folder, and the whole history compared with what clients saw.
//!
//! Process death only: the kernel keeps what was written. Lost and torn blocks are the simulator's
//! part.
//!
//! Environment: RINGBOLT_KILL_ROUNDS (default 10; a soak is 1000), RINGBOLT_KILL_SEED.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};
use ringbolt::bench::message::{self, KeyValue, Message, path, prefix_end};
use ringbolt::bench::server::Server;
use ringbolt::bench::session::{Call, Event, Session};

use crate::rng::Rng;
use crate::world;

const ROUNDS: u64 = 10;
const WRITERS: u64 = 4;
const WATCHERS: u64 = 2;
const IN_FLIGHT: usize = 8;
/// More than a writer has in flight, so that no two open calls touch one key.
const KEYS_PER_WRITER: u64 = 40;
const KILL_AFTER_MS: (u64, u64) = (20, 400);
/// History older than this many rounds is compacted away.
const COMPACT_EVERY: u64 = 4;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const PREFIX: &[u8] = b"/kill/";

pub fn tests() -> Vec<Trial> {
    let ringbolt = Trial::ignorable_test("kill9::acknowledged_writes_survive", || {
        run(world::ringbolt())
    });
    // Proves the test itself.
    let etcd = Trial::ignorable_test("kill9::etcd", || match world::etcd_folder() {
        Ok(folder) => run(folder.join("etcd")),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    });
    vec![ringbolt, etcd.with_ignored_flag(true)]
}

/// One change of one key, as an event shows it. A delete has no value.
type Change = (Vec<u8>, Option<Vec<u8>>);
/// What is there, by key.
type Keys = BTreeMap<Vec<u8>, Vec<u8>>;
/// All changes by revision.
type History = BTreeMap<i64, Vec<Change>>;

/// A write that was sent, and what came back.
struct Written {
    changes: Vec<Change>,
    answer: Answer,
}

enum Answer {
    /// The kill came first: it may be there or not.
    Unknown,
    /// The revision, and for a delete whether it found something.
    Acknowledged { revision: i64, changed: bool },
}

// Catches: an acknowledged write that is gone or elsewhere after a crash; a revision that changes
// its content; an event shown to a watcher and not kept; a gap or a repetition in a resumed watch.
fn run(program: PathBuf) -> Result<Completion, Failed> {
    let number = |name: &str, default| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let rounds: u64 = number("RINGBOLT_KILL_ROUNDS", ROUNDS);
    let seed: u64 = number("RINGBOLT_KILL_SEED", u64::from(std::process::id()));
    let folder = world::scratch("kill9")?;
    let mut server = world::start(program, folder.path(), &[])?;
    let mut rng = Rng::new(seed);
    let mut state = State::new(&server)?;
    for round in 0..rounds {
        let delay = KILL_AFTER_MS.0 + rng.below(KILL_AFTER_MS.1 - KILL_AFTER_MS.0);
        let Err(failed) = round_of(&mut server, &mut state, &mut rng, round, delay) else {
            continue;
        };
        // The same seed kills after the same delays, but the machine decides what was under way
        // then: the folder is the evidence.
        let report = format!(
            "round {round}, killed {delay} ms into the load, {} writes acknowledged before it: {}\n\
             again: RINGBOLT_KILL_SEED={seed} RINGBOLT_KILL_ROUNDS={}\n\
             kept: {} (data: as it was recovered; log)\n{}",
            state.acknowledged,
            failed.message().unwrap_or("failed"),
            round + 1,
            folder.path().display(),
            server.log_tail()
        );
        std::mem::forget(folder);
        return Err(report.into());
    }
    if state.acknowledged == 0 {
        return Err("no write was ever acknowledged: nothing was tested".into());
    }
    Ok(Completion::Completed)
}

/// What is known for certain between two rounds.
struct State {
    /// From `base` + 1 on, complete.
    history: History,
    base: i64,
    revision: i64,
    acknowledged: usize,
    /// The state at `base`, by key.
    keys_at_base: Keys,
}

impl State {
    fn new(server: &Server) -> Result<State, Failed> {
        let mut session = Session::connect(&server.endpoint(), ANSWER_WITHIN)?;
        let (revision, _) = read_all(&mut session)?;
        let (history, keys_at_base) = (History::new(), BTreeMap::new());
        Ok(State {
            history,
            base: revision,
            revision,
            acknowledged: 0,
            keys_at_base,
        })
    }

    fn keys(&self) -> Keys {
        let mut keys = self.keys_at_base.clone();
        for (key, value) in self.history.values().flatten() {
            match value {
                Some(value) => keys.insert(key.clone(), value.clone()),
                None => keys.remove(key),
            };
        }
        keys
    }
}

fn round_of(
    server: &mut Server,
    state: &mut State,
    rng: &mut Rng,
    round: u64,
    delay: u64,
) -> Result<(), Failed> {
    let endpoint = server.endpoint();
    let mut session = Session::connect(&endpoint, ANSWER_WITHIN)?;
    let hash_before = hash_at(&mut session, state.revision)?;
    let stop = AtomicBool::new(false);
    let start = state.revision + 1;
    let (written, watched) = std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let (endpoint, stop, rng) = (&endpoint, &stop, Rng::new(rng.next()));
            writers.push(scope.spawn(move || write_until_lost(endpoint, round, writer, rng, stop)));
        }
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|_| scope.spawn(|| watch_until_lost(&endpoint, start)))
            .collect();
        std::thread::sleep(Duration::from_millis(delay));
        server.kill();
        stop.store(true, Ordering::Relaxed);
        let written: Vec<Written> = writers
            .into_iter()
            .flat_map(|w| w.join().expect("a writer does not panic"))
            .collect();
        let watched: Vec<History> = watchers
            .into_iter()
            .map(|w| w.join().expect("a watcher does not panic"))
            .collect();
        (written, watched)
    });
    server.spawn_again()?;
    server.wait_ready()?;
    let mut session = Session::connect(&endpoint, ANSWER_WITHIN)?;
    let (revision, keys) = read_all(&mut session)?;
    let history = watch_range(&mut session, state.base + 1, revision)?;
    check_history(state, &history, revision)?;
    state.acknowledged += check_written(&written, &history, state.revision)?;
    for seen in &watched {
        check_watched(&mut session, seen, &history, start, revision)?;
    }
    state.history = history;
    state.revision = revision;
    if keys != state.keys() {
        return Err("the keys are not what their history adds up to".into());
    }
    // At the revision of a compaction etcd answers from a cache that a restart empties.
    if start - 1 > state.base && hash_at(&mut session, start - 1)? != hash_before {
        return Err(format!("HashKV({}) changed over the restart", start - 1).into());
    }
    if round % COMPACT_EVERY == COMPACT_EVERY - 1 {
        let request = Message::new().int(1, revision).flag(2, true);
        expect_ok(&mut session, path::COMPACT, request.as_bytes())?;
        state.keys_at_base = state.keys();
        state.history.clear();
        state.base = revision;
    }
    Ok(())
}

/// Nothing that was known has changed, and the revisions are without a gap.
fn check_history(state: &State, history: &History, revision: i64) -> Result<(), Failed> {
    let expected: Vec<i64> = (state.base + 1..=revision).collect();
    let got: Vec<i64> = history.keys().copied().collect();
    if got != expected {
        let missing: Vec<_> = expected
            .iter()
            .filter(|r| !history.contains_key(r))
            .collect();
        return Err(format!("revision {revision}, but the history lacks {missing:?}").into());
    }
    for (revision, changes) in &state.history {
        if history[revision] != *changes {
            return Err(format!("revision {revision} changed its content").into());
        }
    }
    Ok(())
}

/// Acknowledged writes are where they were said to be; others are there once or not at all.
/// Returns how many were acknowledged.
fn check_written(written: &[Written], history: &History, known: i64) -> Result<usize, Failed> {
    let mut by_value: BTreeMap<&[u8], i64> = BTreeMap::new();
    for (revision, changes) in history.range(known + 1..) {
        for value in changes.iter().filter_map(|(_, value)| value.as_deref()) {
            if let Some(other) = by_value.insert(value, *revision) {
                let text = value.escape_ascii();
                return Err(format!("{text} at revisions {other} and {revision}").into());
            }
        }
    }
    let sent: BTreeSet<&[u8]> = written
        .iter()
        .flat_map(|w| &w.changes)
        .filter_map(|(_, v)| v.as_deref())
        .collect();
    if let Some((value, revision)) = by_value.iter().find(|(value, _)| !sent.contains(*value)) {
        return Err(format!("{} at {revision} was never sent", value.escape_ascii()).into());
    }
    let mut acknowledged = BTreeSet::new();
    for write in written {
        let Answer::Acknowledged { revision, changed } = write.answer else {
            continue;
        };
        if !changed {
            continue;
        }
        if !acknowledged.insert(revision) {
            return Err(format!("revision {revision} was acknowledged twice").into());
        }
        if history.get(&revision) != Some(&write.changes) {
            return Err(format!(
                "acknowledged at {revision}: {:?}, found {:?}",
                write.changes,
                history.get(&revision)
            )
            .into());
        }
    }
    Ok(acknowledged.len())
}

/// What a watcher saw before the kill and what its resumed watch shows make up the history.
fn check_watched(
    session: &mut Session,
    seen: &History,
    history: &History,
    start: i64,
    revision: i64,
) -> Result<(), Failed> {
    let resume = seen.last_key_value().map_or(start, |(last, _)| last + 1);
    let mut whole = seen.clone();
    whole.extend(watch_range(session, resume, revision)?);
    if whole
        != history
            .range(start..)
            .map(|(r, c)| (*r, c.clone()))
            .collect()
    {
        return Err(format!("a watch resumed at {resume} does not continue what it saw").into());
    }
    Ok(())
}

/// Writes with several calls open until the connection is lost.
fn write_until_lost(
    endpoint: &str,
    round: u64,
    writer: u64,
    mut rng: Rng,
    stop: &AtomicBool,
) -> Vec<Written> {
    let mut written: Vec<Written> = Vec::new();
    let Ok(mut session) = Session::connect(endpoint, ANSWER_WITHIN) else {
        return written;
    };
    let mut open: Vec<(Call, usize)> = Vec::new();
    for n in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = |n: u64| {
            [
                PREFIX,
                format!("{writer}/{:03}", n % KEYS_PER_WRITER).as_bytes(),
            ]
            .concat()
        };
        let value = |part: u64| {
            let filler = "x".repeat((n % 300) as usize);
            format!("{round}.{writer}.{n}.{part} {filler}").into_bytes()
        };
        let put = |key: &[u8], value: &[u8]| Message::new().bytes(1, key).bytes(2, value);
        let (method, request, changes) = match rng.below(6) {
            0 => {
                let request = Message::new().bytes(1, &key(n));
                (path::DELETE_RANGE, request, vec![(key(n), None)])
            }
            1 => {
                // The second key lies apart from what the other open calls touch.
                let other = [key(n), b"/other".to_vec()].concat();
                let (one, two) = (value(1), value(2));
                let op = |put: &Message| Message::new().nested(2, put);
                let request = Message::new()
                    .nested(2, &op(&put(&key(n), &one)))
                    .nested(2, &op(&put(&other, &two)));
                (
                    path::TXN,
                    request,
                    vec![(key(n), Some(one)), (other, Some(two))],
                )
            }
            _ => {
                let value = value(0);
                (path::PUT, put(&key(n), &value), vec![(key(n), Some(value))])
            }
        };
        written.push(Written {
            changes,
            answer: Answer::Unknown,
        });
        let Ok(call) = session.open(method, request.as_bytes(), true) else {
            break;
        };
        open.push((call, written.len() - 1));
        if open.len() == IN_FLIGHT {
            let (call, slot) = open.remove(0);
            if !take_answer(&mut session, call, &mut written[slot]) {
                break;
            }
        }
    }
    // Answers that had come before the kill.
    for (call, slot) in open {
        if !take_answer(&mut session, call, &mut written[slot]) {
            break;
        }
    }
    written
}

/// Waits for one answer; false when the connection is lost.
fn take_answer(session: &mut Session, call: Call, write: &mut Written) -> bool {
    let mut body = Vec::new();
    loop {
        match session.next(call, ANSWER_WITHIN) {
            Ok(Event::Message(message)) => body = message,
            Ok(Event::Ended(status)) if status.is_ok() => {
                let revision = message::header_revision(&body);
                let delete = write.changes.iter().all(|(_, value)| value.is_none());
                let changed = !delete || message::int(&body, 2) > 0;
                write.answer = Answer::Acknowledged { revision, changed };
                return true;
            }
            // A refusal on the way down leaves the outcome open.
            Ok(Event::Ended(_)) => return true,
            Err(_) => return false,
        }
    }
}

fn watch_request(start: i64) -> Vec<u8> {
    let create = Message::new()
        .bytes(1, PREFIX)
        .bytes(2, &prefix_end(PREFIX))
        .int(3, start);
    Message::new().nested(1, &create).into_bytes()
}

/// Watches until the connection is lost; what it saw.
fn watch_until_lost(endpoint: &str, start: i64) -> History {
    let mut history = History::new();
    let Ok(mut session) = Session::connect(endpoint, ANSWER_WITHIN) else {
        return history;
    };
    let Ok(call) = session.open(path::WATCH, &watch_request(start), false) else {
        return history;
    };
    while let Ok(Event::Message(body)) = session.next(call, ANSWER_WITHIN) {
        note_events(&body, &mut history);
    }
    history
}

/// The history from `start` to `end` as a new watch shows it.
fn watch_range(session: &mut Session, start: i64, end: i64) -> Result<History, Failed> {
    let mut history = History::new();
    if start > end {
        return Ok(history);
    }
    let call = session.open(path::WATCH, &watch_request(start), false)?;
    while history.last_key_value().is_none_or(|(last, _)| *last < end) {
        match session.next(call, ANSWER_WITHIN) {
            Ok(Event::Message(body)) if message::int(&body, 4) == 0 => {
                note_events(&body, &mut history);
            }
            other => {
                let seen = history.last_key_value().map(|(last, _)| *last);
                return Err(format!("watch from {start}: seen to {seen:?}, then {other:?}").into());
            }
        }
    }
    session.cancel(call)?;
    Ok(history)
}

fn note_events(body: &[u8], history: &mut History) {
    for event in message::repeated(body, 11) {
        if let Some(kv) = KeyValue::read(message::bytes(event, 2)) {
            let delete = message::int(event, 1) == 1;
            let change = (kv.key.to_vec(), (!delete).then(|| kv.value.to_vec()));
            history.entry(kv.mod_revision).or_default().push(change);
        }
    }
}

/// The current revision and all keys.
fn read_all(session: &mut Session) -> Result<(i64, Keys), Failed> {
    let request = Message::new()
        .bytes(1, PREFIX)
        .bytes(2, &prefix_end(PREFIX));
    let body = expect_ok(session, path::RANGE, request.as_bytes())?;
    let keys = message::repeated(&body, 2)
        .into_iter()
        .filter_map(KeyValue::read);
    let keys = keys
        .map(|kv| (kv.key.to_vec(), kv.value.to_vec()))
        .collect();
    Ok((message::header_revision(&body), keys))
}

/// HashKV at a revision: the hash, the revision it was made of, and where compaction stood.
fn hash_at(session: &mut Session, revision: i64) -> Result<(i64, i64, i64), Failed> {
    let request = Message::new().int(1, revision);
    let body = expect_ok(session, path::HASH_KV, request.as_bytes())?;
    Ok((
        message::int(&body, 2),
        message::int(&body, 3),
        message::int(&body, 4),
    ))
}

fn expect_ok(
    session: &mut Session,
    method: &'static str,
    request: &[u8],
) -> Result<Vec<u8>, Failed> {
    let reply = session.unary(method, request)?;
    if !reply.status.is_ok() {
        return Err(format!("{method}: {:?}", reply.status).into());
    }
    Ok(reply.message)
}
