//! From a failing run to the few decisions that matter.
//!
//! The run is made again and again with something taken away, and what is still wrong in the same way is kept: whole kinds
//! of fault first, then everything decided after some moment, then lanes and spans of the tape, deleted or set to zero, then
//! single values lowered. Zero is always the benign outcome, so a smaller tape is a simpler story.
//!
//! *The same way* is the same oracle, for a panic the same place in the code, and for a stage the same check; so shrinking never slips from one bug to
//! another kind of bug. Smaller is less to understand: fewer decisions that are not zero, and fewer calls; then smaller values.

use std::ops::Range;
use std::path::Path;

use crate::decision::log::ChoiceLog;
use crate::decision::tape::{LaneName, Tape};
use crate::decision::{Decisions, Domain};
use crate::fault::{FaultKind, FaultSet};
use crate::file;
use crate::oracle::Oracle;
use crate::run_log::RunLog;
use crate::runner::{Failure, Outcome, RunOptions, run};

/// A candidate may make so many times the calls of the run that it comes from, and [`SPARE_CALLS`] more, before it counts as
/// not failing.
const PATIENCE: u64 = 4;
/// See [`PATIENCE`].
const SPARE_CALLS: u64 = 10_000;

/// How far it has come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Runs made.
    pub runs: u64,
    /// Candidates that still failed and were smaller.
    pub accepted: u64,
    /// Decisions that are not zero.
    pub weight: usize,
    /// Calls of the smallest failing run so far.
    pub steps: u64,
    /// What is being tried.
    pub pass: &'static str,
}

/// What the source of a shrunk run ends with.
const SHRUNK: &str = ", shrunk";

/// So many calls are as hard to understand as one decision.
const CALLS_OF_A_DECISION: u64 = 32;

/// What a run costs whoever has to understand it; less is better, the first number first.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Cost {
    /// Decisions that are not zero, and calls.
    burden: u64,
    steps: u64,
    bits: u64,
}

impl Cost {
    fn new(choices: &ChoiceLog, tape: &Tape, steps: u64) -> Cost {
        let bits =
            choices.choices().iter().map(|choice| u64::from(u64::BITS - choice.value.leading_zeros())).sum();
        let burden = tape.weight() as u64 + steps / CALLS_OF_A_DECISION;
        Cost { burden, steps, bits }
    }

    fn of(log: &RunLog) -> Cost {
        Cost::new(&log.choices, &log.choices.tape(), log.calls.len() as u64)
    }
}

/// What must stay as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Class {
    oracle: Oracle,
    place: Option<String>,
}

impl Class {
    fn of(failure: &Failure) -> Class {
        let details = &failure.details;
        let place = match failure.oracle {
            Oracle::Panic => details.rsplit(" (").next(),
            // A stage's check begins with its name.
            Oracle::Check => details.split(": ").next(),
            _ => None,
        };
        let place = place.map(str::to_owned);
        Class { oracle: failure.oracle, place }
    }
}

impl Failure {
    /// Whether another failure is the same one to whoever makes a run smaller.
    pub fn is_like(&self, other: &Failure) -> bool {
        Class::of(self) == Class::of(other)
    }
}

/// The smallest failing run so far.
struct Smallest {
    options: RunOptions,
    choices: ChoiceLog,
    tape: Tape,
    cost: Cost,
    steps: u64,
    drawn: FaultSet,
}

impl Smallest {
    fn of(options: &RunOptions, outcome: &mut Outcome) -> Smallest {
        let choices = outcome.choices.take().unwrap_or_default();
        let tape = choices.tape();
        let cost = Cost::new(&choices, &tape, outcome.steps);
        let drawn = outcome.faults.iter().filter(|&(_, count)| count > 0).map(|(kind, _)| kind).collect();
        Smallest { options: options.clone(), choices, tape, cost, steps: outcome.steps, drawn }
    }
}

struct Shrinker<'a> {
    class: Class,
    best: Smallest,
    runs: u64,
    accepted: u64,
    pass: &'static str,
    stopped: bool,
    go_on: &'a mut dyn FnMut(Progress) -> bool,
}

/// Why a run cannot be shrunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShrinkError {
    /// It does not fail.
    Passes,
    /// It failed in another way than it did when it was kept.
    FailsOtherwise {
        /// How it failed when it was kept.
        kept: Failure,
        /// How it fails now.
        now: Failure,
    },
    /// It is a difference between two runs of the same decisions: taking decisions away shows nothing.
    Undetermined,
}

impl std::fmt::Display for ShrinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ShrinkError::Passes => f.write_str("the run passes: there is nothing to shrink"),
            ShrinkError::FailsOtherwise { kept, now } => {
                write!(
                    f,
                    "the run was kept with {}, and fails with {} now: {}",
                    kept.oracle, now.oracle, now.details
                )
            }
            ShrinkError::Undetermined => f.write_str(
                "two runs of the same decisions differed: `sim run --check-determinism` says where",
            ),
        }
    }
}

impl std::error::Error for ShrinkError {}

/// Makes a failing run small, starting from these options, which are the log's own ([`RunLog::options`]) unless something more
/// is to be done on purpose. `go_on` is asked before every candidate; when it says no, the smallest so far is the result.
/// Whoever goes on with the result later begins where this ended.
///
/// # Errors
/// When the run does not fail, or not as it did when it was kept.
pub fn shrink(
    log: &RunLog,
    options: &RunOptions,
    go_on: &mut dyn FnMut(Progress) -> bool,
) -> Result<RunLog, ShrinkError> {
    let recording = RunOptions { record: true, ..options.clone() };
    let mut outcome = run(&recording, Decisions::from_tape(log.choices.tape()));
    let failure = outcome.failure.clone().ok_or(ShrinkError::Passes)?;
    if failure.oracle == Oracle::Determinism {
        return Err(ShrinkError::Undetermined);
    }
    let class = Class::of(&failure);
    match log.failure() {
        Some(kept) if Class::of(kept) != class => {
            return Err(ShrinkError::FailsOtherwise { kept: kept.clone(), now: failure });
        }
        _ => {}
    }
    let best = Smallest::of(options, &mut outcome);
    let mut shrinker =
        Shrinker { class, best, runs: 1, accepted: 0, pass: "first run", stopped: false, go_on };
    shrinker.run();
    let Smallest { options, tape, .. } = shrinker.best;
    let outcome = run(&options.clone().recorded(), Decisions::from_tape(tape));
    Ok(RunLog::of(&outcome, &options, format!("{}{SHRUNK}", origin(&log.source))))
}

/// The run that was kept at `path`, if it is what an earlier shrink made of the same run, still fails in the same way, and is
/// smaller: whoever shrinks goes on with it then, so that nothing is lost when the work is stopped early. What fixes the run, and
/// is to be done on purpose, is in `options`, as for [`shrink`].
pub fn smaller_kept(path: &Path, log: &RunLog, options: &RunOptions) -> Option<RunLog> {
    let kept = RunLog::from_bytes(&file::read(path).ok()?).ok()?;
    let of = |log: &RunLog| {
        (log.workload, log.kernel, log.weather, log.scenario.clone(), origin(&log.source).to_owned())
    };
    if of(&kept) != of(log) || !kept.failure()?.is_like(log.failure()?) {
        return None;
    }
    let again = RunOptions { switches: kept.switches, ..options.clone() }.recorded();
    let outcome = run(&again, Decisions::from_tape(kept.choices.tape()));
    let found = RunLog::of(&outcome, &again, kept.source);
    let smaller = found.failure()?.is_like(log.failure()?) && Cost::of(&found) < Cost::of(log);
    smaller.then_some(found)
}

/// Where the decisions of a run came from before it was shrunk.
fn origin(source: &str) -> &str {
    source.trim_end_matches(SHRUNK)
}

impl Shrinker<'_> {
    fn run(&mut self) {
        loop {
            let before = self.best.cost;
            self.without_faults();
            self.cut_the_end();
            self.lanes();
            self.values();
            if self.stopped || self.best.cost >= before {
                return;
            }
        }
    }

    /// Whether a candidate fails in the same way and is smaller; if so, it is the smallest from now on.
    fn accept(&mut self, options: &RunOptions, tape: &Tape) -> bool {
        let progress = Progress {
            runs: self.runs,
            accepted: self.accepted,
            weight: self.best.tape.weight(),
            steps: self.best.steps,
            pass: self.pass,
        };
        if self.stopped || !(self.go_on)(progress) {
            self.stopped = true;
            return false;
        }
        self.runs += 1;
        let patience = Some(self.best.steps.saturating_mul(PATIENCE) + SPARE_CALLS);
        let candidate = RunOptions { until_step: patience, ..options.clone() };
        let fails =
            |failure: Option<&Failure>, class: &Class| failure.is_some_and(|it| Class::of(it) == *class);
        let outcome = run(&candidate, Decisions::from_tape(tape.clone()));
        if !fails(outcome.failure.as_ref(), &self.class) {
            return false;
        }
        // Once more, to see which decisions it really made.
        let recording = RunOptions { record: true, ..options.clone() };
        let mut outcome = run(&recording, Decisions::from_tape(tape.clone()));
        if !fails(outcome.failure.as_ref(), &self.class) {
            return false;
        }
        let smaller = Smallest::of(options, &mut outcome);
        // Kinds of fault that are not needed are switched off even where that makes nothing smaller.
        let calmer = smaller.options.switches != self.best.options.switches;
        if smaller.cost > self.best.cost || (smaller.cost == self.best.cost && !calmer) {
            return false;
        }
        self.best = smaller;
        self.accepted += 1;
        true
    }

    fn accept_tape(&mut self, tape: &Tape) -> bool {
        let options = self.best.options.clone();
        self.accept(&options, tape)
    }

    fn accept_lane(&mut self, name: LaneName, values: Vec<u64>) -> bool {
        let mut tape = self.best.tape.clone();
        tape.set_lane(name, values);
        self.accept_tape(&tape)
    }

    /// No faults at all; else none but those that were drawn, and one after the other away.
    fn without_faults(&mut self) {
        self.pass = "faults off";
        let only = |set: FaultSet, options: &RunOptions| {
            let mut options = options.clone();
            options.switches.only = Some(set);
            options
        };
        let current = self.best.options.switches.only;
        if current != Some(FaultSet::EMPTY) {
            let options = only(FaultSet::EMPTY, &self.best.options);
            if self.accept(&options, &self.best.tape.clone()) {
                return;
            }
        }
        if current.is_none() {
            let options = only(self.best.drawn, &self.best.options);
            self.accept(&options, &self.best.tape.clone());
        }
        let Some(set) = self.best.options.switches.only else { return };
        for kind in set.iter() {
            let Some(now) = self.best.options.switches.only else { return };
            let rest: FaultSet = now.iter().filter(|&other| other != kind).collect();
            let options = only(rest, &self.best.options);
            self.accept(&options, &self.best.tape.clone());
        }
    }

    /// Zeros after some moment: the earliest that leaves the failure, by halving.
    fn cut_the_end(&mut self) {
        self.pass = "the end cut off";
        let log = self.best.choices.clone();
        let (mut fails, mut passes) = (log.choices().len(), 0);
        while fails - passes > 1 && !self.stopped {
            let middle = passes + (fails - passes) / 2;
            let mut tape = Tape::default();
            for choice in &log.choices()[..middle] {
                tape.push(choice.domain, choice.entity, choice.value);
            }
            if self.accept_tape(&tape) { fails = middle } else { passes = middle }
        }
    }

    /// Whole domains, whole lanes, then spans of lanes: set to zero, and deleted.
    fn lanes(&mut self) {
        self.pass = "lanes";
        for domain in Domain::ALL {
            let mut tape = self.best.tape.clone();
            let names: Vec<LaneName> =
                tape.lanes().map(|(name, _)| name).filter(|name| name.0 == domain).collect();
            if names.is_empty() {
                continue;
            }
            names.iter().for_each(|&name| tape.set_lane(name, Vec::new()));
            if self.accept_tape(&tape) || names.len() == 1 {
                continue;
            }
            for name in names {
                if self.best.tape.lane(name).iter().any(|&value| value != 0) {
                    self.accept_lane(name, Vec::new());
                }
            }
        }
        self.pass = "spans";
        let names: Vec<LaneName> = self.best.tape.lanes().map(|(name, _)| name).collect();
        for name in names {
            let mut span = self.best.tape.lane(name).len() / 2;
            while span > 0 && !self.stopped {
                self.spans_of(name, span);
                span /= 2;
            }
        }
    }

    fn spans_of(&mut self, name: LaneName, span: usize) {
        let mut start = 0;
        loop {
            let lane = self.best.tape.lane(name);
            if start >= lane.len() || self.stopped {
                return;
            }
            let range = start..(start + span).min(lane.len());
            let (zeroed, deleted) = (without(lane, &range, true), without(lane, &range, false));
            let is_zero = lane[range].iter().all(|&value| value == 0);
            // What is deleted moves everything behind it, so the same place is tried again.
            if self.accept_lane(name, deleted) {
                continue;
            }
            if !is_zero {
                self.accept_lane(name, zeroed);
            }
            start += span;
        }
    }

    /// Each value that is not zero, by halving.
    fn values(&mut self) {
        self.pass = "values";
        let names: Vec<LaneName> = self.best.tape.lanes().map(|(name, _)| name).collect();
        for name in names {
            let mut place = 0;
            while let Some(&value) = self.best.tape.lane(name).get(place) {
                if self.stopped {
                    return;
                }
                if value > 0 {
                    self.lower(name, place, value);
                }
                place += 1;
            }
        }
    }

    fn lower(&mut self, name: LaneName, place: usize, value: u64) {
        let (mut fails, mut passes) = (value, None);
        loop {
            let target = match passes {
                None => 0,
                Some(passes) if fails - passes > 1 => passes + (fails - passes) / 2,
                Some(_) => return,
            };
            let mut lane = self.best.tape.lane(name).to_vec();
            if lane.get(place) != Some(&fails) || self.stopped {
                // An accepted candidate made fewer decisions.
                return;
            }
            lane[place] = target;
            if self.accept_lane(name, lane) {
                if target == 0 {
                    return;
                }
                fails = target;
            } else {
                passes = Some(target);
            }
        }
    }
}

fn without(lane: &[u64], range: &Range<usize>, keep_places: bool) -> Vec<u64> {
    let zeros = if keep_places { range.len() } else { 0 };
    [&lane[..range.start], &vec![0; zeros], &lane[range.end..]].concat()
}

/// The kinds of fault that a run drew.
pub fn faults_drawn(outcome: &Outcome) -> Vec<(FaultKind, u64)> {
    outcome.faults.iter().filter(|&(_, count)| count > 0).collect()
}
