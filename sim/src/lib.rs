//! A seeded simulated kernel for the reactor: the same loop that ships runs here, system call by system call.
//!
//! Modules in reading order: [`decision`] is where every choice comes from; [`weather`] and [`fault`] say which trouble
//! a run has; [`world`] is one run; [`kernel`] is what a process calls; [`schedule`] says who runs next; [`trace`] and
//! [`violation`] are what remains of a run.

pub mod actor;
pub mod decision;
mod event;
pub mod fault;
pub mod kernel;
mod network;
pub mod schedule;
mod slab;
pub mod trace;
pub mod violation;
pub mod weather;
pub mod world;

pub use actor::{Actor, ActorId};
pub use decision::{Decisions, Domain, Ratio, Site};
pub use fault::{FaultCounts, FaultKind};
pub use kernel::Kernel;
pub use kernel::syscalls::SimSyscalls;
pub use schedule::{Step, ThreadId};
pub use trace::{CallKind, CallRecord, Outcome, TraceEntry};
pub use violation::{Excuse, Violation};
pub use weather::{Latency, Swarm, Weather};
pub use world::{HostId, SharedWorld, World, WorldOptions};
