//! The scenario that simulators are compared by: one server and a hundred clients, each on a host and in a loop of its
//! own; 64-byte messages, a hundred round trips each, one at a time; latency of 1 to 100 ms drawn per segment. System
//! call by system call, with the shipping loop on both sides.
//!
//! `cargo bench -p sim --bench scenario [-- --json] [-- --seconds N]`

use sim::decision::seed::seed_of_run;
use sim::runner::setup::Setup;
use sim::runner::{Outcome, RunOptions, run_plan};
use sim::workload::echo::Echo;
use sim::{Decisions, Kernel, Latency, Weather, WorkloadKind};

const CLIENTS: usize = 100;
const ROUND_TRIPS: u64 = 100;
const MESSAGE_BYTES: u64 = 64;
/// A request and its answer are two messages.
const MESSAGES: u64 = CLIENTS as u64 * ROUND_TRIPS * 2;

#[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn scenario(seed: u64, oracles: bool) -> Outcome {
    const MILLISECOND: u64 = 1_000_000;
    let options = RunOptions {
        workload: Some(WorkloadKind::Echo),
        kernel: Some(Kernel::Linux),
        weather: Some(Weather::Calm),
        ..RunOptions::default()
    };
    let mut setup = Setup::plain(WorkloadKind::Echo, Kernel::Linux, Weather::Calm);
    setup.latency = Some(Latency { min_ns: MILLISECOND, max_ns: 100 * MILLISECOND });
    setup.oracles = oracles;
    let mut plan = Echo::scenario(CLIENTS, ROUND_TRIPS, MESSAGE_BYTES);
    plan.set_checks(oracles);
    let outcome = run_plan(&plan, setup, &options, Decisions::from_seed(seed));
    assert_eq!(outcome.failure, None);
    assert_eq!(outcome.messages_of_clients, MESSAGES / 2);
    outcome
}

struct Figures {
    runs: u64,
    seconds: f64,
    calls: u64,
}

impl Figures {
    fn measure(seconds: f64, oracles: bool) -> Figures {
        scenario(0, oracles);
        let began = now();
        let mut figures = Figures { runs: 0, seconds: 0.0, calls: 0 };
        while figures.seconds < seconds {
            figures.calls += scenario(seed_of_run(1, figures.runs), oracles).steps;
            figures.runs += 1;
            figures.seconds = began.elapsed().as_secs_f64();
        }
        figures
    }

    fn messages_per_second(&self) -> f64 {
        (self.runs * MESSAGES) as f64 / self.seconds
    }

    fn runs_per_second(&self) -> f64 {
        self.runs as f64 / self.seconds
    }

    fn ns_per_call(&self) -> f64 {
        self.seconds * 1e9 / self.calls as f64
    }

    fn calls_per_message(&self) -> f64 {
        self.calls as f64 / (self.runs * MESSAGES) as f64
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let seconds = arguments
        .iter()
        .position(|argument| argument == "--seconds")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(3.0);
    let on = Figures::measure(seconds, true);
    let off = Figures::measure(seconds, false);
    let figures = [
        ("messages_per_second", on.messages_per_second()),
        ("runs_per_second", on.runs_per_second()),
        ("ns_per_call", on.ns_per_call()),
        ("calls_per_message", on.calls_per_message()),
        ("messages_per_second_without_oracles", off.messages_per_second()),
    ];
    if json {
        let members: Vec<String> =
            figures.iter().map(|(name, value)| format!("\"{name}\":{value:.2}")).collect();
        println!("{{{}}}", members.join(","));
    } else {
        for (name, value) in figures {
            println!("{:<38} {value:>14.2}", name.replace('_', " "));
        }
    }
}
