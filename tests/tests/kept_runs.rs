//! Runs on disk: written, read, replayed, shrunk, told. The failures are mistakes made on purpose, so nothing is planted.

use reactor::time::Instant;
use sim::decision::log::ChoiceLog;
use sim::explain::Explanation;
use sim::frame::FileError;
use sim::run_log::{FORMAT, RunLog};
use sim::runner::{Outcome, RunOptions, run};
use sim::shrink::{Progress, ShrinkError, shrink};
use sim::story::LINES_MAX;
use sim::{Decisions, Lapse, ObligationCheck, Oracle, WorkloadKind};

fn recorded(seed: u64) -> (RunOptions, Outcome) {
    let options = RunOptions::default();
    let outcome = run(&options.clone().recorded(), Decisions::from_seed(seed));
    (options, outcome)
}

fn kept(seed: u64) -> RunLog {
    let (options, outcome) = recorded(seed);
    RunLog::of(&outcome, &options, format!("{seed:#018x}"))
}

/// The first seed whose run forgets a debt on purpose, and is seen to.
fn failing() -> (RunOptions, u64, Outcome) {
    let options = RunOptions {
        workload: Some(WorkloadKind::Echo),
        obligations: ObligationCheck::Always,
        lapse: Some(Lapse::ALL[0]),
        ..RunOptions::default()
    };
    let found = (0..500).find_map(|seed| {
        let outcome = run(&options, Decisions::from_seed(seed));
        outcome.failure.is_some().then_some((seed, outcome))
    });
    let (seed, outcome) = found.expect("one of 500 runs fails");
    (options, seed, outcome)
}

#[test]
fn a_file_holds_the_whole_run() {
    for seed in 0..20 {
        let log = kept(seed);
        assert!(!log.calls.is_empty() && !log.choices.choices().is_empty());
        assert_eq!(RunLog::from_bytes(&log.to_bytes()), Ok(log));
    }
}

#[test]
fn every_source_gives_the_same_run() {
    for seed in 0..40 {
        let (_, outcome) = recorded(seed);
        let choices = outcome.choices.as_ref().expect("they were recorded");
        let options = RunOptions::default();
        let tape = run(&options, Decisions::from_tape(choices.tape()));
        assert_eq!((tape.trace_hash, tape.steps), (outcome.trace_hash, outcome.steps), "tape of seed {seed}");
        let script = run(&options, Decisions::from_script(choices.tape().script()));
        assert_eq!(script.trace_hash, outcome.trace_hash, "script of seed {seed}");
        let bytes = run(&options, Decisions::from_bytes(&choices.to_bytes()));
        assert_eq!(bytes.trace_hash, outcome.trace_hash, "bytes of seed {seed}");
    }
}

#[test]
fn a_replay_of_a_kept_run_reproduces_it() {
    for seed in 0..20 {
        let log = kept(seed);
        let again = run(&log.options().recorded(), Decisions::from_tape(log.choices.tape()));
        assert_eq!(log.first_difference(&again, true), None, "seed {seed}");
        assert_eq!(log.first_difference(&again, false), None, "seed {seed}");
    }
}

#[test]
fn another_run_differs_and_the_first_difference_is_named() {
    let log = kept(3);
    let other = run(&log.options().recorded(), Decisions::from_seed(4));
    let difference = log.first_difference(&other, true).expect("another seed makes another run");
    assert!(difference.step < log.calls.len() as u64);
    assert!(
        difference.to_string().contains("kept") && difference.to_string().contains("now"),
        "{difference}"
    );
}

#[test]
fn one_changed_call_is_found_where_it_is() {
    let mut log = kept(5);
    let again = run(&log.options().recorded(), Decisions::from_tape(log.choices.tape()));
    let place = log.calls.len() / 2;
    log.calls[place].ended = Instant::from_ns(log.calls[place].ended.as_ns() + 1);
    assert_eq!(log.first_difference(&again, true).map(|found| found.step), Some(place as u64));
}

#[test]
fn a_file_that_was_cut_off_is_read_up_to_its_last_whole_frame() {
    let log = kept(1);
    let bytes = log.to_bytes();
    let mut read = 0;
    for length in (0..bytes.len()).step_by(97) {
        match RunLog::from_bytes(&bytes[..length]) {
            Ok(part) => {
                assert_eq!(part.verdict, None);
                assert!(part.calls.len() >= read, "more bytes never hold fewer calls");
                assert_eq!(part.calls[..], log.calls[..part.calls.len()]);
                read = part.calls.len();
            }
            Err(error) => {
                assert!(matches!(error, FileError::Truncated | FileError::Foreign(_)), "{length}: {error}")
            }
        }
    }
    assert!(read > 0);
}

#[test]
fn damaged_foreign_and_newer_files_are_refused_by_name() {
    let bytes = kept(1).to_bytes();
    for place in (12..bytes.len()).step_by(61) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        // Only a length may be damaged in a way that looks like a file that was cut off.
        if let Ok(part) = RunLog::from_bytes(&damaged) {
            assert_eq!(part.verdict, None, "byte {place}");
        }
    }
    assert_eq!(RunLog::from_bytes(b"\x7fELF"), Err(FileError::Foreign(FORMAT)));
    assert_eq!(RunLog::from_bytes(b"sim-log 7\n"), Err(FileError::Newer { version: 7, newest: 1 }));
    assert_eq!(RunLog::from_bytes(b"sim-log 1\n"), Err(FileError::Truncated));
}

#[test]
fn a_failing_run_shrinks_to_the_same_failure() {
    let (options, seed, outcome) = failing();
    let oracle = outcome.failure.as_ref().map(|failure| failure.oracle);
    let mut go_on = |progress: Progress| progress.runs < 4_000;
    let source = format!("{seed:#018x}");
    let found =
        Explanation::of(&options, Decisions::from_seed(seed), source, &mut go_on).expect("it fails again");
    let small = found.small.expect("there was time to shrink it");
    assert_eq!(small.failure().map(|failure| failure.oracle), oracle);
    assert!(small.choices.tape().weight() * 4 < found.log.choices.tape().weight(), "{:?}", found.story);
    assert!(small.calls.len() < found.log.calls.len());
    assert!(found.story.lines().len() <= LINES_MAX);
    assert!(found.story.lines().last().is_some_and(|line| line.contains(oracle.map_or("", Oracle::name))));
    // The small run replays.
    let fixed = RunOptions { switches: small.switches, ..options }.fixed_to(
        small.workload,
        small.kernel,
        small.weather,
    );
    let again = run(&fixed.recorded(), Decisions::from_tape(small.choices.tape()));
    assert_eq!(small.first_difference(&again, true), None);
}

#[test]
fn an_interrupted_shrink_keeps_what_it_had() {
    let (options, seed, _) = failing();
    let outcome = run(&options.clone().recorded(), Decisions::from_seed(seed));
    let log = RunLog::of(&outcome, &options, "test".to_owned());
    let fixed = options.fixed_to(log.workload, log.kernel, log.weather);
    let weight = |runs_max| {
        let small = shrink(&log, &fixed, &mut |progress| progress.runs < runs_max).expect("it fails");
        assert!(small.failure().is_some());
        small.choices.tape().weight()
    };
    let (early, later) = (weight(8), weight(200));
    assert!(later < early, "{later} and {early}");
}

#[test]
fn a_run_that_passes_has_nothing_to_shrink() {
    let log = kept(1);
    assert_eq!(log.failure(), None);
    assert_eq!(shrink(&log, &log.options(), &mut |_| true), Err(ShrinkError::Passes));
}

#[test]
fn a_run_stops_at_the_call_that_was_asked_for() {
    let whole = run(&RunOptions::default(), Decisions::from_seed(2));
    let options = RunOptions { until_step: Some(whole.steps / 2), ..RunOptions::default() };
    let half = run(&options, Decisions::from_seed(2));
    assert_eq!(half.failure, None);
    assert!(half.steps >= whole.steps / 2 && half.steps < whole.steps);
}

#[test]
fn recording_changes_nothing() {
    for seed in 0..20 {
        let plain = run(&RunOptions::default(), Decisions::from_seed(seed));
        let (_, recorded) = recorded(seed);
        assert_eq!((plain.trace_hash, plain.steps), (recorded.trace_hash, recorded.steps));
        assert_eq!(plain.choices, None::<ChoiceLog>);
    }
}
