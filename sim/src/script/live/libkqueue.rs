//! kevent in full width through `libkqueue`, as it is: nothing is made up for, so that scripts see what the library does.

#![allow(unsafe_code, reason = "calls of a C library")]

use std::ptr;

use libc::{c_int, timespec};
use reactor::sys::libkqueue::{kevent, library_kevent, missing};
use reactor::sys::{Errno, Fd, KeventFlags};

use super::{Answer, check_count, check_fd, timer};
use crate::script::probe::{SIGNAL_USR1, WideFilter, WideKevent, WideNotes};

const READ: i16 = -1;
const WRITE: i16 = -2;
const SIGNAL: i16 = -6;
const TIMER: i16 = -7;
const USER: i16 = -11;
/// A number that no filter has.
const BAD: i16 = -99;

/// The library's own values of what differs from system to system.
const NOTES: [(WideFilter, WideNotes, u32); 6] = [
    (WideFilter::Read, WideNotes::LOWAT, 0x1),
    (WideFilter::Write, WideNotes::LOWAT, 0x1),
    (WideFilter::Timer, WideNotes::SECONDS, 0x1),
    (WideFilter::Timer, WideNotes::MICROSECONDS, 0x2),
    (WideFilter::Timer, WideNotes::NANOSECONDS, 0x4),
    (WideFilter::Timer, WideNotes::ABSOLUTE, 0x8),
];

pub(super) fn kqueue() -> Answer<Fd> {
    if missing().is_some() {
        return Err(Errno::Unsupported);
    }
    // SAFETY: takes nothing.
    check_fd(unsafe { reactor::sys::libkqueue::kqueue() })
}

/// Waits without changes, for a thread of its own.
pub(super) fn wait(kqueue: Fd, room: i32, timeout_ms: i32) -> Answer<Vec<WideKevent>> {
    let ms = i64::from(timeout_ms);
    let timeout = (timeout_ms >= 0).then_some((ms / 1_000, ms % 1_000 * 1_000_000));
    kevent_wide(kqueue, &[], room, timeout)
}

pub(super) fn kevent_wide(
    kqueue: Fd,
    changes: &[WideKevent],
    room: i32,
    timeout: Option<(i64, i64)>,
) -> Answer<Vec<WideKevent>> {
    if missing().is_some() {
        return Err(Errno::Unsupported);
    }
    let changes: Vec<kevent> = changes.iter().map(to_library).collect();
    let changes_length = c_int::try_from(changes.len()).map_err(|_| Errno::EINVAL)?;
    let empty = kevent { ident: 0, filter: 0, flags: 0, fflags: 0, data: 0, udata: ptr::null_mut() };
    let mut events = vec![empty; usize::try_from(room).unwrap_or(0)];
    let timeout = timeout.map(|(tv_sec, tv_nsec)| timespec { tv_sec, tv_nsec });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // The library does not set errno for everything that fails, and what is left from another call says nothing.
    // SAFETY: the place of this thread's errno is live.
    unsafe { *libc::__errno_location() = 0 };
    // SAFETY: the first list has its length, the second `room` entries or, if that is negative, none, which the library must refuse; the timeout
    // is null or lives to the end of this function.
    let count = check_count(unsafe {
        library_kevent(kqueue.as_raw(), changes.as_ptr(), changes_length, events.as_mut_ptr(), room, timeout)
    } as isize)?;
    Ok(events[..count].iter().map(from_library).collect())
}

fn to_library(change: &WideKevent) -> kevent {
    let filter = match change.filter {
        WideFilter::Read => READ,
        WideFilter::Write => WRITE,
        WideFilter::User => USER,
        WideFilter::Timer => TIMER,
        WideFilter::Signal => SIGNAL,
        WideFilter::Bad => BAD,
    };
    let mut fflags = (change.notes & (WideNotes::FFCOPY | WideNotes::TRIGGER | WideNotes::USER_BITS)).bits();
    for (of, note, theirs) in NOTES {
        if of == change.filter && change.notes.contains(note) {
            fflags |= theirs;
        }
    }
    let is_signal = change.filter == WideFilter::Signal && change.ident == SIGNAL_USR1;
    let ident = if is_signal { libc::SIGUSR1.unsigned_abs().into() } else { change.ident };
    let mut data = change.data;
    if change.filter == WideFilter::Timer && change.notes.contains(WideNotes::ABSOLUTE) {
        let unit_ns = match change.notes {
            notes if notes.contains(WideNotes::SECONDS) => 1_000_000_000,
            notes if notes.contains(WideNotes::MICROSECONDS) => 1_000,
            notes if notes.contains(WideNotes::NANOSECONDS) => 1,
            _ => 1_000_000,
        };
        data = data.saturating_add(timer::wall_clock_ns() / unit_ns);
    }
    kevent {
        ident: ident as usize,
        filter,
        flags: change.flags.bits(),
        fflags,
        data: data as isize,
        udata: ptr::without_provenance_mut(change.udata as usize),
    }
}

fn from_library(theirs: &kevent) -> WideKevent {
    let filter = match theirs.filter {
        READ => WideFilter::Read,
        WRITE => WideFilter::Write,
        USER => WideFilter::User,
        TIMER => WideFilter::Timer,
        SIGNAL => WideFilter::Signal,
        _ => WideFilter::Bad,
    };
    let flags = KeventFlags::from_bits_retain(theirs.flags);
    let failed = flags.contains(KeventFlags::ERROR);
    let error = |number: i64| match i32::try_from(number) {
        Ok(0) => None,
        Ok(number) => Some(Errno::from_host_number(number)),
        Err(_) => Some(Errno::Unlisted(i32::MAX)),
    };
    let ends = flags.contains(KeventFlags::EOF) && matches!(filter, WideFilter::Read | WideFilter::Write);
    let is_signal = filter == WideFilter::Signal && theirs.ident == libc::SIGUSR1.unsigned_abs() as usize;
    WideKevent {
        ident: if is_signal { SIGNAL_USR1 } else { theirs.ident as u64 },
        filter,
        flags,
        notes: if filter == WideFilter::User {
            WideNotes::from_bits_retain(theirs.fflags)
        } else {
            WideNotes::empty()
        },
        eof_error: if ends && !failed { error(i64::from(theirs.fflags)) } else { None },
        change_error: if failed { error(theirs.data as i64) } else { None },
        data: if failed { 0 } else { theirs.data as i64 },
        udata: theirs.udata.addr() as u64,
    }
}
