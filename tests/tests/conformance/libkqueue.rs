//! Scripts about kqueue on real sockets, through the C library `libkqueue`: a third opinion beside the simulated kernels.
//!
//! Where it differs, `tests/conformance/LIBKQUEUE.md` has a row with the reason and whom we believe. A difference without a row fails, and so
//! does a row without a difference. Its answers never change the model by themselves.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::Builder;
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};
use sim::Kernel;
use sim::script::{Script, Verdict, run_over_libkqueue};

use super::{File, SKIPPED, facts_of, host_of};

/// How a child process says that its script does not end.
const ENDLESS: u8 = 78;
/// A script takes some seconds at most.
const PATIENCE: Duration = Duration::from_secs(20);
/// The machine may be busy with something else.
const TRIES: usize = 3;

/// What the table says of one script.
struct Row {
    /// How its run ends, up to the first colon: `line 7`, `does not end`, `crashes`.
    ends: String,
}

/// A trial for each script about kqueue, and one for the table.
pub(crate) fn trials(root: &Path, files: &[Arc<File>]) -> Vec<Trial> {
    let table = table(root);
    let strange: Vec<String> =
        table.keys().filter(|name| files.iter().all(|file| file.name != **name)).cloned().collect();
    let mut trials = vec![Trial::test("conformance::libkqueue::the_table_names_scripts", move || {
        if strange.is_empty() { Ok(()) } else { Err(format!("there is no such script: {strange:?}").into()) }
    })];
    for (index, file) in files.iter().enumerate() {
        // Other facts of these systems are about sockets, and those are Linux's here.
        let is_about_kqueue = facts_of(&file.name).iter().any(|fact| fact.starts_with(['k', 'q']));
        let on_kqueue_kernels = file.script.is_on(Kernel::Freebsd) || file.script.is_on(Kernel::Macos);
        if !(is_about_kqueue && on_kqueue_kernels) {
            continue;
        }
        let expected = table.get(&file.name).map(|row| row.ends.clone());
        let file = Arc::clone(file);
        let name = format!("conformance::libkqueue::{}", file.name);
        trials.push(Trial::ignorable_test(name, move || judge(run(&file.path, index), expected.as_deref())));
    }
    trials
}

fn judge(outcome: Outcome, expected: Option<&str>) -> Result<Completion, Failed> {
    match (outcome, expected) {
        (Outcome::Skipped(reason), _) => Ok(Completion::ignored_with(reason)),
        (Outcome::Passed, None) => Ok(Completion::Completed),
        (Outcome::Passed, Some(_)) => {
            Err("it does not differ any more: take its row out of tests/conformance/LIBKQUEUE.md".into())
        }
        (Outcome::Differs(found), Some(expected)) if found.split(':').next() == Some(expected) => {
            Ok(Completion::Completed)
        }
        (Outcome::Differs(found), Some(expected)) => {
            Err(format!("its row says {expected:?}, but {found}").into())
        }
        (Outcome::Differs(found), None) => {
            Err(format!("it differs, and tests/conformance/LIBKQUEUE.md does not say why:\n{found}").into())
        }
    }
}

enum Outcome {
    Passed,
    Skipped(String),
    Differs(String),
}

fn run(path: &Path, index: usize) -> Outcome {
    let mut found = String::new();
    for _ in 0..TRIES {
        let program = std::env::current_exe().expect("a test knows its program");
        let mut command = Command::new(program);
        let output = command.arg("--libkqueue").arg(path).arg(index.to_string()).output();
        let output = output.expect("the test program can be started");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        found = match output.status.code() {
            Some(0) => return Outcome::Passed,
            Some(code) if code == i32::from(SKIPPED) => return Outcome::Skipped(said),
            Some(code) if code == i32::from(ENDLESS) => "does not end".to_owned(),
            Some(_) => said,
            None => "crashes".to_owned(),
        };
    }
    Outcome::Differs(found)
}

/// One script, in a process of its own.
pub(crate) fn child(path: &Path, index: usize) -> ExitCode {
    let text = std::fs::read_to_string(path).expect("a script can be read");
    let script = Script::parse(&text).expect("the parent has read it");
    let (tell, told) = mpsc::channel();
    let work = move || tell.send(run_over_libkqueue(&script, host_of(index)));
    let worker = Builder::new().name("script".to_owned()).spawn(work);
    worker.expect("a thread can be started");
    match told.recv_timeout(PATIENCE) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Skipped(reason)) => {
            println!("{reason}");
            ExitCode::from(SKIPPED)
        }
        Ok(Verdict::Failed(failure)) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::from(ENDLESS),
    }
}

/// The rows of the table: the script's name in the first column, how the library's run ends in the third.
fn table(root: &Path) -> BTreeMap<String, Row> {
    let text = std::fs::read_to_string(root.join("LIBKQUEUE.md")).unwrap_or_default();
    let rows = text.lines().filter_map(|line| line.strip_prefix('|')).filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (name, ends) = (*cells.first()?, *cells.get(2)?);
        let is_name = name.starts_with(['k', 'q']) && name.contains('_');
        let ends = ends.trim_matches('`').split(':').next()?.to_owned();
        is_name.then(|| (name.to_owned(), Row { ends }))
    });
    rows.collect()
}
