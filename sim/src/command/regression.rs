//! `sim keep`: a failing run becomes a regression that every test run replays.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use sim::Decisions;
use sim::decision::seed::seed_of_run;
use sim::explain::Explanation;
use sim::file;
use sim::regression::{Place, Regression};
use sim::runner::run;
use sim::shrink::Progress;

use super::input::Case;
use super::report::WallClock;
use super::shrink::interruption;
use super::{Fixed, Trouble};

/// Seeds that a refresh looks through at most.
const REFRESH_RUNS_MAX: u64 = 20_000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A failing run: a seed, or a file, see below; with --refresh a regression
    #[arg(value_name = "FILE|SEED")]
    what: String,
    /// Name of the new file in --folder, without its ending: letters, digits and _
    #[arg(long, value_name = "NAME", required_unless_present = "refresh", value_parser = parse_name)]
    name: Option<String>,
    /// What was wrong, in one line
    #[arg(long, value_name = "TEXT", required_unless_present = "refresh", value_parser = parse_line)]
    broke: Option<String>,
    /// What brings it back: a planted patch, or a condition in words
    #[arg(long, value_name = "TEXT", required_unless_present = "refresh", value_parser = parse_line)]
    back: Option<String>,
    /// The place its run must come to once it is mended: `counter NAME`, `fault NAME`, `decision SITE`, `call NAME RESULT`
    #[arg(long, value_name = "PLACE", required_unless_present = "refresh")]
    reaches: Option<Place>,
    /// Finds a regression again in a build in which the bug has been brought back, and replaces its tape and its story
    #[arg(long)]
    refresh: bool,
    /// Where regressions are kept
    #[arg(long, value_name = "DIR", default_value = "tests/regressions")]
    folder: PathBuf,
    /// How long to look for a smaller run
    #[arg(long, value_name = "S", default_value_t = 30)]
    seconds: u64,
    #[command(flatten)]
    fixed: Fixed,
}

fn parse_name(text: &str) -> Result<String, String> {
    let plain =
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if plain { Ok(text.to_owned()) } else { Err("letters, digits and _".to_owned()) }
}

/// One line of the file.
fn parse_line(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.contains(char::is_control) {
        return Err("one line of text".to_owned());
    }
    Ok(text.trim().to_owned())
}

pub(super) fn keep(arguments: &Arguments) -> Result<u8, Trouble> {
    let stop = interruption()?;
    let (path, regression) =
        if arguments.refresh { refreshed(arguments, &stop)? } else { made(arguments, &stop)? };
    let mut out = io::stdout().lock();
    // Printed first: it stays for whoever has no room for the file.
    writeln!(out, "{}:", path.display())?;
    writeln!(out, "{regression}")?;
    file::keep(&path, regression.to_string().as_bytes())
        .map_err(|error| Trouble::cannot_write(&path, &error))?;
    writeln!(
        out,
        "`cargo test -p tests --test regressions` replays it: the run must pass, and reach `{}`",
        regression.reaches
    )?;
    Ok(0)
}

fn explain(
    arguments: &Arguments,
    case: (&sim::runner::RunOptions, Decisions, String),
    stop: &AtomicBool,
) -> Result<Explanation, Trouble> {
    let clock = WallClock::start();
    let mut go_on = |_: Progress| !stop.load(Ordering::Relaxed) && clock.seconds() < arguments.seconds as f64;
    let (options, decisions, source) = case;
    Explanation::of(options, decisions, source.clone(), &mut go_on).ok_or_else(|| {
        Trouble::Usage(format!(
            "{source}: the run passes in this build; keep it with the build in which it fails, where the bug is in the code"
        ))
    })
}

fn of(found: &Explanation, broke: String, back: String, reaches: Place) -> Result<Regression, Trouble> {
    let log = found.small.as_ref().unwrap_or(&found.log);
    Regression::of(log, &found.story, broke, back, reaches)
        .ok_or_else(|| Trouble::Usage("the run does not fail".to_owned()))
}

fn made(arguments: &Arguments, stop: &AtomicBool) -> Result<(PathBuf, Regression), Trouble> {
    let Arguments { name: Some(name), broke: Some(broke), back: Some(back), reaches: Some(reaches), .. } =
        arguments
    else {
        return Err(Trouble::Usage("--name, --broke, --back and --reaches are needed".to_owned()));
    };
    let path = arguments.folder.join(format!("{name}.regression"));
    if path.exists() {
        return Err(Trouble::Usage(format!("{} exists: take another name, or --refresh it", path.display())));
    }
    let case = Case::read(&arguments.what, &arguments.fixed)?;
    let (options, _) = case.failing()?;
    let found = explain(arguments, (&options, case.decisions(), case.name.clone()), stop)?;
    Ok((path, of(&found, broke.clone(), back.clone(), reaches.clone())?))
}

/// Its own tape first, for it may fail as it did; then seeds, with what it fixes of a run.
fn refreshed(arguments: &Arguments, stop: &AtomicBool) -> Result<(PathBuf, Regression), Trouble> {
    let path = PathBuf::from(&arguments.what);
    let old = read(&path)?;
    let tape = || Decisions::from_script(old.tape.clone());
    let same =
        |outcome: &sim::runner::Outcome| outcome.failure.as_ref().is_some_and(|it| it.oracle == old.oracle);
    let mut options = old.options();
    let mut decisions = None;
    if same(&run(&options, tape())) {
        decisions = Some(tape());
    } else {
        options.switches.only = None;
        for index in 0..REFRESH_RUNS_MAX {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let seed = seed_of_run(0, index);
            if same(&run(&options, Decisions::from_seed(seed))) {
                decisions = Some(Decisions::from_seed(seed));
                break;
            }
        }
    }
    let Some(decisions) = decisions else {
        return Err(Trouble::Usage(format!(
            "{}: neither its tape nor {REFRESH_RUNS_MAX} seeds fail by {} in this build; bring the bug back first: {}",
            path.display(),
            old.oracle,
            old.back
        )));
    };
    let found = explain(arguments, (&options, decisions, arguments.what.clone()), stop)?;
    let new = of(&found, old.broke.clone(), old.back.clone(), old.reaches.clone())?;
    Ok((path, new))
}

fn read(path: &Path) -> Result<Regression, Trouble> {
    let text = file::read_text(path).map_err(|error| Trouble::cannot_read(path, &error))?;
    text.parse().map_err(|error| Trouble::Usage(format!("{}: {error}", path.display())))
}
