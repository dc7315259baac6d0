//! Failing runs of a sweep: kept on disk, shrunk, and told.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sim::Decisions;
use sim::explain::Explanation;
use sim::oracle::Oracle;
use sim::shrink::Progress;
use sim::sweep::{FailedRun, Summary};

use super::Trouble;
use super::report::WallClock;

/// Failing runs of a sweep that are kept; the others are printed with their seeds.
const KEPT_MAX: usize = 3;

/// A failing run that is on disk.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its place in the sweep.
    pub(super) index: u64,
    /// Where the small run is.
    pub(super) path: String,
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

/// Keeps the first failing runs in `folder`, and shrinks each for its share of `seconds`.
pub(super) fn keep(
    summary: &Summary,
    folder: &Path,
    seconds: u64,
    stop: &AtomicBool,
) -> Result<Vec<Kept>, Trouble> {
    let chosen = chosen(summary);
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let cannot =
        |path: &Path, error| Trouble::InputOutput(format!("cannot write {}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(|error| cannot(folder, error))?;
    let share_s = seconds as f64 / chosen.len() as f64;
    let mut kept = Vec::new();
    for failed in chosen {
        let clock = WallClock::start();
        let mut go_on = |_: Progress| !stop.load(Ordering::Relaxed) && clock.seconds() < share_s;
        let decisions = Decisions::from_seed(failed.seed.0);
        let found = Explanation::of(&failed.options, decisions, failed.seed.to_string(), &mut go_on);
        // It fails only now and then: the determinism check says more about it than a tape could.
        let Some(explanation) = found else { continue };
        let name = format!("{}-{:016x}", failed.outcome.workload, failed.seed.0);
        let full = folder.join(format!("{name}.simlog"));
        fs::write(&full, explanation.log.to_bytes()).map_err(|error| cannot(&full, error))?;
        let small = folder.join(format!("{name}.small.simlog"));
        if let Some(log) = &explanation.small {
            fs::write(&small, log.to_bytes()).map_err(|error| cannot(&small, error))?;
        }
        let path = if explanation.small.is_some() { small } else { full };
        kept.push(Kept { index: failed.index, path: path.display().to_string(), explanation });
    }
    Ok(kept)
}
