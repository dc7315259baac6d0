//! When each call of a recorded loop was made, as far as the clock that it read says so.
//!
//! Between two readings every call is taken to last equally long, as short as the closest two readings demand.

use crate::recording::{Entry, LoopLog};
use crate::trace::{CallKind, Outcome};

/// A call takes no longer than this, in nanoseconds.
const CALL_NS_MAX: u64 = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Timing {
    /// How long a call takes.
    pub(crate) call_ns: u64,
    /// When the loop began: one call before the first.
    pub(crate) origin_ns: u64,
    /// When each call was made, by its number.
    at_ns: Vec<u64>,
}

impl Timing {
    /// `None` for a log without a reading of the clock.
    pub(crate) fn of(log: &LoopLog) -> Option<Timing> {
        let mut at_ns: Vec<u64> = Vec::new();
        let mut readings: Vec<usize> = Vec::new();
        let mut call_ns = CALL_NS_MAX;
        for entry in log.entries() {
            let Entry::Call(call) = entry else { continue };
            let mut time_ns = 0;
            if let (CallKind::ClockGettime, Outcome::Value(now_ns)) = (call.kind, call.outcome) {
                if let Some(&last) = readings.last() {
                    let calls = (at_ns.len() - last) as u64;
                    call_ns = call_ns.min(now_ns.saturating_sub(at_ns[last]) / calls);
                }
                readings.push(at_ns.len());
                time_ns = now_ns;
            }
            at_ns.push(time_ns);
        }
        let call_ns = call_ns.max(1);
        let &first = readings.first()?;
        let before_ns = call_ns * (first as u64 + 1);
        let mut now_ns = at_ns[first].saturating_sub(before_ns);
        let origin_ns = now_ns;
        let mut next = readings.iter().peekable();
        for (place, time_ns) in at_ns.iter_mut().enumerate() {
            now_ns = now_ns.saturating_add(call_ns);
            if next.next_if_eq(&&place).is_some() {
                now_ns = now_ns.max(*time_ns);
            }
            *time_ns = now_ns;
        }
        Some(Timing { call_ns, origin_ns, at_ns })
    }

    /// When the call of this number was made, counted from 0; the last one's time after the end.
    pub(crate) fn at(&self, call: usize) -> u64 {
        self.at_ns.get(call).or(self.at_ns.last()).copied().unwrap_or(self.origin_ns)
    }

    /// The latest time at which something happens before this call and not before the one ahead of it. Two ends of one stream in one
    /// place arrive one nanosecond apart, which is left for them.
    pub(crate) fn before(&self, call: usize) -> u64 {
        self.at(call) - self.call_ns.min(4) / 2
    }
}
