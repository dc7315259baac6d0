//! Sleeping and timerfd(2), both on the monotonic clock.

#![allow(unsafe_code, reason = "system calls")]

use std::ptr;

use reactor::sys::Fd;
use reactor::time::Instant;

use super::{Answer, check, check_fd};

const NS_PER_SECOND: i64 = 1_000_000_000;

/// Nanoseconds as the kernel takes them: the second may be negative, the rest never is.
pub(super) fn timespec(ns: i64) -> libc::timespec {
    libc::timespec { tv_sec: ns.div_euclid(NS_PER_SECOND), tv_nsec: ns.rem_euclid(NS_PER_SECOND) }
}

/// What the kernel wrote; it writes no negative time.
fn nanoseconds(time: libc::timespec) -> u64 {
    u64::try_from(time.tv_sec * NS_PER_SECOND + time.tv_nsec).unwrap_or(0)
}

/// Sleeps for so long, whatever signals come.
pub(super) fn sleep(ns: u64) {
    let mut left = timespec(i64::try_from(ns).unwrap_or(i64::MAX));
    loop {
        let asked = left;
        // SAFETY: `asked` is readable, and `left` may be written to.
        let answer =
            unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const asked, &raw mut left) };
        if answer != libc::EINTR {
            return;
        }
    }
}

pub(super) fn timerfd() -> Answer<Fd> {
    let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
    // SAFETY: takes numbers only.
    check_fd(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })
}

/// Absolute where `from` is given: at `from` plus `value_ns`.
pub(super) fn set(fd: Fd, value_ns: i64, interval_ns: i64, from: Option<Instant>) -> Answer<()> {
    let (value_ns, flags) = match from {
        Some(now) => {
            (i64::try_from(now.as_ns()).unwrap_or(i64::MAX).saturating_add(value_ns), libc::TFD_TIMER_ABSTIME)
        }
        None => (value_ns, 0),
    };
    let setting = libc::itimerspec { it_interval: timespec(interval_ns), it_value: timespec(value_ns) };
    // SAFETY: `setting` is readable, and without a place for the old setting the call writes nothing.
    check(unsafe { libc::timerfd_settime(fd.as_raw(), flags, &raw const setting, ptr::null_mut()) })
}

pub(super) fn get(fd: Fd) -> Answer<(u64, u64)> {
    let mut setting = libc::itimerspec { it_interval: timespec(0), it_value: timespec(0) };
    // SAFETY: `setting` is an itimerspec that the call may write to.
    check(unsafe { libc::timerfd_gettime(fd.as_raw(), &raw mut setting) })?;
    Ok((nanoseconds(setting.it_value), nanoseconds(setting.it_interval)))
}

/// The wall clock, for timers that are set to a time of it.
#[cfg(feature = "libkqueue")]
pub(super) fn wall_clock_ns() -> i64 {
    let mut now = timespec(0);
    // SAFETY: `now` is a live timespec that the call writes; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    i64::try_from(nanoseconds(now)).unwrap_or(i64::MAX)
}
