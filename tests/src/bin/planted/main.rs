//! Proves that the simulator finds bugs: plants each historical bug in a copy of the tree and sweeps until it is found.
//!
//! A bug is a patch in `tests/planted/`. The copy lives under `target/planted/`, the working tree is never touched. A bug
//! counts as found when a sweep of at most `--runs` runs fails and its first failure names an oracle that the table below
//! expects of it.
//!
//! With `--seconds` the time is bounded however long the table grows: the first bug changes with the commit, so that
//! successive changes try all of them, and a bug that was not reached is called that and never found.

mod soak;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use tests::planted::copy::{Copy, run};
use tests::planted::{BUGS, Bug};

const HELP: &str = "\
Plants historical bugs in a copy of the tree, one at a time, and sweeps until the simulator finds each.

Usage: cargo run --release -p tests --bin planted [-- [OPTIONS] [BUG...]]

Arguments:
  BUG           identifiers such as B03 (default: all of them)

Options:
  --runs N      at most this many runs for each bug (default 5000)
  --seconds N   begin no further bug after so many seconds in all, building included; the first bug is chosen by the
                commit, and those not reached are reported as not tried (default: try all, in the table's order)
  --list        name the bugs, what each breaks and the oracles expected, and stop
  --json        one object for each bug instead of the table
  --stories     also prints how each went wrong, in words
  --keep        also makes each the regression in tests/regressions that has its name
  --soak        faults of the soak instead, S1 to S6: see --soak --help
  --help        this text

Exit status: 0 when every bug that was tried was found and rightly named, 1 when one was not, or when fewer than three
bugs of the simulator were tried of those asked for, 2 for bad usage, 7 when a copy, patch or build failed.
";

/// With fewer bugs tried than this, of those asked for, nothing has been shown.
const TRIED_MIN: usize = 3;

struct Options {
    bugs: Vec<&'static Bug>,
    runs: u32,
    time: Option<Duration>,
    list: bool,
    json: bool,
    stories: bool,
    keep: bool,
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        bugs: Vec::new(),
        runs: 5000,
        time: None,
        list: false,
        json: false,
        stories: false,
        keep: false,
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--list" => options.list = true,
            "--json" => options.json = true,
            "--stories" => options.stories = true,
            "--keep" => options.keep = true,
            "--runs" => options.runs = number("--runs", arguments.next())?,
            "--seconds" => {
                let seconds = number("--seconds", arguments.next())?;
                options.time = Some(Duration::from_secs(seconds.into()));
            }
            id => {
                options.bugs.push(called("planted bug", id, BUGS, |bug| bug.id)?);
            }
        }
    }
    if options.bugs.is_empty() {
        options.bugs = BUGS.iter().collect();
    }
    Ok(Some(options))
}

/// The entry of a table with this identifier.
fn called<T>(what: &str, id: &str, table: &'static [T], id_of: fn(&T) -> &str) -> Result<&'static T, String> {
    table.iter().find(|entry| id_of(entry).eq_ignore_ascii_case(id)).ok_or_else(|| {
        let there_are: Vec<&str> = table.iter().map(id_of).collect();
        format!("no {what} is called {id}; there are {}", there_are.join(", "))
    })
}

fn number(option: &str, value: Option<String>) -> Result<u32, String> {
    let value = value.ok_or_else(|| format!("{option} needs a number"))?;
    value.parse().map_err(|_| format!("{option} {value}: not a number"))
}

/// What a sweep over one planted bug found.
struct Finding {
    /// Runs until the first failure, counting it.
    runs: u64,
    seed: String,
    invariant: String,
    /// The sweep, the shrinking and the telling, on one core.
    seconds: f64,
    /// Decisions that are not benign, as it was found and in the small run.
    decisions: [u64; 2],
    /// The lines of its story.
    story: Vec<String>,
    /// Whether the small run replays, call for call.
    replays: bool,
}

impl Finding {
    /// A story fits on a screen, ends with the step at which the invariant broke, and its run replays.
    fn is_well_told(&self) -> bool {
        let ends =
            self.story.last().is_some_and(|line| line.starts_with("step ") && line.contains(&self.invariant));
        self.replays && ends && self.story.len() <= sim::story::LINES_MAX
    }
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace")
        .to_path_buf();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--soak") {
        return soak::command(&root, arguments.into_iter());
    }
    let options = match parse(arguments.into_iter()) {
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
        for bug in &options.bugs {
            println!("{:<4} {:<6} {:<62} {}", bug.id, bug.workload, bug.breaks, bug.invariants.join(" or "));
        }
        return ExitCode::SUCCESS;
    }
    let is_over = watch(options.time);
    let mut bugs = options.bugs.clone();
    if options.time.is_some() {
        let first = match first_of(&root, bugs.len()) {
            Ok(first) => first,
            Err(problem) => {
                eprintln!("planted: {problem}");
                return ExitCode::from(7);
            }
        };
        bugs.rotate_left(first);
    }
    let (mut missed, mut tried) = (0, 0);
    for bug in &bugs {
        if is_over() {
            println!("{}", not_tried(bug, options.json));
            continue;
        }
        tried += 1;
        let finding = match find(&root, bug, (options.runs, options.keep)) {
            Ok(finding) => finding,
            Err(problem) => {
                eprintln!("planted: {}: {problem}", bug.id);
                return ExitCode::from(7);
            }
        };
        let right = finding.as_ref().is_some_and(|finding| {
            bug.invariants.contains(&finding.invariant.as_str())
                && (bug.is_undeclared() || finding.is_well_told())
        });
        missed += usize::from(!right);
        println!("{}", line(bug, finding.as_ref(), right, (options.json, options.stories)));
    }
    if !options.json {
        println!("{} of {tried} planted bugs found and rightly named", tried - missed);
        if tried < bugs.len() {
            println!("{} were not tried: the time was over", bugs.len() - tried);
        }
    }
    let enough = tried >= TRIED_MIN.min(bugs.len());
    if !enough {
        eprintln!("planted: only {tried} tried within the time, where at least {TRIED_MIN} have to be");
    }
    if missed == 0 && enough { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Answers whether so much time has passed since now.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it bounds builds and sweeps, and is outside of every run"
)]
fn watch(time: Option<Duration>) -> impl Fn() -> bool {
    let begin = std::time::Instant::now();
    move || time.is_some_and(|time| begin.elapsed() >= time)
}

/// Which of `count` bugs comes first for the commit that is checked out.
fn first_of(root: &Path, count: usize) -> Result<usize, String> {
    let named = run(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root))?;
    let digits =
        named.1.get(..15).filter(|_| named.0).ok_or("there is no commit to choose the first bug by")?;
    let number = u64::from_str_radix(digits, 16).map_err(|error| format!("git rev-parse: {error}"))?;
    Ok((number % count as u64) as usize)
}

#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures sweeps, and is outside of every run"
)]
fn seconds_since_now() -> impl Fn() -> f64 {
    let begin = std::time::Instant::now();
    move || begin.elapsed().as_secs_f64()
}

fn not_tried(bug: &Bug, json: bool) -> String {
    if json {
        format!(r#"{{"bug":"{}","tried":false}}"#, bug.id)
    } else {
        format!("{:<4} NOT TRIED {}", bug.id, bug.breaks)
    }
}

fn line(bug: &Bug, finding: Option<&Finding>, right: bool, (json, stories): (bool, bool)) -> String {
    let mut text = String::new();
    match (finding, json) {
        (Some(found), true) => {
            let Finding { runs, seed, invariant, seconds, decisions, story, replays } = found;
            let object = serde_json::json!({
                "bug": bug.id, "found": true, "rightly_named": right, "runs": runs, "seed": seed, "invariant": invariant,
                "seconds": seconds, "decisions": decisions, "story": story, "replays": replays,
            });
            let _ = write!(text, "{object}");
        }
        (None, true) => {
            let _ = write!(text, r#"{{"bug":"{}","found":false}}"#, bug.id);
        }
        (Some(found), false) => {
            let verdict = if right { "found" } else { "MISNAMED" };
            let _ = write!(
                text,
                "{:<4} {verdict:<8} by {:<18} in run {:>5}  {:>4.1} s  {:>4} -> {:>3} decisions  {:>2} lines  {}  seed {}  {}",
                bug.id,
                found.invariant,
                found.runs,
                found.seconds,
                found.decisions[0],
                found.decisions[1],
                found.story.len(),
                match (found.replays, bug.is_undeclared()) {
                    (true, _) => "replays",
                    (false, true) => "nothing to replay",
                    (false, false) => "DOES NOT REPLAY",
                },
                found.seed,
                bug.breaks
            );
            if stories {
                for told in &found.story {
                    let _ = write!(text, "\n     {told}");
                }
            }
        }
        (None, false) => {
            let _ = write!(text, "{:<4} MISSED   {}", bug.id, bug.breaks);
        }
    }
    text
}

/// Plants one bug, builds, sweeps.
fn find(root: &Path, bug: &Bug, (runs, keeps): (u32, bool)) -> Result<Option<Finding>, String> {
    let copy = Copy::of(root);
    copy.plant(&format!("{}.patch", bug.id))?;
    copy.build(&["sim"])?;
    let mut sweep = Command::new(copy.program("sim"));
    sweep.args([
        "run",
        "--json",
        "--failures-max",
        "1",
        "--jobs",
        "1",
        "--workload",
        bug.workload,
        "--runs",
        &runs.to_string(),
    ]);
    if bug.is_undeclared() {
        sweep.arg("--check-determinism");
    }
    let failures = copy.folder().join("failures");
    sweep.arg("--out").arg(&failures);
    let clock = seconds_since_now();
    let output = sweep.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let seconds = clock();
    let said = String::from_utf8_lossy(&output.stderr);
    if let Some(finding) = refused(&said) {
        return Ok(Some(finding));
    }
    eprint!("{said}");
    let text = String::from_utf8_lossy(&output.stdout);
    for object in text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        // A failing run names its oracle here; the summary has a count.
        let Some(invariant) = object.get("failed").and_then(|value| value.as_str()) else { continue };
        let text_of = |name: &str| object[name].as_str().unwrap_or("?").to_string();
        let lines = object["story"].as_array().into_iter().flatten();
        let kept = text_of("kept");
        let sim = copy.program("sim");
        let replayed = run(Command::new(&sim).args(["replay", "--quiet", &kept]))?;
        if keeps && !bug.is_undeclared() {
            let name = bug.id.to_lowercase();
            let file = root.join("tests/regressions").join(format!("{name}.regression"));
            // Made anew as a whole: what is there may be of an older table.
            if file.exists() {
                std::fs::remove_file(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            }
            let back = format!("tests/planted/{}.patch", bug.id);
            let (keeps, said) = run(Command::new(&sim)
                .args(["keep", &kept, "--name", &name, "--broke", bug.breaks, "--back", &back])
                .args(["--reaches", bug.reaches, "--seconds", "5"])
                .current_dir(root))?;
            if !keeps {
                return Err(said);
            }
        }
        return Ok(Some(Finding {
            runs: object["index"].as_u64().map_or(0, |run| run + 1),
            seed: text_of("seed"),
            invariant: invariant.to_string(),
            seconds,
            decisions: [0, 1].map(|place| object["decisions"][place].as_u64().unwrap_or(0)),
            story: lines.filter_map(|line| line.as_str().map(str::to_owned)).collect(),
            replays: replayed.1.contains("reproduced: "),
        }));
    }
    Ok(None)
}

/// What the guard says before it ends a process that asked for a real clock or real randomness inside a run. It must point
/// at the function that every such patch changes, or at the one that it was inlined into.
fn refused(said: &str) -> Option<Finding> {
    let after =
        |name: &str| said.lines().find_map(|line| line.trim_start().strip_prefix(name)).map(str::trim);
    said.contains("inside a simulated run").then(|| Finding {
        // The process ended before it could say how many runs it had made.
        runs: 1,
        seed: after("replay ").and_then(|line| line.rsplit(' ').next()).unwrap_or("?").to_string(),
        invariant: match after("by ") {
            Some(place) if place.contains("serve_run_queue") || place.contains("reactor::Reactor<") => {
                "guard".to_string()
            }
            other => format!("guard at {}", other.unwrap_or("an unknown place")),
        },
        seconds: 0.0,
        decisions: [0; 2],
        story: Vec::new(),
        replays: false,
    })
}
