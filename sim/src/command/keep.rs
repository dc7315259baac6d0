//! Failing runs of a sweep: kept on disk, shrunk, and told.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sim::Decisions;
use sim::explain::Explanation;
use sim::file;
use sim::oracle::Oracle;
use sim::run_log::RunLog;
use sim::shrink::Progress;
use sim::sweep::{FailedRun, Summary};

use super::Trouble;
use super::report::WallClock;

/// Failing runs of a sweep that are kept; the others are printed with their seeds.
const KEPT_MAX: usize = 3;

/// A failing run that was made small, and kept where that was possible.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its place in the sweep.
    pub(super) index: u64,
    /// Where the small run is, or why it is nowhere.
    pub(super) place: Result<String, String>,
    /// What was found out about it.
    pub(super) explanation: Explanation,
}

/// The runs worth keeping: the first of each oracle, then the first ones.
fn chosen(summary: &Summary) -> Vec<&FailedRun> {
    let mut seen: Vec<Oracle> = Vec::new();
    let able = summary.failed.iter().filter(|failed| failed.failure.oracle != Oracle::Determinism);
    let (firsts, others): (Vec<&FailedRun>, Vec<&FailedRun>) = able.partition(|failed| {
        let is_new = !seen.contains(&failed.failure.oracle);
        seen.push(failed.failure.oracle);
        is_new
    });
    firsts.into_iter().chain(others).take(KEPT_MAX).collect()
}

/// Shrinks the first failing runs, each for its share of `seconds`, and keeps them in `folder`. Where that cannot be, what was found
/// out is still told.
pub(super) fn keep(summary: &Summary, folder: &Path, seconds: u64, stop: &AtomicBool) -> Vec<Kept> {
    let chosen = chosen(summary);
    if chosen.is_empty() {
        return Vec::new();
    }
    let share_s = seconds as f64 / chosen.len() as f64;
    let mut kept = Vec::new();
    for failed in chosen {
        let clock = WallClock::start();
        let mut go_on = |_: Progress| !stop.load(Ordering::Relaxed) && clock.seconds() < share_s;
        let decisions = Decisions::from_seed(failed.seed.0);
        let name = format!("{}-{:016x}", failed.outcome.workload, failed.seed.0);
        let earlier = folder.join(format!("{name}.small.simlog"));
        let source = failed.seed.to_string();
        let found = Explanation::going_on(Some(&earlier), &failed.options, decisions, source, &mut go_on);
        // It fails only now and then: the determinism check says more about it than a tape could.
        let Some(explanation) = found else { continue };
        let place = write(&explanation, folder, &name).map_err(|trouble| trouble.to_string());
        kept.push(Kept { index: failed.index, place, explanation });
    }
    kept
}

/// Writes the whole run and the small one; answers where the smallest is.
fn write(explanation: &Explanation, folder: &Path, name: &str) -> Result<String, Trouble> {
    let put = |log: &RunLog, ending: &str| {
        let path = folder.join(format!("{name}{ending}"));
        file::keep(&path, &log.to_bytes()).map_err(|error| Trouble::cannot_write(&path, &error))?;
        Ok(path.display().to_string())
    };
    let whole = put(&explanation.log, ".simlog")?;
    explanation.small.as_ref().map_or(Ok(whole), |small| put(small, ".small.simlog"))
}
