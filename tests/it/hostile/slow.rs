//! Driver. Clients that ask for much and read nothing.

use libtest_mimic::Failed;
use ringbolt::bench::message::{Message, path, prefix_end};
use ringbolt::bench::session::Session;

use super::raw::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PATIENCE, Raw, WINDOW_UPDATE, call_block, frame, grpc,
};
use super::victim::Victim;

const BIG: &[u8] = b"/big/";
const BIG_KEYS: usize = 48;
const BIG_VALUE_BYTES: usize = 512 << 10;
const SMALL: &[u8] = b"/small/";
const SMALL_KEYS: usize = 100;
const SMALL_VALUE_BYTES: usize = 500;

const SMALL_CALLS: usize = 10_000;

const CONNECTIONS: usize = 20;
const STREAMS: usize = 4;

/// What a call may hold whose answer nobody reads: `STREAM_QUEUE_BYTES_HIGH` (256 KiB) and the part
/// behind it, which is a slice of at most 2 MiB and one value, once in the queue and once in the
/// buffer that it was made in.
const CALL_BYTES_MAX: usize = (256 << 10) + 2 * (2048 + 512) * 1024;
/// What a connection may hold beside its calls: `OUTPUT_BYTES_MAX` (1 MiB), a frame that passes it,
/// and its twin that is being sent.
const CONNECTION_BYTES_MAX: usize = 3 << 20;
/// What a watch stream may hold: `STREAM_BYTES_MAX` of `limits/watch.rs` (1 MiB), the same in
/// frames, and one response of each side that passes the bound.
const WATCH_BYTES_MAX: usize = 4 << 20;

/// What the answers of a connection may hold whose windows are shut: `UNREAD_BYTES_MAX` (64 MiB),
/// its calls, and a quarter for the allocator.
const UNREAD_BYTES_MAX: usize = 80 << 20;

/// Windows as large as the protocol has them: only the socket holds the server back.
fn wide_open(victim: &Victim) -> Result<Raw, Failed> {
    let mut raw = Raw::http2(&victim.endpoint(), &[(4, 0x7fff_ffff)])?;
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000u32.to_be_bytes()));
    Ok(raw)
}

fn narrow(victim: &Victim) -> Result<Raw, Failed> {
    Raw::http2(&victim.endpoint(), &[])
}

fn call(stream: u32, method: &str, request: &Message) -> Vec<u8> {
    let head = frame(
        HEADERS,
        END_HEADERS,
        stream,
        &call_block(method.as_bytes(), &[]),
    );
    [head, frame(DATA, 0, stream, &grpc(request.as_bytes()))].concat()
}

fn all(prefix: &[u8]) -> Message {
    Message::new()
        .bytes(1, prefix)
        .bytes(2, &prefix_end(prefix))
}

fn fill(victim: &Victim, prefix: &[u8], keys: usize, size: usize) -> Result<(), Failed> {
    let mut session = Session::connect(&victim.endpoint(), PATIENCE)?;
    for n in 0..keys {
        let key = [prefix, format!("{n:06}").as_bytes()].concat();
        let put = Message::new().bytes(1, &key).bytes(2, &vec![b'v'; size]);
        let reply = session.unary(path::PUT, put.as_bytes())?;
        if !reply.status.is_ok() {
            return Err(format!("put: {:?}", reply.status).into());
        }
    }
    Ok(())
}

fn within(name: &str, victim: &Victim, before: usize, most: usize) -> Result<(), Failed> {
    let cost = victim.memory()?.saturating_sub(before);
    super::note(|| format!("slow, {name}: {cost} bytes of {most}"));
    if cost > most {
        return Err(format!("{name}: {cost} bytes, at most {most} may be").into());
    }
    Ok(())
}

// Catches: an answer that is made whole before anybody reads it; a slice that grows with its
// values; a client that waits because another does not read.
pub fn ranges_wait_for_their_readers() -> Result<(), Failed> {
    let victim = Victim::start("slow-ranges", &[])?;
    fill(&victim, BIG, BIG_KEYS, BIG_VALUE_BYTES)?;
    let before = victim.memory()?;
    for (name, connect) in [
        ("behind windows", narrow as fn(&Victim) -> _),
        ("behind sockets", wide_open),
    ] {
        for method in [path::RANGE, path::RANGE_STREAM] {
            let name = format!("{method} {name}");
            let mut open = Vec::new();
            for _ in 0..CONNECTIONS {
                let mut raw: Raw = connect(&victim)?;
                for n in 0..STREAMS {
                    raw.send(&call(n as u32 * 2 + 1, method, &all(BIG)));
                }
                open.push(raw);
            }
            for raw in &mut open {
                // The first bytes of an answer: the call is under way.
                raw.frame_of(DATA)?;
            }
            victim.serves()?;
            let most = CONNECTIONS * (CONNECTION_BYTES_MAX + STREAMS * CALL_BYTES_MAX);
            within(&name, &victim, before, most)?;
            drop(open);
            victim.wait_for_clients(0)?;
        }
    }
    victim.serves()
}

// Catches: answers that each are small and together take all memory.
pub fn small_answers_add_up_to_a_bound() -> Result<(), Failed> {
    let victim = Victim::start("slow-small", &[])?;
    fill(&victim, SMALL, SMALL_KEYS, SMALL_VALUE_BYTES)?;
    let before = victim.memory()?;
    let mut raw = narrow(&victim)?;
    let mut reader = raw.again()?;
    // Frames are read, so that nothing waits for the socket, but no window is given back.
    let reading = std::thread::spawn(move || reader.settled());
    for n in 0..SMALL_CALLS as u32 {
        raw.send(&call(n * 2 + 1, path::RANGE, &all(SMALL)));
    }
    raw.ask();
    let seen = reading.join().map_err(|_| "the reader panicked")??;
    victim.serves()?;
    let name = format!("{SMALL_CALLS} answers of 50 KiB, {} refused", seen.answers);
    within(&name, &victim, before, UNREAD_BYTES_MAX)?;
    if seen.answers == 0 || seen.goaway.is_some() {
        return Err(format!("nothing was refused: {seen:?}").into());
    }
    drop(raw);
    victim.wait_for_clients(0)
}

// Catches: events that pile up for a watcher that does not read them.
pub fn watchers_that_do_not_read_are_bounded() -> Result<(), Failed> {
    let victim = Victim::start("slow-watch", &[])?;
    for (name, connect) in [
        ("behind windows", narrow as fn(&Victim) -> _),
        ("behind sockets", wide_open),
    ] {
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut raw: Raw = connect(&victim)?;
            for n in 0..STREAMS {
                let create = all(BIG).flag(6, true);
                let request = Message::new().nested(1, &create);
                raw.send(&call(n as u32 * 2 + 1, path::WATCH, &request));
            }
            for _ in 0..STREAMS {
                // That the watch was created.
                raw.frame_of(DATA)?;
            }
            open.push(raw);
        }
        fill(&victim, b"/other/", BIG_KEYS, BIG_VALUE_BYTES)?;
        let before = victim.memory()?;
        fill(&victim, BIG, BIG_KEYS, BIG_VALUE_BYTES)?;
        victim.serves()?;
        let most = CONNECTIONS * (CONNECTION_BYTES_MAX + STREAMS * WATCH_BYTES_MAX);
        within(&format!("watchers {name}"), &victim, before, most)?;
        drop(open);
        victim.wait_for_clients(0)?;
    }
    victim.serves()
}

// Catches: requests that are taken as long as a client sends them, though it reads no answer.
pub fn requests_wait_for_their_answers() -> Result<(), Failed> {
    let victim = Victim::start("slow-requests", &[])?;
    let before = victim.memory()?;
    let mut raw = wide_open(&victim)?;
    raw.write_patience(std::time::Duration::from_secs(1))?;
    let mut sent = 0usize;
    for n in 0..2_000_000 {
        let get = Message::new().bytes(1, b"nothing");
        let mut bytes = call(n * 2 + 1, path::RANGE, &get);
        let at = bytes.len() - grpc(get.as_bytes()).len() - 9 + 4;
        bytes[at] = END_STREAM;
        if !raw.send(&bytes) {
            break;
        }
        sent += 1;
    }
    victim.serves()?;
    within(&format!("{sent} requests"), &victim, before, 16 << 20)
}

// Catches: answers to requests in a row that are all made before any is read.
pub fn plain_answers_wait_for_their_readers() -> Result<(), Failed> {
    let victim = Victim::start("slow-plain", &[])?;
    let before = victim.memory()?;
    let ask = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut raw = Raw::connect(&victim.endpoint())?;
        raw.send(&ask);
        open.push(raw);
    }
    for raw in &mut open {
        raw.first_byte()?;
    }
    victim.serves()?;
    let most = CONNECTIONS * CONNECTION_BYTES_MAX;
    within("plain requests in a row", &victim, before, most)?;
    for mut raw in open {
        // All of it comes, and then the end.
        let got = raw.until_end()?;
        if !got.ends_with(b"\n") {
            return Err(format!("{} bytes, cut", got.len()).into());
        }
    }
    victim.wait_for_clients(0)
}
