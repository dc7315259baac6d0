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
            "{connections} ends of connections, as many as may be open at once here, need {wanted} open files, and this process may \
             have {limit}; raise the hard limit (ulimit -Hn) or ask for fewer connections"
        )));
    }
    Ok(())
}

/// A number from `/proc/self/status`, where the system has that.
fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Resident memory of this process in bytes, where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    status("VmRSS:").map(|kilobytes| kilobytes * 1024)
}

/// Threads of this process, where the system tells.
pub(crate) fn threads() -> Option<u64> {
    status("Threads:")
}

/// Open descriptors of this process, where the system tells.
pub(crate) fn descriptors() -> Option<u64> {
    let list = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd")).ok()?;
    // Reading the list takes one.
    (list.count() as u64).checked_sub(1)
}

/// What says which machine a run was on: each fact with its name, where the system tells it.
pub(crate) fn facts() -> serde_json::Value {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let limit = read("/proc/self/limits").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("Max open files"))?;
        Some(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>().join(" soft, ") + " hard")
    });
    serde_json::json!({
        "system": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "kernel": read("/proc/sys/kernel/osrelease"),
        "processors": std::thread::available_parallelism().map(|count| count.get() as u64).ok(),
        "open_files": limit,
        "congestion_control": read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "local_ports": read("/proc/sys/net/ipv4/ip_local_port_range"),
        "listen_backlog_max": read("/proc/sys/net/core/somaxconn"),
    })
}

/// The time of day, in milliseconds since 1970: only said, never reckoned with.
#[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "reports say when they were made")]
pub(crate) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Real time since a start, read through the seam like everything else.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Stopwatch {
    begin: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch { begin: System::new().clock_gettime() }
    }

    /// The machine's clock.
    pub(crate) fn now_ns() -> u64 {
        System::new().clock_gettime().as_ns()
    }

    pub(crate) fn ns(&self) -> u64 {
        System::new().clock_gettime().saturating_ns_since(self.begin)
    }
}
