//! What `sim` makes of files that are missing, cut off, damaged, or something else altogether: what it says, and what it exits with.

use std::path::Path;
use std::process::{Command, Output};

use sim::run_log::RunLog;
use sim::runner::{RunOptions, run};
use sim::{Decisions, Lapse, ObligationCheck, WorkloadKind};

/// The binary, without any variable that it would obey.
fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SIM_") {
            command.env_remove(name);
        }
    }
    command
}

fn sim(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("the binary can be started")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A file in a folder of its own.
struct Given {
    folder: tempfile::TempDir,
    path: String,
}

impl Given {
    fn new(name: &str, bytes: &[u8]) -> Given {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        std::fs::write(&path, bytes).expect("it can be written");
        let path = path.to_str().expect("a plain name").to_owned();
        Given { folder, path }
    }

    /// Each of the commands that take a run, with this file.
    fn in_every_command(&self) -> Vec<(&'static str, Output)> {
        every_command(&self.path, self.folder.path())
    }
}

fn every_command(what: &str, folder: &Path) -> Vec<(&'static str, Output)> {
    let out = folder.join("small.simlog");
    let out = out.to_str().expect("a plain name");
    let kept = ["--name", "it", "--broke", "it", "--back", "it", "--reaches", "counter turns", "--folder"];
    let kept = [&["keep", what][..], &kept, &[folder.to_str().expect("a plain name")]].concat();
    vec![
        ("replay", sim(&["replay", what])),
        ("trace", sim(&["trace", what])),
        ("shrink", sim(&["shrink", what, "--out", out])),
        ("keep", sim(&kept)),
    ]
}

/// A run that fails only here: it forgets a debt on purpose, which the binary never does.
fn failing() -> RunLog {
    let options = RunOptions {
        workload: Some(WorkloadKind::Echo),
        obligations: ObligationCheck::Always,
        lapse: Some(Lapse::ALL[0]),
        ..RunOptions::default()
    };
    (0..500)
        .map(|seed| run(&options.clone().recorded(), Decisions::from_seed(seed)))
        .find(|outcome| outcome.failure.is_some())
        .map(|outcome| RunLog::of(&outcome, &options, "a test".to_owned()))
        .expect("one of 500 runs fails")
}

fn passing() -> RunLog {
    let options = RunOptions::default();
    RunLog::of(&run(&options.clone().recorded(), Decisions::from_seed(3)), &options, "a test".to_owned())
}

#[test]
fn a_file_that_is_missing_is_said_to_be_missing_before_anything_else() {
    let folder = tempfile::tempdir().expect("a folder");
    for what in ["nothere.simlog", "no/such/crash-1f3a", "0xfish"] {
        for (command, output) in every_command(what, folder.path()) {
            assert_eq!(output.status.code(), Some(7), "{command} {what}: {output:?}");
            let said = said(&output);
            let wanted = format!("sim: there is no file {what}, and {what} is no seed either: a seed is ");
            assert!(said.starts_with(&wanted) && said.lines().count() == 1, "{command}: {said}");
        }
    }
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_refused_by_every_command() {
    for (name, bytes) in [
        ("notes.txt", &b"not a run"[..]),
        ("crash-1f3a", &[0x41, 7, 1, 0x10, 9]),
        ("timer_wheel/crash-1f3a", &[0x41, 7, 1, 0x10, 9]),
        ("empty", b""),
        ("loop_nothing/crash-1f3a", &[0]),
    ] {
        for (command, output) in Given::new(name, bytes).in_every_command() {
            assert_eq!(output.status.code(), Some(2), "{command} {name}: {output:?}");
            let said = said(&output);
            assert!(said.contains("`sim-log`") && said.contains("--workload W"), "{command} {name}: {said}");
            assert!(output.stdout.is_empty() && said.lines().count() == 1, "{command} {name}: {said}");
        }
    }
}

#[test]
fn the_bytes_of_a_fuzzer_are_taken_for_a_run_of_the_workload_in_their_path_and_that_is_said() {
    let given = Given::new("artifacts/loop_timers/crash-1f3a", &[0x41, 7, 1, 0x10, 9]);
    for command in ["replay", "trace"] {
        let output = sim(&[command, &given.path]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let wanted = format!(
            "sim: {} is taken for what a fuzzer made: 5 bytes, decisions of the workload timers\n",
            given.path
        );
        assert_eq!(said(&output), wanted);
        assert!(printed(&output).contains("timers on "), "{output:?}");
    }
    // Named from within its folder.
    let folder = Path::new(&given.path).parent().expect("a folder");
    let output = binary()
        .args(["replay", "--quiet", "crash-1f3a"])
        .current_dir(folder)
        .output()
        .expect("the binary can be started");
    assert!(said(&output).contains("the workload timers"), "{output:?}");
    let output = sim(&["replay", "--quiet", &given.path, "--workload", "wake"]);
    assert!(
        said(&output).contains("the workload wake") && printed(&output).contains("passed: wake"),
        "{output:?}"
    );
}

#[test]
fn a_run_that_was_cut_off_is_said_to_be_cut_off_and_what_was_run_instead() {
    let whole = passing().to_bytes();
    for length in [whole.len() - 3, whole.len() / 2] {
        let given = Given::new("cut.simlog", &whole[..length]);
        for (command, output) in given.in_every_command() {
            let (said, printed) = (said(&output), printed(&output));
            assert!(said.starts_with(&format!("sim: {} was cut off: ", given.path)), "{command}: {said}");
            assert!(said.contains("calls are left of it, and not how the run ended"), "{command}: {said}");
            match command {
                "replay" => assert!(printed.contains("whether it reproduces cannot be said"), "{printed}"),
                "trace" => assert_eq!(output.status.code(), Some(0), "{said}"),
                _ => {
                    assert_eq!(output.status.code(), Some(2), "{command}: {said}");
                    assert!(
                        said.contains("what is left of the file was run, and passes"),
                        "{command}: {said}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_kept_run_that_fails_no_more_did_not_reproduce_in_any_command() {
    let given = Given::new("kept.simlog", &failing().to_bytes());
    for (command, output) in given.in_every_command() {
        assert_eq!(output.status.code(), Some(6), "{command}: {output:?}");
        let text = said(&output) + &printed(&output);
        assert!(text.to_lowercase().contains("did not reproduce"), "{command}: {text}");
        assert_eq!(text.contains("owed-event"), matches!(command, "shrink" | "keep"), "{command}: {text}");
    }
    assert!(!given.folder.path().join("small.simlog").exists());
    assert!(!given.folder.path().join("it.regression").exists());
    // Asked to go another way, it is not compared.
    let output = sim(&["shrink", &given.path, "--without-faults", "late-waits"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_run_that_passed_and_passes_cannot_be_shrunk_or_kept() {
    for (command, output) in Given::new("kept.simlog", &passing().to_bytes()).in_every_command() {
        let expected = if matches!(command, "replay" | "trace") { 0 } else { 2 };
        assert_eq!(output.status.code(), Some(expected), "{command}: {output:?}");
        assert!(expected == 0 || said(&output).contains("the run passes in this build"), "{output:?}");
    }
}

#[test]
fn damaged_newer_and_half_files_are_refused_with_what_is_wrong_with_them() {
    let whole = passing().to_bytes();
    let mut damaged = whole.clone();
    damaged[40] ^= 0x10;
    for (name, bytes, wrong) in [
        ("damaged.simlog", &damaged[..], "checksum; copy it again, or make the run again"),
        ("newer.simlog", b"sim-log 2\n", "version 2 of the format"),
        ("x.simlog", b"sim-log x\n", "its first line is not `sim-log 1`"),
        ("zero.simlog", b"sim-log 0\n", "its first line is not `sim-log 1`"),
        ("text.simlog", b"sim-log 1\r\n", "copy it again"),
        ("short.simlog", &whole[..14], "it ends before its header does"),
        ("empty.simlog", b"", "it does not begin with `sim-log`"),
        ("script", b"sim-script 1\nsetup zero = 2\n", "line 2"),
        ("script", b"sim-script 2\n", "`sim-script 1`"),
        ("b00.regression", b"sim-regression 1\n", "the line `oracle` is missing"),
        ("b00.regression", b"sim-regression 1\n\xff", "it is not text"),
    ] {
        for (command, output) in Given::new(name, bytes).in_every_command() {
            assert_eq!(output.status.code(), Some(2), "{command} {name}: {output:?}");
            let said = said(&output);
            assert!(said.contains(wrong) && said.lines().count() == 1, "{command} {name}: {said}");
        }
    }
}

#[test]
fn what_cannot_be_read_or_written_ends_with_7() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a plain name");
    for (command, output) in every_command(path, folder.path()) {
        assert_eq!(output.status.code(), Some(7), "{command}: {output:?}");
        assert!(said(&output).starts_with(&format!("sim: cannot read {path}: ")), "{command}: {output:?}");
    }
    assert_eq!(sim(&["keep", "--refresh", "no-such.regression"]).status.code(), Some(7));
    assert_eq!(sim(&["trace", "1", "--out", path]).status.code(), Some(7));
}

#[test]
fn merge_ends_with_7_for_files_and_with_2_for_what_is_in_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a plain name").to_owned();
    let records = path("records.jsonl");
    let swept = sim(&["run", "--runs", "3", "--records", &records]);
    assert_eq!(swept.status.code(), Some(0), "{swept:?}");
    std::fs::write(path("foreign.jsonl"), "{\"a\": 1}\nno record\n").expect("a file");
    std::fs::write(path("empty.jsonl"), "").expect("a file");
    let merged = |arguments: &[&str]| {
        let output = sim(&[&["merge"], arguments].concat());
        (output.status.code(), said(&output))
    };
    assert_eq!(merged(&[&records]).0, Some(0));
    for (arguments, code, wrong) in [
        (&[&path("nothere.jsonl")[..]][..], 7, "cannot read "),
        (&[folder.path().to_str().expect("a plain name")], 7, "cannot read "),
        (&[&records, "--out", &path("no/such/folder")], 7, "cannot write "),
        (&[&path("foreign.jsonl")], 2, "foreign.jsonl, line 1: "),
        (&[&path("empty.jsonl")], 2, "there is no record"),
        (&[], 2, "<FILE>"),
    ] {
        let (ended, said) = merged(arguments);
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(wrong), "{arguments:?}: {said}");
    }
}

#[test]
fn a_regression_is_replayed_as_what_it_is() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/regressions/b03.regression");
    let output = sim(&["replay", "--quiet", kept]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(printed(&output).contains("passed: echo on ") && output.stderr.is_empty(), "{output:?}");
}
