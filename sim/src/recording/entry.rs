//! One thing that happened to a loop, as a recording holds it: a call with its result, or what came from outside.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use reactor::sys::{EpollEvent, EpollMask, Errno, Filter, Kevent, KeventFlags, Note};
use reactor::time::Instant;

use super::stretch::{STRETCH_BYTES_MAX, Stretch};
use crate::file::shown;
use crate::frame::varint;
use crate::kernel::syscalls::names_of;
use crate::schedule::ThreadId;
use crate::trace::{CallKind, CallRecord, Outcome, Word};
use crate::workload::Numbered;
use crate::workload::content::Position;

/// A call, what was asked and what came of it. The words are those of a [`CallRecord`], so that recordings and simulated
/// runs compare.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Call<'a> {
    /// Which call.
    pub kind: CallKind,
    /// Its first descriptor, or -1.
    pub fd: i32,
    /// What was asked, in two words.
    pub arguments: [u64; 2],
    /// More of what was asked: the changes of `kevent(2)`, the address of `bind(2)` and `connect(2)`, the checksum of the
    /// bytes that were sent.
    pub asked: &'a [u8],
    /// The result.
    pub outcome: Outcome,
    /// What came with it: bytes received, events, an address.
    pub given: &'a [u8],
    /// What was received after `given`, where that need not be held because a workload generates it.
    pub stretch: Option<Stretch>,
}

/// How a loop ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// It was stopped, and everything is closed.
    Stopped,
    /// An invariant was found broken.
    Breach {
        /// Its name.
        invariant: String,
        /// What exactly.
        details: String,
    },
    /// Something panicked.
    Panic {
        /// What it said.
        message: String,
    },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Stopped => f.write_str("it stopped, with everything closed"),
            End::Breach { invariant, details } => write!(f, "{}: {}", shown(invariant), shown(details)),
            End::Panic { message } => write!(f, "panic: {}", shown(message)),
        }
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry<'a> {
    /// A call.
    Call(Call<'a>),
    /// A message was handed to the handler.
    Message(Numbered),
    /// The loop was told to stop, between two turns.
    Stop {
        /// How long open connections may take to finish, in nanoseconds.
        within_ns: u64,
    },
    /// Whoever watches the episode said this of a connection, when the loop's audit asked.
    Excuse {
        /// The descriptor of the connection.
        fd: i32,
        /// What was said.
        excuse: Excuse,
    },
    /// It ended. Nothing follows.
    End(End),
}

/// What a connection is excused for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Excuse {
    /// The chaos schedule cut it: its stream may break.
    Cut,
    /// The process at its other end was killed: its stream may end in order, and anywhere.
    EndsShort,
}

const KIND_MESSAGE: u8 = 0x60;
const KIND_STOP: u8 = 0x61;
const KIND_END: u8 = 0x62;
/// A receive of what a workload generates.
const KIND_STRETCH: u8 = 0x63;
const KIND_CUT: u8 = 0x64;
const KIND_ENDS_SHORT: u8 = 0x65;
/// A receive of other bytes, and then of what a workload generates.
const KIND_HEAD_AND_STRETCH: u8 = 0x66;
/// Set in the kind of a call that failed.
const FAILED: u8 = 0x80;

/// Which fields a call has; the others are not written.
#[derive(Copy, Clone)]
struct Shape {
    fd: bool,
    arguments: usize,
    asked: bool,
    value: bool,
    given: bool,
}

/// `None` for calls that a loop never makes.
const fn shape(kind: CallKind) -> Option<Shape> {
    const NONE: Shape = Shape { fd: true, arguments: 0, asked: false, value: false, given: false };
    Some(match kind {
        CallKind::ClockGettime | CallKind::EpollCreate1 | CallKind::Eventfd | CallKind::Kqueue => {
            Shape { fd: false, value: true, ..NONE }
        }
        CallKind::Socket => Shape { fd: false, arguments: 1, value: true, ..NONE },
        CallKind::Setsockopt | CallKind::EpollCtl => Shape { arguments: 2, ..NONE },
        CallKind::Bind | CallKind::Connect => Shape { arguments: 1, asked: true, ..NONE },
        CallKind::Listen | CallKind::Shutdown | CallKind::Waker => Shape { arguments: 1, ..NONE },
        CallKind::Accept4 | CallKind::Getsockname => Shape { value: true, given: true, ..NONE },
        CallKind::TakeSocketError | CallKind::ReadEventfd => Shape { value: true, ..NONE },
        CallKind::Recv => Shape { arguments: 1, given: true, ..NONE },
        CallKind::Send | CallKind::Sendmsg => Shape { arguments: 2, asked: true, value: true, ..NONE },
        CallKind::Close => NONE,
        CallKind::EpollWait => Shape { arguments: 2, given: true, value: true, ..NONE },
        CallKind::Kevent => Shape { arguments: 2, asked: true, given: true, value: true, ..NONE },
        _ => return None,
    })
}

/// Errors by number: listed ones by their place, then those without a place.
fn put_errno(bytes: &mut Vec<u8>, error: Errno) {
    let listed = Errno::LISTED.len() as u64;
    let number = match error {
        Errno::Unsupported => listed,
        Errno::Unlisted(number) => listed + 1 + u64::from(number.cast_unsigned()),
        _ => Errno::LISTED.iter().position(|&other| other == error).map_or(listed, |place| place as u64),
    };
    varint::put(bytes, number);
}

fn take_errno(bytes: &mut &[u8]) -> Option<Errno> {
    let number = varint::take(bytes)?;
    let listed = Errno::LISTED.len() as u64;
    if number < listed {
        return Some(Errno::LISTED[number as usize]);
    }
    match number - listed {
        0 => Some(Errno::Unsupported),
        number => u32::try_from(number - 1).ok().map(|number| Errno::Unlisted(number.cast_signed())),
    }
}

fn put_fd(bytes: &mut Vec<u8>, fd: i32) {
    varint::put(bytes, varint::zigzag(i64::from(fd)));
}

fn take_fd(bytes: &mut &[u8]) -> Option<i32> {
    i32::try_from(varint::unzigzag(varint::take(bytes)?)).ok()
}

fn put_slice(bytes: &mut Vec<u8>, slice: &[u8]) {
    varint::put(bytes, slice.len() as u64);
    bytes.extend_from_slice(slice);
}

fn take_slice<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint::take(bytes)?).ok()?;
    let slice = bytes.get(..length)?;
    *bytes = &bytes[length..];
    Some(slice)
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (&byte, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(byte)
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    String::from_utf8(take_slice(bytes)?.to_vec()).ok()
}

impl Call<'_> {
    /// Writes it; `clock_ns` is what the clock said last, of which only the difference is written.
    #[inline]
    pub(super) fn put(&self, bytes: &mut Vec<u8>, clock_ns: &mut u64) {
        let Call { kind, fd, arguments, asked, outcome, given, stretch } = *self;
        if let Some(stretch) = stretch {
            bytes.push(if given.is_empty() { KIND_STRETCH } else { KIND_HEAD_AND_STRETCH });
            put_fd(bytes, fd);
            varint::put(bytes, arguments[0]);
            if !given.is_empty() {
                put_slice(bytes, given);
            }
            return stretch.put(bytes);
        }
        let Some(shape) = shape(kind) else { unreachable!("a loop never calls {}", kind.name()) };
        let failed = if matches!(outcome, Outcome::Error(_)) { FAILED } else { 0 };
        bytes.push(kind.number() | failed);
        if shape.fd {
            put_fd(bytes, fd);
        }
        arguments[..shape.arguments].iter().for_each(|&word| varint::put(bytes, word));
        if shape.asked {
            put_slice(bytes, asked);
        }
        match outcome {
            Outcome::Error(error) => put_errno(bytes, error),
            Outcome::Value(now_ns) if kind == CallKind::ClockGettime => {
                varint::put(bytes, varint::zigzag(now_ns.wrapping_sub(*clock_ns).cast_signed()));
                *clock_ns = now_ns;
            }
            Outcome::Value(value) => {
                if shape.value {
                    varint::put(bytes, value);
                }
                if shape.given {
                    put_slice(bytes, given);
                }
            }
        }
    }

    fn take<'a>(kind: u8, bytes: &mut &'a [u8], clock_ns: &mut u64) -> Option<Call<'a>> {
        let failed = kind & FAILED != 0;
        let kind = CallKind::from_number(kind & !FAILED)?;
        let shape = shape(kind)?;
        let fd = match shape.fd {
            true => take_fd(bytes)?,
            false => -1,
        };
        let mut arguments = [0; 2];
        for word in &mut arguments[..shape.arguments] {
            *word = varint::take(bytes)?;
        }
        let asked = if shape.asked { take_slice(bytes)? } else { &[] };
        let mut given: &[u8] = &[];
        let outcome = if failed {
            Outcome::Error(take_errno(bytes)?)
        } else if kind == CallKind::ClockGettime {
            *clock_ns = clock_ns.wrapping_add(varint::unzigzag(varint::take(bytes)?).cast_unsigned());
            Outcome::Value(*clock_ns)
        } else {
            let value = if shape.value { varint::take(bytes)? } else { 0 };
            if shape.given {
                given = take_slice(bytes)?;
            }
            Outcome::Value(if kind == CallKind::Recv { given.len() as u64 } else { value })
        };
        let call = Call { kind, fd, arguments, asked, outcome, given, stretch: None };
        call.makes_sense().then_some(call)
    }

    fn take_stretch<'a>(bytes: &mut &'a [u8], has_head: bool) -> Option<Call<'a>> {
        let fd = take_fd(bytes)?;
        let arguments = [varint::take(bytes)?, 0];
        let given = if has_head { take_slice(bytes)? } else { &[] };
        let stretch = Stretch::take(bytes)?;
        let outcome = Outcome::Value(stretch.length.checked_add(given.len() as u64)?);
        let (kind, stretch) = (CallKind::Recv, Some(stretch));
        let call = Call { kind, fd, arguments, asked: &[], outcome, given, stretch };
        call.makes_sense().then_some(call)
    }

    /// The bytes that were received, of which the file may hold only the place in their stream.
    pub fn received(&self) -> Cow<'_, [u8]> {
        let Some(Stretch { begin: Position { content, offset }, length }) = self.stretch else {
            return Cow::Borrowed(self.given);
        };
        let head = self.given.len();
        let mut bytes = vec![0; head + length as usize];
        bytes[..head].copy_from_slice(self.given);
        content.fill(offset, &mut bytes[head..]);
        Cow::Owned(bytes)
    }

    /// Whether what came with a result is what such a result has: whoever plays it back relies on that.
    fn makes_sense(&self) -> bool {
        let Call { kind, arguments, asked, outcome, given, .. } = *self;
        let Outcome::Value(value) = outcome else { return true };
        match kind {
            // Nobody makes so much of a few numbers as no loop has room for.
            CallKind::Recv => value <= arguments[0] && (self.stretch.is_none() || value <= STRETCH_BYTES_MAX),
            CallKind::Send | CallKind::Sendmsg => value <= arguments[0] && asked.len() == 4,
            CallKind::EpollWait => {
                value <= arguments[1]
                    && epoll_events(given).count() as u64 == value
                    && given.len() as u64 == value * EPOLL_BYTES as u64
            }
            CallKind::Kevent => kevents(given).is_some_and(|events| events.len() as u64 == value),
            CallKind::Getsockname => address(given).is_some(),
            CallKind::Accept4 => {
                i32::try_from(value).is_ok() && (given.is_empty() || address(given).is_some())
            }
            CallKind::Socket | CallKind::EpollCreate1 | CallKind::Eventfd | CallKind::Kqueue => {
                i32::try_from(value).is_ok()
            }
            CallKind::TakeSocketError => error_of_word(value).is_some(),
            _ => true,
        }
    }

    /// The same as a record of a run; `clock` is what the loop last read.
    pub fn record(&self, step: u64, clock: Instant) -> CallRecord {
        let Call { kind, fd, arguments, outcome, .. } = *self;
        let thread = ThreadId(0);
        CallRecord { step, thread, began: clock, ended: clock, call: kind, fd, arguments, outcome }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record(0, Instant::from_ns(0)).words().fmt(f)?;
        match self.kind {
            CallKind::EpollWait => {
                for EpollEvent { events, data } in epoll_events(self.given) {
                    let names = EpollMask::from_bits_retain(events);
                    write!(f, ", {} for {}", names_of(names.iter_names()), Word(data))?;
                }
                Ok(())
            }
            CallKind::Getsockname | CallKind::Accept4 => match address(self.given) {
                Some(address) => write!(f, " ({address})"),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Entry<'_> {
    /// Writes what is no call.
    pub(super) fn put(&self, bytes: &mut Vec<u8>, clock_ns: &mut u64) {
        match self {
            Entry::Call(call) => call.put(bytes, clock_ns),
            Entry::Message(Numbered { producer, number }) => {
                bytes.push(KIND_MESSAGE);
                varint::put(bytes, u64::from(*producer));
                varint::put(bytes, *number);
            }
            Entry::Stop { within_ns } => {
                bytes.push(KIND_STOP);
                varint::put(bytes, *within_ns);
            }
            Entry::Excuse { fd, excuse } => {
                bytes.push(match excuse {
                    Excuse::Cut => KIND_CUT,
                    Excuse::EndsShort => KIND_ENDS_SHORT,
                });
                put_fd(bytes, *fd);
            }
            Entry::End(end) => {
                bytes.push(KIND_END);
                match end {
                    End::Stopped => bytes.push(0),
                    End::Breach { invariant, details } => {
                        bytes.push(1);
                        put_slice(bytes, invariant.as_bytes());
                        put_slice(bytes, details.as_bytes());
                    }
                    End::Panic { message } => {
                        bytes.push(2);
                        put_slice(bytes, message.as_bytes());
                    }
                }
            }
        }
    }

    /// Takes one off the front; `None` if what is there is none.
    pub(super) fn take<'a>(bytes: &mut &'a [u8], clock_ns: &mut u64) -> Option<Entry<'a>> {
        let kind = take_byte(bytes)?;
        Some(match kind {
            KIND_MESSAGE => {
                let producer = u32::try_from(varint::take(bytes)?).ok()?;
                Entry::Message(Numbered { producer, number: varint::take(bytes)? })
            }
            KIND_STOP => Entry::Stop { within_ns: varint::take(bytes)? },
            KIND_END => Entry::End(match take_byte(bytes)? {
                0 => End::Stopped,
                1 => End::Breach { invariant: take_text(bytes)?, details: take_text(bytes)? },
                2 => End::Panic { message: take_text(bytes)? },
                _ => return None,
            }),
            KIND_CUT => Entry::Excuse { fd: take_fd(bytes)?, excuse: Excuse::Cut },
            KIND_ENDS_SHORT => Entry::Excuse { fd: take_fd(bytes)?, excuse: Excuse::EndsShort },
            KIND_STRETCH => Entry::Call(Call::take_stretch(bytes, false)?),
            KIND_HEAD_AND_STRETCH => Entry::Call(Call::take_stretch(bytes, true)?),
            kind => Entry::Call(Call::take(kind, bytes, clock_ns)?),
        })
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Call(call) => call.fmt(f),
            Entry::Message(Numbered { producer, number }) => {
                write!(f, "message {number} of producer {producer} delivered")
            }
            Entry::Stop { within_ns } => write!(f, "told to stop within {within_ns} ns"),
            Entry::Excuse { fd, excuse: Excuse::Cut } => write!(f, "fd{fd} was cut by the chaos schedule"),
            Entry::Excuse { fd, excuse: Excuse::EndsShort } => {
                write!(f, "the process at the other end of fd{fd} was killed")
            }
            Entry::End(end) => write!(f, "the end: {end}"),
        }
    }
}

/// An address as bytes.
pub(super) fn put_address(bytes: &mut Vec<u8>, address: &SocketAddr) {
    match address {
        SocketAddr::V4(address) => bytes.extend_from_slice(&address.ip().octets()),
        SocketAddr::V6(address) => bytes.extend_from_slice(&address.ip().octets()),
    }
    bytes.extend_from_slice(&address.port().to_le_bytes());
}

/// The address that such bytes are.
pub(crate) fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk()?;
    let port = u16::from_le_bytes(*port);
    if let Ok(octets) = <[u8; 4]>::try_from(ip) {
        return Some((Ipv4Addr::from(octets), port).into());
    }
    <[u8; 16]>::try_from(ip).ok().map(|octets| (Ipv6Addr::from(octets), port).into())
}

/// What `SO_ERROR` gave, as a word: zero for none.
pub(super) fn word_of_error(error: Option<Errno>) -> u64 {
    let Some(error) = error else { return 0 };
    let mut bytes = Vec::new();
    put_errno(&mut bytes, error);
    varint::take(&mut bytes.as_slice()).map_or(0, |number| number + 1)
}

/// What such a word says; `None` inside for no error.
pub(super) fn error_of_word(word: u64) -> Option<Option<Errno>> {
    let Some(number) = word.checked_sub(1) else { return Some(None) };
    let mut bytes = Vec::new();
    varint::put(&mut bytes, number);
    take_errno(&mut bytes.as_slice()).map(Some)
}

/// Bytes of an epoll event.
const EPOLL_BYTES: usize = 12;

pub(super) fn put_epoll_event(bytes: &mut Vec<u8>, event: &EpollEvent) {
    let (events, data) = (event.events, event.data);
    bytes.extend_from_slice(&events.to_le_bytes());
    bytes.extend_from_slice(&data.to_le_bytes());
}

/// The events that came with an `epoll_wait(2)`.
pub fn epoll_events(given: &[u8]) -> impl Iterator<Item = EpollEvent> {
    let (events, _) = given.as_chunks::<EPOLL_BYTES>();
    events.iter().map(|bytes| {
        let [a, b, c, d, data @ ..] = *bytes;
        EpollEvent { events: u32::from_le_bytes([a, b, c, d]), data: u64::from_le_bytes(data) }
    })
}

const FILTERS: [Filter; 3] = [Filter::Read, Filter::Write, Filter::User];

pub(super) fn put_kevent(bytes: &mut Vec<u8>, event: &Kevent) {
    let Kevent { ident, filter, flags, note, data, udata } = *event;
    varint::put(bytes, ident);
    bytes.push(FILTERS.iter().position(|&other| other == filter).unwrap_or(0) as u8);
    varint::put(bytes, u64::from(flags.bits()));
    match note {
        Note::None => bytes.push(0),
        Note::Trigger => bytes.push(1),
        Note::Error(error) => {
            bytes.push(2);
            put_errno(bytes, error);
        }
    }
    varint::put(bytes, varint::zigzag(data));
    varint::put(bytes, udata);
}

fn take_kevent(bytes: &mut &[u8]) -> Option<Kevent> {
    let ident = varint::take(bytes)?;
    let filter = *FILTERS.get(usize::from(take_byte(bytes)?))?;
    let flags = KeventFlags::from_bits_retain(u16::try_from(varint::take(bytes)?).ok()?);
    let note = match take_byte(bytes)? {
        0 => Note::None,
        1 => Note::Trigger,
        2 => Note::Error(take_errno(bytes)?),
        _ => return None,
    };
    let data = varint::unzigzag(varint::take(bytes)?);
    Some(Kevent { ident, filter, flags, note, data, udata: varint::take(bytes)? })
}

/// The entries of a list of `kevent(2)`; `None` when the bytes are none.
pub fn kevents(mut bytes: &[u8]) -> Option<Vec<Kevent>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        events.push(take_kevent(&mut bytes)?);
    }
    Some(events)
}
