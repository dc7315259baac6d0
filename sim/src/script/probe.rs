//! What scripts call beyond the seam: the calls that the loop has no use for, in their full width.
//!
//! The seam ([`Syscalls`]) holds what the loop needs; this trait widens it with what only scripts need - duplicates,
//! peeking, blocking mode, wrong flags, pipes, timers, other readiness calls. It is implemented for the live Linux kernel, for
//! the simulated kernel, and for libkqueue. A call that a system lacks answers [`Errno::Unsupported`].

use std::net::SocketAddr;

use reactor::sys::{Errno, Fd, Syscalls};

/// What a call answers.
pub type Answer<T> = Result<T, Errno>;

bitflags::bitflags! {
    /// Flags of receiving and sending, with Linux's values.
    #[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
    pub struct MessageFlags: u32 {
        /// Leave the bytes where they are.
        const PEEK = 0x02;
        /// Return at once whatever the descriptor's mode.
        const DONTWAIT = 0x40;
        /// Wait for the whole length, in blocking mode.
        const WAITALL = 0x100;
        /// No SIGPIPE.
        const NOSIGNAL = 0x4000;
    }
}

/// The kind of a socket that a script makes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SocketKind {
    /// TCP over IPv4.
    Tcp,
    /// UDP over IPv4.
    Udp,
    /// A UNIX stream.
    Unix,
}

/// A socket option in its full width; the value is a number, [`WideOption::Linger`] has -1 for off and otherwise seconds.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum WideOption {
    /// `SO_SNDBUF`, in bytes.
    SendBuffer,
    /// `SO_RCVBUF`, in bytes.
    ReceiveBuffer,
    /// `SO_RCVLOWAT`, in bytes.
    ReceiveLowWater,
    /// `SO_SNDLOWAT`, in bytes (BSD).
    SendLowWater,
    /// `TCP_NODELAY`.
    NoDelay,
    /// `TCP_NOTSENT_LOWAT`, in bytes.
    NotSentLowWater,
    /// `TCP_SYNCNT`: SYNs that are sent again.
    SynCount,
    /// `SO_KEEPALIVE`.
    KeepAlive,
    /// `SO_REUSEADDR`.
    ReuseAddress,
    /// `SO_REUSEPORT`.
    ReusePort,
    /// `SO_LINGER`: -1 off, else on with this many seconds.
    Linger,
    /// `SO_ACCEPTCONN`: whether it listens; to read only.
    Listens,
    /// `O_NONBLOCK`, by fcntl(2): 1 for non-blocking.
    NonBlocking,
    /// `FD_CLOEXEC`, by fcntl(2).
    CloseOnExec,
    /// `FIONREAD`: bytes that can be read; to read only.
    Readable,
    /// `TCP_QUICKACK`: 1 sends at once the acknowledgement that waits (Linux).
    QuickAck,
}

/// A registration or a report of poll(2): a descriptor and `POLL` bits, which have epoll's values.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct PollEntry {
    /// The raw number; a negative one is ignored.
    pub fd: i32,
    /// `IN`, `OUT` ... as [`reactor::sys::EpollMask`]; `0x20` is `POLLNVAL`.
    pub bits: u32,
}

/// The POLLNVAL bit.
pub const POLL_INVALID: u32 = 0x20;
/// EPOLLPRI and POLLPRI.
pub const PRI: u32 = 0x2;
/// EPOLLEXCLUSIVE.
pub const EXCLUSIVE: u32 = 1 << 28;

/// The identity of the signal that scripts send, for EVFILT_SIGNAL: SIGUSR1 by its number on the BSDs and macOS. Backends translate.
pub const SIGNAL_USR1: u64 = 30;

/// The filter of a wide kevent.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WideFilter {
    /// `EVFILT_READ`.
    Read,
    /// `EVFILT_WRITE`.
    Write,
    /// `EVFILT_USER`.
    User,
    /// `EVFILT_TIMER`.
    Timer,
    /// `EVFILT_SIGNAL`.
    Signal,
    /// A number that no system has.
    Bad,
}

bitflags::bitflags! {
    /// Filter flags of a wide kevent, by our own values; backends translate.
    #[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
    pub struct WideNotes: u32 {
        /// `NOTE_TRIGGER`.
        const TRIGGER = 0x0100_0000;
        /// `NOTE_FFAND`.
        const FFAND = 0x4000_0000;
        /// `NOTE_FFOR`.
        const FFOR = 0x8000_0000;
        /// `NOTE_FFCOPY`.
        const FFCOPY = 0xc000_0000;
        /// `NOTE_LOWAT`.
        const LOWAT = 0x0200_0000;
        /// `NOTE_SECONDS`.
        const SECONDS = 0x0400_0000;
        /// `NOTE_USECONDS`.
        const MICROSECONDS = 0x0800_0000;
        /// `NOTE_NSECONDS`.
        const NANOSECONDS = 0x1000_0000;
        /// `NOTE_ABSTIME`, macOS `NOTE_ABSOLUTE`. The data of a change counts from now and may be negative; backends add
        /// the clock.
        const ABSOLUTE = 0x2000_0000;
        /// The low 24 bits, which belong to the user.
        const USER_BITS = 0x00ff_ffff;
    }
}

/// A kevent in its full width.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct WideKevent {
    /// The descriptor, signal, or name of the knote.
    pub ident: u64,
    /// Which filter.
    pub filter: WideFilter,
    /// As the seam's flags.
    pub flags: reactor::sys::KeventFlags,
    /// Filter flags of a change.
    pub notes: WideNotes,
    /// An EV_EOF's error, if the event carries one in fflags.
    pub eof_error: Option<Errno>,
    /// An EV_ERROR entry's error; `None` where data is 0.
    pub change_error: Option<Errno>,
    /// `data`; zero for EV_ERROR entries.
    pub data: i64,
    /// The user's word.
    pub udata: u64,
}

/// A wait on another thread, between its start and its end.
#[derive(Debug)]
pub struct Ticket(pub usize);

/// What scripts call beyond the seam. Reads answer the bytes; durations are in nanoseconds; waits that may sleep return when they end (the
/// simulated kernel lets its world go on meanwhile).
#[allow(clippy::missing_errors_doc, reason = "every method answers what the system call of its name answers")]
pub trait Probe: Syscalls {
    /// Lets time pass.
    fn sleep(&mut self, ns: u64);

    /// `dup(2)`.
    fn dup(&mut self, fd: Fd) -> Answer<Fd>;
    /// `dup2(2)`.
    fn dup2(&mut self, fd: Fd, to: Fd) -> Answer<Fd>;
    /// A non-blocking socket.
    fn socket_of(&mut self, kind: SocketKind) -> Answer<Fd>;
    /// `socketpair(2)` of non-blocking UNIX streams.
    fn socketpair(&mut self) -> Answer<(Fd, Fd)>;
    /// `accept4(2)` with or without `SOCK_NONBLOCK`; `bad_flags` passes a flag that does not exist.
    fn accept_wide(&mut self, fd: Fd, non_blocking: bool, bad_flags: bool) -> Answer<Fd>;
    /// `bind(2)` with an address that is too short, or (`wrong_family`) of another family.
    fn bind_malformed(&mut self, fd: Fd, wrong_family: bool) -> Answer<()>;
    /// `listen(2)` with any backlog.
    fn listen_wide(&mut self, fd: Fd, backlog: i32) -> Answer<()>;
    /// `connect(2)` with `AF_UNSPEC`.
    fn disconnect(&mut self, fd: Fd) -> Answer<()>;
    /// `getpeername(2)`.
    fn getpeername(&mut self, fd: Fd) -> Answer<SocketAddr>;
    /// `shutdown(2)` with any `how`.
    fn shutdown_wide(&mut self, fd: Fd, how: i32) -> Answer<()>;
    /// Reads an option.
    fn option(&mut self, fd: Fd, option: WideOption) -> Answer<i64>;
    /// Sets an option.
    fn set_option(&mut self, fd: Fd, option: WideOption, value: i64) -> Answer<()>;
    /// `recv(2)`.
    fn recv_wide(&mut self, fd: Fd, length: usize, flags: MessageFlags) -> Answer<Vec<u8>>;
    /// `send(2)`.
    fn send_wide(&mut self, fd: Fd, bytes: &[u8], flags: MessageFlags) -> Answer<usize>;
    /// `writev(2)` of `segments` segments of `length` bytes each; -1 passes a negative count.
    fn writev(&mut self, fd: Fd, segments: i32, length: usize) -> Answer<usize>;
    /// `sendmsg(2)` with as many segments, without SIGPIPE.
    fn sendmsg_wide(&mut self, fd: Fd, segments: usize, length: usize) -> Answer<usize>;
    /// `read(2)`, of anything.
    fn read(&mut self, fd: Fd, length: usize) -> Answer<Vec<u8>>;
    /// `write(2)`, to anything.
    fn write(&mut self, fd: Fd, bytes: &[u8]) -> Answer<usize>;
    /// Sends one byte and a descriptor over a UNIX stream.
    fn send_descriptor(&mut self, fd: Fd, passed: Fd) -> Answer<()>;
    /// Takes one byte and the descriptor that came with it.
    fn receive_descriptor(&mut self, fd: Fd) -> Answer<Fd>;

    /// `eventfd(2)`, non-blocking.
    fn eventfd_wide(&mut self, initial: u32, semaphore: bool) -> Answer<Fd>;
    /// `pipe2(2)`, non-blocking: the reading end, the writing end.
    fn pipe(&mut self) -> Answer<(Fd, Fd)>;
    /// `timerfd_create(2)` on the monotonic clock, non-blocking.
    fn timerfd(&mut self) -> Answer<Fd>;
    /// `timerfd_settime(2)`: first expiry (relative, or `absolute` counted from now and possibly negative) and interval.
    fn timerfd_set(&mut self, fd: Fd, value_ns: i64, interval_ns: i64, absolute: bool) -> Answer<()>;
    /// `timerfd_gettime(2)`: time left and interval.
    fn timerfd_get(&mut self, fd: Fd) -> Answer<(u64, u64)>;
    /// A regular file that holds these bytes, opened for reading and writing at its start, without a name.
    fn file(&mut self, bytes: &[u8]) -> Answer<Fd>;
    /// `lseek(2)` from the start.
    fn seek(&mut self, fd: Fd, offset: u64) -> Answer<u64>;
    /// `sendfile(2)` from a regular file at its offset.
    fn sendfile(&mut self, to: Fd, from: Fd, length: usize) -> Answer<usize>;

    /// `epoll_create(2)` for a size, `epoll_create1(2)` with `flags`.
    fn epoll_create_wide(&mut self, size: Option<i32>, flags: i32) -> Answer<Fd>;
    /// `epoll_ctl(2)`: operation 1 ADD, 2 DEL, 3 MOD, others as they are; `None` passes no event.
    fn epoll_ctl_wide(&mut self, epoll: Fd, operation: i32, fd: Fd, event: Option<(u32, u64)>) -> Answer<()>;
    /// `epoll_wait(2)`: pairs of bits and data.
    fn epoll_wait_wide(&mut self, epoll: Fd, room: i32, timeout_ms: i32) -> Answer<Vec<(u32, u64)>>;
    /// `epoll_pwait2(2)`: seconds and nanoseconds, `None` for ever.
    fn epoll_pwait2(&mut self, epoll: Fd, room: i32, timeout: Option<(i64, i64)>) -> Answer<Vec<(u32, u64)>>;
    /// `poll(2)`: the entries with what was found.
    fn poll(&mut self, entries: &[PollEntry], timeout_ms: i32) -> Answer<Vec<PollEntry>>;
    /// `select(2)` over reading, writing and exceptional sets: the sets that are left.
    fn select(&mut self, sets: [&[Fd]; 3], timeout_ms: i32) -> Answer<[Vec<Fd>; 3]>;
    /// `kevent(2)` in full width; `room` below zero passes a negative count, `None` waits for ever.
    fn kevent_wide(
        &mut self,
        kqueue: Fd,
        changes: &[WideKevent],
        room: i32,
        timeout: Option<(i64, i64)>,
    ) -> Answer<Vec<WideKevent>>;

    /// Starts `epoll_wait` (or `kevent` without changes) on another thread of the process, and lets it fall asleep.
    fn start_wait(&mut self, set: Fd, room: i32, timeout_ms: i32) -> Answer<Ticket>;
    /// Whether that wait is over, without waiting for it.
    fn is_over(&mut self, ticket: &Ticket) -> bool;
    /// The end of that wait: for epoll pairs of bits and data; for kevents through [`Probe::finish_kevent`].
    fn finish_wait(&mut self, ticket: Ticket) -> Answer<Vec<(u32, u64)>>;
    /// The end of a wait on a kqueue.
    fn finish_kevent(&mut self, ticket: Ticket) -> Answer<Vec<WideKevent>>;

    /// Sets the soft limit of descriptors: numbers are below it. `None` restores it.
    fn limit_descriptors(&mut self, limit: Option<usize>) -> Answer<()>;
    /// How many SIGPIPEs this process has got since the last time it was asked.
    fn pipe_signals(&mut self) -> u64;
    /// Sends a harmless signal, with a handler and `SA_RESTART`, to the thread that sleeps in this wait.
    fn interrupt(&mut self, ticket: &Ticket) -> Answer<()>;
    /// Sends the process a signal (SIGUSR1) that it ignores or blocks, for EVFILT_SIGNAL.
    fn raise_ignored(&mut self) -> Answer<()>;

    /// Sends this thread a signal with a handler and without `SA_RESTART` once this time has passed. It ends a call that
    /// blocks in a socket by then, and nothing else; one that was set before is forgotten.
    fn set_alarm(&mut self, after_ns: u64) -> Answer<()>;
    /// `sendto(2)`, without SIGPIPE.
    fn send_to(&mut self, fd: Fd, bytes: &[u8], address: &SocketAddr) -> Answer<usize>;

    /// Sets the range of ephemeral ports of this script's network, both ends included.
    fn set_ports(&mut self, low: u16, high: u16) -> Answer<()> {
        let _ = (low, high);
        Err(Errno::Unsupported)
    }
    /// Brings the loopback of this script's network up, or takes it down.
    fn set_loopback(&mut self, up: bool) -> Answer<()> {
        let _ = up;
        Err(Errno::Unsupported)
    }
}
