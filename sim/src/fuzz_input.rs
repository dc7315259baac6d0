//! Runs from a fuzzer's bytes: what the targets `loop_echo`, `loop_timers`, `loop_wake` and `loop_cluster` call.

use std::cmp::Reverse;
use std::fmt::Write;

use crate::decision::Decisions;
use crate::decision::seed::seed_of_run;
use crate::obligation::ObligationCheck;
use crate::runner::{Input, RunOptions, run};
use crate::sweep::{OBLIGATIONS_EVERY, told};
use crate::weather::Weather;
use crate::workload::WorkloadKind;

/// How many calls an input may make before it ends without a verdict. Few inputs need more to show something new, and those
/// that make ten times as many would take most of the time: a fuzzer keeps them for reaching what shorter ones reach too.
/// Long runs are the sweep's.
const fn calls_max(workload: WorkloadKind) -> u64 {
    match workload {
        WorkloadKind::Cluster => 10_000,
        WorkloadKind::Echo | WorkloadKind::Timers | WorkloadKind::Wake | WorkloadKind::Stage(_) => 1_000,
    }
}

/// Decisions that [`tell_bytes`] names.
const DECISIONS_TOLD_MAX: usize = 200;

fn options_of(workload: WorkloadKind) -> RunOptions {
    RunOptions { workload: Some(workload), ..RunOptions::default() }
}

/// What the kernel owes is checked in as large a share of inputs as in a sweep, whatever the build: it takes longer than the
/// rest of a run.
fn obligations_for(bytes: &[u8]) -> ObligationCheck {
    if u64::from(crc32fast::hash(bytes)).is_multiple_of(OBLIGATIONS_EVERY) {
        ObligationCheck::Always
    } else {
        ObligationCheck::Never
    }
}

/// Runs a workload on decisions made of a fuzzer's bytes.
///
/// # Panics
/// When the run fails, with its story and everything that is needed to run it again.
pub fn check_bytes(workload: WorkloadKind, bytes: &[u8]) {
    let options = RunOptions {
        obligations: obligations_for(bytes),
        until_step: Some(calls_max(workload)),
        ..options_of(workload)
    };
    let outcome = run(&options, Decisions::from_bytes(bytes));
    if let Some(failure) = &outcome.failure {
        let input = Input::File("FILE");
        panic!("\n{}", told(&outcome, failure, input, &options, Decisions::from_bytes(bytes)));
    }
}

/// A run that passed, as an input that a fuzzer can start from.
#[derive(Clone, Debug)]
pub struct SeedInput {
    /// The workload, which is the target's: `loop_echo` for [`WorkloadKind::Echo`].
    pub workload: WorkloadKind,
    /// Its weather and its kernel.
    pub name: String,
    /// Its decisions.
    pub bytes: Vec<u8>,
}

/// Inputs of at most `bytes_max` bytes from the first `runs` runs of each workload that follow from the seed `base`: for each
/// weather the run that had the most kinds of fault, the shorter one of two.
pub fn seed_inputs(base: u64, runs: u64, bytes_max: usize) -> Vec<SeedInput> {
    let mut inputs = Vec::new();
    for workload in WorkloadKind::ALL {
        // The other dimensions are drawn, as they will be from the bytes.
        let options = RunOptions { record: true, ..options_of(workload) };
        let mut best = Weather::ALL.map(|weather| (weather, (0, Reverse(usize::MAX)), None));
        for index in 0..runs {
            let outcome = run(&options, Decisions::from_seed(seed_of_run(base, index)));
            let (None, Some(choices)) = (&outcome.failure, &outcome.choices) else { continue };
            let bytes = choices.to_bytes();
            let kinds = outcome.faults.iter().filter(|&(_, count)| count > 0).count();
            let rank = (kinds, Reverse(bytes.len()));
            let found = best.iter_mut().find(|(weather, ..)| *weather == outcome.weather);
            if let Some((_, before, input)) = found
                && bytes.len() <= bytes_max
                && rank > *before
            {
                let name = format!("{}-{}", outcome.weather, outcome.kernel);
                (*before, *input) = (rank, Some(SeedInput { workload, name, bytes }));
            }
        }
        inputs.extend(best.into_iter().filter_map(|(_, _, input)| input));
    }
    inputs
}

/// What the bytes decide, in words: which run it is, every decision that is not zero with the place that asked for it, and
/// how the run ended.
pub fn tell_bytes(workload: WorkloadKind, bytes: &[u8]) -> String {
    let options = RunOptions { record: true, ..options_of(workload) };
    let outcome = run(&options, Decisions::from_bytes(bytes));
    let choices = outcome.choices.unwrap_or_default();
    let decided: Vec<_> = choices.choices().iter().filter(|choice| choice.value != 0).collect();
    let mut text = format!("{workload} on {} in {} weather\n", outcome.kernel, outcome.weather);
    for choice in decided.iter().take(DECISIONS_TOLD_MAX) {
        let (step, domain, entity) = (choice.step, choice.domain, choice.entity);
        let (site, value, most) = (choices.site(choice), choice.value, choice.bound - 1);
        // Writing into a String cannot fail.
        let _ = writeln!(text, "after call {step:<6} {domain:<15} {entity:<4} {site}: {value} of 0..={most}");
    }
    if let Some(more) = decided.len().checked_sub(DECISIONS_TOLD_MAX).filter(|&more| more > 0) {
        let _ = writeln!(text, "... and {more} more");
    }
    let (all, calls) = (choices.choices().len(), outcome.steps);
    let _ = writeln!(text, "{} of {all} decisions are not zero", decided.len());
    match outcome.failure {
        None => text + &format!("passed after {calls} calls"),
        Some(failure) => {
            text + &format!("FAILED {} at step {}: {}", failure.oracle, failure.step, failure.details)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_and_its_bytes_are_the_same_run() {
        for workload in WorkloadKind::ALL {
            for index in 0..20 {
                let options = RunOptions { record: true, ..options_of(workload) };
                let from_seed = run(&options, Decisions::from_seed(seed_of_run(7, index)));
                let bytes = from_seed.choices.expect("written down").to_bytes();
                let from_bytes = run(&options, Decisions::from_bytes(&bytes));
                assert_eq!(from_bytes.trace_hash, from_seed.trace_hash, "{workload}, run {index}");
            }
        }
    }

    #[test]
    fn seeds_are_short_and_there_is_one_for_each_weather() {
        let inputs = seed_inputs(1, 40, 3000);
        assert!(inputs.iter().all(|input| input.bytes.len() <= 3000));
        let mut names: Vec<_> = inputs.iter().map(|input| (input.workload, &input.name)).collect();
        names.dedup();
        assert_eq!(names.len(), inputs.len());
        assert!(inputs.iter().any(|input| input.name.starts_with("cruel-")));
    }

    #[test]
    fn bytes_are_told_by_the_sites_that_they_decide() {
        let calm = tell_bytes(WorkloadKind::Echo, &[]);
        assert!(calm.starts_with("echo on linux in calm weather\n0 of "), "{calm}");
        assert!(calm.contains("\npassed after "), "{calm}");
        // The second decision of a run is about its kernel.
        let told = tell_bytes(WorkloadKind::Timers, &[0x01, 0, 1]);
        assert!(told.starts_with("timers on freebsd in calm weather\n"), "{told}");
        assert!(told.contains("setup           0    kernel: 1 of 0..=2\n"), "{told}");
    }
}
