//! Delivery: which active knotes are still true, what they report, and what becomes of them (K7 to K11).

use reactor::sys::KeventFlags;

use super::entry::Entry;
use super::knote::{Found, Knote};
use crate::kernel::{Kernel, Object};
use crate::obligation::Lapse;
use crate::script::probe::{WideFilter, WideKevent, WideNotes};
use crate::world::World;

impl World {
    /// Fills the event list from the head of the queue; level-triggered knotes go back to its tail (K11).
    pub(super) fn kqueue_harvest<E: Entry>(&mut self, thread: u32, kqueue: u32, events: &mut [E]) -> usize {
        let listed = self.kqueues[kqueue].active.len();
        if listed == 0 {
            return 0;
        }
        let kernel = self.kqueues[kqueue].kernel;
        let room = self.batch_room(thread, events.len());
        let mut count = 0;
        let mut levels = 0;
        for _ in 0..listed {
            if count == room {
                if self.lapses(Lapse::DropRestOfBatch) {
                    self.kqueues[kqueue].active.pop();
                }
                break;
            }
            self.work.add(1);
            let Some(item) = self.kqueues[kqueue].active.pop() else { break };
            let Knote { flags, object, .. } = self.kqueues[kqueue].knotes[item];
            // FreeBSD hands out a one-shot knote as it was last seen, without looking again (K7).
            let unseen = kernel == Kernel::Freebsd && flags.contains(KeventFlags::ONESHOT);
            if !unseen && !self.look(kqueue, item) {
                continue;
            }
            let report = self.report(kqueue, item, unseen);
            if let Some(event) = E::from_wide(&report) {
                events[count] = event;
                count += 1;
            }
            self.pay(Object::Kqueue(kqueue), item, object);
            if flags.contains(KeventFlags::ONESHOT) {
                self.knote_remove(kqueue, item);
            } else if flags.contains(KeventFlags::DISPATCH) {
                self.set_enabled(kqueue, item, false);
            } else if !flags.contains(KeventFlags::CLEAR) && !self.lapses(Lapse::DropLevels) {
                self.kqueues[kqueue].active.push(item);
                levels += 1;
            }
        }
        self.threads[thread as usize].only_levels = levels == count;
        self.shuffle_batch(thread, &mut events[..count]);
        count
    }

    /// What a knote that is true reports; counts and triggers start again where EV_CLEAR is set.
    fn report(&mut self, kqueue: u32, item: u32, unseen: bool) -> WideKevent {
        let is_timer = self.kqueues[kqueue].knotes[item].filter == WideFilter::Timer;
        let expirations = if is_timer { self.timer_collect(kqueue, item) } else { 0 };
        let knote = &mut self.kqueues[kqueue].knotes[item];
        let clears = knote.flags.contains(KeventFlags::CLEAR);
        let Found { mut data, eof, error } = knote.found;
        let mut notes = WideNotes::empty();
        match knote.filter {
            WideFilter::Timer => data = expirations,
            WideFilter::Signal if clears => knote.found.data = 0,
            // What FreeBSD last saw of a user event is nothing: its number and bits are only filled in by a look.
            WideFilter::User if !unseen => {
                (notes, data) = (knote.notes, knote.parameter);
                if clears {
                    knote.triggered = false;
                }
            }
            WideFilter::Signal
            | WideFilter::User
            | WideFilter::Read
            | WideFilter::Write
            | WideFilter::Bad => {}
        }
        let mut flags = knote.flags;
        flags.set(KeventFlags::EOF, eof);
        WideKevent {
            ident: knote.ident,
            filter: knote.filter,
            flags,
            notes,
            eof_error: error,
            change_error: None,
            data,
            udata: knote.udata,
        }
    }
}
