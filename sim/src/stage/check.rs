//! Many runs of a stage, from one `#[test]`.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

use super::keep::{self, Found};
use super::{Environment, Failed, Reason, Stage, StageBuilder, StageName, replay};
use crate::decision::Decisions;
use crate::fault::FaultSwitches;
use crate::kernel::Kernel;
use crate::runner::{Outcome, RunOptions, run};
use crate::shard::Shard;
use crate::sweep::{Sweep, sweep};
use crate::weather::Weather;

/// Runs of a check that does not say how many.
const RUNS: u64 = 200;
/// One in so many runs is made twice, to see that nothing undeclared decides anything.
const TWICE_EVERY: u64 = 20;

/// What came of a check that passed.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Runs made.
    pub runs: u64,
    /// Calls made in all.
    pub calls: u64,
    /// Virtual time in all, in nanoseconds.
    pub virtual_ns: u128,
    /// The hashes of all runs in one: equal wherever and however often the same runs of the same code are made.
    pub trace_hash: u64,
}

impl Summary {
    pub(super) fn of_run(outcome: &Outcome) -> Summary {
        let Outcome { steps: calls, virtual_ns, trace_hash, .. } = *outcome;
        Summary { runs: 1, calls, virtual_ns: virtual_ns.into(), trace_hash }
    }
}

/// Runs of a stage: how many, and in which world. What it does not fix is drawn from each run's seed: kernel, weather, faults,
/// limits, and what the stage draws.
///
/// The seeds are fixed: they follow from the name, so that a test gives the same answer every day. `SIM_RUNS=100000 cargo test`
/// makes more of them, see [`Environment`].
#[derive(Clone, Debug)]
pub struct Check {
    name: StageName,
    runs: u64,
    base: u64,
    kernel: Option<Kernel>,
    weather: Option<Weather>,
    breaks_are_legal: bool,
    mortal: bool,
    environment: Option<Environment>,
}

/// FNV-1a, 64 bits: another series of seeds for each name.
fn base_of(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Makes the runs of a stage that are due, 200 unless a variable says otherwise: [`Check::new`] and [`Check::run`] in one.
///
/// # Panics
/// When a run fails, with its story and the lines that make it again; when something that has to happen sometimes never did;
/// when a variable `SIM_...` makes no sense; when `name` is not as [`StageName`] wants it.
#[track_caller]
pub fn check(name: &str, build: impl Fn(&mut Stage<'_>) + Send + Sync + 'static) {
    Check::new(name).run(build);
}

impl Check {
    /// The runs of the stage of this name.
    ///
    /// # Panics
    /// When `name` is not as [`StageName`] wants it.
    pub fn new(name: &str) -> Check {
        let name = StageName::new(name).unwrap_or_else(|error| panic!("{error}"));
        Check {
            name,
            runs: RUNS,
            base: base_of(name.as_str()),
            kernel: None,
            weather: None,
            breaks_are_legal: false,
            mortal: false,
            environment: None,
        }
    }

    /// So many runs; at least 1.
    #[must_use]
    pub fn runs(mut self, runs: u64) -> Check {
        self.runs = runs.max(1);
        self
    }

    /// The seed of the first run, from which those of the others follow.
    #[must_use]
    pub fn base_seed(mut self, seed: u64) -> Check {
        self.base = seed;
        self
    }

    /// The kernel of every host in every run.
    #[must_use]
    pub fn kernel(mut self, kernel: Kernel) -> Check {
        self.kernel = Some(kernel);
        self
    }

    /// The weather of every run.
    #[must_use]
    pub fn weather(mut self, weather: Weather) -> Check {
        self.weather = Some(weather);
        self
    }

    /// Turns on the faults that break connections: resets, refused and lost connects, partitions, errors of `accept`,
    /// descriptors running out, full backlogs. What clients [that were cut off](super::Talker::was_cut_off) did not get is no failure.
    #[must_use]
    pub fn connections_may_break(mut self) -> Check {
        self.breaks_are_legal = true;
        self
    }

    /// Turns on the faults that kill the processes of servers, stop them for a while, and take the power from their hosts.
    /// Each is started again, with a fresh handler. Connections may break then too.
    #[must_use]
    pub fn processes_may_die(mut self) -> Check {
        (self.breaks_are_legal, self.mortal) = (true, true);
        self
    }

    /// Takes this for what the variables of the process ask for: for tests of tests.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Check {
        self.environment = Some(environment);
        self
    }

    /// Makes the runs, and stops at the first that fails: it is made small, told and kept.
    ///
    /// # Panics
    /// As [`check`].
    #[track_caller]
    pub fn run(self, build: impl Fn(&mut Stage<'_>) + Send + Sync + 'static) -> Summary {
        match self.try_run(build) {
            Ok(summary) => summary,
            Err(failed) => panic!("\n{failed}"),
        }
    }

    /// As [`Check::run`], for tests of tests: what it would panic at is a value.
    ///
    /// # Errors
    /// Everything that [`check`] panics at; what it prints is the same.
    pub fn try_run(
        self,
        build: impl Fn(&mut Stage<'_>) + Send + Sync + 'static,
    ) -> Result<Summary, Box<Failed>> {
        let environment = match self.environment.clone() {
            Some(environment) => environment,
            None => Environment::of_process().map_err(Failed::asked)?,
        };
        let legal = (self.breaks_are_legal, self.mortal);
        let builder = StageBuilder::new(self.name, test_command(&environment), legal, build);
        if let Some(path) = &environment.replay {
            return replay::replay(path, &builder, &environment);
        }
        if let Some(path) = &environment.shrink {
            return replay::smaller(path, &builder, &environment);
        }
        let sweep = self.sweep(&builder, &environment)?;
        make(&sweep, &builder, &environment, self.runs)
    }

    fn sweep(&self, builder: &StageBuilder, environment: &Environment) -> Result<Sweep, Box<Failed>> {
        let Environment { faults, without_faults, suppress_faults, .. } = *environment;
        let unasked = builder.unasked();
        if let Some(kind) = faults.and_then(|faults| faults.iter().find(|&kind| unasked.contains(kind))) {
            return Err(Failed::asked(format!(
                "SIM_FAULTS names {}, which this test leaves out: see Check::connections_may_break and \
                 Check::processes_may_die",
                kind.name()
            )));
        }
        let options = RunOptions {
            workload: Some(crate::WorkloadKind::Stage(self.name)),
            kernel: environment.kernel.or(self.kernel),
            weather: environment.weather.or(self.weather),
            switches: FaultSwitches {
                only: faults,
                without: without_faults.union(unasked),
                suppressed: suppress_faults,
            },
            stage: Some(builder.clone()),
            ..RunOptions::default()
        };
        let base = environment.seed.map_or(self.base, |seed| seed.0);
        let runs = environment.runs.unwrap_or(if environment.seed.is_some() { 1 } else { self.runs });
        let jobs = environment.jobs.and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN);
        Ok(Sweep {
            shard: environment.shard.unwrap_or(Shard::WHOLE),
            twice_every: if environment.check_determinism { 1 } else { TWICE_EVERY },
            failures_max: Some(1),
            check_effects: false,
            ..Sweep::of(options, base, runs, jobs)
        })
    }
}

fn make(
    sweep_to_make: &Sweep,
    builder: &StageBuilder,
    environment: &Environment,
    runs_usual: u64,
) -> Result<Summary, Box<Failed>> {
    if environment.trace && environment.seed.is_some() {
        let options = sweep_to_make.options.clone().recorded();
        replay::print_calls(&run(&options, Decisions::from_seed(sweep_to_make.base)), environment.until_step);
    }
    let made = sweep(sweep_to_make, &AtomicBool::new(false), |_| ());
    if let Some(failed) = made.failed.first() {
        let found = Found {
            outcome: &failed.outcome,
            failure: &failed.failure,
            options: &failed.options,
            seed: failed.seed,
        };
        return Err(keep::failed_run(&found, environment));
    }
    let never = builder.never_happened();
    if !never.is_empty() && made.runs >= runs_usual && !environment.narrows() {
        let named: Vec<String> = never.iter().map(|what| format!("{what:?}")).collect();
        let text = format!(
            "FAILED sometimes\n  details   in none of {} runs: {}\n  workload  {}\n  more      SIM_RUNS={} {}",
            made.runs,
            named.join(", "),
            builder.name(),
            made.runs.saturating_mul(100),
            builder.test()
        );
        return Err(Failed::new(Reason::NeverHappened(never), text));
    }
    let crate::sweep::Summary { runs, calls, virtual_ns, trace_hash, .. } = made;
    Ok(Summary { runs, calls, virtual_ns, trace_hash })
}

/// The command that runs the test that this thread runs. The test harness calls its threads by the names of their tests, and
/// cargo tells a test the name of its package.
fn test_command(environment: &Environment) -> String {
    let package = std::env::var_os("CARGO_PKG_NAME").and_then(|name| name.into_string().ok());
    let package = package.map_or_else(String::new, |name| format!(" -p {name}"));
    let thread = std::thread::current();
    let test = environment.test.as_deref().or_else(|| thread.name().filter(|&name| name != "main"));
    match test {
        Some(test) => format!("cargo test{package} {test}"),
        None => format!("cargo test{package}"),
    }
}
