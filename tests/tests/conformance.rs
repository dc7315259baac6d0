//! Every transcribed fact, by name, on the live Linux kernel and on the simulated kernels.
//!
//! A script is a file below `tests/conformance/`; the numbers of its facts come first in its name. Each live run has a process of its
//! own, since scripts change the descriptor limit and count on the lowest free number. At the end a table says how many facts of each kind
//! are transcribed, left out (`tests/conformance/LEFT_OUT.md` has the reasons), or missing.

#[cfg(all(target_os = "linux", feature = "libkqueue"))]
#[path = "conformance/libkqueue.rs"]
mod libkqueue;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use sim::script::{Script, Subject, Verdict};

/// Kinds of facts and their highest numbers, as the list of kernel semantics has them.
const FACTS: [(char, u32); 8] =
    [('m', 7), ('s', 19), ('t', 82), ('e', 47), ('w', 16), ('c', 8), ('k', 49), ('q', 8)];
/// What must be transcribed of the facts that are not left out, in percent.
const TRANSCRIBED_PERCENT: usize = 90;
/// Facts about kqueue that must be transcribed at least.
const KQUEUE_MIN: usize = 45;
/// How often a live run may be tried: the machine may be busy with something else.
const LIVE_TRIES: usize = 3;
/// How a child process says that it skipped its script.
const SKIPPED: u8 = 77;

/// Names of the scripts that passed, by subject.
type Passed = Arc<Mutex<BTreeMap<String, BTreeSet<&'static str>>>>;

struct File {
    name: String,
    path: PathBuf,
    script: Script,
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let child = match words.next() {
        Some(word) if word == "--live" => Some(live_child as fn(&Path, usize) -> ExitCode),
        #[cfg(all(target_os = "linux", feature = "libkqueue"))]
        Some(word) if word == "--libkqueue" => Some(libkqueue::child as fn(&Path, usize) -> ExitCode),
        _ => None,
    };
    if let Some(child) = child {
        let path = PathBuf::from(words.next().expect("a path follows"));
        let index = words.next().and_then(|word| word.to_str()?.parse().ok()).expect("a number follows");
        return child(&path, index);
    }
    let arguments = Arguments::from_args();
    let passed = Passed::default();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let (files, mut trials) = read(&root);
    let files: Vec<Arc<File>> = files.into_iter().map(Arc::new).collect();
    for (index, file) in files.iter().enumerate() {
        for subject in Subject::ALL.into_iter().filter(|subject| subject.concerns(&file.script)) {
            let name = format!("conformance::{}::{}", subject.name(), file.name);
            let (file, passed) = (Arc::clone(file), Arc::clone(&passed));
            trials.push(Trial::ignorable_test(name, move || {
                let verdict = match subject {
                    Subject::Live => live(&file.path, index),
                    Subject::Simulated(_) => subject.run(&file.script, host_of(index)),
                };
                match verdict {
                    Verdict::Passed => {
                        passed.lock().unwrap().entry(file.name.clone()).or_default().insert(subject.name());
                        Ok(Completion::Completed)
                    }
                    Verdict::Skipped(reason) => Ok(Completion::ignored_with(reason)),
                    Verdict::Failed(failure) => {
                        Err(Failed::from(format!("{}:\n{failure}", file.path.display())))
                    }
                }
            }));
        }
    }
    #[cfg(all(target_os = "linux", feature = "libkqueue"))]
    trials.extend(libkqueue::trials(&root, &files));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    if whole && !conclusion.has_failed() && !report(&root, &files, &passed.lock().unwrap()) {
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Every script below the folder; one that cannot be read is a failing trial.
fn read(root: &Path) -> (Vec<File>, Vec<Trial>) {
    let (mut files, mut trials) = (Vec::new(), Vec::new());
    for folder in ["linux", "kqueue", "found"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.expect("the folder can be read").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "script"));
        paths.sort();
        for path in paths {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("a script can be read");
            match Script::parse(&text) {
                Ok(script) => files.push(File { name, path, script }),
                Err(error) => {
                    let message = format!("{}: {error}", path.display());
                    trials.push(Trial::test(format!("conformance::parse::{name}"), || {
                        Err(Failed::from(message))
                    }));
                }
            }
        }
    }
    (files, trials)
}

/// Runs a script on the live kernel, in a process of its own.
fn live(path: &Path, index: usize) -> Verdict {
    let mut said = String::new();
    for _ in 0..LIVE_TRIES {
        let program = std::env::current_exe().expect("a test knows its program");
        let output = Command::new(program).arg("--live").arg(path).arg(index.to_string()).output();
        let output = output.expect("the test program can be started");
        said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => return Verdict::Passed,
            Some(code) if code == i32::from(SKIPPED) => return Verdict::Skipped(said.trim().to_owned()),
            _ => {}
        }
    }
    Verdict::Failed(sim::script::driver::Failure {
        line: 0,
        step: format!("{LIVE_TRIES} tries"),
        found: said,
    })
}

fn live_child(path: &Path, index: usize) -> ExitCode {
    let text = std::fs::read_to_string(path).expect("a script can be read");
    let script = Script::parse(&text).expect("the parent has read it");
    match Subject::Live.run(&script, host_of(index)) {
        Verdict::Passed => ExitCode::SUCCESS,
        Verdict::Skipped(reason) => {
            println!("{reason}");
            ExitCode::from(SKIPPED)
        }
        Verdict::Failed(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// An address for each script, so that ports in TIME_WAIT disturb nobody.
fn host_of(index: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(index + 1).expect("fewer scripts than that").to_be_bytes();
    Ipv4Addr::new(127, 40, high, low)
}

/// The facts that a script's name begins with: `e13_e14_edges` has two.
fn facts_of(name: &str) -> Vec<String> {
    name.split('_').take_while(|part| is_fact(part)).map(str::to_owned).collect()
}

fn is_fact(part: &str) -> bool {
    let mut chars = part.chars();
    let kind = chars.next().and_then(|kind| FACTS.iter().find(|(known, _)| *known == kind));
    kind.is_some_and(|(_, highest)| chars.as_str().parse::<u32>().is_ok_and(|n| (1..=*highest).contains(&n)))
}

/// Facts of the table of what is left out.
fn left_out(root: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root.join("LEFT_OUT.md")).unwrap_or_default();
    let cells = text.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    cells.map(|cell| cell.trim().to_lowercase()).filter(|cell| is_fact(cell)).collect()
}

/// Prints how much is transcribed; false if that is too little.
fn report(root: &Path, files: &[Arc<File>], passed: &BTreeMap<String, BTreeSet<&'static str>>) -> bool {
    let left_out = left_out(root);
    let mut transcribed = BTreeMap::<String, bool>::new();
    for file in files {
        for fact in facts_of(&file.name) {
            let by = passed.get(&file.name);
            // A fact counts where the simulated kernel passes it; a live run may be impossible on this machine.
            let simulated = by.is_some_and(|by| by.iter().any(|subject| *subject != "live"));
            *transcribed.entry(fact).or_insert(true) &= simulated;
        }
    }
    let (mut total, mut done, mut kqueue) = (0, 0, 0);
    println!("facts      in all  transcribed  left out  missing");
    for (kind, highest) in FACTS {
        let names: Vec<String> = (1..=highest).map(|number| format!("{kind}{number}")).collect();
        let good = names.iter().filter(|name| transcribed.get(*name) == Some(&true)).count();
        let out =
            names.iter().filter(|name| left_out.contains(*name) && !transcribed.contains_key(*name)).count();
        let missing: Vec<&str> = names
            .iter()
            .filter(|name| !left_out.contains(*name) && transcribed.get(*name) != Some(&true))
            .map(String::as_str)
            .collect();
        println!(
            "{}          {:>6}  {good:>11}  {out:>8}  {}",
            kind.to_uppercase(),
            names.len(),
            missing.join(" ")
        );
        total += names.len() - out;
        done += good;
        kqueue += if matches!(kind, 'k' | 'q') { good } else { 0 };
    }
    let live = passed.values().filter(|by| by.contains("live")).count();
    println!(
        "{done} of {total} facts that are not left out, {kqueue} of them about kqueue; {live} scripts passed live"
    );
    let enough = done * 100 >= total * TRANSCRIBED_PERCENT && kqueue >= KQUEUE_MIN;
    if !enough {
        println!("too few: {TRANSCRIBED_PERCENT} % and {KQUEUE_MIN} are needed");
    }
    enough
}
