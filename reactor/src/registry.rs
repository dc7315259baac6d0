//! Who is who: slots, their generations, and what the loop keeps for each connection and listener.
//!
//! Invariant: a slot is on the free list exactly if its phase is `Free`; a token is live exactly if its slot is not free
//! and the generations match.

use std::net::SocketAddr;

use crate::handler::CloseReason;
use crate::poller::Ready;
use crate::pressure::{PauseReasons, Watermark};
use crate::sys::{Errno, Fd, SocketOption};
use crate::timer::TimerToken;
use crate::token::Token;
use crate::write_queue::WriteQueue;

/// Where a connection or listener is in its life. A connection only moves down this list.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    /// Nobody lives here.
    Free,
    /// A listener.
    Listener,
    /// A connect was asked for; no system call has been made.
    Requested,
    /// A connect is in progress.
    Connecting,
    /// Open; possibly half-closed, see the flags.
    Open,
    /// The application has closed it; queued bytes are being flushed, input is discarded.
    Draining,
    /// Everything is flushed and our side is ended; input is discarded until the peer ends its side.
    Lingering,
    /// To be released at the end of the turn.
    Closing,
}

bitflags::bitflags! {
    /// Facts about a connection that its phase does not tell.
    #[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
    pub(crate) struct Flags: u16 {
        /// On the run queue.
        const QUEUED = 0x0001;
        /// On the list of connections with deferred system calls.
        const DIRTY = 0x0002;
        /// A read returned zero.
        const END_SEEN = 0x0004;
        /// The handler was told that the peer ended.
        const END_TOLD = 0x0008;
        /// The application wants our side ended once the queue is empty.
        const END_WANTED = 0x0010;
        /// Our side is ended.
        const END_SENT = 0x0020;
        /// A write failed: nothing more can be sent, but received bytes may still be waiting.
        const WRITE_FAILED = 0x0040;
        /// The handler has been told of the connection and is owed an `on_close`.
        const OPENED = 0x0080;
        /// Kept bytes are to be offered again.
        const OFFER = 0x0100;
        /// The close is to reset the connection.
        const RESET = 0x0200;
        /// A listener rests after the system ran out of something.
        const RESTING = 0x0400;
        /// Made by connecting.
        const OUTGOING = 0x0800;
        /// A listener that the kernel has refused to watch so far.
        const UNWATCHED = 0x1000;
    }
}

/// What a connect needs when its system calls are made.
#[derive(Debug)]
pub(crate) struct ConnectRequest {
    pub address: SocketAddr,
    pub options: Vec<SocketOption>,
}

/// What a connection needs only while bytes wait, in either direction. Idle connections have none: it goes back to a pool.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    pub queue: WriteQueue,
    /// Received and not consumed.
    pub pending: Vec<u8>,
    pub connect: Option<Box<ConnectRequest>>,
}

/// One connection or listener.
#[derive(Debug)]
pub(crate) struct Slot {
    pub generation: u32,
    pub fd: Fd,
    pub tag: u64,
    pub transfer: Option<Box<Transfer>>,
    /// The timer that bounds draining, lingering or resting.
    pub timer: Option<TimerToken>,
    pub reason: CloseReason,
    pub flags: Flags,
    pub phase: Phase,
    pub ready: Ready,
    pub paused: PauseReasons,
    pub watermark: Watermark,
}

/// At most 64 bytes for an idle connection, beside the handler's own state for it.
const _: () = assert!(size_of::<Slot>() <= 64);

/// A number no kernel hands out.
pub(crate) const NO_FD: Fd = Fd::from_raw(-1);

impl Slot {
    pub fn token(&self, index: u32) -> Token {
        Token::new(index, self.generation)
    }

    #[inline]
    pub fn queued_bytes(&self) -> usize {
        self.transfer.as_ref().map_or(0, |transfer| transfer.queue.bytes())
    }

    #[inline]
    pub fn pending_bytes(&self) -> usize {
        self.transfer.as_ref().map_or(0, |transfer| transfer.pending.len())
    }

    /// Whether the application may still write.
    #[inline]
    pub fn accepts_writes(&self) -> bool {
        matches!(self.phase, Phase::Requested | Phase::Connecting | Phase::Open)
            && !self.flags.intersects(Flags::END_WANTED | Flags::WRITE_FAILED)
    }

    /// Whether it was made by connecting.
    pub fn is_outgoing(&self) -> bool {
        self.flags.contains(Flags::OUTGOING)
    }

    /// The error that the close will report, if there is one.
    #[inline]
    pub fn failure(&self) -> Option<Errno> {
        match self.reason {
            CloseReason::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Registry {
    slots: Vec<Slot>,
    free: Vec<u32>,
    slots_max: u32,
    generation_start: u32,
}

impl Registry {
    pub fn new(slots_max: u32, generation_start: u32) -> Registry {
        Registry { slots: Vec::new(), free: Vec::new(), slots_max, generation_start }
    }

    /// Takes a free slot for a new tenant, or nothing when `slots_max` are taken.
    pub fn insert(&mut self, phase: Phase, fd: Fd, tag: u64) -> Option<Token> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).ok().filter(|index| *index < self.slots_max)?;
                self.slots.push(Slot {
                    generation: self.generation_start,
                    fd: NO_FD,
                    tag: 0,
                    transfer: None,
                    timer: None,
                    reason: CloseReason::Finished,
                    flags: Flags::empty(),
                    phase: Phase::Free,
                    ready: Ready::empty(),
                    paused: PauseReasons::empty(),
                    watermark: Watermark::default(),
                });
                index
            }
        };
        let slot = &mut self.slots[index as usize];
        debug_assert_eq!(slot.phase, Phase::Free);
        slot.phase = phase;
        slot.fd = fd;
        slot.tag = tag;
        Some(slot.token(index))
    }

    /// Ends a tenancy: from here on its token is dead.
    pub fn remove(&mut self, token: Token) {
        let index = token.slot();
        let slot = self.get_mut(token).expect("only live tokens are removed");
        slot.generation = slot.generation.wrapping_add(1);
        slot.phase = Phase::Free;
        slot.fd = NO_FD;
        slot.transfer = None;
        slot.timer = None;
        slot.reason = CloseReason::Finished;
        slot.flags = Flags::empty();
        slot.ready = Ready::empty();
        slot.paused = PauseReasons::empty();
        slot.watermark = Watermark::default();
        self.free.push(index);
    }

    #[inline]
    pub fn get(&self, token: Token) -> Option<&Slot> {
        let slot = self.slots.get(token.slot() as usize)?;
        (slot.generation == token.generation() && slot.phase != Phase::Free).then_some(slot)
    }

    #[inline]
    pub fn get_mut(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.slot() as usize)?;
        (slot.generation == token.generation() && slot.phase != Phase::Free).then_some(slot)
    }

    /// Live connections and listeners.
    pub fn live(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The live tokens, in slot order.
    pub fn tokens(&self) -> Vec<Token> {
        self.iter().map(|(token, _)| token).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Token, &Slot)> {
        (0u32..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.phase != Phase::Free)
            .map(|(index, slot)| (slot.token(index), slot))
    }

    /// Asserts the module's invariant.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn assert_invariants(&self) {
        let mut free = self.free.clone();
        free.sort_unstable();
        let empty: Vec<u32> =
            (0u32..).zip(&self.slots).filter(|(_, s)| s.phase == Phase::Free).map(|(i, _)| i).collect();
        assert_eq!(free, empty, "registry: the free list differs from the free slots");
        for (token, slot) in self.iter() {
            if let Some(transfer) = &slot.transfer {
                transfer.queue.assert_invariants();
            }
            assert!(
                slot.fd != NO_FD || matches!(slot.phase, Phase::Requested | Phase::Closing),
                "registry: {token:?} in phase {:?} has no descriptor",
                slot.phase
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NO_FD, Phase, Registry};

    #[test]
    fn a_dead_token_never_reaches_the_next_tenant_of_its_slot() {
        let mut registry = Registry::new(4, u32::MAX);
        let first = registry.insert(Phase::Requested, NO_FD, 1).expect("room");
        registry.remove(first);
        let second = registry.insert(Phase::Requested, NO_FD, 2).expect("room");
        assert_eq!(first.slot(), second.slot());
        assert_ne!(first, second, "the generation wraps to a new value");
        assert!(registry.get(first).is_none());
        assert_eq!(registry.get(second).map(|slot| slot.tag), Some(2));
        registry.assert_invariants();
    }

    #[test]
    fn a_full_registry_refuses() {
        let mut registry = Registry::new(1, 0);
        assert!(registry.insert(Phase::Requested, NO_FD, 0).is_some());
        assert!(registry.insert(Phase::Requested, NO_FD, 0).is_none());
    }
}
