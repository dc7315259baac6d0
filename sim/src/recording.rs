//! Episodes on real sockets, taken down call by call, and played back.
//!
//! A [`Recorder`] wraps the system calls of a loop and writes each into a [`Journal`] with its result; the audit above the
//! loop adds the messages at the place where they are delivered, and the driver adds the stop that other threads ask for.
//! That is all that a loop and its party are given from outside, so playing it back, with [`replay()`], drives the same loop
//! through the same turns, one loop of the episode after the other, with no kernel at all.
//!
//! # The file
//!
//! The first line is `sim-recording 3`, then come the frames of [`crate::frame`].
//!
//! | kind | payload |
//! |---|---|
//! | `H` | lines `name value`: build, workload, seed of the plan, its load if it has one, where nobody listens, limits of the loops |
//! | `L` | a loop: lines `name value`: role, number, poller, addresses of the services, whether its log was cut at the bound |
//! | `K` | entries of the loop named last, at most about 256 KiB of them |
//! | `E` | lines `name value`: whether the episode was late, and what was wrong |
//!
//! An entry is a call, a message, a stop or the loop's end; see [`Entry`]. What the kernel gave is held whole, but for bytes that a
//! workload generates, and that were compared with what it generates: those are a [`Stretch`]. What the loop sent is its length
//! and a CRC-32, of long sends over samples. Whoever reads a file never takes more memory than a small multiple of its size.
//! Version 1 had no stretches, and sums over all bytes; it is read too.

mod chunk_pool;
mod entry;
mod file;
mod journal;
mod log;
mod plan;
mod playback;
mod recorder;
mod replay;
mod settings;
mod show;
mod stretch;
mod words;

use std::fmt;
use std::net::SocketAddr;

use reactor::Config;

use crate::file::shown;
use crate::frame::Format;
use crate::member::Role;
use crate::oracle::Oracle;
use crate::run_log::build_name;

pub use chunk_pool::ChunkPool;
pub(crate) use entry::address;
pub use entry::{Call, End, Entry, Excuse, epoll_events, kevents};
pub use file::framed;
pub use journal::{Budget, Journal, Taken};
pub use log::{Cursor, LoopLog};
pub use plan::{Plan, PlanUse};
pub use playback::Difference;
pub use recorder::Recorder;
pub use replay::{LoopEnd, LoopReplay, Options, Replay, replay};
pub use show::{write_json, write_text};
pub use stretch::Stretch;
pub(crate) use words::checksums;

/// What the files begin with.
pub const FORMAT: Format = Format { magic: "sim-recording", version: 3, what: "recording" };

/// What was wrong with an episode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The name of the oracle that saw it.
    pub invariant: String,
    /// What exactly.
    pub details: String,
    /// The name of the loop that saw it; `None` for what only all of them together show.
    pub culprit: Option<String>,
}

impl Failure {
    fn is_of_liveness(&self) -> bool {
        matches!(Oracle::from_name(&self.invariant), Some(Oracle::Liveness | Oracle::LostWakeup))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { invariant, details, culprit } = self;
        write!(f, "{}: {}", shown(invariant), shown(details))?;
        match culprit {
            Some(culprit) => write!(f, " (seen by {})", shown(culprit)),
            None => Ok(()),
        }
    }
}

/// How an episode ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Whether somebody had not finished when the episode's time was over.
    pub late: bool,
    /// What was wrong, if anything.
    pub failure: Option<Failure>,
    /// What was wrong with the loops of several processes together, of which this recording has those of one.
    pub joined: Option<Failure>,
}

impl Verdict {
    /// Whether a replay that found this wrong has come to the same end. Who drove the loops saw of one that sleeps only that
    /// something owed did not come; a replay asks the party, which may name more closely what it misses.
    pub fn agrees_with(&self, failure: Option<&Failure>) -> bool {
        match (&self.failure, failure) {
            (None, None) => true,
            (Some(then), Some(now)) => {
                let same_name = then.invariant == now.invariant;
                let both_late = self.late && then.is_of_liveness() && now.is_of_liveness();
                then.culprit == now.culprit && (same_name || both_late)
            }
            _ => false,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Recording {
    /// What made it, see [`build_name`].
    pub build: String,
    /// What the parties were made of.
    pub plan: Plan,
    /// An address where nobody listened.
    pub nobody: SocketAddr,
    /// The limits of every loop.
    pub config: Config,
    /// What was recorded of each: services first, then clients, each in the order of their numbers.
    pub loops: Vec<LoopLog>,
    /// How it ended; absent where the file was cut off, or the episode.
    pub verdict: Option<Verdict>,
}

impl Recording {
    /// A recording by this very program.
    pub fn new(plan: Plan, nobody: SocketAddr, config: &Config) -> Recording {
        let (build, config) = (build_name(), config.clone());
        Recording { build, plan, nobody, config, loops: Vec::new(), verdict: None }
    }

    /// One recording of those that the processes of an episode have left.
    ///
    /// # Errors
    /// When they are not of one episode, or the same process is there twice.
    pub fn join(recordings: Vec<Recording>) -> Result<Recording, String> {
        let mut recordings = recordings.into_iter();
        let mut all = recordings.next().ok_or("there is none")?;
        let mut verdicts = vec![all.verdict.take()];
        for mut other in recordings {
            if other.header() != all.header() {
                return Err(format!("they are of different episodes: {all}; {other}"));
            }
            verdicts.push(other.verdict.take());
            all.loops.append(&mut other.loops);
        }
        let place = |log: &LoopLog| (log.role == Role::Client, log.incarnation, log.index);
        all.loops.sort_by_key(place);
        if let Some([one, _]) = all.loops.array_windows().find(|[one, next]| place(one) == place(next)) {
            return Err(format!("{} is there twice", one.name()));
        }
        // What all of them show together is looked for only where none had anything wrong by itself.
        let is_whole = verdicts.iter().all(Option::is_some);
        let verdicts: Vec<Verdict> = verdicts.into_iter().flatten().collect();
        let failure = verdicts.iter().find_map(|verdict| verdict.failure.clone());
        let failure = failure.or_else(|| verdicts.iter().find_map(|verdict| verdict.joined.clone()));
        let late = verdicts.iter().any(|verdict| verdict.late);
        all.verdict = (is_whole || failure.is_some()).then_some(Verdict { late, failure, joined: None });
        Ok(all)
    }

    /// What was wrong with the episode.
    pub fn failure(&self) -> Option<&Failure> {
        self.verdict.as_ref()?.failure.as_ref()
    }

    /// Whether this very program made it.
    pub fn is_of_this_build(&self) -> bool {
        self.build == build_name()
    }
}

/// What is said of a recording in one line.
impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recording { build, plan, loops, .. } = self;
        let Plan { workload, seed, .. } = plan;
        let seed = crate::decision::seed::Seed(*seed);
        write!(f, "{workload} on real sockets, plan {seed}, {} loops, made by {}", loops.len(), shown(build))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_the_same_when_its_oracle_is_or_when_both_say_that_something_did_not_come() {
        let failure = |name: &str, culprit: Option<&str>| {
            let (invariant, culprit) = (name.to_owned(), culprit.map(str::to_owned));
            Failure { invariant, details: String::new(), culprit }
        };
        let verdict = |late, failure| Verdict { late, failure: Some(failure), joined: None };
        let asleep = failure("lost-wakeup", None);
        assert!(verdict(true, failure("liveness", None)).agrees_with(Some(&asleep)));
        assert!(!verdict(false, failure("liveness", None)).agrees_with(Some(&asleep)));
        assert!(!verdict(true, failure("byte-stream", None)).agrees_with(Some(&asleep)));
        assert!(!verdict(true, failure("liveness", None)).agrees_with(None));
        let broken = verdict(false, failure("byte-stream", Some("client 0")));
        assert!(broken.agrees_with(Some(&failure("byte-stream", Some("client 0")))));
        assert!(!broken.agrees_with(Some(&failure("byte-stream", Some("service 0")))));
        assert!(Verdict::default().agrees_with(None));
    }
}
