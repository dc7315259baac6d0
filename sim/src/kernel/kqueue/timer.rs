//! EVFILT_TIMER, in virtual time (K39 to K42).
//!
//! Expirations are exact here: the precision of FreeBSD's callouts and macOS's coalescing are left out, which errs to the kind
//! side for a caller that measures, and no loop of ours uses this filter.

use reactor::sys::{Errno, KeventFlags};

use crate::event::EventKind;
use crate::kernel::Kernel;
use crate::script::probe::{WideFilter, WideNotes};
use crate::world::World;

/// The units that `data` may be in; milliseconds without one.
const UNITS: WideNotes = WideNotes::SECONDS.union(WideNotes::MICROSECONDS).union(WideNotes::NANOSECONDS);
/// A period below this is counted in lumps, so that a timer of a nanosecond does not stop the world.
const LUMP_NS: u64 = 10_000;

/// When a timer fires next, and how it goes on.
#[derive(Debug, Default)]
pub(super) struct Timer {
    /// The next expiration, or on macOS the one that has fired.
    next: u64,
    /// Zero for a timer that fires once.
    interval_ns: u64,
    /// The queued expiration that counts; older ones are ignored.
    serial: u32,
    /// Something is to be delivered.
    pub(super) fired: bool,
}

impl World {
    /// Programs a timer as a first add or a re-add asks for; what was not delivered is discarded (K40).
    ///
    /// # Errors
    /// `EINVAL`: what the system does not take (K41).
    pub(super) fn timer_program(
        &mut self,
        kqueue: u32,
        item: u32,
        notes: WideNotes,
        data: i64,
    ) -> Result<(), Errno> {
        let (now, serial) = (self.now, self.next_serial() as u32);
        let set = &mut self.kqueues[kqueue];
        let kernel = set.kernel;
        set.knotes[item].notes = notes;
        let knote = &mut set.knotes[item];
        let unit_ns: i64 = match notes & UNITS {
            WideNotes::SECONDS => 1_000_000_000,
            WideNotes::MICROSECONDS => 1_000,
            WideNotes::NANOSECONDS => 1,
            none if none.is_empty() => 1_000_000,
            _ => return Err(Errno::EINVAL),
        };
        let absolute = notes.contains(WideNotes::ABSOLUTE);
        let mut data = data;
        if kernel == Kernel::Freebsd {
            if !(notes - UNITS - WideNotes::ABSOLUTE).is_empty() || (data < 0 && !absolute) {
                return Err(Errno::EINVAL);
            }
            if data == 0 && !absolute && !knote.flags.contains(KeventFlags::ONESHOT) {
                data = 1;
            }
        }
        let after_ns = u64::try_from(data.saturating_mul(unit_ns)).unwrap_or(0);
        let mut timer =
            Timer { next: now.saturating_add(after_ns), interval_ns: after_ns, serial, fired: false };
        if absolute {
            timer.interval_ns = 0;
        }
        // A macOS timer that is due already needs no callout.
        timer.fired = kernel == Kernel::Macos && after_ns == 0;
        let (next, fired) = (timer.next, timer.fired);
        knote.parameter = data;
        knote.found.data = 0;
        knote.timer = Some(Box::new(timer));
        set.active.remove(item);
        if !fired {
            self.queue_event(next, EventKind::KnoteTimer { kqueue, item, serial });
        }
        Ok(())
    }

    /// The mode flags that a timer gets by itself (K39, K41).
    pub(super) const fn timer_flags(kernel: Kernel, notes: WideNotes) -> KeventFlags {
        let absolute = notes.contains(WideNotes::ABSOLUTE);
        match kernel {
            Kernel::Macos if absolute => KeventFlags::CLEAR.union(KeventFlags::ONESHOT),
            // By its source an absolute timer is level-triggered: it reports until it is deleted.
            Kernel::Freebsd if absolute => KeventFlags::empty(),
            _ => KeventFlags::CLEAR,
        }
    }

    pub(crate) fn knote_timer_event(&mut self, kqueue: u32, item: u32, serial: u32) {
        let now = self.now;
        let Some(set) = self.kqueues.get_mut(kqueue) else { return };
        let kernel = set.kernel;
        let Some(knote) = set.knotes.get_mut(item).filter(|knote| knote.filter == WideFilter::Timer) else {
            return;
        };
        let repeats = !knote.flags.contains(KeventFlags::ONESHOT);
        let Some(timer) = knote.timer.as_mut().filter(|timer| timer.serial == serial) else { return };
        timer.fired = true;
        // macOS goes on only when this one is delivered (K42); FreeBSD keeps firing, also while disabled.
        if kernel != Kernel::Macos {
            knote.found.data += 1;
            if repeats && timer.interval_ns > 0 {
                timer.next += timer.interval_ns;
                if timer.interval_ns < LUMP_NS && timer.next < now.saturating_add(LUMP_NS) {
                    let lump = (now.saturating_add(LUMP_NS) - timer.next) / timer.interval_ns;
                    timer.next += lump * timer.interval_ns;
                    knote.found.data += lump.cast_signed();
                }
                let next = timer.next;
                self.queue_event(next, EventKind::KnoteTimer { kqueue, item, serial });
            }
        }
        self.activate(kqueue, item);
    }

    /// What a timer that has fired delivers: how many periods have passed.
    pub(super) fn timer_collect(&mut self, kqueue: u32, item: u32) -> i64 {
        let now = self.now;
        let set = &mut self.kqueues[kqueue];
        let (kernel, knote) = (set.kernel, &mut set.knotes[item]);
        let flags = knote.flags;
        let Some(timer) = &mut knote.timer else { return 0 };
        if kernel != Kernel::Macos {
            if flags.contains(KeventFlags::CLEAR) {
                timer.fired = false;
                return std::mem::take(&mut knote.found.data);
            }
            return knote.found.data;
        }
        timer.fired = false;
        if timer.interval_ns == 0 {
            return 1;
        }
        let armed = timer.next - timer.interval_ns;
        let periods = now.saturating_sub(armed) / timer.interval_ns;
        if !flags.contains(KeventFlags::ONESHOT) {
            timer.next += periods * timer.interval_ns;
            let (next, serial) = (timer.next, timer.serial);
            self.queue_event(next, EventKind::KnoteTimer { kqueue, item, serial });
        }
        periods.cast_signed()
    }
}
