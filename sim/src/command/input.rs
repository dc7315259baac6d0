//! What a command is given to work on: a seed, a kept run, a script, or the bytes of a fuzzer.

use std::fs;
use std::path::{Path, PathBuf};

use sim::decision::script::{HEADER, Script};
use sim::decision::seed::Seed;
use sim::decision::tape::Tape;
use sim::run_log::RunLog;
use sim::runner::RunOptions;
use sim::{Decisions, WorkloadKind};

use super::{Fixed, Trouble};

/// The largest file that is read as a kept run, a script or an input.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A run to be made.
#[derive(Debug)]
pub(super) struct Case {
    /// As it was named.
    pub(super) name: String,
    /// What is fixed of it.
    pub(super) options: RunOptions,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Seed(Seed),
    Log(Box<RunLog>),
    Script(Script),
    Bytes(Vec<u8>),
}

impl Case {
    /// Reads what was named on a command line.
    pub(super) fn read(name: &str, fixed: &Fixed) -> Result<Case, Trouble> {
        let options = fixed.options();
        let named = |source, options| Ok(Case { name: name.to_owned(), options, source });
        let error = match name.parse::<Seed>() {
            Ok(seed) => return Ok(Case { name: seed.to_string(), options, source: Source::Seed(seed) }),
            Err(error) => error,
        };
        if !Path::new(name).exists() {
            return Err(Trouble::Usage(format!("{error}; and there is no such file")));
        }
        let bytes = read_file(Path::new(name))?;
        if RunLog::is_claimed_by(&bytes) || name.ends_with(".simlog") {
            let log =
                RunLog::from_bytes(&bytes).map_err(|error| Trouble::Usage(format!("{name}: {error}")))?;
            if log.workload.is_stage() {
                return Err(Trouble::Usage(format!(
                    "{name} is a run of {}, which a test builds, and `sim` does not know that code. In the test: \
                     SIM_REPLAY={name} {} (and SIM_SHRINK=... to make it smaller)",
                    log.workload, log.test
                )));
            }
            let options = fixed_by(&log, fixed, name)?;
            return named(Source::Log(Box::new(log)), options);
        }
        if bytes.starts_with(HEADER.as_bytes()) {
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| Trouble::Usage(format!("{name} is no script: it is not text")))?;
            let script = text.parse().map_err(|error| Trouble::Usage(format!("{name}: {error}")))?;
            return named(Source::Script(script), options);
        }
        if bytes.starts_with(b"sim-script") {
            return Err(Trouble::Usage(format!("{name}: a script begins with the line `{HEADER}`")));
        }
        // A fuzzer's bytes belong to a target, so they fix the workload.
        let workload = Some(options.workload.unwrap_or_else(|| workload_of_artifact(name)));
        named(Source::Bytes(bytes), RunOptions { workload, ..options })
    }

    /// Where its decisions come from.
    pub(super) fn decisions(&self) -> Decisions {
        match &self.source {
            Source::Seed(seed) => Decisions::from_seed(seed.0),
            Source::Log(log) => Decisions::from_tape(log.choices.tape()),
            Source::Script(script) => Decisions::from_tape(Tape::from(script)),
            Source::Bytes(bytes) => Decisions::from_bytes(bytes),
        }
    }

    /// The kept run, if it is one.
    pub(super) fn log(&self) -> Option<&RunLog> {
        match &self.source {
            Source::Log(log) => Some(log),
            _ => None,
        }
    }

    /// A name for files that are made of it.
    pub(super) fn stem(&self) -> PathBuf {
        match &self.source {
            Source::Seed(seed) => PathBuf::from(format!("{seed}")),
            _ => Path::new(&self.name).with_extension(""),
        }
    }
}

/// A kept run has its own workload, kernel and weather; faults may be switched off to see what they are to blame for.
fn fixed_by(log: &RunLog, fixed: &Fixed, name: &str) -> Result<RunOptions, Trouble> {
    let asked = fixed.options();
    let other = |what: &str, kept: &str, asked: Option<&str>| match asked {
        Some(asked) if asked != kept => {
            Err(Trouble::Usage(format!("{name} is a run of {what} {kept}, and --{what} says {asked}")))
        }
        _ => Ok(()),
    };
    other("workload", log.workload.name(), asked.workload.map(WorkloadKind::name))?;
    other("kernel", log.kernel.name(), asked.kernel.map(sim::Kernel::name))?;
    other("weather", log.weather.name(), asked.weather.map(sim::Weather::name))?;
    let mut options = log.options();
    if asked.switches.only.is_some() {
        options.switches.only = asked.switches.only;
    }
    options.switches.without = options.switches.without.union(asked.switches.without);
    options.switches.suppressed = options.switches.suppressed.union(asked.switches.suppressed);
    Ok(options)
}

fn read_file(path: &Path) -> Result<Vec<u8>, Trouble> {
    let cannot = |error| Trouble::InputOutput(format!("cannot read {}: {error}", path.display()));
    let length = fs::metadata(path).map_err(cannot)?.len();
    if length > FILE_BYTES_MAX {
        return Err(Trouble::Usage(format!("{} has {length} bytes: that is no run", path.display())));
    }
    fs::read(path).map_err(cannot)
}

/// cargo-fuzz puts what it finds into a folder with the name of the target: `loop_echo`, `loop_timers` ...
fn workload_of_artifact(name: &str) -> WorkloadKind {
    let folders = Path::new(name).components().filter_map(|part| part.as_os_str().to_str());
    let mut named = folders.rev().filter_map(|part| WorkloadKind::from_name(part.strip_prefix("loop_")?));
    named.next().unwrap_or(WorkloadKind::Echo)
}
