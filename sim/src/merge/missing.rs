//! Which runs of a sweep nobody has reported.

use std::collections::BTreeSet;

use super::Merged;
use crate::shard::Shard;

/// Runs that are looked at, at most, to name the missing ones.
const LOOKED_AT_MAX: u64 = 1_000_000;

/// What is missing of a sweep.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Missing {
    /// How many runs.
    pub runs: u64,
    /// Nothing says how many runs there should be: the first lines of all files are missing.
    pub plan: bool,
    /// Parts that never reported, the first ones.
    pub silent: Vec<Shard>,
    /// How many parts never reported.
    pub silent_count: u64,
    /// Runs of parts that did report, the first ones.
    pub named: Vec<u64>,
}

impl Missing {
    /// Whether nothing is.
    pub fn is_none(&self) -> bool {
        self.runs == 0 && !self.plan
    }
}

impl Merged {
    /// What is missing; at most `names_max` parts, and as many runs, are named.
    pub fn missing(&self, names_max: usize) -> Missing {
        let Some(planned) = self.runs_planned else {
            // Runs that failed without one of their faults are no sweep of their own: they have no first line, and never pass.
            let plan = self.runs.values().any(|record| record.oracle.is_none());
            return Missing { plan, ..Missing::default() };
        };
        let present = self.runs.range(..planned).count() as u64;
        let mut missing = Missing { runs: planned - present, ..Missing::default() };
        if missing.is_none() {
            return missing;
        }
        // Parts of different cuts may be merged; then it makes no sense to ask which part is silent.
        let count = self.shards.first().map_or(1, |shard| shard.count());
        let one_cut = self.shards.iter().all(|shard| shard.count() == count);
        // A part whose first line is missing has reported too.
        let heard: BTreeSet<u64> = self.runs.range(..planned).map(|(&run, _)| run % count).collect();
        let silent = |shard: &Shard, residue: u64| !self.shards.contains(shard) && !heard.contains(&residue);
        let is_silent = |run: u64| {
            let owner = Shard::new(run % count + 1, count);
            one_cut && owner.is_ok_and(|owner| silent(&owner, run % count))
        };
        if one_cut {
            let all = (1..=count).filter_map(|number| Shard::new(number, count).ok());
            let silent = all.zip(0..).filter(|(shard, residue)| silent(shard, *residue));
            for (shard, _) in silent.filter(|(shard, _)| shard.runs_of(planned) > 0) {
                missing.silent_count += 1;
                if missing.silent.len() < names_max {
                    missing.silent.push(shard);
                }
            }
        }
        let mut present = self.runs.range(..planned).map(|(&run, _)| run).peekable();
        for run in 0..planned.min(LOOKED_AT_MAX) {
            if present.next_if_eq(&run).is_some() || is_silent(run) {
                continue;
            }
            if missing.named.len() == names_max {
                break;
            }
            missing.named.push(run);
        }
        missing
    }
}
