//! Which plan an episode had: enough to make its parties again.

use std::fmt::Debug;

use crate::decision::Decisions;
use crate::workload::cluster::Cluster;
use crate::workload::echo::Echo;
use crate::workload::timers::Timers;
use crate::workload::wake::Wake;
use crate::workload::{Scale, Workload, WorkloadKind};

/// See the module.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The workload; no stage, which only its own test can make.
    pub workload: WorkloadKind,
    /// The seed of the decisions that the plan was drawn from.
    pub seed: u64,
}

/// What is done with a plan, whatever its workload.
pub trait PlanUse {
    /// What comes of it.
    type Output;

    /// Does it.
    fn with<W>(self, plan: W) -> Self::Output
    where
        W: Workload + Send + Sync + 'static,
        W::Service: Send + Debug + 'static,
        W::Client: Send + Debug + 'static;
}

impl Plan {
    /// Draws the plan and uses it; `None` for a stage.
    pub fn draw<U: PlanUse>(&self, to_use: U) -> Option<U::Output> {
        let mut decisions = Decisions::from_seed(self.seed);
        let scale = Scale::RealTime;
        Some(match self.workload {
            WorkloadKind::Echo => to_use.with(Echo::draw(&mut decisions, scale)),
            WorkloadKind::Wake => to_use.with(Wake::draw(&mut decisions, scale)),
            WorkloadKind::Timers => to_use.with(Timers::draw(&mut decisions, scale)),
            WorkloadKind::Cluster => to_use.with(Cluster::draw(&mut decisions, scale)),
            WorkloadKind::Stage(_) => return None,
        })
    }
}
