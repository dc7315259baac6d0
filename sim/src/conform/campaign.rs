//! Many generated scripts, one after the other, and what came of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::call::Call;
use super::compare::{Outcome, Reference};
use super::explained;
use super::generate;
use super::shrink::{Shrunk, shrink};
use super::text::script_text;
use crate::decision::Decisions;
use crate::decision::seed::seed_of_run;
use crate::script::probe::Probe;
use crate::world::WorldOptions;

/// What a campaign does.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Seed of the first script.
    pub seed: u64,
    /// Scripts at most.
    pub runs: u64,
    /// Sorts of unexplained differences after which it stops.
    pub differences_max: usize,
    /// How the simulated kernel is made.
    pub options: WorldOptions,
}

/// A sort of unexplained difference.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed of the first script that showed it.
    pub seed: u64,
    /// After how many scripts.
    pub after: u64,
    /// That script, shrunk.
    pub shrunk: Shrunk,
    /// How many scripts showed it.
    pub count: u64,
}

impl Found {
    /// The shrunk script as a file, with the live kernel's answers as what must be answered.
    pub fn script(&self, title: &str) -> String {
        let Shrunk { calls, answers, .. } = &self.shrunk;
        script_text(title, calls, answers)
    }
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Scripts made.
    pub scripts: u64,
    /// Calls that both sides carried out in scripts that count.
    pub steps: u64,
    /// Calls by their verbs.
    pub verbs: BTreeMap<&'static str, u64>,
    /// Scripts on which the live kernel contradicted itself.
    pub unstable: u64,
    /// Calls that were left out, by what one side lacks.
    pub lacking: BTreeMap<&'static str, u64>,
    /// How often each entry of [`explained::TABLE`] explained a difference.
    pub explained: Vec<u64>,
    /// Unexplained differences, by their signature.
    pub found: BTreeMap<String, Found>,
    /// Whether it was stopped from outside.
    pub interrupted: bool,
}

impl Campaign {
    /// Runs it; `tick` is told of every script, with the number of sorts of differences found so far, and says whether to go
    /// on.
    pub fn run<P: Probe>(
        &self,
        reference: &mut Reference<P>,
        stop: &AtomicBool,
        mut tick: impl FnMut(usize) -> bool,
    ) -> Report {
        let mut report = Report { explained: vec![0; explained::TABLE.len()], ..Report::default() };
        for run in 0..self.runs {
            if stop.load(Ordering::Relaxed) {
                report.interrupted = true;
                break;
            }
            let seed = seed_of_run(self.seed, run);
            let calls = generate(&mut Decisions::from_seed(seed));
            self.script(reference, &mut report, seed, calls);
            if report.found.len() >= self.differences_max || !tick(report.found.len()) {
                break;
            }
        }
        report.lacking = reference.lacking().clone();
        report
    }

    fn script<P: Probe>(
        &self,
        reference: &mut Reference<P>,
        report: &mut Report,
        seed: u64,
        calls: Vec<Call>,
    ) {
        report.scripts += 1;
        let (calls, outcome) = reference.compare_available(calls, &self.options);
        let difference = match outcome {
            Outcome::Different(difference) => Some(difference),
            Outcome::Same | Outcome::Lacking(_) => None,
            Outcome::Unstable => {
                report.unstable += 1;
                return;
            }
        };
        let steps = difference.as_ref().map_or(calls.len(), |difference| difference.step + 1);
        report.steps += steps as u64;
        for call in &calls[..steps] {
            *report.verbs.entry(call.verb()).or_default() += 1;
        }
        let Some(difference) = difference else { return };
        if let Some(entry) = explained::explanation(&calls, &difference) {
            report.explained[entry] += 1;
            return;
        }
        let signature = difference.signature();
        if let Some(found) = report.found.get_mut(&signature) {
            found.count += 1;
            return;
        }
        if !reference.is_steady(&calls[..=difference.step]) {
            report.unstable += 1;
            return;
        }
        let shrunk = shrink(reference, &self.options, &calls, difference);
        if let Some(entry) = explained::explanation(&shrunk.calls, &shrunk.difference) {
            report.explained[entry] += 1;
            return;
        }
        report.found.insert(signature, Found { seed, after: report.scripts, shrunk, count: 1 });
    }
}
