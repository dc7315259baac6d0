//! What the proxy did to connections that excuses a broken stream, and who asks for it.
//!
//! A connection is known by the address of the end that connected. Addresses come again, so the time is part of it: a cut
//! excuses what was begun before it, and nothing that began later.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use reactor::sys::Fd;
use sim::audit::Witness;
use sim::recording::{Excuse, Journal};
use sim::workload::Numbered;
use sim::workload::content::Position;

use crate::machine::Stopwatch;

/// How long a connection may wait to be accepted while its other end is gone: a listener that is short of descriptors rests.
const ACCEPTED_WITHIN_NS: u64 = 10_000_000_000;

/// The connections that were cut.
#[derive(Default, Debug)]
pub(crate) struct Cuts {
    /// When the last connection from this address was cut.
    last_ns: Mutex<BTreeMap<SocketAddr, u64>>,
}

impl Cuts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, u64>> {
        self.last_ns.lock().expect("nobody panics while it holds a map")
    }

    /// The connection that was made from `from` is about to be cut.
    pub(crate) fn cut(&self, from: SocketAddr) {
        self.lock().insert(from, Stopwatch::now_ns());
    }

    /// Whether a connection from `from` that began at `begun_ns` was cut, or was known to its other end alone when it was.
    pub(crate) fn excuses_late(&self, from: SocketAddr, begun_ns: u64) -> bool {
        self.lock().get(&from).is_some_and(|&cut_ns| cut_ns.saturating_add(ACCEPTED_WITHIN_NS) >= begun_ns)
    }

    /// Whether a connection from `from` that began at `begun_ns` was cut.
    pub(crate) fn excuses(&self, from: SocketAddr, begun_ns: u64) -> bool {
        self.lock().get(&from).is_some_and(|&cut_ns| cut_ns >= begun_ns)
    }
}

/// Where the connections of one loop come from, by descriptor.
#[derive(Default, Debug)]
pub(crate) struct Origins {
    from: Mutex<BTreeMap<i32, (SocketAddr, u64)>>,
}

impl Origins {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, (SocketAddr, u64)>> {
        self.from.lock().expect("nobody panics while it holds a map")
    }

    /// A connection from `from` began at `begun_ns`.
    pub(crate) fn note(&self, fd: Fd, from: SocketAddr, begun_ns: u64) {
        self.lock().insert(fd.as_raw(), (from, begun_ns));
    }

    /// The descriptor was closed.
    pub(crate) fn forget(&self, fd: Fd) {
        self.lock().remove(&fd.as_raw());
    }

    fn of(&self, fd: Fd) -> Option<(SocketAddr, u64)> {
        self.lock().get(&fd.as_raw()).copied()
    }
}

/// Tells a loop which of its connections were cut.
#[derive(Debug)]
pub(crate) struct CutWitness {
    pub(crate) cuts: Arc<Cuts>,
    /// Connections of processes that were killed.
    pub(crate) killed: Arc<Cuts>,
    pub(crate) origins: Arc<Origins>,
    /// Where the loop is recorded, if it is.
    pub(crate) journal: Option<Journal>,
}

impl CutWitness {
    /// A recording has what was granted: whoever replays it has no proxy to ask.
    fn say(&self, is_excused: bool, fd: Fd, excuse: Excuse) -> bool {
        if let (true, Some(journal)) = (is_excused, &self.journal) {
            journal.excuse(fd, excuse);
        }
        is_excused
    }
}

impl Witness for CutWitness {
    fn excuses(&self, fd: Fd) -> bool {
        let was_cut = self.origins.of(fd).is_some_and(|(from, begun_ns)| self.cuts.excuses(from, begun_ns));
        self.say(was_cut, fd, Excuse::Cut)
    }

    fn ends_short(&self, fd: Fd) -> bool {
        let killed =
            self.origins.of(fd).is_some_and(|(from, begun_ns)| self.killed.excuses_late(from, begun_ns));
        self.say(killed, fd, Excuse::EndsShort)
    }

    fn unread_bytes(&self, _: Fd) -> u64 {
        0
    }

    fn message(&self, message: Numbered) {
        if let Some(journal) = &self.journal {
            journal.message(message);
        }
    }

    fn data(&self, offered: &[u8], taken: usize, next: Option<Position>) {
        if let Some(journal) = &self.journal {
            journal.data(offered, taken, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_excuses_what_began_before_it_and_nothing_that_has_the_same_address_later() {
        let (cuts, origins) = (Arc::new(Cuts::default()), Arc::new(Origins::default()));
        let from: SocketAddr = ([127, 0, 0, 1], 4000).into();
        let (first, second) = (Fd::from_raw(5), Fd::from_raw(6));
        origins.note(first, from, Stopwatch::now_ns());
        let (cut, killed) = (Arc::clone(&cuts), Arc::default());
        let witness = CutWitness { cuts: cut, killed, origins: Arc::clone(&origins), journal: None };
        assert!(!witness.excuses(first), "nothing was cut");
        cuts.cut(from);
        assert!(witness.excuses(first));
        // The port is used again while the first loop has not seen its reset.
        origins.note(second, from, Stopwatch::now_ns() + 1);
        assert!(!witness.excuses(second));
        assert!(witness.excuses(first));
        assert!(!witness.ends_short(first), "who is cut is reset, and its stream does not end in order");
        witness.killed.cut(from);
        assert!(witness.ends_short(first));
        origins.forget(first);
        assert!(!witness.excuses(first), "the descriptor is somebody else's by now");
    }
}
