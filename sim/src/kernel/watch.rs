//! Who watches an object: the epoll items and knotes that its wake-ups go to.

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
}

/// The registrations of one object, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    first: Option<Watch>,
    more: Vec<Watch>,
}

impl Watchers {
    pub(crate) fn add(&mut self, watch: Watch) {
        if self.first.is_none() && self.more.is_empty() {
            self.first = Some(watch);
        } else {
            self.more.push(watch);
        }
    }

    /// Answers how many it looked at.
    fn remove(&mut self, watch: Watch) -> usize {
        if self.first == Some(watch) {
            self.first = None;
            return 1;
        }
        let steps = 1 + self.more.len();
        self.more.retain(|other| *other != watch);
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
    /// Runs the callbacks of every registration of the object.
    #[inline]
    pub(crate) fn wake(&mut self, object: Object, key: Key) {
        self.owe(object, key);
        if key == Key::In && self.lapses(Lapse::SkipArrivals) {
            return;
        }
        let mut n = 0;
        loop {
            let watchers = match object {
                Object::Socket(socket) => &self.sockets[socket].watchers,
                Object::Eventfd(eventfd) => &self.eventfds[eventfd].watchers,
                Object::Kqueue(kqueue) => &self.kqueues[kqueue].watchers,
                Object::Standard | Object::Epoll(_) => return,
            };
            let Some(watch) = watchers.nth(n) else { return };
            self.work.add(1);
            match watch.set {
                Object::Epoll(epoll) => self.epoll_callback(epoll, watch.item, key),
                Object::Kqueue(kqueue) => self.knote_callback(kqueue, watch.item, key),
                Object::Standard | Object::Socket(_) | Object::Eventfd(_) => {}
            }
            n += 1;
        }
    }

    /// The registrations of an object, to add to or take from.
    pub(crate) fn watchers(&mut self, object: Object) -> Option<&mut Watchers> {
        match object {
            Object::Socket(socket) => self.sockets.get_mut(socket).map(|socket| &mut socket.watchers),
            Object::Eventfd(eventfd) => self.eventfds.get_mut(eventfd).map(|eventfd| &mut eventfd.watchers),
            Object::Kqueue(kqueue) => self.kqueues.get_mut(kqueue).map(|kqueue| &mut kqueue.watchers),
            Object::Standard | Object::Epoll(_) => None,
        }
    }

    /// Takes one registration off its object.
    pub(crate) fn unwatch(&mut self, object: Object, watch: Watch) {
        if let Some(watchers) = self.watchers(object) {
            let steps = watchers.remove(watch);
            self.work.add(steps);
        }
    }

    /// Removes every registration of an object whose last descriptor was closed (E8).
    pub(crate) fn forget_registrations(&mut self, object: Object) {
        while let Some(watch) = self.watchers(object).and_then(|watchers| watchers.nth(0)) {
            match watch.set {
                Object::Epoll(epoll) => self.epoll_remove(epoll, watch.item),
                Object::Kqueue(kqueue) => self.knote_remove(kqueue, watch.item),
                Object::Standard | Object::Socket(_) | Object::Eventfd(_) => {}
            }
        }
    }
}
