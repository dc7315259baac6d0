//! Threads of a process that are not reactors: producers that post messages and wake loops.

use std::fmt;

use reactor::time::Instant;

/// Names an actor of a world.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ActorId(pub u32);

/// A thread that is not a reactor, cut into steps. A step may post to mailboxes and call wake handles; it runs between
/// two calls of a reactor, or inside one, while the world is not borrowed.
pub trait Actor {
    /// Runs the next step; answers the nanoseconds until the one after it, or `None` when the actor has finished.
    fn step(&mut self, now: Instant) -> Option<u64>;
}

/// An actor and when it is due.
pub(crate) struct ActorSlot {
    /// The process that it dies with, if any.
    pub(crate) process: Option<u32>,
    /// Absent while the actor runs, and after it has finished.
    pub(crate) actor: Option<Box<dyn Actor>>,
    /// The serial of its queued event; an event with another serial is stale.
    pub(crate) serial: u32,
    /// Whether a step is queued.
    pub(crate) queued: bool,
}

impl fmt::Debug for ActorSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ActorSlot { process, actor, serial, queued } = self;
        f.debug_struct("ActorSlot")
            .field("process", process)
            .field("present", &actor.is_some())
            .field("serial", serial)
            .field("queued", queued)
            .finish()
    }
}
