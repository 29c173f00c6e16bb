//! Driver. What a process has used so far, out of `/proc`: CPU of all its threads, memory, bytes
//! to the device, context switches.

use std::fs;

use super::report::Json;

/// `/proc/PID/stat` counts in these. The kernel's interface fixes it at 100 per second.
const TICKS_PER_SECOND: f64 = 100.0;

/// Totals at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    /// File-backed pages (a map of the data file) are reclaimable; these are not.
    pub anonymous_bytes: u64,
    pub device_write_bytes: u64,
    pub context_switches: u64,
}

impl Usage {
    /// `None` when there is no such process or it is not ours.
    pub fn of(pid: u32) -> Option<Usage> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let (cpu_seconds, context_switches) = threads(pid)?;
        Some(Usage {
            cpu_seconds,
            resident_bytes: line(&status, "VmRSS:") * 1024,
            anonymous_bytes: line(&status, "RssAnon:") * 1024,
            device_write_bytes: line(&io, "write_bytes:"),
            context_switches,
        })
    }

    /// What was used since `earlier`; memory is as of now.
    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            device_write_bytes: self
                .device_write_bytes
                .saturating_sub(earlier.device_write_bytes),
            context_switches: self
                .context_switches
                .saturating_sub(earlier.context_switches),
            ..*self
        }
    }

    /// The same per operation, as the report shows it.
    pub fn per_op(&self, ops: u64) -> Json {
        let ops = ops.max(1) as f64;
        Json::object([
            ("cpu_us_per_op", Json::number(self.cpu_seconds * 1e6 / ops)),
            (
                "device_bytes_per_op",
                Json::number(self.device_write_bytes as f64 / ops),
            ),
            (
                "context_switches_per_op",
                Json::number(self.context_switches as f64 / ops),
            ),
            (
                "resident_mib",
                Json::number(self.resident_bytes as f64 / 1048576.0),
            ),
            (
                "anonymous_mib",
                Json::number(self.anonymous_bytes as f64 / 1048576.0),
            ),
        ])
    }
}

fn line(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// CPU seconds and context switches of all threads. Running threads are counted to the nanosecond;
/// what ended threads used is only in the process's own coarse counter, so the larger one holds.
fn threads(pid: u32) -> Option<(f64, u64)> {
    let (mut nanoseconds, mut switches) = (0u64, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let folder = task.path();
        let schedule = fs::read_to_string(folder.join("schedstat")).unwrap_or_default();
        nanoseconds += schedule
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        switches += line(&status, "voluntary_ctxt_switches:");
        switches += line(&status, "nonvoluntary_ctxt_switches:");
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may hold spaces; the fields count from its closing parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some((
        (nanoseconds as f64 / 1e9).max(ticks / TICKS_PER_SECOND),
        switches,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches: a field of `/proc` read under a wrong name or position.
    #[test]
    fn our_own_usage_is_seen() {
        let before = Usage::of(std::process::id()).expect("we are running");
        let mut x = 1u64;
        while Usage::of(std::process::id())
            .expect("we are running")
            .since(&before)
            .cpu_seconds
            < 0.02
        {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(before.resident_bytes > 100_000 && before.anonymous_bytes > 0);
        assert!(Usage::of(u32::MAX).is_none());
    }
}
