//! Pure. Messages as text for a failure: field numbers with their values, nested where the bytes
//! read as a message and the field is known to be one.

use std::fmt::Write;

use ringbolt::bench::message;
use ringbolt::codec::Field;

use super::outcome::Outcome;
use super::step::{Kind, Step};

/// Bytes as a literal.
pub fn literal(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(120)];
    let mut text = format!("\"{}\"", shown.escape_ascii());
    if bytes.len() > shown.len() {
        let _ = write!(text, "… ({} bytes)", bytes.len());
    }
    text
}

pub fn step(step: &Step) -> String {
    format!(
        "{:?} {{{}}}",
        step.kind,
        fields(&step.request, known(step.kind, true))
    )
}

/// A step, and two answers to it.
pub fn difference(step: &Step, expected: &Outcome, got: &Outcome) -> String {
    let mut text = self::step(step);
    if !step.kind.is_watch() || (expected.code, &expected.text) != (got.code, &got.text) {
        let (expected, got) = (outcome(step, expected), outcome(step, got));
        let _ = write!(text, "\n  etcd: {expected}\n  here: {got}");
        return text;
    }
    // Of what a watch stream saw, from the first line that differs.
    let lines = |outcome: &Outcome| -> Vec<String> {
        let text = String::from_utf8_lossy(&outcome.body);
        text.lines().map(str::to_string).collect()
    };
    let (expected, got) = (lines(expected), lines(got));
    let both = expected
        .iter()
        .zip(&got)
        .take_while(|(a, b)| a == b)
        .count();
    let _ = write!(text, "\n  after {both} equal lines");
    for (side, lines) in [("etcd", &expected), ("here", &got)] {
        for line in lines[both..].iter().take(DIFFERING_LINES_MAX) {
            let _ = write!(text, "\n  {side}: {line}");
        }
    }
    text
}

/// Lines of either side that are shown of a difference.
const DIFFERING_LINES_MAX: usize = 20;

fn outcome(step: &Step, outcome: &Outcome) -> String {
    let body = fields(&outcome.body, known(step.kind, false));
    format!("code {} {:?} {{{body}}}", outcome.code, outcome.text)
}

/// Which fields are messages: names for fields, and the shape below them.
struct Shape(&'static [(u32, &'static str, Option<&'static Shape>)]);

const HEADER: Shape = Shape(&[(3, "revision", None)]);
const KV: Shape = Shape(&[
    (1, "key", None),
    (2, "create", None),
    (3, "mod", None),
    (4, "version", None),
    (5, "value", None),
    (6, "lease", None),
]);
const RANGE: Shape = Shape(&[
    (1, "key", None),
    (2, "end", None),
    (3, "limit", None),
    (4, "revision", None),
    (5, "order", None),
    (6, "target", None),
    (7, "serializable", None),
    (8, "keys_only", None),
    (9, "count_only", None),
    (10, "min_mod", None),
    (11, "max_mod", None),
    (12, "min_create", None),
    (13, "max_create", None),
]);
const PUT: Shape = Shape(&[
    (1, "key", None),
    (2, "value", None),
    (3, "lease", None),
    (4, "prev_kv", None),
    (5, "ignore_value", None),
    (6, "ignore_lease", None),
]);
const DELETE: Shape = Shape(&[(1, "key", None), (2, "end", None), (3, "prev_kv", None)]);
const COMPARE: Shape = Shape(&[
    (1, "result", None),
    (2, "target", None),
    (3, "key", None),
    (4, "version", None),
    (5, "create", None),
    (6, "mod", None),
    (7, "value", None),
    (8, "lease", None),
    (64, "end", None),
]);
static OP: Shape = Shape(&[
    (1, "range", Some(&RANGE)),
    (2, "put", Some(&PUT)),
    (3, "delete", Some(&DELETE)),
    (4, "txn", Some(&TXN)),
]);
static TXN: Shape = Shape(&[
    (1, "compare", Some(&COMPARE)),
    (2, "success", Some(&OP)),
    (3, "failure", Some(&OP)),
]);
const RANGE_ANSWER: Shape = Shape(&[
    (1, "header", Some(&HEADER)),
    (2, "kv", Some(&KV)),
    (3, "more", None),
    (4, "count", None),
]);
const PUT_ANSWER: Shape = Shape(&[(1, "header", Some(&HEADER)), (2, "prev_kv", Some(&KV))]);
const DELETE_ANSWER: Shape = Shape(&[
    (1, "header", Some(&HEADER)),
    (2, "deleted", None),
    (3, "prev_kv", Some(&KV)),
]);
static OP_ANSWER: Shape = Shape(&[
    (1, "range", Some(&RANGE_ANSWER)),
    (2, "put", Some(&PUT_ANSWER)),
    (3, "delete", Some(&DELETE_ANSWER)),
    (4, "txn", Some(&TXN_ANSWER)),
]);
static TXN_ANSWER: Shape = Shape(&[
    (1, "header", Some(&HEADER)),
    (2, "succeeded", None),
    (3, "response", Some(&OP_ANSWER)),
]);
const OTHER_ANSWER: Shape = Shape(&[(1, "header", Some(&HEADER))]);
const WATCH_CREATE: Shape = Shape(&[
    (1, "key", None),
    (2, "end", None),
    (3, "start", None),
    (4, "progress_notify", None),
    (5, "filter", None),
    (6, "prev_kv", None),
    (7, "watch_id", None),
    (8, "fragment", None),
]);
const WATCH: Shape = Shape(&[
    (1, "create", Some(&WATCH_CREATE)),
    (2, "cancel", Some(&LEASE)),
    (3, "progress", None),
]);
const WATCHES: Shape = Shape(&[(1, "request", Some(&WATCH))]);
const LEASE: Shape = Shape(&[(1, "id", None)]);
const NONE: Shape = Shape(&[]);

fn known(kind: Kind, request: bool) -> &'static Shape {
    match (kind, request) {
        (Kind::Range | Kind::RangeStream, true) => &RANGE,
        (Kind::Range | Kind::RangeStream, false) => &RANGE_ANSWER,
        (Kind::Put, true) => &PUT,
        (Kind::Put, false) => &PUT_ANSWER,
        (Kind::DeleteRange, true) => &DELETE,
        (Kind::DeleteRange, false) => &DELETE_ANSWER,
        (Kind::Txn, true) => &TXN,
        (Kind::Txn, false) => &TXN_ANSWER,
        (Kind::WatchOpen | Kind::WatchMore, true) => &WATCHES,
        (_, true) => &NONE,
        (_, false) => &OTHER_ANSWER,
    }
}

fn fields(bytes: &[u8], shape: &Shape) -> String {
    let mut text = String::new();
    let read = message::fields(bytes, |number, value| {
        if !text.is_empty() {
            text.push_str(", ");
        }
        let entry = shape.0.iter().find(|(n, ..)| *n == number);
        match entry {
            Some((_, name, _)) => text.push_str(name),
            None => {
                let _ = write!(text, "#{number}");
            }
        }
        let nested = entry.and_then(|(.., nested)| *nested);
        let _ = match (value, nested) {
            (Field::Bytes(v), Some(nested)) => write!(text, " {{{}}}", fields(v, nested)),
            (Field::Bytes(v), None) => write!(text, "={}", literal(v)),
            (Field::Varint(v), _) => write!(text, "={}", v as i64),
            (Field::Fixed32(v), _) => write!(text, "={v}f"),
            (Field::Fixed64(v), _) => write!(text, "={v}f"),
        };
    });
    if read.is_none() {
        return literal(bytes);
    }
    text
}
