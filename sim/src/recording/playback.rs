//! The seam of a loop that is driven from a recording: each call is compared with the recorded one, and gets its result.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use reactor::Sender;
use reactor::sys::{
    Accepted, EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, Kevent, Readiness, Shutdown,
    SocketOption, Syscalls, Wait, Wake, WakeTarget,
};
use reactor::time::Instant;

use super::entry::{self, Call, End, Entry, Excuse};
use super::log::{Cursor, LoopLog};
use super::stretch::Stretch;
use super::words;
use crate::audit::Witness;
use crate::member::{DESCRIPTOR_LEAK, check_end};
use crate::trace::{CallKind, Outcome};
use crate::workload::content::Position;
use crate::workload::{Breach, Numbered};

/// Where a loop first did something else than what was recorded of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The number of the entry, counted from 1.
    pub entry: u64,
    /// What was recorded.
    pub recorded: String,
    /// What the loop did instead.
    pub now: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the first difference is at entry {}", self.entry)?;
        writeln!(f, "  recorded  {}", self.recorded)?;
        write!(f, "  now       {}", self.now)
    }
}

/// Why a playback goes no further.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Over {
    /// The loop did something else.
    Parted(Difference),
    /// Nothing more was recorded, and the loop waits.
    Asleep,
    /// Nothing more was recorded, or nothing more was asked for.
    LogEnds,
}

/// Unwinds a loop out of a call that has no result.
struct Unwinding;

struct State {
    at: Cursor,
    /// Nothing beyond this entry is played.
    until: u64,
    over: Option<Over>,
    /// The loop is being dropped; what it closes then was not recorded.
    dropping: bool,
    sender: Option<Sender<Numbered>>,
    messages_per_turn: u64,
    /// Messages in the mailbox that were delivered in a later turn than the one under way.
    posted_ahead: usize,
    /// Descriptors that were made and not closed.
    open: i64,
    /// Errors of calls, by name.
    errors: BTreeMap<&'static str, u64>,
}

impl State {
    /// Counts what a call came to, as whoever recorded it did.
    fn count(&mut self, call: &Call<'_>) {
        match (call.kind, call.outcome) {
            (
                CallKind::Socket
                | CallKind::Accept4
                | CallKind::EpollCreate1
                | CallKind::Eventfd
                | CallKind::Kqueue,
                Outcome::Value(_),
            ) => self.open += 1,
            // The number is free whatever the answer, but where there was none.
            (CallKind::Close, outcome) if outcome != Outcome::Error(Errno::EBADF) => self.open -= 1,
            _ => {}
        }
        if let Outcome::Error(error) = call.outcome {
            *self.errors.entry(error.name()).or_default() += 1;
        }
    }
}

/// What drives a loop from its log. Cloning shares it.
#[derive(Clone)]
pub(super) struct Playback {
    log: Rc<LoopLog>,
    state: Rc<RefCell<State>>,
}

impl fmt::Debug for Playback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Playback(entry {})", self.state.borrow().at.entries())
    }
}

#[derive(Debug)]
struct NoWaker;

impl Wake for NoWaker {
    fn wake(&self) {}
}

/// A call as it is asked, in words.
fn asked_words(kind: CallKind, fd: i32, arguments: [u64; 2]) -> String {
    let call =
        Call { kind, fd, arguments, asked: &[], outcome: Outcome::Value(0), given: &[], stretch: None };
    let words = call.to_string();
    words.rsplit_once(" -> ").map_or_else(|| words.clone(), |(asked, _)| asked.to_owned())
}

impl Playback {
    pub fn new(log: Rc<LoopLog>, messages_per_turn: u32, until: Option<u64>) -> Playback {
        let state = State {
            at: Cursor::default(),
            until: until.unwrap_or(u64::MAX),
            over: None,
            dropping: false,
            sender: None,
            messages_per_turn: u64::from(messages_per_turn),
            posted_ahead: 0,
            open: 0,
            errors: BTreeMap::new(),
        };
        Playback { log, state: Rc::new(RefCell::new(state)) }
    }

    /// The mailbox into which recorded messages are posted.
    pub fn post_to(&self, sender: Sender<Numbered>) {
        self.state.borrow_mut().sender = Some(sender);
    }

    pub fn entries(&self) -> u64 {
        self.state.borrow().at.entries()
    }

    pub fn over(&self) -> Option<Over> {
        self.state.borrow().over.clone()
    }

    /// The stop that was asked for at this place, if one was.
    pub fn take_stop(&self) -> Option<Duration> {
        let mut state = self.state.borrow_mut();
        let mut at = state.at;
        match self.log.next(&mut at) {
            Some(Entry::Stop { within_ns }) => {
                state.at = at;
                Some(Duration::from_nanos(within_ns))
            }
            _ => None,
        }
    }

    /// Whether this was said of a connection at this place: only then it stands there.
    fn take_excuse(&self, fd: Fd, excuse: Excuse) -> bool {
        let mut state = self.state.borrow_mut();
        let mut at = state.at;
        let said = Entry::Excuse { fd: fd.as_raw(), excuse };
        let was_said = !state.dropping && at.entries() < state.until && self.log.next(&mut at) == Some(said);
        if was_said {
            state.at = at;
        }
        was_said
    }

    /// From here on the loop is only dropped.
    pub fn begin_drop(&self) {
        self.state.borrow_mut().dropping = true;
    }

    /// Compares how the loop ended with what was recorded of that.
    pub fn ended(&self, end: &End) -> Option<Difference> {
        let mut state = self.state.borrow_mut();
        let mut at = state.at;
        let recorded = self.log.next(&mut at)?;
        let same = match (&recorded, end) {
            // The place in the source is said too where it is known.
            (Entry::End(End::Panic { message: then }), End::Panic { message: now }) => {
                now.starts_with(then.as_str())
            }
            (Entry::End(then), now) => then == now,
            _ => false,
        };
        if same {
            state.at = at;
            return None;
        }
        let now = format!("the end: {end}");
        Some(Difference { entry: at.entries(), recorded: recorded.to_string(), now })
    }

    /// Never returns: the loop is unwound, and its driver asks [`Playback::over`].
    fn part(&self, over: Over) -> ! {
        self.state.borrow_mut().over = Some(over);
        resume_unwind(Box::new(Unwinding));
    }

    /// The next entry, if it is what `fits` says; where it is not, the loop ends here.
    fn expect<'a>(
        &'a self,
        now: impl FnOnce() -> String,
        fits: impl FnOnce(&Entry<'a>) -> bool,
    ) -> Entry<'a> {
        let mut state = self.state.borrow_mut();
        let mut at = state.at;
        let next = if at.entries() < state.until { self.log.next(&mut at) } else { None };
        let Some(entry) = next else {
            drop(state);
            self.part(Over::LogEnds);
        };
        if !fits(&entry) {
            drop(state);
            let (entry, recorded) = (at.entries(), entry.to_string());
            self.part(Over::Parted(Difference { entry, recorded, now: now() }));
        }
        state.at = at;
        entry
    }

    fn call<'a>(
        &'a self,
        kind: CallKind,
        fd: i32,
        arguments: [u64; 2],
        same: impl FnOnce(&Call<'a>) -> bool,
    ) -> Call<'a> {
        let same_words = Cell::new(false);
        let now = || {
            let beside = if same_words.get() { ", with other bytes" } else { "" };
            format!("{}{beside}", asked_words(kind, fd, arguments))
        };
        let entry = self.expect(now, |entry| {
            let Entry::Call(call) = entry else { return false };
            same_words.set((call.kind, call.fd, call.arguments) == (kind, fd, arguments));
            same_words.get() && same(call)
        });
        let Entry::Call(call) = entry else { unreachable!("only a call fits") };
        self.state.borrow_mut().count(&call);
        call
    }

    /// Descriptors that the loop has made and not closed.
    pub fn open(&self) -> i64 {
        self.state.borrow().open
    }

    /// Whether the loop was ended here because a descriptor had leaked: whoever drove it looks at that only now and then.
    pub fn has_leaked_then(&self) -> bool {
        let mut at = self.state.borrow().at;
        matches!(
            self.log.next(&mut at),
            Some(Entry::End(End::Breach { invariant, .. })) if invariant == DESCRIPTOR_LEAK
        )
    }

    /// Looks at what the loop left behind when it had ended.
    pub fn check_end(&self) -> Result<(), Breach> {
        let state = self.state.borrow();
        check_end(state.open, state.errors.iter().map(|(&name, &count)| (name, count)))
    }

    fn result<R>(call: &Call<'_>, value: impl FnOnce(u64) -> R) -> Result<R, Errno> {
        match call.outcome {
            Outcome::Value(number) => Ok(value(number)),
            Outcome::Error(error) => Err(error),
        }
    }

    /// A call of which nothing but its words and its number matters.
    fn plain<R>(
        &self,
        kind: CallKind,
        fd: i32,
        arguments: [u64; 2],
        value: impl FnOnce(u64) -> R,
    ) -> Result<R, Errno> {
        Playback::result(&self.call(kind, fd, arguments, |_| true), value)
    }

    /// A wait at the end of the log lasts for ever.
    fn is_last(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let mut at = state.at;
        let ends = at.entries() >= state.until || self.log.next(&mut at).is_none();
        if ends {
            state.over = Some(if at.entries() >= state.until { Over::LogEnds } else { Over::Asleep });
        }
        ends
    }

    /// Puts the messages into the mailbox that are delivered in the turn that begins, and one more where the budget ended
    /// before the mailbox was empty: the next wait does not sleep then.
    fn post_messages(&self) {
        let mut state = self.state.borrow_mut();
        let mut at = state.at;
        let mut messages = Vec::new();
        let (mut turn, mut before_wait) = (0, false);
        let mut left = false;
        let mut in_this_turn = 0;
        while let Some(entry) = self.log.next(&mut at) {
            match entry {
                Entry::Message(message) => {
                    messages.push(message);
                    if turn == 1 {
                        left = true;
                        break;
                    }
                }
                Entry::Call(call) if call.record(0, Instant::from_ns(0)).timeout_ns().is_some() => {
                    in_this_turn = messages.len();
                    let sleeps = call.record(0, Instant::from_ns(0)).timeout_ns() != Some(Some(0));
                    // The loop reads its clock before a wait only where neither work nor messages were left.
                    if turn == 1 || sleeps || before_wait || (in_this_turn as u64) < state.messages_per_turn {
                        break;
                    }
                    turn = 1;
                }
                _ => {}
            }
            before_wait = matches!(entry, Entry::Call(Call { kind: CallKind::ClockGettime, .. }));
            if turn == 0 {
                in_this_turn = messages.len();
            }
        }
        let wanted = in_this_turn + usize::from(left);
        let posted = state.posted_ahead.min(wanted);
        state.posted_ahead = usize::from(left);
        let Some(sender) = state.sender.clone() else { return };
        drop(state);
        for message in &messages[posted..wanted] {
            if sender.publish(*message).is_err() {
                let now = "the mailbox has no room for what was delivered".to_owned();
                let entry = self.entries();
                let recorded = Entry::Message(*message).to_string();
                self.part(Over::Parted(Difference { entry, recorded, now }));
            }
        }
    }
}

impl Witness for Playback {
    fn excuses(&self, fd: Fd) -> bool {
        self.take_excuse(fd, Excuse::Cut)
    }

    fn ends_short(&self, fd: Fd) -> bool {
        self.take_excuse(fd, Excuse::EndsShort)
    }

    fn unread_bytes(&self, _: Fd) -> u64 {
        0
    }

    fn message(&self, message: Numbered) {
        let delivered = Entry::Message(message);
        self.expect(|| delivered.to_string(), |entry| *entry == delivered);
    }
}

fn fd_of(number: u64) -> Fd {
    Fd::from_raw((number as u32).cast_signed())
}

impl Syscalls for Playback {
    fn clock_gettime(&mut self) -> Instant {
        match self.call(CallKind::ClockGettime, -1, [0; 2], |_| true).outcome {
            Outcome::Value(now_ns) => Instant::from_ns(now_ns),
            Outcome::Error(_) => Instant::from_ns(self.state.borrow().at.clock_ns()),
        }
    }

    fn socket(&mut self, family: Family) -> Result<Fd, Errno> {
        self.plain(CallKind::Socket, -1, words::family(family), fd_of)
    }

    fn setsockopt(&mut self, fd: Fd, option: SocketOption) -> Result<(), Errno> {
        self.plain(CallKind::Setsockopt, fd.as_raw(), words::option(option), |_| ())
    }

    fn bind(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        self.plain(CallKind::Bind, fd.as_raw(), words::address(address), |_| ())
    }

    fn listen(&mut self, fd: Fd, backlog: u32) -> Result<(), Errno> {
        self.plain(CallKind::Listen, fd.as_raw(), [u64::from(backlog), 0], |_| ())
    }

    fn accept4(&mut self, fd: Fd) -> Result<Accepted, Errno> {
        let call = self.call(CallKind::Accept4, fd.as_raw(), [0; 2], |_| true);
        Playback::result(&call, |number| Accepted { fd: fd_of(number), peer: entry::address(call.given) })
    }

    fn connect(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        self.plain(CallKind::Connect, fd.as_raw(), words::address(address), |_| ())
    }

    fn getsockname(&mut self, fd: Fd) -> Result<SocketAddr, Errno> {
        let call = self.call(CallKind::Getsockname, fd.as_raw(), [0; 2], |_| true);
        let address = || entry::address(call.given).expect("a log that was read holds an address here");
        Playback::result(&call, |_| address())
    }

    fn take_socket_error(&mut self, fd: Fd) -> Result<Option<Errno>, Errno> {
        self.plain(CallKind::TakeSocketError, fd.as_raw(), [0; 2], |word| {
            entry::error_of_word(word).flatten()
        })
    }

    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        let call = self.call(CallKind::Recv, fd.as_raw(), [buffer.len() as u64, 0], |_| true);
        let (head, rest) = buffer.split_at_mut(call.given.len());
        head.copy_from_slice(call.given);
        if let Some(Stretch { begin: Position { content, offset }, length }) = call.stretch {
            content.fill(offset, &mut rest[..length as usize]);
        }
        Playback::result(&call, |length| length as usize)
    }

    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        self.sent(CallKind::Send, fd, words::send(bytes), &[IoSlice::new(bytes)])
    }

    fn sendmsg(&mut self, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.sent(CallKind::Sendmsg, fd, words::sendmsg(segments), segments)
    }

    fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno> {
        self.plain(CallKind::Shutdown, fd.as_raw(), words::shutdown(how), |_| ())
    }

    fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        if self.state.borrow().dropping || std::thread::panicking() {
            return Ok(());
        }
        self.plain(CallKind::Close, fd.as_raw(), [0; 2], |_| ())
    }

    fn readiness(&self) -> Readiness {
        self.log.readiness
    }

    fn epoll_create1(&mut self) -> Result<Fd, Errno> {
        self.plain(CallKind::EpollCreate1, -1, [0; 2], fd_of)
    }

    fn epoll_ctl(
        &mut self,
        epoll: Fd,
        operation: EpollOperation,
        fd: Fd,
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        let arguments = words::epoll_ctl(operation, fd, mask, data);
        self.plain(CallKind::EpollCtl, epoll.as_raw(), arguments, |_| ())
    }

    fn epoll_wait(&mut self, epoll: Fd, events: &mut [EpollEvent], timeout_ms: i32) -> Result<Wait, Errno> {
        if self.is_last() {
            return Ok(Wait::Parked);
        }
        let arguments = words::epoll_wait(timeout_ms, events.len());
        let call = self.call(CallKind::EpollWait, epoll.as_raw(), arguments, |_| true);
        self.post_messages();
        for (to, event) in events.iter_mut().zip(entry::epoll_events(call.given)) {
            *to = event;
        }
        Playback::result(&call, |count| Wait::Ready(count as usize))
    }

    fn eventfd(&mut self) -> Result<Fd, Errno> {
        self.plain(CallKind::Eventfd, -1, [0; 2], fd_of)
    }

    fn read_eventfd(&mut self, fd: Fd) -> Result<u64, Errno> {
        self.plain(CallKind::ReadEventfd, fd.as_raw(), [0; 2], |sum| sum)
    }

    fn kqueue(&mut self) -> Result<Fd, Errno> {
        self.plain(CallKind::Kqueue, -1, [0; 2], fd_of)
    }

    fn kevent(
        &mut self,
        kqueue: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        if !events.is_empty() && self.is_last() {
            return Ok(Wait::Parked);
        }
        let mut asked = Vec::new();
        changes.iter().for_each(|change| entry::put_kevent(&mut asked, change));
        let arguments = words::kevent(timeout_ns, changes.len());
        let call = self.call(CallKind::Kevent, kqueue.as_raw(), arguments, |call| call.asked == asked);
        if !events.is_empty() {
            self.post_messages();
        }
        let given = entry::kevents(call.given).expect("a log that was read holds events here");
        let room = events.len();
        for (to, event) in events.iter_mut().zip(given) {
            *to = event;
        }
        Playback::result(&call, |count| Wait::Ready(room.min(count as usize)))
    }

    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        let (fd, arguments) = words::waker(target);
        self.plain(CallKind::Waker, fd.as_raw(), arguments, |_| Arc::new(NoWaker) as Arc<dyn Wake>)
    }
}

impl Playback {
    /// The bytes that the kernel took must be those that it took then.
    fn sent(
        &self,
        kind: CallKind,
        fd: Fd,
        arguments: [u64; 2],
        segments: &[IoSlice<'_>],
    ) -> Result<usize, Errno> {
        let same = |call: &Call<'_>| {
            let taken = match call.outcome {
                Outcome::Value(taken) => taken as usize,
                Outcome::Error(_) => 0,
            };
            words::checksums(segments, taken).iter().any(|sum| call.asked == sum)
        };
        Playback::result(&self.call(kind, fd.as_raw(), arguments, same), |taken| taken as usize)
    }
}
