//! Says which threads are inside a simulated run, so that a real clock or real randomness read there can be refused.
//!
//! With the feature `guard` this library defines `clock_gettime` and `getrandom` for the whole program: inside a run they
//! name themselves, print where they were called from, and abort; elsewhere they make the real system call. The binary
//! `sim` is built with it. Nothing else of a process is touched, and on systems other than Linux there is no guard.

use std::cell::Cell;

#[cfg(all(feature = "guard", target_os = "linux"))]
mod symbols;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static RUN: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Says which seed the next runs of this thread are made from, so that a refusal can name it.
pub fn name_run(seed: u64) {
    RUN.set(Some(seed));
}

/// The seed that was named last on this thread.
pub fn named_run() -> Option<u64> {
    RUN.try_with(Cell::get).ok().flatten()
}

/// Whether this thread is inside a simulated run.
pub fn is_inside() -> bool {
    INSIDE.try_with(Cell::get).unwrap_or(false)
}

/// A stay inside a run; it ends when this is dropped, also by a panic.
#[derive(Debug)]
pub struct Inside {
    before: bool,
}

impl Inside {
    /// Enters.
    pub fn enter() -> Inside {
        Inside { before: INSIDE.replace(true) }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.before);
    }
}
