//! Decisions from a list that a person can read and write; what is not listed is zero.
//!
//! ```text
//! sim-script 1
//! # domain, entity, the count of earlier decisions of that domain and entity, value
//! network 3 0 = 4100
//! resets 0 12 = 99
//! ```

use std::collections::BTreeMap;
use std::fmt;

use super::Domain;

/// The first line of a script.
pub const HEADER: &str = "sim-script 1";

/// As many decisions at most may lie before those that a script lists, in all its lanes together; far more than a run makes.
/// Each takes a word once the script is a tape.
pub const COUNT_MAX: u64 = 10_000_000;

/// A list of single decisions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Script {
    values: BTreeMap<(Domain, u32, u64), u64>,
    counts: BTreeMap<(Domain, u32), u64>,
}

impl Script {
    /// Sets the decision number `n` of `domain` for `entity`.
    #[must_use]
    pub fn with(mut self, domain: Domain, entity: u32, n: u64, value: u64) -> Script {
        self.values.insert((domain, entity, n), value);
        self
    }

    /// The listed decisions in order: domain, entity, count, value.
    pub fn entries(&self) -> impl Iterator<Item = (Domain, u32, u64, u64)> + '_ {
        self.values.iter().map(|(&(domain, entity, n), &value)| (domain, entity, n, value))
    }

    pub(crate) fn draw(&mut self, domain: Domain, entity: u32, bound: u64) -> u64 {
        if self.values.is_empty() {
            return 0;
        }
        let count = self.counts.entry((domain, entity)).or_default();
        let n = *count;
        *count += 1;
        // A value that no longer fits, after the code has changed, is brought into range rather than refused.
        self.values.get(&(domain, entity, n)).map_or(0, |value| value % bound)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        for (domain, entity, n, value) in self.entries() {
            writeln!(f, "{domain} {entity} {n} = {value}")?;
        }
        Ok(())
    }
}

/// Where and why a text is not a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptError {
    /// Counted from 1.
    pub line: usize,
    /// What the line should have been.
    pub expected: &'static str,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}", self.line, self.expected)
    }
}

impl std::error::Error for ScriptError {}

impl std::str::FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Script, ScriptError> {
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        if lines.next().is_none_or(|(_, line)| line != HEADER) {
            return Err(ScriptError { line: 1, expected: "the header `sim-script 1`" });
        }
        let mut script = Script::default();
        let (mut spans, mut total) = (BTreeMap::new(), 0_u64);
        for (line, text) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let error = ScriptError { line, expected: "`domain entity count = value`" };
            let words: Vec<&str> = text.split_whitespace().collect();
            let &[domain, entity, n, "=", value] = words.as_slice() else { return Err(error) };
            let entry = || {
                Some((Domain::from_name(domain)?, entity.parse().ok()?, n.parse().ok()?, value.parse().ok()?))
            };
            let (domain, entity, n, value) = entry().ok_or(error)?;
            script = script.with(domain, entity, n, value);
            let lane = spans.entry((domain, entity)).or_insert(0_u64);
            let span = n.saturating_add(1).max(*lane);
            total = total.saturating_add(span - *lane);
            *lane = span;
            if total > COUNT_MAX {
                return Err(ScriptError {
                    line,
                    expected: "counts that fit a run: at most 10,000,000 in all lanes",
                });
            }
        }
        Ok(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_script_are_the_same_thing() {
        let script = Script::default().with(Domain::Network, 3, 0, 4100).with(Domain::Resets, 0, 12, 99);
        let text = script.to_string();
        assert_eq!(text, "sim-script 1\nnetwork 3 0 = 4100\nresets 0 12 = 99\n");
        assert_eq!(text.parse(), Ok(script));
    }

    #[test]
    fn wrong_lines_are_named() {
        assert_eq!("".parse::<Script>().unwrap_err().line, 1);
        assert_eq!("sim-script 1\n\n# fine\nnetwork 1 = 2".parse::<Script>().unwrap_err().line, 4);
    }

    #[test]
    fn counts_that_no_run_reaches_are_refused_whether_in_one_lane_or_in_many() {
        let refused = |lines: &str| format!("{HEADER}\n{lines}").parse::<Script>().unwrap_err().line;
        assert_eq!(refused("network 0 18446744073709551615 = 1"), 2);
        assert_eq!(refused("network 0 6000000 = 1\nnetwork 0 7 = 1\nnetwork 1 6000000 = 1"), 4);
        assert!(format!("{HEADER}\nnetwork 0 9999999 = 1\nnetwork 0 5 = 1").parse::<Script>().is_ok());
    }

    #[test]
    fn listed_decisions_are_found_by_entity_and_count() {
        let mut script = Script::default().with(Domain::Network, 3, 1, 7);
        assert_eq!(script.draw(Domain::Network, 3, 100), 0);
        assert_eq!(script.draw(Domain::Network, 2, 100), 0);
        assert_eq!(script.draw(Domain::Network, 3, 100), 7);
        assert_eq!(script.draw(Domain::Network, 3, 100), 0);
    }
}
