//! Driver. Calls that are sound HTTP/2 and no sound gRPC: each is answered, with etcd's codes.

use std::path::PathBuf;

use libtest_mimic::{Completion, Failed};

use super::raw::{Answered, END_HEADERS, HEADERS, Raw, call_block, frame, grpc};
use super::victim::Victim;
use crate::world;

const PUT: &[u8] = b"/etcdserverpb.KV/Put";
/// Key `k`, value `v`.
const PUT_MESSAGE: &[u8] = b"\x0a\x01k\x12\x01v";
/// The largest message that is taken: 1.5 MiB and half a MiB around it.
const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// What an answer must be: `:status`, the code, and words of the message. An empty text is not
/// looked for.
struct Answer(&'static str, &'static str, &'static str);

/// One call: what its head has beside or instead of a call's, and its frames' payloads.
struct Case {
    name: &'static str,
    path: &'static [u8],
    fields: Vec<(&'static [u8], &'static [u8])>,
    body: Vec<u8>,
    /// The client says that nothing follows.
    end: bool,
    /// etcd's.
    answer: Answer,
    /// What ringbolt answers instead, on purpose.
    unlike: Option<Answer>,
}

impl Case {
    fn unlike(self, answer: Answer) -> Case {
        Case {
            unlike: Some(answer),
            ..self
        }
    }
}

fn case(name: &'static str, body: Vec<u8>, answer: Answer) -> Case {
    Case {
        name,
        path: PUT,
        fields: Vec::new(),
        body,
        end: true,
        answer,
        unlike: None,
    }
}

fn headed(name: &'static str, fields: &[(&'static [u8], &'static [u8])], answer: Answer) -> Case {
    Case {
        fields: fields.to_vec(),
        ..case(name, grpc(PUT_MESSAGE), answer)
    }
}

fn to(path: &'static [u8], answer: Answer) -> Case {
    Case {
        path,
        ..case("another path", grpc(PUT_MESSAGE), answer)
    }
}

fn prefixed(flag: u8, size: u32, body: &[u8]) -> Vec<u8> {
    [&[flag], &size.to_be_bytes()[..], body].concat()
}

/// A put whose value has so many bytes.
fn put_of(size: usize) -> Vec<u8> {
    let mut message = b"\x0a\x01k\x12".to_vec();
    let mut left = size;
    while left >= 128 {
        message.push(left as u8 | 0x80);
        left >>= 7;
    }
    message.push(left as u8);
    message.resize(message.len() + size, b'v');
    grpc(&message)
}

fn table() -> Vec<Case> {
    let fine = || Answer("200", "0", "");
    let timeout =
        |text: &'static [u8], answer| headed("a timeout", &[(b"grpc-timeout", text)], answer);
    // Plain requests are served over HTTP/2 as well; none has this path.
    let plain = || Answer("404", "", "");
    let bad_timeout = || Answer("400", "13", "malformed grpc-timeout");
    vec![
        case("a sound call", grpc(PUT_MESSAGE), fine()),
        Case {
            end: false,
            ..case("no end of the stream", grpc(PUT_MESSAGE), fine())
        },
        headed(
            "a subtype",
            &[(b"content-type", b"application/grpc+proto")],
            fine(),
        ),
        headed(
            "another content type",
            &[(b"content-type", b"application/json")],
            Answer("415", "3", "invalid gRPC request content-type"),
        )
        .unlike(plain()),
        headed(
            "a longer content type",
            &[(b"content-type", b"application/grpcx")],
            Answer("415", "3", "invalid gRPC request content-type"),
        )
        .unlike(plain()),
        headed(
            "another method",
            &[(b":method", b"GET")],
            Answer("405", "13", "should be POST"),
        ),
        headed(
            "a codec that is not there",
            &[(b"grpc-encoding", b"snappy")],
            Answer(
                "200",
                "12",
                "Decompressor is not installed for grpc-encoding \"snappy\"",
            ),
        ),
        // No client compresses unless it is told to, and one that does learns here that it may not.
        headed("gzip", &[(b"grpc-encoding", b"gzip")], fine()).unlike(Answer(
            "200",
            "12",
            "Decompressor is not installed for grpc-encoding \"gzip\"",
        )),
        to(
            b"/etcdserverpb.KV/Grab",
            Answer(
                "200",
                "12",
                "unknown method Grab for service etcdserverpb.KV",
            ),
        ),
        to(
            b"/etcdserverpb.Nothing/Put",
            Answer("200", "12", "unknown service etcdserverpb.Nothing"),
        ),
        to(
            b"/put",
            Answer("200", "12", "malformed method name: \"/put\""),
        ),
        case("no message", Vec::new(), Answer("200", "2", "EOF")).unlike(Answer(
            "200",
            "13",
            "the request has no message",
        )),
        case(
            "an empty message",
            grpc(b""),
            Answer("200", "3", "etcdserver: key is not provided"),
        ),
        case(
            "what is no message",
            grpc(b"\x0a\x7fk"),
            Answer("200", "13", "error unmarshalling request"),
        ),
        case("half a prefix", vec![0, 0], Answer("200", "2", "EOF")),
        case(
            "less than the prefix says",
            prefixed(0, 100, PUT_MESSAGE),
            Answer("200", "2", "unexpected EOF"),
        ),
        case(
            "a compressed message",
            prefixed(1, PUT_MESSAGE.len() as u32, PUT_MESSAGE),
            Answer("200", "13", "compressed flag set"),
        ),
        case(
            "an unknown flag",
            prefixed(2, PUT_MESSAGE.len() as u32, PUT_MESSAGE),
            Answer("200", "13", "unexpected payload format 2"),
        ),
        case(
            "a prefix above the limit",
            prefixed(0, MESSAGE_BYTES_MAX as u32 + 1, b""),
            Answer(
                "200",
                "8",
                "received message larger than max (2097153 vs. 2097152)",
            ),
        ),
        case(
            "a prefix as large as can be",
            prefixed(0, u32::MAX, b""),
            Answer(
                "200",
                "8",
                "received message larger than max (4294967295 vs. 2097152)",
            ),
        ),
        case(
            "a request above its limit",
            put_of(1600 << 10),
            Answer("200", "3", "etcdserver: request is too large"),
        ),
        case("a request within its limit", put_of(1500 << 10), fine()),
        timeout(b"5S", fine()),
        timeout(b"99999999H", fine()),
        timeout(b"1n", Answer("200", "4", "context deadline exceeded")),
        timeout(b"0S", Answer("200", "4", "context deadline exceeded")),
        timeout(b"", bad_timeout()),
        timeout(b"5", bad_timeout()),
        timeout(b"5x", bad_timeout()),
        timeout(b"123456789S", bad_timeout()),
        timeout(b"x5S", bad_timeout()),
        timeout(b"1234567890123456789012345678901234567890S", bad_timeout()),
    ]
}

/// Makes a call on a connection of its own.
fn ask(victim: &Victim, case: &Case) -> Result<Answered, Failed> {
    let mut raw = Raw::http2(&victim.endpoint(), &[])?;
    let block = call_block(case.path, &case.fields);
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block));
    raw.send_body(&case.body, case.end)?;
    raw.answer(1)
}

// Catches: a code or a text that a client would take for something else, a call without an answer,
// and a fault of one call that ends others.
fn run(program: PathBuf, choose: fn(Case) -> Case) -> Result<Completion, Failed> {
    let victim = Victim::of(program, "calls", &[])?;
    let mut wrong = Vec::new();
    for case in table().into_iter().map(choose) {
        let Answer(http, code, words) = case.answer;
        let got = ask(&victim, &case)?;
        let same = got.http_status == http
            && got.grpc_status == code
            && got.grpc_message.contains(words)
            && got.goaway.is_none();
        if !same {
            wrong.push(format!(
                "{} {}: {got:?}",
                case.name,
                case.path.escape_ascii()
            ));
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n").into());
    }
    victim.serves()?;
    Ok(Completion::Completed)
}

pub fn on_ringbolt() -> Result<Completion, Failed> {
    run(world::ringbolt(), |mut case| {
        case.answer = case.unlike.take().unwrap_or(case.answer);
        case
    })
}

pub fn on_etcd() -> Result<Completion, Failed> {
    match world::etcd_folder() {
        Ok(folder) => run(folder.join("etcd"), |case| case),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    }
}
