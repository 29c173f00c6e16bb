//! Driver. The floor: HTTP/2 framing and a durable group-commit log, and nothing else. No index, no
//! raft, no watch: what no store that answers durable puts over gRPC can beat by much.
//!
//! Each thread owns its connections and its own log file. One turn reads all that has come, writes
//! the puts of that turn to the log with one O_DIRECT, O_DSYNC write, then answers them. While the
//! write is on its way the next requests gather in the sockets: group commit without a timer.
//!
//! A put is answered with the next revision of a counter, anything else with the current one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rustix::event::epoll;
use rustix::fs::OFlags;

use super::hpack::Decoder;
use super::message::path;
use crate::codec::put_varint;

/// The log is written over and over; nobody reads it.
const LOG_BYTES: usize = 64 << 20;
const BLOCK: usize = 4096;
/// The largest write: a turn with more puts than this makes several.
const BATCH_BYTES_MAX: usize = 1 << 20;
const RECORD_HEADER: usize = 16;
const INBOX_BYTES: usize = 256 << 10;
const PREFACE_SIZE: usize = 24;
const FRAME_HEADER: usize = 9;
const FRAME_MAX: usize = 16_384;
/// How many consumed bytes a WINDOW_UPDATE gives back at once.
const WINDOW_STEP: u32 = 1 << 20;
const LISTENER: u64 = u64::MAX;

/// `:status 200` and `content-type`, which enters the client's table.
const HEAD_FIRST: &[u8] = b"\x88\x5f\x10application/grpc";
const HEAD_AGAIN: &[u8] = &[0x88, 0xbf];
/// `grpc-status: 0`, which enters the table before the content type.
const TRAILERS_FIRST: &[u8] = b"\x40\x0bgrpc-status\x010";
const TRAILERS_AGAIN: &[u8] = &[0xbe];

/// Serves until the process ends.
pub fn serve(listen: &str, folder: &Path, threads: usize) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let revision = Arc::new(AtomicI64::new(1));
    let mut workers = Vec::new();
    for thread in 0..threads.max(1) {
        let log = Log::create(folder.join(format!("floor-{thread}.log")))?;
        let listener = listener.try_clone()?;
        let revision = revision.clone();
        workers.push(std::thread::spawn(move || {
            Worker::new(listener, log, revision)?.run()
        }));
    }
    for worker in workers {
        worker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))?;
    }
    Ok(())
}

/// A zero-filled file and one aligned buffer.
struct Log {
    file: File,
    offset: usize,
    buffer: Vec<u8>,
    /// Where the aligned part of `buffer` begins.
    aligned: usize,
    filled: usize,
}

impl Log {
    fn create(path: PathBuf) -> io::Result<Log> {
        // Filled once without O_DSYNC, so that later writes change no metadata.
        let mut file = File::create(&path)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..LOG_BYTES / zeros.len() {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        let flags = (OFlags::DIRECT | OFlags::DSYNC).bits() as i32;
        let file = File::options()
            .write(true)
            .custom_flags(flags)
            .open(&path)?;
        let buffer = vec![0; BATCH_BYTES_MAX + 2 * BLOCK];
        let aligned = buffer.as_ptr().align_offset(BLOCK);
        Ok(Log {
            file,
            offset: 0,
            buffer,
            aligned,
            filled: 0,
        })
    }

    fn append(&mut self, revision: i64, record: &[u8]) -> io::Result<()> {
        let size = RECORD_HEADER + record.len();
        if self.filled + size > BATCH_BYTES_MAX {
            self.commit()?;
        }
        let start = self.aligned + self.filled;
        let Some(room) = self.buffer.get_mut(start..start + size) else {
            return Err(io::Error::other("a record larger than the log's buffer"));
        };
        room[..8].copy_from_slice(&revision.to_le_bytes());
        room[8..12].copy_from_slice(&(record.len() as u32).to_le_bytes());
        room[12..16].copy_from_slice(&crc32fast::hash(record).to_le_bytes());
        room[16..].copy_from_slice(record);
        self.filled += size;
        Ok(())
    }

    fn commit(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        let size = self.filled.next_multiple_of(BLOCK);
        if self.offset + size > LOG_BYTES {
            self.offset = 0;
        }
        let padding = self.aligned + self.filled..self.aligned + size;
        self.buffer[padding].fill(0);
        let bytes = &self.buffer[self.aligned..self.aligned + size];
        self.file.write_all_at(bytes, self.offset as u64)?;
        self.offset += size;
        self.filled = 0;
        Ok(())
    }
}

struct Connection {
    socket: TcpStream,
    inbox: Vec<u8>,
    filled: usize,
    outbox: Vec<u8>,
    decoder: Decoder,
    /// Requests whose body has not come as a whole.
    partial: HashMap<u32, Partial>,
    greeted: bool,
    warm: bool,
    consumed: u32,
    /// Answered once the turn's log write is done.
    ready: Vec<(u32, i64)>,
}

#[derive(Default)]
struct Partial {
    put: bool,
    body: Vec<u8>,
}

struct Worker {
    listener: TcpListener,
    epoll: rustix::fd::OwnedFd,
    connections: HashMap<u64, Connection>,
    next_id: u64,
    log: Log,
    revision: Arc<AtomicI64>,
}

impl Worker {
    fn new(listener: TcpListener, log: Log, revision: Arc<AtomicI64>) -> io::Result<Worker> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        epoll::add(
            &epoll,
            &listener,
            epoll::EventData::new_u64(LISTENER),
            flags,
        )?;
        let connections = HashMap::new();
        Ok(Worker {
            listener,
            epoll,
            connections,
            next_id: 0,
            log,
            revision,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let idle = epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        };
        let mut events = vec![idle; 256];
        loop {
            let count = match epoll::wait(&self.epoll, &mut events[..], None) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let ids: Vec<u64> = events[..count]
                .iter()
                .map(|event| event.data.u64())
                .collect();
            for &id in &ids {
                if id == LISTENER {
                    self.accept()?;
                } else if !self.read(id)? {
                    self.connections.remove(&id);
                }
            }
            self.log.commit()?;
            for id in ids {
                if let Some(connection) = self.connections.get_mut(&id)
                    && !connection.answer()
                {
                    self.connections.remove(&id);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(self.next_id);
            epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
            self.connections
                .insert(self.next_id, Connection::new(socket));
            self.next_id += 1;
        }
    }

    /// Reads what has come; false when the connection is over.
    fn read(&mut self, id: u64) -> io::Result<bool> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(true);
        };
        let got = match connection
            .socket
            .read(&mut connection.inbox[connection.filled..])
        {
            Ok(0) => return Ok(false),
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(_) => return Ok(false),
        };
        connection.filled += got;
        connection.frames(&mut self.log, &self.revision)
    }
}

impl Connection {
    fn new(socket: TcpStream) -> Connection {
        Connection {
            socket,
            inbox: vec![0; INBOX_BYTES],
            filled: 0,
            outbox: Vec::new(),
            decoder: Decoder::default(),
            partial: HashMap::new(),
            greeted: false,
            warm: false,
            consumed: 0,
            ready: Vec::new(),
        }
    }

    fn frames(&mut self, log: &mut Log, revision: &AtomicI64) -> io::Result<bool> {
        let mut at = 0;
        if !self.greeted {
            if self.filled < PREFACE_SIZE {
                return Ok(true);
            }
            at = PREFACE_SIZE;
            self.greeted = true;
            // SETTINGS with INITIAL_WINDOW_SIZE 1 MiB, and a large window for the connection.
            frame(&mut self.outbox, 4, 0, 0, &[0, 4, 0, 0x10, 0, 0]);
            frame(&mut self.outbox, 8, 0, 0, &0x3fff_ffffu32.to_be_bytes());
        }
        while self.filled - at >= FRAME_HEADER {
            let head: [u8; FRAME_HEADER] = self.inbox[at..at + FRAME_HEADER]
                .try_into()
                .expect("nine bytes");
            let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if size > FRAME_MAX {
                return Ok(false);
            }
            let end = at + FRAME_HEADER + size;
            if end > self.filled {
                break;
            }
            let (kind, flags) = (head[3], head[4]);
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let payload = at + FRAME_HEADER..end;
            match kind {
                0 => {
                    self.consumed += size as u32;
                    let data = &self.inbox[payload];
                    let entry = self.partial.get_mut(&id);
                    let Some(request) = entry else {
                        return Ok(false);
                    };
                    if flags & 1 == 0 {
                        request.body.extend_from_slice(data);
                    } else {
                        let put = request.put;
                        let revision = if put {
                            let revision = revision.fetch_add(1, Ordering::Relaxed) + 1;
                            if request.body.is_empty() {
                                log.append(revision, data)?;
                            } else {
                                request.body.extend_from_slice(data);
                                log.append(revision, &request.body)?;
                            }
                            revision
                        } else {
                            revision.load(Ordering::Relaxed)
                        };
                        self.partial.remove(&id);
                        self.ready.push((id, revision));
                    }
                }
                // Priority and padding are what no gRPC client sends.
                1 => match self.decoder.read(&self.inbox[payload]) {
                    Ok(head) => {
                        let put = head.path == path::PUT;
                        self.partial.insert(
                            id,
                            Partial {
                                put,
                                body: Vec::new(),
                            },
                        );
                    }
                    Err(_) => return Ok(false),
                },
                4 if flags & 1 == 0 => frame(&mut self.outbox, 4, 1, 0, &[]),
                6 if flags & 1 == 0 => {
                    let data = self.inbox[payload].to_vec();
                    frame(&mut self.outbox, 6, 1, 0, &data);
                }
                _ => {}
            }
            at = end;
        }
        self.inbox.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(true)
    }

    /// Answers what is durable now; false when the connection is over.
    fn answer(&mut self) -> bool {
        for (id, revision) in self.ready.drain(..) {
            let (head, trailers) = if self.warm {
                (HEAD_AGAIN, TRAILERS_AGAIN)
            } else {
                self.warm = true;
                (HEAD_FIRST, TRAILERS_FIRST)
            };
            frame(&mut self.outbox, 1, 4, id, head);
            // gRPC's prefix, then the message {header {revision}}.
            let mut body = [0u8; 32];
            let mut header = Vec::with_capacity(12);
            header.push(0x18);
            put_varint(&mut header, revision as u64);
            let size = header.len();
            body[4] = size as u8 + 2;
            body[5] = 0x0a;
            body[6] = size as u8;
            body[7..7 + size].copy_from_slice(&header);
            frame(&mut self.outbox, 0, 0, id, &body[..7 + size]);
            frame(&mut self.outbox, 1, 5, id, trailers);
        }
        if self.consumed > WINDOW_STEP {
            frame(&mut self.outbox, 8, 0, 0, &self.consumed.to_be_bytes());
            self.consumed = 0;
        }
        let mut sent = 0;
        while sent < self.outbox.len() {
            match self.socket.write(&self.outbox[sent..]) {
                Ok(count) => sent += count,
                // A client that reads nothing: wait for it, this is a yardstick and no server.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(_) => return false,
            }
        }
        self.outbox.clear();
        true
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let size = (payload.len() as u32).to_be_bytes();
    let id = id.to_be_bytes();
    out.extend_from_slice(&[
        size[1], size[2], size[3], kind, flags, id[0], id[1], id[2], id[3],
    ]);
    out.extend_from_slice(payload);
}
