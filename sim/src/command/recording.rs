//! Recordings of real sockets, as `sim replay` and `sim trace` are given them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use sim::Oracle;
use sim::recording::{FORMAT, LoopLog, Options, Recording, Replay, replay, write_json, write_text};
use sim::view::Format;

use super::{DID_NOT_REPRODUCE, Trouble};

/// The largest recording that is read.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// Reads the file of this name, if it is a recording.
pub(super) fn read(name: &str) -> Result<Option<Recording>, Trouble> {
    let path = Path::new(name);
    let cannot = |error: io::Error| Trouble::InputOutput(format!("cannot read {name}: {error}"));
    // What is no file may be a seed, and what comes through a pipe can be read only once.
    if !fs::metadata(path).is_ok_and(|about| about.is_file()) {
        return Ok(None);
    }
    let mut file = File::open(path).map_err(cannot)?;
    let mut beginning = Vec::new();
    if Read::by_ref(&mut file).take(FORMAT.magic.len() as u64).read_to_end(&mut beginning).is_err() {
        return Ok(None);
    }
    if !Recording::is_claimed_by(&beginning) && !name.ends_with(".simrec") {
        return Ok(None);
    }
    let length = fs::metadata(path).map_err(cannot)?.len();
    if length > FILE_BYTES_MAX {
        return Err(Trouble::Usage(format!("{name} has {length} bytes: that is no recording")));
    }
    let bytes = fs::read(path).map_err(cannot)?;
    let recording =
        Recording::from_bytes(&bytes).map_err(|error| Trouble::Usage(format!("{name}: {error}")))?;
    Ok(Some(recording))
}

/// Reads the file of this name, if it is a recording, and those of the other processes of its episode.
pub(super) fn read_all(name: &str, others: &[String]) -> Result<Option<Recording>, Trouble> {
    let first = read(name)?;
    let Some(other) = others.first() else { return Ok(first) };
    let no_recording = |name: &str| {
        Trouble::Usage(format!(
            "{name} is no recording; several files are replayed only as the recordings of one episode"
        ))
    };
    let mut all = vec![first.ok_or_else(|| no_recording(name))?];
    for other in others {
        all.push(read(other)?.ok_or_else(|| no_recording(other))?);
    }
    let joined = Recording::join(all);
    joined.map(Some).map_err(|error| Trouble::Usage(format!("{name} and {other}: {error}")))
}

/// What `sim replay` was asked beside the recording.
#[derive(Copy, Clone, Debug)]
pub(super) struct Wanted {
    pub(super) until: Option<u64>,
    pub(super) trace: bool,
    pub(super) quiet: bool,
}

/// Plays a recording, and says whether all of it came again.
pub(super) fn play(name: &str, recording: &Recording, wanted: Wanted) -> Result<u8, Trouble> {
    let options = Options { until: wanted.until, parties: false };
    let Some(played) = replay(recording, options) else {
        return Err(Trouble::Usage(format!(
            "{name} is a recording of a stage, which only its test can make"
        )));
    };
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "{recording}")?;
    if (wanted.trace || wanted.until.is_some()) && !wanted.quiet {
        writeln!(out, "Each line: number, the loop's own clock, what happened.")?;
        for (log, played) in recording.loops.iter().zip(&played.loops) {
            writeln!(out, "\n{}", log.name())?;
            write_text(log, played.entries, &mut out)?;
        }
        writeln!(out)?;
    }
    for (log, one) in recording.loops.iter().zip(&played.loops) {
        writeln!(out, "{}: {} entries: {}{}", one.name, one.entries, one.end, cut_words(log))?;
    }
    match &played.failure {
        Some(failure) => writeln!(out, "FAILED {failure}")?,
        None => writeln!(out, "nothing was wrong")?,
    }
    let code = verdict(&mut out, recording, &played, wanted)?;
    out.flush()?;
    Ok(code)
}

fn cut_words(log: &LoopLog) -> &'static str {
    if log.cut { " (the recording was cut here, at its bound in bytes)" } else { "" }
}

fn verdict(
    out: &mut impl Write,
    recording: &Recording,
    played: &Replay,
    wanted: Wanted,
) -> Result<u8, Trouble> {
    if !played.is_faithful() {
        writeln!(out, "DID NOT REPRODUCE: a loop did something else than what was recorded of it")?;
        if !recording.is_of_this_build() {
            writeln!(out, "the recording was made by another build, {}", recording.build)?;
        }
        return Ok(DID_NOT_REPRODUCE);
    }
    let code = played
        .failure
        .as_ref()
        .map_or(0, |failure| Oracle::from_name(&failure.invariant).map_or(1, Oracle::exit_code));
    if wanted.until.is_some() {
        writeln!(out, "not compared with the end of the recording: it was not to be played so far")?;
        return Ok(code);
    }
    let Some(recorded) = &recording.verdict else {
        writeln!(
            out,
            "the recording was cut off and does not say how the episode ended; what is left of it came again"
        )?;
        return Ok(code);
    };
    if recorded.agrees_with(played.failure.as_ref()) {
        let entries: u64 = played.loops.iter().map(|one| one.entries).sum();
        writeln!(
            out,
            "reproduced: the same {entries} entries of {} loops, the same end",
            played.loops.len()
        )?;
        if let Some(joined) = &recorded.joined {
            writeln!(out, "what was wrong shows only together with the other processes: {joined}")?;
            writeln!(out, "replay the recordings of all of them at once: sim replay FILE FILE ...")?;
        }
        return Ok(code);
    }
    let then = recorded.failure.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    writeln!(out, "DID NOT REPRODUCE: the same calls, and another end; what was wrong then: {then}")?;
    Ok(DID_NOT_REPRODUCE)
}

/// Shows a recording as it is, without playing it.
pub(super) fn show(
    name: &str,
    recording: &Recording,
    format: Format,
    until: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    let until = until.unwrap_or(u64::MAX);
    match format {
        Format::Text => {
            writeln!(out, "{recording}")?;
            for log in &recording.loops {
                writeln!(out, "\n{}{}", log.name(), cut_words(log))?;
                write_text(log, until, out)?;
            }
        }
        Format::Json => {
            for log in &recording.loops {
                write_json(log, until, out)?;
            }
        }
        _ => {
            return Err(Trouble::Usage(format!(
                "{name} is a recording, which is shown as text or json; import it for the other formats"
            )));
        }
    }
    Ok(())
}
