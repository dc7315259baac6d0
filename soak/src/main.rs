//! The workloads of `sim` on real sockets, and servers for clients that nobody here wrote.

mod chaos;
mod episode_record;
mod gauge;
mod hold;
mod latency;
mod machine;
mod member;
mod night;
mod poller;
mod report;
mod run;
mod serve;
mod watched;

use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use cap::Cap;
use clap::{Parser, Subcommand};

/// Counts what is allocated, to the byte: the resident set is far too coarse to show what leaks a little.
#[global_allocator]
pub(crate) static ALLOCATOR: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

/// Why a command ended without success.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// The command line asks for something that does not exist.
    Usage(String),
    /// The machine refuses: a port in use, no permission, too few descriptors.
    Machine(String),
    /// An invariant was broken.
    Invariant(String),
    /// Something that was owed did not come.
    Liveness(String),
    /// Something keeps growing.
    Leak(String),
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
            | Failure::Liveness(text)
            | Failure::Leak(text) => text,
            Failure::Interrupted => "interrupted",
        }
    }

    /// The name of its kind.
    pub(crate) const fn class(&self) -> &'static str {
        match self {
            Failure::Usage(_) => "usage",
            Failure::Machine(_) => "machine",
            Failure::Invariant(_) => "invariant",
            Failure::Liveness(_) => "liveness",
            Failure::Leak(_) => "leak",
            Failure::Interrupted => "interrupted",
        }
    }

    /// The same, with the place where it happened.
    pub(crate) fn in_place(self, place: &str) -> Failure {
        let with = |text: String| format!("{text}\n  in {place}");
        match self {
            Failure::Invariant(text) => Failure::Invariant(with(text)),
            Failure::Liveness(text) => Failure::Liveness(with(text)),
            other => other,
        }
    }

    /// The same, with the files that hold what was recorded; whether they are those of the processes of one episode.
    pub(crate) fn recorded(self, written: &Result<Vec<PathBuf>, String>, together: bool) -> Failure {
        let place = |text: String| match written {
            Ok(paths) => {
                let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                // Of several episodes the latest is that of the failure.
                let replayed = match together {
                    true => paths.join(" "),
                    false => paths.last().cloned().unwrap_or_default(),
                };
                format!("{text}\n  recorded in {}\n  replay: sim replay {replayed}", paths.join(", "))
            }
            Err(error) => format!("{text}\n  not recorded: {error}"),
        };
        match self {
            Failure::Invariant(text) => Failure::Invariant(place(text)),
            Failure::Liveness(text) => Failure::Liveness(place(text)),
            other => other,
        }
    }

    /// What the process ends with.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Failure::Invariant(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Liveness(_) => 3,
            Failure::Leak(_) => 4,
            Failure::Machine(_) => 7,
            Failure::Interrupted => 130,
        }
    }

    fn report(&self) -> ExitCode {
        eprintln!("soak: {}", self.text());
        ExitCode::from(self.exit_code())
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
        Exit codes: 0 pass (also a server that Ctrl-C stopped), 1 invariant broken, 2 usage, 3 liveness, 4 leak,\n\
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
    /// Run workloads of the simulator over real loopback sockets, with the simulator's oracles
    Run(Box<run::RunArguments>),
    /// List the kinds of trouble that `run --chaos` makes, what each needs, and what is left out on this machine
    Chaos,
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
    /// Play a part of an episode of `run --processes`
    #[command(hide = true)]
    EpisodeProcess,
    /// Remove a memory group when standard input ends
    #[command(hide = true)]
    RemoveGroup {
        /// Its folder
        path: PathBuf,
    },
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
        Command::Run(arguments) => run::run(&arguments),
        Command::Chaos => chaos::list(),
        Command::Hold { port, address, connections, seconds } => {
            hold::hold((address, port).into(), connections, seconds)
        }
        Command::Night(arguments) => {
            return night::night(&arguments).unwrap_or_else(|failure| failure.report());
        }
        Command::Report(arguments) => report::report(&arguments),
        Command::EpisodeProcess => run::processes::child::play(),
        Command::RemoveGroup { path } => chaos::memory_group::remove_when_over(&path),
        Command::Keep(arguments) => night::keeper::keep(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
