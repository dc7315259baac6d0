//! What the commands make of a run that fails: it is told whatever becomes of the files, and nothing that was kept gets worse.
//!
//! The kernel forgets a debt on purpose (`--lapse`), so that runs fail here without a bug.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SIM_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).args(["--lapse", "0", "--workload", "echo"]).output().expect("it can be started")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn in_folder(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).to_str().expect("a plain name").to_owned()
}

/// A place where no file can be made: below one.
fn nowhere(folder: &tempfile::TempDir) -> String {
    let file = in_folder(folder, "file");
    fs::write(&file, "").expect("it can be written");
    format!("{file}/below")
}

#[test]
fn a_sweep_tells_its_failures_where_they_cannot_be_kept_and_ends_with_their_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let (nowhere, records) = (nowhere(&folder), in_folder(&folder, "records.jsonl"));
    let common = ["run", "--runs", "3", "--out", &nowhere];
    let output = sim(&[&common[..], &["--records", &records]].concat());
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text.contains("FAILED owed-event") && text.contains("\n  story     of "), "{text}");
    assert!(text.contains("\n  not kept  cannot write ") && text.contains("--out names another"), "{text}");
    assert!(text.contains("\nfailed                       3\n"), "{text}");
    assert!(fs::read_to_string(records).unwrap().lines().last().unwrap().contains("\"type\":\"end\""));

    let text = printed(&sim(&[&common[..], &["--json"]].concat()));
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(last["failed"], 3, "{text}");
    assert!(first["kept"].is_null() && first["not_kept"].as_str().unwrap().starts_with("cannot write "));
}

/// `/dev/full` takes no byte, as a full disk.
#[test]
#[cfg(target_os = "linux")]
fn records_that_cannot_be_written_hide_no_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = in_folder(&folder, "out");
    let output = sim(&["run", "--runs", "3", "--out", &out, "--records", "/dev/full"]);
    assert_eq!(output.status.code(), Some(7), "nothing has run yet: {output:?}");
    assert!(said(&output).contains("cannot write /dev/full"), "{output:?}");
}

#[test]
fn a_story_is_told_before_the_file_that_cannot_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = nowhere(&folder);
    let output = sim(&["shrink", "0", "--out", &nowhere]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(printed(&output).contains("owed-event: "), "{output:?}");
    assert!(said(&output).starts_with(&format!("sim: cannot write {nowhere}: ")), "{output:?}");

    let about = ["--name", "it", "--broke", "it", "--back", "it", "--reaches", "counter turns"];
    let output = sim(&[&["keep", "0", "--folder", &nowhere][..], &about].concat());
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(printed(&output).contains("owed-event: "), "{output:?}");
    assert!(said(&output).starts_with(&format!("sim: cannot write {nowhere}/it.regression: ")), "{output:?}");
}

#[test]
fn a_regression_takes_one_line_of_each_and_nothing_that_would_break_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = in_folder(&folder, "kept");
    let keep = |broke: &str, back: &str, reaches: &str, name: &str| {
        let about = ["--name", name, "--broke", broke, "--back", back, "--reaches", reaches];
        sim(&[&["keep", "0", "--folder", &kept][..], &about].concat())
    };
    for (broke, back, reaches, name) in [
        ("a\nstory\nkernel plan9", "b", "counter turns", "it"),
        ("a", "b\rc", "counter turns", "it"),
        ("  ", "b", "counter turns", "it"),
        ("a", "", "counter turns", "it"),
        ("a", "b", "decision x\ntape", "it"),
        ("a", "b", "counter turns", "it\nb"),
    ] {
        let output = keep(broke, back, reaches, name);
        assert_eq!(output.status.code(), Some(2), "{broke:?} {back:?} {reaches:?} {name:?}: {output:?}");
        assert!(!Path::new(&kept).exists());
    }
    assert_eq!(keep("a story of a kernel", "b", "counter turns", "it").status.code(), Some(0));
    let text = fs::read_to_string(Path::new(&kept).join("it.regression")).unwrap();
    assert!(text.parse::<sim::regression::Regression>().is_ok(), "{text}");
}

#[test]
fn a_shrink_that_has_no_time_goes_on_from_the_smaller_run_of_an_earlier_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = in_folder(&folder, "small.simlog");
    let shrink = |what: &str, seconds: &str| {
        let output = sim(&["shrink", what, "--out", &small, "--seconds", seconds]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        (printed(&output), fs::read(&small).unwrap())
    };
    let (_, first) = shrink("0", "30");
    let (text, second) = shrink("0", "0");
    assert!(text.starts_with(&format!("went on from {small}, which was smaller already\n")), "{text}");
    assert_eq!(first, second);
    // Another run is another story, and takes the place.
    let (text, third) = shrink("0xe220a8397b1dcdaf", "0");
    assert!(!text.contains("went on from"), "{text}");
    assert_ne!(first, third);
}

#[test]
fn a_sweep_without_time_to_shrink_keeps_the_small_run_of_an_earlier_sweep() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = in_folder(&folder, "kept");
    let sweep = |seconds: &str| {
        let output = sim(&["run", "--runs", "1", "--out", &out, "--shrink-seconds", seconds]);
        (printed(&output), fs::read(Path::new(&out).join("echo-0000000000000000.small.simlog")).unwrap())
    };
    let ((_, first), (text, second)) = (sweep("30"), sweep("0"));
    assert_eq!(first, second, "{text}");
    assert!(text.contains("story     of 0 decisions"), "{text}");
}

#[test]
fn a_replay_that_stops_early_is_compared_as_far_as_it_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = in_folder(&folder, "kept");
    sim(&["run", "--runs", "1", "--out", &out, "--shrink-seconds", "0"]);
    let kept = format!("{out}/echo-0000000000000000.simlog");
    let output = sim(&["replay", "--quiet", &kept, "--until", "20"]);
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text.contains("nothing was wrong until call 20; the run was left after call "), "{text}");
    assert!(text.contains("the first 20 calls go as those of the kept run"), "{text}");
    assert!(printed(&sim(&["replay", "--quiet", &kept])).contains("reproduced: the same"));

    let mut log = sim::run_log::RunLog::from_bytes(&fs::read(&kept).unwrap()).unwrap();
    log.calls[9].arguments[0] ^= 1;
    fs::write(&kept, log.to_bytes()).unwrap();
    assert_eq!(sim(&["replay", "--quiet", &kept, "--until", "9"]).status.code(), Some(0));
    let output = sim(&["replay", "--quiet", &kept, "--until", "10"]);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(printed(&output).contains("DID NOT REPRODUCE: the first difference comes after 9 calls"));
}
