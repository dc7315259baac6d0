//! The list of invariants that a run is judged by.

use std::fmt;

macro_rules! oracles {
    ($($variant:ident $name:literal $describe:literal,)*) => {
        /// What watches a run. A failing run names the oracle that saw it.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Oracle { $(#[doc = $describe] $variant,)* }

        impl Oracle {
            /// Every oracle.
            pub const ALL: &'static [Oracle] = &[$(Oracle::$variant),*];

            /// The name that failing runs print.
            pub const fn name(self) -> &'static str {
                match self { $(Oracle::$variant => $name,)* }
            }

            /// One line about it.
            pub const fn describe(self) -> &'static str {
                match self { $(Oracle::$variant => $describe,)* }
            }
        }
    };
}

oracles! {
    ByteStream "byte-stream" "bytes arrive equal and in order; who ends in order gets everything and a clean end",
    Conservation "conservation" "every connect, connection and request ends exactly once",
    DeadGeneration "dead-generation" "no call for a connection that is not open",
    Watermark "watermark" "pressure events alternate and match the bytes queued",
    DescriptorLedger "descriptor-ledger" "every descriptor of a stopped loop is closed",
    ClosedDescriptor "closed-descriptor" "no call on a descriptor that is closed",
    IllegalCall "illegal-call" "no call that would block or makes no sense",
    EmptyWakeups "empty-wakeups" "the loop does not spin",
    BoundedQueue "bounded-queue" "queues, kept bytes and mailboxes stay below their limits; nobody ready is forgotten",
    Starvation "starvation" "no connection takes more of a turn than its budget, so that the others get theirs",
    BoundedClose "bounded-close" "a connection that was closed with nothing left to send is gone after the linger time",
    MessageOrder "message-order" "each message of another thread arrives once, in the order of its producer",
    LostWakeup "lost-wakeup" "the loop does not sleep while a message that was notified waits",
    TimerContract "timer-contract" "timers fire once, never early, in order, never after cancel, and in time",
    TimerConservation "timer-conservation" "timers armed are fired, cancelled or pending",
    Liveness "liveness" "once the trouble is over, everything owed completes in bounded time",
    ListenerKept "listener-kept" "a listener that nobody closed goes on listening",
    TurnError "turn-error" "no turn of a loop fails",
    OwedEvent "owed-event" "the simulated kernel pays what it owes: events, edges of freed room, ends of waits",
    Panic "panic" "nothing panics",
    Expectation "expectation" "what a conversation of a stage expects is what it is sent",
    Check "check" "what a stage's own checks say about its end",
    Determinism "determinism" "the same decisions give the same trace",
}

impl Oracle {
    /// The oracle with this name.
    pub fn from_name(name: &str) -> Option<Oracle> {
        Oracle::ALL.iter().copied().find(|oracle| oracle.name() == name)
    }

    /// What the process exits with when a run fails by it.
    pub const fn exit_code(self) -> u8 {
        match self {
            Oracle::Liveness | Oracle::LostWakeup => 3,
            Oracle::Panic => 4,
            Oracle::Determinism => 5,
            _ => 1,
        }
    }
}

impl fmt::Display for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
