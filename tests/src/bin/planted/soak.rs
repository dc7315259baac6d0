//! The command line of the faults that a soak has to find.

use std::path::Path;
use std::process::ExitCode;

use tests::planted::soak::{SECONDS_MAX, SOAK_FAULTS, SoakFault};

const HELP: &str = "\
Plants faults in a copy of the tree, one at a time, soaks it on real sockets until each is seen, and replays its recording.

Usage: cargo run --release -p tests --bin planted -- --soak [OPTIONS] [FAULT...]

Arguments:
  FAULT         identifiers such as S3 (default: all of them)

Options:
  --seconds N   soak for at most so many seconds for each, building left out (default and most: 600)
  --clean       plant nothing: the same soaks, which must find nothing then
  --list        name the faults, who has to see each and under which command, and stop
  --json        one object for each fault instead of the table
  --help        this text

Exit status: 0 when every fault was seen by who has to see it and its recording replays, or with --clean nothing was seen;
1 when not, 2 for bad usage, 7 when a copy, patch, build or soak failed.
";

struct Options {
    faults: Vec<&'static SoakFault>,
    seconds: u32,
    clean: bool,
    list: bool,
    json: bool,
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options =
        Options { faults: Vec::new(), seconds: SECONDS_MAX, clean: false, list: false, json: false };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--soak" => {}
            "--clean" => options.clean = true,
            "--list" => options.list = true,
            "--json" => options.json = true,
            "--seconds" => {
                let seconds = super::number("--seconds", arguments.next())?;
                options.seconds = Some(seconds)
                    .filter(|seconds| (1..=SECONDS_MAX).contains(seconds))
                    .ok_or_else(|| format!("--seconds {seconds}: from 1 to {SECONDS_MAX}"))?;
            }
            id => {
                options.faults.push(super::called("fault of the soak", id, SOAK_FAULTS, |fault| fault.id)?);
            }
        }
    }
    if options.faults.is_empty() {
        options.faults = SOAK_FAULTS.iter().collect();
    }
    Ok(Some(options))
}

/// Does what `planted --soak` was asked.
pub(super) fn command(root: &Path, arguments: impl Iterator<Item = String>) -> ExitCode {
    let options = match parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("planted: {problem}");
            return ExitCode::from(2);
        }
    };
    if options.list {
        for SoakFault { id, breaks, options, seen_by, .. } in &options.faults {
            println!("{id:<3} {breaks:<74} {:<15} soak run {}", seen_by.join(" or "), options.join(" "));
        }
        return ExitCode::SUCCESS;
    }
    let mut wrong = 0;
    for fault in &options.faults {
        let soaked = match fault.soak(root, options.seconds, options.clean) {
            Ok(soaked) => soaked,
            Err(problem) => {
                eprintln!("planted: {}: {problem}", fault.id);
                return ExitCode::from(7);
            }
        };
        wrong += usize::from(match options.clean {
            true => soaked.seen.is_some(),
            false => !fault.is_met_by(&soaked),
        });
        match (options.clean, &soaked.seen) {
            (true, Some(_)) => println!("{:<3} clean, and yet: {}", fault.id, soaked.text),
            (true, None) => println!("{:<3} clean: {}", fault.id, soaked.text),
            (false, _) => println!("{}", fault.line(&soaked, options.json)),
        }
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
