//! Adapter. What the kernel says about this process, for the metrics.

use std::fs;
use std::io;
use std::time::Duration;

/// A sample of `/proc/self`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub open_files: u64,
    /// The soft limit of open files.
    pub open_files_max: u64,
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Seconds since 1970, to a hundredth.
    pub started_unix_seconds: f64,
    pub threads: u64,
}

/// Samples now. Costs a few tens of µs, mostly for counting descriptors: once per scrape, not more.
pub fn usage() -> io::Result<Usage> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let system = fs::read_to_string("/proc/stat")?;
    let ticks = rustix::param::clock_ticks_per_second();
    let parsed = Stat::parse(&stat).ok_or_else(|| foreign("/proc/self/stat"))?;
    let booted = boot_seconds(&system).ok_or_else(|| foreign("/proc/stat"))?;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    // The directory that is being read is one of its own entries.
    let open_files = fs::read_dir("/proc/self/fd")?.count().saturating_sub(1) as u64;
    Ok(Usage {
        resident_bytes: parsed.resident_pages * rustix::param::page_size() as u64,
        virtual_bytes: parsed.virtual_bytes,
        open_files,
        open_files_max: limit.current.unwrap_or(u64::MAX),
        cpu: Duration::from_nanos(parsed.cpu_ticks * (1_000_000_000 / ticks.max(1))),
        started_unix_seconds: booted as f64 + parsed.start_ticks as f64 / ticks.max(1) as f64,
        threads: parsed.threads,
    })
}

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// Field numbers are those of proc(5); the name in parentheses may itself hold spaces.
    fn parse(line: &str) -> Option<Stat> {
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // `rest` begins with field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn boot_seconds(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn foreign(file: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{file} has an unexpected form"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would catch: a field counted wrongly, a process name with spaces and parentheses misread.
    #[test]
    fn fields_of_stat() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 0 0 20 0 9 0 1234 8192 21 18446";
        let parsed = Stat::parse(line).unwrap();
        assert_eq!(
            parsed,
            Stat {
                cpu_ticks: 110,
                threads: 9,
                start_ticks: 1234,
                virtual_bytes: 8192,
                resident_pages: 21
            }
        );
        assert_eq!(Stat::parse("7 (x S 1"), None);
        assert_eq!(boot_seconds("cpu 1 2\nbtime 99\n"), Some(99));
    }

    // Would catch: units mixed up (pages for bytes, ticks for seconds) on the running kernel.
    #[test]
    fn this_process() {
        let usage = usage().unwrap();
        assert!(usage.resident_bytes > 500_000, "{usage:?}");
        assert!(usage.virtual_bytes > usage.resident_bytes, "{usage:?}");
        assert!(usage.open_files >= 3, "{usage:?}");
        assert!(usage.started_unix_seconds > 1.6e9, "{usage:?}");
        assert!(usage.threads >= 1, "{usage:?}");
    }
}
