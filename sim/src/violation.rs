//! What the kernel itself can tell about a loop that is wrong.

use std::fmt;

use reactor::time::Instant;

use crate::schedule::ThreadId;

/// An invariant that was broken. The first one of a run is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its name: `closed-descriptor`, `illegal-call`, `empty-wakeups`, or one of a workload's.
    pub invariant: &'static str,
    /// When.
    pub at: Instant,
    /// How many calls the run had made.
    pub step: u64,
    /// Who.
    pub thread: ThreadId,
    /// What exactly.
    pub details: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { invariant, at, step, thread, details } = self;
        write!(f, "{invariant}: {details} (thread {}, step {step}, {at:?})", thread.0)
    }
}

/// Why a stream may have ended early: what the network, or the other side's application, did to it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Excuse {
    /// A fault reset the connection, or failed it on one side.
    Injected,
    /// A fault failed the connection attempt.
    ConnectFailed,
    /// Nobody listened at the address, or the listener's queue stayed full.
    Refused,
    /// The connection was reset in the accept queue, or lost at accept, by a fault.
    AbortedAtAccept,
    /// The listener closed with the connection still in its queue (T42).
    ListenerClosed,
    /// One side closed with unread data, which resets (T73).
    ClosedWithUnreadData,
    /// One side had closed fully when data of the other arrived (T62).
    DataAfterClose,
    /// One side closed with linger zero (T75).
    ResetOnClose,
    /// The process at one side was killed.
    ProcessKilled,
    /// The host of one side lost power.
    HostCrashed,
    /// A partition or a black hole kept the sides apart for longer than the kernel goes on sending.
    KeptApart,
}
