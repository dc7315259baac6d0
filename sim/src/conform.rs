//! Generated conformance: random legal call sequences, carried out step by step on the live Linux kernel and on the simulated
//! one, and compared after every step.
//!
//! [`generate`](generate()) makes a script from decisions, so that a seed, a fuzzer's bytes and a list of single values all make one;
//! [`compare`] carries it out on both sides, [`shrink()`] makes a counterexample short, [`campaign`] does that many times.
//!
//! # What is compared
//!
//! The answer of every call: success or which error, bytes received and their number, the number of a new descriptor among
//! the numbers that were free, the events of a wait with their bits and in their order, and that no wait returns empty before
//! its time. A live answer counts only when it repeats itself.
//!
//! # What is not compared, and why
//!
//! | not compared | why |
//! |---|---|
//! | how many bytes fill a buffer, or come out of a full one | capacity is accounted in the kernel's overhead (T54): only none or some |
//! | what frees a part of a full buffer, and when | lumps and delayed acknowledgements decide (T58): a flooded direction is drained completely, and the far end sends nothing before that |
//! | which end of a connection is woken first when a full buffer is emptied | window updates decide (T58): the next calls take all that the sets have to tell, in any order, so that nothing stays queued in another one |
//! | what an acknowledgement that is kept back does, when it is due but for a tick | the tick may be near (E21): sleeps are few, and what data carries is compared |
//! | Nagle against delayed acknowledgements | real time decides (T66): every socket has TCP_NODELAY |
//! | addresses and ports | drawn by each kernel (T4): only whether there is one |
//! | what takes longer than a script: SYNs sent again, TIME_WAIT | scripts last milliseconds (T6, T22); hand-written scripts have them |

pub mod call;
pub mod campaign;
mod check;
pub mod compare;
pub mod explained;
mod generate;
pub mod observation;
mod perform;
mod rules;
pub mod self_test;
pub mod shrink;
mod sketch;
mod text;

pub use call::{Call, Slot};
pub use check::{check_bytes, tell_bytes};
pub use compare::{Difference, Outcome, Reference, observe_simulated};
pub use generate::generate;
pub use observation::Observation;
pub use shrink::{Shrunk, shrink};
pub use text::script_text;
