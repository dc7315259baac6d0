//! Signals: SIGPIPE is counted, SIGUSR2 interrupts a wait, SIGALRM a blocking call, SIGUSR1 is ignored.

#![allow(unsafe_code, reason = "system calls")]

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::c_int;

use super::{Answer, check};

/// What interrupts a wait.
pub(super) const INTERRUPT: c_int = libc::SIGUSR2;

/// What interrupts a blocking call.
pub(super) const ALARM: c_int = libc::SIGALRM;

/// What the process ignores.
const IGNORED: c_int = libc::SIGUSR1;

/// SIGPIPEs since the number was last taken.
static PIPE_SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: c_int) {
    PIPE_SIGNALS.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn nothing(_: c_int) {}

/// The handlers of a script. Dropping it puts back what was there.
#[derive(Debug)]
pub(super) struct Handlers {
    _before: [Replaced; 4],
}

impl Handlers {
    pub(super) fn install() -> Answer<Handlers> {
        let counting = count as *const () as libc::sighandler_t;
        let empty = nothing as *const () as libc::sighandler_t;
        PIPE_SIGNALS.store(0, Ordering::Relaxed);
        Ok(Handlers {
            _before: [
                // Programs in Rust ignore SIGPIPE, which would hide one.
                Replaced::replace(libc::SIGPIPE, counting, libc::SA_RESTART)?,
                // With SA_RESTART: epoll_wait answers EINTR all the same (E44).
                Replaced::replace(INTERRUPT, empty, libc::SA_RESTART)?,
                // Without it: calls that block in a socket would begin again.
                Replaced::replace(ALARM, empty, 0)?,
                Replaced::replace(IGNORED, libc::SIG_IGN, libc::SA_RESTART)?,
            ],
        })
    }

    pub(super) fn pipe_signals(&self) -> u64 {
        PIPE_SIGNALS.swap(0, Ordering::Relaxed)
    }
}

/// A handler that was replaced.
struct Replaced {
    signal: c_int,
    before: libc::sigaction,
}

impl std::fmt::Debug for Replaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replaced").field("signal", &self.signal).finish_non_exhaustive()
    }
}

impl Replaced {
    fn replace(signal: c_int, handler: libc::sighandler_t, flags: c_int) -> Answer<Replaced> {
        // SAFETY: all zeros is a valid sigaction: the default handler, no flags, an empty mask.
        let (mut action, mut before): (libc::sigaction, libc::sigaction) = unsafe { mem::zeroed() };
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        // SAFETY: both are live; the handler is SIG_IGN or a function of this module that at most adds to an atomic
        // number, which is allowed in a handler.
        check(unsafe { libc::sigaction(signal, &raw const action, &raw mut before) })?;
        Ok(Replaced { signal, before })
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        // SAFETY: this puts back what the kernel gave.
        unsafe { libc::sigaction(self.signal, &raw const self.before, ptr::null_mut()) };
    }
}

pub(super) fn raise_ignored() -> Answer<()> {
    // SAFETY: the signal is ignored by this process, which is the only one that gets it.
    check(unsafe { libc::kill(libc::getpid(), IGNORED) })
}

/// Sends [`INTERRUPT`] to a thread of this process.
pub(super) fn interrupt(thread: c_int) -> Answer<()> {
    tgkill(thread, INTERRUPT)
}

/// Whether [`interrupt`] is permitted; sends nothing.
pub(super) fn may_signal(thread: c_int) -> Answer<()> {
    tgkill(thread, 0)
}

/// The number of the calling thread.
pub(super) fn own_thread() -> c_int {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

fn tgkill(thread: c_int, signal: c_int) -> Answer<()> {
    // SAFETY: takes numbers only. Even if the number now belongs to another thread of this process: the handler of the one
    // signal that is sent does nothing.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
    check(if answer < 0 { -1 } else { 0 })
}
