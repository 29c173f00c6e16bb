//! Driver. Lists all keys of a load in one call, unary or as a stream, and checks that they are all
//! there, in order, each with its value.

use std::time::{Duration, Instant};

use super::message::{self, KeyValue, Message, path};
use super::process::Usage;
use super::report::{self, Json};
use super::session::{Session, SessionError};
use super::wire::{Answers, Status};
use super::workload::Keys;

const ANSWER_WITHIN: Duration = Duration::from_secs(120);

#[derive(Clone, Debug)]
pub struct ListSpec {
    pub endpoint: String,
    pub keys: Keys,
    pub stream: bool,
    pub repeat: u32,
    pub server_pid: Option<u32>,
}

/// What is wrong with a list.
#[derive(Debug)]
pub enum ListError {
    Session(SessionError),
    Status(Status),
    Wrong { at: u64, what: &'static str },
}

impl std::fmt::Display for ListError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ListError::Session(error) => error.fmt(f),
            ListError::Status(status) => write!(f, "code {}: {}", status.code, status.message),
            ListError::Wrong { at, what } => write!(f, "key {at} of the list: {what}"),
        }
    }
}

impl std::error::Error for ListError {}

impl From<SessionError> for ListError {
    fn from(error: SessionError) -> ListError {
        ListError::Session(error)
    }
}

/// Checks the keys as they come; the clock stops at the last byte, before the last check.
struct Checker<'a> {
    spec: &'a ListSpec,
    begin: Instant,
    took: Duration,
    bytes: u64,
    seen: u64,
    count: i64,
    wrong: Option<ListError>,
}

impl Answers for Checker<'_> {
    fn message(&mut self, _: u64, body: &[u8]) {
        self.took = self.begin.elapsed();
        self.bytes += body.len() as u64;
        let response = if self.spec.stream {
            message::bytes(body, 1)
        } else {
            body
        };
        self.count = self.count.max(message::int(response, 4));
        for kv in message::repeated(response, 2) {
            let expected = self.spec.keys.key(self.seen);
            let what = match KeyValue::read(kv) {
                Some(kv) if kv.key != expected => Some("not the expected key"),
                Some(kv) if kv.value.len() != self.spec.keys.value_size => Some("size of value"),
                Some(_) => None,
                None => Some("no key"),
            };
            if let (Some(what), None) = (what, &self.wrong) {
                self.wrong = Some(ListError::Wrong {
                    at: self.seen,
                    what,
                });
            }
            self.seen += 1;
        }
    }

    fn ended(&mut self, _: u64, status: &Status) {
        if !status.is_ok() {
            self.wrong = Some(ListError::Status(status.clone()));
        }
    }
}

/// Lists `repeat` times on one connection; medians over the runs.
pub fn run(spec: &ListSpec) -> Result<Json, ListError> {
    let mut session = Session::connect(&spec.endpoint, ANSWER_WITHIN)?;
    let (start, end) = Keys::all();
    let request = Message::new().bytes(1, &start).bytes(2, &end).into_bytes();
    let method = if spec.stream {
        path::RANGE_STREAM
    } else {
        path::RANGE
    };
    let (mut times, mut bytes, mut peak) = (Vec::new(), 0, 0);
    let usage = || spec.server_pid.and_then(Usage::of);
    let before = usage();
    for _ in 0..spec.repeat {
        let begin = Instant::now();
        let mut checker = Checker {
            spec,
            begin,
            took: Duration::ZERO,
            bytes: 0,
            seen: 0,
            count: 0,
            wrong: None,
        };
        session.exchange(method, &request, &mut checker)?;
        if let Some(wrong) = checker.wrong {
            return Err(wrong);
        }
        if checker.seen != spec.keys.count || checker.count != spec.keys.count as i64 {
            return Err(ListError::Wrong {
                at: checker.seen,
                what: "number of keys",
            });
        }
        times.push(checker.took.as_secs_f64() * 1e3);
        bytes = checker.bytes;
        peak = peak.max(usage().map_or(0, |usage| usage.resident_bytes));
    }
    let (median, fastest, slowest) = report::median_and_range(&times).unwrap_or_default();
    let mut result = Json::object([
        ("keys", Json::number(spec.keys.count as f64)),
        ("bytes", Json::number(bytes as f64)),
        ("median_ms", Json::number(median)),
        ("fastest_ms", Json::number(fastest)),
        ("slowest_ms", Json::number(slowest)),
        ("mb_per_s", Json::number(bytes as f64 / 1e3 / median)),
    ]);
    if let Some((before, after)) = before.zip(usage()) {
        let used = after.since(&before);
        let each = used.cpu_seconds * 1e3 / f64::from(spec.repeat.max(1));
        result.push("server_cpu_ms", Json::number(each));
        result.push(
            "server_resident_peak_mib",
            Json::number(peak as f64 / 1048576.0),
        );
    }
    Ok(result)
}
