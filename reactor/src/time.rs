//! Time as the loop sees it: nanoseconds of a monotonic clock, as one closed type of ours.

use std::fmt;
use std::time::Duration;

/// A point of the monotonic clock, in nanoseconds since an origin that the kernel chooses.
///
/// It is a plain number, so a simulated clock can start anywhere - also just before the end of its range - and a
/// recorded time means the same on every system. Arithmetic saturates: a deadline too far to express is
/// [`Instant::FAR_FUTURE`] and simply never comes (a wrapped one would come at once; bug-catalogue B29, B59).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The end of the clock's range, about 584 years after its origin.
    pub const FAR_FUTURE: Instant = Instant(u64::MAX);

    /// The instant `ns` nanoseconds after the clock's origin.
    pub const fn from_ns(ns: u64) -> Instant {
        Instant(ns)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// This instant plus `ns` nanoseconds; [`Instant::FAR_FUTURE`] where that cannot be expressed.
    #[must_use]
    pub const fn saturating_add_ns(self, ns: u64) -> Instant {
        Instant(self.0.saturating_add(ns))
    }

    /// Nanoseconds from `earlier` to this instant; zero when `earlier` is later.
    pub const fn saturating_ns_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// The nanoseconds of a duration; `u64::MAX`, about 584 years, where there are more.
pub const fn duration_ns(duration: Duration) -> u64 {
    let ns = duration.as_nanos();
    if ns > u64::MAX as u128 { u64::MAX } else { ns as u64 }
}
