//! Episodes on real sockets, recorded, and played back without a kernel. Each mistake is made on purpose, below the recorder.

use reactor::Config;
use sim::WorkloadKind;
use sim::frame::FileError;
use sim::recording::{Entry, LoopEnd, Options, Plan, Recording, Replay, replay};
use sim::workload::Load;
use tests::fuzz::{RealRecording, Target};
use tests::real_episode::{Flaw, Recorded, Wanted, record};

const EVERYTHING: Options = Options { until: None, parties: true };

fn plan(workload: WorkloadKind, seed: u64) -> Plan {
    Plan { workload, seed, load: None }
}

fn again(recording: &Recording) -> Replay {
    replay(recording, EVERYTHING).expect("it is no stage")
}

/// What other threads add up is not the loop's own.
fn own_state(party: &str) -> String {
    match party.split_once("notified: ") {
        Some((before, after)) => {
            format!("{before}{}", after.trim_start_matches(|digit: char| digit.is_ascii_digit()))
        }
        None => party.to_owned(),
    }
}

fn plays_back_the_same(recorded: &Recorded) {
    let Recorded { recording, parties } = recorded;
    let replayed = again(recording);
    assert_eq!(replayed.difference(), None, "{recording}");
    assert_eq!(replayed.loops.len(), recording.loops.len());
    for (log, played) in recording.loops.iter().zip(&replayed.loops) {
        assert_eq!(played.entries, log.entries().count() as u64, "{} of {recording}", played.name);
        assert!(matches!(played.end, LoopEnd::AsRecorded(_)), "{}: {}", played.name, played.end);
        let (_, party) = parties.iter().find(|(name, _)| *name == played.name).expect("every loop has one");
        assert_eq!(
            own_state(party),
            own_state(played.party.as_deref().unwrap_or_default()),
            "{}",
            played.name
        );
    }
    assert_eq!(replayed.failure.as_ref(), recording.failure());
}

fn passes_and_plays_back_the_same(workload: WorkloadKind, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let recorded = record(&Wanted::plain(plan(workload, seed)));
        assert_eq!(recorded.recording.failure(), None, "seed {seed}");
        plays_back_the_same(&recorded);
    }
}

#[test]
fn an_episode_of_echo_plays_back_call_by_call() {
    passes_and_plays_back_the_same(WorkloadKind::Echo, 0..6);
}

#[test]
fn an_episode_of_wake_plays_back_call_by_call() {
    passes_and_plays_back_the_same(WorkloadKind::Wake, 0..6);
}

#[test]
fn an_episode_under_load_plays_back_and_its_file_says_which_load() {
    for workload in WorkloadKind::ALL {
        for rate_per_s in [None, Some(500)] {
            let load = Load { connections: 5, rate_per_s, duration_ns: 150_000_000 };
            let plan = Plan { load: Some(load), ..plan(workload, 3) };
            let recorded = record(&Wanted::plain(plan));
            assert_eq!(recorded.recording.failure(), None, "{plan:?}");
            plays_back_the_same(&recorded);
            let file = recorded.recording.to_bytes();
            assert_eq!(Recording::from_bytes(&file).expect("it is whole").plan, plan);
        }
    }
}

#[test]
fn an_episode_of_timers_plays_back_call_by_call() {
    passes_and_plays_back_the_same(WorkloadKind::Timers, 0..3);
}

#[test]
fn an_episode_of_a_cluster_plays_back_call_by_call() {
    passes_and_plays_back_the_same(WorkloadKind::Cluster, 0..4);
}

#[test]
fn messages_beyond_a_budget_are_delivered_in_the_turns_in_which_they_were() {
    for messages_per_turn in [1, 2, 3] {
        let config = Config { messages_per_turn, mailbox_messages_max: 5, ..Config::default() };
        for seed in 0..6 {
            let wanted = Wanted { config: config.clone(), ..Wanted::plain(plan(WorkloadKind::Wake, seed)) };
            plays_back_the_same(&record(&wanted));
        }
    }
}

/// The first seed of a plan in which `loop_name` receives often enough.
fn flawed(flaw: Flaw) -> Recorded {
    let found = (0..40).find_map(|seed| {
        let flaw = ("service 0".to_owned(), flaw);
        let recorded = record(&Wanted { flaw, ..Wanted::plain(plan(WorkloadKind::Echo, seed)) });
        recorded.recording.failure().is_some().then_some(recorded)
    });
    found.expect("one of 40 episodes fails")
}

#[test]
fn a_lost_byte_is_found_again_at_the_same_call() {
    let recorded = flawed(Flaw::LoseByte(1));
    let failure = recorded.recording.failure().expect("it fails");
    assert_eq!(failure.invariant, "byte-stream", "{failure}");
    plays_back_the_same(&recorded);
}

#[test]
fn a_panic_is_found_again_at_the_same_call() {
    let recorded = flawed(Flaw::Panic(1));
    assert_eq!(recorded.recording.failure().map(|failure| failure.invariant.as_str()), Some("panic"));
    let replayed = again(&recorded.recording);
    let service = replayed.loops.iter().find(|played| played.name == "service 0").expect("it was recorded");
    // The call itself panicked, so that it has no result to be played.
    let log = &recorded.recording.loops[0];
    assert_eq!(service.entries + 1, log.entries().count() as u64);
    assert!(matches!(&service.end, LoopEnd::Parted(difference) if difference.now.starts_with("recv")));
}

#[test]
fn a_loop_that_slept_for_ever_sleeps_again() {
    let flaw = ("service 0".to_owned(), Flaw::Sleep(1));
    let finish_within = std::time::Duration::from_millis(300);
    let wanted = Wanted { flaw, finish_within, ..Wanted::plain(plan(WorkloadKind::Wake, 1)) };
    let recorded = record(&wanted);
    let failure = recorded.recording.failure().expect("messages were never handled").clone();
    assert_eq!(failure.invariant, "lost-wakeup");
    let replayed = again(&recorded.recording);
    assert_eq!(replayed.loops[0].end, LoopEnd::Asleep);
    assert_eq!(replayed.failure, Some(failure));
}

/// As if the loop were another one now: the recording has a call more, or one less, or other bytes.
#[test]
fn the_first_difference_is_named_with_both_sides() {
    let recorded = record(&Wanted::plain(plan(WorkloadKind::Echo, 0)));
    let mut other = recorded.recording.clone();
    // Another plan sends other bytes in other amounts, or has other loops.
    let replayed: Vec<Replay> = (1..20)
        .map(|seed| {
            other.plan.seed = seed;
            again(&other)
        })
        .collect();
    assert!(replayed.iter().all(|replayed| !replayed.is_faithful()));
    let (played, difference) = replayed.iter().find_map(Replay::difference).expect("one has as many loops");
    assert!(difference.entry > 0 && difference.recorded != difference.now, "{}: {difference}", played.name);

    // Other limits ask for other amounts in the same calls.
    let mut other = recorded.recording.clone();
    other.config.read_bytes -= 1;
    let replayed = again(&other);
    let (_, difference) = replayed.difference().expect("reads ask for one byte less");
    assert!(difference.recorded.contains("recv(fd"), "{difference}");
    assert!(
        difference.recorded.contains("65536 bytes") && difference.now.contains("65535 bytes"),
        "{difference}"
    );
}

#[test]
fn a_recording_holds_the_episode_and_is_read_as_it_was_written() {
    let recorded = record(&Wanted::plain(plan(WorkloadKind::Echo, 2)));
    let bytes = recorded.recording.to_bytes();
    let read = Recording::from_bytes(&bytes).expect("it was written here");
    assert_eq!(read.loops, recorded.recording.loops);
    assert_eq!(
        (read.plan, read.nobody, &read.verdict),
        (recorded.recording.plan, recorded.recording.nobody, &recorded.recording.verdict)
    );
    assert_eq!(read.to_bytes(), bytes);
    plays_back_the_same(&Recorded { recording: read, parties: recorded.parties });
}

#[test]
fn a_recording_that_was_cut_off_plays_as_far_as_it_goes() {
    let recorded = record(&Wanted::plain(plan(WorkloadKind::Cluster, 2)));
    let bytes = recorded.recording.to_bytes();
    for length in (0..bytes.len()).step_by(bytes.len() / 60) {
        match Recording::from_bytes(&bytes[..length]) {
            Ok(part) => {
                assert!(part.verdict.is_none());
                assert_eq!(again(&part).difference(), None, "{length} bytes");
            }
            Err(error) => assert!(matches!(error, FileError::Truncated | FileError::Foreign(_)), "{error}"),
        }
    }
}

#[test]
fn damage_is_refused_by_its_place() {
    let bytes = record(&Wanted::plain(plan(WorkloadKind::Wake, 2))).recording.to_bytes();
    for place in (20..bytes.len()).step_by(bytes.len() / 80) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        if let Ok(part) = Recording::from_bytes(&damaged) {
            assert!(part.verdict.is_none(), "byte {place}");
        }
    }
}

#[test]
fn a_recording_at_its_bound_says_that_it_was_cut() {
    // A chunk is counted when it is full, so that the bound is reached after several of them.
    let under_load = |duration_ns| {
        let load = Some(Load { connections: 20, rate_per_s: None, duration_ns });
        let plan = Plan { workload: WorkloadKind::Echo, seed: 1, load };
        record(&Wanted { bytes_max: 1, ..Wanted::plain(plan) }).recording
    };
    let is_cut = |recording: &Recording| recording.loops.iter().any(|log| log.cut);
    // However slow the machine is.
    let recording = (28..36).map(|bits| under_load(1 << bits)).find(is_cut).expect("that moves megabytes");
    let log = recording.loops.iter().find(|log| log.cut).unwrap();
    let replayed = again(&recording);
    let played = replayed.loops.iter().find(|played| played.name == log.name()).unwrap();
    assert!(log.entries().all(|entry| !matches!(entry, Entry::End(_))));
    assert!(matches!(played.end, LoopEnd::Asleep | LoopEnd::LogEnds), "{}", played.end);
}

/// Entries that nobody recorded, cut out of real ones and changed: reading refuses them, or playing them ends.
#[test]
fn noise_between_entries_is_refused_or_played_to_an_end() {
    let real = record(&Wanted::plain(plan(WorkloadKind::Echo, 0))).recording.to_bytes();
    let mut decisions = sim::Decisions::from_seed(7);
    let mut draw = |bound: u64| decisions.draw(sim::Domain::Workload, sim::Site("noise"), 0, bound) as usize;
    for _ in 0..400 {
        // Workload, seed, role, poller, addresses; then one frame.
        let mut input = vec![0, 0, 0, draw(2) as u8, 0, 0, 0];
        let (from, length) = (draw(real.len() as u64), draw(600));
        input.extend(real[from..].iter().take(length));
        input[6] = (length >> 8) as u8;
        input.insert(6, length as u8);
        for _ in 0..draw(4) {
            let place = draw(input.len() as u64);
            input[place] = draw(256) as u8;
        }
        RealRecording::check(&input);
    }
}
