//! Change lists: what each change does to its knote, and what becomes of its error (K1 to K8, K15 to K20, K44 to K46).

use reactor::sys::{Errno, Fd, KeventFlags};

use super::entry::Entry;
use super::knote::{Found, Knote};
use super::place_of;
use crate::fault::FaultKind;
use crate::kernel::{Kernel, Object, cost};
use crate::schedule::ThreadId;
use crate::script::probe::{WideFilter, WideKevent, WideNotes};
use crate::world::World;

impl World {
    /// Applies the change list; answers with how many entries the call ends, `None` if it goes on to events (K15 to K18).
    pub(super) fn apply_changes<E: Entry>(
        &mut self,
        thread: u32,
        kqueue: u32,
        changes: &[E],
        events: &mut [E],
    ) -> Result<Option<usize>, Errno> {
        let kernel = self.kqueues[kqueue].kernel;
        let mut count = 0;
        for change in changes {
            self.work.add(1);
            let wide = change.wide();
            let result = self.apply_change(thread, kqueue, &wide);
            if result.is_ok() && !wide.flags.contains(KeventFlags::RECEIPT) {
                continue;
            }
            let Some(place) = events.get_mut(count) else {
                // Without room an error ends the call (K16). For a receipt FreeBSD stops too, and answers nothing at all, not
                // even what it has stored; macOS goes on (K18).
                result?;
                if kernel == Kernel::Freebsd {
                    return Ok(Some(0));
                }
                continue;
            };
            let mut flags = wide.flags | KeventFlags::ERROR;
            if kernel == Kernel::Freebsd {
                flags -= KeventFlags::RECEIPT;
            }
            let entry = WideKevent { flags, change_error: result.err(), data: 0, ..wide };
            if let Some(entry) = E::from_wide(&entry) {
                *place = entry;
                count += 1;
            }
        }
        Ok((count > 0 || events.is_empty()).then_some(count))
    }

    fn apply_change(&mut self, thread: u32, kqueue: u32, change: &WideKevent) -> Result<(), Errno> {
        self.spend(thread, cost::CONTROL);
        let kernel = self.kqueues[kqueue].kernel;
        let mut change = *change;
        if change.filter == WideFilter::Bad {
            self.violate("illegal-call", ThreadId(thread), "a filter that does not exist".to_owned());
            return Err(Errno::EINVAL);
        }
        if kernel == Kernel::Macos {
            // Deleting and disabling overrule (K5).
            if change.flags.contains(KeventFlags::DELETE) {
                change.flags -= KeventFlags::ADD;
            }
            if change.flags.contains(KeventFlags::DISABLE) {
                change.flags -= KeventFlags::ENABLE;
            }
        } else if change.flags.contains(KeventFlags::ENABLE | KeventFlags::DISABLE) {
            return Err(Errno::EINVAL);
        }
        // FreeBSD looks at the descriptor first; macOS only when it makes a knote (K4).
        let mut object = Object::Standard;
        let by_descriptor = place_of(change.filter).is_some();
        if by_descriptor && kernel != Kernel::Macos {
            object = self.object_to_watch(thread, change.ident)?;
        }
        if !by_descriptor {
            self.work.add(self.kqueues[kqueue].by_name.len());
        }
        match self.kqueues[kqueue].find(change.ident, change.filter) {
            None if change.flags.contains(KeventFlags::ADD) => {
                if by_descriptor && kernel == Kernel::Macos {
                    object = self.object_to_watch(thread, change.ident)?;
                }
                self.may_watch(thread, kqueue, object, &change)?;
                self.add_knote(kqueue, object, &change)
            }
            None => {
                let details = format!("no knote {:?} {} to change", change.filter, change.ident);
                self.violate("illegal-call", ThreadId(thread), details);
                Err(Errno::ENOENT)
            }
            Some(item) if change.flags.contains(KeventFlags::DELETE) => {
                self.knote_remove(kqueue, item);
                Ok(())
            }
            Some(item) => self.change_knote(kqueue, item, &change),
        }
    }

    fn object_to_watch(&mut self, thread: u32, ident: u64) -> Result<Object, Errno> {
        let number = i32::try_from(ident).map_err(|_| Errno::EBADF)?;
        self.object(thread, Fd::from_raw(number))
    }

    /// Whether a filter can watch an object at all.
    fn may_watch(
        &mut self,
        thread: u32,
        kqueue: u32,
        object: Object,
        change: &WideKevent,
    ) -> Result<(), Errno> {
        let kernel = self.kqueues[kqueue].kernel;
        let may = match object {
            Object::Socket(_) => true,
            // Nobody will read: macOS tells that as an event (K32).
            Object::PipeWriter(pipe)
                if change.filter == WideFilter::Write
                    && kernel == Kernel::Freebsd
                    && !self.pipes[pipe].has_reader() =>
            {
                return Err(Errno::EPIPE);
            }
            // A kqueue can be read only, and never by itself (K14).
            Object::Kqueue(other) => other != kqueue && change.filter == WideFilter::Read,
            Object::Standard => place_of(change.filter).is_none(),
            Object::PipeReader(_) | Object::PipeWriter(_) | Object::Unix(_) => true,
            // FreeBSD has room in every file (K33); what macOS says of WRITE is not modelled.
            Object::File(_) => change.filter == WideFilter::Read || kernel == Kernel::Freebsd,
            Object::Epoll(_) | Object::Eventfd(_) | Object::Timerfd(_) => false,
        };
        if may {
            return Ok(());
        }
        let details = format!("descriptor {} cannot be watched here", change.ident);
        self.violate("illegal-call", ThreadId(thread), details);
        Err(Errno::EINVAL)
    }

    fn add_knote(&mut self, kqueue: u32, object: Object, change: &WideKevent) -> Result<(), Errno> {
        if self.fault(FaultKind::RegistrationErrors, 0) {
            return Err(Errno::ENOMEM);
        }
        let kernel = self.kqueues[kqueue].kernel;
        let mut flags = change.flags;
        match change.filter {
            WideFilter::Timer => flags |= World::timer_flags(kernel, change.notes),
            WideFilter::Signal => flags |= KeventFlags::CLEAR,
            WideFilter::Read | WideFilter::Write | WideFilter::User | WideFilter::Bad => {}
        }
        let item = self.knote_insert(
            kqueue,
            Knote {
                ident: change.ident,
                filter: change.filter,
                object,
                flags,
                udata: change.udata,
                enabled: false,
                // FreeBSD loses a trigger in the very first add (K45).
                triggered: change.notes.contains(WideNotes::TRIGGER) && kernel == Kernel::Macos,
                notes: change.notes,
                parameter: change.data,
                found: Found::default(),
                timer: None,
            },
        );
        if change.filter == WideFilter::Timer
            && let Err(error) = self.timer_program(kqueue, item, change.notes, change.data)
        {
            self.knote_remove(kqueue, item);
            return Err(error);
        }
        self.set_enabled(kqueue, item, !change.flags.contains(KeventFlags::DISABLE));
        self.open_account(Object::Kqueue(kqueue), item);
        self.activate(kqueue, item);
        Ok(())
    }

    fn change_knote(&mut self, kqueue: u32, item: u32, change: &WideKevent) -> Result<(), Errno> {
        self.touch(kqueue, item, change)?;
        // Any change to a knote replaces its word, with or without EV_ADD.
        self.kqueues[kqueue].knotes[item].udata = change.udata;
        if change.flags.contains(KeventFlags::DISABLE) {
            self.set_enabled(kqueue, item, false);
            self.kqueues[kqueue].active.remove(item);
        } else if change.flags.contains(KeventFlags::ENABLE) {
            // EV_ADD alone leaves a disabled knote disabled: the manuals say otherwise, both sources do not (K2).
            self.set_enabled(kqueue, item, true);
        }
        self.open_account(Object::Kqueue(kqueue), item);
        // Every change looks again (K3, K6).
        self.activate(kqueue, item);
        Ok(())
    }

    /// What a change does to what the filter was asked for.
    fn touch(&mut self, kqueue: u32, item: u32, change: &WideKevent) -> Result<(), Errno> {
        let set = &mut self.kqueues[kqueue];
        let (kernel, knote) = (set.kernel, &mut set.knotes[item]);
        match knote.filter {
            WideFilter::Read | WideFilter::Write | WideFilter::Signal | WideFilter::Bad => {
                knote.notes = change.notes;
                knote.parameter = change.data;
            }
            WideFilter::User => {
                let asked = change.notes & WideNotes::USER_BITS;
                match change.notes & WideNotes::FFCOPY {
                    WideNotes::FFAND => knote.notes &= asked,
                    WideNotes::FFOR => knote.notes |= asked,
                    WideNotes::FFCOPY => knote.notes = asked,
                    _ => {}
                }
                knote.parameter = change.data;
                knote.triggered |= change.notes.contains(WideNotes::TRIGGER);
                // On FreeBSD a change that carries EV_CLEAR cancels its own trigger, and any that is pending (K45).
                if kernel == Kernel::Freebsd && change.flags.contains(KeventFlags::CLEAR) {
                    knote.triggered = false;
                }
            }
            // FreeBSD leaves a timer alone unless it is added again; macOS programs it at every change (K40).
            WideFilter::Timer if kernel == Kernel::Macos || change.flags.contains(KeventFlags::ADD) => {
                let toggled = (knote.notes ^ change.notes).contains(WideNotes::ABSOLUTE);
                if kernel == Kernel::Macos && toggled {
                    return Err(Errno::EINVAL);
                }
                return self.timer_program(kqueue, item, change.notes, change.data);
            }
            WideFilter::Timer => {}
        }
        Ok(())
    }
}
