//! Sets in sets: how deep, and how the inner one wakes the outer one (E5, E11).

use reactor::sys::EpollMask;

use crate::kernel::Object;
use crate::kernel::watch::Key;
use crate::world::World;

/// Steps between the ends of the longest chain of sets (E5).
const NESTS_MAX: u32 = 4;

impl World {
    /// Whether registering `inner` in `outer` would close a loop, or make too long a chain.
    pub(super) fn nests_too_deep(&self, outer: u32, inner: u32) -> bool {
        match self.height_without(inner, outer) {
            None => true,
            Some(height) => height + 1 + self.depth_of(outer) > NESTS_MAX,
        }
    }

    /// The longest way down from a set; `None` if it meets `forbidden`, or never ends.
    fn height_without(&self, set: u32, forbidden: u32) -> Option<u32> {
        if set == forbidden {
            return None;
        }
        let mut height = 0;
        for (_, item) in self.epolls[set].items.iter() {
            if let Object::Epoll(inner) = item.object {
                height = height.max(self.height_without(inner, forbidden)? + 1);
            }
        }
        Some(height)
    }

    /// The longest way up from a set.
    fn depth_of(&self, set: u32) -> u32 {
        let outer = self.epolls[set].watchers.iter().filter_map(|watch| match watch.set {
            Object::Epoll(outer) => Some(self.depth_of(outer) + 1),
            _ => None,
        });
        outer.max().unwrap_or(0)
    }

    /// Whether a wait on the set would find something. What is no longer ready leaves its list.
    pub(crate) fn epoll_readiness(&mut self, epoll: u32) -> EpollMask {
        while let Some(item) = self.epolls[epoll].ready.front() {
            self.work.add(1);
            let super::Item { object, mask, .. } = self.epolls[epoll].items[item];
            if self.readiness(object).intersects(mask) {
                return EpollMask::IN;
            }
            self.epolls[epoll].ready.pop();
        }
        EpollMask::empty()
    }

    /// The set has something on its list: an arrival, for those that it is registered in. Every wake-up of an item is one, new
    /// on the list or not.
    #[inline]
    pub(super) fn wake_outer_sets(&mut self, epoll: u32) {
        if !self.epolls[epoll].watchers.is_empty() {
            self.wake(Object::Epoll(epoll), Key::In);
        }
    }
}
