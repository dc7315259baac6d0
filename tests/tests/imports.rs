//! Recordings of real sockets as simulated runs: compared call by call, replayed, shrunk, kept.

use std::fs;
use std::path::Path;

use sim::import::{Import, import};
use sim::recording::{Plan, Recording};
use sim::regression::Regression;
use sim::run_log::RunLog;
use sim::runner::run;
use sim::shrink::shrink;
use sim::story::Story;
use sim::{Decisions, Oracle, WorkloadKind};
use tests::real_episode::{Flaw, Wanted, record};

fn kept(name: &str) -> Recording {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(name);
    Recording::from_bytes(&fs::read(path).expect("it is committed")).expect("it is whole")
}

fn imported(recording: &Recording, subject: Option<&str>) -> Import {
    import(recording, subject, "a recording", None).expect("it has this loop")
}

/// The run that is kept, from its file.
fn makes_the_same_run_from_its_file(made: &Import) {
    let log = RunLog::from_bytes(&made.log.to_bytes()).expect("it was just written");
    let again = run(&log.options().recorded(), Decisions::from_tape(log.choices.tape()));
    assert_eq!(again.trace_hash, made.outcome.trace_hash);
    assert_eq!(again.failure, made.outcome.failure);
}

#[test]
fn every_call_of_a_kept_recording_comes_again_and_the_run_needs_the_recording_no_more() {
    for name in ["echo.simrec", "wake.simrec", "timers.simrec"] {
        let recording = kept(name);
        for log in &recording.loops {
            let made = imported(&recording, Some(&log.name()));
            let compared = &made.comparison;
            assert!(compared.is_whole(), "{name}, {}: {compared:#?}", log.name());
            assert_eq!(compared.drifts, 0, "{name}, {}", log.name());
            assert_eq!(made.outcome.failure, None, "{name}, {}", log.name());
            makes_the_same_run_from_its_file(&made);
        }
    }
}

#[test]
fn a_loop_of_an_episode_that_was_just_recorded_imports() {
    for workload in WorkloadKind::ALL {
        let recorded = record(&Wanted::plain(Plan { workload, seed: 11, load: None }));
        let made = imported(&recorded.recording, None);
        assert_eq!(made.outcome.failure, None, "{workload}: {:#?}", made.comparison);
        assert!(made.comparison.same > 0, "{workload}");
        makes_the_same_run_from_its_file(&made);
    }
}

fn lost_byte() -> Recording {
    let plan = Plan { workload: WorkloadKind::Echo, seed: 3, load: None };
    let flaw = ("service 0".to_owned(), Flaw::LoseByte(2));
    record(&Wanted { flaw, ..Wanted::plain(plan) }).recording
}

#[test]
fn a_byte_that_the_kernel_lost_is_missing_in_the_imported_run_too_and_few_acts_show_it() {
    let recording = lost_byte();
    let made = imported(&recording, None);
    let failure = made.outcome.failure.as_ref().expect("it fails as it did");
    assert_eq!(failure.oracle, Oracle::ByteStream);
    let small = shrink(&made.log, &made.log.options(), &mut |progress| progress.runs < 3_000)
        .expect("the kept run fails as the made one");
    assert_eq!(small.failure().map(|failure| failure.oracle), Some(Oracle::ByteStream));
    let weight = small.choices.tape().weight();
    assert!(weight <= 12, "{weight} decisions are left of {}", made.log.choices.tape().weight());
}

#[test]
fn a_regression_holds_what_its_run_is_made_of() {
    let made = imported(&lost_byte(), None);
    let small =
        shrink(&made.log, &made.log.options(), &mut |progress| progress.runs < 500).expect("it fails");
    let failing = run(&small.options().recorded(), Decisions::from_tape(small.choices.tape()));
    let story = Story::of(&failing, failing.failure.as_ref().expect("it fails"));
    let (broke, back) = ("a byte was lost".to_owned(), "a flaw below the recorder".to_owned());
    let reaches = "call recv 1".parse().expect("it is a place");
    let regression = Regression::of(&small, &story, broke, back, reaches).expect("it fails");
    let again: Regression = regression.to_string().parse().expect("it was just written");
    assert_eq!(again, regression);
    assert_eq!(again.run().failure.map(|failure| failure.oracle), Some(Oracle::ByteStream));
}

#[test]
fn what_cannot_be_imported_says_why() {
    let recording = kept("timers.simrec");
    let error = import(&recording, Some("client 99"), "", None).expect_err("there is none");
    assert!(error.to_string().contains("service 0"), "{error}");
    let empty = Recording { loops: Vec::new(), ..recording.clone() };
    assert!(import(&empty, None, "", None).is_err());
    let mut foreign = recording;
    foreign.loops[0].index = 77;
    let error = import(&foreign, Some("service 77"), "", None).expect_err("the plan has none");
    assert!(error.to_string().contains("another version"), "{error}");
}
