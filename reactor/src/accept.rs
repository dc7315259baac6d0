//! Listening and accepting: every error of `accept(2)` has a class, and no class stops the listener for good.

use std::net::SocketAddr;

use crate::context::Context;
use crate::handler::{Handler, Origin};
use crate::poller::{Ready, Source};
use crate::reactor::{ListenOptions, Reactor};
use crate::registry::{Flags, Phase};
use crate::state::{Stop, timer_kind};
use crate::sys::{Accepted, Errno, Family, Fd, Syscalls};
use crate::token::Token;

/// What an error of `accept(2)` means for the loop around it (kernel-semantics T44).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum AcceptError {
    /// The queue is empty.
    Empty,
    /// One connection is lost, or the call was interrupted; the next may be fine (bug-catalogue B23).
    Continue,
    /// Descriptors, buffers or memory have run out; the connection may still be queued.
    Exhausted,
    /// The listener itself is unusable.
    Broken,
}

impl AcceptError {
    fn of(error: Errno) -> AcceptError {
        match error {
            Errno::EAGAIN => AcceptError::Empty,
            // A refusal by policy may be about every connection, and may leave it queued: without a rest the loop would
            // spin.
            Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOBUFS
            | Errno::ENOMEM
            | Errno::ENOSPC
            | Errno::EPERM
            | Errno::EACCES => AcceptError::Exhausted,
            Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EFAULT | Errno::Unsupported => {
                AcceptError::Broken
            }
            // ECONNABORTED, EPROTO, EINTR and the pending errors of the network that Linux passes on: whatever
            // else it is, it is about one connection.
            _ => AcceptError::Continue,
        }
    }
}

impl<S: Syscalls, H: Handler> Reactor<S, H> {
    pub(crate) fn open_listener(
        &mut self,
        address: SocketAddr,
        options: &ListenOptions,
        tag: u64,
    ) -> Result<Token, Errno> {
        if self.state.stop != Stop::No {
            return Err(Errno::ESHUTDOWN);
        }
        let fd = self.sys.socket(Family::of(&address))?;
        let token = self.bind_listener(fd, address, options, tag);
        if token.is_err() {
            let _ = self.sys.close(fd);
        }
        token
    }

    fn bind_listener(
        &mut self,
        fd: Fd,
        address: SocketAddr,
        options: &ListenOptions,
        tag: u64,
    ) -> Result<Token, Errno> {
        for option in &options.options {
            self.sys.setsockopt(fd, *option)?;
        }
        self.sys.bind(fd, &address)?;
        self.sys.listen(fd, options.backlog)?;
        let token = self.state.registry.insert(Phase::Listener, fd, tag).ok_or(Errno::EMFILE)?;
        if let Err(error) = self.poller.register(&mut self.sys, fd, token, Source::Listener) {
            self.state.registry.remove(token);
            return Err(error);
        }
        Ok(token)
    }

    /// Takes connections until the queue is empty or the budget ends. An edge tells of the first connection only
    /// (kernel-semantics E28), so a budget that ends early leaves the listener queued.
    pub(crate) fn accept(&mut self, listener: Token) {
        for _ in 0..self.state.config.accepts_per_turn {
            let Some(slot) = self.state.registry.get(listener) else { return };
            if slot.phase != Phase::Listener
                || slot.flags.contains(Flags::RESTING)
                || !slot.ready.contains(Ready::READABLE)
            {
                return;
            }
            let (fd, tag) = (slot.fd, slot.tag);
            match self.sys.accept4(fd) {
                Ok(accepted) => self.welcome(listener, tag, accepted),
                Err(error) => match AcceptError::of(error) {
                    AcceptError::Empty => {
                        self.state.slot_mut(listener).ready -= Ready::READABLE;
                        return;
                    }
                    AcceptError::Continue => self.state.counters.accept_errors += 1,
                    AcceptError::Exhausted => {
                        self.shed_one(fd);
                        self.rest(listener);
                        return;
                    }
                    AcceptError::Broken => {
                        tracing::error!(%error, "listener is unusable");
                        self.state.fail(listener, error);
                        return;
                    }
                },
            }
        }
        self.state.enqueue(listener);
    }

    /// Makes a connection of an accepted descriptor, or releases it.
    fn welcome(&mut self, listener: Token, tag: u64, accepted: Accepted) {
        let Some(peer) = accepted.peer else {
            // macOS hands out a connection that is already reset, without an address (kernel-semantics T38).
            self.state.counters.accept_errors += 1;
            let _ = self.sys.close(accepted.fd);
            return;
        };
        let Some(token) = self.state.registry.insert(Phase::Open, accepted.fd, tag) else {
            self.state.counters.shed += 1;
            let _ = self.sys.close(accepted.fd);
            return;
        };
        if let Err(error) = self.poller.register(&mut self.sys, accepted.fd, token, Source::Stream) {
            self.state.counters.registrations_failed += 1;
            self.state.counters.shed += 1;
            tracing::warn!(%error, "accepted connection could not be registered");
            self.state.registry.remove(token);
            let _ = self.sys.close(accepted.fd);
            return;
        }
        // A fresh connection has room; if not, the first write finds out.
        self.state.slot_mut(token).ready |= Ready::WRITABLE;
        self.state.counters.accepted += 1;
        self.open(token, Origin::Accepted { listener, tag, peer });
    }

    /// Tells the handler of an open connection and keeps what it returns.
    pub(crate) fn open(&mut self, token: Token, origin: Origin) {
        let connection = self.handler.on_open(&mut Context::new(&mut self.state), token, origin);
        let index = token.slot() as usize;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(connection);
        self.state.slot_mut(token).flags |= Flags::OPENED;
    }

    /// Takes one connection off the queue with the descriptor held in reserve and drops it, so that its client hears of
    /// it instead of waiting. The queue may well be empty: Linux looks at the descriptor limit first (T35).
    fn shed_one(&mut self, listener: Fd) {
        let Some(reserve) = self.reserve.take() else { return };
        let _ = self.sys.close(reserve);
        if let Ok(accepted) = self.sys.accept4(listener) {
            self.state.counters.shed += 1;
            let _ = self.sys.close(accepted.fd);
        }
        self.restore_reserve();
    }

    /// Holds a descriptor back again, if there is one to be had.
    pub(crate) fn restore_reserve(&mut self) {
        if self.reserve.is_none() {
            self.reserve = self.sys.socket(Family::V4).ok();
        }
    }

    /// Leaves a listener alone for a while. Its readiness stays: no further edge would tell of the connections queued.
    fn rest(&mut self, listener: Token) {
        self.state.counters.accept_pauses += 1;
        let deadline = self.state.now.saturating_add_ns(self.state.config.accept_pause_ns);
        let timer = self.state.timers.arm(deadline, timer_kind::ACCEPT, listener.as_word());
        let slot = self.state.slot_mut(listener);
        slot.flags |= Flags::RESTING;
        slot.timer = Some(timer);
    }

    /// The rest is over: accepting goes on, and only now (bug-catalogue B56).
    pub(crate) fn end_rest(&mut self, listener: Token) {
        self.restore_reserve();
        let Some(slot) = self.state.registry.get_mut(listener) else { return };
        let (fd, unwatched) = (slot.fd, slot.flags.contains(Flags::UNWATCHED));
        slot.flags -= Flags::RESTING | Flags::UNWATCHED;
        slot.timer = None;
        self.state.enqueue(listener);
        if unwatched && let Err(error) = self.poller.register(&mut self.sys, fd, listener, Source::Listener) {
            self.refused(listener, error);
        }
    }

    /// The kernel refused to watch a source. A connection ends with that; a listener tries again after a rest, since
    /// nothing else would ever tell that it accepts no more (bug-catalogue B21, B49).
    pub(crate) fn refused(&mut self, token: Token, error: Errno) {
        let Some(slot) = self.state.registry.get_mut(token) else { return };
        if slot.phase != Phase::Listener {
            return self.state.fail(token, error);
        }
        slot.flags |= Flags::UNWATCHED;
        if !slot.flags.contains(Flags::RESTING) {
            self.rest(token);
        }
    }
}
