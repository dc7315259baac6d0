//! The simulated kernel with many connections: what a call costs, in counted steps, hardly depends on how many there are.
//! `sim scale` shows the same with time and memory, up to 200,000 connections.

use reactor::sys::{Family, Syscalls};
use sim::crowd::{Crowd, MESSAGES};
use sim::runner::Outcome;
use sim::{Decisions, Kernel, SharedWorld, Swarm, WorldOptions};

/// Powers of two, so that their logarithms are whole numbers.
const SIZES: [u32; 3] = [1 << 10, 1 << 12, 1 << 14];

fn crowd(connections: u32, kernel: Kernel) -> Outcome {
    let outcome = Crowd { connections, kernel }.run(Decisions::from_seed(7), None);
    assert_eq!(outcome.failure, None, "{connections} connections on {kernel}");
    outcome
}

#[test]
fn all_connections_are_open_at_once_and_every_message_comes_back() {
    for kernel in Kernel::ALL {
        let outcome = crowd(SIZES[1], kernel);
        assert_eq!(outcome.connections_peak, SIZES[1] as usize);
        assert_eq!(outcome.messages_of_clients, u64::from(SIZES[1]) * MESSAGES);
    }
}

#[test]
fn steps_per_call_grow_no_faster_than_the_logarithm_of_the_connections() {
    for kernel in Kernel::ALL {
        let [first, rest @ ..] = SIZES.map(|size| (size, crowd(size, kernel).work));
        for (size, work) in rest {
            let (steps, steps_before) = (work.millisteps_per_call(), first.1.millisteps_per_call());
            let (logarithm, logarithm_before) = (u64::from(size.ilog2()), u64::from(first.0.ilog2()));
            assert!(
                steps * logarithm_before <= steps_before * logarithm,
                "{kernel}: {steps_before} thousandths of a step per call at {} connections, {steps} at {size}",
                first.0
            );
        }
    }
}

#[test]
fn no_single_call_looks_at_all_connections() {
    for kernel in Kernel::ALL {
        for size in SIZES {
            let most = crowd(size, kernel).work.steps_of_a_call_max;
            // A wait brings up to 256 events, each with a few steps; everything else takes far fewer.
            assert!(most < 1_000, "{kernel}, {size} connections: {most} steps in one call");
        }
    }
}

#[test]
fn steps_are_decided_by_the_seed() {
    let [a, b] = [(); 2].map(|()| crowd(SIZES[0], Kernel::Linux));
    assert_eq!((a.work, a.trace_hash), (b.work, b.trace_hash));
}

#[test]
fn the_lowest_free_descriptor_is_found_in_a_few_steps_wherever_it_is() {
    const DESCRIPTORS: usize = 50_000;
    let options = WorldOptions {
        swarm: Some(Swarm::calm(sim::Latency { min_ns: 0, max_ns: 0 })),
        descriptor_limit: DESCRIPTORS + 3,
        ..WorldOptions::default()
    };
    let world = SharedWorld::new(options, Decisions::from_seed(0));
    let host = world.add_host(Kernel::Linux);
    let mut calls = world.add_thread(host);
    let mut open: Vec<_> =
        (0..DESCRIPTORS).map(|_| calls.socket(Family::V4).expect("a number is free")).collect();
    assert!(calls.socket(Family::V4).is_err(), "the table is full");
    // Two numbers far apart: whoever takes the lower one has to find the higher one next.
    for round in 0..100 {
        let (low, high) = (round, DESCRIPTORS - 1 - round);
        calls.close(open[high]).expect("it is open");
        calls.close(open[low]).expect("it is open");
        for place in [low, high] {
            let fd = calls.socket(Family::V4).expect("a number is free");
            assert_eq!(fd, open[place], "the lowest free number");
            open[place] = fd;
        }
    }
    let most = world.work().steps_of_a_call_max;
    assert!(most < 32, "{most} steps in one call");
}
