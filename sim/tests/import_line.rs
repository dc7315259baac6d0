//! `sim import` as it is called: what it says, what it keeps, and what it refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().expect("the program starts")
}

fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/recordings/timers.simrec")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it says text")
}

fn name(path: &Path) -> &str {
    path.to_str().expect("the name is text")
}

#[test]
fn an_import_says_how_many_calls_are_the_same_and_keeps_a_run_that_replays_alone() {
    let folder = tempfile::tempdir().expect("there is a folder for it");
    let copy = folder.path().join("night.simrec");
    fs::copy(recording(), &copy).expect("it is committed");
    let made = sim(&["import", name(&copy)]);
    let said = text(&made.stdout);
    assert_eq!(made.status.code(), Some(0), "{said}{}", text(&made.stderr));
    assert!(said.contains("(100.00 %)") && said.contains("drift 0"), "{said}");
    fs::remove_file(&copy).expect("it was made here");
    let kept = folder.path().join("night.simlog");
    let replayed = sim(&["replay", name(&kept)]);
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed.stdout));
    assert!(text(&replayed.stdout).contains("reproduced"), "{}", text(&replayed.stdout));
}

#[test]
fn an_import_is_one_object_for_machines() {
    let folder = tempfile::tempdir().expect("there is a folder for it");
    let out = folder.path().join("of-a-client.simlog");
    let made = sim(&["import", name(&recording()), "--loop", "client 0", "--json", "--out", name(&out)]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let object: serde_json::Value = serde_json::from_slice(&made.stdout).expect("it is one object");
    assert_eq!(object["loop"], "client 0");
    assert_eq!(object["calls"], object["same"]);
    assert_eq!(object["came_back"], true);
}

#[test]
fn what_is_no_whole_recording_is_refused_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().expect("there is a folder for it");
    let bytes = fs::read(recording()).expect("it is committed");
    let mut damaged = bytes.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let newer = [b"sim-recording 9".as_slice(), &bytes[15..]].concat();
    let cases = [
        ("foreign.simrec", b"something else".to_vec(), "sim-recording"),
        ("damaged.simrec", damaged, "damaged"),
        ("newer.simrec", newer, "version 9"),
        ("beginning.simrec", bytes[..20].to_vec(), "ends before"),
        ("other.bin", b"something else".to_vec(), "no recording"),
    ];
    for (file, content, expected) in cases {
        let path = folder.path().join(file);
        fs::write(&path, content).expect("there is room");
        let refused = sim(&["import", name(&path)]);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{file}: {said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{file}: {said}");
        assert!(!path.with_extension("simlog").exists(), "{file}");
    }
    let missing = sim(&["import", "no-such-file.simrec"]);
    assert_eq!(missing.status.code(), Some(7), "{}", text(&missing.stderr));
    let there = folder.path().join("there.simlog");
    fs::write(&there, "mine").expect("there is room");
    let refused = sim(&["import", name(&recording()), "--out", name(&there)]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert_eq!(fs::read(&there).expect("it is there"), b"mine");
    let other = sim(&["import", name(&recording()), "--loop", "client 44", "--out", "never.simlog"]);
    assert!(text(&other.stderr).contains("service 0, client 0"), "{}", text(&other.stderr));
}

/// What is left of a file that was cut off is imported, and its end is not made up.
#[test]
fn a_recording_that_was_cut_off_is_imported_as_far_as_it_goes() {
    let folder = tempfile::tempdir().expect("there is a folder for it");
    let bytes = fs::read(recording()).expect("it is committed");
    let path = folder.path().join("cut.simrec");
    fs::write(&path, &bytes[..bytes.len() - 3]).expect("there is room");
    let made = sim(&["import", name(&path)]);
    let said = text(&made.stdout);
    assert_eq!(made.status.code(), Some(0), "{said}{}", text(&made.stderr));
    assert!(said.contains("does not say how it ended"), "{said}");
}
