//! What the peers of an imported loop do, and how that is laid out among the decisions of its run.
//!
//! Each connection has a lane of [`Domain::Workload`](crate::decision::Domain), numbered from 1, and the other threads of the
//! process have lane 0. An act is three decisions: what is done, how much of it, and how long after the act before. Zero is
//! nothing, and the time passes all the same, so that a lane of which some acts have been taken away keeps the times of the others.

use crate::decision::Site;

/// What is done.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    /// Nothing.
    Nothing,
    /// A peer connects.
    Connect,
    /// A peer sends the next so many bytes of its stream.
    Send,
    /// A peer sends what is left of its stream, and ends it.
    Finish,
    /// A peer resets the connection.
    Reset,
    /// A packet without news comes: an acknowledgement.
    Nudge,
    /// Other threads post the next so many messages, and wake the loop.
    Post,
    /// The loop is told to stop.
    Stop,
}

/// In the order of their numbers, which kept runs hold.
const DEEDS: [Deed; 8] = [
    Deed::Nothing,
    Deed::Connect,
    Deed::Send,
    Deed::Finish,
    Deed::Reset,
    Deed::Nudge,
    Deed::Post,
    Deed::Stop,
];

impl Deed {
    /// How many there are.
    pub(crate) const COUNT: u64 = DEEDS.len() as u64;

    /// Its number, as a decision has it.
    pub(crate) fn number(self) -> u64 {
        DEEDS.iter().position(|&deed| deed == self).map_or(0, |place| place as u64)
    }

    /// The deed with this number.
    pub(crate) fn from_number(number: u64) -> Deed {
        DEEDS.get(number as usize).copied().unwrap_or(Deed::Nothing)
    }
}

/// Something that is done at some time.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Act {
    /// When, in nanoseconds of the recorded clock.
    pub(crate) at_ns: u64,
    /// What.
    pub(crate) deed: Deed,
    /// Bytes, or messages.
    pub(crate) amount: u64,
}

/// The sites of the three decisions of an act.
pub(crate) const WHAT: Site = Site("what a peer does");
pub(crate) const HOW_MUCH: Site = Site("how much of it");
pub(crate) const HOW_LONG: Site = Site("how long after the act before");

/// More than any act has of bytes or messages.
pub(crate) const AMOUNT_MAX: u64 = 1 << 32;

/// The decisions of a lane that begins at `origin_ns`.
pub(crate) fn decisions_of(acts: &[Act], origin_ns: u64) -> Vec<u64> {
    let mut before_ns = origin_ns;
    let mut values = Vec::with_capacity(acts.len() * 3);
    for act in acts {
        let after_ns = act.at_ns.saturating_sub(before_ns);
        before_ns = before_ns.max(act.at_ns);
        values.extend([act.deed.number(), act.amount, after_ns]);
    }
    values
}
