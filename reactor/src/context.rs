//! What a handler acts through.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::handler::CloseReason;
use crate::pressure::PauseReasons;
use crate::registry::{ConnectRequest, Flags, NO_FD, Phase};
use crate::state::{LoopState, Stop, timer_kind};
use crate::sys::{Errno, Fd, SocketOption};
use crate::time::{Instant, duration_ns};
use crate::timer::TimerToken;
use crate::token::Token;

/// Why a write was not taken. Nothing of it was queued.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum WriteRefused {
    /// The connection is gone.
    Dead,
    /// It has been closed, or its sending side was ended, or an earlier write failed.
    Closed,
    /// `Config::queue_bytes_max` would be exceeded; the connection has been aborted with `CloseReason::Overflow`.
    Overflow,
}

impl fmt::Display for WriteRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteRefused::Dead => "the connection is gone",
            WriteRefused::Closed => "the connection is closed for writing",
            WriteRefused::Overflow => "the connection's output queue is full, so it was aborted",
        })
    }
}

impl std::error::Error for WriteRefused {}

/// A handler's hands: every change takes effect in the loop's own state at once; the system calls follow before the loop
/// next sleeps.
///
/// All methods that take a token do nothing for one that is dead.
#[derive(Debug)]
pub struct Context<'a> {
    state: &'a mut LoopState,
}

impl<'a> Context<'a> {
    pub(crate) fn new(state: &'a mut LoopState) -> Context<'a> {
        Context { state }
    }

    /// The turn's clock: read once after each wait, the same for every handler of the turn.
    pub fn now(&self) -> Instant {
        self.state.now
    }

    /// Starts a connection to `address`; bytes may be written to the token at once. It ends in one
    /// [`on_open`](crate::Handler::on_open) with `tag` or one [`on_connect_failed`](crate::Handler::on_connect_failed).
    ///
    /// # Errors
    /// `EMFILE` when `Config::connections_max` is reached, `ESHUTDOWN` when the loop is being stopped; the handler hears
    /// of every other failure later.
    pub fn connect(&mut self, address: SocketAddr, tag: u64) -> Result<Token, Errno> {
        self.connect_with(address, &[], tag)
    }

    /// As [`Context::connect`], with options that are set on the socket before it connects.
    ///
    /// # Errors
    /// As [`Context::connect`].
    pub fn connect_with(
        &mut self,
        address: SocketAddr,
        options: &[SocketOption],
        tag: u64,
    ) -> Result<Token, Errno> {
        if self.state.stop != Stop::No {
            return Err(Errno::ESHUTDOWN);
        }
        let token = self.state.registry.insert(Phase::Requested, NO_FD, tag).ok_or(Errno::EMFILE)?;
        self.state.slot_mut(token).flags |= Flags::OUTGOING;
        let transfer = self.state.transfer_mut(token).expect("just inserted");
        transfer.connect = Some(Box::new(ConnectRequest { address, options: options.to_vec() }));
        self.state.mark_dirty(token);
        Ok(token)
    }

    /// Queues a copy of `bytes`. Returns how many bytes are queued now.
    ///
    /// # Errors
    /// [`WriteRefused`]; nothing was queued.
    #[inline]
    pub fn write(&mut self, token: Token, bytes: &[u8]) -> Result<usize, WriteRefused> {
        self.reserve(token, bytes.len())?;
        let queue = &mut self.state.transfer_mut(token).ok_or(WriteRefused::Dead)?.queue;
        queue.push_copy(bytes);
        Ok(self.queued(token))
    }

    /// Queues shared bytes without a copy. Returns how many bytes are queued now.
    ///
    /// # Errors
    /// [`WriteRefused`]; nothing was queued.
    pub fn write_shared(&mut self, token: Token, bytes: Bytes) -> Result<usize, WriteRefused> {
        self.reserve(token, bytes.len())?;
        let queue = &mut self.state.transfer_mut(token).ok_or(WriteRefused::Dead)?.queue;
        queue.push_shared(bytes);
        Ok(self.queued(token))
    }

    /// Every way to write passes here, so none bypasses the limit (bug-catalogue B37).
    fn reserve(&mut self, token: Token, length: usize) -> Result<(), WriteRefused> {
        let slot = self.state.registry.get(token).ok_or(WriteRefused::Dead)?;
        if !slot.accepts_writes() {
            return Err(WriteRefused::Closed);
        }
        if slot.queued_bytes().saturating_add(length) > self.state.config.queue_bytes_max {
            self.state.reset(token, CloseReason::Overflow);
            return Err(WriteRefused::Overflow);
        }
        Ok(())
    }

    fn queued(&mut self, token: Token) -> usize {
        self.state.note_pressure(token);
        self.state.mark_dirty(token);
        self.queued_bytes(token)
    }

    /// Bytes queued for a connection and not yet taken by the kernel.
    pub fn queued_bytes(&self, token: Token) -> usize {
        self.state.registry.get(token).map_or(0, |slot| slot.queued_bytes())
    }

    /// Ends our side of a connection once its queue is flushed; reading goes on. Further writes are refused.
    pub fn shutdown_write(&mut self, token: Token) {
        if let Some(slot) = self.state.registry.get_mut(token)
            && matches!(slot.phase, Phase::Requested | Phase::Connecting | Phase::Open)
        {
            slot.flags |= Flags::END_WANTED;
            self.state.mark_dirty(token);
        }
    }

    /// Closes a connection in order - one that is not open yet is given up, with what was written to it, and ends in
    /// [`on_connect_failed`](crate::Handler::on_connect_failed). What is queued is flushed, our side is ended, the peer's end is awaited; then
    /// [`on_close`](crate::Handler::on_close). Bounded by `Config::drain_ns` and `Config::linger_ns`. What the peer still
    /// sends is dropped. A listener closes at the end of the turn.
    pub fn close(&mut self, token: Token) {
        self.state.begin_close(token);
    }

    /// Ends a connection at once with a reset; what is queued is dropped.
    pub fn abort(&mut self, token: Token) {
        if let Some(slot) = self.state.registry.get_mut(token) {
            match slot.phase {
                Phase::Requested | Phase::Connecting => {
                    // The kernel may have finished the handshake meanwhile: to the peer an ordinary end of nothing would look
                    // complete.
                    slot.flags |= Flags::RESET;
                    self.state.fail(token, Errno::ECONNABORTED);
                }
                _ => self.state.reset(token, CloseReason::Aborted),
            }
        }
    }

    /// Stops reading from a connection for the given reasons; those that are not the application's are ignored.
    pub fn pause_reading(&mut self, token: Token, reasons: PauseReasons) {
        if let Some(slot) = self.state.registry.get_mut(token) {
            slot.paused |= reasons & PauseReasons::APPLICATION_OWNED;
        }
    }

    /// Lifts the given reasons. Once none is left, unconsumed bytes are offered again, and reading goes on.
    pub fn resume_reading(&mut self, token: Token, reasons: PauseReasons) {
        if let Some(slot) = self.state.registry.get_mut(token) {
            // The application is ready for more: also a connection that waited because it had kept too much is retried.
            slot.paused -= (reasons & PauseReasons::APPLICATION_OWNED) | PauseReasons::PENDING_FULL;
            slot.flags |= Flags::OFFER;
            self.state.enqueue(token);
        }
    }

    /// The reasons for which reading from a connection is paused.
    pub fn pause_reasons(&self, token: Token) -> PauseReasons {
        self.state.registry.get(token).map_or(PauseReasons::empty(), |slot| slot.paused)
    }

    /// Whether the connection is live and has not been closed from this side.
    pub fn is_open(&self, token: Token) -> bool {
        self.state.registry.get(token).is_some_and(|slot| slot.phase == Phase::Open)
    }

    /// The descriptor behind a live token, for diagnosis. The number may be reused as soon as the connection is gone.
    pub fn descriptor(&self, token: Token) -> Option<Fd> {
        self.state.registry.get(token).map(|slot| slot.fd).filter(|fd| *fd != NO_FD)
    }

    /// Arms a timer `delay` from the turn's clock; it fires once, not before its deadline, in
    /// [`on_timer`](crate::Handler::on_timer).
    pub fn arm_timer(&mut self, delay: Duration, tag: u64) -> TimerToken {
        self.arm_timer_at(self.state.now.saturating_add_ns(duration_ns(delay)), tag)
    }

    /// Arms a timer for `deadline`; one in the past fires in the next turn.
    pub fn arm_timer_at(&mut self, deadline: Instant, tag: u64) -> TimerToken {
        self.state.timers.arm(deadline, timer_kind::APPLICATION, tag)
    }

    /// Moves a timer to `delay` from the turn's clock. Returns whether it was still armed.
    pub fn rearm_timer(&mut self, timer: TimerToken, delay: Duration) -> bool {
        self.rearm_timer_at(timer, self.state.now.saturating_add_ns(duration_ns(delay)))
    }

    /// Moves a timer to `deadline`. Returns whether it was still armed.
    pub fn rearm_timer_at(&mut self, timer: TimerToken, deadline: Instant) -> bool {
        self.state.timers.rearm(timer, deadline)
    }

    /// Cancels a timer, also one that is due in this very turn and has not run. Returns whether it was still armed.
    pub fn cancel_timer(&mut self, timer: TimerToken) -> bool {
        self.state.timers.cancel(timer)
    }

    /// Stops the loop: listeners close, connections finish as by [`Context::close`], and what has not finished `within`
    /// that time is aborted. Asked again, the shorter time counts. The turn that ends the last of them answers `Turn::Stopped`.
    pub fn stop(&mut self, within: Duration) {
        let within_ns = duration_ns(within);
        self.state.stop = match self.state.stop {
            Stop::No | Stop::Closing => Stop::Asked { within_ns },
            Stop::Asked { within_ns: before_ns } => Stop::Asked { within_ns: within_ns.min(before_ns) },
            Stop::Overdue => Stop::Overdue,
        };
    }
}
