//! `soak night`: the workloads on real sockets in turn, beside them fresh seeds in the simulator and the fuzz targets,
//! everything under one folder.
//!
//! Every part is a process of its own, under a keeper that ends it when the night ends, however the night ends. A part that
//! crashes, hangs or cannot start is told as that, and the night goes on.

mod board;
mod child;
mod clock;
pub(crate) mod folder;
pub(crate) mod keeper;
mod lane;
pub(crate) mod part;
mod summary;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use sim::decision::seed::Seed;

use crate::{Failure, say};
use board::Board;
use clock::Elapsed;
use folder::{FREE_BYTES_MIN, Folder};
use lane::Lane;
use part::{Kind, PartResult};
use summary::Summary;
use table::{Table, Wishes};

/// How often a line that changes is written anew.
const STATUS_LIVE: Duration = Duration::from_secs(1);
/// How often a status line is added to a log.
const STATUS_PLAIN_S: u64 = 600;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where everything goes: a new folder
    #[arg(long, value_name = "DIR", required_unless_present = "resume")]
    out: Option<PathBuf>,
    /// Goes on with a night that was cut off: parts that have a result are not run again
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "hours", "minutes", "seconds", "seed", "parts"])]
    resume: Option<PathBuf>,
    /// How long, in hours [default: 8]
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u64).range(1..=1000))]
    hours: Option<u64>,
    /// How long, in minutes
    #[arg(long, value_name = "M", conflicts_with = "hours", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    minutes: Option<u64>,
    /// How long, in seconds
    #[arg(long, value_name = "S", conflicts_with_all = ["hours", "minutes"],
        value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    seconds: Option<u64>,
    /// What every part's seed is made from: decimal, 0x hex, or a commit [default: a new one, which is printed]
    #[arg(long, value_name = "S")]
    seed: Option<Seed>,
    /// The folder with `soak`, `sim` and, in `fuzz/`, the built fuzz targets [default: the folder of this program]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// The folder with the committed inputs of the fuzz targets, `seeds/`, `regressions/` and `dict/`
    #[arg(long, value_name = "DIR")]
    fuzz_inputs: Option<PathBuf>,
    /// Leaves out the simulator's sweep, and says why
    #[arg(long, value_name = "REASON")]
    no_sweep: Option<String>,
    /// Leaves out the fuzz targets, and says why
    #[arg(long, value_name = "REASON")]
    no_fuzz: Option<String>,
    /// Print one JSON object at the end instead of lines
    #[arg(long)]
    json: bool,
    /// A table of parts of one's own, as in `night.json`
    #[arg(long, value_name = "FILE", hide = true)]
    parts: Option<PathBuf>,
    /// How long a part that was asked to end may take
    #[arg(long, value_name = "S", hide = true, default_value_t = 30)]
    grace_seconds: u64,
}

/// What happens to a night as a whole.
enum Event {
    Interrupt,
    Status,
    LaneEnded,
}

/// Runs a night, or what is left of one.
pub(crate) fn night(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let soak = std::env::current_exe().map_err(|error| Failure::Machine(format!("this program: {error}")))?;
    let (folder, table, results) = match (&arguments.resume, &arguments.out) {
        (Some(path), _) => Folder::reopen(path)?,
        (None, Some(path)) => {
            let table = new_table(arguments, path, &soak)?;
            table.check()?;
            (Folder::create(path, &table)?, table, Vec::new())
        }
        (None, None) => return Err(Failure::Usage("--out DIR is missing".to_owned())),
    };
    table.check()?;
    let seed: Seed =
        table.seed.parse().map_err(|error| Failure::Usage(format!("seed in night.json: {error}")))?;
    if !arguments.json {
        say(&format!(
            "a night of {} in {}, seed {seed}",
            clock::span(table.seconds),
            folder.path().display()
        ))?;
        say(&format!("processors: {}", table.processors))?;
    }

    let elapsed = Elapsed::start();
    let (results, trouble, interrupted) = supervise(arguments, &soak, &folder, &table, seed, results)?;
    let summary = Summary {
        out: folder.path().to_owned(),
        took_s: elapsed.seconds(),
        trouble: trouble.as_ref().map(|failure| failure.text().to_owned()),
        interrupted,
        ..Summary::of(&table, &results)
    };
    if let Err(failure) = folder.write("summary.json", &summary) {
        eprintln!("soak: {}", failure.text());
    }
    tell(&summary, arguments.json)?;
    Ok(ExitCode::from(summary.exit_code()))
}

fn tell(summary: &Summary<'_>, json: bool) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string(summary).map_err(|error| Failure::Machine(error.to_string()))?;
        return say(&text);
    }
    for result in summary.parts.iter().filter(|result| !result.why.is_empty()) {
        say(&format!("{}: {}: {}", result.verdict, result.part, result.why))?;
    }
    if let Some(trouble) = &summary.trouble {
        say(&format!("given up: {trouble}"))?;
    }
    if summary.unfinished > 0 {
        say(&format!(
            "{} parts unfinished; go on with them: soak night --resume {}",
            summary.unfinished,
            summary.out.display()
        ))?;
    }
    say(&summary.line())
}

/// Runs the lanes beside each other until all have ended.
fn supervise(
    arguments: &Arguments,
    soak: &Path,
    folder: &Folder,
    table: &Table,
    seed: Seed,
    results: Vec<PartResult>,
) -> Result<(Vec<PartResult>, Option<Failure>, bool), Failure> {
    let (sender, events) = mpsc::channel();
    listen(sender.clone())?;

    let board = Board::new(folder, table.seconds, !arguments.json, results);
    let lanes = Kind::ALL.map(|kind| Lane {
        board: &board,
        soak,
        parts: table.parts.iter().filter(|part| part.kind == kind).collect(),
        seed,
        grace_seconds: arguments.grace_seconds,
    });
    let mut interrupted = false;
    thread::scope(|scope| {
        for (kind, lane) in Kind::ALL.iter().zip(&lanes) {
            let ended = sender.clone();
            let run = move || {
                lane.run();
                // The night outlives its lanes.
                let _ = ended.send(Event::LaneEnded);
            };
            if let Err(error) = thread::Builder::new().name(format!("lane {kind}")).spawn_scoped(scope, run) {
                board.give_up(Failure::Machine(format!("thread: {error}")));
                let _ = sender.send(Event::LaneEnded);
            }
        }
        let mut running = lanes.len();
        let elapsed = Elapsed::start();
        let mut said_s = 0;
        while running > 0 {
            match events.recv_timeout(STATUS_LIVE) {
                Ok(Event::LaneEnded) => running -= 1,
                Ok(Event::Interrupt) => {
                    interrupted = true;
                    board.stop();
                }
                Ok(Event::Status) => board.status(),
                Err(RecvTimeoutError::Timeout) => {
                    if folder.free_bytes().is_some_and(|free| free < FREE_BYTES_MIN) {
                        board.give_up(Failure::Machine(format!(
                            "the disk of {} has less than {} MiB left",
                            folder.path().display(),
                            FREE_BYTES_MIN >> 20
                        )));
                    }
                    if board::is_terminal() || elapsed.seconds() >= said_s + STATUS_PLAIN_S {
                        said_s = elapsed.seconds();
                        board.status();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    });
    let (results, trouble) = board.finish();
    Ok((results, trouble, interrupted))
}

/// Hears signals from now on: once to stop, twice to leave, and one for the status. A hang-up is left as it was found, so that
/// `nohup` means what it says.
fn listen(events: mpsc::Sender<Event>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])
        .map_err(|error| Failure::Machine(format!("signal handlers: {error}")))?;
    let work = move || {
        let mut already = false;
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                let _ = events.send(Event::Status);
            } else if std::mem::replace(&mut already, true) || events.send(Event::Interrupt).is_err() {
                // The keepers see that the night is gone, and kill their parts.
                std::process::exit(130);
            }
        }
    };
    let started = thread::Builder::new().name("signals".to_owned()).spawn(work);
    started.map(drop).map_err(|error| Failure::Machine(format!("thread: {error}")))
}

/// The table of a new night.
fn new_table(arguments: &Arguments, out: &Path, soak: &Path) -> Result<Table, Failure> {
    if let Some(path) = &arguments.parts {
        return folder::read_json(path);
    }
    let seconds = match (arguments.seconds, arguments.minutes, arguments.hours) {
        (Some(seconds), _, _) => seconds,
        (None, Some(minutes), _) => minutes * 60,
        (None, None, hours) => hours.unwrap_or(8) * 3600,
    };
    let programs =
        arguments.programs.clone().or_else(|| soak.parent().map(Path::to_owned)).unwrap_or_default();
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
    };
    let programs = absolute(&programs)?;
    let sim = programs.join("sim");
    let sim = match &arguments.no_sweep {
        Some(reason) => Err(reason.clone()),
        None if sim.is_file() => Ok(sim),
        None => Err(format!("there is no {}; cargo build --release -p sim makes it", sim.display())),
    };
    let fuzz = match &arguments.no_fuzz {
        Some(reason) => Err(reason.clone()),
        None => fuzz_targets(&programs.join("fuzz")),
    };
    Ok(Table::of(&Wishes {
        seed: arguments.seed.unwrap_or_else(fresh_seed),
        seconds,
        out: absolute(out)?,
        soak: soak.to_owned(),
        sim,
        fuzz,
        inputs: arguments.fuzz_inputs.as_deref().map(absolute).transpose()?,
        processors: thread::available_parallelism().map_or(1, std::num::NonZero::get),
    }))
}

fn fuzz_targets(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder)
        .map_err(|_| format!("there is no {} with built fuzz targets", folder.display()))?;
    let mut targets: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    targets.sort();
    if targets.is_empty() {
        return Err(format!("{} holds no fuzz target", folder.display()));
    }
    Ok(targets)
}

/// A seed that no earlier night had.
fn fresh_seed() -> Seed {
    use std::hash::{BuildHasher, Hasher};
    // What the standard library draws from the system for its hash maps.
    Seed(std::hash::RandomState::new().build_hasher().finish())
}
