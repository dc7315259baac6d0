//! Which kinds of fault have an effect: a run is made once more with one kind suppressed. The decisions stay the same up
//! to the first effect of that kind, so a difference in the trace is the kind's doing.
//!
//! A kind is effective in a run if without it the result of at least one later call would differ.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::{FailedRun, Summary, Sweep};
use crate::decision::Decisions;
use crate::decision::seed::{Seed, seed_of_run};
use crate::fault::{FaultKind, FaultSet};
use crate::runner::{Outcome, RunOptions, run};
use crate::weather::Weather;

/// What a sweep had of one kind of fault.
#[derive(Clone, Debug)]
pub struct FaultTally {
    /// The kind.
    pub kind: FaultKind,
    /// Runs in which it was on.
    pub runs_on: u64,
    /// How often it was drawn in all.
    pub drawn: u64,
    /// Runs in which it was drawn at least once.
    pub runs_drawn: u64,
    /// Those that were made again without it.
    pub checked: u64,
    /// Those in which a call then had another result.
    pub effective: u64,
    /// The first runs in which it was drawn, by index, with their hashes.
    candidates: BTreeMap<u64, u64>,
}

/// Runs per kind that may be checked.
const CANDIDATES_MAX: usize = 64;
/// How often a kind is checked even when it has been effective, if enough extra runs are left.
const CHECKS_MIN: usize = 8;
/// Extra runs are at most one in this many.
const RUNS_PER_CHECK: u64 = 20;

impl FaultTally {
    pub(super) fn new(kind: FaultKind) -> FaultTally {
        FaultTally {
            kind,
            runs_on: 0,
            drawn: 0,
            runs_drawn: 0,
            checked: 0,
            effective: 0,
            candidates: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, index: u64, outcome: &Outcome) {
        self.runs_on += u64::from(outcome.faults.on().contains(self.kind));
        let count = outcome.faults.of(self.kind);
        if count == 0 {
            return;
        }
        self.drawn += count;
        self.runs_drawn += 1;
        if outcome.failure.is_none() {
            // Outcomes come in any order: the lowest indexes are kept, whoever was first.
            self.candidates.insert(index, outcome.trace_hash);
            if self.candidates.len() > CANDIDATES_MAX {
                self.candidates.pop_last();
            }
        }
    }

    /// What is wrong with a kind that was to bite.
    pub fn complaint(&self) -> Option<String> {
        let FaultTally { kind, runs_on, drawn, runs_drawn, checked, effective, .. } = self;
        let name = kind.name();
        if *effective > 0 {
            None
        } else if *drawn == 0 {
            Some(format!("{name} was never drawn, though on in {runs_on} runs"))
        } else if *checked == 0 {
            Some(format!("{name} was drawn in {runs_drawn} runs, of which none was checked: make more runs"))
        } else {
            Some(format!("{name} was drawn in {runs_drawn} runs and changed nothing in {checked} of them"))
        }
    }
}

impl Sweep {
    /// The kinds that some run of this sweep may have.
    pub fn faults_expected(&self) -> FaultSet {
        let RunOptions { kernel, weather, switches, .. } = &self.options;
        let legal = |kind: FaultKind| kernel.is_none_or(|kernel| kind.is_legal_under(kernel));
        let wanted = |kind: FaultKind| match switches.only {
            Some(only) => only.contains(kind),
            None => *weather != Some(Weather::Calm),
        };
        let kinds = FaultKind::ALL.iter().copied();
        kinds.filter(|&kind| legal(kind) && wanted(kind) && !switches.without.contains(kind)).collect()
    }

    /// Makes runs again with one kind suppressed: kinds that have shown no effect first, the lowest indexes first. Which
    /// runs depends on nothing but their outcomes; so each shard checks runs of its own, and none of it is in its records.
    pub(super) fn check_effects(&self, summary: &mut Summary, stop: &AtomicBool) {
        let mut left = usize::try_from(self.runs_here() / RUNS_PER_CHECK).unwrap_or(usize::MAX);
        for round in 0..CANDIDATES_MAX {
            let wanting = |tally: &&FaultTally| tally.effective == 0 || round < CHECKS_MIN;
            let mut batch: Vec<Check> = summary
                .faults
                .iter()
                .filter(wanting)
                .filter_map(|tally| {
                    let (&index, &hash) = tally.candidates.iter().nth(round)?;
                    Some(Check { kind: tally.kind, index, hash, known: tally.effective > 0 })
                })
                .collect();
            batch.sort_by_key(|check| check.known);
            batch.truncate(left);
            if batch.is_empty() || stop.load(Ordering::Relaxed) {
                return;
            }
            left -= batch.len();
            for (check, outcome) in self.run_checks(&batch) {
                let tally = &mut summary.faults[check.kind as usize];
                tally.checked += 1;
                tally.effective += u64::from(outcome.trace_hash != check.hash);
                if let Some(failure) = outcome.failure.clone() {
                    // A run without one of its faults is a run like any other, and has its own line to replay it.
                    let (seed, options) =
                        (Seed(seed_of_run(self.base, check.index)), self.suppressing(check));
                    summary.failed.push(FailedRun { index: check.index, seed, options, outcome, failure });
                }
            }
        }
    }

    fn suppressing(&self, check: &Check) -> RunOptions {
        let mut options = self.options_of(check.index);
        options.switches.suppressed.insert(check.kind);
        options
    }

    fn run_checks<'a>(&self, batch: &'a [Check]) -> Vec<(&'a Check, Outcome)> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        let work = || {
            while let Some((place, check)) = {
                let place = next.fetch_add(1, Ordering::Relaxed);
                batch.get(place).map(|check| (place, check))
            } {
                let decisions = Decisions::from_seed(seed_of_run(self.base, check.index));
                let outcome = run(&self.suppressing(check), decisions);
                results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((place, outcome));
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.jobs.get().min(batch.len()) {
                // Whatever cannot be started is done by this thread.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        results.sort_by_key(|&(place, _)| place);
        results.into_iter().map(|(place, outcome)| (&batch[place], outcome)).collect()
    }
}

/// A run to make again.
struct Check {
    kind: FaultKind,
    index: u64,
    /// The hash of the run with the kind.
    hash: u64,
    /// Whether the kind has been effective before.
    known: bool,
}
