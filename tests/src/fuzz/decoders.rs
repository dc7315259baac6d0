//! What reads files that anybody may have made: a clear error or a value, never a panic, never more memory than a small
//! multiple of the file.

use sim::Decisions;
use sim::decision::script::Script;
use sim::decision::tape::Tape;
use sim::import::import;
use sim::recording::{self, Recording};
use sim::run_log::{RunLog, framed};

use super::Target;
use crate::account::{Ending, quietly, same};
use crate::operands::Operands;

/// A kept run: what is read is written and read again the same. Bytes that do not claim to be one become the payloads of
/// frames with right checksums, or no fuzzer would ever get past those.
#[derive(Debug)]
pub enum KeptRun {}

/// A recording of real sockets, likewise; what is read is played too.
#[derive(Debug)]
pub enum RealRecording {}

/// A list of decisions.
#[derive(Debug)]
pub enum DecisionScript {}

/// A list of system calls.
#[derive(Debug)]
pub enum CallScript {}

/// What an input of a decoder came to: words, or what is wrong.
type Read = Result<String, String>;

fn check(read: impl FnOnce() -> Read) {
    match quietly(read) {
        Ok(Ok(_)) => {}
        Ok(Err(difference)) => panic!("\n{difference}"),
        Err(panic) => panic!("\na panic: {panic}"),
    }
}

fn tell(read: impl FnOnce() -> Read) -> String {
    match quietly(read) {
        Ok(Ok(words)) => words,
        Ok(Err(difference)) => format!("BROKEN: {difference}"),
        Err(panic) => format!("BROKEN: a panic: {panic}"),
    }
}

impl Target for KeptRun {
    const NAME: &'static str = "run_log";

    fn check(bytes: &[u8]) {
        check(|| kept_run(bytes));
    }

    fn tell(bytes: &[u8]) -> String {
        tell(|| kept_run(bytes))
    }
}

/// Frames of the kinds that a file has; each takes its length from two bytes.
fn frames(bytes: &[u8]) -> Vec<u8> {
    let mut operands = Operands::new(bytes);
    let mut frames = Vec::new();
    while !operands.is_empty() {
        let kind = operands.pick(b"HSCKE?");
        let length = operands.pair() as usize % 1024;
        frames.push((kind, operands.take(length)));
    }
    framed(&frames)
}

fn kept_run(bytes: &[u8]) -> Read {
    let own;
    let file = if RunLog::is_claimed_by(bytes) {
        bytes
    } else {
        own = frames(bytes);
        &own
    };
    let log = match RunLog::from_bytes(file) {
        Ok(log) => log,
        Err(error) => return Ok(format!("Refused: {error}.")),
    };
    let records = log.choices.choices().len() + log.choices.sites().len() + log.calls.len();
    same("whether there are more records than bytes", records > file.len(), false)?;
    same("what is written and read again", RunLog::from_bytes(&log.to_bytes()).as_ref(), Ok(&log))?;
    // A tape of it decides something, whatever it holds.
    draw_some(Decisions::from_tape(log.choices.tape()))?;
    let (choices, calls) = (log.choices.choices().len(), log.calls.len());
    Ok(format!("{log}: {choices} decisions, {calls} calls, {:?}", log.verdict))
}

/// An imported run is left after so many calls: a loop that nobody recorded may never come to rest.
const IMPORTED_CALLS_MAX: u64 = 10_000;

impl Target for RealRecording {
    const NAME: &'static str = "recording";

    fn check(bytes: &[u8]) {
        check(|| recording(bytes));
    }

    fn tell(bytes: &[u8]) -> String {
        tell(|| recording(bytes))
    }
}

/// A header and a loop that make sense, then frames from the bytes: a fuzzer spells neither by chance.
fn recorded_frames(bytes: &[u8]) -> Vec<u8> {
    let mut operands = Operands::new(bytes);
    let workload = operands.pick(&["echo", "wake", "timers", "cluster"]);
    let seed = operands.pair() % 16;
    let header = format!("workload {workload}\nplan-seed {seed}\nnobody 127.0.0.1:9\n");
    let role = operands.pick(&["service", "client"]);
    let poller = operands.pick(&["epoll", "kqueue"]);
    let addresses = vec!["127.0.0.1:7"; operands.pick(&[1, 2, 5])].join(" ");
    let own = format!("role {role}\nindex 0\npoller {poller}\naddresses {addresses}\ncut no\n");
    let mut frames = vec![(b'H', header.as_bytes()), (b'L', own.as_bytes())];
    while !operands.is_empty() {
        let kind = operands.pick(b"KKKKLHE?");
        let length = operands.pair() as usize % 1024;
        frames.push((kind, operands.take(length)));
    }
    recording::framed(&frames)
}

fn recording(bytes: &[u8]) -> Read {
    let own;
    let file = if Recording::is_claimed_by(bytes) {
        bytes
    } else {
        own = recorded_frames(bytes);
        &own
    };
    let read = match Recording::from_bytes(file) {
        Ok(read) => read,
        Err(error) => return Ok(format!("Refused: {error}.")),
    };
    let entries: usize = read.loops.iter().map(|log| log.entries().count()).sum();
    same("whether there are more entries than bytes", entries > file.len(), false)?;
    let written = read.to_bytes();
    let again = Recording::from_bytes(&written)
        .map_err(|error| format!("what was written is no recording: {error}"))?;
    same("the loops that are written and read again", &again.loops, &read.loops)?;
    same("what is written of what was read again", again.to_bytes() == written, true)?;
    // Whatever the entries say, a loop that is driven by them neither panics the player nor hangs it.
    let played = recording::replay(&read, recording::Options::default());
    let played = played.ok_or_else(|| "there is no stage here".to_owned())?;
    same("how many loops were played", played.loops.len(), read.loops.len())?;
    // Nor is there a loop that the importer cannot stand, and what it makes of one is read again as it was.
    if let Ok(made) = import(&read, None, "a recording", Some(IMPORTED_CALLS_MAX)) {
        let kept = RunLog::from_bytes(&made.log.to_bytes());
        let kept = kept.map_err(|error| format!("what was imported is no kept run: {error}"))?;
        same("the imported run that is written and read again", &kept, &made.log)?;
    }
    Ok(format!("{read}: {entries} entries, {:?}", read.verdict))
}

impl Target for DecisionScript {
    const NAME: &'static str = "decision_script";

    fn check(bytes: &[u8]) {
        check(|| decision_script(bytes));
    }

    fn tell(bytes: &[u8]) -> String {
        tell(|| decision_script(bytes))
    }
}

fn decision_script(bytes: &[u8]) -> Read {
    let text = String::from_utf8_lossy(bytes);
    let script: Script = match text.parse() {
        Ok(script) => script,
        Err(error) => return Ok(format!("Refused: {error}, in\n{text}")),
    };
    same("what is written and read again", script.to_string().parse().as_ref(), Ok(&script))?;
    let tape = Tape::from(&script);
    let listed = script.entries().filter(|&(.., value)| value != 0).count();
    same("decisions that are not zero", tape.weight(), listed)?;
    draw_some(Decisions::from_script(script.clone()))?;
    draw_some(Decisions::from_tape(tape))?;
    Ok(script.to_string())
}

fn draw_some(mut decisions: Decisions) -> Ending {
    for domain in sim::Domain::ALL {
        for bound in [1, 2, 3, 1000, u64::MAX] {
            let value = decisions.draw(domain, sim::Site("fuzz"), 0, bound);
            same("whether a value is below its bound", value < bound, true)?;
        }
    }
    Ok(())
}

impl Target for CallScript {
    const NAME: &'static str = "call_script";

    fn check(bytes: &[u8]) {
        check(|| call_script(bytes));
    }

    fn tell(bytes: &[u8]) -> String {
        tell(|| call_script(bytes))
    }
}

fn call_script(bytes: &[u8]) -> Read {
    let text = String::from_utf8_lossy(bytes);
    let script = match sim::script::Script::parse(&text) {
        Ok(script) => script,
        Err(error) => return Ok(format!("Refused: {error}, in\n{text}")),
    };
    let written = script.to_string();
    let again = sim::script::Script::parse(&written).map(|again| again.to_string());
    same("what is written and read again", again.as_ref().map_err(ToString::to_string), Ok(&written))?;
    sim::script::Capability::needed_by(&script);
    Ok(written)
}
