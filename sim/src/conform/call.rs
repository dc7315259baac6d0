//! The calls that generated scripts are made of, over numbered places for descriptors.

use std::fmt;

use reactor::sys::EpollMask;

use crate::script::probe::{EXCLUSIVE, PRI, WideOption};

/// A place for a descriptor; scripts call it by a capital letter. A call on an empty place is left out on both kernels.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Slot(pub u8);

impl Slot {
    /// How many places a script has: one per letter.
    pub const COUNT: usize = 26;

    /// Its index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", char::from(b'A' + self.0))
    }
}

/// What `epoll_ctl(2)` is asked for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Control {
    /// `EPOLL_CTL_ADD`.
    Add,
    /// `EPOLL_CTL_MOD`.
    Modify,
    /// `EPOLL_CTL_DEL`.
    Delete,
}

/// One call of a generated script. Sizes in bytes, times in milliseconds.
#[allow(missing_docs, reason = "the fields are the arguments of the calls, by their names")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// A non-blocking TCP socket.
    Socket { to: Slot },
    /// A TCP socket bound to a free port of the script's address, listening.
    Listener { to: Slot, backlog: u32 },
    /// An address where nobody listens; takes no descriptor.
    DeadPort { to: Slot },
    /// `dup(2)`.
    Dup { from: Slot, to: Slot },
    /// `dup2(2)` onto the number of another descriptor.
    Dup2 { from: Slot, onto: Slot },
    /// `close(2)`.
    Close { at: Slot },
    /// `SO_LINGER {1, 0}`, then `close(2)`.
    Reset { at: Slot },
    /// `bind(2)` to the script's address, port 0.
    Bind { at: Slot },
    /// `listen(2)`.
    Listen { at: Slot, backlog: u32 },
    /// `connect(2)` to where the descriptor of a place listens, or listened, or to a dead port.
    Connect { at: Slot, to: Slot },
    /// `connect(2)` with `AF_UNSPEC`.
    Disconnect { at: Slot },
    /// `accept4(2)`.
    Accept { at: Slot, to: Slot },
    /// `getsockname(2)`: only whether it answers.
    Name { at: Slot },
    /// `getpeername(2)`: only whether it answers.
    Peer { at: Slot },
    /// `shutdown(2)`: 0 reading, 1 writing, 2 both, others are errors.
    Shutdown { at: Slot, how: i32 },
    /// `getsockopt(2)`.
    Get { at: Slot, option: WideOption },
    /// `setsockopt(2)`.
    Set { at: Slot, option: WideOption, value: i64 },
    /// `SO_ERROR`.
    Error { at: Slot },
    /// `recv(2)`.
    Receive { at: Slot, length: u32, peek: bool },
    /// `send(2)`, compared by count if `exact`, else as none or some.
    Send { at: Slot, length: u32, exact: bool },
    /// `sendmsg(2)` of that many segments.
    SendSegments { at: Slot, segments: u8, length: u32 },
    /// `send(2)` until it fails.
    Fill { at: Slot },
    /// `recv(2)` until it answers an error or nothing; compared by count if `exact`, else as none or some.
    Drain { at: Slot, exact: bool },
    /// `eventfd(2)`.
    Eventfd { to: Slot, initial: u32, semaphore: bool },
    /// `read(2)` of eight bytes.
    ReadNumber { at: Slot },
    /// `write(2)` of eight bytes; -1 is 2^64-1.
    WriteNumber { at: Slot, number: i64 },
    /// `pipe2(2)`.
    Pipe { reading: Slot, writing: Slot },
    /// `socketpair(2)` of UNIX streams.
    Pair { one: Slot, other: Slot },
    /// `read(2)`.
    Read { at: Slot, length: u32 },
    /// `write(2)`.
    Write { at: Slot, length: u32 },
    /// `timerfd_create(2)`.
    Timer { to: Slot },
    /// `timerfd_settime(2)`: 0 disarms.
    Arm { at: Slot, first_ms: u32, interval_ms: u32 },
    /// `epoll_create1(2)`.
    Epoll { to: Slot },
    /// `epoll_ctl(2)`; the data is the place.
    Control { epoll: Slot, operation: Control, at: Slot, mask: u32 },
    /// `epoll_wait(2)`.
    Wait { epoll: Slot, room: u8, timeout_ms: u8 },
    /// What a fresh level-triggered epoll with the full mask reports at once.
    Bits { at: Slot },
    /// `poll(2)` without a timeout.
    Poll { entries: Vec<(Slot, u32)> },
    /// Lets only so many more descriptors be made.
    Limit { spare: u8 },
    /// The descriptor limit as it was.
    Restore,
    /// Lets time pass.
    Sleep { ms: u8 },
}

impl Call {
    /// Its verb, as scripts write it.
    pub const fn verb(&self) -> &'static str {
        match self {
            Call::Socket { .. } => "socket",
            Call::Listener { .. } => "listener",
            Call::DeadPort { .. } => "dead_port",
            Call::Dup { .. } => "dup",
            Call::Dup2 { .. } => "dup2",
            Call::Close { .. } => "close",
            Call::Reset { .. } => "reset",
            Call::Bind { .. } => "bind",
            Call::Listen { .. } => "listen",
            Call::Connect { .. } => "connect",
            Call::Disconnect { .. } => "disconnect",
            Call::Accept { .. } => "accept",
            Call::Name { .. } => "name",
            Call::Peer { .. } => "peer",
            Call::Shutdown { .. } => "shutdown",
            Call::Get { .. } => "get",
            Call::Set { .. } => "set",
            Call::Error { .. } => "error",
            Call::Receive { .. } => "recv",
            Call::Send { .. } => "send",
            Call::SendSegments { .. } => "sendmsg",
            Call::Fill { .. } => "fill",
            Call::Drain { .. } => "drain",
            Call::Eventfd { .. } => "eventfd",
            Call::ReadNumber { .. } => "read_number",
            Call::WriteNumber { .. } => "write_number",
            Call::Pipe { .. } => "pipe",
            Call::Pair { .. } => "socketpair",
            Call::Read { .. } => "read",
            Call::Write { .. } => "write",
            Call::Timer { .. } => "timerfd",
            Call::Arm { .. } => "arm",
            Call::Epoll { .. } => "epoll",
            Call::Control { operation: Control::Add, .. } => "add",
            Call::Control { operation: Control::Modify, .. } => "mod",
            Call::Control { operation: Control::Delete, .. } => "del",
            Call::Wait { .. } => "wait",
            Call::Bits { .. } => "bits",
            Call::Poll { .. } => "poll",
            Call::Limit { .. } | Call::Restore => "limit",
            Call::Sleep { .. } => "sleep",
        }
    }

    /// What a kernel must have for it: its verb, or the part of it that is asked for.
    pub const fn capability(&self) -> &'static str {
        match self {
            Call::Shutdown { how, .. } if *how < 0 || *how > 2 => "shutdown of a side that does not exist",
            Call::Receive { peek: true, .. } => "recv peek",
            Call::Wait { timeout_ms: 1.., .. } => "wait with a timeout",
            Call::Eventfd { semaphore: true, .. } => "eventfd semaphore",
            Call::Eventfd { initial: 1.., .. } => "eventfd with a start",
            Call::Get { option, .. } => option_name(*option),
            Call::Control { mask, .. } if *mask & EXCLUSIVE != 0 => "EXCLUSIVE",
            call => call.verb(),
        }
    }

    /// The places that it fills.
    pub fn makes(&self) -> Vec<Slot> {
        match *self {
            Call::Socket { to }
            | Call::Listener { to, .. }
            | Call::DeadPort { to }
            | Call::Dup { to, .. }
            | Call::Accept { to, .. }
            | Call::Eventfd { to, .. }
            | Call::Timer { to }
            | Call::Epoll { to } => vec![to],
            Call::Dup2 { onto, .. } => vec![onto],
            Call::Pipe { reading, writing } => vec![reading, writing],
            Call::Pair { one, other } => vec![one, other],
            _ => Vec::new(),
        }
    }
}

/// Bytes as scripts write them: short ones in letters, so that a reader sees which arrive.
pub(super) fn content(length: u32) -> Vec<u8> {
    if length <= LETTERS_MAX { (b'a'..).take(length as usize).collect() } else { vec![b'x'; length as usize] }
}

/// Longer content is written as a count.
const LETTERS_MAX: u32 = 8;

struct Content(u32);

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 <= LETTERS_MAX {
            write!(f, "\"{}\"", String::from_utf8_lossy(&content(self.0)))
        } else {
            write!(f, "{}x", self.0)
        }
    }
}

/// Event bits as scripts write them.
pub(super) struct Bits(pub(super) u32);

const BITS: [(&str, u32); 9] = [
    ("IN", EpollMask::IN.bits()),
    ("PRI", PRI),
    ("OUT", EpollMask::OUT.bits()),
    ("ERR", EpollMask::ERR.bits()),
    ("HUP", EpollMask::HUP.bits()),
    ("RDHUP", EpollMask::RDHUP.bits()),
    ("EXCLUSIVE", EXCLUSIVE),
    ("ONESHOT", EpollMask::ONESHOT.bits()),
    ("ET", EpollMask::ET.bits()),
];

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            BITS.iter().filter(|(_, bit)| self.0 & bit != 0).map(|&(name, _)| name).collect();
        f.write_str(if names.is_empty() { "0" } else { "" })?;
        f.write_str(&names.join("|"))
    }
}

const fn option_name(option: WideOption) -> &'static str {
    match option {
        WideOption::SendBuffer => "sndbuf",
        WideOption::ReceiveBuffer => "rcvbuf",
        WideOption::ReceiveLowWater => "rcvlowat",
        WideOption::SendLowWater => "sndlowat",
        WideOption::NoDelay => "nodelay",
        WideOption::NotSentLowWater => "notsent_lowat",
        WideOption::SynCount => "syncnt",
        WideOption::KeepAlive => "keepalive",
        WideOption::ReuseAddress => "reuseaddr",
        WideOption::ReusePort => "reuseport",
        WideOption::Linger => "linger",
        WideOption::Listens => "listens",
        WideOption::NonBlocking => "nonblocking",
        WideOption::CloseOnExec => "cloexec",
        WideOption::Readable => "readable",
        WideOption::QuickAck => "quickack",
    }
}

/// As a step of a script, without what it must answer.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.makes().iter().map(Slot::to_string).collect();
        if !names.is_empty() {
            write!(f, "{} = ", names.join(" "))?;
        }
        f.write_str(self.verb())?;
        match self {
            Call::Socket { .. }
            | Call::DeadPort { .. }
            | Call::Pipe { .. }
            | Call::Pair { .. }
            | Call::Timer { .. }
            | Call::Epoll { .. } => Ok(()),
            Call::Listener { backlog, .. } => write!(f, " {backlog}"),
            Call::Dup { from, .. } => write!(f, " {from}"),
            Call::Dup2 { from, onto } => write!(f, " {from} {onto}"),
            Call::Close { at }
            | Call::Reset { at }
            | Call::Disconnect { at }
            | Call::Accept { at, .. }
            | Call::Name { at }
            | Call::Peer { at }
            | Call::Error { at }
            | Call::Fill { at }
            | Call::Drain { at, .. }
            | Call::ReadNumber { at }
            | Call::Bits { at } => write!(f, " {at}"),
            Call::Bind { at } => write!(f, " {at} host:0"),
            Call::Listen { at, backlog } => write!(f, " {at} {backlog}"),
            Call::Connect { at, to } => write!(f, " {at} @{to}"),
            Call::Shutdown { at, how } => match how {
                0 => write!(f, " {at} rd"),
                1 => write!(f, " {at} wr"),
                2 => write!(f, " {at} rdwr"),
                how => write!(f, " {at} {how}"),
            },
            Call::Get { at, option } => write!(f, " {at} {}", option_name(*option)),
            Call::Set { at, option, value } => write!(f, " {at} {} {value}", option_name(*option)),
            Call::Receive { at, length, peek } => {
                write!(f, " {at} {length}{}", if *peek { " peek" } else { "" })
            }
            Call::Send { at, length, .. } | Call::Write { at, length } => {
                write!(f, " {at} {}", Content(*length))
            }
            Call::SendSegments { at, segments, length } => write!(f, " {at} {segments} {length}"),
            Call::Eventfd { initial, semaphore, .. } => {
                write!(f, " {initial}{}", if *semaphore { " semaphore" } else { "" })
            }
            Call::WriteNumber { at, number } => write!(f, " {at} {number}"),
            Call::Read { at, length } => write!(f, " {at} {length}"),
            Call::Arm { at, first_ms, interval_ms } => write!(f, " {at} {first_ms}ms {interval_ms}ms"),
            Call::Control { epoll, operation: Control::Delete, at, .. } => write!(f, " {epoll} {at}"),
            Call::Control { epoll, at, mask, .. } => write!(f, " {epoll} {at} {}", Bits(*mask)),
            Call::Wait { epoll, room, timeout_ms } => write!(f, " {epoll} {room} {timeout_ms}ms"),
            Call::Poll { entries } => {
                let entries: Vec<String> =
                    entries.iter().map(|(slot, bits)| format!("{slot}:{}", Bits(*bits))).collect();
                write!(f, " [{}] 0ms", entries.join(", "))
            }
            Call::Limit { spare } => write!(f, " +{spare}"),
            Call::Restore => f.write_str(" restore"),
            Call::Sleep { ms } => write!(f, " {ms}ms"),
        }
    }
}
