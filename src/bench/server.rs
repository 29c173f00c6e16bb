//! Driver. etcd and ringbolt as child processes: started on free ports with the same flags,
//! waited for, killed, started again on the same folder.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::message::{Message, path};
use super::session::Session;

/// How often a start is repeated on other ports when another process takes one first.
const START_TRIES: u32 = 5;
const LOG_TAIL_LINES: usize = 30;
const READY_POLL: Duration = Duration::from_millis(2);

/// How to start a server.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    pub program: PathBuf,
    /// Holds the data dir `data` and the file `log`.
    pub folder: PathBuf,
    /// Beside the addresses, the data dir and the log level.
    pub flags: Vec<String>,
    pub ready_within: Duration,
}

/// Why there is no server.
#[derive(Debug)]
pub enum StartError {
    Io(PathBuf, io::Error),
    /// It ended by itself; the end of its log.
    Ended(String),
    NotReady(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            StartError::Ended(log) => write!(f, "the server ended at once; its log:\n{log}"),
            StartError::NotReady(log) => write!(f, "the server is not ready; its log:\n{log}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    spec: ServerSpec,
    child: Child,
    ports: (u16, u16),
}

impl Server {
    /// Starts it and waits until a linearizable read is answered.
    pub fn start(spec: ServerSpec) -> Result<Server, StartError> {
        let data = spec.folder.join("data");
        std::fs::create_dir_all(&data).map_err(|e| StartError::Io(data.clone(), e))?;
        let mut tries = 0;
        loop {
            tries += 1;
            let ports = free_ports().map_err(|e| StartError::Io(spec.folder.clone(), e))?;
            let child = spawn(&spec, ports)?;
            let mut server = Server {
                spec: spec.clone(),
                child,
                ports,
            };
            match server.wait_ready() {
                Ok(_) => return Ok(server),
                Err(StartError::Ended(log))
                    if tries < START_TRIES && log.contains("address already in use") => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// host:port of the clients' side.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports.0)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.spec.folder.join("data")
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        // An error means that it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again with the same command line after `kill`, without waiting for it.
    pub fn spawn_again(&mut self) -> Result<(), StartError> {
        self.child = spawn(&self.spec, self.ports)?;
        Ok(())
    }

    /// Waits for the first linearizable read; the time it took and the revision it saw.
    pub fn wait_ready(&mut self) -> Result<(Duration, i64), StartError> {
        let begin = Instant::now();
        let request = Message::new().bytes(1, b"ready").into_bytes();
        let endpoint = self.endpoint();
        loop {
            if let Ok(Some(_)) = self.child.try_wait() {
                return Err(StartError::Ended(self.log_tail()));
            }
            let left = self.spec.ready_within.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(StartError::NotReady(self.log_tail()));
            }
            if let Ok(mut session) = Session::connect(&endpoint, left)
                && let Ok(reply) = session.unary(path::RANGE, &request)
                && reply.status.is_ok()
            {
                return Ok((
                    begin.elapsed(),
                    super::message::header_revision(&reply.message),
                ));
            }
            std::thread::sleep(READY_POLL);
        }
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The last lines of its log. Of a panic's trace, which would fill them, only the beginning.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.spec.folder.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.len().saturating_sub(LOG_TAIL_LINES);
        let panic = lines
            .iter()
            .position(|line| line.contains("panicked at"))
            .unwrap_or(last);
        let first = &lines[panic.min(last)..last.min(panic + LOG_TAIL_LINES)];
        [first, &lines[last..]].concat().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(spec: &ServerSpec, (client, peer): (u16, u16)) -> Result<Child, StartError> {
    let log_path = spec.folder.join("log");
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log_path)
        .and_then(|file| Ok((file.try_clone()?, file)))
        .map_err(|e| StartError::Io(log_path, e))?;
    let client = format!("http://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    Command::new(&spec.program)
        .args(["--name", "m1", "--data-dir"])
        .arg(spec.folder.join("data"))
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args([
            "--initial-cluster",
            &format!("m1={peer}"),
            "--log-level",
            "error",
        ])
        .args(&spec.flags)
        .env_remove("ETCD_NAME")
        .stdin(Stdio::null())
        .stdout(log.0)
        .stderr(log.1)
        .spawn()
        .map_err(|e| StartError::Io(spec.program.clone(), e))
}

/// Two ports that were free a moment ago. Another process may take one before the server binds it;
/// `Server::start` then tries again.
fn free_ports() -> io::Result<(u16, u16)> {
    let (a, b) = (
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    );
    Ok((a.local_addr()?.port(), b.local_addr()?.port()))
}

/// A new empty folder under `parent`, removed with all it holds when dropped.
#[derive(Debug)]
pub struct ScratchFolder(PathBuf);

impl ScratchFolder {
    pub fn new(parent: &Path, name: &str) -> io::Result<ScratchFolder> {
        for i in 0u32.. {
            let folder = parent.join(format!("{name}-{}-{i}", std::process::id()));
            match std::fs::create_dir_all(parent).and_then(|()| std::fs::create_dir(&folder)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => return done.map(|()| ScratchFolder(folder)),
            }
        }
        unreachable!("four billion folders of one process")
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        // What stays behind is only disk space in a temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
