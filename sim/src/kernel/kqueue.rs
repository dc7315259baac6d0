//! kqueue(2): knotes, change lists, delivery. READ, WRITE and USER filters.

use reactor::sys::{Errno, Fd, Filter, Kevent, KeventFlags, Note, Wait};

use super::ready_list::ReadyList;
use super::socket::State;
use super::watch::{Key, Watch};
use super::{Kernel, NONE, Object, cost};
use crate::fault::FaultKind;
use crate::schedule::{Phase, ThreadId, draw_stall_ns};
use crate::slab::Slab;
use crate::world::World;

/// The flags that are fixed when a knote is first added (K2).
const MODE: KeventFlags = KeventFlags::CLEAR.union(KeventFlags::ONESHOT).union(KeventFlags::DISPATCH);
/// WRITE fires at this much room, in bytes, or at half of a smaller buffer (K31).
const WRITE_LOW_WATER_BYTES: u64 = 2_048;

#[derive(Debug)]
struct Knote {
    ident: u64,
    filter: Filter,
    /// The socket; absent for user events.
    socket: u32,
    mode: KeventFlags,
    udata: u64,
    enabled: bool,
    triggered: bool,
}

/// A kqueue.
#[derive(Debug)]
pub(crate) struct Kqueue {
    pub(crate) host: u32,
    /// Distinguishes it from later tenants of its place.
    pub(crate) serial: u64,
    knotes: Slab<Knote>,
    /// The READ and WRITE knotes of each descriptor number, [`NONE`] where there is none.
    by_fd: Vec<[u32; 2]>,
    /// The few knotes of the USER filter.
    users: Vec<u32>,
    active: ReadyList,
    /// Threads that sleep in a wait on this kqueue.
    pub(crate) sleepers: Vec<u32>,
}

impl Kqueue {
    fn find(&self, ident: u64, filter: Filter) -> Option<u32> {
        if filter == Filter::User {
            return self.users.iter().copied().find(|&knote| self.knotes[knote].ident == ident);
        }
        let number = usize::try_from(ident).ok()?;
        self.by_fd.get(number).map(|knotes| knotes[place_of(filter)]).filter(|&knote| knote != NONE)
    }

    /// Knotes, for checks at the end of a run and for tests.
    pub(crate) fn interest(&self) -> impl Iterator<Item = (u64, Filter, bool, u64)> + '_ {
        self.knotes.iter().map(|(_, knote)| (knote.ident, knote.filter, knote.enabled, knote.udata))
    }
}

const fn place_of(filter: Filter) -> usize {
    matches!(filter, Filter::Write) as usize
}

/// What a filter finds when it fires.
struct Found {
    data: i64,
    eof: bool,
    error: Option<Errno>,
}

impl World {
    pub(crate) fn kqueue_create(&mut self, thread: u32) -> Result<Fd, Errno> {
        self.may_create(thread)?;
        let host = self.threads[thread as usize].host;
        let serial = self.next_serial();
        let kqueue = self.kqueues.insert(Kqueue {
            host,
            serial,
            knotes: Slab::default(),
            by_fd: Vec::new(),
            users: Vec::new(),
            active: ReadyList::default(),
            sleepers: Vec::new(),
        });
        Ok(self.install(thread, Object::Kqueue(kqueue)))
    }

    /// What a socket's filter finds (rows Q1 to Q8); `None` while it does not fire.
    fn evaluate(&mut self, socket: u32, filter: Filter) -> Option<Found> {
        let entry = &self.sockets[socket];
        if let Some(listener) = &entry.listener {
            let queued = listener.queue.len();
            let fires = filter == Filter::Read && queued > 0;
            return fires.then_some(Found { data: i64::try_from(queued).ok()?, eof: false, error: None });
        }
        let (state, error) = (entry.state, entry.error);
        let eof = if filter == Filter::Read { entry.receive_shut } else { entry.send_shut };
        // Q1, K30: neither fires before the connection is there.
        if state == State::SynSent || (state == State::Closed && !eof) {
            return None;
        }
        let (bytes, enough) = match filter {
            Filter::Read => (self.readable(socket), 1),
            _ => {
                let half = (self.sockets[socket].send_capacity / 2).max(1);
                (self.room(socket), WRITE_LOW_WATER_BYTES.min(half))
            }
        };
        let fires = eof || error.is_some() || bytes >= enough;
        fires.then_some(Found { data: i64::try_from(bytes).ok()?, eof, error: error.filter(|_| eof) })
    }

    /// Whether a knote has something to report now.
    fn knote_found(&mut self, kqueue: u32, item: u32) -> Option<Found> {
        let knote = &self.kqueues[kqueue].knotes[item];
        match knote.filter {
            Filter::User => knote.triggered.then_some(Found { data: 0, eof: false, error: None }),
            filter => {
                let socket = knote.socket;
                self.evaluate(socket, filter)
            }
        }
    }

    /// Queues the knote if it is enabled and its filter is true.
    fn activate(&mut self, kqueue: u32, item: u32) {
        if !self.kqueues[kqueue].knotes[item].enabled || self.knote_found(kqueue, item).is_none() {
            return;
        }
        if self.kqueues[kqueue].active.push(item) {
            self.wake_one_sleeper(Object::Kqueue(kqueue));
        }
    }

    /// What a wake-up of a watched socket does: each direction has its own list of knotes.
    pub(crate) fn knote_callback(&mut self, kqueue: u32, item: u32, key: Key) {
        let filter = self.kqueues[kqueue].knotes[item].filter;
        let concerns = match key {
            Key::Any | Key::Error => true,
            Key::In => filter == Filter::Read,
            Key::Out => filter == Filter::Write,
        };
        if concerns {
            self.activate(kqueue, item);
        }
    }

    /// `NOTE_TRIGGER` from a wake handle; a knote that is not there is not triggered. The word is replaced, as by any
    /// change.
    pub(crate) fn trigger(&mut self, kqueue: u32, ident: u64, udata: u64) {
        if let Some(item) = self.kqueues[kqueue].find(ident, Filter::User) {
            let knote = &mut self.kqueues[kqueue].knotes[item];
            knote.triggered = true;
            knote.udata = udata;
            self.activate(kqueue, item);
        }
    }

    /// Keeps count of armed write knotes: they hear of every acknowledgement (K10).
    fn set_enabled(&mut self, kqueue: u32, item: u32, enabled: bool) {
        let knote = &mut self.kqueues[kqueue].knotes[item];
        let changed = knote.enabled != enabled;
        knote.enabled = enabled;
        let (filter, socket) = (knote.filter, knote.socket);
        if filter != Filter::Write || !changed {
            return;
        }
        if let Some(socket) = self.sockets.get_mut(socket) {
            if enabled {
                socket.write_knotes += 1;
            } else {
                socket.write_knotes -= 1;
            }
        }
        if enabled {
            self.expect_ack(socket);
        }
    }

    /// Takes a knote out of everything it is in.
    pub(crate) fn knote_remove(&mut self, kqueue: u32, item: u32) {
        self.set_enabled(kqueue, item, false);
        let set = &mut self.kqueues[kqueue];
        set.active.remove(item);
        let Knote { ident, filter, socket, .. } = set.knotes.remove(item);
        if filter == Filter::User {
            set.users.retain(|&user| user != item);
            return;
        }
        if let Some(knotes) = usize::try_from(ident).ok().and_then(|number| set.by_fd.get_mut(number)) {
            knotes[place_of(filter)] = NONE;
        }
        self.unwatch(Object::Socket(socket), Object::Kqueue(kqueue), item);
    }

    /// A number is closed: its knotes go at once, even if the file lives on through another number (K37).
    pub(crate) fn knotes_of_number_removed(&mut self, thread: u32, object: Object, fd: Fd) {
        let host = self.threads[thread as usize].host;
        let number = u64::from(fd.as_raw().cast_unsigned());
        while let Some(watchers) = self.watchers(object) {
            let watches: Vec<Watch> = watchers.iter().collect();
            let found = watches.into_iter().find_map(|watch| {
                let Object::Kqueue(kqueue) = watch.set else { return None };
                let entry = &self.kqueues[kqueue];
                let matches = entry.host == host && entry.knotes[watch.item].ident == number;
                matches.then_some((kqueue, watch.item))
            });
            let Some((kqueue, item)) = found else { return };
            self.knote_remove(kqueue, item);
        }
    }

    /// Applies one change (K1 to K8).
    fn apply_change(&mut self, thread: u32, kqueue: u32, change: &Kevent) -> Result<(), Errno> {
        self.spend(thread, cost::CONTROL);
        let flags = change.flags;
        let mut socket = NONE;
        if change.filter != Filter::User {
            let number = i32::try_from(change.ident).map_err(|_| Errno::EBADF)?;
            match self.object(thread, Fd::from_raw(number))? {
                Object::Socket(found) => socket = found,
                _ => {
                    let details = format!("descriptor {number} cannot be watched here");
                    self.violate("illegal-call", ThreadId(thread), details);
                    return Err(Errno::EINVAL);
                }
            }
        }
        let kernel = self.kernel_of(thread);
        if change.filter == Filter::User {
            self.work.add(self.kqueues[kqueue].users.len());
        }
        match self.kqueues[kqueue].find(change.ident, change.filter) {
            None if flags.contains(KeventFlags::ADD) => self.add_knote(kqueue, socket, change, kernel),
            None => {
                let details = format!("no knote {:?} {} to change", change.filter, change.ident);
                self.violate("illegal-call", ThreadId(thread), details);
                Err(Errno::ENOENT)
            }
            Some(item) if flags.contains(KeventFlags::DELETE) => {
                self.knote_remove(kqueue, item);
                Ok(())
            }
            Some(item) => {
                self.change_knote(kqueue, item, change, kernel);
                Ok(())
            }
        }
    }

    fn add_knote(&mut self, kqueue: u32, socket: u32, change: &Kevent, kernel: Kernel) -> Result<(), Errno> {
        if self.fault(FaultKind::RegistrationErrors, 0) {
            return Err(Errno::ENOMEM);
        }
        // FreeBSD loses a trigger in the very first add (K45).
        let triggered = change.note == Note::Trigger && kernel == Kernel::Macos;
        let set = &mut self.kqueues[kqueue];
        let item = set.knotes.insert(Knote {
            ident: change.ident,
            filter: change.filter,
            socket,
            mode: change.flags & MODE,
            udata: change.udata,
            enabled: false,
            triggered,
        });
        if change.filter == Filter::User {
            set.users.push(item);
        } else {
            let number = usize::try_from(change.ident).expect("an open descriptor");
            if set.by_fd.len() <= number {
                set.by_fd.resize(number + 1, [NONE; 2]);
            }
            set.by_fd[number][place_of(change.filter)] = item;
            self.sockets[socket].watchers.add(Watch { set: Object::Kqueue(kqueue), item, exclusive: false });
        }
        self.set_enabled(kqueue, item, !change.flags.contains(KeventFlags::DISABLE));
        self.activate(kqueue, item);
        Ok(())
    }

    fn change_knote(&mut self, kqueue: u32, item: u32, change: &Kevent, kernel: Kernel) {
        let flags = change.flags;
        let knote = &mut self.kqueues[kqueue].knotes[item];
        // Any change to a knote replaces its word, with or without EV_ADD.
        knote.udata = change.udata;
        if change.note == Note::Trigger {
            // On FreeBSD a trigger that carries EV_CLEAR cancels itself, and any that is pending (K45).
            knote.triggered = !(kernel == Kernel::Freebsd && flags.contains(KeventFlags::CLEAR));
        }
        if flags.contains(KeventFlags::DISABLE) {
            self.set_enabled(kqueue, item, false);
            self.kqueues[kqueue].active.remove(item);
        } else if flags.intersects(KeventFlags::ADD | KeventFlags::ENABLE) {
            self.set_enabled(kqueue, item, true);
        }
        // Adding and enabling look again (K3, K6).
        self.activate(kqueue, item);
    }

    /// Applies the change list; answers how many entries it made (K15 to K18).
    fn apply_changes(
        &mut self,
        thread: u32,
        kqueue: u32,
        changes: &[Kevent],
        events: &mut [Kevent],
    ) -> Result<usize, Errno> {
        let freebsd = self.kernel_of(thread) == Kernel::Freebsd;
        let mut count = 0;
        for change in changes {
            self.work.add(1);
            let result = self.apply_change(thread, kqueue, change);
            let wanted = change.flags.contains(KeventFlags::RECEIPT);
            if result.is_ok() && !wanted {
                continue;
            }
            let Some(entry) = events.get_mut(count) else {
                result?;
                if freebsd {
                    break;
                }
                continue;
            };
            let note = result.map_or_else(Note::Error, |()| Note::None);
            *entry = Kevent { flags: KeventFlags::ERROR, note, data: 0, ..*change };
            count += 1;
        }
        Ok(count)
    }

    fn kqueue_harvest(&mut self, thread: u32, kqueue: u32, events: &mut [Kevent]) -> usize {
        let listed = self.kqueues[kqueue].active.len();
        if listed == 0 {
            return 0;
        }
        let kernel = self.kernel_of(thread);
        let room = self.batch_room(thread, events.len());
        let mut count = 0;
        let mut levels = 0;
        for _ in 0..listed {
            if count == room {
                break;
            }
            self.work.add(1);
            let Some(item) = self.kqueues[kqueue].active.pop() else { break };
            let found = self.knote_found(kqueue, item);
            let knote = &mut self.kqueues[kqueue].knotes[item];
            let mode = knote.mode;
            // FreeBSD hands out a one-shot knote without looking again (K7).
            let stale = kernel == Kernel::Freebsd && mode.contains(KeventFlags::ONESHOT);
            let found = match found {
                Some(found) => found,
                None if stale => Found { data: 0, eof: false, error: None },
                None => continue,
            };
            let mut flags = mode;
            flags.set(KeventFlags::EOF, found.eof);
            flags.set(KeventFlags::ADD, kernel == Kernel::Macos);
            events[count] = Kevent {
                ident: knote.ident,
                filter: knote.filter,
                flags,
                note: found.error.map_or(Note::None, Note::Error),
                data: found.data,
                udata: knote.udata,
            };
            count += 1;
            if mode.contains(KeventFlags::CLEAR) {
                knote.triggered = false;
            }
            if mode.contains(KeventFlags::ONESHOT) {
                self.knote_remove(kqueue, item);
            } else if mode.contains(KeventFlags::DISPATCH) {
                self.set_enabled(kqueue, item, false);
            } else if !mode.contains(KeventFlags::CLEAR) {
                self.kqueues[kqueue].active.push(item);
                levels += 1;
            }
        }
        self.threads[thread as usize].only_levels = levels == count;
        self.shuffle_batch(thread, &mut events[..count]);
        count
    }

    pub(crate) fn kevent(
        &mut self,
        thread: u32,
        fd: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        let Object::Kqueue(kqueue) = self.object(thread, fd)? else {
            self.violate("illegal-call", ThreadId(thread), format!("kevent on {fd:?}, which is no kqueue"));
            return Err(Errno::EBADF);
        };
        let set = Object::Kqueue(kqueue);
        let entered_again = self.threads[thread as usize].sleep;
        if let Some(sleep) = entered_again {
            if sleep.set != set || !changes.is_empty() {
                let details =
                    "a wait that sleeps is entered again with changes, or on another set".to_owned();
                self.violate("illegal-call", ThreadId(thread), details);
                return Err(Errno::EINVAL);
            }
            if self.threads[thread as usize].phase == Phase::Sleeping {
                return Ok(Wait::Parked);
            }
            if sleep.stalled {
                self.wake_up(thread);
                let held = &self.threads[thread as usize].held_kevents;
                let count = held.len().min(events.len());
                events[..count].copy_from_slice(&held[..count]);
                return Ok(Wait::Ready(count));
            }
        } else {
            self.spend(thread, cost::WAIT);
            let entries = self.apply_changes(thread, kqueue, changes, events)?;
            if entries > 0 || events.is_empty() {
                return Ok(Wait::Ready(entries));
            }
        }
        let arguments = [timeout_ns.unwrap_or(u64::MAX), changes.len() as u64];
        let count = self.kqueue_harvest(thread, kqueue, events);
        if count > 0 {
            let began = entered_again.map_or(self.now, |sleep| sleep.began);
            self.end_wait(thread, set, entered_again.is_some());
            self.spend(thread, cost::WAIT_EVENT * count as u64);
            if self.kqueues[kqueue].active.len() > 0 {
                self.wake_one_sleeper(set);
            }
            if timeout_ns != Some(0)
                && let Some(stall_ns) = self.fault_with(FaultKind::StaleBatches, thread, draw_stall_ns)
            {
                let held = &mut self.threads[thread as usize].held_kevents;
                held.clear();
                held.extend_from_slice(&events[..count]);
                self.stall(thread, set, began, arguments, stall_ns);
                return Ok(Wait::Parked);
            }
            return Ok(Wait::Ready(count));
        }
        if entered_again.is_some() {
            if let Some(end) = self.end_of_sleep(thread) {
                self.end_wait(thread, set, true);
                return end.map(Wait::Ready);
            }
            self.sleep_on(thread);
            return Ok(Wait::Parked);
        }
        if timeout_ns == Some(0) {
            return Ok(Wait::Ready(0));
        }
        self.kqueues[kqueue].sleepers.push(thread);
        self.fall_asleep(thread, set, timeout_ns, arguments);
        Ok(Wait::Parked)
    }

    /// Closes the kqueue and everything registered in it.
    pub(crate) fn kqueue_close(&mut self, kqueue: u32) {
        let items = self.kqueues[kqueue].knotes.numbers(&self.work);
        for item in items {
            self.knote_remove(kqueue, item);
        }
        if self.kqueues[kqueue].sleepers.is_empty() {
            self.kqueues.remove(kqueue);
        }
    }
}
