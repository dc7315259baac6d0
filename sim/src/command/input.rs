//! What a command is given to work on: a seed, a kept run, a regression, a script, or the bytes of a fuzzer.
//!
//! A file says itself what it is, in its first line. What says nothing is taken for the bytes of a fuzzer only where their
//! workload is known, by `--workload` or by the name of the file or of its folder, in which fuzzers write `loop_` and a workload; and then a line on standard error says so. Anything else is refused: a run of the wrong bytes would pass, and mean nothing.

use std::io;
use std::path::{Path, PathBuf};

use sim::decision::script::{HEADER, Script};
use sim::decision::seed::{SEED_FORMS, Seed};
use sim::decision::tape::Tape;
use sim::file;
use sim::obligation::ObligationCheck;
use sim::oracle::Oracle;
use sim::recording::Recording;
use sim::regression::{self, Regression};
use sim::run_log::{self, RunLog};
use sim::runner::{Outcome, RunOptions, run};
use sim::{Decisions, Kernel, Weather, WorkloadKind};

use super::{Fixed, Trouble};

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
    Regression(Box<Regression>),
    Script(Script),
    Bytes(Vec<u8>),
}

impl Case {
    /// Reads what was named on a command line.
    pub(super) fn read(name: &str, fixed: &Fixed) -> Result<Case, Trouble> {
        let options = fixed.options();
        let named = |source, options| Ok(Case { name: name.to_owned(), options, source });
        if let Ok(seed) = name.parse::<Seed>() {
            return Ok(Case { name: seed.to_string(), options, source: Source::Seed(seed) });
        }
        let bytes = read_file(Path::new(name))?;
        if Recording::is_claimed_by(&bytes) {
            return Err(Trouble::Usage(format!(
                "{name} is a recording of real sockets: `sim import` makes a run of it, `sim replay` plays it and `sim trace` shows it"
            )));
        }
        let wrong = |error: &dyn std::fmt::Display| Trouble::Usage(format!("{name}: {error}"));
        let text = |what: &str| {
            std::str::from_utf8(&bytes)
                .map_err(|_| Trouble::Usage(format!("{name} is no {what}: it is not text")))
        };
        if RunLog::is_claimed_by(&bytes) || name.ends_with(".simlog") {
            let log = RunLog::from_bytes(&bytes).map_err(|error| wrong(&error))?;
            if log.workload.is_stage() {
                return Err(Trouble::Usage(format!(
                    "{name} is a run of {}, which a test builds, and `sim` does not know that code. In the test: \
                     SIM_REPLAY={name} {} (and SIM_SHRINK=... to make it smaller)",
                    log.workload,
                    file::shown(&log.test)
                )));
            }
            if log.is_cut_off() {
                eprintln!("sim: {name} {}", log.rest());
            }
            let of = (log.workload, log.kernel, log.weather);
            let options = fixed_by(log.options(), of, fixed, name)?;
            return named(Source::Log(Box::new(log)), options);
        }
        if bytes.starts_with(b"sim-regression") || name.ends_with(".regression") {
            let kept: Regression = text("regression")?.parse().map_err(|error| wrong(&error))?;
            let of = (kept.workload, kept.kernel, kept.weather);
            let options = fixed_by(kept.options(), of, fixed, name)?;
            return named(Source::Regression(Box::new(kept)), options);
        }
        if bytes.starts_with(HEADER.as_bytes()) {
            let script = text("script")?.parse().map_err(|error| wrong(&error))?;
            return named(Source::Script(script), options);
        }
        if bytes.starts_with(b"sim-script") {
            return Err(Trouble::Usage(format!("{name}: a script begins with the line `{HEADER}`")));
        }
        let Some(workload) = options.workload.or_else(|| workload_of_input(name)) else {
            return Err(Trouble::Usage(format!(
                "{name} is no kept run (it does not begin with `{}`), no regression (`{}`) and no script (`{HEADER}`). \
                 If a fuzzer made it, say of which workload its bytes are: --workload W; the file's name, or its folder's, says so too with `loop_W` in it",
                run_log::FORMAT.magic,
                regression::HEADER
            )));
        };
        eprintln!(
            "sim: {name} is taken for what a fuzzer made: {} bytes, decisions of the workload {workload}",
            bytes.len()
        );
        named(Source::Bytes(bytes), RunOptions { workload: Some(workload), ..options })
    }

    /// Where its decisions come from.
    pub(super) fn decisions(&self) -> Decisions {
        match &self.source {
            Source::Seed(seed) => Decisions::from_seed(seed.0),
            Source::Log(log) => Decisions::from_tape(log.choices.tape()),
            Source::Regression(kept) => Decisions::from_tape(Tape::from(&kept.tape)),
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

    /// Makes the run, which must fail, and as it did when it was kept. The options come back with it.
    ///
    /// What the kernel owes is checked, and goes on being checked only where that is what fails: it takes as long as the run.
    pub(super) fn failing(&self) -> Result<(RunOptions, Outcome), Trouble> {
        let name = &self.name;
        let checked = RunOptions { obligations: ObligationCheck::Always, ..self.options.clone() };
        let outcome = run(&checked.clone().recorded(), self.decisions());
        let log = self.log();
        // Where other faults are asked for, it may well go another way.
        let kept = log.filter(|log| log.switches == self.options.switches).and_then(RunLog::failure);
        let Some(failure) = &outcome.failure else {
            return Err(match kept {
                Some(kept) => Trouble::DidNotReproduce(format!(
                    "{name} did not reproduce: it was kept with {}, and passes in this build",
                    kept.oracle
                )),
                None if log.is_some_and(RunLog::is_cut_off) => Trouble::Usage(format!(
                    "{name}: what is left of the file was run, and passes; how the whole run ended is not known"
                )),
                None => Trouble::Usage(format!(
                    "{name}: the run passes in this build; only one that fails can be \
                     shrunk or kept, in the build in which it fails"
                )),
            });
        };
        if let Some(kept) = kept
            && !kept.is_like(failure)
        {
            return Err(Trouble::DidNotReproduce(format!(
                "{name} did not reproduce: it was kept with {}, and fails with {} now: {}",
                kept.oracle, failure.oracle, failure.details
            )));
        }
        let needed = failure.oracle == Oracle::OwedEvent;
        Ok((if needed { checked } else { self.options.clone() }, outcome))
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
fn fixed_by(
    kept: RunOptions,
    (workload, kernel, weather): (WorkloadKind, Kernel, Weather),
    fixed: &Fixed,
    name: &str,
) -> Result<RunOptions, Trouble> {
    let asked = fixed.options();
    let other = |what: &str, kept: &str, asked: Option<&str>| match asked {
        Some(asked) if asked != kept => {
            Err(Trouble::Usage(format!("{name} is a run of {what} {kept}, and --{what} says {asked}")))
        }
        _ => Ok(()),
    };
    other("workload", workload.name(), asked.workload.map(WorkloadKind::name))?;
    other("kernel", kernel.name(), asked.kernel.map(Kernel::name))?;
    other("weather", weather.name(), asked.weather.map(Weather::name))?;
    let mut options = kept;
    if asked.switches.only.is_some() {
        options.switches.only = asked.switches.only;
    }
    options.switches.without = options.switches.without.union(asked.switches.without);
    options.switches.suppressed = options.switches.suppressed.union(asked.switches.suppressed);
    (options.lapse, options.obligations) = (asked.lapse, asked.obligations);
    Ok(options)
}

fn read_file(path: &Path) -> Result<Vec<u8>, Trouble> {
    file::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let name = path.display();
            Trouble::InputOutput(format!(
                "there is no file {name}, and {name} is no seed either: {SEED_FORMS}"
            ))
        }
        _ => Trouble::cannot_read(path, &error),
    })
}

/// Fuzzers call folders and files after the target: `fuzz/artifacts/loop_echo/crash-...` is cargo-fuzz's way,
/// `clusterfuzz-testcase-minimized-loop_echo-4567` that of ClusterFuzz.
fn workload_of_input(name: &str) -> Option<WorkloadKind> {
    // A file may be named from within its folder. Folders further up are about other things: loop_echo/timer_wheel/crash-1f3a.
    let path = std::path::absolute(name).unwrap_or_else(|_| PathBuf::from(name));
    let parts = path.components().rev().take(2).filter_map(|part| part.as_os_str().to_str());
    let mut words = parts.flat_map(|part| part.split('-'));
    words.find_map(|word| WorkloadKind::from_name(word.strip_prefix("loop_")?))
}
