//! kqueue(2): knotes, change lists, delivery, in full width. Where FreeBSD 14 and macOS 15 differ, so does this: a kqueue
//! follows the rules of its host's [`Kernel`].
//!
//! A knote is *looked at* (a kernel's `f_event`) when something happens to what it watches, when it is changed, and when it
//! is collected; edge, level, one-shot and dispatch behaviour follow from that.

mod change;
mod collect;
pub(crate) mod entry;
mod filter;
mod knote;
mod timer;
mod wait;

use reactor::sys::{Errno, Fd, Filter};

use self::knote::Knote;
use super::ready_list::ReadyList;
use super::watch::{Watch, Watchers};
use super::{Kernel, NONE, Object};
use crate::obligation::KnoteView;
use crate::script::probe::{WideFilter, WideNotes};
use crate::slab::Slab;
use crate::world::World;

/// A kqueue.
#[derive(Debug)]
pub(crate) struct Kqueue {
    pub(crate) host: u32,
    kernel: Kernel,
    /// Distinguishes it from later tenants of its place.
    pub(crate) serial: u64,
    knotes: Slab<Knote>,
    /// The READ and WRITE knotes of each descriptor number, [`NONE`] where there is none.
    by_fd: Vec<[u32; 2]>,
    /// The few knotes of filters whose identity is no descriptor: USER, TIMER, SIGNAL.
    by_name: Vec<u32>,
    active: ReadyList,
    /// Knotes of other kqueues that watch this one (K14).
    pub(crate) watchers: Watchers,
    /// Threads that sleep in a wait on this kqueue.
    pub(crate) sleepers: Vec<u32>,
    /// Its last descriptor is closed, and threads sleep in it (K24).
    closed: bool,
}

impl Kqueue {
    fn find(&self, ident: u64, filter: WideFilter) -> Option<u32> {
        let Some(place) = place_of(filter) else {
            let is_it = |knote: &Knote| knote.ident == ident && knote.filter == filter;
            return self.by_name.iter().copied().find(|&item| is_it(&self.knotes[item]));
        };
        let number = usize::try_from(ident).ok()?;
        self.by_fd.get(number).map(|knotes| knotes[place]).filter(|&knote| knote != NONE)
    }

    /// The numbers of its knotes.
    pub(crate) fn items(&self) -> impl Iterator<Item = u32> + '_ {
        self.knotes.iter().map(|(item, _)| item)
    }

    /// A knote that the loop's kind of call can make, and whether the list of active ones has it; others owe nothing that is
    /// checked.
    pub(crate) fn registration(&self, item: u32) -> Option<KnoteView> {
        let Knote { filter, object, flags, enabled, triggered, notes, .. } = *self.knotes.get(item)?;
        let socket = match (filter, object) {
            (WideFilter::User, _) => NONE,
            (WideFilter::Read | WideFilter::Write, Object::Socket(socket)) => socket,
            _ => return None,
        };
        let filter = seam_filter(filter).filter(|_| !notes.contains(WideNotes::LOWAT))?;
        Some(KnoteView {
            filter,
            socket,
            mode: flags,
            enabled,
            triggered,
            listed: self.active.contains(item),
        })
    }

    /// Knotes of the filters that the seam has, for checks at the end of a run and for tests.
    pub(crate) fn interest(&self) -> impl Iterator<Item = (u64, Filter, bool, u64)> + '_ {
        self.knotes.iter().filter_map(|(_, knote)| {
            Some((knote.ident, seam_filter(knote.filter)?, knote.enabled, knote.udata))
        })
    }
}

/// The filter as the seam has it, if it does.
const fn seam_filter(filter: WideFilter) -> Option<Filter> {
    match filter {
        WideFilter::Read => Some(Filter::Read),
        WideFilter::Write => Some(Filter::Write),
        WideFilter::User => Some(Filter::User),
        WideFilter::Timer | WideFilter::Signal | WideFilter::Bad => None,
    }
}

/// The place of a descriptor's knote; `None` for filters whose identity is no descriptor.
const fn place_of(filter: WideFilter) -> Option<usize> {
    match filter {
        WideFilter::Read => Some(0),
        WideFilter::Write => Some(1),
        WideFilter::User | WideFilter::Timer | WideFilter::Signal | WideFilter::Bad => None,
    }
}

impl World {
    pub(crate) fn kqueue_create(&mut self, thread: u32) -> Result<Fd, Errno> {
        self.may_create(thread)?;
        let host = self.threads[thread as usize].host;
        let kernel = self.kernel_of(thread);
        let serial = self.next_serial();
        let kqueue = self.kqueues.insert(Kqueue {
            host,
            kernel,
            serial,
            knotes: Slab::default(),
            by_fd: Vec::new(),
            by_name: Vec::new(),
            active: ReadyList::default(),
            watchers: Watchers::default(),
            sleepers: Vec::new(),
            closed: false,
        });
        Ok(self.install(thread, Object::Kqueue(kqueue)))
    }

    /// A number is closed: its knotes go at once, even if the file lives on through another number (K37).
    pub(crate) fn knotes_of_number_removed(&mut self, thread: u32, object: Object, fd: Fd) {
        let host = self.threads[thread as usize].host;
        let number = u64::from(fd.as_raw().cast_unsigned());
        while let Some(watchers) = self.watchers(object) {
            let watches: Vec<Watch> = watchers.iter().collect();
            let found = watches.into_iter().find_map(|watch| {
                let Object::Kqueue(kqueue) = watch.set else { return None };
                let entry = &self.kqueues[kqueue];
                let matches = entry.host == host && entry.knotes[watch.item].ident == number;
                matches.then_some((kqueue, watch.item))
            });
            let Some((kqueue, item)) = found else { return };
            self.knote_remove(kqueue, item);
        }
    }

    /// Closes the kqueue and everything registered in it. A thread that sleeps in it learns of that on macOS, and sleeps on
    /// elsewhere (K24).
    pub(crate) fn kqueue_close(&mut self, kqueue: u32) {
        // The few that belong to no descriptor go first: usually they are the only ones left.
        for item in self.kqueues[kqueue].by_name.clone() {
            self.knote_remove(kqueue, item);
        }
        let items = self.kqueues[kqueue].knotes.numbers(&self.work);
        for item in items {
            self.knote_remove(kqueue, item);
        }
        let entry = &mut self.kqueues[kqueue];
        if entry.sleepers.is_empty() {
            self.kqueues.remove(kqueue);
            return;
        }
        entry.closed = true;
        if entry.kernel == Kernel::Macos {
            for thread in entry.sleepers.clone() {
                self.resume(thread);
            }
        }
    }

    /// A signal is sent to the process of this host. EVFILT_SIGNAL counts it whatever the process does with it (K47).
    pub(crate) fn signal_sent(&mut self, host: u32, signal: u64) {
        let hit: Vec<(u32, u32)> = self
            .kqueues
            .iter()
            .filter(|(_, kqueue)| kqueue.host == host)
            .filter_map(|(id, kqueue)| Some((id, kqueue.find(signal, WideFilter::Signal)?)))
            .collect();
        for (kqueue, item) in hit {
            self.kqueues[kqueue].knotes[item].found.data += 1;
            self.activate(kqueue, item);
        }
    }
}
