//! The planted bugs: historical mistakes, each kept as a patch in `tests/planted/`, and who must notice it.

pub mod copy;
pub mod soak;

/// One planted bug.
#[derive(Copy, Clone, Debug)]
pub struct Bug {
    /// Its number in the bug catalogue, or an X and a number for one that is not there, or
    /// a D for one that decides without a seed; the patch has the same name.
    pub id: &'static str,
    /// What the patch breaks.
    pub breaks: &'static str,
    /// Where a run must come to show it: a place as `sim keep` has it; nothing for one that decides without a seed.
    pub reaches: &'static str,
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
        reaches: "fault stale-batches",
        workload: "echo",
        invariants: &["dead-generation", "byte-stream", "closed-descriptor", "bounded-queue"],
    },
    Bug {
        id: "B03",
        breaks: "the rest of a partial write is never flushed when there is room again",
        reaches: "fault small-buffers",
        workload: "echo",
        invariants: &["liveness", "bounded-queue"],
    },
    Bug {
        id: "B05",
        breaks: "the notified flag is cleared before the wake descriptor is drained",
        reaches: "counter messages",
        workload: "wake",
        invariants: &["lost-wakeup"],
    },
    Bug {
        id: "B06",
        breaks: "a read budget that ends early leaves the connection on no queue",
        reaches: "counter read_budget_ends",
        workload: "echo",
        invariants: &["liveness", "bounded-queue"],
    },
    Bug {
        id: "B13",
        breaks: "closing drops the bytes that are still queued",
        reaches: "call shutdown 0",
        workload: "echo",
        invariants: &["byte-stream"],
    },
    Bug {
        id: "B14",
        breaks: "a connection closed in its own callback is served on, after its release",
        reaches: "counter closed",
        workload: "echo",
        invariants: &["dead-generation"],
    },
    Bug {
        id: "B16",
        breaks: "cancelling a timer makes the wheel forget the others of its slot",
        reaches: "counter timers_fired",
        workload: "timers",
        invariants: &["timer-contract", "bounded-queue"],
    },
    Bug {
        id: "B22",
        breaks: "a listener goes on accepting when descriptors have run out",
        reaches: "call accept4 EMFILE",
        workload: "echo",
        invariants: &["empty-wakeups"],
    },
    Bug {
        id: "B23",
        breaks: "a connection that is aborted before it is accepted ends the listener",
        reaches: "counter accept_errors",
        workload: "echo",
        invariants: &["listener-kept"],
    },
    Bug {
        id: "B26",
        breaks: "the peer's end is believed before the unread bytes are read",
        reaches: "call recv 0",
        workload: "echo",
        invariants: &["byte-stream"],
    },
    Bug {
        id: "B27",
        breaks: "a failed write drops what had been received before the reset",
        reaches: "call send EPIPE",
        workload: "echo",
        invariants: &["byte-stream"],
    },
    Bug {
        id: "B30",
        breaks: "the wait's timeout is rounded down",
        reaches: "counter timers_fired",
        workload: "timers",
        invariants: &["empty-wakeups"],
    },
    Bug {
        id: "B34",
        breaks: "interest changes of a closed descriptor are still sent to the kernel",
        reaches: "decision all end together",
        workload: "echo",
        invariants: &["closed-descriptor", "dead-generation"],
    },
    Bug {
        id: "B38",
        breaks: "one busy connection is read for as long as it has bytes",
        reaches: "counter read_budget_ends",
        workload: "echo",
        invariants: &["starvation"],
    },
    Bug {
        id: "B40",
        breaks: "an interrupted wait starts again with its full timeout",
        reaches: "counter waits_interrupted",
        workload: "timers",
        invariants: &["timer-contract"],
    },
    Bug {
        id: "B44",
        breaks: "close is tried again when it was interrupted",
        reaches: "call close EINTR",
        workload: "echo",
        invariants: &["closed-descriptor", "byte-stream"],
    },
    Bug {
        id: "B45",
        breaks: "an interrupted read ends the connection",
        reaches: "fault interrupted-calls",
        workload: "echo",
        invariants: &["byte-stream", "conservation", "liveness"],
    },
    Bug {
        id: "B57",
        breaks: "a timer that is due exactly now is not due",
        reaches: "counter timers_fired",
        workload: "timers",
        invariants: &["empty-wakeups", "timer-contract"],
    },
    Bug {
        id: "B73",
        breaks: "a connection that finds the registry full keeps its descriptor",
        reaches: "counter shed",
        workload: "echo",
        invariants: &["descriptor-ledger"],
    },
    Bug {
        id: "B79",
        breaks: "the limit of a drain counts from its begin and not from the last progress",
        reaches: "fault small-buffers",
        workload: "echo",
        invariants: &["bounded-close"],
    },
    Bug {
        id: "X01",
        breaks: "a closed connection waits for its peer without end",
        reaches: "call shutdown 0",
        workload: "echo",
        invariants: &["bounded-close", "liveness"],
    },
    Bug {
        id: "X02",
        breaks: "a connect that fails inside the call keeps its descriptor",
        reaches: "fault refused-at-once",
        workload: "echo",
        invariants: &["descriptor-ledger"],
    },
    Bug {
        id: "D01",
        breaks: "the run queue is served in the order of a hash set",
        reaches: "",
        workload: "echo",
        invariants: &["guard"],
    },
    Bug {
        id: "D02",
        breaks: "a real clock decides who is served first",
        reaches: "",
        workload: "echo",
        invariants: &["guard"],
    },
    Bug {
        id: "D03",
        breaks: "a counter that outlives the run decides who is served first",
        reaches: "",
        workload: "echo",
        invariants: &["determinism"],
    },
];

impl Bug {
    /// Whether it makes runs that no seed decides. Such a run is made twice, or the guard ends it.
    pub fn is_undeclared(&self) -> bool {
        self.id.starts_with('D')
    }
}
