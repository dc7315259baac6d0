//! How a night ended: `summary.json`, and the last line.

use std::path::PathBuf;

use serde::Serialize;

use super::folder::{count, standing};
use super::part::{PartResult, Verdict};
use super::table::Table;

/// What `summary.json` of a night holds, and `--json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Summary<'a> {
    /// The folder.
    pub(crate) out: PathBuf,
    pub(crate) seed: &'a str,
    /// How long the night was to be.
    pub(crate) seconds: u64,
    /// How long this process took for it; a night that was resumed took longer.
    pub(crate) took_s: u64,
    pub(crate) processors: &'a str,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) left_out: usize,
    /// Parts that were stopped, or had not begun.
    pub(crate) unfinished: usize,
    /// Why the night was given up.
    pub(crate) trouble: Option<String>,
    /// Whether somebody stopped it.
    pub(crate) interrupted: bool,
    /// Each part's last result.
    pub(crate) parts: Vec<&'a PartResult>,
}

impl<'a> Summary<'a> {
    pub(crate) fn of(table: &'a Table, results: &'a [PartResult]) -> Summary<'a> {
        let parts = standing(results);
        let has_result = |name: &str| parts.iter().any(|result| result.part == name);
        // How many chunks there would have been is not known.
        let not_begun = table.parts.iter().filter(|part| !part.in_chunks && !has_result(&part.name)).count();
        Summary {
            out: PathBuf::new(),
            seed: &table.seed,
            seconds: table.seconds,
            took_s: 0,
            processors: &table.processors,
            passed: count(&parts, Verdict::Passed),
            failed: count(&parts, Verdict::Failed),
            left_out: count(&parts, Verdict::LeftOut),
            unfinished: count(&parts, Verdict::Interrupted) + not_begun,
            trouble: None,
            interrupted: false,
            parts,
        }
    }

    /// The last line of the night.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} passed, {} failed, {} left out; {}",
            self.passed,
            self.failed,
            self.left_out,
            self.out.display()
        )
    }

    /// 0 all passed, 1 a part failed, 7 the machine refused or no part could run, 130 interrupted.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Summary { interrupted: true, .. } => 130,
            Summary { trouble: Some(_), .. } => 7,
            Summary { failed: 1.., .. } => 1,
            // Nothing that ran is no pass.
            Summary { passed: 0, .. } => 7,
            _ => 0,
        }
    }
}
