//! The workloads of `sim` on real sockets, and servers for clients that nobody here wrote.

mod hold;
mod machine;
mod serve;

use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Why a command ended without success.
pub(crate) enum Failure {
    /// The command line asks for something that does not exist.
    Usage(String),
    /// The machine refuses: a port in use, no permission, too few descriptors.
    Machine(String),
    /// An invariant was broken.
    Invariant(String),
    /// Something that was owed did not come.
    Liveness(String),
}

impl Failure {
    fn report(&self) -> ExitCode {
        let (text, code) = match self {
            Failure::Usage(text) => (text, 2),
            Failure::Machine(text) => (text, 7),
            Failure::Invariant(text) => (text, 1),
            Failure::Liveness(text) => (text, 3),
        };
        eprintln!("soak: {text}");
        ExitCode::from(code)
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
        soak run --workload echo --seconds 60       clients, service and oracles over loopback\n\n\
        Exit status: 0 pass, 1 invariant broken, 2 usage, 3 liveness, 7 the machine refuses, 130 interrupted."
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
    /// Open connections to an echo server, check each, hold them idle, check each again
    Hold {
        /// The server's port
        #[arg(long)]
        port: u16,
        /// The server's address
        #[arg(long, default_value = "127.0.0.1")]
        address: IpAddr,
        /// How many connections to hold at once
        #[arg(long, default_value_t = 1000)]
        connections: u32,
        /// How long to hold them idle, in seconds
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve { workload, port, address } => serve::serve(&workload, (address, port).into()),
        Command::Hold { port, address, connections, seconds } => {
            hold::hold((address, port).into(), connections, seconds)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
