//! Backpressure: watermarks on the output queue, and the reasons for which reading is paused.

use crate::config::Config;
use crate::handler::Pressure;

bitflags::bitflags! {
    /// Why reading from a connection is paused. It is read again when no reason is left; until then its end, or a reset, is
    /// not told either, since both lie behind bytes that have not been read.
    #[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
    pub struct PauseReasons: u8 {
        /// The application asked for it.
        const APPLICATION = 0x01;
        /// The application asked for it on behalf of another connection that is under pressure.
        const UPSTREAM = 0x02;
        /// The application limits the rate.
        const RATE = 0x04;
        /// An accepted connection's own output queue is above its high watermark; the loop's own reason.
        const PRESSURE = 0x40;
        /// `Config::pending_bytes_max` unconsumed bytes are kept; the loop's own reason.
        const PENDING_FULL = 0x80;
    }
}

impl PauseReasons {
    /// The reasons that belong to the application; the others are the loop's and cannot be set or lifted by hand.
    pub const APPLICATION_OWNED: PauseReasons =
        PauseReasons::APPLICATION.union(PauseReasons::UPSTREAM).union(PauseReasons::RATE);
}

/// The state of one connection's output queue against its watermarks, and what the handler was last told of it.
///
/// High is strictly above `queue_bytes_high`; low is at or below `queue_bytes_low`, so a low mark of zero is reachable
/// (bug-catalogue B36). The handler hears of a change later, never from inside a write (B33), and only if it still holds
/// then: `High` and `Low` alternate.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Watermark {
    above: bool,
    told_above: bool,
}

impl Watermark {
    /// Takes note of the queue's length. Returns whether the state changed.
    #[inline]
    pub fn note(&mut self, queued_bytes: usize, config: &Config) -> bool {
        let before = self.above;
        if queued_bytes > config.queue_bytes_high {
            self.above = true;
        } else if queued_bytes <= config.queue_bytes_low {
            self.above = false;
        }
        before != self.above
    }

    /// Whether the queue rose above the high mark and has not yet come down to the low one.
    pub fn is_above(self) -> bool {
        self.above
    }

    /// Whether the handler has news to hear.
    pub fn has_news(self) -> bool {
        self.above != self.told_above
    }

    /// What to tell the handler now, if anything.
    #[inline]
    pub fn take_news(&mut self) -> Option<Pressure> {
        if !self.has_news() {
            return None;
        }
        self.told_above = self.above;
        Some(if self.above { Pressure::High } else { Pressure::Low })
    }
}

#[cfg(test)]
mod tests {
    use super::Watermark;
    use crate::config::Config;
    use crate::handler::Pressure;

    #[test]
    fn a_low_mark_of_zero_is_reached_by_an_empty_queue() {
        let config = Config { queue_bytes_low: 0, queue_bytes_high: 0, ..Config::default() };
        let mut mark = Watermark::default();
        assert!(!mark.note(0, &config));
        assert!(mark.note(1, &config));
        assert_eq!(mark.take_news(), Some(Pressure::High));
        assert!(mark.note(0, &config));
        assert_eq!(mark.take_news(), Some(Pressure::Low));
    }

    #[test]
    fn a_queue_exactly_at_the_high_mark_is_not_above_it() {
        let config = Config { queue_bytes_low: 10, queue_bytes_high: 20, ..Config::default() };
        let mut mark = Watermark::default();
        assert!(!mark.note(20, &config));
        assert!(mark.note(21, &config));
        assert!(!mark.note(11, &config), "between the marks nothing changes");
        assert!(mark.note(10, &config));
    }

    #[test]
    fn a_change_that_is_over_before_the_handler_hears_of_it_is_no_news() {
        let config = Config { queue_bytes_low: 10, queue_bytes_high: 20, ..Config::default() };
        let mut mark = Watermark::default();
        mark.note(30, &config);
        mark.note(0, &config);
        assert_eq!(mark.take_news(), None);
    }
}
