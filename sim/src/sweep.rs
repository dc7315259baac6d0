//! Many runs: over seeds, over cores, with one combined hash that depends on neither the order nor the number of jobs.

mod determinism;
mod effect;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::decision::Decisions;
use crate::decision::seed::{Seed, mix, seed_of_run};
use crate::explain::{Explanation, FailureBlock};
use crate::fault::FaultKind;
use crate::guard;
use crate::kernel::Kernel;
use crate::obligation::{ObligationCheck, ObligationCounts};
use crate::oracle::Oracle;
use crate::runner::{Failure, Input, Outcome, RunOptions, run};
use crate::shard::Shard;
use crate::shrink::Progress;
use crate::weather::Weather;
use crate::workload::WorkloadKind;

pub use effect::FaultTally;

/// How often, by default, a run of a sweep is made twice: one in this many.
pub const SAMPLE_EVERY: u64 = 100;

/// How often a run of a sweep checks what its kernel owes: one in this many.
pub const OBLIGATIONS_EVERY: u64 = 16;

/// Which runs to make.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// What is fixed of each run.
    pub options: RunOptions,
    /// The seed of run 0.
    pub base: u64,
    /// How many runs, over all shards.
    pub runs: u64,
    /// Which of them are made.
    pub shard: Shard,
    /// How many threads.
    pub jobs: NonZeroUsize,
    /// One in this many runs is made twice, and the hashes compared; at least 1.
    pub twice_every: u64,
    /// The sweep ends when this many runs have failed; `None` makes every run.
    pub failures_max: Option<u64>,
    /// Whether runs are dealt out evenly over workloads, kernels and weathers instead of drawing them.
    pub stratified: bool,
    /// Whether some runs are made again with one kind of fault suppressed, at most one in twenty.
    pub check_effects: bool,
}

impl Sweep {
    /// A sweep of this many runs, with everything else as `sim run` has it.
    pub fn of(options: RunOptions, base: u64, runs: u64, jobs: NonZeroUsize) -> Sweep {
        Sweep {
            options,
            base,
            runs,
            shard: Shard::WHOLE,
            jobs,
            twice_every: SAMPLE_EVERY,
            failures_max: None,
            stratified: false,
            check_effects: true,
        }
    }

    /// How many runs this shard makes.
    pub fn runs_here(&self) -> u64 {
        self.shard.runs_of(self.runs)
    }

    /// The options of a run: in a stratified sweep each takes the next cell of workload, kernel and weather.
    pub fn options_of(&self, index: u64) -> RunOptions {
        let mut options = self.options.clone();
        if index.is_multiple_of(OBLIGATIONS_EVERY) && options.obligations == ObligationCheck::InDebugBuilds {
            options.obligations = ObligationCheck::Always;
        }
        if self.stratified {
            let mut cell = index;
            options.workload = Some(deal(&mut cell, options.workload, &WorkloadKind::ALL));
            options.kernel = Some(deal(&mut cell, options.kernel, &Kernel::ALL));
            options.weather = Some(deal(&mut cell, options.weather, &Weather::ALL));
        }
        options
    }
}

/// The next of `all`, unless it is fixed.
fn deal<T: Copy>(cell: &mut u64, fixed: Option<T>, all: &[T]) -> T {
    fixed.unwrap_or_else(|| {
        let count = all.len() as u64;
        let which = *cell % count;
        *cell /= count;
        all[which as usize]
    })
}

/// A failing run of a sweep.
#[derive(Clone, Debug)]
pub struct FailedRun {
    /// Its place in the sweep.
    pub index: u64,
    /// Its seed.
    pub seed: Seed,
    /// What was fixed of it.
    pub options: RunOptions,
    /// What came of it.
    pub outcome: Outcome,
    /// What was wrong.
    pub failure: Failure,
}

/// What came of a sweep.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Runs made.
    pub runs: u64,
    /// Those that failed, by index.
    pub failed: Vec<FailedRun>,
    /// Calls made in all.
    pub calls: u64,
    /// Messages handled in all.
    pub messages: u64,
    /// Virtual time in all, in nanoseconds.
    pub virtual_ns: u128,
    /// What was had of each kind of fault, in the order of [`FaultKind::ALL`].
    pub faults: Vec<FaultTally>,
    /// What the kernel owed in the runs that checked it.
    pub obligations: ObligationCounts,
    /// The hash of each run that was made, with its index and its seed, in the order of the indexes.
    pub hashes: Vec<(u64, Seed, u64)>,
    /// The hashes of the runs, combined in the order of their indexes.
    pub trace_hash: u64,
    /// Whether the sweep was stopped before its end.
    pub interrupted: bool,
}

impl Summary {
    fn new() -> Summary {
        Summary {
            runs: 0,
            failed: Vec::new(),
            calls: 0,
            messages: 0,
            virtual_ns: 0,
            faults: FaultKind::ALL.iter().map(|&kind| FaultTally::new(kind)).collect(),
            obligations: ObligationCounts::default(),
            hashes: Vec::new(),
            trace_hash: 0,
            interrupted: false,
        }
    }

    /// What the process exits with: the code of the failing run with the lowest index.
    pub fn exit_code(&self) -> u8 {
        match self.failed.first() {
            Some(failed) => failed.failure.oracle.exit_code(),
            None if self.interrupted => 130,
            None => 0,
        }
    }

    /// What is wrong with the kinds that some run of the sweep might have had: never drawn, or without effect.
    pub fn fault_complaints(&self, sweep: &Sweep) -> Vec<String> {
        let expected = sweep.faults_expected();
        self.faults
            .iter()
            .filter(|tally| expected.contains(tally.kind))
            .filter_map(FaultTally::complaint)
            .collect()
    }

    fn add(&mut self, index: u64, seed: u64, options: impl FnOnce() -> RunOptions, outcome: Outcome) {
        self.runs += 1;
        self.calls += outcome.steps;
        self.messages += outcome.messages;
        self.virtual_ns += u128::from(outcome.virtual_ns);
        self.obligations.add(outcome.obligations);
        for tally in &mut self.faults {
            tally.add(index, &outcome);
        }
        if let Some(failure) = outcome.failure.clone() {
            let (seed, options) = (Seed(seed), options());
            self.failed.push(FailedRun { index, seed, options, outcome, failure });
        }
    }
}

/// Makes one run, twice if that is asked for.
pub fn run_seed(options: &RunOptions, seed: u64, twice: bool) -> Outcome {
    guard::name_run(seed);
    let mut outcome = run(options, Decisions::from_seed(seed));
    if twice && outcome.failure.as_ref().is_none_or(|failure| failure.oracle != Oracle::Panic) {
        let again = run(options, Decisions::from_seed(seed));
        if again.trace_hash != outcome.trace_hash || again.steps != outcome.steps {
            outcome.failure = Some(determinism::failure(options, seed, &outcome, &again));
        }
    }
    outcome
}

/// A run that has just been made.
#[derive(Clone, Debug)]
pub struct Made<'a> {
    /// Its place in the sweep. Runs are made in any order.
    pub index: u64,
    /// Its seed.
    pub seed: Seed,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// How many have failed so far, this one among them.
    pub failed: u64,
}

/// Makes all runs of the shard. `stop` ends the sweep early; `done` hears of each run.
pub fn sweep(sweep: &Sweep, stop: &AtomicBool, mut done: impl FnMut(Made<'_>)) -> Summary {
    let next = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let mut summary = Summary::new();
    thread::scope(|scope| {
        for job in 0..sweep.jobs.get() {
            let (sender, next, enough) = (sender.clone(), &next, &enough);
            let work = move || {
                while !stop.load(Ordering::Relaxed) && !enough.load(Ordering::Relaxed) {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    let Some(index) = sweep.shard.nth(nth, sweep.runs) else { break };
                    let seed = seed_of_run(sweep.base, index);
                    let twice = index % sweep.twice_every.max(1) == 0;
                    if sender.send((index, seed, run_seed(&sweep.options_of(index), seed, twice))).is_err() {
                        break;
                    }
                }
            };
            let named = thread::Builder::new().name(format!("sweep {job}"));
            if let Err(error) = named.spawn_scoped(scope, work) {
                // One job is enough to make every run; without any the sweep ends empty, and says so.
                warn_of_fewer_jobs(job, &error);
                break;
            }
        }
        drop(sender);
        for (index, seed, outcome) in receiver {
            summary.hashes.push((index, Seed(seed), outcome.trace_hash));
            let failed = summary.failed.len() as u64 + u64::from(outcome.failure.is_some());
            done(Made { index, seed: Seed(seed), outcome: &outcome, failed });
            summary.add(index, seed, || sweep.options_of(index), outcome);
            if sweep.failures_max.is_some_and(|most| failed >= most) {
                enough.store(true, Ordering::Relaxed);
            }
        }
    });
    summary.interrupted = summary.runs < sweep.runs_here() && !enough.into_inner();
    if sweep.check_effects && summary.runs == sweep.runs_here() {
        sweep.check_effects(&mut summary, stop);
    }
    summary.failed.sort_by_key(|failed| failed.index);
    summary.hashes.sort_unstable_by_key(|&(index, ..)| index);
    summary.trace_hash = summary.hashes.iter().fold(0, |combined: u64, &(.., hash)| mix(combined ^ hash));
    summary
}

/// Says that a thread could not be had; the sweep goes on with fewer.
fn warn_of_fewer_jobs(job: usize, error: &std::io::Error) {
    eprintln!("sweep: only {job} jobs could be started: {error}");
}

/// Runs that a failing test or fuzz target makes at most to find a smaller one that fails in the same way.
const EXPLAINING_RUNS_MAX: u64 = 3_000;

/// Everything that is worth printing of a run that has failed.
pub(crate) fn told(
    outcome: &Outcome,
    failure: &Failure,
    input: Input<'_>,
    options: &RunOptions,
    again: Decisions,
) -> String {
    let mut go_on = |progress: Progress| progress.runs < EXPLAINING_RUNS_MAX;
    let explanation = Explanation::of(options, again, input.to_string(), &mut go_on);
    FailureBlock { outcome, failure, input, options, explanation: explanation.as_ref(), kept: None }
        .to_string()
}

/// Runs seeds `base`, and those that follow from it, in this thread.
///
/// # Panics
/// At the first run that fails, with its story and everything that is needed to run it again.
pub fn check_seeds(options: &RunOptions, base: u64, runs: u64) {
    for index in 0..runs {
        let seed = seed_of_run(base, index);
        let outcome = run(options, Decisions::from_seed(seed));
        if let Some(failure) = &outcome.failure {
            let input = Input::Seed(Seed(seed));
            panic!("\n{}", told(&outcome, failure, input, options, Decisions::from_seed(seed)));
        }
    }
}
