//! Every committed input of the fuzz targets, replayed on stable and without libFuzzer.

use std::path::Path;

/// Calls `check` with every committed input of a target, and says which one it is when it fails.
fn replay(target: &str, check: impl Fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let mut inputs = 0;
    for folder in ["seeds", "regressions"] {
        let folder = fuzz.join(folder).join(target);
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        paths.sort();
        for path in paths {
            println!("{}", path.display());
            check(&std::fs::read(&path).expect("a readable input"));
            inputs += 1;
        }
    }
    assert!(inputs > 0, "no input of {target} is committed");
}

#[test]
fn every_input_of_the_loop_passes() {
    replay("loop_echo", |bytes| sim::check_bytes(sim::WorkloadKind::Echo, bytes));
}

#[test]
fn every_input_of_the_timer_wheel_passes() {
    replay("timer_wheel", |bytes| {
        tests::timer_model::check(bytes);
    });
}

#[test]
fn every_input_of_the_comparison_with_the_live_kernel_passes() {
    replay("conform", sim::conform::check_bytes);
}

#[test]
fn no_input_at_all_is_a_run_without_trouble() {
    sim::check_bytes(sim::WorkloadKind::Echo, &[]);
    tests::timer_model::check(&[]);
    sim::conform::check_bytes(&[]);
}
