//! A kept run, made again or made smaller inside the test that it came from.

use std::io::{self, Write};
use std::path::Path;

use super::{Environment, Failed, Reason, StageBuilder, Summary, keep};
use crate::decision::Decisions;
use crate::explain::FailureBlock;
use crate::file;
use crate::obligation::ObligationCheck;
use crate::run_log::RunLog;
use crate::runner::{Input, Outcome, RunOptions, run};
use crate::shrink::{Progress, shrink, smaller_kept};
use crate::story::Story;
use crate::trace::TraceEntry;

/// Runs that `SIM_SHRINK` makes at most, unless `SIM_SHRINK_RUNS` says otherwise.
const SHRINK_RUNS: u64 = 20_000;

/// Says something to whoever runs the test, past the test harness, which shows what tests print only where they fail.
fn say(text: &str) {
    // Nobody is left to be told where that fails.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Reads a kept run. `None`, and a word about it, where it is one of another stage.
fn read(path: &Path, builder: &StageBuilder) -> Result<Option<RunLog>, Box<Failed>> {
    let name = path.display();
    let cannot = |error: io::Error| Failed::asked(format!("cannot read {name}: {error}"));
    let bytes = file::read(path).map_err(cannot)?;
    let log = RunLog::from_bytes(&bytes).map_err(|error| Failed::asked(format!("{name}: {error}")))?;
    if !log.workload.is_stage() || log.workload.name() != builder.name().as_str() {
        let what = if log.workload.is_stage() { "stage" } else { "workload" };
        let with = if log.workload.is_stage() { log.test.as_str() } else { "sim replay" };
        say(&format!(
            "sim: {} is skipped: {name} is a run of the {what} {}, which `{with}` replays",
            builder.name(),
            log.workload
        ));
        return Ok(None);
    }
    Ok(Some(log))
}

fn options_of(log: &RunLog, builder: &StageBuilder) -> RunOptions {
    RunOptions { stage: Some(builder.clone()), ..log.options() }
}

/// Prints every call up to the last that was asked for.
pub(super) fn print_calls(outcome: &Outcome, until: Option<u64>) {
    let until = until.unwrap_or(u64::MAX);
    let beyond = |entry: &&TraceEntry| !matches!(entry, TraceEntry::Call(call) if call.step > until);
    for entry in outcome.trace.iter().take_while(beyond) {
        say(&entry.to_string());
    }
}

/// Makes a kept run again.
pub(super) fn replay(
    path: &Path,
    builder: &StageBuilder,
    environment: &Environment,
) -> Result<Summary, Box<Failed>> {
    let Some(log) = read(path, builder)? else { return Ok(Summary::default()) };
    let options = RunOptions {
        obligations: ObligationCheck::Always,
        until_step: environment.until_step,
        ..options_of(&log, builder).recorded()
    };
    let outcome = run(&options, Decisions::from_tape(log.choices.tape()));
    if environment.trace || environment.until_step.is_some() {
        print_calls(&outcome, environment.until_step);
    }
    let name = path.display().to_string();
    let until = environment.until_step;
    let compared = match log.first_difference_until(&outcome, log.is_of_this_build(), until) {
        None if outcome.was_stopped(until) => "goes so far as the run that was kept".to_owned(),
        None if log.is_cut_off() => {
            format!("{}; it agrees with what is left", log.rest())
        }
        None if log.is_of_this_build() => {
            format!("reproduced: the same {} calls, with the same results", outcome.steps)
        }
        None => "reproduced under another build: the same sites and bounds, the same end".to_owned(),
        Some(difference) => format!("went another way than the run that was kept: {difference}"),
    };
    let summary = Summary::of_run(&outcome);
    let Some(failure) = &outcome.failure else {
        let how = match until {
            Some(until) if outcome.was_stopped(Some(until)) => {
                format!("was left after call {until}, as SIM_UNTIL asks, and how it ends was not seen")
            }
            _ => "passes now".to_owned(),
        };
        say(&format!("sim: {}: {name} {how}; it {compared}", builder.name()));
        return Ok(summary);
    };
    draw(&outcome, path, builder)?;
    let story = Story::of(&outcome, failure);
    let mut text = told(&outcome, &options, &name);
    text += &format!("\n  replayed  {compared}\n  story");
    for line in story.lines() {
        text += &format!("\n    {line}");
    }
    let kept = Some(path.to_owned());
    Err(Failed::new(Reason::Run { failure: failure.clone(), seed: None, kept, story: Some(story) }, text))
}

fn draw(outcome: &Outcome, kept: &Path, builder: &StageBuilder) -> Result<(), Box<Failed>> {
    let replay = format!("SIM_REPLAY={} {}", kept.display(), builder.test());
    let cannot = |error| Failed::asked(format!("cannot draw {}: {error}", kept.display()));
    keep::draw(outcome, kept, &replay).map_err(cannot)
}

fn told(outcome: &Outcome, options: &RunOptions, name: &str) -> String {
    let Some(failure) = &outcome.failure else { return String::new() };
    let input = Input::File(name);
    FailureBlock { outcome, failure, input, options, explanation: None, kept: Some(name) }.to_string()
}

/// Makes a kept run smaller, and keeps the small one beside it.
pub(super) fn smaller(
    path: &Path,
    builder: &StageBuilder,
    environment: &Environment,
) -> Result<Summary, Box<Failed>> {
    let Some(log) = read(path, builder)? else { return Ok(Summary::default()) };
    let options = options_of(&log, builder);
    let runs_max = environment.shrink_runs.unwrap_or(SHRINK_RUNS);
    let mut runs = 0;
    let mut go_on = |progress: Progress| {
        runs = progress.runs;
        progress.runs < runs_max
    };
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let name = format!("{}.small.simlog", stem.trim_end_matches(".small"));
    let folder = path.parent().map_or_else(|| keep::folder(environment), Path::to_owned);
    let earlier = smaller_kept(&folder.join(&name), &log, &options);
    let from = earlier.as_ref().unwrap_or(&log);
    let from_options = RunOptions { switches: from.switches, ..options.clone() };
    let small = shrink(from, &from_options, &mut go_on).map_err(|error| {
        let name = path.display();
        let rest = if log.is_cut_off() { format!(" (it {})", log.rest()) } else { String::new() };
        Failed::asked(format!("{name}: {error}{rest}"))
    })?;
    let weight = |log: &RunLog| log.choices.tape().weight();
    let sizes = format!(
        "{} -> {} decisions, {} -> {} calls, in {runs} runs",
        weight(&log),
        weight(&small),
        log.calls.len(),
        small.calls.len()
    );
    let kept = keep::write(&small, &folder, &name)
        .map_err(|error| Failed::asked(format!("cannot write {}: {error}", folder.join(&name).display())))?;
    let again = RunOptions { switches: small.switches, ..options }.recorded();
    let outcome = run(&again, Decisions::from_tape(small.choices.tape()));
    let Some(failure) = &outcome.failure else {
        return Err(Failed::asked(format!(
            "{}: the smaller run passes when it is made again",
            path.display()
        )));
    };
    draw(&outcome, &kept, builder)?;
    let story = Story::of(&outcome, failure);
    let mut text = told(&outcome, &again, &kept.display().to_string());
    text += &format!("\n  shrunk    {sizes}\n  story");
    for line in story.lines() {
        text += &format!("\n    {line}");
    }
    let kept = Some(kept);
    Err(Failed::new(Reason::Run { failure: failure.clone(), seed: None, kept, story: Some(story) }, text))
}
