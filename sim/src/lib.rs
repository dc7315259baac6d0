//! A seeded simulated kernel for the reactor: the same loop that ships runs here, system call by system call.
//!
//! Modules in reading order: [`decision`] is where every choice comes from; [`weather`] and [`fault`] say which trouble
//! a run has; [`world`] is one run; [`kernel`] is what a process calls; [`schedule`] says who runs next; [`trace`] and
//! [`violation`] are what remains of a run.
//!
//! On top of it: [`workload`] is what runs; [`oracle`] lists what watches; [`audit`] and [`seam`] stand between loop and
//! handler and between loop and kernel; [`runner`] makes one run of all that, and [`sweep`] many.

pub mod actor;
pub mod audit;
pub mod decision;
mod event;
pub mod fault;
pub mod guard;
pub mod kernel;
mod network;
pub mod oracle;
pub mod runner;
pub mod schedule;
pub mod seam;
mod slab;
pub mod sweep;
pub mod trace;
pub mod violation;
pub mod weather;
pub mod workload;
pub mod world;

pub use actor::{Actor, ActorId};
pub use decision::{Decisions, Domain, Ratio, Site};
pub use fault::{FaultCounts, FaultKind};
pub use kernel::Kernel;
pub use kernel::syscalls::SimSyscalls;
pub use oracle::Oracle;
pub use runner::{RunOptions, run};
pub use schedule::{Step, ThreadId};
pub use sweep::check_bytes;
pub use trace::{CallKind, CallRecord, Outcome, TraceEntry};
pub use violation::{Excuse, Violation};
pub use weather::{Latency, Swarm, Weather};
pub use workload::WorkloadKind;
pub use world::{HostId, SharedWorld, World, WorldOptions};
