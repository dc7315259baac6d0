//! Follows an imported loop call by call: answers the decisions of its run so that it is given what was recorded, and compares.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use reactor::sys::{EpollEvent, Errno};
use reactor::time::Instant;

use super::SUBJECT;
use super::act::decisions_of;
use super::reading::Reading;
use super::timing::Timing;
use crate::decision::{Domain, Guide, Site};
use crate::fault::FaultKind;
use crate::kernel::imposed::{CLOCK, CREATION, CREATION_ERRORS, ROOM, ROOM_AGAIN};
use crate::recording::{Call, Cursor, Entry, LoopLog, epoll_events};
use crate::trace::{CallKind, CallRecord, Outcome};

/// How many drifts are described.
const DRIFTS_MAX: usize = 16;

/// Something that the simulated kernel gave otherwise than the real one, or that the loop asked otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drift {
    /// The number of the entry of the log, counted from 1.
    pub entry: u64,
    /// What was recorded.
    pub recorded: String,
    /// What came of it in the simulated run.
    pub simulated: String,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "entry {}", self.entry)?;
        writeln!(f, "  recorded   {}", self.recorded)?;
        write!(f, "  simulated  {}", self.simulated)
    }
}

/// How an imported run compares with its recording.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Comparison {
    /// Calls in the recording.
    pub calls: u64,
    /// Those of them that came again, with the same result.
    pub same: u64,
    /// Decisions that were not benign, and so imposed something.
    pub imposed: u64,
    /// Results that differed.
    pub drifts: u64,
    /// The first of them.
    pub first_drifts: Vec<Drift>,
    /// Where the loop asked something else; nothing was compared after that.
    pub parting: Option<Drift>,
}

impl Comparison {
    /// Whether every call came again.
    pub fn is_whole(&self) -> bool {
        self.same == self.calls
    }

    /// The calls that came again, in hundredths of a percent of all, rounded down.
    pub fn same_per_10_000(&self) -> u64 {
        self.same.saturating_mul(10_000).checked_div(self.calls).unwrap_or(10_000)
    }

    fn drift(&mut self, entry: u64, recorded: String, simulated: String) {
        self.drifts += 1;
        if self.first_drifts.len() < DRIFTS_MAX {
            self.first_drifts.push(Drift { entry, recorded, simulated });
        }
    }
}

/// A lane of decisions that are known before the run.
#[derive(Debug, Default)]
struct Known {
    values: Vec<u64>,
    next: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct ImportGuide {
    log: Rc<LoopLog>,
    /// Before the next entry that the loop is to come to.
    at: Cursor,
    calls: u64,
    call_ns: u64,
    now_ns: u64,
    lanes: Vec<Known>,
    rooms: BTreeMap<u64, u64>,
    /// How the batch of the wait is put into its order: what is swapped, from its end on.
    swaps: VecDeque<u64>,
    /// What the bytes that the send has taken may be summed up as.
    sent: [[u8; 4]; 2],
    /// What the simulated wait reports.
    reported: Vec<EpollEvent>,
    /// Descriptors of the recording, by what they are now.
    descriptors: BTreeMap<i32, i32>,
    comparison: Rc<RefCell<Comparison>>,
}

impl ImportGuide {
    pub(super) fn new(
        log: Rc<LoopLog>,
        timing: &Timing,
        reading: Reading,
        comparison: Rc<RefCell<Comparison>>,
    ) -> ImportGuide {
        let Reading { peers, errands, rooms, .. } = reading;
        let known = |acts: &[_]| Known { values: decisions_of(acts, timing.origin_ns), next: 0 };
        let peers = peers.iter().filter(|peer| !peer.failed).map(|peer| known(&peer.acts));
        let lanes = [known(&errands)].into_iter().chain(peers).collect();
        let calls = log.entries().filter(|entry| matches!(entry, Entry::Call(_))).count();
        comparison.borrow_mut().calls = calls as u64;
        ImportGuide {
            log,
            at: Cursor::default(),
            calls: 0,
            call_ns: timing.call_ns,
            now_ns: timing.origin_ns,
            lanes,
            rooms,
            swaps: VecDeque::new(),
            sent: [[0; 4]; 2],
            reported: Vec::new(),
            descriptors: BTreeMap::new(),
            comparison,
        }
    }

    fn has_parted(&self) -> bool {
        self.comparison.borrow().parting.is_some()
    }

    /// The call that the loop makes next, or is in, if it still does what was recorded, and the place after it.
    fn next_call(&self) -> Option<(Call<'_>, Cursor)> {
        if self.has_parted() {
            return None;
        }
        let mut at = self.at;
        loop {
            match self.log.next(&mut at)? {
                Entry::Call(call) => return Some((call, at)),
                Entry::Message(_) | Entry::Stop { .. } | Entry::Excuse { .. } => {}
                Entry::End(_) => return None,
            }
        }
    }

    /// What the clock said in the reading that follows the call that is under way.
    fn next_reading(&self) -> Option<u64> {
        let (_, mut at) = self.next_call()?;
        match self.log.next(&mut at)? {
            Entry::Call(Call { kind: CallKind::ClockGettime, outcome: Outcome::Value(now_ns), .. }) => {
                Some(now_ns)
            }
            _ => None,
        }
    }

    fn answer(&mut self, domain: Domain, site: Site, entity: u32) -> u64 {
        if domain == Domain::Workload {
            let Some(known) = self.lanes.get_mut(entity as usize) else { return 0 };
            known.next += 1;
            return known.values.get(known.next - 1).copied().unwrap_or(0);
        }
        let Some((call, _)) = self.next_call() else { return 0 };
        let Call { kind, arguments, outcome, .. } = call;
        if site == CLOCK {
            return match (kind, outcome) {
                (CallKind::ClockGettime, Outcome::Value(then_ns)) => then_ns.saturating_sub(self.now_ns),
                _ => 0,
            };
        }
        if site == CREATION {
            let Outcome::Error(error) = outcome else { return 0 };
            let which = CREATION_ERRORS.iter().position(|&other| other == Some(error));
            return which.map_or(0, |which| which as u64);
        }
        if site == ROOM {
            return match (kind, outcome) {
                (CallKind::Send | CallKind::Sendmsg, Outcome::Value(count))
                    if count < arguments[0] || self.rooms.contains_key(&self.calls) =>
                {
                    count + 1
                }
                (CallKind::Send | CallKind::Sendmsg, Outcome::Error(Errno::EAGAIN)) => 1,
                _ => 0,
            };
        }
        if site == ROOM_AGAIN {
            let then_ns = self.rooms.get(&self.calls).copied();
            return then_ns.map_or(0, |then_ns| then_ns.saturating_sub(self.now_ns.saturating_add(1)));
        }
        let waits = kind == CallKind::EpollWait;
        let is_interrupted = waits && outcome == Outcome::Error(Errno::EINTR);
        match site.0 {
            // The batch was whole when the wait returned.
            "latency of a wake-up" if waits && matches!(outcome, Outcome::Value(1..)) => {
                let returned_ns = self.next_reading().map(|then_ns| then_ns.saturating_sub(self.call_ns));
                returned_ns.map_or(0, |then_ns| then_ns.saturating_sub(self.now_ns))
            }
            name if name == FaultKind::ReorderedBatches.name() => u64::from(!self.swaps.is_empty()),
            "place in the batch" => self.swaps.pop_front().unwrap_or(0),
            name if name == FaultKind::InterruptedWaits.name() => u64::from(is_interrupted),
            "when the signal comes" => {
                let returned_ns = self.next_reading().map(|then_ns| then_ns.saturating_sub(self.call_ns));
                returned_ns.map_or(0, |then_ns| then_ns.saturating_sub(self.now_ns))
            }
            _ => 0,
        }
    }

    /// Whether two descriptors are the same one, though a process of many loops gave it another number.
    fn is_same(&self, recorded: i32, now: i32) -> bool {
        recorded == now && recorded < 0 || self.descriptors.get(&recorded) == Some(&now)
    }

    fn asks_the_same(&self, call: &Call<'_>, record: &CallRecord) -> bool {
        let Call { kind, fd, arguments, .. } = *call;
        if kind != record.call || !self.is_same(fd, record.fd) {
            return false;
        }
        match kind {
            CallKind::EpollCtl => {
                let target = |word: u64| (word as u32 >> 2).cast_signed();
                let rest = |word: u64| word & !0xffff_fffc;
                let ([then, data], [now, data_now]) = (arguments, record.arguments);
                self.is_same(target(then), target(now)) && rest(then) == rest(now) && data == data_now
            }
            // Ports are the kernel's own choice.
            CallKind::Bind | CallKind::Connect => true,
            _ => arguments == record.arguments,
        }
    }

    fn gives_the_same(&self, call: &Call<'_>, record: &CallRecord) -> bool {
        match (call.kind, call.outcome, record.outcome) {
            (
                CallKind::Socket
                | CallKind::Accept4
                | CallKind::EpollCreate1
                | CallKind::Eventfd
                | CallKind::Getsockname,
                Outcome::Value(_),
                Outcome::Value(_),
            ) => true,
            // An error has its rank in the one, its number in the other.
            (CallKind::TakeSocketError, Outcome::Value(then), Outcome::Value(now)) => (then > 0) == (now > 0),
            (CallKind::EpollWait, Outcome::Value(then), Outcome::Value(now)) => {
                let word = |event: EpollEvent| (event.events, event.data);
                then == now && epoll_events(call.given).map(word).eq(self.reported.iter().copied().map(word))
            }
            // What the loop sends are the same bytes too.
            (CallKind::Send | CallKind::Sendmsg, then, now) => {
                then == now && self.sent.iter().any(|sum| call.asked == sum)
            }
            (_, then, now) => then == now,
        }
    }
}

/// What a wait gave, in words that go with a call of the simulated run.
fn words(record: &CallRecord, reported: &[EpollEvent]) -> String {
    let mut given = Vec::new();
    for event in reported {
        given.extend_from_slice(&event.events.to_le_bytes());
        given.extend_from_slice(&event.data.to_le_bytes());
    }
    let CallRecord { call: kind, fd, arguments, outcome, .. } = *record;
    let given: &[u8] = if kind == CallKind::EpollWait { &given } else { &[] };
    Call { kind, fd, arguments, asked: &[], outcome, given, stretch: None }.to_string()
}

impl Guide for ImportGuide {
    fn choose(&mut self, domain: Domain, site: Site, entity: u32, _: u64) -> u64 {
        let value = self.answer(domain, site, entity);
        self.comparison.borrow_mut().imposed += u64::from(value > 0);
        value
    }

    fn tell_time(&mut self, now: Instant) {
        self.now_ns = now.as_ns();
    }

    fn found(&mut self, events: &[EpollEvent]) {
        self.swaps.clear();
        let recorded: Vec<u64> = match self.next_call() {
            Some((call, _)) if call.kind == CallKind::EpollWait => {
                epoll_events(call.given).map(|event| event.data).collect()
            }
            _ => return,
        };
        let mut found: Vec<u64> = events.iter().map(|event| event.data).collect();
        if recorded.len() != found.len() || recorded == found {
            return;
        }
        for last in (1..found.len()).rev() {
            let Some(place) = found[..=last].iter().position(|&data| data == recorded[last]) else {
                // Another batch: no order makes it the recorded one.
                return self.swaps.clear();
            };
            self.swaps.push_back((last - place) as u64);
            found.swap(last, place);
        }
    }

    fn sent(&mut self, checksums: [[u8; 4]; 2]) {
        self.sent = checksums;
    }

    fn reported(&mut self, events: &[EpollEvent]) {
        self.reported.clear();
        self.reported.extend_from_slice(events);
    }

    fn called(&mut self, record: &CallRecord) {
        if record.thread.0 != SUBJECT {
            return;
        }
        if record.call != CallKind::EpollWait || !matches!(record.outcome, Outcome::Value(1..)) {
            self.reported.clear();
        }
        let Some((call, after)) = self.next_call() else { return };
        if !self.asks_the_same(&call, record) {
            let (entry, recorded) = (after.entries(), call.to_string());
            let drift = Drift { entry, recorded, simulated: words(record, &self.reported) };
            self.comparison.borrow_mut().parting = Some(drift);
            return;
        }
        if self.gives_the_same(&call, record) {
            self.comparison.borrow_mut().same += 1;
        } else {
            let (recorded, simulated) = (call.to_string(), words(record, &self.reported));
            self.comparison.borrow_mut().drift(after.entries(), recorded, simulated);
        }
        let descriptors = match (call.kind, call.outcome, record.outcome) {
            (
                CallKind::Socket | CallKind::Accept4 | CallKind::EpollCreate1 | CallKind::Eventfd,
                Outcome::Value(then),
                Outcome::Value(now),
            ) => Some((then as i32, now as i32)),
            _ => None,
        };
        if let Some((then, now)) = descriptors {
            self.descriptors.insert(then, now);
        } else if call.kind == CallKind::Close {
            let fd = call.fd;
            self.descriptors.remove(&fd);
        }
        self.at = after;
        self.calls += 1;
    }
}
