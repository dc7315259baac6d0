//! `soak run --processes` as a program: services that share a port, clients that are stopped and killed, and no process
//! that is left behind.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A word in the environment of a run and of all its processes, by which they are found wherever they are.
const MARK: &str = "SOAK_TEST_MARK";

struct Run {
    mark: String,
    command: Command,
}

impl Run {
    fn new(mark: &str, arguments: &[&str]) -> Run {
        let mark = format!("{mark}-{}", std::process::id());
        let mut command = Command::new(env!("CARGO_BIN_EXE_soak"));
        command.arg("run").args(arguments).env(MARK, &mark);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Run { mark, command }
    }

    fn finish(mut self) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = self.command.output().unwrap();
        assert_eq!(self.processes(), [0; 0], "a process is left behind");
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// The processes of this run that live.
    fn processes(&self) -> Vec<u32> {
        let word = format!("{MARK}={}", self.mark);
        let is_ours = |pid: &u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|entry| entry == word.as_bytes())
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_ours).collect()
    }

    /// Waits until something holds of a run under way; how long that takes decides nothing.
    fn until(&self, child: &mut Child, holds: impl Fn(&Run) -> bool) {
        while !holds(self) {
            assert_eq!(child.try_wait().unwrap(), None, "the run ended early");
            rest();
        }
    }
}

fn rest() {
    Command::new("sleep").arg("0.05").status().unwrap();
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// How many sockets listen at the address where the most do.
fn listeners_of_one_port() -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let mut counts = BTreeMap::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields[3] == "0A" {
            *counts.entry(fields[1].to_owned()).or_insert(0) += 1;
        }
    }
    counts.into_values().max().unwrap_or(0)
}

#[test]
fn services_in_processes_of_their_own_share_a_port_and_all_that_they_leave_is_judged_together() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let arguments = [
        "--workload",
        "echo,wake,timers,cluster",
        "--processes",
        "3",
        "--seconds",
        "4",
        "--interval",
        "1",
        "--connections",
        "24",
        "--out",
        out.to_str().unwrap(),
    ];
    let mut run = Run::new("share", &arguments);
    let mut child = run.command.spawn().unwrap();
    run.until(&mut child, |_| listeners_of_one_port() >= 3);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.lines().last().unwrap().starts_with("pass: 4 episodes in "), "{said}");
    assert_eq!(run.processes(), [0; 0], "a process is left behind");

    let intervals = lines(&out.join("intervals.jsonl"));
    let most = intervals.iter().filter_map(|interval| interval["processes"].as_u64()).max();
    // This one, three of services for each of four workloads, and those of clients.
    assert!(most >= Some(1 + 4 * 3), "{most:?}");
    let last = intervals.last().unwrap();
    assert_eq!(last["processes"], 1, "in the end nobody is left: {last}");
    for counter in ["connections_opened", "messages", "bytes_read", "wakes", "timers_fired"] {
        assert!(last[counter].as_u64() > Some(0), "{counter}: {last}");
    }
    assert_eq!(last["connections_opened"], last["connections_closed"], "all that opened has closed: {last}");
    assert_eq!(last["errors_impossible"], 0);
    let summary = json(&out.join("summary.json"));
    assert!(!summary["workloads"]["echo"]["latency"]["corrected"].is_null(), "what was timed comes along");
    assert!(!summary["workloads"]["timers"]["timer_lateness"].is_null());
    assert_eq!(summary["options"]["processes"], 3);
    assert!(json(&out.join("run.json"))["options"]["processes"] == 3);
}

#[test]
fn clients_that_are_stopped_and_killed_are_excused_and_others_take_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let arguments = [
        "--workload",
        "echo,cluster",
        "--processes",
        "2",
        "--chaos",
        "cruel",
        "--chaos-only",
        "stop,kill",
        "--seed",
        "3",
        "--seconds",
        "8",
        "--connections",
        "20",
        "--out",
        out.to_str().unwrap(),
    ];
    let (code, stdout, stderr) = Run::new("kill", &arguments).finish();
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let chaos = &json(&out.join("summary.json"))["chaos"];
    for kind in ["stop", "kill"] {
        assert!(chaos[kind]["touched"].as_u64() > Some(0), "{kind}: {chaos}");
    }
    let events = lines(&out.join("events.jsonl"));
    assert!(events.iter().any(|event| event["kind"] == "kill"), "{events:?}");
}

#[test]
fn a_process_that_crashes_is_a_failure_with_its_last_words_and_the_others_leave_their_recordings() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let arguments = [
        "--workload",
        "echo",
        "--processes",
        "2",
        "--plant",
        "crash",
        "--seconds",
        "60",
        "--connections",
        "10",
        "--out",
        out.to_str().unwrap(),
    ];
    let (code, stdout, stderr) = Run::new("crash", &arguments).finish();
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    for says in ["client process 0 ended by signal 6", "a crash that a test asked for", "replay: sim replay"]
    {
        assert!(stderr.contains(says), "{says} is not in\n{stderr}");
    }
    let files = fs::read_dir(out.join("failures")).unwrap().flatten();
    let names: Vec<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    for whose in ["-services-0.simrec", "-services-1.simrec"] {
        assert!(names.iter().any(|name| name.ends_with(whose)), "{whose}: {names:?}");
    }
    assert_eq!(json(&out.join("summary.json"))["verdict"], "invariant");
}

#[test]
fn a_producer_that_stops_in_another_process_is_a_stall_with_all_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let arguments = [
        "--workload",
        "wake",
        "--processes",
        "2",
        "--plant",
        "stall",
        "--stall-seconds",
        "1",
        "--seconds",
        "60",
        "--out",
        out.to_str().unwrap(),
    ];
    let (code, stdout, stderr) = Run::new("stall", &arguments).finish();
    assert_eq!(code, Some(3), "{stdout}{stderr}");
    for known in ["nothing has happened for 1 s", "in service process", "last calls:", "lost-wakeup"] {
        assert!(stderr.contains(known), "{known} is not in\n{stderr}");
    }
}

#[test]
fn an_interrupt_ends_every_process_with_a_summary_and_a_kill_without() {
    for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let arguments = [
            "--workload",
            "echo",
            "--processes",
            "2",
            // Processes that are stopped hear nothing of a pipe that closes.
            "--chaos",
            "cruel",
            "--chaos-only",
            "stop",
            "--seconds",
            "60",
            "--connections",
            "10",
            "--out",
            out.to_str().unwrap(),
        ];
        let mut run = Run::new(&format!("end{signal}"), &arguments);
        let mut child = run.command.spawn().unwrap();
        run.until(&mut child, |run| run.processes().len() >= 4 && out.join("events.jsonl").exists());
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), code);
        while !run.processes().is_empty() {
            // The kernel ends them; a test that waits for ever says that it did not.
            rest();
        }
        let summary = out.join("summary.json");
        assert_eq!(summary.exists(), code.is_some());
        if code.is_some() {
            assert_eq!(json(&summary)["verdict"], "interrupted");
        }
    }
}

#[test]
fn what_processes_cannot_do_is_refused_in_words() {
    let cases: [(&[&str], &str); 4] = [
        (&["--processes", "0"], "--processes"),
        (&["--processes", "65"], "--processes"),
        (&["--processes", "2", "--plans", "drawn"], "--processes is of sustained loads"),
        (&["--chaos", "calm", "--chaos-only", "kill"], "--processes 2 gives them processes of their own"),
    ];
    for (arguments, says) in cases {
        let arguments: Vec<&str> = ["--workload", "echo"].iter().chain(arguments).copied().collect();
        let (code, stdout, stderr) = Run::new("refuse", &arguments).finish();
        assert_eq!(code, Some(2), "{arguments:?}: {stdout}{stderr}");
        assert!(stderr.contains(says) && stdout.is_empty(), "{arguments:?}: {stdout}{stderr}");
    }
    let by_hand = Command::new(env!("CARGO_BIN_EXE_soak"))
        .arg("episode-process")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(by_hand.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&by_hand.stderr);
    assert!(stderr.contains("this command is for `soak run --processes` alone"), "{stderr}");
}
