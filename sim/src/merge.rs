//! Records of many machines as one: associative, commutative, idempotent.
//!
//! A run is the same run when `build`, `sweep` and `run` are the same. Of two records of one run a fixed order keeps one: failing over
//! passing, then by content. If they differ under one build, something undeclared decided something, and that stays on
//! record as an *alarm*. So files may be merged in any order, twice, or in parts that are merged later.
//!
//! Memory: about 110 bytes for each run, and the text of at most so many failing runs for each sweep. Those with the lowest numbers keep their text,
//! because the number of a run is all that every merge agrees on; of the others the number, the oracle and the hash are kept.

mod missing;

use std::collections::{BTreeMap, BTreeSet};

use crate::decision::seed::mix;
use crate::oracle::Oracle;
use crate::record::{Entry, Origin, RunRecord};
use crate::shard::Shard;

pub use missing::Missing;

/// Hashes of one run that an alarm keeps at most: the lowest ones.
const ALARM_HASHES_MAX: usize = 8;

/// What is known of one sweep.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Merged {
    /// How many runs it was to have, if a file said so.
    pub runs_planned: Option<u64>,
    /// The parts that reported.
    pub shards: BTreeSet<Shard>,
    /// The runs.
    pub runs: BTreeMap<u64, RunRecord>,
    /// Where runs were kept.
    pub kept: BTreeMap<u64, String>,
    /// Runs that did not always go the same way: their seed, and their hashes. Where there is one hash, something else differed.
    pub alarms: BTreeMap<u64, (u64, BTreeSet<u64>)>,
    /// The failing runs whose text is kept.
    told: BTreeSet<u64>,
}

/// What is known of all sweeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merge {
    told_max: usize,
    /// The sweeps.
    pub sweeps: BTreeMap<Origin, Merged>,
}

impl Merge {
    /// Nothing yet. The text of so many failing runs of each sweep will be kept.
    pub fn new(told_max: usize) -> Merge {
        Merge { told_max, sweeps: BTreeMap::new() }
    }

    /// Takes a line in.
    pub fn add(&mut self, origin: Origin, entry: Entry) {
        let merged = self.sweeps.entry(origin).or_default();
        match entry {
            Entry::Sweep { runs, shards } => {
                merged.runs_planned = merged.runs_planned.max(Some(runs));
                merged.shards.extend(shards);
            }
            Entry::Run(run, record) => merged.add_run(run, record, self.told_max),
            Entry::Kept { run, path } => {
                let kept = merged.kept.entry(run).or_insert_with(|| path.clone());
                if path < *kept {
                    *kept = path;
                }
            }
            Entry::Alarm { run, seed, trace_hashes } => merged.alarm(run, seed, trace_hashes),
            // How many runs there are is counted, and how long one machine took is of no use to the next.
            Entry::End { .. } => {}
        }
    }

    /// Takes in what another merge knows.
    pub fn add_all(&mut self, other: &Merge) {
        for (origin, entry) in other.entries() {
            self.add(origin.clone(), entry);
        }
    }

    /// Everything that is known, in one order: as lines they are a file that can be merged again.
    pub fn entries(&self) -> impl Iterator<Item = (&Origin, Entry)> {
        self.sweeps.iter().flat_map(|(origin, merged)| {
            let begin = merged.runs_planned.map(|runs| {
                let shards = merged.shards.iter().copied().collect();
                Entry::Sweep { runs, shards }
            });
            let runs = merged.runs.iter().map(|(&run, record)| Entry::Run(run, record.clone()));
            let kept = merged.kept.iter().map(|(&run, path)| Entry::Kept { run, path: path.clone() });
            let alarms = merged.alarms.iter().map(|(&run, (seed, hashes))| {
                let trace_hashes = hashes.iter().copied().collect();
                Entry::Alarm { run, seed: *seed, trace_hashes }
            });
            begin.into_iter().chain(runs).chain(kept).chain(alarms).map(move |entry| (origin, entry))
        })
    }

    /// What a sweep over all of it would exit with: non-determinism before everything else, then the failing run of the
    /// lowest number.
    pub fn exit_code(&self) -> u8 {
        if self.sweeps.values().any(|merged| !merged.alarms.is_empty()) {
            return Oracle::Determinism.exit_code();
        }
        let first = self.sweeps.values().find_map(|merged| merged.failed().next());
        first.map_or(0, |(_, oracle, _)| oracle.exit_code())
    }
}

/// Whether two records tell the same of one run. How it failed in words may be missing in one.
fn is_same(one: &RunRecord, other: &RunRecord) -> bool {
    let without_words = |record: &RunRecord| RunRecord { told: None, ..record.clone() };
    without_words(one) == without_words(other)
}

/// Of two records of one run the smaller one is kept.
fn order(record: &RunRecord) -> impl Ord + '_ {
    let RunRecord { workload, kernel, weather, .. } = record;
    (
        record.oracle.is_none(),
        (record.trace_hash, record.steps, record.virtual_ns, record.seed),
        (workload.name(), kernel.name(), weather.name()),
        record.oracle.map(Oracle::name),
        (record.told.is_none(), record.told.as_deref()),
    )
}

impl Merged {
    fn add_run(&mut self, run: u64, record: RunRecord, told_max: usize) {
        if let Some(known) = self.runs.get(&run) {
            if !is_same(known, &record) {
                let (seed, hashes) = (known.seed.min(record.seed), [known.trace_hash, record.trace_hash]);
                self.alarm(run, seed, hashes.to_vec());
            }
            let known = &self.runs[&run];
            if order(known) <= order(&record) {
                return;
            }
        }
        if record.told.is_some() {
            self.told.insert(run);
        }
        self.runs.insert(run, record);
        if self.told.len() > told_max
            && let Some(last) = self.told.pop_last()
            && let Some(record) = self.runs.get_mut(&last)
        {
            record.told = None;
        }
    }

    fn alarm(&mut self, run: u64, seed: u64, trace_hashes: Vec<u64>) {
        let (least, hashes) = self.alarms.entry(run).or_insert_with(|| (seed, BTreeSet::new()));
        *least = (*least).min(seed);
        hashes.extend(trace_hashes);
        while hashes.len() > ALARM_HASHES_MAX {
            hashes.pop_last();
        }
    }

    /// The failing runs, by number.
    pub fn failed(&self) -> impl Iterator<Item = (u64, Oracle, &RunRecord)> {
        self.runs.iter().filter_map(|(&run, record)| record.oracle.map(|oracle| (run, oracle, record)))
    }

    /// How many runs each oracle saw fail.
    pub fn failed_by(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for (_, oracle, _) in self.failed() {
            *counts.entry(oracle.name()).or_default() += 1;
        }
        counts
    }

    /// The hashes of the runs, combined as one sweep combines them.
    pub fn trace_hash(&self) -> u64 {
        self.runs.values().fold(0, |combined, record| mix(combined ^ record.trace_hash))
    }

    /// Calls made in all.
    pub fn calls(&self) -> u64 {
        self.runs.values().fold(0, |calls: u64, record| calls.saturating_add(record.steps))
    }

    /// Virtual time in all, in nanoseconds.
    pub fn virtual_ns(&self) -> u128 {
        self.runs.values().map(|record| u128::from(record.virtual_ns)).sum()
    }
}
