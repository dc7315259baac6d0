//! The kinds of trouble: what each does, and what it needs of the machine.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ability, connections};

/// A kind of trouble.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Bytes arrive late.
    Delay,
    /// Few bytes a second pass.
    Throttle,
    /// Bytes pass in small segments.
    Split,
    /// Nothing passes for a while.
    Stall,
    /// Connections are reset.
    Reset,
    /// The end of a stream is passed on late.
    LateEnd,
    /// Connections are silent for good, and are then reset.
    Vanish,
    /// Socket buffers are small, from the first call of an episode on.
    Buffers,
    /// Signals interrupt waits.
    Interrupt,
    /// The limit of open files is lowered.
    Descriptors,
    /// Many connections at once, which are reset.
    Storm,
    /// Threads that spin.
    Hog,
    /// All local ports are taken.
    Ports,
    /// Allocations fail.
    Memory,
    /// Client processes are stopped and go on.
    Stop,
    /// Client processes are killed.
    Kill,
    /// Rate limits between network namespaces.
    Link,
    /// Late packets between network namespaces.
    Netem,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Kind; 18] = [
        Kind::Delay,
        Kind::Throttle,
        Kind::Split,
        Kind::Stall,
        Kind::Reset,
        Kind::LateEnd,
        Kind::Vanish,
        Kind::Buffers,
        Kind::Interrupt,
        Kind::Descriptors,
        Kind::Storm,
        Kind::Hog,
        Kind::Ports,
        Kind::Memory,
        Kind::Stop,
        Kind::Kill,
        Kind::Link,
        Kind::Netem,
    ];

    /// Its name in options and records.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Delay => "delay",
            Kind::Throttle => "throttle",
            Kind::Split => "split",
            Kind::Stall => "stall",
            Kind::Reset => "reset",
            Kind::LateEnd => "late-end",
            Kind::Vanish => "vanish",
            Kind::Buffers => "buffers",
            Kind::Interrupt => "interrupt",
            Kind::Descriptors => "descriptors",
            Kind::Storm => "storm",
            Kind::Hog => "hog",
            Kind::Ports => "ports",
            Kind::Memory => "memory",
            Kind::Stop => "stop",
            Kind::Kill => "kill",
            Kind::Link => "link",
            Kind::Netem => "netem",
        }
    }

    /// The kind with this name.
    pub(crate) fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What it does.
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Kind::Delay => "bytes pass the proxy up to 300 ms late",
            Kind::Throttle => "the proxy passes as few as 20 kB a second on a connection",
            Kind::Split => "the proxy passes segments of 1 to 1460 bytes",
            Kind::Stall => "nothing passes the proxy for a while, in either direction",
            Kind::Reset => "the proxy resets connections at both ends, with SO_LINGER of zero",
            Kind::LateEnd => "the proxy passes the end of a stream on up to 3 s late",
            Kind::Vanish => "the proxy neither reads nor writes any more, and resets in the end",
            Kind::Buffers => "all sockets of an episode have small SO_SNDBUF and SO_RCVBUF",
            Kind::Interrupt => "signals to the threads of the loops interrupt their waits (EINTR)",
            Kind::Descriptors => "the limit of open files is lowered to about what is open, and raised again",
            Kind::Storm => "hundreds of connections at once to the services, which are reset",
            Kind::Hog => "threads that spin take the processors",
            Kind::Ports => "the namespace of the clients has few local ports for a while (EADDRNOTAVAIL)",
            Kind::Memory => {
                "a group of their own limits the memory of processes of services, or of their sockets"
            }
            Kind::Stop => "processes of clients get SIGSTOP, and SIGCONT later",
            Kind::Kill => "processes of clients get SIGKILL",
            Kind::Link => "tbf or htb limits the rate between the namespaces of services and of clients",
            Kind::Netem => {
                "netem makes packets between these two namespaces late, so that they overtake each other"
            }
        }
    }

    /// What it needs of the machine.
    pub(crate) const fn needs(self) -> &'static str {
        match self {
            Kind::Delay
            | Kind::Throttle
            | Kind::Split
            | Kind::Stall
            | Kind::Reset
            | Kind::LateEnd
            | Kind::Vanish
            | Kind::Storm => "descriptors: the proxy takes two more for each connection",
            Kind::Buffers | Kind::Hog => "nothing",
            Kind::Interrupt => "that SIGUSR2 is not blocked",
            Kind::Descriptors => "a list of open descriptors: /proc/self/fd or /dev/fd",
            Kind::Ports => "--processes, ip, and the right to make network namespaces",
            Kind::Memory => "--processes, and a memory controller that this user may write to",
            Kind::Stop => "clients in processes of their own (--processes)",
            Kind::Kill => {
                "clients in processes of their own (--processes), and /proc to see their connections"
            }
            Kind::Link => "--processes, ip and tc, and the right to make network namespaces",
            Kind::Netem => "what link needs, and a kernel with netem",
        }
    }

    /// Why it cannot be had here; `None` where it can. `apart` says whether services and clients have processes of their own.
    pub(crate) fn left_out(self, apart: bool) -> Option<&'static str> {
        match self {
            Kind::Descriptors if crate::machine::descriptors().is_none() => {
                Some("this system has no list of open descriptors")
            }
            Kind::Kill if !connections::are_told() => Some("this system has no /proc/net/tcp"),
            Kind::Stop | Kind::Kill if !apart => Some(
                "clients are threads of the soak itself; --processes 2 gives them processes of their own",
            ),
            Kind::Ports if !apart => Some(
                "the ports of loopback belong to every program of the machine; --processes 2 has a namespace of its own",
            ),
            Kind::Memory if !apart => Some(
                "a failed allocation ends a Rust program; --processes 2 has a group of its own, whose sockets get little",
            ),
            Kind::Link | Kind::Netem if !apart => Some(
                "clients and services share a process, so they share a namespace; --processes 2 gives them two",
            ),
            kind => ability::missing(kind),
        }
    }

    /// Whether it is done to whole processes, or to where they are.
    pub(crate) const fn is_of_processes(self) -> bool {
        matches!(self, Kind::Stop | Kind::Kill | Kind::Ports | Kind::Memory | Kind::Link | Kind::Netem)
    }

    /// Whether the proxy does it.
    pub(crate) const fn is_on_the_wire(self) -> bool {
        matches!(
            self,
            Kind::Delay
                | Kind::Throttle
                | Kind::Split
                | Kind::Stall
                | Kind::Reset
                | Kind::LateEnd
                | Kind::Vanish
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
