//! Two runs of one seed that differ: where they part.

use std::fmt::Write as _;

use crate::decision::Decisions;
use crate::decision::seed::Seed;
use crate::oracle::Oracle;
use crate::run_log::RunLog;
use crate::runner::{Failure, Outcome, RunOptions, run};

/// Pairs of recorded runs that are made to see the difference again.
const PAIRS_MAX: u32 = 4;

/// What is told of a seed whose two runs had other hashes: both are made again, recorded, and compared call by call.
pub(super) fn failure(options: &RunOptions, seed: u64, first: &Outcome, second: &Outcome) -> Failure {
    let mut details = format!(
        "the same seed gave trace hash {:#018x} over {} calls, and then {:#018x} over {}",
        first.trace_hash, first.steps, second.trace_hash, second.steps
    );
    let mut step = first.steps.min(second.steps);
    let recorded = options.clone().recorded();
    let found = (0..PAIRS_MAX).find_map(|_| {
        let once = run(&recorded, Decisions::from_seed(seed));
        let log = RunLog::of(&once, options, Seed(seed).to_string());
        let again = run(&recorded, Decisions::from_seed(seed));
        (once.trace_hash != again.trace_hash)
            .then(|| (log.first_difference(&again, true), log.last_common_choice(&again)))
    });
    match found {
        Some((None, _)) => {
            // The hash also has the events of a wait and the changes of a list, one by one.
            details += "; made twice more, their calls and decisions are the same, \
                        and the events that some wait handed over are not";
        }
        Some((Some(difference), before)) => {
            step = difference.step;
            let _ = write!(details, "; made twice more, they part after {step} calls");
            let _ = write!(details, "\n    once    {}\n    then    {}", difference.kept, difference.now);
            match before {
                Some((at, choice)) => {
                    let _ = write!(details, "\n    before  after {at} calls both {choice}");
                }
                None => details += "\n    before  nothing was decided yet",
            }
        }
        None => {
            let pairs = PAIRS_MAX;
            let _ =
                write!(details, "; made {pairs} times more, both recorded, they agreed: it comes and goes");
        }
    }
    Failure { oracle: Oracle::Determinism, at: Default::default(), step, details }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_does_not_come_again_is_called_that() {
        let options = RunOptions::default();
        let of = |seed| run(&options, Decisions::from_seed(seed));
        let failure = failure(&options, 1, &of(1), &of(2));
        assert_eq!(failure.oracle, Oracle::Determinism);
        assert!(failure.details.contains("it comes and goes"), "{}", failure.details);
    }
}
