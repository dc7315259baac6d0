//! `sim replay`: one run, call by call, compared with what was kept of it.

use std::io::{self, BufWriter, Write};

use clap::Args;
use sim::ObligationCheck;
use sim::explain::FailureBlock;
use sim::runner::{Input, Outcome, RunOptions, run};
use sim::trace::TraceEntry;

use super::input::Case;
use super::{Fixed, Trouble};

/// Exit code of a replay that went another way than what was kept.
const DID_NOT_REPRODUCE: u8 = 6;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A seed, or a file: a kept run, a script that begins with `sim-script 1`, or the bytes of a fuzzer
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// Stops after so many calls
    #[arg(long, value_name = "STEP")]
    until: Option<u64>,
    /// Prints every call even of a kept run that reproduces
    #[arg(long)]
    trace: bool,
    /// Prints the verdict only
    #[arg(long, conflicts_with = "trace")]
    quiet: bool,
    #[command(flatten)]
    fixed: Fixed,
}

pub(super) fn replay(arguments: &Arguments) -> Result<u8, Trouble> {
    let case = Case::read(&arguments.what, &arguments.fixed)?;
    let options = RunOptions {
        obligations: ObligationCheck::Always,
        until_step: arguments.until,
        ..case.options.clone().recorded()
    };
    let outcome = run(&options, case.decisions());

    let mut out = BufWriter::new(io::stdout().lock());
    let Outcome { workload, kernel, weather, .. } = outcome;
    writeln!(out, "{workload} on {kernel} in {weather} weather, from {}", case.name)?;
    if !arguments.quiet && (case.log().is_none() || arguments.trace || arguments.until.is_some()) {
        calls(&mut out, &outcome, arguments.until)?;
    }
    match &outcome.failure {
        Some(failure) => {
            let input = Input::File(&case.name);
            let block = FailureBlock {
                outcome: &outcome,
                failure,
                input,
                options: &case.options,
                explanation: None,
                kept: None,
            };
            writeln!(out, "{block}")?;
        }
        None if arguments.until.is_some_and(|until| outcome.steps >= until) => {
            writeln!(out, "stopped after {} calls, as asked; nothing was wrong until then", outcome.steps)?;
        }
        None => {
            writeln!(out, "passed: {workload} on {kernel} in {weather} weather, {} calls", outcome.steps)?
        }
    }
    writeln!(out, "trace hash {:#018x}", outcome.trace_hash)?;
    let difference = compare(&mut out, &case, &outcome, arguments)?;
    out.flush()?;
    if difference {
        return Ok(DID_NOT_REPRODUCE);
    }
    Ok(outcome.failure.as_ref().map_or(0, |failure| failure.oracle.exit_code()))
}

/// Says whether the run went as the kept one did. Answers whether it differed.
fn compare(
    out: &mut impl Write,
    case: &Case,
    outcome: &Outcome,
    arguments: &Arguments,
) -> Result<bool, Trouble> {
    let Some(log) = case.log() else { return Ok(false) };
    if log.verdict.is_none() {
        let calls = log.calls.len();
        writeln!(
            out,
            "the file was cut off: {calls} of its calls are left, and it does not say how the run ended"
        )?;
    }
    if arguments.until.is_some() || case.options.switches != log.switches {
        writeln!(out, "not compared with the kept run: it was to go another way")?;
        return Ok(false);
    }
    let strictly = log.is_of_this_build();
    match log.first_difference(outcome, strictly) {
        None if log.verdict.is_none() => {
            writeln!(
                out,
                "whether it reproduces cannot be said; what is left of the file agrees with this run"
            )?;
        }
        None if strictly => {
            writeln!(out, "reproduced: the same {} calls, with the same results", outcome.steps)?
        }
        None => {
            writeln!(
                out,
                "reproduced under another build ({} made it): the same sites and bounds, the same end",
                log.build
            )?;
        }
        Some(difference) => {
            writeln!(out, "DID NOT REPRODUCE: {difference}")?;
            if !strictly {
                writeln!(
                    out,
                    "the kept run was made by another build, {}: the code has changed since",
                    log.build
                )?;
            }
            return Ok(true);
        }
    }
    Ok(false)
}

fn calls(out: &mut impl Write, outcome: &Outcome, until: Option<u64>) -> io::Result<()> {
    writeln!(
        out,
        "Each line: time on the thread's own clock, thread, call -> result; | is what happened without a call."
    )?;
    writeln!(out)?;
    let until = until.unwrap_or(u64::MAX);
    let beyond = |entry: &&TraceEntry| !matches!(entry, TraceEntry::Call(call) if call.step > until);
    for line in outcome.trace.iter().take_while(beyond) {
        writeln!(out, "{line}")?;
    }
    writeln!(out)
}
