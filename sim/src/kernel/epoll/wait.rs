//! epoll_wait(2): harvest, sleep, and the ends of a sleep.

use reactor::sys::{EpollEvent, EpollMask, Errno, Fd, Wait};

use super::{ALWAYS, Item, PRIVATE};
use crate::fault::FaultKind;
use crate::kernel::drift::Drift;
use crate::kernel::{Object, cost};
use crate::obligation::Lapse;
use crate::schedule::{Phase, ThreadId, draw_stall_ns};
use crate::world::World;

/// What a wait asks for.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Asked {
    /// `None` sleeps for ever, zero never.
    pub(crate) timeout_ns: Option<u64>,
    /// For the trace.
    pub(crate) arguments: [u64; 2],
}

/// The arguments of epoll_wait(2) as the trace has them.
pub(crate) fn wait_arguments(timeout_ms: i32, room: usize) -> [u64; 2] {
    [u64::from(timeout_ms.cast_unsigned()), room as u64]
}

impl World {
    /// Pops items from the head, looks again, and reports what is still ready (M4).
    fn epoll_harvest(&mut self, thread: u32, epoll: u32, events: &mut [EpollEvent]) -> usize {
        let listed = self.epolls[epoll].ready.len();
        if listed == 0 {
            return 0;
        }
        let room = self.batch_room(thread, events.len());
        let mut count = 0;
        let mut levels = 0;
        for _ in 0..listed {
            if count == room {
                if self.lapses(Lapse::DropRestOfBatch) {
                    self.epolls[epoll].ready.pop();
                }
                break;
            }
            self.work.add(1);
            let Some(item) = self.epolls[epoll].ready.pop() else { break };
            let Item { object, mask, data, .. } = self.epolls[epoll].items[item];
            let ready = self.readiness(object) & mask;
            if ready.is_empty() {
                continue;
            }
            events[count] = EpollEvent { events: ready.bits(), data };
            count += 1;
            self.pay(Object::Epoll(epoll), item, object);
            if mask.contains(EpollMask::ONESHOT) {
                let left = if self.drifts(Drift::OneShotHangUp) { PRIVATE | ALWAYS } else { PRIVATE };
                self.epolls[epoll].items[item].mask = mask & left;
            } else if !mask.contains(EpollMask::ET) && !self.lapses(Lapse::DropLevels) {
                self.epolls[epoll].ready.push(item);
                levels += 1;
            } else if ready.contains(EpollMask::IN) && self.drifts(Drift::RepeatedEdge) {
                self.epolls[epoll].ready.push(item);
            }
        }
        self.threads[thread as usize].only_levels = levels == count;
        if self.options.imposed.is_some()
            && let Some(guide) = self.decisions.guide()
        {
            guide.found(&events[..count]);
        }
        self.shuffle_batch(thread, &mut events[..count]);
        count
    }

    pub(crate) fn epoll_wait(
        &mut self,
        thread: u32,
        epfd: Fd,
        events: &mut [EpollEvent],
        timeout_ms: i32,
    ) -> Result<Wait, Errno> {
        let timeout_ns = u64::try_from(timeout_ms).ok().map(|ms| ms * 1_000_000);
        let asked = Asked { timeout_ns, arguments: wait_arguments(timeout_ms, events.len()) };
        self.epoll_wait_ns(thread, epfd, events, asked)
    }

    /// epoll_pwait2(2), and every other wait on a set that has a number.
    pub(crate) fn epoll_wait_ns(
        &mut self,
        thread: u32,
        epfd: Fd,
        events: &mut [EpollEvent],
        asked: Asked,
    ) -> Result<Wait, Errno> {
        let epoll = self.epoll_to_wait_on(thread, epfd)?;
        if events.is_empty() {
            self.violate("illegal-call", ThreadId(thread), "a wait with no room for events".to_owned());
            return Err(Errno::EINVAL);
        }
        self.wait_on_set(thread, epoll, events, asked)
    }

    /// The set behind the number; for a wait that goes on, the one that it began with, whose number may be closed by now (E40).
    #[inline]
    fn epoll_to_wait_on(&mut self, thread: u32, epfd: Fd) -> Result<u32, Errno> {
        let Some(sleep) = self.threads[thread as usize].sleep else {
            return self.epoll_behind(thread, epfd);
        };
        let named = self.process_of(thread).get(epfd);
        match sleep.set {
            Object::Epoll(epoll) if named == Some(sleep.set) || self.is_epoll_closed(epoll) => Ok(epoll),
            _ => {
                let details = "a wait on one set while a wait on another sleeps".to_owned();
                self.violate("illegal-call", ThreadId(thread), details);
                Err(Errno::EINVAL)
            }
        }
    }

    fn is_epoll_closed(&self, epoll: u32) -> bool {
        self.epolls.get(epoll).is_none_or(|set| set.closed)
    }

    /// A wait, from its beginning or from where it slept.
    pub(crate) fn wait_on_set(
        &mut self,
        thread: u32,
        epoll: u32,
        events: &mut [EpollEvent],
        asked: Asked,
    ) -> Result<Wait, Errno> {
        let set = Object::Epoll(epoll);
        let entered_again = self.threads[thread as usize].sleep;
        if let Some(sleep) = entered_again {
            if self.threads[thread as usize].phase == Phase::Sleeping {
                return Ok(Wait::Parked);
            }
            if sleep.stalled {
                return Ok(Wait::Ready(self.bring_back_batch(thread, events)));
            }
        } else {
            self.spend(thread, cost::WAIT);
        }
        let count = self.epoll_harvest(thread, epoll, events);
        if count > 0 {
            let began = entered_again.map_or(self.now, |sleep| sleep.began);
            self.end_wait(thread, set, entered_again.is_some());
            self.spend(thread, cost::WAIT_EVENT * count as u64);
            if self.epolls[epoll].ready.len() > 0 {
                self.wake_one_sleeper(set);
            }
            self.epoll_left(epoll);
            if asked.timeout_ns != Some(0)
                && let Some(stall_ns) = self.fault_with(FaultKind::StaleBatches, thread, draw_stall_ns)
            {
                let held = &mut self.threads[thread as usize].held_events;
                held.clear();
                held.extend_from_slice(&events[..count]);
                self.stall(thread, set, began, asked.arguments, stall_ns);
                return Ok(Wait::Parked);
            }
            return Ok(Wait::Ready(count));
        }
        if entered_again.is_some() {
            if let Some(end) = self.end_of_sleep(thread) {
                self.end_wait(thread, set, true);
                self.epoll_left(epoll);
                return end.map(Wait::Ready);
            }
            self.epoll_sleeps_again(thread, epoll);
            self.sleep_on(thread);
            return Ok(Wait::Parked);
        }
        if asked.timeout_ns == Some(0) {
            return Ok(Wait::Ready(0));
        }
        self.epolls[epoll].sleepers.push(thread);
        self.fall_asleep(thread, set, asked.timeout_ns, asked.arguments);
        Ok(Wait::Parked)
    }

    /// Who finds nothing and sleeps again is the last to have come.
    fn epoll_sleeps_again(&mut self, thread: u32, epoll: u32) {
        let sleepers = &mut self.epolls[epoll].sleepers;
        if sleepers.len() > 1 {
            sleepers.retain(|&sleeper| sleeper != thread);
            sleepers.push(thread);
        }
    }

    fn bring_back_batch(&mut self, thread: u32, events: &mut [EpollEvent]) -> usize {
        self.wake_up(thread);
        let held = &self.threads[thread as usize].held_events;
        let count = held.len().min(events.len());
        events[..count].copy_from_slice(&held[..count]);
        count
    }
}
