//! What an application gives the loop: a handler that is told about bytes and events, and acts through a [`Context`].

use std::net::SocketAddr;

use crate::context::Context;
use crate::sys::Errno;
use crate::timer::TimerToken;
use crate::token::Token;

/// How a connection came to be.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A listener accepted it.
    Accepted {
        /// The listener.
        listener: Token,
        /// The number given to the listener when it was made.
        tag: u64,
        /// The peer's address.
        peer: SocketAddr,
    },
    /// [`Context::connect`] made it.
    Connected {
        /// The number given to the connect call.
        tag: u64,
    },
}

/// Why a connection ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The application closed it; everything it had written went to the kernel, and the peer ended its side too.
    Finished,
    /// The application closed it; everything it had written went to the kernel, but the peer did not end its side within
    /// `Config::linger_ns`, so what it sent late was answered by a reset.
    LingerExpired,
    /// The application closed it, but the peer did not take the queued bytes within `Config::drain_ns`: they are lost.
    DrainExpired,
    /// The application aborted it.
    Aborted,
    /// The connection failed: reset by the peer, or an error of the network.
    Failed(Errno),
    /// More was written to it than `Config::queue_bytes_max` allows.
    Overflow,
    /// The loop was stopped, and its deadline passed.
    Stopped,
}

/// Which watermark of a connection's output queue was crossed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// The queue has grown above `Config::queue_bytes_high`: produce no more for this connection. Reading from it pauses
    /// by itself if it was accepted. Reading from an outgoing connection goes on: its peer may be waiting for us to take
    /// answers before it takes more, and if it is a loop like this one, both would wait for ever.
    High,
    /// The queue has shrunk to `Config::queue_bytes_low` or below: go on.
    Low,
}

/// An application on the loop.
///
/// Handlers never make a system call. What they do through the [`Context`] changes the loop's own state at once - a token
/// is returned, bytes are queued, a timer is armed, a close is recorded - and the system calls follow before the loop
/// sleeps. No handler method is ever called from inside another.
///
/// For each connection the calls are: [`on_open`](Handler::on_open) once, then any of the others, then
/// [`on_close`](Handler::on_close) once, and nothing after it. A connection made by [`Context::connect`] that never
/// opens gets [`on_connect_failed`](Handler::on_connect_failed) once instead.
pub trait Handler {
    /// What the application keeps for each connection.
    type Connection;
    /// What other threads may send to it, see [`crate::Sender`].
    type Message: Send + 'static;

    /// A connection is open. Returns the state to keep for it.
    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, origin: Origin) -> Self::Connection;

    /// A connection that [`Context::connect`] was asked for did not come to be. What was written to it is gone.
    fn on_connect_failed(&mut self, ctx: &mut Context<'_>, token: Token, tag: u64, error: Errno) {
        let _ = (ctx, token, tag, error);
    }

    /// Bytes have arrived. Returns how many of them are consumed; the rest is kept, contiguous, and offered again when more
    /// arrives, when reading is resumed, or when the connection's own output is no longer under pressure. With
    /// `Config::pending_bytes_max` bytes kept, reading waits for [`Context::resume_reading`].
    fn on_data(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut Self::Connection,
        bytes: &[u8],
    ) -> usize;

    /// The peer has finished sending, and every byte before that was consumed (or is given up: `unconsumed` counts the
    /// kept bytes that no [`on_data`](Handler::on_data) call took). Writing is still possible. By default the connection
    /// is closed, which flushes what is queued first.
    fn on_end(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut Self::Connection,
        unconsumed: usize,
    ) {
        let _ = (state, unconsumed);
        ctx.close(token);
    }

    /// The output queue crossed a watermark. `High` and `Low` alternate, starting with `High`.
    fn on_pressure(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut Self::Connection,
        pressure: Pressure,
    ) {
        let _ = (ctx, token, state, pressure);
    }

    /// The connection is gone, and its descriptor is about to be released.
    fn on_close(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: Self::Connection,
        reason: CloseReason,
    ) {
        let _ = (ctx, token, state, reason);
    }

    /// A timer is due.
    fn on_timer(&mut self, ctx: &mut Context<'_>, timer: TimerToken, tag: u64) {
        let _ = (ctx, timer, tag);
    }

    /// Another thread sent a message.
    fn on_message(&mut self, ctx: &mut Context<'_>, message: Self::Message) {
        let _ = (ctx, message);
    }
}

/// A loop may borrow its application, so that what the application has learnt outlives the loop.
impl<H: Handler> Handler for &mut H {
    type Connection = H::Connection;
    type Message = H::Message;

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, origin: Origin) -> H::Connection {
        (**self).on_open(ctx, token, origin)
    }

    fn on_connect_failed(&mut self, ctx: &mut Context<'_>, token: Token, tag: u64, error: Errno) {
        (**self).on_connect_failed(ctx, token, tag, error);
    }

    fn on_data(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut H::Connection,
        bytes: &[u8],
    ) -> usize {
        (**self).on_data(ctx, token, state, bytes)
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, state: &mut H::Connection, unconsumed: usize) {
        (**self).on_end(ctx, token, state, unconsumed);
    }

    fn on_pressure(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut H::Connection,
        pressure: Pressure,
    ) {
        (**self).on_pressure(ctx, token, state, pressure);
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, token: Token, state: H::Connection, reason: CloseReason) {
        (**self).on_close(ctx, token, state, reason);
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, timer: TimerToken, tag: u64) {
        (**self).on_timer(ctx, timer, tag);
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, message: H::Message) {
        (**self).on_message(ctx, message);
    }
}
