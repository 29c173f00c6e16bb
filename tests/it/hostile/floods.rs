//! Driver. Frames that cost the sender less than the server, without end.

use libtest_mimic::Failed;

use super::raw::{
    self, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Ended, HEADERS,
    PING, PRIORITY, RST_STREAM, Raw, WINDOW_UPDATE, call_block, frame, grpc, settings,
};
use super::victim::Victim;

/// Frames after which a flood must have been ended: every budget of `docs/format/wire.md`, many
/// times over.
const FRAMES_MAX: usize = 400_000;
/// About so many bytes are sent at once.
const CHUNK_BYTES: usize = 32 << 10;
/// What one flood may cost at its end: the largest receive buffer, 1 MiB of output that is not
/// read, as many events as one receive brings, and the allocator's share.
const FLOOD_BYTES_MAX: usize = 8 << 20;

/// Answers behind which the last words may be lost.
const ANSWERS_CUT: usize = 1000;

const PUT: &[u8] = b"/etcdserverpb.KV/Put";
const WATCH: &[u8] = b"/etcdserverpb.Watch/Watch";

/// Opens a stream; its body follows.
fn headers(stream: u32, path: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &call_block(path, &[]))
}

/// The stream that the n-th request of a connection has.
fn nth(n: usize) -> u32 {
    n as u32 * 2 + 1
}

/// What a flood sends first, and for the n-th time; and what its end says.
type Flood = (
    &'static str,
    fn() -> Vec<u8>,
    fn(usize) -> Vec<u8>,
    &'static str,
);

const FLOODS: [Flood; 16] = [
    (
        "streams opened and reset",
        Vec::new,
        |n| [headers(nth(n), WATCH), reset(nth(n))].concat(),
        "too_many_resets",
    ),
    (
        "puts given up",
        Vec::new,
        |n| {
            let put = frame(DATA, END_STREAM, nth(n), &grpc(b"\x0a\x01k\x12\x01v"));
            [headers(nth(n), PUT), put, reset(nth(n))].concat()
        },
        "too_many_resets",
    ),
    (
        "streams that we are made to reset",
        Vec::new,
        |n| {
            let nothing = frame(WINDOW_UPDATE, 0, nth(n), &[0; 4]);
            [headers(nth(n), WATCH), nothing].concat()
        },
        "too_many_resets",
    ),
    (
        "data behind the end",
        Vec::new,
        |n| {
            let end = frame(DATA, END_STREAM, nth(n), &[]);
            [headers(nth(n), WATCH), end, frame(DATA, 0, nth(n), b"x")].concat()
        },
        "too_many_resets",
    ),
    (
        "pings",
        Vec::new,
        |_| frame(PING, 0, 0, &[7; 8]),
        "too_many_pings",
    ),
    (
        "answers to pings",
        Vec::new,
        |_| frame(PING, 1, 0, &[7; 8]),
        "too_many_idle_frames",
    ),
    (
        "settings",
        Vec::new,
        |_| settings(&[(1, 4096)]),
        "too_many_idle_frames",
    ),
    (
        "settings that move windows",
        || (0..5000).flat_map(|n| headers(nth(n), WATCH)).collect(),
        |n| settings(&[(4, 1000 + n as u32 % 2)]),
        "too_many_idle_frames",
    ),
    (
        "continuations",
        || frame(HEADERS, 0, 1, &[]),
        |_| frame(CONTINUATION, 0, 1, &[]),
        "too_many_continuations",
    ),
    (
        "a header block without end",
        || frame(HEADERS, 0, 1, &call_block(WATCH, &[])),
        |_| {
            let mut block = Vec::new();
            raw::field(&mut block, b"x", &[b'y'; 16_000]);
            frame(CONTINUATION, 0, 1, &block)
        },
        "header_block_too_large",
    ),
    (
        "empty data",
        || headers(1, WATCH),
        |_| frame(DATA, 0, 1, &[]),
        "too_many_idle_frames",
    ),
    (
        "data of ended streams",
        || [headers(1, WATCH), reset(1)].concat(),
        |_| frame(DATA, 0, 1, &[]),
        "too_many_idle_frames",
    ),
    (
        "priorities",
        Vec::new,
        |n| frame(PRIORITY, 0, nth(n % 1000), &[0, 0, 0, 0, 9]),
        "too_many_idle_frames",
    ),
    (
        "windows that grow by one",
        || headers(1, WATCH),
        |n| frame(WINDOW_UPDATE, 0, n as u32 % 2, &[0, 0, 0, 1]),
        "too_many_idle_frames",
    ),
    (
        "unknown kinds",
        Vec::new,
        |_| frame(77, 0, 1, b"?"),
        "too_many_idle_frames",
    ),
    (
        "refused requests",
        Vec::new,
        |n| frame(HEADERS, END_HEADERS, nth(n), b"\x82"),
        "too_many_idle_frames",
    ),
];

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// Sends a flood until the connection ends; how it ended.
fn pour(
    victim: &Victim,
    begin: fn() -> Vec<u8>,
    make: fn(usize) -> Vec<u8>,
) -> Result<Ended, Failed> {
    let mut raw = Raw::http2(&victim.endpoint(), &[])?;
    let mut reader = raw.again()?;
    // Read all along: else both would wait for the other to read.
    let reading = std::thread::spawn(move || reader.ended());
    let mut chunk = begin();
    for n in 0..FRAMES_MAX {
        chunk.extend(make(n));
        if chunk.len() >= CHUNK_BYTES || n == FRAMES_MAX - 1 {
            if !raw.send(&chunk) {
                break;
            }
            chunk.clear();
        }
    }
    raw.half_close();
    reading.join().map_err(|_| "the reader panicked")?
}

// Catches: a flood that is served for ever (rapid reset and its kin), or ended under a name that
// says nothing to the client; a flood that takes others down with it.
pub fn are_ended() -> Result<(), Failed> {
    let victim = Victim::start("floods", &[])?;
    let before = victim.memory()?;
    for (name, begin, make, word) in FLOODS {
        let named = |failed: Failed| -> Failed {
            format!("{name}: {}", failed.message().unwrap_or_default()).into()
        };
        let ended = pour(&victim, begin, make).map_err(named)?;
        // A close with unread bytes resets the connection, and takes with it what the server had
        // sent and this end had not read: where there are many answers, the last may be missing.
        let cut = ended.goaway.is_none() && ended.frames > ANSWERS_CUT;
        if !cut && ended.goaway != Some((ENHANCE_YOUR_CALM, word.to_string())) {
            return Err(format!("{name}: ended {ended:?}, expected {word}").into());
        }
        victim.serves().map_err(named)?;
        let cost = victim.memory()?.saturating_sub(before);
        super::note(|| format!("floods, {name}: {cost} bytes, {} frames back", ended.frames));
        if cost > FLOOD_BYTES_MAX {
            return Err(format!("{name}: {cost} bytes, at most {FLOOD_BYTES_MAX} may be").into());
        }
    }
    victim.wait_for_clients(0)
}
