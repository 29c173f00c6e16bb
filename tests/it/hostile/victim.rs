//! Driver. The server under attack: started, and its memory and sockets watched from outside.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use ringbolt::bench::message::{self, Message, path};
use ringbolt::bench::process::Usage;
use ringbolt::bench::server::{ScratchFolder, Server};
use ringbolt::bench::session::Session;

use super::raw::PATIENCE;
use crate::world;

/// The server under attack.
pub struct Victim {
    server: Server,
    /// Descriptors that are sockets while no client is there.
    listening: usize,
    _folder: ScratchFolder,
}

impl Victim {
    pub fn start(name: &str, flags: &[&str]) -> Result<Victim, Failed> {
        Victim::of(world::ringbolt(), name, flags)
    }

    pub fn of(program: PathBuf, name: &str, flags: &[&str]) -> Result<Victim, Failed> {
        let folder = world::scratch(name)?;
        let server = world::start(program, folder.path(), flags)?;
        let mut victim = Victim {
            server,
            listening: 0,
            _folder: folder,
        };
        victim.serves()?;
        victim.wait("the first clients to be gone", |victim| {
            victim.connections() == 0
        })?;
        victim.listening = victim.sockets();
        Ok(victim)
    }

    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }

    /// Memory that is the process's own.
    pub fn memory(&self) -> Result<usize, Failed> {
        let usage = Usage::of(self.server.pid()).ok_or("the server is gone")?;
        Ok(usage.anonymous_bytes as usize)
    }

    /// Open sockets of the server.
    pub fn sockets(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.server.pid());
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }

    /// Sockets at the server's port that a process holds and nobody listens on.
    fn connections(&self) -> usize {
        let port = self.endpoint().rsplit_once(':').map(|(_, port)| {
            let port: u16 = port.parse().unwrap_or(0);
            format!(":{port:04X}")
        });
        let port = port.unwrap_or_default();
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let held = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Local address, state (0A listens), inode (0: no process holds it).
            words.len() > 9 && words[1].ends_with(&port) && words[3] != "0A" && words[9] != "0"
        };
        table.lines().skip(1).filter(held).count()
    }

    /// How many clients the server has a socket for.
    pub fn clients(&self) -> usize {
        self.sockets().saturating_sub(self.listening)
    }

    pub fn wait_for_clients(&self, count: usize) -> Result<(), Failed> {
        self.wait(&format!("{count} clients"), |victim| {
            victim.clients() == count
        })
    }

    fn wait(&self, what: &str, reached: impl Fn(&Victim) -> bool) -> Result<(), Failed> {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            if Instant::now() > deadline {
                return Err(format!(
                    "waited in vain for {what}: {} sockets, {} of them when idle\n{}",
                    self.sockets(),
                    self.listening,
                    self.log_tail()
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// A client that behaves writes a key and reads it.
    pub fn serves(&self) -> Result<(), Failed> {
        let served = || -> Result<(), Failed> {
            let mut session = Session::connect(&self.endpoint(), PATIENCE)?;
            let value = format!("{:?}", Instant::now());
            let put = Message::new()
                .bytes(1, b"serves")
                .bytes(2, value.as_bytes());
            let reply = session.unary(path::PUT, put.as_bytes())?;
            if !reply.status.is_ok() {
                return Err(format!("put: {:?}", reply.status).into());
            }
            let range = Message::new().bytes(1, b"serves");
            let reply = session.unary(path::RANGE, range.as_bytes())?;
            let found = message::bytes(message::bytes(&reply.message, 2), 5);
            if !reply.status.is_ok() || found != value.as_bytes() {
                return Err(format!("get: {:?}", reply.status).into());
            }
            Ok(())
        };
        served().map_err(|failed| {
            let text = failed.message().unwrap_or_default().to_string();
            format!("a well-behaved client: {text}\n{}", self.log_tail()).into()
        })
    }
}
