//! How much the simulated kernel works: elementary steps, counted where its loops are.
//!
//! A step is one round of a loop - a watcher told, an item harvested, a word of a set looked at - or one level of a heap or
//! tree, of which a push, a pop or a look-up is charged as many as it could take. Copying bytes is not counted, and
//! neither is a table that grows: it doubles. Steps are a property of the run, the same on every machine, so that a test
//! can say what time cannot: that no call searches through all connections.

use std::cell::Cell;

/// The steps of a run so far.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// System calls made.
    pub calls: u64,
    /// Steps of the calls, and of everything that happened without one: segments, acknowledgements, timeouts, wake-ups.
    pub steps: u64,
    /// The most steps that one call took by itself, what happened in the world meanwhile left out.
    pub steps_of_a_call_max: u64,
}

impl Work {
    /// Thousandths of a step per call: a whole number, as everything that a test compares.
    pub fn millisteps_per_call(&self) -> u64 {
        self.steps * 1_000 / self.calls.max(1)
    }
}

/// Counts. Shared with functions that otherwise only look.
#[derive(Debug, Default)]
pub(crate) struct WorkCount {
    steps: Cell<u64>,
    steps_of_a_call_max: Cell<u64>,
}

impl WorkCount {
    /// So many rounds of a loop.
    #[inline]
    pub(crate) fn add(&self, steps: usize) {
        self.steps.set(self.steps.get() + steps as u64);
    }

    /// A push to, a pop from or a look-up in a heap or tree of so many entries.
    #[inline]
    pub(crate) fn descend(&self, entries: usize) {
        self.steps.set(self.steps.get() + u64::from(usize::BITS - entries.leading_zeros()));
    }

    #[inline]
    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// A call is over that began at this count.
    #[inline]
    pub(crate) fn end_call(&self, before: u64) {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        let of_this_call = steps - before;
        if of_this_call > self.steps_of_a_call_max.get() {
            self.steps_of_a_call_max.set(of_this_call);
        }
    }

    pub(crate) fn total(&self, calls: u64) -> Work {
        Work { calls, steps: self.steps.get(), steps_of_a_call_max: self.steps_of_a_call_max.get() }
    }
}
