//! What each filter finds (rows Q1 to Q8).

use super::knote::Found;
use crate::kernel::socket::State;
use crate::kernel::{Kernel, Object};
use crate::script::probe::{WideFilter, WideNotes};
use crate::world::World;

/// WRITE fires at this much room, in bytes, or at half of a smaller buffer (K31).
const WRITE_LOW_WATER_BYTES: u64 = 2_048;

/// PIPE_BUF (K32).
const PIPE_LOW_WATER_BYTES: usize = 4_096;

/// What a knote asks for beyond the object's own settings.
#[derive(Copy, Clone)]
struct Asked {
    kernel: Kernel,
    filter: WideFilter,
    /// NOTE_LOWAT.
    low_water: Option<i64>,
}

impl Asked {
    /// The mark that counts: FreeBSD takes what the knote asks for; on macOS it can only raise the object's own, and no further
    /// than the buffer (K31).
    fn low_water(self, own: u64, capacity: u64) -> i64 {
        let own = i64::try_from(own).unwrap_or(i64::MAX);
        match (self.low_water, self.kernel) {
            (None, _) => own,
            (Some(asked), Kernel::Macos) => asked.min(i64::try_from(capacity).unwrap_or(i64::MAX)).max(own),
            (Some(asked), Kernel::Linux | Kernel::Freebsd) => asked,
        }
    }
}

impl World {
    /// Looks at what a knote watches, keeps what it found, and answers whether the filter is true.
    #[inline]
    pub(super) fn look(&mut self, kqueue: u32, item: u32) -> bool {
        let set = &self.kqueues[kqueue];
        let knote = &set.knotes[item];
        let (object, last) = (knote.object, knote.found);
        let asked = Asked {
            kernel: set.kernel,
            filter: knote.filter,
            low_water: knote.notes.contains(WideNotes::LOWAT).then_some(knote.parameter),
        };
        let (found, fires) = match knote.filter {
            WideFilter::User => return knote.triggered,
            WideFilter::Timer => return knote.timer.as_ref().is_some_and(|timer| timer.fired),
            WideFilter::Signal => return knote.found.data != 0,
            WideFilter::Bad => return false,
            WideFilter::Read | WideFilter::Write => match object {
                Object::Socket(socket) => self.look_at_socket(socket, asked),
                Object::Kqueue(watched) => {
                    let listed = self.kqueues.get(watched).map_or(0, |watched| watched.active.len());
                    (Found { data: i64::from(listed), ..Found::default() }, listed > 0)
                }
                Object::PipeReader(_) | Object::PipeWriter(_) | Object::Unix(_) => {
                    self.look_at_local(object, asked.filter)
                }
                Object::File(_) if asked.filter == WideFilter::Write => (Found::default(), true),
                Object::File(file) => {
                    // Also behind the end, where it is negative (K33).
                    let data = self.files[file].to_end();
                    (Found { data, ..Found::default() }, data != 0)
                }
                Object::Standard | Object::Epoll(_) | Object::Eventfd(_) | Object::Timerfd(_) => {
                    return false;
                }
            },
        };
        self.kqueues[kqueue].knotes[item].found = Found { eof: found.eof || last.eof, ..found };
        fires
    }

    /// Pipes and UNIX streams (K32). The end of a pipe that a filter does not concern stays silent until the end.
    fn look_at_local(&self, object: Object, filter: WideFilter) -> (Found, bool) {
        let reads = filter == WideFilter::Read;
        let (bytes, enough, eof) = match object {
            Object::PipeReader(pipe) if reads => {
                (self.pipes[pipe].readable(), 1, !self.pipes[pipe].has_writer())
            }
            Object::PipeReader(pipe) => (0, 1, !self.pipes[pipe].has_writer()),
            Object::PipeWriter(pipe) if reads => (0, 1, !self.pipes[pipe].has_reader()),
            Object::PipeWriter(pipe) => {
                (self.pipes[pipe].room(), PIPE_LOW_WATER_BYTES, !self.pipes[pipe].has_reader())
            }
            Object::Unix(unix) if reads => (self.unixes[unix].readable(), 1, self.unixes[unix].is_shut().0),
            Object::Unix(unix) => (self.unixes[unix].room(), 1, self.unixes[unix].is_shut().1),
            _ => (0, 1, false),
        };
        let data = i64::try_from(bytes).unwrap_or(i64::MAX);
        (Found { data, eof, ..Found::default() }, eof || bytes >= enough)
    }

    fn look_at_socket(&mut self, id: u32, asked: Asked) -> (Found, bool) {
        let entry = &self.sockets[id];
        let reads = asked.filter == WideFilter::Read;
        if let Some(listener) = &entry.listener {
            let queued = if reads { i64::try_from(listener.queue.len()).unwrap_or(i64::MAX) } else { 0 };
            return (Found { data: queued, ..Found::default() }, queued > 0);
        }
        let (state, error) = (entry.state, entry.error);
        let eof = if reads { entry.receive_shut } else { entry.send_shut };
        // Q1, K30: neither fires before the connection is there.
        if state == State::SynSent || (state == State::Closed && !eof) {
            return (Found::default(), false);
        }
        let (send_capacity, receive_capacity) = (entry.send_capacity, entry.receive_capacity);
        let receive_low_water = entry.receive_low_water;
        let (bytes, enough) = if reads {
            (self.readable(id), asked.low_water(receive_low_water, receive_capacity))
        } else {
            let own = WRITE_LOW_WATER_BYTES.min((send_capacity / 2).max(1));
            (self.room(id), asked.low_water(own, send_capacity))
        };
        let data = i64::try_from(bytes).unwrap_or(i64::MAX);
        let fires = eof || error.is_some() || data >= enough;
        (Found { data, eof, error: error.filter(|_| eof) }, fires)
    }
}
