//! A failure that was found once, as a file that every test run replays.
//!
//! ```text
//! sim-regression 1
//! broke     a read budget that ends early leaves the connection on no queue
//! back      tests/planted/B06.patch
//! oracle    bounded-queue
//! workload  echo
//! kernel    linux
//! weather   default
//! faults
//! reaches   counter read_budget_ends
//! story
//!   step 20    1.000015 s the client connects fd6
//! tape
//! setup 0 3 = 1
//! ```
//!
//! Of an imported run there are the lines of its [`Scenario`] too, between `scenario` and `story`.
//!
//! The run must pass, for what it broke is mended. A tape means something only as long as its run still comes to the place
//! where things went wrong: `reaches` names that place - a counter of the loops, a kind of fault, a decision, or the result of a
//! call - and a run that does not reach it any more fails too. `sim keep --refresh` finds the failure again then, in a build in
//! which it has been brought back.

use std::fmt;
use std::sync::Arc;

use crate::decision::Decisions;
use crate::decision::script::{self, Script};
use crate::decision::tape::Tape;
use crate::fault::{FaultKind, FaultSet};
use crate::import::Scenario;
use crate::kernel::Kernel;
use crate::oracle::Oracle;
use crate::run_log::RunLog;
use crate::runner::{Outcome, RunOptions, run};
use crate::story::Story;
use crate::trace::{CallKind, TraceEntry};
use crate::weather::Weather;
use crate::workload::WorkloadKind;

/// The first line of a file.
pub const HEADER: &str = "sim-regression 1";

/// A place that a run must come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A counter of the loops is not zero: `counter NAME`.
    Counter(String),
    /// A kind of fault was drawn: `fault NAME`.
    Fault(FaultKind),
    /// Something was decided otherwise than benignly: `decision SITE`.
    Decision(String),
    /// A call ended in this way: `call NAME RESULT`, where the result is an error's name, or a number.
    Call(CallKind, String),
}

impl Place {
    /// Whether a recorded run came there.
    pub fn is_reached(&self, outcome: &Outcome) -> bool {
        match self {
            Place::Counter(name) => outcome.counters.named().any(|(its, count)| its == name && count > 0),
            Place::Fault(kind) => outcome.faults.iter().any(|(its, count)| its == *kind && count > 0),
            Place::Decision(site) => outcome.choices.as_ref().is_some_and(|log| {
                log.choices().iter().any(|choice| choice.value > 0 && log.site(choice) == site)
            }),
            Place::Call(kind, result) => outcome.trace.iter().any(|entry| match entry {
                TraceEntry::Call(call) => call.call == *kind && call.outcome.to_string() == *result,
                TraceEntry::Note { .. } => false,
            }),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Counter(name) => write!(f, "counter {name}"),
            Place::Fault(kind) => write!(f, "fault {}", kind.name()),
            Place::Decision(site) => write!(f, "decision {site}"),
            Place::Call(kind, result) => write!(f, "call {} {result}", kind.name()),
        }
    }
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        if text.contains(char::is_control) {
            return Err("a place is one line".to_owned());
        }
        let (sort, rest) = text.split_once(' ').unwrap_or((text, ""));
        match sort {
            "counter" => {
                let names: Vec<&str> = reactor::Counters::default().named().map(|(name, _)| name).collect();
                if names.contains(&rest) {
                    Ok(Place::Counter(rest.to_owned()))
                } else {
                    Err(format!("no counter is called {rest:?}; there are: {}", names.join(", ")))
                }
            }
            "fault" => FaultKind::from_name(rest)
                .map(Place::Fault)
                .ok_or_else(|| format!("no fault is called {rest:?}; `sim faults` lists them")),
            "decision" if !rest.is_empty() => Ok(Place::Decision(rest.to_owned())),
            "call" => {
                let (name, result) = rest.rsplit_once(' ').ok_or("a call is `call NAME RESULT`")?;
                let kind = CallKind::ALL.iter().find(|kind| kind.name() == name);
                let kind = kind.ok_or_else(|| format!("no call is called {name:?}"))?;
                Ok(Place::Call(*kind, result.to_owned()))
            }
            _ => Err(format!(
                "{text:?} is no place: it is `counter NAME`, `fault NAME`, `decision SITE` or `call NAME RESULT`"
            )),
        }
    }
}

/// A kept failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Regression {
    /// What was wrong, in one line.
    pub broke: String,
    /// What brings it back: a planted patch, or a condition in words.
    pub back: String,
    /// Who saw it.
    pub oracle: Oracle,
    /// The workload of its run.
    pub workload: WorkloadKind,
    /// The kernel of its hosts.
    pub kernel: Kernel,
    /// Its weather.
    pub weather: Weather,
    /// The only faults that were on; `None` leaves them to the tape.
    pub faults: Option<FaultSet>,
    /// Where its run must come, or it means nothing.
    pub reaches: Place,
    /// What its run is made of, if it was imported.
    pub scenario: Option<Arc<Scenario>>,
    /// How it went wrong, in words.
    pub story: Vec<String>,
    /// Its decisions.
    pub tape: Script,
}

/// Why a regression fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Relapse {
    /// Something is wrong with its run again.
    Fails {
        /// Who saw it.
        oracle: Oracle,
        /// What exactly.
        details: String,
    },
    /// The run passes, and does not come to the place that matters.
    Misses(Place),
}

impl fmt::Display for Relapse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Relapse::Fails { oracle, details } => write!(f, "it fails again, by {oracle}: {details}"),
            Relapse::Misses(place) => write!(
                f,
                "it no longer reaches `{place}`, so it shows nothing: bring the bug back and run `sim keep --refresh`"
            ),
        }
    }
}

impl Regression {
    /// A failing run that is to be kept, usually a shrunk one.
    pub fn of(
        log: &RunLog,
        story: &Story,
        broke: String,
        back: String,
        reaches: Place,
    ) -> Option<Regression> {
        Some(Regression {
            broke,
            back,
            oracle: log.failure()?.oracle,
            workload: log.workload,
            kernel: log.kernel,
            weather: log.weather,
            faults: log.switches.only,
            reaches,
            scenario: log.scenario.clone(),
            story: story.lines().to_vec(),
            tape: log.choices.tape().script(),
        })
    }

    /// What makes its run.
    pub fn options(&self) -> RunOptions {
        let mut options = RunOptions::default().fixed_to(self.workload, self.kernel, self.weather);
        options.switches.only = self.faults;
        options.scenario.clone_from(&self.scenario);
        options
    }

    /// Makes its run, recorded.
    pub fn run(&self) -> Outcome {
        run(&self.options().recorded(), Decisions::from_tape(Tape::from(&self.tape)))
    }

    /// Makes its run, which must pass and come to its place.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self) -> Result<(), Relapse> {
        let outcome = self.run();
        if let Some(failure) = outcome.failure {
            return Err(Relapse::Fails { oracle: failure.oracle, details: failure.details });
        }
        if self.reaches.is_reached(&outcome) { Ok(()) } else { Err(Relapse::Misses(self.reaches.clone())) }
    }
}

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Regression {
            broke,
            back,
            oracle,
            workload,
            kernel,
            weather,
            faults,
            reaches,
            scenario,
            story,
            tape,
        } = self;
        writeln!(f, "{HEADER}")?;
        writeln!(f, "broke     {broke}")?;
        writeln!(f, "back      {back}")?;
        writeln!(f, "oracle    {oracle}")?;
        writeln!(f, "workload  {workload}")?;
        writeln!(f, "kernel    {kernel}")?;
        writeln!(f, "weather   {weather}")?;
        if let Some(faults) = faults {
            writeln!(f, "{}", format!("faults    {faults}").trim_end())?;
        }
        writeln!(f, "reaches   {reaches}")?;
        if let Some(scenario) = scenario {
            writeln!(f, "scenario")?;
            scenario.to_string().lines().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        writeln!(f, "story")?;
        for line in story {
            writeln!(f, "  {}", line.trim_end())?;
        }
        writeln!(f, "tape")?;
        for (domain, entity, n, value) in tape.entries() {
            writeln!(f, "{domain} {entity} {n} = {value}")?;
        }
        Ok(())
    }
}

/// Where and why a text is no regression.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegressionError {
    /// Counted from 1; 0 where a line is missing.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for RegressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

impl std::error::Error for RegressionError {}

impl std::str::FromStr for Regression {
    type Err = RegressionError;

    fn from_str(text: &str) -> Result<Regression, RegressionError> {
        let lines: Vec<&str> = text.lines().collect();
        let wrong = |line: usize, what: String| RegressionError { line, what };
        if lines.first().map(|line| line.trim_end()) != Some(HEADER) {
            return Err(wrong(1, format!("a regression begins with the line `{HEADER}`")));
        }
        let find = |name: &str| {
            let named = |line: &&str| line.split_whitespace().next() == Some(name) && !line.starts_with(' ');
            lines.iter().position(named)
        };
        let value = |name: &str| match find(name) {
            Some(place) => Ok((place + 1, lines[place][name.len()..].trim())),
            None => Err(wrong(0, format!("the line `{name}` is missing"))),
        };
        let parsed = |name: &str, known: String| {
            value(name)
                .map(|(line, text)| (line, text, format!("there is no {name} {text:?}; there are: {known}")))
        };
        let (line, text, what) = parsed("oracle", joined(Oracle::ALL.iter().map(|it| it.name())))?;
        let oracle = Oracle::from_name(text).ok_or_else(|| wrong(line, what))?;
        let (line, text, what) = parsed("workload", joined(WorkloadKind::ALL.iter().map(|it| it.name())))?;
        let workload = WorkloadKind::from_name(text).ok_or_else(|| wrong(line, what))?;
        let (line, text, what) = parsed("kernel", joined(Kernel::ALL.iter().map(|it| it.name())))?;
        let kernel = Kernel::from_name(text).ok_or_else(|| wrong(line, what))?;
        let (line, text, what) = parsed("weather", joined(Weather::ALL.iter().map(|it| it.name())))?;
        let weather = Weather::from_name(text).ok_or_else(|| wrong(line, what))?;
        let faults = match value("faults") {
            Ok((line, text)) => Some(text.parse().map_err(|error| wrong(line, format!("{error}")))?),
            Err(_) => None,
        };
        let (line, text) = value("reaches")?;
        let reaches = text.parse().map_err(|what| wrong(line, what))?;
        let story_at = find("story").ok_or_else(|| wrong(0, "the line `story` is missing".to_owned()))?;
        let tape_at = find("tape").filter(|&place| place > story_at);
        let tape_at = tape_at.ok_or_else(|| wrong(0, "the line `tape` is missing".to_owned()))?;
        let scenario = match find("scenario").filter(|&place| place < story_at) {
            Some(place) => {
                let within =
                    lines[place + 1..story_at].iter().map(|line| line.strip_prefix("  ").unwrap_or(line));
                let text: String = within.map(|line| format!("{line}\n")).collect();
                Some(Arc::new(text.parse().map_err(|what| wrong(place + 1, what))?))
            }
            None => None,
        };
        let tape =
            [script::HEADER].iter().chain(&lines[tape_at + 1..]).copied().collect::<Vec<_>>().join("\n");
        let tape = tape.parse().map_err(|error: script::ScriptError| {
            wrong(tape_at + error.line, format!("expected {}", error.expected))
        })?;
        let story = lines[story_at + 1..tape_at]
            .iter()
            .map(|line| line.strip_prefix("  ").unwrap_or(line).to_string());
        Ok(Regression {
            broke: value("broke")?.1.to_owned(),
            back: value("back")?.1.to_owned(),
            oracle,
            workload,
            kernel,
            weather,
            faults,
            reaches,
            scenario,
            story: story.collect(),
            tape,
        })
    }
}

fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
