//! A sweep in parts, and the parts put together: what many machines find is what one machine finds.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const RUNS: &str = "72";

/// The binary, without any variable of an engine that the tests themselves may run under.
fn sim() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    bare(&mut command);
    command
}

fn bare(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let engines =
            ["JOB_COMPLETION", "SLURM_", "AWS_BATCH", "NOMAD_", "CI_NODE", "TEST_", "GTEST_", "SIM_"];
        if engines.iter().any(|engine| name.starts_with(engine)) {
            command.env_remove(name);
        }
    }
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a plain name").to_owned()
}

fn done(mut command: Command) -> Output {
    let output = command.output().expect("it can be started");
    assert_eq!(output.status.code(), Some(0), "{command:?}\n{output:?}");
    output
}

/// The unsharded sweep that the files in `sim/deploy` cut into parts.
fn whole(folder: &Path) -> String {
    let file = path(folder, "whole.jsonl");
    let mut command = sim();
    done({
        command.args(["run", "--runs", RUNS, "--stratified", "--jobs", "2", "--records", &file]);
        command
    });
    file
}

fn merged(folder: &Path, name: &str, files: &[String]) -> (String, Output) {
    let out = path(folder, name);
    let mut command = sim();
    command.arg("merge").args(files).args(["--out", &out]);
    let output = command.output().expect("it can be started");
    (out, output)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(file).expect("it was written")
}

/// The lines of one type.
fn lines(file: &str, of: &str) -> Vec<String> {
    let text = text(file);
    let is_of = |line: &&str| serde_json::from_str::<Value>(line).expect("JSON")["type"] == of;
    text.lines().filter(is_of).map(str::to_owned).collect()
}

fn value(line: &str) -> Value {
    serde_json::from_str(line).expect("JSON")
}

/// Merges what the parts have written, and compares it with one sweep, record for record.
fn compare(folder: &Path, parts: &[String]) {
    let whole = whole(folder);
    let (all, output) = merged(folder, "merged.jsonl", parts);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (one, _) = merged(folder, "one.jsonl", std::slice::from_ref(&whole));
    let records = lines(&all, "run");
    assert_eq!(records.len().to_string(), RUNS);
    assert_eq!(records, lines(&one, "run"));
    assert_eq!(
        records,
        lines(&whole, "run"),
        "a sweep writes its records in the order in which they are merged"
    );
    // And the sums: the report of the merge has the combined hash of the sweep.
    let sum = |files: &[String]| {
        let mut command = sim();
        command.arg("merge").arg("--json").args(files);
        let text = String::from_utf8(done(command).stdout).expect("text");
        value(text.lines().last().expect("a summary"))
    };
    assert_eq!(sum(parts), sum(&[whole]));
}

#[test]
fn four_shards_merged_are_one_sweep() {
    let folder = tempfile::tempdir().expect("a folder");
    let part = |number: usize| {
        let file = path(folder.path(), &format!("{number}.jsonl"));
        let mut command = sim();
        let shard = format!("{number}/4");
        command.args(["run", "--runs", RUNS, "--stratified", "--shard", &shard, "--records", &file]);
        done(command);
        file
    };
    let parts: Vec<String> = (1..=4).map(part).collect();
    compare(folder.path(), &parts);
    // Parts of another cut overlap with these, and change nothing.
    let other = path(folder.path(), "other.jsonl");
    let mut command = sim();
    command.args(["run", "--runs", RUNS, "--stratified", "--shard", "2/3", "--records", &other]);
    done(command);
    let (again, _) =
        merged(folder.path(), "again.jsonl", &[parts.clone(), vec![other, parts[0].clone()]].concat());
    assert_eq!(lines(&again, "run"), lines(&path(folder.path(), "merged.jsonl"), "run"));
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// With the binary on the path, as in an image.
fn with_path(command: &mut Command, folder: &Path) {
    let bin = Path::new(env!("CARGO_BIN_EXE_sim")).parent().expect("it lies in a folder");
    let mut folders = vec![bin.to_path_buf()];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    command.env("PATH", std::env::join_paths(folders).expect("plain names"));
    command.env("RESULTS", folder).env("RUNS", RUNS);
}

#[cfg(unix)]
#[test]
fn the_command_of_the_kubernetes_job_makes_every_shard() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = text(deploy("kubernetes-indexed-job.yaml").to_str().expect("a plain name"));
    let of = |name: &str| {
        let mut found = manifest.lines().filter_map(|line| line.trim().strip_prefix(name));
        found.next().unwrap_or_else(|| panic!("{name} is missing")).trim().to_owned()
    };
    let words: Vec<String> = serde_json::from_str(&of("command:")).expect("a list of words, as JSON");
    assert_eq!((of("completionMode:").as_str(), of("kind:").as_str()), ("Indexed", "Job"));
    let shards: usize = of("completions:").parse().expect("a number");
    assert!(manifest.contains(&format!("- name: SHARDS\n              value: \"{shards}\"")), "one count");
    let part = |index: usize| {
        let mut command = Command::new(&words[0]);
        bare(&mut command);
        with_path(&mut command, folder.path());
        command.env("JOB_COMPLETION_INDEX", index.to_string()).env("SHARDS", shards.to_string());
        command.env("SEED", "0x0000000000000000").args(&words[1..]);
        let said = String::from_utf8(done(command).stderr).expect("text");
        assert!(said.contains(&format!("shard {}/{shards}, by Kubernetes", index + 1)), "{said}");
        path(folder.path(), &format!("shard-{index}.jsonl"))
    };
    let parts: Vec<String> = (0..shards).map(part).collect();
    compare(folder.path(), &parts);
}

#[cfg(unix)]
#[test]
fn the_slurm_script_makes_every_shard() {
    let folder = tempfile::tempdir().expect("a folder");
    let part = |task: usize| {
        let mut command = Command::new("sh");
        bare(&mut command);
        with_path(&mut command, folder.path());
        command.env("SLURM_ARRAY_TASK_ID", task.to_string()).env("SLURM_ARRAY_TASK_COUNT", "4");
        command.env("SLURM_ARRAY_TASK_MIN", "0").env("SLURM_ARRAY_TASK_STEP", "1");
        command.env("SLURM_CPUS_PER_TASK", "2").arg(deploy("slurm-array.sh"));
        let said = String::from_utf8(done(command).stderr).expect("text");
        assert!(said.contains("by Slurm array"), "{said}");
        path(folder.path(), &format!("shard-{task}.jsonl"))
    };
    let parts: Vec<String> = (0..4).map(part).collect();
    compare(folder.path(), &parts);
}

#[test]
fn what_is_missing_is_told_by_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = whole(folder.path());
    let without = |runs: &[u64]| {
        let file = path(folder.path(), "without.jsonl");
        let is_left = |line: &&str| value(line)["run"].as_u64().is_none_or(|run| !runs.contains(&run));
        let left: Vec<String> =
            text(&whole).lines().filter(is_left).map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, left.concat()).expect("a file");
        file
    };
    let (_, output) = merged(folder.path(), "m.jsonl", &[without(&[17, 21])]);
    assert_eq!(output.status.code(), Some(7));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("runs 17, 21 of shards that did report"),
        "{output:?}"
    );
    let third = path(folder.path(), "third.jsonl");
    let mut command = sim();
    command.args(["run", "--runs", RUNS, "--stratified", "--shard", "3/3", "--records", &third]);
    done(command);
    let (_, output) = merged(folder.path(), "m.jsonl", &[third]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(7));
    assert!(said.contains("shard 1/3 never reported: 24 runs") && said.contains("shard 2/3 never"), "{said}");
}

#[test]
fn one_run_with_two_hashes_is_an_alarm_that_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = whole(folder.path());
    let changed = path(folder.path(), "changed.jsonl");
    let change = |line: &str| {
        let mut record = value(line);
        if record["run"] == 5 {
            record["trace_hash"] = "0x0000000000000001".into();
        }
        format!("{record}\n")
    };
    std::fs::write(&changed, text(&whole).lines().map(change).collect::<String>()).expect("a file");
    let (all, output) = merged(folder.path(), "all.jsonl", &[whole, changed]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("NON-DETERMINISM in run 5"));
    assert_eq!(lines(&all, "alarm").len(), 1);
    let (_, output) = merged(folder.path(), "again.jsonl", &[all]);
    assert_eq!(output.status.code(), Some(5), "an alarm is merged like everything else");
}

/// The lines of a sweep, changed one by one; what becomes empty is left out.
fn changed(folder: &Path, name: &str, of: &str, change: impl Fn(Value) -> Value) -> String {
    let file = path(folder, name);
    let lines =
        text(of).lines().map(|line| change(value(line))).filter(|line| !line.is_null()).collect::<Vec<_>>();
    std::fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("a file");
    file
}

#[test]
fn one_run_with_one_hash_and_another_seed_or_number_of_calls_is_an_alarm_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = whole(folder.path());
    for (member, other) in
        [("seed", "0x0000000000000001".into()), ("steps", Value::from(3_u64)), ("kernel", "plan9".into())]
    {
        let file = changed(folder.path(), "changed.jsonl", &whole, |mut line| {
            if line["run"] == 5 {
                line[member] = if member == "kernel" {
                    if line["kernel"] == "linux" { "macos".into() } else { "linux".into() }
                } else {
                    other.clone()
                };
            }
            line
        });
        let (all, output) = merged(folder.path(), "all.jsonl", &[whole.clone(), file]);
        assert_eq!(output.status.code(), Some(5), "{member}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("and one trace hash 0x"), "{output:?}");
        assert_eq!(merged(folder.path(), "again.jsonl", &[all]).1.status.code(), Some(5), "{member}");
    }
}

#[test]
fn a_sweep_of_which_no_file_says_how_many_runs_it_has_is_not_taken_for_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = whole(folder.path());
    let headless = changed(folder.path(), "headless.jsonl", &whole, |line| {
        if line["type"] == "sweep" { Value::Null } else { line }
    });
    let (out, output) = merged(folder.path(), "m.jsonl", std::slice::from_ref(&headless));
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("unknown: no file begins with"), "{output:?}");
    assert_eq!(sim().args(["merge", &out, "--partial"]).output().unwrap().status.code(), Some(0));
    // Another file says it.
    assert_eq!(merged(folder.path(), "m.jsonl", &[headless, whole]).1.status.code(), Some(0));
}

#[test]
fn a_part_whose_first_line_is_missing_has_reported_what_it_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let part = |number: &str| {
        let file = path(folder.path(), &format!("{number}.jsonl"));
        let mut command = sim();
        command.args(["run", "--runs", RUNS, "--shard", &format!("{number}/2"), "--records", &file]);
        done(command);
        file
    };
    let (first, second) = (part("1"), part("2"));
    let headless = changed(folder.path(), "headless.jsonl", &second, |line| {
        if line["type"] == "sweep" || line["run"] == 9 { Value::Null } else { line }
    });
    let (_, output) = merged(folder.path(), "m.jsonl", &[first, headless]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("runs 9 of shards that did report") && !said.contains("never reported"), "{said}");
}

#[test]
fn a_last_line_that_contradicts_the_others_is_an_alarm_that_partial_does_not_silence() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = whole(folder.path());
    for (member, lie) in [("runs", 71_u64), ("failed", 1)] {
        let file = changed(folder.path(), "lie.jsonl", &whole, |mut line| {
            if line["type"] == "end" {
                line[member] = lie.into();
            }
            line
        });
        let output = sim().args(["merge", "--partial", &file]).output().expect("it can be started");
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("ALARM: ") && said.contains("contradicts itself"), "{said}");
    }
}

#[test]
fn a_part_that_was_merged_as_such_is_not_said_to_have_been_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    let part = path(folder.path(), "part.jsonl");
    let mut command = sim();
    command.args(["run", "--runs", RUNS, "--shard", "1/2", "--records", &part]);
    done(command);
    let once = path(folder.path(), "once.jsonl");
    assert_eq!(
        sim().args(["merge", "--partial", &part, "--out", &once]).output().unwrap().status.code(),
        Some(0)
    );
    let again = sim().args(["merge", "--partial", &once]).output().expect("it can be started");
    assert_eq!((again.status.code(), &again.stderr[..]), (Some(0), &b""[..]), "{again:?}");
}

#[test]
fn names_in_files_do_not_reach_a_terminal_as_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = whole(folder.path());
    let file = changed(folder.path(), "coloured.jsonl", &whole, |mut line| {
        line["build"] = "\u{1b}[2J\u{1b}]0;owned\u{7}".into();
        line
    });
    let output = sim().args(["merge", &file]).output().expect("it can be started");
    assert!(!output.stdout.contains(&0x1b) && !output.stdout.contains(&7), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("made by \\u{1b}[2J"), "{output:?}");
}

fn refused(file: &str) -> String {
    let output = sim().args(["merge", file]).output().expect("it can be started");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn lines_are_cut_off_passed_over_or_refused_by_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = text(&whole(folder.path()));
    let file = |name: &str, bytes: &[u8]| {
        let file = path(folder.path(), name);
        std::fs::write(&file, bytes).expect("a file");
        file
    };
    let lines: Vec<&str> = whole.lines().collect();
    let cut = format!("{}\n{}\n{}", lines[0], lines[1], &lines[2][..40]);
    let (_, output) = merged(folder.path(), "m.jsonl", &[file("cut", cut.as_bytes())]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(7), "the rest is missing");
    assert!(said.contains("line 3: cut off, and passed over"), "{said}");

    let newer = lines[1].replacen("\"schema\":1", "\"schema\":2,\"ok\":\"yes\"", 1);
    let newer = newer.replacen("\"ok\":true,", "", 1);
    let error = refused(&file("newer", format!("{}\n{newer}\n", lines[0]).as_bytes()));
    assert!(error.contains("newer, line 2") && error.contains("schema 2"), "{error}");
    let error = refused(&file("foreign", b"{\"schema\":\"k6\"}\n"));
    assert!(error.contains("foreign, line 1"), "{error}");
    let error = refused(&file("sweep", b"{\"runs\":3,\"failed\":0}\n"));
    assert!(error.contains("no `schema`"), "{error}");
    let broken = format!("{}\n{}\n{}\n", lines[0], &lines[1][..40], lines[2]);
    assert!(refused(&file("broken", broken.as_bytes())).contains("broken, line 2"));
    let workload = lines[1].replacen("\"workload\":\"", "\"workload\":\"ecko-", 1);
    let error = refused(&file("workload", format!("{workload}\n").as_bytes()));
    assert!(error.contains("ecko-"), "{error}");
    let beyond = lines[1].replacen("\"run\":0", "\"run\":72", 1);
    let error = refused(&file("beyond", format!("{}\n{beyond}\n", lines[0]).as_bytes()));
    assert!(error.contains("beyond, line 2: run 72, and its sweep has 72 runs"), "{error}");
    // Ten million bytes that are no lines.
    let mut word = 1_u64;
    let noise: Vec<u8> = (0..10_000_000)
        .map(|_| {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (word >> 56) as u8
        })
        .collect();
    assert!(refused(&file("noise", &noise)).contains("noise, line 1"));
    assert!(refused(&file("zeros", &vec![b' '; 10_000_000])).contains("longer than any record"));
    let output = sim().args(["merge", "no-such-file"]).output().expect("it can be started");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn bad_shards_get_one_clear_line() {
    for arguments in [
        &["run", "--shard", "5/4"][..],
        &["run", "--shard", "0/4"],
        &["run", "--shard", "half"],
        &["run", "--shards", "4"],
        &["run", "--shard", "1/4", "--shards", "5"],
        &["run", "--shard", "auto"],
    ] {
        let output = sim().args(arguments).output().expect("it can be started");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("shard"), "{text}");
    }
}

#[test]
fn a_test_runner_s_status_file_is_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = path(folder.path(), "status");
    let mut command = sim();
    command.args(["run", "--runs", "6", "--shard", "auto"]).env("TEST_SHARD_STATUS_FILE", &status);
    command.env("TEST_SHARD_INDEX", "1").env("TEST_TOTAL_SHARDS", "3");
    command.env("GTEST_SHARD_INDEX", "1").env("GTEST_TOTAL_SHARDS", "3");
    let said = String::from_utf8(done(command).stderr).expect("text");
    assert!(said.contains("shard 2/3, by Bazel"), "{said}");
    assert!(Path::new(&status).exists());
}

/// Ends the sweep as a job control system does, once it has written some records.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_sweep_leaves_whole_lines_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(folder.path(), "stopped.jsonl");
    let mut command = sim();
    command.args(["run", "--runs", "100000000", "--jobs", "1", "--records", &file]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it can be started");
    while std::fs::read_to_string(&file).map_or(0, |text| text.lines().count()) < 20 {
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(killed.expect("kill can be started").success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stdout).contains("interrupted after"));
    let records = text(&file);
    assert!(records.ends_with('\n'));
    let last = value(records.lines().last().expect("a line"));
    assert_eq!((&last["type"], &last["interrupted"]), (&"end".into(), &true.into()));
    assert_eq!(last["runs"].as_u64(), Some(lines(&file, "run").len() as u64));
    let output = sim().args(["merge", "--partial", &file]).output().expect("it can be started");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
}
