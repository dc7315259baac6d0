//! Whether the comparison finds what it is there to find: drifts planted in the simulated kernel.

use super::campaign::Found;
use super::compare::{Outcome, Reference};
use super::generate;
use super::shrink::shrink;
use crate::decision::Decisions;
use crate::decision::seed::seed_of_run;
use crate::kernel::drift::Drift;
use crate::script::probe::Probe;
use crate::world::WorldOptions;

/// Generates scripts until one shows the drift: it differs on a drifting kernel, and not on an ordinary one. `tick` is asked before
/// each script whether to go on.
pub fn find_drift<P: Probe>(
    reference: &mut Reference<P>,
    drift: Drift,
    seed: u64,
    mut tick: impl FnMut() -> bool,
) -> Option<Found> {
    let ordinary = WorldOptions::default();
    let drifting = WorldOptions { drift: Some(drift), ..ordinary.clone() };
    let mut run = 0;
    while tick() {
        let script_seed = seed_of_run(seed, run);
        run += 1;
        let calls = generate(&mut Decisions::from_seed(script_seed));
        let (calls, outcome) = reference.compare_available(calls, &drifting);
        if let Outcome::Different(difference) = outcome
            && reference.compare(&calls[..=difference.step], &ordinary) == Outcome::Same
        {
            let shrunk = shrink(reference, &drifting, &calls, difference);
            return Some(Found { seed: script_seed, after: run, shrunk, count: 1 });
        }
    }
    None
}
