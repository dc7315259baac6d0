//! The real Linux kernel behind the seam: `epoll(7)` and `eventfd(2)`; sockets are in [`posix`].

#![allow(unsafe_code, reason = "system calls")]

use std::io::IoSlice;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use libc::c_int;

use super::posix::{self, check, check_fd, last_error, socket_calls};
use super::{
    Accepted, EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, Readiness, Shutdown, SocketOption,
    Syscalls, Wait, Wake, WakeTarget,
};

// The kernel writes straight into the loop's event list.
const _: () = {
    assert!(size_of::<EpollEvent>() == size_of::<libc::epoll_event>());
    assert!(align_of::<EpollEvent>() >= align_of::<libc::epoll_event>());
    assert!(mem::offset_of!(EpollEvent, events) == mem::offset_of!(libc::epoll_event, events));
    assert!(mem::offset_of!(EpollEvent, data) == mem::offset_of!(libc::epoll_event, u64));
};

// The masks are the kernel's, bit for bit.
const _: () = {
    assert!(EpollMask::IN.bits().cast_signed() == libc::EPOLLIN);
    assert!(EpollMask::OUT.bits().cast_signed() == libc::EPOLLOUT);
    assert!(EpollMask::ERR.bits().cast_signed() == libc::EPOLLERR);
    assert!(EpollMask::HUP.bits().cast_signed() == libc::EPOLLHUP);
    assert!(EpollMask::RDHUP.bits().cast_signed() == libc::EPOLLRDHUP);
    assert!(EpollMask::ET.bits().cast_signed() == libc::EPOLLET);
    assert!(EpollMask::ONESHOT.bits().cast_signed() == libc::EPOLLONESHOT);
};

/// The real kernel.
///
/// It holds nothing: descriptors belong to whoever asked for them, so every reactor makes one of its own.
///
/// References: epoll(7), eventfd(2), tcp(7).
#[derive(Clone, Debug, Default)]
pub struct System {
    _private: (),
}

impl System {
    /// The real kernel. Makes no call.
    ///
    /// References: epoll(7).
    pub const fn new() -> System {
        System { _private: () }
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

impl Syscalls for System {
    socket_calls!();

    fn readiness(&self) -> Readiness {
        Readiness::Epoll
    }

    fn epoll_create1(&mut self) -> Result<Fd, Errno> {
        // SAFETY: takes a number only.
        check_fd(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
    }

    #[inline]
    fn epoll_ctl(
        &mut self,
        epoll: Fd,
        operation: EpollOperation,
        fd: Fd,
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        let operation = match operation {
            EpollOperation::Add => libc::EPOLL_CTL_ADD,
            EpollOperation::Modify => libc::EPOLL_CTL_MOD,
            EpollOperation::Delete => libc::EPOLL_CTL_DEL,
        };
        let mut event = EpollEvent { events: mask.bits(), data };
        let event = (&raw mut event).cast::<libc::epoll_event>();
        // SAFETY: `event` has the layout of an epoll_event (asserted above), and the call only reads it.
        check(unsafe { libc::epoll_ctl(epoll.as_raw(), operation, fd.as_raw(), event) })
    }

    #[inline]
    fn epoll_wait(&mut self, epoll: Fd, events: &mut [EpollEvent], timeout_ms: i32) -> Result<Wait, Errno> {
        let room = c_int::try_from(events.len()).unwrap_or(c_int::MAX);
        let list = events.as_mut_ptr().cast::<libc::epoll_event>();
        // SAFETY: `list` has room for `room` entries of epoll_event's layout (asserted above), and every bit pattern that
        // the kernel writes there is an EpollEvent.
        let answer = unsafe { libc::epoll_wait(epoll.as_raw(), list, room, timeout_ms) };
        usize::try_from(answer).map(Wait::Ready).map_err(|_| last_error())
    }

    fn eventfd(&mut self) -> Result<Fd, Errno> {
        // SAFETY: takes numbers only.
        check_fd(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })
    }

    #[inline]
    fn read_eventfd(&mut self, fd: Fd) -> Result<u64, Errno> {
        let mut sum = 0_u64;
        // SAFETY: `sum` has eight writable bytes.
        let answer = unsafe { libc::read(fd.as_raw(), (&raw mut sum).cast(), size_of::<u64>()) };
        if answer < 0 { Err(last_error()) } else { Ok(sum) }
    }

    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        match target {
            WakeTarget::Eventfd(fd) => Ok(Arc::new(EventfdWaker { copy: posix::duplicate(fd)? })),
            WakeTarget::UserEvent { .. } => Err(Errno::Unsupported),
        }
    }
}

/// Adds one to an eventfd, through a duplicate that it owns: the number stays its own after the loop has closed its.
#[derive(Debug)]
struct EventfdWaker {
    copy: OwnedFd,
}

impl Wake for EventfdWaker {
    fn wake(&self) {
        let one = 1_u64;
        // SAFETY: `one` has eight readable bytes.
        let answer = unsafe { libc::write(self.copy.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
        // EAGAIN is the one error that a non-blocking eventfd has: the counter is at its end, so a wake-up is pending.
        debug_assert!(
            answer == 8 || last_error() == Errno::EAGAIN,
            "write to an eventfd: {:?}",
            last_error()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waking_a_full_eventfd_is_a_success_and_the_wake_up_stays_pending() {
        let full = u64::MAX - 1;
        let mut system = System::new();
        let fd = system.eventfd().unwrap();
        let waker = system.waker(WakeTarget::Eventfd(fd)).unwrap();
        // SAFETY: `full` has eight readable bytes.
        let written = unsafe { libc::write(fd.as_raw(), (&raw const full).cast(), size_of::<u64>()) };
        assert_eq!(written, 8);
        waker.wake();
        assert_eq!(system.read_eventfd(fd), Ok(full));
        system.close(fd).unwrap();
    }
}
