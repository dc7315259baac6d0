//! The seam: everything the loop asks of the outside world, one method per system call, named for it.
//!
//! What a backend owes, in one list:
//!
//! | item | Linux | FreeBSD, macOS, NetBSD |
//! |---|---|---|
//! | [`Syscalls::clock_gettime`] and the socket calls | yes | yes |
//! | [`Syscalls::epoll_create1`], [`Syscalls::epoll_ctl`], [`Syscalls::epoll_wait`], [`Syscalls::eventfd`] | yes | `Unsupported` |
//! | [`Syscalls::kqueue`], [`Syscalls::kevent`] | `Unsupported` | yes |
//! | [`Syscalls::waker`] | over an eventfd | over `EVFILT_USER` |
//!
//! The types here are ours and closed, so that a seed found under one system's rules replays bit for bit on another
//! system. The pollers above the seam (`crate::poller`) are ordinary portable code: the kqueue translation compiles and
//! runs on Linux against the simulated kernel. Only the modules below this one contain `unsafe`.
//!
//! Every descriptor made here is non-blocking and close-on-exec; no call of this trait ever blocks, but for the two
//! waits.

use std::fmt;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::time::Instant;

mod posix;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use linux::System;

#[cfg(any(not(any(target_os = "linux", target_os = "android")), feature = "libkqueue"))]
mod bsd;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub use bsd::System;

#[cfg(all(any(target_os = "linux", target_os = "android"), feature = "libkqueue"))]
pub mod libkqueue;
#[cfg(all(any(target_os = "linux", target_os = "android"), feature = "libkqueue"))]
pub use libkqueue::LibkqueueSystem;

/// A file descriptor: a number that the kernel hands out, lowest free one first (kernel-semantics T1).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(i32);

impl Fd {
    /// The descriptor with this number.
    pub const fn from_raw(number: i32) -> Fd {
        Fd(number)
    }

    /// The number the kernel knows it by.
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fd{}", self.0)
    }
}

macro_rules! errnos {
    ($($name:ident $says:literal,)*) => {
        /// What a system call can fail with: a closed set of ours, by the C names, without the host's numbers.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Errno {
            $(#[doc = $says] $name,)*
            /// The system has no such call; what the seam's default methods answer.
            Unsupported,
            /// A number that this list lacks, as the host reported it. Only real kernels produce it; it ends the
            /// connection it belongs to, never the loop, and is counted.
            Unlisted(i32),
        }

        impl Errno {
            /// Every listed error, in the order of the list.
            pub const LISTED: &'static [Errno] = &[$(Errno::$name),*];

            /// The C name, or `Unsupported`, or `Unlisted`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Errno::$name => stringify!($name),)*
                    Errno::Unsupported => "Unsupported",
                    Errno::Unlisted(_) => "Unlisted",
                }
            }

            /// What it means, in words.
            pub const fn says(self) -> &'static str {
                match self {
                    $(Errno::$name => $says,)*
                    Errno::Unsupported => "the system has no such call",
                    Errno::Unlisted(_) => "an error number outside the list",
                }
            }
        }
    };
}

errnos! {
    EACCES "permission denied",
    EADDRINUSE "address already in use",
    EADDRNOTAVAIL "address not available",
    EAFNOSUPPORT "address family not supported",
    EAGAIN "the call would block",
    EALREADY "a connection attempt is already in progress",
    EBADF "not an open descriptor",
    ECONNABORTED "connection aborted before it was accepted",
    ECONNREFUSED "connection refused",
    ECONNRESET "connection reset by peer",
    EDESTADDRREQ "destination address required",
    EEXIST "already registered",
    EFAULT "bad address",
    EHOSTDOWN "host is down",
    EHOSTUNREACH "no route to host",
    EINPROGRESS "connection attempt started",
    EINTR "interrupted by a signal",
    EINVAL "invalid argument",
    EIO "input/output error",
    EISCONN "already connected",
    ELOOP "too many levels of nesting",
    EMFILE "too many open descriptors in this process",
    EMSGSIZE "message too long",
    ENETDOWN "network is down",
    ENETRESET "connection dropped by the network",
    ENETUNREACH "network is unreachable",
    ENFILE "too many open descriptors in the system",
    ENOBUFS "no buffer space",
    ENOENT "not registered",
    ENOMEM "out of memory",
    ENONET "machine is not on the network",
    ENOPROTOOPT "no such protocol option",
    ENOSPC "no space for another registration",
    ENOTCONN "not connected",
    ENOTSOCK "not a socket",
    EOPNOTSUPP "operation not supported",
    EPERM "operation not permitted",
    EPIPE "the connection is shut down for writing",
    EPROTO "protocol error",
    EPROTOTYPE "wrong protocol type for the socket",
    ESHUTDOWN "the endpoint is shut down",
    ETIMEDOUT "timed out",
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Errno::Unlisted(number) => write!(f, "{} (error number {number})", self.says()),
            _ => write!(f, "{} ({})", self.says(), self.name()),
        }
    }
}

impl std::error::Error for Errno {}

/// The address family of a socket.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family that `address` belongs to.
    pub const fn of(address: &SocketAddr) -> Family {
        match address {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        }
    }
}

/// Which direction of a connection `shutdown(2)` ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// No more receiving.
    Read,
    /// No more sending: a FIN follows the queued bytes.
    Write,
    /// Both.
    Both,
}

/// A socket option and its value.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SocketOption {
    /// `SO_REUSEADDR`: rebind while old connections are in TIME_WAIT.
    ReuseAddress(bool),
    /// `SO_REUSEPORT` (`SO_REUSEPORT_LB` on FreeBSD): several listeners share one port.
    ReusePort(bool),
    /// `IPV6_V6ONLY`: an IPv6 listener takes no IPv4 connections.
    V6Only(bool),
    /// `TCP_NODELAY`: small segments are sent at once (kernel-semantics T66).
    NoDelay(bool),
    /// `SO_KEEPALIVE`.
    KeepAlive(bool),
    /// `SO_SNDBUF`, in bytes as asked for; Linux doubles it (kernel-semantics T54).
    SendBufferBytes(u32),
    /// `SO_RCVBUF`, in bytes as asked for; Linux doubles it.
    ReceiveBufferBytes(u32),
    /// `SO_LINGER {1, 0}`: the last close resets the connection and drops unsent bytes (T75). A linger with a time is
    /// left out on purpose: on Linux it blocks in close even for a non-blocking socket (T76, bug-catalogue B92).
    ResetOnClose(bool),
    /// `TCP_CONGESTION`, by name, where the system has it; measurements pin it.
    Congestion(Congestion),
}

/// A congestion control algorithm, for [`SocketOption::Congestion`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Congestion {
    /// CUBIC (RFC 9438).
    Cubic,
    /// NewReno (RFC 6582).
    Reno,
}

/// What `accept4(2)` gave.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The new descriptor.
    pub fd: Fd,
    /// The peer's address; absent when the kernel returned an address of length zero, as macOS does for a peer that
    /// has already reset (kernel-semantics T38).
    pub peer: Option<SocketAddr>,
}

/// Which family of readiness calls a system has.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// `epoll(7)`.
    Epoll,
    /// `kqueue(2)`.
    Kqueue,
}

/// How a wait ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Wait {
    /// This many events were stored; zero means that the timeout passed.
    Ready(usize),
    /// The simulated kernel put this thread to sleep: its changes have been applied, and the same wait is to be entered
    /// again, without changes, when the kernel says that it has ended. No real kernel answers this.
    Parked,
}

bitflags::bitflags! {
    /// The event bits of `epoll_ctl(2)`, with Linux's values.
    #[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
    pub struct EpollMask: u32 {
        /// Readable.
        const IN = 0x001;
        /// Writable, by the one-third rule (kernel-semantics T56).
        const OUT = 0x004;
        /// An error is pending; reported whether asked for or not.
        const ERR = 0x008;
        /// Both directions are shut; reported whether asked for or not.
        const HUP = 0x010;
        /// The peer has finished sending, in band.
        const RDHUP = 0x2000;
        /// Edge-triggered.
        const ET = 1 << 31;
        /// One report, then silence until `Modify`.
        const ONESHOT = 1 << 30;
    }
}

/// One entry of `epoll_wait(2)`, laid out as the kernel lays it out.
#[derive(Copy, Clone, Default)]
#[repr(C)]
#[cfg_attr(target_arch = "x86_64", repr(packed))]
pub struct EpollEvent {
    /// Event bits, see [`EpollMask`].
    pub events: u32,
    /// The word given at registration.
    pub data: u64,
}

impl fmt::Debug for EpollEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (events, data) = (self.events, self.data);
        write!(f, "{:?} data {data:#x}", EpollMask::from_bits_retain(events))
    }
}

/// What `epoll_ctl(2)` is to do.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum EpollOperation {
    /// `EPOLL_CTL_ADD`.
    Add,
    /// `EPOLL_CTL_MOD`.
    Modify,
    /// `EPOLL_CTL_DEL`.
    Delete,
}

/// The filter of a knote.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Filter {
    /// `EVFILT_READ`.
    Read,
    /// `EVFILT_WRITE`.
    Write,
    /// `EVFILT_USER`.
    User,
}

bitflags::bitflags! {
    /// The flags of a kevent. The values are ours; the BSD backend translates.
    #[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
    pub struct KeventFlags: u16 {
        /// Add, or change, the knote.
        const ADD = 0x0001;
        /// Remove the knote.
        const DELETE = 0x0002;
        /// Allow delivery again.
        const ENABLE = 0x0004;
        /// Hold delivery back.
        const DISABLE = 0x0008;
        /// Remove after one delivery.
        const ONESHOT = 0x0010;
        /// Edge mode: silent after a delivery until the next activation (kernel-semantics K9).
        const CLEAR = 0x0020;
        /// Ask for a receipt of this change (K17).
        const RECEIPT = 0x0040;
        /// Disable after one delivery (K8).
        const DISPATCH = 0x0080;
        /// Out: the direction has ended; unread bytes may remain (K26).
        const EOF = 0x8000;
        /// Out: this entry is the receipt or the error of a change; `data` is the error (see [`Kevent::receipt`]).
        const ERROR = 0x4000;
    }
}

/// What a kevent carries beside its filter: for a change the note asked for, for a report what the filter found.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Note {
    /// Nothing.
    #[default]
    None,
    /// `NOTE_TRIGGER`, in a change for [`Filter::User`].
    Trigger,
    /// With [`KeventFlags::EOF`]: the error that ended the direction; not consumed (K27).
    Error(Errno),
}

/// One entry of a change list or of an event list of `kevent(2)`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Kevent {
    /// Descriptor number, or any number for [`Filter::User`].
    pub ident: u64,
    /// The filter; with `ident` it is the identity of the knote (K1).
    pub filter: Filter,
    /// Flags.
    pub flags: KeventFlags,
    /// Note.
    pub note: Note,
    /// Bytes to read or room to write, as the filter counts.
    pub data: i64,
    /// The word given at registration.
    pub udata: u64,
}

impl Kevent {
    /// An empty entry, to fill event lists with.
    pub const EMPTY: Kevent = Kevent {
        ident: 0,
        filter: Filter::Read,
        flags: KeventFlags::empty(),
        note: Note::None,
        data: 0,
        udata: 0,
    };

    /// For an entry with [`KeventFlags::ERROR`]: how the change went. `None` for an ordinary event.
    pub fn receipt(&self) -> Option<Result<(), Errno>> {
        if !self.flags.contains(KeventFlags::ERROR) {
            return None;
        }
        match self.note {
            Note::Error(error) => Some(Err(error)),
            Note::None | Note::Trigger => Some(Ok(())),
        }
    }
}

/// What a [`Wake`] handle reaches.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum WakeTarget {
    /// An eventfd that the loop has registered.
    Eventfd(Fd),
    /// The user filter with this `ident` in this kqueue, which the loop has added.
    UserEvent {
        /// The kqueue.
        kqueue: Fd,
        /// The knote's identity.
        ident: u64,
        /// The word that the loop registered it with. The wake repeats it: any change to a knote replaces its word,
        /// a trigger too.
        udata: u64,
    },
}

/// A handle that makes the loop's wait return, from any thread.
///
/// It keeps what it needs alive on its own: waking after the loop is gone is harmless.
pub trait Wake: Send + Sync + fmt::Debug {
    /// Makes the current or the next wait return. Several wakes before a wait may merge into one.
    ///
    /// A wake descriptor that is full already holds a wake-up, so that counts as success (bug-catalogue B80).
    fn wake(&self);
}

/// The system calls that the loop makes.
///
/// Each method is one call. No method retries, and none hides `EINTR`: what to do is the caller's decision, so that it is
/// visible to the simulated kernel.
pub trait Syscalls {
    /// `clock_gettime(2)` of the monotonic clock. Never decreases; equal values are allowed (kernel-semantics C1).
    fn clock_gettime(&mut self) -> Instant;

    /// `socket(2)`: a TCP socket, non-blocking, close-on-exec.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, `EAFNOSUPPORT`.
    fn socket(&mut self, family: Family) -> Result<Fd, Errno>;

    /// `setsockopt(2)`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` where the system lacks the option; `EINVAL` on macOS for a socket that is shut both ways (T80).
    fn setsockopt(&mut self, fd: Fd, option: SocketOption) -> Result<(), Errno>;

    /// `bind(2)`.
    ///
    /// # Errors
    /// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, `EINVAL`.
    fn bind(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno>;

    /// `listen(2)`.
    ///
    /// # Errors
    /// `EADDRINUSE`, `EINVAL`.
    fn listen(&mut self, fd: Fd, backlog: u32) -> Result<(), Errno>;

    /// `accept4(2)`: the new descriptor is non-blocking and close-on-exec.
    ///
    /// # Errors
    /// `EAGAIN` when the queue is empty; the errors of kernel-semantics T44. At the descriptor limit Linux answers
    /// `EMFILE` even when the queue is empty (T35).
    fn accept4(&mut self, fd: Fd) -> Result<Accepted, Errno>;

    /// `connect(2)`.
    ///
    /// # Errors
    /// `EINPROGRESS` is the ordinary answer (T15); later calls tell how the attempt went (T16-T21).
    fn connect(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno>;

    /// `getsockname(2)`.
    ///
    /// # Errors
    /// `EBADF`, `ENOTSOCK`.
    fn getsockname(&mut self, fd: Fd) -> Result<SocketAddr, Errno>;

    /// `getsockopt(SO_ERROR)`: takes the socket's pending error out of its one slot (T51).
    ///
    /// # Errors
    /// `EBADF`, `ENOTSOCK`; not the pending error, which is the value.
    fn take_socket_error(&mut self, fd: Fd) -> Result<Option<Errno>, Errno>;

    /// `recv(2)`: exactly the smaller of the buffer and what is queued; zero at the end of the stream.
    ///
    /// # Errors
    /// `EAGAIN` when nothing is queued; `ECONNRESET` and others once (T49, T51).
    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno>;

    /// `send(2)` with `MSG_NOSIGNAL` (or `SO_NOSIGPIPE` at creation), bug-catalogue B95.
    ///
    /// # Errors
    /// `EAGAIN` when there is no room; `EPIPE`, `ECONNRESET` (T60-T62); `ENOBUFS` on BSD.
    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno>;

    /// `sendmsg(2)` with `MSG_NOSIGNAL`: the segments in order; may end inside one.
    ///
    /// # Errors
    /// As [`Syscalls::send`]; `EMSGSIZE` for more than 1024 segments (T64).
    fn sendmsg(&mut self, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno>;

    /// `shutdown(2)`.
    ///
    /// # Errors
    /// `ENOTCONN` once both directions are closed (T68).
    fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno>;

    /// `close(2)`. The number is free whatever the answer: never retry (T79, bug-catalogue B44).
    ///
    /// # Errors
    /// `EBADF` (a bug of ours); `EINTR`, `EIO` after the fact.
    fn close(&mut self, fd: Fd) -> Result<(), Errno>;

    /// Which readiness calls this system has; asked once, when the loop is made.
    fn readiness(&self) -> Readiness;

    /// `epoll_create1(2)`.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`, `Unsupported`.
    fn epoll_create1(&mut self) -> Result<Fd, Errno> {
        Err(Errno::Unsupported)
    }

    /// `epoll_ctl(2)`; `mask` and `data` are ignored by `Delete`.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT`, `ENOSPC`, `ENOMEM`, `EPERM`, `EBADF`, `Unsupported`.
    fn epoll_ctl(
        &mut self,
        epoll: Fd,
        operation: EpollOperation,
        fd: Fd,
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        let _ = (epoll, operation, fd, mask, data);
        Err(Errno::Unsupported)
    }

    /// `epoll_wait(2)`: milliseconds, -1 for ever. Never early; late within kernel-semantics C4.
    ///
    /// # Errors
    /// `EINTR` at any wait that sleeps; `EINVAL` for an empty event list; `Unsupported`.
    fn epoll_wait(&mut self, epoll: Fd, events: &mut [EpollEvent], timeout_ms: i32) -> Result<Wait, Errno> {
        let _ = (epoll, events, timeout_ms);
        Err(Errno::Unsupported)
    }

    /// `eventfd(2)`, counter zero, non-blocking.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`, `Unsupported`.
    fn eventfd(&mut self) -> Result<Fd, Errno> {
        Err(Errno::Unsupported)
    }

    /// `read(2)` of an eventfd: the sum of the wakes, which becomes zero.
    ///
    /// # Errors
    /// `EAGAIN` when it is zero; `Unsupported`.
    fn read_eventfd(&mut self, fd: Fd) -> Result<u64, Errno> {
        let _ = fd;
        Err(Errno::Unsupported)
    }

    /// `kqueue(2)`.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`, `Unsupported`.
    fn kqueue(&mut self) -> Result<Fd, Errno> {
        Err(Errno::Unsupported)
    }

    /// `kevent(2)`: applies `changes`, then waits for up to `timeout_ns` (`None`: for ever) unless a change made an
    /// entry in `events` (K15-K18, K21). With no room in `events` it returns at once.
    ///
    /// # Errors
    /// `EINTR`, with all changes applied; the error of a change that has no room to be reported (K16); `Unsupported`.
    fn kevent(
        &mut self,
        kqueue: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        let _ = (kqueue, changes, events, timeout_ns);
        Err(Errno::Unsupported)
    }

    /// Makes a handle that other threads wake the loop with. On a real system it holds a duplicate of the descriptor.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno>;

    /// A place where another thread may run, named by its site. Empty on real kernels, where that may happen anywhere;
    /// on the simulated kernel this is how a producer gets between two steps of the loop that make no system call.
    fn schedule_point(&mut self, site: &'static str) {
        let _ = site;
    }
}
