//! The real BSD and Apple kernels behind the seam: `kqueue(2)`; sockets are in [`posix`].
//!
//! The loop speaks in our own [`Kevent`], which means the same under every kernel; the entries are translated to the
//! host's struct, whose fields differ in type and whose constants differ in value. Both lists are kept between calls, so
//! that a wait allocates nothing once they have grown to the size of the loop's.
//!
//! | system | what is used beyond the common calls |
//! |---|---|
//! | macOS, iOS and their relatives | `accept` and `fcntl` instead of `accept4`; `SO_NOSIGPIPE` beside `MSG_NOSIGNAL` |
//! | FreeBSD | `SO_REUSEPORT_LB` |
//! | DragonFly | |
//! | NetBSD | from version 10 on: before it there is no `EVFILT_USER`, and adding the waker's knote gives `EINVAL` |
//! | OpenBSD | from the version on that has `EVFILT_USER`; a wait is cut to 24 hours by the kernel (kernel-semantics K22) |

#![allow(unsafe_code, reason = "system calls")]

use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;
use std::sync::Arc;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
use libc as host;

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::libkqueue as host;
use super::posix::{self, check, check_fd, last_error, socket_calls};
use super::{
    Accepted, Errno, Family, Fd, Filter, Kevent, KeventFlags, Note, Readiness, Shutdown, SocketOption,
    Syscalls, Wait, Wake, WakeTarget,
};

// Tokens are 64 bits wide and travel in a pointer.
#[cfg(not(target_pointer_width = "64"))]
compile_error!("kqueue carries the loop's 64-bit tokens in a pointer: 32-bit systems are not supported");

#[cfg(not(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
    feature = "libkqueue",
)))]
compile_error!("no backend for this system: reactor knows Linux, Android, the BSDs and Apple's systems");

/// The type that the host gives to filters and flags.
#[cfg(not(target_os = "netbsd"))]
type HostFilter = i16;
#[cfg(target_os = "netbsd")]
type HostFilter = u32;
#[cfg(not(target_os = "netbsd"))]
type HostFlags = u16;
#[cfg(target_os = "netbsd")]
type HostFlags = u32;

/// The type that the host gives to the lengths of the two lists.
#[cfg(not(target_os = "netbsd"))]
type HostLength = libc::c_int;
#[cfg(target_os = "netbsd")]
type HostLength = usize;

/// The real kernel.
///
/// It holds no descriptor, only the two lists of the last [`Syscalls::kevent`], so every reactor makes one of its own.
///
/// References: kqueue(2), tcp(4).
#[derive(Debug, Default)]
pub struct System {
    changes: HostList,
    events: HostList,
}

impl System {
    /// The real kernel. Makes no call.
    ///
    /// References: kqueue(2).
    pub const fn new() -> System {
        System { changes: HostList(Vec::new()), events: HostList(Vec::new()) }
    }

    /// Raises this process's soft limit on open descriptors to `wanted`, or to the hard limit where that is lower; never
    /// lowers it. Answers the soft limit as it is now.
    ///
    /// # Errors
    /// `EPERM`, `EINVAL`: the system refused the new limit, and the old one holds.
    ///
    /// References: setrlimit(2).
    pub fn raise_descriptor_limit(&mut self, wanted: u64) -> Result<u64, Errno> {
        posix::raise_descriptor_limit(wanted)
    }
}

/// A list of the host's entries, kept for its memory.
#[derive(Default)]
struct HostList(Vec<host::kevent>);

// SAFETY: an entry has a pointer in it only as a word of ours that goes to the kernel and back; nothing follows it.
unsafe impl Send for HostList {}

impl std::fmt::Debug for HostList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "room for {}", self.0.capacity())
    }
}

impl Syscalls for System {
    socket_calls!();

    fn readiness(&self) -> Readiness {
        Readiness::Kqueue
    }

    fn kqueue(&mut self) -> Result<Fd, Errno> {
        // SAFETY: takes nothing.
        let kqueue = check_fd(unsafe { host::kqueue() })?;
        // A child of fork has no kqueue of its parent's (kernel-semantics K14), so nothing leaks in between.
        // SAFETY: takes numbers only.
        let flagged = check(unsafe { libc::fcntl(kqueue.as_raw(), libc::F_SETFD, libc::FD_CLOEXEC) });
        if let Err(error) = flagged {
            // The descriptor is ours alone; what its close answers cannot help.
            let _ = posix::close(kqueue);
            return Err(error);
        }
        Ok(kqueue)
    }

    fn kevent(
        &mut self,
        kqueue: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        let changed = &mut self.changes.0;
        changed.clear();
        changed.extend(changes.iter().map(to_host));

        let reported = &mut self.events.0;
        reported.clear();
        reported.reserve(events.len());

        let timeout = timeout_ns.map(to_timespec);
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the first list holds `changed.len()` entries, the second has memory for `events.len()` (reserved above),
        // and the timeout is null or lives to the end of this function.
        let answer = unsafe {
            host::kevent(
                kqueue.as_raw(),
                changed.as_ptr(),
                host_length(changed.len()),
                reported.as_mut_ptr(),
                host_length(events.len()),
                timeout,
            )
        };
        let count = usize::try_from(answer).map_err(|_| last_error())?;
        // SAFETY: the kernel has written the first `count` entries, and never reports more than there is room for.
        unsafe { reported.set_len(count) };

        let mut stored = 0;
        for theirs in reported.iter() {
            if let Some(event) = from_host(theirs) {
                events[stored] = event;
                stored += 1;
            }
        }
        Ok(Wait::Ready(stored))
    }

    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        match target {
            WakeTarget::UserEvent { kqueue, ident, udata } => {
                Ok(Arc::new(UserEventWaker { copy: posix::duplicate(kqueue)?, ident, udata }))
            }
            WakeTarget::Eventfd(_) => Err(Errno::Unsupported),
        }
    }
}

/// Triggers a user filter, through a duplicate of the kqueue's descriptor that it owns: the number stays its own after
/// the loop has closed its.
#[derive(Debug)]
struct UserEventWaker {
    copy: OwnedFd,
    ident: u64,
    udata: u64,
}

impl Wake for UserEventWaker {
    fn wake(&self) {
        // No EV_CLEAR here: on FreeBSD it would cancel the trigger (kernel-semantics K45).
        let change = to_host(&Kevent {
            ident: self.ident,
            filter: Filter::User,
            note: Note::Trigger,
            udata: self.udata,
            ..Kevent::EMPTY
        });
        // SAFETY: one entry to read, no room to write, no timeout.
        let answer = unsafe {
            host::kevent(self.copy.as_raw_fd(), &raw const change, 1, ptr::null_mut(), 0, ptr::null())
        };
        // ENOENT: the loop has removed the knote, because it is going away.
        debug_assert!(
            answer == 0 || last_error() == Errno::ENOENT,
            "kevent with NOTE_TRIGGER: {:?}",
            last_error()
        );
    }
}

// Our flag values are the ones that every host has, so a word of flags is translated by masking.
const _: () = {
    assert!(KeventFlags::ADD.bits() as HostFlags == host::EV_ADD);
    assert!(KeventFlags::DELETE.bits() as HostFlags == host::EV_DELETE);
    assert!(KeventFlags::ENABLE.bits() as HostFlags == host::EV_ENABLE);
    assert!(KeventFlags::DISABLE.bits() as HostFlags == host::EV_DISABLE);
    assert!(KeventFlags::ONESHOT.bits() as HostFlags == host::EV_ONESHOT);
    assert!(KeventFlags::CLEAR.bits() as HostFlags == host::EV_CLEAR);
    assert!(KeventFlags::RECEIPT.bits() as HostFlags == host::EV_RECEIPT);
    assert!(KeventFlags::DISPATCH.bits() as HostFlags == host::EV_DISPATCH);
    assert!(KeventFlags::EOF.bits() as HostFlags == host::EV_EOF);
    assert!(KeventFlags::ERROR.bits() as HostFlags == host::EV_ERROR);
};

fn to_host_filter(filter: Filter) -> HostFilter {
    match filter {
        Filter::Read => host::EVFILT_READ,
        Filter::Write => host::EVFILT_WRITE,
        Filter::User => host::EVFILT_USER,
    }
}

fn to_host(entry: &Kevent) -> host::kevent {
    // SAFETY: all zeros is a valid kevent; what is not set below (FreeBSD's `ext`) is to be zero.
    let mut theirs: host::kevent = unsafe { std::mem::zeroed() };
    theirs.ident = entry.ident as usize;
    theirs.filter = to_host_filter(entry.filter);
    theirs.flags = entry.flags.bits() as HostFlags;
    theirs.fflags = match entry.note {
        Note::Trigger => host::NOTE_TRIGGER,
        Note::None | Note::Error(_) => 0,
    };
    theirs.data = entry.data as _;
    theirs.udata = ptr::without_provenance_mut(entry.udata as usize);
    theirs
}

/// What the kernel reports, in our terms; `None` for a filter that we never register.
#[allow(
    clippy::unnecessary_cast,
    reason = "flags are wider on NetBSD, and data has one of two names for 64 bits"
)]
fn from_host(theirs: &host::kevent) -> Option<Kevent> {
    let filter = match theirs.filter {
        host::EVFILT_READ => Filter::Read,
        host::EVFILT_WRITE => Filter::Write,
        host::EVFILT_USER => Filter::User,
        _ => return None,
    };
    // Bits that are not ours (macOS has several) are dropped.
    let flags = KeventFlags::from_bits_truncate(theirs.flags as u16);
    let (note, data) = if flags.contains(KeventFlags::ERROR) {
        // The receipt of a change: `data` is an error number of the host's, which stops here.
        (host_error(i32::try_from(theirs.data).unwrap_or(i32::MAX)), 0)
    } else if flags.contains(KeventFlags::EOF) && filter != Filter::User {
        (host_error(i32::try_from(theirs.fflags).unwrap_or(i32::MAX)), theirs.data as i64)
    } else {
        (Note::None, theirs.data as i64)
    };
    Some(Kevent { ident: theirs.ident as u64, filter, flags, note, data, udata: theirs.udata.addr() as u64 })
}

fn host_error(number: i32) -> Note {
    if number == 0 { Note::None } else { Note::Error(Errno::from_host_number(number)) }
}

/// The longest wait is 68 years: seconds beyond 31 bits are an error to some kernels, and for ever to others.
fn to_timespec(ns: u64) -> libc::timespec {
    const SECONDS_MAX: u64 = i32::MAX as u64;
    let seconds = (ns / 1_000_000_000).min(SECONDS_MAX);
    libc::timespec { tv_sec: seconds.cast_signed(), tv_nsec: (ns % 1_000_000_000).cast_signed() }
}

/// The length of a list, in the host's type for it.
fn host_length(entries: usize) -> HostLength {
    HostLength::try_from(entries).unwrap_or(HostLength::MAX)
}
