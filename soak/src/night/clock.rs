//! Real time: how long something took, and when it was.

use reactor::sys::{Syscalls, System};
use reactor::time::Instant;

/// Time since a start, read through the seam like everything else.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Elapsed {
    begin: Instant,
}

impl Elapsed {
    /// Starts counting.
    pub(crate) fn start() -> Elapsed {
        Elapsed { begin: System::new().clock_gettime() }
    }

    /// Milliseconds since the start.
    pub(crate) fn ms(self) -> u64 {
        System::new().clock_gettime().saturating_ns_since(self.begin) / 1_000_000
    }

    /// Whole seconds since the start.
    pub(crate) fn seconds(self) -> u64 {
        self.ms() / 1000
    }
}

/// Seconds since 1970, for logs only: nothing is decided by it. 0 for a clock that is set before that.
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "people compare a night's log with other logs of the machine by the time of day"
)]
pub(crate) fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A span as `1:02:03`.
pub(crate) fn span(seconds: u64) -> String {
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
