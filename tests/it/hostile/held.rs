//! Driver. Connections that begin something and never go on, thousands of them.

use libtest_mimic::{Completion, Failed};
use ringbolt::bench::message::{Message, path};
use ringbolt::bench::session::Session;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::raw::{
    self, DATA, END_HEADERS, HEADERS, PATIENCE, PREFACE, Raw, SETTINGS, call_block, frame,
};
use super::victim::Victim;

const CONNECTIONS: usize = 2000;
/// Descriptors that a test process needs beside the connections of its tests.
const SPARE_FILES: u64 = 500;

/// What an open connection may cost. Its parts: the task with the connection's state (5 KiB), the
/// first receive buffer (4 KiB), bytes of a block or frame that are not whole, and the allocator's
/// share. A connection of a stock client that waits costs the same.
const BYTES_MAX: usize = 16 << 10;

/// What a kind sends. `true`: the server answers, and the answer is waited for.
type Kind = (&'static str, bool, fn() -> Vec<u8>);

const KINDS: [Kind; 7] = [
    ("nothing", false, Vec::new),
    ("half a preface", false, || PREFACE[..12].to_vec()),
    ("half a request line", false, || b"GET /hea".to_vec()),
    ("a preface and no frame", true, || PREFACE.to_vec()),
    ("half a header block", true, || {
        let block = call_block(b"/etcdserverpb.KV/Put", &[]);
        let half = frame(HEADERS, 0, 1, &block[..block.len() / 2]);
        [greeting(), half].concat()
    }),
    ("half a frame", true, || {
        let whole = frame(
            HEADERS,
            END_HEADERS,
            1,
            &call_block(b"/etcdserverpb.KV/Put", &[]),
        );
        [greeting(), whole[..whole.len() / 2].to_vec()].concat()
    }),
    ("calls without their messages", true, || {
        let mut bytes = greeting();
        for (stream, path) in [
            (1, &b"/etcdserverpb.KV/Put"[..]),
            (3, b"/etcdserverpb.Watch/Watch"),
            (5, b"/etcdserverpb.Lease/LeaseKeepAlive"),
        ] {
            bytes.extend(frame(HEADERS, END_HEADERS, stream, &call_block(path, &[])));
        }
        // The beginning of a message of a MiB.
        bytes.extend(frame(DATA, 0, 1, &[0, 0, 16, 0, 0, 10]));
        bytes
    }),
];

fn greeting() -> Vec<u8> {
    [PREFACE, &raw::settings(&[])].concat()
}

// Catches: memory that a connection takes before it has asked for anything; a table or a task per
// connection that stays behind; a server that waits for a slow client while others wait for it.
pub fn connections_are_cheap() -> Result<Completion, Failed> {
    if let Some(reason) = lacks_files() {
        return Ok(Completion::ignored_with(reason));
    }
    let victim = Victim::start("held", &[])?;
    // Against the first: the allocator keeps what a kind took, and the next has it for nothing.
    let before = victim.memory()?;
    for (name, answered, make) in KINDS {
        let named = |failed: Failed| -> Failed {
            format!("{name}: {}", failed.message().unwrap_or_default()).into()
        };
        let mut open = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let mut raw = Raw::connect(&victim.endpoint())?;
            raw.send(&make());
            open.push(raw);
        }
        victim.wait_for_clients(CONNECTIONS).map_err(named)?;
        for raw in &mut open {
            if answered {
                raw.frame_of(SETTINGS).map_err(named)?;
            }
        }
        victim.serves().map_err(named)?;
        let each = victim.memory()?.saturating_sub(before) / CONNECTIONS;
        super::note(|| format!("held, {name}: {each} bytes each"));
        if each > BYTES_MAX {
            return Err(format!("{name}: {each} bytes each, at most {BYTES_MAX} may be").into());
        }
        drop(open);
        victim.wait_for_clients(0).map_err(named)?;
    }
    victim.serves()?;
    Ok(Completion::Completed)
}

/// Connections that had work, and what each may keep of it: the largest receive buffer (128 KiB)
/// and an answer of 300 KiB as it was built and sent.
const QUIET: usize = 200;
const QUIET_BYTES_MAX: usize = 512 << 10;

/// A client that has had a large request and a large answer.
fn busy(victim: &Victim) -> Result<Session, Failed> {
    let mut session = Session::connect(&victim.endpoint(), PATIENCE)?;
    for key in [&[b'k'; 300 << 10][..], b"large"] {
        let request = Message::new().bytes(1, key);
        let reply = session.unary(path::RANGE, request.as_bytes())?;
        if !reply.status.is_ok() {
            return Err(format!("{:?}", reply.status).into());
        }
    }
    Ok(session)
}

// Catches: buffers that grow with each large request and answer instead of once, kept for the life
// of a connection.
pub fn quiet_connections_keep_little() -> Result<(), Failed> {
    let victim = Victim::start("quiet", &[])?;
    let mut open = vec![Session::connect(&victim.endpoint(), PATIENCE)?];
    let large = Message::new()
        .bytes(1, b"large")
        .bytes(2, &[b'v'; 300 << 10]);
    open[0].unary(path::PUT, large.as_bytes())?;
    let before = victim.memory()?;
    for _ in 0..QUIET {
        open.push(busy(&victim)?);
    }
    let each = victim.memory()?.saturating_sub(before) / QUIET;
    super::note(|| format!("quiet: {each} bytes each"));
    if each > QUIET_BYTES_MAX {
        return Err(format!("{each} bytes each, at most {QUIET_BYTES_MAX} may be").into());
    }
    drop(open);
    victim.wait_for_clients(0)
}

// Catches: a connection that says nothing and is kept for ever.
pub fn silence_ends() -> Result<(), Failed> {
    let victim = Victim::start("silence", &[])?;
    let mut open = Vec::new();
    for bytes in [&b""[..], &PREFACE[..12]] {
        let mut raw = Raw::connect(&victim.endpoint())?;
        raw.send(bytes);
        open.push(raw);
    }
    victim.wait_for_clients(open.len())?;
    for mut raw in open {
        let said = raw.until_end()?;
        if !said.is_empty() {
            return Err(format!("answered {}", said.escape_ascii()).into());
        }
    }
    victim.wait_for_clients(0)
}

/// Raises the limit of open files to what the test needs; why not, if it cannot.
fn lacks_files() -> Option<String> {
    let needed = CONNECTIONS as u64 + SPARE_FILES;
    let limit = getrlimit(Resource::Nofile);
    let enough = |current: Option<u64>| current.is_none_or(|current| current >= needed);
    if !enough(limit.current) && enough(limit.maximum) {
        let raised = Rlimit {
            current: Some(needed),
            ..limit
        };
        // Looked at below.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    let found = getrlimit(Resource::Nofile).current;
    (!enough(found)).then(|| format!("{needed} open files are needed, {found:?} are allowed"))
}
