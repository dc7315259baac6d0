//! What a soak left in its folder, as far as it got: `intervals.jsonl`, `summary.json`, `run.json`, `events.jsonl`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::chart::Mark;
use super::series;
use crate::Failure;

/// The folder of one soak, read.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// One object per interval, in the order of time.
    pub(crate) intervals: Vec<Value>,
    /// How it ended; absent when it was cut off.
    pub(crate) summary: Option<Value>,
    /// What was asked for.
    pub(crate) run: Option<Value>,
    pub(crate) marks: Vec<Mark>,
    /// Recordings of episodes that failed, for `sim replay`.
    pub(crate) recordings: Vec<PathBuf>,
    /// What the reader should know about the files.
    pub(crate) remarks: Vec<String>,
}

impl Source {
    /// Reads a folder.
    ///
    /// # Errors
    /// [`Failure::Usage`] when it is no soak's, or when a file in it is broken in another way than by having been cut off;
    /// [`Failure::Machine`] when it cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Source, Failure> {
        let intervals = path.join("intervals.jsonl");
        let summary = read_object(&path.join("summary.json"))?;
        let run = read_object(&path.join("run.json"))?;
        let Some(text) = read_if_there(&intervals)? else {
            return Err(Failure::Usage(format!(
                "{}: no soak's folder, for it has no intervals.jsonl; soak run --out DIR makes one",
                path.display()
            )));
        };
        let mut remarks = Vec::new();
        let intervals = read_lines(&text, &intervals, &mut remarks)?;
        if intervals.is_empty() {
            remarks.push("no interval was over yet".to_owned());
        }
        if summary.is_none() {
            remarks.push("no summary: the soak is still running, or was cut off".to_owned());
        }
        let events_path = path.join("events.jsonl");
        let events = match read_if_there(&events_path)? {
            Some(text) => read_lines(&text, &events_path, &mut remarks)?,
            None => Vec::new(),
        };
        let mut source = Source {
            path: path.to_owned(),
            intervals,
            summary,
            run,
            marks: Vec::new(),
            recordings: Vec::new(),
            remarks,
        };
        source.marks = events.iter().filter_map(mark).chain(series::marks(&source)).collect();
        let is_recording = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "simrec");
        source.recordings = files(&path.join("failures"))?.into_iter().filter(is_recording).collect();
        Ok(source)
    }

    /// The name of the folder, as a heading.
    pub(crate) fn name(&self) -> String {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

fn mark(event: &Value) -> Option<Mark> {
    let at_s = number(event, "/at_s")?;
    let text = event.pointer("/text").or_else(|| event.pointer("/kind"))?.as_str()?.to_owned();
    Some(Mark { at_s, text, is_failure: event.pointer("/is_failure") == Some(&Value::Bool(true)) })
}

/// The files of a folder, in the order of their names; none where there is no folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let refused = |error: std::io::Error| Failure::Machine(format!("{}: {error}", folder.display()));
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(refused)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(refused)?.path());
    }
    files.sort();
    Ok(files)
}

/// A number at a place of an object.
pub(crate) fn number(value: &Value, place: &str) -> Option<f64> {
    value.pointer(place).and_then(Value::as_f64)
}

fn read_if_there(path: &Path) -> Result<Option<String>, Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(Failure::Usage(format!(
                "{}: a file, where a soak's folder is wanted",
                path.display()
            )));
        }
        Err(error) => return Err(Failure::Machine(format!("{}: {error}", path.display()))),
    };
    let text = String::from_utf8(bytes)
        .map_err(|error| Failure::Usage(format!("{}: no text: {error}", path.display())))?;
    Ok(Some(text))
}

fn read_object(path: &Path) -> Result<Option<Value>, Failure> {
    let Some(text) = read_if_there(path)? else { return Ok(None) };
    let value: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| Failure::Usage(format!("{}: no JSON object: {error}", path.display())))?;
    Ok(Some(Value::Object(value)))
}

/// The objects of a file of JSON Lines. Its last line may have been cut off.
fn read_lines(text: &str, path: &Path, remarks: &mut Vec<String>) -> Result<Vec<Value>, Failure> {
    let mut values = Vec::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Map<String, Value>>(line) {
            Ok(object) => values.push(Value::Object(object)),
            Err(_) if !line.ends_with('\n') && !values.is_empty() => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                remarks.push(format!("the last line of {name} was cut off, and is left out"));
            }
            Err(error) => {
                return Err(Failure::Usage(format!(
                    "{}, line {number}: no JSON object: {error}",
                    path.display()
                )));
            }
        }
    }
    Ok(values)
}
