//! A part of a sweep: which of its runs one machine makes.
//!
//! Shard `i/n`, counted from 1, owns the runs `k` with `k mod n = i - 1`. The seed of run `k`, its cell in a stratified sweep and
//! the samples that are taken of it depend on `k` alone, so `n` machines make what one machine makes, and an engine may start any
//! of them again.

use std::fmt;
use std::str::FromStr;

/// The most parts that a sweep is cut into.
pub const SHARDS_MAX: u64 = 1_000_000;

/// One part of a sweep.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Shard {
    count: u64,
    number: u64,
}

impl Shard {
    /// All of the sweep.
    pub const WHOLE: Shard = Shard { count: 1, number: 1 };

    /// Part `number` of `count`, counted from 1.
    ///
    /// # Errors
    /// When there is no such part, or more than [`SHARDS_MAX`] of them.
    pub fn new(number: u64, count: u64) -> Result<Shard, ShardError> {
        let fits = (1..=SHARDS_MAX).contains(&count) && (1..=count).contains(&number);
        fits.then_some(Shard { count, number }).ok_or_else(|| ShardError(format!("{number}/{count}")))
    }

    /// Which part, counted from 1.
    pub const fn number(self) -> u64 {
        self.number
    }

    /// How many parts there are.
    pub const fn count(self) -> u64 {
        self.count
    }

    /// Whether a run of the sweep belongs to this part.
    pub const fn contains(self, run: u64) -> bool {
        run % self.count == self.number - 1
    }

    /// The runs of this part, in order, for a sweep of so many; `nth` counts from 0.
    pub fn nth(self, nth: u64, runs: u64) -> Option<u64> {
        let run = nth.checked_mul(self.count)?.checked_add(self.number - 1)?;
        (run < runs).then_some(run)
    }

    /// How many of so many runs belong to this part.
    pub const fn runs_of(self, runs: u64) -> u64 {
        runs / self.count + (self.number <= runs % self.count) as u64
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

/// A text, or two numbers, that name no part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardError(String);

impl fmt::Display for ShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        write!(
            f,
            "{text:?} is no shard: I/N is part I of N, counted from 1, with I at most N and N at most {SHARDS_MAX}"
        )
    }
}

impl std::error::Error for ShardError {}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Shard, ShardError> {
        let foreign = || ShardError(text.to_owned());
        let (number, count) = text.split_once('/').ok_or_else(foreign)?;
        // `parse` of a number would take a sign.
        let number_of = |digits: &str| -> Option<u64> {
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let (number, count) = (number_of(number).ok_or_else(foreign)?, number_of(count).ok_or_else(foreign)?);
        Shard::new(number, count).map_err(|_| foreign())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_belongs_to_one_shard() {
        for count in 1..9 {
            for runs in 0..40 {
                let shards = || (1..=count).map(|number| Shard::new(number, count).unwrap());
                let mut all: Vec<u64> = shards()
                    .flat_map(|shard| {
                        let own: Vec<u64> = (0..).map_while(|nth| shard.nth(nth, runs)).collect();
                        assert_eq!(own.len() as u64, shard.runs_of(runs), "{shard} of {runs}");
                        assert!(own.iter().all(|&run| shard.contains(run)));
                        own
                    })
                    .collect();
                all.sort_unstable();
                assert_eq!(all, (0..runs).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn shards_are_written_as_they_are_read() {
        assert_eq!("3/4".parse::<Shard>().unwrap().to_string(), "3/4");
        for text in ["", "3", "0/4", "5/4", "1/0", "-1/4", "+1/4", "1/4/2", "1/2000000", "a/b", "1/", "/4"] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.to_string().contains("counted from 1"), "{text}: {error}");
        }
        assert_eq!(Shard::WHOLE.nth(u64::MAX, u64::MAX), None);
        assert_eq!(Shard::new(2, 4).unwrap().nth(u64::MAX, u64::MAX), None);
    }
}
