//! Merging records: in any order, twice, or in parts, the result is the same.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sim::merge::Merge;
use sim::record::{Entry, Origin, RunRecord, Told};
use sim::{Kernel, Oracle, Shard, Weather, WorkloadKind};

/// Few, so that it is reached.
const TOLD_MAX: usize = 3;

/// Runs of few numbers and few values, so that they meet: overlaps, other hashes, failing and passing.
fn entry() -> impl Strategy<Value = (Origin, Entry)> {
    let origin =
        (0..2_u8).prop_map(|sweep| Origin { build: "1".to_owned(), sweep: format!("--seed {sweep}") });
    let told = (0..2_u64, 0..2_u64).prop_map(|(at_ns, step)| Told {
        at_ns,
        step,
        details: format!("details {at_ns}"),
        replay: "sim replay".to_owned(),
    });
    let record = (0..3_u64, 0..2_u64, 0..2_usize, proptest::option::of((0..3_usize, told))).prop_map(
        |(trace_hash, steps, place, failure)| RunRecord {
            seed: 7,
            workload: WorkloadKind::ALL[place],
            kernel: Kernel::ALL[0],
            weather: Weather::ALL[place],
            oracle: failure.as_ref().map(|(oracle, _)| Oracle::ALL[*oracle]),
            steps,
            virtual_ns: 1,
            trace_hash,
            told: failure.map(|(_, told)| Box::new(told)),
        },
    );
    let shard = (1..=3_u64).prop_map(|number| Shard::new(number, 3).unwrap());
    let entry = prop_oneof![
        8 => (0..8_u64, record).prop_map(|(run, record)| Entry::Run(run, record)),
        1 => (1..9_u64, shard).prop_map(|(runs, shard)| Entry::Sweep { runs, shards: vec![shard] }),
        1 => (0..8_u64, 0..3_u8).prop_map(|(run, path)| Entry::Kept { run, path: path.to_string() }),
        1 => (0..8_u64, 0..3_u64).prop_map(|(run, hash)| Entry::Alarm { run, seed: 7, trace_hashes: vec![hash, hash + 1] }),
    ];
    (origin, entry)
}

fn part() -> impl Strategy<Value = Merge> {
    proptest::collection::vec(entry(), 0..24).prop_map(|entries| merge_of(&entries))
}

fn merge_of(entries: &[(Origin, Entry)]) -> Merge {
    let mut merge = Merge::new(TOLD_MAX);
    for (origin, entry) in entries {
        merge.add(origin.clone(), entry.clone());
    }
    merge
}

fn both(one: &Merge, other: &Merge) -> Merge {
    let mut merge = one.clone();
    merge.add_all(other);
    merge
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 600,
        rng_seed: RngSeed::Fixed(0x51ed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_order_of_files_makes_no_difference(one in part(), other in part()) {
        prop_assert_eq!(both(&one, &other), both(&other, &one));
    }

    #[test]
    fn parts_may_be_merged_before(one in part(), other in part(), third in part()) {
        prop_assert_eq!(both(&both(&one, &other), &third), both(&one, &both(&other, &third)));
    }

    #[test]
    fn a_file_that_is_merged_twice_changes_nothing(one in part(), other in part()) {
        let merged = both(&one, &other);
        prop_assert_eq!(&both(&merged, &one), &merged);
        prop_assert_eq!(&both(&merged, &merged), &merged);
    }

    #[test]
    fn the_order_of_lines_makes_no_difference(mut entries in proptest::collection::vec(entry(), 0..24)) {
        let merged = merge_of(&entries);
        entries.reverse();
        prop_assert_eq!(merge_of(&entries), merged);
    }

    #[test]
    fn what_is_written_is_read_again(one in part()) {
        let mut again = Merge::new(TOLD_MAX);
        for (origin, entry) in one.entries() {
            let line = entry.line(origin);
            let (read_origin, read) = Entry::read(line.as_bytes()).unwrap();
            prop_assert_eq!((&read_origin, &read), (origin, &entry));
            again.add(read_origin, read);
        }
        prop_assert_eq!(again, one);
    }
}

#[test]
fn a_failing_record_is_kept_before_one_that_passed_and_that_they_differ_is_an_alarm() {
    let record = |oracle, trace_hash| RunRecord {
        seed: 1,
        workload: WorkloadKind::Echo,
        kernel: Kernel::Linux,
        weather: Weather::Calm,
        oracle,
        steps: 1,
        virtual_ns: 1,
        trace_hash,
        told: None,
    };
    let origin = Origin { build: "1".to_owned(), sweep: "--seed 1".to_owned() };
    let mut merge = Merge::new(TOLD_MAX);
    merge.add(origin.clone(), Entry::Run(3, record(None, 1)));
    merge.add(origin.clone(), Entry::Run(3, record(Some(Oracle::Liveness), 1)));
    merge.add(origin.clone(), Entry::Run(3, record(None, 1)));
    let merged = &merge.sweeps[&origin];
    assert_eq!(merged.runs[&3].oracle, Some(Oracle::Liveness));
    assert_eq!(merged.alarms.keys().collect::<Vec<_>>(), [&3]);
    assert_eq!(merge.exit_code(), Oracle::Determinism.exit_code());
}
