//! Driver. Single frames that RFC 9113 forbids, and requests that ask for more than they may: each
//! ends what it must end, the stream or the connection, under the right code.

use libtest_mimic::Failed;

use super::raw::{
    self, ACK, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, GOAWAY, HEADERS, PING, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE,
    REFUSED_STREAM, RST_STREAM, Raw, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, call_block, frame,
    settings,
};
use super::victim::Victim;

const WATCH: &[u8] = b"/etcdserverpb.Watch/Watch";

/// What ends, and its code.
#[derive(Clone, Copy, Debug)]
enum End {
    Connection(u32),
    Stream(u32),
}
use End::{Connection, Stream};

fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &call_block(WATCH, &[]))
}

fn malformed(more: &[(&[u8], &[u8])]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &call_block(WATCH, more))
}

/// What is sent behind the preface and empty SETTINGS, and what it ends.
fn table() -> Vec<(&'static str, Vec<u8>, End)> {
    let with = |stream: u32, bytes: Vec<u8>| [open(stream), bytes].concat();
    let big = 0x7fff_ffffu32.to_be_bytes();
    vec![
        ("an even stream", open(2), Connection(PROTOCOL_ERROR)),
        ("stream 0", open(0), Connection(PROTOCOL_ERROR)),
        (
            "a stream backwards",
            with(5, open(3)),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "data of no stream",
            frame(DATA, 0, 0, b"x"),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "data of an idle stream",
            frame(DATA, 0, 1, b"x"),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a reset of an idle stream",
            frame(RST_STREAM, 0, 1, &[0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a short reset",
            with(1, frame(RST_STREAM, 0, 1, &[0; 3])),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "a window of an idle stream",
            frame(WINDOW_UPDATE, 0, 1, &big),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a window too large",
            frame(WINDOW_UPDATE, 0, 0, &big),
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "a window by nothing",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a long window",
            frame(WINDOW_UPDATE, 0, 0, &[0; 5]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "a stream's window too large",
            with(1, frame(WINDOW_UPDATE, 0, 1, &big)),
            Stream(FLOW_CONTROL_ERROR),
        ),
        (
            "a stream's window by nothing",
            with(1, frame(WINDOW_UPDATE, 0, 1, &[0; 4])),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "settings of a stream",
            frame(SETTINGS, 0, 1, &[]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "settings cut",
            frame(SETTINGS, 0, 0, &[0; 7]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "push enabled twice",
            settings(&[(2, 2)]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a window setting too large",
            settings(&[(4, 1 << 31)]),
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "a frame size too small",
            settings(&[(5, 100)]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "answered settings with bytes",
            frame(SETTINGS, ACK, 0, &[0; 6]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "settings that overflow a window",
            [
                open(1),
                frame(WINDOW_UPDATE, 0, 1, &0x7fff_0000u32.to_be_bytes()),
                settings(&[(4, 0x7fff_ffff)]),
            ]
            .concat(),
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "a short ping",
            frame(PING, 0, 0, &[0; 7]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "a stream's ping",
            frame(PING, 0, 1, &[0; 8]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a stream's goaway",
            frame(GOAWAY, 0, 1, &[0; 8]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a push",
            frame(PUSH_PROMISE, 0, 1, &[0; 8]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, b"\x82"),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "another frame within a block",
            [frame(HEADERS, 0, 1, b"\x83"), settings(&[])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "another stream's continuation",
            [
                frame(HEADERS, 0, 1, b"\x83"),
                frame(CONTINUATION, END_HEADERS, 3, b""),
            ]
            .concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a frame too large",
            frame(DATA, 0, 1, &[0; 16_385]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "padding without a payload",
            with(1, frame(DATA, 8, 1, &[9, 0])),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "an index of no table",
            frame(HEADERS, END_HEADERS, 1, &[0xff, 0x7f]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "a table too large",
            frame(HEADERS, END_HEADERS, 1, &[0x3f, 0xe2, 0x1f]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "a string longer than its block",
            frame(HEADERS, END_HEADERS, 1, &[0, 9, b'x']),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "headers that are no code",
            frame(HEADERS, END_HEADERS, 1, &[0, 0x84, 255, 255, 255, 255]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "a short priority",
            with(1, frame(PRIORITY, 0, 1, &[0; 4])),
            Stream(FRAME_SIZE_ERROR),
        ),
        (
            "data behind the end",
            [
                open(1),
                frame(DATA, END_STREAM, 1, b""),
                frame(DATA, 0, 1, b"x"),
            ]
            .concat(),
            Stream(STREAM_CLOSED),
        ),
        (
            "headers without an end",
            with(1, frame(HEADERS, END_HEADERS, 1, b"\x00\x01a\x01b")),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "a request without a path",
            frame(HEADERS, END_HEADERS, 1, b"\x83\x86"),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "an upper-case name",
            malformed(&[(b"X-Y", b"z")]),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "a name of HTTP/1",
            malformed(&[(b"connection", b"close")]),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "a line end in a value",
            malformed(&[(b"x", b"a\r\nb: c")]),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "an unknown pseudo-field",
            malformed(&[(b":up", b"x")]),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "less than it says",
            [
                malformed(&[(b"content-length", b"5")]),
                frame(DATA, END_STREAM, 1, b"x"),
            ]
            .concat(),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "a list of fields too large",
            bomb(),
            Stream(FRAME_SIZE_ERROR),
        ),
    ]
}

/// One entry of 4000 bytes in the table, named 16,000 times: 64 MB of fields in 20 KB.
fn bomb() -> Vec<u8> {
    let mut block = call_block(WATCH, &[]);
    block.push(0x40);
    raw::string(&mut block, b"x");
    raw::string(&mut block, &[b'y'; 3990]);
    let first = frame(HEADERS, 0, 1, &block);
    [
        first,
        frame(CONTINUATION, END_HEADERS, 1, &[0x80 | 62; 16_000]),
    ]
    .concat()
}

// Catches: a rule that is not held, or held under a wrong code; a stream's fault that ends the
// connection, and a connection's that does not.
pub fn end_what_they_must() -> Result<(), Failed> {
    let victim = Victim::start("breaches", &[])?;
    let mut wrong = Vec::new();
    for (name, bytes, expected) in table() {
        let mut raw = Raw::http2(&victim.endpoint(), &[])?;
        // Where only a stream ends, the connection goes on.
        raw.send(&[bytes, frame(PING, 0, 0, b"go on   ")].concat());
        raw.half_close();
        let ended = raw.ended()?;
        let resets: Vec<_> = ended
            .resets
            .iter()
            .map(|(code, count)| (*code, *count))
            .collect();
        let fine = match expected {
            Connection(code) => ended.goaway.as_ref().is_some_and(|(got, _)| *got == code),
            Stream(code) => ended.goaway.is_none() && resets == [(code, 1)] && ended.pongs == 1,
        };
        if !fine {
            wrong.push(format!("{name}: {ended:?}, expected {expected:?}"));
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n").into());
    }
    victim.serves()?;
    victim.wait_for_clients(0)
}

/// Streams that one connection may open against the largest limit.
const STREAMS_MAX: usize = 100_000;
/// What an open stream may cost that has asked for nothing: its place in four tables (http2, grpc,
/// the services, and the index by id), twice for tables that grow by doubling.
const STREAM_BYTES_MAX: usize = 512;

// Catches: streams beyond the announced number taken or ending the connection; a stream that costs
// more than its place in some tables.
pub fn streams_are_counted() -> Result<(), Failed> {
    for (flags, count) in [
        (&["--max-concurrent-streams", "100"][..], 100),
        (&[], STREAMS_MAX),
    ] {
        let victim = Victim::start("streams", flags)?;
        let before = victim.memory()?;
        let mut raw = Raw::http2(&victim.endpoint(), &[])?;
        let first = raw.frame_of(SETTINGS)?;
        let announced = (3u16, count as u32);
        let announces = |entry: &[u8]| {
            entry == [&announced.0.to_be_bytes()[..], &announced.1.to_be_bytes()].concat()
        };
        if !first.payload.chunks(6).any(announces) {
            return Err(format!("{count} streams are not announced: {first:?}").into());
        }
        for n in 0..count + 5 {
            raw.send(&open(n as u32 * 2 + 1));
        }
        // A call that has a place is not disturbed by those that have none.
        raw.ask();
        let refused = raw.settled()?.resets.get(&REFUSED_STREAM).copied();
        if refused != Some(5) {
            return Err(format!("{count} streams and 5: {refused:?} were refused").into());
        }
        let each = victim.memory()?.saturating_sub(before) / count;
        super::note(|| format!("breaches, {count} streams: {each} bytes each"));
        if count == STREAMS_MAX && each > STREAM_BYTES_MAX {
            return Err(format!("{each} bytes a stream, at most {STREAM_BYTES_MAX} may be").into());
        }
        victim.serves()?;
        raw.half_close();
        let ended = raw.ended()?;
        if ended.goaway.is_some() {
            return Err(format!("{count} streams: {ended:?}").into());
        }
    }
    Ok(())
}
