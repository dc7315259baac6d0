//! Asking what is ready: epoll with any argument, poll and select.

#![allow(unsafe_code, reason = "system calls")]

use std::mem;
use std::ptr;

use libc::c_int;
use reactor::sys::{Errno, Fd};

use super::super::probe::PollEntry;
use super::{Answer, check, check_count, check_fd, last_error};

/// More room than any script fills; more is asked for only to be refused.
const EVENTS_MAX: i32 = 1 << 16;

/// The largest room that the kernel takes (EP_MAX_EVENTS).
const ROOM_MAX: i32 = i32::MAX / EVENT_BYTES;

/// The size of an epoll_event.
const EVENT_BYTES: i32 = if cfg!(target_arch = "x86_64") { 12 } else { 16 };
const _: () = assert!(EVENT_BYTES as usize == size_of::<libc::epoll_event>());

pub(super) fn epoll_create(size: Option<i32>, flags: i32) -> Answer<Fd> {
    let made = match size {
        // SAFETY: takes a number only.
        Some(size) => unsafe { libc::epoll_create(size) },
        // SAFETY: takes a number only.
        None => unsafe { libc::epoll_create1(flags) },
    };
    check_fd(made)
}

pub(super) fn epoll_ctl(epoll: Fd, operation: i32, fd: Fd, event: Option<(u32, u64)>) -> Answer<()> {
    let mut event = event.map(|(events, data)| libc::epoll_event { events, u64: data });
    let event = event.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: `event` is a live epoll_event that the call only reads, or null, which the kernel answers with EFAULT.
    check(unsafe { libc::epoll_ctl(epoll.as_raw(), operation, fd.as_raw(), event) })
}

/// Lets a call write events into a list of `room` entries, and gives pairs of bits and data.
fn into_events(
    room: i32,
    call: impl FnOnce(*mut libc::epoll_event, c_int) -> c_int,
) -> Answer<Vec<(u32, u64)>> {
    let entries = usize::try_from(room.min(EVENTS_MAX)).unwrap_or(0);
    let mut list = vec![libc::epoll_event { events: 0, u64: 0 }; entries];
    // What is larger than the list goes to the kernel only if the kernel refuses it.
    let room = if room <= ROOM_MAX { room.min(EVENTS_MAX) } else { room };
    let count = check_count(call(list.as_mut_ptr(), room) as isize)?;
    Ok(list[..count].iter().map(|event| (event.events, event.u64)).collect())
}

pub(super) fn epoll_wait(epoll: Fd, room: i32, timeout_ms: i32) -> Answer<Vec<(u32, u64)>> {
    // SAFETY: `list` has `room` entries, or `room` is one that the kernel refuses before it writes: none, or too many.
    into_events(room, |list, room| unsafe { libc::epoll_wait(epoll.as_raw(), list, room, timeout_ms) })
}

/// By its number: older C libraries lack the function.
pub(super) fn epoll_pwait2(epoll: Fd, room: i32, timeout: Option<(i64, i64)>) -> Answer<Vec<(u32, u64)>> {
    let timeout = timeout.map(|(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let no_signals: *const libc::sigset_t = ptr::null();
    into_events(room, |list, room| {
        // SAFETY: as in `epoll_wait`; `timeout` is null or a live timespec, and no set of signals is given.
        let answer = unsafe {
            libc::syscall(libc::SYS_epoll_pwait2, epoll.as_raw(), list, room, timeout, no_signals, 8_usize)
        };
        c_int::try_from(answer).unwrap_or(-1)
    })
}

pub(super) fn poll(entries: &[PollEntry], timeout_ms: i32) -> Answer<Vec<PollEntry>> {
    #[expect(clippy::cast_possible_truncation, reason = "poll(2) has no bits above the sixteenth")]
    let entry = |entry: &PollEntry| libc::pollfd {
        fd: entry.fd,
        events: (entry.bits as u16).cast_signed(),
        revents: 0,
    };
    let mut list: Vec<libc::pollfd> = entries.iter().map(entry).collect();
    // SAFETY: `list` has as many entries as the call is told.
    let answer = unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, timeout_ms) };
    check_count(answer as isize)?;
    let found =
        |entry: &libc::pollfd| PollEntry { fd: entry.fd, bits: u32::from(entry.revents.cast_unsigned()) };
    Ok(list.iter().map(found).collect())
}

/// `EINVAL` for a number that an fd_set has no bit for.
pub(super) fn select(sets: [&[Fd]; 3], timeout_ms: i32) -> Answer<[Vec<Fd>; 3]> {
    let bit_exists = |fd: &Fd| usize::try_from(fd.as_raw()).is_ok_and(|number| number < libc::FD_SETSIZE);
    if !sets.iter().all(|set| set.iter().all(bit_exists)) {
        return Err(Errno::EINVAL);
    }
    let host_set = |set: &[Fd]| {
        // SAFETY: all zeros is an fd_set, the empty one; every number is below FD_SETSIZE.
        unsafe {
            let mut host: libc::fd_set = mem::zeroed();
            set.iter().for_each(|fd| libc::FD_SET(fd.as_raw(), &raw mut host));
            host
        }
    };
    let [mut read, mut write, mut except] = sets.map(host_set);
    let numbers = sets.iter().flat_map(|set| set.iter()).map(|fd| fd.as_raw() + 1).max().unwrap_or(0);
    let ms = i64::from(timeout_ms);
    let mut time = libc::timeval { tv_sec: ms / 1000, tv_usec: ms % 1000 * 1000 };
    let time = if timeout_ms < 0 { ptr::null_mut() } else { &raw mut time };
    // SAFETY: the sets and the time are live and the call may write to them; `time` may be null.
    let answer = unsafe { libc::select(numbers, &raw mut read, &raw mut write, &raw mut except, time) };
    if answer < 0 {
        return Err(last_error());
    }
    let left = |asked: &[Fd], host: &libc::fd_set| {
        // SAFETY: every number is below FD_SETSIZE.
        asked.iter().copied().filter(|fd| unsafe { libc::FD_ISSET(fd.as_raw(), host) }).collect()
    };
    Ok([left(sets[0], &read), left(sets[1], &write), left(sets[2], &except)])
}
