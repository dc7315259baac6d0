//! Writes the records of a sweep while it runs: whole lines, in the order of the runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use sim::record::{Entry, Origin, RunRecord};
use sim::sweep::{Made, Summary, Sweep};

use super::Trouble;
use super::keep::Kept;

/// A file of records that is being written.
pub(super) struct Records<'a> {
    sweep: &'a Sweep,
    origin: Origin,
    name: String,
    out: Box<dyn Write>,
    /// Runs that were made before one with a lower number.
    waiting: BTreeMap<u64, RunRecord>,
    /// How many runs have been written.
    written: u64,
    error: Option<io::Error>,
}

impl<'a> Records<'a> {
    /// Begins a file, or the standard output where it is named `-`.
    pub(super) fn create(path: &Path, sweep: &'a Sweep) -> Result<Records<'a>, Trouble> {
        let name = path.display().to_string();
        let out: Box<dyn Write> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let file = File::create(path);
            Box::new(file.map_err(|error| Trouble::InputOutput(format!("cannot write {name}: {error}")))?)
        };
        let origin = Origin::of(sweep);
        let mut records =
            Records { sweep, origin, name, out, waiting: BTreeMap::new(), written: 0, error: None };
        records.write(&Entry::Sweep { runs: sweep.runs, shards: vec![sweep.shard] });
        records.check()?;
        Ok(records)
    }

    /// Takes a run that was made. Answers whether that worked; if not, [`Records::end`] says why.
    pub(super) fn add(&mut self, made: &Made<'_>) -> bool {
        let options = self.sweep.options_of(made.index);
        self.waiting.insert(made.index, RunRecord::of(made.seed, &options, made.outcome));
        while let Some(next) = self.sweep.shard.nth(self.written, self.sweep.runs)
            && let Some(record) = self.waiting.remove(&next)
        {
            self.write(&Entry::Run(next, record));
            self.written += 1;
        }
        self.error.is_none()
    }

    /// Writes what waited for a run that will not come, and the runs that failed without one of their faults: those have other
    /// options, so they are no runs of this sweep.
    pub(super) fn rest(&mut self, summary: &Summary) {
        for (run, record) in std::mem::take(&mut self.waiting) {
            self.write(&Entry::Run(run, record));
        }
        let ours = self.sweep.options.switches.suppressed;
        for failed in summary.failed.iter().filter(|failed| failed.options.switches.suppressed != ours) {
            let origin = Origin::of_other(self.sweep, &failed.options);
            let record = RunRecord::of(failed.seed, &failed.options, &failed.outcome);
            self.write_of(&origin, &Entry::Run(failed.index, record));
        }
    }

    /// Writes where runs were kept, and that this is all.
    ///
    /// # Errors
    /// When anything of it could not be written, now or before.
    pub(super) fn end(mut self, summary: &Summary, kept: &[Kept], wall_s: f64) -> Result<(), Trouble> {
        for kept in kept {
            if let Ok(path) = &kept.place {
                self.write(&Entry::Kept { run: kept.index, path: path.clone() });
            }
        }
        let failed = summary.failed.len() as u64;
        let Summary { interrupted, runs, .. } = *summary;
        self.write(&Entry::End { interrupted, runs, failed, wall_s: Some(wall_s) });
        self.check()
    }

    fn write(&mut self, entry: &Entry) {
        let line = entry.line(&self.origin);
        self.put(&line);
    }

    fn write_of(&mut self, origin: &Origin, entry: &Entry) {
        self.put(&entry.line(origin));
    }

    /// Each line in one piece, at once: whoever ends this process finds whole lines.
    fn put(&mut self, line: &str) {
        if self.error.is_none() {
            self.error = self.out.write_all(line.as_bytes()).and_then(|()| self.out.flush()).err();
        }
    }

    fn check(&mut self) -> Result<(), Trouble> {
        match self.error.take() {
            None => Ok(()),
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Trouble::OutputClosed),
            Some(error) => Err(Trouble::InputOutput(format!("cannot write {}: {error}", self.name))),
        }
    }
}
