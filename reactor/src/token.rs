//! Identity: a slot and the full 32-bit generation of its tenant, in one 64-bit word that the kernel carries for us.

use std::fmt;

/// Names one connection or one listener, for as long as it lives and never again: the slot is reused, the generation is
/// not (until it wraps after 2^32 tenants of one slot; simulated runs start it near the wrap).
///
/// The word travels through the kernel as user data, so an event of a dead connection is recognised when it comes back,
/// whoever owns the descriptor number by then (bug-catalogue B02, B10).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// Slots from here on are not connections: the loop's own sources live there, so that no generation can ever make a
    /// connection's token equal to the waker's (bug-catalogue B91).
    pub const RESERVED_SLOT_MIN: u32 = 0xffff_ff00;

    /// The waker of the loop.
    pub(crate) const WAKER: Token = Token::new(Token::RESERVED_SLOT_MIN, 0);

    pub(crate) const fn new(slot: u32, generation: u32) -> Token {
        Token((slot as u64) << 32 | generation as u64)
    }

    /// The token that a word returned by the kernel stands for; it may be dead, or none of ours.
    pub const fn from_word(word: u64) -> Token {
        Token(word)
    }

    /// The word that is given to the kernel.
    pub const fn as_word(self) -> u64 {
        self.0
    }

    /// The slot: an index below the connection limit, reused.
    pub const fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The generation of the slot's tenant.
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.slot(), self.generation())
    }
}
