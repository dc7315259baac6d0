//! What a sweep leaves behind for other machines: JSON Lines, one object per run.
//!
//! `sim run --records FILE` writes them while it runs, `sim merge` reads them. Each line is one object that stands by itself; its
//! member `type` says what it is. Nothing but the member `wall_s` of the last line depends on when or where the sweep ran: a sweep that is
//! made again writes the same lines in the same order.
//!
//! | `type` | members |
//! |---|---|
//! | all | `schema`: 1; `build`: what made the run; `sweep`: the options of `sim run` that decide what a run is, its first seed among them |
//! | `sweep` | first line: `runs` of the whole sweep, over all shards; `shards`: which parts of it the file has, `i/n` |
//! | `run` | `run`: its place in the sweep; `seed`, `workload`, `kernel`, `weather`, `ok`, `steps` (calls), `virtual_ns`, `trace_hash`; of a failing run also `oracle`, `at_ns`, `step`, `details` and `replay`, the line that makes it again |
//! | `kept` | `run`, and the `path` where it was kept |
//! | `alarm` | `run`, `seed`, and two `trace_hashes` or more that it had: only in merged files |
//! | `end` | last line: `runs` that were made, how many `failed`, whether the sweep was `interrupted`; `wall_s` |
//!
//! `build`, `sweep` and `run` are the key of a run. Members that are not known are passed over; another `schema` is refused.

mod line;

use crate::decision::seed::Seed;
use crate::explain::FailureBlock;
use crate::kernel::Kernel;
use crate::obligation::ObligationCheck;
use crate::oracle::Oracle;
use crate::run_log::build_name;
use crate::runner::{Input, Outcome, RunOptions};
use crate::shard::Shard;
use crate::sweep::Sweep;
use crate::weather::Weather;
use crate::workload::WorkloadKind;

pub use line::LineError;

/// The schema that is written, and the only one that is read.
pub const SCHEMA: u32 = 1;

/// The longest line that is read, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Whose line it is: what every line begins with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Origin {
    /// What made the runs.
    pub build: String,
    /// The options that decide what a run is, as `sim run` takes them.
    pub sweep: String,
}

impl Origin {
    /// Of the runs of a sweep that this program makes.
    pub fn of(sweep: &Sweep) -> Origin {
        Origin { build: build_name(), sweep: options_of(sweep, &sweep.options) }
    }

    /// Of a run that was made with other options than its sweep, because one of its faults was suppressed.
    pub fn of_other(sweep: &Sweep, options: &RunOptions) -> Origin {
        Origin { build: build_name(), sweep: options_of(sweep, options) }
    }
}

fn options_of(sweep: &Sweep, options: &RunOptions) -> String {
    let switches = options.switches;
    let RunOptions { workload, kernel, weather, .. } = &sweep.options;
    let mut text = format!("--seed {}", Seed(sweep.base));
    if sweep.stratified {
        text += " --stratified";
    }
    let dimensions = [
        ("workload", workload.map(WorkloadKind::name)),
        ("kernel", kernel.map(Kernel::name)),
        ("weather", weather.map(Weather::name)),
    ];
    for (name, value) in dimensions {
        if let Some(value) = value {
            text += &format!(" --{name} {value}");
        }
    }
    if let Some(only) = switches.only {
        text += &format!(" --faults '{only}'");
    }
    for (name, set) in [("without", switches.without), ("suppress", switches.suppressed)] {
        if !set.is_empty() {
            text += &format!(" --{name}-faults {set}");
        }
    }
    if sweep.options.obligations == ObligationCheck::Always {
        text += " --check-obligations";
    }
    text
}

/// How a run failed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Told {
    /// When, on the run's clock.
    pub at_ns: u64,
    /// How many calls it had made.
    pub step: u64,
    /// What exactly.
    pub details: String,
    /// The line that makes it again.
    pub replay: String,
}

/// A run, in few bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunRecord {
    /// Its seed.
    pub seed: u64,
    /// The workload it had.
    pub workload: WorkloadKind,
    /// The kernel it had.
    pub kernel: Kernel,
    /// The weather it had.
    pub weather: Weather,
    /// Who saw it fail; absent of a run that passed.
    pub oracle: Option<Oracle>,
    /// Calls made.
    pub steps: u64,
    /// Virtual time that passed, in nanoseconds.
    pub virtual_ns: u64,
    /// The chained hash of every call.
    pub trace_hash: u64,
    /// How it failed; absent too where so many runs failed that only their number and oracle are kept.
    pub told: Option<Box<Told>>,
}

impl RunRecord {
    /// What came of a run.
    pub fn of(seed: Seed, options: &RunOptions, outcome: &Outcome) -> RunRecord {
        let Outcome { workload, kernel, weather, steps, virtual_ns, trace_hash, .. } = *outcome;
        let told = outcome.failure.as_ref().map(|failure| {
            // What was drawn is fixed in the line, so that it needs no option of the sweep.
            let options = options.clone().fixed_to(workload, kernel, weather);
            let input = Input::Seed(seed);
            let block =
                FailureBlock { outcome, failure, input, options: &options, explanation: None, kept: None };
            Box::new(Told {
                at_ns: failure.at.as_ns(),
                step: failure.step,
                details: failure.details.clone(),
                replay: block.replay(),
            })
        });
        let oracle = outcome.failure.as_ref().map(|failure| failure.oracle);
        RunRecord { seed: seed.0, workload, kernel, weather, oracle, steps, virtual_ns, trace_hash, told }
    }
}

/// One line.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    /// A sweep of so many runs, of which these parts follow.
    Sweep {
        /// Runs of all parts together.
        runs: u64,
        /// The parts.
        shards: Vec<Shard>,
    },
    /// A run, with its place in the sweep.
    Run(u64, RunRecord),
    /// Where a run was kept.
    Kept {
        /// Its place in the sweep.
        run: u64,
        /// The file.
        path: String,
    },
    /// A run that did not always go the same way.
    Alarm {
        /// Its place in the sweep.
        run: u64,
        /// Its seed.
        seed: u64,
        /// The hashes.
        trace_hashes: Vec<u64>,
    },
    /// The end of a sweep that wrote all that it had.
    End {
        /// Whether somebody stopped it.
        interrupted: bool,
        /// Runs made.
        runs: u64,
        /// Those that failed.
        failed: u64,
        /// How long it took, in seconds; no two machines agree on it.
        wall_s: Option<f64>,
    },
}
