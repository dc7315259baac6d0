//! Trouble by real means: on the wire, at the sockets, in the process. Drawn from the seed of each episode, and over before
//! its load is, so that everything that is owed can come.
//!
//! What chaos breaks is excused, and nothing else: [`cuts`] knows which connections the proxy cut, and shortages of
//! descriptors are told by the errors of calls. A stream that was only delayed, split or stalled has to come whole.

mod ability;
mod chronicle;
pub(crate) mod connections;
mod crossing;
mod cuts;
mod ground;
mod interrupt;
mod kind;
pub(crate) mod memory_group;
mod proxy;
mod schedule;
pub(crate) mod shortage;
mod storm;
mod strike;
#[cfg(test)]
mod tests;
mod turmoil;

pub(crate) use self::chronicle::{Chronicle, Happened};
pub(crate) use self::cuts::Cuts;
pub(crate) use self::ground::{Ground, Shape};
pub(crate) use self::kind::Kind;
pub(crate) use self::memory_group::MemoryGroup;
pub(crate) use self::schedule::{ChaosOptions, Event, Level, Schedule, Share};
pub(crate) use self::storm::CONNECTIONS_MAX as STORM_CONNECTIONS_MAX;
pub(crate) use self::turmoil::{Exposure, Turmoil};

use crate::{Failure, say};

/// `soak chaos`: the kinds, what each does, and what is left out here.
///
/// # Errors
/// Machine: standard output refuses.
pub(crate) fn list() -> Result<(), Failure> {
    for kind in Kind::ALL {
        say(&format!("{kind:<12} {}", kind.describe()))?;
        match kind.left_out(true) {
            None => say(&format!("{:<12}   needs {}", "", kind.needs()))?,
            Some(reason) => say(&format!("{:<12}   left out here: {reason}; needs {}", "", kind.needs()))?,
        }
    }
    Ok(())
}
