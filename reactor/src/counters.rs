//! What the loop counts about itself.

/// Counters of a [`crate::Reactor`] since it was made. All of them only grow.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Turns that ran to their end.
    pub turns: u64,
    /// Turns in which a wait returned and nothing at all was done: no event of a live source, no timer, no message, no
    /// byte. A loop that spins shows here.
    pub turns_empty: u64,
    /// Waits ended by `EINTR`.
    pub waits_interrupted: u64,
    /// Events taken from the kernel.
    pub events: u64,
    /// Events whose token was dead: the connection had been closed when they arrived (kernel-semantics E37).
    pub events_stale: u64,
    /// Connections opened by a listener.
    pub accepted: u64,
    /// Connections opened by connecting.
    pub connected: u64,
    /// Connect attempts that failed.
    pub connects_failed: u64,
    /// Connections closed, for whatever reason.
    pub closed: u64,
    /// Connections that were dropped at accept because the system, or `Config::connections_max`, had no room.
    pub shed: u64,
    /// Times a listener rested for want of descriptors or memory.
    pub accept_pauses: u64,
    /// Accept errors that belong to one connection only (kernel-semantics T44).
    pub accept_errors: u64,
    /// Registrations that the kernel refused.
    pub registrations_failed: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Calls that read, also those that found nothing.
    pub reads: u64,
    /// Calls that wrote, also those that found no room.
    pub writes: u64,
    /// Reads that answered `EAGAIN`.
    pub reads_empty: u64,
    /// Writes that answered `EAGAIN`.
    pub writes_full: u64,
    /// Times the read budget ended before the socket was empty.
    pub read_budget_ends: u64,
    /// Times the write budget ended before the queue was empty.
    pub write_budget_ends: u64,
    /// Timers fired.
    pub timers_fired: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Errors outside the list of `Errno`.
    pub errors_unlisted: u64,
}

macro_rules! named {
    ($($name:ident)*) => {
        impl Counters {
            /// Every counter with its name, in the order of the fields.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                // Taken apart, so that a field that is missing here does not compile.
                let Counters { $($name),* } = *self;
                [$((stringify!($name), $name)),*].into_iter()
            }
        }

        impl std::ops::AddAssign for Counters {
            fn add_assign(&mut self, other: Counters) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

named! {
    turns turns_empty waits_interrupted events events_stale accepted connected connects_failed closed shed
    accept_pauses accept_errors registrations_failed bytes_read bytes_written reads writes reads_empty
    writes_full read_budget_ends write_budget_ends timers_fired messages errors_unlisted
}
