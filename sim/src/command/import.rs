//! `sim import`: a loop of a recording as a simulated run.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use sim::Oracle;
use sim::file;
use sim::import::{Comparison, Import, ImportError, import};
use sim::recording::{LoopLog, Recording};

use super::{DID_NOT_REPRODUCE, Trouble, recording};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A recording, as `soak run` leaves it
    #[arg(value_name = "RECORDING")]
    what: String,
    /// Where the run goes; RECORDING.simlog, or with --loop RECORDING-LOOP.simlog, where nothing is said
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The loop that runs, such as `service 0` or `client 1`; all others become puppets. Who saw the failure, else the first service
    #[arg(long = "loop", value_name = "NAME")]
    subject: Option<String>,
    /// One object on standard output instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Trouble> {
    let Arguments { what, subject, .. } = arguments;
    let Some(recorded) = recording::read(what)? else {
        return Err(match Path::new(what).exists() {
            true => Trouble::Usage(format!(
                "{what} is no recording: it does not begin with `sim-recording`; `soak run` leaves recordings of episodes that fail, and with \
                 --keep-recordings of others"
            )),
            false => Trouble::InputOutput(format!("there is no file {what}")),
        });
    };
    let out = match (&arguments.out, subject) {
        (Some(out), _) => out.clone(),
        (None, None) => Path::new(what).with_extension("simlog"),
        (None, Some(name)) => {
            let stem = Path::new(what).with_extension("");
            PathBuf::from(format!("{}-{}.simlog", stem.display(), name.replace(' ', "-")))
        }
    };
    if out.exists() {
        return Err(Trouble::Usage(format!("{} exists: name another file with --out", out.display())));
    }
    let made =
        import(&recorded, subject.as_deref(), &format!("the recording {what}"), None).map_err(|error| {
            let hint = if error == ImportError::Empty { ", so there is nothing to import" } else { "" };
            Trouble::Usage(format!("{what}: {error}{hint}"))
        })?;
    file::keep(&out, &made.log.to_bytes()).map_err(|error| Trouble::cannot_write(&out, &error))?;
    let told = Told { what, recorded: &recorded, made: &made, out: &out };
    let mut to = BufWriter::new(io::stdout().lock());
    if arguments.json {
        told.json(&mut to)?
    } else {
        told.text(&mut to)?
    }
    to.flush()?;
    Ok(told.exit_code())
}

struct Told<'a> {
    what: &'a str,
    recorded: &'a Recording,
    made: &'a Import,
    out: &'a Path,
}

impl Told<'_> {
    fn came_back(&self) -> bool {
        match (self.recorded.failure(), &self.made.outcome.failure) {
            (None, None) => true,
            // After the loop has parted, the same oracle may object to something else.
            (Some(then), Some(now)) => {
                let may_differ = self.made.comparison.parting.is_none();
                let same_oracle = Oracle::from_name(&then.invariant) == Some(now.oracle);
                same_oracle && (may_differ || then.details == now.details)
            }
            _ => false,
        }
    }

    fn exit_code(&self) -> u8 {
        if self.came_back() { 0 } else { DID_NOT_REPRODUCE }
    }

    fn text(&self, out: &mut impl Write) -> io::Result<()> {
        let Told { recorded, made, .. } = self;
        let Comparison { calls, same, imposed, drifts, ref first_drifts, ref parting } = made.comparison;
        writeln!(out, "{recorded}")?;
        let percent = made.comparison.same_per_10_000();
        writeln!(
            out,
            "{}: calls {calls}, the same {same} ({}.{:02} %), imposed {imposed}, drift {drifts}",
            made.subject,
            percent / 100,
            percent % 100
        )?;
        for drift in first_drifts {
            writeln!(out, "DRIFT {drift}")?;
        }
        if drifts > first_drifts.len() as u64 {
            writeln!(out, "... and {} more", drifts - first_drifts.len() as u64)?;
        }
        if let Some(parting) = parting {
            writeln!(
                out,
                "PARTED: the loop asked something else here, and nothing was compared after it; {parting}"
            )?;
        }
        let log = self.loop_log();
        if log.is_some_and(|log| log.cut) {
            writeln!(
                out,
                "the recording was cut at its bound in bytes: what came after it is not in the run"
            )?;
        }
        match recorded.failure() {
            _ if recorded.verdict.is_none() => {
                writeln!(out, "recorded   was cut off, and does not say how it ended")?
            }
            Some(failure) => writeln!(out, "recorded   FAILED {failure}")?,
            None => writeln!(out, "recorded   nothing was wrong")?,
        }
        match &made.outcome.failure {
            Some(failure) => writeln!(out, "simulated  FAILED {}: {}", failure.oracle, failure.details)?,
            None => writeln!(out, "simulated  passed")?,
        }
        if let (true, Some(then), Some(now)) = (self.came_back(), recorded.failure(), &made.outcome.failure) {
            if then.details != now.details {
                writeln!(out, "the same oracle, and other words: it may be another failure")?;
            }
            // Peers send what was recorded of them.
            if let (Oracle::ByteStream, Some(other)) = (now.oracle, self.other_loops()) {
                writeln!(
                    out,
                    "what {} was sent is as it was recorded, right or wrong: if this run fails with the loop mended as well, \
                     the cause is in another one: {other} (--loop NAME)",
                    made.subject
                )?;
            }
        }
        if !self.came_back() {
            writeln!(out, "DID NOT REPRODUCE: what the run comes to is not what was recorded")?;
            if let Some(other) = self.other_loops() {
                writeln!(out, "other loops of the recording: {other} (--loop NAME)")?;
            }
        }
        let name = self.out.display();
        writeln!(out, "kept in {name}: sim replay {name}; sim shrink {name}")
    }

    fn loop_log(&self) -> Option<&LoopLog> {
        self.recorded.loops.iter().find(|log| log.name() == self.made.subject)
    }

    fn other_loops(&self) -> Option<String> {
        let names: Vec<String> =
            self.recorded.loops.iter().map(LoopLog::name).filter(|name| *name != self.made.subject).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    fn json(&self, out: &mut impl Write) -> io::Result<()> {
        let Told { what, recorded, made, out: path } = self;
        let Comparison { calls, same, imposed, drifts, first_drifts, parting } = &made.comparison;
        let drift = |drift: &sim::import::Drift| {
            serde_json::json!({
                "entry": drift.entry, "recorded": drift.recorded, "simulated": drift.simulated,
            })
        };
        let object = serde_json::json!({
            "recording": what,
            "loop": made.subject,
            "calls": calls,
            "same": same,
            "imposed": imposed,
            "drifts": drifts,
            "first_drifts": first_drifts.iter().map(drift).collect::<Vec<_>>(),
            "parting": parting.as_ref().map(drift),
            "recorded_failure": recorded.failure().map(|failure| &failure.invariant),
            "simulated_failure": made.outcome.failure.as_ref().map(|failure| failure.oracle.name()),
            "came_back": self.came_back(),
            "kept": path.display().to_string(),
        });
        writeln!(out, "{object}")
    }
}
