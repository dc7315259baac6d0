//! Failing runs of tests: explained, and kept where the lines to paste find them.

use std::io;
use std::path::{Path, PathBuf};

use super::{Environment, Failed, Reason};
use crate::decision::Decisions;
use crate::decision::seed::Seed;
use crate::explain::{Explanation, FailureBlock, picture_of};
use crate::file;
use crate::run_log::RunLog;
use crate::runner::{Failure, Input, Outcome, RunOptions, run};
use crate::shrink::Progress;
use crate::view::{Format, View};
use crate::workload::WorkloadKind;

/// Runs made at most to find a smaller one that fails in the same way, unless `SIM_SHRINK_RUNS` says otherwise.
const SHRINK_RUNS: u64 = 3_000;

/// Where failing runs are kept: beside what cargo builds, or where the system keeps temporary files.
pub(super) fn folder(environment: &Environment) -> PathBuf {
    if let Some(out) = &environment.out {
        // Lines to paste have to work in any folder.
        return std::path::absolute(out).unwrap_or_else(|_| out.clone());
    }
    // target/debug/deps/chat-0123456789abcdef
    let program = std::env::current_exe().ok();
    let target = program.as_deref().filter(|program| program.parent().is_some_and(|it| it.ends_with("deps")));
    let target = target.and_then(|program| program.ancestors().nth(3)).map(Path::to_owned);
    target.unwrap_or_else(std::env::temp_dir).join("sim-runs")
}

/// Writes a run; answers where.
pub(super) fn write(log: &RunLog, folder: &Path, name: &str) -> io::Result<PathBuf> {
    let path = folder.join(name);
    file::keep(&path, &log.to_bytes())?;
    Ok(path)
}

/// Draws a recorded run beside the file that it is kept in: a page for a browser.
pub(super) fn draw(outcome: &Outcome, kept: &Path, replay: &str) -> io::Result<()> {
    let source = kept.display().to_string();
    let Some(view) = View::of(outcome, &source, replay) else { return Ok(()) };
    file::replace(&picture_of(&source), |page| view.write(Format::Html, page))
}

/// Which run failed, and what with.
pub(super) struct Found<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) failure: &'a Failure,
    pub(super) options: &'a RunOptions,
    pub(super) seed: Seed,
}

/// Shrinks, tells and keeps a run of a sweep that failed.
pub(super) fn failed_run(found: &Found<'_>, environment: &Environment) -> Box<Failed> {
    let Found { outcome, failure, options, seed } = *found;
    let runs_max = environment.shrink_runs.unwrap_or(SHRINK_RUNS);
    let mut go_on = |progress: Progress| progress.runs < runs_max;
    let earlier = folder(environment).join(format!("{}.small.simlog", stem(outcome.workload, seed)));
    let decisions = Decisions::from_seed(seed.0);
    let explanation = Explanation::going_on(Some(&earlier), options, decisions, seed.to_string(), &mut go_on);
    let (kept, trouble) =
        match explanation.as_ref().map(|found| keep(found, options, &folder(environment), seed)) {
            Some(Ok(path)) => (Some(path), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
    let shown = kept.as_ref().map(|path| path.display().to_string());
    let block = FailureBlock {
        outcome,
        failure,
        input: Input::Seed(seed),
        options,
        explanation: explanation.as_ref(),
        kept: shown.as_deref(),
    };
    let mut text = block.to_string();
    if let Some(error) = trouble {
        text += &format!(
            "\n  not kept  {}: {error}; SIM_OUT names another folder",
            folder(environment).display()
        );
    }
    let story = explanation.map(|found| found.story);
    Failed::new(Reason::Run { failure: failure.clone(), seed: Some(seed), kept, story }, text)
}

/// What the files of a run are called.
fn stem(workload: WorkloadKind, seed: Seed) -> String {
    format!("{workload}-{:016x}", seed.0)
}

/// Keeps the whole run and the small one, and draws the small one. Answers where the smallest is.
fn keep(explanation: &Explanation, options: &RunOptions, folder: &Path, seed: Seed) -> io::Result<PathBuf> {
    let name = stem(explanation.log.workload, seed);
    let whole = write(&explanation.log, folder, &format!("{name}.simlog"))?;
    let (log, kept) = match &explanation.small {
        Some(small) => (small, write(small, folder, &format!("{name}.small.simlog"))?),
        None => (&explanation.log, whole),
    };
    let again = RunOptions { switches: log.switches, ..options.clone() }
        .fixed_to(log.workload, log.kernel, log.weather)
        .recorded();
    let outcome = run(&again, Decisions::from_tape(log.choices.tape()));
    draw(&outcome, &kept, &format!("SIM_REPLAY={} {}", kept.display(), log.test))?;
    Ok(kept)
}
