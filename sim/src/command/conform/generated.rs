//! `sim conform` without files: generated scripts on the live kernel and on the simulated one.

use std::io::{self, IsTerminal, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use sim::conform::Reference;
use sim::conform::campaign::{Campaign, Found, Report};
use sim::conform::explained::TABLE;
use sim::conform::self_test::find_drift;
use sim::decision::seed::Seed;
use sim::file;
use sim::script::live::Live;
use sim::script::{Script, Subject, Verdict};
use sim::{Drift, WorldOptions};

use super::Arguments;
use crate::command::Trouble;
use crate::command::report::{WallClock, grouped, write_line};

/// What must work on a machine for the comparison to mean anything.
const PLAIN: &str = include_str!("plain.script");
/// Scripts, unless asked otherwise.
const RUNS_DEFAULT: u64 = 10_000;
/// How often the live kernel must answer the same before it is believed.
const REPETITIONS: usize = 2;
/// After so many sorts of differences it is time to mend them.
const DIFFERENCES_MAX: usize = 50;

pub(super) fn run(arguments: &Arguments) -> Result<u8, Trouble> {
    let stop = stop_at_interrupt()?;
    let mut reference = live()?;
    let runs = arguments.runs.unwrap_or(RUNS_DEFAULT);
    let campaign = Campaign {
        seed: arguments.seed.0,
        runs: if arguments.minutes.is_some() { u64::MAX } else { runs },
        differences_max: DIFFERENCES_MAX,
        options: WorldOptions::default(),
    };
    let bar = progress_bar(arguments.minutes.is_none().then_some(runs));
    let clock = WallClock::start();
    let limit_s = arguments.minutes.map_or(f64::INFINITY, |minutes| minutes as f64 * 60.0);
    let mut found_before = 0;
    let report = campaign.run(&mut reference, &stop, |found| {
        if found != found_before {
            found_before = found;
            bar.set_message(format!("{found} unexplained"));
        }
        bar.inc(1);
        clock.seconds() < limit_s
    });
    bar.finish_and_clear();
    let wall_s = clock.seconds();
    if let Some(folder) = &arguments.out {
        write_scripts(folder, &report)?;
    }
    let mut out = io::stdout().lock();
    if arguments.json {
        json(&mut out, &report, wall_s)?;
    } else {
        text(&mut out, &report, wall_s)?;
    }
    out.flush()?;
    Ok(if report.interrupted { 130 } else { u8::from(!report.found.is_empty()) })
}

/// Plants one drift after the other, and prints how long each lived; the exit code is 1 if one was not found.
pub(super) fn self_test(arguments: &Arguments, drifts: &[Drift]) -> Result<u8, Trouble> {
    let stop = stop_at_interrupt()?;
    let mut reference = live()?;
    let mut out = io::stdout().lock();
    let mut missed = 0;
    for &drift in drifts {
        let clock = WallClock::start();
        let mut found_s = 0.0;
        let found = find_drift(&mut reference, drift, arguments.seed.0, || {
            found_s = clock.seconds();
            !stop.load(Ordering::Relaxed) && found_s < arguments.seconds as f64
        });
        if stop.load(Ordering::Relaxed) {
            return Ok(130);
        }
        match found {
            Some(found) => {
                let (after, steps) = (grouped(found.after), found.shrunk.calls.len());
                writeln!(
                    out,
                    "found   {:<34} {found_s:>6.1} s  {after:>8} scripts  {steps:>3} steps left",
                    drift.name()
                )?;
                if drifts.len() == 1 {
                    writeln!(out, "  {}\n\n{}", found.shrunk.difference, found.script(drift.name()))?;
                }
            }
            None => {
                missed += 1;
                writeln!(out, "MISSED  {:<34} {found_s:>6.1} s", drift.name())?;
            }
        }
        out.flush()?;
    }
    Ok(u8::from(missed > 0))
}

fn live() -> Result<Reference<Live>, Trouble> {
    let no_live = |error| Trouble::InputOutput(format!("no live kernel to compare with: {error}"));
    // A call that is not permitted here would look like a difference, or leave out all that matters.
    let plain: Script = Script::parse(PLAIN).map_err(|error| Trouble::Usage(error.to_string()))?;
    match Subject::Live.run(&plain, Ipv4Addr::LOCALHOST) {
        Verdict::Passed => {}
        Verdict::Skipped(reason) => {
            return Err(Trouble::InputOutput(format!("no live kernel to compare with: {reason}")));
        }
        Verdict::Failed(failure) => {
            return Err(Trouble::InputOutput(format!(
                "no live kernel to compare with: a call that every script needs is not permitted here: `{}` answers {}",
                failure.step.trim(),
                failure.found
            )));
        }
    }
    Reference::new(Live::new().map_err(no_live)?, REPETITIONS).map_err(no_live)
}

fn stop_at_interrupt() -> Result<Arc<AtomicBool>, Trouble> {
    let stop = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&stop);
    let stop_then_exit = move || {
        // The second time, whoever asks does not want to wait for the script under way.
        if handler.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(stop_then_exit)
        .map_err(|error| Trouble::InputOutput(format!("cannot listen for signals: {error}")))?;
    Ok(stop)
}

fn write_scripts(folder: &Path, report: &Report) -> Result<(), Trouble> {
    let trouble = |error: io::Error| Trouble::InputOutput(format!("{}: {error}", folder.display()));
    for (signature, found) in &report.found {
        let words: Vec<String> = signature
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        let path = folder.join(format!("{}.script", words.join("_")));
        file::keep(&path, found.script(signature).as_bytes()).map_err(trouble)?;
    }
    Ok(())
}

fn text(out: &mut impl Write, report: &Report, wall_s: f64) -> io::Result<()> {
    for (signature, found) in &report.found {
        writeln!(out, "difference  {signature}")?;
        writeln!(
            out,
            "  first in script {} (seed {}), in {} scripts",
            found.after,
            Seed(found.seed),
            found.count
        )?;
        writeln!(out, "  {}\n", found.shrunk.difference)?;
        writeln!(out, "{}", found.script(signature))?;
    }
    if report.interrupted {
        writeln!(out, "interrupted after {} scripts", grouped(report.scripts))?;
    }
    let explained: u64 = report.explained.iter().sum();
    for (name, number) in [
        ("scripts", report.scripts),
        ("steps", report.steps),
        ("unstable", report.unstable),
        ("explained", explained),
        ("unexplained", report.found.values().map(|found| found.count).sum()),
    ] {
        writeln!(out, "{name:<13} {:>16}", grouped(number))?;
    }
    writeln!(out, "wall time     {wall_s:>14.1} s")?;
    writeln!(out, "speed         {:>11.0} scripts/s", report.scripts as f64 / wall_s.max(1e-9))?;
    for (explained, count) in TABLE.iter().zip(&report.explained) {
        let count = if *count == 0 { "unused".to_owned() } else { grouped(*count) };
        writeln!(out, "explained     {count:>16}  {}", explained.name)?;
    }
    for (verb, count) in &report.lacking {
        writeln!(out, "skipped       {:>16}  {verb}: one of the kernels lacks it", grouped(*count))?;
    }
    writeln!(out, "\ncalls compared")?;
    for (verb, count) in &report.verbs {
        writeln!(out, "  {verb:<22} {:>14}", grouped(*count))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct FoundObject<'a> {
    difference: &'a str,
    seed: String,
    script_number: u64,
    scripts: u64,
    live: String,
    simulated: String,
    script: String,
}

#[derive(Serialize)]
struct SummaryObject<'a> {
    scripts: u64,
    steps: u64,
    unstable: u64,
    explained: Vec<(&'static str, u64)>,
    unexplained: usize,
    skipped: Vec<(&'a str, u64)>,
    wall_s: f64,
    scripts_per_s: f64,
    interrupted: bool,
}

fn json(out: &mut impl Write, report: &Report, wall_s: f64) -> io::Result<()> {
    for (signature, found) in &report.found {
        let Found { seed, after, shrunk, count } = found;
        let object = FoundObject {
            difference: signature,
            seed: Seed(*seed).to_string(),
            script_number: *after,
            scripts: *count,
            live: shrunk.difference.live.to_string(),
            simulated: shrunk.difference.simulated.to_string(),
            script: found.script(signature),
        };
        write_line(out, &object)?;
    }
    let object = SummaryObject {
        scripts: report.scripts,
        steps: report.steps,
        unstable: report.unstable,
        explained: TABLE
            .iter()
            .map(|explained| explained.name)
            .zip(report.explained.iter().copied())
            .collect(),
        unexplained: report.found.len(),
        skipped: report.lacking.iter().map(|(verb, count)| (*verb, *count)).collect(),
        wall_s,
        scripts_per_s: report.scripts as f64 / wall_s.max(1e-9),
        interrupted: report.interrupted,
    };
    write_line(out, &object)
}

/// On standard error, and only on a terminal.
fn progress_bar(runs: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = match runs {
        Some(_) => "{wide_bar} {pos}/{len} scripts  {per_sec}  {eta} left  {msg}",
        None => "{elapsed}  {pos} scripts  {per_sec}  {msg}",
    };
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(runs, ProgressDrawTarget::stderr_with_hz(5)).with_style(style)
}
