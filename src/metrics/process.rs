//! Adapter. What the kernel says about this process: the one file of this folder that reads
//! anything. Parsing is separate and pure.

use std::fs;

/// Facts for the metrics `process_*` and `os_fd_*`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ProcessFacts {
    pub cpu_seconds: f64,
    pub open_fds: u64,
    pub max_fds: u64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    /// Seconds since 1970.
    pub start_seconds: f64,
    pub network_received_bytes: u64,
    pub network_sent_bytes: u64,
}

/// The kernel's unit of CPU time as user space sees it, the same on all Linux machines.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

impl ProcessFacts {
    /// Reads `/proc`. What cannot be read is 0.
    pub fn read() -> ProcessFacts {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut facts = parse(
            &text("/proc/self/stat"),
            &text("/proc/stat"),
            &text("/proc/self/limits"),
            &text("/proc/self/net/dev"),
        );
        facts.open_fds = fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64);
        facts
    }
}

fn parse(stat: &str, machine: &str, limits: &str, network: &str) -> ProcessFacts {
    // The command's name may hold spaces and parentheses: fields count from the last one.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|f| f.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let boot: f64 = machine
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|seconds| seconds.trim().parse().ok())
        .unwrap_or(0.0);
    let max_fds = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let (mut received, mut sent) = (0, 0);
    for (_, counts) in network.lines().filter_map(|line| line.split_once(':')) {
        let mut counts = counts
            .split_whitespace()
            .map(|count| count.parse().unwrap_or(0u64));
        received += counts.next().unwrap_or(0);
        sent += counts.nth(7).unwrap_or(0);
    }
    ProcessFacts {
        cpu_seconds: (number(11) + number(12)) as f64 / TICKS_PER_SECOND,
        open_fds: 0,
        max_fds,
        resident_bytes: number(21) * PAGE_BYTES,
        virtual_bytes: number(20),
        start_seconds: boot + number(19) as f64 / TICKS_PER_SECOND,
        network_received_bytes: received,
        network_sent_bytes: sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches fields counted from the wrong place when the command's name has a parenthesis.
    #[test]
    fn stat_fields_count_from_the_last_parenthesis() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 1000 \
                    8192000 25 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0";
        let limits = "Limit                     Soft Limit           Hard Limit\n\
                      Max open files            1024                 4096                 files\n";
        let network = "Inter-|   Receive  |  Transmit\n face |bytes packets\n\
                       lo: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n\
                       eth0: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";
        let facts = parse(stat, "cpu 1 2\nbtime 1700000000\n", limits, network);
        assert_eq!(
            facts,
            ProcessFacts {
                cpu_seconds: 2.0,
                open_fds: 0,
                max_fds: 1024,
                resident_bytes: 25 * 4096,
                virtual_bytes: 8_192_000,
                start_seconds: 1_700_000_010.0,
                network_received_bytes: 15,
                network_sent_bytes: 27,
            }
        );
        assert_eq!(parse("", "", "", ""), ProcessFacts::default());
    }
}
