//! `sim replay`: one run, call by call, compared with what was kept of it.

use std::fmt;
use std::io::{self, BufWriter, Write};

use clap::Args;
use sim::ObligationCheck;
use sim::explain::FailureBlock;
use sim::file::shown;
use sim::run_log::Difference;
use sim::runner::{Input, Outcome, RunOptions, run};
use sim::trace::TraceEntry;

use super::input::Case;
use super::{DID_NOT_REPRODUCE, Fixed, Trouble, recording};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A seed, or a file, see below
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// Recordings of the other processes of the same episode
    #[arg(value_name = "RECORDING")]
    others: Vec<String>,
    /// Stops after so many calls; of a recording, after so many entries of each loop
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
    if let Some(played) = recording::read_all(&arguments.what, &arguments.others)? {
        arguments.fixed.refuse_for_recording(&arguments.what)?;
        let Arguments { until, trace, quiet, .. } = *arguments;
        return recording::play(&arguments.what, &played, recording::Wanted { until, trace, quiet });
    }
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
        None if outcome.was_stopped(arguments.until) => {
            // Loops are left only where they sleep, so the run goes on for a while.
            writeln!(
                out,
                "nothing was wrong until call {}; the run was left after call {}, as asked, and how it ends was not seen",
                arguments.until.unwrap_or(0),
                outcome.steps
            )?;
        }
        None => {
            writeln!(out, "passed: {workload} on {kernel} in {weather} weather, {} calls", outcome.steps)?
        }
    }
    writeln!(out, "trace hash {:#018x}", outcome.trace_hash)?;
    let compared = Compared::of(&case, &outcome, arguments.until);
    write!(out, "{compared}")?;
    out.flush()?;
    if compared.exit_code() != 0 {
        return Ok(compared.exit_code());
    }
    Ok(outcome.failure.as_ref().map_or(0, |failure| failure.oracle.exit_code()))
}

/// Whether a run went as the kept one did.
#[derive(Debug)]
pub(super) enum Compared {
    /// There is nothing to compare it with: it is no kept run.
    Nothing,
    /// It was asked to go another way.
    Asked,
    /// It was asked for so many calls, and those came again.
    Beginning(u64),
    /// What is left of the kept run agrees.
    Rest,
    /// It came again.
    Same {
        /// Its calls.
        steps: u64,
        /// Who made the kept run, if it was another build.
        made_by: Option<String>,
    },
    /// It did not.
    Differs {
        /// Where first.
        difference: Difference,
        /// Who made the kept run, if it was another build.
        made_by: Option<String>,
    },
}

impl Compared {
    pub(super) fn of(case: &Case, outcome: &Outcome, until: Option<u64>) -> Compared {
        let Some(log) = case.log() else { return Compared::Nothing };
        if case.options.switches != log.switches {
            return Compared::Asked;
        }
        let strictly = log.is_of_this_build();
        let made_by = (!strictly).then(|| log.build.clone());
        match log.first_difference_until(outcome, strictly, until) {
            Some(difference) => Compared::Differs { difference, made_by },
            None if outcome.was_stopped(until) && log.calls.len() as u64 >= until.unwrap_or(0) => {
                Compared::Beginning(until.unwrap_or(0))
            }
            None if log.is_cut_off() => Compared::Rest,
            None => Compared::Same { steps: outcome.steps, made_by },
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Compared::Differs { .. } => DID_NOT_REPRODUCE,
            _ => 0,
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compared::Nothing => Ok(()),
            Compared::Asked => writeln!(f, "not compared with the kept run: it was to go another way"),
            Compared::Beginning(calls) => {
                writeln!(f, "the first {calls} calls go as those of the kept run; no more were compared")
            }
            Compared::Rest => writeln!(
                f,
                "whether it reproduces cannot be said: the file was cut off; what is left of it agrees with this run"
            ),
            Compared::Same { steps, made_by: None } => {
                writeln!(f, "reproduced: the same {steps} calls, with the same results")
            }
            Compared::Same { made_by: Some(build), .. } => writeln!(
                f,
                "reproduced under another build ({} made it): the same sites and bounds, the same end",
                shown(build)
            ),
            Compared::Differs { difference, made_by } => {
                writeln!(f, "DID NOT REPRODUCE: {difference}")?;
                let Some(build) = made_by else { return Ok(()) };
                writeln!(
                    f,
                    "the kept run was made by another build, {}: the code has changed since",
                    shown(build)
                )
            }
        }
    }
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
