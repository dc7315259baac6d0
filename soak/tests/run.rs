//! `soak run` as a program: its options, its records, its signals, and what its monitors see.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;

fn soak(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soak"));
    command.arg("run").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = soak(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn pass(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(arguments);
    assert_eq!(code, Some(0), "{arguments:?}\n{stdout}{stderr}");
    stdout
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("intervals.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |at| &text[..at]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The fields that the tables of a section of the document name, up to the line that ends it.
fn documented(from: &str, to: &str) -> Vec<String> {
    let document =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("REPORT_FORMAT.md")).unwrap();
    let section = document.split_once(from).expect(from).1.split_once(to).expect(to).0;
    let fields = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut fields: Vec<String> = fields.map(|(field, _)| field.to_owned()).collect();
    fields.sort();
    fields
}

fn keys(value: &Value) -> Vec<String> {
    let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    keys
}

/// Waits until something holds; how long that takes decides nothing.
fn until(child: &mut Child, holds: impl Fn() -> bool) {
    while !holds() {
        assert_eq!(child.try_wait().unwrap(), None, "the run ended early");
        Command::new("sleep").arg("0.05").status().unwrap();
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn finish(mut child: Child) -> (ExitStatus, String, String) {
    let status = child.wait().unwrap();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (status, stdout, stderr)
}

#[test]
fn every_workload_passes_side_by_side_and_its_records_are_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("all");
    let path = out.to_str().unwrap();
    let said = pass(&[
        "--workload",
        "echo,wake,timers,cluster",
        "--seconds",
        "3",
        "--interval",
        "1",
        "--connections",
        "40",
        "--long",
        "on",
        "--out",
        path,
    ]);
    assert!(said.lines().last().unwrap().starts_with("pass: 5 episodes in "), "{said}");
    assert!(!said.contains('\r') && !said.contains('\x1b'), "no terminal, no colours: {said:?}");

    let intervals = lines(&out);
    assert!(intervals.len() >= 2, "{said}");
    let grows = documented("These only grow", "Each of `workloads` has");
    let mut fields = documented("## intervals.jsonl", "These only grow");
    fields.extend(grows.iter().cloned());
    fields.sort();
    let parts = documented("Each of `workloads` has", "and what was timed");
    for interval in &intervals {
        assert_eq!(keys(interval), fields);
        for workload in ["echo", "wake", "timers", "cluster"] {
            assert_eq!(keys(&interval["workloads"][workload]), parts);
            assert_eq!(keys(&interval["workloads"][workload]["counters"]), grows);
        }
    }
    let last = intervals.last().unwrap();
    for counter in
        ["connections_opened", "connections_closed", "messages", "bytes_read", "wakes", "timers_fired"]
    {
        assert!(last[counter].as_u64() > Some(0), "{counter}: {last}");
    }
    assert_eq!(last["connections_opened"], last["connections_closed"], "all that opened has closed: {last}");
    assert_eq!(last["errors_impossible"], 0);

    let summary = json(&out.join("summary.json"));
    assert_eq!((summary["verdict"].as_str(), summary["exit_code"].as_u64()), (Some("pass"), Some(0)));
    assert_eq!(summary["counters"]["messages"], last["messages"]);
    let echo = &summary["workloads"]["echo"];
    let timed = &echo["latency"]["corrected"];
    let names = ["count", "max_ns", "p50_ns", "p75_ns", "p90_ns", "p99_99_ns", "p99_9_ns", "p99_ns"];
    assert_eq!(keys(timed), names);
    assert!(timed["p50_ns"].as_u64() <= timed["p99_ns"].as_u64());
    assert!(timed["p99_ns"].as_u64() <= timed["max_ns"].as_u64());
    assert!(!summary["workloads"]["cluster"]["latency"]["corrected"].is_null());
    assert!(!summary["workloads"]["timers"]["timer_lateness"].is_null());
    assert_eq!(json(&out.join("run.json"))["options"]["connections"], 40);
    assert_eq!(fs::read_dir(out.join("failures")).unwrap().count(), 0);
    let log = fs::read_to_string(out.join("latency.hlog")).unwrap();
    for tag in
        ["Tag=echo.corrected,", "Tag=echo.uncorrected,", "Tag=timers.lateness,", "Tag=cluster.corrected,"]
    {
        assert!(log.contains(tag), "{tag} is not in\n{log}");
    }

    // What exists is not overwritten.
    let before = fs::read(out.join("summary.json")).unwrap();
    let (code, _, stderr) = run(&["--workload", "echo", "--seconds", "1", "--out", path]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("exists") && stderr.contains("--resume"), "{stderr}");
    assert_eq!(fs::read(out.join("summary.json")).unwrap(), before);
}

#[test]
fn an_open_loop_tells_how_late_messages_were_that_could_not_be_sent() {
    let said =
        pass(&["--workload", "echo", "--seconds", "2", "--rate", "1000", "--connections", "20", "--json"]);
    let summary: Value = serde_json::from_str(&said).unwrap();
    let echo = &summary["workloads"]["echo"];
    let (corrected, uncorrected) = (&echo["latency"]["corrected"], &echo["latency"]["uncorrected"]);
    assert_eq!(corrected["count"], uncorrected["count"]);
    // A stream that ends and the next one that connects keep messages waiting: that is in the one and not in the other.
    assert!(corrected["max_ns"].as_u64() > uncorrected["p50_ns"].as_u64(), "{echo}");
    for percentile in ["p50_ns", "p99_ns", "max_ns"] {
        assert!(corrected[percentile].as_u64() >= uncorrected[percentile].as_u64(), "{percentile}: {echo}");
    }
}

#[test]
fn short_plans_pass_as_the_simulator_draws_them() {
    let said =
        pass(&["--workload", "echo,timers", "--plans", "drawn", "--lanes", "2", "--seconds", "2", "--json"]);
    let summary: Value = serde_json::from_str(&said).unwrap();
    assert!(summary["counters"]["episodes"].as_u64() >= Some(4), "{summary}");
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("night");
    let path = out.to_str().unwrap();
    let arguments = [
        "--workload",
        "echo,wake",
        "--seconds",
        "600",
        "--interval",
        "1",
        "--episode-seconds",
        "1",
        "--connections",
        "10",
        "--long",
        "on",
        "--out",
        path,
    ];
    let mut child = soak(&arguments).spawn().unwrap();
    until(&mut child, || lines(&out).len() >= 3);
    signal(&child, "KILL");
    let (status, ..) = finish(child);
    assert_eq!(status.code(), None);
    let before = lines(&out);
    let last = before.last().unwrap();
    let mut torn = fs::read(out.join("intervals.jsonl")).unwrap();
    torn.extend_from_slice(b"{\"elapsed_s\": 99999, \"epi");
    fs::write(out.join("intervals.jsonl"), torn).unwrap();

    let seconds = (last["elapsed_s"].as_f64().unwrap() as u64 + 3).to_string();
    let (code, stdout, stderr) = run(&["--resume", path, "--seconds", &seconds]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stderr.contains("the last line was torn"), "{stderr}");
    let all = lines(&out);
    assert!(all.len() > before.len());
    assert_eq!(all[..before.len()], before);
    for pair in all.windows(2) {
        for counter in documented("These only grow", "Each of `workloads` has") {
            if counter != "errors" {
                assert!(
                    pair[0][&counter].as_u64() <= pair[1][&counter].as_u64(),
                    "{counter} goes back: {pair:?}"
                );
            }
        }
        for grows in ["episodes_begun", "part", "unix_ms"] {
            assert!(pair[0][grows].as_u64() <= pair[1][grows].as_u64(), "{grows} goes back: {pair:?}");
        }
        assert!(pair[0]["elapsed_s"].as_f64() <= pair[1]["elapsed_s"].as_f64(), "time goes back: {pair:?}");
    }
    assert_eq!(all.last().unwrap()["part"], 1);
    let summary = json(&out.join("summary.json"));
    assert_eq!(summary["intervals"].as_u64(), Some(all.len() as u64));
    assert_eq!(summary["counters"]["messages"], all.last().unwrap()["messages"]);
    let timed =
        |line: &Value| line["workloads"]["echo"]["latency"]["corrected"]["count"].as_u64().unwrap_or(0);
    let counted: u64 = all.iter().map(timed).sum();
    assert_eq!(timed(&summary), counted, "the summary covers both parts");
}

#[test]
fn a_signal_stops_with_a_summary_and_another_one_asks_for_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let arguments = [
        "--workload",
        "echo",
        "--seconds",
        "600",
        "--interval",
        "1",
        "--connections",
        "10",
        "--out",
        out.to_str().unwrap(),
    ];
    let mut child = soak(&arguments).spawn().unwrap();
    until(&mut child, || !lines(&out).is_empty());
    signal(&child, "USR1");
    until(&mut child, || lines(&out).len() >= 3);
    signal(&child, "INT");
    let (status, stdout, stderr) = finish(child);
    assert_eq!(status.code(), Some(130), "{stdout}{stderr}");
    assert!(stdout.lines().last().unwrap().starts_with("interrupted: "), "{stdout}");
    let intervals = lines(&out).len();
    let status_lines = stdout.lines().filter(|line| line.contains(" s  ")).count();
    // The last record is not said again; SIGUSR1 said one more.
    assert_eq!(status_lines, intervals, "{stdout}");
    assert_eq!(json(&out.join("summary.json"))["verdict"], "interrupted");
}

#[test]
fn records_that_cannot_be_written_end_a_run_with_its_verdict() {
    let (code, _, stderr) = run(&["--workload", "echo", "--seconds", "1", "--out", "/proc/nothing/here"]);
    assert_eq!(code, Some(7), "{stderr}");
    assert!(stderr.contains("cannot make the folder /proc/nothing"), "{stderr}");

    // A disk that is full, as a process sees it: files may not grow beyond a few kilobytes.
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("full");
    let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" run --workload echo --seconds 20 --interval 1 --connections 10 --out \"$1\"";
    let Output { status, stdout, stderr } = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_soak"), out.to_str().unwrap()])
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(7), "{stdout}{stderr}");
    assert!(
        stderr.contains("cannot write") && stderr.contains("the records of this run are not whole"),
        "{stderr}"
    );
    assert!(
        stdout.lines().last().unwrap().starts_with("pass, but its records are not whole: "),
        "the verdict is said all the same: {stdout}"
    );
}

#[test]
fn what_cannot_be_asked_for_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap().to_owned();
    let cases: [(&[&str], &str); 12] = [
        (&[], "--workload"),
        (&["--workload", "ecko"], "there is no workload \"ecko\"; there are echo, wake"),
        (&["--workload", "echo,echo"], "asked for twice"),
        (&["--workload", "echo", "--seconds", "0"], "no time"),
        (&["--workload", "echo", "--seconds", "many"], "many"),
        (&["--workload", "echo", "--rate", "0"], "--rate"),
        (&["--workload", "echo", "--connections", "0"], "--connections"),
        (&["--workload", "echo", "--seed", "x"], "is not a seed"),
        (&["--workload", "echo", "--poller", "select"], "there is no poller select"),
        (&["--workload", "echo", "--clock-start", "18446744073709551615"], "the clock ends"),
        (&["--workload", "echo", "--clock-start", "1"], "clocks only go forward"),
        (&["--resume", &empty], "there is no run to resume"),
    ];
    for (arguments, says) in cases {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stdout}{stderr}");
        assert!(stderr.contains(says) && stdout.is_empty(), "{arguments:?}: {stdout}{stderr}");
    }
    let drawn = ["--workload", "echo", "--plans", "drawn", "--rate", "10"];
    assert_eq!(run(&drawn).0, Some(2));
    fs::write(folder.path().join("run.json"), "{\"schema\": 1}").unwrap();
    let (code, _, stderr) = run(&["--resume", &empty]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("intervals.jsonl is gone"), "{stderr}");
    fs::write(folder.path().join("intervals.jsonl"), "").unwrap();
    let (code, _, stderr) = run(&["--resume", &empty]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("no options that this program knows"), "{stderr}");
    assert_eq!(
        run(&["--resume", &empty, "--rate", "1"]).0,
        Some(2),
        "what a run is made of is not changed in the middle"
    );
}

#[test]
fn help_teaches() {
    let (code, stdout, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for word in ["Examples:", "Exit codes:", "SIGUSR1", "--resume", "open loop", "REPORT_FORMAT.md"] {
        assert!(stdout.contains(word), "{word} is not in\n{stdout}");
    }
    assert!(!stdout.contains("plant"));
}

#[test]
fn loops_run_where_clocks_are_after_centuries() {
    // A second before 2^63 nanoseconds, so that the run crosses it; both ends of the load see the same clock.
    let near = (1u64 << 63) - 1_000_000_000;
    pass(&[
        "--workload",
        "echo,timers",
        "--seconds",
        "2",
        "--connections",
        "10",
        "--clock-start",
        &near.to_string(),
    ]);
}

/// A round a second, with as little in it as there can be.
const ROUNDS: [&str; 8] =
    ["--workload", "wake", "--seconds", "11", "--episode-seconds", "1", "--connections", "1"];

#[test]
fn what_each_round_leaves_behind_is_a_leak() {
    let plants = ["leak-descriptors", "leak-memory", "none"];
    let children = plants.map(|plant| {
        let planted: &[&str] = if plant == "none" { &["--long", "on"] } else { &["--plant", plant] };
        soak(&[&ROUNDS[..], planted].concat()).spawn().unwrap()
    });
    for (plant, child) in plants.into_iter().zip(children) {
        let (status, stdout, stderr) = finish(child);
        let (code, says) = match plant {
            "leak-descriptors" => (4, "leak: descriptors keep growing"),
            "leak-memory" => (4, "leak: allocated_bytes keep growing"),
            _ => (0, ""),
        };
        assert_eq!(status.code(), Some(code), "{plant}: {stdout}{stderr}");
        assert!(stderr.contains(says), "{plant}: {stderr}");
    }
}

#[test]
fn a_producer_that_stops_is_a_stall_with_all_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("stall");
    let (code, stdout, stderr) = run(&[
        "--workload",
        "wake",
        "--seconds",
        "60",
        "--plant",
        "stall",
        "--stall-seconds",
        "1",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!(code, Some(3), "{stdout}{stderr}");
    assert!(stderr.contains("nothing has happened for 1 s"), "{stderr}");
    for known in ["stalled: wake episode 0", "timers pending", "lost-wakeup", "last calls:", "epoll_wait"] {
        assert!(cfg!(not(target_os = "linux")) || stderr.contains(known), "{known} is not in\n{stderr}");
    }
    let failure = json(&out.join("failures/failure-0.json"));
    assert_eq!(keys(&failure), ["at_s", "class", "episode", "part", "text"]);
    assert_eq!(failure["class"], "liveness");
    let events = fs::read_to_string(out.join("events.jsonl")).unwrap();
    let event: Value = serde_json::from_str(events.trim()).unwrap();
    assert_eq!((keys(&event).len(), event["is_failure"].as_bool()), (4, Some(true)));
}

#[test]
fn chaos_breaks_streams_that_are_excused_and_its_events_are_in_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let path = out.to_str().unwrap();
    let said = pass(&[
        "--workload",
        "echo",
        "--chaos",
        "cruel",
        "--seconds",
        "4",
        "--connections",
        "20",
        "--out",
        path,
    ]);
    assert!(said.contains("left out here: ports ("), "{said}");
    let run = json(&out.join("run.json"));
    assert!(run["options"]["chaos"]["left_out"]["memory"].is_string(), "{run}");
    let events = fs::read_to_string(out.join("events.jsonl")).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!events.is_empty());
    let fields = documented("## events.jsonl", "`summary.json` has");
    for event in &events {
        assert_eq!(keys(event), fields);
    }
    let summary = json(&out.join("summary.json"));
    let counted = summary["chaos"].as_object().unwrap().values().map(|kind| kind["events"].as_u64().unwrap());
    assert_eq!(counted.sum::<u64>(), events.len() as u64);
}

#[test]
fn chaos_that_does_not_exist_or_cannot_be_had_is_refused() {
    for (arguments, reason) in [
        (["--chaos", "cruel", "--chaos-only", "rain"], "there is no kind of chaos \"rain\""),
        (["--chaos", "cruel", "--chaos-only", "memory"], "cannot be had here"),
        (["--chaos", "cruel", "--plans", "drawn"], "sustained loads"),
    ] {
        let arguments: Vec<&str> = ["--workload", "echo"].into_iter().chain(arguments).collect();
        let (code, _, stderr) = run(&arguments);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    }
}

#[test]
fn an_interrupt_in_the_middle_of_chaos_leaves_a_summary_and_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let path = out.to_str().unwrap();
    let mut child = soak(&[
        "--workload",
        "echo",
        "--chaos",
        "cruel",
        "--chaos-only",
        "descriptors,hog,stall,vanish",
        "--seconds",
        "60",
        "--connections",
        "20",
        "--out",
        path,
    ])
    .spawn()
    .unwrap();
    until(&mut child, || out.join("events.jsonl").exists());
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert_eq!(json(&out.join("summary.json"))["verdict"], "interrupted");
}
