//! Signals at the threads of loops, so that their waits end with EINTR.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::Signal;

/// The threads that run loops now.
#[derive(Default, Debug)]
pub(crate) struct LoopThreads {
    threads: Mutex<Vec<Pthread>>,
}

/// A thread is in the list as long as it holds this.
#[derive(Debug)]
pub(crate) struct Present {
    threads: Arc<LoopThreads>,
    thread: Pthread,
}

impl LoopThreads {
    fn lock(&self) -> MutexGuard<'_, Vec<Pthread>> {
        self.threads.lock().expect("nobody panics while it holds a list")
    }

    /// The calling thread runs a loop from now on.
    pub(crate) fn enter(self: &Arc<LoopThreads>) -> Present {
        let thread = pthread_self();
        self.lock().push(thread);
        Present { threads: Arc::clone(self), thread }
    }

    /// Sends each of them a signal that does nothing else. How many got one.
    pub(crate) fn interrupt(&self) -> u64 {
        if !has_handler() {
            return 0;
        }
        // Whoever is in the list lives: it cannot leave while the list is held.
        let threads = self.lock();
        threads.iter().filter(|&&thread| pthread_kill(thread, Signal::SIGUSR2).is_ok()).count() as u64
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut threads = self.threads.lock();
        if let Some(at) = threads.iter().position(|&thread| thread == self.thread) {
            threads.swap_remove(at);
        }
    }
}

/// Without a handler the signal would end the process.
fn has_handler() -> bool {
    static HANDLER: OnceLock<bool> = OnceLock::new();
    *HANDLER.get_or_init(|| {
        let unread = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGUSR2, unread).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{Timespec, poll};
    use std::sync::mpsc;

    #[test]
    fn a_wait_of_a_loop_thread_is_interrupted_and_who_has_left_gets_nothing() {
        let threads = Arc::new(LoopThreads::default());
        assert!(has_handler());
        let (ready, is_ready) = mpsc::channel();
        let waiting = Arc::clone(&threads);
        let thread = crate::member::spawn("waits", move || {
            let _present = waiting.enter();
            ready.send(()).unwrap();
            let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
            poll(&mut [], Some(&timeout))
        })
        .unwrap();
        is_ready.recv().unwrap();
        while !thread.is_finished() {
            // The first ones may come before the wait has begun.
            threads.interrupt();
            std::thread::yield_now();
        }
        assert_eq!(thread.join().unwrap(), Err(rustix::io::Errno::INTR));
        assert_eq!(threads.interrupt(), 0);
    }
}
