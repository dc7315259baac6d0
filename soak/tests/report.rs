//! `soak report` over folders that are whole, cut off, empty or broken.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use tempfile::TempDir;

fn report(arguments: &[&Path], more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_soak")).arg("report").args(arguments).args(more).output().unwrap()
}

/// A folder as `soak run --out` leaves it.
fn soaked(scratch: &TempDir, name: &str, intervals: u32, slower: u64) -> PathBuf {
    let folder = scratch.path().join(name);
    fs::create_dir(&folder).unwrap();
    let mut lines = String::new();
    for number in 1..=intervals {
        let latency =
            json!({"p50_ns": 50_000 * slower, "p99_ns": 400_000 * slower, "max_ns": 9_000_000 * slower});
        let echo = json!({
            "latency": {"corrected": latency, "uncorrected": latency}, "timer_lateness": null,
            "counters": {"messages": u64::from(number) * 1000},
        });
        let interval = json!({
            "elapsed_s": number * 10, "part": 0, "failures": 0, "workloads": {"echo": echo}, "descriptors": 1064,
            "resident_bytes": 80_000_000 + u64::from(number) * 4096,
        });
        writeln!(lines, "{interval}").unwrap();
    }
    fs::write(folder.join("intervals.jsonl"), lines).unwrap();
    let summary =
        json!({"counters": {"messages": u64::from(intervals) * 1000}, "exit_code": 0, "failures": []});
    fs::write(folder.join("summary.json"), summary.to_string()).unwrap();
    fs::write(folder.join("run.json"), json!({"workloads": ["echo"], "seed": "0x7"}).to_string()).unwrap();
    folder
}

fn page(folder: &Path) -> String {
    let output = report(&[folder], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    fs::read_to_string(folder.join("report.html")).unwrap()
}

fn refused(arguments: &[&Path], words: &str) {
    let output = report(arguments, &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(words), "{text}");
    assert!(!arguments[0].join("report.html").exists());
}

#[test]
fn a_whole_folder_becomes_one_page_that_fetches_nothing() {
    let scratch = TempDir::new().unwrap();
    let page = page(&soaked(&scratch, "whole", 100, 1));
    for title in [
        "echo: latency, corrected",
        "echo: latency, uncorrected",
        "Throughput",
        "Resident memory",
        "Descriptors",
    ] {
        assert!(page.contains(&format!("<h2>{title}</h2>")), "{title}");
    }
    assert!(page.contains(">passed</span>"));
    assert!(page.contains("100,000"), "the facts of the summary");
    assert!(page.contains("default-src 'none'"));
    assert!(page.contains("prefers-color-scheme: dark"));
    for reference in ["http://", "https://", "@import", "url(", "src=\""] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf "), "a number that is none");
}

#[test]
fn a_folder_that_was_cut_off_is_drawn_as_far_as_it_goes() {
    let scratch = TempDir::new().unwrap();
    let folder = soaked(&scratch, "cut", 20, 1);
    fs::remove_file(folder.join("summary.json")).unwrap();
    let intervals = folder.join("intervals.jsonl");
    let text = fs::read_to_string(&intervals).unwrap();
    fs::write(&intervals, &text[..text.len() - 30]).unwrap();
    let page = page(&folder);
    assert!(page.contains("the last line of intervals.jsonl was cut off"));
    assert!(page.contains("the soak is still running, or was cut off"));
    assert!(page.contains("cut off or running</span>"));
    assert!(page.contains("<h2>Throughput</h2>"));
}

#[test]
fn a_folder_without_an_interval_yet_says_so() {
    let scratch = TempDir::new().unwrap();
    let folder = soaked(&scratch, "early", 0, 1);
    let page = page(&folder);
    assert!(page.contains("no interval was over yet"));
    assert!(!page.contains("<figure>"));
}

#[test]
fn noise_is_refused_with_its_place() {
    let scratch = TempDir::new().unwrap();
    let folder = soaked(&scratch, "noisy", 3, 1);
    let intervals = folder.join("intervals.jsonl");
    let good = fs::read_to_string(&intervals).unwrap();
    let (first, rest) = good.split_once('\n').unwrap();
    fs::write(&intervals, format!("{first}\nnoise\n{rest}")).unwrap();
    refused(&[&folder], "intervals.jsonl, line 2: no JSON object");
    fs::write(&intervals, "[1, 2]\n").unwrap();
    refused(&[&folder], "intervals.jsonl, line 1: no JSON object");
    fs::write(&intervals, "noise without an end").unwrap();
    refused(&[&folder], "intervals.jsonl, line 1: no JSON object");
    fs::write(&intervals, [0xff, 0xfe, 0x00]).unwrap();
    refused(&[&folder], "intervals.jsonl: no text");
    fs::write(&intervals, good).unwrap();
    fs::write(folder.join("summary.json"), "{").unwrap();
    refused(&[&folder], "summary.json: no JSON object");
}

#[test]
fn what_is_no_soaks_folder_is_refused() {
    let scratch = TempDir::new().unwrap();
    refused(&[scratch.path()], "has no intervals.jsonl");
    refused(&[&scratch.path().join("absent")], "has no intervals.jsonl");
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&[&file], "a file, where a soak's folder is wanted");
}

#[test]
fn two_soaks_are_compared_on_the_same_axes_with_their_ratio() {
    let scratch = TempDir::new().unwrap();
    let (a, b) = (soaked(&scratch, "before", 100, 1), soaked(&scratch, "after", 20, 3));
    let output = report(&[&a, &b], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let page = fs::read_to_string(b.join("compare.html")).unwrap();
    assert!(page.contains("<h2>before: Throughput</h2>") && page.contains("<h2>after: Throughput</h2>"));
    // Both charts of every pair span the longer of the two.
    assert_eq!(page.matches("data-seconds=\"1000\"").count(), page.matches("<figure>").count());
    let output = report(&[&a, &b], &["--format", "text"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text.lines().find(|line| line.starts_with("echo: latency, corrected: p99 ")).unwrap();
    assert!(row.contains("400 µs") && row.contains("1.2 ms") && row.ends_with("3.00"), "{row}");
}

#[test]
fn text_from_the_files_cannot_become_markup() {
    let scratch = TempDir::new().unwrap();
    let folder = soaked(&scratch, "hostile", 3, 1);
    let evil = "</script><img src=x onerror=alert(1)>";
    fs::write(
        folder.join("summary.json"),
        json!({"failures": [evil], "exit_code": 1, evil: evil}).to_string(),
    )
    .unwrap();
    let event = json!({"at_s": 5, "kind": evil, "text": evil});
    fs::write(folder.join("events.jsonl"), format!("{event}\n")).unwrap();
    let page = page(&folder);
    assert!(!page.contains("<img"), "markup from a file is in the page");
    assert!(page.contains("&lt;img"));
    assert!(page.contains(">failed</span>"));
}

#[test]
fn a_night_is_a_table_of_its_parts_with_the_charts_of_its_soaks() {
    let scratch = TempDir::new().unwrap();
    let night = scratch.path().join("night");
    fs::create_dir(&night).unwrap();
    let table = json!({"seed": "0x7", "seconds": 3600, "processors": "2", "parts": []});
    fs::write(night.join("night.json"), table.to_string()).unwrap();
    let result = |part: &str, verdict: &str, why: &str| {
        json!({"part": part, "kind": "soak", "verdict": verdict, "why": why, "exit_code": 1, "signal": null, "left_behind": 0,
            "began_unix_s": 0, "took_ms": 61_000, "command": ["soak"], "log": null, "said": "its last words"})
    };
    let results = [result("echo", "passed", ""), result("wake", "failed", "ended by signal 11")];
    fs::write(night.join("parts.jsonl"), results.map(|line| format!("{line}\n")).concat()).unwrap();
    fs::create_dir(night.join("soak")).unwrap();
    fs::rename(soaked(&scratch, "echo", 5, 1), night.join("soak/echo")).unwrap();
    let page = page(&night);
    assert!(
        page.contains(">failed</span>")
            && page.contains("ended by signal 11")
            && page.contains("its last words")
    );
    assert!(page.contains("<h1>echo</h1>") && page.contains("<h2>Throughput</h2>"));
    let output = report(&[&night, &night], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn failures_and_resumptions_are_marked_where_they_were() {
    let scratch = TempDir::new().unwrap();
    let folder = soaked(&scratch, "marked", 6, 1);
    assert!(!page(&folder).contains("<g class=\"failure\">"));
    let intervals = folder.join("intervals.jsonl");
    let text = fs::read_to_string(&intervals).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    fs::create_dir(folder.join("failures")).unwrap();
    let event =
        json!({"at_s": 31.25, "kind": "failure", "text": "byte-stream: connection 7", "is_failure": true});
    fs::write(folder.join("events.jsonl"), format!("{event}\n")).unwrap();
    fs::write(folder.join("failures/echo-3.simrec"), "a recording").unwrap();
    lines[4] = lines[4].replace("\"part\":0", "\"part\":1");
    lines[5] = lines[5].replace("\"part\":0", "\"part\":1");
    fs::write(&intervals, lines.join("\n") + "\n").unwrap();
    let page = page(&folder);
    assert!(page.contains("<title>31 s byte-stream: connection 7</title>"));
    assert!(page.contains("failures/echo-3.simrec</code>"));
    assert!(page.contains("<title>50 s went on after it was stopped</title>"));
}
