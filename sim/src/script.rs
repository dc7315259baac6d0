//! Scripts of system calls: a step is a call with symbolic descriptors and what it must answer. The same script runs on the live
//! Linux kernel and on the simulated one, where links take no time and delivery happens inside the call.
//!
//! # A script
//!
//! ```text
//! # T16: connect again after success answers 0 once, then EISCONN
//! on linux
//! L = listener
//! C = socket
//! connect C @L -> EINPROGRESS
//! connect C @L -> ok
//! connect C @L -> EISCONN
//! error C -> is none
//! ```
//!
//! The first comment is the title. `on linux`, `on freebsd macos` says which kernels it speaks of; absent, `linux`. `needs
//! netns` names a capability of the live machine; without it the script is skipped there, never passed. `simulated only` and `live
//! only` exist for what one side cannot do; each needs a reason on the same line after `:`.
//!
//! A step is `[NAMES =] verb arguments [-> expectation] [within LOW..HIGH]`. A step without an expectation must succeed.
//!
//! | argument | written |
//! |---|---|
//! | descriptor | a name bound before, or `#99` for the number itself |
//! | address | `127.0.0.1:80`, `@L` (where L is bound), `@P` (a dead port), `host:80` (this script's own address) |
//! | number | `5`, `64K`, `1M`, a name bound to a number, `-1` |
//! | bytes | `"abc"`, or `5000x` for that many |
//! | time | `50ms`, `3s`, `20us`, `1ns`, `forever` |
//! | mask | `IN\|OUT\|RDHUP\|PRI\|ERR\|HUP\|ET\|ONESHOT\|EXCLUSIVE`, `0` |
//! | list | `[a, b]` |
//!
//! | expectation | holds when the call |
//! |---|---|
//! | `ok` | succeeds |
//! | `EAGAIN` (any error name) | fails so |
//! | `5`, `3..7`, `>=1000`, `<4K` | answers such a number, or as many bytes |
//! | `"abc"` | answers these bytes |
//! | `is none`, `is ECONNRESET` | answers this word |
//! | `=A` | answers the number that A has or had |
//! | `IN\|OUT` | answers these bits (`bits`) |
//! | `[A:IN, B:OUT]` | answers these events in this order; `{A:IN, B:OUT}` in any order; `[]` none |
//! | `[READ A data=5 EOF ECONNRESET]` | answers these kevents; what is not said of `data`, `udata`, `fflags` and `flags` is not compared, `EOF` and the error are |
//! | `x or y` | one of several holds |
//!
//! Around steps: `repeat N {` ... `}`; `until CALL -> EXPECTATION {` ... `}` runs the body until the call answers so (the call comes
//! first; at most 100,000 rounds); `count X CALL -> EXPECTATION` adds one to X if it holds; `sum X CALL` adds the number answered, nothing for an error;
//! `check X + Y == 200` compares (`==`, `!=`, `<`, `<=`, `>`, `>=`; `+`, `-`, `*`, `/`). A name may be bound to a number: `N = fill A`.
//!
//! In change lists the ident is a descriptor's name or a number; numbers of 1000 and more never meet a descriptor's. The signal that `raise` sends is
//! `SIGNAL 30` on every system. The data of a TIMER with `notes=ABSOLUTE` counts from now. In expectations `flags=` leaves EV_EOF and EV_ERROR
//! out, and `flags=` with nothing behind it is no flag.
//!
//! The verbs are in [`verb::Verb`]; `sim conform --verbs` lists them, and `sim conform FILE` runs a script.
//!
#![doc = include_str!("../../tests/conformance/LEFT_OUT.md")]
//!
#![doc = include_str!("../../tests/conformance/LIBKQUEUE.md")]

pub mod capability;
pub mod driver;
pub mod expect;
#[cfg(target_os = "linux")]
pub mod live;
pub mod parse;
pub mod probe;
pub(crate) mod simulated;
pub mod step;
mod subject;
pub mod verb;
mod words;

pub use capability::Capability;
pub use driver::Driver;
pub use parse::ParseError;
pub use probe::Probe;
pub use simulated::synchronous;
pub use step::Script;
#[cfg(all(target_os = "linux", feature = "libkqueue"))]
pub use subject::run_over_libkqueue;
pub use subject::{Subject, Verdict};
