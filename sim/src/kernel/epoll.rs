//! epoll(7): interest, wake-up callbacks, the ready list. Edge, level and one-shot behaviour follow from the mechanism
//! (M1 to M5).

pub(crate) mod control;
mod nest;
mod wait;

use reactor::sys::{EpollMask, Errno, Fd};
pub(crate) use wait::{Asked, wait_arguments};

use super::ready_list::ReadyList;
use super::watch::{Key, Watch, Watchers};
use super::{NONE, Object};
use crate::fault::FaultKind;
use crate::schedule::ThreadId;
use crate::slab::Slab;
use crate::world::{Details, World};

/// ERR and HUP are always of interest (E12).
pub(crate) const ALWAYS: EpollMask = EpollMask::ERR.union(EpollMask::HUP);
/// `EPOLLEXCLUSIVE`.
pub(crate) const EXCLUSIVE: EpollMask = EpollMask::from_bits_retain(1 << 28);
/// `EPOLLWAKEUP`, which does nothing here.
const WAKEUP: EpollMask = EpollMask::from_bits_retain(1 << 29);
/// How, and not what: what is left of a mask that has fired once.
const PRIVATE: EpollMask = EpollMask::ET.union(EpollMask::ONESHOT).union(EXCLUSIVE).union(WAKEUP);

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
    /// Threads that sleep in a wait on this instance, the last to come last: it is woken first.
    pub(crate) sleepers: Vec<u32>,
    /// The sets that this set is registered in.
    pub(crate) watchers: Watchers,
    /// The last descriptor is gone, while threads sleep on (E40).
    closed: bool,
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

    pub(super) fn epoll_behind(&mut self, thread: u32, fd: Fd) -> Result<u32, Errno> {
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
        self.epoll_watch(epoll, fd, object, mask | ALWAYS, data);
        Ok(())
    }

    /// Makes a registration and looks at once.
    pub(super) fn epoll_watch(&mut self, epoll: u32, fd: Fd, object: Object, mask: EpollMask, data: u64) {
        let set = &mut self.epolls[epoll];
        let item = set.items.insert(Item { object, fd, mask, data });
        set.index(fd, item);
        if let Some(watchers) = self.watchers(object) {
            let exclusive = mask.contains(EXCLUSIVE);
            watchers.add(Watch { set: Object::Epoll(epoll), item, exclusive });
        }
        self.epoll_evaluate(epoll, item);
    }

    /// ADD and MOD look at once, and queue what is ready (M3); the look arms the shortage flag (E20).
    fn epoll_evaluate(&mut self, epoll: u32, item: u32) {
        self.open_account(Object::Epoll(epoll), item);
        let Item { object, mask, .. } = self.epolls[epoll].items[item];
        let ready = self.readiness(object) & mask;
        if !ready.is_empty() && self.epolls[epoll].ready.push(item) {
            self.wake_one_sleeper(Object::Epoll(epoll));
            self.wake_outer_sets(epoll);
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
        self.unwatch(object, Object::Epoll(epoll), item);
    }

    /// What a wake-up of a watched object does (M2). Answers whether it woke a sleeping thread, which an exclusive wake-up
    /// ends with.
    #[inline]
    pub(crate) fn epoll_callback(&mut self, epoll: u32, item: u32, key: Key) -> bool {
        let set = &mut self.epolls[epoll];
        let mask = set.items[item].mask;
        let matches = match key {
            Key::Any => !(mask - PRIVATE).is_empty(),
            Key::In => mask.contains(EpollMask::IN),
            Key::Out => mask.contains(EpollMask::OUT),
            Key::Error => mask.contains(EpollMask::ERR),
        };
        if !matches {
            return false;
        }
        let news = set.ready.push(item);
        let watched = !set.watchers.is_empty();
        let woke = news && self.wake_one_sleeper(Object::Epoll(epoll));
        if watched {
            self.wake_outer_sets(epoll);
        }
        woke
    }

    /// The last descriptor is closed. A thread that sleeps in the set keeps it, with all that is registered (E40).
    pub(crate) fn epoll_close(&mut self, epoll: u32) {
        self.epolls[epoll].closed = true;
        self.epoll_left(epoll);
    }

    /// Takes a closed instance apart once nobody sleeps in it any more.
    #[inline]
    pub(super) fn epoll_left(&mut self, epoll: u32) {
        let set = &self.epolls[epoll];
        if set.closed && set.sleepers.is_empty() {
            for item in set.items.numbers(&self.work) {
                self.epoll_remove(epoll, item);
            }
            self.epolls.remove(epoll);
        }
    }
}
