//! Pure. A table of every rule of RFC 9113 that a client can break.

use super::*;

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
