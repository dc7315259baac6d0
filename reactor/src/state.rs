//! The loop's own state, without the world and without the application: what a [`crate::Context`] changes.

use crate::config::Config;
use crate::counters::Counters;
use crate::handler::CloseReason;
use crate::registry::{Flags, Phase, Registry, Slot, Transfer};
use crate::sys::Errno;
use crate::time::Instant;
use crate::timer::TimerWheel;
use crate::token::Token;

/// Who a timer belongs to; kept in the wheel beside the word.
pub(crate) mod timer_kind {
    /// The application; the word is its tag.
    pub const APPLICATION: u8 = 0;
    /// A closed connection has taken too long to flush or to hear the peer's end; the word is its token.
    pub const CLOSE: u8 = 1;
    /// A listener has rested; the word is its token.
    pub const ACCEPT: u8 = 2;
    /// The kernel was short of buffers for a write; the word is the connection's token.
    pub const WRITE: u8 = 3;
    /// The deadline of the stop.
    pub const STOP: u8 = 4;
}

/// Transfers kept for reuse; more are given back to the allocator.
const TRANSFER_POOL_MAX: usize = 1024;

/// Memory for unconsumed bytes that a pooled transfer may keep.
const POOLED_PENDING_BYTES_MAX: usize = 16 * 1024;

/// How far a stop has come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// Not asked for.
    No,
    /// Asked for since the last look.
    Asked {
        /// How long connections may take to finish.
        within_ns: u64,
    },
    /// Everything has been told to close.
    Closing,
    /// The deadline has passed: whatever is left is aborted.
    Overdue,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LoopState {
    pub config: Config,
    pub registry: Registry,
    pub timers: TimerWheel,
    pub counters: Counters,
    /// The turn's clock.
    pub now: Instant,
    /// Connections with something to do that needs no event. Served in order, each within its budget.
    pub run_queue: Vec<Token>,
    /// Connections with deferred system calls.
    pub dirty: Vec<Token>,
    /// Connections to release at the end of the turn.
    pub closing: Vec<Token>,
    pub stop: Stop,
    #[expect(
        clippy::vec_box,
        reason = "the boxes move between slots and pool; their contents stay where they are"
    )]
    transfers: Vec<Box<Transfer>>,
}

impl LoopState {
    pub fn new(config: Config, now: Instant) -> LoopState {
        LoopState {
            registry: Registry::new(config.connections_max, config.generation_start),
            timers: TimerWheel::with_counters_at(
                config.tick_ns,
                now,
                config.generation_start,
                config.generation_start,
            ),
            counters: Counters::default(),
            now,
            run_queue: Vec::new(),
            dirty: Vec::new(),
            closing: Vec::new(),
            stop: Stop::No,
            transfers: Vec::new(),
            config,
        }
    }

    /// Whether the next wait must not sleep.
    pub fn has_work(&self) -> bool {
        !self.run_queue.is_empty()
            || !self.closing.is_empty()
            || !self.dirty.is_empty()
            || self.timers.has_due()
            || matches!(self.stop, Stop::Asked { .. } | Stop::Overdue)
    }

    /// Puts a live connection on the run queue, once.
    #[inline]
    pub fn enqueue(&mut self, token: Token) {
        if let Some(slot) = self.registry.get_mut(token)
            && !slot.flags.contains(Flags::QUEUED)
        {
            slot.flags |= Flags::QUEUED;
            self.run_queue.push(token);
        }
    }

    /// Puts a live connection on the list of those with deferred system calls, once.
    #[inline]
    pub fn mark_dirty(&mut self, token: Token) {
        if let Some(slot) = self.registry.get_mut(token)
            && !slot.flags.contains(Flags::DIRTY)
        {
            slot.flags |= Flags::DIRTY;
            self.dirty.push(token);
        }
    }

    /// The transfer of a connection, taken from the pool if it has none.
    #[inline]
    pub fn transfer_mut(&mut self, token: Token) -> Option<&mut Transfer> {
        let slot = self.registry.get_mut(token)?;
        if slot.transfer.is_none() {
            slot.transfer = Some(self.transfers.pop().unwrap_or_default());
        }
        slot.transfer.as_deref_mut()
    }

    /// Gives a connection's transfer back to the pool if nothing waits in it any more.
    #[inline]
    pub fn recycle_transfer(&mut self, token: Token) {
        let Some(slot) = self.registry.get_mut(token) else { return };
        let idle = |transfer: &Transfer| {
            transfer.queue.is_empty() && transfer.pending.is_empty() && transfer.connect.is_none()
        };
        if let Some(transfer) = slot.transfer.take_if(|transfer| idle(transfer)) {
            self.pool(transfer);
        }
    }

    /// Puts a transfer into the pool, emptied.
    pub fn pool(&mut self, mut transfer: Box<Transfer>) {
        if self.transfers.len() >= TRANSFER_POOL_MAX {
            return;
        }
        transfer.queue.clear();
        transfer.pending.clear();
        if transfer.pending.capacity() > POOLED_PENDING_BYTES_MAX {
            transfer.pending = Vec::new();
        }
        transfer.connect = None;
        self.transfers.push(transfer);
    }

    /// Takes note of a changed output queue: pauses or resumes reading, and has the handler told.
    #[inline]
    pub fn note_pressure(&mut self, token: Token) {
        let Some(slot) = self.registry.get_mut(token) else { return };
        let queued_bytes = slot.queued_bytes();
        if !slot.watermark.note(queued_bytes, &self.config) {
            return;
        }
        if slot.watermark.is_above() {
            // What an accepted connection sends are answers: without reading there will be no more of them. What an
            // outgoing one sends are requests: two loops that both stopped reading would wait for each other.
            if !slot.is_outgoing() {
                slot.paused |= crate::pressure::PauseReasons::PRESSURE;
            }
        } else {
            slot.paused -= crate::pressure::PauseReasons::PRESSURE;
            // What the handler left while it could not answer; no event will tell of it again (bug-catalogue B11).
            if slot.pending_bytes() > 0 {
                slot.flags |= Flags::OFFER;
            }
        }
        self.enqueue(token);
    }

    /// Ends a connection or listener now: nothing more is sent or received, and the descriptor goes at the end of the
    /// turn.
    pub fn finish(&mut self, token: Token, reason: CloseReason) {
        let Some(slot) = self.registry.get_mut(token) else { return };
        if slot.phase == Phase::Closing {
            return;
        }
        slot.phase = Phase::Closing;
        slot.reason = reason;
        self.closing.push(token);
    }

    /// Ends a connection now with a reset, unless it has ended already.
    pub fn reset(&mut self, token: Token, reason: CloseReason) {
        if let Some(slot) = self.registry.get_mut(token)
            && slot.phase != Phase::Closing
        {
            slot.flags |= Flags::RESET;
            self.finish(token, reason);
        }
    }

    /// Ends a connection for an error of the system or the peer. Bytes that were still queued are lost, and a reset says so
    /// to whoever still listens: an ordinary end would look complete.
    pub fn fail(&mut self, token: Token, error: Errno) {
        if let Some(slot) = self.registry.get_mut(token)
            && slot.queued_bytes() > 0
        {
            slot.flags |= Flags::RESET;
        }
        if let Errno::Unlisted(_) = error {
            self.counters.errors_unlisted += 1;
        }
        self.finish(token, CloseReason::Failed(error));
    }

    /// Begins the orderly close of a connection: flush, end our side, hear the peer's end. Listeners close at once.
    pub fn begin_close(&mut self, token: Token) {
        let Some(slot) = self.registry.get_mut(token) else { return };
        match slot.phase {
            Phase::Listener => self.finish(token, CloseReason::Finished),
            // Closed before it opened: to the application this is a connect that failed.
            Phase::Requested | Phase::Connecting => self.fail(token, Errno::ECONNABORTED),
            Phase::Open => match slot.failure() {
                Some(error) if slot.flags.contains(Flags::WRITE_FAILED) => self.fail(token, error),
                _ => {
                    slot.phase = Phase::Draining;
                    slot.paused = crate::pressure::PauseReasons::empty();
                    if let Some(transfer) = slot.transfer.as_mut() {
                        transfer.pending.clear();
                    }
                    let drain_ns = self.config.drain_ns;
                    self.arm_close_timer(token, drain_ns);
                    self.mark_dirty(token);
                    // Input that is waiting is read and dropped, or the close would turn into a reset (B47).
                    self.enqueue(token);
                }
            },
            Phase::Free | Phase::Draining | Phase::Lingering | Phase::Closing => {}
        }
    }

    /// Bounds the current phase of a close.
    pub fn arm_close_timer(&mut self, token: Token, delay_ns: u64) {
        let deadline = self.now.saturating_add_ns(delay_ns);
        let Some(slot) = self.registry.get_mut(token) else { return };
        match slot.timer {
            Some(timer) if self.timers.rearm(timer, deadline) => {}
            _ => slot.timer = Some(self.timers.arm(deadline, timer_kind::CLOSE, token.as_word())),
        }
    }

    /// A slot that must be live: the caller has just looked.
    #[inline]
    pub fn slot_mut(&mut self, token: Token) -> &mut Slot {
        self.registry.get_mut(token).expect("the caller holds a live token")
    }
}
