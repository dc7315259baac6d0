//! A signal that ends a blocking call.

#![allow(unsafe_code, reason = "system calls")]

use std::mem;
use std::ptr;

use super::{Answer, check, signal, timer};

/// A timer whose signal comes once, to the thread that set it. Dropping it takes it back.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: libc::timer_t,
}

impl Alarm {
    /// Lets the signal come after so long.
    pub(super) fn set(after_ns: u64) -> Answer<Alarm> {
        // SAFETY: all zeros is a valid sigevent.
        let mut event: libc::sigevent = unsafe { mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal::ALARM;
        event.sigev_notify_thread_id = signal::own_thread();
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: `event` is readable, and `timer` may be written to.
        check(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) })?;
        let alarm = Alarm { timer };
        // Zero would switch the timer off.
        let value = timer::timespec(i64::try_from(after_ns.max(1)).unwrap_or(i64::MAX));
        let setting = libc::itimerspec { it_interval: timer::timespec(0), it_value: value };
        // SAFETY: the timer is live, `setting` is readable, and nothing is written.
        check(unsafe { libc::timer_settime(alarm.timer, 0, &raw const setting, ptr::null_mut()) })?;
        Ok(alarm)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer is live, and nobody else has it.
        unsafe { libc::timer_delete(self.timer) };
    }
}
