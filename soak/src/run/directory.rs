//! The folder of a run: what was asked, a line for each interval, histograms, failures, and the summary. The formats are
//! described in `soak/REPORT_FORMAT.md`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};
use serde_json::{Value, json};
use sim::workload::WorkloadKind;

use crate::Failure;
use crate::latency::{LatencyBook, Timed};

/// The version of the formats.
pub(crate) const SCHEMA: u64 = 1;

const RUN: &str = "run.json";
const INTERVALS: &str = "intervals.jsonl";
const LATENCIES: &str = "latency.hlog";
const SUMMARY: &str = "summary.json";
const EVENTS: &str = "events.jsonl";
const FAILURES: &str = "failures";

/// See the module.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    intervals: File,
    latencies: File,
}

/// What a run that goes on finds of the parts before it.
#[derive(Debug)]
pub(crate) struct Past {
    /// `run.json`.
    pub(crate) run: Value,
    /// The last whole line of `intervals.jsonl`; null when there is none.
    pub(crate) last: Value,
    /// All lines.
    pub(crate) intervals: Vec<Value>,
    /// All histograms, by workload.
    pub(crate) latencies: Vec<(WorkloadKind, LatencyBook)>,
    /// All lines of `events.jsonl`.
    pub(crate) events: Vec<Value>,
    /// What had to be left out, in words.
    pub(crate) dropped: Vec<String>,
}

fn refused(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Machine(format!("{what} {}: {error}", path.display()))
}

impl Directory {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// Usage: it exists. Machine: it cannot be made or written to.
    pub(crate) fn create(path: &Path, run: &Value) -> Result<Directory, Failure> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            fs::create_dir_all(parent).map_err(|error| refused("cannot make the folder", parent, &error))?;
        }
        if let Err(error) = fs::create_dir(path) {
            return Err(match error.kind() {
                ErrorKind::AlreadyExists => Failure::Usage(format!(
                    "{} exists, and nothing in it is overwritten; --resume {0} goes on with a run that is there, another --out \
                     begins a new one",
                    path.display()
                )),
                _ => refused("cannot make the folder", path, &error),
            });
        }
        Directory::fill(path, run).inspect_err(|_| {
            // It was made just now, and says nothing: on a full disk it would only be in the way of the next attempt.
            let _ = fs::remove_dir_all(path);
        })
    }

    fn fill(path: &Path, run: &Value) -> Result<Directory, Failure> {
        let failures = path.join(FAILURES);
        fs::create_dir(&failures).map_err(|error| refused("cannot make the folder", &failures, &error))?;
        write_whole(&path.join(RUN), run)?;
        let mut header = Vec::new();
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment(
                "nanoseconds, by workload and what was timed; one group for each interval of soak run",
            )
            .begin_log_with(&mut header, &mut V2DeflateSerializer::new())
            .map(|_| ())
            .map_err(|error| refused("cannot write", path, &error))?;
        let mut directory = Directory::open(path)?;
        directory
            .latencies
            .write_all(&header)
            .map_err(|error| refused("cannot write", &path.join(LATENCIES), &error))?;
        Ok(directory)
    }

    fn open(path: &Path) -> Result<Directory, Failure> {
        Directory::locked(path, Directory::append(path, INTERVALS)?)
    }

    fn append(path: &Path, name: &str) -> Result<File, Failure> {
        let path = path.join(name);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.map_err(|error| refused("cannot write", &path, &error))
    }

    /// Two runs that write into one folder would each make the other's records senseless. However this process ends, the system
    /// opens the lock.
    fn locked(path: &Path, intervals: File) -> Result<Directory, Failure> {
        intervals.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Failure::Machine(format!(
                "a soak is running in {}: wait for its end, or stop it with Ctrl-C or SIGINT",
                path.display()
            )),
            TryLockError::Error(error) => refused("cannot lock", &path.join(INTERVALS), &error),
        })?;
        Ok(Directory { path: path.to_owned(), intervals, latencies: Directory::append(path, LATENCIES)? })
    }

    /// Opens the folder of a run that goes on. Lines that were torn when the part before was killed are cut off.
    ///
    /// # Errors
    /// Usage: there is no run in it, or what is there is no record of this program's. Machine: it cannot be read or written.
    pub(crate) fn resume(path: &Path) -> Result<(Directory, Past), Failure> {
        let run = read_json(&path.join(RUN))?;
        if run["schema"].as_u64() != Some(SCHEMA) {
            return Err(Failure::Usage(format!(
                "{}: the records are of schema {}, and this program writes {SCHEMA}",
                path.display(),
                run["schema"]
            )));
        }
        // Nothing of what follows changes a file that another run writes.
        let kept = path.join(INTERVALS);
        let file = OpenOptions::new().append(true).open(&kept).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::Usage(format!(
                "{} is gone, and with it how far the run had come: it cannot go on; begin another with another --out",
                kept.display()
            )),
            _ => refused("cannot write", &kept, &error),
        })?;
        let directory = Directory::locked(path, file)?;
        let mut dropped = Vec::new();
        let intervals = read_lines(&kept, &mut dropped)?;
        let events = read_lines(&path.join(EVENTS), &mut dropped)?;
        let text = keep_whole_lines(&path.join(LATENCIES), &mut dropped)?;
        let latencies = read_latencies(&text)
            .map_err(|error| Failure::Usage(format!("{}: {error}", path.join(LATENCIES).display())))?;
        let failures = path.join(FAILURES);
        fs::create_dir_all(&failures)
            .map_err(|error| refused("cannot make the folder", &failures, &error))?;
        let last = intervals.last().cloned().unwrap_or(Value::Null);
        if last.is_null() && path.join(SUMMARY).exists() {
            return Err(Failure::Usage(format!(
                "{} has no line, and {SUMMARY} is there: what the run had counted is lost, and it cannot go on; begin another with \
                 another --out",
                kept.display()
            )));
        }
        Ok((directory, Past { run, last, intervals, latencies, events, dropped }))
    }

    /// Adds the record of an interval.
    ///
    /// # Errors
    /// Machine: it could not be written whole.
    pub(crate) fn add_interval(&mut self, interval: &Value) -> Result<(), Failure> {
        let line = format!("{interval}\n");
        let path = self.path.join(INTERVALS);
        self.intervals.write_all(line.as_bytes()).map_err(|error| refused("cannot write", &path, &error))
    }

    /// Adds the record of something that plots mark.
    ///
    /// # Errors
    /// Machine: it could not be written whole.
    pub(crate) fn add_event(&self, event: &Value) -> Result<(), Failure> {
        let path = self.path.join(EVENTS);
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{event}\n").as_bytes()))
            .map_err(|error| refused("cannot write", &path, &error))
    }

    /// Adds the histograms of an interval: `start` from the beginning of the run, `duration` long.
    ///
    /// # Errors
    /// Machine: they could not be written whole.
    pub(crate) fn add_latencies(
        &mut self,
        books: &[(WorkloadKind, LatencyBook)],
        start: Duration,
        duration: Duration,
    ) -> Result<(), Failure> {
        let path = self.path.join(LATENCIES);
        let mut lines = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut log = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut lines, &mut serializer)
            .map_err(|error| refused("cannot write", &path, &error))?;
        for (workload, book) in books {
            for timed in Timed::ALL {
                let histogram = book.of(timed);
                if histogram.is_empty() {
                    continue;
                }
                let name = format!("{workload}.{}", timed.name());
                log.write_histogram(histogram, start, duration, Tag::new(&name)).map_err(|error| {
                    Failure::Machine(format!("cannot write {}: {error:?}", path.display()))
                })?;
            }
        }
        drop(log);
        self.latencies.write_all(&lines).map_err(|error| refused("cannot write", &path, &error))
    }

    /// Keeps what is known of a failure.
    ///
    /// # Errors
    /// Machine: it could not be written whole.
    pub(crate) fn add_failure(&self, failure: &Value) -> Result<PathBuf, Failure> {
        let free = (0u32..).map(|number| self.failures().join(format!("failure-{number}.json")));
        let path = free.into_iter().find(|path| !path.exists()).expect("a run ends with its first failure");
        write_whole(&path, failure)?;
        // Plots mark it.
        let first = failure["text"].as_str().and_then(|text| text.lines().next()).unwrap_or_default();
        let event = json!({ "at_s": failure["at_s"], "kind": "failure", "text": first, "is_failure": true });
        self.add_event(&event)?;
        Ok(path)
    }

    /// Where failures, and recordings of them, are kept.
    pub(crate) fn failures(&self) -> PathBuf {
        self.path.join(FAILURES)
    }

    /// Writes the summary, in the place of one of a part before.
    ///
    /// # Errors
    /// Machine: it could not be written whole; the one before is still there then.
    pub(crate) fn write_summary(&self, summary: &Value) -> Result<(), Failure> {
        write_whole(&self.path.join(SUMMARY), summary)
    }
}

fn read_json(path: &Path) -> Result<Value, Failure> {
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Failure::Usage(format!("{} does not exist: there is no run to resume", path.display()))
        }
        _ => refused("cannot read", path, &error),
    })?;
    serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// Writes a file that is there whole or not at all.
fn write_whole(path: &Path, value: &Value) -> Result<(), Failure> {
    let beside = path.with_extension("partial");
    let written = fs::write(&beside, format!("{value:#}\n")).and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        refused("cannot write", path, &error)
    })
}

/// Reads a file of lines, and cuts off a last one that does not end.
fn keep_whole_lines(path: &Path, dropped: &mut Vec<String>) -> Result<String, Failure> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        other => other.map_err(|error| refused("cannot read", path, &error))?,
    };
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        let cut = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(whole as u64));
        cut.map_err(|error| refused("cannot write", path, &error))?;
        let torn = bytes.len() - whole;
        dropped.push(format!("{}: the last line was torn, and its {torn} bytes are dropped", path.display()));
    }
    String::from_utf8(bytes[..whole].to_vec())
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// Reads a file of one JSON value a line.
fn read_lines(path: &Path, dropped: &mut Vec<String>) -> Result<Vec<Value>, Failure> {
    let text = keep_whole_lines(path, dropped)?;
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            Failure::Usage(format!(
                "{}, line {number}, is damaged ({error}); take the line away, and the rest can be read",
                path.display()
            ))
        })
    };
    (1..).zip(text.lines()).map(read).collect()
}

fn read_latencies(text: &str) -> Result<Vec<(WorkloadKind, LatencyBook)>, String> {
    let mut books: Vec<(WorkloadKind, LatencyBook)> = Vec::new();
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(text.as_bytes()) {
        let entry = entry.map_err(|error| format!("a line is no entry of a histogram log: {error:?}"))?;
        let LogEntry::Interval(interval) = entry else { continue };
        let tag = interval.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default();
        let (workload, timed) = tag
            .split_once('.')
            .and_then(|(workload, timed)| {
                Some((WorkloadKind::from_name(workload)?, Timed::from_name(timed)?))
            })
            .ok_or_else(|| format!("nothing here is called {tag:?}"))?;
        let bytes = BASE64_STANDARD
            .decode(interval.encoded_histogram())
            .map_err(|error| format!("the histogram of {tag}: {error}"))?;
        let histogram: Histogram<u64> = deserializer
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("the histogram of {tag}: {error}"))?;
        let at = books.iter().position(|(known, _)| *known == workload).unwrap_or_else(|| {
            books.push((workload, LatencyBook::default()));
            books.len() - 1
        });
        books[at].1.add(timed, &histogram);
    }
    Ok(books)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::workload::Measures;
    use sim::workload::load::AnswerTime;

    #[test]
    fn histograms_are_read_as_they_were_written_and_added_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut book = LatencyBook::default();
        let answer = |corrected_ns| AnswerTime { corrected_ns, uncorrected_ns: corrected_ns / 2 };
        book.take(&mut Measures {
            answers: (1..=1000).map(|at| answer(at * 1000)).collect(),
            ..Measures::default()
        });
        let books = [(WorkloadKind::Echo, book)];
        let mut directory = Directory::create(&path, &json!({"schema": SCHEMA})).unwrap();
        for second in 0..3 {
            directory.add_interval(&json!({"elapsed_s": second})).unwrap();
            directory.add_latencies(&books, Duration::from_secs(second), Duration::from_secs(1)).unwrap();
        }
        drop(directory);
        let (_, past) = Directory::resume(&path).unwrap();
        let [(WorkloadKind::Echo, all)] = &past.latencies[..] else { panic!("{:?}", past.latencies) };
        assert_eq!(all.of(Timed::Corrected).len(), 3000);
        assert_eq!(all.of(Timed::Corrected).value_at_percentile(50.0), 500_223);
        assert_eq!(all.of(Timed::Uncorrected).max(), books[0].1.of(Timed::Uncorrected).max());
        assert!(all.of(Timed::Lateness).is_empty());
        assert_eq!(past.dropped, Vec::<String>::new());
    }

    #[test]
    fn a_torn_line_is_dropped_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut directory = Directory::create(&path, &json!({"schema": SCHEMA})).unwrap();
        directory.add_interval(&json!({"elapsed_s": 1})).unwrap();
        directory.intervals.write_all(b"{\"elapsed_s\": 2, \"epis").unwrap();
        drop(directory);
        let (mut directory, past) = Directory::resume(&path).unwrap();
        assert_eq!(past.last["elapsed_s"], 1);
        assert_eq!(past.dropped.len(), 1, "{:?}", past.dropped);
        directory.add_interval(&json!({"elapsed_s": 3})).unwrap();
        let second = Directory::resume(&path).map(|_| ());
        assert!(matches!(&second, Err(Failure::Machine(text)) if text.contains("is running")), "{second:?}");
        drop(directory);
        let (_, past) = Directory::resume(&path).unwrap();
        assert_eq!((past.intervals.len(), past.last["elapsed_s"].as_u64()), (2, Some(3)));
        assert_eq!(past.dropped, Vec::<String>::new());
    }
}
