//! The call itself: changes, then events, then sleep (K15 to K24).

use reactor::sys::{Errno, Fd, Wait};

use super::entry::Entry;
use crate::fault::FaultKind;
use crate::kernel::{Kernel, Object, cost};
use crate::schedule::{Phase, Sleep, ThreadId, draw_stall_ns};
use crate::world::World;

impl World {
    /// The kqueue that a call is about: the one that it sleeps in already, or the one behind the descriptor.
    fn kqueue_behind(&mut self, thread: u32, fd: Fd, sleep: Option<Sleep>) -> Result<u32, Errno> {
        // A sleeping call holds on to its kqueue, whatever the number is by now (K24).
        if let Some(Sleep { set: Object::Kqueue(kqueue), .. }) = sleep
            && self.kqueues.get(kqueue).is_some_and(|kqueue| kqueue.closed)
        {
            return Ok(kqueue);
        }
        let Object::Kqueue(kqueue) = self.object(thread, fd)? else {
            self.violate("illegal-call", ThreadId(thread), format!("kevent on {fd:?}, which is no kqueue"));
            return Err(Errno::EBADF);
        };
        if sleep.is_some_and(|sleep| sleep.set != Object::Kqueue(kqueue)) {
            let details = "a wait that sleeps is entered again on another set".to_owned();
            self.violate("illegal-call", ThreadId(thread), details);
            return Err(Errno::EINVAL);
        }
        Ok(kqueue)
    }

    pub(crate) fn kevent<E: Entry>(
        &mut self,
        thread: u32,
        fd: Fd,
        changes: &[E],
        events: &mut [E],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        let entered_again = self.threads[thread as usize].sleep;
        let kqueue = self.kqueue_behind(thread, fd, entered_again)?;
        let set = Object::Kqueue(kqueue);
        if let Some(sleep) = entered_again {
            if !changes.is_empty() {
                let details = "a wait that sleeps is entered again with changes".to_owned();
                self.violate("illegal-call", ThreadId(thread), details);
                return Err(Errno::EINVAL);
            }
            if self.threads[thread as usize].phase == Phase::Sleeping {
                return Ok(Wait::Parked);
            }
            if sleep.stalled {
                return Ok(Wait::Ready(self.bring_back_kevents(thread, events)));
            }
            let entry = &self.kqueues[kqueue];
            if entry.closed && entry.kernel == Kernel::Macos {
                self.end_wait(thread, set, true);
                return Err(Errno::EBADF);
            }
        } else {
            self.spend(thread, cost::WAIT);
            if let Some(entries) = self.apply_changes(thread, kqueue, changes, events)? {
                return Ok(Wait::Ready(entries));
            }
        }
        let arguments = [timeout_ns.unwrap_or(u64::MAX), changes.len() as u64];
        let count = self.kqueue_harvest(thread, kqueue, events);
        if count > 0 {
            let began = entered_again.map_or(self.now, |sleep| sleep.began);
            self.end_wait(thread, set, entered_again.is_some());
            self.spend(thread, cost::WAIT_EVENT * count as u64);
            if self.kqueues[kqueue].active.len() > 0 {
                self.wake_one_sleeper(set);
            }
            if timeout_ns != Some(0)
                && let Some(stall_ns) = self.fault_with(FaultKind::StaleBatches, thread, draw_stall_ns)
            {
                let held = &mut self.threads[thread as usize].held_kevents;
                held.clear();
                held.extend(events[..count].iter().map(Entry::wide));
                self.stall(thread, set, began, arguments, stall_ns);
                return Ok(Wait::Parked);
            }
            return Ok(Wait::Ready(count));
        }
        if entered_again.is_some() {
            if let Some(end) = self.end_of_sleep(thread) {
                self.end_wait(thread, set, true);
                return end.map(Wait::Ready);
            }
            self.sleep_on(thread);
            return Ok(Wait::Parked);
        }
        if timeout_ns == Some(0) {
            return Ok(Wait::Ready(0));
        }
        self.kqueues[kqueue].sleepers.push(thread);
        self.fall_asleep(thread, set, timeout_ns, arguments);
        Ok(Wait::Parked)
    }

    /// Applies changes only: what FreeBSD has done when it finds that the timeout is invalid (K22). `None` if it would go on to
    /// wait.
    pub(crate) fn kevent_changes<E: Entry>(
        &mut self,
        thread: u32,
        fd: Fd,
        changes: &[E],
        events: &mut [E],
    ) -> Result<Option<usize>, Errno> {
        let kqueue = self.kqueue_behind(thread, fd, None)?;
        self.spend(thread, cost::WAIT);
        self.apply_changes(thread, kqueue, changes, events)
    }

    fn bring_back_kevents<E: Entry>(&mut self, thread: u32, events: &mut [E]) -> usize {
        self.wake_up(thread);
        let held = &self.threads[thread as usize].held_kevents;
        let mut count = 0;
        for (place, event) in events.iter_mut().zip(held.iter().filter_map(E::from_wide)) {
            *place = event;
            count += 1;
        }
        count
    }
}
