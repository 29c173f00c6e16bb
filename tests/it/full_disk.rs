//! Driver. A full disk for real: the server's data on a small file system of its own, and a ballast
//! file that takes what is left of it. Needs root, for a loop device.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use ringbolt::bench::message::{self, KeyValue, Message, path, prefix_end};
use ringbolt::bench::server::{ScratchFolder, Server};
use ringbolt::bench::session::{Event, Session};
use rustix::fs::{FallocateFlags, fallocate};

use crate::world;

const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A refusal that takes longer was not given at once.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// Longer than any pause between two tries of the server.
const ROOM_WITHIN: Duration = Duration::from_secs(30);
const STOPS_WITHIN: Duration = Duration::from_secs(20);
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
/// Of the line that an operator finds.
const LOG_IS_FULL: &str = "disk full: no room for the next log segment";
const MIB: u64 = 1 << 20;
const VALUE_BYTES: usize = 100 << 10;
const PREFIX: &[u8] = b"/full/";

pub fn tests() -> Vec<Trial> {
    let both = |name: &'static str, first| {
        Trial::ignorable_test(format!("full_disk::{name}"), move || {
            on_a_small_disk(name, 1024, move |disk| writes_stop_and_go_on(disk, first))
        })
    };
    vec![
        both("the_tree_first", First::Tree),
        both("the_log_first", First::Log),
        Trial::ignorable_test("full_disk::the_log_lives_on_what_it_has", || {
            on_a_small_disk("lives", 500, the_log_lives_on_what_it_has)
        }),
        Trial::ignorable_test("full_disk::a_new_member_is_refused", || {
            on_a_small_disk("new", 64, a_new_member_is_refused)
        }),
    ]
}

/// What notices the full disk first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Tree,
    Log,
}

/// A file system of its own in a file, mounted as the server's data directory.
struct SmallDisk {
    mounted: PathBuf,
    /// Holds the server's log, outside of the small disk.
    folder: ScratchFolder,
}

impl SmallDisk {
    /// Or why this machine has none.
    fn new(name: &str, mib: u64) -> Result<Result<SmallDisk, String>, Failed> {
        let folder = world::scratch(&format!("full-disk-{name}"))?;
        let image = folder.path().join("image");
        let mounted = folder.path().join("data");
        fs::create_dir(&mounted)?;
        File::create(&image)?.set_len(mib * MIB)?;
        let made = run(Command::new("mkfs.ext4")
            // Without blocks that only root may use: the server may be root here.
            .args(["-q", "-m", "0", "-b", "4096"])
            .arg(&image));
        let mounting = made.and_then(|_| {
            run(Command::new("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(&mounted))
        });
        Ok(match mounting {
            Ok(_) => Ok(SmallDisk { mounted, folder }),
            Err(reason) => Err(format!("no loop-mounted file system: {reason}")),
        })
    }

    fn ballast(&self) -> PathBuf {
        self.mounted.join("ballast")
    }

    /// Takes all room but so many bytes.
    fn leave(&self, bytes: u64) -> Result<(), Failed> {
        let ballast = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.ballast())?;
        let mut piece = 64 * MIB;
        while piece >= 512 {
            let taken = ballast.metadata()?.len();
            if fallocate(&ballast, FallocateFlags::empty(), taken, piece).is_err() {
                piece /= 2;
            }
        }
        let taken = ballast.metadata()?.len();
        ballast.set_len(taken.saturating_sub(bytes))?;
        ballast.sync_all()?;
        Ok(())
    }

    fn clear(&self) -> Result<(), Failed> {
        let ballast = File::create(self.ballast())?;
        ballast.sync_all()?;
        Ok(())
    }

    fn segments(&self) -> Result<usize, Failed> {
        let files = fs::read_dir(self.mounted.join("wal/core-0"))?;
        let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| name.ends_with(".wal")).count())
    }

    fn start(&self, segment_mib: u64) -> Result<Server, Failed> {
        let segment = (segment_mib * MIB).to_string();
        let flags = ["--log-segment-bytes", &segment];
        world::start(world::ringbolt(), self.folder.path(), &flags)
    }

    /// The server's log so far.
    fn log(&self) -> String {
        let text = fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that a failed test left behind is killed, but may not be gone yet.
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).output();
    }
}

/// Runs a command; a failure in one line.
fn run(command: &mut Command) -> Result<Output, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(output),
        false => {
            let text = String::from_utf8_lossy(&output.stderr);
            let last = text.lines().last().unwrap_or("failed").to_string();
            Err(format!("{program}: {last}"))
        }
    }
}

fn on_a_small_disk(
    name: &str,
    mib: u64,
    test: impl FnOnce(&SmallDisk) -> Result<(), Failed>,
) -> Result<Completion, Failed> {
    let disk = match SmallDisk::new(name, mib)? {
        Ok(disk) => disk,
        Err(reason) => return Ok(Completion::ignored_with(reason)),
    };
    match test(&disk) {
        Ok(()) => Ok(Completion::Completed),
        Err(failed) => {
            let text = failed.message().unwrap_or("failed").to_string();
            Err(format!("{text}\nthe server's log:\n{}", disk.log()).into())
        }
    }
}

/// A client that knows what was acknowledged.
struct Client {
    session: Session,
    acknowledged: BTreeMap<Vec<u8>, Vec<u8>>,
    next: u64,
}

/// What came of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Done,
    NoSpace,
}

impl Client {
    fn new(server: &Server) -> Result<Client, Failed> {
        Ok(Client {
            session: Session::connect(&server.endpoint(), ANSWER_WITHIN)?,
            acknowledged: BTreeMap::new(),
            next: 0,
        })
    }

    fn reconnect(&mut self, server: &Server) -> Result<(), Failed> {
        self.session = Session::connect(&server.endpoint(), ANSWER_WITHIN)?;
        Ok(())
    }

    /// Puts the next key.
    fn put(&mut self) -> Result<Outcome, Failed> {
        let key = [PREFIX, format!("{:05}", self.next).as_bytes()].concat();
        let mut value = format!("value {} ", self.next).into_bytes();
        value.resize(VALUE_BYTES, b'.');
        self.next += 1;
        self.put_key(key, value)
    }

    fn put_key(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<Outcome, Failed> {
        let request = Message::new().bytes(1, &key).bytes(2, &value);
        let asked = Instant::now();
        let reply = self.session.unary(path::PUT, request.as_bytes())?;
        if reply.status.is_ok() {
            self.acknowledged.insert(key, value);
            return Ok(Outcome::Done);
        }
        let text = reply.status.message;
        if text != NO_SPACE || asked.elapsed() > REFUSED_WITHIN {
            return Err(format!("{text:?} after {:?}", asked.elapsed()).into());
        }
        Ok(Outcome::NoSpace)
    }

    /// Puts until one is refused, at most so many.
    fn put_until_refused(&mut self, most: u64) -> Result<(), Failed> {
        for _ in 0..most {
            if self.put()? == Outcome::NoSpace {
                return Ok(());
            }
        }
        Err(format!("{most} puts on a full disk, and none was refused").into())
    }

    /// Puts until one is done.
    fn put_until_done(&mut self) -> Result<(), Failed> {
        let asked = Instant::now();
        while self.put()? == Outcome::NoSpace {
            if asked.elapsed() > ROOM_WITHIN {
                return Err("there is room, and writes are still refused".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn call(&mut self, method: &'static str, request: Message) -> Result<Vec<u8>, Failed> {
        let reply = self.session.unary(method, request.as_bytes())?;
        match reply.status.is_ok() {
            true => Ok(reply.message),
            false => Err(format!("{method}: {:?}", reply.status).into()),
        }
    }

    /// Everything that was acknowledged is there, and nothing else.
    fn check(&mut self) -> Result<(), Failed> {
        let request = Message::new()
            .bytes(1, PREFIX)
            .bytes(2, &prefix_end(PREFIX));
        let body = self.call(path::RANGE, request)?;
        let kvs = message::repeated(&body, 2)
            .into_iter()
            .filter_map(KeyValue::read);
        let found: BTreeMap<_, _> = kvs.map(|kv| (kv.key.to_vec(), kv.value.to_vec())).collect();
        let differs = |(key, value): &(&Vec<u8>, &Vec<u8>)| found.get(*key) != Some(*value);
        if let Some((key, _)) = self.acknowledged.iter().find(differs) {
            return Err(format!("{} was acknowledged and is lost", key.escape_ascii()).into());
        }
        let (found, expected) = (found.len(), self.acknowledged.len());
        match found == expected {
            true => Ok(()),
            false => Err(format!("{found} keys, {expected} were acknowledged").into()),
        }
    }

    /// A new watch brings all of it.
    fn check_watch(&mut self) -> Result<(), Failed> {
        let create = Message::new()
            .bytes(1, PREFIX)
            .bytes(2, &prefix_end(PREFIX))
            .int(3, 1);
        let request = Message::new().nested(1, &create);
        let call = self.session.open(path::WATCH, request.as_bytes(), false)?;
        let mut events = 0;
        while events < self.acknowledged.len() {
            match self.session.next(call, ANSWER_WITHIN)? {
                Event::Message(body) => events += message::repeated(&body, 11).len(),
                ended => return Err(format!("after {events} events: {ended:?}").into()),
            }
        }
        Ok(self.session.cancel(call)?)
    }

    /// The errors that `endpoint status` shows.
    fn errors(&mut self) -> Result<String, Failed> {
        let body = self.call(path::STATUS, Message::new())?;
        let errors = message::repeated(&body, 8);
        let text = |error: &[u8]| String::from_utf8_lossy(error).into_owned();
        Ok(errors.into_iter().map(text).collect::<Vec<_>>().join("; "))
    }

    fn expect_error(&mut self, expected: &str) -> Result<(), Failed> {
        let errors = self.errors()?;
        match errors.contains(expected) {
            true => Ok(()),
            false => Err(format!("{errors:?} instead of {expected:?}").into()),
        }
    }
}

// Catches: a full disk that ends the process or its reads, a write that hangs or is refused with
// another error, a lost acknowledged write; writes that need a restart when there is room again;
// a start on the full disk that is refused or serves less; a stop there that hangs or fails.
fn writes_stop_and_go_on(disk: &SmallDisk, first: First) -> Result<(), Failed> {
    let segment_mib = match first {
        First::Tree => 32,
        First::Log => 8,
    };
    let mut server = disk.start(segment_mib)?;
    let mut client = Client::new(&server)?;
    for _ in 0..30 {
        client.put()?;
    }
    disk.leave(0)?;
    if first == First::Tree {
        // The commit comes with time; the log has a whole segment before it.
        let asked = Instant::now();
        while !client.errors()?.contains("the tree file waits for room") {
            if asked.elapsed() > ROOM_WITHIN {
                return Err("the tree file never noticed the full disk".into());
            }
            client.put()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        if client.errors()?.contains("the log waits") {
            return Err("the log was to be second".into());
        }
        if client.put()? != Outcome::Done {
            return Err("the log had room, and a write was refused".into());
        }
    }
    client.put_until_refused(3_000)?;
    client.expect_error("disk full: the log waits for room")?;
    client.check()?;
    client.check_watch()?;
    for _ in 0..100 {
        if client.put()? != Outcome::NoSpace {
            return Err("a write was done without room".into());
        }
    }
    let said = disk.log().matches(LOG_IS_FULL).count();
    if said != 1 {
        return Err(format!("the full disk was logged {said} times").into());
    }

    disk.clear()?;
    client.put_until_done()?;
    for _ in 0..200 {
        client.put()?;
    }
    client.check()?;
    if !client.errors()?.is_empty() {
        return Err("there is room, and the status says otherwise".into());
    }

    // Again, and this time the process is killed, started and stopped in the midst of it.
    disk.leave(0)?;
    client.put_until_refused(3_000)?;
    server.kill();
    for _ in 0..2 {
        // Room for the start's own small files, and for no segment.
        disk.leave(MIB)?;
        server.spawn_again()?;
        server.wait_ready()?;
        client.reconnect(&server)?;
        client.check()?;
        client.check_watch()?;
        client.put_until_refused(3_000)?;
        stop(&mut server)?;
    }
    disk.leave(MIB)?;
    server.spawn_again()?;
    server.wait_ready()?;
    client.reconnect(&server)?;
    disk.clear()?;
    client.put_until_done()?;
    server.kill();
    server.spawn_again()?;
    server.wait_ready()?;
    client.reconnect(&server)?;
    client.put_until_done()?;
    client.check()
}

/// SIGTERM, and the end of the process by it.
fn stop(server: &mut Server) -> Result<(), Failed> {
    let pid = server.pid().to_string();
    run(Command::new("kill").args(["-TERM", &pid]))?;
    let asked = Instant::now();
    while server.is_running() {
        if asked.elapsed() > STOPS_WITHIN {
            return Err("it does not stop on a full disk".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Reaps it.
    server.kill();
    Ok(())
}

// Catches: a log that waits for an operator while tree commits release what it holds: without room
// for a third segment, twice as many bytes go through it as all its segments hold.
fn the_log_lives_on_what_it_has(disk: &SmallDisk) -> Result<(), Failed> {
    let segment_mib = 64;
    let mut server = disk.start(segment_mib)?;
    let mut client = Client::new(&server)?;
    client.put()?;
    // The second segment is made behind the start.
    let asked = Instant::now();
    while disk.segments()? < 2 {
        if asked.elapsed() > ROOM_WITHIN {
            return Err("the second segment is not made".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    disk.leave(segment_mib * MIB - MIB)?;
    let bytes = 4 * segment_mib * MIB;
    let key = [PREFIX, b"again"].concat();
    for n in 0..bytes / VALUE_BYTES as u64 {
        let mut value = format!("{n} ").into_bytes();
        value.resize(VALUE_BYTES, b'.');
        if client.put_key(key.clone(), value)? == Outcome::NoSpace {
            // Until the tree commit under way lets a segment go.
            std::thread::sleep(Duration::from_millis(50));
        }
        if n % 50 == 49 {
            let request = Message::new().bytes(1, &key);
            let revision = message::header_revision(&client.call(path::RANGE, request)?);
            let request = Message::new().int(1, revision).flag(2, true);
            client.call(path::COMPACT, request)?;
        }
        if disk.segments()? > 2 {
            return Err("there was to be no room for a third segment".into());
        }
    }
    client.put_until_done()?;
    client.check()?;
    if !disk.log().contains(LOG_IS_FULL) {
        return Err("the log never wanted a third segment: nothing was tested".into());
    }
    server.kill();
    server.spawn_again()?;
    server.wait_ready()?;
    client.reconnect(&server)?;
    client.check()
}

// Catches: a first start without room that goes on half made, or does not say what it needs.
fn a_new_member_is_refused(disk: &SmallDisk) -> Result<(), Failed> {
    disk.leave(2 * MIB)?;
    let refused = match disk.start(8) {
        Ok(_) => return Err("it started without room for its log".into()),
        Err(failed) => failed.message().unwrap_or_default().to_string(),
    };
    if !refused.contains("the disk has no room for a log segment of 8388608 bytes") {
        return Err(refused.into());
    }
    disk.clear()?;
    let server = disk.start(8)?;
    let mut client = Client::new(&server)?;
    client.put_until_done()?;
    client.check()
}
