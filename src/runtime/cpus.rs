//! Adapter. Which CPUs this process may use, and which of them become cores.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt;
use std::io;

/// What `--cores` asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// Every CPU of the process's affinity mask.
    All,
    /// The first so many of them.
    Count(usize),
    /// These, by the kernel's numbers.
    List(Vec<usize>),
}

/// Why the wish cannot be granted.
#[derive(Debug)]
pub enum CpuError {
    /// The mask could not be read.
    Affinity(io::Error),
    /// More cores were asked for than the mask holds.
    TooMany { wanted: usize, allowed: usize },
    /// A CPU outside the mask.
    NotAllowed { wanted: usize, allowed: Vec<usize> },
    /// A CPU named twice: two executors would fight over it.
    Twice { wanted: usize },
    /// No core at all.
    None,
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpuError::Affinity(error) => write!(f, "cannot read the CPU affinity mask: {error}"),
            CpuError::TooMany { wanted, allowed } => {
                write!(
                    f,
                    "{wanted} cores wanted, but this process may use {allowed} CPUs"
                )
            }
            CpuError::NotAllowed { wanted, allowed } => {
                write!(
                    f,
                    "CPU {wanted} is not in this process's affinity mask {allowed:?}"
                )
            }
            CpuError::Twice { wanted } => write!(f, "CPU {wanted} is named twice"),
            CpuError::None => write!(f, "no core was asked for"),
        }
    }
}

impl std::error::Error for CpuError {}

/// The CPUs of the process's affinity mask, ascending. glommio's own placement ignores the mask
/// (trap f): under `taskset` or a cpuset it would pin cores where they may not run.
pub fn allowed() -> io::Result<Vec<usize>> {
    let mask = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| mask.is_set(*cpu))
        .collect())
}

/// The CPUs that become cores 0, 1, 2, …
pub fn choose(choice: &Choice) -> Result<Vec<usize>, CpuError> {
    choose_of(choice, allowed().map_err(CpuError::Affinity)?)
}

fn choose_of(choice: &Choice, allowed: Vec<usize>) -> Result<Vec<usize>, CpuError> {
    match choice {
        Choice::All if allowed.is_empty() => Err(CpuError::None),
        Choice::All => Ok(allowed),
        Choice::Count(0) => Err(CpuError::None),
        Choice::Count(wanted) if *wanted > allowed.len() => Err(CpuError::TooMany {
            wanted: *wanted,
            allowed: allowed.len(),
        }),
        Choice::Count(wanted) => Ok(allowed[..*wanted].to_vec()),
        Choice::List(list) if list.is_empty() => Err(CpuError::None),
        Choice::List(list) => {
            for (place, wanted) in list.iter().copied().enumerate() {
                if !allowed.contains(&wanted) {
                    return Err(CpuError::NotAllowed { wanted, allowed });
                }
                if list[..place].contains(&wanted) {
                    return Err(CpuError::Twice { wanted });
                }
            }
            Ok(list.clone())
        }
    }
}

/// Pins the calling thread.
pub(super) fn pin(cpu: usize) -> io::Result<()> {
    let mut mask = CpuSet::new();
    mask.set(cpu);
    Ok(sched_setaffinity(None, &mask)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would catch: a core pinned outside the mask, two cores on one CPU, a count beyond the mask
    // accepted.
    #[test]
    fn choices() {
        let mask = || vec![2, 3, 7];
        let text = |choice| match choose_of(&choice, mask()) {
            Ok(cpus) => format!("{cpus:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(text(Choice::All), "[2, 3, 7]");
        assert_eq!(text(Choice::Count(2)), "[2, 3]");
        assert_eq!(text(Choice::List(vec![7, 2])), "[7, 2]");
        assert_eq!(text(Choice::Count(0)), "no core was asked for");
        assert_eq!(text(Choice::List(vec![])), "no core was asked for");
        assert_eq!(
            text(Choice::Count(4)),
            "4 cores wanted, but this process may use 3 CPUs"
        );
        assert_eq!(
            text(Choice::List(vec![2, 4])),
            "CPU 4 is not in this process's affinity mask [2, 3, 7]"
        );
        assert_eq!(text(Choice::List(vec![2, 2])), "CPU 2 is named twice");
    }
}
