//! `soak night` with parts of every fate: what is told of each, that the night goes on, and that nothing outlives it.

mod bench;

use std::process::{Command, Stdio};

use bench::{Night, is_running, lines_of, wait_until};
use serde_json::Value;

#[test]
fn each_fate_of_a_part_is_told_and_the_night_goes_on() {
    let night = Night::new();
    night.parts(&[
        night.part("good", "soak", "echo fine"),
        night.part("broken", "soak", "echo the oracle objects; exit 1"),
        night.part("crashed", "soak", "kill -SEGV $$"),
        night.part("refused", "soak", "exit 7"),
        night.part("after", "soak", "exit 0"),
        night.part("found", "fuzz", "exit 77"),
        night.command_part("absent", "fuzz", &["no-such-program"]),
    ]);
    let output = night.run(&[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let expected = [
        ("good", "passed", ""),
        ("broken", "failed", "an invariant was broken (exit code 1)"),
        ("crashed", "failed", "ended by signal 11"),
        ("refused", "failed", "the machine refused (exit code 7)"),
        ("after", "passed", ""),
        ("found", "failed", "the target found a failing input (exit code 77)"),
        ("absent", "failed", "could not start: no-such-program: No such file or directory (os error 2)"),
    ];
    let results = night.results();
    assert_eq!(results.len(), expected.len());
    for (name, verdict, why) in expected {
        let result = results.iter().find(|result| result["part"] == name).unwrap();
        assert_eq!(
            (result["verdict"].as_str(), result["why"].as_str()),
            (Some(verdict), Some(why)),
            "{name}"
        );
    }
    let broken = results.iter().find(|result| result["part"] == "broken").unwrap();
    assert_eq!(broken["said"], "the oracle objects");
    let last = format!("2 passed, 5 failed, 0 left out; {}", night.out().canonicalize().unwrap().display());
    assert_eq!(lines_of(&output.stdout).last(), Some(&last));
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(night.out().join("summary.json")).unwrap()).unwrap();
    assert_eq!((&summary["passed"], &summary["failed"]), (&Value::from(2), &Value::from(5)));
}

#[test]
fn a_night_in_which_all_pass_returns_zero_and_tells_it_as_json() {
    let night = Night::new();
    night.parts(&[night.part("one", "soak", "exit 0"), night.part("two", "sweep", "exit 0")]);
    let output = night.run(&["--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = lines_of(&output.stdout);
    assert_eq!(lines.len(), 1);
    let summary: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(summary["passed"], 2);
}

#[test]
fn a_part_that_is_left_out_is_no_pass() {
    let night = Night::new();
    let mut part = night.part("fuzz", "fuzz", "exit 0");
    part["left_out"] = "cargo-fuzz is not installed".into();
    night.parts(&[part]);
    let output = night.run(&[]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("left out: fuzz: cargo-fuzz is not installed"), "{text}");
    assert!(text.contains("0 passed, 0 failed, 1 left out; "), "{text}");
}

#[test]
fn a_part_that_hangs_is_stopped_at_its_limit_and_what_it_started_with_it() {
    let night = Night::new();
    let mut part =
        night.part("hangs", "soak", "trap '' INT; sleep 300 & echo $! >pid; while :; do wait; sleep 1; done");
    part["limit_seconds"] = 1.into();
    night.parts(&[part, night.part("after", "soak", "exit 0")]);
    let output = night.run(&["--grace-seconds", "1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let results = night.results();
    let why = results[0]["why"].as_str().unwrap();
    assert!(why.starts_with("did not end within its limit of 1 s"), "{why}");
    assert_eq!(results[1]["verdict"], "passed");
    // On a machine so slow that the part was stopped before its first step there is nothing to look for.
    assert!(!night.has("pid") || !is_running(night.pid_in("pid")));
}

/// Only Linux lets a process adopt what its children leave behind.
#[cfg(target_os = "linux")]
#[test]
fn what_a_part_leaves_behind_is_ended_and_counted_also_outside_its_process_group() {
    let night = Night::new();
    let script = "setsid sh -c 'echo $$ >pid; exec sleep 300' & while [ ! -s pid ]; do :; done";
    night.parts(&[night.part("leaves", "soak", script)]);
    let output = night.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(night.results()[0]["left_behind"], 1);
    assert!(!is_running(night.pid_in("pid")));
}

#[test]
fn an_interrupted_night_stops_its_parts_and_resumes_with_those_that_have_no_result() {
    let night = Night::new();
    let slow = "echo $$ >pid; [ -e second ] || { touch second; exec sleep 300; }";
    night.parts(&[
        night.part("before", "soak", "echo x >>before; exit 1"),
        night.part("slow", "soak", slow),
        night.part("after", "soak", "exit 0"),
    ]);
    let child = night.start(&[]);
    wait_until("the slow part has begun", || night.has("second"));
    let slow_pid = night.pid_in("pid");
    bench::interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(!is_running(slow_pid));
    assert_eq!(night.results().len(), 2);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("2 parts unfinished"), "{text}");
    assert!(text.contains("0 passed, 1 failed, 0 left out; "), "{text}");

    // A line that was torn by a crash is dropped, not added to.
    night.append_to_results("{\"part\":\"after\",\"verd");
    let output = night.resume();
    // The failure from before the interrupt still counts, and its part was not run again.
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(std::fs::read_to_string(night.place("before")).unwrap(), "x\n");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("2 passed, 1 failed, 0 left out; "), "{text}");
}

#[test]
fn a_second_interrupt_leaves_at_once_and_no_process_stays() {
    let night = Night::new();
    let stubborn = "trap '' INT TERM; echo $$ >pid; exec sleep 300";
    night.parts(&[night.part("stubborn", "soak", stubborn)]);
    let mut child = night.start(&["--grace-seconds", "1000"]);
    wait_until("the part has begun", || night.has("pid"));
    let pid = night.pid_in("pid");
    bench::interrupt(&child);
    wait_until("the night says that it stops", || night.said("stopping every part"));
    bench::interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    wait_until("the part is gone", || !is_running(pid));
}

#[test]
fn no_process_outlives_a_night_that_is_killed_and_the_night_resumes() {
    let night = Night::new();
    let script = "echo $$ >pid; [ -e second ] || { touch second; exec sleep 300; }";
    night.parts(&[night.part("first", "soak", "exit 0"), night.part("cut", "soak", script)]);
    let mut child = night.start(&[]);
    wait_until("the part has begun", || night.has("second"));
    let pid = night.pid_in("pid");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the part is gone", || !is_running(pid));
    let output = night.resume();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(night.results().len(), 2);
}

#[test]
fn a_part_that_is_made_in_chunks_has_a_seed_for_each_and_goes_on_counting() {
    let night = Night::new();
    let mut part = night.part("sweep", "sweep", "echo {seed} >>seeds; sleep 1.2");
    part["in_chunks"] = true.into();
    part["seconds"] = 4.into();
    night.parts(&[part]);
    let output = night.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let seeds = std::fs::read_to_string(night.place("seeds")).unwrap();
    let mut seeds: Vec<&str> = seeds.lines().collect();
    let made = seeds.len();
    assert!(made >= 1);
    let names: Vec<String> = (1..=made).map(|number| format!("sweep-{number:04}")).collect();
    assert_eq!(
        night.results().iter().map(|result| result["part"].as_str().unwrap()).collect::<Vec<_>>(),
        names
    );
    seeds.dedup();
    assert_eq!(seeds.len(), made);
    // Its share of the time is over: a resumed night has nothing left to do, and keeps what it had.
    assert_eq!(night.resume().status.code(), Some(0));
}

#[test]
fn a_folder_with_something_in_it_is_refused_and_left_alone() {
    let night = Night::new();
    night.parts(&[night.part("one", "soak", "exit 0")]);
    std::fs::create_dir(night.out()).unwrap();
    std::fs::write(night.out().join("thesis.txt"), "years of work").unwrap();
    let output = night.run(&[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("is not empty; nothing was touched"), "{text}");
    assert_eq!(std::fs::read_dir(night.out()).unwrap().count(), 1);
}

#[test]
fn a_night_that_is_running_cannot_be_resumed_beside_itself() {
    let night = Night::new();
    night.parts(&[night.part("slow", "soak", "echo $$ >pid; exec sleep 300")]);
    let child = night.start(&[]);
    wait_until("the part has begun", || night.has("pid"));
    let output = night.resume();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("a night is running in"));
    bench::interrupt(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
}

#[test]
fn broken_tables_and_results_are_refused_with_their_place() {
    let night = Night::new();
    let refused = |part: &[Value], words: &str| {
        night.parts(part);
        let output = night.run(&[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(words), "{text}");
        assert!(!night.out().exists(), "a refused night leaves nothing");
    };
    refused(&[], "a night without parts");
    refused(&[night.part("../up", "soak", "exit 0")], "a name has letters");
    refused(
        &[night.part("a", "soak", "exit 0"), night.part("a", "fuzz", "exit 0")],
        "two parts are called a",
    );
    refused(&[night.command_part("a", "soak", &[])], "has no command");

    night.parts(&[night.part("a", "soak", "exit 0")]);
    assert_eq!(night.run(&[]).status.code(), Some(0));
    night.append_to_results("noise\n");
    let output = night.resume();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("parts.jsonl, line 2: no result of a part"));
}

#[test]
fn an_ordinary_night_tells_how_the_processors_were_dealt_and_what_is_missing() {
    let night = Night::new();
    let programs = night.place("programs");
    std::fs::create_dir(&programs).unwrap();
    let mut command = Command::new(bench::SOAK);
    command.args(["night", "--hours", "1", "--seed", "7", "--out"]).arg(night.out());
    command.arg("--programs").arg(&programs).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // What is left out is told at once; the soak itself begins, and is stopped.
    let soak_records = night.out().join("soak/soak-echo/run.json");
    wait_until("the soak has begun", || soak_records.exists() && night.has("night/parts.jsonl"));
    wait_until("what is missing is told", || night.results().len() >= 2);
    bench::interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("processors: "), "{text}");
    assert!(text.contains("left out: sweep: there is no "), "{text}");
    assert!(text.contains("left out: fuzz: there is no "), "{text}");
    assert!(text.contains("interrupted: soak-echo"), "{text}");
    assert!(text.contains("go on with them: soak night --resume "), "{text}");
}
