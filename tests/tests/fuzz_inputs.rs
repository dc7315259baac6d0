//! Every committed input of the fuzz targets, replayed on stable and without libFuzzer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tests::fuzz::{Row, TARGETS};

/// So that a clone stays small.
const INPUTS_MAX: usize = 80;
/// The largest input that is committed.
const INPUT_BYTES_MAX: u64 = 4096;

/// One test at a time: the comparison with the live kernel sees every descriptor that this process opens, a file that
/// another test reads too.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The files of a folder, in order; none if there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths
}

fn names(paths: &[PathBuf]) -> BTreeSet<String> {
    let name = |path: &PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    paths.iter().map(name).collect()
}

fn inputs(row: &Row) -> Vec<PathBuf> {
    let of = |kind| files(&fuzz_folder().join(kind).join(row.name));
    [of("seeds"), of("regressions")].concat()
}

/// Runs every input of the targets whose names begin so, and says which input it is.
fn replay(prefix: &str) {
    let rows: Vec<&Row> = TARGETS.iter().filter(|row| row.name.starts_with(prefix)).collect();
    assert!(!rows.is_empty(), "no target is called {prefix}");
    for row in rows {
        for path in inputs(row) {
            println!("{}", path.display());
            (row.check)(&std::fs::read(&path).expect("a readable input"));
        }
    }
}

#[test]
fn every_input_of_the_loops_passes() {
    let _alone = alone();
    replay("loop_");
}

#[test]
fn every_input_of_the_models_passes() {
    let _alone = alone();
    for target in ["timer_wheel", "write_queue", "registry", "kqueue_translation"] {
        replay(target);
    }
}

#[test]
fn every_input_of_the_decoders_passes() {
    let _alone = alone();
    for target in ["run_log", "recording", "decision_script", "call_script"] {
        replay(target);
    }
}

#[test]
fn every_input_of_the_comparison_with_the_live_kernel_passes() {
    let _alone = alone();
    replay("conform");
}

#[test]
fn every_target_has_its_file_and_its_seeds_and_nothing_belongs_to_no_target() {
    let _alone = alone();
    let targets: BTreeSet<String> = TARGETS.iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(names(&files(&fuzz_folder().join("fuzz_targets"))), targets);
    assert_eq!(names(&files(&fuzz_folder().join("seeds"))), targets);
    assert!(names(&files(&fuzz_folder().join("regressions"))).is_subset(&targets));
    assert!(names(&files(&fuzz_folder().join("dict"))).is_subset(&targets));
    for row in TARGETS {
        assert!(!inputs(row).is_empty(), "no input of {} is committed", row.name);
    }
}

#[test]
fn what_is_committed_is_small() {
    let _alone = alone();
    let all: Vec<PathBuf> = TARGETS.iter().flat_map(inputs).collect();
    assert!(all.len() <= INPUTS_MAX, "{} inputs", all.len());
    for path in all {
        let length = path.metadata().expect("a readable input").len();
        assert!(length <= INPUT_BYTES_MAX, "{} has {length} bytes", path.display());
    }
}

#[test]
fn every_target_takes_no_bytes_at_all_and_bytes_of_every_kind() {
    let _alone = alone();
    let all: Vec<u8> = (0..=255).collect();
    for row in TARGETS {
        for bytes in [&[][..], b"any bytes at all will do, and these are some", &all] {
            (row.check)(bytes);
        }
    }
}

#[test]
fn every_input_is_told_in_words() {
    let _alone = alone();
    for row in TARGETS {
        for path in inputs(row) {
            let told = (row.tell)(&std::fs::read(&path).expect("a readable input"));
            let broken = told.contains("BROKEN") || told.contains("FAILED");
            assert!(!told.is_empty() && !broken, "{}: {told}", path.display());
        }
    }
}
