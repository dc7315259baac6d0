//! The workloads of `sim` on real sockets, and servers for clients that nobody here wrote.

mod hold;
mod machine;
mod member;
mod night;
mod poller;
mod report;
mod run;
mod serve;

use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sim::decision::seed::Seed;
use sim::workload::WorkloadKind;

use poller::Backend;

/// Why a command ended without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line asks for something that does not exist.
    Usage(String),
    /// The machine refuses: a port in use, no permission, too few descriptors.
    Machine(String),
    /// An invariant was broken.
    Invariant(String),
    /// Something that was owed did not come.
    Liveness(String),
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Failure {
    /// What is said of it.
    pub(crate) fn text(&self) -> &str {
        match self {
            Failure::Usage(text)
            | Failure::Machine(text)
            | Failure::Invariant(text)
            | Failure::Liveness(text) => text,
            Failure::Interrupted => "interrupted",
        }
    }

    /// The same, with the episode in which it happened.
    pub(crate) fn in_episode(self, episode: u64, seed: Seed) -> Failure {
        let place = |text: String| format!("{text}\n  in episode {episode}, whose plan has the seed {seed}");
        match self {
            Failure::Invariant(text) => Failure::Invariant(place(text)),
            Failure::Liveness(text) => Failure::Liveness(place(text)),
            other => other,
        }
    }

    fn report(&self) -> ExitCode {
        eprintln!("soak: {}", self.text());
        ExitCode::from(match self {
            Failure::Usage(_) => 2,
            Failure::Machine(_) => 7,
            Failure::Invariant(_) => 1,
            Failure::Liveness(_) => 3,
            Failure::Interrupted => 130,
        })
    }
}

/// Prints a line; a reader that has gone away is no failure.
pub(crate) fn say(line: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Machine(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// The reactor on real sockets: servers for real clients, and the simulator's workloads with the simulator's oracles.
#[derive(Parser)]
#[command(
    name = "soak",
    version,
    after_help = "Examples:\n  \
        soak serve echo --port 7000                 then: echo hello | nc -N 127.0.0.1 7000\n  \
        soak hold --port 7000 --connections 5000    holds 5,000 connections to it, all echoing\n  \
        soak run --workload echo --seconds 60       clients, service and oracles over loopback\n  \
        soak night --hours 8 --out DIR              all of it; soak/overnight.sh builds what it needs first\n  \
        soak report DIR                             DIR/report.html: latency, throughput, memory over the hours\n\n\
        Exit codes: 0 pass (also a server that Ctrl-C stopped), 1 invariant broken, 2 usage, 3 liveness,\n\
        7 the machine refuses, 130 interrupted."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve real TCP clients until interrupted
    Serve {
        /// What to serve; `echo` sends every byte back
        workload: String,
        /// The port to listen on; 0 takes a free one and prints it
        #[arg(long)]
        port: u16,
        /// The address to listen on
        #[arg(long, default_value = "127.0.0.1")]
        address: IpAddr,
    },
    /// Run a workload of the simulator over real loopback sockets, with the simulator's oracles
    Run {
        /// The workload: echo, wake, cluster or timers
        #[arg(long)]
        workload: String,
        /// How long, in seconds
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// What the plans of the episodes are drawn from: decimal, 0x hex, or a commit
        #[arg(long, default_value = "1")]
        seed: String,
        /// How many episodes run at a time; each has threads of its own
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
        lanes: u32,
        /// What the loops wait with: epoll or kqueue. The system's own if left out; the other one, kqueue on Linux, goes
        /// through the C library libkqueue
        #[arg(long)]
        poller: Option<String>,
        /// Print one JSON object at the end instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Open connections to an echo server, check each, hold them idle, check each again
    Hold {
        /// The server's port
        #[arg(long)]
        port: u16,
        /// The server's address
        #[arg(long, default_value = "127.0.0.1")]
        address: IpAddr,
        /// How many connections to hold at once
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        connections: u32,
        /// How long to hold them idle, in seconds
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Run the workloads, fresh seeds of the simulator and the fuzz targets for hours, under one folder
    Night(night::Arguments),
    /// Draw what a soak or a night measured, as one self-contained page; compare two soaks
    Report(report::Arguments),
    /// Keep one part of a night
    #[command(hide = true)]
    Keep(night::keeper::Arguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            // clap adds usage and tips on further paragraphs; the first one says what is wrong.
            let text = error.to_string();
            let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            let first = first.join(" ");
            return Failure::Usage(first.strip_prefix("error: ").unwrap_or(&first).to_owned()).report();
        }
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let outcome = match arguments.command {
        Command::Serve { workload, port, address } => serve::serve(&workload, (address, port).into()),
        Command::Run { workload, seconds, seed, lanes, poller, json } => {
            run_options(&workload, seconds, &seed, lanes, poller.as_deref(), json)
                .and_then(|options| run::run(&options))
        }
        Command::Hold { port, address, connections, seconds } => {
            hold::hold((address, port).into(), connections, seconds)
        }
        Command::Night(arguments) => {
            return night::night(&arguments).unwrap_or_else(|failure| failure.report());
        }
        Command::Report(arguments) => report::report(&arguments),
        Command::Keep(arguments) => night::keeper::keep(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run_options(
    workload: &str,
    seconds: u64,
    seed: &str,
    lanes: u32,
    poller: Option<&str>,
    json: bool,
) -> Result<run::Options, Failure> {
    let Some(workload) = WorkloadKind::from_name(workload) else {
        let names = WorkloadKind::ALL.map(WorkloadKind::name).join(", ");
        return Err(Failure::Usage(format!("there is no workload {workload}; there are {names}")));
    };
    let seed: Seed = seed.parse().map_err(|error| Failure::Usage(format!("--seed {seed}: {error}")))?;
    let backend = Backend::with_poller(poller)?;
    Ok(run::Options { workload, seconds, seed: seed.0, lanes, json, backend })
}
