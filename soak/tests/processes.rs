//! `soak run --processes` as a program: services that share a port, clients that are stopped and killed, and no process
//! that is left behind.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use sim::recording::{Options, Recording, replay};

/// A word in the environment of a run and of all its processes, by which they are found wherever they are.
const MARK: &str = "SOAK_TEST_MARK";

struct Run {
    mark: String,
    command: Command,
}

impl Run {
    /// A run with these options, which stand between spaces.
    fn new(mark: &str, options: &str) -> Run {
        let mark = format!("{mark}-{}", std::process::id());
        let mut command = Command::new(env!("CARGO_BIN_EXE_soak"));
        command.arg("run").args(options.split_whitespace()).env(MARK, &mark);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Run { mark, command }
    }

    /// Writes its records there.
    fn into(mut self, out: &Path) -> Run {
        self.command.arg("--out").arg(out);
        self
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

fn seconds(interval: &Value) -> f64 {
    interval["elapsed_s"].as_f64().unwrap()
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
    let options = "--workload echo,wake,timers,cluster --processes 3 --seconds 4 \
            --interval 1 --connections 24";
    let mut run = Run::new("share", options).into(&out);
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
    let options = "--workload echo,cluster --processes 2 --chaos cruel --chaos-only stop,kill --seed 3 \
        --seconds 600 --connections 20";
    let mut run = Run::new("kill", options).into(&out);
    let mut child = run.command.spawn().unwrap();
    let has_struck = |kind: &str| {
        let events = lines(&out.join("events.jsonl"));
        events.iter().any(|event| event["kind"] == kind && event["touched"].as_u64() > Some(0))
    };
    // Then for some time more: a second life has to come to something, too.
    run.until(&mut child, |_| has_struck("stop") && has_struck("kill"));
    let killed_at_s = lines(&out.join("intervals.jsonl")).last().map_or(0.0, seconds);
    run.until(&mut child, |_| {
        lines(&out.join("intervals.jsonl")).last().map_or(0.0, seconds) > killed_at_s + 3.0
    });
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(130), "{stdout}{stderr}");
    assert_eq!(run.processes(), [0; 0], "a process is left behind");
    let summary = json(&out.join("summary.json"));
    assert_eq!(summary["failures"], Value::Array(Vec::new()), "{summary}");
    assert_eq!(summary["chaos_without_effect"], Value::Array(Vec::new()));
}

#[test]
fn recordings_of_all_processes_of_an_episode_replay_together_under_chaos() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let options = "--workload echo --processes 2 --chaos cruel --chaos-only delay,split,reset,interrupt,kill \
        --seconds 6 --episode-seconds 2 --connections 20 --seed 5 --keep-recordings";
    let (code, stdout, stderr) = Run::new("keep", options).into(&out).finish();
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let mut episodes: BTreeMap<String, Vec<Recording>> = BTreeMap::new();
    for file in fs::read_dir(out.join("failures")).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        let episode = name.split("-0x").next().unwrap().to_owned();
        let recording = Recording::from_bytes(&fs::read(file.path()).unwrap()).unwrap();
        episodes.entry(episode).or_default().push(recording);
    }
    assert!((1..=2).contains(&episodes.len()), "those of the last two are kept: {:?}", episodes.keys());
    for (episode, recordings) in episodes {
        let joined = Recording::join(recordings.clone()).unwrap();
        let played = replay(&joined, Options::default()).unwrap();
        assert_eq!(played.difference(), None, "{episode}");
        assert_eq!(played.failure, None, "{episode}");
        assert!(joined.verdict.unwrap().agrees_with(None));
        assert!(Recording::join(vec![recordings[0].clone(), recordings[0].clone()]).is_err());
    }
}

#[test]
fn what_only_all_processes_together_show_is_found_again_in_their_recordings() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let options = "--workload echo --processes 2 --chaos cruel --chaos-only reset --plant forget-cuts \
        --seconds 600 --episode-seconds 2 --connections 20 --seed 5";
    let (code, stdout, stderr) = Run::new("joined", options).into(&out).finish();
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("nothing excuses it"), "{stderr}");
    let files = stderr.lines().find_map(|line| line.trim().strip_prefix("replay: sim replay ")).unwrap();
    let recordings: Vec<Recording> = files
        .split_whitespace()
        .map(|file| Recording::from_bytes(&fs::read(file).unwrap()).unwrap())
        .collect();
    assert!(recordings.len() >= 3, "those of two processes of services and of clients: {files}");
    for recording in &recordings {
        let verdict = recording.verdict.as_ref().unwrap();
        assert!(verdict.failure.is_none() && verdict.joined.is_some(), "none of them sees it alone");
        assert_eq!(replay(recording, Options::default()).unwrap().failure, None);
    }
    let joined = Recording::join(recordings).unwrap();
    let played = replay(&joined, Options::default()).unwrap();
    assert!(played.is_faithful());
    assert!(joined.verdict.unwrap().agrees_with(played.failure.as_ref()), "{:?}", played.failure);
    assert_eq!(played.failure.unwrap().invariant, "byte-stream");
}

#[test]
fn a_process_that_crashes_is_a_failure_with_its_last_words_and_the_others_leave_their_recordings() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let options = "--workload echo --processes 2 --plant crash --seconds 60 --connections 10";
    let (code, stdout, stderr) = Run::new("crash", options).into(&out).finish();
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
    let options = "--workload wake --processes 2 --plant stall --stall-seconds 1 \
            --seconds 60";
    let (code, stdout, stderr) = Run::new("stall", options).into(&out).finish();
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
        // Processes that are stopped hear nothing of a pipe that closes.
        let options = "--workload echo --processes 2 --chaos cruel --chaos-only stop \
            --seconds 60 --connections 10";
        let mut run = Run::new(&format!("end{signal}"), options).into(&out);
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
    let cases = [
        ("--processes 0", "--processes"),
        ("--processes 65", "--processes"),
        ("--processes 2 --plans drawn", "--processes is of sustained loads"),
        ("--chaos calm --chaos-only kill", "--processes 2 gives them processes of their own"),
    ];
    for (options, says) in cases {
        let (code, stdout, stderr) = Run::new("refuse", &format!("--workload echo {options}")).finish();
        assert_eq!(code, Some(2), "{options}: {stdout}{stderr}");
        assert!(stderr.contains(says) && stdout.is_empty(), "{options}: {stdout}{stderr}");
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

/// What is said of a kind of chaos that this machine cannot give; `None` where it can.
fn left_out(kind: &str) -> Option<String> {
    let listed = Command::new(env!("CARGO_BIN_EXE_soak")).arg("chaos").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut lines = listed.lines().skip_while(|line| line.split_whitespace().next() != Some(kind));
    let needs = lines.nth(1).unwrap_or_else(|| panic!("{kind} is not in\n{listed}"));
    needs.trim().strip_prefix("left out here: ").map(str::to_owned)
}

/// Groups of processes that the process `pid` made, wherever they are.
fn groups(pid: u32, under: &Path) -> usize {
    let prefix = format!("soak-{pid}-");
    let entries = fs::read_dir(under).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .map(|folder| {
            let is_ours = folder.file_name().to_string_lossy().starts_with(&prefix);
            usize::from(is_ours) + groups(pid, &folder.path())
        })
        .sum()
}

#[test]
fn ports_run_out_memory_is_short_and_links_are_slow_in_namespaces_and_groups_of_their_own() {
    let kinds: Vec<&str> =
        ["ports", "memory", "link"].into_iter().filter(|kind| left_out(kind).is_none()).collect();
    if kinds.is_empty() {
        return eprintln!("skipped: {:?}", left_out("ports"));
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let only = kinds.join(",");
    let options = format!(
        "--workload echo,cluster --processes 2 --chaos cruel --chaos-only {only} \
            --seed 3 --seconds 6 --connections 40"
    );
    let mut run = Run::new("grounds", &options).into(&out);
    let child = run.command.spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    let summary = json(&out.join("summary.json"));
    for kind in kinds {
        assert!(summary["chaos"][kind]["events"].as_u64() > Some(0), "{kind}: {}", summary["chaos"]);
    }
    assert!(summary["counters"]["messages"].as_u64() > Some(0));
    assert_eq!(run.processes(), [0; 0], "who holds a namespace is left behind");
    assert_eq!(groups(pid, Path::new("/sys/fs/cgroup")), 0, "a group is left behind");
}

#[test]
fn a_run_that_is_killed_leaves_no_namespace_and_no_group_behind() {
    let kinds: Vec<&str> =
        ["ports", "memory", "link", "stop"].into_iter().filter(|kind| left_out(kind).is_none()).collect();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let only = kinds.join(",");
    let options = format!(
        "--workload echo --processes 2 --chaos cruel --chaos-only {only} \
            --seconds 60 --connections 10"
    );
    let mut run = Run::new("gone", &options).into(&out);
    let mut child = run.command.spawn().unwrap();
    run.until(&mut child, |_| out.join("events.jsonl").exists());
    if kinds.contains(&"memory") {
        assert!(groups(child.id(), Path::new("/sys/fs/cgroup")) > 0, "there is something to be removed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Namespaces have no names: they are gone with the last process that is in them.
    while !run.processes().is_empty() || groups(child.id(), Path::new("/sys/fs/cgroup")) > 0 {
        rest();
    }
}

#[test]
fn what_the_machine_does_not_allow_is_refused_with_the_reason() {
    let refused = |mut command: Command| {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert_eq!(status.code(), Some(2), "{}{stderr}", String::from_utf8_lossy(&stdout));
        assert!(stderr.contains("cannot be had here: "), "{stderr}");
        stderr
    };
    let asked = "--workload echo --processes 2 --chaos calm --chaos-only";
    // No tools, or no right to a namespace.
    let mut without_tools = Run::new("tools", &format!("{asked} link")).command;
    without_tools.env("PATH", "/nowhere");
    let said = refused(without_tools);
    assert!(said.contains("ip link set lo up") || said.contains("cannot be made"), "{said}");
    if let Some(reason) = left_out("netem") {
        let said = refused(Run::new("netem", &format!("{asked} netem")).command);
        assert!(said.contains(reason.split(" (").next().unwrap()), "{said}");
    }
    for kind in ["ports", "memory", "link", "netem", "stop"] {
        let alone = format!("--workload echo --chaos calm --chaos-only {kind}");
        assert!(refused(Run::new("alone", &alone).command).contains("--processes 2"), "{kind}");
    }
    let elsewhere = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["remove-group", "/tmp"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(elsewhere.status.code(), Some(2));
    assert!(Path::new("/tmp").exists());
}
