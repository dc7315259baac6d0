//! The same decisions give the same run: twice, over any number of jobs, and whatever is fixed beside.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

use sim::decision::seed::seed_of_run;
use sim::run_log::{RunLog, Side};
use sim::runner::{RunOptions, run};
use sim::sweep::{Summary, Sweep, run_seed, sweep};
use sim::{Decisions, Kernel, Weather, WorkloadKind};

fn sweep_with(jobs: usize, twice_every: u64) -> Summary {
    let jobs = NonZeroUsize::new(jobs).unwrap();
    let plan = Sweep { twice_every, ..Sweep::of(RunOptions::default(), 7, 120, jobs) };
    sweep(&plan, &AtomicBool::new(false), |_| {})
}

#[test]
fn the_combined_hash_does_not_depend_on_the_number_of_jobs() {
    let (one, two) = (sweep_with(1, 1), sweep_with(2, 50));
    assert_eq!(one.trace_hash, two.trace_hash);
    assert_eq!(one.calls, two.calls);
    assert_eq!(one.exit_code(), 0, "{:?}", one.failed.first());
}

#[test]
fn a_run_by_itself_has_the_hash_that_it_has_in_a_sweep() {
    for k in [0, 1, 17] {
        let seed = seed_of_run(7, k);
        let swept = run_seed(&RunOptions::default(), seed, false);
        let options = RunOptions { collect_trace: true, ..RunOptions::default() };
        let replayed = run(&options, Decisions::from_seed(seed));
        assert_eq!(swept.trace_hash, replayed.trace_hash, "reading along changes nothing");
        assert!(!replayed.trace.is_empty());
    }
}

#[test]
fn fixing_what_would_have_been_drawn_anyway_changes_nothing() {
    for seed in 0..20 {
        let drawn = run(&RunOptions::default(), Decisions::from_seed(seed));
        let options = RunOptions {
            workload: Some(drawn.workload),
            kernel: Some(drawn.kernel),
            weather: Some(drawn.weather),
            ..RunOptions::default()
        };
        assert_eq!(run(&options, Decisions::from_seed(seed)).trace_hash, drawn.trace_hash, "seed {seed}");
    }
}

#[test]
fn zeros_are_the_calmest_run() {
    let outcome = run(&RunOptions::default(), Decisions::zeros());
    assert_eq!(outcome.failure, None);
    assert_eq!(
        (outcome.workload, outcome.kernel, outcome.weather),
        (WorkloadKind::Echo, Kernel::Linux, Weather::Calm)
    );
    assert_eq!(outcome.faults.total(), 0);
}

/// A run without one of its faults is one that decides the same at first, and then goes another way: just what a run is that
/// something undeclared has changed.
#[test]
fn where_two_runs_part_is_named_with_the_last_decision_before() {
    let mut parted = 0;
    for seed in 0..40 {
        let recorded = RunOptions::default().recorded();
        let first = run(&recorded, Decisions::from_seed(seed));
        let Some((kind, _)) = first.faults.iter().find(|&(_, count)| count > 0) else { continue };
        let mut other = recorded.clone();
        other.switches.suppressed.insert(kind);
        let second = run(&other, Decisions::from_seed(seed));
        if first.trace_hash == second.trace_hash {
            continue;
        }
        let log = RunLog::of(&first, &recorded, seed.to_string());
        // The hash also has the events that a wait handed over, which no call shows.
        let Some(difference) = log.first_difference(&second, true) else { continue };
        parted += 1;
        assert_ne!(difference.kept, difference.now, "seed {seed}");
        let (at, choice) = log.last_common_choice(&second).expect("the setup is decided alike");
        assert!(at <= difference.step, "seed {seed}: {at} and {}", difference.step);
        assert!(matches!(choice, Side::Choice(..)));
    }
    assert!(parted >= 10, "only {parted} of 40 runs parted");
}
