//! Repeating timers: where the next deadline lies, as a pure function of the previous one.

use crate::time::Instant;

/// What becomes of the ticks of an [`Interval`] whose time passed before the loop could serve them.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum MissedTicks {
    /// Every missed tick fires, one per turn, until the interval has caught up. Counts stay right.
    Burst,
    /// The missed ticks are dropped, and the next one comes a whole period from now: ticks are never closer together
    /// than the period, and the phase moves.
    Delay,
    /// The missed ticks are dropped, and the next one comes at the first multiple of the period still ahead: the phase
    /// stays.
    Skip,
}

/// A period, and what to do when ticks are missed.
///
/// The next deadline is counted from the previous deadline, not from the time at which its callback ran or ended, so
/// lateness never adds up (bug-catalogue B85).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Interval {
    period_ns: u64,
    missed: MissedTicks,
}

impl Interval {
    /// An interval of `period_ns` nanoseconds, 1 to `u64::MAX`.
    ///
    /// # Panics
    /// When `period_ns` is zero: such an interval would be due for ever.
    pub const fn new(period_ns: u64, missed: MissedTicks) -> Interval {
        assert!(period_ns > 0, "the period of an interval must be at least one nanosecond");
        Interval { period_ns, missed }
    }

    /// The period, in nanoseconds.
    pub const fn period_ns(self) -> u64 {
        self.period_ns
    }

    /// What becomes of missed ticks.
    pub const fn missed(self) -> MissedTicks {
        self.missed
    }

    /// The deadline after `deadline`, when the tick of `deadline` is served at `now`.
    ///
    /// One period after `deadline` as long as that is still ahead of `now`. When it is not, a tick has been missed:
    /// [`MissedTicks::Burst`] still answers one period after `deadline`, the other two an instant after `now`.
    /// [`Instant::FAR_FUTURE`] where the sum cannot be expressed.
    #[must_use]
    pub const fn next(self, deadline: Instant, now: Instant) -> Instant {
        let following = deadline.saturating_add_ns(self.period_ns);
        if following.as_ns() > now.as_ns() {
            return following;
        }
        match self.missed {
            MissedTicks::Burst => following,
            MissedTicks::Delay => now.saturating_add_ns(self.period_ns),
            MissedTicks::Skip => {
                let into_period_ns = now.saturating_ns_since(deadline) % self.period_ns;
                now.saturating_add_ns(self.period_ns - into_period_ns)
            }
        }
    }
}
