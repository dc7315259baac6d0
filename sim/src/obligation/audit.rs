//! The second opinion: what is owed, from the state of streams and queues alone.
//!
//! It knows less than the kernel's own readiness and never more: bits that are *certainly* there. So a difference is a
//! debt that was forgotten, and not another reading of the rules.

use reactor::sys::{EpollMask, Fd, Filter, KeventFlags};

use super::{Account, Ledger, Seen};
use crate::fault::FaultKind;
use crate::kernel::socket::{Attempt, State};
use crate::kernel::stream::Stream;
use crate::kernel::{NONE, Object};
use crate::schedule::{Phase, ThreadId};
use crate::world::World;

/// Registrations of a large set that one audit looks at.
const LOOKS_MAX: usize = 256;
/// How late a wait may end beside its slack: what the faults add at most.
const LATE_NS_MAX: u64 = 20_001_000;

/// Whether nothing is under way that could tell the sender more.
fn is_quiet(stream: &Stream, now: u64) -> bool {
    stream.ack_event_at == u64::MAX
        && !stream.retransmits
        && stream.sent == stream.arrived
        && stream.acks().all(|ack| ack.at <= now)
}

/// What the receiver has told the sender that it has, whether or not the sender has looked.
fn acked(stream: &Stream, now: u64) -> u64 {
    stream.acks().filter(|ack| ack.at <= now).fold(stream.acked, |acked, ack| acked.max(ack.acked))
}

impl World {
    /// The connection of this socket has ended for it: failed, reset, or finished both ways and closed.
    pub(super) fn is_certainly_over(&self, id: u32) -> bool {
        let Some(socket) = self.sockets.get(id) else { return false };
        socket.state == State::Closed
            && socket.attempt != Attempt::None
            && socket.receive_shut
            && socket.send_shut
    }

    /// Whether something waits to be read, or accepted, or told as an end.
    fn has_input(&self, id: u32) -> bool {
        let socket = &self.sockets[id];
        if let Some(listener) = &socket.listener {
            return !listener.queue.is_empty();
        }
        if socket.state == State::SynSent || (socket.state == State::Closed && !self.is_certainly_over(id)) {
            return false;
        }
        let stream = self.connections.get(socket.connection).map(|entry| &entry.streams[socket.incoming()]);
        let bytes = stream.is_some_and(|stream| {
            let readable = stream.arrived.min(stream.written).saturating_sub(stream.read);
            !stream.discards && readable >= socket.receive_low_water
        });
        bytes || socket.fin_received || self.is_certainly_over(id)
    }

    /// Whether the send buffer is empty, with nothing under way that could tell more.
    fn has_all_room(&self, id: u32) -> bool {
        let socket = &self.sockets[id];
        if socket.state != State::Connected || socket.send_shut {
            return false;
        }
        let Some(entry) = self.connections.get(socket.connection) else { return false };
        let stream = &entry.streams[socket.outgoing()];
        let all_acked = acked(stream, self.now) >= stream.written;
        all_acked && stream.sent >= stream.written && is_quiet(stream, self.now)
    }

    /// Whether this filter of a socket is true beyond doubt.
    pub(super) fn certainly_fires(&self, id: u32, filter: Filter) -> bool {
        if self.sockets.get(id).is_none() {
            return false;
        }
        match filter {
            Filter::Read => self.has_input(id),
            Filter::Write => self.is_certainly_over(id) || self.has_all_room(id),
            _ => false,
        }
    }

    /// The bits that an object has beyond doubt.
    fn certain_bits(&self, object: Object) -> EpollMask {
        let mut bits = EpollMask::empty();
        match object {
            Object::Eventfd(eventfd) => {
                let counter = self.eventfds.get(eventfd).map_or(0, |eventfd| eventfd.counter);
                bits.set(EpollMask::IN, counter > 0);
            }
            Object::Socket(id) if self.sockets.get(id).is_some() => {
                let over = self.is_certainly_over(id);
                bits.set(EpollMask::IN, self.has_input(id));
                bits.set(EpollMask::OUT, over || self.has_all_room(id));
                bits.set(EpollMask::RDHUP, over || self.sockets[id].fin_received);
                bits.set(EpollMask::HUP, over);
                bits.set(EpollMask::ERR, over && self.sockets[id].error.is_some());
            }
            _ => {}
        }
        bits
    }

    /// Whether there is something that the registration was not told of.
    fn has_news(&self, object: Object, seen: Option<Seen>) -> bool {
        let now = self.seen_now(object);
        seen.is_none_or(|seen| {
            now.arrived > seen.arrived
                || (now.over && !seen.over)
                || (now.last_queued != 0 && now.last_queued != seen.last_queued)
        })
    }

    /// Looks at a set after a harvest, at every sender that was short of room, and at every thread that sleeps.
    #[cold]
    pub(crate) fn audit_set(&mut self, set: Object) {
        let Some(mut ledger) = self.ledger.take() else { return };
        ledger.counts.audits += 1;
        let missing = self
            .missing_in_set(&mut ledger, set)
            .or_else(|| self.missing_room(&mut ledger))
            .or_else(|| self.missing_wake_up(&ledger, self.now));
        self.ledger = Some(ledger);
        if let Some(details) = missing {
            self.violate("owed-event", ThreadId(0), details);
        }
    }

    /// Looks at the set that a thread has just waited on.
    pub(crate) fn audit_waited(&mut self, fd: i32, thread: u32) {
        if let Some(set) = self.process_of(thread).get(Fd::from_raw(fd)) {
            self.audit_set(set);
        }
    }

    /// Looks at everything.
    pub(crate) fn audit_all(&mut self) {
        let sets: Vec<Object> = self
            .epolls
            .iter()
            .map(|(epoll, _)| Object::Epoll(epoll))
            .chain(self.kqueues.iter().map(|(kqueue, _)| Object::Kqueue(kqueue)))
            .collect();
        for set in sets {
            self.audit_set(set);
        }
    }

    /// Nothing is left to happen: then no wait that sleeps may have an end to come.
    pub(crate) fn audit_idle(&mut self) {
        let Some(ledger) = self.ledger.take() else { return };
        let missing = self.missing_wake_up(&ledger, u64::MAX);
        self.ledger = Some(ledger);
        if let Some(details) = missing {
            self.violate("owed-event", ThreadId(0), details);
        }
    }

    fn missing_in_set(&self, ledger: &mut Ledger, set: Object) -> Option<String> {
        let items: Vec<u32> = match set {
            Object::Epoll(epoll) => self.epolls.get(epoll)?.items().collect(),
            Object::Kqueue(kqueue) => self.kqueues.get(kqueue)?.items().collect(),
            _ => return None,
        };
        let skipped = if items.len() > LOOKS_MAX { ledger.cursor % items.len() } else { 0 };
        ledger.cursor = ledger.cursor.wrapping_add(LOOKS_MAX);
        items.iter().cycle().skip(skipped).take(items.len().min(LOOKS_MAX)).find_map(|&item| {
            let account = *ledger.accounts.get(&super::registration(set, item)?)?;
            let (missing, gone) = match set {
                Object::Epoll(epoll) => self.missing_in_epoll(epoll, item, account),
                Object::Kqueue(kqueue) => self.missing_in_kqueue(kqueue, item, account),
                _ => return None,
            };
            if gone && account.owed.is_some() {
                ledger.accounts.get_mut(&super::registration(set, item)?)?.owed = None;
                ledger.counts.cancelled += 1;
            }
            missing
        })
    }

    /// What an item is owed and will not get; and whether what it was owed is gone.
    fn missing_in_epoll(&self, epoll: u32, item: u32, account: Account) -> (Option<String>, bool) {
        let Some((object, mask, listed)) = self.epolls.get(epoll).and_then(|set| set.registration(item))
        else {
            return (None, true);
        };
        if listed {
            return (None, false);
        }
        // A one-shot that has fired has nothing left to ask for, the error bits included (E26).
        if (mask - (EpollMask::ET | EpollMask::ONESHOT)).is_empty() {
            return (None, true);
        }
        let ready = self.certain_bits(object) & mask;
        if ready.is_empty() {
            return (None, true);
        }
        let level = !mask.contains(EpollMask::ET);
        let news = ready.intersects(EpollMask::IN | EpollMask::RDHUP | EpollMask::HUP)
            && self.has_news(object, account.seen);
        if !level && !news && account.owed.is_none() {
            return (None, true);
        }
        let why = match account.owed {
            Some(key) => format!("a wake-up ({key:?}) came"),
            None if level => "it is level-triggered".to_owned(),
            None => "something arrived after its last report".to_owned(),
        };
        let details =
            format!("{object:?} is ready ({ready:?}) and {why}, but epoll {epoll} does not list it");
        (Some(details), false)
    }

    fn missing_in_kqueue(&self, kqueue: u32, item: u32, account: Account) -> (Option<String>, bool) {
        let Some(knote) = self.kqueues.get(kqueue).and_then(|set| set.registration(item)) else {
            return (None, true);
        };
        if knote.listed {
            return (None, false);
        }
        let fires = if knote.socket == NONE {
            knote.triggered
        } else {
            self.certainly_fires(knote.socket, knote.filter)
        };
        if !knote.enabled || !fires {
            return (None, true);
        }
        let level = !knote.mode.contains(KeventFlags::CLEAR);
        let news = knote.socket == NONE
            || (knote.filter == Filter::Read && self.has_news(knote.object(), account.seen));
        if !level && !news && account.owed.is_none() {
            return (None, true);
        }
        let details = format!(
            "{:?} {:?} is true and enabled, and was not told since, but kqueue {kqueue} does not list it",
            knote.object(),
            knote.filter
        );
        (Some(details), false)
    }

    /// A sender that was short of room, has room by the one-third rule (T56), and nothing under way that could tell it.
    fn missing_room(&self, ledger: &mut Ledger) -> Option<String> {
        let short: Vec<u32> = ledger.short.iter().copied().collect();
        short.into_iter().find_map(|id| {
            let live = self.sockets.get(id).filter(|socket| {
                socket.room_owed
                    && socket.state == State::Connected
                    && !socket.send_shut
                    && socket.connection != NONE
            });
            let Some(socket) = live else {
                // Its end was told instead.
                ledger.short.remove(&id);
                ledger.counts.cancelled += 1;
                return None;
            };
            let stream = &self.connections.get(socket.connection)?.streams[socket.outgoing()];
            if !is_quiet(stream, self.now) || stream.cut {
                return None;
            }
            let queued = stream.written.saturating_sub(acked(stream, self.now));
            let free = socket.send_capacity.saturating_sub(queued);
            // A buffer that grows while in use frees room without an acknowledgement; that is no event by itself.
            let grows = self.faults.on().contains(FaultKind::ChangingBuffers);
            let writable = if grows { queued == 0 } else { free > 0 && free >= queued / 2 };
            writable.then(|| {
                format!(
                    "socket {id} was short of room, has {free} bytes free of {}, and was not told",
                    socket.send_capacity
                )
            })
        })
    }

    /// A thread that sleeps beyond its timeout, or on a set with something to report.
    fn missing_wake_up(&self, ledger: &Ledger, now: u64) -> Option<String> {
        (0..self.threads.len()).find_map(|thread| {
            let entry = &self.threads[thread];
            let sleep = entry.sleep.filter(|sleep| entry.phase == Phase::Sleeping && !sleep.stalled)?;
            if let Some(&(serial, due)) = ledger.waits.get(&(thread as u32))
                && serial == entry.serial
            {
                let slack_ns = (due.saturating_sub(sleep.began) / 1_000).clamp(50_000, 100_000_000);
                let late = due.saturating_add(slack_ns).saturating_add(LATE_NS_MAX);
                if now > late {
                    return Some(format!("t{thread} sleeps on, though its wait was to end by {due} ns"));
                }
            }
            self.listed_and_ready(sleep.set)
                .filter(|_| self.is_nobody_waking(sleep.set))
                .map(|what| format!("t{thread} sleeps while its set lists {what}, which is ready"))
        })
    }

    /// One waiter that wakes is enough for a set (E39).
    fn is_nobody_waking(&self, set: Object) -> bool {
        !self.threads.iter().any(|entry| {
            entry.phase == Phase::Waking
                && entry.sleep.is_some_and(|sleep| sleep.set == set && !sleep.stalled)
        })
    }

    fn listed_and_ready(&self, set: Object) -> Option<String> {
        match set {
            Object::Epoll(epoll) => {
                let set = self.epolls.get(epoll)?;
                set.items().take(LOOKS_MAX).find_map(|item| {
                    let (object, mask, listed) = set.registration(item)?;
                    (listed && self.certain_bits(object).intersects(mask)).then(|| format!("{object:?}"))
                })
            }
            Object::Kqueue(kqueue) => {
                let set = self.kqueues.get(kqueue)?;
                set.items().take(LOOKS_MAX).find_map(|item| {
                    let knote = set.registration(item)?;
                    let fires = if knote.socket == NONE {
                        knote.triggered
                    } else {
                        self.certainly_fires(knote.socket, knote.filter)
                    };
                    (knote.listed && knote.enabled && fires).then(|| format!("{:?}", knote.object()))
                })
            }
            _ => None,
        }
    }
}
