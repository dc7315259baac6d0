//! `sim merge`: the records of many machines, as one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use sim::decision::seed::Seed;
use sim::file::{self, shown};
use sim::merge::{Merge, Merged, Missing};
use sim::record::{Entry, LINE_BYTES_MAX, Origin};

use super::report::{grouped, write_line};
use super::{INPUT_OUTPUT, Trouble};

/// Failing runs that are printed of each sweep; the file of `--out` has more.
const PRINTED_MAX: usize = 10;
/// Missing runs, and shards, that are named of each sweep.
const NAMED_MAX: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Files that `sim run --records` or `sim merge --out` has written; - is the standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Where everything is written that is known of the runs, in their order; it can be merged again
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Failing runs of each sweep whose details are kept; of the others their number, hash and oracle stay
    #[arg(long, value_name = "N", default_value_t = 1000)]
    failures_kept: usize,
    /// Does not mind that runs are missing
    #[arg(long)]
    partial: bool,
    /// Prints one JSON object per failing run, alarm and sweep
    #[arg(long)]
    json: bool,
}

pub(super) fn merge(arguments: &Arguments) -> Result<u8, Trouble> {
    let mut merge = Merge::new(arguments.failures_kept);
    let mut notes = Notes::default();
    for path in &arguments.files {
        let name = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
        let cannot = |error| Trouble::InputOutput(format!("cannot read {name}: {error}"));
        let input: Box<dyn Read> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).map_err(cannot)?)
        };
        read(&mut merge, BufReader::new(input), &name, &mut notes)?;
    }
    if let Some(path) = &arguments.out {
        write_out(&merge, path)?;
    }
    for note in notes.alarms.iter().chain(&notes.plain) {
        eprintln!("sim: {note}");
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let mut complete = true;
    for (origin, merged) in &merge.sweeps {
        let missing = merged.missing(NAMED_MAX);
        complete &= missing.is_none();
        if arguments.json {
            json(&mut out, origin, merged, &missing)?;
        } else {
            text(&mut out, origin, merged, &missing)?;
        }
    }
    if merge.sweeps.is_empty() {
        return Err(Trouble::Usage("there is no record in these files".to_owned()));
    }
    out.flush()?;
    let code = merge.exit_code();
    let lacking = !notes.alarms.is_empty() || !(complete || arguments.partial);
    Ok(if code == 0 && lacking { INPUT_OUTPUT } else { code })
}

/// What is said of files.
#[derive(Default)]
struct Notes {
    plain: Vec<String>,
    /// Files that contradict themselves.
    alarms: Vec<String>,
}

/// What a file says of itself, and what it has. It may be several that were put behind each other.
#[derive(Default)]
struct Account {
    ended: bool,
    interrupted: bool,
    /// Runs, and those that failed, by its last lines.
    said: (u64, u64),
    /// The same as counted.
    had: (u64, u64),
    /// How many runs each sweep has by its first line.
    planned: BTreeMap<Origin, u64>,
}

impl Account {
    /// Takes a line in.
    ///
    /// # Errors
    /// When it is about a run that its sweep does not have.
    fn add(&mut self, origin: &Origin, entry: &Entry) -> Result<(), String> {
        let about = match entry {
            Entry::Sweep { runs, .. } => {
                let planned = self.planned.entry(origin.clone()).or_default();
                *planned = (*planned).max(*runs);
                return Ok(());
            }
            Entry::End { interrupted, runs, failed, .. } => {
                (self.ended, self.interrupted) = (true, self.interrupted | interrupted);
                self.said = (self.said.0.saturating_add(*runs), self.said.1.saturating_add(*failed));
                return Ok(());
            }
            Entry::Run(run, record) => {
                self.had.0 += 1;
                self.had.1 += u64::from(record.oracle.is_some());
                *run
            }
            Entry::Kept { run, .. } | Entry::Alarm { run, .. } => *run,
        };
        match self.planned.get(origin) {
            Some(&planned) if about >= planned => {
                Err(format!("run {about}, and its sweep has {planned} runs, counted from 0"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads a file line by line. Only its last line may be cut off.
fn read(merge: &mut Merge, mut input: impl BufRead, name: &str, notes: &mut Notes) -> Result<(), Trouble> {
    let cannot = |error| Trouble::InputOutput(format!("cannot read {name}: {error}"));
    let mut line = Vec::new();
    let (mut number, mut account) = (0_u64, Account::default());
    loop {
        line.clear();
        number += 1;
        let length =
            (&mut input).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line).map_err(cannot)?;
        if length == 0 {
            break;
        }
        if length > LINE_BYTES_MAX {
            return Err(Trouble::Usage(format!("{name}, line {number}: longer than any record")));
        }
        let is_whole = line.last() == Some(&b'\n');
        match Entry::read(&line) {
            Ok((origin, entry)) => {
                account
                    .add(&origin, &entry)
                    .map_err(|error| Trouble::Usage(format!("{name}, line {number}: {error}")))?;
                merge.add(origin, entry);
            }
            Err(_) if !is_whole && number > 1 => {
                notes.plain.push(format!("{name}, line {number}: cut off, and passed over"));
            }
            Err(error) => return Err(Trouble::Usage(format!("{name}, line {number}: {error}"))),
        }
    }
    let Account { ended, interrupted, said, had, .. } = account;
    if number == 1 {
        notes.plain.push(format!("{name} is empty"));
    } else if !ended {
        notes.plain.push(format!("{name} has no last line: whoever wrote it was ended before it was done"));
    } else if said != had {
        notes.alarms.push(format!(
            "ALARM: {name} contradicts itself: its last line says {} runs and {} failed ones, and it has {} and {}",
            said.0, said.1, had.0, had.1
        ));
    } else if interrupted {
        notes.plain.push(format!("{name} is of a sweep that was interrupted"));
    }
    Ok(())
}

/// What is merged may be among what was read: it is replaced only when it is whole.
fn write_out(merge: &Merge, path: &Path) -> Result<(), Trouble> {
    let write = |out: &mut dyn Write| {
        for (origin, entry) in merge.entries() {
            out.write_all(entry.line(origin).as_bytes())?;
        }
        for (origin, merged) in &merge.sweeps {
            let entry = Entry::End {
                // What is missing shows by what is there; nobody stopped this.
                interrupted: false,
                runs: merged.runs.len() as u64,
                failed: merged.failed().count() as u64,
                wall_s: None,
            };
            out.write_all(entry.line(origin).as_bytes())?;
        }
        Ok(())
    };
    file::replace(path, write).map_err(|error| Trouble::cannot_write(path, &error))
}

fn missing_text(merged: &Merged, missing: &Missing) -> Vec<String> {
    let mut lines = Vec::new();
    if missing.plan {
        lines.push("unknown: no file begins with the line that says how many runs there are".to_owned());
    }
    for shard in &missing.silent {
        let runs = shard.runs_of(merged.runs_planned.unwrap_or(0));
        lines.push(format!("shard {shard} never reported: {} runs", grouped(runs)));
    }
    if missing.silent_count > missing.silent.len() as u64 {
        let more = missing.silent_count - missing.silent.len() as u64;
        lines.push(format!("... and {} more shards", grouped(more)));
    }
    if !missing.named.is_empty() {
        let names: Vec<String> = missing.named.iter().map(u64::to_string).collect();
        let more = if missing.named.len() == NAMED_MAX { " ..." } else { "" };
        lines.push(format!("runs {}{more} of shards that did report", names.join(", ")));
    }
    lines
}

fn text(out: &mut impl Write, origin: &Origin, merged: &Merged, missing: &Missing) -> io::Result<()> {
    writeln!(out, "sim run {}", shown(&origin.sweep))?;
    writeln!(out, "made by {}\n", shown(&origin.build))?;
    for (run, (seed, hashes)) in &merged.alarms {
        let hashes: Vec<String> = hashes.iter().map(|hash| format!("{hash:#018x}")).collect();
        writeln!(out, "NON-DETERMINISM in run {run}, seed {}: one build, one seed,", Seed(*seed))?;
        match &hashes[..] {
            [hash] => writeln!(
                out,
                "  and one trace hash {hash}, but another seed, world, end or number of calls\n"
            )?,
            _ => writeln!(out, "  and the trace hashes {}\n", hashes.join(", "))?,
        }
    }
    for (run, oracle, record) in merged.failed().take(PRINTED_MAX) {
        writeln!(out, "FAILED {oracle} in run {run}, seed {}", Seed(record.seed))?;
        if let Some(told) = &record.told {
            writeln!(out, "  details   {}", shown(&told.details))?;
            writeln!(out, "  replay    {}", shown(&told.replay))?;
        }
        if let Some(path) = merged.kept.get(&run) {
            writeln!(out, "  or        sim replay {}", shown(path))?;
        }
        writeln!(out)?;
    }
    let failed = merged.failed().count();
    if failed > PRINTED_MAX {
        writeln!(out, "... and {} more failing runs\n", grouped((failed - PRINTED_MAX) as u64))?;
    }
    let runs = grouped(merged.runs.len() as u64);
    let planned =
        merged.runs_planned.map_or_else(String::new, |planned| format!("  of {}", grouped(planned)));
    writeln!(out, "runs          {runs:>16}{planned}")?;
    for (count, line) in (0..).zip(missing_text(merged, missing)) {
        let missing = match missing.runs {
            0 => "?".to_owned(),
            runs if count == 0 => grouped(runs),
            _ => String::new(),
        };
        writeln!(out, "{:<14}{missing:>16}  {line}", if count == 0 { "missing" } else { "" })?;
    }
    writeln!(out, "failed        {:>16}", grouped(failed as u64))?;
    for (oracle, count) in merged.failed_by() {
        writeln!(out, "  {oracle:<18}{:>10}", grouped(count))?;
    }
    writeln!(out, "calls         {:>16}", grouped(merged.calls()))?;
    writeln!(out, "virtual time  {:>14.1} s", merged.virtual_ns() as f64 / 1e9)?;
    writeln!(out, "trace hash, combined  {:#018x}\n", merged.trace_hash())
}

#[derive(Serialize)]
struct SweepObject<'a> {
    build: &'a str,
    sweep: &'a str,
    runs: u64,
    runs_planned: Option<u64>,
    runs_missing: u64,
    /// The first ones.
    missing: &'a [u64],
    shards_silent: Vec<String>,
    failed: u64,
    failed_by: BTreeMap<&'static str, u64>,
    alarms: u64,
    calls: u64,
    virtual_s: f64,
    trace_hash: String,
}

fn json(out: &mut impl Write, origin: &Origin, merged: &Merged, missing: &Missing) -> io::Result<()> {
    for (run, _, record) in merged.failed() {
        out.write_all(Entry::Run(run, record.clone()).line(origin).as_bytes())?;
    }
    for (&run, (seed, hashes)) in &merged.alarms {
        let trace_hashes = hashes.iter().copied().collect();
        out.write_all(Entry::Alarm { run, seed: *seed, trace_hashes }.line(origin).as_bytes())?;
    }
    let object = SweepObject {
        build: &origin.build,
        sweep: &origin.sweep,
        runs: merged.runs.len() as u64,
        runs_planned: merged.runs_planned,
        runs_missing: missing.runs,
        missing: &missing.named,
        shards_silent: missing.silent.iter().map(ToString::to_string).collect(),
        failed: merged.failed().count() as u64,
        failed_by: merged.failed_by(),
        alarms: merged.alarms.len() as u64,
        calls: merged.calls(),
        virtual_s: merged.virtual_ns() as f64 / 1e9,
        trace_hash: format!("{:#018x}", merged.trace_hash()),
    };
    write_line(out, &object)
}
