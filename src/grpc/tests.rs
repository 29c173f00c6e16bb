//! Pure. Calls end to end: our raw client against our gRPC server, in memory.

use super::*;
use crate::env::Monotonic;
use crate::http2::{self, ClientConnection, ErrorCode, Prepared, put_field};
use crate::ids::StreamId;
use crate::limits::http2 as limits;
use std::sync::Arc;
use std::time::Duration;

const NOW: Monotonic = Monotonic(1_000_000_000);
const PUT: MethodId = MethodId(3);
const WATCH: MethodId = MethodId(9);

/// Both ends of a connection, and the time.
struct Pair {
    client: ClientConnection,
    server: GrpcConnection,
    now: Monotonic,
}

/// What a client saw of one call.
#[derive(PartialEq, Debug, Default)]
struct Answer {
    http_status: Option<u16>,
    messages: Vec<Vec<u8>>,
    status: Option<(u32, String)>,
    reset: Option<ErrorCode>,
}

impl Pair {
    fn new() -> Pair {
        Pair::with(GrpcSettings::default(), http2::Settings::default())
    }

    fn with(settings: GrpcSettings, client: http2::Settings) -> Pair {
        let methods = MethodTable::new(&[("/pkg.KV/Put", PUT), ("/pkg.Watch/Watch", WATCH)]);
        Pair {
            client: ClientConnection::new(client, NOW),
            server: GrpcConnection::new(settings, Arc::new(methods), NOW),
            now: NOW,
        }
    }

    fn prepare(&mut self, path: &str, more: &[(&str, &str)]) -> Prepared {
        let mut fields = vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost:2379"),
            ("content-type", "application/grpc"),
            ("user-agent", "test/1"),
            ("te", "trailers"),
        ];
        for (name, value) in more {
            match fields.iter_mut().find(|(n, _)| n == name) {
                Some(field) => field.1 = value,
                None => fields.push((name, value)),
            }
        }
        let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        self.client.prepare(&fields)
    }

    /// Opens a call and sends `bytes` as they are.
    fn call(&mut self, prepared: Prepared, bytes: &[u8], end: bool) -> StreamId {
        let stream = self.client.open(prepared, &[], false).unwrap();
        self.client.send(stream, bytes, end);
        stream
    }

    /// Carries bytes to the server; gives its events.
    fn up(&mut self) -> Vec<Event> {
        let bytes = std::mem::take(self.client.output());
        self.server.receive(&bytes, self.now).unwrap();
        let events = std::iter::from_fn(|| self.server.poll_event()).collect();
        self.server.check();
        events
    }

    /// Carries bytes to the client; gives what it saw of one stream.
    fn down(&mut self, stream: StreamId) -> Answer {
        let mut answer = Answer::default();
        let mut reader = MessageReader::default();
        loop {
            let bytes = std::mem::take(self.server.output());
            self.server.check();
            if bytes.is_empty() {
                return answer;
            }
            self.client.receive(&bytes, self.now).unwrap();
            while let Some(event) = self.client.poll_event() {
                match event {
                    http2::Event::Response {
                        stream: of,
                        response,
                        ..
                    } if of == stream => {
                        answer.http_status = response.status().or(answer.http_status);
                        if let Some(code) = response.field("grpc-status") {
                            let code = str::from_utf8(code).unwrap().parse().unwrap();
                            let message = response.field("grpc-message").unwrap_or(b"");
                            answer.status = Some((code, percent_decode(message)));
                        }
                    }
                    http2::Event::Data {
                        stream: of,
                        mut bytes,
                        ..
                    } if of == stream => {
                        while let Ok(Some(message)) = reader.take(&mut bytes, 1 << 30) {
                            answer.messages.push(message.to_vec());
                        }
                    }
                    http2::Event::Reset {
                        stream: of, code, ..
                    } if of == stream => {
                        answer.reset = Some(code);
                    }
                    _ => {}
                }
            }
            let back = std::mem::take(self.client.output());
            self.server.receive(&back, self.now).unwrap();
        }
    }
}

fn message(body: &[u8]) -> Vec<u8> {
    [&message::message_prefix(body.len())[..], body].concat()
}

fn status(code: Code, message: &str) -> Option<(u32, String)> {
    Some((u32::from(code.number()), message.to_string()))
}

// Catches: a unary call whose request, answer or status is wrong, also when it is repeated from the
// memo, and answers to a call that is over.
#[test]
fn unary_calls_are_answered() {
    let mut pair = Pair::new();
    let prepared = pair.prepare("/pkg.KV/Put", &[("token", "abc"), ("hasleader", "true")]);
    for round in 0..4u8 {
        let stream = pair.call(prepared, &message(&[round; 20]), true);
        let events = pair.up();
        let [
            Event::Request {
                method: PUT,
                metadata,
                deadline: None,
                ..
            },
            Event::Message {
                bytes, end: true, ..
            },
        ] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(bytes[..], [round; 20]);
        assert_eq!(metadata.token.as_deref(), Some(&b"abc"[..]));
        assert_eq!(metadata.user_agent.as_deref(), Some(&b"test/1"[..]));
        assert_eq!(metadata.authority[..], *b"localhost:2379");
        assert!(metadata.has_leader);
        pair.server
            .reply_unary(stream, 3, |out| out.extend_from_slice(b"yes"));
        // All of these come too late.
        pair.server
            .reply_unary(stream, 2, |out| out.extend_from_slice(b"no"));
        assert!(!pair.server.reply(stream, |out| out.push(1)));
        pair.server.finish(stream, &Status::OK);
        assert!(!pair.server.is_open(stream));
        let answer = pair.down(stream);
        assert_eq!((answer.http_status, answer.reset), (Some(200), None));
        assert_eq!(answer.messages, [b"yes"]);
        assert_eq!(answer.status, status(Code::Ok, ""));
    }
    assert_eq!(pair.server.stream_count(), 0);
}

// Catches: a status whose code or text does not survive the wire, with and without headers before.
#[test]
fn statuses_survive_the_wire() {
    let mut pair = Pair::new();
    let prepared = pair.prepare("/pkg.KV/Put", &[]);
    for code in Code::all() {
        for text in [
            "",
            "etcdserver: key not found",
            "50% äöü\n\u{1f600}",
            "~ %41",
        ] {
            for respond in [false, true] {
                let stream = pair.call(prepared, &message(b"x"), true);
                pair.up();
                if respond {
                    pair.server.respond(stream);
                }
                pair.server.finish(stream, &Status::new(code, text));
                let answer = pair.down(stream);
                assert_eq!(answer.status, status(code, text));
                assert_eq!(answer.http_status, Some(200));
            }
        }
    }
}

// Catches: requests that grpc-go refuses and we take, or refuse in other words.
#[test]
fn bad_requests_are_refused_in_grpc_gos_words() {
    use Code::*;
    for (label, path, field, http, code, text) in [
        (
            "service",
            "/pkg.No/Put",
            ("a", "b"),
            200,
            Unimplemented,
            "unknown service pkg.No",
        ),
        (
            "method",
            "/pkg.KV/No",
            ("a", "b"),
            200,
            Unimplemented,
            "unknown method No for service pkg.KV",
        ),
        (
            "method of http",
            "/pkg.KV/Put",
            (":method", "GET"),
            405,
            Internal,
            "Received a HEADERS frame with :method \"GET\" which should be POST",
        ),
        (
            "content type",
            "/pkg.KV/Put",
            ("content-type", "application/grpcx"),
            415,
            InvalidArgument,
            "invalid gRPC request content-type \"application/grpcx\"",
        ),
        (
            "encoding",
            "/pkg.KV/Put",
            ("grpc-encoding", "gzip"),
            200,
            Unimplemented,
            "grpc: Decompressor is not installed for grpc-encoding \"gzip\"",
        ),
        (
            "timeout",
            "/pkg.KV/Put",
            ("grpc-timeout", "5s"),
            400,
            Internal,
            "malformed grpc-timeout: transport: timeout unit is not recognized: 's'",
        ),
        (
            "long timeout",
            "/pkg.KV/Put",
            ("grpc-timeout", "12345678901234567890S"),
            400,
            Internal,
            "malformed grpc-timeout: transport: timeout string is too long",
        ),
    ] {
        let mut pair = Pair::new();
        let prepared = pair.prepare(path, &[field]);
        for end in [true, false] {
            let stream = pair.call(prepared, &message(b"x"), end);
            assert!(pair.up().is_empty(), "{label}");
            let answer = pair.down(stream);
            assert_eq!(answer.status, status(code, text), "{label}");
            assert_eq!(answer.http_status, Some(http), "{label}");
        }
        assert_eq!(pair.server.stream_count(), 0);
    }
    // These are fine.
    for content_type in [
        "application/grpc+proto",
        "application/grpc;x=y",
        "Application/gRPC",
    ] {
        let mut pair = Pair::new();
        let prepared = pair.prepare("/pkg.KV/Put", &[("content-type", content_type)]);
        pair.call(prepared, &message(b"x"), true);
        assert_eq!(pair.up().len(), 2, "{content_type}");
    }
}

// Catches: messages that no call may carry reaching the driver, or the call left open.
#[test]
fn bad_messages_end_the_call() {
    let settings = GrpcSettings {
        message_bytes_max: 100,
        ..GrpcSettings::default()
    };
    let large = "grpc: received message larger than max (101 vs. 100)";
    let flag = "grpc: compressed flag set with identity or empty encoding";
    for (bytes, code, text) in [
        (message(&[0; 101]), Code::ResourceExhausted, large),
        (
            message(&[0; 101])[..5].to_vec(),
            Code::ResourceExhausted,
            large,
        ),
        (vec![1, 0, 0, 0, 0], Code::Internal, flag),
        (
            vec![9, 0, 0, 0, 0],
            Code::Internal,
            "grpc: received unexpected payload format 9",
        ),
        (
            message(b"whole")[..7].to_vec(),
            Code::Unknown,
            "unexpected EOF",
        ),
        (
            message(b"whole")[..5].to_vec(),
            Code::Unknown,
            "unexpected EOF",
        ),
        (vec![0, 0], Code::Unknown, "EOF"),
    ] {
        let mut pair = Pair::with(settings, http2::Settings::default());
        let prepared = pair.prepare("/pkg.KV/Put", &[]);
        let stream = pair.call(prepared, &bytes, true);
        let events = pair.up();
        assert!(
            matches!(events[..], [Event::Request { .. }, Event::Canceled { .. }]),
            "{text}"
        );
        let answer = pair.down(stream);
        assert_eq!(answer.status, status(code, text));
    }
    let mut pair = Pair::with(settings, http2::Settings::default());
    let prepared = pair.prepare("/pkg.KV/Put", &[]);
    pair.call(prepared, &message(&[0; 100]), true);
    assert!(matches!(
        pair.up()[..],
        [_, Event::Message { end: true, .. }]
    ));
}

// Catches: messages cut or joined by DATA frames, and a half-close told twice or never.
#[test]
fn messages_are_cut_out_of_any_data() {
    let bodies = [&b"first"[..], b"", b"third, a longer one"];
    let stream: Vec<u8> = bodies.iter().flat_map(|body| message(body)).collect();
    for cut in 1..stream.len() {
        for end_apart in [false, true] {
            let mut pair = Pair::new();
            let prepared = pair.prepare("/pkg.Watch/Watch", &[]);
            let id = pair.call(prepared, &stream[..cut], false);
            let mut events = pair.up();
            pair.client.send(id, &stream[cut..], !end_apart);
            if end_apart {
                events.extend(pair.up());
                pair.client.send(id, &[], true);
            }
            events.extend(pair.up());
            let mut got = Vec::new();
            let mut ends = 0;
            for event in &events[1..] {
                match event {
                    Event::Message { bytes, end, .. } => {
                        got.push(bytes.to_vec());
                        ends += u32::from(*end);
                    }
                    Event::HalfClosed { .. } => ends += 1,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(got, bodies, "cut at {cut}");
            assert_eq!(ends, 1, "cut at {cut}");
        }
    }
    // A call without any message.
    let mut pair = Pair::new();
    let prepared = pair.prepare("/pkg.Watch/Watch", &[]);
    pair.client.open(prepared, &[], true).unwrap();
    assert!(matches!(
        pair.up()[..],
        [Event::Request { .. }, Event::HalfClosed { .. }]
    ));
}

// Catches: a stream whose messages arrive changed or out of order, whichever way they were sent and
// however small the windows; a large message that is not one message at the other end.
#[test]
fn streams_carry_messages_of_every_size() {
    for window in [1, 100, 65_535] {
        let client = http2::Settings {
            stream_window: window,
            ..http2::Settings::default()
        };
        let mut pair = Pair::with(GrpcSettings::default(), client);
        let prepared = pair.prepare("/pkg.Watch/Watch", &[]);
        let stream = pair.call(prepared, &message(b"x"), false);
        pair.up();
        let sizes = match window {
            1 => [0, 1, 3, 50],
            _ => [0, 1, 20_000, 100_000],
        };
        let mut expected = Vec::new();
        for (i, size) in sizes.into_iter().enumerate() {
            let body: Vec<u8> = (0..size).map(|at| (at * 7 + i) as u8).collect();
            pair.server
                .reply(stream, |out| out.extend_from_slice(&body));
            pair.server
                .reply_sized(stream, size, |out| out.extend_from_slice(&body));
            pair.server.message_start(stream, size);
            for part in body.chunks(1000) {
                pair.server.message_part(stream, part);
            }
            pair.server.message_start(stream, size);
            for part in body.chunks(30_000) {
                let encode = |out: &mut Vec<u8>| out.extend_from_slice(part);
                pair.server.message_part_with(stream, part.len(), encode);
            }
            for _ in 0..4 {
                expected.push(body.clone());
            }
        }
        pair.server.finish(stream, &Status::OK);
        let answer = pair.down(stream);
        assert!(answer.messages == expected, "window {window}");
        assert_eq!(answer.status, status(Code::Ok, ""));
        // The client had not half-closed: it is told to stop.
        assert_eq!(
            answer.reset, None,
            "the status came first and ended the stream"
        );
    }
}

// Catches: a large answer that is taken without bound, or a writer that is never woken.
#[test]
fn writers_wait_for_windows() {
    let mut pair = Pair::new();
    let prepared = pair.prepare("/pkg.KV/Put", &[]);
    let stream = pair.call(prepared, &message(b"x"), true);
    pair.up();
    let size = 20 << 20;
    let part = vec![5; 60_000];
    let mut left = size;
    let mut woken = 0;
    pair.server.message_start(stream, size);
    while left > 0 {
        let count = left.min(part.len());
        left -= count;
        if pair.server.message_part(stream, &part[..count]) {
            continue;
        }
        let bound = limits::STREAM_QUEUE_BYTES_HIGH + part.len();
        assert!(pair.server.pending_bytes(stream) <= bound);
        // Send until woken.
        loop {
            let bytes = std::mem::take(pair.server.output());
            pair.client.receive(&bytes, NOW).unwrap();
            while pair.client.poll_event().is_some() {}
            let writable = pair
                .up()
                .iter()
                .any(|event| matches!(event, Event::Writable { .. }));
            if writable {
                woken += 1;
                break;
            }
            assert!(!bytes.is_empty(), "stuck with {left} bytes left");
        }
    }
    assert!(woken > 5);
    pair.server.finish(stream, &Status::OK);
    let answer = pair.down(stream);
    assert_eq!(answer.status, status(Code::Ok, ""));
}

// Catches: a message that is given up half-way and then ended as if it were whole.
#[test]
fn a_broken_message_resets_its_stream() {
    let mut pair = Pair::new();
    let prepared = pair.prepare("/pkg.KV/Put", &[]);
    let stream = pair.call(prepared, &message(b"x"), true);
    pair.up();
    pair.server.message_start(stream, 10);
    pair.server.message_part(stream, b"half");
    pair.server
        .finish(stream, &Status::new(Code::Internal, "view is gone"));
    let answer = pair.down(stream);
    assert_eq!(answer.reset, Some(ErrorCode::INTERNAL_ERROR));
    assert_eq!(answer.status, None);
}

// Catches: a deadline that is missed, early, told twice, or that costs memory after its call.
#[test]
fn deadlines_end_calls() {
    let mut pair = Pair::new();
    let prepared = pair.prepare("/pkg.Watch/Watch", &[]);
    let mut timeout = Vec::new();
    put_field(&mut timeout, "grpc-timeout", b"50m");
    let stream = pair.client.open(prepared, &timeout, false).unwrap();
    let due = NOW + Duration::from_millis(50);
    assert!(matches!(pair.up()[..], [Event::Request { deadline: Some(d), .. }] if d == due));
    assert_eq!(pair.server.next_deadline(), Some(due));
    pair.server.tick(Monotonic(due.0 - 1)).unwrap();
    assert!(pair.server.poll_event().is_none());
    pair.server.tick(due).unwrap();
    assert!(
        matches!(pair.server.poll_event(), Some(Event::DeadlinePassed { stream: s }) if s == stream)
    );
    assert!(pair.server.poll_event().is_none());
    let answer = pair.down(stream);
    assert_eq!(
        answer.status,
        status(Code::DeadlineExceeded, "context deadline exceeded")
    );

    // Ten thousand calls that end in time leave nothing behind.
    for _ in 0..10_000 {
        let stream = pair.client.open(prepared, &timeout, true).unwrap();
        pair.up();
        pair.server.finish(stream, &Status::OK);
        pair.down(stream);
        assert!(pair.server.deadline_count() < 100);
    }
    pair.server.tick(due + Duration::from_secs(10)).unwrap();
    assert!(pair.server.poll_event().is_none());
}

// Catches: a call that is over when it comes, and is done all the same: its client was told nothing
// of an answer that it cannot wait for.
#[test]
fn a_deadline_that_no_answer_can_meet_has_passed() {
    let mut pair = Pair::new();
    for (text, over) in [("0S", true), ("1n", true), ("9u", true), ("10u", false)] {
        let prepared = pair.prepare("/pkg.KV/Put", &[("grpc-timeout", text)]);
        let stream = pair.call(prepared, &message(b"k"), true);
        assert_eq!(pair.up().is_empty(), over, "{text}");
        let passed = status(Code::DeadlineExceeded, "context deadline exceeded");
        assert_eq!(pair.down(stream).status, passed.filter(|_| over), "{text}");
    }
}

// Catches: a call that the client gave up still running, or its slot's next call mistaken for it.
#[test]
fn cancellations_are_told_once() {
    let mut pair = Pair::new();
    let prepared = pair.prepare("/pkg.KV/Put", &[]);
    let first = pair.call(prepared, &message(b"1"), true);
    pair.up();
    pair.client.reset(first, ErrorCode::CANCEL);
    let second = pair.call(prepared, &message(b"2"), true);
    let third = pair.call(prepared, &message(b"3"), false);
    pair.client.reset(third, ErrorCode::CANCEL);
    let events = pair.up();
    let told: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::Canceled { stream } => ("canceled", *stream),
            Event::Request { stream, .. } => ("request", *stream),
            Event::Message { stream, .. } => ("message", *stream),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        ("canceled", first),
        ("request", second),
        ("message", second),
        ("request", third),
        ("message", third),
        ("canceled", third),
    ];
    assert_eq!(told, expected);
    pair.server.reply_unary(first, 1, |out| out.push(b'x'));
    pair.server.reply_unary(second, 1, |out| out.push(b'y'));
    assert_eq!(pair.down(second).messages, [b"y"]);
}

// Catches: unfinished messages that together take memory without bound.
#[test]
fn unfinished_messages_are_bounded() {
    let settings = GrpcSettings {
        message_bytes_max: 8 << 20,
        ..GrpcSettings::default()
    };
    let mut pair = Pair::with(settings, http2::Settings::default());
    let prepared = pair.prepare("/pkg.KV/Put", &[]);
    let mut bytes = message(&vec![0; 6 << 20]);
    bytes.pop();
    let mut refused = 0;
    for _ in 0..12 {
        let stream = pair.call(prepared, &bytes, false);
        loop {
            let up = std::mem::take(pair.client.output());
            pair.server.receive(&up, NOW).unwrap();
            while let Some(event) = pair.server.poll_event() {
                refused += u32::from(matches!(event, Event::Canceled { .. }));
            }
            pair.server.check();
            let down = std::mem::take(pair.server.output());
            pair.client.receive(&down, NOW).unwrap();
            while pair.client.poll_event().is_some() {}
            if up.is_empty() && down.is_empty() {
                break;
            }
        }
        let _ = stream;
    }
    assert!(refused >= 1, "72 MiB of unfinished messages held");
}

// Catches: memory for what a prefix announces instead of for what arrived: a client would pay six
// bytes for each buffer, and the sum would not know of it.
#[test]
fn announced_messages_cost_little() {
    const CALLS: usize = 1000;
    let mut pair = Pair::new();
    let prepared = pair.prepare("/pkg.KV/Put", &[]);
    for _ in 0..CALLS {
        pair.call(prepared, &[0, 0, 16, 0, 0, b'x'], false);
    }
    pair.up();
    let held = pair.server.held;
    assert!(held >= CALLS, "{held}");
    assert!(held <= CALLS * 1024, "{held}");
}

// Catches: small answers to a client that reads none, each within its own bound, that together take
// memory up to the end of the connection; a refusal that stays when the client has read.
#[test]
fn unread_answers_refuse_further_calls() {
    let settings = GrpcSettings {
        plain_http: true,
        ..GrpcSettings::default()
    };
    let client = http2::Settings {
        stream_window: 0,
        ..http2::Settings::default()
    };
    let mut pair = Pair::with(settings, client);
    let prepared = pair.prepare("/pkg.KV/Put", &[]);
    let plain = pair.client.prepare(&[
        (":method", b"GET"),
        (":scheme", b"http"),
        (":path", b"/metrics"),
    ]);
    let big = vec![b'a'; 1 << 20];
    let mut waiting = Vec::new();
    for _ in 0..limits::UNREAD_BYTES_MAX >> 20 {
        let stream = pair.call(prepared, &message(b"k"), true);
        assert_eq!(pair.up().len(), 2);
        pair.server
            .reply_unary(stream, big.len(), |out| out.extend_from_slice(&big));
        waiting.push(stream);
        let bytes = std::mem::take(pair.server.output());
        pair.client.receive(&bytes, NOW).unwrap();
    }
    let refused = pair.call(prepared, &message(b"k"), true);
    assert!(pair.up().is_empty());
    let text = "ringbolt: 67108864 bytes of answers wait to be read on this connection";
    let answer = pair.down(refused);
    assert_eq!(answer.status, status(Code::ResourceExhausted, text));
    let refused = pair.client.open(plain, &[], true).unwrap();
    assert!(pair.up().is_empty());
    assert_eq!(pair.down(refused).http_status, Some(503));
    // A client that gives up on some of them is served again.
    for stream in waiting.drain(..2) {
        pair.client.reset(stream, ErrorCode::CANCEL);
    }
    pair.up();
    pair.call(prepared, &message(b"k"), true);
    assert_eq!(pair.up().len(), 2);
}

// Catches: plain requests over HTTP/2 lost, refused, or answered as gRPC.
#[test]
fn plain_requests_are_handed_out() {
    let settings = GrpcSettings {
        plain_http: true,
        ..GrpcSettings::default()
    };
    let mut pair = Pair::with(settings, http2::Settings::default());
    let get = pair.client.prepare(&[
        (":method", b"GET"),
        (":scheme", b"https"),
        (":path", b"/health?serializable=true"),
        (":authority", b"localhost"),
    ]);
    let post = pair.client.prepare(&[
        (":method", b"POST"),
        (":scheme", b"https"),
        (":path", b"/v3/kv/put"),
        ("content-type", b"application/json"),
    ]);
    let stream = pair.client.open(get, &[], true).unwrap();
    let events = pair.up();
    let [Event::PlainRequest { head, body, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (head.path(), body.len()),
        (&b"/health?serializable=true"[..], 0)
    );
    pair.server
        .plain_reply(stream, 200, &[("content-type", "text/plain")], b"fine");
    let bytes = std::mem::take(pair.server.output());
    pair.client.receive(&bytes, NOW).unwrap();
    let mut data = Vec::new();
    while let Some(event) = pair.client.poll_event() {
        match event {
            http2::Event::Response {
                response,
                end: false,
                ..
            } => {
                assert_eq!(response.status(), Some(200));
            }
            http2::Event::Data { bytes, end, .. } => {
                data.extend_from_slice(&bytes);
                assert!(end);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(data, b"fine");

    let head = pair.client.prepare(&[
        (":method", b"HEAD"),
        (":scheme", b"https"),
        (":path", b"/health"),
    ]);
    let stream = pair.client.open(head, &[], true).unwrap();
    assert!(matches!(pair.up()[..], [Event::PlainRequest { .. }]));
    pair.server.plain_reply(stream, 200, &[], b"not sent");
    let sent = pair.server.output().clone();
    assert!(!sent.windows(8).any(|bytes| bytes == b"not sent"));
    assert_eq!(pair.down(stream).http_status, Some(200));

    let stream = pair.call(post, b"{\"key\":", false);
    assert!(pair.up().is_empty());
    pair.client.send(stream, b"\"YQ==\"}", true);
    let events = pair.up();
    let [Event::PlainRequest { body, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(body[..], *b"{\"key\":\"YQ==\"}");
    pair.server.plain_start(stream, 200, &[]);
    assert!(pair.server.plain_part(stream, b"{}"));
    pair.server.plain_end(stream);
    assert_eq!(pair.down(stream).http_status, Some(200));

    let stream = pair.call(post, &vec![b'x'; limits::PLAIN_BODY_BYTES_MAX + 1], true);
    for _ in 0..20 {
        assert!(pair.up().is_empty());
        if let Answer {
            http_status: Some(status),
            ..
        } = pair.down(stream)
        {
            assert_eq!(status, 413);
            return;
        }
    }
    panic!("an oversized body is not answered");
}

// Catches: a call that keeps more memory than planned while it idles (W13).
#[test]
fn idle_calls_are_small() {
    assert!(size_of::<call::Call>() <= 56, "{}", size_of::<call::Call>());
    assert!(size_of::<Event>() <= 64, "{}", size_of::<Event>());
}
