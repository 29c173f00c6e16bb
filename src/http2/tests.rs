//! Pure. Tests of the state machine: a table of rules, floods, splits, flow control.

use super::frame::*;
use super::hpack::put_field;
use super::*;
use crate::env::Monotonic;
use crate::ids::StreamId;
use crate::limits::http2 as limits;
use std::time::Duration;

const NOW: Monotonic = Monotonic(1_000_000_000);

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, kind, flags, stream, payload);
    out
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    fields
        .iter()
        .for_each(|(name, value)| put_field(&mut out, name, value.as_bytes()));
    out
}

const GET: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "http"), (":path", "/")];

fn get() -> Vec<u8> {
    block(&GET)
}

fn get_with(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&GET, more].concat())
}

const BOTH: u8 = FLAG_END_HEADERS | FLAG_END_STREAM;

/// A connection that has seen the preface and the peer's empty SETTINGS.
fn server() -> Connection {
    server_with(Settings::default())
}

fn server_with(settings: Settings) -> Connection {
    let mut server = Connection::new(settings, NOW);
    server.receive(PREFACE, NOW).unwrap();
    server.receive(&frame(SETTINGS, 0, 0, &[]), NOW).unwrap();
    server.output().clear();
    server
}

/// The frames in some output.
fn frames(mut bytes: &[u8]) -> Vec<(FrameHeader, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((first, rest)) = bytes.split_first_chunk() {
        let header = FrameHeader::parse(first);
        let (payload, rest) = rest.split_at(header.size);
        frames.push((header, payload.to_vec()));
        bytes = rest;
    }
    frames
}

fn code_of(payload: &[u8], at: usize) -> ErrorCode {
    ErrorCode(number(&payload[at..at + 4]).unwrap())
}

/// What became of some input.
#[derive(PartialEq, Debug)]
enum Outcome {
    /// Taken; this many events.
    Fine(usize),
    /// The stream was reset.
    Stream(u32, ErrorCode),
    /// The connection ended, with a GOAWAY.
    Connection(ErrorCode),
}

fn outcome(server: &mut Connection, input: &[u8]) -> Outcome {
    let result = server.receive(input, NOW);
    let out = frames(&std::mem::take(server.output()));
    if let Err(error) = result {
        let (header, payload) = out.last().expect("an error says GOAWAY");
        assert_eq!(header.kind, GOAWAY);
        assert_eq!(code_of(payload, 4), error.code());
        assert_eq!(payload[8..], *error.to_string().as_bytes());
        assert!(server.is_closing());
        assert_eq!(server.receive(b"x", NOW), Err(error));
        return Outcome::Connection(error.code());
    }
    server.check();
    if let Some((header, payload)) = out.iter().find(|(header, _)| header.kind == RST_STREAM) {
        return Outcome::Stream(header.stream, code_of(payload, 0));
    }
    Outcome::Fine(std::iter::from_fn(|| server.poll_event()).count())
}

// Catches: any rule of RFC 9113 about frames, streams and fields that a client can break and that
// we would let pass, or punish with the wrong error. Each case is a stream of frames behind a
// finished handshake.
#[test]
fn every_broken_rule_has_its_error() {
    use Outcome::{Connection as Conn, Fine, Stream};
    const PROTOCOL: ErrorCode = ErrorCode::PROTOCOL_ERROR;
    const SIZE: ErrorCode = ErrorCode::FRAME_SIZE_ERROR;
    const CLOSED: ErrorCode = ErrorCode::STREAM_CLOSED;
    const FLOW: ErrorCode = ErrorCode::FLOW_CONTROL_ERROR;
    const HPACK: ErrorCode = ErrorCode::COMPRESSION_ERROR;

    let open = frame(HEADERS, FLAG_END_HEADERS, 1, &get());
    let ended = frame(HEADERS, BOTH, 1, &get());
    let headers = |fields: &[(&str, &str)]| frame(HEADERS, BOTH, 1, &block(fields));
    let with = |more: &[(&str, &str)]| frame(HEADERS, BOTH, 1, &get_with(more));
    let then = |first: &[u8], second: &[u8]| [first, second].concat();
    let setting = |id: u16, value: u32| {
        let mut payload = id.to_be_bytes().to_vec();
        payload.extend(value.to_be_bytes());
        frame(SETTINGS, 0, 0, &payload)
    };
    let half = get();
    let (half_a, half_b) = half.split_at(2);
    let cut = frame(HEADERS, FLAG_END_STREAM, 1, half_a);
    let rest = frame(CONTINUATION, FLAG_END_HEADERS, 1, half_b);
    let max = U31_MAX.to_be_bytes();

    let cases: Vec<(&str, Vec<u8>, Outcome)> = vec![
        // Frame sizes.
        (
            "largest frame",
            then(&open, &frame(DATA, 0, 1, &[0; 16_384])),
            Fine(2),
        ),
        (
            "too large a frame",
            then(&open, &frame(DATA, 0, 1, &[0; 16_385])),
            Conn(SIZE),
        ),
        ("ping of 7", frame(PING, 0, 0, &[0; 7]), Conn(SIZE)),
        (
            "window update of 5",
            frame(WINDOW_UPDATE, 0, 0, &[0; 5]),
            Conn(SIZE),
        ),
        (
            "reset of 3",
            then(&open, &frame(RST_STREAM, 0, 1, &[0; 3])),
            Conn(SIZE),
        ),
        ("settings of 5", frame(SETTINGS, 0, 0, &[0; 5]), Conn(SIZE)),
        (
            "settings ack with payload",
            frame(SETTINGS, FLAG_ACK, 0, &[0; 6]),
            Conn(SIZE),
        ),
        (
            "priority of 4, open",
            then(&open, &frame(PRIORITY, 0, 1, &[0; 4])),
            Stream(1, SIZE),
        ),
        (
            "priority of 4, idle",
            frame(PRIORITY, 0, 1, &[0; 4]),
            Conn(SIZE),
        ),
        ("goaway of 7", frame(GOAWAY, 0, 0, &[0; 7]), Conn(SIZE)),
        (
            "headers with half a priority",
            frame(HEADERS, BOTH | 0x20, 1, &[0; 3]),
            Conn(SIZE),
        ),
        (
            "data padded, empty",
            then(&open, &frame(DATA, FLAG_PADDED, 1, &[])),
            Conn(SIZE),
        ),
        // Stream ids.
        ("data on 0", frame(DATA, 0, 0, b"x"), Conn(PROTOCOL)),
        (
            "headers on 0",
            frame(HEADERS, BOTH, 0, &get()),
            Conn(PROTOCOL),
        ),
        (
            "priority on 0",
            frame(PRIORITY, 0, 0, &[0; 5]),
            Conn(PROTOCOL),
        ),
        (
            "reset on 0",
            frame(RST_STREAM, 0, 0, &[0; 4]),
            Conn(PROTOCOL),
        ),
        ("settings on 1", frame(SETTINGS, 0, 1, &[]), Conn(PROTOCOL)),
        ("ping on 1", frame(PING, 0, 1, &[0; 8]), Conn(PROTOCOL)),
        ("goaway on 1", frame(GOAWAY, 0, 1, &[0; 8]), Conn(PROTOCOL)),
        (
            "even stream",
            frame(HEADERS, BOTH, 2, &get()),
            Conn(PROTOCOL),
        ),
        (
            "smaller stream",
            then(
                &frame(HEADERS, BOTH, 5, &get()),
                &frame(HEADERS, BOTH, 3, &get()),
            ),
            Conn(PROTOCOL),
        ),
        (
            "reserved bit",
            then(&open, &frame(DATA, FLAG_END_STREAM, 0x8000_0001, b"x")),
            Fine(2),
        ),
        // Idle streams.
        ("data on idle", frame(DATA, 0, 1, b"x"), Conn(PROTOCOL)),
        (
            "reset on idle",
            frame(RST_STREAM, 0, 1, &[0; 4]),
            Conn(PROTOCOL),
        ),
        (
            "window update on idle",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            Conn(PROTOCOL),
        ),
        ("priority on idle", frame(PRIORITY, 0, 7, &[0; 5]), Fine(0)),
        // Half-closed and closed streams.
        (
            "data after end",
            then(&ended, &frame(DATA, 0, 1, b"x")),
            Stream(1, CLOSED),
        ),
        ("headers after end", then(&ended, &ended), Stream(1, CLOSED)),
        (
            "window update after end",
            then(&ended, &frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
            Fine(1),
        ),
        (
            "reset after end",
            then(&ended, &frame(RST_STREAM, 0, 1, &[0; 4])),
            Fine(2),
        ),
        (
            "data after reset",
            [
                &open[..],
                &frame(RST_STREAM, 0, 1, &[0; 4]),
                &frame(DATA, 0, 1, b"x"),
            ]
            .concat(),
            Stream(1, CLOSED),
        ),
        (
            "headers after reset",
            [&open[..], &frame(RST_STREAM, 0, 1, &[0; 4]), &ended].concat(),
            Conn(PROTOCOL),
        ),
        (
            "reset twice",
            [
                &open[..],
                &frame(RST_STREAM, 0, 1, &[0; 4]),
                &frame(RST_STREAM, 0, 1, &[0; 4]),
            ]
            .concat(),
            Fine(2),
        ),
        // Header blocks.
        ("continuation", then(&cut, &rest), Fine(1)),
        ("continuation alone", rest.clone(), Conn(PROTOCOL)),
        (
            "continuation after the end",
            then(&ended, &rest),
            Conn(PROTOCOL),
        ),
        (
            "ping inside a block",
            then(&cut, &frame(PING, 0, 0, &[0; 8])),
            Conn(PROTOCOL),
        ),
        (
            "unknown kind inside a block",
            then(&cut, &frame(99, 0, 1, &[])),
            Conn(PROTOCOL),
        ),
        (
            "continuation of another stream",
            then(&cut, &frame(CONTINUATION, FLAG_END_HEADERS, 3, half_b)),
            Conn(PROTOCOL),
        ),
        ("bad hpack", frame(HEADERS, BOTH, 1, &[0xff]), Conn(HPACK)),
        (
            "unknown index",
            frame(HEADERS, BOTH, 1, &[0xbe]),
            Conn(HPACK),
        ),
        (
            "table size too large",
            frame(HEADERS, BOTH, 1, &[0x3f, 0xff, 0x7f]),
            Conn(HPACK),
        ),
        (
            "bad hpack in trailers",
            then(&open, &frame(HEADERS, BOTH, 1, &[0x80])),
            Conn(HPACK),
        ),
        // Fields.
        ("no path", headers(&GET[..2]), Stream(1, PROTOCOL)),
        ("no method", headers(&GET[1..]), Stream(1, PROTOCOL)),
        ("no scheme", headers(&[GET[0], GET[2]]), Stream(1, PROTOCOL)),
        (
            "empty path",
            headers(&[GET[0], GET[1], (":path", "")]),
            Stream(1, PROTOCOL),
        ),
        (
            "two methods",
            with(&[(":method", "GET")]),
            Stream(1, PROTOCOL),
        ),
        (
            "unknown pseudo",
            with(&[(":query", "x")]),
            Stream(1, PROTOCOL),
        ),
        (
            "status in a request",
            with(&[(":status", "200")]),
            Stream(1, PROTOCOL),
        ),
        (
            "late pseudo",
            with(&[("a", "b"), (":authority", "x")]),
            Stream(1, PROTOCOL),
        ),
        (
            "connection field",
            with(&[("connection", "close")]),
            Stream(1, PROTOCOL),
        ),
        (
            "keep-alive",
            with(&[("keep-alive", "1")]),
            Stream(1, PROTOCOL),
        ),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "x")]),
            Stream(1, PROTOCOL),
        ),
        ("upgrade", with(&[("upgrade", "h2c")]), Stream(1, PROTOCOL)),
        ("te trailers", with(&[("te", "trailers")]), Fine(1)),
        ("te gzip", with(&[("te", "gzip")]), Stream(1, PROTOCOL)),
        (
            "space in a name",
            with(&[("a b", "c")]),
            Stream(1, PROTOCOL),
        ),
        (
            "colon in a name",
            with(&[("a:b", "c")]),
            Stream(1, PROTOCOL),
        ),
        ("empty name", with(&[("", "c")]), Stream(1, PROTOCOL)),
        (
            "line end in a value",
            with(&[("a", "b\r\nc")]),
            Stream(1, PROTOCOL),
        ),
        ("zero in a value", with(&[("a", "\0")]), Stream(1, PROTOCOL)),
        (
            "space before a value",
            with(&[("a", " b")]),
            Stream(1, PROTOCOL),
        ),
        (
            "tab after a value",
            with(&[("a", "b\t")]),
            Stream(1, PROTOCOL),
        ),
        (
            "connect",
            headers(&[(":method", "CONNECT"), (":authority", "a:1")]),
            Fine(1),
        ),
        (
            "connect with a path",
            headers(&[(":method", "CONNECT"), GET[2]]),
            Stream(1, PROTOCOL),
        ),
        // An upper-case name, which `put_field` would not write.
        (
            "upper case",
            frame(
                HEADERS,
                BOTH,
                1,
                &[&get()[..], &[0, 1, b'A', 1, b'b']].concat(),
            ),
            Stream(1, PROTOCOL),
        ),
        // content-length.
        (
            "length without a body",
            with(&[("content-length", "1")]),
            Stream(1, PROTOCOL),
        ),
        (
            "length 0 without a body",
            with(&[("content-length", "0")]),
            Fine(1),
        ),
        (
            "length no number",
            with(&[("content-length", "1x")]),
            Stream(1, PROTOCOL),
        ),
        (
            "lengths differ",
            with(&[("content-length", "0"), ("content-length", "1")]),
            Stream(1, PROTOCOL),
        ),
        (
            "body too long",
            then(
                &frame(
                    HEADERS,
                    FLAG_END_HEADERS,
                    1,
                    &get_with(&[("content-length", "2")]),
                ),
                &frame(DATA, 0, 1, b"abc"),
            ),
            Stream(1, PROTOCOL),
        ),
        (
            "body too short",
            then(
                &frame(
                    HEADERS,
                    FLAG_END_HEADERS,
                    1,
                    &get_with(&[("content-length", "4")]),
                ),
                &frame(DATA, FLAG_END_STREAM, 1, b"abc"),
            ),
            Stream(1, PROTOCOL),
        ),
        (
            "body as long as said",
            then(
                &frame(
                    HEADERS,
                    FLAG_END_HEADERS,
                    1,
                    &get_with(&[("content-length", "3")]),
                ),
                &frame(DATA, FLAG_END_STREAM | FLAG_PADDED, 1, b"\x02abc\0\0"),
            ),
            Fine(2),
        ),
        // Trailers.
        (
            "trailers",
            then(&open, &frame(HEADERS, BOTH, 1, &block(&[("a", "b")]))),
            Fine(2),
        ),
        (
            "trailers without an end",
            then(
                &open,
                &frame(HEADERS, FLAG_END_HEADERS, 1, &block(&[("a", "b")])),
            ),
            Stream(1, PROTOCOL),
        ),
        (
            "pseudo in trailers",
            then(&open, &ended),
            Stream(1, PROTOCOL),
        ),
        // Padding.
        (
            "padding as long as data",
            then(&open, &frame(DATA, 8, 1, &[3, 0, 0])),
            Conn(PROTOCOL),
        ),
        (
            "only padding",
            then(&open, &frame(DATA, 8, 1, &[2, 0, 0])),
            Fine(1),
        ),
        (
            "padded headers",
            frame(HEADERS, BOTH | 8, 1, &[&[1][..], &get(), &[0]].concat()),
            Fine(1),
        ),
        (
            "too much padding in headers",
            frame(HEADERS, BOTH | 8, 1, &[9, 0x82]),
            Conn(PROTOCOL),
        ),
        (
            "headers with priority",
            frame(
                HEADERS,
                BOTH | 0x20,
                1,
                &[&[0, 0, 0, 3, 9][..], &get()].concat(),
            ),
            Fine(1),
        ),
        // SETTINGS.
        ("push 1", setting(2, 1), Fine(0)),
        ("push 2", setting(2, 2), Conn(PROTOCOL)),
        ("window 2^31", setting(4, 1 << 31), Conn(FLOW)),
        ("frame size 16383", setting(5, 16_383), Conn(PROTOCOL)),
        ("frame size 2^24", setting(5, 1 << 24), Conn(PROTOCOL)),
        ("unknown setting", setting(0xf0f0, 7), Fine(0)),
        ("first ack", frame(SETTINGS, FLAG_ACK, 0, &[]), Fine(0)),
        (
            "second ack",
            then(
                &frame(SETTINGS, FLAG_ACK, 0, &[]),
                &frame(SETTINGS, FLAG_ACK, 0, &[]),
            ),
            Conn(PROTOCOL),
        ),
        // Windows.
        (
            "increment 0",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            Conn(PROTOCOL),
        ),
        (
            "increment 0 on a stream",
            then(&open, &frame(WINDOW_UPDATE, 0, 1, &[0; 4])),
            Stream(1, PROTOCOL),
        ),
        (
            "window overflow",
            frame(WINDOW_UPDATE, 0, 0, &max),
            Conn(FLOW),
        ),
        (
            "stream window overflow",
            then(&open, &frame(WINDOW_UPDATE, 0, 1, &max)),
            Stream(1, FLOW),
        ),
        (
            "settings overflow a window",
            [
                &open[..],
                &frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0, 0, 0]),
                &setting(4, U31_MAX),
            ]
            .concat(),
            Conn(FLOW),
        ),
        // The rest.
        (
            "push promise",
            then(&open, &frame(PUSH_PROMISE, 4, 1, &[0; 4])),
            Conn(PROTOCOL),
        ),
        ("unknown kind", frame(0xbb, 0xff, 77, b"hello"), Fine(0)),
        ("unknown flags", frame(PING, 0xfe, 0, &[0; 8]), Fine(0)),
        ("ping ack", frame(PING, FLAG_ACK, 0, &[7; 8]), Fine(1)),
        ("goaway", frame(GOAWAY, 0, 0, &[0; 20]), Fine(0)),
    ];
    for (label, input, expected) in cases {
        assert_eq!(outcome(&mut server(), &input), expected, "{label}");
    }
}

// Catches: a connection that begins with anything but the preface and SETTINGS.
#[test]
fn the_first_bytes_are_checked() {
    let mut server = Connection::new(Settings::default(), NOW);
    assert_eq!(
        server.receive(b"PRI * HTTP/2.0\r\n\r\nXX", NOW),
        Err(ConnectionError::Preface)
    );
    for first in [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, FLAG_ACK, 0, &[]),
    ] {
        let mut server = Connection::new(Settings::default(), NOW);
        server.receive(PREFACE, NOW).unwrap();
        let result = server.receive(&first, NOW);
        assert_eq!(result, Err(ConnectionError::FirstFrame { got: first[3] }));
    }
}

// Catches: a peer's DATA beyond the windows that we announced.
#[test]
fn windows_that_we_announced_are_enforced() {
    let small = Settings {
        stream_window: 10,
        ..Settings::default()
    };
    let open = frame(HEADERS, FLAG_END_HEADERS, 1, &get());
    let mut server = server_with(small);
    let fits = frame(DATA, FLAG_END_STREAM, 1, &[0; 10]);
    assert_eq!(
        outcome(&mut server, &[&open[..], &fits].concat()),
        Outcome::Fine(2)
    );
    let mut server = server_with(small);
    let beyond = frame(DATA, 0, 1, &[0; 11]);
    let expected = Outcome::Stream(1, ErrorCode::FLOW_CONTROL_ERROR);
    assert_eq!(
        outcome(&mut server, &[&open[..], &beyond].concat()),
        expected
    );

    // The connection's window, over several streams, none of which breaks its own.
    let settings = Settings {
        connection_window: 65_535,
        ..Settings::default()
    };
    let mut server = server_with(settings);
    server.unreturned = 0;
    server.receive_window = 20_000;
    let mut input = Vec::new();
    for id in [1, 3] {
        input.extend(frame(HEADERS, FLAG_END_HEADERS, id, &get()));
        input.extend(frame(DATA, 0, id, &[0; 10_001]));
    }
    let expected = Outcome::Connection(ErrorCode::FLOW_CONTROL_ERROR);
    assert_eq!(outcome(&mut server, &input), expected);
}

// Catches: windows given back too early (a frame per DATA) or never.
#[test]
fn window_updates_come_at_half_a_window() {
    let settings = Settings {
        stream_window: 65_536,
        connection_window: 131_072,
        ..Settings::default()
    };
    let mut server = server_with(settings);
    server
        .receive(&frame(HEADERS, FLAG_END_HEADERS, 1, &get()), NOW)
        .unwrap();
    let mut updates = Vec::new();
    for _ in 0..16 {
        server.receive(&frame(DATA, 0, 1, &[0; 8192]), NOW).unwrap();
        for (header, payload) in frames(&std::mem::take(server.output())) {
            assert_eq!(header.kind, WINDOW_UPDATE);
            updates.push((header.stream, number(&payload).unwrap()));
        }
        server.check();
    }
    let stream = (1, 32_768);
    assert_eq!(
        updates,
        [stream, (0, 65_536), stream, stream, (0, 65_536), stream]
    );
}

/// What a script of frames does, told as text.
fn run(pieces: &[&[u8]]) -> (String, Vec<u8>) {
    let mut server = Connection::new(Settings::default(), NOW);
    let mut story = String::new();
    for piece in pieces {
        let result = server.receive(piece, NOW);
        while let Some(event) = server.poll_event() {
            story.push_str(&format!("{event:?}\n"));
        }
        if let Err(error) = result {
            story.push_str(&format!("{error}\n"));
            break;
        }
        server.check();
    }
    (story, std::mem::take(server.output()))
}

// Catches: a frame, preface or header that is understood differently when the socket cuts it.
#[test]
fn every_split_gives_the_same_events() {
    let mut script = PREFACE.to_vec();
    let fields = get_with(&[("user-agent", "split"), ("x", "y")]);
    script.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0]));
    script.extend(frame(HEADERS, FLAG_END_HEADERS, 1, &fields));
    script.extend(frame(DATA, FLAG_PADDED, 1, b"\x01hello\0"));
    script.extend(frame(HEADERS, 0, 3, &fields[..3]));
    script.extend(frame(CONTINUATION, FLAG_END_HEADERS, 3, &fields[3..]));
    script.extend(frame(PING, 0, 0, b"12345678"));
    script.extend(frame(DATA, FLAG_END_STREAM, 1, b"world"));
    script.extend(frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]));
    script.extend(frame(HEADERS, BOTH, 5, &fields));
    script.extend(frame(GOAWAY, 0, 0, &[0; 8]));
    script.extend(frame(DATA, 0, 9, b"idle"));
    let whole = run(&[&script]);
    assert!(
        whole.0.contains("world") && whole.0.contains("never opened"),
        "{}",
        whole.0
    );
    for at in 0..script.len() {
        assert_eq!(run(&[&script[..at], &script[at..]]), whole, "split at {at}");
    }
    let bytes: Vec<&[u8]> = script.chunks(1).collect();
    assert_eq!(run(&bytes), whole);
}

/// Sends `input` again and again; gives how often it was taken and what ended it.
fn flood(server: &mut Connection, mut input: impl FnMut(u32) -> Vec<u8>) -> (u32, ConnectionError) {
    for round in 0..1_000_000 {
        let result = server.receive(&input(round), NOW);
        while server.poll_event().is_some() {}
        // A peer that floods does not read either; but the budgets must end it before the output.
        assert!(server.output().len() < 4 << 20, "round {round}");
        if let Err(error) = result {
            return (round, error);
        }
    }
    panic!("nothing ends the flood");
}

// Catches: a flood of one kind that costs us memory or time without end.
#[test]
fn floods_end_the_connection() {
    let request = |id: u32| frame(HEADERS, FLAG_END_HEADERS, id, &get());
    let reset = |id: u32| frame(RST_STREAM, 0, id, &[0, 0, 0, 8]);
    let idle = ConnectionError::Flood(Flood::IdleFrames);
    let resets = ConnectionError::Flood(Flood::Resets);

    let (rounds, error) = flood(&mut server(), |round| {
        let id = 2 * round + 1;
        [request(id), reset(id)].concat()
    });
    assert_eq!(
        (rounds, error),
        (limits::RESET_BURST, resets),
        "rapid reset"
    );

    let (rounds, error) = flood(&mut server(), |round| {
        let id = 2 * round + 1;
        [request(id), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()
    });
    assert_eq!(
        (rounds, error),
        (limits::RESET_BURST, resets),
        "we are made to reset"
    );

    let (_, error) = flood(&mut server(), |_| frame(PING, FLAG_ACK, 0, &[1; 8]));
    assert_eq!(error, idle, "ping answers");
    let (rounds, error) = flood(&mut server(), |_| frame(PING, 0, 0, &[1; 8]));
    assert_eq!(
        (rounds, error),
        (3, ConnectionError::Flood(Flood::Pings)),
        "pings"
    );
    let (_, error) = flood(&mut server(), |_| frame(SETTINGS, 0, 0, &[]));
    assert_eq!(error, idle, "settings");
    let (_, error) = flood(&mut server(), |_| frame(PRIORITY, 0, 1, &[0; 5]));
    assert_eq!(error, idle, "priority");
    let (_, error) = flood(&mut server(), |_| frame(99, 0, 0, &[]));
    assert_eq!(error, idle, "unknown kinds");
    let (_, error) = flood(&mut server(), |_| frame(GOAWAY, 0, 0, &[0; 8]));
    assert_eq!(error, idle, "goaways");
    let (_, error) = flood(&mut server(), |round| match round {
        0 => request(1),
        _ => frame(DATA, 0, 1, &[]),
    });
    assert_eq!(error, idle, "empty data");
    let (_, error) = flood(&mut server(), |round| match round {
        0 => [request(1), reset(1)].concat(),
        _ => frame(DATA, 0, 1, b"x"),
    });
    assert_eq!(error, idle, "data for a stream that is gone");
    let (_, error) = flood(&mut server(), |round| match round {
        0 => request(1),
        _ => frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
    });
    assert_eq!(error, idle, "window updates");

    let (rounds, error) = flood(&mut server(), |round| match round {
        0 => frame(HEADERS, 0, 1, &get()),
        _ => frame(CONTINUATION, 0, 1, &[]),
    });
    let expected = ConnectionError::Flood(Flood::Continuations);
    assert_eq!((rounds, error), (limits::CONTINUATIONS_MAX + 1, expected));
    let (_, error) = flood(&mut server(), |round| match round {
        0 => frame(HEADERS, 0, 1, &get()),
        _ => frame(CONTINUATION, 0, 1, &[0; 16_000]),
    });
    assert_eq!(error, ConnectionError::Flood(Flood::HeaderBlock));
    // SETTINGS that move the windows of many streams cost by the stream.
    let mut busy = server();
    for id in 0..20_000 {
        busy.receive(&request(2 * id + 1), NOW).unwrap();
        while busy.poll_event().is_some() {}
    }
    let (rounds, error) = flood(&mut busy, |round| {
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, (round % 2) as u8])
    });
    assert_eq!(error, idle);
    assert!(rounds < 20, "{rounds}");
}

// Catches: a busy reader, which gives windows back in small pieces, taken for a flood.
#[test]
fn busy_readers_are_no_flood() {
    let mut server = server();
    server
        .receive(&frame(HEADERS, FLAG_END_HEADERS, 1, &get()), NOW)
        .unwrap();
    let piece = [0; 16_384];
    let update = |id| frame(WINDOW_UPDATE, 0, id, &16_384u32.to_be_bytes());
    for _ in 0..100_000 {
        server.send_data(StreamId(1), &piece, false);
        server.output().clear();
        server
            .receive(&[update(0), update(1)].concat(), NOW)
            .unwrap();
    }
}

// Catches: more streams than announced, or a header list beyond the bound taken.
#[test]
fn streams_and_header_lists_are_bounded() {
    let mut server = server_with(Settings {
        streams_max: 2,
        header_list_bytes_max: 1000,
        ..Settings::default()
    });
    let open = |id| frame(HEADERS, FLAG_END_HEADERS, id, &get());
    assert_eq!(
        outcome(&mut server, &[open(1), open(3)].concat()),
        Outcome::Fine(2)
    );
    let refused = Outcome::Stream(5, ErrorCode::REFUSED_STREAM);
    assert_eq!(outcome(&mut server, &open(5)), refused);
    assert_eq!(
        outcome(&mut server, &frame(RST_STREAM, 0, 1, &[0; 4])),
        Outcome::Fine(1)
    );
    let large = get_with(&[("a", &"b".repeat(1000))]);
    let refused = Outcome::Stream(7, ErrorCode::FRAME_SIZE_ERROR);
    assert_eq!(
        outcome(&mut server, &frame(HEADERS, BOTH, 7, &large)),
        refused
    );
    assert_eq!(
        outcome(&mut server, &frame(HEADERS, BOTH, 9, &get())),
        Outcome::Fine(1)
    );
    assert_eq!(
        outcome(&mut server, &frame(RST_STREAM, 0, 9, &[0; 4])),
        Outcome::Fine(1)
    );
    // A bomb: one large entry, meant a thousand times.
    let mut bomb = get();
    bomb.extend([
        0x40,
        1,
        b'a',
        0x7f,
        0x80 | (3000 - 127) as u8 & 0x7f,
        ((3000 - 127) >> 7) as u8,
    ]);
    bomb.extend([b'x'; 3000]);
    bomb.extend([0xbe; 10_000]);
    let refused = Outcome::Stream(11, ErrorCode::FRAME_SIZE_ERROR);
    assert_eq!(
        outcome(&mut server, &frame(HEADERS, BOTH, 11, &bomb)),
        refused
    );
}

/// A small deterministic random source.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

// Catches: bytes lost, reordered or sent beyond a window, an end sent before its data, a writer
// never woken, whatever the windows, frame sizes and cuts. Both ends are ours; each checks the
// other's windows. The model is the list of what was sent.
#[test]
fn random_streams_arrive_whole() {
    for seed in 1..60 {
        let mut random = Random(seed * 0x9e37_79b9);
        let window = [1, 10, 1000, 65_535, 1 << 20][random.below(5) as usize];
        let client_settings = Settings {
            stream_window: window,
            connection_window: 65_535,
            ..Settings::default()
        };
        let mut client = ClientConnection::new(client_settings, NOW);
        let mut server = Connection::new(Settings::default(), NOW);
        let prepared = client.prepare(&[
            (":method", b"POST"),
            (":scheme", b"http"),
            (":path", b"/random"),
            ("x", b"y"),
        ]);
        let mut streams: Vec<Model> = Vec::new();
        let unit = (window as u64).min(5000);
        for _ in 0..400 {
            match random.below(6) {
                0 if streams.len() < 8 => {
                    let stream = client.open(prepared, &[], false).unwrap();
                    streams.push(Model::new(stream));
                }
                1 | 2 if !streams.is_empty() => {
                    let at = random.below(streams.len() as u64) as usize;
                    let model = &mut streams[at];
                    let size = random.below(3 * unit) as usize;
                    let bytes: Vec<u8> = (0..size).map(|_| random.below(256) as u8).collect();
                    model.server_sends(&mut server, &bytes, &mut random);
                }
                3 if !streams.is_empty() => {
                    let at = random.below(streams.len() as u64) as usize;
                    let model = &mut streams[at];
                    if !model.up_ended {
                        let bytes = vec![7; random.below(40_000) as usize];
                        let end = random.below(8) == 0;
                        model.up_ended = end;
                        model.up_sent += bytes.len();
                        client.send(model.stream, &bytes, end);
                    }
                }
                _ => exchange(&mut client, &mut server, &mut streams, &mut random),
            }
            server.check();
            client.check();
        }
        for model in &mut streams {
            if !model.up_ended {
                model.up_ended = true;
                client.send(model.stream, &[], true);
            }
        }
        for _ in 0..200_000 {
            exchange(&mut client, &mut server, &mut streams, &mut random);
            for model in &mut streams {
                if model.opened && !model.down_ended && model.may_send {
                    model.down_ended = true;
                    let trailers = HeaderBlock::new([("grpc-status", &b"0"[..])]);
                    server.send_trailers(model.stream, &trailers);
                }
            }
            if streams.iter().all(Model::done) {
                break;
            }
        }
        for model in &streams {
            assert!(model.done(), "seed {seed}: {model:?}");
            assert_eq!(model.down_got, model.down_sent, "seed {seed}");
            assert_eq!(model.up_got, model.up_sent, "seed {seed}");
        }
        assert_eq!((server.stream_count(), client.stream_count()), (0, 0));
    }
}

/// What one stream of the model test sent and got.
#[derive(Debug)]
struct Model {
    stream: StreamId,
    opened: bool,
    may_send: bool,
    headers_sent: bool,
    down_sent: Vec<u8>,
    down_got: Vec<u8>,
    down_ended: bool,
    down_end_seen: bool,
    up_sent: usize,
    up_got: usize,
    up_ended: bool,
    up_end_seen: bool,
}

impl Model {
    fn new(stream: StreamId) -> Model {
        Model {
            stream,
            opened: false,
            may_send: true,
            headers_sent: false,
            down_sent: Vec::new(),
            down_got: Vec::new(),
            down_ended: false,
            down_end_seen: false,
            up_sent: 0,
            up_got: 0,
            up_ended: false,
            up_end_seen: false,
        }
    }

    fn server_sends(&mut self, server: &mut Connection, bytes: &[u8], random: &mut Random) {
        if !self.opened || self.down_ended || !self.may_send || !server.is_open(self.stream) {
            return;
        }
        if !self.headers_sent {
            self.headers_sent = true;
            let head = HeaderBlock::new([(":status", &b"200"[..])]);
            server.respond_headers(self.stream, &head, false);
        }
        self.down_sent.extend_from_slice(bytes);
        let slot = server.slot(self.stream).unwrap();
        self.may_send = match random.below(4) {
            0 => server.send_data(self.stream, bytes, false),
            1 => server.send_bytes(self.stream, bytes.to_vec().into(), false),
            2 => server.data_at(slot, bytes.len(), false, |out| out.extend_from_slice(bytes)),
            _ => server.data_unsized_at(slot, |out| out.extend_from_slice(bytes)),
        };
    }

    fn done(&self) -> bool {
        self.down_end_seen && self.up_end_seen
    }
}

/// Carries bytes both ways in random pieces, and checks what they say.
fn exchange(
    client: &mut ClientConnection,
    server: &mut Connection,
    streams: &mut [Model],
    random: &mut Random,
) {
    let up = std::mem::take(client.output());
    let mut rest = &up[..];
    while !rest.is_empty() {
        let size = 1 + random.below(rest.len() as u64) as usize;
        server.receive(&rest[..size], NOW).unwrap();
        rest = &rest[size..];
    }
    while let Some(event) = server.poll_event() {
        match event {
            Event::Headers { stream, .. } => find(streams, stream).opened = true,
            Event::Data {
                stream, bytes, end, ..
            } => {
                let model = find(streams, stream);
                model.up_got += bytes.len();
                model.up_end_seen |= end;
            }
            Event::Writable { stream } => find(streams, stream).may_send = true,
            other => panic!("{other:?}"),
        }
    }
    let down = std::mem::take(server.output());
    let mut rest = &down[..];
    while !rest.is_empty() {
        let size = 1 + random.below(rest.len() as u64) as usize;
        client.receive(&rest[..size], NOW).unwrap();
        rest = &rest[size..];
    }
    while let Some(event) = client.poll_event() {
        match event {
            Event::Response { stream, end, .. } => find(streams, stream).down_end_seen |= end,
            Event::Data { stream, bytes, .. } => {
                find(streams, stream).down_got.extend_from_slice(&bytes);
            }
            // The server ended before the client did.
            Event::Reset {
                stream,
                code: ErrorCode::NO_ERROR,
                ..
            } => {
                find(streams, stream).up_end_seen = true;
            }
            Event::Writable { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn find(streams: &mut [Model], stream: StreamId) -> &mut Model {
    streams
        .iter_mut()
        .find(|model| model.stream == stream)
        .unwrap()
}

// Catches: a drain that cuts off streams which crossed it, never ends, or takes new streams.
#[test]
fn a_drain_finishes_what_crossed_it() {
    let mut server = server();
    server
        .receive(&frame(HEADERS, BOTH, 1, &get()), NOW)
        .unwrap();
    server.drain(NOW);
    let out = frames(&std::mem::take(server.output()));
    assert_eq!((out[0].0.kind, out[1].0.kind), (GOAWAY, PING));
    assert_eq!(number(&out[0].1[..4]), Some(U31_MAX));
    assert!(!server.is_closing());
    // This one crossed the announcement.
    server
        .receive(&frame(HEADERS, BOTH, 3, &get()), NOW)
        .unwrap();
    server
        .receive(&frame(PING, FLAG_ACK, 0, &out[1].1), NOW)
        .unwrap();
    let out = frames(&std::mem::take(server.output()));
    assert_eq!((out[0].0.kind, number(&out[0].1[..4])), (GOAWAY, Some(3)));
    let late = outcome(&mut server, &frame(HEADERS, BOTH, 5, &get()));
    assert_eq!(late, Outcome::Stream(5, ErrorCode::REFUSED_STREAM));
    for id in [1, 3] {
        let head = HeaderBlock::new([(":status", &b"204"[..])]);
        server.respond_headers(StreamId(id), &head, true);
    }
    assert!(server.is_closing() && !server.is_idle());
    server.output().clear();
    assert!(server.is_idle());
    // A peer that does not answer the ping is told the end by time.
    let mut server = super::tests::server();
    server.drain(NOW);
    let deadline = server.next_deadline().unwrap();
    assert_eq!(deadline, NOW + Duration::from_secs(limits::DRAIN_SECONDS));
    server.tick(deadline).unwrap();
    assert!(server.is_closing());
}

// Catches: an answer to a ping that waits for a later turn (grpc-go measures bandwidth with it).
#[test]
fn pings_are_answered_in_the_same_turn() {
    let mut server = server();
    server
        .receive(&frame(PING, 0, 0, b"bdp-ping"), NOW)
        .unwrap();
    assert_eq!(*server.output(), frame(PING, FLAG_ACK, 0, b"bdp-ping"));
}

// Catches: a stream whose small pieces each become a frame, or that grow a frame that was sent.
#[test]
fn small_pieces_share_a_frame_within_a_turn() {
    let mut server = server();
    server
        .receive(&frame(HEADERS, FLAG_END_HEADERS, 1, &get()), NOW)
        .unwrap();
    for turn in 0..2 {
        for piece in [&b"ab"[..], b"", b"cde"] {
            assert!(server.send_data(StreamId(1), piece, false), "turn {turn}");
        }
        assert_eq!(std::mem::take(server.output()), frame(DATA, 0, 1, b"abcde"));
    }
    server.send_data(StreamId(1), b"x", false);
    server.send_data(StreamId(1), b"y", true);
    let reset = frame(RST_STREAM, 0, 1, &[0; 4]);
    let expected = [frame(DATA, FLAG_END_STREAM, 1, b"xy"), reset].concat();
    assert_eq!(*server.output(), expected);
}

// Catches: a header block beyond the peer's frame size sent as one frame.
#[test]
fn long_header_blocks_continue() {
    let mut server = server();
    server
        .receive(&frame(HEADERS, FLAG_END_HEADERS, 1, &get()), NOW)
        .unwrap();
    let long = "v".repeat(40_000);
    let head = HeaderBlock::new([(":status", &b"200"[..]), ("long", long.as_bytes())]);
    server.respond_headers(StreamId(1), &head, false);
    let out = frames(server.output());
    let kinds: Vec<_> = out.iter().map(|(h, _)| (h.kind, h.flags)).collect();
    assert_eq!(
        kinds,
        [
            (HEADERS, 0),
            (CONTINUATION, 0),
            (CONTINUATION, FLAG_END_HEADERS)
        ]
    );
    let joined: Vec<u8> = out.into_iter().flat_map(|(_, payload)| payload).collect();
    assert_eq!(joined, head.as_bytes());
}

// Catches: an idle connection or stream that keeps more memory than planned (W13).
#[test]
fn idle_connections_are_small() {
    assert!(
        size_of::<Connection>() <= 1024,
        "{}",
        size_of::<Connection>()
    );
    assert!(
        size_of::<super::stream::Stream>() <= 64,
        "{}",
        size_of::<super::stream::Stream>()
    );
    assert!(size_of::<Event>() <= 56, "{}", size_of::<Event>());
}
