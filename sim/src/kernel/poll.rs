//! poll(2) and select(2): a set of registrations that lives for one call, level-triggered.

use reactor::sys::{EpollEvent, EpollMask, Errno, Fd, Wait};

use super::Object;
use super::epoll::{Asked, Epoll};
use crate::world::World;

/// One entry: the object, and what is asked of it: no more than this ends the wait.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct PollItem {
    pub(crate) object: Object,
    pub(crate) mask: EpollMask,
}

/// Files without a poll operation are always ready for both.
const FILE: EpollMask = EpollMask::IN.union(EpollMask::OUT);

impl World {
    /// Begins: a set without a number, which its caller ends with [`World::poll_end`].
    pub(crate) fn poll_begin(&mut self, items: &[PollItem]) -> u32 {
        let epoll = self.epolls.insert(Epoll::default());
        for (place, item) in (0..).zip(items) {
            if self.may_be_watched(item.object) {
                self.epoll_watch(epoll, Fd::from_raw(place), item.object, item.mask, 0);
            }
        }
        epoll
    }

    /// Waits in the set until one entry is ready.
    pub(crate) fn poll_wait(&mut self, thread: u32, epoll: u32, asked: Asked) -> Result<Wait, Errno> {
        self.wait_on_set(thread, epoll, &mut [EpollEvent::default()], asked)
    }

    pub(crate) fn poll_end(&mut self, epoll: u32) {
        self.epoll_close(epoll);
    }

    /// What an entry finds now.
    pub(crate) fn poll_found(&mut self, item: PollItem) -> EpollMask {
        let ready = if self.may_be_watched(item.object) { self.readiness(item.object) } else { FILE };
        ready & item.mask
    }
}
