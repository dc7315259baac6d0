//! What the machine allows, and what it has given: descriptors and memory.

use reactor::sys::{Syscalls, System};
use reactor::time::Instant;

use crate::Failure;

/// Descriptors beside the connections: standard streams, and what a loop holds for itself.
const DESCRIPTORS_BESIDE: u64 = 16;

/// Raises the limit of open files as far as `connections` need.
pub(crate) fn allow_connections(sys: &mut System, connections: u64) -> Result<(), Failure> {
    let wanted = connections + DESCRIPTORS_BESIDE;
    let limit = sys
        .raise_descriptor_limit(wanted)
        .map_err(|error| Failure::Machine(format!("the limit of open files cannot be read: {error}")))?;
    if limit < wanted {
        return Err(Failure::Machine(format!(
            "{connections} connections need {wanted} open files, and this process may have {limit}; raise the hard limit \
             (ulimit -Hn) or ask for fewer"
        )));
    }
    Ok(())
}

/// Resident memory of this process in bytes, where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Real time since a start, read through the seam like everything else.
pub(crate) struct Stopwatch {
    begin: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch { begin: System::new().clock_gettime() }
    }

    pub(crate) fn seconds(&self) -> u64 {
        System::new().clock_gettime().saturating_ns_since(self.begin) / 1_000_000_000
    }
}
