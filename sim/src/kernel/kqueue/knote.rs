//! A knote: what one kqueue keeps about one identity.

use reactor::sys::{Errno, KeventFlags};

use super::place_of;
use super::timer::Timer;
use crate::kernel::watch::{Key, Watch};
use crate::kernel::{Kernel, NONE, Object};
use crate::script::probe::{WideFilter, WideNotes};
use crate::world::World;

/// What a filter found when it was last looked at: what FreeBSD hands out for a one-shot knote (K7).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Found {
    /// Bytes, room, connections, expirations or signals.
    pub(super) data: i64,
    /// EV_EOF. It stays: EV_CLEAR does not clear it (K28).
    pub(super) eof: bool,
    /// The error that came with the end, as long as nobody has taken it (K27).
    pub(super) error: Option<Errno>,
}

#[derive(Debug)]
pub(super) struct Knote {
    pub(super) ident: u64,
    pub(super) filter: WideFilter,
    /// What it watches; [`Object::Standard`] if its identity is no descriptor.
    pub(super) object: Object,
    /// The flags of the first add, which no later change alters (K2), as they are reported (K13).
    pub(super) flags: KeventFlags,
    pub(super) udata: u64,
    pub(super) enabled: bool,
    /// USER: triggered, and not yet reset.
    pub(super) triggered: bool,
    /// The filter flags last asked for.
    pub(super) notes: WideNotes,
    /// The data last asked for: a low-water mark, a period, the user's number.
    pub(super) parameter: i64,
    pub(super) found: Found,
    /// TIMER.
    pub(super) timer: Option<Box<Timer>>,
}

/// The flags that stay with a knote from its first add on.
const fn kept_flags(kernel: Kernel) -> KeventFlags {
    let mode = KeventFlags::CLEAR
        .union(KeventFlags::ONESHOT)
        .union(KeventFlags::DISPATCH)
        .union(KeventFlags::RECEIPT);
    match kernel {
        // It hides the flags that only say what a change does; macOS keeps them (K13).
        Kernel::Linux | Kernel::Freebsd => mode,
        Kernel::Macos => mode.union(KeventFlags::ADD).union(KeventFlags::ENABLE),
    }
}

impl World {
    /// Puts a new knote into everything it is to be in; nothing is looked at yet.
    pub(super) fn knote_insert(&mut self, kqueue: u32, mut knote: Knote) -> u32 {
        let set = &mut self.kqueues[kqueue];
        knote.flags &= kept_flags(set.kernel);
        let (ident, filter, object) = (knote.ident, knote.filter, knote.object);
        let item = set.knotes.insert(knote);
        let Some(place) = place_of(filter) else {
            set.by_name.push(item);
            return item;
        };
        let number = usize::try_from(ident).expect("an open descriptor");
        if set.by_fd.len() <= number {
            set.by_fd.resize(number + 1, [NONE; 2]);
        }
        set.by_fd[number][place] = item;
        if let Some(watchers) = self.watchers(object) {
            watchers.add(Watch { set: Object::Kqueue(kqueue), item, exclusive: false });
        }
        item
    }

    /// Takes a knote out of everything it is in.
    pub(crate) fn knote_remove(&mut self, kqueue: u32, item: u32) {
        self.close_account(Object::Kqueue(kqueue), item);
        self.set_enabled(kqueue, item, false);
        let set = &mut self.kqueues[kqueue];
        set.active.remove(item);
        let Knote { ident, filter, object, .. } = set.knotes.remove(item);
        let Some(place) = place_of(filter) else {
            set.by_name.retain(|&other| other != item);
            return;
        };
        if let Some(knotes) = usize::try_from(ident).ok().and_then(|number| set.by_fd.get_mut(number)) {
            knotes[place] = NONE;
        }
        self.unwatch(object, Object::Kqueue(kqueue), item);
    }

    /// Allows delivery or holds it back. Keeps count of armed write knotes: they hear of every acknowledgement (K10).
    pub(super) fn set_enabled(&mut self, kqueue: u32, item: u32, enabled: bool) {
        let knote = &mut self.kqueues[kqueue].knotes[item];
        let changed = knote.enabled != enabled;
        knote.enabled = enabled;
        let (filter, object) = (knote.filter, knote.object);
        let Object::Socket(socket) = object else { return };
        if filter != WideFilter::Write || !changed {
            return;
        }
        if let Some(socket) = self.sockets.get_mut(socket) {
            if enabled {
                socket.write_knotes += 1;
            } else {
                socket.write_knotes -= 1;
            }
        }
        if enabled {
            self.expect_ack(socket);
        }
    }

    /// Queues the knote if it is enabled and its filter is true.
    pub(super) fn activate(&mut self, kqueue: u32, item: u32) {
        if !self.kqueues[kqueue].knotes[item].enabled || !self.look(kqueue, item) {
            return;
        }
        if self.kqueues[kqueue].active.push(item) {
            self.wake_one_sleeper(Object::Kqueue(kqueue));
            self.wake(Object::Kqueue(kqueue), Key::In);
        }
    }

    /// What a wake-up of a watched object does: each direction has its own list of knotes.
    pub(crate) fn knote_callback(&mut self, kqueue: u32, item: u32, key: Key) {
        let filter = self.kqueues[kqueue].knotes[item].filter;
        let concerns = match key {
            Key::Any | Key::Error => true,
            Key::In => filter == WideFilter::Read,
            Key::Out => filter == WideFilter::Write,
        };
        if concerns {
            self.activate(kqueue, item);
        }
    }

    /// `NOTE_TRIGGER` from a wake handle; a knote that is not there is not triggered. The word is replaced, as by any
    /// change.
    pub(crate) fn trigger(&mut self, kqueue: u32, ident: u64, udata: u64) {
        if let Some(item) = self.kqueues[kqueue].find(ident, WideFilter::User) {
            let knote = &mut self.kqueues[kqueue].knotes[item];
            knote.triggered = true;
            knote.udata = udata;
            self.activate(kqueue, item);
        }
    }
}
