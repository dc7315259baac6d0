//! The planted bugs: historical mistakes, each kept as a patch in `tests/planted/`, and who must notice it.

/// One planted bug.
#[derive(Copy, Clone, Debug)]
pub struct Bug {
    /// Its number in the bug catalogue; the patch has the same name.
    pub id: &'static str,
    /// What the patch breaks.
    pub breaks: &'static str,
    /// The workload whose sweep has to find it.
    pub workload: &'static str,
    /// The oracles that may name it first. More than one where the order of checks within a turn decides.
    pub invariants: &'static [&'static str],
}

/// Every planted bug, in the catalogue's order.
pub const BUGS: &[Bug] = &[
    Bug {
        id: "B02",
        breaks: "events find their connection by descriptor slot, which is released at once",
        workload: "echo",
        invariants: &["dead-generation", "byte-stream", "closed-descriptor", "bounded-queue"],
    },
    Bug {
        id: "B03",
        breaks: "the rest of a partial write is never flushed when there is room again",
        workload: "echo",
        invariants: &["liveness", "bounded-queue"],
    },
    Bug {
        id: "B05",
        breaks: "the notified flag is cleared before the wake descriptor is drained",
        workload: "wake",
        invariants: &["lost-wakeup"],
    },
    Bug {
        id: "B06",
        breaks: "a read budget that ends early leaves the connection on no queue",
        workload: "echo",
        invariants: &["liveness", "bounded-queue"],
    },
    Bug {
        id: "B13",
        breaks: "closing drops the bytes that are still queued",
        workload: "echo",
        invariants: &["byte-stream"],
    },
    Bug {
        id: "B14",
        breaks: "a connection closed in its own callback is served on, after its release",
        workload: "echo",
        invariants: &["dead-generation"],
    },
    Bug {
        id: "B16",
        breaks: "cancelling a timer makes the wheel forget the others of its slot",
        workload: "timers",
        invariants: &["timer-contract", "bounded-queue"],
    },
    Bug {
        id: "B22",
        breaks: "a listener goes on accepting when descriptors have run out",
        workload: "echo",
        invariants: &["empty-wakeups"],
    },
    Bug {
        id: "B23",
        breaks: "a connection that is aborted before it is accepted ends the listener",
        workload: "echo",
        invariants: &["listener-kept"],
    },
    Bug {
        id: "B26",
        breaks: "the peer's end is believed before the unread bytes are read",
        workload: "echo",
        invariants: &["byte-stream"],
    },
    Bug {
        id: "B30",
        breaks: "the wait's timeout is rounded down",
        workload: "timers",
        invariants: &["empty-wakeups"],
    },
    Bug {
        id: "B40",
        breaks: "an interrupted wait starts again with its full timeout",
        workload: "timers",
        invariants: &["timer-contract"],
    },
    Bug {
        id: "B57",
        breaks: "a timer that is due exactly now is not due",
        workload: "timers",
        invariants: &["empty-wakeups", "timer-contract"],
    },
];
