//! Generated scripts on the live kernel and on the simulated one: a short run with fixed seeds, and whether it finds what it must.
//!
//! `sim conform` does the same for hours.
#![cfg(target_os = "linux")]

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sim::conform::campaign::Campaign;
use sim::conform::self_test::find_drift;
use sim::conform::{Reference, generate, observe_simulated};
use sim::script::live::Live;
use sim::{Decisions, Drift, WorldOptions};

/// How often the live kernel must answer the same before it is believed.
const REPETITIONS: usize = 2;

/// One test at a time: the live kernel's descriptors are the whole process's.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reference() -> Reference<Live> {
    Reference::new(Live::new().expect("a live kernel"), REPETITIONS).expect("descriptors")
}

#[test]
fn conformance_of_generated_scripts_on_both_kernels() {
    let _alone = alone();
    let campaign = Campaign { seed: 0, runs: 400, differences_max: 5, options: WorldOptions::default() };
    let report = campaign.run(&mut reference(), &AtomicBool::new(false), |_| true);
    for (signature, found) in &report.found {
        println!("{}\n{}", found.script(signature), found.shrunk.difference);
    }
    assert!(report.found.is_empty(), "{} sorts of unexplained differences", report.found.len());
    println!("{} scripts, {} steps, {} unstable", report.scripts, report.steps, report.unstable);
    // An unstable script shows nothing; were they many, neither would the rest.
    assert!(report.unstable * 20 < report.scripts, "{} unstable scripts", report.unstable);
}

/// The drifts that `sim conform --drift all` finds within a second or so; it plants the others too.
#[test]
fn conformance_finds_drifts_of_the_simulated_kernel() {
    let _alone = alone();
    let patient = [Drift::EndOutOfBand, Drift::EmptyEarly];
    let mut reference = reference();
    for &drift in Drift::ALL.iter().filter(|drift| !patient.contains(drift)) {
        let mut scripts = 0;
        let found = find_drift(&mut reference, drift, 0, || {
            scripts += 1;
            scripts <= 1_000
        });
        assert!(found.is_some(), "{drift} was not found in {scripts} scripts");
    }
}

#[test]
fn conformance_scripts_are_a_function_of_their_seed() {
    let make = |seed| {
        let calls = generate(&mut Decisions::from_seed(seed));
        let answers = observe_simulated(&calls, &WorldOptions::default());
        (calls, answers)
    };
    assert_eq!(make(7), make(7));
    assert_ne!(make(7).0, make(8).0);
    let shortest = generate(&mut Decisions::zeros());
    assert!((0..50).all(|seed| make(seed).0.len() >= shortest.len()), "zeros make the shortest script");
}
