//! The catalogue: one entry for each kind, in the order in which the swarm draws them.
//!
//! A new kind goes to the end of the list. It then draws after all others, and leaves what they drew alone.

use super::{Fault, Strength};
use crate::decision::Domain;
use crate::kernel::Kernel;

const EVERYWHERE: &[Kernel] = &Kernel::ALL;
const LINUX: &[Kernel] = &[Kernel::Linux];
const BSD: &[Kernel] = &[Kernel::Freebsd, Kernel::Macos];

macro_rules! catalogue {
    ($($kind:ident {
        name: $name:literal,
        does: $does:literal,
        because: $because:literal,
        domain: $domain:ident,
        kernels: $kernels:expr,
        strength: $strength:ident,
    })*) => {
        /// One kind of trouble; [`FaultKind::entry`] has what is known of it.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum FaultKind { $(#[doc = $does] $kind,)* }

        impl FaultKind {
            /// Every kind, in the order in which the swarm draws them.
            pub const ALL: &'static [FaultKind] = &[$(FaultKind::$kind),*];
        }

        const CATALOGUE: [Fault; FaultKind::COUNT] = [$(Fault {
            name: $name,
            does: $does,
            because: $because,
            domain: Domain::$domain,
            kernels: $kernels,
            strength: Strength::$strength,
        },)*];
    };
}

catalogue! {
    SplitSegments {
        name: "split-segments",
        does: "A send travels as several segments, cut anywhere, that arrive apart.",
        because: "N2, T67, B28",
        domain: Network,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    LateSegments {
        name: "late-segments",
        does: "A segment takes much longer than the link's latency, and what follows it waits.",
        because: "N1, B79",
        domain: Network,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    StalledLinks {
        name: "stalled-links",
        does: "A link passes nothing for up to three seconds, in one direction or in both.",
        because: "N1, B78",
        domain: Network,
        kernels: EVERYWHERE,
        strength: RARELY,
    }
    HeavyTails {
        name: "heavy-tails",
        does: "Latency has a heavy tail: the extra doubles each time with half the chance.",
        because: "N1, B79",
        domain: Network,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    NarrowLinks {
        name: "narrow-links",
        does: "A link takes its time for each byte, for a while: from 100 Mbit/s down to 100 kbit/s.",
        because: "N1, N3, B78",
        domain: Network,
        kernels: EVERYWHERE,
        strength: RARELY,
    }
    Partitions {
        name: "partitions",
        does: "Some hosts cannot reach the others, in neither direction; who connects is told so.",
        because: "N7, T22, B54",
        domain: Network,
        kernels: EVERYWHERE,
        strength: RARELY,
    }
    OneWayPartitions {
        name: "one-way-partitions",
        does: "Nothing passes from one host to another, while the other direction works.",
        because: "N1, N7, B54",
        domain: Network,
        kernels: EVERYWHERE,
        strength: RARELY,
    }
    BlackHoles {
        name: "black-holes",
        does: "Nothing reaches a host or comes from it, and nobody is told; what is sent too long in vain times out.",
        because: "N7, T22, B42",
        domain: Network,
        kernels: EVERYWHERE,
        strength: RARELY,
    }
    DelayedAcks {
        name: "delayed-acks",
        does: "An acknowledgement waits for 40 ms, as delayed ACKs do.",
        because: "T58, T66, N3",
        domain: Network,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    ResetOvertakes {
        name: "reset-overtakes",
        does: "A reset overtakes data that is still under way, which is lost.",
        because: "N1, T78, B27",
        domain: Network,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    ScheduleTies {
        name: "schedule-ties",
        does: "Events of the same time are applied in any order; on one connection the order holds.",
        because: "N1, N5",
        domain: Schedule,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    SmallBuffers {
        name: "small-buffers",
        does: "Socket buffers are near the kernel's minimum, and below it in tiny weather.",
        because: "T54, N3, B03",
        domain: Buffers,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    ChangingBuffers {
        name: "changing-buffers",
        does: "A send buffer grows or shrinks while it is in use, as autotuning and memory pressure make it.",
        because: "T55, N3, B18",
        domain: Buffers,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    ShortBatches {
        name: "short-batches",
        does: "A wait returns fewer events than are ready; the rest stays at the head of the list.",
        because: "N5, M4, B38",
        domain: Batches,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    ReorderedBatches {
        name: "reordered-batches",
        does: "The events of a batch come in any order.",
        because: "N5, B14",
        domain: Batches,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    InterruptedWaits {
        name: "interrupted-waits",
        does: "A sleeping wait is interrupted by a signal.",
        because: "E44, E45, N6, B40",
        domain: WaitFaults,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    LateWaits {
        name: "late-waits",
        does: "A wait ends later than asked for, by the kernel's slack or beyond it.",
        because: "C4, N6, B30",
        domain: WaitFaults,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    StaleBatches {
        name: "stale-batches",
        does: "The thread is stopped between the wait and its return, so that the batch is stale when it arrives.",
        because: "E37, N6, B02",
        domain: Stalls,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    InjectedResets {
        name: "injected-resets",
        does: "An established connection is reset from outside.",
        because: "N7, T49, B27",
        domain: Resets,
        kernels: EVERYWHERE,
        strength: RARELY,
    }
    FailedConnections {
        name: "failed-connections",
        does: "An established connection fails on one side: timed out, no route to the host or to its network.",
        because: "N7, T51, B54",
        domain: Resets,
        kernels: EVERYWHERE,
        strength: RARELY,
    }
    LostSyns {
        name: "lost-syns",
        does: "A SYN is lost, and sent again on the schedule of whole seconds.",
        because: "T22, T32",
        domain: ConnectFaults,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    FailedConnects {
        name: "failed-connects",
        does: "A connection attempt fails after a while: refused, timed out, no route.",
        because: "T18, T22, N7, B42",
        domain: ConnectFaults,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    AcceptErrors {
        name: "accept-errors",
        does: "accept reports an error of the connection that it took from the queue.",
        because: "T44, N7, B23",
        domain: AcceptFaults,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    AcceptAborts {
        name: "accept-aborts",
        does: "A connection is reset while it waits in the accept queue.",
        because: "T37, T38, N9, B23",
        domain: AcceptFaults,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    DescriptorLimits {
        name: "descriptor-limits",
        does: "The descriptor limit of a process drops to just above what is open, and rises again later.",
        because: "T35, N7, B22",
        domain: Descriptors,
        kernels: EVERYWHERE,
        strength: RARELY,
    }
    CreationErrors {
        name: "creation-errors",
        does: "A call that creates a descriptor fails: ENFILE, ENOBUFS, ENOMEM.",
        because: "N7, B55",
        domain: Descriptors,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    RegistrationErrors {
        name: "registration-errors",
        does: "A registration fails: ENOSPC (epoll), ENOMEM.",
        because: "N7, E5, B73",
        domain: Descriptors,
        kernels: EVERYWHERE,
        strength: RARELY,
    }
    EarlyActors {
        name: "early-actors",
        does: "Another thread of the process runs early, inside a call.",
        because: "W4, B05",
        domain: Actors,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    KilledProcesses {
        name: "killed-processes",
        does: "A process of a cluster is killed, and started again later.",
        because: "T42, T73, T74, B46",
        domain: Processes,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    CrashedHosts {
        name: "crashed-hosts",
        does: "A host of a cluster loses power without a word, and starts again later.",
        because: "T62, T77, B54",
        domain: Processes,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    FrozenProcesses {
        name: "frozen-processes",
        does: "A process of a cluster is stopped for a while, and its kernel goes on without it.",
        because: "E44, E45, N6, B40",
        domain: Processes,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    HostClocks {
        name: "host-clocks",
        does: "The clock of a host runs faster or slower than others, by up to a tenth, from an origin of its own.",
        because: "C1, C4, B82",
        domain: Clock,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    ClockLimits {
        name: "clock-limits",
        does: "The clock starts shortly before one of the places where arithmetic on times goes wrong.",
        because: "C1, B29, B82",
        domain: Clock,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    StillClock {
        name: "still-clock",
        does: "Calls cost no time, so that every reading of a turn is equal.",
        because: "C1, B57, B58",
        domain: Clock,
        kernels: EVERYWHERE,
        strength: OFTEN,
    }
    ExhaustedBuffers {
        name: "exhausted-buffers",
        does: "send finds the system out of buffers, ENOBUFS; nothing tells when that is over.",
        because: "N7, B45",
        domain: Buffers,
        kernels: BSD,
        strength: RARELY,
    }
    MemoryPressure {
        name: "memory-pressure",
        does: "send finds no memory while earlier bytes are queued, EAGAIN; the edge of freed room is owed.",
        because: "N2, M5, T57, B03",
        domain: Buffers,
        kernels: LINUX,
        strength: RARELY,
    }
    // Also on a non-blocking socket: recv and send first take the lock of the socket buffer (`sblock` of FreeBSD and macOS),
    // and while another thread of the process holds it they wait interruptibly. O_NONBLOCK does not change that, MSG_DONTWAIT would.
    // Linux waits for its lock without looking at signals, and accept takes no such lock (T44).
    InterruptedCalls {
        name: "interrupted-calls",
        does: "recv or send is interrupted by a signal while it waits for the buffer that another thread has locked (sblock).",
        because: "N6, B45",
        domain: WaitFaults,
        kernels: BSD,
        strength: RARELY,
    }
    InterruptedCloses {
        name: "interrupted-closes",
        does: "close reports EINTR, and has released the descriptor all the same.",
        because: "T79, B44",
        domain: Descriptors,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    RefusedAtOnce {
        name: "refused-at-once",
        does: "connect fails inside the call: no local address or port is left, or there is no route.",
        because: "T5, T6, T9, B43",
        domain: ConnectFaults,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    SpuriousEdges {
        name: "spurious-edges",
        does: "A socket whose data was just drained is reported once more, with nothing to read.",
        because: "E16, E21, N4, B66",
        domain: Batches,
        kernels: LINUX,
        strength: SOMETIMES,
    }
    StolenConnections {
        name: "stolen-connections",
        does: "Another process that shares the listener accepts first: the event came, the connection has gone.",
        because: "T45, E39, B21",
        domain: AcceptFaults,
        kernels: EVERYWHERE,
        strength: SOMETIMES,
    }
    AcceptRefusals {
        name: "accept-refusals",
        does: "A policy refuses accept, EPERM; the connection stays in the queue.",
        because: "T44, B22",
        domain: AcceptFaults,
        kernels: LINUX,
        strength: SOMETIMES,
    }
}

impl FaultKind {
    /// How many kinds there are; a [`super::FaultSet`] has room for 128.
    pub const COUNT: usize = FaultKind::ALL.len();

    /// What is known of it.
    pub const fn entry(self) -> &'static Fault {
        static ENTRIES: [Fault; FaultKind::COUNT] = CATALOGUE;
        &ENTRIES[self as usize]
    }

    /// The name used in options and reports.
    pub const fn name(self) -> &'static str {
        self.entry().name
    }

    /// The domain that its decisions are drawn from.
    pub const fn domain(self) -> Domain {
        self.entry().domain
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<FaultKind> {
        FaultKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether a kernel of this kind may do it.
    pub fn is_legal_under(self, kernel: Kernel) -> bool {
        self.entry().kernels.contains(&kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultSet;

    #[test]
    fn every_entry_is_complete_and_has_a_name_of_its_own() {
        for &kind in FaultKind::ALL {
            let entry = kind.entry();
            assert_eq!(FaultKind::from_name(entry.name), Some(kind));
            assert!(entry.does.ends_with('.') && !entry.because.is_empty(), "{}", entry.name);
            assert!(!entry.kernels.is_empty(), "{} is legal nowhere", entry.name);
            let rates = [entry.strength.default, entry.strength.cruel].concat();
            assert!(rates.iter().all(|rate| rate.numerator > 0), "{} never happens", entry.name);
        }
        const { assert!(FaultKind::COUNT <= FaultSet::ROOM) };
    }
}
