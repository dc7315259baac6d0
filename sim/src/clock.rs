//! The clock of a host: its origin, and how fast it runs.

use reactor::time::Instant;

/// Nanoseconds of a host's clock as a function of the world's.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Clock {
    pub(crate) origin_ns: u64,
    /// How many of its nanoseconds pass in [`Clock::PER`] of the world's; at least 1.
    pub(crate) rate: u32,
}

impl Clock {
    /// The rate of a clock that is right.
    pub(crate) const PER: u32 = 1_000;

    /// What it reads at this time of the world.
    #[inline]
    pub(crate) fn read(self, time: u64) -> Instant {
        let passed_ns = if self.rate == Clock::PER { time } else { scale(time, self.rate, Clock::PER) };
        Instant::from_ns(passed_ns.saturating_add(self.origin_ns))
    }

    /// How much of the world's time is surely enough for this much of its own.
    #[inline]
    pub(crate) fn outlast(self, ns: u64) -> u64 {
        if self.rate == Clock::PER || ns == u64::MAX {
            return ns;
        }
        scale(ns, Clock::PER, self.rate).saturating_add(1)
    }
}

/// `ns * numerator / denominator`, rounded down.
fn scale(ns: u64, numerator: u32, denominator: u32) -> u64 {
    let product = u128::from(ns) * u128::from(numerator) / u128::from(denominator);
    u64::try_from(product).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_on_a_clock_of_any_rate_is_never_too_short() {
        for rate in [1, 990, 999, 1_000, 1_001, 1_010, 3_000] {
            let clock = Clock { origin_ns: 7, rate };
            for began in [0, 1, 333, 1_000_003, 1 << 50] {
                for ns in [0, 1, 2, 999, 1_000, 1_001, 123_456_789, 3_600_000_000_000] {
                    let ended = began + clock.outlast(ns);
                    let passed = clock.read(ended).saturating_ns_since(clock.read(began));
                    assert!(passed >= ns, "{rate} {began} {ns}: {passed}");
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_right_reads_what_the_world_does() {
        let clock = Clock { origin_ns: 5, rate: Clock::PER };
        assert_eq!(clock.read(u64::MAX - 1).as_ns(), u64::MAX);
        assert_eq!(clock.read(10).as_ns(), 15);
    }
}
