//! Which plan an episode had: enough to make its parties again.

use crate::decision::Decisions;
use crate::workload::cluster::Cluster;
use crate::workload::echo::Echo;
use crate::workload::timers::Timers;
use crate::workload::wake::Wake;
use crate::workload::{Accounts, Load, Scale, WorkloadKind};

/// See the module.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The workload; no stage, which only its own test can make.
    pub workload: WorkloadKind,
    /// The seed of the decisions that the plan was drawn from.
    pub seed: u64,
    /// What was asked of it; `None` for a short plan, as simulated runs have it.
    pub load: Option<Load>,
}

/// What is done with a plan, whatever its workload.
pub trait PlanUse {
    /// What comes of it.
    type Output;

    /// Does it.
    fn with<W>(self, plan: W) -> Self::Output
    where
        W: Accounts;
}

impl Plan {
    /// Draws the plan and uses it; `None` for a stage.
    pub fn draw<U: PlanUse>(&self, to_use: U) -> Option<U::Output> {
        let mut decisions = Decisions::from_seed(self.seed);
        let (decisions, scale) = (&mut decisions, Scale::RealTime);
        Some(match (self.workload, &self.load) {
            (WorkloadKind::Echo, None) => to_use.with(Echo::draw(decisions, scale)),
            (WorkloadKind::Echo, Some(load)) => to_use.with(Echo::load(decisions, load)),
            (WorkloadKind::Wake, None) => to_use.with(Wake::draw(decisions, scale)),
            (WorkloadKind::Wake, Some(load)) => to_use.with(Wake::load(decisions, load)),
            (WorkloadKind::Timers, None) => to_use.with(Timers::draw(decisions, scale)),
            (WorkloadKind::Timers, Some(load)) => to_use.with(Timers::load(decisions, load)),
            (WorkloadKind::Cluster, None) => to_use.with(Cluster::draw(decisions, scale)),
            (WorkloadKind::Cluster, Some(load)) => to_use.with(Cluster::load(decisions, load)),
            (WorkloadKind::Stage(_), _) => return None,
        })
    }
}
