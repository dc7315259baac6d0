//! What decisions impose on the one loop of a run that was imported: when it reads its clock, and how much a send takes. See
//! [`crate::import`].
//!
//! Nothing here is beyond a legal kernel. Time passes between two calls of a thread for many reasons; and a send takes less than
//! there is room for when memory is short (T57), after which the edge is owed, and comes.

use std::io::IoSlice;

use reactor::sys::{Errno, Fd};

use super::Object;
use super::watch::Key;
use crate::decision::{Domain, Site};
use crate::event::EventKind;
use crate::recording::checksums;
use crate::world::World;

/// Which thread it is, and what each of its calls takes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Imposed {
    /// The thread of the loop.
    pub thread: u32,
    /// How long each call takes, in nanoseconds, at least 1.
    pub call_ns: u64,
}

/// The longest time that is imposed at once: three days.
pub(crate) const TIME_NS_MAX: u64 = 1 << 48;
/// A send that is cut shorter than this can be told.
const BYTES_MAX: u64 = 1 << 32;

/// The site of the decision about the clock.
pub(crate) const CLOCK: Site = Site("time until the clock is read");
/// The site of the decision about how much a send takes.
pub(crate) const ROOM: Site = Site("room of a send");
/// The site of the decision about when there is room again.
pub(crate) const ROOM_AGAIN: Site = Site("until there is room again");
/// The site of the decision about an error of a call that makes a descriptor.
pub(crate) const CREATION: Site = Site("error of a call that makes a descriptor");

/// What a call that makes a descriptor may answer; nothing is first.
pub(crate) const CREATION_ERRORS: [Option<Errno>; 5] =
    [None, Some(Errno::EMFILE), Some(Errno::ENFILE), Some(Errno::ENOBUFS), Some(Errno::ENOMEM)];

impl World {
    /// Somebody may want to know the time before a decision about it.
    #[inline]
    pub(crate) fn tell_guide(&mut self, time: u64) {
        if self.options.imposed.is_some() {
            let now = self.clock(time);
            if let Some(guide) = self.decisions.guide() {
                guide.tell_time(now);
            }
        }
    }

    /// A call of this thread begins.
    pub(crate) fn impose_time(&mut self, thread: u32, reads_clock: bool) {
        let Some(Imposed { call_ns, .. }) = self.options.imposed else { return };
        if self.threads[thread as usize].sleep.is_some() {
            return;
        }
        let entry = &mut self.threads[thread as usize];
        entry.local += call_ns;
        if reads_clock {
            let local = entry.local;
            self.tell_guide(local);
            let later_ns = self.decisions.draw(Domain::Stalls, CLOCK, thread, TIME_NS_MAX);
            let local = &mut self.threads[thread as usize].local;
            *local = local.saturating_add(later_ns);
        }
    }

    /// The error that a call of this thread answers instead of making a descriptor.
    pub(crate) fn imposed_creation_error(&mut self, thread: u32) -> Option<Errno> {
        if self.options.imposed.is_none_or(|imposed| imposed.thread != thread) {
            return None;
        }
        let which = self.decisions.draw(Domain::Descriptors, CREATION, thread, CREATION_ERRORS.len() as u64);
        CREATION_ERRORS[which as usize]
    }

    /// How much a send of this thread takes, where that is not the buffer's doing.
    pub(crate) fn imposed_room(&mut self, thread: u32) -> Option<u64> {
        if self.options.imposed.is_none_or(|imposed| imposed.thread != thread) {
            return None;
        }
        let told = self.decisions.draw(Domain::Buffers, ROOM, 0, BYTES_MAX);
        told.checked_sub(1)
    }

    /// A send has taken less than it was given: when the rest may follow. With nothing decided that is at once.
    pub(crate) fn promise_room(&mut self, socket: u32) {
        if self.sockets[socket].tight > 0 {
            return;
        }
        self.tell_guide(self.now);
        let after_ns = self.decisions.draw(Domain::Buffers, ROOM_AGAIN, 0, TIME_NS_MAX);
        let serial = self.next_serial();
        self.sockets[socket].tight = serial;
        self.queue_event(self.now.saturating_add(1 + after_ns), EventKind::Room { socket, serial });
    }

    /// The room that was promised has come; the socket may have gone meanwhile, and another one have its number.
    pub(crate) fn room_event(&mut self, socket: u32, serial: u64) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        if entry.tight == serial {
            entry.tight = 0;
            self.wake(Object::Socket(socket), Key::Out);
        }
    }

    /// A send, of which somebody may want to know the bytes.
    #[inline]
    pub(crate) fn send_shown(
        &mut self,
        thread: u32,
        fd: Fd,
        segments: &[IoSlice<'_>],
    ) -> Result<usize, Errno> {
        let result = self.send(thread, fd, segments);
        if self.options.imposed.is_some_and(|imposed| imposed.thread == thread)
            && let Some(guide) = self.decisions.guide()
        {
            guide.sent(checksums(segments, result.unwrap_or(0)));
        }
        result
    }

    /// A packet without news reaches a socket: an acknowledgement, or a segment whose bytes have been taken already. It is
    /// looked at once more (E16, E21).
    pub(crate) fn nudge(&mut self, socket: u32) {
        if self.sockets.get(socket).is_some() {
            self.wake(Object::Socket(socket), Key::Any);
        }
    }
}
