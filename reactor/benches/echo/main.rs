//! The echo benchmark: what a message costs a server, on real sockets, for this loop and for others.
//!
//! `cargo bench -p reactor --bench echo`, with `-- --help` for the options.
//!
//! Every server is a process of its own on processor 0; the load runs on processor 1. The figure is the server's
//! **processor time per message**, from the kernel's own accounting: on loopback the load costs as much as the server, so
//! messages per second say little. Machines drift by tens of per cent within minutes, so only ratios within one run mean
//! anything: in every round each server gets the same work, in a random order, and is divided by the hand-written loop of
//! that round. The table shows the median of these ratios and its 95 % confidence interval.
//!
//! Timings never fail anything: the exit code is zero unless something broke.

mod load;
mod os;
mod own;
mod servers;
mod statistics;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use serde_json::json;

use load::{Churn, Clients};
use servers::{Process, Server, Usage};
use statistics::{Estimate, Random, estimate};

/// Compares the processor time that an echoed message costs this loop, hand-written epoll loops, mio and tokio.
#[derive(Parser, Debug)]
#[command(
    name = "echo",
    after_help = "60 rounds tell servers apart that differ by 1 to 2 %, and take about five minutes in all."
)]
struct Options {
    /// Rounds per scenario
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Servers to compare with the hand-written loop, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "reactor,short-read,mio,tokio")]
    peers: Vec<Server>,
    /// Scenarios, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "small,many,deep,large,churn,idle,own")]
    scenario: Vec<Scenario>,
    /// Seed of the order within rounds, and of the confidence intervals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Another build of this program, whose reactor takes part as well: for the effect of a change
    #[arg(long, value_name = "PROGRAM")]
    baseline: Option<PathBuf>,
    /// Print one JSON object per line, instead of tables
    #[arg(long)]
    json: bool,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
    /// Be a server
    #[arg(long, hide = true)]
    serve: Option<Server>,
    /// The processor of the server
    #[arg(long, hide = true, default_value_t = SERVER_PROCESSOR)]
    processor: usize,
    /// As a server: count system calls
    #[arg(long, hide = true)]
    count_calls: bool,
}

impl Options {
    /// Who takes part, in the order of the tables.
    fn servers(&self) -> impl Iterator<Item = Server> {
        Server::ALL.into_iter().filter(|server| match server {
            Server::ByHand => true,
            Server::Baseline => self.baseline.is_some(),
            peer => self.peers.contains(peer),
        })
    }

    fn start(&self, server: Server, count_calls: bool) -> io::Result<Process> {
        let program = match &self.baseline {
            Some(program) if server == Server::Baseline => program.clone(),
            _ => std::env::current_exe()?,
        };
        Process::start(&program, server, count_calls, SERVER_PROCESSOR)
    }
}

const SERVER_PROCESSOR: usize = 0;
const LOAD_PROCESSOR: usize = 1;

/// A way to load a server.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
enum Scenario {
    /// 64 connections, one message of 64 bytes under way on each
    Small,
    /// 1000 connections, one message of 64 bytes under way on each
    Many,
    /// 64 connections, 16 messages of 64 bytes under way on each
    Deep,
    /// 64 connections, one message of 16 KiB under way on each
    Large,
    /// Connect, one message of 64 bytes, close; 64 at once
    Churn,
    /// Memory of 10,000 connections that have exchanged one message and rest
    Idle,
    /// The loop's own time, over a kernel that answers at once
    Own,
}

/// The numbers behind a scenario that is timed.
#[derive(Copy, Clone, Debug)]
struct Shape {
    title: &'static str,
    connections: usize,
    message_bytes: usize,
    depth: usize,
    /// Messages, or churned connections, per server and round: about 50 ms of the server's processor.
    messages: u64,
    /// What the reactor's ratio must not exceed.
    limit: f64,
    /// What the reactor's system calls per message must not exceed: one read and one write for what arrives together, and
    /// a share of a wait. How large a share follows from how server and load take turns; there is a margin for it.
    calls_limit: f64,
}

impl Scenario {
    const fn shape(self) -> Option<Shape> {
        let small = Shape {
            title: "64 connections x 64 B",
            connections: 64,
            message_bytes: 64,
            depth: 1,
            messages: 12_000,
            limit: 1.0,
            calls_limit: 2.1,
        };
        Some(match self {
            Scenario::Small => small,
            Scenario::Many => Shape { title: "1000 connections x 64 B", connections: 1000, ..small },
            Scenario::Deep => Shape {
                title: "64 connections x 64 B, depth 16",
                depth: 16,
                messages: 128_000,
                calls_limit: 0.14,
                ..small
            },
            Scenario::Large => Shape {
                title: "64 connections x 16 KiB",
                message_bytes: 16 * 1024,
                messages: 5_000,
                calls_limit: f64::INFINITY,
                ..small
            },
            Scenario::Churn => {
                Shape { title: "churn: connect, 64 B, close", messages: 1_500, calls_limit: 8.0, ..small }
            }
            Scenario::Idle | Scenario::Own => return None,
        })
    }
}

/// The clients of one server.
enum Load {
    Clients(Clients),
    Churn(Churn),
}

impl Load {
    fn new(scenario: Scenario, shape: Shape, process: &Process) -> io::Result<Load> {
        Ok(match scenario {
            Scenario::Churn => {
                Load::Churn(Churn::new(process.address, shape.connections, shape.message_bytes)?)
            }
            _ => Load::Clients(Clients::connect(
                process.address,
                shape.connections,
                shape.message_bytes,
                shape.depth,
            )?),
        })
    }

    /// One server's part of a round.
    fn exchange(&mut self, messages: u64) -> io::Result<()> {
        match self {
            Load::Clients(clients) => clients.exchange(messages),
            Load::Churn(churn) => churn.exchange(messages),
        }
    }
}

/// What a round of one server took.
#[derive(Copy, Clone, Debug, Default)]
struct Measured {
    usage: Usage,
    wall_ns: u64,
}

fn measure(process: &mut Process, load: &mut Load, messages: u64) -> io::Result<Measured> {
    let before = process.usage()?;
    let begin = os::monotonic_ns();
    load.exchange(messages)?;
    let wall_ns = os::monotonic_ns() - begin;
    // The ends of churned connections are still to be served.
    os::rest_ms(1);
    Ok(Measured { usage: process.usage()?.since(before), wall_ns })
}

/// One server's rounds.
struct Contestant {
    process: Process,
    load: Load,
    rounds: Vec<Measured>,
}

/// One line of a table.
struct Row {
    server: Server,
    processor_ns: f64,
    user_ns: f64,
    messages_per_s: f64,
    ratio: Estimate,
    /// System calls, and `epoll_ctl` among them, per message; where the server counts them itself.
    calls: Option<(f64, f64)>,
}

fn compare(scenario: Scenario, shape: Shape, options: &Options, random: &mut Random) -> io::Result<Vec<Row>> {
    let mut contestants = Vec::new();
    for server in options.servers() {
        let process = options.start(server, false)?;
        let load = Load::new(scenario, shape, &process)?;
        contestants.push(Contestant { process, load, rounds: Vec::new() });
    }
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    // The first round is for the caches and for the kernel's own tuning of buffers; it is not counted.
    for round in 0..=options.rounds {
        progress(options, &format!("{}: round {round} of {}", shape.title, options.rounds));
        random.shuffle(&mut order);
        for index in &order {
            let Contestant { process, load, rounds } = &mut contestants[*index];
            let measured = measure(process, load, shape.messages)?;
            if round > 0 {
                rounds.push(measured);
            }
        }
    }
    progress(options, "");
    let per_round = |c: &Contestant| c.rounds.iter().map(|r| r.usage.processor_ns as f64).collect::<Vec<_>>();
    let reference = contestants.iter().find(|c| c.process.server == Server::ByHand).map(per_round);
    let reference = reference.expect("the reference always takes part");
    let mut rows = Vec::new();
    for contestant in &contestants {
        let times = per_round(contestant);
        let ratios: Vec<f64> =
            times.iter().zip(&reference).map(|(time, reference)| time / reference).collect();
        let messages = shape.messages as f64;
        let mut total = Usage::default();
        contestant.rounds.iter().for_each(|round| total.add(round.usage));
        let walls: Vec<f64> = contestant.rounds.iter().map(|round| round.wall_ns as f64).collect();
        let server = contestant.process.server;
        rows.push(Row {
            server,
            processor_ns: estimate(&times, random).median / messages,
            user_ns: total.user_ns as f64 / contestant.rounds.len() as f64 / messages,
            messages_per_s: messages * 1e9 / estimate(&walls, random).median,
            ratio: estimate(&ratios, random),
            calls: count_calls(server, scenario, shape, options)?,
        });
    }
    Ok(rows)
}

/// System calls and `epoll_ctl` per message, at full speed, in passes of their own: counting costs time. The fewest of
/// ten passes, because a processor that is shared adds waits which have little to tell.
fn count_calls(
    server: Server,
    scenario: Scenario,
    shape: Shape,
    options: &Options,
) -> io::Result<Option<(f64, f64)>> {
    if !server.counts_calls() {
        return Ok(None);
    }
    let mut process = options.start(server, true)?;
    let mut load = Load::new(scenario, shape, &process)?;
    let mut fewest: Option<Usage> = None;
    for _ in 0..10 {
        let usage = measure(&mut process, &mut load, shape.messages)?.usage;
        fewest = Some(fewest.filter(|fewest| fewest.calls <= usage.calls).unwrap_or(usage));
    }
    let messages = shape.messages as f64;
    Ok(fewest.map(|usage| (usage.calls as f64 / messages, usage.registrations as f64 / messages)))
}

fn print_rows(scenario: Scenario, shape: Shape, rows: &[Row], options: &Options) -> io::Result<()> {
    let what = if scenario == Scenario::Churn { "connection" } else { "message" };
    if options.json {
        for row in rows {
            let (calls, registrations) = row.calls.unzip();
            let object = json!({
                "scenario": name_of(scenario), "server": row.server.label(), "rounds": options.rounds,
                "messages_per_round": shape.messages, "cpu_ns": row.processor_ns,
                "ratio": row.ratio.median, "ratio_low": row.ratio.low, "ratio_high": row.ratio.high,
                "user_ns": row.user_ns, "messages_per_s": row.messages_per_s,
                "calls": calls, "epoll_ctl": registrations,
            });
            writeln!(io::stdout(), "{object}")?;
        }
        return Ok(());
    }
    writeln!(io::stdout(), "\n{}: {} rounds of {} {what}s", shape.title, options.rounds, shape.messages)?;
    writeln!(
        io::stdout(),
        "  {:<24} {:>14}  {:<22} {:>9}  {:>11}  {:>7}  {:>9}",
        "server",
        format!("cpu/{what}"),
        "relative [95 %]",
        "user",
        format!("{what}s/s"),
        "calls",
        "epoll_ctl"
    )?;
    for row in rows {
        let optional = |figure: Option<f64>| figure.map_or("-".to_string(), |figure| format!("{figure:.3}"));
        let (calls, registrations) = row.calls.unzip();
        writeln!(
            io::stdout(),
            "  {:<24} {:>11.0} ns  {:<22} {:>6.0} ns  {:>13.0}  {:>7}  {:>9}",
            row.server,
            row.processor_ns,
            interval(row.ratio),
            row.user_ns,
            row.messages_per_s,
            optional(calls),
            optional(registrations)
        )?;
    }
    let Some(row) = rows.iter().find(|row| row.server == Server::Reactor) else { return Ok(()) };
    let verdict = |passes: bool| if passes { "pass" } else { "FAIL" };
    writeln!(
        io::stdout(),
        "  reactor / hand-written: {} at {}: {} (lower end <= {:.2})",
        interval(row.ratio),
        shape.title,
        verdict(row.ratio.low <= shape.limit),
        shape.limit
    )?;
    if let Some((calls, _)) = row.calls
        && shape.calls_limit.is_finite()
    {
        writeln!(
            io::stdout(),
            "  reactor: {calls:.3} system calls per {what}: {} (<= {})",
            verdict(calls <= shape.calls_limit),
            shape.calls_limit
        )?;
    }
    Ok(())
}

fn interval(estimate: Estimate) -> String {
    format!("{:.3} [{:.3}, {:.3}]", estimate.median, estimate.low, estimate.high)
}

fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
}

/// Says on the terminal, and only there, how far the run has come; nothing, to wipe that away.
fn progress(options: &Options, text: &str) {
    if !options.json && io::IsTerminal::is_terminal(&io::stderr()) {
        eprint!("\r\x1b[K{text}");
        let _ = io::stderr().flush();
    }
}

/// Connections that rest, in [`Scenario::Idle`].
const IDLE_CONNECTIONS: usize = 10_000;

fn compare_idle(options: &Options) -> io::Result<()> {
    if !options.json {
        writeln!(io::stdout(), "\n{IDLE_CONNECTIONS} connections that have exchanged one message and rest")?;
        writeln!(io::stdout(), "  {:<24} {:>20}", "server", "memory/connection")?;
    }
    for server in options.servers() {
        let process = options.start(server, false)?;
        // What every server has before its first connection, buffers and libraries, is not the connections'.
        let first = Clients::connect(process.address, 1, 64, 1)?;
        let before = process.memory_bytes()?;
        let clients = Clients::connect(process.address, IDLE_CONNECTIONS, 64, 1)?;
        let bytes = process.memory_bytes()?.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64;
        if options.json {
            let object = json!({
                "scenario": "idle", "server": server.label(), "connections": IDLE_CONNECTIONS,
                "bytes_per_connection": bytes,
            });
            writeln!(io::stdout(), "{object}")?;
        } else {
            writeln!(io::stdout(), "  {server:<24} {bytes:>18.0} B")?;
        }
        drop((first, clients));
    }
    Ok(())
}

fn run(options: &Options) -> io::Result<()> {
    if let Some(server) = options.serve {
        return servers::serve(server, options.count_calls, options.processor);
    }
    os::pin(LOAD_PROCESSOR)?;
    os::raise_descriptor_limit();
    let mut random = Random::new(options.seed);
    for scenario in &options.scenario {
        match (scenario, scenario.shape()) {
            (_, Some(shape)) => {
                let rows = compare(*scenario, shape, options, &mut random)?;
                print_rows(*scenario, shape, &rows, options)?;
            }
            (Scenario::Idle, None) => compare_idle(options)?,
            (_, None) => {
                let ns = own::ns_per_message(1_000_000);
                if options.json {
                    writeln!(
                        io::stdout(),
                        "{}",
                        json!({ "scenario": "own", "server": "reactor", "user_ns": ns })
                    )?;
                } else {
                    writeln!(
                        io::stdout(),
                        "\nThe reactor's own time, over a kernel that answers at once: {ns:.1} ns a message"
                    )?;
                }
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the tables has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}
