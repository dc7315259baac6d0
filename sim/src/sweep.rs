//! Many runs: over seeds, over cores, with one combined hash that depends on neither the order nor the number of jobs.

mod determinism;
mod effect;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::decision::Decisions;
use crate::decision::seed::{GOLDEN_GAMMA, Seed, mix, seed_of_run, value_below};
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

    /// Threads that are made: more than runs would find nothing to do, and take their time to be made.
    fn threads(&self) -> usize {
        let runs = usize::try_from(self.runs_here()).unwrap_or(usize::MAX);
        self.jobs.get().min(runs).min(JOBS_MAX)
    }

    /// How many runs this shard makes.
    pub fn runs_here(&self) -> u64 {
        self.shard.runs_of(self.runs)
    }

    /// Whether a run is made twice.
    pub fn is_made_twice(&self, index: u64) -> bool {
        index.is_multiple_of(self.twice_every.max(1))
    }

    /// The options of a run: in a stratified sweep each takes a cell of workload, kernel and weather, as far as they are not
    /// fixed. Of as many runs as there are cells, one after the other from a multiple of that number on, each has another cell,
    /// in an order that the base seed and the block draw: so parts of the sweep, however many there are, get all of them too.
    pub fn options_of(&self, index: u64) -> RunOptions {
        let mut options = self.options.clone();
        if index.is_multiple_of(OBLIGATIONS_EVERY) && options.obligations == ObligationCheck::InDebugBuilds {
            options.obligations = ObligationCheck::Always;
        }
        if self.stratified {
            let mut cell = cell_of(self.base, index, cells(&options));
            options.workload = Some(deal(&mut cell, options.workload, &WorkloadKind::ALL));
            options.kernel = Some(deal(&mut cell, options.kernel, &Kernel::ALL));
            options.weather = Some(deal(&mut cell, options.weather, &Weather::ALL));
        }
        options
    }
}

/// How many combinations there are of what is not fixed.
fn cells(options: &RunOptions) -> u64 {
    let of = |is_fixed, count| if is_fixed { 1 } else { count };
    let workloads = of(options.workload.is_some(), WorkloadKind::ALL.len());
    let kernels = of(options.kernel.is_some(), Kernel::ALL.len());
    let weathers = of(options.weather.is_some(), Weather::ALL.len());
    (workloads * kernels * weathers) as u64
}

/// The cell of a run. An order that only repeats or moves on from block to block would give a shard that takes every 4th run,
/// or every 47th, few of the cells; so each block is shuffled (Fisher and Yates), as far as the run's own place.
fn cell_of(base: u64, index: u64, cells: u64) -> u64 {
    let (block, place) = (index / cells, index % cells);
    let key = mix(!base ^ mix(block));
    let mut deck: Vec<u64> = (0..cells).collect();
    for dealt in 0..=place {
        let word = mix(key.wrapping_add(dealt.wrapping_mul(GOLDEN_GAMMA)));
        deck.swap(dealt as usize, (dealt + value_below(word, cells - dealt)) as usize);
    }
    deck[place as usize]
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

/// Threads of a sweep at most, whatever number is asked for.
const JOBS_MAX: usize = 1024;

/// Makes all runs of the shard. `stop` ends the sweep early; `done` hears of each run.
pub fn sweep(sweep: &Sweep, stop: &AtomicBool, mut done: impl FnMut(Made<'_>)) -> Summary {
    let next = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let mut summary = Summary::new();
    thread::scope(|scope| {
        for job in 0..sweep.threads() {
            let (sender, next, enough) = (sender.clone(), &next, &enough);
            let work = move || {
                while !stop.load(Ordering::Relaxed) && !enough.load(Ordering::Relaxed) {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    let Some(index) = sweep.shard.nth(nth, sweep.runs) else { break };
                    let seed = seed_of_run(sweep.base, index);
                    let twice = sweep.is_made_twice(index);
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Names of a workload, a kernel and a weather.
    type Cell = [&'static str; 3];

    fn stratified(options: RunOptions, base: u64, runs: u64) -> Sweep {
        Sweep { stratified: true, ..Sweep::of(options, base, runs, NonZeroUsize::MIN) }
    }

    fn cell(sweep: &Sweep, index: u64) -> Cell {
        let options = sweep.options_of(index);
        [options.workload.unwrap().name(), options.kernel.unwrap().name(), options.weather.unwrap().name()]
    }

    #[test]
    fn every_block_of_a_stratified_sweep_has_each_cell_once() {
        let cells = (WorkloadKind::ALL.len() * Kernel::ALL.len() * Weather::ALL.len()) as u64;
        for base in [0, 7, u64::MAX] {
            let sweep = stratified(RunOptions::default(), base, 0);
            for block in [0, 1, 2, 1_000] {
                let indexes = block * cells..(block + 1) * cells;
                let dealt: BTreeSet<Cell> = indexes.map(|index| cell(&sweep, index)).collect();
                assert_eq!(dealt.len() as u64, cells, "block {block} of {base}");
            }
        }
    }

    #[test]
    fn what_is_fixed_stays_and_the_rest_is_dealt_evenly() {
        let options = RunOptions { workload: Some(WorkloadKind::Wake), ..RunOptions::default() };
        let sweep = stratified(options, 3, 0);
        let mut dealt: BTreeMap<Cell, u64> = BTreeMap::new();
        (0..120).for_each(|index| *dealt.entry(cell(&sweep, index)).or_default() += 1);
        assert_eq!(dealt.len(), 12);
        assert!(
            dealt.iter().all(|(cell, &count)| cell[0] == WorkloadKind::Wake.name() && count == 10),
            "{dealt:?}"
        );
        let all = RunOptions::default().fixed_to(WorkloadKind::Echo, Kernel::Linux, Weather::Calm);
        let sweep = stratified(all, 3, 0);
        assert_eq!(cell(&sweep, 5), ["echo", "linux", "calm"]);
    }

    #[test]
    fn a_cell_depends_on_the_base_seed_and_the_index_and_the_shard_does_not_matter() {
        let of = |base| {
            let sweep = stratified(RunOptions::default(), base, 0);
            (0..48).map(|index| cell(&sweep, index)).collect::<Vec<_>>()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let whole = stratified(RunOptions::default(), 1, 1_000);
        let part = Sweep { shard: Shard::new(2, 4).unwrap(), ..whole.clone() };
        assert!((0..1_000).all(|index| cell(&whole, index) == cell(&part, index)));
    }

    #[test]
    fn every_shard_of_a_stratified_sweep_gets_a_fair_part_of_each_workload_kernel_and_weather() {
        for count in (2..=16).chain([24, 47, 48, 49, 96, 192]) {
            let runs = 400 * count;
            let sweep = stratified(RunOptions::default(), 5, runs);
            for number in 1..=count {
                let shard = Shard::new(number, count).unwrap();
                let mut dealt: BTreeMap<&str, u64> = BTreeMap::new();
                for index in (0..).map_while(|nth| shard.nth(nth, runs)) {
                    cell(&sweep, index).into_iter().for_each(|name| *dealt.entry(name).or_default() += 1);
                }
                assert_eq!(dealt.len(), 4 + 3 + 4, "shard {shard}: {dealt:?}");
                // Names of workloads, kernels and weathers all differ. A quarter of 400 is 100, and five standard deviations are 43.
                assert!(dealt.values().all(|&count| count > 57), "shard {shard}: {dealt:?}");
            }
        }
    }

    #[test]
    fn there_are_never_more_threads_than_runs_and_never_a_great_many() {
        let threads = |runs, jobs| {
            Sweep::of(RunOptions::default(), 0, runs, NonZeroUsize::new(jobs).unwrap()).threads()
        };
        assert_eq!(threads(5, 1_000_000), 5);
        assert_eq!(threads(5, 2), 2);
        assert_eq!(threads(u64::MAX, usize::MAX), JOBS_MAX);
    }
}
