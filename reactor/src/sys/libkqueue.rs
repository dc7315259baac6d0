//! What `libkqueue`, a C library that emulates `kqueue(2)` on Linux, declares in its `sys/event.h`; for tests.
//!
//! It stands in for the `libc` crate in [`bsd`](super::bsd), under the same names. What it does not do as a kernel does is
//! made up for: here the treatment of the change list, there, under `cfg`, that it does not notice a close and knows a
//! kqueue by its number only.

#![allow(unsafe_code, reason = "calls of a C library")]
#![allow(non_camel_case_types, reason = "the names of C")]

use std::ptr;

use libc::{c_int, c_void, timespec};

/// `struct kevent`.
#[repr(C)]
pub(super) struct kevent {
    pub(super) ident: usize,
    pub(super) filter: i16,
    pub(super) flags: u16,
    pub(super) fflags: u32,
    pub(super) data: isize,
    pub(super) udata: *mut c_void,
}

pub(super) const EVFILT_READ: i16 = -1;
pub(super) const EVFILT_WRITE: i16 = -2;
pub(super) const EVFILT_USER: i16 = -11;

pub(super) const EV_ADD: u16 = 0x0001;
pub(super) const EV_DELETE: u16 = 0x0002;
pub(super) const EV_ENABLE: u16 = 0x0004;
pub(super) const EV_DISABLE: u16 = 0x0008;
pub(super) const EV_ONESHOT: u16 = 0x0010;
pub(super) const EV_CLEAR: u16 = 0x0020;
pub(super) const EV_RECEIPT: u16 = 0x0040;
pub(super) const EV_DISPATCH: u16 = 0x0080;
pub(super) const EV_EOF: u16 = 0x8000;
pub(super) const EV_ERROR: u16 = 0x4000;

pub(super) const NOTE_TRIGGER: u32 = 0x0100_0000;

#[link(name = "kqueue")]
unsafe extern "C" {
    pub(super) fn kqueue() -> c_int;
    #[link_name = "kevent"]
    fn library_kevent(
        kqueue: c_int,
        changes: *const kevent,
        changes_length: c_int,
        events: *mut kevent,
        events_length: c_int,
        timeout: *const timespec,
    ) -> c_int;
}

/// `kevent`, with the change list as kernels treat it: when a change has made an entry, the call returns just those and
/// does not wait (kernel-semantics K16, K17). The library waits then, and loses the entries if the wait times out.
///
/// # Safety
/// As `kevent(2)`: the lists have the lengths given, and the timeout is null or valid.
pub(super) unsafe fn kevent(
    kqueue: c_int,
    changes: *const kevent,
    changes_length: c_int,
    events: *mut kevent,
    events_length: c_int,
    timeout: *const timespec,
) -> c_int {
    let mut stored = 0;
    for at in 0..usize::try_from(changes_length).unwrap_or(0) {
        // SAFETY: `at` is below the length of the change list, and an entry is plain data.
        let mut entry = unsafe { changes.add(at).read() };
        let receipt = entry.flags & EV_RECEIPT != 0;
        entry.flags &= !EV_RECEIPT;
        // SAFETY: one entry to read, no room to write, no timeout.
        let answer = unsafe { library_kevent(kqueue, &raw const entry, 1, ptr::null_mut(), 0, ptr::null()) };
        if answer == 0 && !receipt {
            continue;
        }
        if stored == events_length {
            return if answer < 0 { -1 } else { stored };
        }
        let number = if answer < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
        entry.flags |= EV_ERROR;
        entry.data = number as isize;
        // SAFETY: `stored` is below the length of the event list, as has just been checked.
        unsafe { events.offset(stored as isize).write(entry) };
        stored += 1;
    }
    if stored > 0 {
        return stored;
    }
    // SAFETY: no changes; the rest is the caller's promise.
    unsafe { library_kevent(kqueue, ptr::null(), 0, events, events_length, timeout) }
}
