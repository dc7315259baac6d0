//! A run on disk: what was fixed of it, every decision, every call, and how it ended.
//!
//! The first line is `sim-log 1`, then come the frames of [`crate::frame`].
//!
//! | kind | payload |
//! |---|---|
//! | `H` | lines `name value`: build, workload or stage, kernel, weather, fault switches, where the decisions came from |
//! | `I` | of an imported run: its [`Scenario`], as text |
//! | `S` | names of sites, in the order of their numbers |
//! | `C` | up to 512 decisions: step, domain, site, entity, bound, value |
//! | `K` | up to 512 calls: number, thread, descriptor, arguments, result, times |
//! | `E` | lines `name value`: trace hash, calls, and what was wrong |
//!
//! Steps and times are differences from the one before. A file that was cut off is read up to its last whole frame, and says
//! so. Whoever reads a file never takes more memory than a small multiple of its size.

mod decode;
mod difference;
mod encode;

use std::fmt;
use std::sync::Arc;

use crate::decision::log::ChoiceLog;
use crate::fault::FaultSwitches;
use crate::file::shown;
use crate::frame::Format;
use crate::import::Scenario;
use crate::kernel::Kernel;
use crate::oracle::Oracle;
use crate::runner::{Failure, Outcome, RunOptions};
use crate::trace::{CallRecord, TraceEntry};
use crate::weather::Weather;
use crate::workload::WorkloadKind;

pub use difference::{Difference, Side};
pub use encode::framed;

/// What the files begin with.
pub const FORMAT: Format = Format { magic: "sim-log", version: 1, what: "kept run" };

/// How a kept run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The chained hash of every call.
    pub trace_hash: u64,
    /// Calls made.
    pub steps: u64,
    /// What was wrong, if anything.
    pub failure: Option<Failure>,
}

/// A kept run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunLog {
    /// What made it, see [`build_name`].
    pub build: String,
    /// Where its decisions came from: a seed, or the name of a file.
    pub source: String,
    /// Its workload.
    pub workload: WorkloadKind,
    /// The command that runs the test, where the workload is its stage; else empty.
    pub test: String,
    /// The kernel of its hosts.
    pub kernel: Kernel,
    /// Its weather.
    pub weather: Weather,
    /// What was fixed about its faults.
    pub switches: FaultSwitches,
    /// What it is made of, if it was imported.
    pub scenario: Option<Arc<Scenario>>,
    /// Every decision.
    pub choices: ChoiceLog,
    /// Every call.
    pub calls: Vec<CallRecord>,
    /// How it ended; absent where the file was cut off.
    pub verdict: Option<Verdict>,
}

impl RunLog {
    /// What came of a run that was recorded with these options.
    pub fn of(outcome: &Outcome, options: &RunOptions, source: String) -> RunLog {
        let Outcome { workload, kernel, weather, .. } = *outcome;
        let calls = outcome.trace.iter().filter_map(|entry| match entry {
            TraceEntry::Call(call) => Some(*call),
            TraceEntry::Note { .. } => None,
        });
        RunLog {
            build: build_name(),
            source,
            workload,
            test: options.stage.as_ref().map_or_else(String::new, |stage| stage.test().to_owned()),
            kernel,
            weather,
            switches: options.switches,
            scenario: options.scenario.clone(),
            choices: outcome.choices.clone().unwrap_or_default(),
            calls: calls.collect(),
            verdict: Some(Verdict {
                trace_hash: outcome.trace_hash,
                steps: outcome.steps,
                failure: outcome.failure.clone(),
            }),
        }
    }

    /// What makes the run again: nothing is left to draw.
    pub fn options(&self) -> RunOptions {
        let RunLog { workload, kernel, weather, switches, .. } = *self;
        let scenario = self.scenario.clone();
        RunOptions { switches, scenario, ..RunOptions::default() }.fixed_to(workload, kernel, weather)
    }

    /// Whether this very program made it, so that every call must come again as it was.
    pub fn is_of_this_build(&self) -> bool {
        self.build == build_name()
    }

    /// Whether the end of the file is missing, so that it does not say how the run ended.
    pub fn is_cut_off(&self) -> bool {
        self.verdict.is_none()
    }

    /// What is left of a file that was cut off, in words that follow its name.
    pub fn rest(&self) -> String {
        format!(
            "was cut off: {} decisions and {} calls are left of it, and not how the run ended; later decisions are benign",
            self.choices.choices().len(),
            self.calls.len()
        )
    }

    /// What was wrong with the run.
    pub fn failure(&self) -> Option<&Failure> {
        self.verdict.as_ref()?.failure.as_ref()
    }
}

impl RunOptions {
    /// The same options, with nothing left to draw.
    #[must_use]
    pub fn fixed_to(mut self, workload: WorkloadKind, kernel: Kernel, weather: Weather) -> RunOptions {
        (self.workload, self.kernel, self.weather) = (Some(workload), Some(kernel), Some(weather));
        self
    }

    /// The same options, with every decision and every call written down.
    #[must_use]
    pub fn recorded(mut self) -> RunOptions {
        (self.record, self.collect_trace) = (true, true);
        self
    }
}

/// The version of this library, and a checksum of the running program: two programs with one name are the same build.
pub fn build_name() -> String {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| {
        let program = std::env::current_exe().and_then(std::fs::read);
        let checksum = program.map_or(0, |bytes| crc32fast::hash(&bytes));
        format!("{}+{checksum:08x}", env!("CARGO_PKG_VERSION"))
    })
    .clone()
}

impl fmt::Display for RunLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunLog { workload, kernel, weather, source, build, .. } = self;
        let (source, build) = (shown(source), shown(build));
        if let Some(scenario) = &self.scenario {
            return write!(
                f,
                "{} of {workload}, imported, from {source}, made by {build}",
                scenario.subject()
            );
        }
        write!(f, "{workload} on {kernel} in {weather} weather, from {source}, made by {build}")
    }
}

/// The oracle of a failing run, if it has a name that still exists.
pub(crate) fn oracle_named(name: &str) -> Option<Oracle> {
    Oracle::from_name(name)
}
