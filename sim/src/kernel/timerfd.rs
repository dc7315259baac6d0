//! timerfd_create(2) on the monotonic clock, in virtual time (W12 to W15).

use reactor::sys::{EpollMask, Errno, Fd};

use super::watch::{Key, Watchers};
use super::{Object, cost};
use crate::event::EventKind;
use crate::world::World;

/// A timer that can be read.
#[derive(Debug, Default)]
pub(crate) struct Timerfd {
    /// Distinguishes its setting from earlier ones, and from other tenants of its place.
    serial: u64,
    /// When it expires, or last expired; `None` while disarmed.
    expires: Option<u64>,
    /// Zero for a single expiry.
    interval_ns: u64,
    /// It has fired and is not started again until it is read (W14).
    stopped: bool,
    /// Expirations that nobody has read.
    ticks: u64,
    pub(crate) watchers: Watchers,
}

impl Timerfd {
    pub(crate) fn readiness(&self) -> EpollMask {
        if self.ticks > 0 { EpollMask::IN } else { EpollMask::empty() }
    }
}

impl World {
    pub(crate) fn timerfd_create(&mut self, thread: u32) -> Result<Fd, Errno> {
        self.spend(thread, cost::CREATE);
        self.may_create(thread)?;
        let timerfd = self.timerfds.insert(Timerfd::default());
        Ok(self.install(thread, Object::Timerfd(timerfd)))
    }

    fn timerfd_behind(&mut self, thread: u32, fd: Fd) -> Result<u32, Errno> {
        match self.object(thread, fd)? {
            Object::Timerfd(timerfd) => Ok(timerfd),
            _ => Err(Errno::EINVAL),
        }
    }

    /// timerfd_settime(2). An absolute first expiry is counted from now, and may lie in the past; a first expiry of zero disarms.
    pub(crate) fn timerfd_set(
        &mut self,
        thread: u32,
        fd: Fd,
        (first_ns, interval_ns): (i64, i64),
        absolute: bool,
    ) -> Result<(), Errno> {
        self.spend(thread, cost::SETTING);
        let timerfd = self.timerfd_behind(thread, fd)?;
        let interval_ns = u64::try_from(interval_ns).map_err(|_| Errno::EINVAL)?;
        if first_ns < 0 && !absolute {
            return Err(Errno::EINVAL);
        }
        let disarms = first_ns == 0 && !absolute;
        // Real time has no beginning; what lies before ours has fired as often as if it had.
        let early_ns = first_ns.min(0).unsigned_abs();
        let first = self.now.saturating_add(first_ns.max(0).unsigned_abs());
        let serial = self.next_serial();
        let entry = &mut self.timerfds[timerfd];
        entry.serial = serial;
        entry.interval_ns = interval_ns;
        entry.stopped = false;
        entry.ticks = 0;
        entry.expires = (!disarms).then_some(first);
        if early_ns > 0 {
            entry.ticks = early_ns.checked_div(interval_ns).unwrap_or(0);
            entry.expires = Some(first - (early_ns.checked_rem(interval_ns).unwrap_or(0)).min(first));
        }
        if !disarms {
            self.queue_event(first, EventKind::Timerfd { timerfd, serial });
        }
        Ok(())
    }

    /// The expiry: one wake-up, and no next one until somebody reads (W14).
    pub(crate) fn timerfd_event(&mut self, timerfd: u32, serial: u64) {
        let Some(entry) = self.timerfds.get_mut(timerfd) else { return };
        if entry.serial != serial {
            return;
        }
        entry.stopped = true;
        entry.ticks += 1;
        self.wake(Object::Timerfd(timerfd), Key::In);
    }

    /// Starts a stopped interval again: counts what it missed.
    fn timerfd_go_on(&mut self, timerfd: u32) {
        let now = self.now;
        let serial = self.next_serial();
        let entry = &mut self.timerfds[timerfd];
        let Some(expired) = entry.expires.filter(|_| entry.stopped && entry.interval_ns > 0) else { return };
        let missed = now.saturating_sub(expired) / entry.interval_ns;
        let next = expired + (missed + 1) * entry.interval_ns;
        entry.ticks += missed;
        entry.stopped = false;
        entry.expires = Some(next);
        entry.serial = serial;
        self.queue_event(next, EventKind::Timerfd { timerfd, serial });
    }

    /// read(2): the expirations since the last read or setting.
    pub(crate) fn timerfd_read(&mut self, timerfd: u32) -> Result<u64, Errno> {
        if self.timerfds[timerfd].ticks == 0 {
            return Err(Errno::EAGAIN);
        }
        self.timerfd_go_on(timerfd);
        Ok(std::mem::take(&mut self.timerfds[timerfd].ticks))
    }

    /// timerfd_gettime(2): the time left and the interval, in nanoseconds (W15).
    pub(crate) fn timerfd_get(&mut self, thread: u32, fd: Fd) -> Result<(u64, u64), Errno> {
        self.spend(thread, cost::SETTING);
        let timerfd = self.timerfd_behind(thread, fd)?;
        self.timerfd_go_on(timerfd);
        let entry = &self.timerfds[timerfd];
        let left_ns = entry.expires.map_or(0, |expires| expires.saturating_sub(self.now));
        Ok((left_ns, entry.interval_ns))
    }
}
