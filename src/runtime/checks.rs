//! Adapter. What the machine must offer, looked at before anything is opened.

use super::GlommioEnv;
use super::limits;
use super::start::{LogAccess, Options, run_here};
use rustix::fs::{OFlags, statfs, statvfs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// One look at the machine. `found` and `wanted` are words for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    pub what: &'static str,
    pub found: String,
    pub wanted: String,
    pub verdict: Verdict,
    /// What to do about it; empty when all is well.
    pub advice: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    Fine,
    /// Works, but slower or with less room than it should.
    Warning,
    /// The server cannot run, or could lose data.
    Fatal,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: found {}, wanted {}",
            self.what, self.found, self.wanted
        )?;
        if self.advice.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.advice)
        }
    }
}

/// Looks at everything, and raises the soft limit of open files to the hard one. `data_dir` exists.
pub fn run(data_dir: &Path, cores: usize, log_access: LogAccess) -> Vec<Check> {
    vec![
        kernel(),
        io_uring(),
        locked_memory(cores),
        open_files(),
        direct_io(data_dir, log_access),
        free_space(data_dir),
    ]
}

/// The worst of them.
pub fn verdict(checks: &[Check]) -> Verdict {
    checks
        .iter()
        .map(|check| check.verdict)
        .max()
        .unwrap_or(Verdict::Fine)
}

fn check(
    what: &'static str,
    found: impl Into<String>,
    wanted: impl Into<String>,
    verdict: Verdict,
    advice: &str,
) -> Check {
    let advice = if verdict == Verdict::Fine { "" } else { advice };
    Check {
        what,
        found: found.into(),
        wanted: wanted.into(),
        verdict,
        advice: advice.to_owned(),
    }
}

fn kernel() -> Check {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let (major, minor) = limits::KERNEL_MIN;
    let verdict = match kernel_version(&release) {
        Some(version) if version >= limits::KERNEL_MIN => Verdict::Fine,
        Some(_) | None => Verdict::Warning,
    };
    let advice = "older kernels may work, but are not tested";
    check(
        "kernel",
        release,
        format!("{major}.{minor} or newer"),
        verdict,
        advice,
    )
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn io_uring() -> Check {
    // glommio asserts some of what it needs, so the probe runs on a thread that may die.
    let probe = std::thread::Builder::new()
        .name("probe".to_owned())
        .spawn(|| {
            run_here(&Options::unpinned(1), |_: GlommioEnv| async {})
                .map_err(|failure| failure.to_string())
        });
    let outcome = match probe.map(std::thread::JoinHandle::join) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err("the executor refused this kernel".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match outcome {
        Ok(()) => check("io_uring", "available", "available", Verdict::Fine, ""),
        Err(error) => {
            let advice = match disabled.trim() {
                "1" | "2" => "set the sysctl kernel.io_uring_disabled to 0",
                _ => "allow io_uring's system calls (a container's profile may forbid them)",
            };
            check("io_uring", error, "available", Verdict::Fatal, advice)
        }
    }
}

fn locked_memory(cores: usize) -> Check {
    let wanted = (4 * limits::IO_MEMORY_BYTES_MIN * cores) as u64;
    let found = getrlimit(Resource::Memlock).current;
    let verdict = match found {
        None => Verdict::Fine,
        Some(bytes) if bytes < 512 << 10 => Verdict::Fatal,
        Some(bytes) if bytes < wanted => Verdict::Warning,
        Some(_) => Verdict::Fine,
    };
    let found = found.map_or("unlimited".to_owned(), |bytes| {
        format!("{} KiB", bytes >> 10)
    });
    let advice = "raise the locked-memory limit (ulimit -l, LimitMEMLOCK=)";
    check(
        "locked memory",
        found,
        format!("{} KiB or more", wanted >> 10),
        verdict,
        advice,
    )
}

fn open_files() -> Check {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    let found = getrlimit(Resource::Nofile).current;
    let enough = found.is_none_or(|files| files >= limits::OPEN_FILES_MIN);
    let verdict = if enough {
        Verdict::Fine
    } else {
        Verdict::Warning
    };
    let found = found.map_or("unlimited".to_owned(), |files| files.to_string());
    let wanted = format!("{} or more", limits::OPEN_FILES_MIN);
    let advice = "raise the hard limit of open files (ulimit -n, LimitNOFILE=)";
    check("open files", found, wanted, verdict, advice)
}

/// File systems whose magic number we know by name.
fn file_system_name(magic: u64) -> String {
    match magic {
        0xEF53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683E => "btrfs".to_owned(),
        0x0102_1994 => "tmpfs".to_owned(),
        0x794C_7630 => "overlayfs".to_owned(),
        0x2FC1_2FC1 => "zfs".to_owned(),
        0x6969 => "nfs".to_owned(),
        other => format!("file system {other:#x}"),
    }
}

const TMPFS_MAGIC: u64 = 0x0102_1994;

fn direct_io(dir: &Path, log_access: LogAccess) -> Check {
    const WHAT: &str = "O_DIRECT in the data directory";
    let magic = match statfs(dir) {
        Ok(found) => found.f_type as u64,
        Err(error) => {
            let advice = "the data directory must exist and be readable";
            return check(
                WHAT,
                error.to_string(),
                "a directory",
                Verdict::Fatal,
                advice,
            );
        }
    };
    let name = file_system_name(magic);
    // tmpfs takes the flag since 6.6 and ignores it; nothing on it survives a reboot.
    let outcome = if magic == TMPFS_MAGIC {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "memory is not a disk",
        ))
    } else {
        write_directly(dir)
    };
    match (outcome, log_access) {
        (Ok(()), _) => check(WHAT, name, "supported", Verdict::Fine, ""),
        (Err(error), LogAccess::Buffered) => {
            let advice = "the log is written through the page cache, as asked";
            check(
                WHAT,
                format!("{name}: {error}"),
                "supported",
                Verdict::Warning,
                advice,
            )
        }
        // The probe had no room; whether the server has is not decided here.
        (Err(error), _) if is_full(&error) => {
            let advice = "make room; until then writes are refused";
            check(
                WHAT,
                format!("{name}: {error}"),
                "supported",
                Verdict::Warning,
                advice,
            )
        }
        (Err(error), LogAccess::Direct) => {
            let advice =
                "use a disk with ext4 or xfs, or accept slower writes with --unsafe-buffered-log";
            check(
                WHAT,
                format!("{name}: {error}"),
                "supported",
                Verdict::Fatal,
                advice,
            )
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn write_directly(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!("probe-{}.tmp", std::process::id()));
    let mut options = File::options();
    let flags = (OFlags::DIRECT | OFlags::DSYNC).bits() as i32;
    options
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(flags);
    let outcome = options.open(&path).and_then(|mut file| {
        let size = limits::ALIGNMENT_BYTES_MAX;
        let room = vec![0u8; 2 * size];
        let start = room.as_ptr().align_offset(size);
        file.write_all(&room[start..start + size])
    });
    let _ = fs::remove_file(&path);
    outcome
}

fn free_space(dir: &Path) -> Check {
    const WHAT: &str = "free space of the data directory";
    let wanted = format!("{} MiB or more", limits::FREE_BYTES_MIN >> 20);
    match statvfs(dir) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let verdict = if free >= limits::FREE_BYTES_MIN {
                Verdict::Fine
            } else {
                Verdict::Warning
            };
            check(
                WHAT,
                format!("{} MiB", free >> 20),
                wanted,
                verdict,
                "make room",
            )
        }
        Err(error) => check(
            WHAT,
            error.to_string(),
            wanted,
            Verdict::Warning,
            "the directory must be readable",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would catch: a release string of a distribution that is not understood.
    #[test]
    fn kernel_versions() {
        assert_eq!(kernel_version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(kernel_version("5.4.0"), Some((5, 4)));
        assert_eq!(kernel_version("6.1"), Some((6, 1)));
        assert_eq!(kernel_version("unknown"), None);
    }

    // Would catch: a start on memory taken for a disk, a message without the way out.
    #[test]
    fn memory_is_no_disk() {
        if statfs("/dev/shm").is_ok_and(|found| found.f_type as u64 == TMPFS_MAGIC) {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            let direct = direct_io(dir.path(), LogAccess::Direct);
            assert_eq!(direct.verdict, Verdict::Fatal);
            assert!(
                direct.to_string().contains("--unsafe-buffered-log"),
                "{direct}"
            );
            assert_eq!(
                direct_io(dir.path(), LogAccess::Buffered).verdict,
                Verdict::Warning
            );
        }
    }

    // Would catch: a check that refuses the machine the tests run on, and so every machine.
    #[test]
    fn this_machine() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let checks = run(dir.path(), 1, LogAccess::Direct);
        assert_eq!(checks.len(), 6);
        let text: Vec<_> = checks.iter().map(Check::to_string).collect();
        assert!(verdict(&checks) <= Verdict::Warning, "{text:#?}");
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            0,
            "the probe file is gone"
        );
    }
}
