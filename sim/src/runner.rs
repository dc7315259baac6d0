//! One run: a world, a workload on it, every oracle, and what came of it.

pub(crate) mod drive;
mod member;
pub(crate) mod panics;
mod seat;
pub mod setup;
pub(crate) mod single;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use reactor::Counters;
use reactor::time::Instant;

use crate::aftermath::Sleeper;
use crate::decision::Decisions;
use crate::decision::log::ChoiceLog;
use crate::decision::seed::Seed;
use crate::fault::{FaultCounts, FaultSwitches};
use crate::guard::Inside;
use crate::import::{Scenario, run_scenario};
use crate::kernel::Kernel;
use crate::obligation::{Lapse, ObligationCheck, ObligationCounts};
use crate::oracle::Oracle;
use crate::scene::Scene;
use crate::seam::Tamper;
use crate::stage::StageBuilder;
use crate::trace::TraceEntry;
use crate::weather::Weather;
use crate::work::Work;
use crate::workload::cluster::Cluster;
use crate::workload::echo::Echo;
use crate::workload::timers::Timers;
use crate::workload::wake::Wake;
use crate::workload::{Workload, WorkloadKind};

pub use self::member::{check_structure, check_timers};

use self::drive::Drive;
use self::setup::Setup;

/// What is fixed of a run; everything else is drawn. Fixing one dimension leaves the draws of the others as they were.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The workload; `None` draws it.
    pub workload: Option<WorkloadKind>,
    /// The kernel of every host; `None` draws it.
    pub kernel: Option<Kernel>,
    /// The weather; `None` draws it.
    pub weather: Option<Weather>,
    /// What is fixed about its faults.
    pub switches: FaultSwitches,
    /// Whether the readable trace is kept.
    pub collect_trace: bool,
    /// Whether every decision is written down.
    pub record: bool,
    /// The run ends after so many calls, without a verdict if nothing was wrong until then.
    pub until_step: Option<u64>,
    /// When the kernel checks what it owes.
    pub obligations: ObligationCheck,
    /// A debt of the kernel's that is forgotten on purpose, to show that the check sees it.
    pub lapse: Option<Lapse>,
    /// A mistake made on purpose, to show that an oracle sees it.
    pub tamper: Option<Tamper>,
    /// What builds the stage, where the workload is one.
    pub stage: Option<StageBuilder>,
    /// What an imported run is made of, where it is one: see [`crate::import`].
    pub scenario: Option<Arc<Scenario>>,
    /// Told every now and then how many messages the clients have handled: for progress bars on long runs.
    pub progress: Option<Arc<AtomicU64>>,
}

/// What was found wrong with a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Who saw it.
    pub oracle: Oracle,
    /// When, on the run's clock.
    pub at: Instant,
    /// How many calls the run had made.
    pub step: u64,
    /// What exactly.
    pub details: String,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The workload it had.
    pub workload: WorkloadKind,
    /// The kernel it had.
    pub kernel: Kernel,
    /// The weather it had.
    pub weather: Weather,
    /// What was wrong, if anything.
    pub failure: Option<Failure>,
    /// The chained hash of every call.
    pub trace_hash: u64,
    /// Calls made.
    pub steps: u64,
    /// Virtual time that passed, in nanoseconds.
    pub virtual_ns: u64,
    /// Messages handled and found right.
    pub messages: u64,
    /// Those of them that the clients handled.
    pub messages_of_clients: u64,
    /// The most connections that there were at once, those included that had ended and whose last segments were under way.
    pub connections_peak: usize,
    /// How much the simulated kernel worked.
    pub work: Work,
    /// The trouble it had.
    pub faults: FaultCounts,
    /// What the kernel owed, if that was checked.
    pub obligations: ObligationCounts,
    /// The readable trace, if it was kept.
    pub trace: Vec<TraceEntry>,
    /// What views need beside it, if it was kept.
    pub scene: Option<Box<Scene>>,
    /// Every decision, if they were written down.
    pub choices: Option<ChoiceLog>,
    /// What the loops counted that were alive at the end, added up.
    pub counters: Counters,
    /// Who each thread was, if the readable trace was kept.
    pub cast: Vec<String>,
    /// The loops that slept through something when the trouble or the calm ended, if the readable trace was kept.
    pub oversleepers: Vec<Sleeper>,
}

impl Outcome {
    /// Whether a run that was to end at this call ([`RunOptions::until_step`]) did so, and not by itself.
    pub fn was_stopped(&self, until_step: Option<u64>) -> bool {
        self.failure.is_none() && until_step.is_some_and(|until| self.steps >= until)
    }
}

/// Runs once. The same options and decisions give the same outcome, on every machine.
///
/// # Panics
/// When the workload is a stage, and the options do not say what builds it.
pub fn run(options: &RunOptions, mut decisions: Decisions) -> Outcome {
    let _inside = Inside::enter();
    if options.record {
        decisions = decisions.recorded();
    }
    if let Some(scenario) = &options.scenario {
        return run_scenario(scenario, options, decisions).expect("no stage is ever imported");
    }
    let mut setup = Setup::draw(options, &mut decisions);
    let scale = setup.scale();
    match setup.workload {
        WorkloadKind::Echo => {
            let plan = Echo::draw(&mut decisions, scale);
            run_plan(&plan, setup, options, decisions)
        }
        WorkloadKind::Wake => {
            let plan = Wake::draw(&mut decisions, scale);
            run_plan(&plan, setup, options, decisions)
        }
        WorkloadKind::Timers => {
            let plan = Timers::draw(&mut decisions, scale);
            run_plan(&plan, setup, options, decisions)
        }
        WorkloadKind::Cluster => {
            let plan = Cluster::draw(&mut decisions, scale);
            run_plan(&plan, setup, options, decisions)
        }
        WorkloadKind::Stage(name) => {
            let builder = options.stage.as_ref();
            let builder = builder.unwrap_or_else(|| panic!("nothing here builds the stage {name}"));
            let plan = builder.build(&mut setup, &mut decisions);
            run_plan(&plan, setup, options, decisions)
        }
    }
}

/// Runs a plan that was made by hand or drawn before.
pub fn run_plan<W: Workload>(plan: &W, setup: Setup, options: &RunOptions, decisions: Decisions) -> Outcome {
    let _inside = Inside::enter();
    let (workload, kernel, weather) = (setup.workload, setup.kernel, setup.weather);
    let mut drive = Drive::new(plan, setup, options, decisions);
    let caught = panics::catch(|| drive.run());
    drive.finish(workload, kernel, weather, caught)
}

/// Where a run's decisions came from.
#[derive(Copy, Clone, Debug)]
pub enum Input<'a> {
    /// A seed.
    Seed(Seed),
    /// A file.
    File(&'a str),
}

impl fmt::Display for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Seed(seed) => seed.fmt(f),
            Input::File(path) => f.write_str(path),
        }
    }
}
