//! The end of connections: deadlines, and the release of what was held.

use crate::context::Context;
use crate::handler::{CloseReason, Handler};
use crate::reactor::Reactor;
use crate::registry::{Flags, NO_FD, Phase};
use crate::sys::{SocketOption, Syscalls};
use crate::token::Token;

impl<S: Syscalls, H: Handler> Reactor<S, H> {
    /// The current phase of a close has taken too long.
    pub(crate) fn close_overdue(&mut self, token: Token) {
        let Some(slot) = self.state.registry.get_mut(token) else { return };
        slot.timer = None;
        match slot.phase {
            Phase::Draining => {
                // Bytes are lost; a reset says so, where an ordinary end would look complete.
                slot.flags |= Flags::RESET;
                self.state.finish(token, CloseReason::DrainExpired);
            }
            Phase::Lingering => self.state.finish(token, CloseReason::LingerExpired),
            _ => {}
        }
    }

    /// Releases a connection or listener that has ended: last word to the handler, then the descriptor, then the slot.
    pub(crate) fn release(&mut self, token: Token) {
        let Some(slot) = self.state.registry.get_mut(token) else { return };
        debug_assert_eq!(slot.phase, Phase::Closing);
        let (fd, flags, reason) = (slot.fd, slot.flags, slot.reason);
        let timer = slot.timer.take();
        let transfer = slot.transfer.take();
        if let Some(timer) = timer {
            self.state.timers.cancel(timer);
        }
        if let Some(transfer) = transfer {
            self.state.pool(transfer);
        }
        if flags.contains(Flags::OPENED) {
            self.state.slot_mut(token).flags -= Flags::OPENED;
            self.state.counters.closed += 1;
            if let Some(connection) = self.connections[token.slot() as usize].take() {
                self.handler.on_close(&mut Context::new(&mut self.state), token, connection, reason);
            }
        } else if self.state.slot_mut(token).is_outgoing() {
            self.report_connect_failed(token);
        }
        if fd != NO_FD {
            if flags.contains(Flags::RESET) {
                let _ = self.sys.setsockopt(fd, SocketOption::ResetOnClose(true));
            }
            self.poller.forget(fd);
            // Never retried: the number is free whatever the answer (kernel-semantics T79, bug-catalogue B44).
            let _ = self.sys.close(fd);
        }
        self.state.registry.remove(token);
    }
}
