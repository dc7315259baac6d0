//! Bytes in and bytes out of open connections, within budgets.
//!
//! A readiness bit is cleared by the operation that found the contrary: `EAGAIN`, or a transfer that was cut short with no
//! hang-up seen. Whoever stops for another reason leaves the bit set and the connection on a queue of the loop's own: no
//! further edge would come (bug-catalogue B06, B07, B28).

use std::io::IoSlice;

use crate::context::Context;
use crate::handler::{CloseReason, Handler};
use crate::poller::Ready;
use crate::pressure::PauseReasons;
use crate::reactor::Reactor;
use crate::registry::{Flags, Phase};
use crate::state::timer_kind;
use crate::sys::{Errno, Shutdown, Syscalls};
use crate::token::Token;
use crate::write_queue::SEGMENTS_PER_WRITE_MAX;

/// How long a write rests when the kernel, not the connection, was short of buffers; no edge is owed then.
const WRITE_REST_NS: u64 = 10_000_000;

/// What a read leads to.
enum Read {
    /// Go on reading.
    More,
    /// Stop for now.
    Stop,
}

impl<S: Syscalls, H: Handler> Reactor<S, H> {
    /// Serves an open connection: news of pressure, kept bytes, then reading; writing follows in the flush.
    pub(crate) fn serve_open(&mut self, token: Token) {
        self.tell_pressure(token);
        let Some(slot) = self.state.registry.get(token) else { return };
        if slot.ready.contains(Ready::WRITABLE)
            && (slot.queued_bytes() > 0 || slot.flags.contains(Flags::END_WANTED))
        {
            self.state.mark_dirty(token);
        }
        self.offer_pending(token);
        if self.peer_is_gone(token) {
            return;
        }
        for _ in 0..self.state.config.reads_per_turn {
            match self.read(token) {
                Read::More => {}
                Read::Stop => return,
            }
        }
        if self.may_read(token) {
            self.state.counters.read_budget_ends += 1;
            self.state.enqueue(token);
        }
    }

    /// Serves a connection that the application has closed: input is read and dropped, so that no unread byte turns the
    /// close into a reset (kernel-semantics T73).
    pub(crate) fn serve_closed(&mut self, token: Token) {
        let slot = self.state.slot_mut(token);
        if slot.phase == Phase::Draining && slot.ready.contains(Ready::WRITABLE) {
            self.state.mark_dirty(token);
        }
        for _ in 0..self.state.config.reads_per_turn {
            let slot = self.state.slot_mut(token);
            if !slot.ready.contains(Ready::READABLE) || slot.flags.contains(Flags::END_SEEN) {
                return;
            }
            let (fd, hangup) = (slot.fd, slot.ready.contains(Ready::HANGUP));
            self.state.counters.reads += 1;
            match self.sys.recv(fd, &mut self.chunk) {
                Ok(0) => {
                    let slot = self.state.slot_mut(token);
                    slot.flags |= Flags::END_SEEN;
                    slot.ready -= Ready::READABLE;
                    if slot.phase == Phase::Lingering {
                        self.state.finish(token, CloseReason::Finished);
                    }
                    return;
                }
                Ok(length) => {
                    self.state.counters.bytes_read += length as u64;
                    if length < self.chunk.len() && !hangup {
                        self.state.slot_mut(token).ready -= Ready::READABLE;
                        return;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.state.counters.reads_empty += 1;
                    self.state.slot_mut(token).ready -= Ready::READABLE;
                    return;
                }
                Err(error) => return self.state.fail(token, error),
            }
        }
        self.state.counters.read_budget_ends += 1;
        self.state.enqueue(token);
    }

    /// After the peer's end nothing is read, so nothing but this would tell that the connection has been reset since.
    fn peer_is_gone(&mut self, token: Token) -> bool {
        let Some(slot) = self.state.registry.get_mut(token) else { return true };
        let concerns = slot.phase == Phase::Open && slot.flags.contains(Flags::END_SEEN);
        if !concerns || !slot.ready.contains(Ready::FAILED) {
            return false;
        }
        slot.ready -= Ready::FAILED;
        let fd = slot.fd;
        let Ok(Some(error)) = self.sys.take_socket_error(fd) else { return false };
        self.state.fail(token, error);
        true
    }

    fn may_read(&self, token: Token) -> bool {
        self.state.registry.get(token).is_some_and(|slot| {
            slot.phase == Phase::Open
                && slot.ready.contains(Ready::READABLE)
                && slot.paused.is_empty()
                && !slot.flags.contains(Flags::END_SEEN)
                // Kept bytes that the application has asked for come first: behind them may be the peer's end.
                && !(slot.flags.contains(Flags::OFFER) && slot.pending_bytes() > 0)
        })
    }

    fn tell_pressure(&mut self, token: Token) {
        let Some(slot) = self.state.registry.get_mut(token) else { return };
        let Some(pressure) = slot.watermark.take_news() else { return };
        if let Some(connection) = self.connections[token.slot() as usize].as_mut() {
            self.handler.on_pressure(&mut Context::new(&mut self.state), token, connection, pressure);
        }
    }

    /// Offers kept bytes again after a resume; the kernel may have nothing more to tell about them (bug-catalogue B11).
    fn offer_pending(&mut self, token: Token) {
        let Some(slot) = self.state.registry.get_mut(token) else { return };
        if slot.phase != Phase::Open || !slot.paused.is_empty() || !slot.flags.contains(Flags::OFFER) {
            return;
        }
        slot.flags -= Flags::OFFER;
        self.hand_over_pending(token);
    }

    /// One read, and what follows from it.
    #[inline]
    fn read(&mut self, token: Token) -> Read {
        if !self.may_read(token) {
            return Read::Stop;
        }
        let slot = self.state.slot_mut(token);
        let (fd, hangup) = (slot.fd, slot.ready.contains(Ready::HANGUP));
        self.state.counters.reads += 1;
        match self.sys.recv(fd, &mut self.chunk) {
            Ok(0) => {
                self.peer_ended(token);
                Read::Stop
            }
            Ok(length) => {
                self.state.counters.bytes_read += length as u64;
                // Shorter than the buffer means that the socket was empty - unless the peer has ended, which is told
                // once and may have been told already (kernel-semantics E22).
                if length < self.chunk.len() && !hangup {
                    self.state.slot_mut(token).ready -= Ready::READABLE;
                }
                self.hand_over(token, length);
                Read::More
            }
            Err(Errno::EAGAIN) => {
                self.state.counters.reads_empty += 1;
                let slot = self.state.slot_mut(token);
                slot.ready -= Ready::READABLE;
                // Everything that came before the failed write has been delivered.
                if let (true, Some(error)) = (slot.flags.contains(Flags::WRITE_FAILED), slot.failure()) {
                    self.state.fail(token, error);
                }
                Read::Stop
            }
            Err(Errno::EINTR) => Read::More,
            Err(error) => {
                self.state.fail(token, error);
                Read::Stop
            }
        }
    }

    /// Gives the first `length` bytes of the chunk to the handler, behind whatever it left before.
    #[inline]
    fn hand_over(&mut self, token: Token, length: usize) {
        if self.state.slot_mut(token).pending_bytes() > 0 {
            let pending = &mut self.state.transfer_mut(token).expect("live").pending;
            pending.extend_from_slice(&self.chunk[..length]);
            return self.hand_over_pending(token);
        }
        let Some(connection) = self.connections[token.slot() as usize].as_mut() else { return };
        let bytes = &self.chunk[..length];
        let consumed = self.handler.on_data(&mut Context::new(&mut self.state), token, connection, bytes);
        assert!(consumed <= length, "on_data consumed {consumed} of {length} bytes");
        if consumed < length && self.keeps_input(token) {
            let pending = &mut self.state.transfer_mut(token).expect("live").pending;
            pending.extend_from_slice(&self.chunk[consumed..length]);
            self.limit_pending(token);
        }
    }

    fn hand_over_pending(&mut self, token: Token) {
        if self.state.slot_mut(token).pending_bytes() == 0 {
            return;
        }
        let mut pending = std::mem::take(&mut self.state.transfer_mut(token).expect("live").pending);
        let Some(connection) = self.connections[token.slot() as usize].as_mut() else { return };
        let consumed = self.handler.on_data(&mut Context::new(&mut self.state), token, connection, &pending);
        assert!(consumed <= pending.len(), "on_data consumed {consumed} of {} bytes", pending.len());
        if !self.keeps_input(token) {
            return;
        }
        pending.drain(..consumed);
        self.state.transfer_mut(token).expect("live").pending = pending;
        self.limit_pending(token);
        self.state.recycle_transfer(token);
    }

    /// Whether unconsumed bytes are still of interest: the handler may just have closed the connection.
    fn keeps_input(&self, token: Token) -> bool {
        self.state.registry.get(token).is_some_and(|slot| slot.phase == Phase::Open)
    }

    fn limit_pending(&mut self, token: Token) {
        let limit = self.state.config.pending_bytes_max;
        let slot = self.state.slot_mut(token);
        // Bytes that are to be offered again next turn are no reason to wait: nothing would lift it.
        if slot.pending_bytes() >= limit && !slot.flags.contains(Flags::OFFER) {
            slot.paused |= PauseReasons::PENDING_FULL;
        }
    }

    /// A read returned zero.
    fn peer_ended(&mut self, token: Token) {
        let slot = self.state.slot_mut(token);
        slot.flags |= Flags::END_SEEN;
        slot.ready -= Ready::READABLE;
        // A failed write has told the truth already; zero only means that the error was taken there (T51, T61).
        if let (true, Some(error)) = (slot.flags.contains(Flags::WRITE_FAILED), slot.failure()) {
            return self.state.fail(token, error);
        }
        slot.flags |= Flags::END_TOLD;
        let unconsumed = slot.pending_bytes();
        if let Some(connection) = self.connections[token.slot() as usize].as_mut() {
            self.handler.on_end(&mut Context::new(&mut self.state), token, connection, unconsumed);
        }
        // A reset that came with the end has been told of already, and will not be again.
        self.peer_is_gone(token);
    }

    /// Flushes a connection right after it was served, if that has queued much: at the end of the turn the processor's
    /// cache would have lost it. Small answers wait, because all reads and then all writes cost less than a mixture.
    #[inline]
    pub(crate) fn flush_early(&mut self, token: Token) {
        let threshold_bytes = self.state.config.flush_early_bytes;
        let Some(slot) = self.state.registry.get_mut(token) else { return };
        if slot.queued_bytes() >= threshold_bytes
            && slot.phase == Phase::Open
            && slot.flags.contains(Flags::DIRTY)
        {
            slot.flags -= Flags::DIRTY;
            self.flush(token);
        }
    }

    /// Writes what is queued, as far as the kernel takes it and the budget lasts; then ends our side if that is wanted.
    pub(crate) fn flush(&mut self, token: Token) {
        for _ in 0..self.state.config.writes_per_turn {
            let Some(slot) = self.state.registry.get(token) else { return };
            // A write that failed may have ended it: what is still queued then has nowhere to go.
            if !matches!(slot.phase, Phase::Open | Phase::Draining) {
                return;
            }
            if slot.queued_bytes() == 0 || !slot.ready.contains(Ready::WRITABLE) {
                return self.flushed(token);
            }
            self.write_once(token);
        }
        self.flushed(token);
        let Some(slot) = self.state.registry.get(token) else { return };
        if matches!(slot.phase, Phase::Open | Phase::Draining)
            && slot.queued_bytes() > 0
            && slot.ready.contains(Ready::WRITABLE)
        {
            self.state.counters.write_budget_ends += 1;
            self.state.mark_dirty(token);
        }
    }

    #[inline]
    fn write_once(&mut self, token: Token) {
        let config = &self.state.config;
        let (segments_max, bytes_max) = (config.write_segments_max, config.write_bytes_max);
        let slot = self.state.registry.get_mut(token).expect("the caller holds a live token");
        let fd = slot.fd;
        let queue = &mut slot.transfer.as_mut().expect("bytes are queued").queue;
        let (result, offered) = match queue.single(segments_max, bytes_max) {
            Some(bytes) => (self.sys.send(fd, bytes), bytes.len()),
            None => {
                let mut slices = [IoSlice::new(&[]); SEGMENTS_PER_WRITE_MAX];
                let (count, offered) = queue.gather(&mut slices, segments_max, bytes_max);
                (self.sys.sendmsg(fd, &slices[..count]), offered)
            }
        };
        self.state.counters.writes += 1;
        match result {
            Ok(sent) => {
                queue.advance(sent);
                self.state.counters.bytes_written += sent as u64;
                // Cut short: the kernel owes an edge when there is room again (kernel-semantics E19).
                if sent < offered {
                    self.no_room(token);
                }
                self.state.note_pressure(token);
                if self.state.slot_mut(token).phase == Phase::Draining {
                    // The drain limit counts from the last progress (bug-catalogue B79).
                    let drain_ns = self.state.config.drain_ns;
                    self.state.arm_close_timer(token, drain_ns);
                }
            }
            Err(Errno::EAGAIN) => {
                self.state.counters.writes_full += 1;
                self.no_room(token);
            }
            Err(Errno::EINTR) => {}
            // Not the connection but the system is short; nothing tells when that is over.
            Err(Errno::ENOBUFS | Errno::ENOMEM) => {
                slot.ready -= Ready::WRITABLE;
                let deadline = self.state.now.saturating_add_ns(WRITE_REST_NS);
                self.state.timers.arm(deadline, timer_kind::WRITE, token.as_word());
            }
            Err(error) => self.write_failed(token, error),
        }
    }

    fn no_room(&mut self, token: Token) {
        let slot = self.state.slot_mut(token);
        slot.ready -= Ready::WRITABLE;
        let fd = slot.fd;
        self.poller.arm_write(fd, token);
    }

    /// The rest that followed a shortage of the system's buffers is over.
    pub(crate) fn end_write_rest(&mut self, token: Token) {
        if let Some(slot) = self.state.registry.get_mut(token) {
            slot.ready |= Ready::WRITABLE;
            self.state.mark_dirty(token);
        }
    }

    /// Nothing more can be sent. What the peer sent before is still delivered (bug-catalogue B27); then the connection
    /// ends with this error.
    fn write_failed(&mut self, token: Token, error: Errno) {
        let slot = self.state.slot_mut(token);
        if slot.phase != Phase::Open || slot.flags.contains(Flags::END_SEEN) {
            return self.state.fail(token, error);
        }
        slot.reason = CloseReason::Failed(error);
        slot.flags |= Flags::WRITE_FAILED;
        slot.ready |= Ready::READABLE | Ready::HANGUP;
        if let Some(transfer) = slot.transfer.as_mut() {
            transfer.queue.clear();
        }
        self.state.note_pressure(token);
        self.state.recycle_transfer(token);
        self.state.enqueue(token);
    }

    /// The end of a flush: with nothing left to send, our side is ended if that is wanted.
    fn flushed(&mut self, token: Token) {
        let Some(slot) = self.state.registry.get_mut(token) else { return };
        if slot.queued_bytes() > 0 {
            return;
        }
        let ends = match slot.phase {
            Phase::Open => slot.flags.contains(Flags::END_WANTED),
            Phase::Draining => true,
            _ => return,
        };
        if ends && !slot.flags.intersects(Flags::END_SENT | Flags::WRITE_FAILED) {
            slot.flags |= Flags::END_SENT;
            let fd = slot.fd;
            // With the peer's end already read, closing sends our end: one call less.
            if !(slot.phase == Phase::Draining && slot.flags.contains(Flags::END_SEEN)) {
                match self.sys.shutdown(fd, Shutdown::Write) {
                    // ENOTCONN: the connection is gone; reading tells why.
                    Ok(()) | Err(Errno::ENOTCONN) => {}
                    Err(error) => return self.state.fail(token, error),
                }
            }
        }
        let slot = self.state.slot_mut(token);
        if slot.phase == Phase::Draining {
            if slot.flags.contains(Flags::END_SEEN) {
                return self.state.finish(token, CloseReason::Finished);
            }
            slot.phase = Phase::Lingering;
            let linger_ns = self.state.config.linger_ns;
            self.state.arm_close_timer(token, linger_ns);
            self.state.enqueue(token);
        }
        self.state.recycle_transfer(token);
    }
}
