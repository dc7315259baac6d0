//! A wait on another thread of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::{Builder, JoinHandle};

use reactor::sys::Errno;

use super::descriptor::DescriptorLimit;
use super::{Answer, signal, timer};
use crate::script::probe::WideKevent;

/// How often a thread's state is looked at, and for how long.
const LOOK_NS: u64 = 50_000;
const LOOKS_MAX: u32 = 100_000;

/// What a wait brings back.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// Pairs of bits and data.
    Epoll(Vec<(u32, u64)>),
    /// Kevents, where the machine has them.
    #[cfg_attr(not(feature = "libkqueue"), expect(dead_code, reason = "no kqueue without the library"))]
    Kqueue(Vec<WideKevent>),
}

/// What the thread says of itself.
#[derive(Debug, Default)]
struct Progress {
    /// Its number, once it is about to wait; zero before.
    thread: AtomicI32,
    /// The call has returned.
    returned: AtomicBool,
}

/// A thread that sleeps in a call.
#[derive(Debug)]
pub(super) struct Sleeper {
    progress: Arc<Progress>,
    handle: JoinHandle<Answer<Told>>,
}

impl Sleeper {
    /// Starts the thread, and returns when its call sleeps or is over.
    pub(super) fn start(
        number: usize,
        limit: &DescriptorLimit,
        call: impl FnOnce() -> Answer<Told> + Send + 'static,
    ) -> Answer<Sleeper> {
        let progress = Arc::new(Progress::default());
        let own = Arc::clone(&progress);
        let work = move || {
            own.thread.store(signal::own_thread(), Ordering::Release);
            let answer = call();
            own.returned.store(true, Ordering::Release);
            answer
        };
        let handle =
            Builder::new().name(format!("sleeper-{number}")).spawn(work).map_err(|_| Errno::EAGAIN)?;
        let sleeper = Sleeper { progress, handle };
        sleeper.settle(limit);
        Ok(sleeper)
    }

    /// Waits until the thread sleeps or its call is over; whether it is over.
    ///
    /// A thread that a call has just woken is no longer asleep when that call returns, so this does not take it for one
    /// that goes on sleeping.
    fn settle(&self, limit: &DescriptorLimit) -> bool {
        for _ in 0..LOOKS_MAX {
            // First the state: between the return of the call and the word of it the thread never sleeps.
            let asleep = limit.lifted(|| self.is_asleep());
            if self.progress.returned.load(Ordering::Acquire) {
                return true;
            }
            if asleep {
                return false;
            }
            timer::sleep(LOOK_NS);
        }
        false
    }

    /// Whether the kernel has put the thread to sleep, by the third field of its `stat`, which comes after the name in
    /// parentheses.
    fn is_asleep(&self) -> bool {
        let thread = self.progress.thread.load(Ordering::Acquire);
        if thread == 0 {
            return false;
        }
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
        stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S')))
    }

    pub(super) fn is_over(&self, limit: &DescriptorLimit) -> bool {
        self.settle(limit)
    }

    /// Sends the signal, and returns when the wait has taken it.
    pub(super) fn interrupt(&self, limit: &DescriptorLimit) -> Answer<()> {
        signal::interrupt(self.progress.thread.load(Ordering::Acquire))?;
        self.settle(limit);
        Ok(())
    }

    pub(super) fn finish(self) -> Answer<Told> {
        // The thread only makes a call and cannot panic; if it does all the same, so does the script.
        self.handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Ends the wait if it still lasts. A signal that comes before the call sleeps has no effect, so it is sent until one
    /// has.
    pub(super) fn end(self) {
        while !self.handle.is_finished() {
            let _ = signal::interrupt(self.progress.thread.load(Ordering::Acquire));
            timer::sleep(LOOK_NS);
        }
        drop(self.handle.join());
    }
}
