//! The readable lines of a run.

use std::io::{self, Write};

use super::View;

/// What stands before the lines.
const LEGEND: &str =
    "Each line: time on the thread's own clock, thread, call -> result; | is what happened without a call.";

pub(super) fn write(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let outcome = view.outcome;
    writeln!(
        out,
        "{} on {} in {} weather, from {}",
        outcome.workload, outcome.kernel, outcome.weather, view.source
    )?;
    writeln!(out, "{LEGEND}\n")?;
    for entry in &outcome.trace {
        writeln!(out, "{entry}")?;
    }
    match (&outcome.failure, &view.story) {
        (Some(failure), Some(story)) => {
            writeln!(out, "\nFAILED {} at step {}: {}\n", failure.oracle, failure.step, failure.details)?;
            writeln!(out, "{story}")?;
        }
        _ => writeln!(out, "\npassed, {} calls", outcome.steps)?,
    }
    writeln!(out, "trace hash {:#018x}", outcome.trace_hash)
}
