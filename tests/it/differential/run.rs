//! Driver. One side of a comparison: a server, a connection, and at most one open watch stream.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed};
use ringbolt::bench::message::{self, KeyValue, Message};
use ringbolt::bench::server::Server;
use ringbolt::bench::session::{Call, Event, Session, SessionError};

use super::describe::{self, literal};
use super::outcome::{Outcome, merged_stream};
use super::step::{Kind, PROGRESS_KEY, Step};
use crate::world;

const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// A progress request may stay without an answer while a watch catches up: it is asked again.
const PROGRESS_AGAIN: Duration = Duration::from_millis(150);

pub struct Side {
    name: &'static str,
    server: Server,
    session: Session,
    call: Option<Call>,
    watch: Option<Watching>,
}

/// The watch whose event shows that a progress request before it was left without an answer: both
/// travel in order. It starts in the past, so that nobody else is given an event meanwhile. No
/// other watch has this id.
const BARRIER_ID: i64 = 1 << 40;

/// How far the barrier watch is.
#[derive(Default)]
struct Barrier {
    created: bool,
    event: bool,
    canceled: bool,
}

/// The open watch stream and what it has said since the last `WatchSync`.
struct Watching {
    call: Call,
    /// What was asked on it, for the message of a failure.
    requests: Vec<String>,
    /// Lines by watch id; −1 holds creations that were refused.
    lines: BTreeMap<i64, Vec<String>>,
    live: Vec<i64>,
    /// Watches that the server canceled and the client did not.
    ended: BTreeSet<i64>,
    creations_unanswered: u32,
    cancels_unanswered: u32,
    progress: i64,
    last_revision: BTreeMap<i64, i64>,
    barrier: Barrier,
    /// Watches whose last answer is continued by the next one.
    fragmented: BTreeSet<i64>,
}

impl Side {
    /// A real etcd. Nothing is asked of its durability, and the disk would be its slowest part.
    pub fn oracle(program: PathBuf, folder: &Path) -> Result<Side, Failed> {
        Side::start("etcd", program, folder, &["--unsafe-no-fsync"])
    }

    /// The server under test, as it is.
    pub fn subject(program: PathBuf, folder: &Path) -> Result<Side, Failed> {
        Side::start("here", program, folder, &[])
    }

    fn start(
        name: &'static str,
        program: PathBuf,
        folder: &Path,
        flags: &[&str],
    ) -> Result<Side, Failed> {
        let server = world::start(program, folder, flags)?;
        let session = Session::connect(&server.endpoint(), ANSWER_WITHIN)?;
        Ok(Side {
            name,
            server,
            session,
            call: None,
            watch: None,
        })
    }

    /// Sends the step's request.
    pub fn begin(&mut self, step: &Step) -> Result<(), Failed> {
        self.send(step)
            .map_err(|error| self.lost(step, &error.to_string()))
    }

    /// Waits for the step's answer.
    pub fn finish(&mut self, step: &Step) -> Result<Outcome, Failed> {
        let outcome = self
            .receive(step)
            .map_err(|error| self.lost(step, &error))?;
        Ok(outcome.masked(step))
    }

    fn lost(&self, step: &Step, error: &str) -> Failed {
        let (name, log) = (self.name, self.server.log_tail());
        format!("{name}: {error}\n  in {}\n{log}", describe::step(step)).into()
    }

    fn send(&mut self, step: &Step) -> Result<(), SessionError> {
        if let (Kind::WatchMore, Some(watch)) = (step.kind, &mut self.watch) {
            watch.requests.push(describe::step(step));
        }
        match step.kind {
            Kind::WatchOpen => {
                let requests = message::repeated(&step.request, 1);
                let call = self.session.open(step.kind.path(), requests[0], false)?;
                self.watch = Some(Watching {
                    call,
                    requests: vec![describe::step(step)],
                    lines: BTreeMap::new(),
                    live: Vec::new(),
                    ended: BTreeSet::new(),
                    creations_unanswered: 0,
                    cancels_unanswered: 0,
                    progress: 0,
                    last_revision: BTreeMap::new(),
                    barrier: Barrier::default(),
                    fragmented: BTreeSet::new(),
                });
                self.send_watch_requests(&requests, 1)
            }
            Kind::WatchMore => self.send_watch_requests(&message::repeated(&step.request, 1), 0),
            Kind::WatchSync | Kind::WatchClose | Kind::WatchProgress | Kind::Restart => Ok(()),
            kind => {
                self.call = Some(self.session.open(kind.path(), &step.request, true)?);
                Ok(())
            }
        }
    }

    fn send_watch_requests(
        &mut self,
        requests: &[&[u8]],
        already_sent: usize,
    ) -> Result<(), SessionError> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        for (i, request) in requests.iter().enumerate() {
            let create = !message::repeated(request, 1).is_empty();
            watch.creations_unanswered += u32::from(create);
            for cancel in message::repeated(request, 2) {
                let id = message::int(cancel, 1);
                let slot = watch.live.iter().position(|live| *live == id);
                if let Some(slot) = slot {
                    watch.live.swap_remove(slot);
                }
                watch.cancels_unanswered += u32::from(slot.is_some() | watch.ended.remove(&id));
            }
            if i >= already_sent {
                self.session.send(watch.call, request)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, step: &Step) -> Result<Outcome, String> {
        match step.kind {
            Kind::WatchOpen | Kind::WatchMore => {
                let deadline = Instant::now() + ANSWER_WITHIN;
                while self.watch.as_ref().is_some_and(Watching::owes_answers) {
                    if !self.read_watch(ANSWER_WITHIN)? || Instant::now() > deadline {
                        return Err("a watch request stays unanswered".to_string());
                    }
                }
                Ok(Outcome::default())
            }
            Kind::WatchSync if message::int(&step.request, 2) != 0 => self.outlive_watches(),
            Kind::WatchSync => self.sync_watch(message::int(&step.request, 1)),
            Kind::WatchProgress => self.ask_progress(),
            Kind::Restart => self.restart(),
            Kind::WatchClose => {
                if let Some(watch) = self.watch.take() {
                    self.session.cancel(watch.call).map_err(|e| e.to_string())?;
                }
                Ok(Outcome::default())
            }
            _ => self.receive_call(step),
        }
    }

    fn receive_call(&mut self, step: &Step) -> Result<Outcome, String> {
        let call = self.call.take().ok_or("no call is open")?;
        let mut parts = Vec::new();
        let status = loop {
            match self
                .session
                .next(call, ANSWER_WITHIN)
                .map_err(|e| e.to_string())?
            {
                Event::Message(body) => parts.push(body),
                Event::Ended(status) => break status,
            }
        };
        let body = match step.kind {
            Kind::RangeStream if status.is_ok() => merged_stream(&parts),
            _ if parts.len() > 1 => return Err(format!("{} answers to one call", parts.len())),
            _ => parts.pop().unwrap_or_default(),
        };
        Ok(Outcome {
            code: status.code,
            text: status.message,
            body,
        })
    }

    /// Waits until every watch has said all up to `revision`, then takes what they said.
    fn sync_watch(&mut self, revision: i64) -> Result<Outcome, String> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let progress_request = Message::new().nested(3, &Message::new()).into_bytes();
        while let Some(watch) = &mut self.watch
            && !watch.live.is_empty()
            && watch.progress < revision
        {
            if Instant::now() > deadline {
                let asked = watch.requests.join("\n");
                let said = self.take_lines();
                return Err(format!(
                    "no progress to revision {revision}; asked:\n{asked}\nso far:\n{said}"
                ));
            }
            self.session
                .send(watch.call, &progress_request)
                .map_err(|e| e.to_string())?;
            while self.read_watch(PROGRESS_AGAIN)? {
                if self.watch.as_ref().is_some_and(|w| w.progress >= revision) {
                    break;
                }
            }
        }
        Ok(Outcome {
            body: self.take_lines().into_bytes(),
            ..Outcome::default()
        })
    }

    /// A progress request, and behind it an event: what comes first tells whether it is answered.
    fn ask_progress(&mut self) -> Result<Outcome, String> {
        // The new revision tells the answer from a late one to an earlier request.
        let revision = self.put_progress_key()?;
        let create = Message::new().bytes(1, PROGRESS_KEY).int(7, BARRIER_ID);
        let cancel = Message::new().int(1, BARRIER_ID);
        self.send_watch(Message::new().nested(3, &Message::new()))?;
        self.send_watch(Message::new().nested(1, &create.int(3, revision)))?;
        self.read_until(|watch| watch.barrier.created && watch.barrier.event)?;
        self.send_watch(Message::new().nested(2, &cancel))?;
        self.read_until(|watch| watch.barrier.canceled)?;
        let watch = self.watch.as_mut().ok_or("no watch stream is open")?;
        watch.barrier = Barrier::default();
        let answer = match watch.progress {
            at if at >= revision => format!("answered at {at}"),
            _ => "no answer".to_string(),
        };
        // What was said before the barrier's event: everything, of watches that do not lag.
        Ok(Outcome {
            body: format!("{answer}\n{}", self.take_lines()).into_bytes(),
            ..Outcome::default()
        })
    }

    fn restart(&mut self) -> Result<Outcome, String> {
        self.server.kill();
        let again = self.server.spawn_again();
        again.map_err(|error| error.to_string())?;
        let (_, revision) = self.server.wait_ready().map_err(|e| e.to_string())?;
        self.session = Session::connect(&self.server.endpoint(), ANSWER_WITHIN)
            .map_err(|error| error.to_string())?;
        Ok(Outcome {
            text: format!("ready at {revision}"),
            ..Outcome::default()
        })
    }

    fn put_progress_key(&mut self) -> Result<i64, String> {
        let put = Message::new().bytes(1, PROGRESS_KEY);
        let reply = self.session.unary(Kind::Put.path(), put.as_bytes());
        let reply = reply.map_err(|error| error.to_string())?;
        Ok(message::header_revision(&reply.message))
    }

    fn send_watch(&mut self, request: Message) -> Result<(), String> {
        let call = self.watch.as_ref().ok_or("no watch stream is open")?.call;
        let sent = self.session.send(call, request.as_bytes());
        sent.map_err(|error| error.to_string())
    }

    fn read_until(&mut self, reached: impl Fn(&Watching) -> bool) -> Result<(), String> {
        while !self.watch.as_ref().is_some_and(&reached) {
            if !self.read_watch(ANSWER_WITHIN)? {
                return Err(format!("no answer; so far:\n{}", self.take_lines()));
            }
        }
        Ok(())
    }

    /// Waits until the server has cancelled every watch, then takes what they said.
    fn outlive_watches(&mut self) -> Result<Outcome, String> {
        while self
            .watch
            .as_ref()
            .is_some_and(|watch| !watch.live.is_empty())
        {
            if !self.read_watch(ANSWER_WITHIN)? {
                return Err(format!("no cancellation; so far:\n{}", self.take_lines()));
            }
        }
        Ok(Outcome {
            body: self.take_lines().into_bytes(),
            ..Outcome::default()
        })
    }

    fn take_lines(&mut self) -> String {
        let mut text = String::new();
        let Some(watch) = &mut self.watch else {
            return text;
        };
        for (id, lines) in std::mem::take(&mut watch.lines) {
            for line in lines {
                let _ = writeln!(text, "watch {id}: {line}");
            }
        }
        text
    }

    /// Reads one answer of the watch stream; false when none comes within `timeout`.
    fn read_watch(&mut self, timeout: Duration) -> Result<bool, String> {
        let Some(watch) = &mut self.watch else {
            return Ok(false);
        };
        match self.session.next(watch.call, timeout) {
            Ok(Event::Message(body)) => watch.note(&body).map(|()| true),
            Ok(Event::Ended(status)) => Err(format!("the watch stream ended: {status:?}")),
            Err(SessionError::Timeout) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Watching {
    fn owes_answers(&self) -> bool {
        self.creations_unanswered + self.cancels_unanswered > 0
    }

    fn note(&mut self, body: &[u8]) -> Result<(), String> {
        let revision = message::header_revision(body);
        // Ids are int64: −1 comes as ten bytes.
        let id = message::int(body, 2);
        let (created, canceled) = (message::int(body, 3) != 0, message::int(body, 4) != 0);
        let events = message::repeated(body, 11);
        if id == -1 && !created && !canceled && events.is_empty() {
            self.progress = self.progress.max(revision);
            return Ok(());
        }
        if id == BARRIER_ID {
            self.barrier.created |= created;
            self.barrier.canceled |= canceled;
            self.barrier.event |= !events.is_empty();
            return Ok(());
        }
        let lines = self.lines.entry(id).or_default();
        if created {
            self.creations_unanswered = self.creations_unanswered.saturating_sub(1);
            if !canceled {
                self.live.push(id);
                // An id may be used again after its watch was cancelled.
                self.last_revision.remove(&id);
            }
            lines.push(format!("created at {revision}"));
        }
        if canceled {
            if let Some(slot) = self.live.iter().position(|live| *live == id) {
                self.live.swap_remove(slot);
                self.ended.insert(id);
            } else if !created {
                self.cancels_unanswered = self.cancels_unanswered.saturating_sub(1);
            }
            let reason = String::from_utf8_lossy(message::bytes(body, 6)).into_owned();
            lines.push(format!(
                "canceled at {revision}, compacted {}, {reason:?}",
                message::int(body, 5)
            ));
        }
        let fragment = message::int(body, 7) != 0;
        let continues = match fragment {
            true => !self.fragmented.insert(id),
            false => self.fragmented.remove(&id),
        };
        let last = self.last_revision.entry(id).or_default();
        for (i, event) in events.iter().enumerate() {
            let kv = KeyValue::read(message::bytes(event, 2)).ok_or("an event without a key")?;
            let split = i == 0 && kv.mod_revision == *last;
            if split && continues {
                // Where other revisions are split depends on how far a watch lagged.
                lines.push("in another answer".to_string());
            }
            if kv.mod_revision < *last || (split && !continues) {
                return Err(format!(
                    "watch {id}: revision {} after {last}, or split over two answers",
                    kv.mod_revision
                ));
            }
            if kv.mod_revision > revision {
                return Err(format!(
                    "watch {id}: event {} > header {revision}",
                    kv.mod_revision
                ));
            }
            *last = kv.mod_revision;
            lines.push(event_line(event, &kv));
        }
        Ok(())
    }
}

fn event_line(event: &[u8], kv: &KeyValue<'_>) -> String {
    let shown = |kv: &KeyValue<'_>| {
        format!(
            "{}={} create {} mod {} version {} lease {}",
            literal(kv.key),
            literal(kv.value),
            kv.create_revision,
            kv.mod_revision,
            kv.version,
            kv.lease
        )
    };
    let mut line = format!("type {} {}", message::int(event, 1), shown(kv));
    if let Some(previous) = message::repeated(event, 3).last() {
        match KeyValue::read(previous) {
            Some(previous) => {
                let _ = write!(line, " was {}", shown(&previous));
            }
            None => line.push_str(" was nonsense"),
        }
    }
    line
}

/// The differences found so far.
pub struct Mismatches {
    texts: Vec<String>,
    max: usize,
}

impl Mismatches {
    pub fn new(max: u64) -> Mismatches {
        Mismatches {
            texts: Vec::new(),
            max: max as usize,
        }
    }

    pub fn compare(
        &mut self,
        at: &str,
        step: &Step,
        expected: &Outcome,
        got: &Outcome,
    ) -> Result<(), Failed> {
        if expected == got {
            return Ok(());
        }
        let text = describe::difference(step, expected, got);
        self.texts.push(format!("{at}: {text}"));
        if self.texts.len() >= self.max {
            Err(self.texts.join("\n\n").into())
        } else {
            Ok(())
        }
    }

    pub fn verdict(self) -> Result<Completion, Failed> {
        if self.texts.is_empty() {
            return Ok(Completion::Completed);
        }
        Err(self.texts.join("\n\n").into())
    }
}
