//! The queue of everything that is to happen without a call, in time order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use reactor::sys::Errno;

/// What happens when its time comes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum EventKind {
    /// Bytes of a stream arrive, up to this sequence number.
    Segment { stream: u32, end: u64 },
    /// An acknowledgement reaches a sender that waits for it.
    Acknowledgement { stream: u32 },
    /// The sender of a stream has heard nothing for too long, and sends again.
    Retransmission { stream: u32 },
    /// A reset arrives at the receiving end of a stream.
    Reset { stream: u32 },
    /// A SYN arrives at the listener's host.
    Syn { connection: u32, attempt: u32 },
    /// The answer to a SYN arrives at the client.
    SynAck { connection: u32 },
    /// The handshake is complete at the listener's host.
    HandshakeAck { connection: u32 },
    /// The attempt has failed at the client.
    ConnectFailed { connection: u32, error: Errno },
    /// The timeout of a sleeping wait.
    Deadline { thread: u32 },
    /// A signal interrupts the wait with this serial.
    Interrupt { thread: u32, serial: u32 },
    /// A thread that was stopped between wait and return goes on.
    StallOver { thread: u32, serial: u32 },
    /// An actor's next step.
    Actor { actor: u32, serial: u32 },
    /// A socket that took no more bytes has room again, by a decision.
    Room { socket: u32, serial: u64 },
    /// A timerfd expires, unless it was set again since.
    Timerfd { timerfd: u32, serial: u64 },
    /// A timer of a kqueue expires.
    KnoteTimer { kqueue: u32, item: u32, serial: u32 },
    /// What was set beforehand befalls a host.
    Incident { number: u32 },
    /// A barrier between hosts has had its time.
    BarrierFalls,
    /// The descriptor limit of a process rises again.
    LimitRises { process: u32 },
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    /// Nanoseconds since the start of the run.
    pub(crate) time: u64,
    /// Breaks ties: the drawn tie in the high 16 bits, the sequence number below.
    order: u64,
    pub(crate) kind: EventKind,
}

impl Ord for Event {
    /// Reversed, since the heap pops its greatest entry.
    fn cmp(&self, other: &Event) -> Ordering {
        (other.time, other.order).cmp(&(self.time, self.order))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    heap: BinaryHeap<Event>,
    sequence: u64,
}

impl EventQueue {
    /// Ties are below 2^16; equal ties keep the order of insertion.
    pub(crate) fn push(&mut self, time: u64, tie: u64, kind: EventKind) {
        self.sequence += 1;
        let order = (tie & 0xffff) << 48 | (self.sequence & ((1 << 48) - 1));
        self.heap.push(Event { time, order, kind });
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn next_time(&self) -> Option<u64> {
        self.heap.peek().map(|event| event.time)
    }

    /// Whether something other than an actor's step is next, and due by this time.
    pub(crate) fn next_is_due(&self, time: u64) -> bool {
        self.heap
            .peek()
            .is_some_and(|event| event.time <= time && !matches!(event.kind, EventKind::Actor { .. }))
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.heap.pop()
    }
}
