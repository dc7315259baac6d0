//! Decisions played back from a tape: a lane of values for each domain and entity. A lane that is exhausted answers zero
//! for ever, so whatever is taken off a tape makes its run calmer.

use std::collections::BTreeMap;

use super::Domain;
use super::script::Script;

/// What a lane is of.
pub type LaneName = (Domain, u32);

/// Values, by domain and entity.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tape {
    lanes: BTreeMap<LaneName, Vec<u64>>,
}

impl Tape {
    /// Appends a value to a lane.
    pub fn push(&mut self, domain: Domain, entity: u32, value: u64) {
        self.lanes.entry((domain, entity)).or_default().push(value);
    }

    /// The lanes, in the order of their domains and entities.
    pub fn lanes(&self) -> impl Iterator<Item = (LaneName, &[u64])> {
        self.lanes.iter().map(|(&name, values)| (name, values.as_slice()))
    }

    /// The values of a lane.
    pub fn lane(&self, name: LaneName) -> &[u64] {
        self.lanes.get(&name).map_or(&[], Vec::as_slice)
    }

    /// Replaces a lane. Zeros at its end say nothing, and are dropped.
    pub fn set_lane(&mut self, name: LaneName, mut values: Vec<u64>) {
        while values.last() == Some(&0) {
            values.pop();
        }
        if values.is_empty() {
            self.lanes.remove(&name);
        } else {
            self.lanes.insert(name, values);
        }
    }

    /// How many values are not zero.
    pub fn weight(&self) -> usize {
        self.lanes.values().flatten().filter(|&&value| value != 0).count()
    }

    /// The same as text: every value that is not zero.
    pub fn script(&self) -> Script {
        let mut script = Script::default();
        for (&(domain, entity), values) in &self.lanes {
            for (n, &value) in (0..).zip(values).filter(|&(_, &value)| value != 0) {
                script = script.with(domain, entity, n, value);
            }
        }
        script
    }
}

impl From<&Script> for Tape {
    fn from(script: &Script) -> Tape {
        let mut tape = Tape::default();
        for (domain, entity, n, value) in script.entries() {
            let lane = tape.lanes.entry((domain, entity)).or_default();
            // A script that was read has no larger counts; one that was made by hand loses what no run would reach.
            let Ok(place) = usize::try_from(n.min(super::script::COUNT_MAX)) else { continue };
            if lane.len() <= place {
                lane.resize(place + 1, 0);
            }
            lane[place] = value;
        }
        tape
    }
}

/// A tape that is being played.
#[derive(Debug)]
pub(super) struct Player {
    lanes: BTreeMap<LaneName, (Vec<u64>, usize)>,
}

impl Player {
    pub(super) fn new(tape: Tape) -> Player {
        Player { lanes: tape.lanes.into_iter().map(|(name, values)| (name, (values, 0))).collect() }
    }

    /// A value that no longer fits, after the code has changed, becomes the largest that does.
    pub(super) fn draw(&mut self, domain: Domain, entity: u32, bound: u64) -> u64 {
        let Some((values, next)) = self.lanes.get_mut(&(domain, entity)) else { return 0 };
        let value = values.get(*next).copied().unwrap_or(0);
        *next += 1;
        value.min(bound - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_played_apart_and_end_in_zeros() {
        let mut tape = Tape::default();
        tape.push(Domain::Network, 3, 5);
        tape.push(Domain::Network, 3, 9);
        tape.push(Domain::Network, 4, 1);
        let mut player = Player::new(tape);
        assert_eq!(player.draw(Domain::Network, 3, 100), 5);
        assert_eq!(player.draw(Domain::Network, 4, 100), 1);
        assert_eq!(player.draw(Domain::Network, 3, 7), 6);
        assert_eq!(player.draw(Domain::Network, 3, 100), 0);
        assert_eq!(player.draw(Domain::Resets, 3, 100), 0);
    }

    #[test]
    fn a_tape_and_its_text_are_the_same_thing() {
        let mut tape = Tape::default();
        tape.set_lane((Domain::Swarm, 0), vec![0, 4, 0, 2, 0, 0]);
        tape.set_lane((Domain::Resets, 7), vec![0, 0]);
        assert_eq!(tape.weight(), 2);
        assert_eq!(tape.lane((Domain::Swarm, 0)), [0, 4, 0, 2]);
        assert_eq!(Tape::from(&tape.script()), tape);
    }
}
