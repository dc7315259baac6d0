//! The timer wheel against an ordered map, driven by bytes: from a property test, a fuzzer or a stored file alike.
//!
//! The model keeps what was asked for and computes what is due from the contract of [`reactor::timer`] alone: it knows
//! no slots, no levels and no cursor. After every step everything that can be seen of the wheel is compared with it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use reactor::time::Instant;
use reactor::timer::{Due, TimerCounters, TimerToken, TimerWheel};

use crate::account::{Account, Ending as Outcome, quietly, same};
use crate::operands::Operands;

/// Steps of one run; further bytes are ignored, as the checks after each step look at every timer.
const STEPS_MAX: usize = 1000;

/// What a run did, summed up to see that it is not an empty one.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// The wheel's own counters at the end.
    pub counters: TimerCounters,
    /// Collects that made timers due.
    pub batches: u64,
    /// Wake-ups that the wheel asked for and at which nothing fired.
    pub empty_wakeups: u64,
    /// Largest number of timers alive.
    pub alive_max: usize,
}

/// Decodes `bytes` into operations and carries them out on a wheel and on the model.
///
/// # Panics
/// When they differ, or when the wheel's own invariants do not hold: with everything that was done until then, in words.
pub fn check(bytes: &[u8]) -> Seen {
    let (account, seen) = carry_out(bytes);
    account.check("timer wheel");
    seen
}

/// What the bytes do, in words.
pub fn tell(bytes: &[u8]) -> String {
    carry_out(bytes).0.to_string()
}

fn carry_out(bytes: &[u8]) -> (Account, Seen) {
    let mut run = Run::new(Operands::new(bytes));
    let ended = quietly(|| run.steps());
    (Account::new(run.story, ended), run.seen)
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Armed {
    number: usize,
    /// Its deadline had passed when it was armed.
    overdue: bool,
}

/// Where a timer is in the model: the key it is armed or due under.
type Key = (u64, u64);

struct Timer {
    token: TimerToken,
    kind: u8,
    word: u64,
    key: Key,
    alive: bool,
}

struct Run<'a> {
    input: Operands<'a>,
    wheel: TimerWheel,
    tick_ns: u64,
    now_ns: u64,
    /// By number; dead ones stay, so that dead tokens are tried too.
    timers: Vec<Timer>,
    armed: BTreeMap<Key, Armed>,
    due: VecDeque<(Key, usize)>,
    sequence: u64,
    counters: TimerCounters,
    seen: Seen,
    story: String,
}

impl<'a> Run<'a> {
    fn new(mut input: Operands<'a>) -> Run<'a> {
        let tick_ns = input.pick(&[1 << 20, 1, 2, 1 << 6, 1 << 10, 1 << 32, 1 << 62, 1 << 63]);
        let near = input.byte();
        let now_ns = match input.byte() % 8 {
            0 => near,
            1 => u64::MAX - near,
            2 => u64::MAX - near.saturating_mul(tick_ns),
            // Just before the cursor crosses into a new slot of a high level, or into a new epoch.
            level @ 3..=7 => tick_ns.saturating_mul(1 << (6 * (level - 1))).saturating_sub(near),
            _ => unreachable!(),
        };
        let counters = input.byte();
        let generation = if counters & 1 == 0 { 0 } else { u32::MAX - 2 };
        let sequence = if counters & 2 == 0 { 0 } else { u32::MAX - 20 };
        let story = format!(
            "A wheel with ticks of {tick_ns} ns, at {now_ns}, generations from {generation}, sequence from {sequence}.\n"
        );
        Run {
            input,
            wheel: TimerWheel::with_counters_at(tick_ns, Instant::from_ns(now_ns), generation, sequence),
            tick_ns,
            now_ns,
            timers: Vec::new(),
            armed: BTreeMap::new(),
            due: VecDeque::new(),
            sequence: 0,
            counters: TimerCounters::default(),
            seen: Seen::default(),
            story,
        }
    }

    fn tell(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.story, "- {line}");
    }

    fn steps(&mut self) -> Outcome {
        self.compare()?;
        for _ in 0..STEPS_MAX {
            if self.input.is_empty() {
                break;
            }
            match self.input.byte() % 16 {
                0..=3 => self.arm(),
                4 => {
                    // As many alike, as connections opened in one turn would arm.
                    let deadline_ns = self.pick_deadline();
                    for _ in 0..self.input.byte() % 8 {
                        self.arm_at(deadline_ns);
                    }
                }
                5..=7 => self.rearm()?,
                8 | 9 => self.cancel()?,
                10 | 11 => {
                    let now_ns = self.pick_now();
                    self.collect(now_ns)?;
                }
                12 => self.sleep()?,
                13 => {
                    for _ in 0..self.input.byte() % 4 {
                        self.pop()?;
                    }
                }
                14 => self.pop_with_callbacks()?,
                15 => self.dead_token()?,
                _ => unreachable!(),
            }
            self.compare()?;
        }
        self.finish()
    }

    /// Some deadline, of all the kinds that have been trouble somewhere.
    fn pick_deadline(&mut self) -> u64 {
        let (kind, value) = (self.input.byte(), self.input.byte());
        let ticks_ns = |ticks: u64| self.tick_ns.saturating_mul(ticks);
        match kind % 16 {
            0 => self.now_ns,
            1 => self.now_ns.saturating_add(value),
            2 => self.now_ns.saturating_sub(value),
            3 => 0,
            4 | 5 => self.now_ns.saturating_add(ticks_ns(value)),
            6 => (self.now_ns / self.tick_ns).saturating_mul(self.tick_ns).saturating_add(ticks_ns(value)),
            // A whole number of slots of some level away, or just beside it.
            7..=9 => {
                let span_ns = ticks_ns(1 << (6 * (value % 8)));
                nudge(self.now_ns.saturating_add(span_ns), value / 8)
            }
            // At a boundary of some level, or just beside it.
            10 | 11 => {
                let span_ns = ticks_ns(1 << (6 * (value % 8)));
                nudge(self.now_ns.checked_next_multiple_of(span_ns).unwrap_or(u64::MAX - 1), value / 8)
            }
            12 | 13 => match self.pick_timer() {
                Some(number) => self.timers[number].key.0,
                None => self.now_ns,
            },
            14 => u64::MAX - 1 - value,
            15 => u64::MAX,
            _ => unreachable!(),
        }
    }

    /// Some time that the clock goes to.
    fn pick_now(&mut self) -> u64 {
        let (kind, value) = (self.input.byte(), self.input.byte());
        let ticks_ns = |ticks: u64| self.tick_ns.saturating_mul(ticks);
        match kind % 16 {
            0 => self.now_ns,
            1 | 2 => self.now_ns.saturating_add(value),
            3..=5 => self.now_ns.saturating_add(ticks_ns(value)),
            6 => (self.now_ns / self.tick_ns).saturating_mul(self.tick_ns).saturating_add(ticks_ns(value)),
            7 | 8 => {
                let span_ns = ticks_ns(1 << (6 * (value % 7)));
                nudge(self.now_ns.saturating_add(span_ns), value / 7)
            }
            9 | 10 => {
                let span_ns = ticks_ns(1 << (6 * (value % 7)));
                nudge(self.now_ns.checked_next_multiple_of(span_ns).unwrap_or(u64::MAX), value / 7)
            }
            11..=13 => match self.armed.keys().nth(value as usize % 8) {
                Some(&(deadline_ns, _)) if deadline_ns != u64::MAX => nudge(deadline_ns, value / 8),
                _ => self.now_ns,
            },
            14 => self.now_ns.saturating_sub(value),
            15 if value >= 0xf0 => u64::MAX - (value & 3),
            15 => self.now_ns.saturating_add(1),
            _ => unreachable!(),
        }
    }

    /// Some timer, mostly a living one.
    fn pick_timer(&mut self) -> Option<usize> {
        let value = self.input.byte() as usize;
        let living = self.armed.values().map(|armed| armed.number);
        let living: Vec<usize> = living.chain(self.due.iter().map(|&(_, number)| number)).collect();
        match (value % 8, living.len(), self.timers.len()) {
            (_, _, 0) => None,
            (0, _, any) | (_, 0, any) => Some(value / 8 % any),
            (_, living_len, _) => Some(living[value / 8 % living_len]),
        }
    }

    fn arm(&mut self) {
        let deadline_ns = self.pick_deadline();
        self.arm_at(deadline_ns);
    }

    fn arm_at(&mut self, deadline_ns: u64) {
        let number = self.timers.len();
        let (kind, word) = (number as u8, (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let token = self.wheel.arm(Instant::from_ns(deadline_ns), kind, word);
        let key = self.add(number, deadline_ns);
        self.timers.push(Timer { token, kind, word, key, alive: true });
        self.counters.armed += 1;
        self.tell(format_args!("armed #{number} for {deadline_ns}: {token:?}"));
    }

    fn add(&mut self, number: usize, deadline_ns: u64) -> Key {
        let key = (deadline_ns, self.sequence);
        self.sequence += 1;
        self.armed.insert(key, Armed { number, overdue: deadline_ns <= self.now_ns });
        key
    }

    /// Takes a living timer out of the model.
    fn remove(&mut self, number: usize) {
        if self.armed.remove(&self.timers[number].key).is_none() {
            self.due.retain(|&(_, other)| other != number);
        }
    }

    fn rearm(&mut self) -> Outcome {
        let Some(number) = self.pick_timer() else { return Ok(()) };
        let deadline_ns = self.pick_deadline();
        let answer = self.wheel.rearm(self.timers[number].token, Instant::from_ns(deadline_ns));
        self.tell(format_args!("re-armed #{number} for {deadline_ns}: {answer}"));
        let alive = self.timers[number].alive;
        if alive {
            self.remove(number);
            self.timers[number].key = self.add(number, deadline_ns);
            self.counters.rearmed += 1;
        }
        same("rearm", answer, alive)
    }

    fn cancel(&mut self) -> Outcome {
        let Some(number) = self.pick_timer() else { return Ok(()) };
        let answer = self.wheel.cancel(self.timers[number].token);
        self.tell(format_args!("cancelled #{number}: {answer}"));
        let alive = self.timers[number].alive;
        if alive {
            self.remove(number);
            self.timers[number].alive = false;
            self.counters.cancelled += 1;
        }
        same("cancel", answer, alive)
    }

    /// A token that was never given out.
    fn dead_token(&mut self) -> Outcome {
        let (slot, generation) = (self.input.byte(), self.input.byte());
        let slot = if slot & 0x80 == 0 { slot } else { u64::from(u32::MAX) - (slot & 0x7f) };
        let token = TimerToken::from_word(slot << 32 | generation);
        if self.timers.iter().any(|timer| timer.token == token) {
            return Ok(());
        }
        self.tell(format_args!("tried the token {token:?}, which nobody has"));
        same("is_armed of no timer", self.wheel.is_armed(token), false)?;
        same("rearm of no timer", self.wheel.rearm(token, Instant::from_ns(self.now_ns)), false)?;
        same("cancel of no timer", self.wheel.cancel(token), false)
    }

    /// The boundary at which a deadline is due: the next multiple of a tick, or the end of the clock.
    fn boundary_ns(&self, deadline_ns: u64) -> u64 {
        deadline_ns.checked_next_multiple_of(self.tick_ns).unwrap_or(u64::MAX)
    }

    /// Whether a timer waits that was past its deadline when it was armed.
    fn any_overdue(&self) -> bool {
        self.armed.iter().any(|((deadline_ns, _), armed)| armed.overdue && *deadline_ns != u64::MAX)
    }

    fn collect(&mut self, now_ns: u64) -> Outcome {
        self.wheel.collect(Instant::from_ns(now_ns));
        self.now_ns = self.now_ns.max(now_ns);
        let now_ns = self.now_ns;
        let any_overdue = self.any_overdue();
        let due: Vec<(Key, usize)> = self
            .armed
            .iter()
            .filter(|((deadline_ns, _), _)| {
                *deadline_ns != u64::MAX
                    && (self.boundary_ns(*deadline_ns) <= now_ns || any_overdue && *deadline_ns <= now_ns)
            })
            .map(|(&key, armed)| (key, armed.number))
            .collect();
        for (key, _) in &due {
            self.armed.remove(key);
        }
        self.seen.batches += u64::from(!due.is_empty());
        self.tell(format_args!("collected at {now_ns}: {} due", due.len()));
        self.due.extend(due);
        Ok(())
    }

    /// Waits as the loop does: until the wheel asks to be called.
    fn sleep(&mut self) -> Outcome {
        let Some(wakeup) = self.wheel.next_wakeup() else { return Ok(()) };
        let due_before = self.due.len();
        self.tell(format_args!("slept until {}", wakeup.as_ns()));
        self.collect(wakeup.as_ns())?;
        if self.due.is_empty() && due_before == 0 {
            self.seen.empty_wakeups += 1;
            // Each of them moves a timer down a level, or files one again that was re-armed, or finds one cancelled.
            let TimerCounters { armed, cancelled, rearmed, .. } = self.counters;
            let bound = 7 * (armed + rearmed) + cancelled;
            if self.seen.empty_wakeups > bound {
                return Err(format!("{} wake-ups at which nothing fired", self.seen.empty_wakeups));
            }
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<Option<usize>, String> {
        let answer = self.wheel.pop_due();
        let expected = self.due.pop_front();
        let expected_due = expected.map(|((deadline_ns, _), number)| {
            let timer = &self.timers[number];
            let deadline = Instant::from_ns(deadline_ns);
            Due { timer: timer.token, deadline, kind: timer.kind, word: timer.word }
        });
        match answer {
            None => self.tell(format_args!("popped nothing")),
            Some(due) => self.tell(format_args!("popped {:?}, due {}", due.timer, due.deadline.as_ns())),
        }
        same("pop_due", answer, expected_due)?;
        let Some((key, number)) = expected else { return Ok(None) };
        // Part of the contract in its own right, whatever the model computed.
        if key.0 > self.now_ns {
            return Err(format!("#{number} fired {} ns early", key.0 - self.now_ns));
        }
        self.timers[number].alive = false;
        self.counters.fired += 1;
        Ok(Some(number))
    }

    /// Pops a bounded number, as a turn does, with callbacks that arm, re-arm and cancel.
    fn pop_with_callbacks(&mut self) -> Outcome {
        let batch: Vec<usize> = self.due.iter().map(|&(_, number)| number).collect();
        for _ in 0..self.input.byte() % 16 {
            let Some(number) = self.pop()? else { break };
            if !batch.contains(&number) {
                return Err(format!("#{number} joined the batch being popped"));
            }
            match self.input.byte() % 8 {
                0 => self.arm_at(self.now_ns),
                1 => self.arm_at(0),
                2 | 3 => self.arm(),
                4 | 5 => self.cancel()?,
                6 => self.rearm()?,
                7 => {}
                _ => unreachable!(),
            }
            self.compare()?;
        }
        Ok(())
    }

    /// Everything that can be seen, against the model.
    fn compare(&mut self) -> Outcome {
        self.wheel.assert_invariants();
        let len = self.armed.len() + self.due.len();
        self.seen.counters = self.counters;
        self.seen.alive_max = self.seen.alive_max.max(len);
        same("len", self.wheel.len(), len)?;
        same("is_empty", self.wheel.is_empty(), len == 0)?;
        same("has_due", self.wheel.has_due(), !self.due.is_empty())?;
        same("counters", self.wheel.counters(), self.counters)?;
        let balance = self.counters.fired + self.counters.cancelled + len as u64;
        same("armed = fired + cancelled + len", self.counters.armed, balance)?;
        for (number, timer) in self.timers.iter().enumerate() {
            if self.wheel.is_armed(timer.token) != timer.alive {
                return Err(format!("is_armed of #{number} is {}", !timer.alive));
            }
        }

        let wakeup_ns = self.wheel.next_wakeup().map(Instant::as_ns);
        if self.any_overdue() || !self.due.is_empty() {
            return same("next_wakeup with timers due", wakeup_ns, Some(self.now_ns));
        }
        let first = self.armed.keys().next().filter(|(deadline_ns, _)| *deadline_ns != u64::MAX);
        let first_ns = first.map(|&(deadline_ns, _)| self.boundary_ns(deadline_ns));
        match (wakeup_ns, first_ns) {
            (None, None) => Ok(()),
            (Some(wakeup), Some(first)) if self.now_ns < wakeup && wakeup <= first => Ok(()),
            _ => Err(format!(
                "next_wakeup is {wakeup_ns:?} at {}, and the first timer is due at {first_ns:?}",
                self.now_ns
            )),
        }
    }

    /// Serves everything that is left as a loop would, and sees that it all fires.
    fn finish(&mut self) -> Outcome {
        self.tell(format_args!("from here on: sleep and pop until nothing is left"));
        while self.wheel.next_wakeup().is_some() {
            self.sleep()?;
            self.compare()?;
            while self.pop()?.is_some() {}
            self.compare()?;
        }
        same("timers that never fired", self.armed.keys().filter(|key| key.0 != u64::MAX).count(), 0)
    }
}

fn nudge(value: u64, by: u64) -> u64 {
    match by % 4 {
        1 => value.saturating_sub(1),
        2 => value.saturating_add(1),
        _ => value,
    }
}
