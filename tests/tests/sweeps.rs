//! Fixed seeds of every workload, under every kernel and in every weather.

use sim::sweep::check_seeds;
use sim::{Kernel, RunOptions, Weather, WorkloadKind};

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
