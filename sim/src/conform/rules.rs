//! What each call does to the sketch, and which calls would lead to where the capacity of buffers decides.

use super::call::{Call, Slot};
use super::sketch::{Kind, Sketch};
use crate::script::probe::WideOption;

/// What one direction may hold without a drain: far below every capacity.
const QUEUED_MAX: u32 = 6_000;
/// More than the buffers of both sides: one such send is cut short.
pub(super) const FLOOD_BYTES: u32 = 1 << 20;
/// Room for every registration that a set may have.
pub(super) const EVERYTHING: u8 = 64;

/// Whether every call of the sequence keeps to the rules, as those of the generator do.
pub(super) fn all_allowed(calls: &[Call]) -> bool {
    let mut sketch = Sketch::new();
    calls.iter().all(|call| {
        let allowed = sketch.allows(call);
        sketch.apply(call);
        allowed
    })
}

impl Sketch {
    /// Whether the answer of this call, and the state after it, depend on nothing that is not compared.
    pub(super) fn allows(&self, call: &Call) -> bool {
        if let Some(file) = self.to_be_acknowledged {
            return matches!(*call, Call::Set { at, option: WideOption::QuickAck, .. } if self.file(at) == Some(file));
        }
        if let Some(file) = self.to_be_drained {
            return matches!(*call, Call::Drain { at, .. } if self.file(at) == Some(file));
        }
        if let Some(&set) = self.to_be_harvested.last() {
            return matches!(*call, Call::Wait { epoll, room: EVERYTHING, timeout_ms: 0 } if self.file(epoll) == Some(set));
        }
        let file = |at: Slot| self.file(at);
        match *call {
            // It moves acknowledgements, which is only compared where they are forced.
            Call::Set { option: WideOption::QuickAck, .. } => false,
            Call::Send { at, length, exact } => file(at).is_none_or(|file| {
                if self.is_flooded(file) {
                    return false;
                }
                if length >= FLOOD_BYTES {
                    return !exact && self.is_fillable(file) && self.has_descriptor(self.files[file].peer);
                }
                if self.files[file].filled { !exact } else { exact && self.has_room(file, length) }
            }),
            Call::SendSegments { at, segments, length } => file(at).is_none_or(|file| {
                let all = u32::from(segments) * length;
                !self.is_flooded(file) && !self.files[file].filled && self.has_room(file, all)
            }),
            Call::Fill { at } => file(at).is_none_or(|file| !self.is_flooded(file) && self.is_fillable(file)),
            Call::Drain { at, exact } => file(at).is_none_or(|file| exact != self.is_flooded(file)),
            // What carries an acknowledgement back frees room (T58, E32); and an end that is shut down for reading answers 0
            // while more is on its way.
            Call::Shutdown { at, .. } => file(at).is_none_or(|file| !self.is_flooded(file)),
            Call::Get { at, option: WideOption::Readable } => {
                file(at).is_none_or(|file| !self.is_flooded(file))
            }
            Call::Write { at, length } => file(at).is_none_or(|file| self.has_room(file, length)),
            _ => true,
        }
    }

    fn has_room(&self, file: usize, length: u32) -> bool {
        self.files[file].queued + length <= QUEUED_MAX
    }

    fn is_fillable(&self, file: usize) -> bool {
        let file = &self.files[file];
        let receives = file.peer.is_some_and(|peer| !self.files[peer].is_shut);
        let known = file.kind == Kind::Tcp && file.started && !file.wild && receives;
        known && !file.filled && file.has_small_buffers
    }

    /// Follows the call.
    pub(super) fn apply(&mut self, call: &Call) {
        match *call {
            Call::Socket { to } => self.make(to, Kind::Tcp),
            Call::Listener { to, backlog } => {
                self.make(to, Kind::Listener);
                self.listens(to, backlog);
            }
            Call::DeadPort { to } => self.aim(to, None),
            Call::Dup { from, to } => {
                if let Some(file) = self.file(from) {
                    self.install(to, file);
                }
            }
            Call::Dup2 { from, onto } => {
                if let Some(file) = self.file(from) {
                    self.replace(onto, file);
                }
            }
            Call::Close { at } | Call::Reset { at } => self.close(at),
            Call::Listen { at, backlog } if self.file(at).is_some_and(|file| self.may_listen(file)) => {
                self.listens(at, backlog);
            }
            Call::Connect { at, to } => {
                if let Some(file) = self.file(at) {
                    self.connect(file, to);
                }
            }
            Call::Disconnect { at } => {
                if let Some(file) = self.file(at) {
                    self.disconnect(file);
                }
            }
            Call::Accept { at, to } => {
                if let Some(file) = self.file(at) {
                    self.accept(file, to);
                }
            }
            Call::Shutdown { at, how } => {
                if let Some(file) = self.file(at) {
                    self.shut(file, how);
                }
            }
            Call::Set { at, option: WideOption::SendBuffer | WideOption::ReceiveBuffer, .. } => {
                if let Some(file) = self.file(at) {
                    self.files[file].has_small_buffers = !self.files[file].started;
                }
            }
            Call::Send { at, length, .. } => {
                if let Some(file) = self.file(at) {
                    self.sent(file, length);
                }
            }
            Call::SendSegments { at, segments, length } => {
                if let Some(file) = self.file(at) {
                    self.sent(file, u32::from(segments) * length);
                }
            }
            Call::Fill { at } => {
                if let Some(file) = self.file(at) {
                    self.files[file].filled = true;
                }
            }
            Call::Receive { at, .. } => {
                // Any look at the queue may send an acknowledgement. How much room it gives back is not compared: the rest
                // follows at once.
                if let Some(file) = self.file(at).filter(|&file| self.is_flooded(file)) {
                    self.to_be_drained = Some(file);
                }
            }
            Call::Drain { at, exact } => {
                if let Some(file) = self.file(at) {
                    self.drained(file);
                    // The last bytes occupy the sender's buffer until they are acknowledged, which may take 40 ms.
                    self.to_be_acknowledged = (!exact).then_some(file);
                }
            }
            Call::Set { option: WideOption::QuickAck, .. } => {
                self.to_be_acknowledged = None;
                // Which end was woken first is not compared: it must not stay in a ready list.
                self.to_be_harvested = self.epolls();
            }
            Call::Wait { room: EVERYTHING, .. } => {
                self.to_be_harvested.pop();
            }
            Call::Write { at, length } => {
                if let Some(file) = self.file(at) {
                    self.files[file].queued += length;
                }
            }
            Call::Eventfd { to, .. } => self.make(to, Kind::Eventfd),
            Call::Epoll { to } => self.make(to, Kind::Epoll),
            Call::Timer { to } => self.make(to, Kind::Timer),
            Call::Pipe { reading, writing } => {
                self.make_two([reading, writing], [Kind::PipeReader, Kind::PipeWriter]);
            }
            Call::Pair { one, other } => self.make_two([one, other], [Kind::Unix, Kind::Unix]),
            Call::Limit { spare } => self.limit(usize::from(spare)),
            Call::Restore => self.restore(),
            _ => {}
        }
    }

    fn sent(&mut self, file: usize, length: u32) {
        if length >= FLOOD_BYTES {
            self.files[file].filled = true;
            self.to_be_drained = self.files[file].peer;
        } else if !self.files[file].filled {
            self.files[file].queued += length;
        }
    }

    fn listens(&mut self, at: Slot, backlog: u32) {
        if let Some(file) = self.file(at) {
            self.files[file].kind = Kind::Listener;
            self.files[file].backlog = backlog as usize;
            self.aim(at, Some(file));
        }
    }

    fn shut(&mut self, file: usize, how: i32) {
        self.files[file].is_shut |= how == 0 || how == 2;
        if self.files[file].kind == Kind::Listener && (how == 0 || how == 2) {
            // It leaves the listening state; listening again gives it another port (T41).
            self.drop_queue(file);
            self.files[file].kind = Kind::Tcp;
        } else if self.files[file].kind == Kind::Tcp && !self.files[file].started {
            // The mark stays (T26).
            self.files[file].wild = true;
        } else if self.is_trying(file) {
            self.files[file].wild = true;
        }
    }

    fn disconnect(&mut self, file: usize) {
        self.files[file].wild = true;
        if let Some(peer) = self.files[file].peer.take() {
            self.files[peer].dead = true;
        }
        if self.files[file].kind == Kind::Listener {
            self.drop_queue(file);
            self.files[file].kind = Kind::Tcp;
        }
    }
}
