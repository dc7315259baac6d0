//! The record of a run: a chained hash of every call, always on, and readable lines when asked for.
//!
//! One word per call goes into the hash: thread, call, arguments, result, time; lengths and counts rather than bytes.
//! The mixing is multiplication and rotation of 64-bit words, the same on every host. The same run gives the same
//! hash; a different hash says that something undeclared decided something.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use reactor::Token;
use reactor::sys::Errno;
use reactor::time::Instant;

use crate::decision::seed::mix;
use crate::scene::Scene;
use crate::schedule::ThreadId;

macro_rules! calls {
    ($($kind:ident $name:literal,)*) => {
        /// Which call of the seam. The numbers are stable, since kept runs hold them: new calls go to the end.
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the variants are the methods of `Syscalls` and `Probe`, by name")]
        pub enum CallKind { $($kind,)* }

        impl CallKind {
            /// Every call, by number; the first one has the number 1.
            pub const ALL: &'static [CallKind] = &[$(CallKind::$kind),*];

            /// The name of the system call.
            pub const fn name(self) -> &'static str {
                match self { $(CallKind::$kind => $name,)* }
            }
        }
    };
}

calls! {
    ClockGettime "clock_gettime",
    Socket "socket",
    Setsockopt "setsockopt",
    Bind "bind",
    Listen "listen",
    Accept4 "accept4",
    Connect "connect",
    Getsockname "getsockname",
    TakeSocketError "getsockopt(SO_ERROR)",
    Recv "recv",
    Send "send",
    Sendmsg "sendmsg",
    Shutdown "shutdown",
    Close "close",
    EpollCreate1 "epoll_create1",
    EpollCtl "epoll_ctl",
    EpollWait "epoll_wait",
    Eventfd "eventfd",
    ReadEventfd "read",
    Kqueue "kqueue",
    Kevent "kevent",
    Waker "waker",
    Dup "dup",
    Dup2 "dup2",
    FcntlNonBlocking "fcntl(O_NONBLOCK)",
    FcntlCloseOnExec "fcntl(FD_CLOEXEC)",
    Getpeername "getpeername",
    Getsockopt "getsockopt",
    SetsockoptWide "setsockopt",
    Writev "writev",
    Pipe "pipe2",
    TimerfdCreate "timerfd_create",
    TimerfdSettime "timerfd_settime",
    TimerfdGettime "timerfd_gettime",
    Open "open",
    Lseek "lseek",
    Sendfile "sendfile",
    Read "read",
    Write "write",
    Socketpair "socketpair",
    Recvmsg "recvmsg",
    Poll "poll",
}

impl CallKind {
    /// Its place in the list, counted from 1.
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The call with this number.
    pub fn from_number(number: u8) -> Option<CallKind> {
        CallKind::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// How a call ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With this number: a count, a descriptor, or zero.
    Value(u64),
    /// With an error.
    Error(Errno),
}

impl Outcome {
    fn word(self) -> u64 {
        match self {
            Outcome::Value(value) => value,
            Outcome::Error(error) => u64::MAX - errno_rank(error),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Value(value) => write!(f, "{value}"),
            Outcome::Error(error) => f.write_str(error.name()),
        }
    }
}

/// The place of an error in the seam's own list: stable across hosts.
pub(crate) fn errno_rank(error: Errno) -> u64 {
    Errno::LISTED.iter().position(|&listed| listed == error).map_or(u64::from(u16::MAX), |rank| rank as u64)
}

/// One call, as it went.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CallRecord {
    /// Counted from 1.
    pub step: u64,
    /// Who called.
    pub thread: ThreadId,
    /// The thread's clock at entry.
    pub began: Instant,
    /// The thread's clock at the return; a wait may lie far after its entry.
    pub ended: Instant,
    /// Which call.
    pub call: CallKind,
    /// The first descriptor argument, or -1.
    pub fd: i32,
    /// Further arguments, by call: lengths, an address, a timeout, a mask.
    pub arguments: [u64; 2],
    /// The result.
    pub outcome: Outcome,
}

impl CallRecord {
    /// The call and its result, without who and when.
    pub fn words(&self) -> impl fmt::Display + '_ {
        CallWords(self)
    }

    /// How long a wait was ready to wait, in nanoseconds: `None` for calls that are no waits, `Some(None)` for ever.
    pub fn timeout_ns(&self) -> Option<Option<u64>> {
        let [first, _] = self.arguments;
        match self.call {
            CallKind::EpollWait | CallKind::Poll => {
                Some(u64::try_from((first as u32).cast_signed()).ok().map(|ms| ms * 1_000_000))
            }
            CallKind::Kevent => Some((first != u64::MAX).then_some(first)),
            _ => None,
        }
    }
}

impl fmt::Display for CallRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} t{:<3} {}", Clock(self.ended), self.thread.0, self.words())?;
        if self.timeout_ns().is_some() {
            let slept_ns = self.ended.saturating_ns_since(self.began);
            write!(f, "   (began {}, {} ns)", Clock(self.began), slept_ns)?;
        }
        Ok(())
    }
}

struct CallWords<'a>(&'a CallRecord);

impl fmt::Display for CallWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CallWords(record) = *self;
        let [first, second] = record.arguments;
        let name = record.call.name();
        let fd = record.fd;
        match record.call {
            CallKind::ClockGettime
            | CallKind::Socket
            | CallKind::EpollCreate1
            | CallKind::Eventfd
            | CallKind::Kqueue
            | CallKind::Pipe
            | CallKind::TimerfdCreate
            | CallKind::Open
            | CallKind::Socketpair => write!(f, "{name}()")?,
            CallKind::Bind | CallKind::Connect => write!(f, "{name}(fd{fd}, {})", address_of_word(first))?,
            CallKind::Recv | CallKind::Send | CallKind::Read | CallKind::Write => {
                write!(f, "{name}(fd{fd}, {first} bytes)")?
            }
            CallKind::Sendmsg => write!(f, "{name}(fd{fd}, {first} bytes in {second} segments)")?,
            CallKind::Listen => write!(f, "{name}(fd{fd}, backlog {first})")?,
            CallKind::EpollCtl => {
                // A file that anybody may have made can say a fourth.
                let operation = ["ADD", "MOD", "DEL", "?"][(first & 3) as usize];
                let mask = reactor::sys::EpollMask::from_bits_retain((first >> 32) as u32);
                write!(
                    f,
                    "{name}(fd{fd}, {operation} fd{}, {}, for {})",
                    first as u32 >> 2,
                    Mask(mask),
                    Word(second)
                )?;
            }
            CallKind::EpollWait => write!(f, "{name}(fd{fd}, timeout {} ms)", (first as u32).cast_signed())?,
            CallKind::Kevent if first == u64::MAX => {
                write!(f, "{name}(fd{fd}, {second} changes, no timeout)")?
            }
            CallKind::Kevent => write!(f, "{name}(fd{fd}, {second} changes, timeout {first} ns)")?,
            CallKind::Shutdown => {
                write!(f, "{name}(fd{fd}, {})", ["RD", "WR", "RDWR"][(first % 3) as usize])?;
            }
            CallKind::Setsockopt => {
                let option = OPTIONS.get(first as usize).unwrap_or(&"?");
                write!(f, "{name}(fd{fd}, {option} {second})")?;
            }
            CallKind::Accept4
            | CallKind::Getsockname
            | CallKind::TakeSocketError
            | CallKind::Close
            | CallKind::ReadEventfd
            | CallKind::Dup
            | CallKind::Getpeername
            | CallKind::TimerfdGettime
            | CallKind::Recvmsg
            | CallKind::Waker => write!(f, "{name}(fd{fd})")?,
            CallKind::Dup2 | CallKind::FcntlNonBlocking | CallKind::FcntlCloseOnExec => {
                write!(f, "{name}(fd{fd}, {first})")?;
            }
            CallKind::Getsockopt => write!(f, "{name}(fd{fd}, option {first})")?,
            CallKind::SetsockoptWide => {
                write!(f, "{name}(fd{fd}, option {first}, {})", second.cast_signed())?;
            }
            CallKind::Poll => {
                write!(f, "{name}({second} entries, timeout {} ms)", (first as u32).cast_signed())?;
            }
            CallKind::TimerfdSettime => write!(f, "{name}(fd{fd}, {first} ns, every {second} ns)")?,
            CallKind::Lseek => write!(f, "{name}(fd{fd}, {first})")?,
            CallKind::Sendfile => write!(f, "{name}(fd{fd}, fd{first}, {second} bytes)")?,
            CallKind::Writev => write!(f, "{name}(fd{fd}, {first} segments of {second} bytes)")?,
        }
        write!(f, " -> {}", record.outcome)
    }
}

/// One line of a readable trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TraceEntry {
    /// A call.
    Call(CallRecord),
    /// Something that happened without a call: an arrival, a fault.
    Note {
        /// When.
        at: Instant,
        /// What, in words.
        text: String,
    },
}

impl fmt::Display for TraceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceEntry::Call(call) => call.fmt(f),
            TraceEntry::Note { at, text } => write!(f, "{}      | {text}", Clock(*at)),
        }
    }
}

/// Seconds and nanoseconds, aligned.
struct Clock(Instant);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_ns();
        write!(f, "{:>6}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
    }
}

/// The options of `setsockopt(2)`, by the first word of a record.
const OPTIONS: [&str; 10] = [
    "?",
    "SO_REUSEADDR",
    "SO_REUSEPORT",
    "IPV6_V6ONLY",
    "TCP_NODELAY",
    "SO_KEEPALIVE",
    "SO_SNDBUF",
    "SO_RCVBUF",
    "SO_LINGER {1, 0}",
    "TCP_CONGESTION",
];

/// The word that travels with a registration, which is the loop's token.
pub(crate) struct Word(pub(crate) u64);

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = Token::from_word(self.0);
        if token.slot() >= Token::RESERVED_SLOT_MIN {
            f.write_str("the waker")
        } else {
            write!(f, "{token:?}")
        }
    }
}

struct Mask(reactor::sys::EpollMask);

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("0") } else { bitflags::parser::to_writer(&self.0, f) }
    }
}

/// An address as one word of a record.
pub(crate) fn word_of_address(address: SocketAddrV4) -> u64 {
    u64::from(address.ip().to_bits()) << 16 | u64::from(address.port())
}

fn address_of_word(word: u64) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits((word >> 16) as u32), word as u16)
}

/// The chained hash, the count of calls, and the lines when they are collected.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    steps: u64,
    lines: Option<Vec<TraceEntry>>,
    scene: Option<Box<Scene>>,
}

impl Trace {
    /// A trace whose time zero is `origin`; with `collect` readable lines and the scene are kept.
    pub(crate) fn new(collect: bool, origin: Instant) -> Trace {
        let scene = collect.then(|| Box::new(Scene::new(origin)));
        Trace { hash: 0, steps: 0, lines: collect.then(Vec::new), scene }
    }

    #[inline]
    pub(crate) fn call(&mut self, mut record: CallRecord) {
        self.steps += 1;
        record.step = self.steps;
        let caller = u64::from(record.thread.0) << 8
            | u64::from(record.call.number())
            | u64::from(record.fd.cast_unsigned()) << 32;
        let word = caller.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ record.arguments[0].wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(23)
            ^ record.arguments[1].wrapping_mul(0x94d0_49bb_1331_11eb).rotate_left(41)
            ^ record.outcome.word().wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(11)
            ^ record.ended.as_ns().wrapping_mul(0xa076_1d64_78bd_642f).rotate_left(53);
        self.fold(word);
        if let Some(lines) = &mut self.lines {
            lines.push(TraceEntry::Call(record));
        }
    }

    /// Mixes one more word in: the events that a wait returned, for instance.
    #[inline]
    pub(crate) fn fold(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0xe703_7ed1_a0b4_28db).rotate_left(29);
    }

    /// Whether notes are wanted; writing them costs more than everything else here.
    #[inline]
    pub(crate) fn collects(&self) -> bool {
        self.lines.is_some()
    }

    pub(crate) fn note(&mut self, at: Instant, text: String) {
        if let Some(lines) = &mut self.lines {
            lines.push(TraceEntry::Note { at, text });
        }
    }

    pub(crate) fn take_lines(&mut self) -> Vec<TraceEntry> {
        self.lines.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What is collected beside the lines, if anything is.
    #[inline]
    pub(crate) fn scene_mut(&mut self) -> Option<&mut Scene> {
        self.scene.as_deref_mut()
    }

    pub(crate) fn take_scene(&mut self) -> Option<Box<Scene>> {
        self.scene.take()
    }

    /// The next note is about the connection that has this number.
    pub(crate) fn about(&mut self, connection: u32) {
        if let (Some(lines), Some(scene)) = (&self.lines, &mut self.scene)
            && let Some(place) = scene.place_of(connection)
        {
            scene.notes.push((lines.len(), place));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        mix(self.hash)
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }
}
