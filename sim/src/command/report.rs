//! What a sweep prints at its end, for people and for machines.

use std::io::{self, Write};

use super::keep::Kept;
use serde::Serialize;
use sim::ObligationCounts;
use sim::explain::{Explanation, FailureBlock};
use sim::oracle::Oracle;
use sim::run_log::RunLog;
use sim::runner::Input;
use sim::sweep::{FailedRun, FaultTally, Summary, Sweep};

/// Failing runs that are printed in full; the rest is counted.
const BLOCKS_MAX: usize = 10;

/// Real time, for the report; no run sees it.
#[expect(
    clippy::disallowed_types,
    reason = "the report says how long the sweep took; runs have their own clock"
)]
pub(super) struct WallClock(std::time::Instant);

impl WallClock {
    #[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "as above")]
    pub(super) fn start() -> WallClock {
        WallClock(std::time::Instant::now())
    }

    pub(super) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

fn block<'a>(failed: &'a FailedRun, kept: &'a [Kept]) -> FailureBlock<'a> {
    let kept = kept.iter().find(|kept| kept.index == failed.index);
    FailureBlock {
        outcome: &failed.outcome,
        failure: &failed.failure,
        input: Input::Seed(failed.seed),
        options: &failed.options,
        explanation: kept.map(|kept| &kept.explanation),
        kept: kept.and_then(|kept| kept.place.as_deref().ok()),
    }
}

/// Why a run that was to be kept is not.
fn not_kept<'a>(failed: &FailedRun, kept: &'a [Kept]) -> Option<&'a str> {
    let kept = kept.iter().find(|kept| kept.index == failed.index)?;
    kept.place.as_ref().err().map(String::as_str)
}

fn seconds(ns: u128) -> f64 {
    ns as f64 / 1e9
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn text(
    out: &mut impl Write,
    summary: &Summary,
    kept: &[Kept],
    sweep: &Sweep,
    wall_s: f64,
) -> io::Result<()> {
    for failed in summary.failed.iter().take(BLOCKS_MAX) {
        writeln!(out, "{}", block(failed, kept))?;
        if let Some(why) = not_kept(failed, kept) {
            writeln!(out, "  not kept  {why}; --out names another folder")?;
        }
        writeln!(out)?;
    }
    if let Some(more) = summary.failed.len().checked_sub(BLOCKS_MAX).filter(|&more| more > 0) {
        writeln!(out, "... and {more} more failing runs; --json prints them all\n")?;
    }
    if summary.interrupted {
        writeln!(out, "interrupted after {} of {} runs", summary.runs, sweep.runs_here())?;
    }
    let ObligationCounts { owed, paid, cancelled, .. } = summary.obligations;
    let twice = summary.hashes.iter().filter(|&&(index, ..)| sweep.is_made_twice(index)).count();
    let differed = summary.failed.iter().filter(|it| it.failure.oracle == Oracle::Determinism).count();
    writeln!(out, "runs          {:>16}", grouped(summary.runs))?;
    writeln!(out, "failed        {:>16}", grouped(summary.failed.len() as u64))?;
    writeln!(out, "calls         {:>16}", grouped(summary.calls))?;
    writeln!(out, "made twice    {:>16}  {differed} differed", grouped(twice as u64))?;
    writeln!(out, "virtual time  {:>14.1} s", seconds(summary.virtual_ns))?;
    writeln!(out, "wall time     {wall_s:>14.1} s")?;
    writeln!(out, "speed         {:>11.0} runs/s", summary.runs as f64 / wall_s.max(1e-9))?;
    writeln!(
        out,
        "events owed   {:>16}  {} paid, {} cancelled by rule",
        grouped(owed),
        grouped(paid),
        grouped(cancelled)
    )?;
    writeln!(out, "trace hash, combined  {:#018x}", summary.trace_hash)?;
    faults(out, summary, sweep)
}

/// One line for each kind that was on: in how many runs, how often it was drawn and in how many runs, and in how many of
/// those that were made again without it a call had another result.
fn faults(out: &mut impl Write, summary: &Summary, sweep: &Sweep) -> io::Result<()> {
    if summary.faults.iter().all(|tally| tally.runs_on == 0) {
        return writeln!(out, "\nfaults        none was on");
    }
    writeln!(out, "\n{:<22} {:>10} {:>14} {:>10}  effective", "faults", "runs on", "drawn", "runs drawn")?;
    for tally in summary.faults.iter().filter(|tally| tally.runs_on > 0) {
        let FaultTally { kind, runs_on, drawn, runs_drawn, checked, effective, .. } = tally;
        let [runs_on, drawn, runs_drawn] = [*runs_on, *drawn, *runs_drawn].map(grouped);
        let effective =
            if *checked == 0 { "not checked".to_owned() } else { format!("{effective} of {checked}") };
        writeln!(out, "  {:<20} {runs_on:>10} {drawn:>14} {runs_drawn:>10}  {effective}", kind.name())?;
    }
    let complaints = summary.fault_complaints(sweep);
    if !complaints.is_empty() {
        writeln!(out, "\nfaults that did not bite")?;
        for complaint in complaints {
            writeln!(out, "  {complaint}")?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct RunObject {
    run: u64,
    seed: String,
    trace_hash: String,
}

/// Every run's seed and hash, in the order of the sweep.
pub(super) fn hashes(out: &mut impl Write, summary: &Summary, json: bool) -> io::Result<()> {
    for &(run, seed, hash) in &summary.hashes {
        let (seed, trace_hash) = (seed.to_string(), format!("{hash:#018x}"));
        if json {
            write_line(out, &RunObject { run, seed, trace_hash })?;
        } else {
            writeln!(out, "run {run:>8}  seed {seed}  trace hash {trace_hash}")?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct FailedObject<'a> {
    failed: &'static str,
    index: u64,
    seed: String,
    workload: &'static str,
    kernel: &'static str,
    weather: &'static str,
    at_ns: u64,
    step: u64,
    details: &'a str,
    trace_hash: String,
    replay: String,
    kept: Option<&'a str>,
    /// Why it was not kept, where it was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_kept: Option<&'a str>,
    story: &'a [String],
    /// Decisions that are not benign: of the run as it was found, and of the small one.
    decisions: Option<[usize; 2]>,
    /// Calls, likewise.
    kept_calls: Option<[usize; 2]>,
    shrink_runs: Option<u64>,
}

/// Something of the run as it was found and of the small one.
fn sizes(explanation: Option<&Explanation>, of: impl Fn(&RunLog) -> usize) -> Option<[usize; 2]> {
    let Explanation { log, small, .. } = explanation?;
    Some([of(log), of(small.as_ref().unwrap_or(log))])
}

#[derive(Serialize)]
struct SummaryObject {
    runs: u64,
    failed: u64,
    steps: u64,
    calls: u64,
    messages: u64,
    virtual_s: f64,
    wall_s: f64,
    runs_per_s: f64,
    trace_hash: String,
    interrupted: bool,
    faults: serde_json::Map<String, serde_json::Value>,
    /// What is wrong with the kinds that the sweep might have had.
    faults_without_effect: Vec<String>,
}

#[derive(Serialize)]
struct TallyObject {
    runs_on: u64,
    drawn: u64,
    runs_drawn: u64,
    checked: u64,
    effective: u64,
}

/// What was had of a kind, under its name.
fn tally_object(tally: &FaultTally) -> io::Result<(String, serde_json::Value)> {
    let &FaultTally { kind, runs_on, drawn, runs_drawn, checked, effective, .. } = tally;
    let object = TallyObject { runs_on, drawn, runs_drawn, checked, effective };
    Ok((kind.name().to_owned(), serde_json::to_value(object).map_err(io::Error::other)?))
}

pub(super) fn json(
    out: &mut impl Write,
    summary: &Summary,
    kept: &[Kept],
    sweep: &Sweep,
    wall_s: f64,
) -> io::Result<()> {
    for failed in &summary.failed {
        let block = block(failed, kept);
        let object = FailedObject {
            failed: failed.failure.oracle.name(),
            index: failed.index,
            seed: failed.seed.to_string(),
            workload: failed.outcome.workload.name(),
            kernel: failed.outcome.kernel.name(),
            weather: failed.outcome.weather.name(),
            at_ns: failed.failure.at.as_ns(),
            step: failed.failure.step,
            details: &failed.failure.details,
            trace_hash: format!("{:#018x}", failed.outcome.trace_hash),
            replay: block.replay(),
            kept: block.kept,
            not_kept: not_kept(failed, kept),
            decisions: sizes(block.explanation, |log| log.choices.tape().weight()),
            kept_calls: sizes(block.explanation, |log| log.calls.len()),
            shrink_runs: block.explanation.map(|explanation| explanation.runs),
            story: block.explanation.map_or(&[], |explanation| explanation.story.lines()),
        };
        write_line(out, &object)?;
    }
    let object = SummaryObject {
        runs: summary.runs,
        failed: summary.failed.len() as u64,
        // A step is a call.
        steps: summary.calls,
        calls: summary.calls,
        messages: summary.messages,
        virtual_s: seconds(summary.virtual_ns),
        wall_s,
        runs_per_s: summary.runs as f64 / wall_s.max(1e-9),
        trace_hash: format!("{:#018x}", summary.trace_hash),
        interrupted: summary.interrupted,
        faults: summary.faults.iter().map(tally_object).collect::<io::Result<_>>()?,
        faults_without_effect: summary.fault_complaints(sweep),
    };
    write_line(out, &object)
}

pub(super) fn write_line(out: &mut impl Write, object: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(object).map_err(io::Error::other)?;
    writeln!(out, "{text}")
}
