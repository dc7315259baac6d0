//! `sim conform`: generated scripts on the live kernel and on the simulated one.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sim::conform::campaign::{Campaign, Report};
use sim::conform::{Reference, observe_simulated, script_text};
use sim::decision::seed::Seed;
use sim::script::live::Live;
use sim::WorldOptions;

use super::Trouble;
use super::report::WallClock;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many scripts
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = super::run::parse_runs)]
    runs: u64,
    /// Goes on for so many minutes instead
    #[arg(long, value_name = "M", conflicts_with = "runs", value_parser = super::run::parse_runs)]
    minutes: Option<u64>,
    /// Seed of the first script: decimal, 0x and hex digits, or a 40-digit commit hash
    #[arg(long, value_name = "S", default_value = "0x0000000000000000", allow_hyphen_values = true)]
    seed: Seed,
    /// Prints the report as JSON
    #[arg(long)]
    json: bool,
    /// Where the scripts of unexplained differences are written
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn conform(arguments: &Arguments) -> Result<u8, Trouble> {
    let stop = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&stop);
    let stop_then_exit = move || {
        if handler.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(stop_then_exit)
        .map_err(|error| Trouble::InputOutput(format!("cannot listen for signals: {error}")))?;
    let live = Live::new().map_err(|error| Trouble::InputOutput(format!("no live kernel: {error}")))?;
    let mut reference = Reference::new(live, 2)
        .map_err(|error| Trouble::InputOutput(format!("no live kernel: {error}")))?;
    let campaign = Campaign {
        seed: arguments.seed.0,
        runs: if arguments.minutes.is_some() { u64::MAX } else { arguments.runs },
        differences_max: 20,
        options: WorldOptions::default(),
    };
    let bar = progress_bar(arguments.minutes.is_none().then_some(arguments.runs));
    let clock = WallClock::start();
    let limit_s = arguments.minutes.map_or(f64::INFINITY, |minutes| minutes as f64 * 60.0);
    let mut before = 0;
    let report = campaign.run(&mut reference, &stop, |found| {
        if found != before {
            before = found;
            bar.set_message(format!("{found} differences"));
        }
        bar.inc(1);
        clock.seconds() < limit_s
    });
    bar.finish_and_clear();
    let wall_s = clock.seconds();
    let mut out = io::stdout().lock();
    text(&mut out, &report, &campaign, wall_s)?;
    out.flush()?;
    Ok(if report.interrupted { 130 } else { u8::from(!report.found.is_empty()) })
}

fn text(out: &mut impl Write, report: &Report, campaign: &Campaign, wall_s: f64) -> io::Result<()> {
    for (signature, found) in &report.found {
        let shrunk = &found.shrunk;
        let mut answers = observe_simulated(&shrunk.calls, &campaign.options);
        answers.truncate(shrunk.difference.step);
        answers.push(shrunk.difference.live.clone());
        writeln!(out, "difference  {signature}")?;
        writeln!(out, "  seed {}, {} scripts; {}", Seed(found.seed), found.count, shrunk.difference)?;
        writeln!(out, "{}", script_text(signature, &shrunk.calls, &answers))?;
    }
    writeln!(out, "scripts      {:>12}", report.scripts)?;
    writeln!(out, "steps        {:>12}", report.steps)?;
    writeln!(out, "unstable     {:>12}", report.unstable)?;
    writeln!(out, "skipped      {:>12?}", report.lacking)?;
    writeln!(out, "unexplained  {:>12}", report.found.len())?;
    writeln!(out, "verbs {:?}", report.verbs)?;
    writeln!(out, "wall time    {wall_s:>10.1} s")?;
    writeln!(out, "speed        {:>10.0} scripts/s", report.scripts as f64 / wall_s.max(1e-9))
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
    let target = ProgressDrawTarget::stderr_with_hz(5);
    ProgressBar::with_draw_target(runs, target).with_style(style)
}
