//! `sim run`: a sweep.

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;

use clap::Args;
use clap::builder::FalseyValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sim::ObligationCheck;
use sim::decision::seed::Seed;
use sim::sweep::{SAMPLE_EVERY, Sweep, sweep};

use super::engine::{self, Choice};
use super::keep::keep;
use super::records::Records;
use super::report::{self, WallClock};
use super::shrink::interruption;
use super::{Fixed, Trouble};

/// Exit code of a sweep that was to have every kind of fault and had not: the simulator's own invariant is broken.
const BITELESS: u8 = 1;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    fixed: Fixed,
    /// Seed of the first run: decimal, 0x and hex digits, or a 40-digit commit hash
    #[arg(
        long,
        value_name = "S",
        default_value = "0x0000000000000000",
        allow_hyphen_values = true,
        env = "SIM_SEED",
        hide_env = true
    )]
    seed: Seed,
    /// How many runs
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = parse_runs, env = "SIM_RUNS", hide_env = true)]
    runs: u64,
    /// How many threads [default: one per core]
    #[arg(long, value_name = "J", value_parser = parse_jobs, env = "SIM_JOBS", hide_env = true)]
    jobs: Option<NonZeroUsize>,
    /// Makes part I of N of the runs, counted from 1; `auto` asks the engine that started this process
    #[arg(long, value_name = "I/N|auto", env = "SIM_SHARD", hide_env = true)]
    shard: Option<Choice>,
    /// How many parts there are, for an engine that does not say
    #[arg(long, value_name = "N", requires = "shard", value_parser = parse_runs)]
    shards: Option<u64>,
    /// Writes one JSON object per run to this file while it runs, for `sim merge`; - is the standard output
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Prints one JSON object per failing run, and a summary object
    #[arg(long)]
    json: bool,
    /// Also prints each run's seed and trace hash, which `sim replay SEED` prints too
    #[arg(long)]
    hashes: bool,
    /// Where the first failing runs are kept
    #[arg(long, value_name = "DIR", default_value = "sim-failures", env = "SIM_OUT", hide_env = true)]
    out: PathBuf,
    /// How long to look for smaller runs that fail in the same way; 0 keeps them as they are
    #[arg(long, value_name = "S", default_value_t = 20)]
    shrink_seconds: u64,
    /// Stops when this many runs have failed
    #[arg(long, value_name = "N", value_parser = parse_runs)]
    failures_max: Option<u64>,
    /// Deals the runs out evenly over workloads, kernels and weathers, as far as they are not fixed
    #[arg(long)]
    stratified: bool,
    /// Fails unless every kind of fault was drawn, and had an effect in a run that was checked
    #[arg(long)]
    require_faults: bool,
    /// Checks in every run what the kernel owes, instead of one run in sixteen
    #[arg(long)]
    check_obligations: bool,
    /// Makes every run twice and compares the hashes, instead of one run in a hundred
    #[arg(long, env = "SIM_CHECK_DETERMINISM", hide_env = true, value_parser = FalseyValueParser::new())]
    check_determinism: bool,
}

pub(super) fn parse_runs(text: &str) -> Result<u64, String> {
    let least = "a whole number, at least 1";
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Err(_) if is_number => Err(format!("{least} and at most {}", u64::MAX)),
        Ok(runs) if runs > 0 => Ok(runs),
        _ => Err(least.to_owned()),
    }
}

fn parse_jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "a number of threads, at least 1".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Trouble> {
    let jobs = arguments.jobs.unwrap_or_else(|| thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
    let mut options = arguments.fixed.options();
    if arguments.check_obligations {
        options.obligations = ObligationCheck::Always;
    }
    let shard = engine::shard(arguments.shard, arguments.shards)?;
    let plan = Sweep {
        shard,
        failures_max: arguments.failures_max,
        twice_every: if arguments.check_determinism { 1 } else { SAMPLE_EVERY },
        stratified: arguments.stratified,
        ..Sweep::of(options, arguments.seed.0, arguments.runs, jobs)
    };
    let stop = interruption()?;

    let mut records = match &arguments.records {
        Some(path) => Some(Records::create(path, &plan)?),
        None => None,
    };
    let bar = progress_bar(plan.runs_here());
    let clock = WallClock::start();
    let mut failed_before = 0;
    let summary = sweep(&plan, &stop, |made| {
        if made.failed != failed_before {
            failed_before = made.failed;
            bar.set_message(format!("{} failed", made.failed));
        }
        bar.inc(1);
        if let Some(records) = &mut records
            && !records.add(&made)
        {
            // Nobody can read on: the sweep ends, and says why.
            stop.store(true, Ordering::Relaxed);
        }
    });
    bar.finish_and_clear();
    let wall_s = clock.seconds();

    if let Some(records) = &mut records {
        records.rest(&summary);
    }
    let kept = keep(&summary, &arguments.out, arguments.shrink_seconds, &stop);
    // What was found is told first, wherever it could not be written.
    let recorded = match records.map(|records| records.end(&summary, &kept, wall_s)) {
        Some(Err(Trouble::OutputClosed)) => return Err(Trouble::OutputClosed),
        Some(recorded) => recorded,
        None => Ok(()),
    };
    let mut out: Box<dyn Write> = match &arguments.records {
        Some(path) if path == Path::new("-") => Box::new(io::stderr()),
        _ => Box::new(io::stdout().lock()),
    };
    if arguments.hashes {
        report::hashes(&mut out, &summary, arguments.json)?;
    }
    if arguments.json {
        report::json(&mut out, &summary, &kept, &plan, wall_s)?;
    } else {
        report::text(&mut out, &summary, &kept, &plan, wall_s)?;
    }
    out.flush()?;
    if let Err(trouble) = recorded {
        if summary.failed.is_empty() {
            return Err(trouble);
        }
        eprintln!("sim: {trouble}");
    } else if summary.interrupted {
        return Ok(130);
    }
    let complaints = summary.fault_complaints(&plan);
    if arguments.require_faults && !complaints.is_empty() {
        for complaint in &complaints {
            eprintln!("sim: a fault that does not bite: {complaint}");
        }
        return Ok(summary.exit_code().max(BITELESS));
    }
    Ok(summary.exit_code())
}

/// On standard error, and only on a terminal.
fn progress_bar(runs: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{wide_bar} {pos}/{len} runs  {per_sec}  {eta} left  {msg}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(runs), ProgressDrawTarget::stderr_with_hz(5)).with_style(style)
}
