//! What can be asked for, and how the process ends.

mod conform;
mod engine;
mod environment;
mod faults;
mod import;
mod input;
mod keep;
mod list;
mod merge;
mod recording;
mod records;
mod regression;
mod replay;
mod report;
mod run;
mod scale;
mod seeds;
mod shrink;
mod trace;

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sim::fault::UnknownFault;
use sim::runner::RunOptions;
use sim::{FaultSet, FaultSwitches, Kernel, Lapse, ObligationCheck, Weather, WorkloadKind};

/// Exit code for a command line or an input that makes no sense.
const USAGE: u8 = 2;
/// Exit code of a kept run that went another way than it did when it was kept.
const DID_NOT_REPRODUCE: u8 = 6;
/// Exit code for a file that cannot be read, or an output that cannot be written.
const INPUT_OUTPUT: u8 = 7;

/// Runs the shipping event loop on a simulated kernel, from seeds, and replays any of them.
#[derive(Debug, Parser)]
#[command(name = "sim", version, max_term_width = 100, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  sim run                                  1000 seeds over all workloads, kernels and weathers
  sim run --runs 100000 --workload echo    more of one workload
  sim run --seed $(git rev-parse HEAD)     seeds that change with each commit
  sim run --json | tail -1                 the summary as one object
  sim run --shard 2/4 --records 2.jsonl    a quarter of the runs, and a record of each
  sim merge *.jsonl                        what four machines found, as one
  sim scale                                1,000 to 200,000 connections at once: time, memory, counted steps
  sim run --faults late-waits,lost-syns    only these faults; see `sim faults`
  sim replay 0x00000000000051ed            the calls of one run, readable
  sim trace 0x00000000000051ed --format html --out run.html    the same, as a picture
  sim replay fuzz/artifacts/loop_echo/crash-1f3a    an input that the fuzzer found

Exit codes: 0 pass, 1 invariant broken, 2 usage: a command line or the content of a file makes no sense, 3 liveness, 4 panic,
5 non-determinism, 6 did not reproduce, 7 input or output: a file is missing or cannot be read or written, 130 interrupted.
A sweep ends with the code of its failing run of lowest index.

Variables: SIM_SEED, SIM_RUNS, SIM_JOBS, SIM_SHARD, SIM_CHECK_DETERMINISM, SIM_OUT, SIM_WORKLOAD, SIM_KERNEL, SIM_WEATHER, SIM_FAULTS, SIM_WITHOUT_FAULTS
and SIM_SUPPRESS_FAULTS stand for the options of their names, where those are not given; other names that begin with SIM_ are refused.";

const INPUTS: &str = "\
Examples:
  sim replay 0x00000000000051ed --workload echo    a run of a sweep, by its seed
  sim shrink sim-failures/echo-00000000000051ed.simlog    a run that a sweep kept
  sim trace fuzz/artifacts/loop_echo/crash-1f3a --format html --out crash.html    an input that the fuzzer found

What is given is a seed - decimal, 0x and hex digits, or a 40-digit commit hash - or else a file. A file is taken for
  a kept run               if it begins with `sim-log`, or its name ends in .simlog
  a recording              if it begins with `sim-recording`, or its name ends in .simrec: real sockets, as `soak` took them
                           down; `sim replay` plays it, `sim trace` shows it as text or json;
                           of an episode in several processes, `sim replay` takes the recordings of all of them
  a regression             if it begins with `sim-regression 1`, or its name ends in .regression
  a script of decisions    if it begins with `sim-script 1`
  the bytes of a fuzzer    if --workload says of which workload, or its name or its folder's does: fuzz/artifacts/loop_echo/crash-1f3a,
                           clusterfuzz-testcase-loop_echo-4567; standard error says that it was taken so
Any other file is refused. Of a kept run that was cut off, what is left is used, and standard error says so.

Exit codes: 0 done, 2 usage: a command line or the content of a file makes no sense, or a run that was to fail passes,
6 a kept run did not reproduce, 7 input or output: a file is missing or cannot be read or written, 130 interrupted.
`sim replay` ends with the code of a failing run: 1 invariant broken, 3 liveness, 4 panic.";

const MERGING: &str = "\
Exit codes: that of the failing run of lowest index (1 invariant broken, 3 liveness, 4 panic), 5 if one run of one build had two
trace hashes, 0 if all passed, 2 usage: a command line or the content of a file makes no sense, 7 input or output: a file is missing
or cannot be read or written, or runs are missing (see --partial), or the last line of a file contradicts the others.";

const IMPORTING: &str = "\
Examples:
  sim import failures/echo-episode-7-0x00000000000051ed.simrec    the loop that saw the failure
  sim import night.simrec --loop 'client 1' --out client.simlog   another loop of the same episode
  sim shrink client.simlog                                        to the few acts of its peers that matter

One loop of the recording runs on the simulated kernel; peers and other threads do what it was given, at the times that follow from its
calls. `imposed` counts decisions that are not benign; a drift is a result that the simulated kernel did not give, with both sides;
where the loop asks something else nothing is compared from there on. The kept run needs the recording no more.

Exit codes: 0 imported, and what was recorded of the episode's end came back: its failure, or none, 6 it did not come back, 2 usage: a command line
or the content of a file makes no sense, 7 input or output: a file is missing or cannot be read or written.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists workloads, kernels, weathers and oracles
    List,
    /// Lists the kinds of fault: what each does, why it is legal, under which kernels, how often
    Faults(faults::Arguments),
    /// Runs scripts of system calls on the live kernel and on the simulated one
    Conform(conform::Arguments),
    /// Sweeps seeds, and reports the runs that fail
    #[command(after_help = EXAMPLES)]
    Run(run::Arguments),
    /// Prints the calls of one run, and its verdict
    #[command(after_help = INPUTS)]
    Replay(replay::Arguments),
    /// Makes a failing run small, and keeps the small one
    #[command(after_help = INPUTS)]
    Shrink(shrink::Arguments),
    /// Writes runs that passed as inputs from which the fuzzers of the loop can start
    Seeds(seeds::Arguments),
    /// Makes a failing run a regression, which every test run replays
    #[command(after_help = INPUTS)]
    Keep(regression::Arguments),
    /// Turns a recording of real sockets into a simulated run, compared with it call by call
    #[command(after_help = IMPORTING)]
    Import(import::Arguments),
    /// Shows one run: as text, JSON, a page for a browser, a Perfetto trace, or a capture for Wireshark
    #[command(after_help = INPUTS)]
    Trace(trace::Arguments),
    /// Puts the records of many machines together, and says what they lack
    #[command(after_help = MERGING)]
    Merge(merge::Arguments),
    /// Runs with very many connections, all open at once: calls, counted steps, time and memory
    Scale(scale::Arguments),
    /// Reads a real clock, or real randomness, as if inside a run: the guard ends the process
    #[command(hide = true)]
    Trespass {
        /// `clock` or `randomness`
        what: String,
    },
}

/// What can be fixed of a run. What is not fixed is drawn from the seed.
#[derive(Clone, Debug, Args)]
struct Fixed {
    /// Workload; see `sim list`
    #[arg(long, value_name = "W", value_parser = parse_workload, env = "SIM_WORKLOAD", hide_env = true)]
    workload: Option<WorkloadKind>,
    /// Kernel of every host; see `sim list`
    #[arg(long, value_name = "K", value_parser = parse_kernel, env = "SIM_KERNEL", hide_env = true)]
    kernel: Option<Kernel>,
    /// How much trouble there is; see `sim list`
    #[arg(long, value_name = "W", value_parser = parse_weather, env = "SIM_WEATHER", hide_env = true)]
    weather: Option<Weather>,
    /// Exactly these faults are on, where they are legal; a list with commas; see `sim faults`
    #[arg(long, value_name = "F,F...", value_parser = parse_faults, env = "SIM_FAULTS", hide_env = true)]
    faults: Option<FaultSet>,
    /// These faults are off
    #[arg(long, value_name = "F,F...", value_parser = parse_faults, env = "SIM_WITHOUT_FAULTS", hide_env = true)]
    without_faults: Option<FaultSet>,
    /// These faults are drawn, but nothing comes of them: shows whether one is to blame
    #[arg(long, value_name = "F,F...", value_parser = parse_faults, env = "SIM_SUPPRESS_FAULTS", hide_env = true)]
    suppress_faults: Option<FaultSet>,
    /// A debt that every kernel forgets, so that runs fail: for tests of what comes of a failing run
    #[arg(long, hide = true, value_name = "N", value_parser = parse_lapse)]
    lapse: Option<Lapse>,
}

impl Fixed {
    /// A recording has its own workload, and no simulated kernel.
    fn refuse_for_recording(&self, name: &str) -> Result<(), Trouble> {
        let Fixed { workload, kernel, weather, faults, without_faults, suppress_faults, lapse } = *self;
        let any = workload.is_some() || kernel.is_some() || weather.is_some() || lapse.is_some();
        if any || faults.is_some() || without_faults.is_some() || suppress_faults.is_some() {
            return Err(Trouble::Usage(format!(
                "{name} is a recording of real sockets, of which nothing is drawn: leave out --workload, --kernel, --weather and faults"
            )));
        }
        Ok(())
    }

    fn options(&self) -> RunOptions {
        let Fixed { workload, kernel, weather, faults, without_faults, suppress_faults, lapse } = *self;
        let switches = FaultSwitches {
            only: faults,
            without: without_faults.unwrap_or_default(),
            suppressed: suppress_faults.unwrap_or_default(),
        };
        let mut options = RunOptions { workload, kernel, weather, switches, lapse, ..RunOptions::default() };
        if lapse.is_some() {
            options.obligations = ObligationCheck::Always;
        }
        options
    }
}

fn parse_workload(text: &str) -> Result<WorkloadKind, String> {
    WorkloadKind::from_name(text)
        .ok_or_else(|| unknown(text, WorkloadKind::ALL.map(WorkloadKind::name).as_slice()))
}

fn parse_kernel(text: &str) -> Result<Kernel, String> {
    Kernel::from_name(text).ok_or_else(|| unknown(text, Kernel::ALL.map(Kernel::name).as_slice()))
}

fn parse_weather(text: &str) -> Result<Weather, String> {
    Weather::from_name(text).ok_or_else(|| unknown(text, Weather::ALL.map(Weather::name).as_slice()))
}

fn parse_faults(text: &str) -> Result<FaultSet, String> {
    text.parse().map_err(|error: UnknownFault| error.to_string())
}

fn parse_lapse(text: &str) -> Result<Lapse, String> {
    let lapse = text.parse().ok().and_then(|place: usize| Lapse::ALL.get(place).copied());
    lapse.ok_or_else(|| format!("a number below {}", Lapse::ALL.len()))
}

fn unknown(_: &str, names: &[&str]) -> String {
    format!("there are: {}", names.join(", "))
}

/// Why a command could not do its work.
#[derive(Debug)]
enum Trouble {
    /// The command line, or an input, makes no sense.
    Usage(String),
    /// A kept run did not go as it did.
    DidNotReproduce(String),
    /// A file or an output failed.
    InputOutput(String),
    /// Whoever read our output has gone: nobody is left to be told.
    OutputClosed,
}

impl Trouble {
    fn cannot_read(path: &Path, error: &io::Error) -> Trouble {
        let text = format!("cannot read {}: {error}", path.display());
        match error.kind() {
            // It can be read, and makes no sense.
            io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge => Trouble::Usage(text),
            _ => Trouble::InputOutput(text),
        }
    }

    fn cannot_write(path: &Path, error: &io::Error) -> Trouble {
        Trouble::InputOutput(format!("cannot write {}: {error}", path.display()))
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Trouble::OutputClosed
        } else {
            Trouble::InputOutput(format!("cannot write the output: {error}"))
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Usage(text) | Trouble::DidNotReproduce(text) | Trouble::InputOutput(text) => {
                f.write_str(text)
            }
            Trouble::OutputClosed => f.write_str("the output was closed"),
        }
    }
}

pub(crate) fn main() -> ExitCode {
    if let Some(complaint) = environment::complaint() {
        eprintln!("sim: {complaint}");
        return ExitCode::from(USAGE);
    }
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => {
            use clap::error::ErrorKind;
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    // A reader that has gone needs no help.
                    let _ = error.print();
                    ExitCode::SUCCESS
                }
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    let _ = error.print();
                    ExitCode::from(USAGE)
                }
                _ => {
                    // clap adds usage and tips in further paragraphs; the first one says what is wrong.
                    let text = error.to_string();
                    let first: Vec<&str> =
                        text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
                    let first = first.join(" ");
                    let blamed = environment::blamed(&first).unwrap_or_default();
                    eprintln!("sim: {}{blamed}", first.strip_prefix("error: ").unwrap_or(&first));
                    ExitCode::from(USAGE)
                }
            };
        }
    };
    let ended = match &line.verb {
        Verb::List => list::list(),
        Verb::Faults(arguments) => faults::faults(arguments),
        Verb::Conform(arguments) => conform::conform(arguments),
        Verb::Run(arguments) => run::run(arguments),
        Verb::Replay(arguments) => replay::replay(arguments),
        Verb::Shrink(arguments) => shrink::shrink(arguments),
        Verb::Seeds(arguments) => seeds::seeds(arguments),
        Verb::Keep(arguments) => regression::keep(arguments),
        Verb::Import(arguments) => import::run(arguments),
        Verb::Trace(arguments) => trace::trace(arguments),
        Verb::Merge(arguments) => merge::merge(arguments),
        Verb::Scale(arguments) => scale::scale(arguments),
        Verb::Trespass { what } => trespass(what),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(trouble) => {
            let code = match &trouble {
                Trouble::OutputClosed => return ExitCode::SUCCESS,
                Trouble::Usage(_) => USAGE,
                Trouble::DidNotReproduce(_) => DID_NOT_REPRODUCE,
                Trouble::InputOutput(_) => INPUT_OUTPUT,
            };
            eprintln!("sim: {trouble}");
            ExitCode::from(code)
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is there to show that the guard sees it"
)]
fn trespass(what: &str) -> Result<u8, Trouble> {
    // Elsewhere both are allowed.
    let before = std::time::Instant::now();
    let _inside = sim::guard::Inside::enter();
    match what {
        "clock" => println!("{:?}", std::time::Instant::now().duration_since(before)),
        _ => println!("{:?}", std::collections::HashMap::<u8, u8>::new()),
    }
    Ok(0)
}
