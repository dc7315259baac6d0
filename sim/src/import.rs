//! A recording of real sockets as a simulated run: one of its loops on the simulated kernel, with peers who do what that loop was
//! given.
//!
//! The loop - its party with the plan of the episode, in a real [`reactor::Reactor`] - runs on an ordinary simulated kernel. All others
//! become puppets on raw sockets of the same host: each connection of the recording is a peer that connects, sends, ends or resets
//! at the times that follow from the loop's calls, and other threads post the messages that it was handed. When it reads its clock,
//! how much a send takes when memory is short, when its waits are interrupted: decisions impose these too.
//!
//! [`import`] makes that run once, comparing each call with the recorded one, and writes down every decision. From then on it is a run like any other:
//! its [`RunLog`] holds its [`Scenario`], and it replays, shrinks and is kept without the recording.
//!
//! What the simulated kernel gave otherwise than the real one is [`Drift`]. What the loop asked otherwise follows from that, or from another build
//! of the loop: from there on nothing is compared.

mod act;
mod bytes;
mod drive;
mod guide;
mod peer;
mod puppets;
mod reading;
mod scenario;
mod timing;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use reactor::sys::Readiness;

use crate::decision::Decisions;
use crate::recording::{LoopLog, Recording};
use crate::run_log::RunLog;
use crate::runner::{Outcome, RunOptions, run};
use crate::weather::Weather;

pub use crate::kernel::imposed::Imposed;
pub use guide::{Comparison, Drift};
pub use scenario::Scenario;

pub(crate) use drive::run_scenario;

use guide::ImportGuide;
use reading::Reading;
use timing::Timing;

/// The thread of the loop; the puppets' is the one before.
const SUBJECT: u32 = 1;

/// Why a recording cannot be imported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImportError {
    /// It has no loop of this name.
    NoSuchLoop {
        /// The name that was asked for.
        name: String,
        /// Those that it has.
        names: Vec<String>,
    },
    /// It has no loop at all, or nothing of the loop.
    Empty,
    /// It is about something that has no simulated counterpart yet.
    NotYet(&'static str),
    /// The plan has no such loop.
    Foreign(String),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::NoSuchLoop { name, names } => {
                write!(f, "it has no loop {name:?}; there are: {}", names.join(", "))
            }
            ImportError::Empty => f.write_str("it holds no call of a loop from its beginning on"),
            ImportError::NotYet(what) => write!(f, "{what} cannot be imported; `sim replay` plays it"),
            ImportError::Foreign(name) => {
                write!(f, "its plan has no {name}: it was made by another version of the workload")
            }
        }
    }
}

impl std::error::Error for ImportError {}

/// What came of an import.
#[derive(Debug)]
pub struct Import {
    /// The run, with its scenario and every decision.
    pub log: RunLog,
    /// How it went.
    pub outcome: Outcome,
    /// What makes it.
    pub options: RunOptions,
    /// How its calls compare with the recorded ones.
    pub comparison: Comparison,
    /// The name of the loop.
    pub subject: String,
}

/// Which loop an import is about where nobody says: who saw the failure, else the first service.
pub fn default_loop(recording: &Recording) -> Option<&LoopLog> {
    let culprit = recording.failure().and_then(|failure| failure.culprit.as_deref());
    let blamed = culprit.and_then(|name| recording.loops.iter().find(|log| log.name() == name));
    blamed.or_else(|| recording.loops.first())
}

/// Makes the simulated run of one loop, by its name or [`default_loop`]; `source` is what the run is said to come from. With
/// `until` the run is left after so many calls.
///
/// # Errors
/// When there is no such loop, or it cannot be imported.
pub fn import(
    recording: &Recording,
    subject: Option<&str>,
    source: &str,
    until: Option<u64>,
) -> Result<Import, ImportError> {
    let found = match subject {
        None => default_loop(recording).ok_or(ImportError::Empty)?,
        Some(name) => recording.loops.iter().find(|log| log.name() == name).ok_or_else(|| {
            let names = recording.loops.iter().map(LoopLog::name).collect();
            ImportError::NoSuchLoop { name: name.to_owned(), names }
        })?,
    };
    if found.readiness != Readiness::Epoll {
        return Err(ImportError::NotYet("a loop on kqueue"));
    }
    let timing = Timing::of(found).ok_or(ImportError::Empty)?;
    let reading = Reading::of(found, &timing);
    let scenario = Arc::new(Scenario::of(recording, found, &timing, &reading));
    if !scenario.has_party() {
        return Err(ImportError::Foreign(found.name()));
    }
    let comparison = Rc::new(RefCell::new(Comparison::default()));
    let guide = ImportGuide::new(Rc::new(found.clone()), &timing, reading, Rc::clone(&comparison));
    let options =
        RunOptions { scenario: Some(Arc::clone(&scenario)), until_step: until, ..RunOptions::default() };
    let options = options.fixed_to(scenario.plan().workload, scenario.kernel(), Weather::Calm);
    let recorded = options.clone().recorded();
    let outcome = run(&recorded, Decisions::from_guide(Box::new(guide)));
    let log = RunLog::of(&outcome, &recorded, source.to_owned());
    let comparison = std::mem::take(&mut *comparison.borrow_mut());
    Ok(Import { log, outcome, options, comparison, subject: found.name() })
}
