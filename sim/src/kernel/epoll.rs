//! epoll(7): interest, wake-up callbacks, the ready list, harvest. Edge, level and one-shot behaviour follow from the
//! mechanism (M1 to M5).

use reactor::sys::{EpollEvent, EpollMask, EpollOperation, Errno, Fd, Wait};

use super::drift::Drift;
use super::ready_list::ReadyList;
use super::watch::{Key, Watch};
use super::{NONE, Object, cost};
use crate::fault::FaultKind;
use crate::obligation::Lapse;
use crate::schedule::{Phase, ThreadId, draw_stall_ns};
use crate::slab::Slab;
use crate::world::{Details, World};

/// ERR and HUP are always of interest (E12).
const ALWAYS: EpollMask = EpollMask::ERR.union(EpollMask::HUP);
/// What is left of a mask that has fired once: how, and no longer what.
const PRIVATE: EpollMask = EpollMask::ET.union(EpollMask::ONESHOT);

#[derive(Debug)]
struct Item {
    object: Object,
    fd: Fd,
    mask: EpollMask,
    data: u64,
}

/// An epoll instance.
#[derive(Debug, Default)]
pub(crate) struct Epoll {
    items: Slab<Item>,
    /// The newest item of each descriptor number, [`NONE`] where there is none.
    by_fd: Vec<u32>,
    /// Older items whose number has been registered again for another file: their own lives on through a duplicate (E7).
    shadowed: Vec<u32>,
    ready: ReadyList,
    /// Threads that sleep in a wait on this instance.
    pub(crate) sleepers: Vec<u32>,
}

impl Epoll {
    /// The item of this file under this number: both are the key (E7).
    #[inline]
    fn find(&self, object: Object, fd: Fd) -> Option<u32> {
        let number = usize::try_from(fd.as_raw()).ok()?;
        let newest = self.by_fd.get(number).copied().filter(|&item| item != NONE);
        match newest {
            Some(item) if self.items[item].object == object => Some(item),
            _ => self.shadowed.iter().copied().find(|&item| {
                let item = &self.items[item];
                item.object == object && item.fd == fd
            }),
        }
    }

    /// Makes an item the one that its number names first.
    fn index(&mut self, fd: Fd, item: u32) {
        let number = usize::try_from(fd.as_raw()).expect("an open descriptor is not negative");
        if self.by_fd.len() <= number {
            self.by_fd.resize(number + 1, NONE);
        }
        let older = std::mem::replace(&mut self.by_fd[number], item);
        if older != NONE {
            self.shadowed.push(older);
        }
    }

    fn unindex(&mut self, fd: Fd, item: u32) {
        let number = usize::try_from(fd.as_raw()).expect("a registered descriptor is not negative");
        if self.by_fd[number] == item {
            self.by_fd[number] = NONE;
        } else {
            self.shadowed.retain(|&other| other != item);
        }
    }

    /// The numbers of its items.
    pub(crate) fn items(&self) -> impl Iterator<Item = u32> + '_ {
        self.items.iter().map(|(item, _)| item)
    }

    /// What an item watches, for what, and whether the ready list has it.
    pub(crate) fn registration(&self, item: u32) -> Option<(Object, EpollMask, bool)> {
        let entry = self.items.get(item)?;
        Some((entry.object, entry.mask, self.ready.contains(item)))
    }

    /// Interest by descriptor number, for checks at the end of a run and for tests.
    pub(crate) fn interest(&self) -> impl Iterator<Item = (Fd, EpollMask, u64)> + '_ {
        self.items.iter().map(|(_, item)| (item.fd, item.mask, item.data))
    }
}

impl World {
    pub(crate) fn epoll_create(&mut self, thread: u32) -> Result<Fd, Errno> {
        self.may_create(thread)?;
        let epoll = self.epolls.insert(Epoll::default());
        Ok(self.install(thread, Object::Epoll(epoll)))
    }

    fn epoll_behind(&mut self, thread: u32, fd: Fd) -> Result<u32, Errno> {
        match self.object(thread, fd)? {
            Object::Epoll(epoll) => Ok(epoll),
            _ => {
                self.violate(
                    "illegal-call",
                    ThreadId(thread),
                    format!("an epoll call on {fd:?}, which is none"),
                );
                Err(Errno::EINVAL)
            }
        }
    }

    pub(crate) fn epoll_control(
        &mut self,
        thread: u32,
        (epfd, operation, fd): (Fd, EpollOperation, Fd),
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        self.spend(thread, cost::CONTROL);
        let object = self.object(thread, fd)?;
        let epoll = self.epoll_behind(thread, epfd)?;
        if matches!(object, Object::Standard | Object::Epoll(_) | Object::Kqueue(_)) {
            self.violate("illegal-call", ThreadId(thread), format!("{fd:?} cannot be watched here"));
            return Err(Errno::EPERM);
        }
        let found = self.epolls[epoll].find(object, fd);
        match (operation, found) {
            (EpollOperation::Add, Some(_)) => {
                self.violate("illegal-call", ThreadId(thread), format!("{fd:?} is already registered"));
                Err(Errno::EEXIST)
            }
            (EpollOperation::Modify | EpollOperation::Delete, None) => {
                self.violate("illegal-call", ThreadId(thread), format!("{fd:?} is not registered"));
                Err(Errno::ENOENT)
            }
            (EpollOperation::Add, None) => self.epoll_add(epoll, fd, object, mask, data),
            (EpollOperation::Modify, Some(item)) => {
                let entry = &mut self.epolls[epoll].items[item];
                entry.mask = mask | ALWAYS;
                entry.data = data;
                self.epoll_evaluate(epoll, item);
                Ok(())
            }
            (EpollOperation::Delete, Some(item)) => {
                self.epoll_remove(epoll, item);
                Ok(())
            }
        }
    }

    fn epoll_add(
        &mut self,
        epoll: u32,
        fd: Fd,
        object: Object,
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        let error =
            |details: &mut Details<'_>| details.choose("which error", &[Errno::ENOSPC, Errno::ENOMEM]);
        if let Some(error) = self.fault_with(FaultKind::RegistrationErrors, 0, error) {
            return Err(error);
        }
        let set = &mut self.epolls[epoll];
        let item = set.items.insert(Item { object, fd, mask: mask | ALWAYS, data });
        set.index(fd, item);
        if let Some(watchers) = self.watchers(object) {
            watchers.add(Watch { set: Object::Epoll(epoll), item });
        }
        self.epoll_evaluate(epoll, item);
        Ok(())
    }

    /// ADD and MOD look at once, and queue what is ready (M3); the look arms the shortage flag (E20).
    fn epoll_evaluate(&mut self, epoll: u32, item: u32) {
        self.open_account(Object::Epoll(epoll), item);
        let Item { object, mask, .. } = self.epolls[epoll].items[item];
        let ready = self.readiness(object) & mask;
        if !ready.is_empty() && self.epolls[epoll].ready.push(item) {
            self.wake_one_sleeper(Object::Epoll(epoll));
        }
    }

    /// A drift: the registrations under this number go with it, although the file lives on.
    #[cold]
    pub(crate) fn items_of_number_removed(&mut self, object: Object, fd: Fd) {
        let Some(watchers) = self.watchers(object) else { return };
        let watches: Vec<Watch> = watchers.iter().collect();
        for watch in watches {
            if let Object::Epoll(epoll) = watch.set
                && self.epolls[epoll].items[watch.item].fd == fd
            {
                self.epoll_remove(epoll, watch.item);
            }
        }
    }

    /// Takes an item out of everything it is in.
    pub(crate) fn epoll_remove(&mut self, epoll: u32, item: u32) {
        self.close_account(Object::Epoll(epoll), item);
        let set = &mut self.epolls[epoll];
        set.ready.remove(item);
        let Item { object, fd, .. } = set.items.remove(item);
        set.unindex(fd, item);
        self.unwatch(object, Watch { set: Object::Epoll(epoll), item });
    }

    /// What a wake-up of a watched object does (M2).
    #[inline]
    pub(crate) fn epoll_callback(&mut self, epoll: u32, item: u32, key: Key) {
        let set = &mut self.epolls[epoll];
        let mask = set.items[item].mask;
        let matches = match key {
            Key::Any => !(mask - PRIVATE).is_empty(),
            Key::In => mask.contains(EpollMask::IN),
            Key::Out => mask.contains(EpollMask::OUT),
            Key::Error => mask.contains(EpollMask::ERR),
        };
        if matches && set.ready.push(item) {
            self.wake_one_sleeper(Object::Epoll(epoll));
        }
    }

    /// What an object is ready for (M1, kernel-semantics section 2).
    fn readiness(&mut self, object: Object) -> EpollMask {
        match object {
            Object::Socket(socket) => self.socket_readiness(socket),
            Object::Eventfd(eventfd) => match self.eventfds[eventfd].counter {
                0 => EpollMask::OUT,
                counter if counter >= u64::MAX - 1 => EpollMask::IN,
                _ => EpollMask::IN | EpollMask::OUT,
            },
            Object::Standard | Object::Epoll(_) | Object::Kqueue(_) => EpollMask::empty(),
        }
    }

    /// Pops items from the head, looks again, and reports what is still ready (M4).
    fn epoll_harvest(&mut self, thread: u32, epoll: u32, events: &mut [EpollEvent]) -> usize {
        let listed = self.epolls[epoll].ready.len();
        if listed == 0 {
            return 0;
        }
        let room = self.batch_room(thread, events.len());
        let mut count = 0;
        let mut levels = 0;
        for _ in 0..listed {
            if count == room {
                if self.lapses(Lapse::DropRestOfBatch) {
                    self.epolls[epoll].ready.pop();
                }
                break;
            }
            self.work.add(1);
            let Some(item) = self.epolls[epoll].ready.pop() else { break };
            let Item { object, mask, data, .. } = self.epolls[epoll].items[item];
            let ready = self.readiness(object) & mask;
            if ready.is_empty() {
                continue;
            }
            events[count] = EpollEvent { events: ready.bits(), data };
            count += 1;
            self.pay(Object::Epoll(epoll), item, object);
            if mask.contains(EpollMask::ONESHOT) {
                let left = if self.drifts(Drift::OneShotHangUp) { PRIVATE | ALWAYS } else { PRIVATE };
                self.epolls[epoll].items[item].mask = mask & left;
            } else if !mask.contains(EpollMask::ET) && !self.lapses(Lapse::DropLevels) {
                self.epolls[epoll].ready.push(item);
                levels += 1;
            } else if ready.contains(EpollMask::IN) && self.drifts(Drift::RepeatedEdge) {
                self.epolls[epoll].ready.push(item);
            }
        }
        self.threads[thread as usize].only_levels = levels == count;
        self.shuffle_batch(thread, &mut events[..count]);
        count
    }

    pub(crate) fn epoll_wait(
        &mut self,
        thread: u32,
        epfd: Fd,
        events: &mut [EpollEvent],
        timeout_ms: i32,
    ) -> Result<Wait, Errno> {
        let epoll = self.epoll_behind(thread, epfd)?;
        if events.is_empty() {
            self.violate("illegal-call", ThreadId(thread), "a wait with no room for events".to_owned());
            return Err(Errno::EINVAL);
        }
        let set = Object::Epoll(epoll);
        let entered_again = self.threads[thread as usize].sleep;
        if let Some(sleep) = entered_again {
            if sleep.set != set {
                let details = "a wait on one set while a wait on another sleeps".to_owned();
                self.violate("illegal-call", ThreadId(thread), details);
                return Err(Errno::EINVAL);
            }
            if self.threads[thread as usize].phase == Phase::Sleeping {
                return Ok(Wait::Parked);
            }
            if sleep.stalled {
                return Ok(Wait::Ready(self.bring_back_batch(thread, events)));
            }
        } else {
            self.spend(thread, cost::WAIT);
        }
        let count = self.epoll_harvest(thread, epoll, events);
        if count > 0 {
            let began = entered_again.map_or(self.now, |sleep| sleep.began);
            self.end_wait(thread, set, entered_again.is_some());
            self.spend(thread, cost::WAIT_EVENT * count as u64);
            if self.epolls[epoll].ready.len() > 0 {
                self.wake_one_sleeper(Object::Epoll(epoll));
            }
            if timeout_ms != 0
                && let Some(stall_ns) = self.fault_with(FaultKind::StaleBatches, thread, draw_stall_ns)
            {
                let held = &mut self.threads[thread as usize].held_events;
                held.clear();
                held.extend_from_slice(&events[..count]);
                self.stall(thread, set, began, wait_arguments(timeout_ms, events.len()), stall_ns);
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
        if timeout_ms == 0 {
            return Ok(Wait::Ready(0));
        }
        let timeout_ns = u64::try_from(timeout_ms).ok().map(|ms| ms * 1_000_000);
        self.epolls[epoll].sleepers.push(thread);
        self.fall_asleep(thread, set, timeout_ns, wait_arguments(timeout_ms, events.len()));
        Ok(Wait::Parked)
    }

    fn bring_back_batch(&mut self, thread: u32, events: &mut [EpollEvent]) -> usize {
        self.wake_up(thread);
        let held = &self.threads[thread as usize].held_events;
        let count = held.len().min(events.len());
        events[..count].copy_from_slice(&held[..count]);
        count
    }

    /// Closes the instance: its items go; a thread that sleeps in it sleeps on (E40).
    pub(crate) fn epoll_close(&mut self, epoll: u32) {
        let items = self.epolls[epoll].items.numbers(&self.work);
        for item in items {
            self.epoll_remove(epoll, item);
        }
        if self.epolls[epoll].sleepers.is_empty() {
            self.epolls.remove(epoll);
        }
    }
}

pub(crate) fn wait_arguments(timeout_ms: i32, room: usize) -> [u64; 2] {
    [u64::from(timeout_ms.cast_unsigned()), room as u64]
}
