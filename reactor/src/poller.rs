//! From raw readiness calls to readiness bits: one poller per family of calls, chosen at run time.
//!
//! Both pollers have the same items in the same order, to be read side by side. They are portable code: which of them
//! runs is a property of the [`Syscalls`] behind the loop, so the kqueue one runs on any machine over the simulated
//! kernel.

mod epoll;
mod kqueue;

use crate::sys::{Errno, Fd, Readiness, Syscalls, Wait, WakeTarget};
use crate::token::Token;

use epoll::EpollPoller;
use kqueue::KqueuePoller;

bitflags::bitflags! {
    /// What a source is ready for. A bit is set by an event, and cleared only by the operation that found the contrary.
    #[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
    pub(crate) struct Ready: u8 {
        /// Reading may make progress.
        const READABLE = 0x01;
        /// Writing may make progress.
        const WRITABLE = 0x02;
        /// The peer has finished sending, or the connection is gone: a short read no longer means that the socket is
        /// empty (kernel-semantics E22), and this never goes away again (bug-catalogue B65).
        const HANGUP = 0x04;
        /// The kernel has an error for the connection. Reading tells of it, but not behind the peer's end
        /// (kernel-semantics T50).
        const FAILED = 0x08;
    }
}

/// One event, translated.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Report {
    /// Whom it is for; possibly dead by now.
    pub token: Token,
    /// What to add to its readiness.
    pub ready: Ready,
    /// The kernel refused to watch the source. Only kqueue tells this late.
    pub refused: Option<Errno>,
}

/// What kind of source is watched.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// A listener: reading means accepting.
    Listener,
    /// A connection that is being made: writability tells that the attempt has ended.
    Connecting,
    /// An open connection.
    Stream,
}

/// See the module.
#[derive(Debug)]
pub(crate) enum Poller {
    Epoll(EpollPoller),
    Kqueue(KqueuePoller),
}

impl Poller {
    pub fn new<S: Syscalls>(sys: &mut S, events_per_wait: usize) -> Result<Poller, Errno> {
        match sys.readiness() {
            Readiness::Epoll => EpollPoller::new(sys, events_per_wait).map(Poller::Epoll),
            Readiness::Kqueue => KqueuePoller::new(sys, events_per_wait).map(Poller::Kqueue),
        }
    }

    /// Watches a source, once for its whole life.
    pub fn register<S: Syscalls>(
        &mut self,
        sys: &mut S,
        fd: Fd,
        token: Token,
        source: Source,
    ) -> Result<(), Errno> {
        match self {
            Poller::Epoll(poller) => poller.register(sys, fd, token, source),
            Poller::Kqueue(poller) => poller.register(fd, token, source),
        }
    }

    /// Asks for one report of writability; to be called when a write found no room. Epoll owes that edge anyway
    /// (kernel-semantics E19).
    pub fn arm_write(&mut self, fd: Fd, token: Token) {
        match self {
            Poller::Epoll(_) => {}
            Poller::Kqueue(poller) => poller.arm_write(fd, token),
        }
    }

    /// Forgets what is queued for a descriptor that is about to be closed; the close itself ends the registration.
    pub fn forget(&mut self, fd: Fd) {
        match self {
            Poller::Epoll(_) => {}
            Poller::Kqueue(poller) => poller.forget(fd),
        }
    }

    /// Waits for up to `timeout_ns` (`None`: for ever).
    pub fn wait<S: Syscalls>(&mut self, sys: &mut S, timeout_ns: Option<u64>) -> Result<Wait, Errno> {
        match self {
            Poller::Epoll(poller) => poller.wait(sys, timeout_ns),
            Poller::Kqueue(poller) => poller.wait(sys, timeout_ns),
        }
    }

    /// The `index`-th event of the last wait.
    #[inline]
    pub fn report(&self, index: usize) -> Report {
        match self {
            Poller::Epoll(poller) => poller.report(index),
            Poller::Kqueue(poller) => poller.report(index),
        }
    }

    /// What a waker has to reach.
    pub fn wake_target(&self) -> WakeTarget {
        match self {
            Poller::Epoll(poller) => poller.wake_target(),
            Poller::Kqueue(poller) => poller.wake_target(),
        }
    }

    /// Empties the wake descriptor, so that the next wake is a new event.
    pub fn drain_wakes<S: Syscalls>(&mut self, sys: &mut S) {
        match self {
            Poller::Epoll(poller) => poller.drain_wakes(sys),
            Poller::Kqueue(_) => {}
        }
    }

    /// Releases the poller's own descriptors.
    pub fn close<S: Syscalls>(&mut self, sys: &mut S) {
        match self {
            Poller::Epoll(poller) => poller.close(sys),
            Poller::Kqueue(poller) => poller.close(sys),
        }
    }
}
