//! Sets of small numbers that find their first gap in a few steps, however full they are: the descriptors and the ports
//! that are taken.

use crate::work::WorkCount;

const BITS: usize = u64::BITS as usize;
/// Enough for 64^4 numbers: 16,777,216.
const LEVELS: usize = 4;

/// Numbers below 16,777,216. Adding, taking out and finding cost a few steps each.
#[derive(Debug, Default)]
pub(crate) struct NumberSet {
    /// The first level has a bit for each number. Each level above has a bit for each word below, set where it is full.
    levels: [Vec<u64>; LEVELS],
}

impl NumberSet {
    pub(crate) fn insert(&mut self, number: usize) {
        let mut position = number;
        for level in &mut self.levels {
            let index = position / BITS;
            if level.len() <= index {
                level.resize(index + 1, 0);
            }
            level[index] |= 1 << (position % BITS);
            if level[index] != u64::MAX {
                return;
            }
            position = index;
        }
    }

    pub(crate) fn remove(&mut self, number: usize) {
        let mut position = number;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(position / BITS) else { return };
            let was_full = *word == u64::MAX;
            *word &= !(1 << (position % BITS));
            if !was_full {
                return;
            }
            position /= BITS;
        }
    }

    /// The smallest number from `start` on that is not in the set.
    ///
    /// # Panics
    /// When every number that a set can hold is in it.
    pub(crate) fn first_absent(&self, start: usize, work: &WorkCount) -> usize {
        let mut position = start;
        for (depth, level) in self.levels.iter().enumerate() {
            work.add(1);
            let index = position / BITS;
            let below = (1 << (position % BITS)) - 1;
            let word = level.get(index).map_or(below, |word| word | below);
            if word == u64::MAX {
                // Full from here on: the level above knows where the next word with a gap is.
                position = index + 1;
                continue;
            }
            let first_gap = |index: usize, word: u64| index * BITS + word.trailing_ones() as usize;
            return self.levels[..depth].iter().rev().fold(first_gap(index, word), |index, level| {
                work.add(1);
                first_gap(index, level.get(index).copied().unwrap_or(0))
            });
        }
        panic!("a set of numbers is full");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::decision::seed::mix;

    #[test]
    fn the_first_gap_is_the_one_that_a_search_of_every_number_finds() {
        let (mut set, mut model) = (NumberSet::default(), BTreeSet::new());
        let work = WorkCount::default();
        for round in 0..20_000_u64 {
            let word = mix(round);
            // Mostly full at first, sparse later: both kinds of words occur at every level that is reached.
            let number = (word % 9_000) as usize;
            if word >> 32 & 7 > round / 2_500 {
                set.insert(number);
                model.insert(number);
            } else {
                set.remove(number);
                model.remove(&number);
            }
            let start = (word >> 40) as usize % 9_100;
            let expected = (start..).find(|number| !model.contains(number));
            assert_eq!(Some(set.first_absent(start, &work)), expected, "round {round}");
        }
    }

    #[test]
    fn the_first_gap_of_a_full_set_takes_as_many_steps_as_there_are_levels() {
        let (mut set, work) = (NumberSet::default(), WorkCount::default());
        for number in 0..200_000 {
            assert_eq!(set.first_absent(0, &work), number);
            set.insert(number);
        }
        let before = work.steps();
        assert_eq!(set.first_absent(0, &work), 200_000);
        assert!(work.steps() - before <= 2 * LEVELS as u64);
        set.remove(70_001);
        assert_eq!(set.first_absent(0, &work), 70_001);
    }
}
