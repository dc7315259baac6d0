//! Simulated threads: local time, sleeping and waking, and who runs next.
//!
//! Each thread has its own clock; every call adds its cost. A wait that finds nothing puts its thread to sleep; an item
//! that becomes ready, a timeout or a signal makes the thread runnable again, and the driver then re-enters the wait.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use reactor::sys::{EpollEvent, Errno};

use crate::actor::ActorId;
use crate::clock::Clock;
use crate::decision::{Domain, Site};
use crate::event::EventKind;
use crate::fault::FaultKind;
use crate::kernel::Object;
use crate::kernel::drift::Drift;
use crate::obligation::Lapse;
use crate::script::probe::WideKevent;
use crate::world::{Details, HostId, World};

/// Names a thread of a world.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ThreadId(pub u32);

/// What the driver is to do next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Give this thread a turn: it has the smallest time of all that can run.
    Run(ThreadId),
    /// This actor has just made a step.
    Actor(ActorId),
    /// Start a process on this host, which has power and no process that lives.
    Restart(HostId),
    /// Nothing is queued and every thread sleeps for ever: a deadlock, unless everything is finished.
    Idle,
    /// The next thing to happen lies after the limit.
    LimitReached,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Between two waits, or never slept.
    Running,
    /// In a wait that has not ended.
    Sleeping,
    /// In a wait that may have ended: to be re-entered.
    Waking,
    /// Makes no more calls.
    Finished,
}

/// A wait that has begun and not returned.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sleep {
    pub(crate) set: Object,
    pub(crate) began: u64,
    /// When the kernel gives up waiting; `u64::MAX` for never.
    pub(crate) fires: u64,
    pub(crate) interrupted: bool,
    /// The batch is held back until the stall is over.
    pub(crate) stalled: bool,
    pub(crate) arguments: [u64; 2],
}

#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) process: u32,
    /// The host of its process.
    pub(crate) host: u32,
    /// Nanoseconds since the start of the run.
    pub(crate) local: u64,
    pub(crate) phase: Phase,
    pub(crate) sleep: Option<Sleep>,
    /// Counts sleeps, so that a late interrupt finds the wrong one and goes away.
    pub(crate) serial: u32,
    /// The time of the one queued deadline event that counts; `u64::MAX` for none.
    timer_at: u64,
    /// The order of the valid entry in the run queue; zero for none.
    pub(crate) queued: u64,
    /// Its turn came while its process was stopped: it is in no queue until the process goes on.
    pub(crate) held: bool,
    /// A batch that a stalled thread brings back.
    pub(crate) held_events: Vec<EpollEvent>,
    pub(crate) held_kevents: Vec<WideKevent>,
    /// Waits in a row without progress, and when the first of them returned.
    empty_waits: u32,
    empty_since: u64,
    /// The last wait slept until its timeout.
    pub(crate) timed_out: bool,
    /// The last batch held nothing but level-triggered reports: a state told again, not news.
    pub(crate) only_levels: bool,
}

impl Thread {
    pub(crate) fn new(process: u32, host: u32, local: u64) -> Thread {
        Thread {
            process,
            host,
            local,
            phase: Phase::Running,
            sleep: None,
            serial: 0,
            timer_at: u64::MAX,
            queued: 0,
            held: false,
            held_events: Vec::new(),
            held_kevents: Vec::new(),
            empty_waits: 0,
            empty_since: 0,
            timed_out: false,
            only_levels: false,
        }
    }
}

/// Threads that can run, by local time.
#[derive(Debug, Default)]
pub(crate) struct RunQueue {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    sequence: u64,
}

/// The kernel's timer slack (C4): a wait of `timeout_ns` may end up to this much late.
const fn slack_ns(timeout_ns: u64) -> u64 {
    let slack = timeout_ns / 1_000;
    if slack < 50_000 {
        50_000
    } else if slack > 100_000_000 {
        100_000_000
    } else {
        slack
    }
}

/// How long a thread is stopped with its batch.
pub(crate) fn draw_stall_ns(details: &mut Details<'_>) -> u64 {
    let most_ns = details.choose("how long a stall", &[20_000, 1_000_000, 30_000_000, 400_000_000]);
    most_ns / 2 + details.draw("length of the stall", most_ns)
}

/// More waits than this in a row, within the window, without progress are a spin.
const EMPTY_WAITS_MAX: u32 = 64;
const EMPTY_WINDOW_NS: u64 = 20_000_000;

impl World {
    /// Puts a thread into the run queue at its local time.
    pub(crate) fn enqueue(&mut self, thread: u32) {
        let tie = self.draw_tie();
        let queue = &mut self.run_queue;
        queue.sequence += 1;
        let order = tie << 48 | queue.sequence;
        let entry = &mut self.threads[thread as usize];
        entry.queued = order;
        self.work.descend(queue.heap.len());
        queue.heap.push(Reverse((entry.local, order, thread)));
    }

    /// The time of the next thread that can run.
    pub(crate) fn next_runnable(&mut self) -> Option<u64> {
        while let Some(&Reverse((time, order, thread))) = self.run_queue.heap.peek() {
            if self.threads[thread as usize].queued == order {
                return Some(time);
            }
            self.work.descend(self.run_queue.heap.len());
            self.run_queue.heap.pop();
        }
        None
    }

    /// Takes the thread that [`World::next_runnable`] found.
    pub(crate) fn take_runnable(&mut self) -> ThreadId {
        self.work.descend(self.run_queue.heap.len());
        let Reverse((_, _, thread)) = self.run_queue.heap.pop().expect("a runnable thread was found");
        self.threads[thread as usize].queued = 0;
        ThreadId(thread)
    }

    /// A drawn order among equals when the run has that; otherwise first come, first served.
    #[inline]
    pub(crate) fn draw_tie(&mut self) -> u64 {
        if !self.swarm.is_on(FaultKind::ScheduleTies) {
            return 0;
        }
        let tie = self.decisions.draw(Domain::Schedule, Site("order among equals"), 0, 16);
        if tie > 0 {
            self.faults.add(FaultKind::ScheduleTies);
        }
        if self.swarm.is_suppressed(FaultKind::ScheduleTies) { 0 } else { tie }
    }

    /// Makes a sleeping thread runnable after the wake-up latency.
    pub(crate) fn resume(&mut self, thread: u32) {
        let phase = self.threads[thread as usize].phase;
        if phase != Phase::Sleeping {
            return;
        }
        let wake = self.swarm.wake;
        self.tell_guide(self.now);
        let latency_ns = self.draw_latency(wake, "latency of a wake-up", thread);
        let entry = &mut self.threads[thread as usize];
        entry.phase = Phase::Waking;
        entry.local = entry.local.max(self.now.saturating_add(latency_ns));
        self.enqueue(thread);
    }

    /// Puts the calling thread to sleep in a wait on `set`.
    pub(crate) fn fall_asleep(
        &mut self,
        thread: u32,
        set: Object,
        timeout_ns: Option<u64>,
        arguments: [u64; 2],
    ) {
        let began = self.now;
        let mut fires = u64::MAX;
        if let Some(timeout_ns) = timeout_ns {
            let timeout_ns = if self.drifts(Drift::EmptyEarly) { timeout_ns / 2 } else { timeout_ns };
            fires = began.saturating_add(self.clock_behind(thread).outlast(timeout_ns));
            fires = fires.saturating_add(self.draw_lateness_ns(thread, timeout_ns));
        }
        let entry = &mut self.threads[thread as usize];
        entry.serial += 1;
        entry.queued = 0;
        entry.phase = Phase::Sleeping;
        entry.sleep = Some(Sleep { set, began, fires, interrupted: false, stalled: false, arguments });
        let serial = entry.serial;
        if let Some(timeout_ns) = timeout_ns {
            let due = began.saturating_add(self.clock_behind(thread).outlast(timeout_ns));
            self.owe_end_of_wait(thread, due);
        }
        self.arm_timer(thread, fires);
        self.tell_guide(began);
        let most_ns = timeout_ns.unwrap_or(u64::MAX).clamp(1, 50_000_000);
        let signal = |details: &mut Details<'_>| details.draw("when the signal comes", most_ns);
        if let Some(after_ns) = self.fault_with(FaultKind::InterruptedWaits, thread, signal) {
            self.queue_event(began.saturating_add(after_ns), EventKind::Interrupt { thread, serial });
        }
    }

    /// How late a wait of `timeout_ns` ends (C4, N6).
    fn draw_lateness_ns(&mut self, thread: u32, timeout_ns: u64) -> u64 {
        if !self.swarm.is_on(FaultKind::LateWaits) {
            return 0;
        }
        let domain = FaultKind::LateWaits.domain();
        let slack_ns =
            self.decisions.draw(domain, Site("within the timer slack"), thread, slack_ns(timeout_ns) + 1);
        if slack_ns > 0 {
            self.faults.add(FaultKind::LateWaits);
        }
        let late = |details: &mut Details<'_>| details.draw("how late", 20_000_000);
        let late_ns = self.fault_with(FaultKind::LateWaits, thread, late).unwrap_or(0);
        if self.swarm.is_suppressed(FaultKind::LateWaits) { 0 } else { slack_ns + late_ns }
    }

    fn clock_behind(&self, thread: u32) -> Clock {
        self.hosts[self.threads[thread as usize].host as usize].clock
    }

    /// Sleeps on with the same wait: what woke it was gone (E30).
    pub(crate) fn sleep_on(&mut self, thread: u32) {
        let entry = &mut self.threads[thread as usize];
        entry.phase = Phase::Sleeping;
        entry.queued = 0;
        let fires = entry.sleep.map_or(u64::MAX, |sleep| sleep.fires);
        self.arm_timer(thread, fires);
    }

    /// Stops the thread between the wait and its return, with the batch in its hands.
    pub(crate) fn stall(&mut self, thread: u32, set: Object, began: u64, arguments: [u64; 2], stall_ns: u64) {
        let entry = &mut self.threads[thread as usize];
        entry.serial += 1;
        entry.queued = 0;
        entry.phase = Phase::Sleeping;
        entry.sleep =
            Some(Sleep { set, began, fires: u64::MAX, interrupted: false, stalled: true, arguments });
        let serial = entry.serial;
        self.note(|| format!("t{thread} is stopped for {stall_ns} ns with its batch"));
        self.queue_event(self.now.saturating_add(stall_ns), EventKind::StallOver { thread, serial });
    }

    /// One queued event per thread is enough: an early one looks again when it fires.
    fn arm_timer(&mut self, thread: u32, fires: u64) {
        if fires < self.threads[thread as usize].timer_at {
            self.threads[thread as usize].timer_at = fires;
            self.queue_event(fires, EventKind::Deadline { thread });
        }
    }

    pub(crate) fn deadline_event(&mut self, thread: u32) {
        let entry = &mut self.threads[thread as usize];
        if entry.timer_at != self.now {
            return;
        }
        entry.timer_at = u64::MAX;
        let Some(sleep) = entry.sleep else { return };
        if self.lapses(Lapse::SkipTimeouts) {
            return;
        }
        if sleep.fires <= self.now {
            self.resume(thread);
        } else {
            self.arm_timer(thread, sleep.fires);
        }
    }

    pub(crate) fn interrupt_event(&mut self, thread: u32, serial: u32) {
        let entry = &mut self.threads[thread as usize];
        if entry.serial != serial || entry.phase != Phase::Sleeping {
            return;
        }
        if let Some(sleep) = &mut entry.sleep {
            sleep.interrupted = true;
        }
        self.note(|| format!("a signal interrupts t{thread}"));
        self.resume(thread);
    }

    pub(crate) fn stall_over_event(&mut self, thread: u32, serial: u32) {
        if self.threads[thread as usize].serial == serial {
            self.resume(thread);
        }
    }

    /// What a re-entered wait that found nothing answers: zero at its timeout, `EINTR`, or nothing yet.
    pub(crate) fn end_of_sleep(&self, thread: u32) -> Option<Result<usize, Errno>> {
        let entry = &self.threads[thread as usize];
        let sleep = entry.sleep?;
        if sleep.interrupted {
            return Some(Err(Errno::EINTR));
        }
        (sleep.fires <= entry.local).then_some(Ok(0))
    }

    /// The wait has returned.
    pub(crate) fn wake_up(&mut self, thread: u32) {
        let entry = &mut self.threads[thread as usize];
        entry.sleep = None;
        entry.phase = Phase::Running;
    }

    /// The wait ends with an answer; a thread that slept leaves the set's sleepers.
    pub(crate) fn end_wait(&mut self, thread: u32, set: Object, slept: bool) {
        if !slept {
            return;
        }
        if let Some(sleepers) = self.sleepers(set)
            && let Some(place) = sleepers.iter().position(|&sleeper| sleeper == thread)
        {
            let length = sleepers.len();
            sleepers.remove(place);
            self.work.add(length);
        }
        self.wake_up(thread);
    }

    /// The threads that sleep in a wait on this set.
    pub(crate) fn sleepers(&mut self, set: Object) -> Option<&mut Vec<u32>> {
        match set {
            Object::Epoll(epoll) => self.epolls.get_mut(epoll).map(|epoll| &mut epoll.sleepers),
            Object::Kqueue(kqueue) => self.kqueues.get_mut(kqueue).map(|kqueue| &mut kqueue.sleepers),
            _ => None,
        }
    }

    /// One event wakes one waiter; level-triggered items wake the next one after the harvest (E39). Linux wakes the one that
    /// came last. Answers whether anybody slept.
    pub(crate) fn wake_one_sleeper(&mut self, set: Object) -> bool {
        if self.lapses(Lapse::LeaveSleepers) {
            return false;
        }
        let Some(sleepers) = self.sleepers(set) else { return false };
        let mut place = sleepers.len();
        while place > 0 {
            place -= 1;
            self.work.add(1);
            let Some(&thread) = self.sleepers(set).and_then(|sleepers| sleepers.get(place)) else { break };
            if self.threads[thread as usize].phase == Phase::Sleeping {
                self.resume(thread);
                return true;
            }
        }
        false
    }

    /// How many events this harvest may return, of a list with this much room: at least one (N5).
    pub(crate) fn batch_room(&mut self, thread: u32, room: usize) -> usize {
        if room < 2 {
            return room;
        }
        let short = |details: &mut Details<'_>| 1 + details.draw("events of a short batch", 4) as usize;
        self.fault_with(FaultKind::ShortBatches, thread, short).map_or(room, |short| short.min(room))
    }

    /// Any order is legal for a portable loop (N5).
    pub(crate) fn shuffle_batch<T>(&mut self, thread: u32, events: &mut [T]) {
        if events.len() < 2 {
            return;
        }
        if self.drifts(Drift::ReversedBatch) {
            events.reverse();
        }
        let suppressed = self.swarm.is_suppressed(FaultKind::ReorderedBatches);
        self.fault_with(FaultKind::ReorderedBatches, thread, |details| {
            for last in (1..events.len()).rev() {
                let other = details.draw("place in the batch", last as u64 + 1);
                if !suppressed {
                    events.swap(last, last - other as usize);
                }
            }
        });
    }

    /// Counts a wait that has returned with nothing; too many in a row with nothing done in between are a spin. Level-triggered
    /// reports are nothing in this sense; edges are something: each has a cause outside the loop, and a connection that is
    /// not being read has one for every arrival.
    pub(crate) fn count_empty_wait(&mut self, thread: u32) {
        let now = self.now;
        let entry = &mut self.threads[thread as usize];
        if entry.empty_waits == 0 || now.saturating_sub(entry.empty_since) > EMPTY_WINDOW_NS {
            entry.empty_waits = 0;
            entry.empty_since = now;
        }
        entry.empty_waits += 1;
        if entry.empty_waits > EMPTY_WAITS_MAX {
            entry.empty_waits = 0;
            let details = format!(
                "{EMPTY_WAITS_MAX} waits within 20 ms told nothing new, and nothing was done in between"
            );
            self.violate("empty-wakeups", ThreadId(thread), details);
        }
    }

    /// The thread did something that a wake-up can be for.
    #[inline]
    pub(crate) fn progress(&mut self, thread: u32) {
        self.threads[thread as usize].empty_waits = 0;
    }

    /// Some thread of this process was given work.
    pub(crate) fn progress_in_process(&mut self, process: u32) {
        self.work.add(self.threads.len());
        for thread in self.threads.iter_mut().filter(|thread| thread.process == process) {
            thread.empty_waits = 0;
        }
    }
}
