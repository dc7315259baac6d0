//! The binary `sim` as its users meet it: what it prints, and what it exits with.

use std::process::{Command, Output, Stdio};

fn sim(arguments: &[&str]) -> Output {
    sim_with(&[], arguments)
}

/// With these variables, and none of those that the tests themselves may run under.
fn sim_with(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SIM_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied()).args(arguments).output().expect("the binary can be started")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one line that says what was wrong.
fn complaint(arguments: &[&str]) -> String {
    let output = sim(arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn list_names_everything_that_can_be_asked_for() {
    let output = sim(&["list"]);
    assert_eq!(output.status.code(), Some(0));
    let text = out(&output);
    for name in
        ["echo", "wake", "timers", "linux", "freebsd", "macos", "calm", "cruel", "byte-stream", "lost-wakeup"]
    {
        assert!(text.contains(&format!("  {name} ")), "{name} is missing in:\n{text}");
    }
}

#[test]
fn help_teaches_by_examples() {
    for arguments in [&["--help"][..], &["run", "--help"], &["replay", "--help"]] {
        let output = sim(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("Examples:"));
    }
}

#[test]
fn scale_tells_what_many_connections_cost_from_the_smallest_size_on() {
    let output = sim(&["scale", "--connections", "400,100", "--kernel", "freebsd", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let rows: Vec<serde_json::Value> =
        out(&output).lines().map(|line| serde_json::from_str(line).expect("one object per line")).collect();
    let of = |name: &str| rows.iter().map(|row| row[name].as_u64().expect(name)).collect::<Vec<_>>();
    assert_eq!(of("connections"), [100, 400]);
    assert_eq!(of("connections_peak"), [100, 400]);
    assert_eq!(of("messages"), [600, 2_400], "three of each connection, at both ends");
    assert!(of("steps").iter().zip(of("calls")).all(|(&steps, calls)| steps > calls));
    let table = out(&sim(&["scale", "--connections", "100,200"]));
    assert!(table.lines().next().is_some_and(|line| line.contains("steps/call")), "{table}");
    assert!(table.contains("from first to last: 2 times the connections"), "{table}");
}

#[test]
fn a_sweep_sums_up() {
    let output = sim(&["run", "--runs", "30", "--jobs", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    let text = out(&output);
    for line in ["runs ", "failed ", "virtual time", "runs/s", "trace hash", "faults ", "effective"] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
    assert!(text.contains("made twice                   1  0 differed\n"), "one run in a hundred:\n{text}");
    let every = out(&sim(&["run", "--runs", "30", "--check-determinism"]));
    assert!(every.contains("made twice                  30  0 differed\n"), "{every}");
    assert!(output.stderr.is_empty(), "no bar where there is no terminal");
}

fn summary(arguments: &[&str]) -> serde_json::Value {
    let output = sim(arguments);
    let text = out(&output);
    serde_json::from_str(text.lines().last().expect("a summary")).expect("JSON")
}

#[test]
fn json_ends_with_a_summary_and_jobs_change_nothing() {
    let one = summary(&["run", "--runs", "40", "--json", "--jobs", "1"]);
    let two = summary(&["run", "--runs", "40", "--json", "--jobs", "2", "--check-determinism"]);
    for member in ["runs", "failed", "steps", "calls", "virtual_s", "wall_s", "trace_hash", "faults"] {
        assert!(!one[member].is_null(), "{member} is missing in {one}");
    }
    assert_eq!(one["trace_hash"], two["trace_hash"]);
    assert_eq!(one["runs"], 40);
}

#[test]
fn a_replay_shows_calls_and_ends_with_the_hash_of_the_sweep() {
    let seed = "0x00000000000051ed";
    let swept = summary(&["run", "--runs", "1", "--seed", seed, "--json"]);
    let output = sim(&["replay", seed]);
    assert_eq!(output.status.code(), Some(0));
    let text = out(&output);
    assert!(text.contains("clock_gettime() -> "), "calls are shown");
    let last = text.lines().last().expect("a line");
    assert!(last.starts_with("trace hash 0x"), "{last}");
    // One run's hash is folded into the sweep's.
    assert!(swept["trace_hash"].is_string());
    assert_eq!(out(&sim(&["replay", seed])), text);
}

#[test]
fn files_are_scripts_or_bytes_of_a_fuzzer() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path.to_str().expect("a plain name").to_owned()
    };
    let script = file("script", b"sim-script 1\nsetup 0 0 = 2\n");
    let text = out(&sim(&["replay", &script]));
    assert!(text.contains("passed: wake on linux in calm weather"), "{text}");
    let bytes = file("crash", &[0x41, 7, 1, 0x10, 9]);
    let text = out(&sim(&["replay", &bytes, "--workload", "timers"]));
    assert!(text.contains("passed: timers"), "{text}");
    let wrong = file("wrong", b"sim-script 1\nsetup zero = 2\n");
    assert!(complaint(&["replay", &wrong]).contains("line 2"));
}

#[test]
fn bad_input_gets_one_clear_line_and_exit_code_2() {
    let text = complaint(&["run", "--workload", "ecko"]);
    assert!(text.contains("ecko") && text.contains("echo, wake, timers"), "{text}");
    let text = complaint(&["run", "--kernel", "plan9"]);
    assert!(text.contains("linux, freebsd, macos"), "{text}");
    let text = complaint(&["run", "--weather", "hail"]);
    assert!(text.contains("calm, default, cruel, tiny"), "{text}");
    let text = complaint(&["run", "--seed", "0xfish"]);
    assert!(text.contains("0xfish") && text.contains("decimal"), "{text}");
    complaint(&["run", "--jobs", "0"]);
    complaint(&["run", "--runs", "many"]);
    complaint(&["dance"]);
}

#[test]
fn a_folder_cannot_be_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = sim(&["replay", folder.path().to_str().expect("a plain name")]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}

#[test]
fn a_closed_output_ends_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["replay", "0x51ed", "--workload", "echo"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_real_clock_or_randomness_inside_a_run_ends_the_process_with_its_name() {
    for (what, call) in [("clock", "clock_gettime"), ("randomness", "getrandom")] {
        let output = sim(&["trespass", what]);
        assert_eq!(output.status.code(), None, "it is ended by a signal: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.starts_with(&format!("{call} was called inside a simulated run")), "{text}");
        let culprit = text.lines().nth(1).expect("a second line");
        assert!(culprit.contains("by ") && culprit.contains("trespass"), "the site is named:\n{text}");
    }
}

#[test]
fn replay_prints_the_hash_that_the_sweep_recorded() {
    let output = sim(&["run", "--runs", "5", "--seed", "77", "--hashes"]);
    let text = out(&output);
    let runs: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("run "))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(runs.len(), 5, "{text}");
    for run in runs {
        let [_, _, _, seed, _, _, hash] = run[..] else { panic!("{run:?}") };
        let replayed = out(&sim(&["replay", seed]));
        assert_eq!(replayed.lines().last(), Some(format!("trace hash {hash}").as_str()));
    }
}

#[test]
fn faults_are_listed_for_people_and_for_machines() {
    let output = sim(&["faults"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(out(&output).contains("late-waits ") && out(&output).contains("C4, N6, B30"));
    for kernel in ["linux", "freebsd", "macos"] {
        let objects = out(&sim(&["faults", "--json", "--kernel", kernel]));
        for line in objects.lines() {
            let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let kernels = object["kernels"].as_array().expect("a list");
            assert!(kernels.iter().any(|legal| legal == kernel), "{line}");
            assert_eq!(object["default"].as_array().map(Vec::len), Some(3), "{line}");
        }
        assert!(objects.lines().count() > 20);
    }
}

#[test]
fn a_fault_that_does_not_exist_lists_those_that_do() {
    for option in ["--faults", "--without-faults", "--suppress-faults"] {
        let text = complaint(&["run", option, "late-waits,solar-flares"]);
        assert!(text.contains("\"solar-flares\"") && text.contains("split-segments"), "{text}");
    }
    let text = complaint(&["faults", "--kernel", "plan9"]);
    assert!(text.contains("linux") && text.contains("freebsd") && text.contains("macos"), "{text}");
}

#[test]
fn a_sweep_that_requires_its_faults_names_the_one_that_does_not_bite() {
    let biting =
        ["run", "--runs", "200", "--weather", "cruel", "--faults", "split-segments", "--require-faults"];
    assert_eq!(sim(&biting).status.code(), Some(0));
    let output = sim(&[&biting[..], &["--suppress-faults", "split-segments"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("split-segments was drawn in") && text.contains("changed nothing"), "{text}");
}

#[test]
fn what_is_fixed_about_faults_is_part_of_a_replay() {
    let plain = out(&sim(&["replay", "5", "--weather", "cruel"]));
    let fixed = out(&sim(&["replay", "5", "--weather", "cruel", "--faults", "split-segments"]));
    let hash = |text: &str| text.lines().last().expect("a hash").to_owned();
    assert_ne!(hash(&plain), hash(&fixed));
}

#[test]
#[cfg(target_os = "linux")]
fn scripts_that_need_what_is_missing_are_skipped_with_the_reason_and_never_count_as_passed() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("own_network.script");
    std::fs::write(&script, "# T0: a network of its own\nneeds netns\nports 40000 40003\n").unwrap();
    let listed = sim(&["conform", "--capabilities"]);
    assert_eq!(listed.status.code(), Some(0));
    let listed = out(&listed);
    let granted = listed.lines().any(|line| line.starts_with("granted  netns"));
    assert!(granted || listed.lines().any(|line| line.starts_with("missing  netns")), "{listed}");
    let ran = out(&sim(&["conform", "--on", "live", script.to_str().unwrap()]));
    if granted {
        assert!(ran.ends_with("1 passed, 0 skipped, 0 failed\n"), "{ran}");
    } else {
        assert!(ran.contains("netns is missing: "), "{ran}");
        assert!(ran.ends_with("0 passed, 1 skipped, 0 failed\n"), "{ran}");
    }
}

#[test]
fn a_trace_is_written_in_every_format_from_seeds_and_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = folder.path().join("clusterfuzz-testcase-loop_wake-4567");
    std::fs::write(&bytes, [7; 300]).unwrap();
    for what in ["0x51ed", bytes.to_str().unwrap()] {
        let traced = |format: &str| {
            let path = folder.path().join(format);
            let output = sim(&["trace", what, "--format", format, "--out", path.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert!(output.stdout.is_empty());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(said.contains("the workload wake"), what != "0x51ed", "{said}");
            std::fs::read(path).unwrap()
        };
        assert!(traced("html").starts_with(b"<!doctype html>"));
        assert_eq!(traced("pcapng")[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        let perfetto: serde_json::Value = serde_json::from_slice(&traced("perfetto")).expect("JSON");
        assert!(perfetto["traceEvents"].is_array());
        assert!(traced("json").starts_with(b"{\"type\":\"header\",\"format\":\"sim-trace\""));
        // The same lines as a replay has, and the same hash.
        let lines = String::from_utf8(traced("text")).unwrap();
        let replayed = out(&sim(&["replay", what]));
        let calls = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.contains(" -> ")).map(str::to_owned).skip(1).collect()
        };
        assert_eq!(calls(&lines), calls(&replayed));
        assert_eq!(lines.lines().last(), replayed.lines().last());
    }
}

#[test]
fn a_trace_that_cannot_be_made_or_written_says_why() {
    let text = complaint(&["trace", "1", "--format", "gif"]);
    assert!(text.contains("html") && text.contains("pcapng"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let output = sim(&["trace", "1", "--out", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("sim: cannot write "), "{output:?}");
}

#[test]
fn variables_stand_for_options_that_are_not_given() {
    let hashes = |variables: &[(&str, &str)], arguments: &[&str]| {
        out(&sim_with(variables, &[&["run", "--hashes"][..], arguments].concat()))
            .lines()
            .filter(|line| line.starts_with("run "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let given = hashes(
        &[],
        &["--seed", "7", "--runs", "6", "--workload", "echo", "--kernel", "macos", "--shard", "2/2"],
    );
    assert_eq!(given.len(), 3, "{given:?}");
    let variables = [
        ("SIM_SEED", "7"),
        ("SIM_RUNS", "6"),
        ("SIM_JOBS", "2"),
        ("SIM_WORKLOAD", "echo"),
        ("SIM_KERNEL", "macos"),
        ("SIM_SHARD", "2/2"),
    ];
    assert_eq!(hashes(&variables, &[]), given);
    assert_eq!(hashes(&variables, &["--runs", "1", "--shard", "1/1"]).len(), 1, "an option wins");
}

#[test]
fn a_variable_that_means_nothing_here_is_refused() {
    for (name, value, part) in [
        ("SIM_SED", "1", "SIM_SED is no variable of `sim`; there are: SIM_SEED"),
        ("SIM_SEED", "zz", "(SIM_SEED says so)"),
        ("SIM_RUNS", "0", "(SIM_RUNS says so)"),
        ("SIM_KERNEL", "plan9", "(SIM_KERNEL says so)"),
        ("SIM_REPLAY", "kept.simlog", "here it is sim replay FILE"),
        ("SIM_RUNS", "99999999999999999999", "at most 18446744073709551615"),
    ] {
        let output = sim_with(&[(name, value)], &["run"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains(part) && said.lines().count() == 1, "{name}: {said}");
    }
}
