//! `sim merge`: the records of many machines, as one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use sim::decision::seed::Seed;
use sim::file;
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
    let mut notes = Vec::new();
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
    for note in &notes {
        eprintln!("sim: {note}");
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let mut runs_missing = 0;
    for (origin, merged) in &merge.sweeps {
        let missing = merged.missing(NAMED_MAX);
        runs_missing += missing.runs;
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
    Ok(if code == 0 && runs_missing > 0 && !arguments.partial { INPUT_OUTPUT } else { code })
}

/// Reads a file line by line. Only its last line may be cut off.
fn read(
    merge: &mut Merge,
    mut input: impl BufRead,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<(), Trouble> {
    let cannot = |error| Trouble::InputOutput(format!("cannot read {name}: {error}"));
    let mut line = Vec::new();
    let (mut number, mut ended, mut interrupted) = (0_u64, false, false);
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
                if let Entry::End { interrupted: stopped, .. } = entry {
                    (ended, interrupted) = (true, interrupted | stopped);
                }
                merge.add(origin, entry);
            }
            Err(_) if !is_whole && number > 1 => {
                notes.push(format!("{name}, line {number}: cut off, and passed over"));
            }
            Err(error) => return Err(Trouble::Usage(format!("{name}, line {number}: {error}"))),
        }
    }
    if number == 1 {
        notes.push(format!("{name} is empty"));
    } else if !ended {
        notes.push(format!("{name} has no last line: whoever wrote it was ended before it was done"));
    } else if interrupted {
        notes.push(format!("{name} is of a sweep that was interrupted"));
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
                interrupted: !merged.missing(0).is_none(),
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
    writeln!(out, "sim run {}", origin.sweep)?;
    writeln!(out, "made by {}\n", origin.build)?;
    for (run, (seed, hashes)) in &merged.alarms {
        let hashes: Vec<String> = hashes.iter().map(|hash| format!("{hash:#018x}")).collect();
        writeln!(out, "NON-DETERMINISM in run {run}, seed {}: one build, one seed,", Seed(*seed))?;
        writeln!(out, "  and the trace hashes {}\n", hashes.join(", "))?;
    }
    for (run, oracle, record) in merged.failed().take(PRINTED_MAX) {
        writeln!(out, "FAILED {oracle} in run {run}, seed {}", Seed(record.seed))?;
        if let Some(told) = &record.told {
            writeln!(out, "  details   {}", told.details)?;
            writeln!(out, "  replay    {}", told.replay)?;
        }
        if let Some(path) = merged.kept.get(&run) {
            writeln!(out, "  or        sim replay {path}")?;
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
        let missing = if count == 0 { grouped(missing.runs) } else { String::new() };
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
    failed_by: std::collections::BTreeMap<&'static str, u64>,
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
