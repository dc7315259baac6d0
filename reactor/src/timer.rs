//! Timers: a hierarchical wheel with an exact contract.
//!
//! # What a timer owes
//! - It fires exactly once, unless it is cancelled; after a cancel it does not fire, even if it was already due and only
//!   waited for its turn (bug-catalogue B17, B31).
//! - It never fires before its deadline. A deadline is rounded **up** to a whole tick, so timers of one tick share one
//!   wake-up; a timer is due at the first [`TimerWheel::collect`] at or after that. `deadline == now` on a tick is due
//!   (B57).
//! - A deadline that has already passed when the timer is armed waits for no tick: the timer is due at the next collect,
//!   whether or not the clock moves until then (B58, B84). That collect then hands out *everything* whose deadline has
//!   passed, in the tick under way too, so that nobody is overtaken. It looks at each timer of that tick to do so.
//! - Timers fire in the order of (deadline in nanoseconds, order of arming). Re-arming counts as arming. A timer may
//!   only be behind one with a later deadline if it was armed after that one had been collected.
//! - Timers armed while due ones are being popped wait for the next collect, even when they are due at once: a turn ends
//!   (B41).
//! - [`Instant::FAR_FUTURE`] is no time and never comes (B82). Every other deadline does, up to the end of the clock,
//!   which counts as the boundary of the last tick.
//!
//! # How it is built
//! Six levels of 64 slots. A slot of level 0 is one tick, a slot of each further level is as long as the whole level
//! below it. A timer goes to the level of the highest six-bit group in which its tick differs from the cursor, the next
//! tick to be served: slots and cursor are both absolute, so nothing depends on when or for how long a timer was armed
//! (B39). When the cursor enters a slot of a higher level, the slot's timers are filed again, further down. What lies
//! beyond the top level, 64^6 ticks, waits in a list of its own and is never clamped into the top level (B15, B83).
//!
//! A bit per slot says whether it is occupied, so empty time costs nothing to cross and the next wake-up is found in one
//! step per level. A timer is 32 bytes in arrays that are linked by index; nothing is allocated while the number of
//! timers stays below what it has been.
//!
//! **Re-arming to a later deadline rewrites the deadline and leaves the timer where it is.** When its old slot comes up, it
//! is found to be early and is filed again. The idle timeout of a busy connection, pushed back by every message, so
//! touches one cache line per message, and is moved once per timeout. The price is a wake-up, at most one per re-arm and
//! usually one per timeout, at which nothing fires. The order of arming is kept in the timer, not in the lists.

mod interval;
mod slab;

use std::fmt;

use crate::time::Instant;

pub use self::interval::{Interval, MissedTicks};
use self::slab::{Armed, LISTS, SEQUENCE_FREE, Slab};

const LEVELS: u32 = 6;
/// Slots of a level; as many as a word has bits.
const SLOTS: u32 = 64;
const SLOT_BITS: u32 = SLOTS.trailing_zeros();
/// Ticks that the levels distinguish, as a number of bits: 64^6 ticks, an epoch.
const EPOCH_BITS: u32 = LEVELS * SLOT_BITS;

/// The list of timers in a later epoch than the cursor.
const FAR: u32 = LEVELS * SLOTS;
/// The list of timers that were past their deadline when they were armed.
const OVERDUE: u32 = FAR + 1;
/// The list of timers for [`Instant::FAR_FUTURE`].
const NEVER: u32 = FAR + 2;
const _: () = assert!(NEVER + 1 == LISTS);

/// A due queue that is empty and larger than this gives its memory back. 1 MiB.
const DUE_RECORDS_KEPT: usize = 65_536;

/// Names one armed timer: a slot, which is reused, and a generation, which is not. No two timers of a wheel ever have
/// the same token.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerToken(u64);

impl TimerToken {
    const fn new(slot: u32, generation: u32) -> TimerToken {
        TimerToken((slot as u64) << 32 | generation as u64)
    }

    /// The token as one word, to be carried somewhere.
    pub const fn as_word(self) -> u64 {
        self.0
    }

    /// The token that [`TimerToken::as_word`] gave. A word from elsewhere names a dead timer, or by chance a living one;
    /// it does no other harm.
    pub const fn from_word(word: u64) -> TimerToken {
        TimerToken(word)
    }

    const fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }

    const fn generation(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for TimerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timer {}v{}", self.slot(), self.generation())
    }
}

/// A timer that has fired. Its token is dead.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// The token it had.
    pub timer: TimerToken,
    /// The deadline it was armed for, not rounded.
    pub deadline: Instant,
    /// The kind given when it was armed.
    pub kind: u8,
    /// The word given when it was armed.
    pub word: u64,
}

/// What became of the timers of a wheel. At all times `armed == fired + cancelled + len`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct TimerCounters {
    /// Timers armed.
    pub armed: u64,
    /// Timers popped.
    pub fired: u64,
    /// Timers cancelled.
    pub cancelled: u64,
    /// Times that a timer was armed again, under its token.
    pub rearmed: u64,
}

/// A timer in the due queue: what decides the order, and where it is. It stands for its timer only while that still has this
/// sequence number, which no other timer has; a cancelled or re-armed timer leaves its record behind.
#[derive(Copy, Clone, Debug)]
struct DueRecord {
    deadline_ns: u64,
    sequence: u32,
    index: u32,
}

/// The timers of one loop. See the [module](self) for the contract.
///
/// Arming, re-arming and cancelling take constant time. A timer is moved at most six times before it fires, and once
/// more for every time that its slot comes up after it was re-armed.
pub struct TimerWheel {
    /// Length of a tick, as a power of two of nanoseconds.
    tick_shift: u32,
    /// The clock at the last collect.
    now: Instant,
    /// The next tick to be served. Every timer in the levels has this tick or a later one.
    cursor: u64,
    /// One bit per slot, set while the slot's list is not empty.
    occupied: [u64; LEVELS as usize],
    /// No timer of the far list is in an earlier epoch. Cancelled timers may have left it too low.
    far_epoch_min: u64,
    slab: Slab,
    /// Due timers in the order of popping, from `due_head` on.
    due: Vec<DueRecord>,
    due_head: usize,
    /// Records from `due_head` on that still stand for a timer.
    due_live: usize,
    /// The next position in the order of arming.
    sequence: u32,
    counters: TimerCounters,
}

impl TimerWheel {
    /// An empty wheel.
    ///
    /// `tick_ns`: length of a tick in nanoseconds, any power of two. `now`: the present; it may be anywhere in the
    /// clock's range.
    ///
    /// # Panics
    /// When `tick_ns` is no power of two.
    pub fn new(tick_ns: u64, now: Instant) -> TimerWheel {
        TimerWheel::with_counters_at(tick_ns, now, 0, 0)
    }

    /// As [`TimerWheel::new`], with slots beginning at `generation`, and the order of arming counted from `sequence`: a
    /// test begins near their ends, which a server takes days to reach.
    ///
    /// # Panics
    /// When `tick_ns` is no power of two.
    pub fn with_counters_at(tick_ns: u64, now: Instant, generation: u32, sequence: u32) -> TimerWheel {
        assert!(tick_ns.is_power_of_two(), "a tick of {tick_ns} ns is no power of two");
        let mut wheel = TimerWheel {
            tick_shift: tick_ns.trailing_zeros(),
            now,
            cursor: 0,
            occupied: [0; LEVELS as usize],
            far_epoch_min: u64::MAX,
            slab: Slab::new(generation),
            due: Vec::new(),
            due_head: 0,
            due_live: 0,
            sequence,
            counters: TimerCounters::default(),
        };
        wheel.cursor = wheel.last_tick(now).saturating_add(1);
        wheel
    }

    /// Arms a timer for `deadline`. `kind` and `word` are the caller's, and come back in [`Due`].
    ///
    /// # Panics
    /// When about 2^28 timers are armed.
    pub fn arm(&mut self, deadline: Instant, kind: u8, word: u64) -> TimerToken {
        let sequence = self.next_sequence();
        let index = self.slab.insert(deadline.as_ns(), sequence, kind, word);
        self.counters.armed += 1;
        self.file_new(index, deadline);
        TimerToken::new(index - LISTS, self.slab.armed(index).generation)
    }

    /// Gives a timer another deadline; it keeps its token, kind and word, and goes behind timers with an equal deadline.
    /// This also works for a timer that is due and has not been popped. Returns whether the timer was alive.
    #[inline]
    pub fn rearm(&mut self, timer: TimerToken, deadline: Instant) -> bool {
        let Some(index) = self.slab.find(timer.slot(), timer.generation()) else { return false };
        let armed = self.slab.armed_mut(index);
        // Still ahead, and put off: the timer may stay in its slot, which comes up before the new deadline. Whatever
        // is due or overdue has a deadline at or before `now`, and is none of these.
        let put_off = armed.deadline_ns > self.now.as_ns() && deadline.as_ns() >= armed.deadline_ns;
        if !put_off || deadline == Instant::FAR_FUTURE || self.sequence == SEQUENCE_FREE {
            self.rearm_elsewhere(index, deadline);
            return true;
        }
        armed.deadline_ns = deadline.as_ns();
        armed.sequence = self.sequence;
        self.sequence += 1;
        self.counters.rearmed += 1;
        true
    }

    // Apart, so that the usual case is short: with many timers it is the number of instructions between two cache misses
    // that decides how many of them overlap.
    #[inline(never)]
    fn rearm_elsewhere(&mut self, index: u32, deadline: Instant) {
        self.take_out(index);
        let sequence = self.next_sequence();
        let armed = self.slab.armed_mut(index);
        armed.deadline_ns = deadline.as_ns();
        armed.sequence = sequence;
        self.counters.rearmed += 1;
        self.file_new(index, deadline);
    }

    /// Ends a timer. It does not fire any more, even if it is already due. Returns whether it was alive.
    pub fn cancel(&mut self, timer: TimerToken) -> bool {
        let Some(index) = self.slab.find(timer.slot(), timer.generation()) else { return false };
        self.take_out(index);
        self.slab.release(index);
        self.counters.cancelled += 1;
        true
    }

    /// Whether the timer is alive: armed, or due and not popped.
    pub fn is_armed(&self, timer: TimerToken) -> bool {
        self.slab.find(timer.slot(), timer.generation()).is_some()
    }

    /// When [`TimerWheel::collect`] next has something to do; `None` when nothing armed can ever fire.
    ///
    /// At or before the present, and then it is the time of the last collect, when timers are due or overdue. Otherwise
    /// after the time of the last collect, and never after the first timer is due. It can be earlier than that: at the
    /// start of an occupied slot of a higher level, whose timers then move down - at most one such wake-up per level and
    /// occupied slot - and where a timer was before it was re-armed or cancelled.
    pub fn next_wakeup(&self) -> Option<Instant> {
        if self.due_live > 0 || !self.slab.is_empty(OVERDUE) {
            return Some(self.now);
        }
        if let Some((level, slot)) = self.first_occupied() {
            return Some(self.tick_start(self.slot_start(level, slot)));
        }
        if self.slab.is_empty(FAR) {
            return None;
        }
        Some(self.tick_start(self.far_epoch_min << EPOCH_BITS))
    }

    /// Moves every timer that is due at `now` to the due queue, behind those that are still there, in the order of
    /// (deadline, order of arming). An earlier `now` than the last counts as the last: time stands still rather than
    /// going back (B59).
    pub fn collect(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.forget_popped();
        let first_new = self.due.len();

        let last_tick = self.last_tick(self.now);
        // Deadlines up to here are due by their tick.
        let horizon_ns = match self.now {
            Instant::FAR_FUTURE => u64::MAX - 1,
            _ => last_tick << self.tick_shift,
        };
        while let Some((level, slot)) = self.first_occupied() {
            let start = self.slot_start(level, slot);
            if start > last_tick {
                break;
            }
            self.cursor = start;
            self.refile(self.list(level, slot), horizon_ns);
            debug_assert!(
                self.occupied[level as usize] >> slot & 1 == 0,
                "slot {slot} of level {level} was served and is not empty: collect would not end"
            );
        }
        self.enter(last_tick.saturating_add(1), horizon_ns);

        if !self.slab.is_empty(OVERDUE) {
            let now_ns = self.now.as_ns().min(u64::MAX - 1);
            self.refile(OVERDUE, now_ns);
            // The tick under way: its timers are not due by themselves, but must not be overtaken.
            self.refile(self.list(0, self.cursor as u32 % SLOTS), now_ns);
        }
        self.due_live += self.due.len() - first_new;
        self.due[first_new..].sort_unstable_by_key(|record| (record.deadline_ns, record.sequence));
    }

    /// Takes the next due timer, and ends it.
    pub fn pop_due(&mut self) -> Option<Due> {
        while let Some(&DueRecord { deadline_ns, sequence, index }) = self.due.get(self.due_head) {
            self.due_head += 1;
            let armed = self.slab.armed(index);
            if armed.sequence != sequence {
                continue;
            }
            let due = Due {
                timer: TimerToken::new(index - LISTS, armed.generation),
                deadline: Instant::from_ns(deadline_ns),
                kind: self.slab.kind(index),
                word: self.slab.word(index),
            };
            self.slab.release(index);
            self.due_live -= 1;
            self.counters.fired += 1;
            return Some(due);
        }
        None
    }

    /// Whether [`TimerWheel::pop_due`] has a timer to give.
    pub fn has_due(&self) -> bool {
        self.due_live > 0
    }

    /// Timers that are alive: armed, or due and not popped.
    pub fn len(&self) -> usize {
        (self.counters.armed - self.counters.fired - self.counters.cancelled) as usize
    }

    /// Whether no timer is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What became of the timers so far.
    pub fn counters(&self) -> TimerCounters {
        self.counters
    }

    /// Bytes of memory that the wheel holds, used or reserved.
    pub fn bytes(&self) -> usize {
        size_of::<TimerWheel>() + self.slab.bytes() + self.due.capacity() * size_of::<DueRecord>()
    }

    /// The last tick whose boundary has come at `now`. The end of the clock is the boundary of the tick that it cuts
    /// off.
    fn last_tick(&self, now: Instant) -> u64 {
        let end = u64::from(now == Instant::FAR_FUTURE);
        (now.as_ns() >> self.tick_shift).saturating_add(end)
    }

    /// The tick of a deadline: the first whose boundary is not before it.
    fn tick_of(&self, deadline_ns: u64) -> u64 {
        let whole = deadline_ns >> self.tick_shift;
        whole + u64::from(whole << self.tick_shift != deadline_ns)
    }

    /// The boundary of a tick, or the end of the clock.
    fn tick_start(&self, tick: u64) -> Instant {
        Instant::from_ns(tick.saturating_mul(1 << self.tick_shift))
    }

    fn list(&self, level: u32, slot: u32) -> u32 {
        level * SLOTS + slot
    }

    /// The first tick of a slot that is not behind the cursor.
    fn slot_start(&self, level: u32, slot: u32) -> u64 {
        let above = (level + 1) * SLOT_BITS;
        (self.cursor >> above << above) | u64::from(slot) << (level * SLOT_BITS)
    }

    /// The occupied slot that comes up first. Every slot of a level comes up before any of the next level.
    fn first_occupied(&self) -> Option<(u32, u32)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        Some((level as u32, self.occupied[level].trailing_zeros()))
    }

    fn next_sequence(&mut self) -> u32 {
        if self.sequence == SEQUENCE_FREE {
            self.renumber();
        }
        let sequence = self.sequence;
        self.sequence += 1;
        sequence
    }

    /// Numbers the living timers from zero in their order of arming. Once in four thousand million arms; 32 bits of
    /// sequence are what fits.
    #[cold]
    fn renumber(&mut self) {
        let slab = &self.slab;
        let stands = |record: &DueRecord| slab.armed(record.index).sequence == record.sequence;
        self.due.drain(..self.due_head);
        self.due.retain(stands);
        self.due_head = 0;
        let mut order: Vec<(u32, u32)> =
            self.slab.living().map(|index| (self.slab.armed(index).sequence, index)).collect();
        order.sort_unstable();
        self.sequence = 0;
        for (_, index) in order {
            self.slab.armed_mut(index).sequence = self.sequence;
            self.sequence += 1;
        }
        for record in &mut self.due {
            record.sequence = self.slab.armed(record.index).sequence;
        }
    }

    /// Files a timer that has just been given its deadline.
    fn file_new(&mut self, index: u32, deadline: Instant) {
        if deadline == Instant::FAR_FUTURE {
            self.slab.append(NEVER, index);
        } else if deadline <= self.now {
            self.slab.append(OVERDUE, index);
        } else {
            self.file(index, deadline.as_ns());
        }
    }

    /// Files a timer by its tick, which must not be behind the cursor.
    fn file(&mut self, index: u32, deadline_ns: u64) {
        let tick = self.tick_of(deadline_ns);
        let differing = tick ^ self.cursor;
        debug_assert!(tick >= self.cursor, "tick {tick} is behind the cursor, {}", self.cursor);
        if differing >> EPOCH_BITS != 0 {
            self.far_epoch_min = self.far_epoch_min.min(tick >> EPOCH_BITS);
            self.slab.append(FAR, index);
            return;
        }
        let level = (differing | 1).ilog2() / SLOT_BITS;
        let slot = (tick >> (level * SLOT_BITS)) as u32 % SLOTS;
        self.occupied[level as usize] |= 1 << slot;
        self.slab.append(self.list(level, slot), index);
    }

    /// Takes a timer out of its list, or out of the due queue.
    fn take_out(&mut self, index: u32) {
        if self.slab.is_due(index) {
            self.due_live -= 1;
        } else if let Some(emptied) = self.slab.unlink(index) {
            self.mark_empty(emptied);
        }
    }

    fn mark_empty(&mut self, list: u32) {
        if list < FAR {
            self.occupied[(list / SLOTS) as usize] &= !(1 << (list % SLOTS));
        }
    }

    /// Empties a list: timers with deadlines up to `horizon_ns` become due, the others are filed where they now belong,
    /// which may be the same list.
    fn refile(&mut self, list: u32, horizon_ns: u64) {
        self.mark_empty(list);
        let mut index = self.slab.detach(list);
        while index != list {
            let next = self.slab.next(index);
            let &Armed { deadline_ns, sequence, .. } = self.slab.armed(index);
            if deadline_ns <= horizon_ns {
                self.due.push(DueRecord { deadline_ns, sequence, index });
                self.slab.mark_due(index);
            } else {
                self.file(index, deadline_ns);
            }
            index = next;
        }
    }

    /// Moves the cursor to `tick`; everything before it has been served. What the slots there hold moves down.
    fn enter(&mut self, tick: u64, horizon_ns: u64) {
        let epoch = tick >> EPOCH_BITS;
        let enters_epoch = epoch != self.cursor >> EPOCH_BITS;
        self.cursor = tick;
        if enters_epoch && self.far_epoch_min <= epoch {
            self.far_epoch_min = u64::MAX;
            self.refile(FAR, horizon_ns);
        }
        for level in (1..LEVELS).rev() {
            let slot = (tick >> (level * SLOT_BITS)) as u32 % SLOTS;
            if self.occupied[level as usize] >> slot & 1 != 0 {
                self.refile(self.list(level, slot), horizon_ns);
            }
        }
    }

    /// Drops the records that have been popped, once they are as many as those that have not.
    fn forget_popped(&mut self) {
        if self.due_live == 0 {
            self.due.clear();
            if self.due.capacity() > DUE_RECORDS_KEPT {
                self.due = Vec::new();
            }
            self.due_head = 0;
        } else if self.due_head * 2 >= self.due.len() {
            self.due.drain(..self.due_head);
            self.due_head = 0;
        }
    }

    /// Asserts everything that holds between two calls, in time proportional to the number of timers.
    ///
    /// # Panics
    /// When something does not hold; the message says what.
    pub fn assert_invariants(&self) {
        let mut linked = 0;
        let mut first_tick = u64::MAX;
        let mut far_epoch_first = u64::MAX;
        let mut occupied = [0_u64; LEVELS as usize];
        self.slab.assert_invariants(|list, index| {
            let deadline_ns = self.slab.armed(index).deadline_ns;
            let tick = self.tick_of(deadline_ns);
            linked += 1;
            match list {
                NEVER => assert_eq!(deadline_ns, u64::MAX, "timer {index} has a time, and waits for ever"),
                OVERDUE => assert!(deadline_ns <= self.now.as_ns(), "timer {index} is not overdue"),
                FAR => {
                    far_epoch_first = far_epoch_first.min(tick >> EPOCH_BITS);
                    first_tick = first_tick.min(tick);
                }
                _ => {
                    let (level, slot) = (list / SLOTS, list % SLOTS);
                    occupied[level as usize] |= 1 << slot;
                    first_tick = first_tick.min(tick);
                    let start = self.slot_start(level, slot);
                    assert!(
                        start >= self.cursor,
                        "timer {index} is in slot {slot} of level {level}, which the cursor has entered or passed"
                    );
                    assert!(
                        tick >= start,
                        "timer {index}: its tick {tick} comes before its slot {slot} of level {level}, {start}"
                    );
                }
            }
        });
        assert_eq!(occupied, self.occupied, "the occupied bits do not say which slots are occupied");
        assert_eq!(self.cursor, self.last_tick(self.now).saturating_add(1), "the cursor is not after now");
        assert!(
            far_epoch_first >= self.far_epoch_min,
            "a far timer is in epoch {far_epoch_first}, before the minimum {}",
            self.far_epoch_min
        );
        assert!(far_epoch_first > self.cursor >> EPOCH_BITS, "a far timer is in the present epoch");
        if first_tick != u64::MAX {
            let wakeup = self.next_wakeup().expect("armed, and nothing to wake for");
            assert!(
                wakeup <= self.tick_start(first_tick),
                "the wake-up at {wakeup:?} is after tick {first_tick}"
            );
        }

        let standing = self.due[self.due_head..]
            .iter()
            .filter(|record| self.slab.armed(record.index).sequence == record.sequence);
        assert_eq!(standing.count(), self.due_live, "due records that stand for a timer");
        let marked = self.slab.living().filter(|&index| self.slab.is_due(index)).count();
        assert_eq!(marked, self.due_live, "timers marked due");
        assert_eq!(
            linked + self.due_live,
            self.len(),
            "linked and due timers against armed - fired - cancelled"
        );

        let mut sequences: Vec<u32> =
            self.slab.living().map(|index| self.slab.armed(index).sequence).collect();
        sequences.sort_unstable();
        assert!(
            sequences.windows(2).all(|pair| pair[0] < pair[1]),
            "two timers have the same place in the order of arming"
        );
        assert!(
            sequences.last().is_none_or(|&last| last < self.sequence),
            "a timer has a place in the order of arming that has not been given out"
        );
    }
}

impl fmt::Debug for TimerWheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerWheel")
            .field("len", &self.len())
            .field("due", &self.due_live)
            .field("now", &self.now)
            .field("next_wakeup", &self.next_wakeup())
            .finish_non_exhaustive()
    }
}
