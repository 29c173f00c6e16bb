//! Driver. What the tests need from the machine: the server under test, a real etcd, scratch
//! folders, scripts that say themselves when they cannot run here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use libtest_mimic::{Completion, Failed};
use ringbolt::bench::server::{ScratchFolder, Server, ServerSpec};

/// A script's exit code for "cannot run here", with the reason as its last line on stderr.
const CANNOT_RUN: i32 = 77;

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The server under test.
pub fn ringbolt() -> PathBuf {
    match std::env::var_os("RINGBOLT_BIN") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_ringbolt")),
    }
}

/// The folder with a real etcd, etcdctl and etcdutl, built once; or why there is none.
pub fn etcd_folder() -> Result<PathBuf, String> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || {
        if let Some(folder) = std::env::var_os("RINGBOLT_ETCD_DIR") {
            return Ok(PathBuf::from(folder));
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("etcd-bin");
        let output = Command::new(repository().join("benches/etcd/build.sh"))
            .arg(&folder)
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            Ok(folder)
        } else {
            Err(last_line(&text))
        }
    };
    FOLDER.get_or_init(build).clone()
}

pub fn scratch(name: &str) -> Result<ScratchFolder, Failed> {
    Ok(ScratchFolder::new(
        Path::new(env!("CARGO_TARGET_TMPDIR")),
        name,
    )?)
}

/// Starts `program` with an empty data dir in `folder`.
pub fn start(program: PathBuf, folder: &Path, flags: &[&str]) -> Result<Server, Failed> {
    Ok(Server::start(ServerSpec {
        program,
        folder: folder.to_path_buf(),
        flags: flags.iter().map(|flag| flag.to_string()).collect(),
        ready_within: Duration::from_secs(30),
    })?)
}

/// Runs a script of the repository; its output is part of a failure.
pub fn script(path: &str, environment: &[(&str, &str)]) -> Result<Completion, Failed> {
    let mut command = Command::new(repository().join(path));
    command.envs(environment.iter().copied());
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Ok(Completion::Completed),
        Some(CANNOT_RUN) => Ok(Completion::ignored_with(last_line(&text))),
        code => {
            let stdout = String::from_utf8_lossy(&output.stdout);
            Err(format!("{path} ended with {code:?}\n{stdout}{text}").into())
        }
    }
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or("no reason given").to_string()
}
