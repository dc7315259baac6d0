//! `sim scale`: runs with very many connections, and what they cost.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use sim::crowd::Crowd;
use sim::decision::seed::{Seed, seed_of_run};
use sim::runner::Outcome;
use sim::{Decisions, Kernel};

use super::report::{WallClock, grouped, write_line};
use super::{Trouble, parse_kernel};

/// Small sizes are run again until they have taken this long, so that their time means something.
const SECONDS_MIN: f64 = 1.0;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many connections are open at once; several sizes are run from the smallest on
    #[arg(
        long,
        value_name = "N,N...",
        value_delimiter = ',',
        default_value = "1000,10000,100000,200000",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(Crowd::CONNECTIONS_MAX))
    )]
    connections: Vec<u32>,
    /// Kernel of every host; see `sim list`
    #[arg(long, value_name = "K", value_parser = parse_kernel, default_value = "linux", env = "SIM_KERNEL", hide_env = true)]
    kernel: Kernel,
    /// Seed: decimal, 0x and hex digits, or a 40-digit commit hash
    #[arg(long, value_name = "S", default_value = "0x0000000000000000", env = "SIM_SEED", hide_env = true)]
    seed: Seed,
    /// Prints one JSON object for each size
    #[arg(long)]
    json: bool,
}

/// What one size cost.
struct Size {
    connections: u32,
    /// Of the first run.
    outcome: Outcome,
    runs: u64,
    calls: u64,
    wall_s: f64,
    /// What the thread had of a processor, where the system tells: on a busy machine this is what the runs cost.
    processor_s: Option<f64>,
    /// The most memory that the process had resident, in KiB, where the system tells.
    resident_kib: Option<u64>,
}

impl Size {
    fn ns_per_call(&self) -> f64 {
        self.processor_s.unwrap_or(self.wall_s) * 1e9 / self.calls.max(1) as f64
    }

    fn steps_per_call(&self) -> f64 {
        self.outcome.work.steps as f64 / self.outcome.work.calls.max(1) as f64
    }

    /// What the process had before the first run is no connection's.
    fn bytes_per_connection(&self, before_kib: Option<u64>) -> Option<u64> {
        Some(self.resident_kib?.saturating_sub(before_kib?) * 1024 / u64::from(self.connections))
    }
}

pub(super) fn scale(arguments: &Arguments) -> Result<u8, Trouble> {
    let mut connections = arguments.connections.clone();
    connections.sort_unstable();
    connections.dedup();
    let mut out = io::stdout().lock();
    if !arguments.json {
        writeln!(
            out,
            "{:>11} {:>12} {:>11} {:>10} {:>11} {:>10} {:>9} {:>9} {:>10}",
            "connections",
            "calls",
            "messages",
            "virtual",
            "steps/call",
            "most",
            "ns/call",
            "MiB",
            "bytes/conn"
        )?;
    }
    forget_peak();
    let before_kib = peak_kib();
    let mut sizes = Vec::with_capacity(connections.len());
    for connections in connections {
        let crowd = Crowd { connections, kernel: arguments.kernel };
        let size = measure(crowd, arguments.seed.0)?;
        if let Some(failure) = &size.outcome.failure {
            eprintln!("sim: {connections} connections: {}: {}", failure.oracle, failure.details);
            return Ok(failure.oracle.exit_code());
        }
        if arguments.json {
            write_line(&mut out, &SizeObject::of(&size, arguments, before_kib))?;
        } else {
            write_row(&mut out, &size, before_kib)?;
        }
        out.flush()?;
        sizes.push(size);
    }
    if let ([first, .., last], false) = (sizes.as_slice(), arguments.json) {
        let times = f64::from(last.connections) / f64::from(first.connections);
        let logarithm = f64::from(last.connections).log2() / f64::from(first.connections).log2();
        writeln!(
            out,
            "\nfrom first to last: {times:.0} times the connections, whose logarithm grows {logarithm:.2} times; \
             steps per call {:.2} times, time per call {:.2} times",
            last.steps_per_call() / first.steps_per_call(),
            last.ns_per_call() / first.ns_per_call(),
        )?;
    }
    Ok(0)
}

fn write_row(out: &mut impl Write, size: &Size, before_kib: Option<u64>) -> io::Result<()> {
    let Size { connections, outcome, resident_kib, .. } = size;
    let or_nothing = |number: Option<u64>| number.map_or("-".to_owned(), grouped);
    writeln!(
        out,
        "{:>11} {:>12} {:>11} {:>8.1} s {:>11.2} {:>10} {:>9.0} {:>9} {:>10}",
        grouped(u64::from(*connections)),
        grouped(outcome.work.calls),
        grouped(outcome.messages),
        outcome.virtual_ns as f64 / 1e9,
        size.steps_per_call(),
        grouped(outcome.work.steps_of_a_call_max),
        size.ns_per_call(),
        or_nothing(resident_kib.map(|kib| kib / 1024)),
        or_nothing(size.bytes_per_connection(before_kib)),
    )
}

#[derive(Serialize)]
struct SizeObject {
    connections: u32,
    /// Those that were open, or whose last segments were under way, at once.
    connections_peak: usize,
    kernel: &'static str,
    seed: String,
    calls: u64,
    messages: u64,
    virtual_s: f64,
    steps: u64,
    steps_per_call: f64,
    steps_of_a_call_max: u64,
    runs: u64,
    wall_s_per_run: f64,
    processor_s_per_run: Option<f64>,
    ns_per_call: f64,
    resident_peak_kib: Option<u64>,
    resident_bytes_per_connection: Option<u64>,
    trace_hash: String,
}

impl SizeObject {
    fn of(size: &Size, arguments: &Arguments, before_kib: Option<u64>) -> SizeObject {
        let Size { connections, outcome, runs, wall_s, processor_s, resident_kib, .. } = size;
        SizeObject {
            connections: *connections,
            connections_peak: outcome.connections_peak,
            kernel: arguments.kernel.name(),
            seed: arguments.seed.to_string(),
            calls: outcome.work.calls,
            messages: outcome.messages,
            virtual_s: outcome.virtual_ns as f64 / 1e9,
            steps: outcome.work.steps,
            steps_per_call: size.steps_per_call(),
            steps_of_a_call_max: outcome.work.steps_of_a_call_max,
            runs: *runs,
            wall_s_per_run: wall_s / *runs as f64,
            processor_s_per_run: processor_s.map(|seconds| seconds / *runs as f64),
            ns_per_call: size.ns_per_call(),
            resident_peak_kib: *resident_kib,
            resident_bytes_per_connection: size.bytes_per_connection(before_kib),
            trace_hash: format!("{:#018x}", outcome.trace_hash),
        }
    }
}

/// Runs one size on a thread of its own, as often as its time needs, and shows how far it is.
fn measure(crowd: Crowd, seed: u64) -> Result<Size, Trouble> {
    let messages = Arc::new(AtomicU64::new(0));
    let bar = progress_bar(&crowd);
    let (sender, receiver) = mpsc::channel();
    let told = Arc::clone(&messages);
    let runs = move || {
        forget_peak();
        let clock = WallClock::start();
        let processor_before_s = processor_s();
        let since_s = || Some(processor_s()? - processor_before_s?);
        let outcome = crowd.run(Decisions::from_seed(seed), Some(Arc::clone(&told)));
        let resident_kib = peak_kib();
        let mut size = Size {
            connections: crowd.connections,
            runs: 1,
            calls: outcome.steps,
            wall_s: clock.seconds(),
            processor_s: since_s(),
            resident_kib,
            outcome,
        };
        while size.wall_s < SECONDS_MIN && size.outcome.failure.is_none() {
            let outcome =
                crowd.run(Decisions::from_seed(seed_of_run(seed, size.runs)), Some(Arc::clone(&told)));
            size.outcome.failure = outcome.failure;
            size.runs += 1;
            size.calls += outcome.steps;
            size.wall_s = clock.seconds();
            size.processor_s = since_s();
        }
        // Nobody listens any more only when the process ends.
        let _ = sender.send(size);
    };
    let worker = thread::Builder::new()
        .name("scale".to_owned())
        .spawn(runs)
        .map_err(|error| Trouble::InputOutput(format!("cannot start a thread: {error}")))?;
    let size = loop {
        match receiver.recv_timeout(Duration::from_millis(200)) {
            Ok(size) => break Some(size),
            Err(mpsc::RecvTimeoutError::Timeout) => bar.set_position(messages.load(Ordering::Relaxed)),
            Err(mpsc::RecvTimeoutError::Disconnected) => break None,
        }
    };
    bar.finish_and_clear();
    match (worker.join(), size) {
        (Ok(()), Some(size)) => Ok(size),
        _ => Err(Trouble::InputOutput("the thread that runs the simulation has panicked".to_owned())),
    }
}

/// On standard error, and only on a terminal.
fn progress_bar(crowd: &Crowd) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{wide_bar} {human_pos}/{human_len} messages of {msg} connections  {eta} left";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let bar = ProgressBar::with_draw_target(Some(crowd.messages_of_clients()), target).with_style(style);
    bar.set_message(grouped(u64::from(crowd.connections)));
    bar
}

/// The time that this thread has had of a processor.
fn processor_s() -> Option<f64> {
    let ns: u64 =
        std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()?;
    Some(ns as f64 / 1e9)
}

/// The most memory that this process has had resident since the start, or since [`forget_peak`], where the system tells.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Lets the peak begin anew at what is resident now. Where that is not possible it stays that of the largest size so far,
/// which is this one: sizes grow.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
