//! A seeded simulated kernel for the reactor: the same loop that ships runs here, system call by system call.
//!
//! Modules in reading order: [`decision`] is where every choice comes from; [`weather`] and [`fault`] say which trouble
//! a run has; [`world`] is one run; [`kernel`] is what a process calls; [`schedule`] says who runs next; [`trace`] and
//! [`violation`] are what remains of a run.
//!
//! # What the kernel models
//!
//! Descriptor tables with the lowest free number and a limit, duplicates and descriptors that travel; TCP over IPv4 with
//! handshake, backlog, SYNs sent again, byte streams, windows, delayed acknowledgements and Nagle, FIN and reset,
//! half-close, linger, the one error slot, TIME_WAIT, ephemeral ports, `SO_REUSEPORT`; epoll with its callbacks and ready list,
//! nested and exclusive too; kqueue with READ, WRITE, USER, TIMER and SIGNAL knotes; `poll` and `select`; eventfd, pipes,
//! timerfd, UNIX streams, regular files for sendfile; hosts, processes and threads that sleep, are stopped, die and start
//! again; links that are slow, narrow, stalled, parted or dead; lost segments sent again; a clock for each host. Linux,
//! FreeBSD and macOS differ where their kernels do.
//!
//! The loop's seam sees sockets, wake handles, epoll and kqueue; the rest is for scripts, which hold all of it against the
//! live kernel ([`script`], [`conform`]).
//!
//! # What it leaves out, and which way that errs
//!
//! *Kinder* than a real kernel hides bugs; *crueller* raises false alarms. Facts that no script shows are in the table of
//! [`script`], differences that generated scripts find in [`conform::explained`].
//!
//! | left out | errs |
//! |---|---|
//! | IPv6, UDP, urgent data | kinder: a socket of another kind is refused |
//! | `fork`, signalfd, inotify, named FIFOs, terminals | neither: not available at the seam |
//! | `io_uring`, `sendfile` between sockets, `splice`, zero-copy sends | neither: not available at the seam |
//! | congestion control, reordering within a connection | neither: it shows as lateness, see `LateSegments` and `StalledLinks` |
//! | fast retransmission: what a barrier swallowed is sent again after a timeout of 200 ms or more | crueller: recovery is never quicker |
//! | memory overhead per segment (T54) and buffer autotuning (T55) | neither: capacities are drawn, in bytes |
//! | the wake-up for an acknowledged FIN (E21) | crueller: a spurious edge that may come does not |
//! | a SYN cookie or a third ACK that finds the queue full | kinder: a place is reserved when the SYN comes |
//! | blocking mode at the seam: signals, `SO_RCVTIMEO` and `SO_SNDTIMEO` | neither: the loop never blocks but in its wait |
//! | errors that TCP of Linux never gives, but its manual lists (T44, T79) | crueller: they are drawn |
//! | a wake handle's own descriptor | kinder: it takes no number of the table |
//! | a machine that sleeps, timers that are coalesced (C2, K43) | kinder |
//!
//! Reactors interleave at their waits: what one thread does in a turn may carry its clock past another thread's, and
//! the other then finds work a little before its own clock says that it came. Clocks themselves never go back.
//!
//! On top of it: [`workload`] is what runs; [`oracle`] lists what watches; [`audit`] and [`seam`] stand between loop and
//! handler and between loop and kernel; [`runner`] makes one run of all that, [`sweep`] many, [`shard`] parts of many, and
//! [`crowd`] one with very many connections. [`scene`] is what a recorded run leaves beside its trace, [`view`] shows both.
//! [`stage`] is for tests of your own services: begin there, or with `GUIDE.md` beside the manifest.

pub mod actor;
pub mod aftermath;
pub mod audit;
mod clock;
pub mod conform;
pub mod crowd;
pub mod decision;
mod event;
pub mod explain;
pub mod fault;
pub mod file;
pub mod frame;
mod fuzz_input;
pub mod guard;
pub mod import;
pub mod incident;
pub mod kernel;
pub mod member;
#[cfg(feature = "command")]
pub mod merge;
mod network;
mod number_set;
pub mod obligation;
pub mod oracle;
#[cfg(feature = "command")]
pub mod record;
pub mod recording;
pub mod regression;
pub mod run_log;
pub mod runner;
pub mod scene;
pub mod schedule;
pub mod script;
pub mod seam;
pub mod shard;
pub mod shrink;
mod slab;
pub mod stage;
pub mod story;
pub mod sweep;
pub mod trace;
pub mod view;
pub mod violation;
pub mod weather;
pub mod work;
pub mod workload;
pub mod world;

pub use actor::{Actor, ActorId};
pub use decision::{Decisions, Domain, Ratio, Site};
pub use fault::{Fault, FaultCounts, FaultKind, FaultSet, FaultSwitches, Strength};
pub use fuzz_input::{SeedInput, check_bytes, seed_inputs, tell_bytes};
pub use incident::Incident;
pub use kernel::Kernel;
pub use kernel::drift::Drift;
pub use kernel::syscalls::{Killed, SimSyscalls};
pub use obligation::{Lapse, ObligationCheck, ObligationCounts};
pub use oracle::Oracle;
pub use runner::{RunOptions, run};
pub use schedule::{Step, ThreadId};
pub use shard::Shard;
pub use stage::{Check, Client, Conversation, Ended, Server, Stage, check};
pub use trace::{CallKind, CallRecord, Outcome, TraceEntry};
pub use violation::{Excuse, Violation};
pub use weather::{Latency, Swarm, Weather};
pub use work::Work;
pub use workload::WorkloadKind;
pub use world::{HostId, ProcessId, SharedWorld, World, WorldOptions};
