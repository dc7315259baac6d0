//! The simulated kernel: descriptors, sockets, streams, and the readiness calls of each system.
//!
//! Laid out as a kernel is. Each file is one noun; the calls themselves are in `syscalls`, which also accounts time and
//! writes the trace. Numbers such as M4 or T56 are facts of the project's list of kernel semantics.

mod acknowledgement;
pub(crate) mod address;
pub(crate) mod close;
pub(crate) mod description;
pub(crate) mod drift;
pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod file;
pub(crate) mod handshake;
pub(crate) mod imposed;
pub(crate) mod kqueue;
pub(crate) mod lifecycle;
pub(crate) mod listener;
pub(crate) mod message;
pub(crate) mod option;
pub(crate) mod pipe;
pub(crate) mod poll;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod ready_list;
pub(crate) mod retransmission;
pub(crate) mod ring;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod syscalls;
pub(crate) mod timerfd;
pub(crate) mod transfer;
pub(crate) mod unix;
pub(crate) mod watch;

use std::fmt;

use reactor::sys::Readiness;

/// Which system's rules a host follows.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Kernel {
    /// Linux 6: epoll, eventfd.
    #[default]
    Linux,
    /// FreeBSD 14: kqueue.
    Freebsd,
    /// macOS 15: kqueue.
    Macos,
}

impl Kernel {
    /// Every kernel.
    pub const ALL: [Kernel; 3] = [Kernel::Linux, Kernel::Freebsd, Kernel::Macos];

    /// The name used in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Kernel::Linux => "linux",
            Kernel::Freebsd => "freebsd",
            Kernel::Macos => "macos",
        }
    }

    /// The kernel with this name.
    pub fn from_name(name: &str) -> Option<Kernel> {
        Kernel::ALL.into_iter().find(|kernel| kernel.name() == name)
    }

    /// Which readiness calls it has.
    pub const fn readiness(self) -> Readiness {
        match self {
            Kernel::Linux => Readiness::Epoll,
            Kernel::Freebsd | Kernel::Macos => Readiness::Kqueue,
        }
    }

    /// Whether its socket code descends from BSD's.
    pub(crate) const fn is_bsd(self) -> bool {
        !matches!(self, Kernel::Linux)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a descriptor refers to: an open file description, by its number in the table of its kind.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Object {
    /// What a process starts with as 0, 1 and 2.
    Standard,
    Socket(u32),
    Epoll(u32),
    Kqueue(u32),
    Eventfd(u32),
    /// The end of a pipe that is read from.
    PipeReader(u32),
    /// The end of a pipe that is written to.
    PipeWriter(u32),
    Timerfd(u32),
    /// An AF_UNIX stream.
    Unix(u32),
    /// A regular file.
    File(u32),
}

/// No entry of a table.
pub(crate) const NONE: u32 = u32::MAX;

/// What each call costs its thread, in nanoseconds; rounded from measurements of Linux 6 on loopback.
pub(crate) mod cost {
    pub(crate) const CLOCK: u64 = 22;
    pub(crate) const CREATE: u64 = 1_500;
    pub(crate) const SETTING: u64 = 150;
    pub(crate) const ACCEPT: u64 = 1_800;
    pub(crate) const CONNECT: u64 = 8_000;
    pub(crate) const RECV: u64 = 170;
    pub(crate) const RECV_DATA: u64 = 330;
    pub(crate) const SEND: u64 = 200;
    pub(crate) const SEND_DATA: u64 = 2_300;
    pub(crate) const SHUTDOWN: u64 = 1_500;
    pub(crate) const CLOSE: u64 = 2_500;
    pub(crate) const CONTROL: u64 = 250;
    pub(crate) const WAIT: u64 = 110;
    pub(crate) const WAIT_EVENT: u64 = 115;
    pub(crate) const EVENTFD: u64 = 200;
    /// Copying, per 16 bytes.
    pub(crate) const COPY_16_BYTES: u64 = 1;
}
