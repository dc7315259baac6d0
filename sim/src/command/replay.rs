//! `sim replay`: one run, call by call.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use clap::Args;
use sim::decision::script::{HEADER, Script};
use sim::decision::seed::Seed;
use sim::runner::{FailureBlock, Input, Outcome, RunOptions, run};
use sim::{Decisions, ObligationCheck, WorkloadKind};

use super::{Fixed, Trouble};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A seed, or a file: a script that begins with `sim-script 1`, or the bytes of a fuzzer
    #[arg(value_name = "SEED|FILE")]
    what: String,
    #[command(flatten)]
    fixed: Fixed,
}

pub(super) fn replay(arguments: &Arguments) -> Result<u8, Trouble> {
    let what = arguments.what.as_str();
    let obligations = ObligationCheck::Always;
    let mut options = RunOptions { collect_trace: true, obligations, ..arguments.fixed.options() };
    let (decisions, input) = match what.parse::<Seed>() {
        Ok(seed) => (Decisions::from_seed(seed.0), Input::Seed(seed)),
        Err(error) if !Path::new(what).exists() => {
            return Err(Trouble::Usage(format!("{error}; and there is no such file")));
        }
        Err(_) => {
            let bytes = fs::read(what)
                .map_err(|error| Trouble::InputOutput(format!("cannot read {what}: {error}")))?;
            (of_file(what, &bytes, &mut options)?, Input::File(what))
        }
    };
    let outcome = run(&options, decisions);

    let mut out = BufWriter::new(io::stdout().lock());
    let Outcome { workload, kernel, weather, .. } = outcome;
    writeln!(out, "{workload} on {kernel} in {weather} weather, from {input}")?;
    writeln!(
        out,
        "Each line: time on the thread's own clock, thread, call -> result; | is what happened without a call."
    )?;
    writeln!(out)?;
    for line in &outcome.trace {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    match &outcome.failure {
        Some(failure) => {
            let block = FailureBlock { outcome: &outcome, failure, input, options: &options };
            writeln!(out, "{block}")?;
        }
        None => writeln!(
            out,
            "passed: {} on {} in {} weather, {} calls",
            outcome.workload, outcome.kernel, outcome.weather, outcome.steps
        )?,
    }
    writeln!(out, "trace hash {:#018x}", outcome.trace_hash)?;
    out.flush()?;
    Ok(outcome.failure.as_ref().map_or(0, |failure| failure.oracle.exit_code()))
}

/// The decisions in a file. A fuzzer's bytes belong to a target, so they fix the workload.
fn of_file(path: &str, bytes: &[u8], options: &mut RunOptions) -> Result<Decisions, Trouble> {
    if bytes.starts_with(HEADER.as_bytes()) {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Trouble::Usage(format!("{path} is no script: it is not text")))?;
        let script: Script = text.parse().map_err(|error| Trouble::Usage(format!("{path}: {error}")))?;
        return Ok(Decisions::from_script(script));
    }
    if bytes.starts_with(b"sim-script") {
        return Err(Trouble::Usage(format!("{path}: a script begins with the line `{HEADER}`")));
    }
    options.workload.get_or_insert(WorkloadKind::Echo);
    Ok(Decisions::from_bytes(bytes))
}
