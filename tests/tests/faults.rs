//! The faults of a sweep: which were on, which were drawn, and which changed anything.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

use sim::fault::FaultSwitches;
use sim::sweep::{FaultTally, Summary, Sweep, sweep};
use sim::{FaultKind, FaultSet, Kernel, RunOptions, Weather};

fn swept(options: RunOptions, runs: u64, jobs: usize) -> (Sweep, Summary) {
    let jobs = NonZeroUsize::new(jobs).unwrap();
    let plan = Sweep { stratified: true, ..Sweep::of(options, 0x51ed, runs, jobs) };
    let summary = sweep(&plan, &AtomicBool::new(false), |_| {});
    assert!(summary.failed.is_empty(), "{:?}", summary.failed.first().map(|failed| &failed.failure));
    (plan, summary)
}

fn counts(tally: &FaultTally) -> [u64; 5] {
    [tally.runs_on, tally.drawn, tally.runs_drawn, tally.checked, tally.effective]
}

#[test]
fn what_a_sweep_tells_of_its_faults_does_not_depend_on_the_number_of_jobs() {
    let [one, two] = [1, 2].map(|jobs| swept(RunOptions::default(), 400, jobs).1);
    for (one, two) in one.faults.iter().zip(&two.faults) {
        assert_eq!(counts(one), counts(two), "{}", one.kind.name());
    }
    assert!(one.faults.iter().map(|tally| tally.checked).sum::<u64>() <= 20, "one run in twenty");
}

#[test]
fn a_kind_that_never_bites_is_reported_and_the_others_are_not() {
    let (still, other) = (FaultKind::LateSegments, FaultKind::SplitSegments);
    let switches = FaultSwitches {
        only: Some([still, other].into_iter().collect()),
        suppressed: FaultSet::of(still),
        ..FaultSwitches::default()
    };
    let options = RunOptions { weather: Some(Weather::Cruel), switches, ..RunOptions::default() };
    let (plan, summary) = swept(options, 240, 2);
    let tally = &summary.faults[still as usize];
    assert!(tally.drawn > 0 && tally.checked > 0 && tally.effective == 0, "{tally:?}");
    assert!(summary.faults[other as usize].effective > 0);
    let complaints = summary.fault_complaints(&plan);
    let [complaint] = &complaints[..] else { panic!("{complaints:?}") };
    assert!(complaint.starts_with("late-segments was drawn in ") && complaint.contains("changed nothing"));
}

#[test]
fn a_kind_that_is_off_or_illegal_is_not_expected() {
    let without = FaultSet::of(FaultKind::LostSyns);
    let switches = FaultSwitches { without, ..FaultSwitches::default() };
    for kernel in Kernel::ALL {
        let options = RunOptions { kernel: Some(kernel), switches, ..RunOptions::default() };
        let (plan, summary) = swept(options, 60, 2);
        let expected = plan.faults_expected();
        for tally in &summary.faults {
            let legal = tally.kind.is_legal_under(kernel) && !without.contains(tally.kind);
            assert_eq!(expected.contains(tally.kind), legal, "{} under {kernel}", tally.kind.name());
            assert!(
                legal || (tally.runs_on == 0 && tally.drawn == 0),
                "{} under {kernel}",
                tally.kind.name()
            );
        }
    }
}

#[test]
fn suppressing_a_kind_leaves_a_run_without_it_as_it_was() {
    for seed in 0..40 {
        let run = |switches| {
            let options = RunOptions { switches, ..RunOptions::default() };
            sim::run(&options, sim::Decisions::from_seed(seed))
        };
        let plain = run(FaultSwitches::default());
        let silent = FaultKind::ALL.iter().copied().filter(|&kind| plain.faults.of(kind) == 0);
        let suppressed = silent.collect();
        let again = run(FaultSwitches { suppressed, ..FaultSwitches::default() });
        assert_eq!(plain.trace_hash, again.trace_hash, "seed {seed}");
    }
}
