//! Fixed seeds of every workload, under every kernel and in every weather.

use std::collections::BTreeSet;

use reactor::sys::Errno;
use sim::decision::seed::seed_of_run;
use sim::runner::run;
use sim::sweep::check_seeds;
use sim::trace::{CallKind, CallRecord, Outcome, TraceEntry};
use sim::{Decisions, Kernel, RunOptions, Weather, WorkloadKind};

const RUNS: u64 = 60;

fn sweep(workload: WorkloadKind) {
    for kernel in Kernel::ALL {
        for weather in Weather::ALL {
            let options = RunOptions {
                workload: Some(workload),
                kernel: Some(kernel),
                weather: Some(weather),
                ..RunOptions::default()
            };
            check_seeds(&options, 0x51ed, RUNS);
        }
    }
}

#[test]
fn echo_holds_everywhere() {
    sweep(WorkloadKind::Echo);
}

#[test]
fn wake_holds_everywhere() {
    sweep(WorkloadKind::Wake);
}

#[test]
fn timers_hold_everywhere() {
    sweep(WorkloadKind::Timers);
}

#[test]
fn bytes_of_a_fuzzer_are_decisions_too() {
    for workload in WorkloadKind::ALL {
        sim::check_bytes(workload, &[]);
        sim::check_bytes(workload, b"any bytes at all will do, and these are some");
        let all: Vec<u8> = (0..=255).cycle().take(4000).collect();
        sim::check_bytes(workload, &all);
    }
}

/// An error after which a connection takes no bytes any more.
fn is_final(outcome: Outcome) -> bool {
    let Outcome::Error(error) = outcome else { return false };
    !matches!(error, Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENOMEM)
}

/// Calls that write to a descriptor of which a write has failed before, since it was opened.
fn useless_writes(calls: impl Iterator<Item = CallRecord>) -> (usize, Vec<String>) {
    let (mut failed, mut dead, mut useless) = (0, BTreeSet::new(), Vec::new());
    for call in calls {
        let of = (call.thread.0, call.fd);
        match call.call {
            CallKind::Close => _ = dead.remove(&of),
            CallKind::Send | CallKind::Sendmsg if dead.contains(&of) => useless.push(call.to_string()),
            CallKind::Send | CallKind::Sendmsg if is_final(call.outcome) => {
                failed += 1;
                dead.insert(of);
            }
            _ => {}
        }
    }
    (failed, useless)
}

#[test]
fn nothing_is_written_to_a_connection_after_a_write_has_failed() {
    let options = RunOptions { workload: Some(WorkloadKind::Echo), ..RunOptions::default() }.recorded();
    let mut failed = 0;
    // The first one once made two calls where the first had said all.
    for seed in (0..300).map(|index| seed_of_run(0x3da3_1bc5_bf0c_824f, index)) {
        let outcome = run(&options, Decisions::from_seed(seed));
        let calls = outcome.trace.iter().filter_map(|entry| match entry {
            TraceEntry::Call(call) => Some(*call),
            TraceEntry::Note { .. } => None,
        });
        let (failed_here, useless) = useless_writes(calls);
        failed += failed_here;
        assert!(useless.is_empty(), "seed {seed:#018x}: {useless:?}");
    }
    assert!(failed > 20, "only {failed} writes failed, so nothing was shown");
}
