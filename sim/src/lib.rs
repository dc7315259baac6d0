//! A seeded simulated kernel for the reactor: the same loop that ships runs here, system call by system call.
//!
//! Modules in reading order: [`decision`] is where every choice comes from; [`weather`] and [`fault`] say which trouble
//! a run has; [`world`] is one run; [`kernel`] is what a process calls; [`schedule`] says who runs next; [`trace`] and
//! [`violation`] are what remains of a run.
//!
//! # What the kernel models
//!
//! Descriptor tables with the lowest free number and a limit; TCP over IPv4 with handshake, backlog, byte streams,
//! windows, acknowledgements, FIN and reset, half-close, the one error slot; epoll with its callbacks and ready list;
//! kqueue with READ, WRITE and USER knotes; eventfd; wake handles; threads that sleep in their waits; timeouts and
//! signals that interrupt them. Linux, FreeBSD and macOS differ where their kernels do.
//!
//! # What it leaves out, and which way that errs
//!
//! | left out | errs |
//! |---|---|
//! | IPv6, UDP, UNIX sockets, pipes, timerfd, signalfd, `dup`, `fork`, nested epoll | not available at the seam |
//! | TIME_WAIT, and listeners blocked by it (T6, T10, T11) | kinder: a port is free at once |
//! | self-connect (T8), `connect(AF_UNSPEC)` (T28), urgent data | kinder |
//! | congestion control and retransmission | neither: loss is lateness, see `LateSegments` and `StalledLinks` |
//! | memory overhead per segment (T54) and buffer autotuning (T55) | neither: capacities are drawn, in bytes |
//! | the wake-up for an acknowledged FIN (E21) | crueller: a spurious edge that may come does not |
//! | a SYN cookie or a third ACK that finds the queue full | kinder: a place is reserved when the SYN comes |
//! | a wake handle's own descriptor | kinder: it takes no number of the table |
//! | clocks of processes that disagree | kinder: one clock, though each thread is at its own point of it |
//!
//! Reactors interleave at their waits: what one thread does in a turn may carry its clock past another thread's, and
//! the other then finds work a little before its own clock says that it came. Clocks themselves never go back.
//!
//! On top of it: [`workload`] is what runs; [`oracle`] lists what watches; [`audit`] and [`seam`] stand between loop and
//! handler and between loop and kernel; [`runner`] makes one run of all that, [`sweep`] many, and [`crowd`] one with very many
//! connections.

pub mod actor;
pub mod aftermath;
pub mod audit;
mod clock;
pub mod conform;
pub mod crowd;
pub mod decision;
mod event;
pub mod fault;
pub mod guard;
pub mod incident;
pub mod kernel;
mod network;
mod number_set;
pub mod obligation;
pub mod oracle;
pub mod run_log;
pub mod runner;
pub mod schedule;
pub mod script;
pub mod seam;
pub mod shrink;
mod slab;
pub mod story;
pub mod sweep;
pub mod trace;
pub mod violation;
pub mod weather;
pub mod work;
pub mod workload;
pub mod world;

pub use actor::{Actor, ActorId};
pub use decision::{Decisions, Domain, Ratio, Site};
pub use fault::{Fault, FaultCounts, FaultKind, FaultSet, FaultSwitches, Strength};
pub use incident::Incident;
pub use kernel::Kernel;
pub use kernel::drift::Drift;
pub use kernel::syscalls::{Killed, SimSyscalls};
pub use obligation::{Lapse, ObligationCheck, ObligationCounts};
pub use oracle::Oracle;
pub use runner::{RunOptions, run};
pub use schedule::{Step, ThreadId};
pub use sweep::check_bytes;
pub use trace::{CallKind, CallRecord, Outcome, TraceEntry};
pub use violation::{Excuse, Violation};
pub use weather::{Latency, Swarm, Weather};
pub use work::Work;
pub use workload::WorkloadKind;
pub use world::{HostId, ProcessId, SharedWorld, World, WorldOptions};
