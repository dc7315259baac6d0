//! Who watches an object: the epoll items and knotes that its wake-ups go to.

use reactor::sys::EpollMask;

use super::Object;
use crate::obligation::Lapse;
use crate::world::World;

/// What a wake-up is about. An item that asked for something else is not woken (M1, M2).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    /// A change of state: matches everyone.
    Any,
    /// Data, or a connection to accept.
    In,
    /// Room to send.
    Out,
    /// An error report.
    Error,
}

/// One registration: the set it is in, and its place there.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Watch {
    pub(crate) set: Object,
    pub(crate) item: u32,
    /// `EPOLLEXCLUSIVE`: one of these is woken, and after the others (E36, E39).
    pub(crate) exclusive: bool,
}

/// The registrations of one object, in the order in which they were made; before them the exclusive ones, the last of these
/// first.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    /// The only one; nearly all objects have no more.
    first: Option<Watch>,
    more: Vec<Watch>,
}

impl Watchers {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }

    pub(crate) fn add(&mut self, watch: Watch) {
        if watch.exclusive {
            // `first` is woken last: it makes room.
            let exclusive = self.more.iter().take_while(|other| other.exclusive).count();
            if let Some(first) = self.first.take() {
                self.more.insert(exclusive, first);
            }
            self.more.insert(0, watch);
        } else if self.is_empty() {
            self.first = Some(watch);
        } else {
            self.more.push(watch);
        }
    }

    /// Answers how many it looked at.
    fn remove(&mut self, set: Object, item: u32) -> usize {
        if self.first.is_some_and(|first| first.set == set && first.item == item) {
            self.first = None;
            return 1;
        }
        let steps = 1 + self.more.len();
        self.more.retain(|other| other.set != set || other.item != item);
        steps
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Watch> + '_ {
        self.first.iter().chain(&self.more).copied()
    }

    /// The `n`-th to be woken: the last one registered comes first (E36).
    #[inline]
    pub(crate) fn nth(&self, n: usize) -> Option<Watch> {
        let more = self.more.len();
        if n < more {
            Some(self.more[more - 1 - n])
        } else if n == more {
            self.first
        } else {
            None
        }
    }
}

impl World {
    /// Runs the callbacks of every registration of the object; of the exclusive ones until one wakes a thread, unless the state
    /// has changed, which concerns everyone.
    #[inline]
    pub(crate) fn wake(&mut self, object: Object, key: Key) {
        self.owe(object, key);
        if key == Key::In && self.lapses(Lapse::SkipArrivals) {
            return;
        }
        let mut n = 0;
        while let Some(watch) = self.watchers(object).and_then(|watchers| watchers.nth(n)) {
            self.work.add(1);
            let woke = match watch.set {
                Object::Epoll(epoll) => self.epoll_callback(epoll, watch.item, key),
                Object::Kqueue(kqueue) => {
                    self.knote_callback(kqueue, watch.item, key);
                    false
                }
                _ => false,
            };
            if woke && watch.exclusive && key != Key::Any {
                return;
            }
            n += 1;
        }
    }

    /// The registrations of an object, to add to or take from.
    #[inline]
    pub(crate) fn watchers(&mut self, object: Object) -> Option<&mut Watchers> {
        match object {
            Object::Socket(socket) => self.sockets.get_mut(socket).map(|socket| &mut socket.watchers),
            Object::Eventfd(eventfd) => self.eventfds.get_mut(eventfd).map(|eventfd| &mut eventfd.watchers),
            Object::Epoll(epoll) => self.epolls.get_mut(epoll).map(|epoll| &mut epoll.watchers),
            Object::Kqueue(kqueue) => self.kqueues.get_mut(kqueue).map(|kqueue| &mut kqueue.watchers),
            Object::PipeReader(pipe) => self.pipes.get_mut(pipe).map(|pipe| &mut pipe.reader.watchers),
            Object::PipeWriter(pipe) => self.pipes.get_mut(pipe).map(|pipe| &mut pipe.writer.watchers),
            Object::Timerfd(timerfd) => self.timerfds.get_mut(timerfd).map(|timerfd| &mut timerfd.watchers),
            Object::Unix(unix) => self.unixes.get_mut(unix).map(|unix| &mut unix.watchers),
            Object::Standard | Object::File(_) => None,
        }
    }

    /// What an object is ready for (M1, kernel-semantics section 2).
    #[inline]
    pub(crate) fn readiness(&mut self, object: Object) -> EpollMask {
        match object {
            Object::Socket(socket) => self.socket_readiness(socket),
            Object::Eventfd(eventfd) => self.eventfds[eventfd].readiness(),
            Object::Epoll(epoll) => self.epoll_readiness(epoll),
            Object::PipeReader(pipe) => self.pipes[pipe].reader_readiness(),
            Object::PipeWriter(pipe) => self.pipes[pipe].writer_readiness(),
            Object::Timerfd(timerfd) => self.timerfds[timerfd].readiness(),
            Object::Unix(unix) => self.unixes[unix].readiness(),
            Object::Standard | Object::Kqueue(_) | Object::File(_) => EpollMask::empty(),
        }
    }

    /// Takes one registration off its object.
    pub(crate) fn unwatch(&mut self, object: Object, set: Object, item: u32) {
        if let Some(watchers) = self.watchers(object) {
            let steps = watchers.remove(set, item);
            self.work.add(steps);
        }
    }

    /// Removes every registration of an object whose last descriptor was closed (E8).
    pub(crate) fn forget_registrations(&mut self, object: Object) {
        while let Some(watch) = self.watchers(object).and_then(|watchers| watchers.nth(0)) {
            match watch.set {
                Object::Epoll(epoll) => self.epoll_remove(epoll, watch.item),
                Object::Kqueue(kqueue) => self.knote_remove(kqueue, watch.item),
                set => unreachable!("{set:?} is no set of registrations"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_ones_are_woken_last_first_and_exclusive_ones_after_them_in_order() {
        let watch = |item, exclusive| Watch { set: Object::Epoll(0), item, exclusive };
        for exclusives in [[2, 5], [1, 3], [4, 5]] {
            let mut watchers = Watchers::default();
            for item in 1..=5 {
                watchers.add(watch(item, exclusives.contains(&item)));
            }
            let plain = (1..=5).rev().filter(|item| !exclusives.contains(item));
            let expected: Vec<u32> = plain.chain(exclusives).collect();
            let woken: Vec<u32> = (0..).map_while(|n| watchers.nth(n)).map(|watch| watch.item).collect();
            assert_eq!(woken, expected);
            for item in expected {
                watchers.remove(Object::Epoll(0), item);
            }
            assert!(watchers.is_empty());
        }
    }
}
