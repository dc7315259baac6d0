//! What a run had of each kind.

use super::{FaultKind, FaultSet};

/// Which kinds a run had on, and how often each happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultCounts {
    on: FaultSet,
    counts: [u64; FaultKind::COUNT],
}

impl Default for FaultCounts {
    fn default() -> FaultCounts {
        FaultCounts { on: FaultSet::EMPTY, counts: [0; FaultKind::COUNT] }
    }
}

impl FaultCounts {
    /// Nothing yet of these kinds, which are on.
    pub fn of_run(on: FaultSet) -> FaultCounts {
        FaultCounts { on, ..FaultCounts::default() }
    }

    /// The kinds that the run had on.
    pub fn on(&self) -> FaultSet {
        self.on
    }

    /// How often this kind happened.
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.counts[kind as usize]
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The kinds that happened at all, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (FaultKind, u64)> + '_ {
        FaultKind::ALL.iter().map(|&kind| (kind, self.of(kind))).filter(|&(_, count)| count > 0)
    }

    #[inline]
    pub(crate) fn add(&mut self, kind: FaultKind) {
        self.counts[kind as usize] += 1;
    }
}
