//! An event loop for network servers and clients - epoll on Linux, kqueue on BSD and macOS - whose every failure replays
//! from one number.
//!
//! The same loop, timer wheel and backpressure code runs on the real kernel ([`sys::System`]) and on the seeded simulated
//! kernel of the `sim` package. In reading order:
//!
//! - [`sys`]: the seam. Everything the loop asks of the outside world, one method per system call.
//! - [`time`], [`timer`]: instants, and the hierarchical timer wheel.
//! - `token`, `registry`: who is who, across reuse of descriptors and slots.
//! - `poller`: raw readiness calls to readiness bits.
//! - `write_queue`, `pressure`: what waits to be sent, and what that does to reading.
//! - `reactor`: one turn; with `accept`, `connect`, `stream` and `close` for its parts.
//! - `mailbox`: messages from other threads.
//! - [`Handler`], [`Context`]: what an application writes, and what it acts through.

mod accept;
mod close;
mod config;
mod connect;
mod context;
mod counters;
mod handler;
mod mailbox;
#[doc(hidden)]
pub mod parts;
mod poller;
mod pressure;
mod reactor;
mod registry;
mod state;
mod stream;
pub mod sys;
pub mod time;
pub mod timer;
mod token;
mod write_queue;

pub use config::Config;
pub use context::{Context, WriteRefused};
pub use counters::Counters;
pub use handler::{CloseReason, Handler, Origin, Pressure};
pub use mailbox::{SendError, Sender};
pub use pressure::PauseReasons;
pub use reactor::{ListenOptions, Reactor, Turn};
pub use token::Token;
