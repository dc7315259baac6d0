//! What timers owe, kept the simple way: an ordered map of deadlines.

use std::collections::{BTreeMap, VecDeque};

use reactor::time::Instant;
use reactor::timer::TimerToken;

use crate::workload::{Breach, TurnFacts};

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Armed,
    Fired,
    Cancelled,
}

#[derive(Copy, Clone, Debug)]
struct Entry {
    timer: TimerToken,
    deadline: Instant,
    /// The order of arming; a move counts as arming.
    order: u64,
    /// The turn's clock when it was armed.
    armed_at: Instant,
    state: State,
}

/// Under load, dead timers that are remembered: so many that one that is touched again is still known.
const REMEMBERED_TIMERS: usize = 4096;

/// Every timer that the workload armed, by number.
#[derive(Debug)]
pub struct Model {
    entries: BTreeMap<u64, Entry>,
    next_number: u64,
    /// Under load: the dead ones that are remembered, in the order in which they ended.
    dead: Option<VecDeque<u64>>,
    /// Those that are armed, by (deadline, order).
    armed: BTreeMap<(Instant, u64), u64>,
    next_order: u64,
    tick_ns: u64,
    fired: u64,
    cancelled: u64,
    breach: Option<Breach>,
}

impl Model {
    /// An empty model of a wheel with this tick.
    pub fn new(tick_ns: u64) -> Model {
        Model {
            entries: BTreeMap::new(),
            next_number: 0,
            dead: None,
            armed: BTreeMap::new(),
            next_order: 0,
            tick_ns,
            fired: 0,
            cancelled: 0,
            breach: None,
        }
    }

    /// From now on forgets timers that ended long ago.
    pub fn forget_the_dead(&mut self) {
        self.dead = Some(VecDeque::new());
    }

    /// The number of the timer that is armed next.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// A timer that is remembered.
    fn entry(&self, number: u64) -> Option<Entry> {
        self.entries.get(&number).copied()
    }

    fn set(&mut self, number: u64, entry: Entry) {
        self.entries.insert(number, entry);
    }

    /// A timer has fired or was cancelled.
    fn end(&mut self, number: u64, entry: Entry, state: State) {
        self.set(number, Entry { state, ..entry });
        let Some(dead) = &mut self.dead else { return };
        dead.push_back(number);
        if dead.len() > REMEMBERED_TIMERS
            && let Some(number) = dead.pop_front()
        {
            self.entries.remove(&number);
        }
    }

    /// The first breach.
    pub fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    /// Timers that fired, rightly.
    pub fn fired_count(&self) -> u64 {
        self.fired
    }

    /// Timers that are armed.
    pub fn pending(&self) -> usize {
        self.armed.len()
    }

    /// Timers that were armed, fired and cancelled.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.next_number(), self.fired, self.cancelled)
    }

    fn violated(&mut self, details: String) {
        self.breach.get_or_insert(Breach { invariant: "timer-contract", details });
    }

    /// A timer was armed.
    pub fn armed(&mut self, timer: TimerToken, deadline: Instant, now: Instant) {
        let (number, order) = (self.next_number(), self.next_order);
        self.next_order += 1;
        self.next_number += 1;
        self.set(number, Entry { timer, deadline, order, armed_at: now, state: State::Armed });
        self.armed.insert((deadline, order), number);
    }

    /// A cancel answered `was_armed`.
    pub fn cancelled(&mut self, number: u64, was_armed: bool) {
        let Some(entry) = self.entry(number) else { return };
        if (entry.state == State::Armed) != was_armed {
            self.violated(format!(
                "cancelling timer {number}, which is {:?}, answered {was_armed}",
                entry.state
            ));
        }
        if entry.state == State::Armed {
            self.armed.remove(&(entry.deadline, entry.order));
            self.end(number, entry, State::Cancelled);
            self.cancelled += 1;
        }
    }

    /// A move to `deadline` answered `was_armed`.
    pub fn moved(&mut self, number: u64, deadline: Instant, now: Instant, was_armed: bool) {
        let Some(entry) = self.entry(number) else { return };
        if (entry.state == State::Armed) != was_armed {
            self.violated(format!("moving timer {number}, which is {:?}, answered {was_armed}", entry.state));
        }
        if entry.state == State::Armed {
            self.armed.remove(&(entry.deadline, entry.order));
            let order = self.next_order;
            self.next_order += 1;
            self.set(number, Entry { deadline, order, armed_at: now, ..entry });
            self.armed.insert((deadline, order), number);
        }
    }

    /// A timer fired. Answers its deadline if it had one.
    pub fn fired(&mut self, number: u64, timer: TimerToken, now: Instant) -> Option<Instant> {
        let Some(entry) = self.entry(number) else {
            self.violated(format!("timer {number} fired, which was never armed or ended long ago"));
            return None;
        };
        if entry.state != State::Armed {
            self.violated(format!("timer {number} fired, which is {:?}", entry.state));
            return None;
        }
        if entry.timer != timer {
            self.violated(format!("timer {number} fired as {timer:?}, and was armed as {:?}", entry.timer));
        }
        if entry.deadline > now {
            let early_ns = entry.deadline.saturating_ns_since(now);
            self.violated(format!("timer {number} fired {early_ns} ns before its deadline"));
        }
        // One with an earlier deadline may only come behind if this one had already been collected when it was armed.
        let key = (entry.deadline, entry.order);
        let mut earlier = self.armed.range(..key).filter_map(|(_, &other)| Some((other, self.entry(other)?)));
        if let Some((other, overtaken)) = earlier.find(|(_, other)| other.armed_at < entry.deadline) {
            let before_ns = entry.deadline.saturating_ns_since(overtaken.deadline);
            self.violated(format!(
                "timer {number} fired before timer {other}, which was due {before_ns} ns earlier"
            ));
        }
        self.armed.remove(&key);
        self.end(number, entry, State::Fired);
        self.fired += 1;
        Some(entry.deadline)
    }

    /// When a timer is due: its deadline, rounded up to a whole tick.
    fn boundary_of(&self, deadline: Instant) -> Instant {
        Instant::from_ns(deadline.as_ns().checked_next_multiple_of(self.tick_ns).unwrap_or(u64::MAX))
    }

    fn first_entry(&self) -> Option<(u64, Entry)> {
        let (_, &number) = self.armed.first_key_value()?;
        let entry = self.entry(number)?;
        (entry.deadline != Instant::FAR_FUTURE).then_some((number, entry))
    }

    /// The armed timer with the first deadline.
    pub fn first(&self) -> Option<(u64, TimerToken)> {
        self.first_entry().map(|(number, entry)| (number, entry.timer))
    }

    /// Whether any timer has yet to fire.
    pub fn awaits_any(&self) -> bool {
        self.first_entry().is_some()
    }

    /// The timer that was armed `back` before the next, dead or not.
    pub fn back(&self, back: usize) -> Option<(u64, TimerToken)> {
        let number = self.next_number().checked_sub(back as u64)?;
        Some((number, self.entry(number)?.timer))
    }

    /// Its deadline.
    pub fn deadline_of(&self, back: usize) -> Option<Instant> {
        let (number, _) = self.back(back)?;
        Some(self.entry(number)?.deadline)
    }

    /// The token of an armed timer.
    pub fn token_of(&self, number: u64) -> Option<TimerToken> {
        let entry = self.entry(number)?;
        (entry.state == State::Armed).then_some(entry.timer)
    }

    /// The first deadline that is still owed, in words.
    pub fn describe_first(&self) -> String {
        match self.first_entry() {
            Some((number, entry)) => format!("timer {number} is due at {:?}", entry.deadline),
            None => "no timer is due".to_owned(),
        }
    }

    /// At the end of a turn, whatever was due must have fired; a loop that sleeps must wake up in time.
    pub fn after_turn(&mut self, facts: TurnFacts) {
        let Some((number, entry)) = self.first_entry() else { return };
        let TurnFacts { now, timer_budget_ended, asleep, wait_rounding_ns, tick_ns } = facts;
        debug_assert_eq!(tick_ns, self.tick_ns);
        let due = self.boundary_of(entry.deadline);
        match asleep {
            None if due <= now && entry.armed_at < now && !timer_budget_ended => {
                let late_ns = now.saturating_ns_since(entry.deadline);
                self.violated(format!(
                    "timer {number} was due {late_ns} ns ago, and the turn ended without it"
                ));
            }
            None => {}
            Some(None) => {
                let details = format!("the loop sleeps without a timeout, and {}", self.describe_first());
                self.violated(details);
            }
            Some(Some(timeout_ns)) => {
                let ends = now.saturating_add_ns(timeout_ns);
                let latest = due.max(now).saturating_add_ns(wait_rounding_ns);
                if ends > latest {
                    let over_ns = ends.saturating_ns_since(entry.deadline);
                    self.violated(format!(
                        "the loop sleeps for {timeout_ns} ns, {over_ns} ns beyond the deadline of timer {number}"
                    ));
                }
            }
        }
    }
}
