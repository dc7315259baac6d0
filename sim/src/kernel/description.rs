//! Open file descriptions: what several descriptors may share.
//!
//! An [`Object`] is the open file description. Nearly every one has a single descriptor and does not block, and costs nothing
//! here; this file keeps what is unusual about the others.

use std::collections::BTreeMap;

use reactor::sys::{Errno, Fd};

use super::{Object, cost};
use crate::world::World;

/// What is unusual about one open file description.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
struct Unusual {
    /// References beyond the first: duplicates, and descriptors on their way through a socket.
    more_references: u32,
    /// `O_NONBLOCK` is off.
    blocking: bool,
}

/// The open file descriptions that are not like most.
#[derive(Debug, Default)]
pub(crate) struct Descriptions {
    unusual: BTreeMap<Object, Unusual>,
}

impl Descriptions {
    /// One more reference: a duplicate, or a descriptor under way.
    pub(crate) fn add_reference(&mut self, object: Object) {
        self.unusual.entry(object).or_default().more_references += 1;
    }

    /// One reference less; whether it was the last.
    #[inline]
    pub(crate) fn drop_reference(&mut self, object: Object) -> bool {
        self.unusual.is_empty() || self.drop_unusual(object)
    }

    #[cold]
    fn drop_unusual(&mut self, object: Object) -> bool {
        let Some(unusual) = self.unusual.get_mut(&object) else { return true };
        if unusual.more_references == 0 {
            self.unusual.remove(&object);
            return true;
        }
        unusual.more_references -= 1;
        if *unusual == Unusual::default() {
            self.unusual.remove(&object);
        }
        false
    }

    /// Whether it has more than one reference.
    #[inline]
    pub(crate) fn is_shared(&self, object: Object) -> bool {
        !self.unusual.is_empty()
            && self.unusual.get(&object).is_some_and(|unusual| unusual.more_references > 0)
    }

    /// Whether calls on it wait.
    #[inline]
    pub(crate) fn is_blocking(&self, object: Object) -> bool {
        !self.unusual.is_empty() && self.unusual.get(&object).is_some_and(|unusual| unusual.blocking)
    }

    /// Sets or clears `O_NONBLOCK`, for every descriptor of the description (T81).
    pub(crate) fn set_blocking(&mut self, object: Object, blocking: bool) {
        let unusual = self.unusual.entry(object).or_default();
        unusual.blocking = blocking;
        if *unusual == Unusual::default() {
            self.unusual.remove(&object);
        }
    }
}

impl World {
    /// dup(2): the lowest free number for the same description.
    pub(crate) fn dup(&mut self, thread: u32, fd: Fd) -> Result<Fd, Errno> {
        self.spend(thread, cost::SETTING);
        let object = self.object(thread, fd)?;
        self.may_create(thread)?;
        self.descriptions.add_reference(object);
        let copy = self.install(thread, object);
        self.process_of(thread).set_kept_on_exec(copy, true);
        Ok(copy)
    }

    /// dup2(2): closes what `to` names, and gives that number to the description behind `fd`.
    pub(crate) fn dup2(&mut self, thread: u32, fd: Fd, to: Fd) -> Result<Fd, Errno> {
        self.spend(thread, cost::SETTING);
        let object = self.object(thread, fd)?;
        if !self.process_of(thread).allows(to) {
            return Err(Errno::EBADF);
        }
        if fd == to {
            return Ok(to);
        }
        if self.process_of(thread).get(to).is_some() {
            self.close(thread, to)?;
        }
        self.descriptions.add_reference(object);
        let process = self.process_of(thread);
        process.install_at(to, object);
        process.set_kept_on_exec(to, true);
        Ok(to)
    }

    /// Drops one reference to a description; the last one releases the object.
    pub(crate) fn release(&mut self, object: Object) {
        if !self.descriptions.drop_reference(object) {
            return;
        }
        self.forget_registrations(object);
        match object {
            Object::Socket(socket) => self.close_socket(socket),
            Object::Epoll(epoll) => self.epoll_close(epoll),
            Object::Kqueue(kqueue) => self.kqueue_close(kqueue),
            Object::Eventfd(eventfd) => {
                self.eventfds.remove(eventfd);
            }
            Object::PipeReader(pipe) => self.pipe_reader_close(pipe),
            Object::PipeWriter(pipe) => self.pipe_writer_close(pipe),
            Object::Timerfd(timerfd) => {
                self.timerfds.remove(timerfd);
            }
            Object::Unix(unix) => self.unix_close(unix),
            Object::File(file) => {
                self.files.remove(file);
            }
            Object::Standard => {}
        }
    }
}
