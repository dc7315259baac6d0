//! From the calls of a recorded loop to what its peers, and the other threads of its process, must have done.
//!
//! What a loop was given says what was there: bytes that it received had come before, a wait that reported an end had seen one.
//! What does not follow is left as late as it can be: each arrival is taken to have ended the wait that first reported it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use reactor::Token;
use reactor::sys::{EpollMask, Errno};

use super::act::{Act, Deed};
use super::bytes::PeerBytes;
use super::timing::Timing;
use crate::recording::{Call, Entry, LoopLog, address, epoll_events};
use crate::trace::{CallKind, Outcome};
use crate::workload::Numbered;

/// A wait that took longer than this, in nanoseconds, slept.
const SLEPT_NS: u64 = 1_000_000;

/// What one peer did.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerReading {
    pub(crate) acts: Vec<Act>,
    pub(crate) bytes: Vec<u8>,
    /// Where the loop reached it; `None` for one that reached the loop.
    pub(crate) address: Option<SocketAddr>,
    /// The loop's attempt to reach it failed.
    pub(crate) failed: bool,
    /// It ended its stream before the loop did.
    pub(crate) ended_first: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// By connection, in the order in which the loop met them.
    pub(crate) peers: Vec<PeerReading>,
    /// What other threads did.
    pub(crate) errands: Vec<Act>,
    /// The messages that they posted, in order.
    pub(crate) messages: Vec<Numbered>,
    /// When there was room again after a send that took less than it was given, by the number of its call.
    pub(crate) rooms: BTreeMap<u64, u64>,
}

/// A descriptor that the loop waits for.
#[derive(Debug, Default)]
struct Source {
    listens: bool,
    peer: Option<usize>,
    token: Option<u64>,
    /// Reports of something to read since it was last found empty: when they came.
    reports: Vec<u64>,
    /// The act whose bytes were not all taken, as far as one can see.
    open: Option<usize>,
    ended_ns: Option<u64>,
    /// When it was known to be reset. What is read after that had come before.
    reset_ns: Option<u64>,
    /// The loop has been told of the reset: the end that it reads after that is none of the peer's.
    told_of_reset: bool,
    /// The loop has ended its own stream.
    shut: bool,
    /// The attempt to connect has not been reported on yet.
    connecting: bool,
    /// Registered and not reported yet: the first report needs no cause.
    fresh: bool,
    /// The send that took less than it was given, if no room was reported since.
    short_send: Option<u64>,
    /// The last send that took all it was given.
    full_send: Option<u64>,
}

struct Reader<'a> {
    timing: &'a Timing,
    reading: Reading,
    sources: BTreeMap<i32, Source>,
    tokens: BTreeMap<u64, i32>,
    waker: Option<i32>,
    calls: usize,
    /// Something that a wait reports at once may have come since the last wait.
    ready: bool,
    last_wake_ns: u64,
}

impl Reading {
    /// What happened around this loop.
    pub(crate) fn of(log: &LoopLog, timing: &Timing) -> Reading {
        let mut reader = Reader {
            timing,
            reading: Reading::default(),
            sources: BTreeMap::new(),
            tokens: BTreeMap::new(),
            waker: None,
            calls: 0,
            ready: false,
            last_wake_ns: timing.origin_ns,
        };
        for entry in log.entries() {
            match entry {
                Entry::Call(call) => {
                    reader.call(&call);
                    reader.calls += 1;
                }
                Entry::Message(message) => reader.message(message),
                Entry::Stop { within_ns } => {
                    let at_ns = timing.before(reader.calls.saturating_sub(1));
                    reader.reading.errands.push(Act { at_ns, deed: Deed::Stop, amount: within_ns });
                }
                Entry::Excuse { .. } | Entry::End(_) => {}
            }
        }
        for source in std::mem::take(&mut reader.sources).into_values() {
            reader.forsaken(&source);
        }
        let mut reading = reader.reading;
        for peer in &mut reading.peers {
            // What is read later may have come before an end that was reported at once.
            peer.acts.sort_by_key(|act| (act.at_ns, act.deed.number()));
        }
        reading.errands.sort_by_key(|act| act.at_ns);
        reading
    }
}

fn descriptor(outcome: Outcome) -> Option<i32> {
    match outcome {
        Outcome::Value(number) => i32::try_from(number).ok(),
        Outcome::Error(_) => None,
    }
}

impl Reader<'_> {
    fn call(&mut self, call: &Call<'_>) {
        let Call { kind, fd, arguments, outcome, .. } = *call;
        match kind {
            CallKind::Eventfd => self.waker = descriptor(outcome),
            CallKind::Listen => self.sources.entry(fd).or_default().listens = true,
            CallKind::Accept4 => self.accepted(fd, outcome),
            CallKind::EpollCtl if outcome == Outcome::Value(0) && arguments[0] & 3 == 0 => {
                let target = (arguments[0] as u32 >> 2).cast_signed();
                if self.waker != Some(target) {
                    let source = self.sources.entry(target).or_default();
                    source.token = Some(arguments[1]);
                    source.fresh = !source.listens;
                    self.ready |= !source.listens;
                    self.tokens.insert(arguments[1], target);
                }
            }
            CallKind::Connect => self.connected(fd, outcome, address(call.asked)),
            CallKind::Shutdown => self.sources.entry(fd).or_default().shut = true,
            CallKind::EpollWait => self.waited(call),
            CallKind::Recv => self.received(fd, arguments[0], outcome, &call.received()),
            CallKind::Send | CallKind::Sendmsg => self.sent(fd, arguments[0], outcome),
            CallKind::TakeSocketError => {
                if let (Some(source), Outcome::Value(1..)) = (self.sources.get_mut(&fd), outcome) {
                    source.told_of_reset = true;
                }
            }
            CallKind::Close => {
                if let Some(source) = self.sources.remove(&fd) {
                    if let Some(token) = source.token {
                        self.tokens.remove(&token);
                    }
                    self.forsaken(&source);
                }
            }
            _ => {}
        }
    }

    fn message(&mut self, message: Numbered) {
        self.reading.messages.push(message);
        let at_ns = self.last_wake_ns;
        match self.reading.errands.iter_mut().rev().find(|act| act.deed == Deed::Post) {
            Some(act) => act.amount += 1,
            None => self.reading.errands.push(Act { at_ns, deed: Deed::Post, amount: 1 }),
        }
    }

    fn act(&mut self, peer: usize, at_ns: u64, deed: Deed, amount: u64) -> usize {
        let acts = &mut self.reading.peers[peer].acts;
        acts.push(Act { at_ns, deed, amount });
        acts.len() - 1
    }

    fn accepted(&mut self, listener: i32, outcome: Outcome) {
        let late_ns = self.timing.before(self.calls);
        let source = self.sources.entry(listener).or_default();
        let Some(fd) = descriptor(outcome) else {
            if outcome == Outcome::Error(Errno::EAGAIN) {
                source.reports.clear();
            }
            return;
        };
        // Of several reports each had a connection of its own; all others have come with the last.
        let at_ns = match source.reports.len() {
            0 => late_ns,
            1 => source.reports[0],
            _ => source.reports.remove(0),
        };
        self.ready |= at_ns == late_ns;
        let peer = self.reading.peers.len();
        self.reading.peers.push(PeerReading::default());
        self.act(peer, at_ns, Deed::Connect, 0);
        self.sources.insert(fd, Source { peer: Some(peer), ..Source::default() });
    }

    /// The loop begins to connect.
    fn connected(&mut self, fd: i32, outcome: Outcome, to: Option<SocketAddr>) {
        let under_way = matches!(outcome, Outcome::Value(_) | Outcome::Error(Errno::EINPROGRESS));
        if !under_way || to.is_none() {
            return;
        }
        let peer = self.reading.peers.len();
        self.reading.peers.push(PeerReading { address: to, ..PeerReading::default() });
        self.sources.insert(fd, Source { peer: Some(peer), connecting: true, ..Source::default() });
    }

    fn received(&mut self, fd: i32, asked: u64, outcome: Outcome, given: &[u8]) {
        let late_ns = self.timing.before(self.calls);
        let Some(source) = self.sources.get_mut(&fd) else { return };
        let Some(peer) = source.peer else { return };
        match outcome {
            Outcome::Value(0) => {
                if source.ended_ns.is_none() && !source.told_of_reset {
                    // An end that is read before the error of a reset had come before the reset.
                    let at_ns = late_ns.min(source.reset_ns.unwrap_or(u64::MAX));
                    source.ended_ns = Some(at_ns);
                    self.ready = true;
                    self.reading.peers[peer].ended_first |= !source.shut;
                    self.act(peer, at_ns, Deed::Finish, 0);
                }
            }
            Outcome::Value(count) => {
                let mut reports = std::mem::take(&mut source.reports);
                let last_ns = reports.pop();
                let (ended_ns, reset_ns) = (source.ended_ns, source.reset_ns);
                let (open, ended_ns) =
                    (source.open, ended_ns.into_iter().chain(reset_ns).min().unwrap_or(u64::MAX));
                // Each report had a cause: at least one byte that had come then, the rest with the last.
                let mut left = count;
                for at_ns in reports {
                    if left > 1 {
                        left -= 1;
                        self.act(peer, at_ns, Deed::Send, 1);
                    } else {
                        self.act(peer, at_ns, Deed::Nudge, 0);
                    }
                }
                let place = match (last_ns, open) {
                    (Some(at_ns), _) => self.act(peer, at_ns.min(ended_ns), Deed::Send, left),
                    (None, Some(place)) => {
                        self.reading.peers[peer].acts[place].amount += count;
                        place
                    }
                    (None, None) => {
                        self.ready = true;
                        self.act(peer, late_ns.min(ended_ns), Deed::Send, count)
                    }
                };
                self.reading.peers[peer].bytes.extend_from_slice(given);
                if let Some(source) = self.sources.get_mut(&fd) {
                    source.open = (count == asked).then_some(place);
                }
            }
            Outcome::Error(Errno::EAGAIN) => {
                source.open = None;
                let reports = std::mem::take(&mut source.reports);
                for at_ns in reports {
                    self.act(peer, at_ns, Deed::Nudge, 0);
                }
            }
            Outcome::Error(Errno::EINTR) => {}
            Outcome::Error(_) => {
                source.told_of_reset = true;
                self.broken(fd, late_ns);
            }
        }
    }

    /// Nobody reads what was reported of this source: a byte of it for each report, of which nothing else is known.
    fn forsaken(&mut self, source: &Source) {
        let Some(peer) = source.peer else { return };
        // What was reported with the end may be nothing else.
        for &at_ns in source.reports.iter().filter(|&&at_ns| Some(at_ns) != source.ended_ns) {
            self.act(peer, at_ns, Deed::Send, 1);
            let bytes = &mut self.reading.peers[peer].bytes;
            let next = bytes.len() as u64;
            match PeerBytes::of(bytes) {
                PeerBytes::Stream(content, _) if next < content.length => {
                    content.append(next, next + 1, bytes)
                }
                _ => bytes.push(0),
            }
        }
    }

    /// The connection was reset by this time.
    fn broken(&mut self, fd: i32, at_ns: u64) {
        let Some(source) = self.sources.get_mut(&fd) else { return };
        let Some(peer) = source.peer.filter(|_| source.reset_ns.is_none()) else { return };
        source.reset_ns = Some(at_ns);
        self.ready = true;
        self.act(peer, at_ns, Deed::Reset, 0);
    }

    fn sent(&mut self, fd: i32, asked: u64, outcome: Outcome) {
        let late_ns = self.timing.before(self.calls);
        let call = self.calls as u64;
        let Some(source) = self.sources.get_mut(&fd) else { return };
        match outcome {
            Outcome::Value(count) if count < asked => source.short_send = Some(call),
            Outcome::Error(Errno::EAGAIN) => source.short_send = Some(call),
            Outcome::Error(Errno::EPIPE | Errno::ECONNRESET) => self.broken(fd, late_ns),
            Outcome::Value(_) => source.full_send = Some(call),
            Outcome::Error(_) => {}
        }
    }

    fn waited(&mut self, call: &Call<'_>) {
        let Outcome::Value(count) = call.outcome else { return };
        let timeout_ms = call.arguments[0] as u32;
        let (began_ns, after_ns) = (self.timing.at(self.calls), self.timing.at(self.calls + 1));
        let slept = count > 0
            && timeout_ms > 0
            && !self.ready
            && after_ns.saturating_sub(began_ns) > SLEPT_NS
            && u64::from(timeout_ms).saturating_mul(1_000_000) > after_ns - began_ns;
        let call_ns = self.timing.call_ns;
        let last_ns = if slept { after_ns - call_ns - 2 } else { self.timing.before(self.calls) };
        let room_ns = if slept { 2 * count } else { call_ns.saturating_sub(call_ns.min(4) / 2 + 1) };
        for (place, event) in (0_u64..).zip(epoll_events(call.given)) {
            // The events of a batch came one after the other, the last one at the end.
            let at_ns = last_ns - room_ns * (count - 1 - place) / count;
            self.reported(event.data, EpollMask::from_bits_retain(event.events), at_ns);
        }
        // A full batch has left something for the next one.
        self.ready = count > 0 && count == call.arguments[1];
    }

    fn reported(&mut self, token: u64, bits: EpollMask, at_ns: u64) {
        if Token::from_word(token).slot() >= Token::RESERVED_SLOT_MIN {
            self.last_wake_ns = at_ns;
            self.reading.errands.push(Act { at_ns, deed: Deed::Post, amount: 0 });
            return;
        }
        let Some(&fd) = self.tokens.get(&token) else { return };
        let Some(source) = self.sources.get_mut(&fd) else { return };
        if source.listens {
            source.reports.push(at_ns);
            return;
        }
        let Some(peer) = source.peer else { return };
        if std::mem::take(&mut source.connecting) && bits.contains(EpollMask::ERR) {
            source.reset_ns = Some(at_ns);
            self.reading.peers[peer].failed = true;
            return;
        }
        let fresh = std::mem::take(&mut source.fresh);
        let mut explained = fresh;
        // Something came, and there was no room: the last send has taken all that there was.
        if !bits.contains(EpollMask::OUT) && source.short_send.is_none() {
            source.short_send = source.full_send.take();
        }
        if bits.contains(EpollMask::OUT)
            && let Some(call) = source.short_send.take()
        {
            self.reading.rooms.insert(call, at_ns);
            explained = true;
        }
        if bits.intersects(EpollMask::ERR) && source.reset_ns.is_none() {
            return self.broken(fd, at_ns);
        }
        let ends = bits.contains(EpollMask::RDHUP) && source.ended_ns.is_none() && source.reset_ns.is_none();
        // The end is reported again whatever comes.
        if bits.contains(EpollMask::IN) && source.ended_ns.is_none() {
            source.reports.push(at_ns);
            explained = true;
        }
        if ends {
            source.ended_ns = Some(at_ns);
            self.reading.peers[peer].ended_first |= !source.shut;
            self.act(peer, at_ns, Deed::Finish, 0);
        } else if !explained {
            self.act(peer, at_ns, Deed::Nudge, 0);
        }
    }
}
