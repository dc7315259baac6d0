//! The kinds of trouble a run can have: a catalogue as data, sets of kinds, and what a run had of each.

mod catalogue;
mod counts;
mod set;

pub use catalogue::FaultKind;
pub use counts::FaultCounts;
pub use set::{FaultSet, FaultSwitches, UnknownFault};

use crate::decision::{Domain, Ratio};
use crate::kernel::Kernel;

/// One entry of the catalogue. Each kind is something that a legal kernel or network does, through the state that causes
/// it; no kind lies.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The name used in options and reports.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub does: &'static str,
    /// The facts (S, T, E, W, C, M, K, Q, N) that make it legal, and the historical bugs (B) that it exposes.
    pub because: &'static str,
    /// The domain that its decisions are drawn from.
    pub domain: Domain,
    /// The kernels under which it is legal. Under any other it is never drawn.
    pub kernels: &'static [Kernel],
    /// How often it happens where it can.
    pub strength: Strength,
}

/// The rates of a kind that is on, one for each strength that a run may draw.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Strength {
    /// In default and tiny weather.
    pub default: [Ratio; Strength::LEVELS],
    /// In cruel weather.
    pub cruel: [Ratio; Strength::LEVELS],
}

impl Strength {
    /// How many strengths there are.
    pub const LEVELS: usize = 3;
    /// For what only shifts times, sizes and orders.
    pub const OFTEN: Strength = Strength::of(6);
    /// For what a call reports and its caller can try again.
    pub const SOMETIMES: Strength = Strength::of(60);
    /// For what ends a connection.
    pub const RARELY: Strength = Strength::of(1_000);

    /// One to three of `denominator` by default, and three to five in cruel weather.
    const fn of(denominator: u32) -> Strength {
        Strength {
            default: [Ratio::new(1, denominator), Ratio::new(2, denominator), Ratio::new(3, denominator)],
            cruel: [Ratio::new(3, denominator), Ratio::new(4, denominator), Ratio::new(5, denominator)],
        }
    }
}
