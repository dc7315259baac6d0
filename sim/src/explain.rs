//! From a failing run to what is printed of it: recorded, shrunk, told.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::aftermath::counted;
use crate::decision::Decisions;
use crate::fault::FaultSwitches;
use crate::oracle::Oracle;
use crate::run_log::{FORMAT, RunLog};
use crate::runner::{Failure, Input, Outcome, RunOptions, run};
use crate::shrink::{Progress, shrink, smaller_kept};
use crate::stage::StageBuilder;
use crate::story::Story;

/// A failing run with everything that helps to understand it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The run as it was found.
    pub log: RunLog,
    /// What came of it.
    pub outcome: Outcome,
    /// What was wrong with it.
    pub failure: Failure,
    /// The smallest run that fails in the same way, where there was time to look for one.
    pub small: Option<RunLog>,
    /// The smallest run in words.
    pub story: Story,
    /// How many runs it took to find.
    pub runs: u64,
}

impl Explanation {
    /// Makes a run again, and makes it small for as long as `go_on` says so. `None` if it does not fail.
    pub fn of(
        options: &RunOptions,
        decisions: Decisions,
        source: String,
        go_on: &mut dyn FnMut(Progress) -> bool,
    ) -> Option<Explanation> {
        Explanation::going_on(None, options, decisions, source, go_on)
    }

    /// As [`Explanation::of`], and goes on from what was kept at `earlier`, see [`smaller_kept`].
    pub fn going_on(
        earlier: Option<&Path>,
        options: &RunOptions,
        decisions: Decisions,
        source: String,
        go_on: &mut dyn FnMut(Progress) -> bool,
    ) -> Option<Explanation> {
        let outcome = run(&options.clone().recorded(), decisions);
        let failure = outcome.failure.clone()?;
        let log = RunLog::of(&outcome, options, source);
        let mut runs = 0;
        let mut counting = |progress: Progress| {
            runs = progress.runs;
            go_on(progress)
        };
        let fixed = options.clone().fixed_to(outcome.workload, outcome.kernel, outcome.weather);
        let small = match earlier.and_then(|path| smaller_kept(path, &log, &fixed)) {
            Some(found) => {
                let options = RunOptions { switches: found.switches, ..fixed.clone() };
                shrink(&found, &options, &mut counting).ok()
            }
            None => shrink(&log, &fixed, &mut counting).ok(),
        };
        let story = match &small {
            Some(small) => {
                let smaller = RunOptions { switches: small.switches, ..fixed };
                let told = run(&smaller.recorded(), Decisions::from_tape(small.choices.tape()));
                told.failure.as_ref().map(|failure| Story::of(&told, failure))
            }
            None => None,
        };
        let story = story.unwrap_or_else(|| Story::of(&outcome, &failure));
        Some(Explanation { log, outcome, failure, small, story, runs })
    }
}

/// Where the picture of a run of somebody's test is, beside the file that the run is kept in.
pub(crate) fn picture_of(kept: &str) -> PathBuf {
    Path::new(kept).with_extension("html")
}

/// A failing run, as it is printed.
#[derive(Clone, Debug)]
pub struct FailureBlock<'a> {
    /// The run.
    pub outcome: &'a Outcome,
    /// What was wrong.
    pub failure: &'a Failure,
    /// What reproduces it: the seed, or a name of its input.
    pub input: Input<'a>,
    /// The options it ran with.
    pub options: &'a RunOptions,
    /// What was found out about it.
    pub explanation: Option<&'a Explanation>,
    /// Where the small run is kept.
    pub kept: Option<&'a str>,
}

impl FailureBlock<'_> {
    /// The line that runs it again from its seed or its input.
    pub fn replay(&self) -> String {
        if let Some(stage) = &self.options.stage {
            return self.replay_in_test(stage);
        }
        let mut line = format!("sim replay {}", self.input);
        let RunOptions { workload, kernel, weather, switches, .. } = self.options;
        if let Some(workload) = workload {
            line += &format!(" --workload {workload}");
        }
        if let Some(kernel) = kernel {
            line += &format!(" --kernel {kernel}");
        }
        if let Some(weather) = weather {
            line += &format!(" --weather {weather}");
        }
        if let Some(only) = switches.only {
            line += &format!(" --faults '{only}'");
        }
        if !switches.without.is_empty() {
            line += &format!(" --without-faults {}", switches.without);
        }
        if !switches.suppressed.is_empty() {
            line += &format!(" --suppress-faults {}", switches.suppressed);
        }
        line
    }

    /// The line that makes `cargo test` run it again: only the test can build its stage.
    fn replay_in_test(&self, stage: &StageBuilder) -> String {
        let test = stage.test();
        let Input::Seed(seed) = self.input else { return format!("SIM_REPLAY={} {test}", self.input) };
        let RunOptions { kernel, weather, switches, .. } = self.options;
        let FaultSwitches { only, without, suppressed } = stage.asked_of(*switches);
        let mut line = format!("SIM_SEED={seed}");
        if let Some(kernel) = kernel {
            line += &format!(" SIM_KERNEL={kernel}");
        }
        if let Some(weather) = weather {
            line += &format!(" SIM_WEATHER={weather}");
        }
        if let Some(only) = only {
            line += &format!(" SIM_FAULTS='{only}'");
        }
        if !without.is_empty() {
            line += &format!(" SIM_WITHOUT_FAULTS={without}");
        }
        if !suppressed.is_empty() {
            line += &format!(" SIM_SUPPRESS_FAULTS={suppressed}");
        }
        format!("{line} {test}")
    }

    /// The lines to paste.
    fn paste(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  replay    {}", self.replay())?;
        match (&self.options.stage, self.kept) {
            (Some(stage), Some(kept)) => {
                let test = stage.test();
                if matches!(self.input, Input::Seed(_)) {
                    writeln!(f, "  or        SIM_REPLAY={kept} {test}")?;
                }
                writeln!(f, "  shrink    SIM_SHRINK={kept} {test}")?;
                writeln!(f, "  look      {}, in a browser", picture_of(kept).display())
            }
            (Some(_), None) => Ok(()),
            (None, Some(kept)) => {
                writeln!(f, "  or        sim replay {kept}")?;
                writeln!(f, "  look      sim trace {kept} --format html --out failure.html")
            }
            (None, None) if self.failure.oracle != Oracle::Determinism => {
                writeln!(f, "  shrink    {}", self.replay().replacen("replay", "shrink", 1))
            }
            (None, None) => Ok(()),
        }
    }

    fn explain(&self, f: &mut fmt::Formatter<'_>, explanation: &Explanation) -> fmt::Result {
        let Explanation { log, small, story, runs, .. } = explanation;
        let weight = |log: &RunLog| counted(log.choices.tape().weight() as u64, "decision");
        let calls = |log: &RunLog| counted(log.calls.len() as u64, "call");
        match small {
            Some(small) => writeln!(
                f,
                "  story     of {} and {}, shrunk from {} and {} in {runs} runs",
                weight(small),
                calls(small),
                weight(log),
                calls(log)
            )?,
            None => writeln!(f, "  story     of {} and {}", weight(log), calls(log))?,
        }
        for line in story.lines() {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FailureBlock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { workload, kernel, weather, faults, trace_hash, .. } = self.outcome;
        let Failure { oracle, at, step, details } = self.failure;
        writeln!(f, "FAILED {oracle}")?;
        writeln!(f, "  details   {details}")?;
        writeln!(f, "  at        {at:?}, step {step}")?;
        writeln!(f, "  workload  {workload}, kernel {kernel}, weather {weather}")?;
        writeln!(f, "  seed      {}", self.input)?;
        let drawn: Vec<String> = faults
            .iter()
            .filter(|&(_, count)| count > 0)
            .map(|(kind, count)| format!("{count} {}", kind.name()))
            .collect();
        if !drawn.is_empty() {
            writeln!(f, "  faults    {}", drawn.join(", "))?;
        }
        if let Some(explanation) = self.explanation {
            self.explain(f, explanation)?;
        }
        self.paste(f)?;
        let build = crate::run_log::build_name();
        let version = FORMAT.version;
        write!(f, "  build     {build}, format {version}, trace hash {trace_hash:#018x}")
    }
}
