//! Driver. Connections that send what is no request.

use libtest_mimic::Failed;

use super::raw::{self, END_HEADERS, END_STREAM, HEADERS, PREFACE, Raw};
use super::victim::Victim;
use crate::rng::Rng;

/// Connections of one kind that are open together.
const TOGETHER: usize = 40;
const ROUNDS: usize = 5;
/// What all rounds but the first may leave behind: half a KiB per connection, less than any
/// connection keeps. The first is not counted: the allocator keeps what it took for it. And 1 MiB
/// of the cores' receive buffers, whose pages are taken as they are first written to.
const LEFT_BYTES_MAX: usize = TOGETHER * (ROUNDS - 1) * KINDS.len() * 512 + (1 << 20);
/// What the most expensive moment may take: for each connection that is open the largest receive
/// buffer (128 KiB) and head (16 KiB), and as much again for what the allocator cannot reuse.
const PEAK_BYTES_MAX: usize = TOGETHER * 2 * ((128 + 16) << 10);

/// What a kind sends, and how its answer begins. Empty: the end of the connection says it all.
type Kind = (&'static str, fn(&mut Rng) -> Vec<u8>, &'static [u8]);

const KINDS: [Kind; 8] = [
    ("random bytes", random, b"HTTP/1.1 4"),
    ("a TLS client", client_hello, b"HTTP/1.1 400 "),
    ("no request line", no_request, b"HTTP/1.1 400 "),
    ("a huge header", huge_header, b"HTTP/1.1 431 "),
    ("an endless line", endless_line, b"HTTP/1.1 431 "),
    ("an endless method", endless_method, b"HTTP/1.1 4"),
    ("half of a preface, then others", half_preface, b"HTTP/1.1 "),
    ("random frames", random_frames, b""),
];

fn bytes(rng: &mut Rng, size: usize) -> Vec<u8> {
    (0..size).map(|_| rng.next() as u8).collect()
}

fn random(rng: &mut Rng) -> Vec<u8> {
    bytes(rng, 40_000)
}

/// The first record of a TLS connection: no line end in it, and its sender waits for an answer.
fn client_hello(rng: &mut Rng) -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend(bytes(rng, 506).iter().map(|byte| byte | 0x80));
    hello
}

fn no_request(rng: &mut Rng) -> Vec<u8> {
    let letters = bytes(rng, 60).into_iter().map(|byte| b'a' + byte % 26);
    [letters.collect(), b"\r\n\r\n".to_vec()].concat()
}

fn huge_header(rng: &mut Rng) -> Vec<u8> {
    let mut head = b"GET /health HTTP/1.1\r\nHost: x\r\n".to_vec();
    for n in 0..2000 {
        head.extend(format!("x-{n}: {:016x}\r\n", rng.next()).bytes());
    }
    head
}

fn endless_line(_: &mut Rng) -> Vec<u8> {
    let mut head = b"GET / HTTP/1.1\r\nHost: x\r\nx: ".to_vec();
    head.resize(300_000, b'y');
    head
}

fn endless_method(_: &mut Rng) -> Vec<u8> {
    vec![b'G'; 100_000]
}

fn half_preface(rng: &mut Rng) -> Vec<u8> {
    [&PREFACE[..18], &bytes(rng, 100), b"\r\n\r\n"].concat()
}

/// Frames of drawn kinds, flags, streams and sizes, some of them sound. The last is too large, so
/// that each connection has an end.
fn random_frames(rng: &mut Rng) -> Vec<u8> {
    let mut all = [PREFACE, &raw::settings(&[])].concat();
    if rng.one_in(2) {
        let block = raw::call_block(b"/etcdserverpb.KV/Range", &[]);
        all.extend(raw::frame(HEADERS, END_HEADERS, 1, &block));
    }
    for _ in 0..20 {
        let size = rng.pick(&[0, 1, 4, 5, 6, 8, 9, 100, 16_384]);
        let payload = bytes(rng, size);
        let flags = rng.pick(&[0, END_STREAM, END_HEADERS, 0x20, 0xff]);
        let stream = rng.pick(&[0, 1, 1, 2, 3, 0x7fff_ffff, u32::MAX]);
        all.extend(raw::frame(rng.below(12) as u8, flags, stream, &payload));
    }
    all.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]);
    all
}

// Catches: a connection that is kept though nothing can come of it; a panic on foreign bytes; a
// buffer that grows with what the peer sends; memory or a descriptor that stays behind.
pub fn is_closed_and_leaves_nothing() -> Result<(), Failed> {
    let victim = Victim::start("garbage", &[])?;
    let mut rng = Rng::new(7);
    let before = victim.memory()?;
    let (mut peak, mut first) = (before, 0);
    for round in 0..ROUNDS {
        for (name, make, answer) in KINDS {
            let mut open = Vec::new();
            for _ in 0..TOGETHER {
                let mut raw = Raw::connect(&victim.endpoint())?;
                // Refused half way is fine.
                raw.send(&make(&mut rng));
                open.push(raw);
            }
            peak = peak.max(victim.memory()?);
            for raw in &mut open {
                let got = raw.until_end().map_err(|failed| {
                    format!("{name}: {}", failed.message().unwrap_or_default())
                })?;
                if !got.starts_with(answer) {
                    let got = &got[..got.len().min(60)];
                    return Err(format!("{name}: answered {}", got.escape_ascii()).into());
                }
            }
            drop(open);
            victim.serves()?;
        }
        victim.wait_for_clients(0)?;
        if round == 0 {
            first = victim.memory()?;
        }
    }
    let last = victim.memory()?;
    let left = last.saturating_sub(first);
    let peak = peak.saturating_sub(before);
    super::note(|| format!("garbage: {left} bytes left, {peak} at the peak"));
    if left > LEFT_BYTES_MAX {
        return Err(format!("{left} bytes stayed behind, at most {LEFT_BYTES_MAX} may").into());
    }
    if peak > PEAK_BYTES_MAX {
        return Err(format!("{peak} bytes at the peak, at most {PEAK_BYTES_MAX} may be").into());
    }
    Ok(())
}
