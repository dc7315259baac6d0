//! Sets of kinds, and which kinds a command line asks for.

use std::fmt;
use std::str::FromStr;

use super::FaultKind;

/// A set of kinds.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct FaultSet(u128);

impl FaultSet {
    /// No kind.
    pub const EMPTY: FaultSet = FaultSet(0);
    /// How many kinds a set has room for.
    pub const ROOM: usize = u128::BITS as usize;

    /// The set of one kind.
    pub const fn of(kind: FaultKind) -> FaultSet {
        FaultSet(1 << kind as u8)
    }

    /// Whether the kind is in the set.
    #[inline]
    pub const fn contains(self, kind: FaultKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Whether the set has no kind.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Puts a kind in.
    pub const fn insert(&mut self, kind: FaultKind) {
        self.0 |= 1 << kind as u8;
    }

    /// The kinds of either set.
    #[must_use]
    pub const fn union(self, other: FaultSet) -> FaultSet {
        FaultSet(self.0 | other.0)
    }

    /// The kinds, in the order of the catalogue.
    pub fn iter(self) -> impl Iterator<Item = FaultKind> {
        FaultKind::ALL.iter().copied().filter(move |&kind| self.contains(kind))
    }
}

impl FromIterator<FaultKind> for FaultSet {
    fn from_iter<I: IntoIterator<Item = FaultKind>>(kinds: I) -> FaultSet {
        kinds.into_iter().fold(FaultSet::EMPTY, |set, kind| set.union(FaultSet::of(kind)))
    }
}

/// As a list with commas; parsing takes the same back.
impl fmt::Display for FaultSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(FaultKind::name).collect();
        f.pad(&names.join(","))
    }
}

/// A name that no kind has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownFault(pub String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
        write!(f, "no fault is called {:?}; there are: {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownFault {}

impl FromStr for FaultSet {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<FaultSet, UnknownFault> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| FaultKind::from_name(name).ok_or_else(|| UnknownFault(name.to_owned()))).collect()
    }
}

/// What is fixed about the faults of a run. What is not fixed is left to the weather; every decision is drawn all the
/// same, so fixing one kind leaves the draws of the others as they were.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct FaultSwitches {
    /// Exactly these are on, in any weather, where they are legal; `None` leaves it to the weather.
    pub only: Option<FaultSet>,
    /// These are off.
    pub without: FaultSet,
    /// These are on as drawn and their decisions are made, but nothing comes of them: shows what a kind is to blame for.
    pub suppressed: FaultSet,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_what_it_prints_and_names_what_it_does_not_know() {
        let set: FaultSet = "late-waits, split-segments".parse().unwrap();
        assert_eq!(set.to_string(), "split-segments,late-waits");
        assert_eq!(set.to_string().parse(), Ok(set));
        assert_eq!("".parse(), Ok(FaultSet::EMPTY));
        let error = "late-waits,solar-flares".parse::<FaultSet>().unwrap_err().to_string();
        assert!(error.contains("\"solar-flares\"") && error.contains("split-segments"), "{error}");
    }
}
