//! The kinds of trouble a run can have, and how often each was drawn.

use crate::decision::Domain;

macro_rules! fault_kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $domain:ident,)*) => {
        /// One kind of trouble. Each is something that a legal kernel or network does, through the state that causes it.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum FaultKind { $($(#[$doc])* $kind,)* }

        impl FaultKind {
            /// Every kind, in the order in which the swarm draws them.
            pub const ALL: &'static [FaultKind] = &[$(FaultKind::$kind),*];

            /// The name used in options and reports.
            pub const fn name(self) -> &'static str {
                match self { $(FaultKind::$kind => $name,)* }
            }

            /// The domain that its decisions are drawn from.
            pub const fn domain(self) -> Domain {
                match self { $(FaultKind::$kind => Domain::$domain,)* }
            }
        }
    };
}

fault_kinds! {
    /// A send travels as several segments, cut anywhere, that arrive apart (N2).
    SplitSegments "split-segments" Network,
    /// A segment takes much longer than the link's latency; what follows it waits.
    LateSegments "late-segments" Network,
    /// A link passes nothing for a while, in one direction or in both.
    StalledLinks "stalled-links" Network,
    /// An acknowledgement waits for 40 ms, as delayed ACKs do (T58, T66).
    DelayedAcks "delayed-acks" Network,
    /// A reset overtakes data that is still under way (N1, T78).
    ResetOvertakes "reset-overtakes" Network,
    /// Events of the same time are applied in any order; per connection the order holds.
    ScheduleTies "schedule-ties" Schedule,
    /// Socket buffers are near the kernel's minimum (below it in tiny weather).
    SmallBuffers "small-buffers" Buffers,
    /// A send buffer grows or shrinks while it is in use, as autotuning and memory pressure make it (T55).
    ChangingBuffers "changing-buffers" Buffers,
    /// A wait returns fewer events than are ready (N5).
    ShortBatches "short-batches" Batches,
    /// The events of a batch come in any order (N5).
    ReorderedBatches "reordered-batches" Batches,
    /// A sleeping wait is interrupted by a signal (E44).
    InterruptedWaits "interrupted-waits" WaitFaults,
    /// A wait ends later than asked for, beyond the kernel's slack (N6).
    LateWaits "late-waits" WaitFaults,
    /// The thread is stopped between the wait and its return: the batch is stale when it arrives (E37).
    StaleBatches "stale-batches" Stalls,
    /// An established connection is reset from outside.
    InjectedResets "injected-resets" Resets,
    /// An established connection fails on one side: timed out, or no route (N7).
    FailedConnections "failed-connections" Resets,
    /// A SYN is lost and sent again after a second (T22).
    LostSyns "lost-syns" ConnectFaults,
    /// A connection attempt fails: refused, timed out, no route.
    FailedConnects "failed-connects" ConnectFaults,
    /// accept reports an error of the connection that it took from the queue (T44).
    AcceptErrors "accept-errors" AcceptFaults,
    /// A connection is reset while it waits in the accept queue (T37, T38).
    AcceptAborts "accept-aborts" AcceptFaults,
    /// The descriptor limit of a process drops to just above what is open, and rises again later.
    DescriptorLimits "descriptor-limits" Descriptors,
    /// A call that creates a descriptor fails: ENFILE, ENOBUFS, ENOMEM (N7).
    CreationErrors "creation-errors" Descriptors,
    /// A registration fails: ENOSPC, ENOMEM (N7).
    RegistrationErrors "registration-errors" Descriptors,
    /// Another thread of the process runs early, inside a call.
    EarlyActors "early-actors" Actors,
    /// The clock starts shortly before one of its limits.
    ClockLimits "clock-limits" Clock,
    /// Time stands still between two waits: calls cost nothing, and every reading of a turn is equal (C1).
    StillClock "still-clock" Clock,
}

impl FaultKind {
    /// How many kinds there are.
    pub const COUNT: usize = FaultKind::ALL.len();
}

/// How often each kind happened in a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultCounts {
    counts: [u64; FaultKind::COUNT],
}

impl Default for FaultCounts {
    fn default() -> FaultCounts {
        FaultCounts { counts: [0; FaultKind::COUNT] }
    }
}

impl FaultCounts {
    /// How often this kind happened.
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.counts[kind as usize]
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The kinds that happened at all, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (FaultKind, u64)> + '_ {
        FaultKind::ALL.iter().map(|&kind| (kind, self.of(kind))).filter(|&(_, count)| count > 0)
    }

    pub(crate) fn add(&mut self, kind: FaultKind) {
        self.counts[kind as usize] += 1;
    }
}
