//! What the simulated kernel owes: an event for every arrival, the edge of freed room after a shortage, the end of a wait
//! at its timeout. A debt is written down at its cause, paid when a harvest reports it, and cancelled by a rule only: the
//! data was drained before the harvest (E30), the registration was changed or removed, a one-shot has fired.
//!
//! The check in [`audit`](self) derives what is owed a second time, from the state of streams and queues alone. No fault
//! may ever cancel a debt: a run in which one did is the simulator's own failure, and is named so.

mod audit;

use std::collections::{BTreeMap, BTreeSet};

use reactor::sys::{EpollMask, Filter, KeventFlags};

use crate::kernel::watch::Key;
use crate::kernel::{NONE, Object};
use crate::world::World;

/// When a run checks what its kernel owes.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum ObligationCheck {
    /// In builds with debug assertions.
    #[default]
    InDebugBuilds,
    /// Whatever the build.
    Always,
    /// Not at all.
    Never,
}

impl ObligationCheck {
    /// Whether this build checks.
    pub const fn is_on(self) -> bool {
        match self {
            ObligationCheck::InDebugBuilds => cfg!(debug_assertions),
            ObligationCheck::Always => true,
            ObligationCheck::Never => false,
        }
    }
}

/// How debts came and went.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct ObligationCounts {
    /// Events and edges that came to be owed.
    pub owed: u64,
    /// Reported by a harvest.
    pub paid: u64,
    /// Gone before the harvest, by a rule: drained, disabled, removed.
    pub cancelled: u64,
    /// How often a set was looked at.
    pub audits: u64,
}

impl ObligationCounts {
    /// Adds another run's.
    pub fn add(&mut self, other: ObligationCounts) {
        self.owed += other.owed;
        self.paid += other.paid;
        self.cancelled += other.cancelled;
        self.audits += other.audits;
    }
}

/// A debt that the simulated kernel forgets, on purpose, in tests that show that the check sees it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Lapse {
    /// Arrivals tell nobody.
    SkipArrivals,
    /// The end of a shortage tells nobody.
    SkipFreedRoom,
    /// What did not fit into a batch is forgotten.
    DropRestOfBatch,
    /// A level-triggered item is not put back after its report.
    DropLevels,
    /// A thread that sleeps on a set is not woken.
    LeaveSleepers,
    /// A wait sleeps on after its timeout.
    SkipTimeouts,
}

impl Lapse {
    /// Every lapse.
    pub const ALL: [Lapse; 6] = [
        Lapse::SkipArrivals,
        Lapse::SkipFreedRoom,
        Lapse::DropRestOfBatch,
        Lapse::DropLevels,
        Lapse::LeaveSleepers,
        Lapse::SkipTimeouts,
    ];
}

/// A registration: which kind of set, which set, which of its items.
type Registration = (u8, u32, u32);

/// What a registration was last told, to find later news without any wake-up.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
struct Seen {
    /// Bytes and FIN that had arrived.
    arrived: u64,
    /// The connection was over.
    over: bool,
    /// The last connection of a listener's queue, and one more; zero for none.
    last_queued: u64,
}

#[derive(Copy, Clone, Debug, Default)]
struct Account {
    /// Why an event is owed.
    owed: Option<Key>,
    /// Nothing, until the first report.
    seen: Option<Seen>,
}

/// Everything owed, in worlds that check it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: BTreeMap<Registration, Account>,
    /// Senders that were short of room.
    short: BTreeSet<u32>,
    /// For each thread that sleeps, the serial of its sleep, and when that is to end at the latest.
    waits: BTreeMap<u32, (u32, u64)>,
    pub(crate) counts: ObligationCounts,
    /// Where the next look at a large set begins.
    cursor: usize,
}

fn registration(set: Object, item: u32) -> Option<Registration> {
    match set {
        Object::Epoll(epoll) => Some((0, epoll, item)),
        Object::Kqueue(kqueue) => Some((1, kqueue, item)),
        _ => None,
    }
}

impl World {
    /// Whether a debt of this kind is forgotten on purpose.
    #[inline]
    pub(crate) fn lapses(&self, lapse: Lapse) -> bool {
        self.options.lapse == Some(lapse)
    }

    /// A cause: whoever is registered for it, and is ready by it, is owed an event.
    #[inline]
    pub(crate) fn owe(&mut self, object: Object, key: Key) {
        if self.ledger.is_some() {
            self.write_down(object, key);
        }
    }

    #[cold]
    fn write_down(&mut self, object: Object, key: Key) {
        let mut n = 0;
        while let Some(watch) = self.watchers(object).and_then(|watchers| watchers.nth(n)) {
            n += 1;
            let (Some(place), true) =
                (registration(watch.set, watch.item), self.is_owed(watch.set, watch.item, key))
            else {
                continue;
            };
            let Some(ledger) = &mut self.ledger else { return };
            let account = ledger.accounts.entry(place).or_default();
            if account.owed.is_none() {
                account.owed = Some(key);
                ledger.counts.owed += 1;
            }
        }
    }

    /// Whether a cause of this kind concerns the registration.
    fn is_owed(&self, set: Object, item: u32, key: Key) -> bool {
        match set {
            Object::Epoll(epoll) => {
                const EXCLUSIVE: u32 = 1 << 28;
                let Some((_, mask, _)) = self.epolls.get(epoll).and_then(|set| set.registration(item)) else {
                    return false;
                };
                let what = mask & (EpollMask::IN | EpollMask::OUT | EpollMask::RDHUP);
                // One of several exclusive items is enough (E39).
                let exclusive = mask.bits() & EXCLUSIVE != 0;
                !exclusive
                    && match key {
                        Key::Any => !what.is_empty(),
                        Key::In => what.contains(EpollMask::IN),
                        Key::Out => what.contains(EpollMask::OUT),
                        Key::Error => mask.contains(EpollMask::ERR),
                    }
            }
            Object::Kqueue(kqueue) => {
                let Some(knote) = self.kqueues.get(kqueue).and_then(|set| set.registration(item)) else {
                    return false;
                };
                let concerns = match key {
                    Key::Any | Key::Error => true,
                    Key::In => knote.filter == Filter::Read,
                    Key::Out => knote.filter == Filter::Write,
                };
                // The filter is asked when the cause comes, not at the harvest alone.
                concerns && knote.enabled && self.certainly_fires(knote.socket, knote.filter)
            }
            _ => false,
        }
    }

    /// A registration is new, or was changed: everything that is there counts as news.
    #[inline]
    pub(crate) fn open_account(&mut self, set: Object, item: u32) {
        if let Some(ledger) = &mut self.ledger
            && let Some(place) = registration(set, item)
        {
            ledger.accounts.entry(place).or_default().seen = None;
        }
    }

    /// A harvest reports the registration.
    #[inline]
    pub(crate) fn pay(&mut self, set: Object, item: u32, object: Object) {
        if self.ledger.is_some() {
            self.write_off(set, item, object);
        }
    }

    #[cold]
    fn write_off(&mut self, set: Object, item: u32, object: Object) {
        let seen = self.seen_now(object);
        let Some(ledger) = &mut self.ledger else { return };
        let Some(place) = registration(set, item) else { return };
        let account = ledger.accounts.entry(place).or_default();
        ledger.counts.paid += u64::from(account.owed.take().is_some());
        account.seen = Some(seen);
    }

    /// The registration is gone, and its debts with it.
    #[inline]
    pub(crate) fn close_account(&mut self, set: Object, item: u32) {
        if let Some(ledger) = &mut self.ledger
            && let Some(place) = registration(set, item)
            && let Some(account) = ledger.accounts.remove(&place)
        {
            ledger.counts.cancelled += u64::from(account.owed.is_some());
        }
    }

    /// A sender got less room than it asked for: the edge of freed room is owed (M5), except on BSD, whose armed write
    /// knotes hear of all room.
    #[inline]
    pub(crate) fn owe_room(&mut self, socket: u32) {
        if self.ledger.is_some() && !self.kernel_at(socket).is_bsd() {
            self.sockets[socket].room_owed = true;
            if let Some(ledger) = &mut self.ledger {
                ledger.counts.owed += u64::from(ledger.short.insert(socket));
            }
        }
    }

    /// The end of the shortage is told.
    #[inline]
    pub(crate) fn pay_room(&mut self, socket: u32) {
        self.sockets[socket].room_owed = false;
        if let Some(ledger) = &mut self.ledger {
            ledger.counts.paid += u64::from(ledger.short.remove(&socket));
        }
    }

    /// A wait begins that ends at this time at the latest, its slack aside.
    #[inline]
    pub(crate) fn owe_end_of_wait(&mut self, thread: u32, due: u64) {
        let serial = self.threads[thread as usize].serial;
        if let Some(ledger) = &mut self.ledger {
            ledger.waits.insert(thread, (serial, due));
        }
    }

    /// What there is to be told of an object.
    fn seen_now(&self, object: Object) -> Seen {
        let Object::Socket(id) = object else { return Seen::default() };
        let Some(socket) = self.sockets.get(id) else { return Seen::default() };
        let queue = socket.listener.as_ref().and_then(|listener| listener.queue.back());
        let stream = self.connections.get(socket.connection).map(|entry| &entry.streams[socket.incoming()]);
        Seen {
            arrived: stream.map_or(0, |stream| stream.arrived),
            over: self.is_certainly_over(id),
            last_queued: queue.map_or(0, |&last| u64::from(last) + 1),
        }
    }
}

/// A knote, as the check sees it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct KnoteView {
    pub(crate) filter: Filter,
    /// [`NONE`] for user events.
    pub(crate) socket: u32,
    pub(crate) mode: KeventFlags,
    pub(crate) enabled: bool,
    pub(crate) triggered: bool,
    pub(crate) listed: bool,
}

impl KnoteView {
    fn object(&self) -> Object {
        if self.socket == NONE { Object::Standard } else { Object::Socket(self.socket) }
    }
}
