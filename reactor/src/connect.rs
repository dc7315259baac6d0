//! Connecting out: asked for in a handler, carried out before the wait, finished by an event.

use crate::context::Context;
use crate::handler::{Handler, Origin};
use crate::poller::{Ready, Source};
use crate::reactor::Reactor;
use crate::registry::{NO_FD, Phase};
use crate::sys::{Errno, Family, Syscalls};
use crate::token::Token;

impl<S: Syscalls, H: Handler> Reactor<S, H> {
    /// Makes the system calls of a connect that was asked for.
    pub(crate) fn start_connect(&mut self, token: Token) {
        if let Err(error) = self.try_start_connect(token) {
            self.state.fail(token, error);
        }
    }

    fn try_start_connect(&mut self, token: Token) -> Result<(), Errno> {
        let transfer = self.state.transfer_mut(token).ok_or(Errno::EBADF)?;
        let request = transfer.connect.take().expect("a requested connection has its request");
        let fd = self.sys.socket(Family::of(&request.address))?;
        self.state.slot_mut(token).fd = fd;
        for option in &request.options {
            self.sys.setsockopt(fd, *option)?;
        }
        match self.sys.connect(fd, &request.address) {
            // An interrupted connect goes on by itself (kernel-semantics T27).
            Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        self.state.transfer_mut(token).ok_or(Errno::EBADF)?.connect = Some(request);
        // Only now: a fresh socket would report a hang-up (kernel-semantics S1).
        self.poller.register(&mut self.sys, fd, token, Source::Connecting).inspect_err(|_| {
            self.state.counters.registrations_failed += 1;
        })?;
        self.state.slot_mut(token).phase = Phase::Connecting;
        Ok(())
    }

    /// Finds out what an event on a connecting socket means, and never takes readiness for success (bug-catalogue B42,
    /// B66).
    pub(crate) fn finish_connect(&mut self, token: Token) {
        let slot = self.state.slot_mut(token);
        if !slot.ready.intersects(Ready::WRITABLE | Ready::HANGUP) {
            return;
        }
        let (fd, suspicious) = (slot.fd, slot.ready.contains(Ready::HANGUP));
        match self.sys.take_socket_error(fd) {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return self.state.fail(token, error),
        }
        // No error and a hang-up: connected and already ended by the peer, or not connected at all. A second connect
        // tells (kernel-semantics T16, T17).
        if suspicious {
            let address = self.state.transfer_mut(token).and_then(|t| t.connect.as_ref()).map(|c| c.address);
            let address = address.expect("a connecting connection keeps its request");
            match self.sys.connect(fd, &address) {
                Ok(()) | Err(Errno::EISCONN) => {}
                Err(Errno::EALREADY | Errno::EINPROGRESS | Errno::EINTR) => {
                    // Still under way: what was reported was not about the end of it.
                    self.state.slot_mut(token).ready = Ready::empty();
                    self.poller.arm_write(fd, token);
                    return;
                }
                Err(error) => return self.state.fail(token, error),
            }
        }
        if let Some(transfer) = self.state.transfer_mut(token) {
            transfer.connect = None;
        }
        let slot = self.state.slot_mut(token);
        slot.phase = Phase::Open;
        slot.ready |= Ready::WRITABLE;
        let tag = slot.tag;
        self.state.counters.connected += 1;
        self.open(token, Origin::Connected { tag });
        // Whatever was written, or ended, before.
        self.state.mark_dirty(token);
        self.state.recycle_transfer(token);
        self.state.enqueue(token);
    }

    /// Reports a connect that did not lead to a connection.
    pub(crate) fn report_connect_failed(&mut self, token: Token) {
        let slot = self.state.slot_mut(token);
        let (tag, error) = (slot.tag, slot.failure().unwrap_or(Errno::ECONNABORTED));
        debug_assert!(slot.fd == NO_FD || slot.fd.as_raw() >= 0);
        self.state.counters.connects_failed += 1;
        self.handler.on_connect_failed(&mut Context::new(&mut self.state), token, tag, error);
    }
}
