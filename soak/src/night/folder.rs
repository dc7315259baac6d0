//! The folder of a night: made once, held by one process at a time, and added to in whole lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::part::{PartResult, Verdict};
use super::table::Table;
use crate::Failure;

/// What the parts are, and when they were chosen.
const TABLE: &str = "night.json";
/// How each part ended, a line each.
const RESULTS: &str = "parts.jsonl";
/// Put there by `overnight.sh` before the night begins, so that nobody's rebuild changes what the night runs.
pub(crate) const PROGRAMS: &str = "programs";
/// The process that runs the night; locked while it does.
const LOCK: &str = "pid";
/// A night is stopped when the disk has less than this left: what is written then would be torn.
pub(crate) const FREE_BYTES_MIN: u64 = 256 << 20;

/// The folder, locked.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Unlocked by the system however this process ends.
    _lock: File,
}

fn refused(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::Machine(format!("{}: {error}", path.display()))
}

impl Folder {
    /// Makes the folder of a new night.
    ///
    /// # Errors
    /// [`Failure::Usage`] when there is something in `path` already; nothing is touched then. [`Failure::Machine`] when it
    /// cannot be made or written.
    pub(crate) fn create(path: &Path, table: &Table) -> Result<Folder, Failure> {
        fs::create_dir_all(path).map_err(refused(path))?;
        for entry in fs::read_dir(path).map_err(refused(path))? {
            if entry.map_err(refused(path))?.file_name() != PROGRAMS {
                return Err(Failure::Usage(format!(
                    "{} is not empty; nothing was touched. Choose another folder, or go on with the night in it: \
                     soak night --resume {}",
                    path.display(),
                    path.display()
                )));
            }
        }
        let folder = Folder::lock(path)?;
        folder.write(TABLE, table)?;
        Ok(folder)
    }

    /// Opens the folder of a night that was cut off, with its table and the results that it has.
    ///
    /// # Errors
    /// [`Failure::Usage`] when `path` holds no night, or a broken one; [`Failure::Machine`] when it cannot be read, or when
    /// that night is still running.
    pub(crate) fn reopen(path: &Path) -> Result<(Folder, Table, Vec<PartResult>), Failure> {
        let table: Table = read_json(&path.join(TABLE))?;
        let folder = Folder::lock(path)?;
        // A line that was cut off would swallow the next one.
        let results = path.join(RESULTS);
        let text = read_if_there(&results)?;
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            let file = OpenOptions::new().write(true).open(&results).map_err(refused(&results))?;
            file.set_len(whole as u64).map_err(refused(&results))?;
        }
        let results = parse_results(&text[..whole], &results)?;
        Ok((folder, table, results))
    }

    fn lock(path: &Path) -> Result<Folder, Failure> {
        let lock_path = path.join(LOCK);
        let lock =
            OpenOptions::new().create(true).append(true).open(&lock_path).map_err(refused(&lock_path))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => Failure::Machine(format!(
                "a night is running in {}; interrupt that one first",
                path.display()
            )),
            fs::TryLockError::Error(error) => refused(&lock_path)(error),
        })?;
        let own = rustix::process::getpid().as_raw_nonzero();
        lock.set_len(0).and_then(|()| writeln!(&lock, "{own}")).map_err(refused(&lock_path))?;
        // Parts have working folders of their own choice.
        let path = path.canonicalize().map_err(refused(path))?;
        Ok(Folder { path, _lock: lock })
    }

    /// Where it is, as an absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in one step: whoever reads it sees the old one or the new one.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::Machine(format!("{name}: {error}")))?;
        text.push('\n');
        let unfinished = self.path.join(format!("{name}.new"));
        let finished = self.path.join(name);
        fs::write(&unfinished, text)
            .and_then(|()| fs::rename(&unfinished, &finished))
            .map_err(refused(&finished))
    }

    /// Adds a result.
    pub(crate) fn add(&self, result: &PartResult) -> Result<(), Failure> {
        let path = self.path.join(RESULTS);
        let mut line = serde_json::to_string(result).map_err(|error| Failure::Machine(error.to_string()))?;
        line.push('\n');
        // One write, so that a night that is cut off leaves whole lines.
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(refused(&path))?;
        file.write_all(line.as_bytes()).map_err(refused(&path))
    }

    /// Bytes that are free on its disk; `None` where the system does not say.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Table and results of a night, whether it is running or not.
///
/// # Errors
/// As [`Folder::reopen`], which also takes the folder.
pub(crate) fn read(path: &Path) -> Result<(Table, Vec<PartResult>), Failure> {
    let table = read_json(&path.join(TABLE))?;
    let results = path.join(RESULTS);
    let text = read_if_there(&results)?;
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    Ok((table, parse_results(&text[..whole], &results)?))
}

/// Whether a folder is a night's.
pub(crate) fn is_night(path: &Path) -> bool {
    path.join(TABLE).is_file()
}

fn read_if_there(path: &Path) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(refused(path)),
    }
}

fn parse_results(text: &str, path: &Path) -> Result<Vec<PartResult>, Failure> {
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            Failure::Usage(format!("{}, line {number}: no result of a part: {error}", path.display()))
        })
    };
    (1..).zip(text.lines()).map(line).collect()
}

/// A JSON file that somebody names, or that a night's folder must have.
///
/// # Errors
/// [`Failure::Usage`], with the file's name.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::Usage(format!("{}: {error}; a night's folder has this file", path.display()))
    })?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::Usage(format!("{}: no table of parts: {error}", path.display())))
}

/// The results that count: of a part that was interrupted and run again, the last.
pub(crate) fn standing(results: &[PartResult]) -> Vec<&PartResult> {
    let is_last = |(index, result): &(usize, &PartResult)| {
        !results[index + 1..].iter().any(|later| later.part == result.part)
    };
    results.iter().enumerate().filter(is_last).map(|(_, result)| result).collect()
}

/// How many results have this verdict.
pub(crate) fn count(results: &[&PartResult], verdict: Verdict) -> usize {
    results.iter().filter(|result| result.verdict == verdict).count()
}
