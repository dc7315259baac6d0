//! `sim shrink`: a failing run, made small.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sim::Decisions;
use sim::file;
use sim::run_log::RunLog;
use sim::runner::{RunOptions, run};
use sim::shrink::{Progress, ShrinkError, shrink as shrink_run, smaller_kept};
use sim::story::Story;

use super::input::Case;
use super::report::{WallClock, grouped};
use super::{Fixed, Trouble};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A failing run: a seed, or a file, see below
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// Stops after so many seconds, with the smallest run so far
    #[arg(long, value_name = "S", default_value_t = 30)]
    seconds: u64,
    /// Where the small run is written [default: the name of what was given, with `.shrunk.simlog`]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    fixed: Fixed,
}

/// Shrinks until it can be made no smaller, or the time is over, or `stop` says so.
pub(super) fn shrink_for(
    log: &RunLog,
    options: &RunOptions,
    seconds: u64,
    stop: &AtomicBool,
) -> Result<(RunLog, Progress), ShrinkError> {
    let clock = WallClock::start();
    let bar = spinner();
    let mut last = Progress { runs: 0, accepted: 0, weight: 0, steps: 0, pass: "" };
    let mut go_on = |progress: Progress| {
        last = progress;
        if progress.runs % 64 == 1 {
            let Progress { runs, weight, steps, pass, .. } = progress;
            bar.set_message(format!("{pass}: {weight} decisions, {steps} calls left, {runs} runs made"));
            bar.tick();
        }
        !stop.load(Ordering::Relaxed) && clock.seconds() < seconds as f64
    };
    let small = shrink_run(log, options, &mut go_on);
    bar.finish_and_clear();
    Ok((small?, last))
}

/// On standard error, and only on a terminal.
fn spinner() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5)).with_style(style)
}

/// A flag that Ctrl-C sets; the second time the process ends.
pub(super) fn interruption() -> Result<Arc<AtomicBool>, Trouble> {
    let stop = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&stop);
    let stop_then_exit = move || {
        // The second time, whoever asks does not want to wait for what is under way.
        if handler.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(stop_then_exit)
        .map_err(|error| Trouble::InputOutput(format!("cannot listen for signals: {error}")))?;
    Ok(stop)
}

pub(super) fn shrink(arguments: &Arguments) -> Result<u8, Trouble> {
    let case = Case::read(&arguments.what, &arguments.fixed)?;
    let stop = interruption()?;
    let (options, outcome) = case.failing()?;
    let source = case.log().map_or_else(|| case.name.clone(), |log| log.source.clone());
    let log = RunLog::of(&outcome, &options, source);
    let options = options.fixed_to(log.workload, log.kernel, log.weather);
    let path = arguments.out.clone().unwrap_or_else(|| case.stem().with_extension("shrunk.simlog"));
    let earlier = smaller_kept(&path, &log, &options);
    let clock = WallClock::start();
    let (small, progress) = match &earlier {
        Some(earlier) => {
            let options = RunOptions { switches: earlier.switches, ..options.clone() };
            shrink_for(earlier, &options, arguments.seconds, &stop)
        }
        None => shrink_for(&log, &options, arguments.seconds, &stop),
    }
    .map_err(|error| Trouble::Usage(format!("{}: {error}", case.name)))?;
    let written = file::replace_with(&path, &small.to_bytes());

    let mut out = io::stdout().lock();
    if earlier.is_some() {
        writeln!(out, "went on from {}, which was smaller already", path.display())?;
    }
    let weight = |log: &RunLog| grouped(log.choices.tape().weight() as u64);
    writeln!(
        out,
        "{} -> {} decisions, {} -> {} calls, in {} runs and {:.1} s",
        weight(&log),
        weight(&small),
        grouped(log.calls.len() as u64),
        grouped(small.calls.len() as u64),
        grouped(progress.runs),
        clock.seconds()
    )?;
    let smaller = RunOptions { switches: small.switches, ..options };
    let told = run(&smaller.recorded(), Decisions::from_tape(small.choices.tape()));
    if let Some(failure) = &told.failure {
        writeln!(out, "\n{}\n", Story::of(&told, failure))?;
    }
    written.map_err(|error| Trouble::cannot_write(&path, &error))?;
    writeln!(out, "replay  sim replay {}", path.display())?;
    let interrupted = stop.load(Ordering::Relaxed);
    if interrupted {
        writeln!(out, "interrupted: it may become smaller; the same command goes on from there")?;
    }
    out.flush()?;
    Ok(if interrupted { 130 } else { 0 })
}
